"""Conditions and forbidden clauses: plain trees compiled to functions of the feature matrix.

Law of this file: a clause evaluates all configurations at once. It reads features, never coordinates, so that floats
compare as decimal numbers. As in ConfigSpace, a missing (inactive) value satisfies ``!=`` and no other comparison.

A tree is a dict: ``{"op": "and" | "or", "of": [trees]}``, a comparison with values ``{"op": "==" | "!=" | "<" | "<=" |
">" | ">=" | "in", "name": ..., "values": [...]}``, or a relation ``{"op": ..., "name": ..., "other": ...}`` between the
values of two hyperparameters. A comparison of an ordinal uses its order, a relation its values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.records import Plain, Value
from hpbandster_lite.records.decorator import record
from hpbandster_lite.space.codec import Codec
from hpbandster_lite.space.dimension import Array, Dimension, Mask, hashable

Predicate: TypeAlias = Callable[[Array], Mask]
"""From features, shape (n, d), to truth, shape (n,)."""

_OPERATORS: Mapping[str, Callable[[Any, Any], Mask]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@record(frozen=True, slots=True)
class Clause:
    """A compiled tree.

    Parameters
    ----------
    holds
        For each configuration, whether the clause is true.
    columns
        The dimensions that it reads.
    text
        The clause as text, for error messages.
    """

    holds: Predicate
    columns: frozenset[int]
    text: str


def describe(tree: Plain) -> str:
    """The tree as text: ``depth > 2 and (kind == 'a' or kind == 'b')``."""
    op = tree["op"]
    if op in ("and", "or"):
        parts = [f"({describe(part)})" if part["op"] in ("and", "or") else describe(part) for part in tree["of"]]
        return f" {op} ".join(parts)
    if "other" in tree:
        return f"{tree['name']} {op} {tree['other']}"
    values = ", ".join(repr(hashable(value)) for value in tree["values"])
    return f"{tree['name']} in ({values})" if op == "in" else f"{tree['name']} {op} {values}"


class Compiler:
    """Compiles trees for one list of dimensions.

    Parameters
    ----------
    dimensions
        All dimensions of the space, in the order of its vectors.
    codec
        Their codec.
    """

    def __init__(self, dimensions: Sequence[Dimension], codec: Codec) -> None:
        self._dimensions = dimensions
        self._codec = codec
        self._column = {dim.name: j for j, dim in enumerate(dimensions)}

    def compile(self, tree: Plain) -> Clause:
        """Compile one tree.

        Raises
        ------
        SpaceError
            For a relation between values that have no order, such as a number and a string.
        """
        op = tree["op"]
        if op in ("and", "or"):
            parts = [self.compile(part) for part in tree["of"]]
            columns = frozenset().union(*(part.columns for part in parts))
            return Clause(_combined(op, [part.holds for part in parts]), columns, describe(tree))
        if "other" in tree:
            return self._relation(tree)
        return self._comparison(tree)

    def _comparison(self, tree: Plain) -> Clause:
        column = self._column[tree["name"]]
        bounds = self._features_of(column, tree["values"])
        if tree["op"] == "in":
            return Clause(lambda x: np.isin(x[:, column], bounds), frozenset({column}), describe(tree))
        compare, bound = _OPERATORS[tree["op"]], bounds[0]
        return Clause(lambda x: compare(x[:, column], bound), frozenset({column}), describe(tree))

    def _features_of(self, column: int, values: Sequence[Value]) -> Array:
        rows = np.full((len(values), len(self._dimensions)), np.nan)
        rows[:, column] = self._dimensions[column].features(values)
        return np.asarray(self._codec.canonical(rows)[:, column], dtype=np.float64)

    def _relation(self, tree: Plain) -> Clause:
        left, right = self._column[tree["name"]], self._column[tree["other"]]
        left_key, right_key = _comparable(self._dimensions[left], self._dimensions[right], tree)
        compare = _OPERATORS[tree["op"]]

        def holds(x: Array) -> Mask:
            return compare(left_key(x[:, left]), right_key(x[:, right]))

        return Clause(holds, frozenset({left, right}), describe(tree))


def _combined(op: str, parts: Sequence[Predicate]) -> Predicate:
    combine = np.logical_and if op == "and" else np.logical_or

    def holds(x: Array) -> Mask:
        truth = parts[0](x)
        for part in parts[1:]:
            truth = combine(truth, part(x))
        return truth

    return holds


def _comparable(
    left: Dimension, right: Dimension, tree: Plain
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """One function for each side, from features to numbers that compare like the values."""
    values = tuple(map(hashable, (*left.choices, *right.choices)))
    # A side without choices is a range of numbers.
    both_choose = bool(left.choices) and bool(right.choices)
    numbers: dict[Any, float]
    if both_choose and all(isinstance(value, str) for value in values):
        numbers = {value: float(rank) for rank, value in enumerate(sorted(set(map(str, values))))}
    elif all(isinstance(value, (bool, int, float)) for value in values):
        numbers = {value: float(value) for value in values if isinstance(value, (bool, int, float))}
    elif tree["op"] == "==":
        # Equal values share a number; a string against a range of numbers is NaN, which equals nothing.
        ranks = {value: float(rank) for rank, value in enumerate(dict.fromkeys(values))}
        numeric = {v: float(v) if isinstance(v, (bool, int, float)) else math.nan for v in values}
        numbers = ranks if both_choose else numeric
    else:
        raise SpaceError(
            f"the forbidden relation {describe(tree)} compares values without a common order "
            f"({', '.join(map(repr, values))}); use numbers or strings on both sides, or forbid single values"
        )
    return _key(left, numbers), _key(right, numbers)


def _key(dimension: Dimension, numbers: Mapping[Any, float]) -> Callable[[Array], Array]:
    if not dimension.choices:
        offset = 0.0 if dimension.kind == "float" else float(dimension.bounds[0])
        return lambda features: features + offset
    # A missing value points to the last entry, NaN.
    table = np.array([*(numbers[hashable(value)] for value in dimension.choices), math.nan])
    last = len(dimension.choices)
    return lambda features: table[np.where(np.isnan(features), last, features).astype(np.intp)]
