"""Evaluations of milliseconds, of which agents hold several at a time: none is lost, and no agent waits."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite.protocol.slots import MOST_SLOTS, agent_of
from hpbandster_lite.records import Entry, Expired, Leased, Recorded, Released
from tests.service.local_search import until
from tests.service.served_search import Served, ServedSearch, continued, stopped

pytestmark = pytest.mark.timeout(120)

QUICK = '''
import time
from pathlib import Path

HERE = Path(__file__).parent
min_budget, max_budget, unit = 1, 9, "steps"


def space():
    from ConfigSpace import ConfigurationSpace, Float

    return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])


def evaluate(config, budget, trial):
    while (HERE / "hold").exists():
        trial.report(1, config["x"])
        time.sleep(0.01)
    return config["x"]
'''


class QuickSearch(ServedSearch):
    """A search whose evaluations take no time, unless they are held."""

    text = QUICK


@pytest.fixture
def search(tmp_path: Path) -> Iterator[ServedSearch]:
    limits = {"brackets": 150}
    with QuickSearch(tmp_path, algorithm="hyperband", limits=limits, lease_s=4.0) as made:
        yield made


def start_quick_worker(search: ServedSearch, index: int = 0) -> Served:
    return search.start_worker(index, isolation="none")


def wait_several(search: ServedSearch) -> None:
    """Wait until an agent has more than one evaluation at a time."""
    until(lambda: any(is_other_slot(entry) for entry in search.of(Leased)), "several were leased at a time")


def is_other_slot(entry: Entry) -> bool:
    return isinstance(entry, Leased | Released | Expired) and entry.agent != agent_of(entry.agent)


def test_quick_evaluations_are_leased_several_at_a_time_and_each_counts_once(search: ServedSearch) -> None:
    master = search.start_master()
    workers = [start_quick_worker(search, index) for index in range(2)]
    master.ends(0)
    for worker in workers:
        worker.ends(0)
    search.check()
    together = Counter((agent_of(entry.agent), entry.request) for entry in search.of(Leased))
    assert max(together.values()) == MOST_SLOTS
    assert {agent_of(entry.agent) for entry in search.of(Recorded)} == {agent for agent, _ in together}


def test_what_a_killed_agent_held_is_run_elsewhere_all_of_it(search: ServedSearch) -> None:
    master = search.start_master()
    killed = start_quick_worker(search)
    wait_several(search)
    stopped(master)
    # The master reads its last request from a buffer, and answers it after the agent's death.
    time.sleep(0.5)
    killed.kill()
    continued(master)
    other = start_quick_worker(search, 1)
    master.ends(0)
    other.ends(0)
    search.check()
    lost = search.of(Expired)
    assert len({agent_of(entry.agent) for entry in lost}) == 1
    assert any(is_other_slot(entry) for entry in lost)


def test_what_waits_behind_an_evaluation_that_lasts_is_run_elsewhere(search: ServedSearch) -> None:
    master = search.start_master()
    workers = [start_quick_worker(search)]
    wait_several(search)

    def was_handed_back() -> bool:
        # The held evaluation may be the last of those that were leased together.
        search.hold()
        time.sleep(0.3)
        found = any(is_other_slot(entry) for entry in search.of(Released))
        search.hold(found)
        return found

    until(was_handed_back, "what waited was handed back")
    ended = [entry for entry in search.entries() if isinstance(entry, Recorded | Released)]
    (held,) = {entry.evaluation for entry in search.of(Leased)} - {entry.evaluation for entry in ended}
    search.hold(False)
    workers.append(start_quick_worker(search, 1))
    master.ends(0)
    for worker in workers:
        worker.ends(0)
    search.check()
    assert len([entry for entry in search.of(Leased) if entry.evaluation == held]) == 1
    assert not search.of(Expired)


def test_an_agent_that_is_ordered_to_end_hands_back_all_that_it_holds(search: ServedSearch) -> None:
    master = search.start_master()
    leaving = start_quick_worker(search)
    wait_several(search)
    leaving.send(signal.SIGTERM)
    leaving.ends(130)
    other = start_quick_worker(search, 1)
    master.ends(0)
    other.ends(0)
    search.check()
    assert not search.of(Expired)


def test_an_agent_that_stood_still_counts_once(search: ServedSearch) -> None:
    master = search.start_master()
    one = start_quick_worker(search)
    wait_several(search)
    stopped(one)
    other = start_quick_worker(search, 1)
    until(lambda: search.of(Expired), "what it held was given up")
    continued(one)
    master.ends(0)
    one.ends(0)
    other.ends(0)
    search.check()
