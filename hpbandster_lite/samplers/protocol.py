"""The interface of a sampler.

Law of this file: the interface only; :mod:`hpbandster_lite.samplers.conformance` tests it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from hpbandster_lite.records import Proposal

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
