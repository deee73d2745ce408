"""A learning curve belongs to the evaluation: it keeps the points of attempts that are handed back or cut off."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.records import CurvePoint, Failure, FailureKind, Outcome, Recorded, Report
from tests.engine_room import granted, loss, started


def curve(*steps: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(step, 1.0) for step in steps)


def report(grant: object, *steps: float) -> Report:
    plain = loss(grant, 1.0)  # type: ignore[arg-type]  # it is a grant
    return replace(plain, outcome=replace(plain.outcome, curve=curve(*steps)))


def recorded_steps(engine: Engine, made: Report, agent: str, now: float) -> list[float]:
    (entry,) = [each for each in engine.report(agent, made, now=now).entries if isinstance(each, Recorded)]
    return [point.step for point in entry.outcome.curve]


def test_points_of_an_attempt_that_was_handed_back_stay() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.release("a", grant.evaluation, 1, "pre-empted", None, now=1.0, curve=curve(1, 2, 3))
    again = granted(engine, "b", now=2.0)
    assert again.evaluation == grant.evaluation
    assert recorded_steps(engine, report(again, 3, 4), "b", 3.0) == [1, 2, 3, 4]


@pytest.mark.parametrize("is_handed_back", [False, True])
def test_a_step_that_one_attempt_reports_twice_is_recorded_once_with_its_last_value(is_handed_back: bool) -> None:
    engine = started()
    grant = granted(engine, "a")
    points: tuple[CurvePoint, ...] = (CurvePoint(2, 1.0), CurvePoint(1, 1.0), CurvePoint(2, 0.5))
    engine.renew("a", grant.evaluation, 1, now=1.0, curve=points)
    if is_handed_back:
        engine.release("a", grant.evaluation, 1, "pre-empted", None, now=1.0, curve=points)
        grant, points = granted(engine, "b", now=2.0), ()
    made = report(grant)
    made = replace(made, outcome=replace(made.outcome, curve=points))
    holder = "b" if is_handed_back else "a"
    (entry,) = [each for each in engine.report(holder, made, now=3.0).entries if isinstance(each, Recorded)]
    assert entry.outcome.curve == (CurvePoint(1, 1.0), CurvePoint(2, 0.5))


def test_points_of_an_attempt_that_was_cut_off_stay_as_far_as_they_were_received() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.renew("a", grant.evaluation, 1, now=1.0, curve=curve(1, 2))
    # The agent sends all points again to a new master.
    engine.renew("a", grant.evaluation, 1, now=2.0, curve=curve(1, 2, 3))
    engine.expire(now=200.0)
    again = granted(engine, "b", now=200.0)
    assert recorded_steps(engine, report(again, 4), "b", 201.0) == [1, 2, 3, 4]


def test_points_that_come_with_a_loss_of_the_trainer_stay() -> None:
    engine = started()
    grant = granted(engine, "a")
    lost = Outcome(failure=Failure(kind=FailureKind.INFRASTRUCTURE, reason="killed"), curve=curve(1, 2))
    engine.report("a", Report(evaluation=grant.evaluation, attempt=1, outcome=lost), now=1.0)
    again = granted(engine, "b", now=2.0)
    assert recorded_steps(engine, report(again, 3), "b", 3.0) == [1, 2, 3]


@pytest.mark.parametrize("how", ["cancelled", "lost"])
def test_an_evaluation_without_a_last_report_keeps_its_points(how: str) -> None:
    engine = started(max_attempts=1)
    grant = granted(engine, "a")
    engine.renew("a", grant.evaluation, 1, now=1.0, curve=curve(1, 2))
    if how == "lost":
        entries = engine.expire(now=200.0).entries
    else:
        engine.release("a", grant.evaluation, 1, "pre-empted", None, now=1.0, curve=curve(1, 2))
        entries = engine.cancel(grant.evaluation).entries
    (entry,) = [each for each in entries if isinstance(each, Recorded)]
    assert [point.step for point in entry.outcome.curve] == [1, 2]


def test_a_replayed_engine_has_the_points_of_its_journal() -> None:
    engine = started()
    entries = list(engine.lease("a", 0, now=0.0).entries)
    (identity,) = engine.state.held_by.values()
    entries += engine.release("a", identity, 1, "pre-empted", None, now=1.0, curve=curve(1, 2)).entries
    assert engine.state.evaluations[identity].curve == curve(1, 2)
    assert [entry for entry in entries if getattr(entry, "curve", ())]
