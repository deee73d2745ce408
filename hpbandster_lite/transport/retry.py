"""When to try again: exponential backoff with jitter.

Law of this file: a pure function of the attempt number and a generator; who waits, and how, is the caller's business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from hpbandster_lite.errors import UsageError


class Random(Protocol):
    """``numpy.random.Generator`` or ``random.Random``."""

    def random(self) -> float:
        """The next number, uniform in [0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Delays that grow by ``factor`` from ``first_s`` to ``longest_s``, each shortened at random by up to one half.

    The jitter keeps a thousand agents that lost the same master from coming back in the same instant; the half that
    is never taken away keeps one agent from asking in a tight loop.
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
            How many times it has failed since it last worked.
        rng
            Source of the jitter; one number is drawn.
        at_least_s
            What the other side asked for (:attr:`Busy.after_s`); the jitter comes on top of it, so that those who were
            told the same do not come back together.
        """
        # By the logarithm: a power of the attempt number would overflow for an agent that waits through a weekend.
        steps = math.inf if self.factor == 1 else math.log(self.longest_s / self.first_s, self.factor)
        whole_s = self.longest_s if attempt - 1 >= steps else self.first_s * self.factor ** max(attempt - 1, 0)
        return at_least_s + whole_s * (1 - 0.5 * rng.random())
