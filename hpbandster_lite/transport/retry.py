"""When to try again: exponential backoff with jitter.

Law of this file: a pure function of the attempt number and a generator; the caller does the waiting.
"""

from __future__ import annotations

import math
from typing import Protocol

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records.decorator import record


class Random(Protocol):
    """``numpy.random.Generator`` or ``random.Random``."""

    def random(self) -> float:
        """The next number, uniform in [0, 1)."""


@record(frozen=True, slots=True, kw_only=True)
class Retry:
    """Delays that grow by ``factor`` from ``first_s`` to ``longest_s``, each shortened at random by up to one half.

    The jitter keeps a thousand agents that lost the same master from reconnecting at the same instant; the fixed half
    keeps one agent from retrying in a tight loop.
    """

    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.longest_s or not self.factor >= 1:
            raise UsageError(
                f"delays must grow from above 0, got {self}: take 0 < first_s <= longest_s and factor >= 1"
            )

    def delay_s(self, attempt: int, rng: Random, *, at_least_s: float = 0.0) -> float:
        """Seconds to wait after failure number ``attempt``, counted from 1.

        Parameters
        ----------
        attempt
            Number of failures since the last success.
        rng
            Source of the jitter; one number is drawn.
        at_least_s
            The delay that the server requested (:attr:`Busy.after_s`). The jitter is added to it, so that clients with
            the same answer do not call again at the same time.
        """
        # Compare logarithms first: the power overflows for an agent that retries for a whole weekend.
        steps = math.inf if self.factor == 1 else math.log(self.longest_s / self.first_s, self.factor)
        whole_s = self.longest_s if attempt - 1 >= steps else self.first_s * self.factor ** max(attempt - 1, 0)
        return at_least_s + whole_s * (1 - 0.5 * rng.random())
