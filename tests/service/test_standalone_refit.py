"""From a search to a model in a file: trained in a separate process, continued after a kill, never repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpbandster_lite.api import minimize
from hpbandster_lite.cli.app import make_app
from hpbandster_lite.errors import BudgetError, Held, ProblemError, ResumeError, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.randomness import training_seed
from hpbandster_lite.records import ConfigId, Failure, FailureKind, ProblemDescription, ProblemSource
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.standalone.refit import Refit, RefitOptions, lock_directory, prepare_refit, run_refit
from tests.engine_room import settings_for, space_of
from tests.service import optional_problem

pytestmark = pytest.mark.timeout(120)
PROBLEM = optional_problem.__file__ or ""
LONGEST_S = 60.0
FIRST = ConfigId(0, 0, 0)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "hpbandster_lite", "refit", *map(str, arguments)]


def typed(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=LONGEST_S, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A search of three evaluations, run in threads of this process."""
    path = tmp_path_factory.mktemp("searched") / "run"
    minimize(f"{PROBLEM}?kind=steep", isolation="none", run_dir=path, workers=1, seed=1, evaluations=3)
    return RunDirectory(path)


@pytest.fixture
def described(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> ProblemDescription:
    """The problem of the search, described without a process, so that the tests of refusals stay fast."""
    about = JournalReader(run.journal).settings().problem
    monkeypatch.setattr("hpbandster_lite.standalone.refit.describe_in_child", lambda reference: about)
    return about


def prepared(run: RunDirectory, **options: Any) -> Refit:
    return prepare_refit(run, RefitOptions(**options))


# ------------------------------------------------------------------------------------------------------------ training


def test_the_incumbent_is_trained_at_the_largest_budget_and_exported_and_not_trained_again(
    run: RunDirectory, tmp_path: Path
) -> None:
    out, exported = tmp_path / "out", tmp_path / "new" / "model.txt"
    ran = typed(run.path, "--out", out, "--data", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "1 of 9 steps: loss 1, kind=steep\n" in ran.stdout
    assert "9 of 9 steps: loss 0.111111, kind=steep\n" in ran.stdout
    assert f"the model: {out / 'model.json'}; its figures: {out / 'refit.json'}" in ran.stdout
    kept = json.loads((out / "refit.json").read_text())
    best = JournalReader(run.journal).best()
    assert best is not None
    assert kept["config_id"] == list(best["config_id"])
    assert kept["budget"] == 9.0
    figures = kept["figures"]
    assert (figures["test_error_interval"], figures["kind"], figures["data"]) == ([4.0, 5.0], "steep", str(tmp_path))
    assert figures["seed"] == training_seed(1, ConfigId(*best["config_id"]))
    assert len(json.loads((out / "model.json").read_text())) == 9
    assert (out / "log.txt").read_text().startswith("step 0\n")

    printed = tmp_path / "best.json"
    printed.write_text(CliRunner().invoke(make_app("best"), ["best", str(run.path), "--json"]).stdout)
    again = typed(printed, "--out", out, "--export", exported, "--json")
    assert again.returncode == 0, again.stderr
    assert "done before" in again.stderr
    written = json.loads(again.stdout)
    assert written["figures"] == figures
    assert written["exports"] == {str(exported): {"largest_difference": 0.0}}
    assert len(exported.read_text().split()) == 9


def test_a_refit_that_was_killed_goes_on_from_its_checkpoint(run: RunDirectory, tmp_path: Path) -> None:
    out, hold = tmp_path / "out", tmp_path / "hold"
    hold.touch()
    environment = {**os.environ, optional_problem.HOLD: str(hold)}
    with subprocess.Popen(command(run.path, "--out", out), env=environment, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "log.txt").exists() and "step 1" in (out / "log.txt").read_text():
                break
            time.sleep(0.02)
        process.kill()
    assert json.loads((out / "refit.json").read_text())["figures"] is None
    ran = typed(run.path, "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert "continuing the refit of configuration" in ran.stdout
    kept = json.loads((out / "refit.json").read_text())
    assert (kept["figures"]["began"], kept["attempts"]) == (2, 2)


def test_a_refit_saves_after_a_signal_and_says_how_to_go_on(run: RunDirectory, tmp_path: Path) -> None:
    out, hold = tmp_path / "out", tmp_path / "hold"
    hold.touch()
    environment = {**os.environ, optional_problem.HOLD: str(hold)}
    with subprocess.Popen(
        command(run.path, "--out", out), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        deadline = time.monotonic() + LONGEST_S
        while time.monotonic() < deadline and process.poll() is None:
            if (out / "log.txt").exists() and "step 1" in (out / "log.txt").read_text():
                break
            time.sleep(0.02)
        process.terminate()
        printed, _ = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130
    assert f"to go on, from a checkpoint if there is one: hpbandster-lite refit {run.path} --out {out}" in printed
    assert "asked to stop" in (out / "log.txt").read_text()


def test_a_failure_of_a_refit_that_continued_says_what_to_do_about_half_a_file(
    run: RunDirectory, described: ProblemDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(optional_problem.FAILS, "refit")
    refit = replace(prepared(run, directory=tmp_path / "out"), is_resumed=True)
    failure = run_refit(refit, lambda point: None)
    assert isinstance(failure, Failure)
    assert f"(it continued from files that an earlier refit left in {tmp_path / 'out'}; " in failure.reason
    assert "start over with another --out" in failure.reason


def test_a_training_that_fails_shows_its_traceback_and_keeps_what_it_has(
    run: RunDirectory, described: ProblemDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(optional_problem.FAILS, "refit")
    refit = prepared(run, directory=tmp_path / "out")
    failure = run_refit(refit, lambda point: None)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.reason) == (FailureKind.CODE, "RuntimeError: the training data is missing")
    monkeypatch.setenv(optional_problem.FAILS, "export")
    refit = prepared(run, directory=tmp_path / "out", export=tmp_path / "m.txt")
    failure = run_refit(refit, lambda point: None)
    assert isinstance(failure, Failure)
    assert "the outputs of the exported model differ" in failure.reason
    assert prepared(run, directory=tmp_path / "out").figures is not None


def test_an_export_replaces_what_it_wrote_itself_and_nothing_else(
    run: RunDirectory, described: ProblemDescription, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, out = tmp_path / "model.txt", tmp_path / "out"
    exported.write_text("notes")
    with pytest.raises(UsageError, match="was not made by this command; give another name, or replace it with --force"):
        prepared(run, directory=out, export=exported)
    assert exported.read_text() == "notes"
    for force in (True, False):
        done = run_refit(prepared(run, directory=out, export=exported, force=force), lambda point: None)
        assert not isinstance(done, Failure)
        assert len(exported.read_text().split()) == 9
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.txt", "out"]
    monkeypatch.setenv(optional_problem.FAILS, "export")
    before = exported.read_bytes()
    failure = run_refit(prepared(run, directory=out, export=exported), lambda point: None)
    assert isinstance(failure, Failure)
    assert exported.read_bytes() == before
    # Written by another program: the name alone does not prove that the refit wrote it.
    exported.write_text("other notes")
    with pytest.raises(UsageError, match="--force"):
        prepared(run, directory=out, export=exported)


@pytest.mark.parametrize(("name", "text"), [("log.txt", "mine"), ("refit.json", "mine"), ("refit.json", "{}")])
def test_a_folder_with_files_of_the_user_s_is_refused_whatever_their_names(
    name: str, text: str, run: RunDirectory, described: ProblemDescription, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="give another --out"):
        prepared(run, directory=tmp_path)
    assert (tmp_path / name).read_text() == text


def test_a_failure_has_its_exit_code(run: RunDirectory, tmp_path: Path) -> None:
    ran = typed(run.path, "--out", tmp_path / "out", **{optional_problem.FAILS: "refit"})
    assert ran.returncode == 1
    assert "RuntimeError: the training data is missing" in ran.stdout


# ------------------------------------------------------------------------------------------------------------- options


def test_configuration_budget_and_seed_may_be_named(run: RunDirectory, described: ProblemDescription) -> None:
    refit = prepared(run, config_id=FIRST, budget=3.0, seed=12)
    assert (refit.evaluation, refit.budget, refit.max_budget, refit.seed) == ((FIRST, 1), 3.0, 9.0, 12)
    assert refit.directory == run.path / "refit" / "0-0-0-3-seed12"
    larger = prepared(run, config_id=FIRST, budget=27.0)
    assert (larger.evaluation.rung, larger.max_budget) == (2, 27.0)
    assert larger.directory == run.path / "refit" / "0-0-0-27"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"config_id": ConfigId(9, 0, 0)}, UsageError, "no configuration 9-0-0 in .*; see: hpbandster-lite list"),
        ({"budget": 2.5}, BudgetError, "takes whole budgets, got 2.5; give 3"),
        ({"budget": -1.0}, BudgetError, "must be above 0, got -1.0"),
        ({"budget": float("nan")}, BudgetError, "must be above 0, got nan"),
        ({"seed": 2**31}, UsageError, r"the seed must be in \[0, 2\*\*31\)"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    options: dict[str, Any], error: type[Exception], words: str, run: RunDirectory, described: ProblemDescription
) -> None:
    with pytest.raises(error, match=words):
        prepared(run, **options)


def test_a_search_without_a_loss_has_no_incumbent_to_refit(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    with Journal.open(directory.journal, create=settings_for(space_of())):
        pass
    with pytest.raises(UsageError, match="has a loss yet, so there is no incumbent to refit"):
        prepared(directory)


def test_a_problem_without_the_function_is_refused_with_what_to_write(
    run: RunDirectory, described: ProblemDescription, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, words in (("has_refit", r"has no refit; give it a function refit\(config, budget, trial\)"),
                        ("has_export", r"has no export; give it a function export\(directory, file\)")):  # fmt: skip
        without: dict[str, Any] = {name: False}
        lacking = replace(described, **without)
        monkeypatch.setattr(
            "hpbandster_lite.standalone.refit.describe_in_child", lambda reference, lacking=lacking: lacking
        )
        with pytest.raises(ProblemError, match=words):
            prepared(run, export=tmp_path / "m.txt")


def test_a_script_that_reads_its_arguments_at_import_is_not_refitted_without_them(
    run: RunDirectory, described: ProblemDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(JournalReader, "source", lambda _: ProblemSource(arguments="of the search"))
    with pytest.raises(ResumeError, match=r"reads its arguments .*; declare them as options of the problem"):
        prepared(run)


def test_other_options_of_the_problem_are_refused(run: RunDirectory) -> None:
    with pytest.raises(ResumeError, match="the search has kind=steep, and a refit with flat"):
        prepared(run, problem_options=(("kind", "flat"),))


def test_a_directory_is_never_shared_by_two(
    run: RunDirectory, described: ProblemDescription, tmp_path: Path
) -> None:
    refit = prepared(run, budget=1.0, directory=tmp_path / "out")
    with lock_directory(refit.directory), pytest.raises(Held, match="another process refits in"):
        run_refit(refit, lambda point: None)
    assert not isinstance(run_refit(refit, lambda point: None), Failure)
    for other in ({"budget": 3.0}, {"budget": 1.0, "seed": 4}):
        with pytest.raises(UsageError, match=r"holds another refit: (budget|seed) is"):
            prepared(run, directory=tmp_path / "out", **other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(UsageError, match="holds other things"):
        prepared(run, directory=tmp_path / "mine")
    with pytest.raises(UsageError, match="is not a directory; give another --out"):
        prepared(run, directory=tmp_path / "mine" / "letter.txt")


def test_a_model_that_was_moved_away_is_trained_again(
    run: RunDirectory, described: ProblemDescription, tmp_path: Path
) -> None:
    refit = prepared(run, budget=1.0, directory=tmp_path / "out")
    run_refit(refit, lambda point: None)
    assert prepared(run, budget=1.0, directory=tmp_path / "out").figures is not None
    (tmp_path / "out" / "model.json").unlink()
    again = prepared(run, budget=1.0, directory=tmp_path / "out")
    assert (again.figures, again.is_resumed) == (None, True)
    run_refit(again, lambda point: None)
    assert (tmp_path / "out" / "model.json").exists()


# ------------------------------------------------------------------------------------------------- from best --json


@pytest.fixture
def printed(run: RunDirectory, tmp_path: Path) -> Path:
    """A file with the output of ``best --json``."""
    file = tmp_path / "best.json"
    file.write_text(CliRunner().invoke(make_app("best"), ["best", str(run.path), "--json"]).stdout)
    return file


@pytest.mark.parametrize("budget", [None, 3.0, 1.0, 20.0])
def test_a_refit_of_what_best_prints_is_that_of_the_run_directory(
    run: RunDirectory, described: ProblemDescription, printed: Path, budget: float | None
) -> None:
    assert prepare_refit(printed, RefitOptions(budget=budget)) == prepared(run, budget=budget)
    best = JournalReader(run.journal).best()
    assert best is not None
    assert prepare_refit(printed, RefitOptions(config_id=best["config_id"])) == prepared(run)


def test_what_best_prints_is_refitted_where_there_is_no_run_directory(
    run: RunDirectory, described: ProblemDescription, printed: Path, tmp_path: Path
) -> None:
    content = json.loads(printed.read_text())
    printed.write_text(json.dumps({**content, "run_directory": "/of/another/machine"}))
    refit, here = prepare_refit(printed, RefitOptions()), prepared(run)
    assert refit.directory == tmp_path / "refit" / f"{here.evaluation.config_id}-9"
    assert refit.identity == here.identity


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": None}, r"reference must be text, got None; print it again: best --json"),
        ({"config_id": ["a", 0, 0]}, r"config_id must be a list of three numbers, got \['a', 0, 0\]"),
        ({"config_id": [0, 0]}, r"config_id must be a list of three numbers"),
        ({"rungs": []}, r"rungs is empty"),
        ({"budgets": ["x"]}, r"budgets must be a list of numbers"),
        ({"options": {"kind": "flat"}}, r"the search has kind=flat, and a refit with steep would be of another"),
    ],
)
def test_a_file_that_was_changed_is_refused_with_its_field(
    described: ProblemDescription, printed: Path, changes: dict[str, Any], words: str
) -> None:
    printed.write_text(json.dumps({**json.loads(printed.read_text()), **changes}))
    with pytest.raises(UsageError, match=words):
        prepare_refit(printed, RefitOptions())


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", "problem = 1"])
def test_a_file_that_best_did_not_print_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(UsageError, match=r"is no output of best --json: .*; give that, or a run directory"):
        prepare_refit(tmp_path / "file", RefitOptions())


def test_a_file_has_one_configuration(described: ProblemDescription, printed: Path) -> None:
    with pytest.raises(UsageError, match=r"has the configuration .* alone; give the run directory to refit 7-0-0"):
        prepare_refit(printed, RefitOptions(config_id=ConfigId(7, 0, 0)))
