"""The points of several attempts are one curve: in order, each step once, the later attempt's point."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.protocol.learning_curves import Curve, by_step, joined
from hpbandster_lite.records import CurvePoint


def curve(*steps: float, loss: float = 0.0) -> Curve:
    return tuple(CurvePoint(step, loss) for step in steps)


def test_points_before_the_resume_stay() -> None:
    assert joined(curve(1, 2, 3), curve(4, 5)) == curve(1, 2, 3, 4, 5)


def test_the_later_point_of_a_step_counts() -> None:
    found = joined(curve(1, 2, 3, loss=1.0), curve(2, 3, 4, loss=2.0))
    assert [(point.step, point.loss) for point in found] == [(1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]


def test_the_curve_of_one_attempt_has_each_step_once_and_in_order_too() -> None:
    points = (*curve(2, 1), *curve(1, loss=2.0))
    wanted = (CurvePoint(1, 2.0), CurvePoint(2, 0.0))
    assert by_step(points) == joined((), points) == joined(points, ()) == wanted


def test_a_curve_in_order_stays_the_same_object() -> None:
    points = curve(1, 2, 3)
    assert by_step(points) is points


def test_a_step_without_an_order_comes_last() -> None:
    assert [math.isnan(point.step) for point in joined(curve(math.nan, 1), curve(2))] == [False, False, True]
    assert len(joined(curve(math.nan), curve(float("nan")))) == 1


steps = st.lists(st.integers(0, 20), unique=True).map(lambda numbers: curve(*sorted(map(float, numbers))))


@given(first=steps, second=steps, third=steps)
def test_no_step_is_lost_or_doubled_by_joining(first: Curve, second: Curve, third: Curve) -> None:
    whole = joined(joined(first, second), third)
    assert [point.step for point in whole] == sorted({point.step for point in (*first, *second, *third)})
    assert joined(first, joined(second, third)) == whole
    assert joined(whole, third) == whole
