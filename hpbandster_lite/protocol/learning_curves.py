"""The points that several attempts of one evaluation reported, as one learning curve.

Law of this file: no step twice; where two attempts reported a step, the later attempt's point counts.
"""

from __future__ import annotations

from hpbandster_lite.records import CurvePoint

Curve = tuple[CurvePoint, ...]


def joined(earlier: Curve, later: Curve) -> Curve:
    """The points of earlier attempts and of a later one, by step; the curve of one attempt alone stays as it is."""
    if not earlier or not later:
        return later or earlier
    steps = {point.step for point in later}
    points = [*(point for point in earlier if point.step not in steps), *later]
    # NaN, which is allowed as a step, has no order: such points come last.
    return tuple(sorted(points, key=lambda point: (point.step != point.step, point.step)))
