"""What a journal of schema 1 lacks: the kind of a search's end, and an id of the journal.

Law of this file: only this file infers a kind from a sentence. In schema 1 a :class:`Finished` entry has only a
``reason``, which is the column ``finished`` of the table ``search``; this file maps each possible sentence to its kind.
"""

from __future__ import annotations

from hpbandster_lite import wire
from hpbandster_lite.errors import NotPlain, ProtocolMismatch
from hpbandster_lite.records import FinishKind

MIGRATION = (
    "ALTER TABLE search RENAME COLUMN finished TO finished_reason",
    "ALTER TABLE search ADD COLUMN finished_kind TEXT",
    "UPDATE search SET finished_kind = finish_kind_of(finished_reason)",
    "ALTER TABLE search ADD COLUMN journal_id TEXT",
    "UPDATE search SET journal_id = lower(hex(randomblob(16)))",
    "UPDATE entries SET entry = entry_of_schema_2(entry) WHERE instr(entry, 'Finished')",
)
"""Migrates the tables to schema 2. A master of schema 1 that still runs cannot end the search afterwards."""
VIEWS = (
    """
    CREATE TEMP VIEW search AS SELECT
        one, settings, epoch, limits, finish_kind_of(finished) AS finished_kind, finished AS finished_reason, paused,
        paused_at, NULL AS journal_id
    FROM main.search
    """,
    """
    CREATE TEMP VIEW entries AS SELECT
        position, at, CASE WHEN instr(entry, 'Finished') THEN entry_of_schema_2(entry) ELSE entry END AS entry
    FROM main.entries
    """,
)
"""Show the tables as those of schema 2; a temporary view hides the table with the same name."""

_KIND_OF_START = (
    ("stopped by its user", FinishKind.STOPPED),
    ("stopped, because the first ", FinishKind.SAME_FAULT),
    ("the space is exhausted: ", FinishKind.EXHAUSTED),
    ("the target loss of ", FinishKind.TARGET),
    ("the wall time of ", FinishKind.LIMIT),
    ("the total budget of ", FinishKind.LIMIT),
    ("the problem refused the last ", FinishKind.INFEASIBLE),
    ("the one bracket is complete", FinishKind.COMPLETE),
)
_STARTED = ("evaluation was started, which is the limit", "evaluations were started, which is the limit")


def finish_kind_of(reason: str | None) -> str | None:
    """The kind of a search's end, from its sentence; an unknown sentence counts as complete.

    Parameters
    ----------
    reason
        The sentence; None for a search that has not ended.
    """
    if reason is None:
        return None
    # "all 3 brackets are complete" needs no line, because COMPLETE is the default.
    otherwise = FinishKind.LIMIT if any(words in reason for words in _STARTED) else FinishKind.COMPLETE
    kind = next((kind for start, kind in _KIND_OF_START if reason.startswith(start)), otherwise)
    return str(kind.value)


def entry_of_schema_2(text: str) -> str:
    """The text of an entry in schema 2: a :class:`Finished` of schema 1 gains its kind, other texts do not change.

    A damaged text does not change either: the reader refuses it with its position.
    """
    try:
        message = wire.decode(text, limit_bytes=None)
        if type(message) is dict and message.get("type") == "Finished" and "kind" not in message:
            kind = finish_kind_of(str(message.get("reason")))
            return wire.encode({"type": "Finished", "kind": kind, **message}, limit_bytes=None)
    # TypeError: a column of SQLite can hold bytes and numbers too.
    except (ProtocolMismatch, NotPlain, TypeError):
        pass
    return text
