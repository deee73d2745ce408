"""Workers that are killed, stopped, late or lost: their evaluations run again, and every result counts once."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hpbandster_lite.agent.departure import OVER_AFTER_S
from hpbandster_lite.records import Expired, FailureKind, HandBackKind, LateReport, Leased, Recorded, Released
from hpbandster_lite.rundir import RunDirectory
from tests.service.disks import fill, small_disk
from tests.service.local_search import until
from tests.service.served_search import ServedSearch, continued, served_search, stopped, until_idle

pytestmark = pytest.mark.timeout(120)

LONG = {"lease_s": 600.0, "heartbeat_s": 0.5}
"""So long that no event of these tests results from its expiry."""

SHORT = {"lease_s": 2.0, "heartbeat_s": 0.2}
"""Long enough that a busy machine sends heartbeats in time."""


@pytest.fixture
def search(tmp_path: Path) -> Iterator[ServedSearch]:
    with served_search(tmp_path, **SHORT) as made:
        yield made


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[ServedSearch]:
    with served_search(tmp_path, **LONG) as made:
        yield made


# ------------------------------------------------------------------------------------------------------------- killed


@pytest.mark.parametrize("victims", [pytest.param("agent", marks=pytest.mark.slow), "whole tree"])
def test_a_killed_worker_s_evaluation_is_run_elsewhere_long_before_its_lease_ends(
    victims: str, patient: ServedSearch
) -> None:
    master = patient.start_master()
    patient.hold()
    killed = patient.start_worker(0)
    lost = patient.wait_working(killed)
    other = patient.start_worker(1)
    patient.wait_working(other)
    trainers = killed.trainers()
    for process in trainers if victims == "whole tree" else []:
        process.kill()
    killed.kill()
    patient.wait_expired(lost.evaluation)
    patient.hold(False)
    master.ends(0)
    other.ends(0)
    assert [entry.attempt for entry in patient.leased(lost.evaluation)] == [1, 2]
    assert f"-{other.pid}-" in patient.leased(lost.evaluation)[1].agent
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in trainers)
    patient.check()


def test_an_evaluation_that_costs_every_worker_its_life_ends_after_its_last_attempt(tmp_path: Path) -> None:
    with served_search(tmp_path, **LONG, algorithm="random", limits={"evaluations": 1}) as search:
        master = search.start_master()
        search.hold()
        for attempt in (1, 2, 3):
            worker = search.start_worker(attempt)
            until(lambda: len(search.of(Leased)) == attempt, "the worker has the evaluation")  # noqa: B023 (waits here)
            worker.kill()
            until(lambda: len(search.of(Expired)) == attempt, "its lease has ended")  # noqa: B023 (called in this turn)
        (recorded,) = search.of(Recorded)
        assert recorded.outcome.failure is not None
        assert recorded.outcome.failure.kind is FailureKind.INFRASTRUCTURE
        assert "lost 3 times" in recorded.outcome.failure.reason
        master.ends(0)
        assert search.verified()


def test_the_death_of_an_idle_worker_is_nothing_to_the_search(patient: ServedSearch) -> None:
    patient.extend(evaluations=1)
    master = patient.start_master()
    patient.hold()
    busy = patient.start_worker(0)
    patient.wait_working(busy)
    idle = patient.start_worker(1)
    until(idle.trainers, "the second worker has its trainer")
    (trainer,) = idle.trainers()
    until_idle(trainer)
    idle.kill()
    patient.hold(False)
    busy.ends(0)
    master.ends(0)
    assert not patient.of(Expired)
    patient.check()


def test_a_search_whose_last_worker_was_killed_waits_for_a_new_one_and_goes_on_with_it(patient: ServedSearch) -> None:
    master = patient.start_master()
    first = patient.start_worker()
    patient.wait_recorded(2)
    patient.hold()
    patient.wait_working(first)
    acknowledged = patient.results()
    first.kill()
    until(lambda: patient.of(Expired), "the lease of the killed worker has ended")
    patient.hold(False)
    patient.start_worker(1).ends(0)
    master.ends(0)
    patient.check(acknowledged)


def test_a_worker_that_comes_when_its_search_is_over_ends_at_once_with_words(patient: ServedSearch) -> None:
    master = patient.start_master()
    patient.start_worker(0).ends(0)
    master.ends(0)
    began = time.monotonic()
    output = patient.start_worker(1).ends(0)
    # The timeout of a worker that waits for a master is five times as long.
    assert time.monotonic() - began < OVER_AFTER_S
    assert "the search is over: the one bracket is complete" in output
    # A master that continues the search keeps the workers that start at the same time.
    patient.extend(brackets=2)
    master = patient.start_master(waits=False)
    patient.start_worker(2).ends(0)
    master.ends(0)
    assert {each.config_id.bracket for each in patient.results()} == {0, 1}
    patient.check()


def test_a_worker_that_joins_late_works_while_the_others_are_busy(patient: ServedSearch) -> None:
    master = patient.start_master()
    patient.hold()
    first = patient.start_worker(0)
    held = patient.wait_working(first)
    late = patient.start_worker(1)
    assert patient.wait_working(late).evaluation != held.evaluation
    patient.hold(False)
    for process in (first, late, master):
        process.ends(0)
    assert {entry.attempt for entry in patient.of(Leased)} == {1}
    patient.check()


# ---------------------------------------------------------------------------------------------------------- its disk


def test_an_evaluation_whose_checkpoint_finds_no_room_is_run_elsewhere_without_penalty(
    patient: ServedSearch, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        master = patient.start_master()
        crowded = patient.start_far_worker(0, disk)
        patient.wait_recorded(2)
        filler = fill(disk)
        until(lambda: patient.of(Released), "the checkpoint found no room")
        (lost,) = patient.of(Released)
        assert lost.kind is HandBackKind.REFUSED
        assert lost.reason.startswith(f"no room on the disk of {disk}/")
        assert "No space left on device" in lost.reason
        until(lambda: patient.status()["agents"][0]["hindrance"] == lost.reason, "the status says why it takes no work")
        (wait,) = patient.status()["waits"]
        assert wait["reason"].endswith(f"takes no work: {lost.reason}")
        other = patient.start_far_worker(1, tmp_path / "scratch")
        until(lambda: len(patient.leased(lost.evaluation)) == 2, "the evaluation is run again")
        assert f"-{other.pid}-" in patient.leased(lost.evaluation)[1].agent
        filler.unlink()
        for process in (crowded, other, master):
            process.ends(0)
        assert f"takes no work until it can write: {lost.reason}" in crowded.output()
        assert not patient.of(Expired)
        assert len(patient.of(Released)) == 1
        patient.check()


# ------------------------------------------------------------------------------------------------------------ stopped


def test_the_result_of_a_worker_that_stood_still_beyond_its_lease_counts_if_there_is_no_other(
    search: ServedSearch,
) -> None:
    master = search.start_master()
    search.hold()
    worker = search.start_worker()
    lease = search.wait_working(worker)
    (trainer,) = worker.trainers()
    # Only the agent is stopped: its trainer finishes the evaluation, and no process receives the result.
    stopped(worker)
    search.hold(False)
    search.wait_expired(lease.evaluation)
    until_idle(trainer)
    continued(worker)
    worker.ends(0)
    master.ends(0)
    assert search.leased(lease.evaluation) == [lease]
    assert not search.of(LateReport)
    search.check()


def test_a_worker_that_comes_back_in_mid_evaluation_continues_it_if_no_other_worker_has_it(
    search: ServedSearch,
) -> None:
    master = search.start_master()
    search.hold()
    worker = search.start_worker()
    lease = search.wait_working(worker)
    (trainer,) = worker.trainers()
    stopped(trainer, worker)
    search.wait_expired(lease.evaluation)
    continued(trainer, worker)
    until(lambda: len(search.of(Leased)) == 2, "the worker has its lease again")
    again = search.lease_of(worker)
    assert (again.evaluation, again.attempt, again.request) == (lease.evaluation, 1, lease.request)
    assert worker.trainers() == [trainer]
    search.hold(False)
    worker.ends(0)
    master.ends(0)
    assert {entry.attempt for entry in search.of(Leased)} == {1}
    assert not search.of(Released)
    assert "is to stop" not in worker.output()
    search.check()


def test_the_result_of_a_worker_that_stood_still_is_journalled_as_late_where_another_was_first(
    search: ServedSearch,
) -> None:
    master = search.start_master()
    search.hold()
    slow = search.start_worker(0)
    lease = search.wait_working(slow)
    (trainer,) = slow.trainers()
    stopped(slow)
    search.hold(False)
    search.wait_expired(lease.evaluation)
    until_idle(trainer)
    other = search.start_worker(1)
    until(lambda: lease.evaluation in search.results(), "the other worker has reported the evaluation")
    counted = search.results()
    continued(slow)
    for process in (slow, other, master):
        process.ends(0)
    (late,) = search.of(LateReport)
    assert (late.evaluation, late.attempt, late.agent) == (lease.evaluation, 1, lease.agent)
    assert [entry.attempt for entry in search.leased(lease.evaluation)] == [1, 2]
    search.check(counted)


def written(attempt: Path) -> dict[str, tuple[int, bytes]]:
    """The files of an attempt, without its curve, which grows all the time."""
    files = [path for path in attempt.iterdir() if path.name != RunDirectory.CURVE_NAME]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def points_of(trainer: psutil.Process, attempt: Path) -> list[str]:
    """The points of a trainer in an attempt's curve."""
    # The last line may be incomplete.
    lines = (attempt / RunDirectory.CURVE_NAME).read_text("ascii").split("\n")[:-1]
    return [line for line in lines if json.loads(line)[2]["pid"] == trainer.pid]


def test_a_worker_that_stands_still_in_mid_evaluation_writes_into_no_directory_but_its_own(tmp_path: Path) -> None:
    with served_search(tmp_path, **SHORT, algorithm="random", limits={"evaluations": 2}) as search:
        master = search.start_master()
        search.hold()
        slow = search.start_worker(0)
        lease = search.wait_working(slow)
        (trainer,) = slow.trainers()
        stopped(trainer, slow)
        search.wait_expired(lease.evaluation)
        other = search.start_worker(1)
        second = search.wait_working(other)
        assert (second.evaluation, second.attempt) == (lease.evaluation, 2)
        directories = [search.directory.attempt_directory(lease.evaluation, attempt) for attempt in (1, 2)]
        (second_trainer,) = other.trainers()
        until((directories[1] / RunDirectory.CURVE_NAME).exists, "the second attempt has reported")
        before = [written(each) for each in directories]
        # The second attempt continues the first one, and begins with its points.
        continued_points = points_of(trainer, directories[1])
        # Both are now in the middle of the same evaluation, until the first one learns that its lease has expired.
        continued(trainer, slow)
        until(lambda: search.lease_of(slow) != lease, "the worker has other work")
        assert [written(each) for each in directories] == before
        assert points_of(trainer, directories[0])
        assert points_of(trainer, directories[1]) == continued_points
        assert points_of(second_trainer, directories[1])
        assert not points_of(second_trainer, directories[0])
        search.hold(False)
        for process in (slow, other, master):
            process.ends(0)
        assert [entry.attempt for entry in search.leased(lease.evaluation)] == [1, 2]
        assert search.results()[lease.evaluation].directory == str(directories[1].relative_to(search.directory.path))
        search.check()


def test_a_worker_that_is_stopped_and_killed_is_a_killed_worker(search: ServedSearch) -> None:
    master = search.start_master()
    search.hold()
    victim = search.start_worker(0)
    lost = search.wait_working(victim)
    stopped(*victim.trainers(), victim)
    search.wait_expired(lost.evaluation)
    victim.send(signal.SIGKILL)
    victim.process.wait()
    search.hold(False)
    search.start_worker(1).ends(0)
    master.ends(0)
    search.check()
