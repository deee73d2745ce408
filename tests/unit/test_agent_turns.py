"""The agent's loop, turned from outside: when it wants to be turned next, it has something to do then."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from hpbandster_lite.agent.assignment import read_grant
from hpbandster_lite.agent.loop import GOODBYE_S
from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.serving import held
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Finished,
    FinishKind,
    Limits,
    Outcome,
    Report,
    Started,
)
from hpbandster_lite.rundir import RunDirectory
from tests.engine_room import settings_for, space_of
from tests.grants import grant
from tests.world import Worker, World

REPORT = Report(evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, outcome=Outcome(loss=1.0))


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """One whose trainer is ready and who looks for a master; there is none."""
    world = World(0)
    world.directory = RunDirectory(tmp_path / "run")
    world.directory.create()
    worker = Worker(world, "w", 0)
    worker.turn()
    world.now += 10.0
    worker.turn()
    assert worker.agent._wants_work
    return worker


def test_an_agent_that_is_to_end_and_has_no_trainer_sleeps_until_something_is_due(worker: Worker) -> None:
    agent = worker.agent
    agent._outbox.reports[agent.id] = REPORT
    agent._trainer = None
    worker.orders.told = "its time is over"
    worker.turn()
    assert agent.exit_code is None
    assert agent.due_at() > worker.clock()
    worker.world.now = agent._leave_by
    worker.turn()
    assert agent.exit_code == 130


def test_an_agent_gives_its_master_up_when_it_is_turned_for_that(worker: Worker) -> None:
    agent, link = worker.agent, worker.agent._link
    assert link is not None
    timeout_s = agent._options.master_timeout_s
    # The sum of both is less than the timeout after it, by a rounding.
    link.answered_at = next(
        at for at in (1000.0 + 0.1 * step for step in range(1_000)) if (at + timeout_s) - at < timeout_s
    )
    link.next_try_at = agent._looked_at = math.inf
    worker.world.now = agent.due_at()
    assert worker.world.now == link.answered_at + timeout_s
    worker.turn()
    assert agent.exit_code == MasterUnreachable.exit_code


def test_an_evaluation_that_outlasts_the_time_of_its_agent_is_not_cut_off_by_that(worker: Worker) -> None:
    agent = worker.agent
    agent._options = replace(agent._options, time_ends_at=worker.clock() + 5.0)
    assert agent.due_at() <= worker.clock() + 5.0
    agent._assignment = read_grant(grant({"x": 0.5}), agent._places, worker.clock(), agent.id)
    worker.world.now += 10.0
    worker.turn()
    assert (agent.exit_code, agent._leaving) == (None, None)
    assert agent.due_at() > worker.clock()
    agent._become_idle()
    worker.turn()
    assert agent.exit_code == 75


def test_an_agent_that_is_to_end_and_evaluates_nothing_waits_for_its_master_alone(worker: Worker) -> None:
    worker.agent._outbox.reports[worker.agent.id] = REPORT
    worker.orders.told = "its time is over"
    worker.turn()
    # There is no objective that could need the time for which it would be given grace.
    assert live_on(worker, 60.0) == pytest.approx(GOODBYE_S, abs=0.1)
    assert worker.agent.exit_code == 130
    assert len(worker.world.directory.left_reports()) == 1


def test_an_agent_that_is_to_end_says_goodbye_from_when_its_trainer_has_let_go(worker: Worker) -> None:
    agent = worker.agent
    agent._assignment = read_grant(grant({"x": 0.5}), agent._places, worker.clock(), agent.id)
    agent._begin(agent._assignment)
    worker.trainers[0]._obeys_after_s = 2.0
    worker.orders.told = "its time is over"
    worker.turn()
    assert agent._options.grace_s > 2.0
    assert live_on(worker, 60.0) == pytest.approx(2.0 + GOODBYE_S, abs=0.1)
    assert agent.exit_code == 130


# ------------------------------------------------------------------------------------- a search that is over already


def leave_journal(worker: Worker, *entries: Entry) -> None:
    """What a master leaves that did this and ended."""
    with Journal.open(worker.world.directory.journal, create=settings_for(space_of())) as journal:
        journal.commit([Started(epoch=journal.begin_epoch(), limits=Limits()), *entries], at=0.0)


def live_on(worker: Worker, for_s: float) -> float:
    """Turn the agent whenever it wants to be, until it ends or this time is over; the seconds that it lived."""
    began = worker.world.now
    while worker.agent.exit_code is None and worker.next_at < began + for_s:
        worker.world.now = worker.next_at
        worker.turn()
        assert worker.is_gone or worker.agent.due_at() > worker.world.now
    return worker.world.now - began


def test_an_agent_whose_search_is_over_does_not_wait_for_a_master(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="all 2 brackets are done"))
    assert worker.agent._link is not None
    worker.agent._link.epoch = 1
    # Long enough for a master to be started that extends the search.
    with caplog.at_level("INFO"):
        assert 10.0 < live_on(worker, 60.0) < 20.0
    assert worker.agent.exit_code == 0
    assert "no master answers, and the search is over: all 2 brackets are done" in caplog.text


def test_an_agent_that_comes_when_its_search_is_over_ends_at_once_with_words(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="all 2 brackets are done"))
    with caplog.at_level("INFO"):
        assert live_on(worker, 60.0) < 3.0
    assert worker.agent.exit_code == 0
    assert "the search is over: all 2 brackets are done" in caplog.text


def test_an_agent_that_comes_before_its_master_serves_waits_for_it(worker: Worker) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="all 2 brackets are done"))
    with held(worker.world.directory):
        live_on(worker, 20.0)
        assert worker.agent.exit_code is None
    live_on(worker, 10.0)
    assert worker.agent.exit_code == 0


def test_a_report_that_comes_after_the_end_of_its_search_is_left_for_the_next_master(worker: Worker) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="over"))
    worker.agent._outbox.reports[worker.agent.id] = REPORT
    live_on(worker, 60.0)
    assert worker.agent.exit_code == 0
    assert [path.name for path in worker.world.directory.left_reports()] == ["0-0-0@0-1.json"]


def test_an_agent_waits_on_while_its_search_is_not_over(worker: Worker) -> None:
    leave_journal(worker)
    live_on(worker, 30.0)
    assert worker.agent.exit_code is None


@pytest.mark.parametrize("content", [None, b"", b"no journal" * 100])
def test_a_journal_that_cannot_be_read_ends_no_agent(content: bytes | None, worker: Worker) -> None:
    if content is not None:
        worker.world.directory.journal.write_bytes(content)
    live_on(worker, 30.0)
    assert worker.agent.exit_code is None


def test_a_search_that_goes_on_after_all_keeps_its_agents(worker: Worker) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="over"))
    assert worker.agent._link is not None
    worker.agent._link.epoch = 1
    live_on(worker, 5.0)
    leave_journal(worker)
    live_on(worker, 30.0)
    assert worker.agent.exit_code is None
