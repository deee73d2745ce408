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
"""A configuration as the space or a :class:`~hpbandster_lite.records.Proposal` gives it, shape (d,); NaN or ``None``
marks an inactive dimension."""


class Sampler(Protocol):
    """Proposes configurations.

    A proposal is a pure function of the generator and of what was added and observed, in its order; proposing changes
    nothing that a later proposal depends on.
    """

    def add(self, vector: Vector) -> None:
        """A configuration was sampled, here or elsewhere: in a discrete space it is not proposed again."""

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """An added configuration ended at a budget; ``loss`` is ``None`` for a bad result. Constant time."""

    def forget(self, vector: Vector, budget: float) -> None:
        """A bad result that was observed no longer counts: its evaluation is run again."""

    def propose(self, rng: np.random.Generator) -> Proposal | None:
        """The next configuration; ``None`` if the space is exhausted."""


@runtime_checkable
class Foreseeing(Sampler, Protocol):
    """A sampler whose proposals depend on no outcome, so that many can be drawn at once, before they are needed."""

    def foresee(self, rngs: Sequence[np.random.Generator]) -> list[Proposal | None]:
        """What :meth:`propose` would give for each generator now; ``None`` where only :meth:`propose` can answer."""

    def still_proposes(self, foreseen: Proposal) -> bool:
        """Whether :meth:`propose` would give this now; called only for a proposal that is about to be added."""
