"""One hyperparameter as a plain table: its kind, its values, and how a user's value becomes a feature.

Law of this file: a *feature* is the number that represents a value in arrays: the value itself for a float, the index
of the value (0 ... levels-1) for the other kinds. A float is a decimal number: it is rounded to the decimals (linear)
or significant digits (log) that survive the conversion to the unit cube and back, so value -> vector -> value is exact
and 0.1 stays 0.1. No randomness, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hpbandster_lite.errors import InvariantBroken, SpaceError
from hpbandster_lite.records import Plain, Value
from hpbandster_lite.records.decorator import record

Array: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]
Kind: TypeAlias = Literal["float", "integer", "ordinal", "categorical", "constant"]

MOST_LEVELS = 2**50
"""Most values of a linear integer range: in a larger one, neighbours have the same (i + 0.5) / levels."""
LARGEST_LOG_INTEGER = 2**40
"""Largest log integer: above it, log(i - 0.5) and log(i + 0.5) are equal."""
MOST_EDGES = 2**20
"""Most buckets in the array of ``Dimension.edges``; ``Dimension.bucket`` has no such bound."""


@record(frozen=True, slots=True, kw_only=True)
class Prior:
    """A distribution on the unit coordinate that random sampling follows instead of the uniform one.

    Parameters
    ----------
    kind
        ``normal``: mean ``first`` and standard deviation ``second``, truncated to [0, 1];
        ``beta``: shape parameters ``first`` (alpha) and ``second`` (beta).
    first, second
        The parameters, in units of the coordinate.
    """

    kind: Literal["normal", "beta"]
    first: float
    second: float

    def quantile(self, u: Array) -> Array:
        """Quantile function: the coordinates at the probabilities ``u``, both in [0, 1]; any shape."""
        # Imported here: scipy.special takes 0.1 s to import, and only spaces with a prior need it.
        from scipy import special

        if self.kind == "beta":
            return np.asarray(special.betaincinv(self.first, self.second, u), dtype=np.float64)
        # The tail nearer to zero keeps its digits: ndtr(-9) is 1e-19, ndtr(9) rounds to 1.
        flip = self.first < 0
        mean, u = (1 - self.first, 1 - u) if flip else (self.first, u)
        below, inside = special.ndtr(-mean / self.second), special.ndtr((1 - mean) / self.second)
        x = np.clip(mean + self.second * special.ndtri(below + u * (inside - below)), 0.0, 1.0)
        return np.asarray(1 - x if flip else x, dtype=np.float64)


def hashable(value: Any) -> Any:
    """A value as a key: a tuple of the user's space is a list in JSON, and equals it."""
    return tuple(map(hashable, value)) if isinstance(value, (list, tuple)) else value


def as_stored(value: Any) -> Any:
    """A value as the journal has it: a list for a tuple."""
    return list(map(as_stored, value)) if isinstance(value, (list, tuple)) else value


@record(frozen=True, kw_only=True)
class Dimension:
    """One hyperparameter of a space.

    Parameters
    ----------
    name
        Name of the hyperparameter.
    kind
        ``float``, ``integer``, ``ordinal``, ``categorical`` or ``constant``.
    default
        The value of the default configuration.
    lower, upper
        Bounds of a float or an integer, both included; ``None`` for the other kinds.
    log
        Whether the coordinate is linear in the logarithm of the value.
    choices
        The values of an ordinal (in order), a categorical or a constant (one); empty for the other kinds.
    weights
        Probabilities of the choices of a categorical, which sum to one; ``None`` means equal probabilities. A choice of
        weight zero is valid, but is never sampled or enumerated.
    prior
        Distribution of the coordinate in random samples; ``None`` means uniform.
    """

    name: str
    kind: Kind
    default: Value
    lower: float | int | None = None
    upper: float | int | None = None
    log: bool = False
    choices: tuple[Value, ...] = ()
    weights: tuple[float, ...] | None = None
    prior: Prior | None = None

    @property
    def is_discrete(self) -> bool:
        """Whether it has finitely many values."""
        return self.kind != "float"

    @cached_property
    def bounds(self) -> tuple[float | int, float | int]:
        """Lower and upper bound of a float or an integer; 0 and ``levels`` - 1 for the other kinds."""
        if self.lower is None or self.upper is None:
            return 0, len(self.choices) - 1
        return self.lower, self.upper

    @cached_property
    def levels(self) -> int | None:
        """Number of values; ``None`` for a float."""
        if self.kind == "float":
            return None
        lower, upper = self.bounds
        return int(upper) - int(lower) + 1

    @cached_property
    def proposable(self) -> Array:
        """Indices of the values that may be sampled (all but the choices of weight zero), shape (k,)."""
        if self.levels is None:
            raise InvariantBroken(f"{self.name!r} is a float and has no list of values")
        if self.weights is None:
            return np.arange(self.levels, dtype=np.float64)
        return np.flatnonzero(self.weights).astype(np.float64)

    @cached_property
    def proposable_levels(self) -> float:
        """How many values may be sampled; infinite for a float."""
        if self.levels is None:
            return math.inf
        return float(self.levels if self.weights is None else np.count_nonzero(self.weights))

    @cached_property
    def edges(self) -> Array:
        """Edges of the buckets of a discrete dimension on the unit interval, increasing from 0 to 1.

        Returns
        -------
        Array
            Shape (levels + 1,); bucket ``i`` reaches from ``edges[i]`` to ``edges[i + 1]``.

        Raises
        ------
        InvariantBroken
            For a float, and for more than ``MOST_EDGES`` levels; :meth:`bucket` gives single buckets.
        """
        if self.levels is None or self.levels > MOST_EDGES:
            raise InvariantBroken(f"{self.name!r} has no array of edges: kind={self.kind}, levels={self.levels}")
        return self._edge(np.arange(self.levels + 1, dtype=np.float64))

    def bucket(self, coordinates: Array) -> tuple[Array, Array]:
        """Lower and upper edge of the bucket of each coordinate of a discrete dimension, each in the same shape.

        NaN coordinates have NaN edges.
        """
        index = self.index(coordinates)
        return self._edge(index), self._edge(index + 1)

    def index(self, coordinates: Array) -> Array:
        """Index of the bucket of each coordinate, as floats from 0 to levels - 1; NaN stays NaN."""
        if self.levels is None:
            raise InvariantBroken(f"{self.name!r} is a float and has no buckets")
        u = np.clip(coordinates, 0.0, 1.0)
        if not self.log:
            return np.minimum(np.floor(u * self.levels), self.levels - 1)
        low, high = self.log_edges
        value = np.floor(np.exp(low + u * (high - low)) + 0.5)
        return np.clip(value - self.bounds[0], 0, self.levels - 1)

    @cached_property
    def log_edges(self) -> tuple[float, float]:
        """Logarithms of the outer edges of a log integer, which lie half a unit outside its bounds."""
        lower, upper = self.bounds
        return math.log(lower - 0.5), math.log(upper + 0.5)

    def _edge(self, number: Array) -> Array:
        if self.levels is None:
            raise InvariantBroken(f"{self.name!r} is a float and has no buckets")
        if not self.log:
            return np.asarray(number / self.levels, dtype=np.float64)
        low, high = self.log_edges
        scaled = (np.log(number + (self.bounds[0] - 0.5)) - low) / (high - low)
        # The outer edges are exact by definition; the logarithm misses them by one unit in the last place.
        return np.where(number <= 0, 0.0, np.where(number >= self.levels, 1.0, scaled))

    # ------------------------------------------------------------------------------- values of users

    def features(self, values: Sequence[Any]) -> Array:
        """Features of a user's values, one per configuration, shape (n,).

        Floats are not rounded yet: :class:`~hpbandster_lite.space.codec.Codec` does that.

        Raises
        ------
        SpaceError
            For a value of another type or outside the range.
        """
        if self.choices:
            return np.array([self._choice(value) for value in values], dtype=np.float64)
        lower, upper = self.bounds
        # numpy converts Python's numbers at once. The loop handles numpy's types, big integers and mistakes, and is
        # faster for a few values.
        if len(values) > 8 and set(map(type, values)) <= {float, int} and max(abs(lower), abs(upper)) < 2**53:
            numbers = np.array(values, dtype=np.float64)
            if np.all((numbers >= lower) & (numbers <= upper)):
                if self.kind == "float":
                    return numbers
                if np.array_equal(numbers, np.floor(numbers)):
                    return numbers - lower
        return np.array([self._number(value) for value in values], dtype=np.float64)

    def _choice(self, value: Any) -> float:
        try:
            return self._position[hashable(value)]
        except (KeyError, TypeError):
            listed = ", ".join(repr(hashable(choice)) for choice in self.choices)
            raise SpaceError(f"{self.name}={value!r} is not one of its values; choose from {listed}") from None

    @cached_property
    def _position(self) -> dict[Any, float]:
        return {hashable(choice): float(i) for i, choice in enumerate(self.choices)}

    def _number(self, value: Any) -> float:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            remedy = f"{self._wanted}, or leave it out" if value is None else self._wanted
            raise SpaceError(f"{self.name}={value!r} is a {type(value).__name__}; give {remedy}")
        lower, upper = self.bounds
        if self.kind == "float":
            # A value that exceeds a bound by a rounding error counts as the bound.
            if not lower - 1e-13 * abs(lower) <= value <= upper + 1e-13 * abs(upper):
                raise SpaceError(f"{self.name}={value!r} is out of range; give {self._wanted}")
            return min(max(float(value), float(lower)), float(upper))
        if not lower <= value <= upper or value != int(value):
            raise SpaceError(f"{self.name}={value!r} is out of range; give {self._wanted}")
        return float(int(value) - int(lower))

    @property
    def _wanted(self) -> str:
        lower, upper = self.bounds
        return f"{'a number' if self.kind == 'float' else 'a whole number'} from {lower!r} to {upper!r}"

    def value(self, feature: float) -> Value:
        """The plain Python value of a feature."""
        if self.choices:
            return self.choices[int(feature)]
        return feature if self.kind == "float" else int(self.bounds[0]) + int(feature)

    # ---------------------------------------------------------------------------------- plain tables

    def to_plain(self) -> Plain:
        """The table as plain values."""
        prior = self.prior and {"kind": self.prior.kind, "first": self.prior.first, "second": self.prior.second}
        return {
            "name": self.name,
            "kind": self.kind,
            "default": self.default,
            "lower": self.lower,
            "upper": self.upper,
            "log": self.log,
            "choices": list(self.choices),
            "weights": None if self.weights is None else list(self.weights),
            "prior": prior,
        }

    @classmethod
    def from_plain(cls, table: Plain) -> Dimension:
        """The dimension that :meth:`to_plain` described."""
        weights, prior = table["weights"], table["prior"]
        return cls(
            name=table["name"],
            kind=table["kind"],
            default=as_stored(table["default"]),
            lower=table["lower"],
            upper=table["upper"],
            log=table["log"],
            choices=tuple(map(as_stored, table["choices"])),
            weights=None if weights is None else tuple(weights),
            prior=None if prior is None else Prior(**prior),
        )
