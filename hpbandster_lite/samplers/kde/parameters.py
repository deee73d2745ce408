"""The parameters of the model, with the paper's defaults.

Law of this file: it refuses a wrong value with its name, the value and the valid range.
"""

from __future__ import annotations

import math
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records.decorator import record

DENSITIES = ("truncated", "statsmodels")
_WHOLE = ("min_points_in_model", "max_points_in_model", "num_samples")


@record(frozen=True, slots=True, kw_only=True)
class BohbParameters:
    """Parameters of BOHB's model; names as in HpBandSter, defaults as in the paper (arXiv:1807.01774) and its code.

    Parameters
    ----------
    min_points_in_model
        N_min, at least 2: a budget with at least N_min + 2 results has a model, and the good and the bad set have at
        least N_min points each. ``None`` (default) means d + 1, where d counts the hyperparameters with more than one
        value.
    top_n_percent
        100 q, in (0, 100): share of the results that count as good, in percent. Default: 15.
    max_points_in_model
        Most points of the good and of the bad set, at least 2; a larger N_min takes precedence. A larger good set keeps
        its best points, a larger bad set points evenly spaced by rank, so the time of a proposal does not grow with the
        number of results. Default: 512; the paper has no bound. Below that number of results at a budget, the bound has
        no effect.
    num_samples
        N_s, at least 1: number of candidates; the one with the largest l / g is proposed. Default: 64.
    random_fraction
        rho, in [0, 1]: probability of a random configuration although there is a model. Default: 1/3.
    bandwidth_factor
        b_w, above 0: candidates are drawn from l with the bandwidths of its numeric kernels times this factor.
        Default: 3. Kernels of categoricals are not widened, see :func:`hpbandster_lite.samplers.kde.density.widened`.
    min_bandwidth
        Smallest bandwidth, in (0, 1], on the unit cube. Default: 1e-3 (as in HpBandSter; the paper has no minimum).
    density
        ``truncated`` (default): kernels normalised over the space, see :mod:`hpbandster_lite.samplers.kde.density`.
        ``statsmodels``: ``KDEMultivariate`` as in the paper, see
        :mod:`hpbandster_lite.samplers.kde.statsmodels_density`; it is slow and supports no conditions.

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
        for name in _WHOLE:
            # 64.0 is 64 to a user, and an index of numpy accepts only the second.
            value = getattr(self, name)
            if isinstance(value, float) and value.is_integer():
                object.__setattr__(self, name, int(value))
        if self.min_points_in_model is not None:
            self._check("min_points_in_model", _is_whole(self.min_points_in_model, 2), "a whole number of at least 2; "
                        "leave it out for the number of hyperparameters plus one")
        self._check("top_n_percent", _is_number(self.top_n_percent) and 0 < self.top_n_percent < 100,
                    "a number above 0 and below 100; the paper has 15")
        self._check("max_points_in_model", _is_whole(self.max_points_in_model, 2),
                    "a whole number of at least 2 (the default is 512); a number above that of results sets no bound")
        self._check("num_samples", _is_whole(self.num_samples, 1), "a whole number of at least 1; the paper has 64")
        self._check("random_fraction", _is_number(self.random_fraction) and 0 <= self.random_fraction <= 1,
                    "a probability, from 0 (use the model if there is one) to 1 (always random); the paper has 1/3")
        self._check("bandwidth_factor", _is_number(self.bandwidth_factor) and self.bandwidth_factor > 0,
                    "a number above 0; the paper has 3")
        self._check("min_bandwidth", _is_number(self.min_bandwidth) and 0 < self.min_bandwidth <= 1,
                    "above 0 and at most 1, the scaled range of a hyperparameter; the default is 0.001")
        self._check("density", self.density in DENSITIES, f"one of {', '.join(DENSITIES)}")

    def _check(self, name: str, is_right: bool, wanted: str) -> None:
        if not is_right:
            raise UsageError(f"the sampler's parameter {name} must be {wanted}; got {getattr(self, name)!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
