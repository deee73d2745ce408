"""The search for the configuration with the largest expected improvement at the full budget.

Law of this file: a function of a score, of parents and of a generator. It begins with random configurations, changes of
the best known ones and draws of the good density, and goes on in rounds around the best so far, with ever smaller
steps. Changed configurations cross over (each coordinate comes from a second parent with a probability that is drawn
for the child) or move some coordinates; unlike a local optimiser this treats categoricals and numbers alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from scipy.special import ndtr

from hpbandster_lite.samplers.kde.axes import Axes
from hpbandster_lite.space import Array, SearchSpace

RANDOM = 30
FROM_DENSITY = 25
FIRST_CHILDREN = (40, 25, 30)
"""Of the first candidates: crossovers, those with one change, those with several."""
FIRST_STEP = 0.1
ROUND_CHILDREN = (8, 12, 10)
ROUND_STEPS = (0.2, 0.12, 0.07, 0.045, 0.025, 0.015)
BEST_OF_ROUND = 6
CHANGED_CROSSOVERS = 1 / 3
"""Share of the crossovers that also get one change."""
Score: TypeAlias = Callable[[Array], Array]
"""Scores of configurations, shape (n, d) to (n,); higher is better."""
FAR = -6.0
"""Below this many deviations the expected improvement is computed by its asymptotic form."""


def log_expected_improvement(goal: float, mean: Array, deviation: Array) -> Array:
    """Logarithm of the expected improvement over a goal, where lower is better.

    Parameters
    ----------
    goal
        The value to improve on.
    mean, deviation
        Of the normal distribution at each candidate, shape (n,).

    Returns
    -------
    ndarray
        Shape (n,); finite. With ``u = (goal - mean) / deviation`` it is ``log(deviation (u Phi(u) + phi(u)))``, and for
        ``u`` below ``FAR`` its limit ``log(deviation phi(u) / u**2)``.
    """
    u = (goal - mean) / deviation
    log_density = -0.5 * u * u - 0.5 * math.log(2 * math.pi)
    near = np.maximum(u, FAR)
    improvement = near * ndtr(near) + np.exp(-0.5 * near * near) / math.sqrt(2 * math.pi)
    far = log_density - 2.0 * np.log(np.maximum(-u, 1.0))
    result: Array = np.log(deviation) + np.where(u < FAR, far, np.log(improvement))
    return result


class CandidateSearch:
    """Draws candidates and keeps their scores.

    Parameters
    ----------
    space
        The search space.
    axes
        Its kinds of columns.
    """

    def __init__(self, space: SearchSpace, axes: Axes) -> None:
        self._space = space
        columns = np.concatenate([axes.smooth, axes.ordered, axes.unordered])
        self._varied = columns
        self._d = len(columns)
        self._is_unordered = np.isin(columns, axes.unordered)
        self._levels = np.concatenate([np.zeros(len(axes.smooth)), axes.levels])
        self._least_step = np.where(self._is_unordered | (self._levels == 0), 0.0, 1.0 / np.maximum(self._levels, 1.0))

    def candidates(
        self,
        rng: np.random.Generator,
        elite: Array,
        from_density: Array,
        score: Score,
    ) -> tuple[Array, Array]:
        """Candidates, shape (n, d), and their scores, shape (n,), in the order in which they were drawn.

        Parameters
        ----------
        rng
            The generator.
        elite
            The best known configurations, shape (k, d) with k at least 1.
        from_density
            Points of the unit cube to begin with beside the others, shape (m, d).
        score
            Gives the scores of configurations.
        """
        uniform = rng.random((RANDOM, self._space.d))
        children = self._children(rng, elite, FIRST_CHILDREN, FIRST_STEP)
        vectors = self._space.complete(np.concatenate([uniform, children, from_density]))
        scores = score(vectors)
        for step in ROUND_STEPS:
            parents = vectors[np.argsort(-scores, kind="stable")[:BEST_OF_ROUND]]
            more = self._space.complete(self._children(rng, parents, ROUND_CHILDREN, step))
            vectors, scores = np.concatenate([vectors, more]), np.append(scores, score(more))
        return vectors, scores

    def _children(
        self, rng: np.random.Generator, parents: Array, counts: tuple[int, int, int], step: float
    ) -> Array:
        """Points of the unit cube near to parents: crossovers, those with one change, those with several."""
        n_cross, n_one, n_several = counts
        n = sum(counts)
        # An inactive coordinate gets a random value, which counts if a change makes it active.
        filled = np.where(np.isnan(parents), rng.random(parents.shape), parents)
        children = filled[rng.integers(len(filled), size=n)]
        second = filled[rng.integers(len(filled), size=n_cross)]
        from_second = rng.random(second.shape) < rng.random((n_cross, 1))
        children[:n_cross] = np.where(from_second, second, children[:n_cross])
        moves = np.zeros((n, self._d), dtype=np.bool_)
        crossed = np.flatnonzero(rng.random(n_cross) < CHANGED_CROSSOVERS)
        changed = np.concatenate([crossed, np.arange(n_cross, n)])
        moves[changed, rng.integers(self._d, size=len(changed))] = True
        moves[n_cross + n_one :] |= rng.random((n_several, self._d)) < 2.0 / self._d
        values = children[:, self._varied]
        children[:, self._varied] = np.where(moves, self._moved(rng, values, step), values)
        return children

    def _moved(self, rng: np.random.Generator, values: Array, step: float) -> Array:
        """Each number moved by a normal step, at least a level wide, and each categorical to another level."""
        size = np.maximum(step, self._least_step)
        numbers = np.clip(values + rng.normal(size=values.shape) * size, 0.0, 1.0)
        levels = np.maximum(self._levels, 2.0)
        level = np.minimum(np.floor(values * levels), levels - 1)
        other = (level + 1 + np.floor(rng.random(values.shape) * (levels - 1))) % levels
        return np.where(self._is_unordered, (other + 0.5) / levels, numbers)
