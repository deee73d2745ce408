"""The journal's file: its tables, and what is refused before SQLite may touch it.

Law of this file: a file that is not a whole journal of a schema we know is named, explained and left as it is; the
errors of SQLite become ours here, once, with what to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpbandster_lite.errors import InvariantBroken, JournalError

SCHEMA = 2
"""Version of the tables and of what the entries mean; SQLite's ``user_version``. Older ones: see migrations.py."""
OLDEST_SCHEMA = 1
APPLICATION_ID = 0x68_70_62_6C
"""SQLite's ``application_id`` of a journal: "hpbl" in ASCII."""

TABLES = """
-- The search itself: its settings (a SearchSettings message), the newest master's epoch and limits, why it ended, and
-- why and since when (a Unix time) it is paused.
CREATE TABLE search (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    settings TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    limits TEXT,
    finished_kind TEXT,
    finished_reason TEXT,
    paused TEXT,
    paused_at REAL
);
-- Who served when; served_s is the sum of the times between its commits.
CREATE TABLE masters (
    epoch INTEGER PRIMARY KEY,
    started_at REAL,
    last_at REAL,
    served_s REAL NOT NULL DEFAULT 0
);
-- The truth: positions 1..n without gaps, entry is a message of hpbandster_lite.wire.
CREATE TABLE entries (
    position INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    entry TEXT NOT NULL
);
-- Everything below follows from the entries. A config id is (bracket, sampled_rung, number); sampled is the position of
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
-- The only index: each costs every commit a page, and to look at 100,000 evaluations takes 30 ms without any.
CREATE INDEX evaluations_by_loss ON evaluations (budget, loss) WHERE loss IS NOT NULL;
"""

_MAGIC = b"SQLite format 3\0"
_HEADER_BYTES = 100


def check_file(path: Path) -> None:
    """Refuse, from its first bytes, a file that is no journal, is newer than this code, or has lost its end.

    Raises
    ------
    JournalError
        With what is wrong and what to do.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError as error:
        raise JournalError(f"there is no journal {path}; is this the run directory, and has a search begun?") from error
    except OSError as error:
        raise JournalError(f"cannot read the journal {path}: {error.strerror or error}") from error
    if not _MAGIC.startswith(header[: len(_MAGIC)]) or header[68:72] not in (b"", APPLICATION_ID.to_bytes(4, "big")):
        raise JournalError(f"{path} is no journal of hpbandster_lite; move it away or give another --run-dir")
    if len(header) < _HEADER_BYTES:
        raise _truncated(path, f"it has {size} bytes, not even a header")
    check_schema(int.from_bytes(header[60:64], "big"), path)
    _check_length(path, header, size)


def _check_length(path: Path, header: bytes, size: int) -> None:
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size > 0:
        # A checkpoint that was cut off leaves a short file, which the write-ahead log beside it completes.
        return
    # 1 stands for 65,536, which two bytes cannot say.
    page_bytes = {1: 65_536}.get(number := int.from_bytes(header[16:18], "big"), number)
    expected = page_bytes * int.from_bytes(header[28:32], "big")
    if size < expected:
        raise _truncated(path, f"it has {size:,} of {expected:,} bytes")


def logs_ahead(path: Path) -> bool:
    """Whether a journal's header says that part of it may be in a write-ahead log."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        # Who opens it next says why.
        return False
    # Its version of reading: 1 for a rollback journal, 2 for a log.
    return header[19:20] == b"\x02"


def _truncated(path: Path, how: str) -> JournalError:
    return JournalError(
        f"the journal {path} was cut off: {how}. Restore it from a copy, or keep what is left with: "
        f"sqlite3 {path} .recover | sqlite3 {path.with_name('recovered.sqlite')}"
    )


def check_schema(version: int, path: Path) -> None:
    """Refuse a journal of a newer schema, and a number that no schema has; JournalError says what to do."""
    if version > SCHEMA:
        raise JournalError(
            f"the journal {path} has schema {version}, this hpbandster_lite knows up to {SCHEMA}: "
            "it was written by a newer one; upgrade this installation"
        )
    if version < OLDEST_SCHEMA:
        raise JournalError(f"the journal {path} has the unknown schema {version}; its header is damaged")


@contextmanager
def sqlite_errors_as_ours(path: Path, purpose: str) -> Iterator[None]:
    """Turn each error of SQLite into a JournalError that says what to do; a broken constraint is a bug of ours."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise InvariantBroken(f"the journal {path} refused to {purpose}: {error}") from error
    except sqlite3.Error as error:
        raise JournalError(f"cannot {purpose}: {path}: {error}; {_remedy(str(error))}") from error


# SQLite's own words: its error codes have names in Python from 3.11 on only.
_REMEDIES = {
    "is full": "make room on the disk; what was acknowledged is safe, and writing goes on when there is room",
    "readonly": "the file or its directory may not be written by this user",
    "unable to open": "check that the directory exists and that this user may read and write it",
    "is locked": "another process is writing; end it, or try again",
    "malformed": "the file is damaged: restore it from a copy, or keep what is left with sqlite3's .recover",
    "not a database": "the file is damaged: restore it from a copy, or keep what is left with sqlite3's .recover",
    "disk I/O error": "the disk failed to read or write; see the system's log",
}


def _remedy(words: str) -> str:
    return next((remedy for part, remedy in _REMEDIES.items() if part in words), "see SQLite's documentation")
