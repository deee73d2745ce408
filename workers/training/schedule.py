"""How much a training may use, and how its learning rate falls while it does.

Law of this file: arithmetic only; no torch, no clock. The factor of the learning rate depends on the budget used so far
alone, so a continued training has the same rates as an uninterrupted one. Sources: SGDR
(arXiv:1608.03983), equation 5, restarted after a time instead of a number of epochs (arXiv:1807.06906); Wide ResNet
(arXiv:1605.07146) for the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from hpbandster_lite.errors import BudgetError, UsageError

Unit = Literal["seconds", "epochs"]
Schedule = Literal["restarts", "nested", "cosine", "step"]
UNITS: tuple[Unit, ...] = get_args(Unit)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
"""``restarts``: as many cosine cycles as the rung's number, each twice as long as the one before; the last one ends
with the budget; ``nested``: cycles of the same lengths at every rung; ``cosine``: one cycle; ``step``: the rate falls
to a fifth three times, as in the training of Wide ResNets."""

T_MUL = 2
"""Ratio of the lengths of two successive cycles."""
STEP_FACTOR = 0.2
STEPS_AT = (0.3, 0.6, 0.8)
"""Wide ResNet's epochs 60, 120 and 160 of 200."""
WARMUP_START = 0.1
"""Factor at which a warm-up begins; from 0 the first step would change nothing."""
TOLERANCE = 1e-6
"""Budgets come from a ladder of divisions; those that differ by less are the same rung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The budget of a training, and its place on the ladder of budgets.

    Parameters
    ----------
    amount
        In ``unit``; positive.
    unit
        ``epochs``, or ``seconds`` of training steps.
    rung
        Number of the rung on the ladder, from 1, in any bracket: the number of cycles of the schedule ``restarts``.
    lowest
        The ladder's lowest budget: the first cycle of the schedule ``nested``. ``amount`` by default.

    Raises
    ------
    BudgetError
        If a number is not positive and finite, or the lowest budget exceeds this one.
    """

    amount: float
    unit: Unit = "epochs"
    rung: int = 1
    lowest: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.amount < math.inf:
            raise BudgetError(f"a training needs a positive, finite budget, got {self.amount!r} {self.unit}")
        if self.unit not in UNITS:
            raise BudgetError(f"unit is {self.unit!r}; count the budget in one of {', '.join(UNITS)}")
        if self.rung < 1:
            raise BudgetError(f"rung is {self.rung}; the lowest rung of the ladder is number 1")
        if self.lowest is not None and not 0 < self.lowest <= self.amount * (1 + TOLERANCE):
            raise BudgetError(f"the ladder's lowest budget {self.lowest!r} is not in (0, {self.amount!r}]")

    @classmethod
    def on(cls, ladder: Sequence[float], amount: float, unit: Unit) -> Budget:
        """The budget ``amount`` on a ladder; between two rungs it belongs to the lower rung, below all to the first.

        Parameters
        ----------
        ladder
            Budgets of the search, increasing.
        amount, unit
            See the class.
        """
        below = [rung for rung in ladder if rung <= amount * (1 + TOLERANCE)]
        lowest = below[0] if below else amount
        return cls(amount=amount, unit=unit, rung=max(len(below), 1), lowest=lowest)

    @property
    def first_cycle(self) -> float:
        """T_0 of the schedule ``restarts``, so that cycle number ``rung`` ends with the budget: B / (2^k - 1)."""
        return self.amount / (float(T_MUL) ** self.rung - 1)


def nested_budgets(first_cycle: float, rungs: int) -> tuple[float, ...]:
    """Budgets at which cycles of T_0, 2 T_0, 4 T_0, ... end: T_0 (2^k - 1), for example 400, 1200, 2800, 6000.

    Parameters
    ----------
    first_cycle
        T_0, and the lowest budget.
    rungs
        Number of budgets.
    """
    if not first_cycle > 0 or rungs < 1:
        raise BudgetError(f"nested budgets need a positive first cycle and a rung, got {first_cycle!r} and {rungs}")
    return tuple(first_cycle * (T_MUL**k - 1) for k in range(1, rungs + 1))


def factor(schedule: Schedule, used: float, budget: Budget, *, warmup: float = 0.0) -> float:
    """Factor of the initial learning rate, in [0, 1], once ``used`` of the budget has been used.

    Parameters
    ----------
    schedule
        One of :data:`SCHEDULES`.
    used
        In the unit of the budget; beyond it all but ``nested`` keep their last factor, which is 0 for the cosines.
    budget
        The whole budget.
    warmup
        Share of the first cycle (of the budget, if there is one cycle) over which the rate rises to its value; in
        [0, 1).

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
            # From the share, not from T_0: the last cycle then ends with the budget in spite of rounding.
            value = annealed(share * (T_MUL**budget.rung - 1), last=budget.rung)
        case "nested":
            length = budget.amount if budget.lowest is None else budget.lowest
            value = annealed(used / length)
        case "cosine":
            value = 0.5 * (1 + math.cos(math.pi * share))
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
    # T_0 (2^j - 1) is where cycle j + 1 begins, so 2^j is the largest power of two up to cycles + 1; frexp is exact.
    length = 2.0 ** (math.frexp(cycles + 1)[1] - 1)
    if last is not None:
        length = min(length, 2.0 ** (last - 1))
    return 0.5 * (1 + math.cos(math.pi * (cycles - (length - 1)) / length))


def _warmed(used: float, length: float) -> float:
    return 1.0 if used >= length else WARMUP_START + (1 - WARMUP_START) * used / length
