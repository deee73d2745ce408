"""The report of a dry run: the evaluations, the checkpoint and the cost, each in whole sentences."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from hpbandster_lite.cli.view.dry_run_report import print_dry_run, print_price
from hpbandster_lite.records import Failure, FailureKind, Limits
from hpbandster_lite.results.forecast import Price
from hpbandster_lite.standalone.dry_run import DryEvaluation, DryRun


def tried(part: Any, duration_s: float = 2.0, **changed: Any) -> DryEvaluation:
    fields: dict[str, Any] = {"budget": 1.0, "trained": 1.0, "loss": 0.5, "failure": None, "files": 0, "size_bytes": 0}
    return DryEvaluation(part=part, duration_s=duration_s, **(fields | changed))


def dry_run_of(*evaluations: DryEvaluation, **changed: Any) -> DryRun:
    fields: dict[str, Any] = {"values": {"lr": 0.1, "kind": "[a]"}, "refused": 0, "import_s": 3.0, "device": None}
    return DryRun(evaluations=evaluations, **(fields | changed))


def printed(dry_run: DryRun) -> list[str]:
    console = Console(file=io.StringIO(), width=100, record=True)
    print_dry_run(console, dry_run, "epochs")
    return [line.rstrip() for line in console.export_text().splitlines()]


def priced(dry_run: DryRun, limits: Limits | None = None, **changed: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=100, record=True)
    about = {"evaluations": 13, "budget": 27.0, "worker_s": 7200.0, "wall_s": 3600.0, "is_one_cycle": False}
    price = Price(**(about | changed))
    print_price(console, dry_run, price, unit="epochs", workers=2, limits=limits or Limits(brackets=1))
    return [line.rstrip() for line in console.export_text().splitlines()]


SAVED = {"files": 2, "size_bytes": 3_210_000}
SMALLEST, AGAIN = tried("smallest", 10.0, **SAVED), tried("again", 2.0, **SAVED)
PROMOTION = tried("promotion", 12.0, budget=3.0, trained=2.0, loss=0.25, **SAVED)


def test_each_evaluation_has_a_line_and_the_checkpoint_a_sentence() -> None:
    assert printed(dry_run_of(SMALLEST, AGAIN, PROMOTION, refused=2)) == [
        "dry run with lr=0.1, kind=[a] (2 others were refused as infeasible before it)",
        "evaluation    budget  loss   time  left behind",
        "smallest     1 epoch   0.5   10 s  2 files, 3.21 MB",
        "again        1 epoch   0.5  2.0 s  2 files, 3.21 MB",
        "promotion   3 epochs  0.25   12 s  2 files, 3.21 MB",
        "",
        "a checkpoint was saved, and another process continued from it (trial.previous_directory)",
    ]


def test_a_problem_without_a_checkpoint_is_reported() -> None:
    assert printed(dry_run_of(tried("smallest"), tried("again")))[-1] == (
        "the problem keeps no checkpoint: every promotion and every lost evaluation trains from the start"
    )


@pytest.mark.parametrize(
    ("before", "part", "words"),
    [
        ((), "smallest", "the smallest evaluation failed:"),
        ((SMALLEST,), "again", "the same evaluation failed when the same process ran it again, as workers do:"),
        ((SMALLEST, AGAIN), "promotion", "that continued from it (trial.previous_directory) failed:"),
        ((SMALLEST, AGAIN), "taken over", "that continued from it (trial.resume_directory) failed:"),
    ],
)
def test_a_failure_says_where_and_shows_its_traceback(before: tuple[DryEvaluation, ...], part: Any, words: str) -> None:
    failure = Failure(kind=FailureKind.CODE, reason="boom", traceback="Traceback\nValueError: [boom]\n")
    dry_run = dry_run_of(*before, tried(part, loss=None, failure=failure, files=1, size_bytes=10))
    lines = printed(dry_run)
    assert "failed: code" in lines[1 + len(dry_run.evaluations)]
    assert "1 file, 10 bytes" in lines[1 + len(dry_run.evaluations)]
    assert lines[-4].endswith(words)
    assert lines[-2:] == ["Traceback", "ValueError: [boom]"]


def test_what_is_warm_is_what_is_priced() -> None:
    dry_run = dry_run_of(SMALLEST, AGAIN, PROMOTION)
    assert dry_run.warm_up_s == 8.0
    # Two epochs take 2 s each, and two more take 12 - 8 s.
    assert dry_run.seconds_per_unit == 2.0
    assert dry_run_of(tried("smallest", 100.0)).seconds_per_unit == 100.0
    assert dry_run_of(SMALLEST, AGAIN, tried("taken over", 9.0, trained=0.0)).seconds_per_unit == 2.0


def test_the_price_is_in_hours_of_one_worker_and_in_time_for_all() -> None:
    assert priced(dry_run_of(SMALLEST, AGAIN, PROMOTION)) == [
        "price: the rest of the search is 13 evaluations, 27 epochs in all, at 2.0 s for 1 epoch:",
        "  2.00 hours of one worker in all (2 h 00 min)",
        "  1 h 00 min with 2 workers, and 11 s until each is warm",
        "Measured with one configuration; others may take more or less.",
    ]


def test_gpus_and_limits_on_the_time_are_named() -> None:
    lines = priced(
        dry_run_of(tried("smallest", 0.001), device="GPU-1"), Limits(wall_time_s=60.0), is_one_cycle=True
    )
    assert lines[0] == "price: one Hyperband cycle is 13 evaluations, 27 epochs in all, at 0.001 s for 1 epoch:"
    assert lines[1] == "  2.00 GPU hours in all (2 h 00 min)"
    assert lines[3] == "  the time limit ends it after 1 min 00 s"
