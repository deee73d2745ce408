"""Processes of a search on this machine: started, started again when they die, ended in order.

Law of this file: its children hold the read end of a pipe; when this process goes, however it goes, they end by
themselves. They are told what to do after they were started, and touch nothing before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hpbandster_lite import wire
from hpbandster_lite.agent import END, GO_ON_LATER, AgentOptions, run_agent
from hpbandster_lite.errors import InvariantBroken, RunDirectoryError
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.process.shutdown import (
    ALLOCATION_ENDS,
    INTERRUPTED,
    REQUEUE,
    DuplicateTerminations,
    allocation_signal_blocked,
    unblock_allocation_signal,
)
from hpbandster_lite.process.startup import READ_BRIEFING, briefing_line
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory

_ProcessesT = TypeVar("_ProcessesT", bound="Processes")
POLL_S = 0.02
STOP_GRACE_S = 30.0
"""Time for the agents to save a checkpoint and hand their evaluations back before they are killed."""
RESTARTS_A_MINUTE = 5
"""A child that dies more often than this is given up: the fault is not a passing one."""
STANDARD_ERROR = 2


class Child:
    """A process that is started first and told what to do later."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.log: Path | None = None
        self.started_at: list[float] = []
        self._command = (sys.executable, "-m", module, READ_BRIEFING)
        self._process: subprocess.Popen[bytes] | None = None
        self._briefing: bytes | None = None

    def start(self, lifeline: int) -> None:
        """Start it, or start it again: then it is told at once what the earlier one was told."""
        # A session of its own: Ctrl-C at the terminal reaches the launcher alone, which ends the others in order.
        # What it says before it knows its log is a fault of the installation, and is for whoever started us.
        with allocation_signal_blocked():
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=STANDARD_ERROR,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        self.started_at.append(time.monotonic())
        if self._briefing is not None:
            self._say(self._briefing)

    def tell(self, options: Plain, log: Path | None) -> None:
        """Say what it is to do and where it writes what it prints."""
        self.log = log
        self._briefing = briefing_line(options, log)
        self._say(self._briefing)

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._running.poll()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.returncode is None

    @property
    def is_told(self) -> bool:
        """Whether it knows what to do."""
        return self._briefing is not None

    def end(self, word: bytes) -> None:
        """Ask it to end; ``word`` says more to those who tell one reason from another."""
        del word
        self._running.terminate()

    def kill(self) -> None:
        """End it and let go of it."""
        self._running.kill()
        self._running.wait()
        self._say(b"")

    def last_words(self) -> str:
        """The last lines of its log."""
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


class AgentChild(Child):
    """The process of an agent, with a lifeline of its own, on which it is told to end.

    Not by a signal: whoever signals all processes of a job has told it already, and a second SIGTERM would end it at
    once, with what it holds.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, "hpbandster_lite.agent")
        self._lifeline, self._held_open = os.pipe()
        self._is_closed = False

    @property
    def lifeline(self) -> int:
        """The end that the agent reads."""
        return self._lifeline

    def start(self, lifeline: int) -> None:
        """Start it, or start it again, on its own lifeline: whoever holds the other one holds this one, too."""
        del lifeline
        super().start(self._lifeline)

    def end(self, word: bytes) -> None:
        """Ask it to end; one that waits for its briefing hears nothing else, and has nothing to hand back."""
        if self.is_told:
            os.write(self._held_open, word)
        else:
            super().end(word)

    def kill(self) -> None:
        """End it and let go of it."""
        super().kill()
        if not self._is_closed:
            self._is_closed = True
            os.close(self._lifeline)
            os.close(self._held_open)


class AgentThread:
    """An agent as a thread of this process, for a problem that no other process can import."""

    log: Path | None = None

    def __init__(self, options: AgentOptions, problem: Problem) -> None:
        self.name = f"worker-{options.index}"
        self.started_at: list[float] = []
        self.returncode: int | None = None
        self._lifeline, self._held_open = os.pipe()
        self._is_closed = False
        self._problem = problem
        self._options = replace(options, lifeline=self._lifeline)
        # A daemon: an objective that never returns must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def start(self, lifeline: int) -> None:
        """Refuse: a thread does not die of a signal."""
        raise InvariantBroken(f"{self.name} is a thread: it does not die of a signal, and is not started again")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def end(self, word: bytes) -> None:
        """Ask it to end."""
        # It may have ended at this very moment.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._held_open, word)

    def kill(self) -> None:
        """Ask it to end: nobody can kill a thread, which ends when its objective returns, or with this process."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._held_open)

    def last_words(self) -> str:
        """Nothing: what it says is said by this process."""
        return ""

    def _run(self) -> None:
        code = InvariantBroken.exit_code
        try:
            code = run_agent(self._options, problem=self._problem)
        finally:
            self.returncode = code
            os.close(self._lifeline)


class Processes:
    """Children that end when this process does, are started again when they die, and are ended in order.

    Use as a context manager: whatever happens inside, no process is left behind.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._stops = 0
        self._duplicates = DuplicateTerminations(os.environ)
        self._allocation_ends = False
        self._lifeline, self._held_open = os.pipe()
        self._agents: list[AgentChild | AgentThread] = []
        self._others: list[Child] = []
        self._told_of: set[str] = set()
        self._held = contextlib.ExitStack()

    def __enter__(self: _ProcessesT) -> _ProcessesT:
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            self._end_all()
        os.close(self._lifeline)
        os.close(self._held_open)

    def _begin(self, name: str, module: str) -> Child:
        child = Child(name, module)
        child.start(self._lifeline)
        return child

    def _begin_agent(self, index: int) -> AgentChild:
        agent = AgentChild(f"worker-{index}")
        agent.start(self._lifeline)
        return agent

    def _tell_agents(self, told: Iterable[AgentOptions], directory: RunDirectory | None) -> None:
        for agent, options in zip(self._agents, told, strict=True):
            log = None if directory is None else directory.log(agent.name)
            if isinstance(agent, AgentChild):
                agent.tell(wire.to_message(replace(options, lifeline=agent.lifeline)), log)

    def _count_signals(self) -> None:
        """From now on a signal asks for the end instead of ending us, until everything is ended."""
        self._held.enter_context(_signals_counted(self._count_stop))

    def _count_stop(self, number: int) -> None:
        if number == ALLOCATION_ENDS:
            self._allocation_ends = True
        elif not self._duplicates.is_duplicate(number, now=time.monotonic()):
            self._stops += 1

    @property
    def _is_told_to_end(self) -> bool:
        return self._stops > 0 or self._allocation_ends

    def _tend_agents(self) -> None:
        for agent in self._agents:
            code = agent.returncode
            if code is None or code == 0 or agent.name in self._told_of:
                continue
            if code < 0:
                self._revive(agent, f"{agent.name} died of {signal_name(code)}")
            else:
                # It said why, in its log: starting it again would change nothing.
                self._told_of.add(agent.name)
                self._note(f"{agent.name}: its time is over" if code == REQUEUE else ended_in_words(agent, code))

    def _revive(self, child: Child | AgentThread, what: str) -> None:
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
        groups: list[Sequence[Child | AgentThread]] = [self._agents, *([child] for child in self._others)]
        for group in groups:
            self._end(group)
        self._kill()

    def _end(self, group: Sequence[Child | AgentThread]) -> None:
        ends = time.monotonic() + STOP_GRACE_S
        word = GO_ON_LATER if self._allocation_ends and not self._stops else END
        for child in group:
            if child.alive:
                child.end(word)
        while any(child.alive for child in group) and time.monotonic() < ends and self._stops < 2:
            time.sleep(POLL_S)

    def _kill(self) -> None:
        for child in (*self._agents, *self._others):
            child.kill()


class LocalWorkers(Processes):
    """Workers of this machine for a master that runs elsewhere."""

    def run(self, agents: Sequence[AgentOptions]) -> int:
        """Run agents to their end.

        Returns
        -------
        int
            130 where they were interrupted, else the highest of their exit codes; 75 (start them again in the next
            allocation) only where nothing worse has happened to any.
        """
        self._count_signals()
        self._agents = [self._begin_agent(each.index) for each in agents]
        self._tell_agents(agents, None)
        all_ended = False
        while not all_ended:
            if self._is_told_to_end:
                self._end_all()
                return INTERRUPTED if self._stops else self._code()
            # Before and after: who ends meanwhile is tended in the next round, who is started again is waited for.
            had_ended = not any(agent.alive for agent in self._agents)
            self._tend_agents()
            all_ended = had_ended and not any(agent.alive for agent in self._agents)
            time.sleep(0.0 if all_ended else POLL_S)
        return self._code()

    def _code(self) -> int:
        codes = [agent.returncode or 0 for agent in self._agents]
        worse = [code for code in codes if code > 0 and code != REQUEUE]
        # One that had to be killed had not let go of its evaluation, which is run again.
        return max(worse, default=REQUEUE if any(codes) else 0)


def one_per_worker(
    shared: AgentOptions, workers: int | None, threads: int | None, gpus: str | None = None
) -> list[AgentOptions]:
    """Options of each worker of this machine: its devices and a share of the cores each."""
    devices = worker_devices(workers, threads, gpus=gpus, gpus_per_worker=shared.gpus_per_worker)
    return [replace(shared, index=index, device=device, threads=each) for index, (device, each) in enumerate(devices)]


@contextlib.contextmanager
def _signals_counted(count: Callable[[int], None]) -> Iterator[None]:
    """Count signals that ask for the end instead of dying of them; only the main thread may and need do so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, ALLOCATION_ENDS)}
    try:
        for number in before:
            signal.signal(number, lambda number, _: count(number))
        unblock_allocation_signal()
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_name(code: int) -> str:
    """Name of the signal that a negative exit code means."""
    return signal.Signals(-code).name


def ended_in_words(agent: Child | AgentThread, code: int) -> str:
    """That an agent has ended, with its last words."""
    words = agent.last_words()
    return f"{agent.name} ended with exit code {code}" + (f"; its last words ({agent.log}):\n{words}" if words else "")
