"""Copies of an open journal: one file, of one moment, complete or not there.

Law of this file: a copy is written under another name, synced and renamed; the journal itself is only read.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal.schema import sqlite_errors_as_ours


def copy_database(connection: sqlite3.Connection, target: Path, remedy: str) -> int:
    """Copy an open database into one file, while others write to it.

    Parameters
    ----------
    connection
        Without an open transaction.
    target
        Replaced at once: readers see the copy before or this one.
    remedy
        What the user can do where the file cannot be written, for the error.

    Returns
    -------
    int
        Number of entries in the copy.

    Raises
    ------
    JournalError
        If the journal cannot be read, or the copy cannot be written; an earlier copy is still there.
    """
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with sqlite_errors_as_ours(half, "write the copy of the journal"), closing(sqlite3.connect(half)) as copy:
            # One step for all pages: between steps the master would write, and the copy begin anew.
            connection.backup(copy)
            # A log beside it would belong to it: one file is easier to carry.
            copy.execute("PRAGMA journal_mode = DELETE").fetchone()
            count: int = copy.execute("SELECT count(*) FROM entries").fetchone()[0]
        half.chmod(0o600)
        _sync(half)
        half.replace(target)
        _sync(target.parent)
    except JournalError:
        raise
    except OSError as error:
        raise JournalError(f"cannot write the copy {target}: {error.strerror}; {remedy}") from error
    finally:
        half.unlink(missing_ok=True)
    return count


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
