"""A dry run evaluates like a worker, in real trainer processes, estimates the plan's cost, and leaves no files."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems import describe, load
from hpbandster_lite.records import FailureKind, SearchSettings
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.standalone.dry_run import MOST_REFUSED, DryRun, perform_dry_run

pytestmark = pytest.mark.timeout(120)

DEADLINE_S = 60.0
PROBLEM = """
import json, os, time
from pathlib import Path

HERE = Path(__file__).parent
min_budget, max_budget, unit = 1, 9, "steps"

def space():
    from ConfigSpace import ConfigurationSpace, Float
    return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])

def evaluate(config, budget, trial):
    saved = trial.resume_directory or trial.previous_directory
    facts = {"pid": os.getpid(), "x": config["x"], "budget": budget, "attempt": trial.attempt, "saved": bool(saved)}
    facts["place"] = str(trial._directory)
    with (HERE / "calls").open("a") as file:
        file.write(json.dumps(facts) + "\\n")
    WISH
    return config["x"] / budget
"""
KEEPS = """
    if saved is not None:
        assert json.loads((saved / "state.json").read_text()) == {"step": 1}
    (trial.directory / "state.json").write_text(json.dumps({"step": int(budget)}))
"""


def settings_of(place: Path, wish: str = "pass", more: str = "", **options: Any) -> SearchSettings:
    """Settings of a search for a problem with this behaviour, in a separate file."""
    file = place / f"dry_run_{os.urandom(4).hex()}.py"
    file.write_text(PROBLEM.replace("    WISH\n", f"    {wish.strip()}\n") + more)
    about = describe(load(str(file)), str(file))
    return prepare(SearchOptions(problem=str(file), description=about, seed=1, **options)).settings


def calls(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "calls").read_text().splitlines()]


def parts(done: DryRun) -> list[str]:
    return [each.part for each in done.evaluations]


@pytest.fixture(autouse=True)
def keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Check that the temporary directory of a dry run is deleted at its end."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []


def test_a_checkpoint_is_saved_in_one_process_and_loaded_in_another(tmp_path: Path) -> None:
    done = perform_dry_run(settings_of(tmp_path, KEEPS), workers=1)
    assert parts(done) == ["smallest", "again", "promotion"]
    assert done.failure is None
    assert done.keeps_checkpoint
    assert [(each.budget, each.trained, each.loss) for each in done.evaluations] == [
        (1.0, 1.0, 0.5),
        (1.0, 1.0, 0.5),
        (3.0, 2.0, pytest.approx(0.5 / 3)),
    ]
    assert done.evaluations[0].size_bytes == len('{"step": 1}')
    first, again, promotion = calls(tmp_path)
    assert first["pid"] == again["pid"] != promotion["pid"]
    assert [each["saved"] for each in (first, again, promotion)] == [False, False, True]
    assert len({each["place"] for each in (first, again, promotion)}) == 3


def test_on_a_ladder_of_one_budget_the_evaluation_is_taken_over(tmp_path: Path) -> None:
    one = perform_dry_run(settings_of(tmp_path, KEEPS, min_budget=1.0, max_budget=1.0), workers=1)
    assert parts(one) == ["smallest", "again", "taken over"]
    assert one.failure is None
    assert calls(tmp_path)[-1]["saved"]
    assert one.seconds_per_unit >= 0


def test_a_problem_without_a_checkpoint_is_evaluated_and_not_continued(tmp_path: Path) -> None:
    done = perform_dry_run(settings_of(tmp_path), workers=1)
    assert parts(done) == ["smallest", "again"]
    assert not done.keeps_checkpoint
    assert done.values == {"x": 0.5}


def test_a_trainer_that_an_evaluation_left_unfit_is_renewed(tmp_path: Path) -> None:
    done = perform_dry_run(settings_of(tmp_path, "__import__('subprocess').Popen(['sleep', '60'])"), workers=1)
    assert parts(done) == ["smallest", "again"]
    first, again = calls(tmp_path)
    assert first["pid"] != again["pid"]


def test_what_only_the_first_call_of_a_process_takes_is_not_the_price_of_the_others(tmp_path: Path) -> None:
    wish = "time.sleep(0 if globals().get('warm') else 0.6); globals()['warm'] = True"
    done = perform_dry_run(settings_of(tmp_path, wish), workers=1)
    assert done.warm_up_s > 0.3
    assert done.seconds_per_unit < done.evaluations[0].duration_s / 2


@pytest.mark.parametrize(
    ("wish", "failed_at"),
    [
        ("raise ValueError('boom')", ["smallest"]),
        ("assert trial.attempt == 1, 'boom'", ["smallest", "again"]),
        (KEEPS.replace("{\"step\": 1}", "'boom'"), ["smallest", "again", "promotion"]),
    ],
)
def test_a_failing_objective_ends_it_with_its_traceback(tmp_path: Path, wish: str, failed_at: list[str]) -> None:
    done = perform_dry_run(settings_of(tmp_path, wish), workers=1)
    assert parts(done) == failed_at
    assert done.failure is not None
    assert done.failure.kind is FailureKind.CODE
    assert "in evaluate" in str(done.failure.traceback)


def test_a_trainer_that_dies_is_a_failure_with_its_signal(tmp_path: Path) -> None:
    done = perform_dry_run(settings_of(tmp_path, "os.kill(os.getpid(), 11)"), workers=1)
    assert done.failure is not None
    assert "SIGSEGV" in done.failure.reason


def test_an_evaluation_beyond_its_time_limit_is_ended(tmp_path: Path) -> None:
    wish = "print('still here', flush=True); time.sleep(60)"
    done = perform_dry_run(settings_of(tmp_path, wish), workers=1, limit_s=1.0)
    assert done.failure is not None
    assert (done.failure.kind, done.failure.reason) == (FailureKind.TIME_LIMIT, "took longer than 1 s")
    assert done.failure.log_tail == ("still here",)


def test_what_feasible_refuses_is_passed_over(tmp_path: Path) -> None:
    feasible = "\ndef feasible(config):\n    return config['x'] > 0.9 or 'x is too small'\n"
    done = perform_dry_run(settings_of(tmp_path, more=feasible), workers=1)
    assert done.refused > 0
    assert float(done.values["x"]) > 0.9  # type: ignore[arg-type]  # x is a number
    assert done.failure is None


def test_a_feasible_that_refuses_everything_is_the_problem_s_fault(tmp_path: Path) -> None:
    feasible = "\ndef feasible(config):\n    return 'never'\n"
    with pytest.raises(ProblemError, match=rf"refuses all of the first {MOST_REFUSED} configurations.*never"):
        perform_dry_run(settings_of(tmp_path, more=feasible), workers=1)


def test_a_problem_that_a_trainer_cannot_import_is_refused_with_the_reason(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    Path(settings.problem.reference).unlink()
    with pytest.raises(ProblemError, match="there is no file"):
        perform_dry_run(settings, workers=1)


# ------------------------------------------------------------------------------------------------------- the command


def command(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*(sys.executable, "-W", "error", "-m", "hpbandster_lite"), "run", *arguments, "--dry-run", *("-w", "2")],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(place / "scratch")},
    )


def test_the_command_says_what_it_saw_and_what_the_plan_costs_and_begins_nothing(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(PROBLEM.replace("    WISH\n", f"    {KEEPS.strip()}\n    time.sleep(0.05)\n"))
    process = command(tmp_path, "steps.py")
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    assert "dry run with x=0.5" in output
    assert re.search(r"\npromotion +3 steps +0\.166667 +[\d.]+ s +1 file, 11 bytes", output)
    assert "a checkpoint was saved, and another process continued from it (trial.previous_directory)" in output
    assert "hours of one worker in all" in output
    assert "with 2 workers" in output
    assert not (tmp_path / "runs").exists()


def test_the_command_shows_the_traceback_of_a_failing_objective_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(PROBLEM.replace("    WISH\n", "    raise ValueError('boom')\n"))
    process = command(tmp_path, "steps.py")
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, output
    assert "the smallest evaluation failed:" in output
    assert "steps.py" in output
    assert "ValueError: boom" in output
    assert "price" not in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_dry_run_that_is_interrupted_leaves_neither_process_nor_directory(tmp_path: Path, number: int) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    (tmp_path / "steps.py").write_text(PROBLEM.replace("    WISH\n", "    time.sleep(60)\n"))
    process = command(tmp_path, "steps.py")
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not (tmp_path / "calls").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (call,) = calls(tmp_path)
        process.send_signal(number)
        output, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130, output
    assert not Path(f"/proc/{call['pid']}").exists()
