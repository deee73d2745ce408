"""Start a whole search on this machine and see it through: name server, master, and one agent per worker.

Law of this file: it starts processes, restarts those that die, ends all that it started, and decides nothing about
the search. Its children hold the read end of a pipe; when this process goes, however it goes, they end by themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from hpbandster_lite import wire
from hpbandster_lite.agent import AgentOptions
from hpbandster_lite.devices import worker_devices
from hpbandster_lite.errors import PeerError, RunDirectoryError, UsageError
from hpbandster_lite.incumbent import save_incumbent
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master import MasterOptions, connect
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings import Prepared, SearchOptions, prepare

_ProcessesT = TypeVar("_ProcessesT", bound="_Processes")
POLL_S = 0.02
STATUS_EVERY_S = 0.5
STOP_GRACE_S = 30.0
"""Time for the agents to save a checkpoint and hand their evaluations back before they are killed."""
RESTARTS_A_MINUTE = 5
"""A child that dies more often than this is given up: the fault is not a passing one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """How to run a search on this machine.

    ``workers`` defaults to one per visible GPU, else to at most four with one core each; ``nameserver`` names one
    that runs already, otherwise one is started; ``timeout_s`` bounds one evaluation.
    """

    workers: int | None = None
    threads: int | None = None
    timeout_s: float | None = None
    keep_checkpoints: str = "needed"
    isolation: str = "trainer"
    nameserver: tuple[str, int] | None = None
    nameserver_key: Path | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1, got {self.workers}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise UsageError(f"timeout must be above 0 seconds, got {self.timeout_s}")
        if self.keep_checkpoints not in ("needed", "all"):
            raise UsageError(f"keep_checkpoints must be 'needed' or 'all', got {self.keep_checkpoints!r}")


class Watcher(Protocol):
    """Who shows the progress of a search."""

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """What is about to run; called before any process is started."""

    def status(self, status: Mapping[str, Plain]) -> None:
        """The living master's status."""

    def note(self, text: str) -> None:
        """One line about a process that died, was restarted, or is being stopped."""


@dataclass(slots=True)
class _Child:
    name: str
    command: Sequence[str]
    log: Path | None
    process: subprocess.Popen[bytes] | None = None
    started_at: list[float] = field(default_factory=list)

    def start(self, lifeline: int) -> None:
        with contextlib.nullcontext() if self.log is None else self.log.open("ab") as output:
            # A session of its own: Ctrl-C at the terminal reaches the launcher alone, which ends the others in order.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        self.started_at.append(time.monotonic())

    @property
    def returncode(self) -> int | None:
        return None if self.process is None else self.process.poll()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def last_words(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])


def search_here(options: SearchOptions, directory: RunDirectory, launch: LaunchOptions, watcher: Watcher) -> int:
    """Begin a search or go on with it, to its end; save the incumbent, tested where the problem can.

    Returns
    -------
    int
        0 when the search is over, 130 when it was interrupted, else the master's exit code.

    Raises
    ------
    UsageError
        For input that cannot be, before any process of the search is started.
    RunDirectoryError
        If a process died again and again.
    """
    prepared = prepare(options, directory)
    watcher.begin(prepared, directory)
    if not _is_over(prepared, directory):
        directory.create()
        with LocalSearch(prepared, directory, launch, watcher) as search:
            code = search.run()
        if code != 0:
            return code
    save_incumbent(directory, watcher.note)
    return 0


def _is_over(prepared: Prepared, directory: RunDirectory) -> bool:
    """Whether the run directory holds this very search, ended under these very limits."""
    if not prepared.resumed:
        return False
    reader = JournalReader(directory.journal)
    return reader.finished() is not None and reader.limits() == prepared.limits


class _Processes:
    """Children that end when this process does, are started again when they die, and are ended in order.

    Use as a context manager: whatever happens inside, no process is left behind.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._stops = 0
        self._lifeline, self._held_open = os.pipe()
        self._agents: list[_Child] = []
        self._others: list[_Child] = []

    def __enter__(self: _ProcessesT) -> _ProcessesT:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_all()
        os.close(self._lifeline)
        os.close(self._held_open)

    def _begin(self, name: str, module: str, told: Plain, log: Path | None) -> _Child:
        child = _Child(name, (sys.executable, "-m", module, json.dumps(told)), log)
        child.start(self._lifeline)
        return child

    def _begin_agents(self, told: Iterable[AgentOptions], directory: RunDirectory | None) -> None:
        for each in told:
            name = f"worker-{each.index}"
            log = None if directory is None else directory.log(name)
            options = replace(each, lifeline=self._lifeline)
            self._agents.append(self._begin(name, "hpbandster_lite.agent", wire.to_message(options), log))

    def _tend_agents(self) -> None:
        for agent in self._agents:
            if not agent.alive and agent.returncode is not None and agent.returncode < 0:
                self._revive(agent, f"{agent.name} died of {_signal_name(agent.returncode)}")

    def _revive(self, child: _Child, what: str) -> None:
        recent = [at for at in child.started_at if time.monotonic() - at < 60.0]
        if len(recent) >= RESTARTS_A_MINUTE:
            raise RunDirectoryError(
                f"{what}, {len(recent)} times within a minute; its last words ({child.log}):\n{child.last_words()}\n"
                "Nothing is lost: mend the cause and run the same command again"
            )
        self._note(f"{what}; started again")
        child.start(self._lifeline)

    def _count_stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            self._kill()

    def _end_all(self) -> None:
        """Agents first, so that the master hears what they hand back; then the others, in their order."""
        ends = time.monotonic() + STOP_GRACE_S
        for group in (self._agents, *([child] for child in self._others)):
            living = [child for child in group if child.alive]
            for child in living:
                child.send(signal.SIGTERM)
            while any(child.alive for child in living) and time.monotonic() < ends:
                time.sleep(POLL_S)
        self._kill()

    def _kill(self) -> None:
        for child in (*self._agents, *self._others):
            child.send(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()


class LocalSearch(_Processes):
    """The processes of one search on this machine: name server, master, agents."""

    def __init__(self, prepared: Prepared, directory: RunDirectory, options: LaunchOptions, watcher: Watcher) -> None:
        super().__init__(watcher.note)
        self._prepared = prepared
        self._directory = directory
        self._options = options
        self._watcher = watcher

    def run(self) -> int:
        """Run the search to its end; the exit code is the master's, or 130 where it was interrupted."""
        with _signals_counted(self._count_stop):
            master = self._start()
            next_status = 0.0
            while True:
                if self._stops:
                    self._note("stopping: running evaluations are handed back; Ctrl-C again ends at once")
                    self._end_all()
                    return 130
                if not master.alive and master.returncode is not None:
                    if master.returncode >= 0:
                        # Over, or refused in words of its own: starting it again would change nothing.
                        return self._wind_down(master)
                    self._revive(master, f"the master died of {_signal_name(master.returncode)}")
                for child in self._others:
                    if child is not master and not child.alive:
                        self._revive(child, f"the {child.name} died")
                self._tend_agents()
                if time.monotonic() >= next_status:
                    self._show()
                    next_status = time.monotonic() + STATUS_EVERY_S
                time.sleep(POLL_S)

    def _start(self) -> _Child:
        directory = self._directory
        nameserver, key_file = self._options.nameserver, self._options.nameserver_key
        names: list[_Child] = []
        if nameserver is None:
            directory.ensure_nameserver_key()
            key_file = directory.nameserver_key_file
            nameserver = ("127.0.0.1", _free_port())
            told = {"host": nameserver[0], "port": nameserver[1], "key_file": str(key_file), "lifeline": self._lifeline}
            names.append(self._begin("name server", "hpbandster_lite.nameserver", told, directory.log("nameserver")))
        options = MasterOptions(
            run_directory=str(directory.path),
            prepared=self._prepared,
            nameserver=nameserver,
            nameserver_key=None if key_file is None else str(key_file),
            keep_checkpoints=self._options.keep_checkpoints,
            lifeline=self._lifeline,
        )
        master = self._begin("master", "hpbandster_lite.master", wire.to_message(options), directory.log("master"))
        self._others = [master, *names]
        shared = AgentOptions(
            problem=self._prepared.settings.problem.reference,
            run_dir=str(directory.path),
            timeout_s=self._options.timeout_s,
            isolation=self._options.isolation,
        )
        self._begin_agents(one_per_worker(shared, self._options.workers, self._options.threads), directory)
        return master

    def _wind_down(self, master: _Child) -> int:
        code = master.returncode or 0
        if code != 0:
            self._note(f"the master ended:\n{master.last_words()}")
        self._end_all()
        return code

    def _show(self) -> None:
        # The master may be starting, or restarting: then there is nothing to show this time.
        with contextlib.suppress(PeerError, RunDirectoryError), connect(self._directory, timeout_s=1.0) as client:
            self._watcher.status(client.call("status", {}))


class LocalWorkers(_Processes):
    """Workers of this machine for a master that runs elsewhere."""

    def run(self, agents: Sequence[AgentOptions]) -> int:
        """Run agents to their end; the highest of their exit codes, or 130 where they were interrupted."""
        with _signals_counted(self._count_stop):
            self._begin_agents(agents, None)
            while any(agent.alive for agent in self._agents):
                if self._stops:
                    self._end_all()
                    return 130
                self._tend_agents()
                time.sleep(POLL_S)
        return max(agent.returncode or 0 for agent in self._agents)


def one_per_worker(shared: AgentOptions, workers: int | None, threads: int | None) -> list[AgentOptions]:
    """Options of each worker of this machine: a device and a share of the cores each."""
    return [
        replace(shared, index=index, device=device, threads=each)
        for index, (device, each) in enumerate(worker_devices(workers, threads))
    ]


@contextlib.contextmanager
def _signals_counted(count: Callable[[], None]) -> Iterator[None]:
    """Count SIGINT and SIGTERM instead of dying of them; only the main thread may and need do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda *_: count())
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_name(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
