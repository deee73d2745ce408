"""Whether the file at a journal's path is the one that its master writes.

Law of this file: it queries the file system and decides nothing; it removes or renames only logs of this journal. One
check takes three system calls.
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import Enum
from pathlib import Path

from hpbandster_lite.errors import JournalError

_HEADER_BYTES = 100
_Identity = tuple[int, int]


class Place(Enum):
    """What is at the journal's path."""

    OWN = "the file of this journal"
    GONE = "nothing"
    OTHER = "another file, or the same one after a remount"
    CHANGED = "the file of this journal, with changes from another process"
    WITHOUT_LOG = "the file of this journal without its write-ahead log"


class OwnFile:
    """The file that an open connection writes, held by a descriptor.

    Parameters
    ----------
    path
        The journal's file, which must exist.
    is_logged_ahead
        Whether commits go to a write-ahead log: then the file changes only when this process moves its log into it.
    """

    def __init__(self, path: Path, *, is_logged_ahead: bool) -> None:
        # As text: every turn checks the file, and pathlib takes longer than the file system.
        self._path, self._log_path = str(path), f"{path}-wal"
        self._is_logged_ahead = is_logged_ahead
        self._is_closed = False
        # Open until the connection is closed: closing any descriptor of a file releases this process's locks on it.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._identity = _identity(os.fstat(self._descriptor))
        self._written = (0, 0)
        self._log: _Identity | None = None
        self.note()

    def note(self) -> None:
        """Remember the present state of the file, which this process has just written."""
        if self._is_logged_ahead:
            self._written = self._state()
            # SQLite makes the log with the first commit, and keeps it while the connection is open.
            self._log = self._log or _identity_at(self._log_path)

    def place(self) -> Place:
        """What is at the path now.

        Raises
        ------
        JournalError
            If the file system does not answer.
        """
        try:
            found = _identity_at(self._path)
        except OSError as error:
            raise JournalError(f"cannot check the journal {self._path}: {error.strerror or error}") from error
        if found is None:
            return Place.GONE
        if found != self._identity:
            return Place.OTHER
        if self._is_logged_ahead and self._state() != self._written:
            return Place.CHANGED
        if self._log is not None and not self.has_own_log():
            return Place.WITHOUT_LOG
        return Place.OWN

    def has_own_log(self) -> bool:
        """Whether the write-ahead log beside the path is the one that this process writes."""
        try:
            return self._log is not None and _identity_at(self._log_path) == self._log
        except OSError:
            return False

    def forget_log(self) -> None:
        """Expect another file as the next log."""
        self._log = None

    def remove_own_log(self) -> None:
        """Remove this process's log beside the path, because the next program would apply it to any file there."""
        if self.has_own_log():
            for name in (self._log_path, f"{self._path}-shm"):
                with suppress(OSError):
                    os.unlink(name)  # noqa: PTH108 (text, as above)

    def set_own_log_aside(self, to: Path) -> bool:
        """Rename this process's log beside the path; return whether there was one."""
        if not self.has_own_log():
            return False
        try:
            os.rename(self._log_path, to)  # noqa: PTH104 (text, as above)
        except OSError:
            return False
        with suppress(OSError):
            os.unlink(f"{self._path}-shm")  # noqa: PTH108 (text, as above)
        return True

    def pages(self) -> int | None:
        """Number of pages in the file's header; None if the header is not that of a journal with a write-ahead log."""
        header = os.pread(self._descriptor, _HEADER_BYTES, 0)
        is_whole = len(header) == _HEADER_BYTES and header[18:20] == b"\x02\x02"
        return int.from_bytes(header[28:32], "big") if is_whole else None

    def close(self) -> None:
        """Release the descriptor; call it after the connection was closed."""
        if not self._is_closed:
            self._is_closed = True
            os.close(self._descriptor)

    def _state(self) -> tuple[int, int]:
        state = os.fstat(self._descriptor)
        return state.st_size, state.st_mtime_ns


def _identity(state: os.stat_result) -> _Identity:
    return state.st_dev, state.st_ino


def _identity_at(path: str) -> _Identity | None:
    try:
        return _identity(os.stat(path))  # noqa: PTH116 (text, as above)
    except (FileNotFoundError, NotADirectoryError):
        return None
