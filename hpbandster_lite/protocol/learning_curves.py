"""The points that the attempts of one evaluation reported, as one learning curve.

Law of this file: points are in the order of their steps, and each step occurs once; the point that was reported last
counts, whether one attempt reported the step twice or two attempts did.
"""

from __future__ import annotations

import itertools

from hpbandster_lite.records import CurvePoint

Curve = tuple[CurvePoint, ...]


def joined(earlier: Curve, later: Curve) -> Curve:
    """The points of earlier attempts and of a later one, by step."""
    if not earlier and _is_ascending(later):
        return later
    last = {key_of(point): point for point in (*earlier, *later)}
    # NaN is a valid step and has no order: its point comes last.
    return tuple(sorted(last.values(), key=lambda point: (point.step != point.step, point.step)))


def by_step(points: Curve) -> Curve:
    """The points of one attempt, which may have reported a step again or an earlier step later."""
    return joined((), points)


def key_of(point: CurvePoint) -> float | None:
    """What two points of one step have in common; None for NaN, which does not equal itself."""
    return None if point.step != point.step else point.step


def _is_ascending(points: Curve) -> bool:
    return all(one.step < other.step for one, other in itertools.pairwise(points))
