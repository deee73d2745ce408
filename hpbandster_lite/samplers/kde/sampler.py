"""BOHB's model: densities l and g over the best and the worst configurations of one budget, and their proposals.

Law of this file: Algorithm 2 of the paper (arXiv:1807.01774). Results are kept per budget. The largest budget with
enough results has the model, which is fitted when a proposal needs it. A proposal depends only on the generator and on
the sequence of added configurations and observed results.

Bad results (crashes, no number, out of memory, refused) count as results, rank behind every finite loss, and are never
in the good set. A budget has a model if it has at least N_min + 2 results and at least N_min of them are finite. So a
budget at which nearly everything fails has no model; the model of a smaller budget or a random sample takes its place.
Equal losses rank in the order in which they were observed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hpbandster_lite.errors import InvariantBroken, UsageError
from hpbandster_lite.hyperband.ranking import rows_best_first
from hpbandster_lite.records import Proposal
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.kde import density as kde
from hpbandster_lite.samplers.kde.axes import Axes, Indices, Points, axes_of
from hpbandster_lite.samplers.kde.parameters import BohbParameters
from hpbandster_lite.samplers.protocol import Vector
from hpbandster_lite.samplers.random import Unseen, as_vector
from hpbandster_lite.space import Array, SearchSpace

ROUNDS = 4
"""Most rounds of draws until there are ``num_samples`` candidates that are allowed and new."""
HEAP_KEPT_BYTES = 2**23
"""See :func:`_keep_heap`."""


def _keep_heap() -> None:
    """Keep the C library from returning the memory of each proposal to the kernel.

    glibc returns the top of its heap when more than twice the largest block that was ever freed is unused there (see
    mallopt(3), M_TRIM_THRESHOLD). A proposal uses about 1 MiB in blocks of at most 256 KiB, so the kernel would have to
    provide its pages each time: 250 page faults, 0.7 of 2.7 ms if a fault takes 3 us. Freeing a large, unused block
    raises the bound.
    """
    np.empty(HEAP_KEPT_BYTES, dtype=np.uint8)


class _Results:
    """Results of one budget; ``observe`` appends to two lists, ``table`` converts the new items to arrays."""

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._new: list[Array] = []
        self._new_losses: list[float] = []
        self._filled = 0
        self._points = Points(np.empty((16, axes.width)), np.empty((16, len(axes.discrete)), dtype=np.intp))
        self._losses = np.empty(16)
        self.finite = 0

    def __len__(self) -> int:
        return self._filled + len(self._new)

    def observe(self, vector: Array, loss: float) -> None:
        """Keep a result; a bad result has an infinite loss."""
        self._new.append(vector)
        self._new_losses.append(loss)
        self.finite += loss < math.inf

    def forget(self, vector: Array) -> None:
        """Drop the newest bad result of a configuration."""
        points, losses = self.table()
        wanted = self._axes.points(vector[np.newaxis])
        # Inactive dimensions are NaN, and two NaN count as equal here.
        same = (points.vectors == wanted.vectors) | (np.isnan(points.vectors) & np.isnan(wanted.vectors))
        is_it = same.all(axis=1) & (points.levels == wanted.levels).all(axis=1)
        rows = np.flatnonzero(is_it & np.isinf(losses))
        if not len(rows):
            raise InvariantBroken(f"cannot forget a bad result of {vector.tolist()}: none was observed")
        left = np.delete(np.arange(len(losses)), rows[-1])
        self._points, self._losses, self._filled = points.take(left), losses[left], len(left)

    def table(self) -> tuple[Points, Array]:
        """Points and their losses, shape (n,), in the order of observation."""
        n, old = len(self), self._points
        if self._new:
            if n > len(self._losses):
                # Twice the size: each result is copied twice on average, so that observing takes constant time.
                self._points = Points(
                    np.resize(old.vectors, (2 * n, old.vectors.shape[1])),
                    np.resize(old.levels, (2 * n, old.levels.shape[1])),
                )
                self._losses = np.resize(self._losses, 2 * n)
            rows, new = slice(self._filled, n), self._axes.points(np.array(self._new))
            self._points.vectors[rows], self._points.levels[rows] = new.vectors, new.levels
            self._losses[rows] = self._new_losses
            self._new, self._new_losses, self._filled = [], [], n
        return Points(self._points.vectors[:n], self._points.levels[:n]), self._losses[:n]


class _Scores(Protocol):
    """A density that scores candidates: :class:`kde.Density` or the reference."""

    def log_density(self, candidates: Points) -> Array:
        """Logarithm of the density at the candidates, shape (m,)."""


@record(frozen=True, slots=True, kw_only=True)
class _Model:
    """Densities fitted to the first ``n`` results of ``budget``; candidates come from ``source``, widened."""

    budget: float
    n: int
    source: kde.Density
    widened: Array
    good: _Scores
    bad: _Scores


def split(losses: Array, n_min: int, top_n_percent: float, most: int) -> tuple[Indices, Indices]:
    """Rows of the good and of the bad set (Algorithm 2 and equation 3 of the paper).

    The good set holds the ``N_l = max(N_min, floor(q n))`` best results, but only finite ones; the bad set holds the
    ``N_g = max(N_min, n - N_l)`` worst. The sets overlap if there are few results. If a set exceeds ``most``, the good
    set keeps its best rows, and the bad set rows evenly spaced by rank, with its best and its worst.

    Parameters
    ----------
    losses
        Shape (n,), infinite for bad results.
    n_min
        N_min.
    top_n_percent
        100 q.
    most
        Largest size of each set.

    Returns
    -------
    tuple of ndarray
        Row numbers of the good set, shape (n_good,), and of the bad set, shape (n_bad,), the best first.
    """
    n = len(losses)
    order = rows_best_first(losses)
    # 1e-9: products such as 0.07 * 100, which is 7.000000000000001, may also fall just below a whole number.
    n_good = max(n_min, math.floor(top_n_percent * n / 100 + 1e-9))
    n_bad = max(n_min, n - n_good)
    finite = int(np.isfinite(losses).sum())
    good, bad = order[: min(n_good, finite, most)], order[max(0, n - n_bad) :]
    if len(bad) > most:
        bad = bad[np.linspace(0, len(bad) - 1, most).round().astype(np.intp)]
    return good, bad


class Bohb:
    """Model-based sampling of BOHB (arXiv:1807.01774, Algorithm 2).

    Parameters
    ----------
    space
        The search space.
    budgets
        The budgets at which results may be observed.
    parameters
        The parameters of the model.

    Raises
    ------
    UsageError
        If ``density="statsmodels"`` cannot be used with the space.
    """

    def __init__(self, space: SearchSpace, budgets: Sequence[float], parameters: BohbParameters) -> None:
        self._space = space
        self._parameters = parameters
        self._unseen = Unseen(space)
        self._axes = axes_of(space)
        self._n_min = parameters.min_points_in_model or self._axes.d + 1
        self._most = max(parameters.max_points_in_model, self._n_min)
        self._results = {float(budget): _Results(self._axes) for budget in sorted(budgets, reverse=True)}
        self._fitted: _Model | None = None
        if parameters.density == "statsmodels":
            self._check_statsmodels()
        _keep_heap()

    def _check_statsmodels(self) -> None:
        if self._axes.conditional.any():
            name = self._space.names[int(self._axes.conditional.argmax())]
            raise UsageError(
                f"density='statsmodels' cannot be used with conditions, and {name!r} has one; use density='truncated'"
            )
        if self._n_min <= self._axes.d:
            raise UsageError(
                f"density='statsmodels' needs more points than hyperparameters, got min_points_in_model={self._n_min} "
                f"for {self._axes.d}; use at least {self._axes.d + 1}, or density='truncated'"
            )

    def add(self, vector: Vector) -> None:
        """Add a sampled configuration, which is not proposed again."""
        self._unseen.add(vector)

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """Add a result in constant time, ``None`` for a bad one; the model is fitted when a proposal needs it."""
        if budget not in self._results:
            raise InvariantBroken(f"observed budget {budget!r} is not in the ladder {sorted(self._results)}")
        if loss is not None and not math.isfinite(loss):
            raise InvariantBroken(f"a loss must be finite, got {loss!r}; a bad result is None")
        self._results[budget].observe(as_vector(vector, self._space.d), math.inf if loss is None else loss)

    def forget(self, vector: Vector, budget: float) -> None:
        """Remove a bad result; the time is linear in the number of results at its budget."""
        self._results[budget].forget(as_vector(vector, self._space.d))
        # The budget and the number of results identify the fitted model, and the next result restores that number.
        self._fitted = None

    def propose(self, rng: np.random.Generator) -> Proposal | None:
        """The next configuration; ``None`` if the space is exhausted.

        With probability rho, and while no budget has a model, it is a random configuration. Otherwise ``num_samples``
        allowed and new candidates are drawn from the widened good density l, and the one with the largest ratio l / g
        is proposed; of equal candidates the first. If the draws give no new candidate, a small space provides up to
        ``num_samples`` of the configurations left as candidates, and a large space a random configuration.
        """
        is_random = rng.random() < self._parameters.random_fraction
        model = None if is_random else self._model()
        candidates = None if model is None else self._candidates(model, rng)
        if model is None or candidates is None:
            return self._unseen.draw(rng)
        points = self._axes.points(candidates)
        ratio = model.good.log_density(points) - model.bad.log_density(points)
        return self._unseen.proposal(candidates[int(ratio.argmax())], model.budget)

    def _candidates(self, model: _Model, rng: np.random.Generator) -> Array | None:
        wanted = self._parameters.num_samples
        kept: list[Array] = []
        for _ in range(ROUNDS):
            drawn = self._space.complete(model.source.draw(rng, wanted, model.widened))
            kept.append(drawn[self._unseen.may_propose(drawn)])
            if sum(map(len, kept)) >= wanted:
                break
        candidates = np.concatenate(kept)[:wanted]
        if len(candidates):
            return candidates
        left = self._unseen.some_left(rng, wanted)
        return None if left is None or not len(left) else left

    def _model(self) -> _Model | None:
        """The model of the largest usable budget, fitted again if there are new results."""
        for budget, results in self._results.items():
            if len(results) >= self._n_min + 2 and results.finite >= self._n_min and self._axes.d:
                if self._fitted is None or (self._fitted.budget, self._fitted.n) != (budget, len(results)):
                    self._fitted = self._fit(budget, results)
                return self._fitted
        return None

    def _fit(self, budget: float, results: _Results) -> _Model:
        points, losses = results.table()
        good_rows, bad_rows = split(losses, self._n_min, self._parameters.top_n_percent, self._most)
        good, bad = self._density(points.take(good_rows)), self._density(points.take(bad_rows))
        floor = self._parameters.min_bandwidth
        widened = kde.widened(self._axes, good.bandwidth, self._parameters.bandwidth_factor, floor)
        scores: tuple[_Scores, _Scores] = (good, bad)
        if self._parameters.density == "statsmodels":
            # Imported here: statsmodels takes 2 s to import, and few searches use it.
            from hpbandster_lite.samplers.kde.statsmodels_density import StatsmodelsDensity

            scores = (StatsmodelsDensity.like(good), StatsmodelsDensity.like(bad))
        return _Model(budget=budget, n=len(losses), source=good, widened=widened, good=scores[0], bad=scores[1])

    def _density(self, data: Points) -> kde.Density:
        bandwidth = kde.bandwidths(self._axes, data, self._parameters.min_bandwidth)
        return kde.Density(self._axes, data, bandwidth)
