"""A copy of a journal that is being written is a whole journal of one moment, in one file."""

from __future__ import annotations

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


def test_a_place_that_cannot_be_written_is_named(directory: RunDirectory, tmp_path: Path) -> None:
    Journal.open(directory.journal, create=settings_for(space_of())).close()
    with pytest.raises(JournalError, match="nowhere"):
        JournalReader(directory.journal).copy_to(tmp_path / "nowhere" / "copy.sqlite")
