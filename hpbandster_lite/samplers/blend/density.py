"""A mixture of product kernels around configurations, with one uniform component.

Law of this file: pure functions of arrays. Numeric columns (floats, integers, ordinals) have a Gaussian that is
truncated to [0, 1], at the coordinate of the value; unordered columns (categoricals of ``k`` levels) have the kernel of
Aitchison and Aitken: ``1 - h`` for the level of the data, ``h / (k - 1)`` for each other level. Where a component lacks
a dimension, its kernel is uniform there; a dimension that the candidate lacks counts with the factor 1.

The bandwidth of a numeric column follows Scott's rule, ``1.06 * deviation * n ** (-1 / (d + 4))`` with the weighted
deviation of the ``n`` values. It is at least ``1 / min(100, m + 1)`` for ``m`` configurations, at least 0.3 of a level
for a column of levels, and at most 1. That of an unordered column is ``(k - 1) / (n + k)``: one observation in
``n + k`` is spread over the levels. The uniform component has the mean weight of the others.

Unlike :mod:`hpbandster_lite.samplers.kde.density`, the components have weights and none of them is narrower than a
hundredth of the range, so a single lucky result does not attract all candidates.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from hpbandster_lite.samplers.kde.axes import Axes, Indices
from hpbandster_lite.space import Array

LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)
SMALLEST_SHARE = 0.01
"""The narrowest bandwidth of many configurations, as a share of the range."""
LEVEL_SHARE = 0.3
"""The narrowest bandwidth of a column of levels, as a share of a level."""


class Mixture:
    """A density over configurations.

    Parameters
    ----------
    axes
        The kernels of the space's columns; all ordered columns are numeric here.
    vectors
        Configurations, shape (m, width), NaN for inactive dimensions; ``m`` may be 0.
    weights
        Their weights, shape (m,), at least 0 and not all 0; they are normalised.
    """

    def __init__(self, axes: Axes, vectors: Array, weights: Array) -> None:
        self._width = axes.width
        self._numeric = np.concatenate([axes.smooth, axes.ordered])
        self._unordered = axes.unordered
        self._levels = axes.unordered_levels
        known = ~np.isnan(vectors)
        level_count = np.concatenate([np.zeros(len(axes.smooth)), axes.levels[: len(axes.ordered)]])
        self._h = _numeric_bandwidths(vectors[:, self._numeric], weights, level_count, axes.d)
        self._h_unordered = (self._levels - 1) / (known[:, self._unordered].sum(axis=0) + self._levels)
        uniform = np.full((1, axes.width), math.nan)
        self._centres = np.concatenate([vectors, uniform])
        weights = np.append(weights, weights.mean() if len(weights) else 1.0)
        self._weights = weights / weights.sum()
        self._quadratic, self._linear, self._constant = self._numeric_terms()
        self._tables = self._unordered_tables()
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(self._weights)

    def log_density(self, vectors: Array) -> Array:
        """Logarithm of the density at configurations, shape (k, width) to (k,); always finite."""
        numbers = vectors[:, self._numeric]
        known = ~np.isnan(numbers)
        numbers = np.where(known, numbers, 0.0)
        # The exponents of all pairs of a candidate and a component, as matrix products.
        log_kernel = known.astype(np.float64) @ self._constant.T
        log_kernel += (numbers * numbers) @ self._quadratic.T
        log_kernel += numbers @ self._linear.T
        for column, levels, table in zip(self._unordered, self._levels, self._tables, strict=True):
            level = _level(vectors[:, column], levels)
            # Row ``levels`` of a table is for candidates that lack the dimension.
            log_kernel += table[np.where(np.isnan(level), levels, level).astype(np.intp)]
        density: Array = logsumexp(log_kernel + self._log_weights, axis=1)
        return density

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Points of the unit cube drawn from the density, shape (n, width); every coordinate has a value.

        Parameters
        ----------
        rng
            Random generator; it gives ``n`` components, then ``n * width`` uniform numbers.
        n
            Number of points.
        """
        centres = self._centres[rng.choice(len(self._weights), size=n, p=self._weights)]
        u = rng.random((n, self._width))
        drawn = u.copy()
        middle = centres[:, self._numeric]
        below, above = ndtr(-middle / self._h), ndtr((1.0 - middle) / self._h)
        quantile = below + u[:, self._numeric] * (above - below)
        drawn[:, self._numeric] = np.clip(middle + self._h * ndtri(quantile), 0.0, 1.0)
        level, levels = _level(centres[:, self._unordered], self._levels), self._levels
        # A uniform number below h selects another level; divided by h it is uniform again, and selects which one.
        h = self._h_unordered
        chance = u[:, self._unordered]
        other = (level + 1 + np.minimum(np.floor(chance / h * (levels - 1)), levels - 2)) % levels
        drawn[:, self._unordered] = (np.where(chance < h, other, level) + 0.5) / levels
        return np.where(np.isnan(drawn), u, drawn)

    def _numeric_terms(self) -> tuple[Array, Array, Array]:
        """Factors of x**2, x and 1 in the log kernels, each of shape (components, numeric columns)."""
        centres = self._centres[:, self._numeric]
        known = ~np.isnan(centres)
        c, h = np.where(known, centres, 0.0), self._h
        inside = ndtr((1.0 - c) / h) - ndtr(-c / h)
        quadratic = np.where(known, -0.5 / h**2, 0.0)
        norm = -np.log(h) - LOG_SQRT_2_PI - np.log(inside)
        return quadratic, -2.0 * quadratic * c, np.where(known, norm + quadratic * c * c, 0.0)

    def _unordered_tables(self) -> list[Array]:
        """For each unordered column the log kernels by level of the candidate, shape (levels + 1, components)."""
        tables = []
        for column, levels, h in zip(self._unordered, self._levels, self._h_unordered, strict=True):
            centre = _level(self._centres[:, column], levels)
            same = np.arange(levels)[:, np.newaxis] == centre
            table = np.where(same, math.log(1.0 - h), math.log(h / (levels - 1)))
            table[:, np.isnan(centre)] = -math.log(levels)
            tables.append(np.concatenate([table, np.zeros((1, len(centre)))]))
        return tables


def _level(coordinates: Array, levels: Indices) -> Array:
    """The level of coordinates, as floats; NaN stays NaN."""
    level: Array = np.minimum(np.floor(coordinates * levels), levels - 1)
    return level


def _numeric_bandwidths(values: Array, weights: Array, level_count: Array, d: int) -> Array:
    """Bandwidths of numeric columns, (m, k) to (k,); ``level_count`` is 0 for a column of floats."""
    known = ~np.isnan(values)
    weight = weights[:, np.newaxis] * known
    total = weight.sum(axis=0)
    safe = np.where(total > 0, total, 1.0)
    filled = np.where(known, values, 0.0)
    mean = (weight * filled).sum(axis=0) / safe
    deviation = np.sqrt((weight * (filled - mean) ** 2).sum(axis=0) / safe)
    scott = 1.06 * deviation * np.maximum(known.sum(axis=0), 1) ** (-1 / (d + 4))
    lowest = np.full(values.shape[1], max(SMALLEST_SHARE, 1 / (len(values) + 1)))
    has_levels = level_count > 0
    lowest[has_levels] = np.maximum(lowest[has_levels], LEVEL_SHARE / level_count[has_levels])
    return np.where(total > 0, np.clip(scott, lowest, 1.0), 1.0)
