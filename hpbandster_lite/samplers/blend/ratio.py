"""The log density ratio of good to bad configurations, added over the budgets.

Law of this file: a function of the results, of what is running and of the generator. At each budget the good set holds
the best 15 % of the results, at least two and finite ones only, weighted by how much better than the best bad loss each
is; all others, and the configurations that are running, are the bad set. A budget counts with the product of how much
it knows (``n / (n + 2 d)`` of ``n`` finite results) and how well its losses order configurations as the highest usable
budget does. That agreement is the rank correlation over the configurations with results at both budgets, drawn towards
0.7 to the power of the distance in the ladder by six imagined pairs, and at least 0.02.

Why all budgets: the results at the highest budget are the right ones, but few for a long time, and BOHB
(arXiv:1807.01774), which uses them alone, forgets the others then.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.blend.density import Mixture
from hpbandster_lite.samplers.history import History, Table
from hpbandster_lite.samplers.kde.axes import Axes
from hpbandster_lite.space import Array

GOOD_SHARE = 0.15
FEWEST_GOOD = 2
FEWEST_RESULTS = 4
"""A budget with fewer finite results has no weight."""
AGREEMENT_PER_RUNG = 0.7
IMAGINED_PAIRS = 6
LEAST_AGREEMENT = 0.02
MOST = 512
"""Largest size of each set: a good set keeps its best configurations, a bad set those evenly spaced by rank."""
LEAST_WEIGHT = 0.1
"""Weight of the worst good configuration, relative to the best one."""


@record(frozen=True, slots=True, kw_only=True)
class _Sets:
    """The good density of one budget, and the configurations of its bad set."""

    good: Mixture
    bad: Array


class BlendedRatio:
    """Scores configurations by the density ratios of all budgets.

    Parameters
    ----------
    axes
        The kernels of the space's columns.
    history
        The results; what is observed later counts from then on.
    """

    def __init__(self, axes: Axes, history: History) -> None:
        self._axes = axes
        self._history = history
        self._changes = -1
        self._target = 0
        self._weights: dict[int, float] = {}
        self._sets: dict[int, _Sets] = {}

    @property
    def needed(self) -> int:
        """Finite results at one budget from which that budget is usable."""
        return self._axes.d + 3

    def highest_usable(self) -> int | None:
        """The highest budget with enough finite results, as its place in the ladder; ``None`` if there is none."""
        for rung in reversed(range(self._history.top + 1)):
            if self._history.finite_at(rung) >= self.needed:
                return rung
        return None

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        """Points of the unit cube from the good densities, shared out by the weights of the budgets; (n, width)."""
        self._refresh()
        shares = rng.multinomial(n, list(self._weights.values()))
        parts = [self._sets[rung].good.draw(rng, int(share)) for rung, share in zip(self._weights, shares, strict=True)]
        return np.concatenate(parts)

    def draw_at_highest(self, rng: np.random.Generator, n: int) -> Array:
        """Points of the unit cube from the good density of the highest usable budget; shape (n, width)."""
        self._refresh()
        return self._sets[self._target].good.draw(rng, n)

    def score(self, vectors: Array) -> Array:
        """Sum over the budgets of weight times log density ratio, shape (k,); higher is better."""
        self._refresh()
        running = self._history.running().vectors
        total = np.zeros(len(vectors))
        for rung, weight in self._weights.items():
            sets = self._sets[rung]
            bad = np.concatenate([sets.bad, running])
            density = Mixture(self._axes, bad, np.ones(len(bad)))
            total += weight * (sets.good.log_density(vectors) - density.log_density(vectors))
        return total

    def _refresh(self) -> None:
        """Compute the weights and the good densities again if there are new results."""
        if self._changes == self._history.changes:
            return
        self._changes = self._history.changes
        target = self.highest_usable()
        if target is None:
            raise InvariantBroken("no budget has enough results for a density ratio")
        self._target = target
        self._weights = budget_weights(self._history, target, self._axes.d)
        self._sets = {rung: self._split(self._history.best_first(rung)) for rung in self._weights}

    def _split(self, best_first: Table) -> _Sets:
        n_good = min(
            max(math.ceil(GOOD_SHARE * len(best_first)), FEWEST_GOOD), int(np.isfinite(best_first.losses).sum())
        )
        kept = min(n_good, MOST)
        good = Mixture(self._axes, best_first.vectors[:kept], good_weights(best_first.losses, n_good)[:kept])
        bad = best_first.vectors[n_good:]
        if len(bad) > MOST:
            bad = bad[np.linspace(0, len(bad) - 1, MOST).round().astype(np.intp)]
        return _Sets(good=good, bad=bad)


def good_weights(losses: Array, n_good: int) -> Array:
    """Weights of the good configurations, shape (n_good,).

    Parameters
    ----------
    losses
        All losses of a budget, shape (n,), the best first, infinite for bad results.
    n_good
        Number of good ones, at least 1; they are finite.
    """
    # Without a finite bad loss, the worst good one takes its place.
    has_edge = n_good < len(losses) and math.isfinite(losses[n_good])
    # Halves, because the difference of two finite losses may be infinite.
    halves = 0.5 * losses
    gain = np.maximum(halves[n_good if has_edge else n_good - 1] - halves[:n_good], 0.0)
    largest = gain.max()
    return gain / largest + LEAST_WEIGHT if largest > 0 else np.ones(n_good)


def budget_weights(history: History, target: int, d: int) -> dict[int, float]:
    """How much each budget counts, by its place in the ladder, lowest first; the weights sum to one.

    Parameters
    ----------
    history
        The results.
    target
        Place of the highest usable budget.
    d
        Number of hyperparameters with more than one value.
    """
    goal = history.best_first(target)
    weights = {}
    for rung in range(len(history.budgets)):
        n = history.finite_at(rung)
        if n < FEWEST_RESULTS:
            continue
        agreement = 1.0 if rung == target else _agreement(history.best_first(rung), goal, abs(rung - target))
        weights[rung] = max(agreement, LEAST_AGREEMENT) * n / (n + 2 * d)
    total = sum(weights.values())
    return {rung: weight / total for rung, weight in weights.items()}


def _agreement(here: Table, goal: Table, distance: int) -> float:
    """Rank correlation of the losses of configurations with finite results in both, drawn towards the expected one."""
    expected = AGREEMENT_PER_RUNG**distance
    here, goal = here.take(np.isfinite(here.losses)), goal.take(np.isfinite(goal.losses))
    _, rows, goal_rows = np.intersect1d(here.numbers, goal.numbers, return_indices=True)
    pairs = len(rows)
    if pairs < FEWEST_RESULTS:
        return expected
    first, second = rankdata(here.losses[rows]), rankdata(goal.losses[goal_rows])
    if not first.std() or not second.std():
        return expected
    correlation = float(np.mean((first - first.mean()) * (second - second.mean())) / (first.std() * second.std()))
    return (pairs * correlation + IMAGINED_PAIRS * expected) / (pairs + IMAGINED_PAIRS)
