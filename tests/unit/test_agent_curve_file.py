"""Points are stored beside their checkpoint, and the next attempt continues from both."""

from __future__ import annotations

from pathlib import Path

from hpbandster_lite.agent.curve_file import CurveFile, earlier_curve
from hpbandster_lite.records import CurvePoint
from hpbandster_lite.rundir import RunDirectory, holds_checkpoint

POINTS = tuple(CurvePoint(float(step), 1 / step, {"accuracy": step}) for step in range(1, 6))


def test_points_are_written_where_the_attempt_has_a_directory(tmp_path: Path) -> None:
    place = tmp_path / "attempt1"
    file = CurveFile(str(place), POINTS[:1])
    file.add(POINTS[1])
    assert not place.exists()
    place.mkdir()
    file.add(POINTS[2])
    assert earlier_curve(str(place)) == POINTS[:3]


def test_points_are_no_checkpoint(tmp_path: Path) -> None:
    CurveFile(str(tmp_path)).add(POINTS[0])
    assert not holds_checkpoint(tmp_path)


def test_an_attempt_without_an_earlier_one_has_no_earlier_points(tmp_path: Path) -> None:
    assert earlier_curve(None) == earlier_curve(str(tmp_path)) == ()


def test_a_line_that_a_kill_cut_off_costs_only_its_point(tmp_path: Path) -> None:
    for point in POINTS[:2]:
        CurveFile(str(tmp_path)).add(point)
    path = tmp_path / RunDirectory.CURVE_NAME
    path.write_bytes(path.read_bytes()[:-5] + b"\n[1]\n\xff\n")
    assert earlier_curve(str(tmp_path)) == POINTS[:1]


def test_a_place_that_cannot_be_written_costs_no_evaluation(tmp_path: Path) -> None:
    (tmp_path / RunDirectory.CURVE_NAME).mkdir()
    CurveFile(str(tmp_path)).add(POINTS[0])
    assert earlier_curve(str(tmp_path)) == ()
