"""The parameters of multi-fidelity Bayesian optimisation.

Law of this file: it refuses a wrong value with its name, the value and the valid range.
"""

from __future__ import annotations

import math
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records.decorator import record


@record(frozen=True, slots=True, kw_only=True)
class MfboParameters:
    """Parameters of ``mfbo``.

    Parameters
    ----------
    random_fraction
        In [0, 1]: probability of a random configuration although there is a model. Default: 0.15.
    density_fraction
        In [0, 1]: share of the other proposals that come from the density ratio although the Gaussian process is
        ready. Default: 0.4.
    full_results
        At least 1: finite results at the full budget from which the Gaussian process is ready. Default: 5; with a model
        from fewer, or from results at lower budgets alone, searches end worse where low budgets mislead.

    Raises
    ------
    UsageError
        For a value of another type or out of range.
    """

    random_fraction: float = 0.15
    density_fraction: float = 0.4
    full_results: int = 5

    def __post_init__(self) -> None:
        for name in ("random_fraction", "density_fraction"):
            value = getattr(self, name)
            self._check(name, _is_number(value) and 0 <= value <= 1, "a probability, from 0 (never) to 1 (always)")
        results = self.full_results
        self._check("full_results", _is_number(results) and results >= 1 and results == int(results),
                    "a whole number of at least 1; the default is 5")
        # 5.0 is 5 to a user, too.
        object.__setattr__(self, "full_results", int(results))

    def _check(self, name: str, is_right: bool, wanted: str) -> None:
        if not is_right:
            raise UsageError(f"the sampler's parameter {name} must be {wanted}; got {getattr(self, name)!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
