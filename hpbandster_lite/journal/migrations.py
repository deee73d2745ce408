"""Journals of older schemas: how they are read, and how they are migrated to the newest schema.

Law of this file: a reader of an older journal writes nothing; it sees the tables of the newest schema through temporary
views. The first master that opens an older journal migrates it: it syncs a copy beside the journal, then one
transaction changes the tables, the texts of entries and the schema number. No entry changes its position or its time.
A kill at any point leaves either the old or the migrated journal.
:func:`~hpbandster_lite.journal.schema.check_schema` refuses a newer journal.

If you change the meaning of the tables or the entries, raise ``SCHEMA`` and add two things for the schema before, in a
file like ``schema_1.py``: the statements that migrate its tables, and the views that show them as tables of the newest
schema. Update the views of all earlier schemas too. Policy: docs/decisions/0011-migrations.md.
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
"""For each older schema, the statements that migrate a journal to the next schema."""
VIEWS: Mapping[int, Sequence[str]] = {1: schema_1.VIEWS}
"""For each older schema, the statements that show a journal as one of the newest schema."""
MIGRATION_TRIES = 10
"""Most attempts at a migration; an attempt fails if another process has written since its copy was made."""

log = logging.getLogger(__name__)


def schema_of(connection: sqlite3.Connection) -> int:
    """The schema number of an open journal."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def copy_of(path: Path, schema: int) -> Path:
    """Path of the copy that is made before a journal is migrated from a schema."""
    return path.with_name(f"{path.stem}.schema-{schema}{path.suffix}")


def show_as_newest(connection: sqlite3.Connection, schema: int) -> None:
    """Make this connection's queries see the tables of the newest schema; the file does not change."""
    # In memory: by default a temporary database is a file, which needs space on the disk.
    connection.execute("PRAGMA temp_store = MEMORY")
    _add_functions(connection)
    for statement in VIEWS[schema]:
        connection.execute(statement)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate an open journal to the newest schema, if it has an older one.

    Parameters
    ----------
    connection
        A connection for writing, without an open transaction.
    path
        The journal's file; :func:`copy_of` is the path of the copy.

    Raises
    ------
    JournalError
        If the copy or the journal cannot be written; the journal is unchanged.
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
    """Try to migrate; False if another process has written between the copy and the transaction."""
    copy, before = copy_of(path, schema), _data_version(connection)
    copy_database(connection, copy, "free space or allow this user to write there: a migration requires this copy")
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
            # SQLite rolls back after some errors but not after others.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    log.info("migrated the journal %s from schema %d to %d; its copy: %s", path, schema, SCHEMA, copy)
    _remove_unfinished_copies(copy)
    return True


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that changes when another connection commits."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def _remove_unfinished_copies(copy: Path) -> None:
    """Remove the incomplete copies of processes that were killed."""
    for half in copy.parent.glob(f".{copy.name}.*"):
        with suppress(OSError):
            half.unlink()


def _add_functions(connection: sqlite3.Connection) -> None:
    connection.create_function("finish_kind_of", 1, schema_1.finish_kind_of, deterministic=True)
    connection.create_function("entry_of_schema_2", 1, schema_1.entry_of_schema_2, deterministic=True)
