"""Tests that every sampler passes, for pytest: subclass :class:`SamplerConformance` and define ``make``.

Law of this file: it tests what the engine and ``hpbandster-lite verify`` rely on, and uses only the interface.
``docs/samplers.md`` has an example. This module requires pytest, so only tests import it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hpbandster_lite.records import Origin, Proposal
from hpbandster_lite.samplers.protocol import Foreseeing, Sampler
from hpbandster_lite.space import Array, SearchSpace
from hpbandster_lite.space.examples import (
    EXAMPLES,
    conditional_space,
    constants,
    large_discrete_space,
    line,
    small_space,
)

BUDGETS = (1.0, 3.0, 9.0)
"""The budgets at which the tests observe results."""

every_space = pytest.mark.parametrize("make_space", EXAMPLES.values(), ids=EXAMPLES.keys())


def generator(*key: int) -> np.random.Generator:
    """A generator for each key, as the engine has one for each configuration."""
    return np.random.default_rng(np.random.SeedSequence(0, spawn_key=key))


def array_of(proposal: Proposal) -> Array:
    """The vector of a proposal; NaN in inactive dimensions."""
    return np.array(proposal.vector, dtype=np.float64)


def proposed(sampler: Sampler, *key: int) -> Proposal:
    """The proposal of a sampler; fails if there is none."""
    proposal = sampler.propose(generator(*key))
    assert proposal is not None, "the space is not exhausted, but the sampler proposed nothing"
    return proposal


class SamplerConformance:
    """The laws of a sampler; pytest collects a subclass whose name begins with ``Test``."""

    def make(self, space: SearchSpace, budgets: Sequence[float]) -> Sampler:
        """A new sampler for a space, at its default parameters."""
        raise NotImplementedError("define make(space, budgets), which returns a new sampler")

    @every_space
    def test_proposals_are_configurations_of_the_space(self, make_space: Callable[[], SearchSpace]) -> None:
        """Values and vector agree; nothing is out of range, inactive, forbidden or of weight zero."""
        space = make_space()
        sampler = self.make(space, BUDGETS)
        for index in range(40):
            proposal = proposed(sampler, index)
            # to_vectors refuses what is out of range, inactive or forbidden.
            assert np.array_equal(space.to_vectors([proposal.values])[0], array_of(proposal), equal_nan=True)
            assert proposal.values.get("act") != "p", "a choice of weight zero was proposed"
            assert (proposal.origin is Origin.MODEL) == (proposal.model_budget is not None)
            sampler.add(proposal.vector)
            sampler.observe(proposal.vector, BUDGETS[index % 3], None if index % 7 == 3 else math.sin(index))

    @every_space
    def test_a_proposed_vector_is_its_own_canonical_form(self, make_space: Callable[[], SearchSpace]) -> None:
        """Decoding and encoding a proposed vector gives the same bytes."""
        space = make_space()
        sampler = self.make(space, BUDGETS)
        for index in range(20):
            vector = array_of(proposed(sampler, index))
            assert space.complete(vector[np.newaxis]).tobytes() == vector[np.newaxis].tobytes()
            sampler.add(vector)
            sampler.observe(vector, 1.0, math.sin(index))

    @every_space
    def test_a_proposal_depends_only_on_the_generator_and_on_what_was_added_and_observed(
        self, make_space: Callable[[], SearchSpace]
    ) -> None:
        """Earlier proposals change nothing, so a restarted search proposes the same as an uninterrupted one."""
        space = make_space()
        asked, fresh = (self.make(space, BUDGETS) for _ in range(2))
        for index, vector in enumerate(space.sample(generator(1), 60)):
            for sampler in (asked, fresh):
                sampler.add(vector)
                sampler.observe(vector, BUDGETS[index % 3], None if index % 5 == 4 else math.cos(index))
            asked.propose(generator(index))
        for index in range(8):
            first = asked.propose(generator(100 + index))
            assert asked.propose(generator(100 + index)) == first
            assert fresh.propose(generator(100 + index)) == first

    @every_space
    def test_a_forgotten_bad_result_changes_nothing(self, make_space: Callable[[], SearchSpace]) -> None:
        """A sampler that forgot a bad result proposes the same as a sampler that never observed it."""
        space = make_space()
        forgetful, reference = (self.make(space, BUDGETS) for _ in range(2))
        for index, vector in enumerate(space.sample(generator(1), 60)):
            for sampler in (forgetful, reference):
                sampler.add(vector)
            budget = BUDGETS[index % 3]
            if index % 4 == 1:
                forgetful.observe(vector, budget, None)
                forgetful.propose(generator(index))
                forgetful.forget(vector, budget)
            for sampler in (forgetful, reference):
                sampler.observe(vector, budget, None if index % 5 == 4 else math.cos(index))
            assert forgetful.propose(generator(index)) == reference.propose(generator(index))

    def test_a_vector_is_an_array_or_the_tuple_of_a_proposal(self) -> None:
        """Both have the same effect, and the sampler keeps no reference to the caller's array."""
        space = conditional_space()
        samplers = [self.make(space, BUDGETS) for _ in range(2)]
        for vector in space.sample(generator(2), 20):
            as_tuple = tuple(None if math.isnan(u) else u for u in vector.tolist())
            for sampler, given in zip(samplers, (vector, as_tuple), strict=True):
                sampler.add(given)
                sampler.observe(given, 1.0, float(vector[0]))
            vector[:] = 0.0
        assert samplers[0].propose(generator(0)) == samplers[1].propose(generator(0))

    def test_a_small_space_is_proposed_once_and_then_exhausted(self) -> None:
        """The sampler proposes each configuration once, then ``None``."""
        space = small_space()
        everything = space.enumerate()
        assert everything is not None
        sampler, seen = self.make(space, BUDGETS), set()
        for index in range(len(everything)):
            proposal = proposed(sampler, index)
            seen.add(proposal.vector)
            sampler.add(proposal.vector)
            sampler.observe(proposal.vector, 1.0, float(index % 4))
        assert len(seen) == len(everything) == 12
        assert sampler.propose(generator(99)) is None

    def test_added_configurations_are_not_proposed(self) -> None:
        """Configurations from another source count too, also if their vector differs by a rounding error."""
        space = line(6)
        sampler = self.make(space, BUDGETS)
        for value in (1, 2, 4, 5, 6):
            # With the rounding error of another machine.
            sampler.add(space.to_vectors([{"n": value}])[0] * (1 + 1e-16 * value))
        assert proposed(sampler, 0).values == {"n": 3}

    def test_a_large_discrete_space_has_no_repeats(self) -> None:
        """The sampler proposes no configuration twice, although a few of them have nearly all of the weight."""
        sampler, seen = self.make(large_discrete_space(), BUDGETS), set()
        for index in range(150):
            proposal = proposed(sampler, index)
            seen.add(proposal.vector)
            sampler.add(proposal.vector)
            sampler.observe(proposal.vector, 1.0, float(sum(u != 0.5 for u in proposal.vector)))
        assert len(seen) == 150

    def test_a_space_of_constants_has_one_configuration(self) -> None:
        """The sampler accepts repeated results of the only configuration."""
        sampler = self.make(constants(), BUDGETS)
        proposal = proposed(sampler, 0)
        assert proposal.values == {"a": 1, "b": "x"}
        sampler.add(proposal.vector)
        for _ in range(9):
            sampler.observe(proposal.vector, 1.0, 0.5)
        assert sampler.propose(generator(1)) is None


class ForeseeingConformance(SamplerConformance):
    """The laws of a sampler with ``foresee`` (:class:`~hpbandster_lite.samplers.protocol.Foreseeing`)."""

    @every_space
    def test_foreseen_proposals_are_those_that_propose_gives(self, make_space: Callable[[], SearchSpace]) -> None:
        """Proposals drawn all at once are bit for bit the same as proposals drawn one by one."""
        sampler = self.make(make_space(), BUDGETS)
        assert isinstance(sampler, Foreseeing)
        keys = range(40)
        foreseen = sampler.foresee([generator(key) for key in keys])
        used = 0
        for key, proposal in zip(keys, foreseen, strict=True):
            asked = proposed(sampler, key)
            if proposal is not None and sampler.still_proposes(proposal):
                assert array_of(proposal).tobytes() == array_of(asked).tobytes()
                assert proposal == asked
                used += 1
            else:
                assert proposal != asked
            sampler.add(asked.vector)
        assert used > 20, f"only {used} of 40 foreseen proposals could be used"
