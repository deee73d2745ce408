"""Keyed randomness: one independent generator per purpose and configuration.

Law of this file: a draw depends on the seed, the purpose and the config id, and not on earlier draws. So a restarted
search draws the same numbers as an uninterrupted one. Only a draw imports numpy: a launcher never draws.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import TYPE_CHECKING

from hpbandster_lite.records import ConfigId

if TYPE_CHECKING:
    import numpy as np

POOL_SIZE = 4
"""Number of 32-bit words in numpy's pool of entropy."""


class Purpose(IntEnum):
    """The uses of randomness in a search; every draw depends on these numbers, so never change them."""

    PROPOSAL = 1
    TRAINING = 2
    INITIAL = 3


def _sequence(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.SeedSequence:
    """``SeedSequence(seed, spawn_key=(purpose, *config_id))``, in a third of the time.

    This builds the words that numpy builds from a seed and a spawn key: the words of the seed, padded with zeros to the
    size of the pool, then the words of the key. The padding keeps a seed with a key apart from a longer seed:
    ``SeedSequence([1])`` equals ``SeedSequence([1, 0])``.
    """
    import numpy as np

    return np.random.SeedSequence(np.array([*_uint32s(seed), purpose, *config_id], dtype=np.uint32))


@functools.lru_cache(maxsize=16)
def _uint32s(seed: int) -> tuple[int, ...]:
    """The 32-bit words of a seed, lowest first, padded with zeros to ``POOL_SIZE``."""
    numbers = [seed >> shift & 0xFFFFFFFF for shift in range(0, max(1, seed.bit_length()), 32)]
    return (*numbers, *(0,) * (POOL_SIZE - len(numbers)))


def generator_for(seed: int, purpose: Purpose, config_id: ConfigId) -> np.random.Generator:
    """Random generator for one purpose and one configuration; the same after any restart."""
    import numpy as np

    return np.random.default_rng(_sequence(seed, purpose, config_id))


@functools.lru_cache(maxsize=65_536)
def training_seed(seed: int, config_id: ConfigId) -> int:
    """``trial.seed`` of a configuration, in [0, 2**31); the same at every rung."""
    return int(_sequence(seed, Purpose.TRAINING, config_id).generate_state(1)[0] >> 1)
