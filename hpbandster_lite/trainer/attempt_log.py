"""The log of one attempt: all that the trainer's process printed, within bounds.

Law of this file: it takes bytes as fast as they come and keeps a bounded number of them, on disk and in memory. A full
disk costs the log, never the evaluation.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)

MAX_LOG_BYTES = 2**20
TAIL_LINES = 100
MAX_LINE_BYTES = 4_096
"""A longer line keeps its end in the tail; the file has all of it."""

_UNPRINTABLE = {code: None for code in (*range(32), *range(127, 160)) if code != ord("\t")}


class AttemptLog:
    """Writes the beginning of an output to a file, and remembers its end.

    Parameters
    ----------
    path
        The file; it and its directory are made with the first byte. None keeps only the tail.
    limit_bytes
        Most bytes of the output that are written; the last lines follow when it is closed.
    """

    def __init__(self, path: Path | None = None, limit_bytes: int = MAX_LOG_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file: BinaryIO | None = None
        self._written = 0
        self._left_out = 0
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Take what the process printed."""
        room = max(0, self._limit_bytes - self._written)
        if data[:room]:
            self._append(data[:room])
        self._written += len(data[:room])
        self._left_out += len(data[room:])
        # One piece more than can be kept: the first one may hold many lines, and is then older than all that are kept.
        *lines, rest = (self._rest + data).rsplit(b"\n", TAIL_LINES + 1)
        self._lines.extend(line[-MAX_LINE_BYTES:] for line in lines[-TAIL_LINES:])
        self._rest = rest[-MAX_LINE_BYTES:]

    def tail(self) -> tuple[str, ...]:
        """The last lines, at most 100, as a person would have seen them."""
        lines = [*self._lines, self._rest] if self._rest else list(self._lines)
        return tuple(_readable(line) for line in lines[-TAIL_LINES:])

    def close(self) -> None:
        """Write what was left out as its last lines, and close the file."""
        if self._left_out:
            lines = "\n".join(self.tail())
            self._append(f"\n... {self._left_out:,} bytes more were printed; the last lines:\n{lines}\n".encode())
        self._left_out = 0
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, data: bytes) -> None:
        if self._path is None:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            self._file.write(data)
        except OSError as error:
            log.warning("the log of this evaluation goes on without its file: %s", error)
            self._path = None


def _readable(line: bytes) -> str:
    # A progress bar writes the same line over and over: what stands there at last counts.
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown.decode("utf-8", errors="replace").translate(_UNPRINTABLE)
