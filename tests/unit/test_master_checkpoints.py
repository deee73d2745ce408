"""What a master deletes: at the end of its search, beyond a quota, and never what anybody needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite.master.checkpoint_quota import LOOK_EVERY_S, MOST_NAMED, CheckpointQuota
from hpbandster_lite.records import ConfigId, EvaluationId, Limits
from hpbandster_lite.rundir import CheckpointSizes, RunDirectory, holds_checkpoint, size_text
from tests.engine_room import finish, granted, loss, started

SIZE = 1_000


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.WARNING):
        yield


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "run")


def save(directory: RunDirectory, evaluation: EvaluationId, attempt: int = 1, size: int = SIZE) -> Path:
    place = directory.attempt_directory(evaluation, attempt)
    (place / "keep").mkdir(parents=True, exist_ok=True)
    (place / "state").write_bytes(b"x" * size)
    (place / "log.txt").write_text("l" * 10 * SIZE)
    (place / "keep" / "events").write_text("e" * 10 * SIZE)
    return place


def left(directory: RunDirectory) -> set[str]:
    """The evaluations that have a checkpoint."""
    found = (directory.path / "evaluations").glob("*/rung*/attempt*")
    return {f"{place.parts[-3]}@{place.parts[-2].removeprefix('rung')}" for place in found if holds_checkpoint(place)}


# -------------------------------------------------------------------------------------------------------------- sizes


def test_the_sizes_are_those_of_the_last_measurement_and_logs_and_what_is_kept_do_not_count(
    directory: RunDirectory,
) -> None:
    sizes = CheckpointSizes(directory)
    one, other = EvaluationId(ConfigId(0, 0, 0), 0), EvaluationId(ConfigId(0, 0, 1), 1)
    save(directory, one)
    save(directory, one, attempt=2)
    place = save(directory, other, size=5)
    sizes.measure([one, other, EvaluationId(ConfigId(9, 0, 0), 0)])
    assert (sizes[one], sizes[other], sizes.total_bytes, sizes.evaluations) == (2_000, 5, 2_005, [one, other])
    (place / "state").unlink()
    assert sizes.total_bytes == 2_005
    sizes.measure([other])
    assert (sizes.total_bytes, sizes.evaluations) == (2_000, [one])


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (51_230_000_000, "51.2 GB"), (2e15, "2e+03 TB")]
)
def test_a_size_is_written_for_people(size: float, text: str) -> None:
    assert size_text(size) == text


# -------------------------------------------------------------------------------------------------------------- quota


def test_beyond_the_quota_the_worst_ranked_finished_ones_go_first_and_the_log_names_them(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    engine = started(Limits(brackets=1))
    quota = CheckpointQuota(directory, 5 * SIZE)
    for number, value in enumerate([0.5, 0.1, 0.9, 0.3, 0.7, 0.2]):
        grant = granted(engine, "a", number)
        save(directory, grant.evaluation)
        engine.report("a", loss(grant, value), now=0.0)
    quota.look(engine, 0.0)
    assert left(directory) == {f"0-0-{index}@0" for index in (0, 1, 3, 4, 5)}
    assert "took 6 kB, more than the quota of 5 kB: deleted those of 0-0-2@0 (loss 0.9, 1 kB); 5 kB are" in caplog.text
    place = directory.attempt_directory(EvaluationId(ConfigId(0, 0, 2), 0), 1)
    assert {each.name for each in place.iterdir()} == {"log.txt", "keep"}
    assert list((place / "keep").iterdir())


def test_what_runs_is_measured_while_it_runs_and_nothing_that_is_needed_goes(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    engine = started(Limits(brackets=1))
    quota = CheckpointQuota(directory, 2 * SIZE)
    grant = granted(engine, "a")
    save(directory, grant.evaluation)
    engine.report("a", loss(grant, 0.5), now=0.0)
    running = granted(engine, "a", 1)
    quota.look(engine, 0.0)
    save(directory, running.evaluation, size=5 * SIZE)
    quota.look(engine, LOOK_EVERY_S - 0.1)
    assert not caplog.text
    for number in range(1, 4):
        quota.look(engine, number * LOOK_EVERY_S)
    assert left(directory) == {"0-0-0@0", "0-0-1@0"}
    assert caplog.text.count("the checkpoints take 6 kB, more than the quota of 2 kB: the incumbent, running") == 1


def test_what_ends_between_two_looks_is_measured_by_its_entries_and_what_was_swept_is_gone(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    engine = started(Limits(brackets=1))
    quota = CheckpointQuota(directory, 30 * SIZE)
    quota.look(engine, 0.0)
    for grant in finish(engine):
        save(directory, grant.evaluation, size=3 * SIZE)
    assert len(left(directory)) == 13
    quota.note(engine.start(2, Limits(brackets=1), now=0.0).entries)
    quota.look(engine, 100.0)
    assert len(left(directory)) == 13
    turn = started(Limits(brackets=1)).lease("a", 0, now=0.0)
    quota.note(turn.entries)
    quota._changed |= engine.state.evaluations.keys()
    quota.look(engine, 200.0)
    assert len(left(directory)) == 10
    assert "took 39 kB" in caplog.text
    quota.note_swept({each.config_id for each in engine.state.evaluations})
    assert len(quota._changed) == 10


def test_a_line_of_the_log_names_some_and_counts_the_rest(
    directory: RunDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    engine = started(Limits(brackets=6))
    for grant in finish(engine):
        save(directory, grant.evaluation)
    total = len(engine.state.evaluations)
    CheckpointQuota(directory, 1).look(engine, 0.0)
    best = engine.best()
    assert best is not None
    assert left(directory) == {f"{best.config_id}@{best.rung}"}
    assert f"and {total - 1 - MOST_NAMED} others; 1 kB are left" in caplog.text
