"""Journals of older schemas: how they are read, and how they become journals of the newest.

Law of this file: a reader of an older journal writes nothing; it sees the tables of the newest schema through temporary
views. The first master that opens an older journal migrates it: a copy is synced beside it, then one transaction
changes the tables and the texts of entries, and the schema number with them. No entry changes its position or its time.
A kill at any point leaves the journal before or the one after. A newer journal is refused by
:func:`~hpbandster_lite.journal.schema.check_schema`.

A change of what the tables or the entries mean raises ``SCHEMA`` and adds, in a separate file, two things for the
schema before: the statements that migrate its tables, and the views that show them as those of the newest schema. The
views of all earlier schemas follow. Policy: docs/decisions/0011-migrations.md.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal import schema_1
from hpbandster_lite.journal.copies import copy_database
from hpbandster_lite.journal.schema import SCHEMA, sqlite_errors_as_ours

MIGRATIONS: Mapping[int, Sequence[str]] = {1: schema_1.MIGRATION}
"""Statements that turn a journal of each older schema into one of the next."""
VIEWS: Mapping[int, Sequence[str]] = {1: schema_1.VIEWS}
"""Statements that show a journal of each older schema as one of the newest."""
MIGRATION_TRIES = 10
"""A migration starts again where another process has written since its copy was made."""

log = logging.getLogger(__name__)


def schema_of(connection: sqlite3.Connection) -> int:
    """The schema number of an open journal."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def copy_of(path: Path, schema: int) -> Path:
    """Where the copy of a journal lies that was made before it was migrated from a schema."""
    return path.with_name(f"{path.stem}.schema-{schema}{path.suffix}")


def show_as_newest(connection: sqlite3.Connection, schema: int) -> None:
    """Show this connection's questions the tables of the newest schema; the file stays as it is."""
    # A temporary database is a file by default, which a full disk would refuse.
    connection.execute("PRAGMA temp_store = MEMORY")
    _add_functions(connection)
    for statement in VIEWS[schema]:
        connection.execute(statement)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring an open journal to the newest schema; one that has it already stays as it is.

    Parameters
    ----------
    connection
        Open for writing, without a transaction.
    path
        The journal's file; the copy lies beside it: :func:`copy_of`.

    Raises
    ------
    JournalError
        If the copy or the journal cannot be written; the journal is as it was.
    """
    schema = schema_of(connection)
    for _ in range(MIGRATION_TRIES):
        if schema == SCHEMA or _is_migrated(connection, path, schema):
            return
        schema = schema_of(connection)
    raise JournalError(
        f"the journal {path} has schema {schema} and cannot be migrated to {SCHEMA} while another process writes to "
        "it; end the older master, then try again"
    )


def _is_migrated(connection: sqlite3.Connection, path: Path, schema: int) -> bool:
    """Whether the migration was made; False if another process wrote between its copy and its transaction."""
    copy, before = copy_of(path, schema), _data_version(connection)
    copy_database(connection, copy, "make room or give this user the right to write there; no copy, no migration")
    _add_functions(connection)
    with sqlite_errors_as_ours(path, f"migrate the journal from schema {schema} to {SCHEMA}"):
        try:
            connection.execute("BEGIN IMMEDIATE")
            if _data_version(connection) != before:
                return False
            for number in range(schema, SCHEMA):
                for statement in MIGRATIONS[number]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
        finally:
            # After some errors SQLite has rolled back already, after others it has not.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    log.info("migrated the journal %s from schema %d to %d; its copy: %s", path, schema, SCHEMA, copy)
    _remove_unfinished_copies(copy)
    return True


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection commits."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _remove_unfinished_copies(copy: Path) -> None:
    """Remove the parts of earlier copies that were killed."""
    for half in copy.parent.glob(f".{copy.name}.*"):
        with suppress(OSError):
            half.unlink()


def _add_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("finish_kind_of", 1, schema_1.finish_kind_of, deterministic=True)
    connection.create_function("entry_of_schema_2", 1, schema_1.entry_of_schema_2, deterministic=True)
