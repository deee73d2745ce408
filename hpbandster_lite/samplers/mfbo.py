"""Multi-fidelity Bayesian optimisation: density ratios of all budgets early, a Gaussian process later.

Law of this file: it decides which model proposes, and keeps the chain of fits. While no budget has d + 3 finite
results, proposals are random. Then 15 % stay random; of the rest all come from the blended density ratio until the
process is *ready*, which takes five finite results at the full budget, and from then on 40 %. A proposal depends only
on the generator and on the sequence of calls: a fit is due when the number of results reaches its place in the chain,
and is computed from the results of that moment, whenever it is needed first.

The process sees many full results at once where the densities of BOHB see one budget, so it pays late; the densities
need no full result and treat categoricals well, so they pay early, and they keep the search wide later.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpbandster_lite.records import Proposal
from hpbandster_lite.samplers.blend.ratio import BlendedRatio
from hpbandster_lite.samplers.gp.acquisition import FROM_DENSITY, CandidateSearch, Score, log_expected_improvement
from hpbandster_lite.samplers.gp.features import Features
from hpbandster_lite.samplers.gp.fit import MOST_TO_CONDITION, Fit, chosen, fitted, kernel_of, next_fit_at, points_of
from hpbandster_lite.samplers.gp.kernel import Layout, Points
from hpbandster_lite.samplers.gp.posterior import Factor, Posterior
from hpbandster_lite.samplers.gp.targets import standardised
from hpbandster_lite.samplers.history import History, Table
from hpbandster_lite.samplers.kde.axes import Indices, axes_of
from hpbandster_lite.samplers.protocol import Vector
from hpbandster_lite.samplers.random import Unseen
from hpbandster_lite.space import Array, SearchSpace

RANDOM_FRACTION = 0.15
DENSITY_FRACTION = 0.4
"""Share of the proposals that are not random and come from the density ratio although the process is ready."""
FULL_RESULTS = 5
"""Finite results at the full budget from which the process is ready."""
DENSITY_CANDIDATES = 64
BEST = 40
ELITE = 12
MOST_LOOKED_AT = 100
"""How many of the candidates are tried, the best first, until one is new and allowed."""
MOST_APPENDED = 60
"""After this many appended results the process is conditioned on a new choice of results."""


class Mfbo:
    """The sampler of ``mfbo``.

    Parameters
    ----------
    space
        The search space.
    budgets
        The budgets at which results may be observed.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[float]) -> None:
        self._space = space
        self._unseen = Unseen(space)
        self._history = History(budgets, space.d)
        axes = axes_of(space)
        self._varies = axes.d > 0
        self._ratio = BlendedRatio(axes, self._history)
        self._features = Features(axes)
        self._layout = Layout(max(axes.d, 1), len(self._history.budgets))
        self._search = CandidateSearch(space, axes)
        self._fits: list[Fit] = []
        self._due: list[Table] = []
        """The results of each fit of the chain, in its order; those of the last ones may not be computed yet."""
        self._factor: tuple[tuple[int, int, int], Factor] | None = None

    def add(self, vector: Vector) -> None:
        """Add a sampled configuration, which is not proposed again."""
        self._unseen.add(vector)

    def begin(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation runs."""
        self._history.begin(vector, budget)

    def end(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation does not run any more."""
        self._history.end(vector, budget)

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """Add a result, ``None`` for a bad one."""
        self._history.observe(vector, budget, loss)
        if not self._is_ready():
            return
        if not self._due or len(self._history) >= next_fit_at(len(self._due[-1])):
            self._due.append(self._history.table())

    def forget(self, vector: Vector, budget: float) -> None:
        """Remove a bad result; a fit that became due with it is not due any more."""
        self._history.forget(vector, budget)
        while self._due and len(self._due[-1]) > len(self._history):
            self._due.pop()
        del self._fits[len(self._due) :]

    def propose(self, rng: np.random.Generator) -> Proposal | None:
        """The next configuration; ``None`` if the space is exhausted."""
        usable = self._ratio.highest_usable() if self._varies else None
        if usable is None or rng.random() < RANDOM_FRACTION:
            return self._unseen.draw(rng)
        if self._due and rng.random() >= DENSITY_FRACTION:
            budget, score, vectors, scores = self._by_process(rng)
        else:
            budget, score = self._history.budgets[usable], self._ratio.score
            vectors = self._space.complete(self._ratio.draw(rng, DENSITY_CANDIDATES))
            scores = score(vectors)
        best_first = vectors[np.argsort(-scores, kind="stable")[:MOST_LOOKED_AT]]
        allowed = self._unseen.may_propose(best_first)
        if allowed.any():
            return self._unseen.proposal(best_first[int(allowed.argmax())], budget)
        left = self._unseen.some_left(rng, DENSITY_CANDIDATES)
        if left is None or not len(left):
            return self._unseen.draw(rng)
        return self._unseen.proposal(left[int(score(left).argmax())], budget)

    def full_budget_means(self, vectors: Array) -> Array | None:
        """Posterior means of observed configurations at the full budget, own parts included.

        Parameters
        ----------
        vectors
            Shape (k, d).

        Returns
        -------
        ndarray or None
            Shape (k,), lower is better, in the unit of the transformed losses; ``None`` while the process is not ready.
        """
        if not self._due:
            return None
        numbers = np.array([self._history.number_of(vector) for vector in vectors], dtype=np.intp)
        return self._posterior(with_running=False).mean(self._at_top(vectors, numbers))

    def _is_ready(self) -> bool:
        if not self._varies or self._history.finite_at(self._history.top) < FULL_RESULTS:
            return False
        return self._ratio.highest_usable() is not None

    def _by_process(self, rng: np.random.Generator) -> tuple[float, Score, Array, Array]:
        """The full budget, the log expected improvement there, candidates, and its values at them."""
        posterior = self._posterior(with_running=True)
        best = self._history.best(BEST).vectors
        means, _ = posterior.mean_and_deviation(self._at_top(best))
        goal = float(means.min())
        elite = best[np.argsort(means, kind="stable")[:ELITE]]

        def score(vectors: Array) -> Array:
            return log_expected_improvement(goal, *posterior.mean_and_deviation(self._at_top(vectors)))

        from_density = self._ratio.draw_at_highest(rng, FROM_DENSITY)
        return self._history.budgets[-1], score, *self._search.candidates(rng, elite, from_density, score)

    def _at_top(self, vectors: Array, numbers: Indices | None = None) -> Points:
        rungs = np.full(len(vectors), self._history.top, dtype=np.intp)
        if numbers is None:
            numbers = np.full(len(vectors), -1, dtype=np.intp)
        return Points(self._features(vectors), rungs, numbers)

    def _posterior(self, *, with_running: bool) -> Posterior:
        fit = self._newest_fit()
        results = self._history.table()
        rows, factor = self._conditioned(fit, results)
        targets = standardised(results.losses, fit.exponent)[rows]
        running = points_of(self._features, self._history.running())
        return Posterior(factor, targets, running if with_running else running.take(slice(0)))

    def _newest_fit(self) -> Fit:
        """The last fit of the chain, after those that are due and not computed."""
        for results in self._due[len(self._fits) :]:
            before = self._fits[-1] if self._fits else None
            self._fits.append(fitted(self._layout, self._features, results, before))
        return self._fits[-1]

    def _conditioned(self, fit: Fit, results: Table) -> tuple[Indices, Factor]:
        """Rows of the results on which the process is conditioned, and their factor."""
        n = len(results)
        base = fit.results + (n - fit.results) // MOST_APPENDED * MOST_APPENDED
        rows = np.concatenate([chosen(results.rungs[:base], MOST_TO_CONDITION), np.arange(base, n)])
        key = (fit.number, base, self._history.changes)
        if self._factor is None or self._factor[0] != key:
            self._factor = key, self._grown(fit, results, base, rows)
        return rows, self._factor[1]

    def _grown(self, fit: Fit, results: Table, base: int, rows: Indices) -> Factor:
        points = points_of(self._features, results.take(rows))
        first = len(rows) - (len(results) - base)
        factor = Factor.of(kernel_of(self._layout, self._features, fit), points.take(slice(first)))
        return factor.with_each(points.take(slice(first, None)))
