"""Saves a journal if its file is deleted or replaced while its master serves it.

Law of this file: what the master's connection still holds is copied into a new file; nothing that exists is replaced.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal.copies import copy_database


class JournalLost(JournalError):
    """The file at the journal's path is no longer this journal: its master must end and answer nothing of its turn."""


def keep_lost(connection: sqlite3.Connection, path: Path, epoch: int) -> tuple[Path, int]:
    """Copy what a connection holds of a lost journal to ``journal.lost-EPOCH.sqlite``.

    Parameters
    ----------
    connection
        Without an open transaction.
    path
        Where the journal was: the copy lies beside it or in the nearest folder above that exists; where that cannot be
        written, in the next one, and at last in the folder for temporary files.
    epoch
        Of the master.

    Returns
    -------
    Path, int
        The copy, and the number of entries in it.

    Raises
    ------
    JournalError
        If it cannot be written anywhere, or if the connection cannot read the journal any more.
    """
    faults: list[JournalError] = []
    for folder in _folders(path):
        target = free_name(folder / f"{path.stem}.lost-{epoch}{path.suffix}")
        try:
            return target, copy_database(connection, target, "make room there")
        except JournalError as error:
            faults.append(error)
    # Of the place that comes first: the others are for a disk that is full or read-only.
    raise faults[0]


def _folders(path: Path) -> Iterator[Path]:
    above = path.absolute().parents
    yield from [folder for folder in above if folder.is_dir()][:2]
    yield Path(tempfile.gettempdir())


def free_name(path: Path) -> Path:
    """The first of ``path``, ``path-2``, ... that is not there; an earlier lost journal stays."""
    free, number = path, 2
    while free.exists() or free.is_symlink():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
