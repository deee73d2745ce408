"""The file of the incumbent agrees with the journal, and has no test figures of another model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.serving import hold_run_directory
from hpbandster_lite.results.incumbent import (
    FILE_NAME,
    SavedIncumbent,
    current_incumbent,
    refresh_incumbent,
    write_incumbent,
)
from hpbandster_lite.rundir import RunDirectory
from tests.recorded.runs import recorded_run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A search that was stopped, with an incumbent."""
    return recorded_run(1, "stopped", tmp_path)


def file_of(run: RunDirectory) -> Path:
    return run.path / FILE_NAME


def incumbent_of(run: RunDirectory) -> SavedIncumbent:
    incumbent = current_incumbent(run)
    assert incumbent is not None
    return incumbent


def saved(run: RunDirectory, **changed: Any) -> None:
    """Write the file as an earlier end of the search does."""
    file_of(run).write_text(json.dumps({**incumbent_of(run), **changed}))


@pytest.mark.parametrize("changed", [{"rung": 7, "loss": 9.0}, {"loss": 9.0}, {"run_id": "other"}, {"values": {}}])
def test_the_file_of_an_earlier_incumbent_is_written_anew_without_its_test_figures(
    changed: dict[str, Any], run: RunDirectory
) -> None:
    saved(run, test={"error": 1.0}, **changed)
    directory_of_a_search(run.path)
    assert json.loads(file_of(run).read_text()) == incumbent_of(run)
    assert incumbent_of(run)["test"] is None


def test_test_figures_of_the_same_model_stay(run: RunDirectory) -> None:
    saved(run, test={"error": 1.0})
    refresh_incumbent(run)
    assert incumbent_of(run)["test"] == {"error": 1.0}
    assert json.loads(file_of(run).read_text())["test"] == {"error": 1.0}


def test_a_file_that_has_the_incumbent_already_is_not_written_again(run: RunDirectory) -> None:
    write_incumbent(run, incumbent_of(run))
    before = file_of(run).stat()
    write_incumbent(run, incumbent_of(run))
    refresh_incumbent(run)
    after = file_of(run).stat()
    # A reading alone changes the time of the last access.
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_that_is_not_there_yet_is_written_at_an_end_alone(run: RunDirectory) -> None:
    file_of(run).unlink(missing_ok=True)
    refresh_incumbent(run)
    assert not file_of(run).exists()
    refresh_incumbent(run, create=True)
    assert json.loads(file_of(run).read_text()) == incumbent_of(run)


def test_the_incumbent_of_an_earlier_search_goes_when_the_new_one_has_no_loss(
    run: RunDirectory, tmp_path: Path
) -> None:
    saved(run)
    with Journal.open(run.journal) as journal:
        settings = journal.settings
    for file in run.path.glob("journal.*"):
        file.unlink()
    Journal.open(run.journal, create=settings).close()
    refresh_incumbent(run)
    assert not file_of(run).exists()


@pytest.mark.parametrize("text", ["my notes", "[1]", '{"mine": 1}'])
def test_a_file_that_no_search_wrote_stays(text: str, run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    file_of(run).write_text(text)
    refresh_incumbent(run, create=True)
    with caplog.at_level(logging.WARNING):
        write_incumbent(run, incumbent_of(run))
    assert file_of(run).read_text() == text
    assert "was not written by a search" in caplog.text


def test_a_directory_of_that_name_stays_and_is_no_error(run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    incumbent = incumbent_of(run)
    file_of(run).unlink(missing_ok=True)
    file_of(run).mkdir()
    assert incumbent_of(run) == incumbent
    refresh_incumbent(run, create=True)
    write_incumbent(run, incumbent)
    assert file_of(run).is_dir()
    assert "was not written by a search" in caplog.text


@pytest.mark.parametrize("test", ["0.1", [0.1], 3], ids=["text", "list", "number"])
def test_test_figures_that_are_none_are_not_shown(test: object, run: RunDirectory) -> None:
    saved(run, test=test)
    assert incumbent_of(run)["test"] is None


def test_while_a_master_serves_the_file_is_the_business_of_its_end(run: RunDirectory) -> None:
    saved(run, loss=9.0)
    with hold_run_directory(run):
        directory_of_a_search(run.path)
        assert json.loads(file_of(run).read_text())["loss"] == 9.0
