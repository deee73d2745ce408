"""Keyed randomness: one independent generator per purpose and configuration.

Law of this file: a draw depends on the seed, the purpose and the config id, and on nothing that was drawn before,
so that a restarted search draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import functools
from enum import IntEnum

import numpy as np

from hpbandster_lite.records import ConfigId

POOL_SIZE = 4
"""32-bit numbers in numpy's pool of entropy."""


class Purpose(IntEnum):
    """The uses of randomness in a search; the numbers are stored in no journal but fix every draw: never renumber."""

    PROPOSAL = 1
    TRAINING = 2


def _sequence(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.SeedSequence:
    """``SeedSequence(seed, spawn_key=(purpose, *config_id))``, in a third of its time.

    numpy makes the same 32-bit numbers of a seed and a spawn key: those of the seed, filled up to the size of the pool,
    then those of the key. So a seed never equals another seed with a key (``SeedSequence([1])`` equals
    ``SeedSequence([1, 0])``).
    """
    return np.random.SeedSequence(np.array([*_uint32s(seed), purpose, *config_id], dtype=np.uint32))


@functools.lru_cache(maxsize=16)
def _uint32s(seed: int) -> tuple[int, ...]:
    """The 32-bit numbers of a seed, lowest first, at least as many as numpy's pool has."""
    numbers = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(1, seed.bit_length()), 32)]
    return (*numbers, *(0,) * (POOL_SIZE - len(numbers)))


def generator_for(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.Generator:
    """Generator of one purpose of one configuration; the same after any restart."""
    return np.random.default_rng(_sequence(seed, purpose, config_id))


@functools.lru_cache(maxsize=65_536)
def training_seed(seed: int, config_id: ConfigId) -> int:
    """Seed handed to the objective, in [0, 2**31); the same at every rung of the configuration."""
    return int(_sequence(seed, Purpose.TRAINING, config_id).generate_state(1, np.uint32)[0] >> 1)
