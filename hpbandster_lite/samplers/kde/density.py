"""Kernel density of configurations: products of one-dimensional kernels, averaged over the data.

Law of this file: pure functions of arrays. Every density is a probability: for all bandwidths and all patterns of
inactive dimensions it integrates to one over the smooth dimensions and sums to one over the values of the others. All
computations use logarithms, so no density is ever zero, infinite or NaN.

Kernels (``c``: a coordinate of the data; ``h``: its bandwidth; ``phi`` and ``Phi``: standard normal density and
distribution function):

smooth (floats)
    Gaussian truncated to [0, 1]: ``phi((x - c) / h) / (h * (Phi((1 - c) / h) - Phi(-c / h)))``.
ordered (integers and ordinals)
    The mass of the same truncated Gaussian in the bucket of ``x``.
unordered (categoricals with ``k`` levels)
    Aitchison and Aitken: ``1 - h`` for the level of the data, ``h / (k - 1)`` for each other level.

Inactive dimensions (NaN). A dimension that the candidate lacks contributes the factor 1: the integral of the data's
kernel over it. A dimension that only the candidate has contributes the uniform density (1, the width of the bucket, or
1 / k): a data point without the dimension has no information about it, but still distributes a mass of one over it.
With the factor 1, points without a categorical of k levels would count k times as much as points with it.

Speed: the logarithm of a product of Gaussians is a quadratic form of the centred data, so one matrix product computes
all smooth dimensions of all pairs. Discrete dimensions are tables (level in the data by candidate) from which each data
point copies one row. Sources: BOHB (arXiv:1807.01774), Algorithm 2; bandwidths by Scott's rule, as in statsmodels'
normal reference.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import erf, erfcx, ndtr, ndtri

from hpbandster_lite.samplers.kde.axes import INACTIVE, Axes, Indices, Points, Rows
from hpbandster_lite.space import Array, Mask

BLOCK = 512
"""Number of data points scored at a time: two arrays of 512 x 64 doubles are 0.5 MiB and fit in the cache of a core."""
LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)
UNIFORM_DEVIATION = math.sqrt(1 / 12)
"""Standard deviation of the uniform distribution on [0, 1]."""


# ----------------------------------------------------------------------------------------------------- bandwidths


def bandwidths(axes: Axes, data: Points, minimum: float) -> Array:
    """Bandwidth of each coordinate by Scott's rule: ``1.06 * deviation * n ** (-1 / (4 + d))``.

    ``n`` counts the points in which the dimension is active, and ``deviation`` is their population standard deviation.
    A variance is half of the mean squared distance of two draws. The distance of unordered levels is 0 if they are
    equal and 1 if not, so their variance is half of the probability that two draws differ. For two levels this equals
    the variance of the codes 0 and 1; for more levels it does not depend on their order. If fewer than two points have
    the dimension, the deviation of the uniform distribution is used.

    Parameters
    ----------
    axes
        The kernels.
    data
        At least one point.
    minimum
        Floor of every bandwidth, above 0.

    Returns
    -------
    Array
        Shape (width,); at most (k - 1) / k for an unordered dimension of ``k`` levels, where its kernel is uniform.
    """
    moments = _Moments.of(data.vectors)
    number = moments.number
    deviation = np.sqrt(np.einsum("ij,ij->j", moments.centred, moments.centred) / number)
    deviation[number < 2] = UNIFORM_DEVIATION
    if len(axes.unordered):
        deviation[axes.unordered] = _unordered_deviation(axes, data.levels[:, len(axes.ordered) :])
    return clipped(axes, 1.06 * deviation * number ** (-1 / (4 + axes.d)), minimum)


class _Moments(NamedTuple):
    """Means and centred values of columns, without inactive values.

    Parameters
    ----------
    active
        Which values are active, shape (n, k).
    number
        Number of active values per column, as a float of at least 1, shape (k,).
    mean
        Mean of the active values, 0 without any, shape (k,).
    centred
        Values minus their mean, 0 if inactive, shape (n, k).
    """

    active: Mask
    number: Array
    mean: Array
    centred: Array

    @classmethod
    def of(cls, values: Array) -> _Moments:
        active = ~np.isnan(values)
        if active.all():
            number = np.full(values.shape[1], float(len(values)))
            mean = values.mean(axis=0)
            return cls(active, number, mean, values - mean)
        number = np.maximum(active.sum(axis=0, dtype=np.float64), 1.0)
        mean = np.where(active, values, 0.0).sum(axis=0) / number
        return cls(active, number, mean, np.where(active, values - mean, 0.0))


def _unordered_deviation(axes: Axes, level: Indices) -> Array:
    """Root of half of the probability that two draws differ, per unordered column, (n, u) to (u,)."""
    levels = axes.unordered_levels
    first = np.cumsum(levels) - levels
    tally = np.bincount((level + first)[level != INACTIVE], minlength=int(levels.sum()))
    count = np.add.reduceat(tally, first)
    same = np.add.reduceat(np.square(tally, dtype=np.float64), first) / np.maximum(count, 1) ** 2
    deviation: Array = np.sqrt(0.5 * np.where(count < 2, 1 - 1 / levels, np.maximum(1 - same, 0.0)))
    return deviation


def clipped(axes: Axes, bandwidth: Array, minimum: float) -> Array:
    """Bandwidths in their valid range: at least ``minimum``, unordered ones at most (k - 1) / k; shape (width,)."""
    bandwidth = np.maximum(bandwidth, minimum)
    # Above (k - 1) / k the kernel would prefer levels that the data does not have; above 1 it would be negative.
    bandwidth[axes.unordered] = np.minimum(bandwidth[axes.unordered], 1 - 1 / axes.unordered_levels)
    return bandwidth


def widened(axes: Axes, bandwidth: Array, factor: float, minimum: float) -> Array:
    """Bandwidths for drawing candidates: those of numeric dimensions times ``factor``, shape (width,).

    Unordered dimensions keep their bandwidth, as in the code that made the paper's figures. For two levels Scott's rule
    gives at least 0.25, unless nine points in ten agree. Three times that exceeds 1 / 2, where the kernel is uniform: a
    candidate would keep nothing of the good configuration around which it is drawn.
    """
    wider = bandwidth * factor
    wider[axes.unordered] = bandwidth[axes.unordered]
    return clipped(axes, wider, minimum)


# -------------------------------------------------------------------------------------------------------- kernels


def log_mass_inside(centre: Array, bandwidth: Array) -> Array:
    """Logarithm of a Gaussian's mass in [0, 1]; ``centre`` in [0, 1]; the shapes broadcast."""
    mass: Array = np.log(ndtr((1 - centre) / bandwidth) - ndtr(-centre / bandwidth))
    return mass


def log_mass_of_bucket(distance: Array, width: Array) -> Array:
    """Logarithm of the standard normal mass of intervals.

    Parameters
    ----------
    distance
        Distance from zero to the middle of the interval: 0, or at least ``width / 2``, so that zero is not inside.
    width
        Width of the interval; the shapes broadcast.
    """
    slope = distance * width
    # For an interval on one side, far = near + width: mass = exp(-near**2 / 2) * (erfcx(near) - exp(-slope) *
    # erfcx(far)) / 2, where erfcx neither under- nor overflows. The difference loses digits for a small slope. Below
    # 1e-4, where its error is 1e-11, the width times the density in the middle is used: an error of slope**2 / 24,
    # 4e-10.
    near = np.maximum(distance - 0.5 * width, 0.0)
    difference = erfcx(near * math.sqrt(0.5)) - np.exp(-slope) * erfcx((distance + 0.5 * width) * math.sqrt(0.5))
    one_sided = -0.5 * near**2 + np.log(np.maximum(0.5 * difference, 1e-300))
    narrow = -0.5 * distance**2 + np.log(width) - LOG_SQRT_2_PI
    beside: Array = np.where(np.maximum(width, slope) < 1e-4, narrow, one_sided)
    around = np.log(erf(width * math.sqrt(0.125)))
    return np.where(distance == 0, around, beside)


class Density:
    """Kernel density estimate of a set of configurations.

    Parameters
    ----------
    axes
        The kernels.
    data
        At least one point.
    bandwidth
        Shape (width,), in the range that :func:`clipped` gives.
    """

    def __init__(self, axes: Axes, data: Points, bandwidth: Array) -> None:
        self.axes = axes
        self.data = data
        self.bandwidth = bandwidth
        self._smooth = _SmoothPart(axes, data, bandwidth)
        self._discrete = _DiscretePart(axes, data, bandwidth)

    def log_density(self, candidates: Points) -> Array:
        """Logarithm of the density at the candidates, shape (m,), always finite: the mean of the product kernels."""
        features, offset = self._smooth.features_of(candidates)
        tables = self._discrete.tables_of(candidates)
        n, m = len(self.data), len(candidates)
        largest, total = np.full(m, -np.inf), np.zeros(m)
        copied = np.empty((min(n, BLOCK), m))
        for start in range(0, n, BLOCK):
            rows = slice(start, start + BLOCK)
            log_kernel = self._smooth.features[rows] @ features
            part = copied[: len(log_kernel)]
            for table, pointer in zip(tables, self._discrete.pointers, strict=True):
                # mode="clip" avoids the copy of the output that take makes to check the indices.
                table.take(pointer[rows], axis=0, out=part, mode="clip")
                log_kernel += part
            top = np.maximum(largest, log_kernel.max(axis=0))
            log_kernel -= top
            total = total * np.exp(largest - top) + np.exp(log_kernel, out=log_kernel).sum(axis=0)
            largest = top
        density: Array = largest + np.log(total) + offset - math.log(n)
        return density

    def draw(self, rng: np.random.Generator, m: int, bandwidth: Array) -> Array:
        """Points of the unit cube, drawn around data points with the given bandwidths.

        Parameters
        ----------
        rng
            Random generator; it gives ``m`` integers, then ``m * width`` uniform numbers.
        m
            Number of points.
        bandwidth
            Shape (width,), in the range that :func:`clipped` gives.

        Returns
        -------
        Array
            Shape (m, width). An ordered coordinate may be anywhere in its bucket. Coordinates that the data point lacks
            and coordinates without a kernel are uniform.
        """
        axes = self.axes
        centre = self.data.vectors[rng.integers(len(self.data), size=m)]
        u = rng.random((m, axes.width))
        drawn = u.copy()
        gaussian = np.concatenate([axes.smooth, axes.ordered])
        h, middle = bandwidth[gaussian], centre[:, gaussian]
        below, above = ndtr(-middle / h), ndtr((1 - middle) / h)
        drawn[:, gaussian] = np.clip(middle + h * ndtri(below + u[:, gaussian] * (above - below)), 0.0, 1.0)
        h, levels, quantile = bandwidth[axes.unordered], axes.unordered_levels, u[:, axes.unordered]
        level = np.floor(centre[:, axes.unordered] * levels)
        # A uniform number below h selects another level; quantile / h, which is uniform again, selects which one.
        other = (level + 1 + np.minimum(np.floor(quantile / h * (levels - 1)), levels - 2)) % levels
        drawn[:, axes.unordered] = (np.where(quantile < h, other, level) + 0.5) / levels
        return np.where(np.isnan(drawn), u, drawn)


class _SmoothPart:
    """The Gaussian dimensions as a matrix product: ``features @ features_of(x) + offset`` is their log kernel.

    With z = (x - mean) / h for candidates and y likewise for data, -(z - y)**2 / 2 = z * y - y**2 / 2 - z**2 / 2. The
    mean is subtracted because z and y reach 1000 at the smallest bandwidth, and their squares would lose 9 digits. A
    dimension that is always active needs one column; the sums of squares are one column of the data and the offset of
    the candidate. A conditional dimension needs three columns: z * y, and each square times the activity of the other
    side.
    """

    def __init__(self, axes: Axes, data: Points, bandwidth: Array) -> None:
        self._columns = axes.smooth
        self._bandwidth = bandwidth[axes.smooth]
        self._conditional = conditional = axes.conditional[axes.smooth]
        active, _, self._mean, centred = _Moments.of(data.vectors[:, axes.smooth])
        scaled = centred / self._bandwidth
        # An inactive value counts as the mean here and is masked below.
        norm = log_mass_inside(centred + self._mean, self._bandwidth) + (np.log(self._bandwidth) + LOG_SQRT_2_PI)
        constant = -0.5 * scaled**2 - norm
        always = constant[:, ~conditional].sum(axis=1, keepdims=True)
        mask = active[:, conditional]
        self.features = np.hstack([scaled, always, mask, constant[:, conditional] * mask])
        """Shape (n, k)."""

    def features_of(self, candidates: Points) -> tuple[Array, Array]:
        """The other factor, shape (k, m), and the offset of every log kernel of a candidate, shape (m,)."""
        points = candidates.vectors[:, self._columns].T
        active, conditional = ~np.isnan(points), self._conditional
        scaled = np.where(active, points - self._mean[:, np.newaxis], 0.0) / self._bandwidth[:, np.newaxis]
        square = -0.5 * scaled**2
        one = np.ones((1, len(candidates)))
        features = np.concatenate([scaled, one, square[conditional], active[conditional]])
        return features, square[~conditional].sum(axis=0)


class _DiscretePart:
    """The discrete dimensions as tables of log kernels: rows are levels of the data, columns are candidates.

    The blocks of all dimensions are computed as one table: even dimensions first, then uneven, then unordered. The
    blocks of a group are then added to a table with one row for each combination. For each group, ``pointers`` holds
    the row of each data point, shape (n,).
    """

    def __init__(self, axes: Axes, data: Points, bandwidth: Array) -> None:
        self._axes = axes
        self._rows = rows = Rows.present(axes, data) if len(axes.long) else axes.short_rows
        place = np.add(data.levels.T, 1, order="C")
        for axis in axes.long:
            level = data.levels[:, axis]
            place[axis] = np.where(level == INACTIVE, 0, np.searchsorted(rows.levels[axis], level) + 1)
        self.pointers = []
        for group in axes.groups:
            pointer = place[group.start]
            for axis in range(group.start + 1, group.stop):
                pointer = pointer * (axes.levels[axis] + 1) + place[axis]
            self.pointers.append(pointer)
        ends = rows.first[[len(axes.even), len(axes.ordered)]]
        self._even, self._uneven, self._unordered = slice(ends[0]), slice(ends[0], ends[1]), slice(ends[1], None)
        self._prepare(bandwidth)

    def _prepare(self, bandwidth: Array) -> None:
        axes, rows, n_ordered = self._axes, self._rows, self._unordered.start
        axis = rows.axis[:n_ordered]
        low, high = axes.bucket(axis, rows.level[:n_ordered])
        self._centre = 0.5 * (low + high)
        self._h = bandwidth[axes.ordered][axis]
        self._norm = log_mass_inside(self._centre, self._h)
        # For even buckets only the number of steps between them counts: one short table per dimension, concatenated.
        # It has one step more than buckets, because INACTIVE is a level too.
        length = axes.even_levels + 1
        first = np.cumsum(length) - length
        step = np.arange(length.sum()) - np.repeat(first, length)
        width = np.repeat(1 / (axes.even_levels * bandwidth[axes.even]), length)
        self._by_steps = log_mass_of_bucket(step * width, width)
        self._first_step = first[rows.axis[self._even]]
        axis = rows.axis[self._unordered] - len(axes.ordered)
        h = bandwidth[axes.unordered][axis]
        self._same, self._other = np.log(1 - h), np.log(h / (axes.unordered_levels[axis] - 1))

    def tables_of(self, candidates: Points) -> list[Array]:
        """Log kernels of each group, shapes (rows, m)."""
        table, first = self._table_of(candidates), self._rows.first
        tables = []
        for group in self._axes.groups:
            joint = table[first[group.start] : first[group.start + 1]]
            for axis in range(group.start + 1, group.stop):
                block = table[first[axis] : first[axis + 1]]
                joint = (joint[:, np.newaxis] + block).reshape(-1, table.shape[1])
            tables.append(joint)
        return tables

    def _table_of(self, candidates: Points) -> Array:
        rows = self._rows
        level = np.ascontiguousarray(candidates.levels.T)  # (j, m)
        here = level[rows.axis]  # (rows, m)
        table = np.empty(here.shape)
        self._fill_even(here[self._even], table[self._even])
        if len(self._axes.uneven):
            table[self._uneven] = self._uneven_rows(here[self._uneven])
        same = here[self._unordered] == rows.level[self._unordered, np.newaxis]
        table[self._unordered] = np.where(same, self._same[:, np.newaxis], self._other[:, np.newaxis])
        if self._axes.has_conditions:
            table[rows.first[:-1]] = self._log_uniform(level)
            table[here == INACTIVE] = 0.0
        return table

    # _table_of overwrites the rows and columns of inactive levels. In the next two methods their indices only need to
    # stay within the tables.

    def _fill_even(self, here: Indices, table: Array) -> None:
        steps = np.abs(here - self._rows.level[self._even, np.newaxis])
        steps += self._first_step[:, np.newaxis]
        self._by_steps.take(steps, out=table, mode="clip")
        table -= self._norm[self._even, np.newaxis]

    def _uneven_rows(self, here: Indices) -> Array:
        column = (self._uneven, np.newaxis)
        low, high = self._axes.bucket(self._rows.axis[column], here)
        distance = np.abs(0.5 * (low + high) - self._centre[column]) / self._h[column]
        rows: Array = log_mass_of_bucket(distance, (high - low) / self._h[column]) - self._norm[column]
        return rows

    def _log_uniform(self, level: Indices) -> Array:
        """Log density of the uniform distribution at the levels of candidates; both of shape (j, m)."""
        n_ordered = len(self._axes.ordered)
        low, high = self._axes.bucket(np.arange(n_ordered)[:, np.newaxis], level[:n_ordered])
        unordered = np.broadcast_to(1 / self._axes.unordered_levels[:, np.newaxis], level[n_ordered:].shape)
        uniform: Array = np.log(np.concatenate([high - low, unordered]))
        return uniform

