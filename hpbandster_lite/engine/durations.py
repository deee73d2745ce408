"""How long an evaluation will take, from the durations of completed ones.

Law of this file: a pure function of the outcomes in the journal, so that replay and ``verify`` expect what the living
master expected. The estimate is high rather than low: an agent whose time ends in the middle of an evaluation has
trained for nothing, and one that takes none leaves the place to an agent with more time.
"""

from __future__ import annotations

import math
from collections import deque

KEPT = 100
"""Newest durations kept at each budget: a search finds larger networks with time, and a longer list is slow."""
QUANTILE = 0.9
SAFETY = 1.5
"""One in ten evaluations exceeds the quantile, and so do all on a slower machine than those observed."""
ENOUGH = 3
"""The median of fewer durations says nothing."""


class Durations:
    """Durations of evaluations by budget, in seconds."""

    def __init__(self) -> None:
        self._took: dict[float, deque[float]] = {}

    def add(self, budget: float, duration_s: float) -> None:
        """Add an evaluation that was completed in one attempt."""
        self._took.setdefault(budget, deque(maxlen=KEPT)).append(duration_s)

    def expected_s(self, budget: float) -> float | None:
        """Seconds within which an evaluation of this budget nearly always ends; None before the first completed one.

        For a budget without any: in proportion, from the nearest budget (by ratio) with some.
        """
        if not self._took:
            return None
        # The larger of two that are equally near: fixed costs weigh less in it.
        nearest = min(self._took, key=lambda seen: (abs(math.log(seen / budget)), -seen))
        took = sorted(self._took[nearest])
        return SAFETY * took[math.ceil(QUANTILE * len(took)) - 1] * budget / nearest

    def median_s(self, budget: float) -> float | None:
        """The median of the evaluations of this budget; None before :data:`ENOUGH` of them are completed."""
        # Here: it takes 3 ms to import, and commands that only print do not need it.
        from statistics import median

        took = self._took.get(budget, ())
        return median(took) if len(took) >= ENOUGH else None

    def is_known(self) -> bool:
        """Whether enough evaluations are completed, at any budgets, to notice one that takes far too long."""
        return sum(map(len, self._took.values())) >= ENOUGH
