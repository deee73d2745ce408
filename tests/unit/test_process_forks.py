"""A process that user code forks from ours runs nothing of ours."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpbandster_lite.agent.interrupts import Interrupts
from hpbandster_lite.problems import FunctionProblem
from hpbandster_lite.process.forks import IN_FORKS, ForksEndHere, handle_here
from hpbandster_lite.trainer.in_thread import InlineTrainer
from hpbandster_lite.trainer.messages import TrainerEnded
from tests.unit.test_trainer_in_thread import ORDER

TERM, INT, USR2 = signal.SIGTERM, signal.SIGINT, signal.SIGUSR2


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(in_child: Callable[[], object]) -> int:
    """Fork in user code, whose child then does this; the exit code of the child, which never leaves the context."""
    with ForksEndHere(TimeoutError):
        child = os.fork()
        if child == 0:
            in_child()
    return exit_code(child)


def raises(error: BaseException) -> Callable[[], object]:
    def raiser() -> None:
        raise error

    return raiser


@pytest.mark.parametrize(
    ("in_child", "code"),
    [
        (lambda: None, 0),
        (raises(SystemExit()), 0),
        (raises(SystemExit(3)), 3),
        (raises(SystemExit("words")), 1),
        (raises(ValueError("words")), 1),
        (raises(KeyboardInterrupt()), 1),
        (raises(TimeoutError()), 0),
    ],
    ids=["returns", "exit", "exit 3", "exit with words", "exception", "interrupt", "quiet exception"],
)
def test_a_forked_child_ends_where_user_code_returns_with_the_exit_code_of_a_program(
    in_child: Callable[[], object], code: int
) -> None:
    assert forked(in_child) == code


def test_the_process_itself_goes_on_and_its_exceptions_too() -> None:
    with ForksEndHere():
        pass
    with pytest.raises(ValueError, match="words"), ForksEndHere():
        raise ValueError("words")


def test_signals_that_we_handle_have_their_usual_effect_in_a_forked_child() -> None:
    seen: list[int] = []
    before = handle_here(dict.fromkeys((TERM, INT, USR2), lambda number, _: seen.append(number)))
    try:
        handlers = {number: signal.getsignal(number) for number in before}
        assert forked(lambda: sys.exit(any(signal.getsignal(number) != IN_FORKS[number] for number in before))) == 0
        assert {number: signal.getsignal(number) for number in before} == handlers
        # A handler of the user's own stays.
        signal.signal(TERM, signal.SIG_IGN)
        assert forked(lambda: sys.exit(signal.getsignal(TERM) != signal.SIG_IGN)) == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == []


def in_inline_trainer(evaluate: Callable[[], dict[str, object]]) -> TrainerEnded:
    trainer = InlineTrainer("<function>", FunctionProblem(lambda config, budget, trial: evaluate()))
    trainer.receive()
    trainer.evaluate(ORDER, None)
    assert select.select(trainer.descriptors, [], [], 20.0)[0]
    (ended,) = trainer.receive()
    trainer.close()
    assert isinstance(ended, TrainerEnded)
    return ended


def test_without_isolation_children_that_return_end_and_others_hear_sigterm() -> None:
    def evaluate() -> dict[str, object]:
        returning = os.fork()
        if returning == 0:
            return {"loss": 2.0}
        sleeping = os.fork()
        if sleeping == 0:
            time.sleep(600)
        os.kill(sleeping, TERM)
        return {"loss": 1.0, "codes": [exit_code(returning), exit_code(sleeping)]}

    ended = in_inline_trainer(evaluate)
    assert (ended.loss, ended.info) == (1.0, {"codes": [0, -TERM]})


def test_a_signal_that_arrives_as_the_child_begins_ends_it_too() -> None:
    before, mask = handle_here({TERM: lambda *_: None}), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for _ in range(50):
            child = os.fork()
            if child == 0:
                try:
                    time.sleep(20)
                finally:
                    os._exit(1)
            os.kill(child, TERM)
            assert exit_code(child) == -TERM
    finally:
        signal.signal(TERM, before[TERM])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_a_signal_to_a_child_does_not_reach_the_loop_of_its_parent() -> None:
    with Interrupts(None) as interrupts:
        child = os.fork()
        if child == 0:
            try:
                signal.signal(TERM, lambda *_: os._exit(7))
                os.kill(os.getpid(), TERM)
                time.sleep(20)
            finally:
                os._exit(1)
        assert exit_code(child) == 7
        assert not select.select(interrupts.descriptors, [], [], 0)[0]


FORKS_AT_IMPORT = """
import os
from ConfigSpace import ConfigurationSpace
child = os.fork()
if child:
    os.waitpid(child, 0)

def space():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return ConfigurationSpace({"x": (0.0, 1.0)})

def evaluate(config, budget, trial):
    return config["x"]
"""


def test_a_problem_that_forks_when_it_is_imported_or_describes_its_space_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "forks_at_import.py"
    file.write_text(FORKS_AT_IMPORT)
    program = (
        "import os, sys; from hpbandster_lite.problems import load; "
        "from hpbandster_lite.problems.description import describe; "
        f"problem = load({str(file)!r}); describe(problem, {str(file)!r}); print('once', flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "once\n"
