"""The ladder of budgets: rungs counted exactly, the top exact, the bottom as given or explained."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import BudgetError
from hpbandster_lite.hyperband.budgets import MOST_RUNGS, Ladder, explicit_ladder, ladder, rung_count


def integer_log(number: int, base: int) -> int:
    """The largest k with base**k <= number, in integers."""
    k = 0
    while base ** (k + 1) <= number:
        k += 1
    return k


# ------------------------------------------------------------------------------------------------- rungs


@pytest.mark.parametrize("eta", range(2, 11))
def test_the_rung_count_is_the_integer_logarithm_at_every_exact_power_and_its_neighbours(eta: int) -> None:
    power = 1
    while power <= 10**6:
        for ratio in {max(1, power - 1), power, power + 1}:
            assert rung_count(1, ratio, eta) == integer_log(ratio, eta) + 1, f"{eta=} {ratio=}"
        power *= eta


@given(eta=st.integers(2, 10), data=st.data())
def test_the_rung_count_is_the_integer_logarithm_beyond_a_million(eta: int, data: st.DataObject) -> None:
    exponent = data.draw(st.integers(integer_log(10**6, eta), integer_log(3 * 10**8, eta)))
    ratio = eta**exponent + data.draw(st.integers(-1, 1))
    scale = data.draw(st.sampled_from([1, 400, 0.1, 1 / 3, 1e-12, 1e12]))
    assert rung_count(scale, scale * ratio, eta) == integer_log(ratio, eta) + 1


@given(eta=st.floats(1.2, 20, exclude_min=True), steps=st.integers(0, 25), low=st.floats(1e-6, 1e6))
def test_a_ladder_of_k_steps_of_any_eta_has_k_plus_one_rungs(eta: float, steps: int, low: float) -> None:
    assert rung_count(low, low * eta**steps, eta) == steps + 1
    assert rung_count(low, low * eta**steps * (1 + 1e-6), eta) == steps + 1
    if steps:
        assert rung_count(low * (1 + 1e-6), low * eta**steps, eta) == steps


@given(low=st.floats(1e-3, 1e3), ratio=st.floats(1, 1e6), eta=st.floats(1.1, 10))
def test_a_ladder_descends_from_the_exact_top_by_eta_and_never_below_the_minimum(
    low: float, ratio: float, eta: float
) -> None:
    made = ladder(low, low * ratio, eta)
    assert made.budgets[-1] == low * ratio
    assert len(made.budgets) == rung_count(low, low * ratio, eta)
    assert made.budgets[0] >= low
    assert made.budgets[0] / eta < low * (1 + 2e-9)
    assert all(above / below == pytest.approx(eta, rel=2e-9) for below, above in pairwise(made.budgets))
    assert (made.note is None) == (made.budgets[0] == low)


# ---------------------------------------------------------------------------------------------- examples


def test_the_papers_budgets_come_out_exactly() -> None:
    assert ladder(400, 10800, 3, unit="seconds") == Ladder(
        budgets=(400.0, 1200.0, 3600.0, 10800.0), eta=3.0, unit="seconds", note=None
    )


@pytest.mark.parametrize(
    ("low", "high", "eta", "rungs"), [(1, 243, 3, 6), (1, 1000, 10, 4), (9, 729, 3, 5), (0.1, 0.9, 3, 3), (5, 5, 3, 1)]
)
def test_powers_that_a_floored_logarithm_miscounts_keep_their_rungs(
    low: float, high: float, eta: float, rungs: int
) -> None:
    made = ladder(low, high, eta)
    assert (len(made.budgets), made.budgets[0], made.budgets[-1], made.note) == (rungs, low, high, None)


def test_a_budget_within_1e_9_of_the_minimum_becomes_the_minimum_and_others_do_not() -> None:
    for low in (1 + 0.9e-9, 1 - 0.9e-9):
        assert ladder(low, 81).budgets[0] == low
        assert ladder(low, 81).note is None
    assert ladder(1 + 3e-9, 81).budgets[0] == 3.0
    below = ladder(1 - 3e-9, 81)
    assert below.budgets[0] == 1.0
    assert below.note is not None


def test_a_ladder_that_starts_above_the_minimum_says_where_and_why() -> None:
    made = ladder(10, 300, 3)
    assert made.budgets == (300 / 27, 300 / 9, 100.0, 300.0)
    assert made.note is not None
    for part in ("11.1111", "min_budget=10", "max_budget=300", "eta=3", "3.7037"):
        assert part in made.note


def test_whole_budgets_are_rounded_half_to_even() -> None:
    assert ladder(1, 10, 4, integer=True).budgets == (2.0, 10.0)
    assert ladder(1, 14, 4, integer=True).budgets == (4.0, 14.0)
    assert ladder(1, 100, 3, integer=True).budgets == (1.0, 4.0, 11.0, 33.0, 100.0)


def test_a_whole_ladder_whose_first_rung_rounds_to_the_minimum_needs_no_note() -> None:
    assert ladder(1, 10, 3, integer=True).note is None
    assert ladder(1, 10, 3).note is not None


def test_an_explicit_list_is_kept_as_it_is_with_hyperbands_eta() -> None:
    assert explicit_ladder([1, 5, 7.5], unit="epochs") == Ladder(budgets=(1.0, 5.0, 7.5), eta=3.0, unit="epochs")
    assert explicit_ladder(np.array([2, 4]), eta=2).eta == 2.0


def test_budgets_are_plain_floats_whatever_number_comes_in() -> None:
    numbers: list[Any] = [np.int64(1), np.float32(9), np.int32(3)]
    made = ladder(*numbers)
    assert [type(number) for number in (*made.budgets, made.eta)] == [float] * 4


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((9, 1, 3), ("min_budget=9", "max_budget=1", "swap")),
        ((0, 1, 3), ("min_budget", "above 0", "0")),
        ((-1, 1, 3), ("min_budget", "-1", "above 0")),
        ((1, math.inf, 3), ("max_budget", "finite", "inf")),
        ((math.nan, 1, 3), ("min_budget", "finite", "nan")),
        ((1, 9, 1), ("eta", "above 1", "1")),
        ((1, 9, 0.5), ("eta", "above 1", "0.5")),
        ((1, 9, math.inf), ("eta", "finite", "inf")),
        (("1", 9, 3), ("min_budget", "number", "'1'", "str")),
        ((True, 9, 3), ("min_budget", "number", "True")),
        ((1, None, 3), ("max_budget", "number", "None")),
        ((1, 1e6, 1.001), ("eta=1.001", str(MOST_RUNGS), "larger eta")),
        ((1e-200, 1e200, 3), ("min_budget", "max_budget", "too far apart")),
    ],
)
def test_budgets_that_make_no_ladder_are_refused_with_field_value_and_remedy(
    arguments: tuple[Any, Any, Any], words: tuple[str, ...]
) -> None:
    for function in (ladder, rung_count):
        with pytest.raises(BudgetError) as caught:
            function(*arguments)
        assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, 4, 1.3), ("eta=1.3", "same whole budget 1", "larger eta")),
        ((0.5, 4, 2), ("min_budget", "whole", "0.5", "give 1")),
        ((1, 4.5, 2), ("max_budget", "whole", "4.5", "give 5")),
    ],
)
def test_whole_budgets_that_are_none_are_refused(arguments: tuple[float, float, float], words: tuple[str, ...]) -> None:
    with pytest.raises(BudgetError) as caught:
        ladder(*arguments, integer=True)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([], ("empty", "at least one")),
        ([1, 3, 3], ("budgets[1]=3", "budgets[2]=3", "sort")),
        ([3, 1], ("budgets[0]=3", "budgets[1]=1", "sort")),
        ([1, -3], ("budgets[1]", "-3")),
        ([1, math.nan], ("budgets[1]", "finite", "nan")),
        ([1, "3"], ("budgets[1]", "number", "'3'")),
        ("1,3,9", ("list", "'1,3,9'", "[1, 3, 9]")),
        (7, ("list", "7", "[1, 3, 9]")),
    ],
)
def test_lists_that_are_no_ladder_are_refused_with_place_value_and_remedy(budgets: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(BudgetError) as caught:
        explicit_ladder(budgets)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_list_with_an_impossible_eta_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"eta must be above 1, got 1"):
        explicit_ladder([1, 2], eta=1)
