"""Copies of an open journal: each is one file with the state of one moment.

Law of this file: a copy is written under a temporary name, synced and renamed, so an incomplete copy never appears; the
journal itself is only read.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal.schema import sqlite_errors_as_ours


def copy_database(connection: sqlite3.Connection, target: Path, remedy: str) -> int:
    """Copy an open database into one file, while other processes may write to it.

    Parameters
    ----------
    connection
        A connection without an open transaction.
    target
        The copy's path. It is replaced atomically: readers see the earlier copy or this one.
    remedy
        For the error: what the user can do if the file cannot be written.

    Returns
    -------
    int
        Number of entries in the copy.

    Raises
    ------
    JournalError
        If the journal cannot be read, or the copy cannot be written; an earlier copy stays.
    """
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with sqlite_errors_as_ours(half, "write the copy of the journal"), closing(sqlite3.connect(half)) as copy:
            # All pages in one step: a write between two steps would restart the copy.
            connection.backup(copy)
            # Without a write-ahead log the copy is one file, which is easier to move.
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
