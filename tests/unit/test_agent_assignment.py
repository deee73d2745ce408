"""The evaluation that an agent holds: its curve within bounds, its places, and the grant that it was read from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite import wire
from hpbandster_lite.agent import AgentOptions
from hpbandster_lite.agent.assignment import Curve, Places, read_grant
from hpbandster_lite.errors import ProtocolMismatch, RunDirectoryError
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, Outcome, Plain, Report

EVALUATION = EvaluationId(ConfigId(2, 0, 5), 1)

# ---------------------------------------------------------------------------------------------------------- scratch


def test_a_scratch_folder_is_gone_at_the_end_but_for_checkpoints(tmp_path: Path) -> None:
    places = Places(AgentOptions(problem="p", nameserver=("h", 1), run_id="run", key="k", scratch=str(tmp_path)))
    attempts = [places.directory.attempt_directory(EvaluationId(ConfigId(0, 0, n), 0), 1) for n in range(3)]
    for attempt in attempts[:2]:
        attempt.mkdir(parents=True)
        (attempt / "log.txt").write_text("begin")
    (attempts[1] / "state.json").write_text("{}")
    places.tidy(map(str, attempts))
    assert not attempts[0].parents[1].exists()
    assert (attempts[1] / "state.json").exists()
    (attempts[1] / "state.json").unlink()
    places.tidy(map(str, attempts))
    assert not places.directory.path.exists()
    assert tmp_path.exists()


def test_what_a_run_directory_holds_is_left_for_people_to_read(tmp_path: Path) -> None:
    places = Places(AgentOptions(problem="p", run_dir=str(tmp_path)))
    attempt = places.directory.attempt_directory(EvaluationId(ConfigId(0, 0, 0), 0), 1)
    attempt.mkdir(parents=True)
    (attempt / "log.txt").write_text("begin")
    places.tidy([str(attempt)])
    assert (attempt / "log.txt").exists()


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
    # No more is thinned than must be: with half the stride it would not have fitted.
    assert stride == 1 or stride & (stride - 1) == 0 or len(kept) == 1


def test_only_what_has_not_been_acknowledged_is_sent() -> None:
    curve = curve_of(1, 2)
    assert [point.step for point in curve.unsent()] == [1, 2]
    assert [point.step for point in curve.unsent()] == [1, 2]
    curve.acknowledge()
    assert curve.unsent() == []
    curve.add(CurvePoint(3, 1.0))
    assert [point.step for point in curve.unsent()] == [3]
    assert [point.step for point in curve.points()] == [1, 2, 3]


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


# ----------------------------------------------------------------------------------------------------------- places


def places(run_dir: Path | None = None, scratch: Path | None = None) -> Places:
    way: dict[str, Any] = {"run_dir": str(run_dir)} if run_dir else {"nameserver": ("node1", 9090), "run_id": "r1"}
    return Places(AgentOptions(problem="digits", scratch=None if scratch is None else str(scratch), **way))


def checkpoint(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "weights").write_text("1")
    return directory


def test_directories_travel_relative_to_a_run_directory_that_can_be_seen(tmp_path: Path) -> None:
    run = places(tmp_path)
    directory = run.directory.attempt_directory(EVALUATION, 2)
    assert run.told(str(directory)) is None
    checkpoint(directory)
    told = run.told(str(directory))
    assert told == "evaluations/2-0-5/rung1/attempt2"
    assert run.seen(told) == str(directory)
    assert run.seen(str(directory)) == str(directory)


def test_directories_travel_as_paths_of_this_host_where_there_is_no_run_directory(tmp_path: Path) -> None:
    alone = places(scratch=tmp_path)
    directory = checkpoint(alone.directory.attempt_directory(EVALUATION, 1))
    told = alone.told(str(directory)) or ""
    assert re.fullmatch(rf"{tmp_path}/r1-[0-9a-f]{{8}}/evaluations/2-0-5/rung1/attempt1", told)
    assert alone.seen(told) == str(directory)
    assert places(scratch=tmp_path).seen(told) == str(directory)


def test_no_start_of_a_worker_takes_what_an_earlier_one_left_under_the_same_run_id_for_its_own(tmp_path: Path) -> None:
    earlier, later = (places(scratch=tmp_path).directory.attempt_directory(EVALUATION, 1) for _ in range(2))
    checkpoint(earlier)
    assert not later.exists()


def test_that_checkpoints_lie_elsewhere_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = places(scratch=tmp_path)
    here = str(checkpoint(tmp_path / "here"))
    for told in (None, here, "/nowhere/attempt1", "/nowhere/attempt2"):
        order = read_grant(grant(previous_directory=told), alone, now=0.0, agent="a").order
        assert order.previous_directory == (here if told == here else None)
    (record,) = caplog.records
    assert "lies where this worker cannot see it (/nowhere/attempt1)" in record.getMessage()


@pytest.mark.parametrize("told", [None, "evaluations/2-0-5/rung0/attempt1", "/nowhere/attempt1"])
def test_a_checkpoint_that_cannot_be_seen_from_here_is_none(told: str | None, tmp_path: Path) -> None:
    assert places(tmp_path / "run").seen(told) is None
    assert places(scratch=tmp_path / "scratch").seen(told) is None


def test_a_relative_directory_means_nothing_where_there_is_no_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "evaluations")
    assert places(scratch=tmp_path / "scratch").seen("evaluations") is None


def test_the_temporary_folder_of_a_user_is_the_default_and_is_the_user_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    alone = places()
    assert alone.directory.path.parent == tmp_path
    assert re.fullmatch(r"hpbandster_lite-\d+-r1-[0-9a-f]{8}", alone.directory.path.name)
    assert alone.directory.path.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (places().directory.path / "theirs").touch()
    places().directory.path.chmod(0o755)
    with pytest.raises(RunDirectoryError, match="open to other users"):
        places()


def test_a_report_that_nobody_took_is_left_for_the_next_master(tmp_path: Path) -> None:
    report = Report(evaluation=EVALUATION, attempt=2, outcome=Outcome(loss=0.5))
    path = places(tmp_path).leave_report(report, "agent1")
    assert path == tmp_path / "reports" / "2-0-5@1-2.json"
    left = json.loads(path.read_text())
    assert (left["agent"], wire.from_message(left["report"], Report)) == ("agent1", report)
    assert path.parent.stat().st_mode & 0o077 == 0


# ------------------------------------------------------------------------------------------------------------ grant


def grant(**changed: Plain) -> dict[str, Plain]:
    return {
        "evaluation": [[2, 0, 5], 1],
        "attempt": 3,
        "values": {"lr": 0.1, "act": None},
        "budget": 3,
        "max_budget": 9.0,
        "budgets": [1, 3, 9],
        "unit": "epochs",
        "seed": 11,
        "heartbeat_s": 5,
        "previous_directory": None,
        "resume_directories": [],
        **changed,
    }


def test_a_grant_becomes_an_assignment_with_an_order_for_the_trainer(tmp_path: Path) -> None:
    assignment = read_grant(grant(), places(tmp_path), now=100.0, agent="a+2")
    order = assignment.order
    assert (assignment.evaluation, assignment.attempt) == (EVALUATION, 3)
    assert (order.values, order.budget, order.max_budget) == ({"lr": 0.1, "act": None}, 3.0, 9.0)
    assert (order.budgets, order.unit, order.seed, order.call) == ((1.0, 3.0, 9.0), "epochs", 11, "evaluate")
    assert order.directory == assignment.place == str(tmp_path / "evaluations/2-0-5/rung1/attempt3")
    assert (assignment.heartbeat_s, assignment.renew_at) == (5.0, 105.0)
    assert assignment.key == {"agent": "a+2", "evaluation": [[2, 0, 5], 1], "attempt": 3}
    assert not (tmp_path / "evaluations").exists()


def test_a_grant_names_the_newest_checkpoint_that_can_be_seen_from_here(tmp_path: Path) -> None:
    run = places(tmp_path)
    below = checkpoint(tmp_path / "evaluations/2-0-5/rung0/attempt1")
    first = checkpoint(tmp_path / "evaluations/2-0-5/rung1/attempt1")
    told = ["evaluations/2-0-5/rung1/attempt2", "evaluations/2-0-5/rung1/attempt1"]
    order = read_grant(
        grant(previous_directory="evaluations/2-0-5/rung0/attempt1", resume_directories=told), run, now=0.0, agent="a"
    ).order
    assert (order.previous_directory, order.resume_directory) == (str(below), str(first))


@pytest.mark.parametrize(
    "wrong",
    [
        {"evaluation": [2, 0, 5]},
        {"evaluation": None},
        {"attempt": "many"},
        {"values": None},
        {"budget": None},
        {"heartbeat_s": "often"},
        {"resume_directories": None},
    ],
)
def test_a_grant_that_is_none_is_refused_and_shown(wrong: dict[str, Plain], tmp_path: Path) -> None:
    with pytest.raises(ProtocolMismatch, match="the master's grant is no evaluation"):
        read_grant(grant(**wrong), places(tmp_path), now=0.0, agent="a")


@pytest.mark.parametrize("name", sorted(grant()))
def test_a_grant_that_lacks_a_part_is_refused(name: str, tmp_path: Path) -> None:
    message = grant()
    del message[name]
    with pytest.raises(ProtocolMismatch, match=f"KeyError\\('{name}'\\)"):
        read_grant(message, places(tmp_path), now=0.0, agent="a")


@pytest.mark.parametrize("message", [None, [], "grant"])
def test_a_grant_that_is_no_mapping_is_refused(message: Plain, tmp_path: Path) -> None:
    with pytest.raises(ProtocolMismatch):
        read_grant(message, places(tmp_path), now=0.0, agent="a")


def test_workers_of_one_host_may_make_their_folder_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "same")
    made = places(scratch=tmp_path).directory.path
    # As the second one sees it that looked before the first one made it.
    monkeypatch.setattr(Path, "exists", lambda path, **_: False)
    assert places(scratch=tmp_path).directory.path == made
