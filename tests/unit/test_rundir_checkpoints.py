"""Checkpoints are deleted once no evaluation can need them, and nothing else is deleted."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from hpbandster_lite.records import ConfigId, EvaluationId
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory, checkpoint_files, holds_checkpoint

FIRST, SECOND, THIRD = ConfigId(0, 0, 0), ConfigId(0, 0, 1), ConfigId(1, 0, 0)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "run")
    for config_id in (FIRST, SECOND, THIRD):
        for rung, attempt in ((0, 1), (0, 2), (1, 1)):
            place = made.attempt_directory(EvaluationId(config_id, rung), attempt)
            (place / "deep").mkdir(parents=True)
            (place / made.LOG_NAME).write_text("why it failed")
            (place / "model.pt").write_text("weights")
            (place / "deep" / "optimiser.pt").write_text("moments")
    return made


def held(directory: RunDirectory, config_id: ConfigId) -> set[str]:
    """Names of the files of a configuration."""
    return {path.name for path in directory.configuration_directory(config_id).rglob("*") if path.is_file()}


EVERYTHING = {RunDirectory.LOG_NAME, "model.pt", "optimiser.pt"}


def keeper(directory: RunDirectory, *, keep_best: int | None = 1) -> CheckpointKeeper:
    return CheckpointKeeper(directory, keep_best=keep_best, delay_s=60.0)


def test_checkpoints_of_all_attempts_go_one_lease_after_a_configuration_is_out_and_logs_stay(
    directory: RunDirectory,
) -> None:
    keeping = keeper(directory)
    keeping.out([FIRST], now=100.0)
    assert len(keeping.sweep(159.9)) == 0
    assert held(directory, FIRST) == EVERYTHING
    assert len(keeping.sweep(160.0)) == 1
    assert held(directory, FIRST) == {RunDirectory.LOG_NAME}
    assert held(directory, SECOND) == held(directory, THIRD) == EVERYTHING
    assert len(keeping.sweep(1_000.0)) == 0


def test_each_configuration_waits_for_its_own_time(directory: RunDirectory) -> None:
    keeping = keeper(directory)
    keeping.out([FIRST], now=0.0)
    keeping.out([SECOND, THIRD], now=30.0)
    assert len(keeping.sweep(60.0)) == 1
    assert held(directory, SECOND) == EVERYTHING
    assert len(keeping.sweep(90.0)) == 2


def test_the_incumbent_keeps_its_checkpoint_until_another_takes_its_place(directory: RunDirectory) -> None:
    keeping = keeper(directory)
    keeping.out([FIRST], now=0.0)
    assert len(keeping.sweep(60.0, spare={FIRST})) == 0
    assert len(keeping.sweep(119.9, spare={SECOND})) == 0
    assert held(directory, FIRST) == EVERYTHING
    assert len(keeping.sweep(120.0, spare={SECOND})) == 1
    assert held(directory, FIRST) == {RunDirectory.LOG_NAME}


def test_the_incumbent_keeps_only_its_own_checkpoint(directory: RunDirectory) -> None:
    keeping = keeper(directory)
    keeping.out([FIRST, SECOND, THIRD], now=0.0)
    assert len(keeping.sweep(60.0, spare={FIRST})) == 2
    assert held(directory, FIRST) == EVERYTHING
    assert held(directory, SECOND) == held(directory, THIRD) == {RunDirectory.LOG_NAME}


def test_a_user_who_keeps_all_keeps_all(directory: RunDirectory) -> None:
    keeping = keeper(directory, keep_best=None)
    keeping.out([FIRST, SECOND], now=0.0)
    assert len(keeping.sweep(10_000.0)) == 0
    assert held(directory, FIRST) == EVERYTHING


def test_a_configuration_that_wrote_nothing_is_no_trouble(directory: RunDirectory) -> None:
    keeping = keeper(directory)
    keeping.out([ConfigId(9, 0, 0)], now=0.0)
    assert len(keeping.sweep(60.0)) == 1


def test_a_link_goes_and_what_it_points_to_stays(directory: RunDirectory, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "images").write_text("dear")
    attempt = directory.attempt_directory(EvaluationId(FIRST, 0), 1)
    (attempt / "data").symlink_to(data)
    (attempt / "dangling").symlink_to(tmp_path / "nowhere")
    keeping = keeper(directory)
    keeping.out([FIRST], now=0.0)
    keeping.sweep(60.0)
    assert not (attempt / "data").is_symlink()
    assert not (attempt / "dangling").is_symlink()
    assert (data / "images").read_text() == "dear"


def test_what_cannot_be_deleted_is_logged_and_the_rest_is_deleted(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    keeping = keeper(directory)
    keeping.out([FIRST, SECOND], now=0.0)
    with caplog.at_level(logging.WARNING):
        assert len(keeping.sweep(60.0)) == 2
    assert held(directory, FIRST) == held(directory, SECOND) == {RunDirectory.LOG_NAME, "optimiser.pt"}
    assert "a checkpoint could not be deleted" in caplog.text
    assert "deep" in caplog.text


def test_a_directory_that_cannot_be_read_does_not_end_the_master(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(116, "Stale file handle", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    keeping = keeper(directory)
    keeping.out([FIRST], now=0.0)
    with caplog.at_level(logging.WARNING):
        assert len(keeping.sweep(60.0)) == 1
    assert "Stale file handle" in caplog.text


# -------------------------------------------------------------------------------------- which files are checkpoints


def test_a_log_alone_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("begun")
    assert not holds_checkpoint(tmp_path)
    assert not holds_checkpoint(tmp_path / "none")
    (tmp_path / "weights").write_text("1")
    assert holds_checkpoint(tmp_path)


def test_a_file_that_a_full_disk_left_empty_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "state.json.half").touch()
    assert not holds_checkpoint(tmp_path)
    (tmp_path / "model").mkdir()
    assert not holds_checkpoint(tmp_path)
    (tmp_path / "model" / "weights").write_bytes(b"w")
    assert holds_checkpoint(tmp_path)


def test_a_checkpoint_is_every_file_and_link_that_holds_something_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "state" / "empty").mkdir(parents=True)
    (tmp_path / "log.txt").write_text("the attempt's own")
    (tmp_path / "state" / "log.txt").write_text("a file of the problem")
    (tmp_path / "state" / "half").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "model").write_text("weights")

    assert {Path(each.path).relative_to(tmp_path).as_posix() for each in checkpoint_files(tmp_path)} == {
        "state/log.txt",
        "link",
        "model",
    }
    assert not list(checkpoint_files(tmp_path / "none"))
