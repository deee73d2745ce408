"""A search whose master, workers and name server a test starts one by one; nothing restarts them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from hpbandster_lite import wire
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.master.connection import connect
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.records import EvaluationId, Expired, Leased, Limits
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.transport import NameServerClient, run_name
from tests.service.local_search import DEADLINE_S, MARK, LocalSearchProcess, until


class Served:
    """One process of a search and its output."""

    def __init__(
        self, log: Path, command: Sequence[str], environment: Mapping[str, str], before: Sequence[str] = ()
    ) -> None:
        self.log = log
        with log.open("wb") as file:
            # The prefix starts the command on another host, and becomes that process.
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", *command],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        return self.log.read_text("utf-8")

    def says(self, words: str) -> None:
        """Wait until its output matches these words."""
        until(lambda: re.search(words, self.output()) or self.process.poll() is not None, f"it says {words!r}")
        assert re.search(words, self.output()), self.output()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def trainers(self) -> list[psutil.Process]:
        """The trainers of this worker."""
        found = []
        for child in psutil.Process(self.pid).children():
            # It may be a zombie that disappears meanwhile.
            with contextlib.suppress(psutil.Error):
                found += [child] if "hpbandster_lite.trainer" in child.cmdline() else []
        return found

    def ends(self, code: int) -> str:
        """Wait until it has ended with this exit code; return its output."""
        try:
            ended = self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.output()}") from None
        assert ended == code, self.output()
        return self.output()


class ServedSearch(LocalSearchProcess):
    """The search of :class:`LocalSearchProcess`, process by process; a context manager, which ends all of them."""

    def __init__(self, place: Path, **options: Any) -> None:
        super().__init__(place, **options)
        self._served: list[Served] = []
        self.before: Sequence[str] = ()
        """Prefix of the command of a process, which starts it on a virtual host."""

    def __enter__(self) -> ServedSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold(False)
        self.deafen(False)
        for left in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        for served in self._served:
            served.process.wait()

    def _start(
        self, module: str, options: Any, environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> Served:
        log = log or self.place / f"{module}-{len(self._served)}.log"
        return self._begin(log, [f"hpbandster_lite.{module}", json.dumps(options)], environment)

    def _begin(self, log: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Served:
        served = Served(log, command, {MARK: self.mark, **(environment or {})}, self.before)
        self._served.append(served)
        return served

    def start_command(self, command: str, *arguments: str) -> Served:
        """Start a command for this problem and run directory, as a user does."""
        log = self.place / f"{command}-{len(self._served)}.log"
        words = [command, str(self.problem), "--run-dir", str(self.directory.path), *arguments]
        return self._begin(log, ["hpbandster_lite", *words])

    def start_master(
        self,
        *,
        directory: RunDirectory | None = None,
        environment: Mapping[str, str] | None = None,
        waits: bool = True,
        log: Path | None = None,
        **changed: Any,
    ) -> Served:
        """Start a master and, if ``waits``, wait until it serves."""
        where = directory or self.directory
        options = {**self._options, "limits": Limits(**self._options["limits"])}
        prepared = prepare(SearchOptions(problem=options["description"].reference, **options), where)
        briefing = MasterOptions(run_directory=str(where.path), prepared=prepared, **changed)
        master = self._start("master", wire.to_message(briefing), environment, log)

        def serves() -> bool:
            assert master.process.poll() is None, master.output()
            endpoint = where.read_endpoint()
            return endpoint is not None and endpoint["pid"] == master.pid

        if waits:
            until(serves, "the master serves")
        return master

    def start_worker(self, index: int = 0, *, environment: Mapping[str, str] | None = None, **changed: Any) -> Served:
        """Start a worker, which by default finds the master through the run directory."""
        way = {} if "run_id" in changed else {"run_dir": str(self.directory.path)}
        options = AgentOptions(problem=str(self.problem), index=index, **{**way, **changed})
        return self._start("agent", wire.to_message(options), environment)

    def start_far_worker(self, index: int, scratch: Path, *, nameserver: tuple[str, int] | None = None) -> Served:
        """Start a worker that does not see the run directory: it has the key, a scratch directory and a name server."""
        if nameserver is None:
            _, port = self.start_nameserver()
            endpoint = self.directory.read_endpoint()
            assert endpoint is not None
            nameserver = ("127.0.0.1", port)
            with NameServerClient(*nameserver, None) as names:
                names.register(run_name(self.run_id), endpoint)
        return self.start_worker(
            index, nameserver=nameserver, run_id=self.run_id, key=str(self.directory.key_file), scratch=str(scratch)
        )

    def status(self) -> dict[str, Any]:
        """The status of the search from its master."""
        with connect(self.directory) as client:
            status: dict[str, Any] = client.call("status", {})
        return status

    def start_nameserver(self, port: int = 0, **options: Any) -> tuple[Served, int]:
        """Start a name server, by default without a key; return it and its port."""
        served = self._start("nameserver", {"port": port, **options})
        served.says(r"listens on 127\.0\.0\.1:\d+")
        found = re.search(r"listens on 127\.0\.0\.1:(\d+)", served.output())
        assert found is not None
        return served, int(found[1])

    @property
    def run_id(self) -> str:
        """Run id of the search that is being served."""
        endpoint = self.directory.read_endpoint()
        assert endpoint is not None
        return str(endpoint["run_id"])

    def wait_registered(self, port: int, key: bytes | None = None) -> None:
        """Wait until the name server at this port knows the master."""
        name = run_name(self.run_id)

        def is_known() -> bool:
            with NameServerClient("127.0.0.1", port, key) as names:
                return name in names.list()

        until(is_known, "the master is registered")

    def copied(self, to: Path) -> RunDirectory:
        """Copy the run directory as it was before its master began: the same run at another place."""
        copy = RunDirectory(to)
        copy.create()
        settings = JournalReader(self.directory.journal).settings()
        Journal.open(copy.journal, create=settings).close()
        return copy

    def lease_of(self, worker: Served) -> Leased:
        """The newest lease of a worker."""
        leases: list[Leased] = [each for each in self.of(Leased) if f"-{worker.pid}-" in each.agent]
        return leases[-1]

    def wait_working(self, worker: Served) -> Leased:
        """Wait until a worker's trainer is in the middle of an evaluation; return its lease."""

        def is_inside() -> bool:
            return any((self.place / f"inside-{trainer.pid}").exists() for trainer in worker.trainers())

        until(is_inside, "the worker's trainer is in the middle of an evaluation")
        return self.lease_of(worker)

    def wait_expired(self, evaluation: EvaluationId) -> Expired:
        """Wait until a lease of an evaluation has expired."""

        def ended() -> list[Expired]:
            return [entry for entry in self.of(Expired) if entry.evaluation == evaluation]

        until(ended, f"a lease of {evaluation} expires")
        return ended()[0]

    def leased(self, evaluation: EvaluationId) -> list[Leased]:
        """All leases of an evaluation, in order."""
        return [entry for entry in self.of(Leased) if entry.evaluation == evaluation]


def stopped(*processes: psutil.Process | Served) -> None:
    """Stop processes, like a suspended job or a machine without memory, and wait until they are stopped."""
    for process in processes:
        psutil.Process(process.pid).suspend()
    until(
        lambda: all(psutil.Process(each.pid).status() == psutil.STATUS_STOPPED for each in processes),
        "the processes are stopped",
    )


def continued(*processes: psutil.Process | Served) -> None:
    for process in processes:
        psutil.Process(process.pid).resume()


def until_passed(seconds: float) -> None:
    """Wait for a duration; only for behaviour that a duration defines, such as a stop that outlasts a lease."""
    ends = time.monotonic() + seconds
    until(lambda: time.monotonic() >= ends, f"{seconds} s have passed")


def until_idle(process: psutil.Process) -> None:
    """Wait until a process is blocked: no context switch in 0.1 s."""
    seen: list[tuple[float, int]] = []

    def does_nothing() -> bool:
        switches = process.num_ctx_switches()
        count = switches.voluntary + switches.involuntary
        if not seen or seen[-1][1] != count:
            seen.append((time.monotonic(), count))
        return time.monotonic() - seen[-1][0] > 0.1

    until(does_nothing, f"process {process.pid} does nothing")


@contextlib.contextmanager
def served_search(place: Path, **options: Any) -> Iterator[ServedSearch]:
    """A search without processes, in a new directory."""
    place.mkdir(parents=True, exist_ok=True)
    with ServedSearch(place, **options) as search:
        yield search
