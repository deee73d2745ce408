"""What an evaluation leaves behind and only a new process removes: threads, memory, open files.

Law of this file: it only reads the state. Daemon threads of libraries (monitors, idle pools) may stay; a thread that
runs the problem's code may not.
"""

from __future__ import annotations

import gc
import inspect
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

GROWTH = 2.0
"""A trainer is renewed if its size is at least this many times its size after its first completed evaluation,"""
GROWTH_BYTES = 10**9
"""and it has grown by at least this many bytes."""
OPEN_FILES = 0.5
"""A trainer is renewed if it has more open files than this share of the limit."""
THREAD_ENDS_S = 0.1
"""Time in seconds for threads that are about to end when the evaluation returns."""
STATM = Path("/proc/self/statm")
DESCRIPTORS = Path("/proc/self/fd")
_OTHERS = ("site-packages", "dist-packages")


def resident_bytes() -> int:
    """The memory of this process in bytes, without mapped files, which the system may drop."""
    try:
        _, resident, shared, *_ = STATM.read_text("ascii").split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * resource.getpagesize()


class Leftovers:
    """Finds what evaluations have added to this process since its start.

    Parameters
    ----------
    problem
        The problem; code in the folder of its file, or of its whole package, counts as its code.
    size
        Returns the memory of this process in bytes.
    """

    def __init__(self, problem: Any, size: Callable[[], int] = resident_bytes) -> None:
        self._folder = own_folder(problem)
        self._size = size
        self._first_bytes: int | None = None
        self._threads = _threads()

    def found(self, *, is_completed: bool) -> list[str]:
        """Why a new process is needed, or empty; ``is_completed`` says whether the evaluation ended with a loss."""
        return [reason for reason in (self._left_threads(), self._growth(is_completed), self._files()) if reason]

    # ---------------------------------------------------------------------------------------------------------- threads

    def _left_threads(self) -> str | None:
        ends_at = time.monotonic() + THREAD_ENDS_S
        while names := sorted(self._counted_threads()):
            if time.monotonic() >= ends_at:
                return f"the objective left threads running: {', '.join(names[:5])}"
            time.sleep(0.005)
        return None

    def _counted_threads(self) -> Iterator[str]:
        frames = sys._current_frames()  # noqa: SLF001 (documented for this use)
        for ident, thread in _threads().items():
            # The system reuses the number of a thread that has ended.
            if ident in self._threads and self._threads[ident] is thread:
                continue
            if (thread is not None and not thread.daemon) or self._runs_own_code(frames.get(ident), thread):
                yield thread.name if thread is not None else "a thread without a name"

    def _runs_own_code(self, frame: FrameType | None, thread: threading.Thread | None) -> bool:
        # A waiting timer has its function in an attribute.
        waiting = getattr(getattr(thread, "function", None), "__code__", None)
        if isinstance(waiting, CodeType) and self._is_own(waiting.co_filename):
            return True
        while frame is not None:
            if self._is_own(frame.f_code.co_filename):
                return True
            frame = frame.f_back
        return False

    def _is_own(self, file: str) -> bool:
        if self._folder is None or not file.startswith(f"{self._folder}{os.sep}"):
            return False
        return not any(part in _OTHERS for part in Path(file).relative_to(self._folder).parts)

    # ------------------------------------------------------------------------------------------------- memory and files

    def _growth(self, is_completed: bool) -> str | None:
        size = self._size()
        if self._first_bytes is None:
            if is_completed:
                self._first_bytes = size
            return None
        if not self._is_grown(size):
            return None
        gc.collect()
        size = self._size()
        if not self._is_grown(size):
            return None
        return (
            f"its memory grew from {self._first_bytes / 1e9:.1f} GB after its first evaluation to {size / 1e9:.1f} GB"
        )

    def _is_grown(self, size: int) -> bool:
        first = self._first_bytes or 0
        return size >= GROWTH * first and size - first >= GROWTH_BYTES

    def _files(self) -> str | None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        try:
            count = len(os.listdir(DESCRIPTORS))  # noqa: PTH208 (a third of the time)
        except OSError:
            return None
        if limit == resource.RLIM_INFINITY or count <= OPEN_FILES * limit:
            return None
        return f"it has {count} open files; its limit is {limit}"


def _threads() -> dict[int, threading.Thread | None]:
    """The threads of this process by their number; None for a thread that Python's threading does not know."""
    known = {thread.ident: thread for thread in threading.enumerate()}
    return {ident: known.get(ident) for ident in sys._current_frames()}  # noqa: SLF001 (documented for this use)


def own_folder(problem: Any) -> str | None:
    """The folder of the problem's code: that of its file, or of its whole package; None if it has no file."""
    evaluate = inspect.unwrap(problem.evaluate)
    code = getattr(getattr(evaluate, "__func__", evaluate), "__code__", None)
    if not isinstance(code, CodeType) or not os.path.exists(code.co_filename):  # noqa: PTH110 (it may be "<string>")
        return None
    folder = Path(code.co_filename).absolute().parent
    while (folder / "__init__.py").is_file() and (folder.parent / "__init__.py").is_file():
        folder = folder.parent
    return str(folder)
