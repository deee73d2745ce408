"""Start a whole search on this machine and see it through: name server, master, and one agent per worker.

Law of this file: it starts processes, restarts those that die, ends all that it started, and decides nothing about
the search. Its children hold the read end of a pipe; when this process goes, however it goes, they end by themselves.
They are started while the problem is being read, and told what to do when that is known: what they import takes a
second, and they touch nothing before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from hpbandster_lite import wire
from hpbandster_lite.agent import AgentOptions, run_agent
from hpbandster_lite.briefing import READ, brief
from hpbandster_lite.devices import worker_devices
from hpbandster_lite.engine import was_stopped
from hpbandster_lite.errors import InvariantBroken, PeerError, ProblemError, RunDirectoryError, UsageError
from hpbandster_lite.incumbent import save_incumbent
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master import MasterOptions, connect
from hpbandster_lite.problems import Problem
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.searchfile import address_text
from hpbandster_lite.settings import Prepared, SearchOptions, prepare

_ProcessesT = TypeVar("_ProcessesT", bound="_Processes")
POLL_S = 0.02
STATUS_EVERY_S = 0.5
STOP_GRACE_S = 30.0
"""Time for the agents to save a checkpoint and hand their evaluations back before they are killed."""
RESTARTS_A_MINUTE = 5
"""A child that dies more often than this is given up: the fault is not a passing one."""
INTERRUPTED = 130
STANDARD_ERROR = 2


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
        # What an agent would refuse is refused now.
        AgentOptions(problem="", run_dir="", isolation=self.isolation, timeout_s=self.timeout_s, threads=self.threads)
        if self.keep_checkpoints not in ("needed", "all"):
            raise UsageError(f"keep_checkpoints must be 'needed' or 'all', got {self.keep_checkpoints!r}")

    def told(self) -> dict[str, Plain]:
        """These options by the names that a search file has for them."""
        return {
            "keep_checkpoints": self.keep_checkpoints,
            "workers": self.workers,
            "threads": self.threads,
            "timeout": self.timeout_s,
            "in_agent": True if self.isolation == "none" else None,
            "nameserver": None if self.nameserver is None else address_text(*self.nameserver),
            "nameserver_key": None if self.nameserver_key is None else str(self.nameserver_key.resolve()),
        }


class Watcher(Protocol):
    """Who shows the progress of a search."""

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """What is about to run; called before any process is started."""

    def status(self, status: Mapping[str, Plain]) -> None:
        """The living master's status."""

    def note(self, text: str) -> None:
        """One line about a process that died, was restarted, or is being stopped."""


class _Child:
    """A process that is started first and told what to do later."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.log: Path | None = None
        self.started_at: list[float] = []
        self._command = (sys.executable, "-m", module, READ)
        self._process: subprocess.Popen[bytes] | None = None
        self._briefing: bytes | None = None

    def start(self, lifeline: int) -> None:
        # A session of its own: Ctrl-C at the terminal reaches the launcher alone, which ends the others in order.
        # What it says before it knows its log is a fault of the installation, and is for whoever started us.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=STANDARD_ERROR, pass_fds=(lifeline,), start_new_session=True
        )
        self.started_at.append(time.monotonic())
        if self._briefing is not None:
            self._say(self._briefing)

    def tell(self, options: Plain, log: Path | None) -> None:
        self.log = log
        self._briefing = brief(options, log)
        self._say(self._briefing)

    @property
    def returncode(self) -> int | None:
        return self._running.poll()

    @property
    def alive(self) -> bool:
        return self.returncode is None

    def end(self) -> None:
        self._running.terminate()

    def kill(self) -> None:
        self._running.kill()
        self._running.wait()
        self._say(b"")

    def last_words(self) -> str:
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise InvariantBroken(f"the {self.name} was not started")
        return self._process

    def _say(self, line: bytes) -> None:
        briefing = self._running.stdin
        if briefing is not None and not briefing.closed:
            # If it has died already, its exit code tells more.
            with contextlib.suppress(BrokenPipeError), briefing:
                briefing.write(line)


class _AgentThread:
    """An agent as a thread of this process, for a problem that no other process can import."""

    log: Path | None = None

    def __init__(self, options: AgentOptions, problem: Problem) -> None:
        self.name = f"worker-{options.index}"
        self.started_at: list[float] = []
        self.returncode: int | None = None
        self._lifeline, self._held_open = os.pipe()
        self._is_told_to_end = False
        self._problem = problem
        self._options = replace(options, lifeline=self._lifeline)
        # A daemon: an objective that never returns must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def start(self, lifeline: int) -> None:
        raise InvariantBroken(f"{self.name} is a thread: it does not die of a signal, and is not started again")

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> None:
        if not self._is_told_to_end:
            self._is_told_to_end = True
            os.close(self._held_open)

    def kill(self) -> None:
        # Nobody can kill a thread; one that is still in the objective ends with this process, or when that returns.
        self.end()

    def last_words(self) -> str:
        return ""

    def _run(self) -> None:
        code = InvariantBroken.exit_code
        try:
            code = run_agent(self._options, problem=self._problem)
        finally:
            self.returncode = code
            os.close(self._lifeline)


def search_here(
    options: SearchOptions,
    directory: RunDirectory,
    launch: LaunchOptions,
    watcher: Watcher,
    *,
    problem: Problem | None = None,
) -> int:
    """Begin a search or go on with it, to its end; save the incumbent, tested where the problem can.

    Parameters
    ----------
    options, directory, launch
        What to search, where to keep it, how to run it.
    watcher
        Who shows the progress.
    problem
        The problem itself, where no other process can import it: the workers are then threads of this process.

    Returns
    -------
    int
        0 when the search is over or was stopped, 130 when it was interrupted, else the master's exit code.

    Raises
    ------
    UsageError
        For input that cannot be, before anything is written or served.
    ProblemError
        If no worker can import the problem.
    RunDirectoryError
        If a process died again and again, or no worker is left.
    """
    with LocalSearch(directory, launch, watcher, problem) as search:
        prepared = prepare(options, directory, meanwhile=search.warm_up)
        watcher.begin(prepared, directory)
        if not _is_over(prepared, directory):
            directory.create()
            code = search.run(prepared)
            if code != 0:
                return code
    finished = JournalReader(directory.journal).finished()
    if finished is not None and was_stopped(finished):
        # It may go on, and the test split is looked at once a search.
        return 0
    save_incumbent(directory, prepared.settings.problem, watcher.note, problem)
    return 0


def _is_over(prepared: Prepared, directory: RunDirectory) -> bool:
    """Whether the run directory holds this very search, ended under these very limits, and nothing is asked of it."""
    if not prepared.resumed or prepared.retry_failed_after is not None:
        return False
    reader = JournalReader(directory.journal)
    finished = reader.finished()
    return finished is not None and not was_stopped(finished) and reader.limits() == prepared.limits


class _Processes:
    """Children that end when this process does, are started again when they die, and are ended in order.

    Use as a context manager: whatever happens inside, no process is left behind.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._stops = 0
        self._lifeline, self._held_open = os.pipe()
        self._agents: list[_Child | _AgentThread] = []
        self._others: list[_Child] = []
        self._told_of: set[str] = set()
        self._held = contextlib.ExitStack()

    def __enter__(self: _ProcessesT) -> _ProcessesT:
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            self._end_all()
        os.close(self._lifeline)
        os.close(self._held_open)

    def _begin(self, name: str, module: str) -> _Child:
        child = _Child(name, module)
        child.start(self._lifeline)
        return child

    def _tell_agents(self, told: Iterable[AgentOptions], directory: RunDirectory | None) -> None:
        for agent, options in zip(self._agents, told, strict=True):
            log = None if directory is None else directory.log(agent.name)
            if isinstance(agent, _Child):
                agent.tell(wire.to_message(replace(options, lifeline=self._lifeline)), log)

    def _count_signals(self) -> None:
        """From now on a signal asks for the end instead of ending us, until everything is ended."""
        self._held.enter_context(_signals_counted(self._count_stop))

    def _count_stop(self) -> None:
        self._stops += 1

    def _tend_agents(self) -> None:
        for agent in self._agents:
            code = agent.returncode
            if code is None or code == 0 or agent.name in self._told_of:
                continue
            if code < 0:
                self._revive(agent, f"{agent.name} died of {_signal_name(code)}")
            else:
                # It said why, in its log: starting it again would change nothing.
                self._told_of.add(agent.name)
                self._note(_ended(agent, code))

    def _revive(self, child: _Child | _AgentThread, what: str) -> None:
        recent = [at for at in child.started_at if time.monotonic() - at < 60.0]
        if len(recent) >= RESTARTS_A_MINUTE:
            raise RunDirectoryError(
                f"{what}, {len(recent)} times within a minute; its last words ({child.log}):\n{child.last_words()}\n"
                "Nothing is lost: mend the cause and run the same command again"
            )
        self._note(f"{what}; started again")
        child.start(self._lifeline)

    def _end_all(self) -> None:
        """Agents first, so that the master hears what they hand back; then the others, in their order."""
        groups: list[Sequence[_Child | _AgentThread]] = [self._agents, *([child] for child in self._others)]
        for group in groups:
            self._end(group)
        self._kill()

    def _end(self, group: Sequence[_Child | _AgentThread]) -> None:
        ends = time.monotonic() + STOP_GRACE_S
        for child in group:
            if child.alive:
                child.end()
        while any(child.alive for child in group) and time.monotonic() < ends and self._stops < 2:
            time.sleep(POLL_S)

    def _kill(self) -> None:
        for child in (*self._agents, *self._others):
            child.kill()


class LocalSearch(_Processes):
    """The processes of one search on this machine: name server, master, agents."""

    def __init__(
        self, directory: RunDirectory, options: LaunchOptions, watcher: Watcher, problem: Problem | None = None
    ) -> None:
        super().__init__(watcher.note)
        self._directory = directory
        self._options = options
        self._watcher = watcher
        self._problem = problem

    def warm_up(self) -> None:
        """Start all processes, which do nothing yet; what they need takes them a second to import."""
        self._others = [self._begin("master", "hpbandster_lite.master")]
        if self._problem is None:
            count = len(worker_devices(self._options.workers, self._options.threads))
            self._agents = [self._begin(f"worker-{index}", "hpbandster_lite.agent") for index in range(count)]
        if self._options.nameserver is None:
            self._others.append(self._begin("name server", "hpbandster_lite.nameserver"))

    def run(self, prepared: Prepared) -> int:
        """Run the search to its end; the exit code is the master's, or 130 where it was interrupted."""
        self._count_signals()
        if not self._others:
            self.warm_up()
        master, *names = self._others
        self._tell(prepared, master, names)
        next_status = 0.0
        while True:
            if self._stops:
                self._note("stopping: running evaluations are handed back; Ctrl-C again ends at once")
                self._end_all()
                return INTERRUPTED
            code = master.returncode
            if code is not None and code >= 0:
                # Over, or refused in words of its own: starting it again would change nothing.
                return self._wind_down(master, code)
            if code is not None:
                self._revive(master, f"the master died of {_signal_name(code)}")
            for child in names:
                if not child.alive:
                    self._revive(child, f"the {child.name} died")
            self._tend_agents()
            self._refuse_to_wait_for_nobody()
            if time.monotonic() >= next_status:
                self._show()
                next_status = time.monotonic() + STATUS_EVERY_S
            time.sleep(POLL_S)

    def _tell(self, prepared: Prepared, master: _Child, names: Sequence[_Child]) -> None:
        directory = self._directory
        nameserver, key_file = self._options.nameserver, self._options.nameserver_key
        for child in names:
            directory.ensure_nameserver_key()
            key_file = directory.nameserver_key_file
            nameserver = ("127.0.0.1", self._held.enter_context(_reserved_port()))
            told = {"host": nameserver[0], "port": nameserver[1], "key_file": str(key_file), "lifeline": self._lifeline}
            child.tell(told, directory.log("nameserver"))
        options = MasterOptions(
            run_directory=str(directory.path),
            prepared=prepared,
            nameserver=nameserver,
            nameserver_key=None if key_file is None else str(key_file),
            keep_checkpoints=self._options.keep_checkpoints,
            lifeline=self._lifeline,
            told=self._options.told(),
        )
        master.tell(wire.to_message(options), directory.log("master"))
        shared = AgentOptions(
            problem=prepared.settings.problem.reference,
            run_dir=str(directory.path),
            timeout_s=self._options.timeout_s,
            isolation=self._options.isolation,
        )
        told_agents = one_per_worker(shared, self._options.workers, self._options.threads)
        if self._problem is not None:
            self._agents = [_AgentThread(options, self._problem) for options in told_agents]
        self._tell_agents(told_agents, directory)

    def _wind_down(self, master: _Child, code: int) -> int:
        if code != 0:
            self._note(f"the master ended:\n{master.last_words()}")
        # Nobody listens any more, so nobody has to end before another.
        self._end((*self._agents, *self._others))
        self._kill()
        return code

    def _refuse_to_wait_for_nobody(self) -> None:
        """End a search whose last worker has gone, though not because it is over.

        Raises
        ------
        ProblemError, RunDirectoryError
            With what the worker said.
        """
        codes = [agent.returncode for agent in self._agents]
        if not all(code is not None and code > 0 for code in codes):
            return
        agent, code = self._agents[0], codes[0] or 0
        error = ProblemError if code == ProblemError.exit_code else RunDirectoryError
        raise error(f"no worker is left: {_ended(agent, code)}\nNothing is lost: run the same command again")

    def _show(self) -> None:
        # The master may be starting, or restarting: then there is nothing to show this time.
        with contextlib.suppress(PeerError, RunDirectoryError), connect(self._directory, timeout_s=1.0) as client:
            self._watcher.status(client.call("status", {}))


class LocalWorkers(_Processes):
    """Workers of this machine for a master that runs elsewhere."""

    def run(self, agents: Sequence[AgentOptions]) -> int:
        """Run agents to their end; the highest of their exit codes, or 130 where they were interrupted."""
        self._count_signals()
        self._agents = [self._begin(f"worker-{each.index}", "hpbandster_lite.agent") for each in agents]
        self._tell_agents(agents, None)
        while any(agent.alive for agent in self._agents):
            if self._stops:
                self._end_all()
                return INTERRUPTED
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


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A free port of loopback that nobody else is given meanwhile, though a server of ours may listen there.

    A socket that is bound and does not listen keeps the port from everybody, but for those who set SO_REUSEADDR, as our
    servers do. So the name server finds it free, and again when it is started anew.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        yield port


def _signal_name(code: int) -> str:
    return signal.Signals(-code).name


def _ended(agent: _Child | _AgentThread, code: int) -> str:
    words = agent.last_words()
    return f"{agent.name} ended with exit code {code}" + (f"; its last words ({agent.log}):\n{words}" if words else "")
