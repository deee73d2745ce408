"""The log of one attempt: the output of the trainer process, limited in size.

Law of this file: it accepts all bytes and keeps a limited number of them, on disk and in memory. A full disk loses the
log, never the evaluation.
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
"""The tail keeps only the end of a longer line; the file has the whole line."""

_UNPRINTABLE = {code: None for code in (*range(32), *range(127, 160)) if code != ord("\t")}


class AttemptLog:
    """Writes the beginning of an output to a file, and keeps its last lines.

    Parameters
    ----------
    path
        The file; it and its directory are created with the first byte. Default: None, which keeps only the tail.
    limit_bytes
        Most bytes of output in the file; :meth:`close` adds the last lines. Default: 1 MiB.
    """

    def __init__(self, path: Path | None = None, limit_bytes: int = MAX_LOG_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._file: BinaryIO | None = None
        self._written = 0
        self._omitted = 0
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Add output of the process."""
        room = max(0, self._limit_bytes - self._written)
        if data[:room]:
            self._append(data[:room])
        self._written += len(data[:room])
        self._omitted += len(data[room:])
        # Split off one piece more than is kept: the first piece may hold many older lines.
        *lines, rest = (self._rest + data).rsplit(b"\n", TAIL_LINES + 1)
        self._lines.extend(line[-MAX_LINE_BYTES:] for line in lines[-TAIL_LINES:])
        self._rest = rest[-MAX_LINE_BYTES:]

    def tail(self) -> tuple[str, ...]:
        """The last lines, at most 100, as a terminal would show them."""
        lines = [*self._lines, self._rest] if self._rest else list(self._lines)
        return tuple(_readable(line) for line in lines[-TAIL_LINES:])

    def close(self) -> None:
        """Write the last lines if some were omitted, and close the file."""
        if self._omitted:
            lines = "\n".join(self.tail())
            self._append(f"\n... {self._omitted:,} bytes more were printed; the last lines:\n{lines}\n".encode())
        self._omitted = 0
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
            log.warning("cannot write the log file of this evaluation, which continues without it: %s", error)
            self._path = None


def _readable(line: bytes) -> str:
    # A progress bar rewrites its line: keep its last state.
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown.decode("utf-8", errors="replace").translate(_UNPRINTABLE)
