"""A search under chaos keeps every result and ends by itself; the plan and the checks of the laws have tests, too.

The short run has each kind of fault once. A long one, by hand: ``python -m tests.chaos --faults 1000``, or
``pytest -m slow tests/chaos``, with ``CHAOS_SEED`` and ``CHAOS_FAULTS``.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpbandster_lite.errors import JournalError
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Failure,
    FailureKind,
    LateReport,
    Leased,
    Origin,
    Outcome,
    Proposal,
    Recorded,
    Released,
    Sampled,
)
from tests.chaos import driver
from tests.chaos.driver import RunOptions, possible_kinds, run
from tests.chaos.faults import Breaker
from tests.chaos.laws import _attempts, _kept, _losses, _outcomes
from tests.chaos.plan import KINDS, PROCESSES, Fault, plan
from tests.chaos.problem import loss_of
from tests.chaos.scene import Part, Scene

# ------------------------------------------------------------------------------------------------------------- the runs


@pytest.mark.timeout(900)  # a minute and a half on an idle machine with two cores, mostly the duration of the faults
def test_a_search_under_one_fault_of_each_kind_keeps_every_result_and_ends_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds, left_out = possible_kinds()
    with capsys.disabled():
        for words in left_out:
            print(f"\nNOT TESTED under chaos, {words}")
    figures = run(RunOptions(seed=1, faults=len(kinds), kinds=kinds, every_s=1.0), tmp_path)
    assert figures.faults == dict.fromkeys(kinds, 1)
    assert figures.counts["recorded"] > 20
    assert figures.counts["failed"] == 0
    assert figures.counts["masters"] > 3


@pytest.mark.slow
@pytest.mark.timeout(14_400)
def test_a_search_under_a_thousand_faults_keeps_every_result_and_ends_by_itself(tmp_path: Path) -> None:
    kinds, left_out = possible_kinds()
    assert not left_out
    faults = int(os.environ.get("CHAOS_FAULTS", "1000"))
    figures = run(RunOptions(seed=int(os.environ.get("CHAOS_SEED", "1")), faults=faults, kinds=kinds), tmp_path)
    print(figures)
    assert figures.faults.total() == faults


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_without_root_the_processes_alone_are_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "missing", lambda: "only root may make network namespaces")
    monkeypatch.setattr("os.geteuid", lambda: 1_000)
    monkeypatch.setattr(driver, "LIBRARIES", [])
    kinds, left_out = possible_kinds()
    assert kinds == PROCESSES
    assert [words.partition(":")[0] for words in left_out] == [
        "NO FAULTS OF THE NETWORK",
        "NO FULL DISK",
        "NO WRONG CLOCKS",
    ]
    figures = run(RunOptions(seed=2, faults=len(kinds), kinds=kinds, every_s=1.0), tmp_path)
    assert figures.faults == dict.fromkeys(PROCESSES, 1)


# --------------------------------------------------------------------------------------------------------- the operator


@pytest.mark.parametrize("error", [JournalError("disk I/O error"), OSError(28, "no room")], ids=["journal", "system"])
def test_a_worker_that_cannot_be_started_on_a_full_disk_is_started_later(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path, tmp_path, None, workers=2, seed=1, step_s=0.2)
    served = SimpleNamespace(pid=1, process=SimpleNamespace(poll=lambda: None))
    scene.parts = [Part("worker", 1, 0, served)]  # type: ignore[arg-type]  # a stand-in of it
    full = True

    def worker(index: int) -> SimpleNamespace:
        if full:
            raise error
        return served

    monkeypatch.setattr(scene, "_worker", worker)
    breaker = Breaker(scene)
    fault = Fault(number=1, kind="worker_doubled", after_s=0.0, victim=0.0, lasts_s=0.0, strength=0)
    assert not breaker.apply(fault, 0.0)
    scene.coming = [(0.0, "worker", 0)]
    scene.restart_ended(0.0)
    assert scene.coming == [(1.0, "worker", 0)]
    full = False
    assert breaker.apply(fault, 0.0)
    scene.restart_ended(1.0)
    assert [(part.index, part.is_twin) for part in scene.parts] == [(1, False), (1, True), (0, False)]


# ------------------------------------------------------------------------------------------------------------- the plan


def test_a_plan_follows_from_its_seed() -> None:
    assert plan(7, 100) == plan(7, 100)
    assert plan(7, 100) != plan(8, 100)


@pytest.mark.parametrize("count", [len(KINDS), 5 * len(KINDS) + 3])
def test_a_plan_has_each_kind_as_often_as_any_other(count: int) -> None:
    kinds = Counter(fault.kind for fault in plan(3, count))
    assert kinds.keys() == set(KINDS)
    assert max(kinds.values()) - min(kinds.values()) <= 1


def test_a_kind_that_is_not_known_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown kinds of faults: bad_mood; choose of agent_killed"):
        plan(1, 3, ["bad_mood"])


def test_a_run_says_how_it_is_run_again() -> None:
    options = RunOptions(seed=5, faults=9, kinds=("disk_full",), workers=2)
    assert options.command == (
        "python -m tests.chaos --seed 5 --faults 9 --every 1.5 --workers 2 --step 0.2 --kinds disk_full"
    )


# ------------------------------------------------------------------------------------------------------------- the laws

ONE = ConfigId(0, 0, 0)
VALUES = {"x": 0.25, "n": 3}
AT = EvaluationId(ONE, 0)
SAMPLED = Sampled(config_id=ONE, proposal=Proposal(values=VALUES, vector=(0.25, 0.3), origin=Origin.RANDOM), basis=0)


def leased(attempt: int, agent: str = "a") -> Leased:
    return Leased(evaluation=AT, attempt=attempt, agent=agent, request=attempt)


def recorded(loss: float, attempt: int = 1, agent: str = "a") -> Recorded:
    return Recorded(evaluation=AT, attempt=attempt, agent=agent, outcome=Outcome(loss=loss))


def line(what: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {"what": what, "of": (AT, attempt), "attempt": attempt, "agent": 11, "trainer": 12, **more}


LOSS = loss_of(VALUES, 1.0)


def test_a_search_that_went_well_breaks_no_law() -> None:
    given_back = Released(evaluation=AT, attempt=1, agent="a", reason="asked to end")
    entries: list[Entry] = [SAMPLED, leased(1), given_back, leased(2, "b"), recorded(LOSS, 2, "b")]
    lines = [line("begun"), line("begun", 2), line("ended", 2, loss=LOSS)]
    assert not [*_outcomes(entries), *_losses(entries, lines), *_attempts(lines)]
    assert not list(_kept(entries, lines, "", set(), Counter()))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([SAMPLED, SAMPLED], "the slot of 0-0-0 was filled twice"),
        ([SAMPLED, leased(1), recorded(LOSS), recorded(LOSS)], "0-0-0@0 has two outcomes"),
        ([SAMPLED, leased(1), recorded(LOSS), leased(2)], "0-0-0@0 was run again after its result"),
        ([SAMPLED, leased(1), leased(2, "b")], "0-0-0@0 is held by a and by b"),
    ],
)
def test_a_journal_in_which_anything_is_there_twice_breaks_a_law(entries: list[Entry], words: str) -> None:
    assert list(_outcomes(entries)) == [words]


def test_a_loss_that_is_not_the_objective_s_breaks_a_law() -> None:
    (words,) = _losses([SAMPLED, leased(1), recorded(LOSS + 1e-12)], [line("ended", loss=LOSS)])
    assert words.startswith("the loss of 0-0-0@0 is ")


def test_a_loss_of_an_attempt_that_never_ended_breaks_a_law() -> None:
    (words,) = _losses([SAMPLED, leased(1), recorded(LOSS)], [line("begun")])
    assert words == f"attempt 1 at 0-0-0@0 gave None, and {LOSS} is recorded"


def test_a_failure_of_an_objective_that_cannot_fail_breaks_a_law() -> None:
    outcome = Outcome(failure=Failure(kind=FailureKind.CODE, reason="boom"))
    (words,) = _losses([SAMPLED, Recorded(evaluation=AT, attempt=1, agent="a", outcome=outcome)], [])
    assert "an evaluation failed that cannot: code, boom" in words


def test_an_attempt_that_two_have_begun_breaks_a_law() -> None:
    assert list(_attempts([line("begun"), line("begun")])) == ["attempt 1 at 0-0-0@0 was begun 2 times"]


def test_a_result_that_is_nowhere_breaks_a_law_unless_who_had_it_was_killed() -> None:
    lines = [line("ended", loss=LOSS)]
    assert list(_kept([], lines, "", set(), Counter())) == ["attempt 1 at 0-0-0@0 had ended, and its result is nowhere"]
    late = LateReport(evaluation=AT, attempt=1, agent="a", outcome=Outcome(loss=LOSS))
    counts: Counter[str] = Counter()
    assert not list(_kept([late], lines, "", set(), counts))
    assert not counts
    assert not list(_kept([], lines, "", {11}, counts))
    assert not list(_kept([], lines, "the result of evaluation 0-0-0@0 waits for the next master in x", set(), counts))
    assert counts == {
        "results lost with a killed process": 1,
        "results left behind on a host without the run directory": 1,
    }
