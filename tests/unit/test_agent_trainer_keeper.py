"""The agent's trainer: a problem that cannot be imported is refused once, in one message."""

from __future__ import annotations

from typing import Any

import pytest

from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.trainer_keeper import TrainerKeeper
from hpbandster_lite.records import Failure, FailureKind


class Trainer:
    """A trainer that was started and has not imported the problem."""

    is_ready = False

    def kill(self) -> None:
        """End it."""

    def log_tail(self) -> tuple[str, ...]:
        return ()


def test_the_end_of_a_trainer_that_has_refused_the_problem_is_no_second_fault(caplog: pytest.LogCaptureFixture) -> None:
    made: list[Any] = []

    def start() -> Any:
        made.append(Trainer())
        return made[-1]

    keeper = TrainerKeeper(AgentOptions(problem="nosuch", run_dir="runs/nosuch"), start)
    keeper.act(0.0)
    keeper.refuse("there is no problem 'nosuch'")
    # Both messages may arrive in one turn.
    keeper.died(Failure(kind=FailureKind.CODE, reason="the objective ended its process"), had_evaluation=False)
    assert keeper.refusal == "there is no problem 'nosuch'"
    assert caplog.messages == ["there is no problem 'nosuch'"]
    keeper.act(1.0)
    assert len(made) == 1
