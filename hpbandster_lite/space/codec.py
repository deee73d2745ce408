"""Coordinates of the unit cube to features and back, for many configurations at once.

Law of this file: ``decode(encode(features)) == features`` for every feature that ``canonical`` or ``decode`` returns,
and NaN (inactive) stays NaN. The dimensions form four groups (linear floats, log floats, even buckets, log buckets).
One array expression converts each group, so the cost of one configuration hardly depends on d.

Coordinates
-----------
A float v has u = (v - lower) / (upper - lower), in logarithms if ``log``. A discrete value has the centre of its
bucket: (i + 0.5) / levels for even buckets, and for log integers the middle of [log(v - 0.5), log(v + 0.5)], scaled so
that the outer edges are 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpbandster_lite.space.dimension import Array, Dimension

# Powers of ten up to 10**22 are exact in binary64, so rint(v * 10**k) / 10**k is the double nearest to the decimal.
_EXACT_POWERS = np.array([float(f"1e{k}") for k in range(23)])
_DECADES = np.array([float(f"1e{k}") for k in range(-307, 309)])
_FIRST_DECADE = -307


def _decimals(lower: float, upper: float) -> int:
    """Number of decimals of a linear float: their unit is at least 2**-49 of the largest value, and at least 1e-22.

    Scaling to the unit interval and back has an error below 7 * 2**-53 of the largest value, less than half a unit.
    """
    return min(22, math.floor(-math.log10(max(abs(lower), abs(upper)) * 2.0**-49)))


def _digits(lower: float, upper: float) -> int:
    """Number of significant digits of a log float: 13, or fewer if large logarithms make exp(log(v)) less exact."""
    error = 2.0**-50 * (1 + max(abs(math.log(lower)), abs(math.log(upper))))
    return min(13, math.floor(-math.log10(2 * error)))


class Codec:
    """Converts between coordinates, shape (n, d) in [0, 1], and features, shape (n, d); NaN marks inactive.

    Parameters
    ----------
    dimensions
        All dimensions of the space, in the order of its vectors.
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        floats = [(j, dim) for j, dim in enumerate(dimensions) if not dim.is_discrete]
        discrete = [(j, dim) for j, dim in enumerate(dimensions) if dim.is_discrete]
        self._linear = _LinearFloats([(j, dim) for j, dim in floats if not dim.log])
        self._log = _LogFloats([(j, dim) for j, dim in floats if dim.log])
        self._even = _EvenBuckets([(j, dim) for j, dim in discrete if not dim.log])
        self._log_buckets = _LogBuckets([(j, dim) for j, dim in discrete if dim.log])
        groups = (self._linear, self._log, self._even, self._log_buckets)
        self._groups = [group for group in groups if group.columns.size]

    def decode(self, coordinates: Array) -> Array:
        """Features at the coordinates; coordinates outside [0, 1] count as the nearest bound."""
        features = np.empty_like(coordinates)
        for group in self._groups:
            features[:, group.columns] = group.decode(_between(coordinates[:, group.columns], 0.0, 1.0))
        return features

    def encode(self, features: Array) -> Array:
        """Coordinates of the features."""
        coordinates = np.empty_like(features)
        for group in self._groups:
            coordinates[:, group.columns] = group.encode(features[:, group.columns])
        return coordinates

    def canonical(self, features: Array) -> Array:
        """The features with floats rounded to their number of decimals or digits."""
        rounded = features.copy()
        for group in (self._linear, self._log):
            if group.columns.size:
                rounded[:, group.columns] = group.canonical(features[:, group.columns])
        return rounded


def _between(values: Array, lower: Array | float, upper: Array | float) -> Array:
    """A faster ``np.clip``, which for one configuration takes as long as all the rest together; NaN stays NaN."""
    bounded: Array = np.minimum(np.maximum(values, lower), upper)
    return bounded


class _Group:
    """Dimensions of one kind; ``columns`` are their indices among all dimensions."""

    def __init__(self, members: Sequence[tuple[int, Dimension]]) -> None:
        self.columns = np.array([j for j, _ in members], dtype=np.intp)
        bounds = [dim.bounds for _, dim in members]
        self.lower = np.array([float(lower) for lower, _ in bounds])
        self.upper = np.array([float(upper) for _, upper in bounds])


class _LinearFloats(_Group):
    def __init__(self, members: Sequence[tuple[int, Dimension]]) -> None:
        super().__init__(members)
        self.width = self.upper - self.lower
        decimals = np.array([_decimals(*dim.bounds) for _, dim in members], dtype=np.intp)
        # One of the two is 1, which is exact in a product and a quotient: units above and below 1 need no distinction.
        self.times = _EXACT_POWERS[np.maximum(decimals, 0)]
        self.over = np.array([float(f"1e{max(-d, 0)}") for d in decimals])

    def canonical(self, values: Array) -> Array:
        rounded = np.rint(values * self.times / self.over) * self.over / self.times
        # + 0.0 turns -0.0 into 0.0: equal values must have equal bytes.
        return _between(rounded, self.lower, self.upper) + 0.0

    def decode(self, u: Array) -> Array:
        # From the nearer bound, so that 0 and 1 give the bounds themselves.
        return self.canonical(np.where(u < 0.5, self.lower + u * self.width, self.upper - (1 - u) * self.width))

    def encode(self, values: Array) -> Array:
        u: Array = (values - self.lower) / self.width
        return u


class _LogFloats(_Group):
    def __init__(self, members: Sequence[tuple[int, Dimension]]) -> None:
        super().__init__(members)
        self.low = np.log(self.lower)
        self.width = np.log(self.upper) - self.low
        self.digits = np.array([_digits(*dim.bounds) for _, dim in members], dtype=np.intp)

    def canonical(self, values: Array) -> Array:
        decade = np.searchsorted(_DECADES, values, side="right") + (_FIRST_DECADE - 1)
        power = self.digits - 1 - decade
        exact = np.minimum(np.maximum(power, 0), _EXACT_POWERS.size - 1)
        scale = _EXACT_POWERS[exact]
        rounded = np.rint(values * scale) / scale
        beyond = (power != exact) & ~np.isnan(values)
        if beyond.any():
            # Powers above 10**22 are not exact. Python's rounding is exact but slow, and such values are rare.
            for row, column in np.argwhere(beyond):
                rounded[row, column] = float(f"{values[row, column]:.{self.digits[column] - 1}e}")
        return _between(rounded, self.lower, self.upper)

    def decode(self, u: Array) -> Array:
        inside = np.exp(self.low + u * self.width)
        # exp(log(bound)) misses the bound by a unit in the last place.
        return self.canonical(np.where(u == 0, self.lower, np.where(u == 1, self.upper, inside)))

    def encode(self, values: Array) -> Array:
        u = (np.log(values) - self.low) / self.width
        # The bounds by definition: two calls of one logarithm may differ in the last place.
        return np.where(values == self.lower, 0.0, np.where(values == self.upper, 1.0, u))


class _EvenBuckets(_Group):
    def __init__(self, members: Sequence[tuple[int, Dimension]]) -> None:
        super().__init__(members)
        self.levels = np.array([float(dim.levels or 0) for _, dim in members])

    def decode(self, u: Array) -> Array:
        indices: Array = np.minimum(np.floor(u * self.levels), self.levels - 1)
        return indices

    def encode(self, indices: Array) -> Array:
        u: Array = (indices + 0.5) / self.levels
        return u


class _LogBuckets(_Group):
    def __init__(self, members: Sequence[tuple[int, Dimension]]) -> None:
        super().__init__(members)
        self.low = np.array([dim.log_edges[0] for _, dim in members])
        self.width = np.array([dim.log_edges[1] for _, dim in members]) - self.low

    def decode(self, u: Array) -> Array:
        values = np.floor(np.exp(self.low + u * self.width) + 0.5)
        indices: Array = _between(values, self.lower, self.upper) - self.lower
        return indices

    def encode(self, indices: Array) -> Array:
        values = indices + self.lower
        middle = 0.5 * (np.log(values - 0.5) + np.log(values + 0.5))
        u: Array = (middle - self.low) / self.width
        return u
