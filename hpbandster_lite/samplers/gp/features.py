"""Configurations as points of a Euclidean space, in which the covariance measures distances.

Law of this file: a pure function of the space and of vectors. A number (float, integer, ordinal) is its coordinate in
[0, 1]; a categorical is one column for each level, with the root of one half at its level, so that two unequal levels
are one unit apart. An inactive number is 0.5, an inactive categorical all zeros; a hyperparameter with a condition has
one more column, 0.7 if it is inactive. All columns of a hyperparameter share one length scale.
"""

from __future__ import annotations

import math

import numpy as np

from hpbandster_lite.samplers.kde.axes import Axes, Indices
from hpbandster_lite.space import Array

AT_LEVEL = math.sqrt(0.5)
INACTIVE_NUMBER = 0.5
WHERE_INACTIVE = 0.7


class Features:
    """The columns of a space.

    Parameters
    ----------
    axes
        The kernels of the space's columns; a hyperparameter with one value has none.

    Attributes
    ----------
    group : ndarray
        For each column, shape (columns,), the number of its length scale, from 0.
    groups : int
        Number of length scales: hyperparameters with more than one value.
    """

    def __init__(self, axes: Axes) -> None:
        self._numeric = np.concatenate([axes.smooth, axes.ordered])
        self._unordered, self._levels = axes.unordered, axes.unordered_levels
        varied = np.concatenate([self._numeric, self._unordered])
        self._conditional = varied[axes.conditional[varied]]
        place = {int(column): number for number, column in enumerate(varied)}
        unordered = zip(self._unordered, self._levels, strict=True)
        of_levels = [np.full(levels, place[int(column)]) for column, levels in unordered]
        of_conditions = [place[int(column)] for column in self._conditional]
        self.groups = len(varied)
        self.group: Indices = np.concatenate(
            [np.arange(len(self._numeric)), *of_levels, np.array(of_conditions, dtype=np.intp)]
        ).astype(np.intp)

    def __call__(self, vectors: Array) -> Array:
        """Features of vectors, shape (n, d) to (n, columns)."""
        numbers = vectors[:, self._numeric]
        parts = [np.where(np.isnan(numbers), INACTIVE_NUMBER, numbers)]
        for column, levels in zip(self._unordered, self._levels, strict=True):
            level = np.minimum(np.floor(vectors[:, column] * levels), levels - 1)
            parts.append((level[:, np.newaxis] == np.arange(levels)) * AT_LEVEL)
        parts.append(np.isnan(vectors[:, self._conditional]) * WHERE_INACTIVE)
        return np.concatenate(parts, axis=1)
