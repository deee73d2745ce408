"""A copy of a journal in use is a whole journal of one moment, in one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpbandster_lite.cli.commands.backup import backup
from hpbandster_lite.errors import JournalError, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import Paused, Resumed
from hpbandster_lite.rundir import RunDirectory
from tests.engine_room import settings_for, space_of


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "run")
    made.create()
    return made


def test_a_copy_holds_what_was_committed_also_what_only_the_log_has(directory: RunDirectory, tmp_path: Path) -> None:
    copy = tmp_path / "copy.sqlite"
    with Journal.open(directory.journal, create=settings_for(space_of())) as journal:
        journal.begin_epoch()
        journal.commit([Paused(reason="x"), Resumed()], at=1.0)
        assert JournalReader(directory.journal).copy_to(copy) == 2
        journal.commit([Paused(reason="y")], at=2.0)
        assert [entry for _, _, entry in JournalReader(copy).entries()] == [Paused(reason="x"), Resumed()]
        assert JournalReader(directory.journal).copy_to(copy) == 3
    assert copy.stat().st_mode & 0o777 == 0o600
    assert {each.name for each in tmp_path.iterdir()} == {"run", "copy.sqlite"}


def test_a_search_goes_on_from_a_copy(directory: RunDirectory, tmp_path: Path) -> None:
    settings = settings_for(space_of())
    copy = tmp_path / "journal.sqlite"
    with Journal.open(directory.journal, create=settings):
        JournalReader(directory.journal).copy_to(copy)
    with Journal.open(copy, create=settings) as journal:
        assert journal.settings == settings


def test_a_copy_into_a_folder_has_the_journal_s_name(
    directory: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal.open(directory.journal, create=settings_for(space_of())):
        backup(directory.path, tmp_path)
    assert (tmp_path / "journal.sqlite").exists()
    assert capsys.readouterr().out == f"0 entries copied to {tmp_path / 'journal.sqlite'}\n"


def test_the_journal_is_not_copied_onto_itself(directory: RunDirectory) -> None:
    Journal.open(directory.journal, create=settings_for(space_of())).close()
    with pytest.raises(UsageError, match="is the journal itself"):
        backup(directory.path, directory.journal)


@pytest.fixture
def searched(directory: RunDirectory) -> RunDirectory:
    with Journal.open(directory.journal, create=settings_for(space_of())) as journal:
        journal.begin_epoch()
        journal.commit([Paused(reason="x"), Resumed()], at=1.0)
    return directory


def go_on(directory: RunDirectory, at: float) -> None:
    with Journal.open(directory.journal) as journal:
        journal.begin_epoch()
        journal.commit([Paused(reason="more")], at=at)


def test_a_later_backup_replaces_the_earlier_one(searched: RunDirectory, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    for at in (2.0, 3.0, 4.0):
        backup(searched.path, target)
        go_on(searched, at)
    backup(searched.path, target)
    assert len(list(JournalReader(target).entries())) == 5


def another_search(searched: RunDirectory, target: Path) -> None:
    with Journal.open(target, create=settings_for(space_of())) as journal:
        journal.begin_epoch()
        journal.commit([Paused(reason="x"), Resumed()], at=1.0)


def a_search_that_went_on_from_a_backup(searched: RunDirectory, target: Path) -> None:
    JournalReader(searched.journal).copy_to(target)
    with Journal.open(target) as journal:
        journal.begin_epoch()
        journal.commit([Paused(reason="elsewhere")], at=9.0)


def notes(searched: RunDirectory, target: Path) -> None:
    target.write_text("notes")


@pytest.mark.parametrize("there", [another_search, a_search_that_went_on_from_a_backup, notes])
def test_a_file_that_no_backup_of_this_journal_made_is_replaced_only_by_force(
    there: Callable[[RunDirectory, Path], None], searched: RunDirectory, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    there(searched, target)
    go_on(searched, 5.0)
    before = target.read_bytes()
    with pytest.raises(UsageError, match="was not made by this command; give another name, or replace it with --force"):
        backup(searched.path, target)
    assert target.read_bytes() == before
    backup(searched.path, target, force=True)
    assert len(list(JournalReader(target).entries())) == 3


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_sqlite_keeps_beside_the_journal_is_never_replaced(suffix: str, searched: RunDirectory) -> None:
    with pytest.raises(UsageError, match="is the journal itself"):
        backup(searched.path, searched.journal.with_name(searched.journal.name + suffix), force=True)


def test_a_device_or_a_pipe_is_never_replaced(searched: RunDirectory, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is not a plain file"):
        backup(searched.path, tmp_path / "pipe", force=True)


def test_a_link_stays_and_the_file_that_it_names_is_written(searched: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "copy.sqlite")
    backup(searched.path, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(list(JournalReader(tmp_path / "copy.sqlite").entries())) == 2


def test_the_copy_from_before_a_migration_is_not_replaced(searched: RunDirectory) -> None:
    kept = searched.path / "journal.schema-1.sqlite"
    JournalReader(searched.journal).copy_to(kept)
    with pytest.raises(UsageError, match="--force"):
        backup(searched.path, kept)


def test_a_place_that_cannot_be_written_is_named(directory: RunDirectory, tmp_path: Path) -> None:
    Journal.open(directory.journal, create=settings_for(space_of())).close()
    with pytest.raises(JournalError, match="nowhere"):
        JournalReader(directory.journal).copy_to(tmp_path / "nowhere" / "copy.sqlite")
