"""How a long-running process is told to end: by a signal, or because whoever started it is gone.

SIGINT and SIGTERM mean that it is to end. SIGUSR2 means the same for another reason: its allocation at a batch system
is about to end (``--signal=USR2@120``), and it is to be started again in the next one, which exit code 75 asks for.

Law of this file: it only notes that the end was asked for and wakes the loop; the process ends itself, in order, and
:func:`leave` is its last step, or that of :func:`exit_by`.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

INTERRUPTED = 130
"""Exit code of a process that was told to end before its work was done."""
REQUEUE = 75
"""Exit code of a process whose allocation ends: start it again, and it goes on (EX_TEMPFAIL of sysexits.h)."""
ALLOCATION_ENDS = signal.SIGUSR2
"""What a batch system sends a while before it ends a job. Not SIGUSR1, which NCCL may catch."""
JOB_VARIABLE = "SLURM_JOB_ID"
ECHO_S = 1.0
"""Beyond the 0.03 s that were seen with Slurm 22.05, a busy node; who means it says it again after a second."""


@contextlib.contextmanager
def withheld() -> Iterator[None]:
    """Start processes inside: a SIGUSR2 waits until they have said, by :func:`hear_allocation`, what it means to them.

    Its default is to end them, and Python is a second old before it has imported anything that knows better. Who starts
    them gets its own afterwards.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {ALLOCATION_ENDS})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hear_allocation() -> None:
    """Take the SIGUSR2 that was :func:`withheld`, if there was one, and all later ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {ALLOCATION_ENDS})


class Echoes:
    """Tells a second SIGTERM from the echo of the first: Slurm says it twice to what it pre-empts, 0.03 s apart.

    Outside of one of its jobs every signal is one of its own.

    Parameters
    ----------
    environment
        Of the process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._is_in_job = JOB_VARIABLE in environment
        self._until = -math.inf

    def is_echo(self, number: int, *, now: float) -> bool:
        """Whether a signal that comes ``now``, in monotonic seconds, repeats the order before it."""
        if number != signal.SIGTERM or not self._is_in_job:
            return False
        if now < self._until:
            return True
        self._until = now + ECHO_S
        return False


class Ending:
    """Whether the process was asked to end; made by :func:`endings`.

    Attributes
    ----------
    wakeup_fd : int
        Becomes readable when a signal comes, so that a loop that waits on it sees the signal at once.
    exit_code : int
        130, or 75 where the allocation ends and nobody has said more.
    """

    def __init__(self, wakeup_fd: int, lifeline: int | None) -> None:
        self.wakeup_fd = wakeup_fd
        self._lifeline = lifeline
        self._signals = 0
        self.exit_code = INTERRUPTED

    def note(self, number: int, _: object) -> None:
        """A signal came."""
        if number != ALLOCATION_ENDS:
            self.exit_code = INTERRUPTED
        elif not self._signals:
            self.exit_code = REQUEUE
        self._signals += 1

    @property
    def signals(self) -> int:
        """How many signals came."""
        return self._signals

    @property
    def is_asked(self) -> bool:
        """Whether a signal came or the lifeline was cut."""
        return self._signals > 0 or self._lifeline_is_cut()

    def _lifeline_is_cut(self) -> bool:
        if self._lifeline is None:
            return False
        is_ready, _, _ = select.select([self._lifeline], [], [], 0)
        return bool(is_ready) and not os.read(self._lifeline, 1)


@contextlib.contextmanager
def endings(lifeline: int | None = None) -> Iterator[Ending]:
    """Note SIGINT, SIGTERM and SIGUSR2 while inside; call it from the main thread.

    Parameters
    ----------
    lifeline
        A file descriptor, usually the read end of a pipe, whose end of file asks for the end. Who has one is ended by
        whoever holds the other end, after those who need it: a batch system sends SIGUSR2 to all of them at one time,
        and it is ignored here.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    ending = Ending(reading, lifeline)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, reading)
        undo.callback(os.close, writing)
        heard = ending.note if lifeline is None else signal.SIG_IGN
        for number, handler in (
            (signal.SIGTERM, ending.note),
            (signal.SIGINT, ending.note),
            (ALLOCATION_ENDS, heard),
        ):
            undo.callback(signal.signal, number, signal.signal(number, handler))
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing))
        hear_allocation()
        yield ending


def leave(code: int) -> NoReturn:
    """End this process, whose files and connections are closed, without taking the interpreter apart.

    That takes 0.1 to 0.5 s where scipy was imported, and somebody waits for it at the end of every search.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read them may be gone, and they may be.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def exit_by(main: Callable[[], int]) -> NoReturn:
    """End this process with the exit code that ``main`` gives, as Python does, but for taking the interpreter apart.

    Threads are waited for and exit handlers run, which :func:`leave` spares: for processes that run the code of users.
    """
    code = 1  # what Python exits with for an exception that passes through, once it has printed it
    # Handlers run in the reverse order of their registration: this one comes after all that anybody registers later.
    atexit.register(lambda: leave(code))
    try:
        code = main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            code = ended.code or 0
        raise
    sys.exit(code)
