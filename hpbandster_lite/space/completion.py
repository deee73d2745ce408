"""Configurations as users give them: rows of our tables, cells of a CSV file, and some values left out.

Law of this file: a value that is given stays as it is, to the last bit. A hyperparameter that is left out and active
gets its value in the default configuration, or a sampled one if it is inactive there. If the space refuses the result,
all left-out values are sampled, until the space accepts the configuration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import field
from typing import Any

import numpy as np

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.records import Value, Values, with_tuples
from hpbandster_lite.records.decorator import record
from hpbandster_lite.space.dimension import Dimension, hashable
from hpbandster_lite.space.search_space import SearchSpace

COLUMN = "config."
"""Begins the name of a hyperparameter's column in our tables, whose other columns describe the configuration."""
MOST_TRIES = 200
"""Draws for the values that were left out, before the space's first refusal is reported."""


class Cell(str):
    """A cell of a CSV file: a text whose type follows from its hyperparameter."""

    __slots__ = ()


@record(frozen=True, slots=True)
class Completed:
    """A whole configuration, and the parts of it that were left out: by the default configuration, and sampled."""

    values: dict[str, Value]
    by_default: dict[str, Value] = field(default_factory=dict)
    sampled: dict[str, Value] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What was added, for users; empty if nothing was. Constants count as given."""
        parts = [
            f"{', '.join(f'{name}={shown(value)}' for name, value in added.items())} {how}"
            for added, how in ((self.by_default, "as in the default configuration"), (self.sampled, "sampled"))
            if added
        ]
        return "; ".join(parts)


def shown(value: Value) -> str:
    """A value as Python shows it; a list in the journal is a tuple of the user's space."""
    return repr(with_tuples(value))


def completed(
    space: SearchSpace, configurations: Sequence[Mapping[Any, Any]], rng_of: Callable[[int], np.random.Generator]
) -> list[Completed]:
    """The configurations of a user, complete and checked.

    Parameters
    ----------
    space
        The space of the search.
    configurations
        A mapping for each: from hyperparameters to values, or a row of a table of ours.
    rng_of
        Makes the random generator of a configuration, by its number from 0.

    Raises
    ------
    SpaceError
        As :meth:`SearchSpace.to_vectors`, except for what is missing.
    """
    prefixes = [f"configuration {number}: " if len(configurations) > 1 else "" for number in range(len(configurations))]
    return [
        _completed(space, row, rng_of(number), prefix)
        for number, (row, prefix) in enumerate(zip(configurations, prefixes, strict=True))
    ]


def _completed(space: SearchSpace, row: Mapping[Any, Any], rng: np.random.Generator, prefix: str) -> Completed:
    try:
        found, nones = hyperparameters_of(space, row)
        (given,) = space.as_given([found])
    except SpaceError as error:
        raise SpaceError(f"{prefix}{error}") from None
    first = _filled(space, given, nones, space.default_values(), space.drawn(rng))
    refusal = space.complaint(first.values)
    if refusal is None:
        return first
    if first.by_default or first.sampled:
        for _ in range(MOST_TRIES):
            again = _filled(space, given, nones, {}, space.drawn(rng))
            if space.complaint(again.values) is None:
                return again
    raise SpaceError(f"{prefix}{refusal}")


def _filled(space: SearchSpace, given: Values, nones: Set[str], default: Values, drawn: Values) -> Completed:
    """The configuration with a value for each active hyperparameter; those in ``nones`` are None where active."""
    values, by_default, sampled = dict(given), {}, {}
    for dim in space.parents_first:
        if dim.name in values or not space.is_active(dim.name, values):
            continue
        if dim.name in nones:
            values[dim.name] = None
        elif dim.kind == "constant":
            values[dim.name] = dim.value(0.0)
        elif dim.name in default:
            values[dim.name] = by_default[dim.name] = default[dim.name]
        else:
            values[dim.name] = sampled[dim.name] = drawn[dim.name]
    return Completed({name: values[name] for name in space.names if name in values}, by_default, sampled)


# ------------------------------------------------------------------------------------------------------ rows and cells


def hyperparameters_of(space: SearchSpace, row: Mapping[Any, Any]) -> tuple[dict[Any, Any], set[str]]:
    """The hyperparameters of a row that have a value; those of a CSV file with the types of the space.

    The second part has the names with None in a row of a table: the choice None, or none where they are inactive,
    because pandas writes None for both into the mappings that it makes of rows.
    """
    dimensions = {dim.name: dim for dim in space.dimensions}
    inner = row.get("values")
    if "values" not in dimensions and isinstance(inner, Mapping):
        # The file incumbent.json, and what the command best prints as JSON.
        row = inner
    is_table = any(str(name).startswith(COLUMN) and name not in dimensions for name in row)
    if is_table:
        row = {name.removeprefix(COLUMN): row[name] for name in map(str, row) if name.startswith(COLUMN)}
    found, nones = {}, set()
    for name, value in row.items():
        dim = dimensions.get(name)
        read = from_cell(dim, value) if isinstance(value, Cell) and dim is not None else value
        if is_table and read is None:
            nones |= {name} if dim is not None and None in dim.choices else set()
        elif not _is_left_out(value, is_table=is_table):
            found[name] = read
    return found, nones


def _is_left_out(value: Any, *, is_table: bool) -> bool:
    if isinstance(value, Cell):
        return not value.strip()
    is_nan = isinstance(value, float) and math.isnan(value)
    return type(value).__name__ == "NAType" or (is_table and is_nan)


def from_cell(dim: Dimension, cell: str) -> Any:
    """The value that the text of a cell stands for; if there is none, the text itself, which the space refuses."""
    text = cell.strip()
    # Spreadsheets write TRUE and FALSE.
    read = _json(text.lower() if text.lower() in ("true", "false") else text)
    if not dim.choices:
        return read if isinstance(read, int | float) and not isinstance(read, bool) else _number(text)
    if read is None and text == "null" and None in dim.choices:
        return None
    for choice in dim.choices:
        if isinstance(choice, str) and choice in (cell, text):
            return choice
    for choice in dim.choices:
        same_kind = isinstance(choice, bool) == isinstance(read, bool)
        if (read is not None and same_kind and hashable(choice) == hashable(read)) or shown(choice) == text:
            return choice
    return str(cell)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return str(text)
