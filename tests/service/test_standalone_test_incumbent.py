"""The incumbent's file has the test figures of its own model, which are measured once a search."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import ProblemDescription
from hpbandster_lite.results.incumbent import current_incumbent, read_incumbent
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.standalone.test_incumbent import save_tested_incumbent
from tests.engine_room import settings_for, space_of
from tests.service.local_search import LocalSearchProcess

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[LocalSearchProcess, str]:
    """A finished search, and its output."""
    search = LocalSearchProcess(tmp_path_factory.mktemp("finished"))
    return search, search.run()


@pytest.fixture
def search(finished: tuple[LocalSearchProcess, str]) -> Iterator[LocalSearchProcess]:
    """The finished search, as it was when it ended."""
    done, _ = finished
    kept = (done.directory.path / "incumbent.json").read_text()
    tested = (done.place / "tested").read_text()
    yield done
    (done.directory.path / "incumbent.json").write_text(kept)
    (done.place / "tested").write_text(tested)
    (done.place / "test fails").unlink(missing_ok=True)


def about(search: LocalSearchProcess) -> ProblemDescription:
    return JournalReader(search.directory.journal).settings().problem


def untested(search: LocalSearchProcess) -> None:
    """Restore the state in which the search has ended and its model is not tested yet."""
    file = search.directory.path / "incumbent.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "test": None}))


def models_tested(search: LocalSearchProcess) -> list[str]:
    """Directories of the tested models."""
    return (search.place / "tested").read_text().split()


def test_the_incumbent_s_own_model_is_tested_once_when_the_search_is_over(
    finished: tuple[LocalSearchProcess, str],
) -> None:
    search, _ = finished
    kept = read_incumbent(search.directory)
    assert kept is not None
    best = JournalReader(search.directory.journal).best()
    assert best is not None
    assert (tuple(kept["config_id"]), kept["rung"], kept["loss"]) == (best["config_id"], best["rung"], best["loss"])
    assert (kept["budget"], kept["unit"], kept["problem"]) == (9.0, "steps", search.problem.stem)
    assert kept["values"].keys() == {"x", "n"}
    assert kept["directory"] is not None
    assert models_tested(search) == [str((search.directory.path / kept["directory"]).resolve())]
    assert kept["test"] == {"steps": 9}


def test_the_same_command_tests_nothing_again(search: LocalSearchProcess) -> None:
    before = read_incumbent(search.directory)
    search.run()
    assert read_incumbent(search.directory) == before
    assert len(models_tested(search)) == 1


def test_another_incumbent_is_tested_and_the_figures_of_the_old_one_are_not_its_own(
    search: LocalSearchProcess,
) -> None:
    file = search.directory.path / "incumbent.json"
    old = {**json.loads(file.read_text()), "config_id": [7, 0, 0], "test": {"steps": 1}}
    file.write_text(json.dumps(old))
    current = current_incumbent(search.directory)
    assert current is not None
    assert current["test"] is None
    saved = save_tested_incumbent(search.directory, about(search), pytest.fail)
    assert saved is not None
    assert saved["test"] == {"steps": 9}
    assert len(models_tested(search)) == 2


def test_a_test_that_fails_is_noted_and_is_not_fatal_and_is_tried_again(search: LocalSearchProcess) -> None:
    untested(search)
    (search.place / "test fails").touch()
    notes: list[str] = []
    saved = save_tested_incumbent(search.directory, about(search), notes.append)
    assert saved is not None
    assert saved["test"] is None
    (note,) = notes
    assert note.startswith("the incumbent could not be tested: ")
    assert "the test split is missing" in note
    (search.place / "test fails").unlink()
    saved = save_tested_incumbent(search.directory, about(search), pytest.fail)
    assert saved is not None
    assert saved["test"] == {"steps": 9}


def test_a_failing_test_does_not_fail_the_search(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, limits={"evaluations": 1})
    (tmp_path / "test fails").touch()
    assert "the incumbent could not be tested" in search.run(workers=1)
    kept = read_incumbent(search.directory)
    assert kept is not None
    assert kept["test"] is None


def test_a_checkpoint_that_was_deleted_is_a_test_that_fails(search: LocalSearchProcess, tmp_path: Path) -> None:
    copy = RunDirectory(tmp_path / "copy")
    shutil.copytree(search.directory.path, copy.path, ignore=shutil.ignore_patterns("evaluations", "incumbent.json"))
    notes: list[str] = []
    saved = save_tested_incumbent(copy, about(search), notes.append)
    assert saved is not None
    assert (saved["test"], len(notes)) == (None, 1)


def test_a_problem_that_is_gone_leaves_the_incumbent_untested_with_words(search: LocalSearchProcess) -> None:
    untested(search)
    notes: list[str] = []
    gone = replace(about(search), reference=str(search.place / "gone.py"))
    saved = save_tested_incumbent(search.directory, gone, notes.append)
    assert saved is not None
    assert saved["test"] is None
    assert "there is no file" in notes[0]


def test_a_trainer_that_dies_in_the_test_leaves_the_incumbent_untested_with_words(
    search: LocalSearchProcess, tmp_path: Path
) -> None:
    untested(search)
    file = tmp_path / "dies.py"
    file.write_text(
        "import os\nspace = None\ndef evaluate(config, budget, trial): ...\n"
        "def test(config, budget, trial):\n    os._exit(5)\n"
    )
    notes: list[str] = []
    saved = save_tested_incumbent(search.directory, replace(about(search), reference=str(file)), notes.append)
    assert saved is not None
    assert saved["test"] is None
    assert notes[0].startswith("the incumbent could not be tested: ")


def test_a_problem_without_a_test_has_none(search: LocalSearchProcess) -> None:
    untested(search)
    saved = save_tested_incumbent(search.directory, replace(about(search), has_test=False), pytest.fail)
    assert saved is not None
    assert saved["test"] is None
    assert len(models_tested(search)) == 1


def test_there_is_no_incumbent_before_there_is_a_loss(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    settings = settings_for(space_of())
    with Journal.open(directory.journal, create=settings):
        assert current_incumbent(directory) is None
        assert save_tested_incumbent(directory, settings.problem, pytest.fail) is None
    assert read_incumbent(directory) is None
