"""Ctrl-C while a command is still importing what it needs: it ends at once, in silence.

Law of this file: it imports almost nothing, because it acts first. An exception in the middle of an import would be
printed with its traceback, or be lost where the import system ignores it; so no exception is raised. A process that
ignores SIGINT, as one in the background of a script does, goes on ignoring it.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

INTERRUPTED = 130


def end_at_once() -> None:
    """From now on Ctrl-C ends this process: nothing has been started that must end in order."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_behind(error: BaseException | None) -> bool:
    """Whether Ctrl-C is the cause of an error: Python replaces a KeyboardInterrupt while it makes a class."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__
    return False


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)
