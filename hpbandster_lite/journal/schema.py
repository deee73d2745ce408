"""The journal's file: its tables, and the checks before SQLite opens it.

Law of this file: a file that is not a complete journal of a known schema is refused with the reason, and not changed.
Only here do errors of SQLite become JournalErrors, with the remedy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpbandster_lite.errors import InvariantBroken, JournalError
from hpbandster_lite.journal.filesystems import is_full
from hpbandster_lite.journal.lost_copies import lost_copies, lost_note

SCHEMA = 2
"""Version of the tables and of the meaning of the entries; SQLite's ``user_version``. For older ones: migrations.py."""
OLDEST_SCHEMA = 1
APPLICATION_ID = 0x68_70_62_6C
"""SQLite's ``application_id`` of a journal: "hpbl" in ASCII."""

TABLES = """
-- The search itself: its settings (a SearchSettings message), the newest master's epoch and limits, the kind and reason
-- of its end, and why and since when (a Unix time) it is paused. journal_id is random: it differs between journals, and
-- a copy keeps it.
CREATE TABLE search (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    settings TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    limits TEXT,
    finished_kind TEXT,
    finished_reason TEXT,
    paused TEXT,
    paused_at REAL,
    journal_id TEXT
);
-- The masters; served_s is the sum of the times between a master's commits.
CREATE TABLE masters (
    epoch INTEGER PRIMARY KEY,
    started_at REAL,
    last_at REAL,
    served_s REAL NOT NULL DEFAULT 0
);
-- The source of truth: positions 1..n without gaps; entry is a message of hpbandster_lite.wire.
CREATE TABLE entries (
    position INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    entry TEXT NOT NULL
);
-- The tables below follow from the entries. A config id is (bracket, sampled_rung, number); sampled is the position of
-- the Sampled entry, which holds the vector.
CREATE TABLE configurations (
    bracket INTEGER NOT NULL,
    sampled_rung INTEGER NOT NULL,
    number INTEGER NOT NULL,
    hyperparameters TEXT NOT NULL,
    origin TEXT NOT NULL,
    model_budget REAL,
    sampled_at REAL NOT NULL,
    sampled INTEGER NOT NULL,
    PRIMARY KEY (bracket, sampled_rung, number)
) WITHOUT ROWID;
-- outcome is the position of the Recorded entry, which holds info, curve and traceback.
CREATE TABLE evaluations (
    bracket INTEGER NOT NULL,
    sampled_rung INTEGER NOT NULL,
    number INTEGER NOT NULL,
    rung INTEGER NOT NULL,
    budget REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempt INTEGER NOT NULL DEFAULT 0,
    agent TEXT,
    worker TEXT,
    queued_at REAL,
    leased_at REAL,
    started_at REAL,
    finished_at REAL,
    loss REAL,
    failure TEXT,
    reason TEXT,
    directory TEXT,
    outcome INTEGER,
    PRIMARY KEY (bracket, sampled_rung, number, rung)
) WITHOUT ROWID;
-- The only index: each one costs every commit a page, and a scan of 100,000 evaluations takes 30 ms.
CREATE INDEX evaluations_by_loss ON evaluations (budget, loss) WHERE loss IS NOT NULL;
"""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def check_file(path: Path) -> None:
    """Refuse a file if its first bytes show that it is not a journal, is newer than this code, or is truncated.

    Raises
    ------
    JournalError
        The message names the fault and the remedy.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError as error:
        about = lost_note(path) or "is this the run directory, and has a search begun?"
        raise JournalError(f"there is no journal {path}; {about}") from error
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error
    if not _MAGIC.startswith(header[: len(_MAGIC)]) or header[68:72] not in (b"", APPLICATION_ID.to_bytes(4, "big")):
        raise JournalError(f"{path} is not a journal of hpbandster_lite; move it away or give another --run-dir")
    if not size and not _has_log(path) and lost_copies(path):
        raise JournalError(f"the journal {path} is empty: {lost_note(path)}")
    if not size and not _has_log(path):
        raise JournalError(
            f"there is no search in {path.parent} yet: its journal is empty, because its first start was killed or "
            f"found no room on the disk{', which is full: free space, then' if is_full(path) else ';'} run the command "
            "again"
        )
    if len(header) < _HEADER_BYTES:
        raise _truncated(path, f"it has only {size} bytes, less than a header")
    check_schema(int.from_bytes(header[60:64], "big"), path)
    _check_length(path, header, size)


def _check_length(path: Path, header: bytes, size: int) -> None:
    if _has_log(path):
        # If SQLite is killed while it moves the log into the file, the file is short, and the log completes it.
        return
    # 1 means 65,536, which does not fit into two bytes.
    page_bytes = {1: 65_536}.get(number := int.from_bytes(header[16:18], "big"), number)
    expected = page_bytes * int.from_bytes(header[28:32], "big")
    if size < expected:
        raise _truncated(path, f"it has {size:,} of {expected:,} bytes")


def _has_log(path: Path) -> bool:
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def logs_ahead(path: Path) -> bool:
    """Whether, by its header, part of a journal may be in a write-ahead log."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        # The connection that opens the file next reports the error.
        return False
    # The read version: 1 for a rollback journal, 2 for a write-ahead log.
    return header[19:20] == b"\x02"


def _truncated(path: Path, how: str) -> JournalError:
    return JournalError(
        f"the journal {path} is truncated: {how}. Restore it from a copy, or recover what is left with: "
        f"sqlite3 {path} .recover | sqlite3 {path.with_name('recovered.sqlite')}"
    )


def check_schema(version: int, path: Path) -> None:
    """Raise a JournalError for a newer schema, or for a number that no schema has."""
    if version > SCHEMA:
        raise JournalError(
            f"the journal {path} has schema {version}, and this hpbandster_lite reads up to {SCHEMA}: "
            "a newer version wrote it; upgrade this installation"
        )
    if version < OLDEST_SCHEMA:
        raise JournalError(f"the journal {path} has the unknown schema {version}; its header is damaged")


def sqlite_version() -> str:
    """The version of the database's library."""
    return sqlite3.sqlite_version


@contextmanager
def sqlite_errors_as_ours(path: Path, purpose: str) -> Iterator[None]:
    """Convert each error of SQLite to a JournalError with the remedy; a broken constraint is a bug of this package."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise InvariantBroken(f"the journal {path} refused to {purpose}: {error}") from error
    except sqlite3.Error as error:
        remedy = directory_in_place_of_a_file(path) or _remedy(str(error))
        raise JournalError(f"cannot {purpose}: {path}: {error}; {remedy}") from error


# By SQLite's messages, because Python has names for its error codes only since 3.11.
_REMEDIES = {
    "is full": "free space on the disk; acknowledged results are safe, and writing continues when there is space",
    "readonly": "allow this user to write the file and its directory",
    "unable to open": "check that the directory exists and that this user may read and write it",
    "is locked": "another process is writing; end it, or try again",
    "malformed": "the file is damaged: restore it from a copy, or recover what is left with sqlite3's .recover",
    "not a database": "the file is damaged: restore it from a copy, or recover what is left with sqlite3's .recover",
    "disk I/O error": "the disk failed to read or write; see the system's log",
}


def directory_in_place_of_a_file(path: Path) -> str:
    """The remedy for a directory that has the name of one of SQLite's files; empty if there is none."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + suffix)
        if file.is_dir():
            return f"{file} is a directory, and SQLite needs a file of this name: move it away"
    return ""


def _remedy(message: str) -> str:
    return next((remedy for part, remedy in _REMEDIES.items() if part in message), "see SQLite's documentation")
