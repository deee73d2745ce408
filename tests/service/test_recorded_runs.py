"""Searches of an earlier version continue, and nothing in their run directories is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpbandster_lite.cli.app import make_app
from hpbandster_lite.journal import SCHEMA, JournalReader
from hpbandster_lite.journal.migrations import copy_of
from hpbandster_lite.records import ConfigId, Entry, EvaluationId, FinishKind, PutBack, Recorded, Released, Resumed
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory
from tests.recorded.runs import RUNS, folder_of, recorded_run

pytestmark = pytest.mark.timeout(180)

DEADLINE_S = 90.0
LOSS = 2.0188737500472764
"""The evaluation of the result in ``reports/``."""
EDITED = "--accept-edited-source"
"""The problems' files got type hints after the runs were recorded: an edit by the hash that these journals have."""
SCHEMAS = pytest.mark.parametrize("schema", [schema for schema in RUNS if schema < SCHEMA])


def command(
    *words: str, place: Path, schema: int, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(folder_of(schema)), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=place,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def hpbandster_lite(*words: str, place: Path, schema: int) -> str:
    process = command("-m", "hpbandster_lite", *words, place=place, schema=schema)
    output = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 0, output
    return output


def ask(run: RunDirectory) -> None:
    """Ask what is in a run directory, by each command that reads it; in this process, which is quicker."""
    for question in ("status", "best", "list", "verify"):
        asked = CliRunner().invoke(make_app(), [question, str(run.path)], catch_exceptions=False)
        assert asked.exit_code == 0, asked.output


def entries_of(run: RunDirectory) -> Sequence[tuple[int, float, Entry]]:
    return list(JournalReader(run.journal).entries())


def check_continued(run: RunDirectory, before: Sequence[tuple[int, float, Entry]]) -> Sequence[Entry]:
    """Check that the search was migrated and continued to its end; return the added entries."""
    after = entries_of(run)
    assert after[: len(before)] == before
    assert copy_of(run.journal, 1).exists()
    assert run.journal.read_bytes()[60:64] == SCHEMA.to_bytes(4, "big")
    verification = verify_run(run)
    assert verification.holds, verification.summary
    finished = JournalReader(run.journal).finished()
    assert finished is not None
    assert not finished.kind.was_stopped
    return [entry for _, _, entry in after[len(before) :]]


@SCHEMAS
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("complete", ("counting_ones", "--in-agent", "--brackets", "2", "--budgets", "1,3", "--seed", "1")),
        ("limit", ("small_problem", "--evaluations", "10", "--seed", "2", EDITED)),
        ("limit", ("limit/search.toml", "--evaluations", "10", EDITED)),
        ("stopped", ("small_problem", "--brackets", "4", "--seed", "4", EDITED)),
        ("killed", ("small_problem", "--brackets", "1", "--seed", "6", EDITED)),
    ],
    ids=["complete", "limit", "limit, by its search file", "stopped", "killed"],
)
def test_a_search_of_an_earlier_version_goes_on(
    name: str, words: tuple[str, ...], schema: int, tmp_path: Path
) -> None:
    run = recorded_run(schema, name, tmp_path)
    before = entries_of(run)
    ask(run)
    hpbandster_lite("run", *words, "-w", "1", "--run-dir", name, "--no-progress", place=tmp_path, schema=schema)
    added = check_continued(run, before)
    assert any(isinstance(entry, Recorded) for entry in added)
    ask(run)


@SCHEMAS
def test_results_that_no_master_had_confirmed_count(schema: int, tmp_path: Path) -> None:
    run = recorded_run(schema, "killed", tmp_path)
    (report,), (release,) = run.left_reports(), run.left_releases()
    before = entries_of(run)
    words = ("run", "small_problem", "--brackets", "1", "--seed", "6", EDITED, "-w", "1", "--no-progress")
    hpbandster_lite(*words, "--run-dir", "killed", place=tmp_path, schema=schema)
    added = check_continued(run, before)

    assert not report.exists()
    assert not release.exists()
    evaluation = EvaluationId(ConfigId(0, 0, 8), 0)
    assert report.name == f"{evaluation}-1.json"
    (recorded,) = [entry for entry in added if isinstance(entry, Recorded) and entry.evaluation == evaluation]
    assert recorded.outcome.loss == LOSS
    assert any(isinstance(entry, Released) for entry in added)


@SCHEMAS
def test_failures_of_a_search_that_was_stopped_for_them_run_again(schema: int, tmp_path: Path) -> None:
    run = recorded_run(schema, "same_fault", tmp_path)
    before = entries_of(run)
    words = ("run", "small_problem", "--brackets", "1", "--seed", "3", "--retry-failed", "-w", "1", "--no-progress")
    hpbandster_lite(*words, "--run-dir", "same_fault", place=tmp_path, schema=schema)

    added = check_continued(run, before)
    assert sum(isinstance(entry, PutBack) for entry in added) == 3
    assert JournalReader(run.journal).failures() == {}


@SCHEMAS
def test_a_search_that_was_paused_stays_so_until_it_is_resumed(schema: int, tmp_path: Path) -> None:
    run = recorded_run(schema, "paused", tmp_path)
    before = entries_of(run)
    words = ("run", "small_problem", "--brackets", "4", "--seed", "5", EDITED, "-w", "1", "--no-progress")
    process = command("-m", "hpbandster_lite", *words, "--run-dir", "paused", place=tmp_path, schema=schema)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline and process.poll() is None:
            resume = command("-m", "hpbandster_lite", "resume", "paused", place=tmp_path, schema=schema)
            resume.communicate(timeout=DEADLINE_S)
            if resume.returncode == 0:
                break
        output = process.communicate(timeout=DEADLINE_S)[0]
        assert process.returncode == 0, output
    finally:
        process.kill()
        process.wait()
    added = check_continued(run, before)
    assert any(isinstance(entry, Resumed) for entry in added)


@SCHEMAS
def test_a_script_goes_on_with_its_search(schema: int, tmp_path: Path) -> None:
    run = recorded_run(schema, "minimize", tmp_path / "runs")
    before = entries_of(run)
    script = (folder_of(schema) / "mini.py").read_text()
    (tmp_path / "mini.py").write_text(script.replace("evaluations=12", "evaluations=14"))
    process = command("mini.py", place=tmp_path, schema=schema)
    output = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 0, output

    check_continued(run, before)
    assert "14 evaluations" in output
    finished = JournalReader(run.journal).finished()
    assert finished is not None
    assert finished.kind is FinishKind.LIMIT


@SCHEMAS
def test_a_refit_of_an_earlier_version_is_shown_and_not_trained_again(schema: int, tmp_path: Path) -> None:
    run = recorded_run(schema, "limit", tmp_path)
    (file,) = (run.path / "refit").glob("*/refit.json")
    before = file.read_bytes()
    output = hpbandster_lite("refit", "limit", place=tmp_path, schema=schema)

    assert "0.25" in output
    assert file.read_bytes() == before
