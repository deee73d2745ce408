"""The numbers of the model: what a user may set, and the paper's defaults.

Law of this file: a value that is wrong is refused here, with its name, the value and what is right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hpbandster_lite.errors import UsageError

DENSITIES = ("truncated", "statsmodels")


@dataclass(frozen=True, slots=True, kw_only=True)
class BohbParameters:
    """Parameters of BOHB's model; names as in HpBandSter, defaults as in the paper (arXiv:1807.01774) and its code.

    Parameters
    ----------
    min_points_in_model
        N_min, at least 2: a budget has a model from N_min + 2 results on, and good and bad set have at least N_min
        points each. ``None`` (default) is d + 1, where d counts the hyperparameters with more than one value.
    top_n_percent
        100 q, in (0, 100): share of the results that count as good. Default 15.
    max_points_in_model
        Most points of the good and of the bad set, at least 2 (N_min goes before it): of a larger good set the best, of
        a larger bad set some evenly spaced by rank, so that a proposal costs the same however many results there are.
        Default 512; the paper has no bound, nor has a search with fewer results than this at a budget.
    num_samples
        N_s, at least 1: candidates of which the one with the largest l / g is proposed. Default 64.
    random_fraction
        rho, in [0, 1]: probability of a random configuration although there is a model. Default 1/3.
    bandwidth_factor
        b_w, above 0: by how much wider than those of l the kernels of numbers are that candidates are drawn from.
        Default 3. Kernels of categoricals are not widened, see :func:`hpbandster_lite.samplers.kde.density.widened`.
    min_bandwidth
        Floor of all bandwidths, in (0, 1], on the unit cube. Default 1e-3 (of the code; the paper has none).
    density
        ``truncated`` (default): kernels normalised over the space, see :mod:`hpbandster_lite.samplers.kde.density`.
        ``statsmodels``: the paper-faithful ``KDEMultivariate``, see
        :mod:`hpbandster_lite.samplers.kde.statsmodels_density`; slow, and for spaces without conditions.

    Raises
    ------
    UsageError
        For a value of another type or out of range.
    """

    min_points_in_model: int | None = None
    top_n_percent: float = 15.0
    max_points_in_model: int = 512
    num_samples: int = 64
    random_fraction: float = 1 / 3
    bandwidth_factor: float = 3.0
    min_bandwidth: float = 1e-3
    density: str = "truncated"

    def __post_init__(self) -> None:
        if self.min_points_in_model is not None:
            self._check("min_points_in_model", _is_whole(self.min_points_in_model, 2), "a whole number of at least 2, "
                        "or be left out for one more than there are hyperparameters")
        self._check("top_n_percent", _is_number(self.top_n_percent) and 0 < self.top_n_percent < 100,
                    "a number above 0 and below 100; the paper has 15")
        self._check("max_points_in_model", _is_whole(self.max_points_in_model, 2),
                    "a whole number of at least 2, one above the number of results for no bound; the default is 512")
        self._check("num_samples", _is_whole(self.num_samples, 1), "a whole number of at least 1; the paper has 64")
        self._check("random_fraction", _is_number(self.random_fraction) and 0 <= self.random_fraction <= 1,
                    "a probability, from 0 (the model whenever there is one) to 1 (always random); the paper has 1/3")
        self._check("bandwidth_factor", _is_number(self.bandwidth_factor) and self.bandwidth_factor > 0,
                    "a number above 0; the paper has 3")
        self._check("min_bandwidth", _is_number(self.min_bandwidth) and 0 < self.min_bandwidth <= 1,
                    "above 0 and at most 1, the range of a hyperparameter; the default is 0.001")
        self._check("density", self.density in DENSITIES, f"one of {', '.join(DENSITIES)}")

    def _check(self, name: str, is_right: bool, wanted: str) -> None:
        if not is_right:
            raise UsageError(f"the sampler's parameter {name} must be {wanted}; got {getattr(self, name)!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
