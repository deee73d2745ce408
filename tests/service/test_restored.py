"""A journal that was restored from a copy: living workers take work again, and nothing of the lost masters counts."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import Held
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.journal.writer import RESTORED_STEP
from hpbandster_lite.master.calls import Master
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.serving import hold_run_directory, resume_master, run_master
from hpbandster_lite.protocol.messages import ExchangeAnswer, ExchangeRequest, Grant, SlotRequest
from hpbandster_lite.records import Leased, Limits, Outcome, Recorded, Report, Started
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.transport import Call
from tests.engine_room import settings_for
from tests.service.master_room import stored
from tests.service.served_search import served_search

ENDPOINT = {"protocol": 2, "run_id": "test", "host": "127.0.0.1", "port": 4711, "object": "master", "pid": 99}


def options_of(directory: RunDirectory, space: SearchSpace, restored_after: int | None = None) -> MasterOptions:
    prepared = Prepared(
        settings=settings_for(space), limits=Limits(brackets=1), resumed=True, restored_after=restored_after
    )
    return MasterOptions(run_directory=str(directory.path), prepared=prepared)


@contextlib.contextmanager
def master_of(directory: RunDirectory, space: SearchSpace, restored_after: int | None = None) -> Iterator[Master]:
    """A master without a socket; the journal is open in the context."""
    with Journal.open(directory.journal, create=settings_for(space)) as journal:
        yield resume_master(options_of(directory, space, restored_after), directory, journal)[0]


def exchanged(master: Master, agent: str, number: int, report: Report | None = None) -> ExchangeAnswer:
    slot = SlotRequest(slot=0, wants_lease=True, report=report)
    request = ExchangeRequest(agent=agent, request=number, worker=agent, slots=(slot,))
    answer = master.handle(Call("exchange", wire.encode(wire.to_message(request)), agent, {}))
    assert master.commit()
    return wire.from_message(wire.decode(answer), ExchangeAnswer)


def granted(master: Master, agent: str, number: int) -> Grant:
    grant = exchanged(master, agent, number).slots[0].answer
    assert isinstance(grant, Grant)
    return grant


def report_of(grant: Grant, loss: float = 1.0) -> Report:
    outcome = Outcome(loss=loss, duration_s=1.0)
    return Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=outcome)


def begun(directory: RunDirectory) -> list[tuple[int, bool]]:
    return [(entry.epoch, entry.restored) for entry in stored(directory, Started)]


@pytest.mark.parametrize(
    ("endpoint", "epoch"),
    [(None, RESTORED_STEP + 1), (7, RESTORED_STEP + 7), ("garbage", RESTORED_STEP + 1)],
    ids=["no endpoint", "an endpoint of a later master", "a garbage endpoint"],
)
def test_the_first_master_of_a_restored_journal_begins_far_above_every_known_epoch(
    endpoint: object, epoch: int, directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space):
        pass
    if endpoint == "garbage":
        directory.endpoint_file.write_text("garbage")
    elif endpoint is not None:
        directory.write_endpoint({**ENDPOINT, "epoch": endpoint})
    with master_of(directory, space, restored_after=1):
        pass
    # Started again by its launcher, with the same options.
    with master_of(directory, space, restored_after=1):
        pass
    assert begun(directory) == [(1, False), (epoch, True), (epoch + 1, False)]
    assert verify_run(directory).holds


def test_results_of_leases_that_the_copy_lacks_are_late_and_logged_but_not_stored(
    directory: RunDirectory, space: SearchSpace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy.sqlite"
    with master_of(directory, space) as master:
        kept = granted(master, "a", 1)
        JournalReader(directory.journal).copy_to(copy)
        lost = granted(master, "b", 1)
    copy.replace(directory.journal)
    with master_of(directory, space, restored_after=1) as master, caplog.at_level(logging.WARNING):
        answer = exchanged(master, "b", 2, report_of(lost))
        assert answer.slots[0].report_is == "late"
        assert answer.epoch == RESTORED_STEP + 1
        again = answer.slots[0].answer
        assert isinstance(again, Grant)
        assert (again.evaluation, again.attempt) == (lost.evaluation, 1)
        assert f"evaluation {lost.evaluation}, attempt 1, of b is not recorded" in caplog.text
        # The lease that the copy has counts, under the directory that its worker uses.
        assert exchanged(master, "a", 2, report_of(kept)).slots[0].report_is == "recorded"
    assert [entry.evaluation for entry in stored(directory, Recorded)] == [kept.evaluation]
    assert (kept.timeline, again.timeline) == (0, RESTORED_STEP + 1)
    places = AttemptDirectories(AgentOptions(problem="p", run_dir=str(directory.path)))
    assert places.new(lost.evaluation, lost.attempt, lost.timeline).endswith("/rung0/attempt1")
    assert places.new(again.evaluation, 1, again.timeline).endswith(f"/rung0/attempt1-epoch{RESTORED_STEP + 1}")
    assert verify_run(directory).holds


def test_a_job_that_is_requeued_with_the_option_keeps_what_the_first_life_granted(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space):
        pass
    with master_of(directory, space, restored_after=1) as master:
        held = granted(master, "a", 1)
        lost = granted(master, "b", 1)
    first = RESTORED_STEP + 1
    # Slurm starts the same command again: the journal has the epoch of the first life by now.
    with master_of(directory, space, restored_after=first) as master:
        assert exchanged(master, "a", 2, report_of(held)).slots[0].report_is == "recorded"
        master.engine.disconnected("b", now=0.0)
        master.expire([], 1e9)
        assert master.commit()
        again = granted(master, "c", 1)
    assert begun(directory) == [(1, False), (first, True), (first + RESTORED_STEP, True)]
    assert (again.evaluation, again.attempt) == (lost.evaluation, 2)
    assert again.resume_directories[-1].endswith(f"/rung0/attempt1-epoch{first}")
    assert verify_run(directory).holds


def test_later_attempts_look_into_the_directories_of_their_own_timeline(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space):
        pass
    with master_of(directory, space, restored_after=1) as master:
        first = granted(master, "a", 1)
        master.engine.disconnected("a", now=0.0)
        master.expire([], 1e9)
        assert master.commit()
        second = granted(master, "b", 1)
    assert (first.evaluation, second.evaluation, second.attempt) == (first.evaluation, first.evaluation, 2)
    assert second.resume_directories == (f"evaluations/0-0-0/rung0/attempt1-epoch{RESTORED_STEP + 1}",)


def test_a_journal_that_is_older_than_the_endpoint_is_noticed(
    directory: RunDirectory, space: SearchSpace, caplog: pytest.LogCaptureFixture
) -> None:
    directory.write_endpoint({**ENDPOINT, "epoch": 7})
    with caplog.at_level(logging.WARNING), master_of(directory, space):
        pass
    assert "the last master here had epoch 7, and the journal knows none after 0" in caplog.text
    assert "start it again with --restored" in caplog.text


def test_a_master_of_a_restored_journal_does_not_wait_for_one_that_serves(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space):
        pass
    began = time.monotonic()
    with hold_run_directory(directory), pytest.raises(Held, match=r"is served by another master .*end that master"):
        run_master(options_of(directory, space, restored_after=1))
    assert time.monotonic() - began < 5.0
    assert begun(directory) == [(1, False)]


def test_a_worker_takes_work_from_the_master_of_a_restored_journal_by_itself(tmp_path: Path) -> None:
    with served_search(tmp_path, lease_s=2.0, heartbeat_s=0.2, limits={"evaluations": 3}) as search:
        search.start_master().kill()
        copy = tmp_path / "copy.sqlite"
        JournalReader(search.directory.journal).copy_to(copy)
        with Journal.open(search.directory.journal) as journal:
            journal.begin_epoch()
        # The copy lacks two masters: without the option the next one would have an older epoch than this one.
        master = search.start_master()
        search.hold()
        worker = search.start_worker()
        lost = search.wait_working(worker)
        master.kill()
        for file in search.directory.path.glob("journal.sqlite*"):
            file.unlink()
        copy.replace(search.directory.journal)
        search._options["restored"] = True
        master = search.start_master()
        search.hold(False)
        worker.ends(0)
        master.ends(0)
        assert "is not recorded" in master.output()
        epoch = RESTORED_STEP + 3
        assert begun(search.directory)[-1] == (epoch, True)
        assert {entry.agent for entry in search.of(Leased)} == {lost.agent}
        where = search.directory.attempt_directory(lost.evaluation, 1, epoch)
        assert where.is_dir()
        search.check()
