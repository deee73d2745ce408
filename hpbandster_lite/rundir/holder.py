"""Which process holds the lock of a run directory, for messages of a process that waits for it or gets no answer.

Law of this file: no decision depends on it. The holder writes it after it has taken the lock and removes it before it
releases it; after a kill, the next holder replaces it at once.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from hpbandster_lite.process.identity import Condition, condition_of, own_process
from hpbandster_lite.records import ProcessIdentity


@contextlib.contextmanager
def holder_noted(file: Path) -> Iterator[None]:
    """Name this process as the holder in this context; if the disk is full, no file names it."""
    with contextlib.suppress(OSError):
        file.write_text(json.dumps(asdict(own_process())) + "\n", "utf-8")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def read_holder(file: Path) -> ProcessIdentity | None:
    """The process that holds the lock, if the lock is held; None if the file does not name it."""
    try:
        noted = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    match noted:
        case {"pid": int(pid), "host": str(host)}:
            ticks = noted.get("started_ticks", 0)
            return ProcessIdentity(
                host=host,
                pid=pid,
                boot_id=str(noted.get("boot_id", "")),
                pid_namespace=str(noted.get("pid_namespace", "")),
                started_ticks=ticks if isinstance(ticks, int) else 0,
            )
        case _:
            return None


def why_no_answer(file: Path) -> str:
    """Why the holder of the lock does not answer, as far as it is known, and the remedy."""
    holder = read_holder(file)
    if holder is None:
        return "its master is starting, or is stopped, or cannot be reached from here"
    which = f"its master ({in_words(holder)})"
    return why_stopped(file) or f"{which} is starting, or is stopped, or cannot be reached from here"


def why_stopped(file: Path) -> str | None:
    """That the holder of the lock is stopped, and the remedy; None where that is not proven."""
    holder = read_holder(file)
    if holder is None or condition_of(holder, own_process()) is not Condition.STOPPED:
        return None
    return f"its master ({in_words(holder)}) is stopped; to continue it: kill -CONT {holder.pid}"


def in_words(process: ProcessIdentity) -> str:
    """A process for users."""
    return f"pid {process.pid} on host {process.host}"
