"""How long an evaluation will take, by what ended ones took.

Law of this file: a pure function of the outcomes in the journal, so that replay and ``verify`` expect what the living
master expected. It rather says too much than too little: who takes an evaluation that does not end in its time has
trained for nothing, who takes none leaves a place to somebody with more time.
"""

from __future__ import annotations

import math
from collections import deque

KEPT = 100
"""Of each budget the newest so many count: a search finds larger networks in its course, and a longer list is slow."""
QUANTILE = 0.9
SAFETY = 1.5
"""The quantile is exceeded by one in ten, and by all on a slower machine than those that were seen."""


class Durations:
    """What evaluations took, by budget, in seconds."""

    def __init__(self) -> None:
        self._took: dict[float, deque[float]] = {}

    def add(self, budget: float, duration_s: float) -> None:
        """An evaluation came to its end in one attempt."""
        self._took.setdefault(budget, deque(maxlen=KEPT)).append(duration_s)

    def expected_s(self, budget: float) -> float | None:
        """Seconds within which an evaluation of this budget ends, nearly always; None before anything has ended.

        Of a budget that was not seen yet: in proportion, from the nearest one (by ratio) that was.
        """
        if not self._took:
            return None
        # The larger of two that are equally near: fixed costs weigh less in it.
        nearest = min(self._took, key=lambda seen: (abs(math.log(seen / budget)), -seen))
        took = sorted(self._took[nearest])
        return SAFETY * took[math.ceil(QUANTILE * len(took)) - 1] * budget / nearest
