"""The configurations that come before any that a sampler proposes.

Law of this file: the default first, then the user's in their order, each configuration once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpbandster_lite.records import Origin, Proposal, Values
from hpbandster_lite.space import Array, SearchSpace


def first_proposals(space: SearchSpace, initial: Sequence[Values]) -> list[Proposal]:
    """What the first configurations of a search are, before its sampler is asked."""
    vectors = [space.default()[None]]
    if initial:
        vectors.append(space.to_vectors(list(initial)))
    stacked = np.concatenate(vectors)
    seen: set[bytes] = set()
    proposals = []
    for order, (vector, values) in enumerate(zip(stacked, space.to_values(stacked), strict=True)):
        key = space.key(vector)
        if key not in seen:
            seen.add(key)
            proposals.append(
                Proposal(
                    values=values,
                    vector=tuple(None if np.isnan(u) else float(u) for u in vector),
                    origin=Origin.INITIAL if order else Origin.DEFAULT,
                )
            )
    return proposals


def vector_of(proposal: Proposal) -> Array:
    """The vector as samplers take it: shape (d,), NaN where the dimension is inactive."""
    return np.array([np.nan if u is None else u for u in proposal.vector])
