"""Masters that are stopped, fail to write, die or meet a second master: no lease, result or message is lost."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite.agent.master_link import CALL_TIMEOUT_S
from hpbandster_lite.errors import JournalError, RunDirectoryError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Expired, LateReport, Leased, Recorded, Started
from tests.service.disks import fill, small_disk
from tests.service.local_search import LocalSearchProcess, until
from tests.service.served_search import ServedSearch, continued, served_search, stopped, until_passed

pytestmark = pytest.mark.timeout(120)

LEASE_S = 2.0
SHORT = {"lease_s": LEASE_S, "heartbeat_s": 0.2}
LONG = {"lease_s": 60.0, "heartbeat_s": 0.5}


@pytest.fixture
def search(tmp_path: Path) -> Iterator[ServedSearch]:
    with served_search(tmp_path, **SHORT) as made:
        yield made


# -------------------------------------------------------------------------------------------------------------- stopped


def test_no_agent_loses_a_lease_because_the_master_stood_still(search: ServedSearch) -> None:
    master = search.start_master()
    search.hold()
    speaking, silent = (search.start_worker(index) for index in range(2))
    search.wait_working(speaking)
    search.wait_working(silent)
    # Heartbeats of one worker wait for the master; from the other one it finds nothing to read when it continues.
    stopped(silent)
    stopped(master)
    until_passed(1.5 * LEASE_S)
    continued(master)
    assert search.status()["pid"] == master.pid
    assert not search.of(Expired)
    continued(silent)
    search.hold(False)
    for process in (speaking, silent, master):
        process.ends(0)
    assert not search.of(Expired)
    assert {entry.attempt for entry in search.of(Leased)} == {1}
    search.check()


def test_no_agent_loses_a_lease_for_a_commit_that_takes_longer_than_one(search: ServedSearch) -> None:
    master = search.start_master()
    search.hold()
    holding, victim = (search.start_worker(index) for index in range(2))
    held, lost = search.wait_working(holding), search.wait_working(victim)
    with contextlib.closing(sqlite3.connect(search.directory.journal, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        # Its death is the next event for the journal.
        victim.kill()
        master.says("the journal cannot be written, and nothing is handed out until it can")
        until_passed(1.5 * LEASE_S)
        other.execute("ROLLBACK")
    master.says("the journal can be written again")
    search.wait_expired(lost.evaluation)
    search.hold(False)
    holding.ends(0)
    master.ends(0)
    assert search.leased(held.evaluation) == [held]
    assert [entry.evaluation for entry in search.of(Expired)] == [lost.evaluation]
    search.check()


SLOW_DISK = """
import time
from pathlib import Path

from hpbandster_lite.journal import Journal

commit = Journal.commit


def slow(self, entries, *, at):
    position = commit(self, entries, at=at)
    if entries and Path({stalls!r}).exists():
        # As a disk that takes so long to say that it has what it was given.
        time.sleep({seconds})
        with Path({stalled!r}).open("a") as file:
            file.write("x")
    return position


Journal.commit = slow
"""


# The second duration exceeds an agent's timeout for an answer: it disconnects, and reconnects.
@pytest.mark.parametrize("seconds", [1.5 * LEASE_S, CALL_TIMEOUT_S + 1.0])
def test_no_agent_loses_a_lease_for_a_disk_that_is_slow_but_accepts_writes(seconds: float, tmp_path: Path) -> None:
    stalls, stalled, modules = tmp_path / "stalls", tmp_path / "stalled", tmp_path / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(
        SLOW_DISK.format(stalls=str(stalls), stalled=str(stalled), seconds=seconds)
    )
    with served_search(tmp_path, **SHORT, algorithm="random", limits={"evaluations": 4}) as search:
        master = search.start_master(environment={"PYTHONPATH": str(modules)})
        search.hold()
        workers = [search.start_worker(index) for index in range(2)]
        for worker in workers:
            search.wait_working(worker)
        stalls.touch()
        search.hold(False)
        until(lambda: len(search.results()) >= 2, "two results were taken in, slowly")
        stalls.unlink()
        for process in (*workers, master):
            process.ends(0)
        assert stalled.stat().st_size >= 1
        assert not search.of(Expired)
        assert {entry.attempt for entry in search.of(Leased)} == {1}
        assert len(search.of(Recorded)) == 4
        search.check()


# ------------------------------------------------------------------------------------------------------------- the disk


def test_a_master_whose_disk_is_full_hands_out_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, served_search(disk, **SHORT) as search:
        master = search.start_master()
        search.hold()
        # Workers do not see the run directory, so that only the master's disk is full.
        workers = [search.start_far_worker(index, tmp_path / "scratch") for index in range(2)]
        leases = [search.wait_working(worker) for worker in workers]
        filler = fill(disk)
        search.hold(False)
        master.says("the journal cannot be written, and nothing is handed out until it can: .*full")
        until_passed(1.5 * LEASE_S)
        assert search.of(Leased) == leases
        assert not search.results()
        filler.unlink()
        for process in (*workers, master):
            process.ends(0)
        assert "the journal can be written again" in master.output()
        assert not search.of(Expired)
        assert {entry.attempt for entry in search.of(Leased)} == {1}
        search.check()


def test_a_read_only_run_directory_is_refused_by_name_and_can_still_be_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, served_search(disk, **LONG) as search:
        master = search.start_master()
        search.start_worker().ends(0)
        master.ends(0)
        results = search.results()
        search.extend(brackets=2)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        try:
            refused = search.start_master(waits=False, log=tmp_path / "refused.log").ends(RunDirectoryError.exit_code)
            assert "cannot lock" in refused
            assert str(search.directory.path) in refused
            assert "Traceback" not in refused
            assert search.results() == results
            assert JournalReader(search.directory.journal).finished() is not None
        finally:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        master = search.start_master()
        search.start_worker().ends(0)
        master.ends(0)
        search.check(results)


def foreign(journal: Path) -> None:
    journal.write_bytes(b"not a journal " * 1_000)


def truncated(journal: Path) -> None:
    with journal.open("r+b") as file:
        file.truncate(journal.stat().st_size // 2)


def newer(journal: Path) -> None:
    with contextlib.closing(sqlite3.connect(journal)) as connection:
        connection.execute("PRAGMA user_version = 99")


def test_a_journal_that_is_none_ends_a_search_with_words_and_stays_as_it_is(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, **LONG)
    search.run()
    whole, results = search.directory.journal.read_bytes(), search.results()
    search.extend(brackets=2)
    for damage in (foreign, truncated, newer):
        search.directory.journal.write_bytes(whole)
        damage(search.directory.journal)
        damaged = search.directory.journal.read_bytes()
        with search.running() as process:
            output = search.end_of(process, JournalError.exit_code)
        assert str(search.directory.journal) in output, damage
        assert "Traceback" not in output, damage
        assert search.directory.journal.read_bytes() == damaged, damage
    search.directory.journal.write_bytes(whole)
    search.run()
    search.check(results)


# ------------------------------------------------------------------------------------------------------- down for long


def test_a_result_that_no_master_took_is_kept_in_the_run_directory_and_counts_with_the_next_master(
    tmp_path: Path,
) -> None:
    with served_search(tmp_path, **LONG) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_worker(master_timeout_s=1.0)
        lease = search.wait_working(worker)
        master.kill()
        search.hold(False)
        output = worker.ends(3)
        (left,) = search.directory.left_reports()
        assert f"waits for the next master in {left}" in output
        assert json.loads(left.read_text())["agent"] == lease.agent
        master = search.start_master()
        until(lambda: lease.evaluation in search.results(), "the report that was left counts")
        search.start_worker(1).ends(0)
        master.ends(0)
        assert search.leased(lease.evaluation) == [lease]
        assert not search.directory.left_reports()
        assert not search.of(LateReport)
        search.check()


def test_a_result_that_was_acknowledged_survives_any_number_of_masters(tmp_path: Path) -> None:
    with served_search(tmp_path, **LONG) as search:
        acknowledged = {}
        worker = search.start_worker()
        for count in (2, 4, 6):
            master = search.start_master()
            search.wait_recorded(count)
            acknowledged = search.results()
            master.kill()
        last = search.start_master()
        worker.ends(0)
        last.ends(0)
        assert len(search.of(Started)) == 4
        assert {entry.attempt for entry in search.of(Leased)} == {1}
        assert len(search.of(Recorded)) == len(search.of(Leased))
        search.check(acknowledged)
