"""Search spaces of every kind, for tests of samplers.

Law of this file: each call builds a new space; together they hold every kind of hyperparameter, condition and clause
that a sampler must respect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
    OrdinalHyperparameter,
)

from hpbandster_lite.space import SearchSpace


def space_of(*hyperparameters: Any, clauses: Sequence[Any] = ()) -> SearchSpace:
    """The compiled space of hyperparameters, conditions and forbidden clauses of ConfigSpace."""
    space = ConfigurationSpace()
    space.add(*hyperparameters, *clauses)
    return SearchSpace.from_configspace(space)


def square() -> SearchSpace:
    """Two floats."""
    return space_of(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0)))


def line(levels: int = 6) -> SearchSpace:
    """One integer ``n`` from 1 on."""
    return space_of(Integer("n", (1, levels)))


def conditional_space() -> SearchSpace:
    """All kinds, conditions, a forbidden clause and a choice ``act="p"`` of weight zero."""
    kind = Categorical("kind", ["a", "b", "c"], default="b")
    act = Categorical("act", ["p", "q", "r"], weights=[0.0, 1.0, 2.0], default="q")
    rate, width = Float("rate", (1e-4, 1.0), log=True), Integer("width", (1, 500), log=True)
    size, depth = OrdinalHyperparameter("size", ["s", "m", "l"]), Integer("depth", (1, 7))
    forbidden = ForbiddenAndConjunction(ForbiddenEqualsClause(kind, "a"), ForbiddenEqualsClause(act, "r"))
    conditions = [EqualsCondition(rate, kind, "a"), EqualsCondition(width, kind, "b"), EqualsCondition(size, act, "q")]
    return space_of(kind, act, rate, width, size, depth, Constant("fixed", "v"), clauses=[*conditions, forbidden])


def small_space() -> SearchSpace:
    """Twelve configurations of very different weights, with a condition and a forbidden value."""
    kind, child = Categorical("kind", ["a", "b"]), Integer("child", (1, 4), default=1)
    other = Categorical("other", ["x", "y", "z"], weights=[98, 1, 1])
    clauses = [EqualsCondition(child, kind, "a"), ForbiddenEqualsClause(child, 2)]
    return space_of(kind, child, other, clauses=clauses)


def constants() -> SearchSpace:
    """One configuration: a constant and a categorical of one choice."""
    return space_of(Constant("a", 1), Categorical("b", ["x"]))


def large_discrete_space() -> SearchSpace:
    """177,147 configurations, most of which have small weights; too many to list."""
    return space_of(*(Categorical(f"c{j}", ["a", "b", "c"], weights=[50, 1, 1]) for j in range(11)))


EXAMPLES: Mapping[str, Callable[[], SearchSpace]] = {
    "floats": square,
    "one integer": lambda: line(1_000_000),
    "conditions": conditional_space,
    "one float": lambda: space_of(Float("x", (0.0, 1.0))),
    "categoricals": lambda: space_of(*(Categorical(f"c{j}", list("abcde")) for j in range(9))),
}
"""Spaces by what they hold, each with far more configurations than a test needs."""
