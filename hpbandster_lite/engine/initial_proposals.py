"""The first configurations of a search, before those that its sampler proposes.

Law of this file: the default comes first unless it is skipped or forbidden, then the user's in their order, each once.
Their values are as they were given, to the last bit, except in searches from before this rule.
"""

from __future__ import annotations

import numpy as np

from hpbandster_lite.records import Origin, Proposal, SearchSettings
from hpbandster_lite.space import Array, SearchSpace


def first_proposals(space: SearchSpace, settings: SearchSettings) -> list[Proposal]:
    """The default configuration and those of the user, as proposals.

    The place of a default configuration that the space forbids is left to the sampler.
    """
    default = space.default()[None][settings.skip_default :]
    if settings.replaces_forbidden_default:
        default = default[space.allowed(default)]
    given = space.to_vectors(list(settings.initial)) if settings.initial else default[:0]
    stacked = np.concatenate([default, given])
    keeps_bits = settings.keeps_given_values
    configurations = space.to_values(stacked)
    if keeps_bits:
        configurations = [space.default_values()][: len(default)] + space.as_given(list(settings.initial))
    seen: set[object] = set()
    proposals = []
    for order, (vector, values) in enumerate(zip(stacked, configurations, strict=True)):
        key = repr(values) if keeps_bits else space.key(vector)
        if key not in seen:
            seen.add(key)
            proposals.append(
                Proposal(
                    values=values,
                    vector=tuple(None if np.isnan(u) else float(u) for u in vector),
                    origin=Origin.DEFAULT if order < len(default) else Origin.INITIAL,
                )
            )
    return proposals


def vector_of(proposal: Proposal) -> Array:
    """The vector as samplers get it: shape (d,), NaN where the dimension is inactive."""
    return np.array([np.nan if u is None else u for u in proposal.vector])
