"""The ladder of budgets: from the smallest rung to the full budget, each about eta times the one below.

Law of this file: arithmetic only. The top budget is exactly max_budget, the others are max_budget / eta**k. A budget
within 1e-9 (relative) of min_budget becomes min_budget; otherwise the ladder starts above min_budget and has a note.
Rungs are counted by division with that tolerance, never by a floored logarithm: log(243) / log(3) is 4.999..., which
loses a rung.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from itertools import pairwise

from hpbandster_lite.errors import BudgetError
from hpbandster_lite.records.decorator import record

TOLERANCE = 1e-9
"""Relative distance below which a budget of the ladder equals the given minimum."""
MOST_RUNGS = 1_000
"""A ladder of more rungs is refused: its eta is so close to 1 that a rung keeps nearly all configurations."""
WIDEST = 1e100
"""Largest ratio of the full budget to the smallest."""
DEFAULT_ETA = 3.0
"""Hyperband's and the paper's reduction factor."""


@record(frozen=True, slots=True, kw_only=True)
class Ladder:
    """Budgets of a search.

    Parameters
    ----------
    budgets
        Increasing, in ``unit``; the last one is the full budget.
    eta
        How many configurations of a rung compete for one place of the next rung; above 1.
    unit
        What a budget counts: epochs, seconds, samples, ...
    note
        Why the ladder does not start at the requested minimum; ``None`` if it does.
    """

    budgets: tuple[float, ...]
    eta: float
    unit: str
    note: str | None = None


def ladder(
    min_budget: float, max_budget: float, eta: float = DEFAULT_ETA, *, unit: str = "budget", integer: bool = False
) -> Ladder:
    """Budgets from ``min_budget`` to ``max_budget``, each eta times the one below.

    Parameters
    ----------
    min_budget, max_budget
        Positive. Equal budgets make a ladder of one rung.
    eta
        Any number above 1.
    unit
        What a budget counts.
    integer
        Whether budgets are whole numbers; if so, they are rounded, half to even.

    Returns
    -------
    Ladder
        400 to 10800 with eta 3 is exactly (400, 1200, 3600, 10800).

    Raises
    ------
    BudgetError
        The message names the field, the value and the remedy.
    """
    low, high, eta = _range(min_budget, max_budget, eta)
    rungs = rung_count(low, high, eta)
    exact = [high / eta**k for k in range(rungs - 1, 0, -1)] + [high]
    if exact[0] <= low * (1 + TOLERANCE):
        exact[0] = low
    if integer:
        _check_whole(min_budget=low, max_budget=high)
    budgets = _rounded(exact, eta) if integer else tuple(exact)
    note = None
    if budgets[0] != low:
        below = high / eta**rungs
        note = (
            f"the ladder starts at {budgets[0]:.6g}, above min_budget={low:g}, because it descends from "
            f"max_budget={high:g} by eta={eta:g} and the next step, {below:.6g}, is below min_budget"
        )
    return Ladder(budgets=budgets, eta=eta, unit=unit, note=note)


def explicit_ladder(
    budgets: Iterable[float], *, unit: str = "budget", eta: float | None = None, integer: bool = False
) -> Ladder:
    """A ladder of given budgets.

    Parameters
    ----------
    budgets
        At least one, positive, increasing.
    unit
        What a budget counts.
    eta
        Rate of successive halving, above 1. Default: 3.
    integer
        Whether budgets are whole numbers; if so, others are refused.

    Raises
    ------
    BudgetError
        The message names the field, the value and the remedy.
    """
    steps = [_number(f"budgets[{i}]", budget, above=0) for i, budget in enumerate(_listed(budgets))]
    if integer:
        _check_whole(**{f"budgets[{i}]": step for i, step in enumerate(steps)})
    if not steps:
        raise BudgetError("budgets is empty; give at least one, or min_budget and max_budget")
    for i, (below, above) in enumerate(pairwise(steps)):
        if not below < above:
            raise BudgetError(
                f"budgets must increase, got budgets[{i}]={below:g} before budgets[{i + 1}]={above:g}; "
                "sort them and leave out repeated ones"
            )
    return Ladder(budgets=tuple(steps), eta=_number("eta", DEFAULT_ETA if eta is None else eta, above=1), unit=unit)


def rung_count(min_budget: float, max_budget: float, eta: float = DEFAULT_ETA) -> int:
    """Number of rungs of a ladder: 1 + the largest k with max_budget / eta**k >= min_budget, within 1e-9 relative.

    Hyperband's s_max + 1 (arXiv:1603.06560, Algorithm 1), right for exact powers too.

    Raises
    ------
    BudgetError
        As :func:`ladder`.
    """
    low, high, eta = _range(min_budget, max_budget, eta)
    # The logarithm is only a guess; the comparison decides.
    steps = max(0, round((math.log(high) - math.log(low)) / math.log(eta)) - 1)
    if steps >= MOST_RUNGS:
        raise BudgetError(f"eta={eta!r} makes more than {MOST_RUNGS} rungs from {low:g} to {high:g}; take a larger eta")
    while high / eta ** (steps + 1) >= low * (1 - TOLERANCE):
        steps += 1
    return steps + 1


def _range(min_budget: float, max_budget: float, eta: float) -> tuple[float, float, float]:
    low = _number("min_budget", min_budget, above=0)
    high = _number("max_budget", max_budget, above=0)
    if low > high:
        raise BudgetError(f"min_budget={low:g} is above max_budget={high:g}; swap them")
    # Powers of eta reach the square of this ratio, and 1e308 is the largest float.
    if low * WIDEST < high:
        raise BudgetError(f"min_budget={low:g} and max_budget={high:g} are too far apart; give a larger min_budget")
    return low, high, _number("eta", eta, above=1)


def _listed(budgets: object) -> list[object]:
    if isinstance(budgets, str) or not isinstance(budgets, Iterable):
        raise BudgetError(f"budgets must be a list of numbers, got {budgets!r}; give for example [1, 3, 9]")
    return list(budgets)


def _number(field: str, value: object, *, above: float) -> float:
    """The value as a float; raises BudgetError unless it is a finite number above ``above``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise BudgetError(f"{field} must be a number, got {value!r} of type {type(value).__name__}; give a number")
    number = float(value)
    if not math.isfinite(number):
        raise BudgetError(f"{field} must be finite, got {value!r}; give a finite number above {above:g}")
    if not number > above:
        raise BudgetError(f"{field} must be above {above:g}, got {value!r}; give a number above {above:g}")
    return number


def _check_whole(**fields: float) -> None:
    for field, value in fields.items():
        if not value.is_integer():
            raise BudgetError(f"{field} must be a whole number of this unit, got {value!r}; give {math.ceil(value)}")


def _rounded(exact: list[float], eta: float) -> tuple[float, ...]:
    rounded = tuple(float(round(value)) for value in exact)
    for below, above in pairwise(rounded):
        if below == above:
            raise BudgetError(
                f"eta={eta:g} makes two rungs of the same whole budget {above:g}; "
                "take a larger eta, a larger min_budget, or give the budgets as a list"
            )
    return rounded
