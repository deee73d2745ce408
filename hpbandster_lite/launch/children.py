"""One child of the launcher: a process, or an agent as a thread of this process.

Law of this file: a child reads the end of a pipe, so it ends when this process ends, for any reason. A child is
started before its briefing is known, and touches nothing until the briefing arrives.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.master.news import HAS_DIRECTORY, WAITS
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.identity import is_stopped, stopped_child
from hpbandster_lite.process.shutdown import allocation_signal_blocked
from hpbandster_lite.process.startup import READ_BRIEFING, briefing_line
from hpbandster_lite.process.utf8 import python_command
from hpbandster_lite.records import Plain

LOG_TAIL_LINES = 20
STANDARD_ERROR = 2


class Child:
    """A process that is started first and briefed later.

    Parameters
    ----------
    name
        Its name in messages.
    module
        The module that it runs.
    lifeline
        File descriptor; its end of file ends the child.

    Attributes
    ----------
    inherited : tuple of int
        The descriptors that the process gets.
    log : Path or None
        The file with its output, once it has its briefing.
    started_at : list of float
        When it was started, each time; on the monotonic clock.
    """

    def __init__(self, name: str, module: str, lifeline: int) -> None:
        self.name = name
        self.lifeline = lifeline
        self.inherited: tuple[int, ...] = (lifeline,)
        self.log: Path | None = None
        self.started_at: list[float] = []
        self._command = python_command("-m", module, READ_BRIEFING)
        self._process: subprocess.Popen[bytes] | None = None
        self._briefing: bytes | None = None
        self._output: int | None = None
        self._end_descriptor: int | None = None

    def start(self) -> None:
        """Start it, or start it again with the briefing of the process before it."""
        # In a separate session: Ctrl-C at the terminal reaches the launcher alone, which ends the others in order.
        # Output before the briefing names the log is a fault of the installation, and goes where the launcher's goes.
        with allocation_signal_blocked():
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=STANDARD_ERROR,
                pass_fds=self.inherited,
                start_new_session=True,
            )
        self._close_end_descriptor()
        self._end_descriptor = _end_descriptor(self._process.pid)
        self.started_at.append(time.monotonic())
        if self._briefing is not None:
            self._write(self._briefing)

    def brief(self, options: Plain, log: Path | None) -> None:
        """Send its options, and the file that its output goes to."""
        self.log = log
        if log is not None:
            # Opened now, to be readable after the run directory is deleted. If it cannot be opened, the child reports
            # why.
            with contextlib.suppress(OSError):
                self._output = os.open(log, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._briefing = briefing_line(options, log)
        self._write(self._briefing)

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._running.poll()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.returncode is None

    @property
    def end_descriptor(self) -> int | None:
        """A descriptor that becomes readable when it ends; None once its end was noticed, or if the kernel has none."""
        return self._end_descriptor if self._running.returncode is None else None

    def has_just_ended(self) -> bool:
        """Whether it has ended and nothing has noticed it yet; from now on its end is noticed."""
        return self._running.returncode is None and not self.alive

    @property
    def is_stopped(self) -> bool:
        """Whether it is stopped (SIGSTOP): it does nothing until SIGCONT, and reacts to SIGKILL alone."""
        return self.alive and is_stopped(self.pid)

    @property
    def is_briefed(self) -> bool:
        """Whether it has its options."""
        return self._briefing is not None

    def end(self, _request: bytes) -> None:
        """Ask it to end."""
        self._running.terminate()

    def kill(self) -> None:
        """End it and release its resources."""
        self._running.kill()
        self._running.wait()
        self._write(b"")
        self._close_end_descriptor()
        if self._output is not None:
            os.close(self._output)
            self._output = None

    def _close_end_descriptor(self) -> None:
        if self._end_descriptor is not None:
            os.close(self._end_descriptor)
            self._end_descriptor = None

    def log_tail(self) -> str:
        """The last lines of its log."""
        if self._output is not None:
            with open(self._output, encoding="utf-8", errors="replace", closefd=False) as log:
                log.seek(0)
                lines = log.read().splitlines()
        elif self.log is not None and self.log.exists():
            lines = self.log.read_text("utf-8", errors="replace").splitlines()
        else:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise InvariantBroken(f"the {self.name} was not started")
        return self._process

    def _write(self, line: bytes) -> None:
        pipe = self._running.stdin
        if pipe is not None and not pipe.closed:
            # If the process has died already, its exit code says so.
            with contextlib.suppress(BrokenPipeError), pipe:
                pipe.write(line)


class MasterChild(Child):
    """The process of the master, which reports whether it has the run directory (:mod:`hpbandster_lite.master.news`).

    Parameters
    ----------
    lifeline
        As for :class:`Child`.

    Attributes
    ----------
    news_end : int
        The descriptor on which it reports.
    waits : str or None
        For which process this master waits, and how long, while another one has the directory.
    has_directory : bool
        Whether this master, or the one before it that died, has or had the directory.
    notes : list of str
        What else it has reported for the user, and was not shown yet.
    news_descriptor : int
        Becomes readable when it has reported something.
    """

    def __init__(self, lifeline: int) -> None:
        super().__init__("master", "hpbandster_lite.master", lifeline)
        self.news_descriptor, self.news_end = os.pipe()
        os.set_blocking(self.news_descriptor, False)
        self.inherited = (lifeline, self.news_end)
        self.waits: str | None = None
        self.has_directory = False
        self.notes: list[str] = []
        self._is_closed = False

    def read_news(self) -> None:
        """Take in what it has reported since the last call."""
        with contextlib.suppress(BlockingIOError):
            # One read takes all: a master reports few and short lines.
            for line in os.read(self.news_descriptor, 65_536).decode("utf-8", "replace").splitlines():
                if line == HAS_DIRECTORY:
                    self.has_directory, self.waits = True, None
                elif line.startswith(WAITS):
                    self.waits = line
                else:
                    self.notes.append(line)

    def kill(self) -> None:
        """End it and release its resources."""
        super().kill()
        if not self._is_closed:
            self._is_closed = True
            os.close(self.news_descriptor)
            os.close(self.news_end)


class AgentChild(Child):
    """The process of an agent, which receives a request to end on a separate lifeline.

    Not by a signal: Slurm signals all processes of a job, and a second SIGTERM would end the agent at once, and lose
    the evaluation that it runs.
    """

    def __init__(self, index: int) -> None:
        lifeline, self._write_end = os.pipe()
        super().__init__(f"worker-{index}", "hpbandster_lite.agent", lifeline)
        self._is_closed = False

    @property
    def stopped_trainer(self) -> int | None:
        """The process id of its trainer, if that is stopped: its evaluation does not end until SIGCONT."""
        return stopped_child(self.pid) if self.alive else None

    def end(self, request: bytes) -> None:
        """Ask it to end; one without a briefing reads no request, and has nothing to hand back."""
        if self.is_briefed:
            os.write(self._write_end, request)
        else:
            super().end(request)

    def kill(self) -> None:
        """End it and release its resources."""
        super().kill()
        if not self._is_closed:
            self._is_closed = True
            os.close(self.lifeline)
            os.close(self._write_end)


class AgentThread:
    """An agent as a thread of this process, for a problem that no other process can import.

    Parameters
    ----------
    options
        The agent's.
    problem
        The problem itself.

    Attributes
    ----------
    name, pid, started_at
        As those of a :class:`Child`.
    returncode : int or None
        Exit code of the agent; None while it runs.
    """

    log: Path | None = None
    is_stopped = False
    """A thread is stopped with this process."""
    end_descriptor = None
    stopped_trainer = None

    def __init__(self, options: AgentOptions, problem: Problem) -> None:
        self.name = f"worker-{options.index}"
        self.started_at: list[float] = []
        self.returncode: int | None = None
        self.pid = os.getpid()
        self._problem = problem
        self._options = options
        self._is_closed = True
        self.start()

    def start(self) -> None:
        """Start it, or start it again after it has ended."""
        self.kill()
        lifeline, self._write_end = os.pipe()
        self._is_closed = False
        self.returncode = None
        options = replace(self._options, lifeline=lifeline)
        # A daemon: an objective that never returns must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._run, args=(options,), name=self.name, daemon=True)
        self._thread.start()
        self.started_at.append(time.monotonic())

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def has_just_ended(self) -> bool:
        """False: nothing waits for the end of a thread."""
        return False

    def end(self, request: bytes) -> None:
        """Ask it to end."""
        # It may have ended meanwhile.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._write_end, request)

    def kill(self) -> None:
        """Ask it to end: a thread cannot be killed; it ends when its objective returns, or with this process."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._write_end)

    def log_tail(self) -> str:
        """Nothing: its output is that of this process."""
        return ""

    def _run(self, options: AgentOptions) -> None:
        code = InvariantBroken.exit_code
        try:
            # Here: a launcher with workers in processes of their own needs no agent in its own.
            from hpbandster_lite.agent.loop import run_agent

            code = run_agent(options, problem=self._problem)
        finally:
            if options.lifeline is not None:
                os.close(options.lifeline)
            self.returncode = code


def _end_descriptor(pid: int) -> int | None:
    """A descriptor that becomes readable when a child ends; None if the system has none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # An older kernel or C library.
        return None


def wait_for_end(children: Iterable[Child | AgentThread], limit_s: float, *others: int) -> None:
    """Wait until one of the children ends, or another descriptor becomes readable, or the time has passed.

    An end that nothing has noticed yet counts, an earlier one does not.
    """
    children = list(children)
    if [child for child in children if child.has_just_ended()]:
        return
    waiting = select.poll()
    for descriptor in (*(child.end_descriptor for child in children), *others):
        if descriptor is not None:
            waiting.register(descriptor, select.POLLIN)
    waiting.poll(1e3 * limit_s)


def signal_name(code: int) -> str:
    """Name of the signal that a negative exit code means."""
    return signal.Signals(-code).name


def exit_report(agent: Child | AgentThread, code: int) -> str:
    """A line that an agent has ended, and the end of its log."""
    tail = agent.log_tail()
    return f"{agent.name} ended with exit code {code}" + (f"; the end of {agent.log}:\n{tail}" if tail else "")
