"""Limits of a process that user code forks from ours.

Law of this file: a forked child runs user code and nothing of ours. It ends where that code returns to ours, and the
signals that ours handles have their usual effect on it. It may still call ``trial.report``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, NoReturn

from hpbandster_lite.process.shutdown import ALLOCATION_ENDS

Handler = Callable[[int, Any], object] | int | None
IN_FORKS: Mapping[int, Handler] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    # A batch system sends it to all processes of a job.
    ALLOCATION_ENDS: signal.SIG_IGN,
}
"""What the signals that our processes handle do in a process that user code forks."""

_ours: dict[int, Handler] = {}
_mask = threading.local()


class ForksEndHere:
    """A context around user code: a process that this code forks ends where it would leave the context.

    Its exit code is that of a Python program: 0, that of ``sys.exit``, or 1 after an exception, which is printed.

    Parameters
    ----------
    quiet
        Exceptions that are no fault.
    """

    __slots__ = ("_pid", "_quiet")

    def __init__(self, *quiet: type[BaseException]) -> None:
        self._quiet = quiet
        self._pid = 0

    def __enter__(self) -> None:
        self._pid = os.getpid()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if os.getpid() != self._pid:
            _end(None if isinstance(error, self._quiet) else error)


def _end(error: BaseException | None) -> NoReturn:
    code = 0
    try:
        code = _exit_code(error)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
    finally:
        # Without exit handlers, which belong to the process that it was forked from.
        os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return (error.code or 0) & 0xFF
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if isinstance(error, SystemExit):
            sys.stderr.write(f"{error.code}\n")
        else:
            traceback.print_exception(error)
    return 1


def handle_here(handlers: Mapping[int, Handler]) -> dict[int, Any]:
    """Set signal handlers that forked children do not inherit; return those before, which ``signal.signal`` sets again.

    Call it from the main thread.
    """
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _ours.update(handlers)
    return before


def _before_fork() -> None:
    """Block our signals until the child has its own handlers: it would lose a signal that arrives before."""
    _mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, _ours)


def _after_fork() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _mask.before)


def _begin_fork() -> None:
    """In a forked child: give the signals that still have our handlers their usual effect."""
    for number, ours in list(_ours.items()):
        with contextlib.suppress(ValueError, OSError, TypeError):
            if signal.getsignal(number) == ours:
                signal.signal(number, IN_FORKS.get(number, signal.SIG_DFL))
                # The number of a signal would go to the parent's loop.
                signal.set_wakeup_fd(-1)
    _ours.clear()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_fork)
