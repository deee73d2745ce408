"""Configurations as the densities read them: which kernel each coordinate has, and the levels of the discrete ones.

Law of this file: tables and indices only, no kernel and no randomness. Everything that depends on the space and not on
the data is computed here once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hpbandster_lite.records.decorator import record
from hpbandster_lite.space import Array, Dimension, Mask, SearchSpace

Indices: TypeAlias = npt.NDArray[np.intp]

INACTIVE = -1
"""Level of an inactive discrete dimension."""
MOST_BUCKETS = 10_000
"""A linear integer with more values than this has the kernel of a float. At bandwidths of at least 1e-3, the density
times the width then differs from the mass of a bucket by at most 4e-4 (relative)."""
MOST_LOG_BUCKETS = 2**20
"""The same bound for log integers; it is higher because their buckets near the lower bound are wide."""
MOST_ROWS = 256
"""A discrete dimension with more levels than this has table rows only for the levels in the data."""
MOST_JOINT_ROWS = 128
"""Small discrete dimensions share a table of at most this many rows, one for each combination of levels."""


@record(frozen=True, slots=True)
class Points:
    """Configurations as the densities read them.

    Parameters
    ----------
    vectors
        Coordinates, shape (n, width), NaN for inactive dimensions.
    levels
        Levels of the discrete dimensions, shape (n, j), in the order of :attr:`Axes.discrete`; ``INACTIVE`` for NaN.
    """

    vectors: Array
    levels: Indices

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: Indices) -> Points:
        """The points of these rows."""
        return Points(self.vectors[rows], self.levels[rows])


@record(frozen=True, slots=True)
class Rows:
    """The rows of the table: for each discrete dimension a block with ``INACTIVE`` first, then levels in their order.

    Parameters
    ----------
    levels
        The levels of each dimension without ``INACTIVE``, ``j`` arrays.
    axis, level
        For each row, shape (r,): the dimension, an index into :attr:`Axes.discrete`, and its level.
    first
        First row of each block and the number of all rows, shape (j + 1,).
    """

    levels: Sequence[Indices]
    axis: Indices
    level: Indices
    first: Indices

    @classmethod
    def of(cls, levels: Sequence[Indices]) -> Rows:
        """Rows of these levels, one array per dimension."""
        blocks = [np.append(INACTIVE, kept) for kept in levels]
        first = np.cumsum([0, *map(len, blocks)], dtype=np.intp)
        level = np.concatenate(blocks).astype(np.intp) if blocks else np.empty(0, dtype=np.intp)
        return cls(levels, np.repeat(np.arange(len(levels)), np.diff(first)), level, first)

    @classmethod
    def present(cls, axes: Axes, data: Points) -> Rows:
        """The rows of ``axes.short_rows``; for dimensions without rows there, the levels in the data."""
        kept = list(axes.short_rows.levels)
        for axis in axes.long:
            level = data.levels[:, axis]
            kept[axis] = np.unique(level[level != INACTIVE])
        return cls.of(kept)


@record(frozen=True, kw_only=True)
class Axes:
    """Which kernel each coordinate of a vector has. The coordinates of constants are in no list and have no kernel.

    Parameters
    ----------
    width
        Number of coordinates of a vector.
    smooth
        Columns with the Gaussian kernel, shape (s,).
    even, even_levels
        Columns with the kernel on buckets of equal width, and their numbers of buckets; both of shape (e,).
    uneven, uneven_edges
        Columns with the kernel on other buckets, shape (v,), and their edges, ``v`` arrays of shape (levels + 1,),
        increasing from 0 to 1.
    unordered, unordered_levels
        Columns with the Aitchison-Aitken kernel, and their numbers of levels in the space, at least 2; both of shape
        (u,). Level ``i`` of ``k`` has the coordinate (i + 0.5) / k, as for even buckets.
    conditional
        Whether a coordinate may be inactive (NaN), shape (width,).
    """

    width: int
    smooth: Indices
    even: Indices
    even_levels: Indices
    uneven: Indices
    uneven_edges: Sequence[Array]
    unordered: Indices
    unordered_levels: Indices
    conditional: Mask

    @cached_property
    def ordered(self) -> Indices:
        """Even columns, then uneven ones, shape (o,)."""
        return np.concatenate([self.even, self.uneven])

    @cached_property
    def discrete(self) -> Indices:
        """Ordered columns, then unordered ones, shape (j,)."""
        return np.concatenate([self.ordered, self.unordered])

    @cached_property
    def levels(self) -> Indices:
        """Number of levels of each discrete column, shape (j,)."""
        uneven = np.array([len(edges) - 1 for edges in self.uneven_edges], dtype=np.intp)
        return np.concatenate([self.even_levels, uneven, self.unordered_levels])

    @cached_property
    def d(self) -> int:
        """Number of dimensions that have a kernel."""
        return len(self.smooth) + len(self.discrete)

    @cached_property
    def has_conditions(self) -> bool:
        """Whether any dimension may be inactive."""
        return bool(self.conditional.any())

    @cached_property
    def groups(self) -> tuple[slice, ...]:
        """Runs of discrete columns that share a table: as many as fit into ``MOST_JOINT_ROWS``."""
        starts, size = [], math.inf
        for axis, count in enumerate(self.levels.tolist()):
            size *= count + 1
            if size > MOST_JOINT_ROWS:
                starts.append(axis)
                size = count + 1
        return tuple(slice(start, end) for start, end in pairwise([*starts, len(self.levels)]))

    @cached_property
    def short_rows(self) -> Rows:
        """A row for each level of each discrete column that has at most ``MOST_ROWS`` levels."""
        return Rows.of([np.arange(count if count <= MOST_ROWS else 0) for count in self.levels])

    @cached_property
    def long(self) -> Indices:
        """Discrete columns with more levels than ``MOST_ROWS``."""
        return np.flatnonzero(self.levels > MOST_ROWS)

    @cached_property
    def _flat_edges(self) -> tuple[Indices, Array]:
        edges = [np.arange(count + 1) / count for count in self.even_levels] + list(self.uneven_edges)
        first = np.cumsum([0, *(len(part) for part in edges)], dtype=np.intp)[:-1]
        return first, np.concatenate(edges) if edges else np.empty(0)

    def bucket(self, axis: Indices, level: Indices) -> tuple[Array, Array]:
        """Lower and upper edge of buckets; ``axis`` is an index into :attr:`ordered`; the shapes broadcast.

        An inactive level has the edges of level 0.
        """
        first, edges = self._flat_edges
        place = first[axis] + np.maximum(level, 0)
        return edges[place], edges[place + 1]

    def points(self, vectors: Array) -> Points:
        """The points of vectors, shape (n, width)."""
        u = vectors[:, self.discrete]
        level = np.minimum(np.floor(u * self.levels), self.levels - 1)
        for axis, edges in enumerate(self.uneven_edges, start=len(self.even)):
            level[:, axis] = np.searchsorted(edges, u[:, axis], side="right") - 1
        return Points(vectors, np.where(np.isnan(u), INACTIVE, level).astype(np.intp))


def axes_of(space: SearchSpace) -> Axes:
    """The kernel of each hyperparameter; a hyperparameter with a single value has none."""
    columns: dict[str, list[int]] = {"smooth": [], "even": [], "uneven": [], "unordered": [], "none": []}
    for column, dim in enumerate(space.dimensions):
        columns[_kernel(dim)].append(column)
    levels = np.array([dim.levels or 0 for dim in space.dimensions], dtype=np.intp)
    group = {kernel: np.array(members, dtype=np.intp) for kernel, members in columns.items()}
    has_condition = space.to_json()["conditions"]
    return Axes(
        width=space.d,
        smooth=group["smooth"],
        even=group["even"],
        even_levels=levels[group["even"]],
        uneven=group["uneven"],
        uneven_edges=[space.dimensions[column].edges for column in columns["uneven"]],
        unordered=group["unordered"],
        unordered_levels=levels[group["unordered"]],
        conditional=np.array([name in has_condition for name in space.names], dtype=np.bool_),
    )


def _kernel(dim: Dimension) -> str:
    if dim.levels == 1:
        return "none"
    if dim.kind == "categorical":
        return "unordered"
    if dim.levels is None or dim.levels > (MOST_LOG_BUCKETS if dim.log else MOST_BUCKETS):
        return "smooth"
    return "uneven" if dim.log else "even"
