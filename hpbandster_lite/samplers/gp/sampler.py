"""Multi-fidelity Bayesian optimisation: density ratios of all budgets early, a Gaussian process later.

Law of this file: it decides which model proposes, and keeps the chain of fits. While no budget has d + 3 finite
results, proposals are random. Then 15 % stay random; of the rest all come from the blended density ratio until the
process is *ready*, which takes five finite results at the full budget, and from then on 40 %. A proposal depends only
on the generator and on the sequence of calls: a fit is due when the number of results reaches its place in the chain,
and is computed from the results of that moment, whenever it is needed first.

The process sees the results of all budgets at once, and pays when some full results tell it how far the lower ones can
be trusted. The densities need no full result and treat categoricals well, so they pay early, and they keep the search
wide later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.records import ModelFitted, Proposal
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.blend.ratio import BlendedRatio
from hpbandster_lite.samplers.gp.acquisition import FROM_DENSITY, CandidateSearch, Score, log_expected_improvement
from hpbandster_lite.samplers.gp.features import Features
from hpbandster_lite.samplers.gp.fit import MOST_TO_CONDITION, chosen, fitted, kernel_of, next_fit_at, points_of
from hpbandster_lite.samplers.gp.kernel import Layout, Points
from hpbandster_lite.samplers.gp.one_thread import in_one_thread
from hpbandster_lite.samplers.gp.parameters import MfboParameters
from hpbandster_lite.samplers.gp.posterior import Factor, Posterior
from hpbandster_lite.samplers.gp.targets import standardised
from hpbandster_lite.samplers.history import History, Table
from hpbandster_lite.samplers.kde.axes import Indices, axes_of
from hpbandster_lite.samplers.protocol import Vector
from hpbandster_lite.samplers.random import Unseen, as_vector
from hpbandster_lite.space import Array, SearchSpace

DENSITY_CANDIDATES = 64
BEST = 40
"""How many of the best configurations give the goal of the expected improvement: the lowest of their means."""
ELITE = 12
MOST_LOOKED_AT = 100
"""How many of the candidates are tried, the best first, until one is new and allowed."""
MOST_APPENDED = 60
"""After this many appended results the process is conditioned on a new choice of results."""


@record(frozen=True)
class _Improvement:
    """The expected improvement at the full budget under the newest fit."""

    posterior: Posterior
    goal: float
    elite: Array


class Mfbo:
    """The sampler of ``mfbo``.

    Parameters
    ----------
    space
        The search space.
    budgets
        The budgets at which results may be observed.
    parameters
        Its parameters.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[float], parameters: MfboParameters) -> None:
        self._space = space
        self._parameters = parameters
        self._unseen = Unseen(space)
        self._history = History(budgets, space.d)
        axes = axes_of(space)
        self._varies = axes.d > 0
        self._ratio = BlendedRatio(axes, self._history)
        self._features = Features(axes)
        self._layout = Layout(max(axes.d, 1), len(self._history.budgets))
        self._search = CandidateSearch(space, axes)
        self._due: list[Table] = []
        """The results of each fit of the chain."""
        self._fits: list[ModelFitted] = []
        """The fits that are computed or adopted: the first ones of the chain."""
        self._factor: tuple[tuple[int, int, int], Factor] | None = None

    # ------------------------------------------------------------------------------------------------- what happens

    def add(self, vector: Vector) -> None:
        """Add a sampled configuration, which is not proposed again."""
        self._unseen.add(vector)

    def begin(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation runs, or will run next."""
        self._history.begin(vector, budget)

    def end(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation ended without a result to observe."""
        self._history.end(vector, budget)

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """Add a result, ``None`` for a bad one."""
        self._history.observe(vector, budget, loss)
        is_due = not self._due or len(self._history) >= next_fit_at(len(self._due[-1]))
        if is_due and self._is_ready():
            self._due.append(self._history.table())

    def forget(self, vector: Vector, budget: float) -> None:
        """Remove a bad result; a fit that became due with it is not due any more."""
        self._history.forget(vector, budget)
        while self._due and len(self._due[-1]) > len(self._history):
            self._due.pop()
        del self._fits[len(self._due) :]

    def _is_ready(self) -> bool:
        if not self._varies or self._history.finite_at(self._history.top) < self._parameters.full_results:
            return False
        return self._ratio.highest_usable() is not None

    # ------------------------------------------------------------------------------------------------- proposals

    @in_one_thread
    def propose(self, rng: np.random.Generator) -> Proposal | None:
        """The next configuration; ``None`` if the space is exhausted."""
        usable = self._ratio.highest_usable() if self._varies else None
        if usable is None or rng.random() < self._parameters.random_fraction:
            return self._unseen.draw(rng)
        if self._due and rng.random() >= self._parameters.density_fraction:
            return self._by_process(rng)
        vectors = self._space.complete(self._ratio.draw(rng, DENSITY_CANDIDATES))
        found = self._best_new(rng, vectors, self._ratio.score(vectors), self._ratio.score)
        return self._unseen.draw(rng) if found is None else self._unseen.proposal(found, self._history.budgets[usable])

    def _by_process(self, rng: np.random.Generator) -> Proposal | None:
        improvement = self._improvement()

        def score(vectors: Array) -> Array:
            return self._log_improvement(improvement, vectors)

        from_density = self._ratio.draw_at_highest(rng, FROM_DENSITY)
        vectors, scores = self._search.candidates(rng, improvement.elite, from_density, score)
        found = self._best_new(rng, vectors, scores, score)
        if found is None:
            return self._unseen.draw(rng)
        # Computed alone, as in log_improvement: among other candidates the last bits may differ.
        value = float(score(found[np.newaxis])[0])
        proposal = self._unseen.proposal(found, self._history.budgets[-1])
        return replace(proposal, fit=self._fits[-1].number, log_improvement=value)

    def _best_new(self, rng: np.random.Generator, vectors: Array, scores: Array, score: Score) -> Array | None:
        """The best new and allowed configuration: of the candidates, else of what a small space has left."""
        best_first = vectors[np.argsort(-scores, kind="stable")[:MOST_LOOKED_AT]]
        allowed = self._unseen.may_propose(best_first)
        if allowed.any():
            found: Array = best_first[int(allowed.argmax())]
            return found
        left = self._unseen.some_left(rng, DENSITY_CANDIDATES)
        return None if left is None or not len(left) else left[int(score(left).argmax())]

    # ------------------------------------------------------------------------------------------------- the process

    @in_one_thread
    def full_budget_means(self, vectors: Array) -> Array | None:
        """Posterior means of observed configurations at the full budget, own parts included; running ones do not count.

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

    @in_one_thread
    def log_improvement(self, vector: Vector) -> float | None:
        """Logarithm of the expected improvement of a configuration at the full budget; ``None`` if not ready."""
        if not self._due:
            return None
        return float(self._log_improvement(self._improvement(), as_vector(vector, self._space.d)[np.newaxis])[0])

    @property
    def known_fits(self) -> int:
        """How many fits are computed or adopted."""
        return len(self._fits)

    @in_one_thread
    def fit(self, number: int) -> ModelFitted:
        """A fit of the chain, computed with those before it if it is not known.

        Raises
        ------
        InvariantBroken
            If it is not due.
        """
        if number >= len(self._due):
            raise InvariantBroken(f"fit {number} is not due after {len(self._history)} results")
        for results in self._due[len(self._fits) : number + 1]:
            before = self._fits[-1] if self._fits else None
            self._fits.append(fitted(self._layout, self._features, results, before))
        return self._fits[number]

    def adopt(self, fit: ModelFitted) -> None:
        """Use a recorded fit instead of computing it.

        Raises
        ------
        InvariantBroken
            If it is not the next of the chain and not one that is known.
        """
        if fit.number < len(self._fits):
            return
        is_next = fit.number == len(self._fits) < len(self._due)
        if not is_next or len(fit.parameters) != self._layout.size or fit.results != len(self._due[fit.number]):
            raise InvariantBroken(f"fit {fit.number} of {fit.results} results is not the next of the chain")
        self._fits.append(fit)

    def _log_improvement(self, improvement: _Improvement, vectors: Array) -> Array:
        mean, deviation = improvement.posterior.mean_and_deviation(self._at_top(vectors))
        return log_expected_improvement(improvement.goal, mean, deviation)

    def _improvement(self) -> _Improvement:
        posterior = self._posterior(with_running=True)
        best = self._history.best(BEST).vectors
        means, _ = posterior.mean_and_deviation(self._at_top(best))
        elite = best[np.argsort(means, kind="stable")[:ELITE]]
        return _Improvement(posterior=posterior, goal=float(means.min()), elite=elite)

    def _at_top(self, vectors: Array, numbers: Indices | None = None) -> Points:
        rungs = np.full(len(vectors), self._history.top, dtype=np.intp)
        if numbers is None:
            numbers = np.full(len(vectors), -1, dtype=np.intp)
        return Points(self._features(vectors), rungs, numbers)

    def _posterior(self, *, with_running: bool) -> Posterior:
        fit = self.fit(len(self._due) - 1)
        results = self._history.table()
        n = len(results)
        base = fit.results + (n - fit.results) // MOST_APPENDED * MOST_APPENDED
        first = chosen(results.rungs[:base], MOST_TO_CONDITION)
        factor = self._conditioned(fit, base, first)
        targets = standardised(results.losses, fit.exponent)[np.concatenate([first, np.arange(base, n)])]
        running = points_of(self._features, self._history.running())
        return Posterior(factor, targets, running if with_running else running.take(slice(0)))

    def _conditioned(self, fit: ModelFitted, base: int, first: Indices) -> Factor:
        """The factor of the results ``first``, with those from ``base`` on appended."""
        results = self._history.table()
        key = fit.number, base, self._history.forgotten
        if self._factor is not None and self._factor[0] == key:
            factor = self._factor[1]
        else:
            kernel = kernel_of(self._layout, self._features, fit)
            factor = Factor.of(kernel, points_of(self._features, results.take(first)))
        known = base + len(factor.points) - len(first)
        if known < len(results):
            factor = factor.with_each(points_of(self._features, results.take(slice(known, None))))
        self._factor = key, factor
        return factor
