"""Requests to end a long-running process: by a signal, or by the end of its parent process.

SIGINT and SIGTERM request the end. SIGUSR2 also requests it, because the allocation of a batch system is about to end
(``--signal=USR2@120``). The exit code 75 then requests another start in the next allocation.

Law of this file: a handler only records the request and wakes the loop. The process then ends in order;
:func:`exit_now` or :func:`exit_with` is its last step.
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
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

INTERRUPTED = 130
"""Exit code of a process that ended on request before its work was done."""
REQUEUE = 75
"""Exit code of a process whose allocation ends: a new start continues its work (EX_TEMPFAIL of sysexits.h)."""
ALLOCATION_ENDS = signal.SIGUSR2
"""The signal that a batch system sends before it ends a job. Not SIGUSR1, which NCCL may catch."""
JOB_VARIABLE = "SLURM_JOB_ID"
DUPLICATE_WITHIN_S = 1.0
"""Slurm 22.05 repeats SIGTERM after 0.03 s, or later on a busy node; a SIGTERM after this time is a new request."""


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise KeyboardInterrupt after SIGTERM, too, so that a command cleans up; only the main thread handles signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def allocation_signal_blocked() -> Iterator[None]:
    """Block SIGUSR2 in child processes that start in this context, until they call :func:`unblock_allocation_signal`.

    The signal's default action ends a process, and Python takes a second to import the code that installs a handler.
    A signal to the parent process stays pending until the context ends. SIGTERM and SIGINT reach the child in any case,
    also if this process has blocked them for itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {ALLOCATION_ENDS})
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_allocation_signal() -> None:
    """Accept SIGUSR2 again; a signal that arrived during :func:`allocation_signal_blocked` is delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {ALLOCATION_ENDS})


class DuplicateTerminations:
    """Recognises the duplicate of a SIGTERM, because Slurm sends two to a pre-empted job, 0.03 s apart.

    Outside a Slurm job no signal is a duplicate.

    Parameters
    ----------
    environment
        The environment variables of the process.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._is_in_job = JOB_VARIABLE in environment
        self._until = -math.inf

    def is_duplicate(self, number: int, *, now: float) -> bool:
        """Whether a signal at ``now``, in monotonic seconds, repeats the request before it."""
        if number != signal.SIGTERM or not self._is_in_job:
            return False
        if now < self._until:
            return True
        self._until = now + DUPLICATE_WITHIN_S
        return False


class ShutdownRequest:
    """Whether the end of the process was requested; made by :func:`shutdown_requests`.

    Parameters
    ----------
    wakeup_fd, lifeline
        The attribute; and a descriptor whose end of file requests the end, None for a process without a launcher.

    Attributes
    ----------
    wakeup_fd : int
        A descriptor that becomes readable when a signal arrives, so that a loop that waits for it reacts at once.
    exit_code : int
        130, or 75 if all signals were SIGUSR2.
    """

    def __init__(self, wakeup_fd: int, lifeline: int | None) -> None:
        self.wakeup_fd = wakeup_fd
        self._lifeline = lifeline
        self._signals = 0
        self.exit_code = INTERRUPTED

    def note(self, number: int, _: object) -> None:
        """Signal handler: record the signal."""
        if number != ALLOCATION_ENDS:
            self.exit_code = INTERRUPTED
        elif not self._signals:
            self.exit_code = REQUEUE
        self._signals += 1

    @property
    def signals(self) -> int:
        """Number of signals received."""
        return self._signals

    @property
    def is_requested(self) -> bool:
        """Whether a signal arrived or the lifeline was closed."""
        return self._signals > 0 or self._lifeline_is_closed()

    def _lifeline_is_closed(self) -> bool:
        if self._lifeline is None:
            return False
        is_ready, _, _ = select.select([self._lifeline], [], [], 0)
        return bool(is_ready) and not os.read(self._lifeline, 1)


@contextlib.contextmanager
def shutdown_requests(lifeline: int | None = None) -> Iterator[ShutdownRequest]:
    """Record SIGINT, SIGTERM and SIGUSR2 in this context; call it from the main thread.

    Parameters
    ----------
    lifeline
        A file descriptor, usually the read end of a pipe; its end of file requests the end of the process. The parent
        closes the other end after the processes that depend on this one have ended. A batch system sends SIGUSR2 to
        all of them at once, so a process with a lifeline ignores it. Default: None.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    request = ShutdownRequest(reading, lifeline)
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, reading)
        undo.callback(os.close, writing)
        handlers = {
            signal.SIGTERM: request.note,
            signal.SIGINT: request.note,
            ALLOCATION_ENDS: request.note if lifeline is None else signal.SIG_IGN,
        }
        for number, handler in handlers.items():
            undo.callback(signal.signal, number, signal.signal(number, handler))
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing))
        unblock_allocation_signal()
        yield request


def exit_now(code: int) -> NoReturn:
    """Exit without a shutdown of the interpreter; the caller has closed its files and connections.

    The shutdown takes 0.1 to 0.5 s once scipy is imported, and the user would wait for it at the end of every search.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # The reader may have ended, and the streams may be closed or None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def exit_with(main: Callable[[], int]) -> NoReturn:
    """Exit with the code that ``main`` returns, as Python does, but without a shutdown of the interpreter.

    Unlike :func:`exit_now`, it joins threads and runs exit handlers, for processes that run user code.
    """
    code = 1  # Python's exit code after an uncaught exception, which Python prints
    # Handlers run in reverse order of registration, so this one runs after those that are registered later.
    atexit.register(lambda: exit_now(code))
    try:
        code = main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            code = ended.code or 0
        raise
    sys.exit(code)
