"""Settings and entries from an open database, for the writer and for readers.

Law of this file: an entry is decoded, or refused with its position, never skipped. Entries are decoded without a lock,
because with a rollback journal the writer's commits wait for readers.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from hpbandster_lite import wire
from hpbandster_lite.errors import JournalError, ProtocolMismatch
from hpbandster_lite.journal.schema import sqlite_errors_as_ours
from hpbandster_lite.records import Entry, Plain, SearchSettings

_ENTRY_TYPES = frozenset(get_args(Entry))
_Record = TypeVar("_Record")
_PAGE = "SELECT position, at, entry FROM entries WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
PAGE = 1_000
"""Number of entries that are read at a time: about 1 MB, which takes a few milliseconds."""


SETTINGS = "SELECT settings FROM search"
MARKS = "SELECT journal_id, epoch, (SELECT coalesce(max(position), 0) FROM entries) FROM search"


class Marks(NamedTuple):
    """What identifies a master's journal: the random id, the newest epoch and the last position."""

    journal_id: str | None
    epoch: int
    position: int


def settings_of(rows: Sequence[tuple[Any, ...]], path: Path) -> SearchSettings:
    """The settings with which the search began, from the rows of :data:`SETTINGS`."""
    if not rows:
        raise JournalError(f"the journal {path} has no settings; it is damaged, restore it from a copy")
    return read_record(rows[0][0], SearchSettings, path, "its settings")


def read_entries(connection: sqlite3.Connection, path: Path, after: int = 0) -> Iterator[tuple[int, float, Entry]]:
    """Position, time and entry of all entries ``after`` a position, in order; a gap is an error.

    These are the entries that exist when reading begins, without later ones.
    """
    with sqlite_errors_as_ours(path, "read the journal"):
        last = connection.execute("SELECT coalesce(max(position), 0) FROM entries").fetchone()[0]
        read = after
        while page := connection.execute(_PAGE, (read, last, PAGE)).fetchall():
            texts = [text for _, _, text in page]
            # A value that is not a text must be refused with its position, so each value is decoded alone.
            values = wire.decode_all(texts) if all(type(text) is str for text in texts) else None
            for number, (position, at, text) in enumerate(page):
                if position != read + 1:
                    raise JournalError(f"the journal {path} lacks entry {read + 1}; restore it from a copy")
                read = position
                yield position, at, read_entry(text, position, path, None if values is None else values[number])


def read_entry(text: str, position: int, path: Path, value: Plain = None) -> Any:
    """The entry at a position; ``value`` is the decoded text, or None if it is not decoded yet."""
    try:
        entry = wire.from_message(_decoded(text) if value is None else value)
    except ProtocolMismatch as error:
        raise _undecodable(path, f"entry {position}", error) from error
    if type(entry) not in _ENTRY_TYPES:
        raise JournalError(
            f"the journal {path} has a {type(entry).__name__} as entry {position}; it is damaged: restore a copy"
        )
    return entry


def read_record(text: str, cls: type[_Record], path: Path, what: str) -> _Record:
    """A record of a known class from its text."""
    try:
        return wire.from_message(_decoded(text), cls)
    except ProtocolMismatch as error:
        raise _undecodable(path, what, error) from error


def read_values(text: str, path: Path, what: str) -> Any:
    """A plain value, which is not a record, from its text."""
    try:
        return _decoded(text)
    except ProtocolMismatch as error:
        raise _undecodable(path, what, error) from error


def _decoded(text: object) -> Plain:
    # A column of SQLite can hold a value of any type, even if it is declared as TEXT.
    if not isinstance(text, str):
        raise ProtocolMismatch(f"expected a text, got {text!r:.100}")
    return wire.decode(text, limit_bytes=None)


def _undecodable(path: Path, what: str, error: ProtocolMismatch) -> JournalError:
    return JournalError(f"the journal {path} cannot be read: {what}: {error}")
