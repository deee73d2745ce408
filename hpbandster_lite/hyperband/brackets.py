"""Hyperband geometry: which rungs a bracket has and how many configurations each one holds.

Law of this file: arithmetic only, no state. A rung is never larger than the rung below it. The paper's run and its
Table 5 use rule ``floor`` (81, 27, 9, 6, 5 configurations for R = 81); Algorithm 1 as printed is rule ``ceil`` (81, 34,
15, 8, 5). Source: Hyperband (arXiv:1603.06560), Algorithm 1; BOHB (arXiv:1807.01774), Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records.decorator import record

Rule: TypeAlias = Literal["floor", "ceil"]
"""Rule for the number of configurations with which a bracket begins."""
PlanKind: TypeAlias = Literal["hyperband", "successive_halving", "full_budget"]
"""Which brackets a search runs."""
Promotion: TypeAlias = Literal["rung", "pool"]
"""Which configurations a complete rung promotes: its own best ones, or the best at its budget of all brackets."""
TOLERANCE = 1e-9
"""Added before rounding down, subtracted before rounding up: eta**s / eta**i may miss a whole number by a rounding
error."""


@record(frozen=True, slots=True, kw_only=True)
class RungPlan:
    """One rung: ``places`` evaluations at ``budget``."""

    budget: float
    places: int


@record(frozen=True, slots=True, kw_only=True)
class BracketPlan:
    """One bracket: its number, Hyperband's ``s`` (the number of promotions up to the full budget), its rungs."""

    bracket: int
    s: int
    rungs: tuple[RungPlan, ...]

    @property
    def total_budget(self) -> float:
        """Budget of all its evaluations together."""
        return math.fsum(rung.places * rung.budget for rung in self.rungs)


@record(frozen=True, slots=True, kw_only=True)
class PlanTotals:
    """The cost of several brackets: configurations, evaluations, total budget, and evaluations by budget."""

    configurations: int
    evaluations: int
    total_budget: float
    per_budget: dict[float, int]


def plan_bracket(
    bracket: int, budgets: tuple[float, ...], eta: float, *, rule: Rule = "floor", plan: PlanKind = "hyperband"
) -> BracketPlan:
    """Plan of one bracket.

    Parameters
    ----------
    bracket
        Number of the bracket, from 0. It has s = s_max - (bracket mod (s_max + 1)), so the first has the most rungs.
    budgets
        The ladder, increasing; s_max + 1 of them.
    eta
        Rate of successive halving, above 1.
    rule
        Number n0 of configurations with which a bracket begins: floor((s_max + 1) / (s + 1)) * eta**s for ``floor``,
        ceil((s_max + 1) / (s + 1) * eta**s) for ``ceil``.
    plan
        ``hyperband``: rung i has floor(n0 / eta**i + 1e-9) places, at least one. ``successive_halving``: every bracket
        is Hyperband's bracket with the most rungs (s = s_max). ``full_budget``: one rung at the full budget (s = 0),
        with the number of places for which it costs as much as Hyperband's bracket of this number (rounded half to
        even, at least one); so ``--brackets N`` means the same total budget.

    Raises
    ------
    UsageError
        For an unknown rule or plan, or a negative bracket.
    """
    if plan not in get_args(PlanKind):
        raise UsageError(f"unknown plan={plan!r} of brackets; choose from {', '.join(get_args(PlanKind))}")
    if rule not in get_args(Rule):
        raise UsageError(f"unknown rule={rule!r} of bracket sizes; choose from {', '.join(get_args(Rule))}")
    if bracket < 0:
        raise UsageError(f"bracket={bracket} is negative; brackets are numbered from 0")
    s_max = len(budgets) - 1
    s = s_max if plan == "successive_halving" else s_max - bracket % (s_max + 1)
    first = _first_rung(s, s_max, eta, rule)
    rungs = tuple(
        RungPlan(budget=budget, places=max(1, math.floor(first / eta**i + TOLERANCE)))
        for i, budget in enumerate(budgets[s_max - s :])
    )
    with_rungs = BracketPlan(bracket=bracket, s=s, rungs=rungs)
    if plan != "full_budget":
        return with_rungs
    # At least one, because Hyperband's bracket has a place at the full budget.
    places = round(with_rungs.total_budget / budgets[-1])
    return BracketPlan(bracket=bracket, s=0, rungs=(RungPlan(budget=budgets[-1], places=places),))


def _first_rung(s: int, s_max: int, eta: float, rule: Rule) -> int:
    if rule == "floor":
        return math.floor((s_max + 1) // (s + 1) * eta**s + TOLERANCE)
    return math.ceil((s_max + 1) * eta**s / (s + 1) - TOLERANCE)


def plan_totals(plans: Iterable[BracketPlan]) -> PlanTotals:
    """Sums over brackets; ``per_budget`` in increasing order of the budgets."""
    plans = list(plans)
    per_budget = dict.fromkeys(sorted({rung.budget for plan in plans for rung in plan.rungs}), 0)
    for plan in plans:
        for rung in plan.rungs:
            per_budget[rung.budget] += rung.places
    return PlanTotals(
        configurations=sum(plan.rungs[0].places for plan in plans),
        evaluations=sum(per_budget.values()),
        total_budget=math.fsum(plan.total_budget for plan in plans),
        per_budget=per_budget,
    )
