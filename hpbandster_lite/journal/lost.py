"""Saves a journal if its file is deleted or replaced while its master serves it.

Law of this file: it copies what the master's connection can still read into a new file, and replaces no existing file.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal.copies import copy_database


class JournalLost(JournalError):
    """The file at the journal's path is no longer this journal: the master must end without an answer to its turn."""


def keep_lost(connection: sqlite3.Connection, path: Path, epoch: int) -> tuple[Path, int]:
    """Copy what a connection can still read of a lost journal to ``journal.lost-EPOCH.sqlite``.

    Parameters
    ----------
    connection
        A connection without an open transaction.
    path
        Path of the lost journal. The copy is written to the nearest existing folder above it; if that fails, to the
        next folder above, and then to the folder for temporary files.
    epoch
        Epoch of the master.

    Returns
    -------
    Path, int
        The copy, and the number of entries in it.

    Raises
    ------
    JournalError
        If no copy can be written, or if the connection can no longer read the journal.
    """
    faults: list[JournalError] = []
    for folder in _folders(path):
        target = free_name(folder / f"{path.stem}.lost-{epoch}{path.suffix}")
        try:
            return target, copy_database(connection, target, "free space there")
        except JournalError as error:
            faults.append(error)
    # Report the first folder: the others serve only for a full or read-only disk.
    raise faults[0]


def _folders(path: Path) -> Iterator[Path]:
    above = path.absolute().parents
    yield from [folder for folder in above if folder.is_dir()][:2]
    yield Path(tempfile.gettempdir())


def free_name(path: Path) -> Path:
    """The first of ``path``, ``path-2``, ... that does not exist; an earlier lost journal stays."""
    free, number = path, 2
    while free.exists() or free.is_symlink():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
