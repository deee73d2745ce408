"""Run directories of earlier versions give the same results before and after a master migrates them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import Finished, FinishKind, Started
from hpbandster_lite.results.incumbent import current_incumbent
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.results.result import Result
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory, hosts_of
from hpbandster_lite.settings.search_file import read_search_file
from tests.recorded.runs import RUNS, recorded_run

ALL = [(schema, name) for schema, names in RUNS.items() for name in names]
WITHOUT_LOSS = ("same_fault",)


@pytest.fixture(params=["unmigrated", "migrated"])
def is_migrated(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "migrated")


@pytest.fixture(params=ALL, ids=lambda each: f"schema {each[0]}, {each[1]}")
def run(request: pytest.FixtureRequest, is_migrated: bool, tmp_path: Path) -> RunDirectory:
    schema, name = request.param
    directory = recorded_run(schema, name, tmp_path)
    if is_migrated:
        Journal.open(directory.journal).close()
    return directory


def test_its_decisions_are_verified(run: RunDirectory) -> None:
    verification = verify_run(run)
    assert verification.holds, verification.summary
    assert verification.outcomes > 0


def test_its_edit_and_its_rule_for_one_fault_are_understood(tmp_path: Path) -> None:
    edited = recorded_run(2, "edited", tmp_path)
    sentence = "edited after 6 outcomes, another one from evaluation 0-0-6@0 on: net.py is another one"
    (edit,) = status_from_journal(JournalReader(edited.journal)).source_edits
    assert edit.sentence == sentence
    assert verify_run(edited).source_edits == (sentence,)
    one_fault = JournalReader(recorded_run(2, "one_fault", tmp_path).journal)
    entries = [entry for _, _, entry in one_fault.entries()]
    starts = [entry for entry in entries if isinstance(entry, Started)]
    assert [(each.first_faults_rule, each.keep_going) for each in starts] == [(2, False), (2, True), (2, False)]
    ends = [entry.kind for entry in entries if isinstance(entry, Finished)]
    assert ends == [FinishKind.SAME_FAULT, FinishKind.LIMIT, FinishKind.LIMIT]


def test_its_status_is_read(run: RunDirectory) -> None:
    status = status_from_journal(JournalReader(run.journal))
    assert status.evaluations.recorded > 0
    assert (status.paused == "lunch") == (run.path.name == "paused")


def test_its_evaluations_are_listed(run: RunDirectory) -> None:
    assert any(row["state"] in ("done", "failed") for row in JournalReader(run.journal).evaluations())


def test_its_incumbent_is_as_recorded_with_the_figures_of_its_test(run: RunDirectory) -> None:
    incumbent = current_incumbent(run)
    assert (incumbent is None) == (run.path.name in WITHOUT_LOSS)
    kept = run.path / "incumbent.json"
    if kept.exists():
        # Files of before searches could maximize.
        assert incumbent == {"maximize": False, **json.loads(kept.read_text())}


def test_its_refit_is_recorded(run: RunDirectory) -> None:
    for file in (run.path / "refit").glob("*/refit.json"):
        assert json.loads(file.read_text())["figures"] == {"model": "model.txt", "error": 0.25}
    assert (run.path / "refit").exists() == (run.path.name == "limit")


def test_its_endpoint_is_understood(run: RunDirectory) -> None:
    endpoint = run.read_endpoint()
    assert (endpoint is None) == (run.path.name != "killed")
    assert endpoint is None or hosts_of(endpoint) == ["127.0.0.1"]


def test_its_result_has_tables(run: RunDirectory) -> None:
    result = Result(run.path)
    assert len(result.evaluations) >= 3
    assert len(result.configurations) >= 3
    assert bool(result.trajectory) == (run.path.name not in WITHOUT_LOSS)


def test_its_search_file_is_understood(run: RunDirectory) -> None:
    found = read_search_file(run.path / "search.toml")
    assert found.values["seed"] == Result(run.path).settings.seed
