"""The durable record of a search; the only room that uses the database.

Law of this room: one writer, one commit per turn, and no acknowledgement before the commit is on the disk. The entries
are the source of truth. The tables change in the same transaction, for readers that do not replay the entries.
"""

from hpbandster_lite.journal.filesystems import is_full, is_network, mounted_type
from hpbandster_lite.journal.lost import JournalLost
from hpbandster_lite.journal.lost_copies import lost_note
from hpbandster_lite.journal.reader import (
    ConfigurationRow,
    Ending,
    EvaluationRow,
    JournalReader,
    MasterRow,
    Promotion,
    RungRow,
    SourceEdit,
    source_of_row,
)
from hpbandster_lite.journal.schema import SCHEMA, sqlite_version
from hpbandster_lite.journal.settings_difference import DIRECTION, SPACE, option_difference, settings_difference
from hpbandster_lite.journal.writer import Fenced, Journal, holds_anything

__all__ = [
    "DIRECTION",
    "SCHEMA",
    "SPACE",
    "ConfigurationRow",
    "Ending",
    "EvaluationRow",
    "Fenced",
    "Journal",
    "JournalLost",
    "JournalReader",
    "MasterRow",
    "Promotion",
    "RungRow",
    "SourceEdit",
    "holds_anything",
    "is_full",
    "is_network",
    "lost_note",
    "mounted_type",
    "option_difference",
    "settings_difference",
    "source_of_row",
    "sqlite_version",
]
