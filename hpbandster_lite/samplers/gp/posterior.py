"""Means and deviations of the process at configurations, given results and what is running.

Law of this file: pure functions of arrays. Later results are appended to the Cholesky factor one by one, so the last
bit of a mean depends on the results and their order alone, and not on how many proposals were made between them.
Running evaluations count with their own mean: they change no mean, and reduce the deviation.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular

from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.gp.kernel import Kernel, Points
from hpbandster_lite.space import Array

LEAST_VARIANCE = 1e-10
JITTERS = (0.0, 1e-9, 1e-7, 1e-5, 1e-3)
"""Shares of the largest variance that are added to the diagonal, one after the other, until there is a factor."""


@record(frozen=True)
class Factor:
    """The Cholesky factor of the covariance of some evaluations.

    Parameters
    ----------
    kernel
        The covariance.
    points
        The evaluations, n of them.
    lower
        Shape (n, n).
    """

    kernel: Kernel
    points: Points
    lower: Array

    @classmethod
    def of(cls, kernel: Kernel, points: Points) -> Factor:
        """The factor of all points at once."""
        covariance = kernel.between(points, points)
        covariance[np.diag_indices(len(points))] += kernel.noises[points.rungs]
        return cls(kernel, points, _cholesky(covariance))

    def with_each(self, points: Points) -> Factor:
        """The factor with more points, appended one by one."""
        n, total = len(self.points), len(self.points) + len(points)
        lower = np.zeros((total, total), order="F")
        lower[:n, :n] = self.lower
        every = _joined(self.points, points)
        for row in range(n, total):
            here = every.take(slice(row, row + 1))
            column = self.kernel.between(every.take(slice(row)), here)[:, 0]
            solved = solve_triangular(lower[:row, :row], column, lower=True, check_finite=False)
            variance = self.kernel.variance(here.rungs)[0] + self.kernel.noises[here.rungs[0]] - solved @ solved
            lower[row, :row] = solved
            lower[row, row] = np.sqrt(max(float(variance), LEAST_VARIANCE))
        return Factor(self.kernel, every, lower)

    def with_block(self, points: Points) -> Factor:
        """The factor with more points, appended together."""
        if not len(points):
            return self
        n, total = len(self.points), len(self.points) + len(points)
        beside = solve_triangular(self.lower, self.kernel.between(self.points, points), lower=True, check_finite=False)
        covariance = self.kernel.between(points, points)
        covariance[np.diag_indices(len(points))] += self.kernel.noises[points.rungs]
        lower = np.zeros((total, total), order="F")
        lower[:n, :n], lower[n:, :n] = self.lower, beside.T
        lower[n:, n:] = _cholesky(covariance - beside.T @ beside)
        return Factor(self.kernel, _joined(self.points, points), lower)


class Posterior:
    """The process given results.

    Parameters
    ----------
    factor
        The factor of the evaluations that have results.
    targets
        Their transformed losses, shape (n,).
    running
        Evaluations without results.
    """

    def __init__(self, factor: Factor, targets: Array, running: Points) -> None:
        self._known = factor
        self._all = factor.with_block(running)
        self._weights = cho_solve((factor.lower, True), targets, check_finite=False)

    def mean(self, points: Points) -> Array:
        """Posterior means, shape (k,), each with the own part of its configuration."""
        means: Array = self._known.kernel.between(self._known.points, points).T @ self._weights
        return means

    def mean_and_deviation(self, points: Points) -> tuple[Array, Array]:
        """Posterior means and deviations of the smooth function, without own parts and noise, each of shape (k,)."""
        every = self._all
        covariance = every.kernel.between(every.points, points, own=False)
        mean = covariance[: len(self._weights)].T @ self._weights
        solved = solve_triangular(every.lower, covariance, lower=True, check_finite=False)
        variance = every.kernel.variance(points.rungs, own=False) - np.einsum("ij,ij->j", solved, solved)
        return mean, np.sqrt(np.maximum(variance, LEAST_VARIANCE))


def _joined(first: Points, second: Points) -> Points:
    return Points(
        np.concatenate([first.features, second.features]),
        np.concatenate([first.rungs, second.rungs]),
        np.concatenate([first.numbers, second.numbers]),
    )


def _cholesky(covariance: Array) -> Array:
    """The lower factor; nearly dependent evaluations, such as many of one configuration, get a larger diagonal."""
    diagonal = np.diag_indices(len(covariance))
    largest = float(covariance[diagonal].max())
    for share in JITTERS:
        raised = covariance.copy()
        raised[diagonal] += share * largest
        try:
            lower: Array = cholesky(raised, lower=True, check_finite=False)
        except LinAlgError:
            continue
        return lower
    raise InvariantBroken("the covariance of the results has no Cholesky factor")
