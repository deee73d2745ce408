"""The search of a chaos run: its processes on their hosts, and the restarts of a batch system.

Law of this file: it starts and restarts processes as a batch system does: a process that was killed, preempted or asked
to end starts again after a while, on the same host under the same name. An end that no fault explains is a violation.
Only :mod:`tests.chaos.faults` injects faults.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hpbandster_lite.errors import SearchError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import describe, load
from hpbandster_lite.process.shutdown import REQUEUE
from hpbandster_lite.rundir import RunDirectory, ensure_key_file
from tests.chaos import problem
from tests.deploy.hosts import Hosts
from tests.service.clocks import LIBRARIES, WallClock
from tests.service.served_search import Served, ServedSearch

PROBLEM = Path(problem.__file__)
MASTER_HOST, NAMESERVER_HOST, FIRST_WORKER_HOST = 0, 1, 2
NAMESERVER_PORT = 9_090
LEASE_S, HEARTBEAT_S = 4.0, 0.5
ENDLESS = 1_000_000
"""More brackets than any run completes; other limits come from the problem or are the defaults."""
COMES_BACK_S = (0.0, 2.5)
"""Time after which the batch system restarts a process."""
RETURNS = {
    "worker": {0, 3, 130, REQUEUE, -signal.SIGKILL},
    "master": {0, 4, 130, REQUEUE, -signal.SIGKILL},
    "nameserver": {0, -signal.SIGKILL},
}
"""Exit codes that a fault explains; 4 is a master that was replaced, or whose disk was full at its start."""


@dataclass(eq=False)
class Part:
    """One process of the search: a ``worker``, a ``master`` or a ``nameserver``."""

    role: str
    index: int
    host: int
    served: Served
    is_twin: bool = False
    """One of two processes that run at the same time under one name: it is not restarted."""
    fate: str = ""
    """The fault that must end it; empty if there is none."""
    began_at: float = field(default_factory=time.monotonic)

    @property
    def name(self) -> str:
        return f"{self.role} {self.index} (pid {self.served.pid})"

    def stop(self) -> None:
        self.served.send(signal.SIGSTOP)

    def go_on(self) -> None:
        if self.served.process.poll() is None:
            self.served.send(signal.SIGCONT)


class Scene(ServedSearch):
    """A search, process by process, on virtual hosts or all on loopback.

    Parameters
    ----------
    place
        Directory of the logs; no fault fills its disk.
    disk
        Directory of the run, which a fault may fill.
    hosts
        Virtual hosts, at least three; None puts everything on loopback.
    workers
        Number of workers. Every second worker sees the run directory; the others use the name server, and their
        checkpoints stay on their host.
    seed
        Seed of the search, and of the delays of restarts.
    """

    def __init__(self, place: Path, disk: Path, hosts: Hosts | None, workers: int, seed: int, step_s: float) -> None:
        super().__init__(
            place,
            seed=seed,
            lease_s=LEASE_S,
            heartbeat_s=HEARTBEAT_S,
            max_attempts=1_000,
            algorithm="bohb",
            limits={"brackets": ENDLESS},
        )
        self.problem = PROBLEM
        self._options["description"] = describe(load(str(PROBLEM)), str(PROBLEM))
        self.directory = RunDirectory(disk / "run")
        self.hosts, self.n_workers = hosts, workers
        self.objective_logs = place / "objective"
        self.objective_logs.mkdir()
        self._environment = {problem.LOGS: str(self.objective_logs), problem.STEP: str(step_s)}
        self.nameserver_key = place / "nameserver.key"
        ensure_key_file(self.nameserver_key)
        self.master_clock = WallClock(place / "clock-master") if LIBRARIES else None
        self.worker_clock = WallClock(place / "clock-worker") if LIBRARIES else None
        self._random = random.Random(seed)
        self.parts: list[Part] = []
        self.coming: list[tuple[float, str, int]] = []
        self.violations: list[str] = []
        self.exits: Counter[str] = Counter()
        self.killed: set[int] = set()
        """Ids of processes that may not log their end: killed, or stopped for longer than a lease."""
        self.is_over = False

    def _begin(self, log: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Served:
        return super()._begin(log, command, {**self._environment, **(environment or {})})

    # ---------------------------------------------------------------------------------------------------- what is where

    def host_of(self, index: int) -> int:
        """The host of a worker; half of the workers' hosts see the run directory."""
        if self.hosts is None:
            return 0
        return FIRST_WORKER_HOST + index % self.n_worker_hosts

    @property
    def n_worker_hosts(self) -> int:
        """Number of hosts with workers."""
        return 0 if self.hosts is None else self.hosts.count - FIRST_WORKER_HOST

    def address(self, host: int) -> str:
        """Address at which other hosts reach this host."""
        return "127.0.0.1" if self.hosts is None else self.hosts.address(host)

    @property
    def nameserver(self) -> tuple[str, int]:
        """Address of the name server."""
        return self.address(NAMESERVER_HOST), NAMESERVER_PORT if self.hosts is not None else self._local_port

    _local_port = 0

    def living(self, role: str, *, twins: bool = False) -> list[Part]:
        """Running parts of a role, oldest first."""
        found = [part for part in self.parts if part.role == role and part.served.process.poll() is None]
        return [part for part in found if twins or not part.is_twin]

    @property
    def master(self) -> Part | None:
        """The newest master, if it runs."""
        living = self.living("master")
        return living[-1] if living else None

    def trainers_of(self, worker: Part) -> list[psutil.Process]:
        """Running trainers of a worker."""
        with contextlib.suppress(psutil.Error):
            return worker.served.trainers()
        return []

    # ----------------------------------------------------------------------------------------------------- the operator

    def open(self, patience_s: float) -> None:
        """Start everything, name server first; return when the master serves."""
        if self.hosts is None:
            # A free port, which the name server keeps when it restarts.
            probe = self.start_nameserver()
            self._local_port = probe[1]
            probe[0].kill()
        self.start("nameserver", 0)
        self.start("master", 0)
        deadline = time.monotonic() + patience_s
        while self.directory.read_endpoint() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"the master does not serve:\n{self.parts[-1].served.output()}")
            time.sleep(0.05)
        for index in range(self.n_workers):
            self.start("worker", index)

    def start(self, role: str, index: int, *, is_twin: bool = False) -> Part:
        """Start a process of a role on the host of its last one."""
        host = {"master": MASTER_HOST, "nameserver": NAMESERVER_HOST}.get(role, -1)
        host = self.host_of(index) if host < 0 else host
        self.before = () if self.hosts is None else self.hosts.on(host)
        try:
            served = {"master": self._master, "nameserver": self._nameserver}.get(role, self._worker)(index)
        finally:
            self.before = ()
        part = Part(role, index, host, served, is_twin)
        self.parts.append(part)
        return part

    def _nameserver(self, index: int) -> Served:
        del index
        host, port = self.nameserver
        options = {"host": host, "port": port, "key_file": str(self.nameserver_key)}
        return self._start("nameserver", options)

    def _master(self, index: int) -> Served:
        del index
        environment = {} if self.master_clock is None else self.master_clock.environment
        return self.start_master(
            host=self.address(MASTER_HOST),
            nameserver=self.nameserver,
            nameserver_key=str(self.nameserver_key),
            environment=environment,
            waits=False,
        )

    def _worker(self, index: int) -> Served:
        way: dict[str, Any] = {"run_dir": str(self.directory.path)}
        if index % 2:
            way = {
                "nameserver": self.nameserver,
                "nameserver_key": str(self.nameserver_key),
                "run_id": JournalReader(self.directory.journal).settings().run_id,
                "key": str(self.directory.key_file),
                "scratch": str(self.place / f"scratch-{self.host_of(index)}"),
            }
        environment = self.worker_clock.environment if self.worker_clock is not None and index == 0 else {}
        return self.start_worker(index, environment=environment, grace_s=5.0, **way)

    def restart_ended(self, now: float) -> None:
        """Record which processes have ended, and restart those that are due."""
        for part in list(self.parts):
            code = part.served.process.poll()
            if code is not None:
                self.parts.remove(part)
                self._ended(part, code, now)
        due = [each for each in self.coming if each[0] <= now]
        self.coming = [each for each in self.coming if each[0] > now]
        for _, role, index in due:
            self._start_again(role, index, now)

    def started(self, role: str, index: int, *, is_twin: bool = False) -> bool:
        """Start a process; False while its run directory cannot be read, such as on a full disk."""
        try:
            self.start(role, index, is_twin=is_twin)
        except (SearchError, OSError) as error:
            self.exits[f"{role} could not be started: {type(error).__name__}"] += 1
            return False
        return True

    def _start_again(self, role: str, index: int, now: float) -> None:
        if not self.started(role, index):
            self.coming.append((now + 1.0, role, index))

    def _ended(self, part: Part, code: int, now: float) -> None:
        self.exits[f"{part.role} {code}"] += 1
        self.is_over = self.is_over or (part.role == "master" and code == 0)
        is_expected = code in RETURNS[part.role] and (code != 0 or self.is_over or self._has_finished())
        # Before a worker handles signals it holds nothing, and the default action is right.
        is_expected = is_expected or (code == -signal.SIGTERM and part.fate == "asked to end")
        if not is_expected:
            self.violations.append(f"{part.name} ended with {code} by itself:\n{part.served.output()[-3_000:]}")
        if part.fate == "preempted" and code not in (REQUEUE, 0, -signal.SIGKILL):
            self.violations.append(f"{part.name} was to end with its allocation, and ended with {code}")
        # A process that ends because the search is over is not restarted.
        if not part.is_twin and not self.is_over and code != 0:
            self.coming.append((now + self._random.uniform(*COMES_BACK_S), part.role, part.index))

    def end_uninformed(self) -> None:
        """After the search: end the processes that get no notice, the name server and workers that use it."""
        self.coming.clear()
        for part in self.parts:
            if part.fate == "" and (part.role == "nameserver" or (part.role == "worker" and part.index % 2)):
                part.fate = "asked to end"
                part.served.send(signal.SIGTERM)

    def _has_finished(self) -> bool:
        with contextlib.suppress(SearchError):
            return JournalReader(self.directory.journal).finished() is not None
        return False

    def close(self) -> None:
        """Continue stopped processes, and end all processes."""
        for part in self.parts:
            part.go_on()
        for left in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        for served in self._served:
            with contextlib.suppress(subprocess.TimeoutExpired):
                served.process.wait(10)

    def processor_s(self) -> float:
        """Processor time of all ended children, in seconds."""
        times = os.times()
        return times.children_user + times.children_system
