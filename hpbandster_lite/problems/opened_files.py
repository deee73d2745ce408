"""The files that are opened while a problem is described.

Law of this file: the hook only records what Python reports. It accesses no file and raises nothing, because it runs
inside every ``open`` of the process, which exists for one description.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR
_CHANGES = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class OpenedFiles:
    """Records each file that is opened from now on, until :meth:`stop`.

    It does not see a file that a library such as HDF5 opens without Python.
    """

    def __init__(self) -> None:
        self._noted: list[tuple[Any, Any, str]] = []
        self._is_stopped = False
        self._began_ns = time.time_ns()
        sys.addaudithook(self._hook)

    def stop(self) -> None:
        """Record no more files."""
        self._is_stopped = True

    def paths(self) -> Iterator[tuple[Path, bool]]:
        """Each path once, with the links in it, and whether it was written.

        A file that was opened for reading and writing, as ``numpy.memmap`` does, and has not changed, was only read.
        """
        found: dict[Path, bool] = {}
        for path, flags, folder in self._noted:
            try:
                whole = Path(os.path.normpath(os.path.join(folder, os.fsdecode(path))))  # noqa: PTH118 (pathlib keeps "..")
                is_written = isinstance(flags, int) and self._has_written(whole, flags)
            except (OSError, ValueError, RuntimeError):
                continue
            found[whole] = found.get(whole, False) or is_written
        yield from found.items()

    def _has_written(self, path: Path, flags: int) -> bool:
        if not flags & _WRITES or flags & _CHANGES:
            return bool(flags & _WRITES)
        return not path.exists() or path.stat().st_mtime_ns >= self._began_ns

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_stopped or event != "open":
            return
        path, _, flags = arguments
        if isinstance(path, str | bytes):
            try:
                self._noted.append((path, flags, os.getcwd()))  # noqa: PTH109 (the hook runs inside every open)
            except OSError:
                return
