"""Where the configuration of a new place comes from: the first ones, those drawn ahead, or the sampler.

Law of this file: which proposal a configuration id gets is the same whether it was drawn ahead or not. The sampler is
asked here and taught in :meth:`hpbandster_lite.engine.engine.Engine.apply`.
"""

from __future__ import annotations

import numpy as np

from hpbandster_lite.engine.initial_proposals import first_proposals
from hpbandster_lite.engine.state import State
from hpbandster_lite.randomness import Purpose, generator_for
from hpbandster_lite.records import ConfigId, Proposal, SearchSettings
from hpbandster_lite.samplers import Foreseeing, Sampler
from hpbandster_lite.space import SearchSpace

MOST_AHEAD = 32
"""Proposals drawn at one time, where they depend on no outcome: 1 ms, in which the master answers no other agent."""


class Proposer:
    """Proposes configurations for one search.

    Parameters
    ----------
    settings
        What defines the search.
    space
        The compiled space of its problem.
    sampler
        Where configurations come from after the first ones.
    """

    def __init__(self, settings: SearchSettings, space: SearchSpace, sampler: Sampler) -> None:
        self._seed = settings.seed
        self._first = first_proposals(space, settings)
        self._sampler = sampler
        self._foreseeing = sampler if isinstance(sampler, Foreseeing) else None
        self._ahead: dict[ConfigId, Proposal | None] = {}

    @property
    def depends_on_outcomes(self) -> bool:
        """Whether the sampler must be shown outcomes."""
        return self._foreseeing is None

    def propose(self, config_id: ConfigId, state: State) -> Proposal | None:
        """The proposal for the next configuration; ``None`` if the space is exhausted."""
        order = len(state.proposals)
        if order < len(self._first):
            return self._first[order]
        return self._foreseen(config_id, state) or self._sampler.propose(self._generator(config_id))

    def _generator(self, config_id: ConfigId) -> np.random.Generator:
        return generator_for(self._seed, Purpose.PROPOSAL, config_id)

    def _foreseen(self, config_id: ConfigId, state: State) -> Proposal | None:
        """The proposal drawn ahead for a configuration, if it still stands; the places of a rung are drawn at once."""
        if self._foreseeing is None:
            return None
        if config_id not in self._ahead:
            rung = state.brackets[config_id.bracket].rungs[config_id.rung]
            most = min(MOST_AHEAD, rung.places - rung.taken)
            coming = [config_id._replace(index=config_id.index + i) for i in range(most)]
            proposals = self._foreseeing.foresee([self._generator(each) for each in coming])
            self._ahead = dict(zip(coming, proposals, strict=True))
        proposal = self._ahead.pop(config_id)
        return proposal if proposal is not None and self._foreseeing.still_proposes(proposal) else None
