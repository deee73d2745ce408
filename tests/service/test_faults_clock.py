"""The system clock jumps by a day in one process of a search: no lease ends or continues because of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Expired, Leased, Started
from tests.service.clocks import LIBRARIES, WallClock
from tests.service.local_search import until
from tests.service.served_search import ServedSearch, served_search, stopped, until_passed

pytestmark = pytest.mark.timeout(120)

LEASE_S = 2.0
DAY = timedelta(days=1)

if not LIBRARIES:
    pytestmark = [  # type: ignore[assignment]  # a mark and a list
        pytestmark,
        pytest.mark.skip(reason="NOT TESTED, libfaketime is not here: apt-get install -y libfaketime"),
    ]


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture
def search(tmp_path: Path) -> Iterator[ServedSearch]:
    with served_search(tmp_path, lease_s=LEASE_S, heartbeat_s=0.2) as made:
        yield made


def commits(search: ServedSearch) -> list[datetime]:
    """The times of commits according to the master's wall clock, in order."""
    # As the log writes it.
    return [datetime.fromtimestamp(at) for _, at, _ in JournalReader(search.directory.journal).entries()]  # noqa: DTZ006


def logged(text: str) -> list[datetime]:
    """The times of a process's log lines."""
    return [datetime.fromisoformat(each) for each in re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),", text, re.M)]


@pytest.mark.parametrize("days", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_no_lease_ends_because_the_master_s_clock_jumps(days: int, search: ServedSearch, clock: WallClock) -> None:
    master = search.start_master(environment=clock.environment)
    search.hold()
    workers = [search.start_worker(index) for index in range(2)]
    for worker in workers:
        search.wait_working(worker)
    clock.jump(days)
    until_passed(1.5 * LEASE_S)
    search.hold(False)
    for process in (*workers, master):
        process.ends(0)
    assert not search.of(Expired)
    assert {entry.attempt for entry in search.of(Leased)} == {1}
    jumped = commits(search)[-1] - commits(search)[0]
    assert abs(jumped - days * DAY) < 0.1 * DAY
    search.check()


def test_no_lease_lives_on_because_the_master_s_clock_was_set_back(search: ServedSearch, clock: WallClock) -> None:
    master = search.start_master(environment=clock.environment)
    search.hold()
    victim = search.start_worker()
    lease = search.wait_working(victim)
    stopped(*victim.trainers(), victim)
    clock.jump(-1)
    search.wait_expired(lease.evaluation)
    victim.kill()
    search.hold(False)
    search.start_worker(1).ends(0)
    master.ends(0)
    assert commits(search)[-1] < commits(search)[0]
    search.check()


def test_a_day_by_which_the_clock_was_set_forward_uses_up_no_wall_time(search: ServedSearch, clock: WallClock) -> None:
    search.extend(brackets=1, wall_time_s=3_600.0)
    master = search.start_master(environment=clock.environment)
    worker = search.start_worker()
    search.wait_recorded(2)
    clock.jump(1)
    search.wait_recorded(6)
    search.hold()
    master.kill()
    assert commits(search)[-1] - commits(search)[0] > 0.9 * DAY
    master = search.start_master()
    search.hold(False)
    worker.ends(0)
    master.ends(0)
    assert search.of(Started)[1].spent_s < 3_600
    search.check()


@pytest.mark.parametrize("days", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_no_lease_ends_because_a_worker_s_clock_jumps(days: int, search: ServedSearch, clock: WallClock) -> None:
    master = search.start_master()
    search.hold()
    worker = search.start_worker(environment=clock.environment, master_timeout_s=60.0, timeout_s=60.0)
    lease = search.wait_working(worker)
    clock.jump(days)
    until_passed(1.5 * LEASE_S)
    search.hold(False)
    worker.ends(0)
    master.ends(0)
    assert search.leased(lease.evaluation) == [lease]
    assert not search.of(Expired)
    jumped = logged(worker.output())[-1] - datetime.now()  # noqa: DTZ005 (as the log writes it)
    assert abs(jumped - days * DAY) < 0.1 * DAY
    until(lambda: not search.processes(), "nothing of the search is left")
    search.check()
