"""Which process holds the lock of a run directory, for the words of one that waits for it.

Law of this file: no decision depends on it. The holder writes it after it has taken the lock and removes it before it
releases it; after a kill, the next holder replaces it at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hpbandster_lite.records.decorator import record


@record(frozen=True, slots=True)
class Holder:
    """A process that holds the lock."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"pid {self.pid} on host {self.host}"


@contextlib.contextmanager
def holder_noted(file: Path) -> Iterator[None]:
    """Name this process as the holder in this context; a full disk only costs the note."""
    with contextlib.suppress(OSError):
        file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n", "utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def read_holder(file: Path) -> Holder | None:
    """The process that holds the lock, if the lock is held; None where the file does not say."""
    try:
        noted = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    match noted:
        case {"pid": int(pid), "host": str(host)}:
            return Holder(pid, host)
        case _:
            return None
