"""The points that several attempts of one evaluation reported, as one learning curve.

Law of this file: each step occurs once; if two attempts reported it, the later attempt's point counts.
"""

from __future__ import annotations

from hpbandster_lite.records import CurvePoint

Curve = tuple[CurvePoint, ...]


def joined(earlier: Curve, later: Curve) -> Curve:
    """The points of earlier attempts and of a later one, by step; the curve of a single attempt is returned as is."""
    if not earlier or not later:
        return later or earlier
    steps = {point.step for point in later}
    points = [*(point for point in earlier if point.step not in steps), *later]
    # NaN is a valid step and has no order: such points come last.
    return tuple(sorted(points, key=lambda point: (point.step != point.step, point.step)))
