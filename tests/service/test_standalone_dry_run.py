"""A dry run sees what a worker would see, in real trainer processes, prices the plan, and leaves nothing behind."""

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
from ConfigSpace import ConfigurationSpace, Float

HERE = Path(__file__).parent
min_budget, max_budget, unit = 1, 9, "steps"

def space():
    return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])

def evaluate(config, budget, trial):
    saved = trial.resume_directory or trial.previous_directory
    told = {"pid": os.getpid(), "x": config["x"], "budget": budget, "attempt": trial.attempt, "saved": bool(saved)}
    told["place"] = str(trial._directory)
    with (HERE / "calls").open("a") as file:
        file.write(json.dumps(told) + "\\n")
    WISH
    return config["x"] / budget
"""
KEEPS = """
    if saved is not None:
        assert json.loads((saved / "state.json").read_text()) == {"step": 1}
    (trial.directory / "state.json").write_text(json.dumps({"step": int(budget)}))
"""


def settings_of(place: Path, wish: str = "pass", more: str = "", **options: Any) -> SearchSettings:
    """A search for a problem that does this, in a file of its own."""
    file = place / f"dry_run_{os.urandom(4).hex()}.py"
    file.write_text(PROBLEM.replace("    WISH\n", f"    {wish.strip()}\n") + more)
    about = describe(load(str(file)), str(file))
    return prepare(SearchOptions(problem=str(file), description=about, seed=1, **options)).settings


def calls(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "calls").read_text().splitlines()]


def parts(told: DryRun) -> list[str]:
    return [each.part for each in told.evaluations]


@pytest.fixture(autouse=True)
def keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The temporary directory of a dry run is gone when it is over."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []


def test_a_checkpoint_is_saved_in_one_process_and_loaded_in_another(tmp_path: Path) -> None:
    told = perform_dry_run(settings_of(tmp_path, KEEPS), workers=1)
    assert parts(told) == ["smallest", "again", "promotion"]
    assert told.failure is None
    assert told.keeps_checkpoint
    assert [(each.budget, each.trained, each.loss) for each in told.evaluations] == [
        (1.0, 1.0, 0.5),
        (1.0, 1.0, 0.5),
        (3.0, 2.0, pytest.approx(0.5 / 3)),
    ]
    assert told.evaluations[0].size_bytes == len('{"step": 1}')
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


def test_a_problem_that_keeps_nothing_is_evaluated_and_continued_by_nobody(tmp_path: Path) -> None:
    told = perform_dry_run(settings_of(tmp_path), workers=1)
    assert parts(told) == ["smallest", "again"]
    assert not told.keeps_checkpoint
    assert told.values == {"x": 0.5}


def test_what_only_the_first_call_of_a_process_takes_is_not_the_price_of_the_others(tmp_path: Path) -> None:
    wish = "time.sleep(0 if globals().get('warm') else 0.6); globals()['warm'] = True"
    told = perform_dry_run(settings_of(tmp_path, wish), workers=1)
    assert told.warm_up_s > 0.3
    assert told.seconds_per_unit < told.evaluations[0].duration_s / 2


@pytest.mark.parametrize(
    ("wish", "failed_at"),
    [
        ("raise ValueError('boom')", ["smallest"]),
        ("assert trial.attempt == 1, 'boom'", ["smallest", "again"]),
        (KEEPS.replace("{\"step\": 1}", "'boom'"), ["smallest", "again", "promotion"]),
    ],
)
def test_a_failing_objective_ends_it_with_its_traceback(tmp_path: Path, wish: str, failed_at: list[str]) -> None:
    told = perform_dry_run(settings_of(tmp_path, wish), workers=1)
    assert parts(told) == failed_at
    assert told.failure is not None
    assert told.failure.kind is FailureKind.CODE
    assert "in evaluate" in str(told.failure.traceback)


def test_a_trainer_that_dies_is_a_failure_with_its_signal(tmp_path: Path) -> None:
    told = perform_dry_run(settings_of(tmp_path, "os.kill(os.getpid(), 11)"), workers=1)
    assert told.failure is not None
    assert "SIGSEGV" in told.failure.reason


def test_an_evaluation_beyond_its_time_limit_is_ended(tmp_path: Path) -> None:
    wish = "print('still here', flush=True); time.sleep(60)"
    told = perform_dry_run(settings_of(tmp_path, wish), workers=1, limit_s=1.0)
    assert told.failure is not None
    assert (told.failure.kind, told.failure.reason) == (FailureKind.TIME_LIMIT, "took longer than 1 s")
    assert told.failure.log_tail == ("still here",)


def test_what_feasible_refuses_is_passed_over(tmp_path: Path) -> None:
    feasible = "\ndef feasible(config):\n    return config['x'] > 0.9 or 'x is too small'\n"
    told = perform_dry_run(settings_of(tmp_path, more=feasible), workers=1)
    assert told.refused > 0
    assert float(told.values["x"]) > 0.9  # type: ignore[arg-type]
    assert told.failure is None


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
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, said
    assert "dry run with x=0.5" in said
    assert re.search(r"\npromotion +3 steps +0\.166667 +[\d.]+ s +1 file, 11 bytes", said)
    assert "a checkpoint was saved, and another process continued from it (trial.previous_directory)" in said
    assert "hours of one worker in all" in said
    assert "with 2 workers" in said
    assert not (tmp_path / "runs").exists()


def test_the_command_shows_the_traceback_of_a_failing_objective_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "steps.py").write_text(PROBLEM.replace("    WISH\n", "    raise ValueError('boom')\n"))
    process = command(tmp_path, "steps.py")
    said, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, said
    assert "the smallest evaluation failed:" in said
    assert "steps.py" in said
    assert "ValueError: boom" in said
    assert "price" not in said
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
        said, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.communicate()
        signal.signal(signal.SIGINT, before)
    assert process.returncode == 130, said
    assert not Path(f"/proc/{call['pid']}").exists()
