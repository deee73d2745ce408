"""Limits that are given as so many more: what they become, and that the same command extends a search once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.extension import extend
from hpbandster_lite.records import FailureKind, FinishKind, Limits
from tests.engine_room import (
    ONE_BRACKET,
    failed,
    finish,
    granted,
    loss,
    started,
)


def work(engine: Engine, evaluations: int | None = None, *, now: float = 0.0) -> None:
    """One agent ends so many evaluations; without a number, it works until the search gives it none."""
    request = engine.state.request_of.get("a", 0)
    while evaluations is None or evaluations > 0:
        request += 1
        answer = engine.lease("a", request, now=now).answer
        if not isinstance(answer, Granted):
            return
        # x is a number.
        engine.report("a", loss(answer.grant, float(answer.grant.values["x"])), now=now)  # type: ignore[arg-type]
        evaluations = None if evaluations is None else evaluations - 1


def more(engine: Engine, spent_s: float = 0.0, **amounts: float) -> tuple[Mapping[str, Any], bool, str]:
    found = extend(engine.state, engine.settings, amounts, spent_s=spent_s)
    return found.limits, found.is_change, "; ".join(found.notes)


REACHED: list[tuple[Limits, dict[str, float], dict[str, float], str]] = [
    (Limits(brackets=2), {"brackets": 10}, {"brackets": 12}, "12 brackets, 10 more than its limit of 2"),
    (Limits(evaluations=11), {"evaluations": 50}, {"evaluations": 61}, "61 evaluations, 50 more than its limit of 11"),
    (Limits(total_budget=12.0), {"total_budget": 9.0}, {"total_budget": 21.0}, "21, 9 more than its limit of 12"),
    # 12.5 buys nothing more after 12: reached as well.
    (Limits(total_budget=12.5), {"total_budget": 9.0}, {"total_budget": 21.5}, "21.5, 9 more than its limit of 12.5"),
    (Limits(brackets=1), {"evaluations": 50}, {"evaluations": 63}, "63 evaluations, 50 more than the 13 so far"),
    (Limits(evaluations=11), {"brackets": 1}, {"brackets": 2}, "2 brackets, 1 more than the 1 so far"),
    (Limits(brackets=1), {"total_budget": 3.0}, {"total_budget": 30.0}, "budget of 30, 3 more than the 27 so far"),
]


@pytest.mark.parametrize(("limits", "amount", "expected", "words"), REACHED, ids=map(str, range(len(REACHED))))
def test_a_limit_that_is_reached_grows_and_one_that_the_search_has_not_counts_from_what_was_started(
    limits: Limits, amount: dict[str, float], expected: dict[str, float], words: str
) -> None:
    engine = started(limits)
    work(engine)
    assert engine.finished is not None
    values, is_change, note = more(engine, **amount)
    assert (values, is_change) == (expected, True)
    assert note.startswith("the search goes on to ")
    assert note.endswith(words)


@pytest.mark.parametrize(
    ("limits", "amount", "words"),
    [
        (Limits(brackets=2), {"brackets": 10}, "2 brackets"),
        (Limits(brackets=1), {"brackets": 10}, "1 bracket"),
        (Limits(evaluations=11), {"evaluations": 50}, "11 evaluations"),
        (Limits(total_budget=12.0), {"total_budget": 9.0}, "a total budget of 12"),
        (Limits(wall_time_s=60.0), {"wall_time_s": 60.0}, "a wall time of 60 s"),
    ],
    ids=["brackets", "one bracket", "evaluations", "total budget", "wall time"],
)
def test_before_a_limit_is_reached_more_changes_nothing_and_says_so(
    limits: Limits, amount: dict[str, float], words: str
) -> None:
    (name,) = amount
    for killed_after in (0, 5, 10):
        engine = started(limits)
        work(engine, killed_after)
        values, is_change, note = more(engine, spent_s=30.0, **amount)
        assert (values, is_change) == ({name: getattr(limits, name)}, False)
        assert f"changes nothing: the search has not reached its limit of {words}; once it has" in note


def test_the_last_evaluation_that_runs_or_was_lost_is_still_to_come() -> None:
    engine = started(Limits(evaluations=3))
    work(engine, 2)
    granted(engine, "b")
    assert not more(engine, evaluations=5)[1]
    # The search ends with the answer to the next request; a master that is killed before has not ended it.
    lost = started(Limits(evaluations=3))
    work(lost, 3)
    lost.state.finished = None
    assert not more(lost, evaluations=5)[1]


def test_the_same_amount_extends_once_until_the_new_limit_is_reached() -> None:
    engine = started(Limits(evaluations=3))
    work(engine)
    for total in (5, 7):
        values, is_change, _ = more(engine, evaluations=2)
        assert (values, is_change) == ({"evaluations": total}, True)
        engine.start(engine.state.epoch + 1, Limits(**values), now=0.0)
        for _ in range(2):
            # Killed after each evaluation: the same command keeps the limit.
            assert more(engine, evaluations=2)[:2] == ({"evaluations": total}, False)
            work(engine, 1)
        work(engine)
        assert engine.state.recorded == total


def test_a_stopped_search_has_not_reached_its_limit_unless_nothing_is_left() -> None:
    engine = started(Limits(evaluations=3))
    work(engine, 1)
    engine.stop(reason="enough")
    assert not more(engine, evaluations=2)[1]
    fails = started(Limits(evaluations=3))
    for index in range(3):
        fails.report("a", failed(granted(fails, "a", index), FailureKind.CODE, None, "the module 'x'"), now=0.0)
    assert fails.finished is not None
    assert fails.finished.kind is FinishKind.SAME_FAULT
    assert more(fails, evaluations=2)[0] == {"evaluations": 5}


def test_infeasible_configurations_are_no_evaluations_here_either() -> None:
    engine = started(Limits(evaluations=2))
    engine.report("a", failed(granted(engine, "a", 0), FailureKind.INFEASIBLE), now=0.0)
    work(engine)
    assert more(engine, evaluations=2)[0] == {"evaluations": 4}


def test_wall_time_that_is_used_up_grows_and_other_ends_leave_it() -> None:
    engine = started(Limits(wall_time_s=60.0))
    work(engine, 2)
    work(engine, now=60.0)
    assert engine.finished is not None
    # The first and the last commit of the master are a little less than a minute apart.
    assert more(engine, spent_s=59.9, wall_time_s=30.0)[:2] == ({"wall_time_s": 90.0}, True)
    ended = started(Limits(wall_time_s=60.0, brackets=1))
    finish(ended)
    assert not more(ended, spent_s=59.9, wall_time_s=30.0)[1]
    unlimited = started(ONE_BRACKET)
    assert more(unlimited, spent_s=12.5, wall_time_s=30.0)[:2] == ({"wall_time_s": 42.5}, True)
