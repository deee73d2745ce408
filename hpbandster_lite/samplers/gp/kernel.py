"""The covariance of two evaluations, its parameters with their priors, and the gradient of the fit's criterion.

Law of this file: pure functions of arrays. For evaluations (x, r) and (x', r') with rungs r and r' of the ladder::

    k = s_r s_r' M(x, x') (a1 + a2 exp(-gamma |r - r'|)) + a3 exp(-|r - r'| / 2)
        + c_r c_r' [same configuration] + (v_r + 1e-6) [same evaluation]

``M`` is a Matern-5/2 covariance with one length scale for each hyperparameter: what depends smoothly on the
configuration. ``a1`` is what all rungs share of it, ``a2`` what only near rungs share, and ``a3`` shifts whole rungs.
``c_r`` is a configuration's own part, which all its rungs share beyond the smooth function: without it a configuration
that is lucky for no visible reason would look like noise. ``s_r`` is the scale of a rung, 1 at the full budget, and
``v_r`` its noise.

All parameters are logarithms, with the normal priors of :func:`priors`.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.linalg.lapack import dpotri

from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.kde.axes import Indices
from hpbandster_lite.space import Array

JITTER = 1e-6
"""Least variance of an evaluation's noise."""
SHIFT_DECAY = 0.5
FAILED = 1e10
"""Criterion of parameters whose covariance cannot be factorised; any other is smaller."""


@record(frozen=True, slots=True)
class Points:
    """Evaluations as the covariance reads them.

    Parameters
    ----------
    features
        Shape (n, columns), see :class:`~hpbandster_lite.samplers.gp.features.Features`.
    rungs
        Place of the budget in the ladder, shape (n,).
    numbers
        Number of the configuration, shape (n,); a negative one equals no other.
    """

    features: Array
    rungs: Indices
    numbers: Indices

    def __len__(self) -> int:
        return len(self.rungs)

    def take(self, rows: Indices | slice) -> Points:
        """The points of these rows."""
        return Points(self.features[rows], self.rungs[rows], self.numbers[rows])


@record(frozen=True)
class Layout:
    """Where each parameter stands in the vector of all.

    Parameters
    ----------
    groups
        Number of length scales, at least 1.
    rungs
        Number of rungs, at least 1.
    """

    groups: int
    rungs: int

    @property
    def size(self) -> int:
        """Number of parameters: length scales, a1, a2, a3, gamma, noises, scales but the last, own parts."""
        return self.groups + 4 + 3 * self.rungs - 1

    @cached_property
    def lengths(self) -> slice:
        """The length scales."""
        return slice(0, self.groups)

    @cached_property
    def shared(self) -> slice:
        """a1, a2, a3 and gamma."""
        return slice(self.groups, self.groups + 4)

    @cached_property
    def noises(self) -> slice:
        """The noise variance of each rung."""
        return slice(self.shared.stop, self.shared.stop + self.rungs)

    @cached_property
    def scales(self) -> slice:
        """The scale of each rung but the last, which is 1."""
        return slice(self.noises.stop, self.noises.stop + self.rungs - 1)

    @cached_property
    def own(self) -> slice:
        """The deviation of a configuration's own part at each rung."""
        return slice(self.scales.stop, self.size)

    @cached_property
    def gaps(self) -> Array:
        """Distances of rungs in the ladder, shape (rungs, rungs)."""
        rung = np.arange(self.rungs, dtype=np.float64)
        gaps: Array = np.abs(rung[:, np.newaxis] - rung)
        return gaps

    def priors(self) -> tuple[Array, Array]:
        """Means and deviations of the normal priors of the logarithms, each of shape (size,).

        Length scales grow with the root of the number of hyperparameters, as distances do.
        """
        mean, deviation = np.empty(self.size), np.empty(self.size)
        for part, values in (
            (self.lengths, (0.5 * math.log(self.groups) - 0.3, 1.0)),
            (self.noises, (-3.0, 2.0)),
            (self.scales, (0.0, 0.4)),
            (self.own, (-1.7, 1.2)),
        ):
            mean[part], deviation[part] = values
        mean[self.shared], deviation[self.shared] = (0.0, -1.0, -0.5, -0.7), (1.3, 1.3, 1.0, 0.7)
        return mean, deviation


@record(frozen=True)
class Kernel:
    """The covariance with given parameters.

    Parameters
    ----------
    layout
        Where each parameter stands.
    group
        Number of the length scale of each feature, shape (columns,).
    parameters
        Logarithms, shape (layout.size,).
    """

    layout: Layout
    group: Indices
    parameters: Array

    @cached_property
    def per_column(self) -> Array:
        """Root of five over the length scale of each feature, shape (columns,)."""
        inverse: Array = math.sqrt(5.0) * np.exp(-self.parameters[self.layout.lengths])[self.group]
        return inverse

    @cached_property
    def amplitudes(self) -> Array:
        """a1, a2, a3 and gamma."""
        values: Array = np.exp(self.parameters[self.layout.shared])
        return values

    @cached_property
    def noises(self) -> Array:
        """Variance of the noise of each rung, shape (rungs,)."""
        values: Array = np.exp(self.parameters[self.layout.noises]) + JITTER
        return values

    @cached_property
    def scales(self) -> Array:
        """Scale of each rung, shape (rungs,)."""
        return np.append(np.exp(self.parameters[self.layout.scales]), 1.0)

    @cached_property
    def own(self) -> Array:
        """Deviation of a configuration's own part at each rung, shape (rungs,)."""
        values: Array = np.exp(self.parameters[self.layout.own])
        return values

    @cached_property
    def near(self) -> Array:
        """exp(-gamma |r - r'|), shape (rungs, rungs)."""
        values: Array = np.exp(-self.amplitudes[3] * self.layout.gaps)
        return values

    @cached_property
    def _smooth_of_rungs(self) -> Array:
        """What multiplies M, shape (rungs, rungs)."""
        a1, a2, _, _ = self.amplitudes
        factors: Array = np.outer(self.scales, self.scales) * (a1 + a2 * self.near)
        return factors

    @cached_property
    def _shift_of_rungs(self) -> Array:
        shift: Array = self.amplitudes[2] * np.exp(-SHIFT_DECAY * self.layout.gaps)
        return shift

    def between(self, left: Points, right: Points, *, own: bool = True) -> Array:
        """Covariances without noise, shape (len(left), len(right)); without a configuration's own part on request."""
        covariance, _ = matern(distances(left.features * self.per_column, right.features * self.per_column))
        if len(right) and (right.rungs == right.rungs[0]).all():
            # One rung, as for all candidates: a column of factors instead of a matrix.
            pairs = left.rungs[:, np.newaxis], right.rungs[:1]
        else:
            pairs = left.rungs[:, np.newaxis], right.rungs
        covariance *= self._smooth_of_rungs[pairs]
        covariance += self._shift_of_rungs[pairs]
        if own:
            same = same_configuration(left, right)
            if same.any():
                covariance += same * np.outer(self.own[left.rungs], self.own[right.rungs])
        return covariance

    def variance(self, rungs: Indices, *, own: bool = True) -> Array:
        """Prior variances without noise of evaluations at these rungs, shape (n,)."""
        values = np.diag(self._smooth_of_rungs) + np.diag(self._shift_of_rungs)
        if own:
            values = values + self.own**2
        of_each: Array = values[rungs]
        return of_each


def distances(left: Array, right: Array) -> Array:
    """Euclidean distances, shape (n, k) and (m, k) to (n, m)."""
    squared = (left * left).sum(axis=1)[:, np.newaxis] + (right * right).sum(axis=1) - 2.0 * left @ right.T
    result: Array = np.sqrt(np.maximum(squared, 0.0))
    return result


def matern(distance: Array) -> tuple[Array, Array]:
    """Matern-5/2 of distances that are multiplied with the root of five: its value, and its slope over the distance.

    The slope is the derivative divided by the distance, which has no singularity at 0.
    """
    decay = np.exp(-distance)
    return (1.0 + distance + distance * distance / 3.0) * decay, -(1.0 + distance) * decay / 3.0


def same_configuration(left: Points, right: Points) -> Array:
    """1 where two evaluations have the same configuration, shape (n, m)."""
    same = left.numbers[:, np.newaxis] == right.numbers
    known: Array = (same & (left.numbers >= 0)[:, np.newaxis]).astype(np.float64)
    return known


class Criterion:
    """Minus the logarithm of the posterior density of the parameters, up to a constant, and its gradient.

    Parameters
    ----------
    layout, group
        As in :class:`Kernel`.
    points
        Evaluations, n of them.
    targets
        Shape (n,).
    """

    def __init__(self, layout: Layout, group: Indices, points: Points, targets: Array) -> None:
        self._layout, self._group, self._points, self._targets = layout, group, points, targets
        self._mean, self._deviation = layout.priors()
        self._same = same_configuration(points, points)
        self._pairs = points.rungs[:, np.newaxis], points.rungs
        self._gaps = layout.gaps[self._pairs]
        self._diagonal = np.diag_indices(len(points))

    def __call__(self, parameters: Array) -> tuple[float, Array]:
        """The criterion and its gradient at parameters, shape (size,)."""
        layout, points, rungs = self._layout, self._points, self._points.rungs
        kernel = Kernel(layout, self._group, parameters)
        a1, a2, a3, gamma = kernel.amplitudes
        scaled = points.features * kernel.per_column
        smooth, slope = matern(distances(scaled, scaled))
        near = kernel.near[self._pairs]
        of_rungs = np.outer(kernel.scales[rungs], kernel.scales[rungs])
        mixed = a1 + a2 * near
        smooth_part = of_rungs * mixed * smooth
        shift_part = a3 * np.exp(-SHIFT_DECAY * self._gaps)
        own_part = self._same * np.outer(kernel.own[rungs], kernel.own[rungs])
        covariance = smooth_part + shift_part + own_part
        covariance[self._diagonal] += kernel.noises[rungs]
        try:
            lower = cholesky(covariance, lower=True, check_finite=False)
        except LinAlgError:
            return FAILED, np.zeros(layout.size)
        weights = cho_solve((lower, True), self._targets, check_finite=False)
        from_prior = (parameters - self._mean) / self._deviation
        criterion = 0.5 * float(self._targets @ weights) + float(np.log(np.diag(lower)).sum())
        criterion += 0.5 * float(from_prior @ from_prior)

        # The derivative of the first two terms by an entry of the covariance.
        by_entry = 0.5 * (_inverse(lower) - np.outer(weights, weights))
        by_smooth = by_entry * smooth_part
        by_near = by_entry * (of_rungs * smooth * a2 * near)
        by_own = by_entry * own_part
        gradient = np.empty(layout.size)
        gradient[layout.lengths] = self._by_lengths(by_entry * of_rungs * mixed * slope, scaled)
        gradient[layout.shared] = (
            by_smooth.sum() - by_near.sum(),
            by_near.sum(),
            (by_entry * shift_part).sum(),
            -gamma * (by_near * self._gaps).sum(),
        )
        count = layout.rungs
        gradient[layout.noises] = np.bincount(rungs, np.diag(by_entry), count) * (kernel.noises - JITTER)
        gradient[layout.scales] = 2.0 * np.bincount(rungs, by_smooth.sum(axis=1), count)[:-1]
        gradient[layout.own] = 2.0 * np.bincount(rungs, by_own.sum(axis=1), count)
        return criterion, gradient + from_prior / self._deviation

    def _by_lengths(self, by_squared: Array, scaled: Array) -> Array:
        """Derivatives by the logarithms of the length scales.

        ``by_squared`` is the derivative by the squared scaled distance, times two; that distance falls twice as fast
        as its length scale grows.
        """
        per_column = by_squared.sum(axis=1) @ (scaled * scaled) - np.einsum("ij,ij->j", scaled, by_squared @ scaled)
        by_lengths: Array = np.bincount(self._group, -2.0 * per_column, self._layout.groups).astype(np.float64)
        return by_lengths


def _inverse(lower: Array) -> Array:
    """The inverse of the matrix whose lower Cholesky factor this is."""
    below, _ = dpotri(lower, lower=1)
    inverse: Array = np.tril(below) + np.tril(below, -1).T
    return inverse
