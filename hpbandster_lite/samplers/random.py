"""Random search, and a draw of configurations that were not sampled before, for every sampler.

Law of this file: no configuration is proposed twice while the space has another one. A proposal is a pure function of
the generator and of the sequence of added configurations. The canonical vector identifies a configuration: the space
decodes and encodes the given vector, which removes the rounding errors of other machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.records import Origin, Proposal, Values
from hpbandster_lite.samplers.protocol import Vector
from hpbandster_lite.space import Array, Mask, SearchSpace

MOST_TRIES = 10_000
"""A space that is too large to list counts as exhausted after this many draws in a row of sampled configurations
(0.1 s). If a thousandth of the space is left, this happens wrongly with probability 5e-5."""
TRIES_BEFORE_LISTING = 64
"""After this many draws in a row of sampled configurations, a small space is listed and one of those left is chosen."""
LARGEST_BATCH = 1024

Key: TypeAlias = tuple[float | None, ...]
"""A canonical vector as records store it: ``None`` marks an inactive dimension."""


class Unseen:
    """Keeps the sampled configurations of a space, and draws others.

    Parameters
    ----------
    space
        The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._seen: set[Key] = set()
        self._unread: list[Array] = []
        self._proposed: Key | None = None
        self._listed = False
        self._left: dict[Key, Array] | None = None
        self._has_forbidden = bool(space.to_json()["forbidden"])
        weighted = [(column, dim.weights) for column, dim in enumerate(space.dimensions) if dim.weights is not None]
        self._barred = [(column, np.array(weights) == 0) for column, weights in weighted if 0 in weights]

    def add(self, vector: Vector) -> None:
        """Add a sampled configuration."""
        if type(vector) is tuple and vector == self._proposed:
            # A search nearly always adds the last proposal, and its vector is canonical already.
            self._see(vector)
        else:
            # A replay adds a whole search before the first proposal: one call of the space converts all of them.
            self._unread.append(as_vector(vector, self.space.d))

    def _see(self, key: Key) -> None:
        self._seen.add(key)
        if self._left is not None:
            self._left.pop(key, None)

    def _read(self) -> None:
        if self._unread:
            for key in self._keys(self.space.complete(np.array(self._unread))):
                self._see(key)
            self._unread = []

    def are_new(self, vectors: Array) -> Mask:
        """Which canonical vectors were not sampled; shape (n,)."""
        self._read()
        return np.array([key not in self._seen for key in self._keys(vectors)], dtype=np.bool_)

    def may_propose(self, vectors: Array) -> Mask:
        """Which canonical vectors are new, not forbidden, and without a choice of weight zero; shape (n,)."""
        allowed = self.are_new(vectors)
        if self._has_forbidden:
            allowed &= self.space.allowed(vectors)
        for column, barred in self._barred:
            level = np.floor(np.nan_to_num(vectors[:, column]) * len(barred)).astype(np.intp)
            allowed &= np.isnan(vectors[:, column]) | ~barred[level]
        return allowed

    def draw(self, rng: np.random.Generator) -> Proposal | None:
        """A random configuration that was not sampled; ``None`` if the space is exhausted.

        Draws follow :meth:`SearchSpace.sample`. After ``TRIES_BEFORE_LISTING`` draws in a row of sampled
        configurations, a small space (one that :meth:`SearchSpace.enumerate` lists) gives one of those left, each with
        the same probability. A space with floats is never exhausted: after ``MOST_TRIES`` such draws it repeats the
        last one.
        """
        vector, values = self.space.sample_one(rng)
        if self.are_new(vector[np.newaxis]).all():
            return self._recorded(vector, values, None)
        tries, size = 1, 2
        while True:
            drawn = self.space.sample(rng, size)
            new = self.are_new(drawn)
            if new.any():
                return self.proposal(drawn[int(new.argmax())])
            tries, size = tries + size, min(2 * size, LARGEST_BATCH)
            if tries >= TRIES_BEFORE_LISTING and (left := self.some_left(rng, 1)) is not None:
                return self.proposal(left[0]) if len(left) else None
            if tries >= MOST_TRIES:
                return self.proposal(drawn[-1]) if np.isinf(self.space.size()) else None

    def some_left(self, rng: np.random.Generator, most: int) -> Array | None:
        """Up to ``most`` different configurations of a small space that were not sampled, shape (m, d).

        ``None`` if the space is too large to list.
        """
        self._read()
        if not self._listed:
            self._listed = True
            listed = self.space.enumerate()
            if listed is not None:
                keyed = zip(self._keys(listed), listed, strict=True)
                self._left = {key: vector for key, vector in keyed if key not in self._seen}
        if self._left is None:
            return None
        left = list(self._left.values())
        chosen = rng.choice(len(left), size=min(most, len(left)), replace=False)
        return np.array([left[i] for i in chosen]).reshape(len(chosen), self.space.d)

    def proposal(self, vector: Array, model_budget: float | None = None) -> Proposal:
        """The record of a canonical vector; ``model_budget`` is ``None`` for a random configuration."""
        return self._recorded(vector, self.space.to_values(vector[np.newaxis])[0], model_budget)

    def draw_each(self, rngs: Sequence[np.random.Generator]) -> list[Proposal | None]:
        """The first draw of each generator, which may have been sampled before; ``None`` if it is forbidden."""
        drawn = self.space.sample_each(rngs)
        return [None if draw is None else self._recorded(*draw, None) for draw in drawn]

    def expects(self, proposal: Proposal) -> bool:
        """Whether this configuration was not sampled yet; if so, the caller adds it next."""
        self._read()
        self._proposed = proposal.vector
        return proposal.vector not in self._seen

    def _recorded(self, vector: Array, values: Values, model_budget: float | None) -> Proposal:
        (self._proposed,) = self._keys(vector[np.newaxis])
        return Proposal(
            values=values,
            vector=self._proposed,
            origin=Origin.RANDOM if model_budget is None else Origin.MODEL,
            model_budget=model_budget,
        )

    @staticmethod
    def _keys(vectors: Array) -> list[Key]:
        rows = vectors.tolist()
        if np.isnan(vectors).any():
            return [tuple([None if u != u else u for u in row]) for row in rows]
        return list(map(tuple, rows))


def as_vector(vector: Vector, d: int) -> Array:
    """A copy of the vector as an array, ``None`` as NaN; shape (d,)."""
    array = np.array(vector, dtype=np.float64)
    if array.shape != (d,):
        raise InvariantBroken(f"a vector of this space has shape ({d},), got {array.shape}: {vector!r}")
    return array


class Random:
    """Random search: it draws every proposal from the space and ignores results.

    Parameters
    ----------
    space
        The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._unseen = Unseen(space)

    def add(self, vector: Vector) -> None:
        """Add a sampled configuration, which is not proposed again."""
        self._unseen.add(vector)

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """Do nothing: random search ignores results."""

    def forget(self, vector: Vector, budget: float) -> None:
        """Do nothing: random search ignores results."""

    def propose(self, rng: np.random.Generator) -> Proposal | None:
        """A random configuration; ``None`` if the space is exhausted."""
        return self._unseen.draw(rng)

    def foresee(self, rngs: Sequence[np.random.Generator]) -> list[Proposal | None]:
        """The first draw of each generator; all together take little longer than one."""
        return self._unseen.draw_each(rngs)

    def still_proposes(self, foreseen: Proposal) -> bool:
        """Whether the configuration is still not sampled."""
        return self._unseen.expects(foreseen)
