"""The evaluation that an agent holds: its curve within bounds, and its construction from a grant."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite import wire
from hpbandster_lite.agent.assignment import Assignment, Curve, HandBack, assignment_of
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.protocol.messages import Grant, ReleaseRequest, RenewRequest
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, HandBackKind, Outcome, Plain
from tests import grants

EVALUATION = EvaluationId(ConfigId(2, 0, 5), 1)

# ------------------------------------------------------------------------------------------------------------ curve


def curve_of(*steps: float, limit_bytes: int = 10_000) -> Curve:
    curve = Curve(limit_bytes)
    for step in steps:
        curve.add(CurvePoint(step, 1.0))
    return curve


def test_a_curve_within_its_bound_keeps_every_point() -> None:
    assert [point.step for point in curve_of(*range(50)).points()] == list(range(50))


@given(count=st.integers(1, 400), limit_bytes=st.integers(60, 600), metrics=st.integers(0, 40))
def test_a_longer_curve_is_thinned_evenly_from_its_first_point_and_stays_within_its_bound(
    count: int, limit_bytes: int, metrics: int
) -> None:
    curve = Curve(limit_bytes)
    for step in range(count):
        curve.add(CurvePoint(step, 1.0, {"m": "x" * metrics}))
    kept = [int(point.step) for point in curve.points()]
    stride = kept[1] if len(kept) > 1 else max(count, 1)
    assert kept == list(range(0, count, stride))[: len(kept)]
    assert len(kept) == 1 or len(wire.encode([list(point) for point in curve.points()])) <= limit_bytes + len(kept) + 2
    # The curve is thinned no more than necessary: with half the stride it does not fit.
    assert stride == 1 or stride & (stride - 1) == 0 or len(kept) == 1


def test_a_step_that_is_reported_again_counts_once_and_is_sent_again() -> None:
    curve = curve_of(1, 2)
    curve.acknowledge()
    assert curve.add(CurvePoint(1, 3.0))
    assert curve.unsent() == (CurvePoint(1, 3.0),)
    assert curve.points() == (CurvePoint(1, 3.0), CurvePoint(2, 1.0))


def test_a_step_that_is_reported_without_end_takes_no_more_room() -> None:
    curve = curve_of(1, 2, 3, limit_bytes=200)
    for loss in range(1_000):
        curve.add(CurvePoint(2, float(loss)))
    assert [(point.step, point.loss) for point in curve.points()] == [(1, 1.0), (2, 999.0), (3, 1.0)]


def test_only_what_has_not_been_acknowledged_is_sent() -> None:
    curve = curve_of(1, 2)
    assert [point.step for point in curve.unsent()] == [1, 2]
    assert [point.step for point in curve.unsent()] == [1, 2]
    curve.acknowledge()
    assert curve.unsent() == ()
    curve.add(CurvePoint(3, 1.0))
    assert [point.step for point in curve.unsent()] == [3]
    assert [point.step for point in curve.points()] == [1, 2, 3]


def test_points_of_earlier_attempts_are_part_of_the_curve_and_are_not_sent_again() -> None:
    curve = Curve(earlier=(CurvePoint(1, 1.0), CurvePoint(2, 1.0)))
    curve.add(CurvePoint(2, 0.5))
    curve.add(CurvePoint(3, 0.5))
    assert [(point.step, point.loss) for point in curve.points()] == [(1, 1.0), (2, 0.5), (3, 0.5)]
    assert [point.step for point in curve.unsent()] == [2, 3]


def test_another_master_gets_all_points() -> None:
    curve = Curve()
    curve.add(CurvePoint(1, 1.0))
    curve.acknowledge()
    curve.send_again()
    assert [point.step for point in curve.unsent()] == [1]


def test_thinning_sends_nothing_twice() -> None:
    curve = Curve(200)
    sent: list[float] = []
    for step in range(100):
        curve.add(CurvePoint(step, 1.0))
        if step % 7 == 0:
            sent += [point.step for point in curve.unsent()]
            curve.acknowledge()
    assert len(sent) == len(set(sent))
    assert sent == sorted(sent)


# ------------------------------------------------------------------------------------------------------------ grant


def grant(**changed: Any) -> Grant:
    return grants.grant({"lr": 0.1, "act": None}, 5, attempt=3, budget=3, heartbeat_s=5.0, **changed)


def assigned(run_dir: Path, given: Grant) -> Assignment:
    return assignment_of(given, AttemptDirectories(AgentOptions(problem="p", run_dir=str(run_dir))), 100.0, "a+2")


def test_a_grant_becomes_an_assignment_with_an_order_for_the_trainer(tmp_path: Path) -> None:
    assignment = assigned(tmp_path, grant())
    order = assignment.order
    assert (assignment.evaluation, assignment.attempt) == (EVALUATION, 3)
    assert (order.values, order.budget, order.max_budget) == ({"lr": 0.1, "act": None}, 3.0, 9.0)
    assert (order.budgets, order.unit, order.seed, order.call) == ((1.0, 3.0, 9.0), "steps", 11, "evaluate")
    assert order.directory == assignment.place == str(tmp_path / "evaluations/2-0-5/rung1/attempt3")
    assert (assignment.heartbeat_s, assignment.renew_at) == (5.0, 105.0)
    assert assignment.renewal() == RenewRequest(agent="a+2", evaluation=EVALUATION, attempt=3)
    assert assignment.release(HandBack(HandBackKind.REFUSED, "so"), "d") == ReleaseRequest(
        agent="a+2", evaluation=EVALUATION, attempt=3, reason="so", directory="d", kind=HandBackKind.REFUSED
    )
    assert not (tmp_path / "evaluations").exists()


def test_a_grant_names_the_newest_checkpoint_that_can_be_seen_from_here(tmp_path: Path) -> None:
    below, first = (tmp_path / f"evaluations/2-0-5/{name}" for name in ("rung0/attempt1", "rung1/attempt1"))
    for directory in (below, first):
        directory.mkdir(parents=True)
        (directory / "weights").write_text("1")
    sent = ("evaluations/2-0-5/rung1/attempt2", "evaluations/2-0-5/rung1/attempt1")
    given = grant(previous_directory="evaluations/2-0-5/rung0/attempt1", resume_directories=sent)
    assignment = assigned(tmp_path, given)
    order = assignment.order
    assert (order.previous_directory, order.resume_directory) == (str(below), str(first))
    assert assignment.report(Outcome(loss=1.0)).resumed_from == 1


def read(message: Plain) -> Grant:
    return wire.from_message(message, Grant)


@pytest.mark.parametrize(
    "wrong",
    [
        {"evaluation": [2, 0, 5]},
        {"evaluation": None},
        {"attempt": "many"},
        {"values": None},
        {"budget": None},
        {"heartbeat_s": "often"},
        {"heartbeat_s": 0.0},
        {"heartbeat_s": math.inf},
        {"resume_directories": None},
    ],
    ids=str,
)
def test_a_grant_of_another_shape_is_refused_and_its_field_named(wrong: dict[str, Plain]) -> None:
    with pytest.raises(ProtocolMismatch, match=next(iter(wrong))):
        read({**wire.to_message(grant()), **wrong})


OPTIONAL = {"previous_directory", "resume_directories", "note", "integer_budgets", "maximize", "timeline"}


@pytest.mark.parametrize("name", sorted(wire.to_message(grant()).keys() - OPTIONAL))
def test_a_grant_that_lacks_a_part_is_refused(name: str) -> None:
    message = wire.to_message(grant())
    del message[name]
    with pytest.raises(ProtocolMismatch, match="expected a grant" if name == "type" else f"without '{name}'"):
        read(message)


@pytest.mark.parametrize("message", [None, [], "grant"])
def test_a_grant_that_is_no_mapping_is_refused(message: Plain) -> None:
    with pytest.raises(ProtocolMismatch, match="expected a grant"):
        read(message)
