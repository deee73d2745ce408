"""The interface of a sampler.

Law of this file: the interface only; :mod:`hpbandster_lite.samplers.conformance` tests it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from hpbandster_lite.records import ModelFitted, Proposal

if TYPE_CHECKING:
    import numpy as np

    from hpbandster_lite.space import Array

Vector: TypeAlias = "Array | Sequence[float | None]"
"""A configuration, shape (d,): an array of the space, or the ``vector`` of a
:class:`~hpbandster_lite.records.Proposal`. NaN or ``None`` marks an inactive dimension."""


class Sampler(Protocol):
    """Proposes configurations.

    A proposal is a pure function of the generator and of the sequence of ``add``, ``observe`` and ``forget`` calls.
    ``propose`` changes nothing that a later proposal depends on.
    """

    def add(self, vector: Vector) -> None:
        """Add a sampled configuration, from this sampler or another source; in a discrete space it does not come again.

        Parameters
        ----------
        vector
            The configuration.
        """

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """Add the result of an added configuration, in constant time.

        Parameters
        ----------
        vector
            The configuration.
        budget
            The budget of the evaluation.
        loss
            Its finite loss; ``None`` for a bad result.
        """

    def forget(self, vector: Vector, budget: float) -> None:
        """Remove an observed bad result, because its evaluation runs again.

        Parameters
        ----------
        vector
            The configuration.
        budget
            The budget of the evaluation.
        """

    def propose(self, rng: np.random.Generator) -> Proposal | None:
        """Return the next configuration; ``None`` if the space is exhausted.

        Parameters
        ----------
        rng
            A generator for this proposal alone.
        """


@runtime_checkable
class Ranking(Sampler, Protocol):
    """A sampler whose model ranks the candidates for a promotion, and that knows what is running.

    Its model is fitted at certain numbers of results. Fits form a chain: each begins at the one before. The caller
    records each fit before the first decision for which it was used, and gives it to a later sampler of the same search
    by :meth:`adopt`, which saves its computation and makes the decisions the same on every machine.
    """

    def begin(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation of an added configuration runs, or will run next; again for the same is no change."""

    def end(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation ended without a result that the sampler observes."""

    def full_budget_means(self, vectors: Array) -> Array | None:
        """Posterior means of observed configurations at the full budget, own parts included.

        Parameters
        ----------
        vectors
            Shape (k, d).

        Returns
        -------
        ndarray or None
            Shape (k,), lower is better; ``None`` while there is no such model.
        """

    def log_improvement(self, vector: Vector) -> float | None:
        """Logarithm of the expected improvement of a configuration at the full budget; ``None`` without the model."""

    @property
    def known_fits(self) -> int:
        """How many fits of the chain are computed or adopted; the last one is in use."""

    def fit(self, number: int) -> ModelFitted:
        """A fit of the chain, computed with those before it if it is not known."""

    def adopt(self, fit: ModelFitted) -> None:
        """Use a recorded fit instead of computing it; it must be the next of the chain or equal one that is known."""


@runtime_checkable
class Foreseeing(Sampler, Protocol):
    """A sampler whose proposals depend on no result, so that many can be drawn at once, before they are needed."""

    def foresee(self, rngs: Sequence[np.random.Generator]) -> list[Proposal | None]:
        """Return what :meth:`propose` would return now for each generator.

        Parameters
        ----------
        rngs
            One generator for each proposal.

        Returns
        -------
        list of Proposal or None
            ``None`` if only :meth:`propose` can answer.
        """

    def still_proposes(self, foreseen: Proposal) -> bool:
        """Return whether :meth:`propose` would return this proposal now; if so, the caller adds it next."""
