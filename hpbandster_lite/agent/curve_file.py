"""The points of an attempt beside its checkpoint, so that the attempt which continues from there has them, too.

Law of this file: it writes only where the attempt has a directory already: without one there is no checkpoint to
continue from. A disk that takes no more points costs points, never the evaluation.
"""

from __future__ import annotations

import logging
import os
from itertools import islice
from pathlib import Path

from hpbandster_lite import wire
from hpbandster_lite.agent.assignment import MAX_CURVE_BYTES, Curve
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.records import CurvePoint, Plain
from hpbandster_lite.rundir import RunDirectory

log = logging.getLogger(__name__)

MOST_LINES = 200_000
"""Most points that are read; a longer curve does not fit into a message."""


class CurveFile:
    """Appends the points of one attempt to a file in its directory.

    Parameters
    ----------
    place
        The attempt's directory, which need not exist.
    earlier
        Points of earlier attempts, which are written first.
    """

    def __init__(self, place: str, earlier: tuple[CurvePoint, ...] = ()) -> None:
        self._place = place
        self._waiting = list(earlier)

    def add(self, point: CurvePoint) -> None:
        """Write a point, and those before it that the directory came too late for."""
        self._waiting.append(point)
        if not os.path.isdir(self._place):  # noqa: PTH112 (no path object for each point)
            return
        lines = "".join(f"{wire.encode(list(each))}\n" for each in self._waiting)
        self._waiting.clear()
        try:
            with Path(self._place, RunDirectory.CURVE_NAME).open("a", encoding="ascii") as file:
                file.write(lines)
        except OSError as error:
            log.debug("a point of the learning curve is not in %s: %s", self._place, error)


def earlier_curve(directory: str | None) -> tuple[CurvePoint, ...]:
    """The points beside the checkpoint that an attempt continues from; none where there is no file."""
    if directory is None:
        return ()
    curve = Curve(MAX_CURVE_BYTES // 2)
    try:
        with Path(directory, RunDirectory.CURVE_NAME).open("rb") as file:
            for line in islice(file, MOST_LINES):
                point = _point(line)
                if point is not None:
                    curve.add(point)
    except OSError:
        # None was written, or the directory is out of reach.
        pass
    return curve.points()


def _point(line: bytes) -> CurvePoint | None:
    """The point in a line; None if a kill or a full disk cut it off."""
    try:
        content = wire.decode(line.decode("ascii", errors="replace"))
    except ProtocolMismatch:
        return None
    match content:
        case [float(step), float(loss), dict(metrics)]:
            return CurvePoint(step, loss, _named(metrics))
        case _:
            return None


def _named(metrics: dict[str | int, Plain]) -> dict[str, Plain]:
    return {str(name): value for name, value in metrics.items()}
