"""The density of the paper: statsmodels' ``KDEMultivariate``, with the interface of :class:`.density.Density`.

Law of this file: the only import of statsmodels. Its kernels are untruncated Gaussians for all numbers, integers
included, and Aitchison-Aitken with the levels *seen in the data*. The bandwidths come from
:func:`.density.bandwidths`: Scott's rule as in statsmodels, clipped to the valid range of categoricals, beyond which
the kernel of statsmodels becomes negative.
"""

from __future__ import annotations

import warnings

import numpy as np
from statsmodels.nonparametric.kernel_density import KDEMultivariate

from hpbandster_lite.samplers.kde.axes import Axes, Points
from hpbandster_lite.samplers.kde.density import Density
from hpbandster_lite.space import Array

LEAST_DENSITY = 1e-32
"""Lower bound of a density, as in HpBandSter, so that a ratio of densities is never 0 / 0."""


class StatsmodelsDensity:
    """``KDEMultivariate`` of a set of configurations.

    Parameters
    ----------
    axes
        The kernels; no dimension may be conditional.
    data
        More points than dimensions.
    bandwidth
        Shape (width,).
    """

    def __init__(self, axes: Axes, data: Points, bandwidth: Array) -> None:
        self._axes = axes
        self._numeric = np.concatenate([axes.smooth, axes.ordered])
        levels = data.levels[:, len(axes.ordered) :]
        seen = np.array([len(np.unique(column)) for column in levels.T], dtype=np.intp)
        # statsmodels divides by the number of seen levels minus one. With one seen level the kernel is the same for all
        # data, so this class computes it as a factor of the sum, with the levels of the space.
        self._single, self._several = np.flatnonzero(seen == 1), np.flatnonzero(seen > 1)
        self._level = levels[0, self._single]
        self._h = bandwidth[axes.unordered[self._single]]
        h = np.minimum(bandwidth[axes.unordered], 1 - 1 / np.maximum(seen, 2))
        h = np.concatenate([bandwidth[self._numeric], h[self._several]])
        kinds = "c" * len(self._numeric) + "u" * len(self._several)
        self._kde = _quietly(self._table(data), kinds, h) if kinds else None

    @classmethod
    def like(cls, density: Density) -> StatsmodelsDensity:
        """The density of statsmodels with the same data and bandwidths."""
        return cls(density.axes, density.data, density.bandwidth)

    def _table(self, points: Points) -> Array:
        levels = points.levels[:, len(self._axes.ordered) :]
        return np.hstack([points.vectors[:, self._numeric], levels[:, self._several]])

    def log_density(self, candidates: Points) -> Array:
        """Logarithm of the density at the candidates, shape (m,); at least ``log(LEAST_DENSITY)``."""
        level = candidates.levels[:, len(self._axes.ordered) :][:, self._single]
        other = self._h / (self._axes.unordered_levels[self._single] - 1)
        density = np.where(level == self._level, 1 - self._h, other).prod(axis=1)
        if self._kde is not None:
            density = density * np.atleast_1d(self._kde.pdf(self._table(candidates)))
        clamped: Array = np.log(np.maximum(density, LEAST_DENSITY))
        return clamped


def _quietly(table: Array, kinds: str, bandwidth: Array) -> KDEMultivariate:
    with warnings.catch_warnings():
        # statsmodels 0.15 warns if it gets no generator. Its density never draws, and 0.14 has no such parameter.
        warnings.simplefilter("ignore", FutureWarning)
        return KDEMultivariate(table, kinds, bw=bandwidth)
