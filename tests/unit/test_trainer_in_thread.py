"""The trainer without a process: the messages of the objective arrive from a thread that only it uses."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.problems import FunctionProblem
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.records import ConfigId, EvaluationId
from hpbandster_lite.trainer.in_thread import InlineTrainer
from hpbandster_lite.trainer.messages import (
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
)

WITHIN_S = 20.0
ORDER = TrainerOrder(
    evaluation=EvaluationId(ConfigId(0, 0, 0), 0),
    attempt=1,
    values={},
    budget=1.0,
    max_budget=1.0,
    unit="epochs",
    seed=1,
    directory="/nowhere",
)

Start = Callable[[Callable[[dict[str, Any], float, Trial], float]], InlineTrainer]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that makes a trainer and receives its first message."""
    with ExitStack() as closing:

        def started(evaluate: Callable[[dict[str, Any], float, Trial], float]) -> InlineTrainer:
            trainer = InlineTrainer("<function>", FunctionProblem(evaluate))
            closing.callback(trainer.close)
            assert len(trainer.receive()) == 1
            return trainer

        yield started


def has_message(trainer: InlineTrainer, within_s: float = 0.0) -> bool:
    readable, _, _ = select.select(trainer.descriptors, [], [], within_s)
    return bool(readable)


def received_by_turns(trainer: InlineTrainer) -> list[TrainerMessage]:
    """All messages up to the end of the evaluation, received like in the agent's loop."""
    received: list[TrainerMessage] = []
    while not any(isinstance(each, TrainerEnded | TrainerInterrupted) for each in received):
        assert has_message(trainer, WITHIN_S), received
        received += trainer.receive()
    return received


def test_all_messages_of_an_evaluation_are_received_in_order(start: Start) -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        trial.report(1, 0.75)
        return 0.5

    trainer = start(evaluate)
    for _ in range(100):
        trainer.evaluate(ORDER, None)
        assert [type(each) for each in received_by_turns(trainer)] == [TrainerPoint, TrainerEnded]
        assert trainer.receive() == []


def test_a_longer_evaluation_is_not_waited_for_and_tells_when_it_is_over(start: Start) -> None:
    may_end = threading.Event()

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        trial.report(1, 0.75)
        may_end.wait(WITHIN_S)
        return 0.5

    trainer = start(evaluate)
    trainer.evaluate(ORDER, None)
    assert has_message(trainer, WITHIN_S)
    assert [type(each) for each in trainer.receive()] == [TrainerPoint]
    assert not has_message(trainer)
    may_end.set()
    assert [type(each) for each in received_by_turns(trainer)] == [TrainerEnded]


def test_every_evaluation_runs_in_the_same_thread_and_not_in_the_agent_s(start: Start) -> None:
    threads: set[int] = set()

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        threads.add(threading.get_ident())
        return 0.5

    trainer = start(evaluate)
    for _ in range(20):
        trainer.evaluate(ORDER, None)
        received_by_turns(trainer)
    assert len(threads - {threading.get_ident()}) == len(threads) == 1


def test_grace_reaches_an_evaluation_that_is_under_way(start: Start) -> None:
    is_asked = threading.Event()

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        is_asked.wait(WITHIN_S)
        trial.report(1, 0.75)
        return 0.5

    trainer = start(evaluate)
    trainer.evaluate(ORDER, None)
    trainer.ask_to_stop()
    is_asked.set()
    assert [type(each) for each in received_by_turns(trainer)] == [TrainerPoint, TrainerInterrupted]


def test_an_evaluation_that_asks_is_told_to_stop_and_the_next_one_is_not(start: Start) -> None:
    began = threading.Event()

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        began.set()
        deadline = time.monotonic() + (WITHIN_S if budget == 1 else 0.2)
        while not trial.should_stop() and time.monotonic() < deadline:
            time.sleep(0.001)
        if trial.should_stop():
            raise Interrupted
        return 0.5

    trainer = start(evaluate)
    trainer.evaluate(ORDER, None)
    assert began.wait(WITHIN_S)
    trainer.ask_to_stop()
    trainer.ask_to_stop()
    assert received_by_turns(trainer) == [TrainerInterrupted()]
    trainer.evaluate(replace(ORDER, budget=2.0), None)
    (end,) = received_by_turns(trainer)
    assert isinstance(end, TrainerEnded)


def test_an_abandoned_evaluation_that_asks_ends(start: Start) -> None:
    has_ended, began = threading.Event(), threading.Event()

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        began.set()
        while not trial.should_stop():
            time.sleep(0.001)
        has_ended.set()
        return 0.5

    trainer = start(evaluate)
    trainer.evaluate(ORDER, None)
    assert began.wait(WITHIN_S)
    trainer.kill()
    assert has_ended.wait(WITHIN_S)


@pytest.mark.parametrize("is_spawned", [False, True])
def test_children_of_an_objective_are_told_to_stop_and_the_result_does_not_count(
    is_spawned: bool, start: Start
) -> None:
    began = threading.Event()

    def child(trial: Trial) -> None:
        while not trial.should_stop():
            time.sleep(0.001)

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        pid = os.fork()
        if pid == 0:
            # A spawned child gets the trial by pickle, and opens the descriptors of its parent.
            child(ForkingPickler.loads(ForkingPickler.dumps(trial)) if is_spawned else trial)
            os._exit(0)
        began.set()
        os.waitpid(pid, 0)
        return 0.5

    trainer = start(evaluate)
    trainer.evaluate(ORDER, None)
    assert began.wait(WITHIN_S)
    trainer.ask_to_stop()
    assert received_by_turns(trainer) == [TrainerInterrupted()]
    # The next evaluation is not mistaken for the one before.
    trainer.evaluate(ORDER, None)
    trainer.ask_to_stop()
    assert received_by_turns(trainer) == [TrainerInterrupted()]


def test_a_problem_that_is_imported_for_threads_gets_the_arguments_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    file = tmp_path / "reads_its_arguments.py"
    file.write_text("import sys\nLOSS = float(sys.argv[1])\ndef evaluate(config, budget, trial): return LOSS\n")
    trainer = InlineTrainer(f"{file}:evaluate", arguments=("script.py", "2.5"))
    try:
        (ready,) = trainer.receive()
        assert isinstance(ready, TrainerReady)
        assert ready.source is not None
        assert len(ready.source.arguments) == 32
        trainer.evaluate(ORDER, None)
        (end,) = received_by_turns(trainer)
        assert isinstance(end, TrainerEnded)
        assert end.loss == 2.5
    finally:
        trainer.close()
        sys.modules.pop(file.stem, None)
