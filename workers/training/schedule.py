"""The budget of a training, and the schedule of its learning rate.

Law of this file: arithmetic only; no torch, no clock. The factor of the learning rate depends only on the budget used
so far, so a continued training has the same rates as an uninterrupted one. Sources: SGDR (arXiv:1608.03983),
equation 5, with restarts after a time instead of a number of epochs (arXiv:1807.06906); Wide ResNet (arXiv:1605.07146)
for the steps.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hpbandster_lite.errors import BudgetError, UsageError

Unit = Literal["seconds", "epochs"]
Schedule = Literal["restarts", "nested", "cosine", "step"]
UNITS: tuple[Unit, ...] = get_args(Unit)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
"""``restarts``: rung k has k cosine cycles, each twice as long as the one before, of which the last ends with the
budget; ``nested``: one cosine cycle from each rung of the ladder to the next; ``cosine``: one cycle; ``step``: the rate
falls to a fifth three times, as in the training of Wide ResNets."""

T_MUL = 2
"""Ratio of the lengths of two successive cycles."""
STEP_FACTOR = 0.2
STEPS_AT = (0.3, 0.6, 0.8)
"""Wide ResNet's epochs 60, 120 and 160 of 200."""
WARMUP_START = 0.1
"""Factor at the beginning of a warm-up; with 0 the first step would change nothing."""
TOLERANCE = 1e-6
"""Relative difference below which two budgets are the same rung, because divisions make the budgets of a ladder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The budget of a training, and its place on the ladder of budgets.

    Parameters
    ----------
    amount
        The budget in ``unit``, above 0.
    unit
        ``epochs`` (the default), or ``seconds`` of training steps.
    rung
        Number of the rung on the ladder, from 1, in any bracket: the number of cycles of the schedule ``restarts``.
        Default: 1.
    restarts_at
        Budgets below ``amount``, increasing, at which the schedule ``nested`` restarts: the lower rungs of the ladder.
        Default: none, for one cycle.
    rungs
        Number of all rungs of the ladder. Default: 0, if it is unknown.

    Raises
    ------
    BudgetError
        If a number is not positive and finite, or the restarts do not increase from above 0 to below ``amount``.
    """

    amount: float
    unit: Unit = "epochs"
    rung: int = 1
    restarts_at: tuple[float, ...] = ()
    rungs: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf:
            raise BudgetError(f"a budget must be positive and finite, got {self.amount!r} {self.unit}")
        if self.unit not in UNITS:
            raise BudgetError(f"unit is {self.unit!r}; count the budget in one of {', '.join(UNITS)}")
        if self.rung < 1:
            raise BudgetError(f"rung must be at least 1, the lowest rung of the ladder; got {self.rung}")
        ends = (0.0, *self.restarts_at, self.amount)
        if not all(one < next_one for one, next_one in itertools.pairwise(ends)):
            raise BudgetError(
                f"restarts_at must increase from above 0 to below {self.amount!r}, got {self.restarts_at!r}"
            )

    @classmethod
    def on(cls, ladder: Sequence[float], amount: float, unit: Unit) -> Budget:
        """The budget ``amount`` on a ladder; between two rungs it belongs to the lower one, below all to the first.

        The schedule ``nested`` restarts at every lower rung. If the budget is between two rungs, and the rest after the
        last restart would be shorter than the cycle before it, that cycle ends with the budget instead.

        Parameters
        ----------
        ladder
            Budgets of the search, increasing.
        amount, unit
            See the class.
        """
        reached = [rung for rung in ladder if rung <= amount * (1 + TOLERANCE)]
        lower = [rung for rung in reached if rung < amount * (1 - TOLERANCE)]
        if lower and lower == reached and amount - lower[-1] < lower[-1] - (0.0, *lower)[-2]:
            del lower[-1]
        restarts_at = tuple(lower)
        return cls(amount=amount, unit=unit, rung=max(len(reached), 1), restarts_at=restarts_at, rungs=len(ladder))

    @property
    def first_cycle(self) -> float:
        """T_0 = B / (2^k - 1) of the schedule ``restarts``, with which cycle k, at rung k, ends with the budget B."""
        return self.amount / (float(T_MUL) ** self.rung - 1)


def nested_budgets(first_cycle: float, rungs: int) -> tuple[float, ...]:
    """Budgets at which cycles of T_0, 2 T_0, 4 T_0, ... end: T_0 (2^k - 1), for example 400, 1200, 2800, 6000.

    Parameters
    ----------
    first_cycle
        T_0, which is also the lowest budget.
    rungs
        Number of budgets.
    """
    if not first_cycle > 0 or rungs < 1:
        raise BudgetError(
            f"nested budgets require a positive first cycle and at least one rung, got {first_cycle!r} and {rungs}"
        )
    return tuple(first_cycle * (T_MUL**k - 1) for k in range(1, rungs + 1))


def factor(schedule: Schedule, used: float, budget: Budget, *, warmup: float = 0.0) -> float:
    """Factor of the initial learning rate, in [0, 1], after ``used`` of the budget.

    Parameters
    ----------
    schedule
        One of :data:`SCHEDULES`.
    used
        Used budget in its unit. Beyond the budget, the schedules keep their last factor, which is 0 for the cosines.
    budget
        The whole budget.
    warmup
        Share of the first cycle, in [0, 1), during which the rate rises to its value; with one cycle a share of the
        budget. Default: 0.

    Raises
    ------
    UsageError
        For an unknown schedule.
    """
    share = min(used / budget.amount, 1.0)
    length = budget.amount
    match schedule:
        case "restarts":
            length = budget.first_cycle
            # Computed from the share, not from T_0, so that rounding does not move the end of the last cycle.
            value = annealed(share * (T_MUL**budget.rung - 1), last=budget.rung)
        case "nested":
            length = (*budget.restarts_at, budget.amount)[0]
            value = _nested(used, budget)
        case "cosine":
            value = _cosine(share)
        case "step":
            value = STEP_FACTOR ** sum(share >= at for at in STEPS_AT)
        case _:
            raise UsageError(f"schedule is {schedule!r}; choose one of {', '.join(SCHEDULES)}")
    return value * _warmed(used, warmup * length)


def annealed(cycles: float, *, last: int | None = None) -> float:
    """Cosine annealing with warm restarts at 1, 3, 7, 15, ...: equation 5 of SGDR with eta_min = 0, eta_max = 1.

    Parameters
    ----------
    cycles
        Time in units of the first cycle, T_0; not negative.
    last
        Number of the last cycle, from 1, which ends at 0 without a restart; ``None`` if there is no last cycle.
    """
    # Cycle j + 1 begins at T_0 (2^j - 1), so 2^j is the largest power of two up to cycles + 1; frexp is exact.
    length = 2.0 ** (math.frexp(cycles + 1)[1] - 1)
    if last is not None:
        length = min(length, 2.0 ** (last - 1))
    return _cosine((cycles - (length - 1)) / length)


def _nested(used: float, budget: Budget) -> float:
    """Cosine annealing with a restart at each lower rung of the ladder."""
    cycle = bisect.bisect_right(budget.restarts_at, used)
    begin, end = (0.0, *budget.restarts_at, budget.amount)[cycle : cycle + 2]
    return _cosine(min((used - begin) / (end - begin), 1.0))


def _cosine(share: float) -> float:
    """Half a cosine wave, from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _warmed(used: float, length: float) -> float:
    return 1.0 if used >= length else WARMUP_START + (1 - WARMUP_START) * used / length
