"""Leftovers of an evaluation: which of them require a new process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite.problems import FunctionProblem
from hpbandster_lite.trainer.leftovers import Leftovers, own_folder, resident_bytes
from hpbandster_lite.trainer.library_state import global_seed
from hpbandster_lite.workers import digits

MB = 10**6


def evaluate(config: object, budget: float, trial: object) -> float:
    return 0.0


def waits(event: threading.Event) -> None:
    event.wait()


PROBLEM = FunctionProblem(evaluate)


@pytest.fixture
def ends() -> Iterator[threading.Event]:
    """An event that is set at the end of a test; its threads wait for it."""
    event = threading.Event()
    yield event
    event.set()


def grown(*sizes: int) -> list[list[str]]:
    """The reasons for a new process after evaluations with these sizes of the process, in MB."""
    size = [0]
    leftovers = Leftovers(PROBLEM, lambda: size[0] * MB)
    found = []
    for size[0] in sizes:
        found.append(leftovers.found(is_completed=True))
    return found


@pytest.mark.parametrize(
    ("sizes", "is_renewed"),
    [
        ((100, 1_099), False),  # by less than 1 GB
        ((100, 1_100), True),
        ((2_000, 3_999), False),  # to less than twice its size
        ((2_000, 4_000), True),
        ((5_000,), False),  # the first one
        ((2_000, 3_000, 3_500), False),
    ],
)
def test_a_trainer_is_renewed_that_has_doubled_and_grown_by_a_gigabyte(
    sizes: tuple[int, ...], is_renewed: bool
) -> None:
    *before, last = grown(*sizes)
    assert before == [[]] * len(before)
    assert bool(last) is is_renewed


def test_the_reason_has_both_sizes() -> None:
    assert grown(300, 1_400)[1] == ["its memory grew from 0.3 GB after its first evaluation to 1.4 GB"]


def test_the_first_size_is_that_after_an_evaluation_with_a_loss() -> None:
    size = [100 * MB]
    leftovers = Leftovers(PROBLEM, lambda: size[0])
    assert leftovers.found(is_completed=False) == []
    size[0] = 3_000 * MB
    assert leftovers.found(is_completed=True) == []
    assert leftovers.found(is_completed=True) == []


def test_this_process_has_a_size() -> None:
    assert 10 * MB < resident_bytes() < 100_000 * MB


def test_a_thread_that_is_not_a_daemon_is_named(ends: threading.Event) -> None:
    leftovers = Leftovers(PROBLEM)
    threading.Thread(target=ends.wait, name="pool").start()
    assert leftovers.found(is_completed=True) == ["the objective left threads running: pool"]


def test_a_daemon_of_a_library_may_stay_and_one_that_runs_the_problem_s_code_may_not(ends: threading.Event) -> None:
    leftovers = Leftovers(PROBLEM)
    threading.Thread(target=ends.wait, daemon=True, name="monitor").start()
    assert leftovers.found(is_completed=True) == []
    threading.Thread(target=waits, args=[ends], daemon=True, name="own").start()
    assert leftovers.found(is_completed=True) == ["the objective left threads running: own"]


def test_threads_from_before_the_first_evaluation_may_stay(ends: threading.Event) -> None:
    threading.Thread(target=waits, args=[ends]).start()
    assert Leftovers(PROBLEM).found(is_completed=True) == []


def test_own_code_is_that_of_the_file_s_folder_or_of_the_whole_package() -> None:
    assert own_folder(PROBLEM) == str(Path(__file__).parent)
    assert own_folder(digits) == str(Path(digits.__file__).parents[1])


def test_the_global_seed_depends_on_the_seed_and_on_the_rung() -> None:
    assert global_seed(7, 0) == 2_680_530_905
    assert len({global_seed(seed, rung) for seed in range(100) for rung in range(5)}) == 500
    assert all(0 <= global_seed(seed, 1) < 2**32 for seed in range(100))
