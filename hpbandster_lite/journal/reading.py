"""Settings and entries out of an open database, for the writer and for readers alike.

Law of this file: what the journal holds is decoded or refused with its position, never skipped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from hpbandster_lite import wire
from hpbandster_lite.errors import JournalError, ProtocolMismatch
from hpbandster_lite.journal.schema import sqlite_errors_as_ours
from hpbandster_lite.records import Entry, SearchSettings

_ENTRY_TYPES = frozenset(get_args(Entry))
_Record = TypeVar("_Record")


def read_settings(connection: sqlite3.Connection, path: Path) -> SearchSettings:
    """What the search was begun with."""
    with sqlite_errors_as_ours(path, "read the journal"):
        row = connection.execute("SELECT settings FROM search").fetchone()
    if row is None:
        raise JournalError(f"the journal {path} holds no settings; it is damaged")
    return read_record(row[0], SearchSettings, path, "its settings")


def read_entries(connection: sqlite3.Connection, path: Path) -> Iterator[tuple[int, float, Entry]]:
    """Position, time and entry, in order; the positions are 1, 2, 3, ... or the journal is damaged."""
    with sqlite_errors_as_ours(path, "read the journal"):
        expected = 1
        for position, at, text in connection.execute("SELECT position, at, entry FROM entries ORDER BY position"):
            if position != expected:
                raise JournalError(f"the journal {path} lacks entry {expected}; restore it from a copy")
            expected += 1
            yield position, at, read_entry(text, position, path)


def read_entry(text: str, position: int, path: Path) -> Any:
    """The entry that was stored at a position."""
    try:
        entry = wire.from_message(wire.decode(text, limit_bytes=None))
    except ProtocolMismatch as error:
        raise _not_understood(path, f"entry {position}", error) from error
    if type(entry) not in _ENTRY_TYPES:
        raise JournalError(f"the journal {path} holds a {type(entry).__name__} as entry {position}; it is damaged")
    return entry


def read_record(text: str, cls: type[_Record], path: Path, what: str) -> _Record:
    """A record of a known class out of its text."""
    try:
        return wire.from_message(wire.decode(text, limit_bytes=None), cls)
    except ProtocolMismatch as error:
        raise _not_understood(path, what, error) from error


def _not_understood(path: Path, what: str, error: ProtocolMismatch) -> JournalError:
    return JournalError(f"the journal {path} cannot be understood, {what}: {error}")
