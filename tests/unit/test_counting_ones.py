"""Counting ones: a known minimum, and noise that the budget removes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.problems import describe, load
from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.space import SearchSpace
from workers import counting_ones
from workers.counting_ones import CountingOnes, d8, d16, d32, d64


def config_of(problem: CountingOnes, ones: int, probability: float) -> dict[str, Any]:
    config: dict[str, Any] = {name: int(number < ones) for number, name in enumerate(problem._categorical)}
    return config | dict.fromkeys(problem._float, probability)


@pytest.mark.parametrize(("problem", "dimensions"), [(d8, 8), (d16, 16), (d32, 32), (d64, 64)])
def test_the_minimum_is_minus_the_number_of_dimensions_where_all_are_one(
    problem: CountingOnes, dimensions: int
) -> None:
    for budget in (9, 729):
        best = problem.evaluate(config_of(problem, dimensions, 1.0), budget, Trial(budget=budget))
        assert best == {"loss": -dimensions, "expected_loss": -dimensions}
    worst = problem.evaluate(config_of(problem, 0, 0.0), 9, Trial())
    assert worst == {"loss": 0.0, "expected_loss": 0.0}


@given(ones=st.integers(0, 8), probability=st.floats(0.0, 1.0), seed=st.integers(0, 2**31 - 1))
def test_a_loss_lies_between_the_minimum_and_zero_and_is_a_count_over_the_budget(
    ones: int, probability: float, seed: int
) -> None:
    loss = d16.evaluate(config_of(d16, ones, probability), 27, Trial(seed=seed))["loss"]
    assert -ones - 8 <= loss <= -ones
    assert loss * 27 == pytest.approx(round(loss * 27), abs=1e-9)


@given(ones=st.integers(0, 8), probability=st.floats(0.0, 1.0))
def test_the_expected_loss_has_no_noise(ones: int, probability: float) -> None:
    config = config_of(d16, ones, probability)
    trials = [(budget, Trial(seed=seed)) for budget in (9, 729) for seed in (1, 2)]
    (value,) = {d16.evaluate(config, budget, trial)["expected_loss"] for budget, trial in trials}
    assert value == pytest.approx(-ones - 8 * probability)


def test_the_noise_is_that_of_a_binomial_and_falls_with_the_budget() -> None:
    config = config_of(d16, 4, 0.5)
    for budget in (9, 81, 729):
        losses = [d16.evaluate(config, budget, Trial(seed=seed))["loss"] for seed in range(1_000)]
        # Eight independent means of Bernoulli(1/2) variables; 1,000 draws give the deviation within 2.2 %, so 10 % is
        # safe.
        assert np.std(losses) == pytest.approx(np.sqrt(8 * 0.25 / budget), rel=0.1)
        assert np.mean(losses) == pytest.approx(-8.0, abs=5 * np.sqrt(8 * 0.25 / budget / 1_000))


def test_the_same_seed_gives_the_same_loss_and_another_seed_or_budget_other_samples() -> None:
    config = config_of(d16, 4, 0.5)
    first = d16.evaluate(config, 81, Trial(seed=1))
    assert d16.evaluate(config, 81, Trial(seed=1, rung=2, attempt=3)) == first
    assert d16.evaluate(config, 81, Trial(seed=2)) != first
    assert d16.evaluate(config, 82, Trial(seed=1))["loss"] != first["loss"]


def test_a_budget_counts_whole_samples() -> None:
    config = config_of(d16, 4, 0.5)
    assert d16.evaluate(config, 9.4, Trial(seed=1)) == d16.evaluate(config, 9, Trial(seed=1))


@pytest.mark.parametrize(
    ("reference", "dimensions"),
    [("counting_ones", 16), ("counting_ones:d8", 8), ("counting_ones:d64", 64)],
)
def test_it_is_a_problem_in_several_sizes(reference: str, dimensions: int) -> None:
    found = describe(load(reference), reference)
    assert (found.min_budget, found.max_budget, found.eta) == (9.0, 729.0, 3.0)
    assert (found.unit, found.integer_budgets) == ("samples", True)
    names = SearchSpace.from_json(found.space_tables).names
    assert len(names) == dimensions
    assert len([name for name in names if name.startswith("cat_")]) == dimensions // 2


def test_the_module_is_its_problem_of_sixteen_dimensions() -> None:
    config = config_of(d16, 3, 0.25)
    assert counting_ones.evaluate(config, 9, Trial()) == d16.evaluate(config, 9, Trial())


@pytest.mark.parametrize(("n_categorical", "n_float"), [(3, 0), (0, 3)])
def test_either_kind_may_be_alone(n_categorical: int, n_float: int) -> None:
    problem = CountingOnes(n_categorical, n_float)
    assert problem.evaluate(config_of(problem, 3, 1.0), 9, Trial())["loss"] == -3.0
    assert len(problem.space()) == 3


@pytest.mark.parametrize(("n_categorical", "n_float"), [(0, 0), (-1, 3), (3, -1)])
def test_no_dimension_at_all_is_refused(n_categorical: int, n_float: int) -> None:
    with pytest.raises(ValueError, match=f"got n_categorical={n_categorical} and n_float={n_float}"):
        CountingOnes(n_categorical, n_float)
