"""Directories of attempts, how messages name them, and the files that an agent leaves in the run directory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.assignment import assignment_of
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.protocol.messages import LeftReport
from hpbandster_lite.records import ConfigId, EvaluationId, Outcome, Report
from tests.grants import grant

EVALUATION = EvaluationId(ConfigId(2, 0, 5), 1)


def test_a_scratch_folder_is_gone_at_the_end_but_for_checkpoints(tmp_path: Path) -> None:
    options = AgentOptions(problem="p", nameserver=("h", 1), run_id="run", key="k", scratch=str(tmp_path))
    places = AttemptDirectories(options)
    attempts = [Path(places.new(EvaluationId(ConfigId(0, 0, n), 0), 1)) for n in range(3)]
    for attempt in attempts[:2]:
        attempt.mkdir(parents=True)
        (attempt / "log.txt").write_text("begin")
    (attempts[1] / "state.json").write_text("{}")
    places.tidy()
    assert not attempts[0].parents[1].exists()
    assert (attempts[1] / "state.json").exists()
    (attempts[1] / "state.json").unlink()
    places.tidy()
    assert not places.directory.path.exists()
    assert tmp_path.exists()


def test_what_an_attempt_keeps_stays_in_a_scratch_folder(tmp_path: Path) -> None:
    options = AgentOptions(problem="p", nameserver=("h", 1), run_id="run", key="k", scratch=str(tmp_path))
    places = AttemptDirectories(options)
    attempt = Path(places.new(EvaluationId(ConfigId(0, 0, 0), 0), 1))
    (attempt / "keep").mkdir(parents=True)
    (attempt / "keep" / "events").write_text("a curve")
    places.tidy()
    assert (attempt / "keep" / "events").exists()


def test_when_a_search_is_complete_a_scratch_folder_keeps_the_best_checkpoints_alone(tmp_path: Path) -> None:
    options = AgentOptions(problem="p", nameserver=("h", 1), run_id="run", key="k", scratch=str(tmp_path))
    places = AttemptDirectories(options)
    attempts = [Path(places.new(EvaluationId(ConfigId(0, 0, n), 0), 1)) for n in range(3)]
    for attempt in attempts:
        (attempt / "keep").mkdir(parents=True)
        (attempt / "state.json").write_text("{}")
    (attempts[1] / "keep" / "events").write_text("a curve")
    places.tidy({"0-0-2"})
    assert not attempts[0].parents[1].exists()
    assert [path.name for path in attempts[1].iterdir()] == ["keep"]
    assert (attempts[2] / "state.json").exists()


def test_what_a_run_directory_holds_is_left_for_people_to_read(tmp_path: Path) -> None:
    places = AttemptDirectories(AgentOptions(problem="p", run_dir=str(tmp_path)))
    attempt = Path(places.new(EvaluationId(ConfigId(0, 0, 0), 0), 1))
    attempt.mkdir(parents=True)
    (attempt / "log.txt").write_text("begin")
    places.tidy()
    assert (attempt / "log.txt").exists()


def places(run_dir: Path | None = None, scratch: Path | None = None) -> AttemptDirectories:
    way: dict[str, Any] = {"run_dir": str(run_dir)} if run_dir else {"nameserver": ("node1", 9090), "run_id": "r1"}
    return AttemptDirectories(AgentOptions(problem="digits", scratch=None if scratch is None else str(scratch), **way))


def checkpoint(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "weights").write_text("1")
    return directory


def test_directories_travel_relative_to_a_run_directory_that_can_be_seen(tmp_path: Path) -> None:
    run = places(tmp_path)
    directory = run.directory.attempt_directory(EVALUATION, 2)
    assert run.to_send(str(directory)) is None
    checkpoint(directory)
    sent = run.to_send(str(directory))
    assert sent == "evaluations/2-0-5/rung1/attempt2"
    assert run.received(sent) == str(directory)
    assert run.received(str(directory)) == str(directory)


def test_directories_travel_as_paths_of_this_host_where_there_is_no_run_directory(tmp_path: Path) -> None:
    alone = places(scratch=tmp_path)
    directory = checkpoint(alone.directory.attempt_directory(EVALUATION, 1))
    sent = alone.to_send(str(directory)) or ""
    assert re.fullmatch(rf"{tmp_path}/r1-[0-9a-f]{{8}}/evaluations/2-0-5/rung1/attempt1", sent)
    assert alone.received(sent) == str(directory)
    assert places(scratch=tmp_path).received(sent) == str(directory)


def test_no_start_of_a_worker_takes_what_an_earlier_one_left_under_the_same_run_id_for_its_own(tmp_path: Path) -> None:
    earlier, later = (places(scratch=tmp_path).directory.attempt_directory(EVALUATION, 1) for _ in range(2))
    checkpoint(earlier)
    assert not later.exists()


def test_that_checkpoints_are_elsewhere_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    alone = places(scratch=tmp_path)
    here = str(checkpoint(tmp_path / "here"))
    for sent in (None, here, "/nowhere/attempt1", "/nowhere/attempt2"):
        order = assignment_of(grant({}, previous_directory=sent), alone, now=0.0, agent="a").order
        assert order.previous_directory == (here if sent == here else None)
    (record,) = caplog.records
    assert "lies where this worker cannot see it (/nowhere/attempt1)" in record.getMessage()


@pytest.mark.parametrize("sent", [None, "evaluations/2-0-5/rung0/attempt1", "/nowhere/attempt1"])
def test_a_checkpoint_that_cannot_be_seen_from_here_is_none(sent: str | None, tmp_path: Path) -> None:
    assert places(tmp_path / "run").received(sent) is None
    assert places(scratch=tmp_path / "scratch").received(sent) is None


def test_a_relative_directory_means_nothing_where_there_is_no_run_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "evaluations")
    assert places(scratch=tmp_path / "scratch").received("evaluations") is None


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
    places().directory.path.chmod(0o775)
    with pytest.raises(RunDirectoryError, match="open to other users"):
        places()


def test_a_report_without_an_acknowledgement_is_left_for_the_next_master(tmp_path: Path) -> None:
    report = Report(evaluation=EVALUATION, attempt=2, outcome=Outcome(loss=0.5))
    path = places(tmp_path).leave_report(report, "agent1")
    assert path == tmp_path / "reports" / "2-0-5@1-2.json"
    assert wire.from_message(wire.decode(path.read_text())) == LeftReport(agent="agent1", report=report)
    assert path.parent.stat().st_mode & 0o077 == 0


def test_workers_of_one_host_may_make_their_folder_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "same")
    made = places(scratch=tmp_path).directory.path
    # What the second process sees if it checks before the first one creates the directory.
    monkeypatch.setattr(Path, "exists", lambda path, **_: False)
    assert places(scratch=tmp_path).directory.path == made
