"""From a ConfigSpace space to plain tables: the only door to ConfigSpace.

Law of this file: it reads ConfigSpace's serialised form (format 0.4, ConfigSpace 1.2) and nothing private, never draws
from its generator, and refuses by name what the tables cannot hold. It imports ConfigSpace only to rebuild a space, or
before it loads a problem that imports it; to compile a space needs no import, because the caller has made one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.records import Plain
from hpbandster_lite.space.dimension import LARGEST_LOG_INTEGER, MOST_LEVELS, Dimension, Kind, Prior, hashable

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

FORMAT = 1
"""Version of the tables; a space of another version is refused."""

_CONDITIONS = {"EQ": "==", "NEQ": "!=", "LT": "<", "GT": ">", "IN": "in"}
_FORBIDDEN = {
    "EQUALS": "==",
    "IN": "in",
    "CLAUSE_LT": "<",
    "CLAUSE_LE": "<=",
    "CLAUSE_GT": ">",
    "CLAUSE_GE": ">=",
    "RELATION_LT": "<",
    "RELATION_LE": "<=",
    "RELATION_EQ": "==",
    "RELATION_GT": ">",
    "RELATION_GE": ">=",
}


def import_configspace() -> None:
    """Import ConfigSpace, which takes a second; if it is missing, the first use raises the error."""
    with suppress(ImportError):
        import ConfigSpace  # noqa: F401 (loads it)


def configspace_to_json(space: ConfigurationSpace) -> Plain:
    """ConfigSpace's JSON of a space, as plain values; without ``meta``, which does not define the space.

    Raises
    ------
    SpaceError
        If ``space`` is not a ConfigurationSpace, or has a hyperparameter of a user's class, or a value that is not
        None, a bool, a number or a string.
    """
    if isinstance(space, type) or not callable(getattr(space, "to_serialized_dict", None)):
        name = f"class {space.__name__}" if isinstance(space, type) else type(space).__name__
        raise SpaceError(
            f"the search space is {'an' if name[0] in 'aeiou' else 'a'} {name}; give a ConfigSpace.ConfigurationSpace "
            "(1.2 or newer)"
        )
    try:
        serialised = space.to_serialized_dict()
    except ValueError as error:
        raise SpaceError(f"ConfigSpace cannot write this space as JSON: {error}") from error
    for item in serialised["hyperparameters"]:
        item["meta"] = None
        for value in (*item.get("choices", ()), *item.get("sequence", ()), item.get("value")):
            _check_choice(item["name"], value)
    return _plain(serialised)


_REMEDIES: Mapping[type, str] = {
    list: "use a tuple",
    set: "give the choices as a list, for example with sorted()",
    frozenset: "give the choices as a list, for example with sorted()",
}
"""What to use in place of a value of such a type."""


def _check_choice(name: str, value: Any) -> None:
    """Refuse a choice that JSON changes, or that no look-up finds; a tuple is stored as a list."""
    if isinstance(value, tuple):
        for part in value:
            _check_choice(name, part)
        return
    kept = value.item() if isinstance(value, np.generic) else value
    if kept is not None and type(kept) not in (bool, int, float, str):
        raise SpaceError(
            f"hyperparameter {name!r}: the value {value!r} is a {type(value).__name__}; "
            f"{_REMEDIES.get(type(value), 'use a string or a number and look up what it stands for in evaluate()')}"
        )
    if kept != kept:
        raise SpaceError(f"hyperparameter {name!r}: NaN does not equal itself; use the string 'nan' or None")


def _plain(value: Any) -> Plain:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def configspace_from_json(plain: Plain) -> ConfigurationSpace:
    """The ConfigurationSpace that :func:`configspace_to_json` described; imports ConfigSpace (1.2 s)."""
    from ConfigSpace import ConfigurationSpace

    # ConfigSpace changes the dictionaries while it reads them.
    copied = copy.deepcopy(plain)
    for item in (*copied["hyperparameters"], *_clauses(copied["conditions"]), *_clauses(copied["forbiddens"])):
        for key in ("choices", "sequence", "values"):
            if key in item:
                item[key] = [hashable(value) for value in item[key]]
        for key in ("value", "default_value"):
            if key in item:
                item[key] = hashable(item[key])
    return ConfigurationSpace.from_serialized_dict(copied)


def _clauses(items: Sequence[Plain]) -> Iterator[Plain]:
    for item in items:
        yield item
        yield from _clauses([*item.get("conditions", ()), *item.get("clauses", ())])


def tables(space_json: Plain) -> Plain:
    """Compile ConfigSpace's JSON to the tables of a :class:`~hpbandster_lite.space.SearchSpace`.

    Returns
    -------
    Plain
        ``{"format": 1, "dimensions": [...], "conditions": {child: tree}, "forbidden": [trees]}``.

    Raises
    ------
    SpaceError
        For a space without hyperparameters, and for what the tables cannot hold.
    """
    if not space_json["hyperparameters"]:
        raise SpaceError("the search space has no hyperparameters; add at least one")
    return {
        "format": FORMAT,
        "dimensions": [_dimension(item).to_plain() for item in space_json["hyperparameters"]],
        "conditions": {item["child"]: condition_tree(item) for item in space_json["conditions"]},
        "forbidden": [forbidden_tree(item) for item in space_json["forbiddens"]],
    }


def condition_tree(item: Plain) -> Plain:
    """The tree (see :mod:`~hpbandster_lite.space.clauses`) of one condition in ConfigSpace's JSON."""
    if item["type"] in ("AND", "OR"):
        return {"op": item["type"].lower(), "of": [condition_tree(part) for part in item["conditions"]]}
    values = item["values"] if item["type"] == "IN" else [item["value"]]
    return {"op": _CONDITIONS[item["type"]], "name": item["parent"], "values": list(values)}


def forbidden_tree(item: Plain) -> Plain:
    """The tree of one forbidden clause in ConfigSpace's JSON."""
    if item["type"] in ("AND", "OR"):
        return {"op": item["type"].lower(), "of": [forbidden_tree(part) for part in item["clauses"]]}
    op = _FORBIDDEN[item["type"]]
    if item["type"].startswith("RELATION"):
        return {"op": op, "name": item["left"], "other": item["right"]}
    return {"op": op, "name": item["name"], "values": list(item["values"] if op == "in" else [item["value"]])}


# --------------------------------------------------------------------------------------------- hyperparameters


def _dimension(item: Plain) -> Dimension:
    build = _BUILDERS.get(item["type"])
    if build is None:
        raise SpaceError(
            f"hyperparameter {item['name']!r} has ConfigSpace's type {item['type']!r}, which is not supported; "
            f"use one of {', '.join(_BUILDERS)}"
        )
    return build(item)


def _categorical(item: Plain) -> Dimension:
    weights = item["weights"]
    if weights is not None:
        total = math.fsum(weights)
        weights = tuple(weight / total for weight in weights)
    return Dimension(
        name=item["name"],
        kind="categorical",
        default=item["default_value"],
        choices=tuple(item["choices"]),
        weights=weights,
    )


def _ordinal(item: Plain) -> Dimension:
    return Dimension(name=item["name"], kind="ordinal", default=item["default_value"], choices=tuple(item["sequence"]))


def _constant(item: Plain) -> Dimension:
    return Dimension(name=item["name"], kind="constant", default=item["value"], choices=(item["value"],))


def _float(item: Plain) -> Dimension:
    if not math.isfinite(item["upper"] - item["lower"]):
        raise SpaceError(
            f"hyperparameter {item['name']!r}: the range from {item['lower']!r} to {item['upper']!r} is too wide for "
            "a float; use a log scale or smaller bounds"
        )
    return _numeric(item, "float")


def _integer(item: Plain) -> Dimension:
    name, lower, upper = item["name"], item["lower"], item["upper"]
    if item["log"] and upper > LARGEST_LOG_INTEGER:
        raise SpaceError(
            f"hyperparameter {name!r}: upper={upper!r} is too large for an integer on a log scale (at most "
            f"{LARGEST_LOG_INTEGER}); use a float and round it in evaluate()"
        )
    if upper - lower + 1 > MOST_LEVELS:
        raise SpaceError(
            f"hyperparameter {name!r}: the range from {lower!r} to {upper!r} has more than {MOST_LEVELS} values; use a "
            "float and round it in evaluate()"
        )
    return _numeric(item, "integer")


def _numeric(item: Plain, kind: Kind) -> Dimension:
    return Dimension(
        name=item["name"],
        kind=kind,
        default=item["default_value"],
        lower=item["lower"],
        upper=item["upper"],
        log=item["log"],
        prior=_prior(item, kind),
    )


def _prior(item: Plain, kind: Kind) -> Prior | None:
    """The distribution of a normal or beta hyperparameter, on the unit coordinate.

    As in ConfigSpace, a log-scaled normal has the standard deviation abs(log(lower + sigma)) in logarithms. An integer
    has the probability of its bucket under the distribution.
    """
    if "alpha" in item:
        return Prior(kind="beta", first=item["alpha"], second=item["beta"])
    if "mu" not in item:
        return None
    margin = 0.5 if kind == "integer" else 0.0
    low, high, mean, deviation = item["lower"] - margin, item["upper"] + margin, item["mu"], item["sigma"]
    if item["log"]:
        deviation = abs(math.log(item["lower"] + deviation))
        low, high, mean = math.log(low), math.log(high), math.log(mean)
    if not deviation > 0:
        raise SpaceError(
            f"hyperparameter {item['name']!r}: sigma={item['sigma']!r} leaves a normal distribution without width; "
            "give a larger sigma, or use a uniform or constant hyperparameter"
        )
    return Prior(kind="normal", first=(mean - low) / (high - low), second=deviation / (high - low))


_BUILDERS: Mapping[str, Callable[[Plain], Dimension]] = {
    "uniform_float": _float,
    "uniform_int": _integer,
    "normal_float": _float,
    "normal_int": _integer,
    "beta_float": _float,
    "beta_int": _integer,
    "categorical": _categorical,
    "ordinal": _ordinal,
    "constant": _constant,
}
