"""The files that are opened while a problem is described.

Law of this file: the hook only records what Python reports. It accesses no file and raises nothing, because it runs
inside every ``open`` of the process, which exists for one description.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR


class OpenedFiles:
    """Records each file that is opened from now on, until :meth:`stop`.

    It does not see a file that a library such as HDF5 opens without Python.
    """

    def __init__(self) -> None:
        self._noted: list[tuple[Any, Any, str]] = []
        self._is_stopped = False
        sys.addaudithook(self._hook)

    def stop(self) -> None:
        """Record no more files."""
        self._is_stopped = True

    def paths(self) -> Iterator[tuple[Path, bool]]:
        """Each path once, and whether it was ever opened for writing."""
        found: dict[Path, bool] = {}
        for path, flags, folder in self._noted:
            try:
                whole = Path(folder, os.fsdecode(path))
                resolved = whole.parent.resolve() / whole.name
            except (OSError, ValueError, RuntimeError):
                continue
            found[resolved] = found.get(resolved, False) or bool(isinstance(flags, int) and flags & _WRITES)
        yield from found.items()

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_stopped or event != "open":
            return
        path, _, flags = arguments
        if isinstance(path, str | bytes):
            try:
                self._noted.append((path, flags, os.getcwd()))  # noqa: PTH109 (the hook runs inside every open)
            except OSError:
                return
