"""Hyperband's geometry, compared with the printed tables."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import UsageError
from hpbandster_lite.hyperband.brackets import BracketPlan, Rule, RungPlan, plan_bracket, plan_totals
from hpbandster_lite.hyperband.budgets import ladder

PAPER = (400.0, 1200.0, 3600.0, 10800.0)

# Table 5 for R = 81, eta = 3, as printed: places and budget of every rung, bracket s = 4 first.
TABLE_5 = [
    (4, [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]),
    (3, [(27, 3), (9, 9), (3, 27), (1, 81)]),
    (2, [(9, 9), (3, 27), (1, 81)]),
    (1, [(6, 27), (2, 81)]),
    (0, [(5, 81)]),
]


def sizes(plan: BracketPlan) -> list[tuple[int, float]]:
    return [(rung.places, rung.budget) for rung in plan.rungs]


def first_rungs(budgets: tuple[float, ...], rule: Rule) -> list[int]:
    return [plan_bracket(k, budgets, 3, rule=rule).rungs[0].places for k in range(len(budgets))]


# -------------------------------------------------------------------------------------------------- sizes


def test_the_default_rule_gives_table_5_as_printed() -> None:
    budgets = ladder(1, 81, 3).budgets
    plans = [plan_bracket(k, budgets, 3) for k in range(5)]
    assert [(plan.s, sizes(plan)) for plan in plans] == TABLE_5


def test_the_ceil_rule_gives_algorithm_1_as_printed() -> None:
    budgets = ladder(1, 81, 3).budgets
    assert first_rungs(budgets, "ceil") == [81, 34, 15, 8, 5]
    assert sizes(plan_bracket(1, budgets, 3, rule="ceil")) == [(34, 3), (11, 9), (3, 27), (1, 81)]


@pytest.mark.parametrize(
    ("rungs", "floor", "ceil"), [(4, [27, 9, 6, 4], [27, 12, 6, 4]), (3, [9, 3, 3], [9, 5, 3]), (1, [1], [1])]
)
def test_both_rules_for_fewer_rungs(rungs: int, floor: list[int], ceil: list[int]) -> None:
    budgets = PAPER[4 - rungs :]
    assert first_rungs(budgets, "floor") == floor
    assert first_rungs(budgets, "ceil") == ceil


def test_the_papers_32_brackets_have_368_configurations_and_cost_15_gpu_days() -> None:
    totals = plan_totals(plan_bracket(k, PAPER, 3) for k in range(32))
    assert (totals.configurations, totals.evaluations, totals.total_budget) == (368, 520, 1_296_000)
    assert list(totals.per_budget.items()) == [(400, 216), (1200, 144), (3600, 96), (10800, 64)]


@given(
    rungs=st.integers(1, 7),
    eta=st.one_of(st.integers(2, 6).map(float), st.floats(1.1, 6)),
    bracket=st.integers(0, 50),
    rule=st.sampled_from(["floor", "ceil"]),
)
def test_a_bracket_uses_the_top_budgets_and_no_rung_exceeds_the_one_below(
    rungs: int, eta: float, bracket: int, rule: Rule
) -> None:
    budgets = tuple(eta**k for k in range(rungs))
    plan = plan_bracket(bracket, budgets, eta, rule=rule)
    places = [rung.places for rung in plan.rungs]
    assert plan.bracket == bracket
    assert plan.s == rungs - 1 - bracket % rungs
    assert tuple(rung.budget for rung in plan.rungs) == budgets[-(plan.s + 1) :]
    assert all(above <= below for below, above in pairwise(places))
    assert all(place == max(1, math.floor(places[0] / eta**i + 1e-9)) for i, place in enumerate(places))


@given(eta=st.integers(2, 10), s=st.integers(0, 12))
def test_the_first_bracket_of_an_integer_eta_ends_in_one_configuration(eta: int, s: int) -> None:
    s = min(s, int(math.log(10**6, eta)))
    plan = plan_bracket(0, tuple(float(eta**k) for k in range(s + 1)), eta)
    assert [rung.places for rung in plan.rungs] == [eta ** (s - i) for i in range(s + 1)]


@pytest.mark.parametrize(
    ("eta", "rule", "places"),
    [
        (math.sqrt(3), "floor", [3, 1, 1]),  # eta**2 is 2.9999999999999996
        (math.sqrt(2), "ceil", [2, 1, 1]),  # eta**2 is 2.0000000000000004
        (math.sqrt(2), "floor", [4, 2, 2, 1, 1]),  # 4 / eta**2 is 1.9999999999999996
    ],
)
def test_a_rounding_error_of_eta_makes_no_rung_larger_or_smaller(eta: float, rule: Rule, places: list[int]) -> None:
    budgets = tuple(eta**k for k in range(len(places)))
    assert [rung.places for rung in plan_bracket(0, budgets, eta, rule=rule).rungs] == places


# ---------------------------------------------------------------------------- one rung at the full budget


def test_a_bracket_at_the_full_budget_costs_what_hyperbands_bracket_costs() -> None:
    for k in range(8):
        plan = plan_bracket(k, PAPER, 3, plan="full_budget")
        assert plan.rungs == (RungPlan(budget=10800.0, places=[4, 3, 4, 4][k % 4]),)
        assert plan.s == 0
        assert plan.total_budget == plan_bracket(k, PAPER, 3).total_budget


@pytest.mark.parametrize(
    ("budgets", "eta", "full_budgets", "places"),
    [((3.0, 4.0), 2, 2.5, 2), ((1.0, 4.0), 2, 1.5, 2), ((0.25, 1.0), 1.2, 1.25, 1), ((1.0, 1000.0), 1.2, 1.001, 1)],
)
def test_a_bracket_at_the_full_budget_is_rounded_half_to_even(
    budgets: tuple[float, float], eta: float, full_budgets: float, places: int
) -> None:
    assert plan_bracket(0, budgets, eta).total_budget / budgets[-1] == full_budgets
    assert [rung.places for rung in plan_bracket(0, budgets, eta, plan="full_budget").rungs] == [places]


# ---------------------------------------------------------------------------- plain successive halving


@pytest.mark.parametrize("rule", ["floor", "ceil"])
def test_every_bracket_of_successive_halving_is_hyperbands_first(rule: Rule) -> None:
    first = plan_bracket(0, PAPER, 3, rule=rule)
    assert first.s == len(PAPER) - 1
    for k in range(5):
        plan = plan_bracket(k, PAPER, 3, rule=rule, plan="successive_halving")
        assert (plan.bracket, plan.s, plan.rungs) == (k, first.s, first.rungs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"plan": "tpe"}, ("plan='tpe'", "hyperband")),
        ({"rule": "round"}, ("rule='round'", "floor", "ceil")),
    ],
)
def test_an_unknown_option_is_answered_with_the_known_ones(options: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        plan_bracket(0, PAPER, 3, **options)  # type: ignore[arg-type]  # the wrong value is the point
    assert all(word in str(caught.value) for word in words)


def test_a_negative_bracket_is_refused() -> None:
    with pytest.raises(UsageError, match="bracket=-1 is negative"):
        plan_bracket(-1, PAPER, 3)
