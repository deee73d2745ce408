"""Keyed randomness: the same draws as with numpy's own keys, one key for each purpose."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.randomness import Purpose, generator_for, training_seed
from hpbandster_lite.records import ConfigId

seeds = st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**63 - 1]))
config_ids = st.builds(ConfigId, *[st.integers(0, 2**32 - 1)] * 3)


def numpys(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(purpose, *config_id))


@given(seed=seeds, config_id=config_ids, purpose=st.sampled_from(Purpose))
def test_a_generator_is_that_of_numpys_spawn_key(seed: int, config_id: ConfigId, purpose: Purpose) -> None:
    expected = np.random.default_rng(numpys(seed, purpose, config_id)).random(3)
    assert generator_for(seed, purpose, config_id).random(3).tolist() == expected.tolist()


@given(seed=seeds, config_id=config_ids)
def test_a_training_seed_is_31_bits_of_numpys_spawn_key(seed: int, config_id: ConfigId) -> None:
    word = int(numpys(seed, Purpose.TRAINING, config_id).generate_state(1, np.uint32)[0])
    assert training_seed(seed, config_id) == word >> 1
