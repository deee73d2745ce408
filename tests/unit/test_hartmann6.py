"""Hartmann-6 with fidelities: its known minimum, and cheap evaluations with a small error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.problems import describe, load
from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.space import SearchSpace
from workers.hartmann6 import DELTA, MINIMUM, NAMES, A, P, evaluate

ARGUMENT = (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)
"""Position of the minimum, from the literature."""
POINTS = st.tuples(*[st.floats(0.0, 1.0)] * 6)


def at(point: tuple[float, ...], budget: float = 27.0) -> dict[str, float]:
    return evaluate(dict(zip(NAMES, point, strict=True)), budget, Trial(budget=budget))


def test_the_minimum_is_where_the_literature_has_it() -> None:
    assert at(ARGUMENT)["loss"] == pytest.approx(MINIMUM, abs=5e-6)
    assert at(ARGUMENT)["regret"] == pytest.approx(0.0, abs=5e-6)


def test_the_known_argument_is_a_stationary_point() -> None:
    for index in range(6):
        for step in (-1e-3, 1e-3):
            beside = tuple(value + step * (number == index) for number, value in enumerate(ARGUMENT))
            assert at(beside)["loss"] > at(ARGUMENT)["loss"]


@given(point=POINTS)
def test_no_point_is_better_than_the_minimum(point: tuple[float, ...]) -> None:
    assert at(point)["loss"] >= MINIMUM - 1e-5
    assert at(point)["regret"] == pytest.approx(at(point)["loss"] - MINIMUM)


@given(point=POINTS)
def test_the_error_of_a_fidelity_is_one_step_for_each_third_of_the_budget(point: tuple[float, ...]) -> None:
    truth = at(point)["loss"]
    errors = [at(point, budget)["loss"] - truth for budget in (27.0, 9.0, 3.0, 1.0)]
    assert errors == pytest.approx([step * errors[1] for step in range(4)], abs=1e-12)
    # Monotone: the absolute error does not fall when the budget falls.
    assert np.all(np.diff(np.abs(errors)) >= -1e-12)
    bumps = np.exp(-(np.array(A) * (np.array(point) - np.array(P)) ** 2).sum(axis=1))
    assert errors[1] == pytest.approx(-float(np.array(DELTA) @ bumps), abs=1e-12)


def test_a_budget_above_the_highest_is_the_truth() -> None:
    assert at(ARGUMENT, 81.0) == at(ARGUMENT, 27.0)


@given(point=POINTS, budget=st.sampled_from([1.0, 3.0, 9.0]))
def test_regret_is_that_of_the_truth_at_every_fidelity(point: tuple[float, ...], budget: float) -> None:
    assert at(point, budget)["regret"] == at(point)["regret"]


def test_nothing_is_random() -> None:
    config = dict(zip(NAMES, ARGUMENT, strict=True))
    assert evaluate(config, 3.0, Trial(seed=1)) == evaluate(config, 3.0, Trial(seed=2))


def test_it_is_a_problem_with_six_coordinates_and_a_ladder() -> None:
    found = describe(load("hartmann6"), "hartmann6")
    assert (found.min_budget, found.max_budget, found.eta, found.unit) == (1.0, 27.0, 3.0, "fidelity")
    assert SearchSpace.from_json(found.space_tables).names == NAMES
