"""The agent's loop, turned from outside: when it wants to be turned next, it has something to do then."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.records import ConfigId, EvaluationId, Outcome, Report
from hpbandster_lite.rundir import RunDirectory
from tests.world import Worker, World


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """One whose trainer is ready and who looks for a master; there is none."""
    world = World(0)
    world.directory = RunDirectory(tmp_path / "run")
    world.directory.create()
    worker = Worker(world, "w")
    worker.turn()
    world.now += 10.0
    worker.turn()
    assert worker.agent._wants_work
    return worker


def test_an_agent_that_is_to_end_and_has_no_trainer_sleeps_until_something_is_due(worker: Worker) -> None:
    agent = worker.agent
    agent._outbox.report = Report(
        evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, outcome=Outcome(loss=1.0)
    )
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
    link.next_try_at = math.inf
    worker.world.now = agent.due_at()
    assert worker.world.now == link.answered_at + timeout_s
    worker.turn()
    assert agent.exit_code == MasterUnreachable.exit_code
