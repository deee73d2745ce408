"""Readers leave a journal of an older schema unchanged; the first master migrates it, also after an interruption."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal import SCHEMA, Journal, JournalReader, migrations, schema_1
from hpbandster_lite.journal import writer as writer_module
from hpbandster_lite.journal.copies import copy_database
from hpbandster_lite.journal.migrations import copy_of
from hpbandster_lite.journal.schema import OLDEST_SCHEMA
from hpbandster_lite.records import Finished, FinishKind
from tests.read_only import read_only
from tests.recorded.runs import RUNS, recorded_run

ENDS = {
    "complete": FinishKind.COMPLETE,
    "limit": FinishKind.LIMIT,
    "same_fault": FinishKind.SAME_FAULT,
    "stopped": FinishKind.STOPPED,
    "paused": None,
    "killed": None,
    "minimize": FinishKind.LIMIT,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of a stopped search in schema 1."""
    return recorded_run(1, "stopped", tmp_path).journal


def schema_in(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def raw_entries(path: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT position, at, entry FROM entries ORDER BY position").fetchall()


def answers(path: Path) -> list[Any]:
    """The answers of a reader to every query."""
    reader = JournalReader(path)
    return [
        reader.settings(),
        reader.limits(),
        reader.finished(),
        reader.paused(),
        reader.masters(),
        reader.configurations(),
        reader.evaluations(),
        reader.rungs(),
        reader.failures(),
        reader.seconds_taken(),
        reader.configuration_count(),
        reader.budget_started(),
        reader.shrunk_rungs(),
        reader.promotions(),
        reader.best(),
        reader.endings(),
        reader.outcomes(),
        list(reader.entries()),
    ]


# ----------------------------------------------------------------------------------------------------------- readers


def test_every_older_schema_has_its_migration_its_views_and_recorded_runs() -> None:
    older = set(range(OLDEST_SCHEMA, SCHEMA))
    assert set(migrations.MIGRATIONS) == set(migrations.VIEWS) == older
    assert set(RUNS) == older | {SCHEMA}


@pytest.mark.parametrize(("name", "kind"), ENDS.items())
def test_a_reader_of_an_older_journal_says_how_its_search_ended_and_writes_nothing(
    name: str, kind: FinishKind | None, tmp_path: Path
) -> None:
    directory = recorded_run(1, name, tmp_path)
    before = {file: file.read_bytes() for file in directory.path.iterdir() if file.name.startswith("journal.sqlite")}
    finished = JournalReader(directory.journal).finished()

    assert (None if finished is None else finished.kind) is kind
    ends = [entry for _, _, entry in JournalReader(directory.journal).entries() if isinstance(entry, Finished)]
    assert [entry.kind for entry in ends] == ([] if kind is None else [kind])
    assert schema_in(directory.journal) == 1
    # The shared memory beside a log holds no data.
    after = {file: file.read_bytes() for file in before if not file.name.endswith("-shm")}
    assert after.items() <= before.items()
    assert not copy_of(directory.journal, 1).exists()


@pytest.mark.parametrize("name", ENDS)
def test_a_migrated_journal_answers_every_question_as_before(name: str, tmp_path: Path) -> None:
    path = recorded_run(1, name, tmp_path).journal
    before, entries = answers(path), raw_entries(path)
    Journal.open(path).close()

    assert schema_in(path) == SCHEMA
    assert answers(path) == before
    assert [(position, at) for position, at, _ in raw_entries(path)] == [(position, at) for position, at, _ in entries]
    assert answers(copy_of(path, 1)) == before
    assert schema_in(copy_of(path, 1)) == 1


def test_a_journal_whose_texts_have_spaces_is_read_and_migrated_like_one_without(path: Path) -> None:
    """Early masters of schema 1 wrote a space after each comma and colon."""
    late = {"type": "LateReport", "evaluation": [[0, 0, 0], 0], "attempt": 1, "agent": "a", "outcome": {"loss": 1.0}}
    shrunk = {"type": "RungShrunk", "bracket": 0, "rung": 1, "places": 2}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT position, entry FROM entries").fetchall()
        spaced = [(json.dumps(json.loads(text)), position) for position, text in rows]
        connection.executemany("UPDATE entries SET entry = ? WHERE position = ?", spaced)
        added = [(len(rows) + number, json.dumps(entry)) for number, entry in enumerate((late, shrunk), 1)]
        connection.executemany("INSERT INTO entries VALUES (?, 1.0, ?)", added)
        connection.commit()
    before = answers(path)
    Journal.open(path).close()

    assert answers(path) == before
    assert JournalReader(path).shrunk_rungs()[0, 1] == 2


def test_a_migrated_journal_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    with Journal.open(path) as journal, Journal.open(tmp_path / "new.sqlite", create=journal.settings) as new:
        for table in ("search", "masters", "entries", "configurations", "evaluations"):
            old, fresh = (
                {row[1:] for row in each._connection.execute(f"PRAGMA table_info({table})")} for each in (journal, new)
            )
            assert old == fresh, table


def test_a_reader_that_began_before_the_migration_reads_on(path: Path) -> None:
    before = answers(path)
    reader = JournalReader(path)
    half_read = reader.entries()
    first = next(half_read)
    Journal.open(path).close()

    assert [first, *half_read] == before[-1]
    assert reader.finished() == before[2]


def test_a_question_during_which_the_journal_is_migrated_is_answered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, before = JournalReader(path), JournalReader(path).finished()
    show = migrations.show_as_newest

    def show_then_migrate(connection: sqlite3.Connection, schema: int) -> None:
        show(connection, schema)
        Journal.open(path).close()

    monkeypatch.setattr("hpbandster_lite.journal.reader.show_as_newest", show_then_migrate)
    assert reader.finished() == before
    assert schema_in(path) == SCHEMA


def test_a_group_of_questions_during_which_the_journal_is_migrated_is_answered(path: Path) -> None:
    reader, before = JournalReader(path), answers(path)
    with reader.group():
        limits, finished = reader.limits(), reader.finished()
        Journal.open(path).close()
        assert (reader.limits(), reader.finished()) == (limits, finished)
    assert schema_in(path) == SCHEMA
    assert answers(path) == before


@pytest.mark.parametrize("network", [None, "nfs4"], ids=["write-ahead log", "rollback journal"])
def test_a_reader_reads_on_while_a_migration_is_under_way(
    path: Path, network: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answers(path)
    seen: list[bool] = []
    function = schema_1.entry_of_schema_2

    def entry_of_schema_2(text: str) -> str:
        seen.append(answers(path) == before)
        return function(text)

    monkeypatch.setattr(writer_module, "network_type", lambda path: network)
    monkeypatch.setattr(migrations, "_add_functions", add_with(entry_of_schema_2))
    Journal.open(path).close()

    assert seen[0]
    assert schema_in(path) == SCHEMA


def add_with(function: Callable[[str], str]) -> Callable[[sqlite3.Connection], None]:
    is_first = [True]

    def add(connection: sqlite3.Connection) -> None:
        # The first connection is the master's; connections of readers in the middle have the usual functions.
        connection.create_function("finish_kind_of", 1, schema_1.finish_kind_of)
        entry_of = function if is_first[0] else schema_1.entry_of_schema_2
        connection.create_function("entry_of_schema_2", 1, entry_of)
        is_first[0] = False

    return add


# ----------------------------------------------------------------------------------------------------------- faults


def migrate_until(path: Path, step: int, end: Callable[[], None]) -> bool:
    """Open the journal, and call ``end`` at one step of its migration; False if the migration has fewer steps."""
    left = [step]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            end()

    with pytest.MonkeyPatch.context() as patch:
        # Each statement, each sync and each renaming is a step.
        connect = sqlite3.connect

        def traced(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.set_trace_callback(count)
            return connection

        patch.setattr(sqlite3, "connect", traced)
        for owner, name in ((os, "fsync"), (Path, "replace")):
            patch.setattr(owner, name, counted(getattr(owner, name), count))
        Journal.open(path).close()
    return left[0] < 0


def counted(function: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    def counting(*args: Any, **options: Any) -> Any:
        count()
        return function(*args, **options)

    return counting


def killed_at(path: Path, step: int) -> bool:
    """Kill a process at one step of the migration; False if the migration was complete before."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            migrate_until(path, step, lambda: os._exit(9))
            os._exit(0)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("name", ["stopped", "killed"])
def test_a_kill_at_any_step_of_a_migration_leaves_a_journal_that_opens(name: str, tmp_path: Path) -> None:
    original = recorded_run(1, name, tmp_path)
    before, step, schemas = answers(original.journal), 0, set()
    while True:
        path = tmp_path / f"step{step}" / "journal.sqlite"
        path.parent.mkdir()
        for file in original.path.glob("journal.sqlite*"):
            shutil.copy(file, path.parent)
        was_killed = killed_at(path, step)
        assert answers(path) == before, step
        schemas.add(schema_in(path))
        if copy_of(path, 1).exists():
            assert answers(copy_of(path, 1)) == before, step
        assert schema_in(path) == 1 or copy_of(path, 1).exists(), "no migration without a copy"
        with Journal.open(path) as journal:
            journal.begin_epoch()
            assert schema_in(path) == SCHEMA
        assert answers(path)[-1] == before[-1], step
        assert not list(path.parent.glob(".journal*")), "a copy that a kill left unfinished is removed"
        if not was_killed:
            break
        step += 1
    assert step > 12
    assert schemas == {1, SCHEMA}


def test_an_error_at_any_step_leaves_the_journal_as_it_was_and_the_next_try_succeeds(path: Path) -> None:
    before = answers(path)
    for step in range(5):
        with pytest.MonkeyPatch.context() as patch:
            left = [step]

            def count(*_: object, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == -1:
                    raise OSError(28, "No space left on device")

            for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "chmod")):
                patch.setattr(owner, name, counted(getattr(owner, name), count))
            if step == 4:
                Journal.open(path).close()
                break
            with pytest.raises(JournalError, match=r"cannot write the copy .*No space left.*free space"):
                Journal.open(path)
        assert schema_in(path) == 1
        assert answers(path) == before
    assert schema_in(path) == SCHEMA


def test_a_full_disk_refuses_the_copy_and_leaves_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, connect = answers(path), sqlite3.connect

    def small(target: Any, *args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(target, *args, **options)
        if "schema-1" in str(target):
            # The copy may have three pages: beyond them SQLite reports a full disk.
            connection.execute("PRAGMA max_page_count = 3")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(JournalError, match="database or disk is full; free space"):
        Journal.open(path)
    assert answers(path) == before
    assert not copy_of(path, 1).exists()


def test_a_disk_that_is_full_after_the_copy_leaves_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(path)
    fill = ("CREATE TABLE filler (text)", "INSERT INTO filler VALUES (zeroblob(1000000000))")
    monkeypatch.setattr(migrations, "MIGRATIONS", {1: (*migrations.MIGRATIONS[1], "PRAGMA max_page_count = 1", *fill)})
    with pytest.raises(JournalError, match=r"cannot migrate the journal from schema 1 to 2: .*full; free space"):
        Journal.open(path)
    assert answers(path) == before
    assert schema_in(path) == 1
    assert answers(copy_of(path, 1)) == before


def test_a_directory_that_may_not_be_written_is_read_and_not_migrated(path: Path) -> None:
    before = answers(path)
    with read_only(path.parent):
        assert answers(path) == before
        with pytest.raises(JournalError, match=r"allow this user to write"):
            Journal.open(path)
    assert schema_in(path) == 1
    assert answers(path) == before


def test_a_copy_that_cannot_be_written_leaves_the_journal(path: Path) -> None:
    before = answers(path)
    copy_of(path, 1).mkdir()
    with pytest.raises(JournalError, match=r"cannot write the copy .*schema-1.*allow this user to write there"):
        Journal.open(path)
    assert answers(path) == before


def test_a_master_that_writes_between_copy_and_migration_is_in_the_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []

    def copy_then_write(connection: sqlite3.Connection, target: Path, remedy: str) -> int:
        count = copy_database(connection, target, remedy)
        if not times:
            with contextlib.closing(sqlite3.connect(path)) as other:
                other.execute("INSERT INTO entries SELECT max(position) + 1, 9, '{\"type\":\"Resumed\"}' FROM entries")
                other.commit()
        times.append(count)
        return count

    monkeypatch.setattr(migrations, "copy_database", copy_then_write)
    Journal.open(path).close()

    assert times[1] == times[0] + 1
    assert answers(copy_of(path, 1)) == answers(path)


def test_a_master_that_never_stops_writing_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    monkeypatch.setattr(migrations, "_data_version", lambda connection: next(numbers))
    with pytest.raises(JournalError, match=r"has schema 1 and cannot be migrated to 2 .*end the older master"):
        Journal.open(path)
    assert schema_in(path) == 1


def test_a_master_of_the_older_schema_cannot_end_the_search_after_the_migration(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as older:
        older.execute("SELECT finished FROM search").fetchone()
        Journal.open(path).close()
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            older.execute("UPDATE search SET finished = 'all 2 brackets are complete'")


def test_a_journal_of_the_newest_schema_is_opened_without_a_copy(path: Path) -> None:
    Journal.open(path).close()
    copy_of(path, 1).unlink()
    Journal.open(path).close()

    assert [file.name for file in path.parent.glob("*.sqlite")] == ["journal.sqlite"]


@pytest.fixture
def damaged(path: Path) -> Path:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE entries SET entry = '{\"type\":\"Finished\"' WHERE position = 5")
        connection.commit()
    return path


def test_a_damaged_entry_is_kept_by_the_migration_and_refused_by_its_position(damaged: Path) -> None:
    with pytest.raises(JournalError, match="entry 5"):
        list(JournalReader(damaged).entries())
    Journal.open(damaged).close()
    with pytest.raises(JournalError, match="entry 5"):
        list(JournalReader(damaged).entries())
