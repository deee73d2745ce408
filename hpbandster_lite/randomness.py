"""Keyed randomness: one independent generator per purpose and configuration.

Law of this file: a draw depends on the seed, the purpose and the config id, and on nothing that was drawn before,
so that a restarted search draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from hpbandster_lite.records import ConfigId


class Purpose(IntEnum):
    """The uses of randomness in a search; the numbers are stored in no journal but fix every draw: never renumber."""

    PROPOSAL = 1
    TRAINING = 2


def _sequence(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.SeedSequence:
    # spawn_key, not a list of integers: SeedSequence([1]) equals SeedSequence([1, 0]).
    return np.random.SeedSequence(seed, spawn_key=(int(purpose), *config_id))


def generator_for(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.Generator:
    """Generator of one purpose of one configuration; the same after any restart."""
    return np.random.default_rng(_sequence(seed, purpose, config_id))


def training_seed(seed: int, config_id: ConfigId) -> int:
    """Seed handed to the objective, in [0, 2**31); the same at every rung of the configuration."""
    return int(_sequence(seed, Purpose.TRAINING, config_id).generate_state(1, np.uint32)[0] >> 1)
