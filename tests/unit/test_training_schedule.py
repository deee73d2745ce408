"""Learning rates over a budget, and the ladder that fits them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import BudgetError, UsageError
from hpbandster_lite.workers.training.schedule import SCHEDULES, Budget, Schedule, annealed, factor, nested_budgets

PAPER = (400.0, 1200.0, 3600.0, 10800.0)
AMOUNTS = st.floats(1e-3, 1e6)


def sgdr(time: float, first: float) -> float:
    """The rate, computed step by step in a loop that restarts its clock."""
    length = first
    while time >= length:
        time -= length
        length *= 2
    return 0.5 * (1 + math.cos(math.pi * time / length))


# ---------------------------------------------------------------------------------------------------------- the ladder


def test_the_first_cycles_of_the_published_budgets_are_those_of_the_paper() -> None:
    cycles = [Budget.on(PAPER, amount, "seconds").first_cycle for amount in PAPER]
    assert cycles == [400.0, 400.0, pytest.approx(514.285714), 720.0]


def test_a_budget_between_two_rungs_has_the_cycles_of_the_lower_one() -> None:
    assert [Budget.on(PAPER, amount, "seconds").rung for amount in (100, 400, 1199, 1200 - 1e-7, 5000, 20000)] == [
        1, 1, 1, 2, 3, 4,
    ]  # fmt: skip


def test_nested_budgets_end_with_a_cycle_each() -> None:
    assert nested_budgets(400, 4) == (400, 1200, 2800, 6000)


@given(first=AMOUNTS, rungs=st.integers(1, 8))
def test_on_a_nested_ladder_both_schedules_are_the_same_within_a_rung(first: float, rungs: int) -> None:
    ladder = nested_budgets(first, rungs)
    budget = Budget.on(ladder, ladder[-1], "epochs")
    assert budget.first_cycle == pytest.approx(first)
    used = 0.37 * ladder[-1]
    assert factor("nested", used, budget) == pytest.approx(factor("restarts", used, budget), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"amount": 0.0}, "0.0 epochs"),
        ({"amount": math.inf}, "inf"),
        ({"amount": math.nan}, "nan"),
        ({"amount": 1.0, "unit": "steps"}, "seconds, epochs"),
        ({"amount": 1.0, "rung": 0}, "at least 1.*got 0"),
        ({"amount": 1.0, "restarts_at": (2.0,)}, r"below 1.0, got \(2.0,\)"),
        ({"amount": 1.0, "restarts_at": (0.0,)}, r"above 0 .*got \(0.0,\)"),
        ({"amount": 9.0, "restarts_at": (3.0, 1.0)}, r"increase .*got \(3.0, 1.0\)"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_by_name(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(BudgetError, match=named):
        Budget(**arguments)


@pytest.mark.parametrize(("first", "rungs"), [(0.0, 3), (-1.0, 3), (math.nan, 3), (1.0, 0)])
def test_nested_budgets_need_a_cycle_and_a_rung(first: float, rungs: int) -> None:
    with pytest.raises(BudgetError, match="first cycle"):
        nested_budgets(first, rungs)


# ----------------------------------------------------------------------------------------------------------- the rates


@given(cycles=st.floats(0, 1e6))
def test_annealing_equals_a_clock_that_is_reset_at_each_restart(cycles: float) -> None:
    # Within 1e-9 of a restart the two may be on different sides of it.
    if min(abs(cycles - (2**j - 1)) for j in range(22)) > 1e-9:
        assert annealed(cycles) == pytest.approx(sgdr(cycles, 1.0), abs=1e-6)


@pytest.mark.parametrize("restart", [0, 1, 3, 7, 15, 31])
def test_each_cycle_begins_at_the_full_rate_and_ends_near_zero(restart: int) -> None:
    assert annealed(restart) == 1.0
    if restart:
        assert annealed(restart - 1e-9) == pytest.approx(0.0, abs=1e-12)


@given(amount=AMOUNTS, rung=st.integers(1, 6))
def test_a_rung_has_as_many_cycles_as_its_number_and_ends_at_zero(amount: float, rung: int) -> None:
    budget = Budget(amount=amount, rung=rung)
    rates = [factor("restarts", amount * i / 1_000, budget) for i in range(1_000)]
    assert rates[0] == 1.0
    assert 1 + sum(after > before for before, after in itertools.pairwise(rates)) == rung
    assert factor("restarts", amount, budget) == 0.0
    # Rounding does not turn the last step into a restart.
    assert factor("restarts", math.nextafter(amount, 0), budget) == pytest.approx(0.0, abs=1e-12)


LADDERS = st.lists(AMOUNTS, min_size=1, max_size=6, unique=True).map(sorted).filter(
    lambda ladder: all(low * 1.01 < high for low, high in itertools.pairwise(ladder))
)


@given(ladder=LADDERS, share=st.floats(0, 1, exclude_max=True), rung=st.integers(0, 5))
def test_a_nested_rate_does_not_depend_on_the_rung_that_is_trained(
    ladder: list[float], share: float, rung: int
) -> None:
    one, top = (Budget.on(ladder, amount, "seconds") for amount in (ladder[min(rung, len(ladder) - 1)], ladder[-1]))
    used = share * one.amount
    assert factor("nested", used, one, warmup=0.1) == factor("nested", used, top, warmup=0.1)


@given(ladder=LADDERS)
def test_a_nested_cycle_ends_with_each_rung_of_any_ladder(ladder: list[float]) -> None:
    for number, amount in enumerate(ladder, start=1):
        budget = Budget.on(ladder, amount, "epochs")
        assert [factor("nested", used, budget) for used in (0.0, *ladder[: number - 1])] == [1.0] * number
        assert factor("nested", amount, budget) == 0.0
        assert factor("nested", 2 * amount, budget) == 0.0
        assert factor("nested", math.nextafter(amount, 0), budget) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("amount", "restarts"),
    [(0.5, ()), (1, ()), (2.5, (1,)), (9, (1, 3)), (10, (1, 3)), (16, (1, 3, 9)), (27, (1, 3, 9)), (30, (1, 3, 9))],
)
def test_a_refit_between_two_rungs_ends_with_a_cycle_too(amount: float, restarts: tuple[float, ...]) -> None:
    budget = Budget.on((1, 3, 9, 27), amount, "epochs")
    assert budget.restarts_at == restarts
    assert factor("nested", amount, budget) == 0.0


def test_steps_come_where_wide_resnets_had_them() -> None:
    budget = Budget(amount=200)
    epochs = (0, 59.9, 60, 119.9, 120, 159.9, 160, 200)
    assert [round(factor("step", epoch, budget), 6) for epoch in epochs] == [1, 1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008]


def test_one_cosine_falls_all_the_way_whatever_the_rung() -> None:
    budget = Budget(amount=10, rung=4)
    rates = [factor("cosine", used, budget) for used in range(11)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[10]) == (1.0, 0.0)
    assert rates[5] == pytest.approx(0.5)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(used=st.floats(0, 20), warmup=st.floats(0, 0.9), rung=st.integers(1, 4))
def test_a_factor_is_never_outside_zero_and_one(schedule: Schedule, used: float, warmup: float, rung: int) -> None:
    assert 0.0 <= factor(schedule, used, Budget(amount=9, rung=rung, restarts_at=(1, 3)), warmup=warmup) <= 1.0


def test_a_warm_up_rises_over_its_share_of_the_first_cycle() -> None:
    budget = Budget(amount=7, rung=3, restarts_at=(1, 3))
    for schedule in ("restarts", "nested"):
        warm, plain = (factor(schedule, 0.1, budget, warmup=share) for share in (0.2, 0.0))
        assert warm == pytest.approx(plain * 0.55)
        assert factor(schedule, 0.0, budget, warmup=0.2) == pytest.approx(0.1)
        assert factor(schedule, 0.2, budget, warmup=0.2) == factor(schedule, 0.2, budget)
    assert factor("cosine", 0.7, budget, warmup=0.2) == pytest.approx(factor("cosine", 0.7, budget) * 0.55)


def test_an_unknown_schedule_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'linear'; choose one of restarts, nested, cosine, step"):
        factor("linear", 0, Budget(amount=1))  # type: ignore[arg-type] # that is the point
