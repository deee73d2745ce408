"""Compiled spaces: agreement with ConfigSpace, exact round trips, sampling by distribution, enumeration."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import ConfigSpace as CS  # noqa: N817  (its own documentation calls it so)
import numpy as np
import pytest
from ConfigSpace.exceptions import ForbiddenValueError
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from hpbandster_lite.errors import InvariantBroken, SpaceError
from hpbandster_lite.space import SearchSpace, configspace_from_json, configspace_to_json, first_difference
from hpbandster_lite.space.compile import tables

Draw = Callable[[st.SearchStrategy[Any]], Any]
Sort = tuple[Callable[[str], Any], list[Any]]
"""Constructors of hyperparameters by name, and values that clauses may name."""

# ------------------------------------------------------------------------------------------- random spaces

NUMERIC: list[Sort] = [
    (lambda name: CS.Float(name, (0.0, 1.0)), [0.25, 0.5]),
    (lambda name: CS.Float(name, (-5.0, 5.0), default=1.5), [-1.0, 1.5]),
    (lambda name: CS.Float(name, (1e-4, 1e-1), log=True), [1e-3, 1e-2]),
    (lambda name: CS.Float(name, (0.0, 4.0), distribution=CS.Normal(1.0, 2.0)), [0.5, 1.0]),
    (lambda name: CS.Float(name, (1.0, 9.0), distribution=CS.Beta(2.0, 3.0), log=True), [3.0, 5.0]),
    (lambda name: CS.Integer(name, (0, 3)), [0, 1, 3]),
    (lambda name: CS.Integer(name, (-2, 2)), [-2, 1]),
    (lambda name: CS.Integer(name, (1, 9), log=True), [1, 3]),
    (lambda name: CS.Integer(name, (1, 8), distribution=CS.Normal(3.0, 2.0)), [2, 3]),
    (lambda name: CS.OrdinalHyperparameter(name, [3, 1, 2]), [1, 2]),
]
OTHER: list[Sort] = [
    (lambda name: CS.Categorical(name, ["a", "b", "c"]), ["a", "c"]),
    (lambda name: CS.Categorical(name, ["b", "c"], weights=[0.2, 0.8]), ["b", "c"]),
    (lambda name: CS.Categorical(name, [True, False]), [True, False]),
    (lambda name: CS.Categorical(name, [None, "a", 2]), ["a", 2]),
    (lambda name: CS.OrdinalHyperparameter(name, ["small", "large", "huge"]), ["large", "huge"]),
    (lambda name: CS.Constant(name, "k"), ["k"]),
]
DISCRETE = [*NUMERIC[5:], *OTHER]


class Builder:
    """Draws a space of up to seven hyperparameters with conditions and forbidden clauses."""

    def __init__(self, draw: Draw, sorts: list[Sort]) -> None:
        self.draw = draw
        chosen = draw(st.lists(st.sampled_from(sorts), min_size=1, max_size=7))
        self.makers = {f"p{i}": sort for i, sort in enumerate(chosen)}
        self.names = list(self.makers)
        self.conditions: list[Callable[[Any], Any]] = []
        self.forbidden: list[Callable[[Any], Any]] = []
        self.joined: list[frozenset[str]] = []

    def build(self) -> CS.ConfigurationSpace:
        space = CS.ConfigurationSpace(space=[make(name) for name, (make, _) in self.makers.items()])
        for clause in (*self.conditions, *self.forbidden):
            space.add(clause(space))
        return space

    def add(self, clauses: list[Callable[[Any], Any]], clause: Callable[[Any], Any]) -> None:
        """Add a clause unless ConfigSpace refuses it, because it forbids the default or is invalid."""
        clauses.append(clause)
        try:
            self.build()
        except (ValueError, CS.exceptions.AmbiguousConditionError):
            clauses.pop()

    def comparison(self, name: str, kinds: dict[str, Any], *before: str) -> Callable[[Any], Any]:
        """A clause of ``kinds`` about ``name``; ``before`` are further hyperparameters that the class takes first."""
        ordered = self.makers[name] not in OTHER[:4] and self.makers[name] is not OTHER[5]
        kind = self.draw(st.sampled_from(sorted(kind for kind in kinds if ordered or kind in ("==", "!=", "in"))))
        value = self.draw(st.sampled_from(self.makers[name][1]))
        given_value = self.makers[name][1][:2] if kind == "in" else value
        return lambda space: kinds[kind](*(space[other] for other in before), space[name], given_value)

    def condition(self, child: str, parents: list[str], depth: int) -> Callable[[Any], Any]:
        kinds = {
            "==": CS.EqualsCondition,
            "!=": CS.NotEqualsCondition,
            "<": CS.LessThanCondition,
            ">": CS.GreaterThanCondition,
            "in": CS.InCondition,
        }
        if depth and len(parents) > 1 and self.draw(st.booleans()):
            parts = [self.condition(child, [parent], 0) for parent in parents[:2]]
            join = self.draw(st.sampled_from([CS.AndConjunction, CS.OrConjunction]))
            return lambda space: join(*(part(space) for part in parts))
        return self.comparison(parents[0], kinds, child)

    def clause(self, names: list[str]) -> Callable[[Any], Any]:
        kinds = {
            "==": CS.ForbiddenEqualsClause,
            "in": CS.ForbiddenInClause,
            "<": CS.ForbiddenLessThanClause,
            "<=": CS.ForbiddenLessThanEqualsClause,
            ">": CS.ForbiddenGreaterThanClause,
            ">=": CS.ForbiddenGreaterThanEqualsClause,
        }
        relations = [
            CS.ForbiddenLessThanRelation,
            CS.ForbiddenLessThanEqualsRelation,
            CS.ForbiddenEqualsRelation,
            CS.ForbiddenGreaterThanRelation,
            CS.ForbiddenGreaterThanEqualsRelation,
        ]
        numeric = [name for name in names if self.makers[name] in NUMERIC]
        sort = self.draw(st.sampled_from(["one", "and", "or", "relation"]))
        if sort == "relation" and len(numeric) > 1:
            relation = self.draw(st.sampled_from(relations))
            return lambda space: relation(space[numeric[0]], space[numeric[1]])
        if sort in ("and", "or") and len(names) > 1:
            parts = [self.comparison(name, kinds) for name in names[:2]]
            join = CS.ForbiddenAndConjunction if sort == "and" else CS.ForbiddenOrConjunction
            return lambda space: join(*(part(space) for part in parts))
        return self.comparison(names[0], kinds)


@st.composite
def spaces(draw: Draw, sorts: list[Sort] = NUMERIC + OTHER) -> CS.ConfigurationSpace:
    builder = Builder(draw, sorts)
    for i, child in enumerate(builder.names[1:], start=1):
        if draw(st.booleans()):
            parents = draw(st.permutations(builder.names[:i]))
            # ConfigSpace treats "a and b" and "a or b" over the same parents as one condition: one child per pair.
            pair = frozenset(parents[:2])
            condition = builder.condition(child, parents, 0 if pair in builder.joined else 1)
            builder.joined.append(pair)
            builder.add(builder.conditions, condition)
    for _ in range(draw(st.integers(0, 3))):
        builder.add(builder.forbidden, builder.clause(draw(st.permutations(builder.names))))
    return builder.build()


def alike(values: dict[str, Any], others: dict[str, Any]) -> bool:
    """Whether the same hyperparameters have the same values; floats may differ beyond ConfigSpace's 13 decimals."""
    return values.keys() == others.keys() and all(
        value == pytest.approx(others[name], rel=1e-9, abs=1e-12) if isinstance(value, float) else value == others[name]
        for name, value in values.items()
    )


def sampled(space: SearchSpace, seed: int, n: int) -> Any:
    try:
        return space.sample(np.random.default_rng(seed), n)
    except SpaceError:
        reject()


# ------------------------------------------------------------------------------- agreement with ConfigSpace


@given(original=spaces(), seed=st.integers(0, 2**32))
def test_configspace_accepts_every_sampled_configuration(original: CS.ConfigurationSpace, seed: int) -> None:
    space = SearchSpace.from_configspace(original)
    for values in space.to_values(sampled(space, seed, 20)):
        assert alike(dict(CS.Configuration(original, values=values)), values)


@given(original=spaces(), seed=st.integers(0, 2**32))
def test_one_sample_with_its_values_is_what_sample_and_to_values_give(
    original: CS.ConfigurationSpace, seed: int
) -> None:
    space = SearchSpace.from_configspace(original)
    alone = space.sample(np.random.default_rng(seed), 1)
    vector, values = space.sample_one(np.random.default_rng(seed))
    assert vector.tobytes() == alone[0].tobytes()
    assert [values] == space.to_values(alone)


# ConfigSpace's own samples are no reference: 1.2.0 treats ForbiddenLessThanEqualsClause as >= when it samples, and may
# apply the conditions of a child before those of its parent.
@given(original=spaces(), seed=st.integers(0, 2**32))
def test_a_configuration_is_accepted_if_and_only_if_configspace_accepts_it(
    original: CS.ConfigurationSpace, seed: int
) -> None:
    space = SearchSpace.from_configspace(original)
    rng = np.random.default_rng(seed)
    u = rng.random((20, space.d))
    full = space.to_values(SearchSpace.from_json({**space.to_json(), "conditions": {}}).complete(u))
    for values, spare in zip(space.to_values(space.complete(u)), full, strict=True):
        # Half of the time, one inactive hyperparameter is added, or one active one removed.
        name = str(rng.choice(space.names))
        if rng.random() < 0.5 and values.pop(name, ...) is ...:
            values[name] = spare[name]
        try:
            expected: dict[str, Any] | None = dict(CS.Configuration(original, values=values))
        except ValueError:
            expected = None
        try:
            (found,) = space.to_values(space.to_vectors([values]))
        except SpaceError:
            assert expected is None
        else:
            assert expected is not None
            assert alike(found, expected)


@given(original=spaces(), seed=st.integers(0, 2**32))
def test_allowed_says_what_configspace_forbids(original: CS.ConfigurationSpace, seed: int) -> None:
    space = SearchSpace.from_configspace(original)
    vectors = space.complete(np.random.default_rng(seed).random((20, space.d)))
    for values, allowed in zip(space.to_values(vectors), space.allowed(vectors), strict=True):
        if allowed:
            CS.Configuration(original, values=values)
        else:
            with pytest.raises(ForbiddenValueError):
                CS.Configuration(original, values=values)


@given(original=spaces())
def test_the_default_configuration_is_configspaces(original: CS.ConfigurationSpace) -> None:
    space = SearchSpace.from_configspace(original)
    (values,) = space.to_values(space.default()[np.newaxis])
    assert alike(values, dict(original.get_default_configuration()))
    assert space.allowed(space.default()[np.newaxis]).all()


def test_not_equals_holds_for_an_inactive_parent_as_in_configspace() -> None:
    original = CS.ConfigurationSpace({"a": ["x", "y"], "b": ["u", "v"], "c": (0.0, 1.0)})
    original.add(CS.EqualsCondition(original["b"], original["a"], "x"))
    original.add(CS.NotEqualsCondition(original["c"], original["b"], "v"))
    space = SearchSpace.from_configspace(original)
    space.to_vectors([{"a": "y", "c": 0.5}, {"a": "x", "b": "u", "c": 0.5}, {"a": "x", "b": "v"}])
    with pytest.raises(SpaceError, match=r"'c' is missing \(it is active because b != 'v'\)"):
        space.to_vectors([{"a": "y"}])


# --------------------------------------------------------------------------------------------- round trips


@given(original=spaces(), seed=st.integers(0, 2**32))
def test_vector_to_values_to_vector_is_exact_and_the_values_are_plain(
    original: CS.ConfigurationSpace, seed: int
) -> None:
    space = SearchSpace.from_configspace(original)
    vectors = sampled(space, seed, 20)
    values = space.to_values(vectors)
    again = space.to_vectors(values)
    assert np.array_equal(again, vectors, equal_nan=True)
    assert space.to_values(again) == values
    assert {type(value) for each in values for value in each.values()} <= {float, int, str, bool, type(None)}
    assert json.loads(json.dumps(values)) == values


@given(original=spaces(), seed=st.integers(0, 2**32))
def test_many_configurations_are_treated_as_one_by_one(original: CS.ConfigurationSpace, seed: int) -> None:
    space = SearchSpace.from_configspace(original)
    u = np.random.default_rng(seed).random((15, space.d))
    vectors = space.complete(u)
    one_by_one = np.concatenate([space.complete(u[i : i + 1]) for i in range(15)])
    assert np.array_equal(vectors, one_by_one, equal_nan=True)
    assert np.array_equal(space.complete(vectors), vectors, equal_nan=True)
    assert np.array_equal(space.active(u), ~np.isnan(vectors))
    assert np.array_equal(space.active(vectors), ~np.isnan(vectors))


@given(original=spaces(), seed=st.integers(0, 2**32))
def test_keys_are_equal_if_and_only_if_the_values_are(original: CS.ConfigurationSpace, seed: int) -> None:
    space = SearchSpace.from_configspace(original)
    vectors = np.repeat(sampled(space, seed, 6), 2, axis=0)
    keys, values = [space.key(vector) for vector in vectors], space.to_values(vectors)
    for i, j in itertools.combinations(range(len(vectors)), 2):
        assert (keys[i] == keys[j]) == (values[i] == values[j])


def test_a_zero_with_a_sign_has_the_key_of_zero() -> None:
    space = SearchSpace.from_configspace(
        CS.ConfigurationSpace(space=[CS.Float("f", (0.0, 1.0)), CS.Integer("i", (0, 3)), CS.Categorical("c", [1, 2])])
    )
    assert space.key(np.array([-0.0] * 3)) == space.key(np.zeros(3))


BOUNDS = [(0.0, 1.0), (-3.0, 7.0), (1e-7, 1e-6), (0.3, 1e6), (-1e18, 1e18), (99.9, 100.1), (123456.7, 123456.8)]
LOG_BOUNDS = [(1e-4, 1e-1), (1e-13, 1.0), (0.5, 2.0), (1e-9, 1e9), (1.0, 1e290), (999.0, 1001.0)]
# Bounds in the middle between two kept decimals: a rounding error decides the direction.
BOUNDS += [(24.424, 108.5070000000005), (150.719, 968.917000000005)]
LOG_BOUNDS += [(545.94300000005, 7516.02), (0.5, 86.627000000005), (86.627000000005, 3224.09)]
FLOATS = [(*bounds, False) for bounds in BOUNDS] + [(*bounds, True) for bounds in LOG_BOUNDS]


@pytest.mark.parametrize(("lower", "upper", "log"), FLOATS)
@given(data=st.data())
@settings(max_examples=40)
def test_a_typed_decimal_stays_what_it_is(lower: float, upper: float, log: bool, data: st.DataObject) -> None:
    original = CS.ConfigurationSpace(space=[CS.Float("x", (lower, upper), log=log)])
    space = SearchSpace.from_configspace(original)
    digits = data.draw(st.integers(1, 9))
    near = data.draw(st.floats(lower, upper))
    typed = float(f"{near:.{digits - 1}e}")
    typed = typed if lower <= typed <= upper else lower
    # A linear float keeps nine digits of its largest value; a log float keeps nine digits of each value.
    largest = max(abs(lower), abs(upper))
    typed = typed if log else float(f"{round(typed / largest, 9) * largest:.9g}")
    typed = min(max(typed, lower), upper)
    assert space.to_values(space.to_vectors([{"x": typed}])) == [{"x": typed}]


@pytest.mark.parametrize(("lower", "upper", "log"), FLOATS)
def test_every_decoded_float_comes_back_bit_by_bit_and_the_bounds_are_reached(
    lower: float, upper: float, log: bool
) -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace(space=[CS.Float("x", (lower, upper), log=log)]))
    u = np.concatenate([[0.0, 1e-300, 1e-17, 0.5, 1 - 1e-16, 1.0], np.random.default_rng(0).random(2_000)])
    values: list[Any] = [row["x"] for row in space.to_values(u[:, np.newaxis])]
    assert space.to_values(space.to_vectors([{"x": lower}, {"x": upper}])) == [{"x": values[0]}, {"x": values[5]}]
    assert [values[0], values[5]] == pytest.approx([lower, upper], rel=1e-12)
    assert all(lower <= value <= upper for value in values)
    vectors = space.to_vectors([{"x": value} for value in values])
    assert [row["x"] for row in space.to_values(vectors)] == values
    assert np.abs(vectors[:, 0] - u).max() < 1e-4


@pytest.mark.parametrize(
    ("typed", "lower"), [(1.23456789012e-13, 1e-13), (0.000123456789012, 1e-13), (1.0, 1e-13), (0.9876543210123, 0.9)]
)
def test_a_log_float_keeps_thirteen_significant_digits(typed: float, lower: float) -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace(space=[CS.Float("x", (lower, 1.0), log=True)]))
    rows = space.to_values(space.to_vectors([{"x": typed}, {"x": typed * (1 - 1e-14)}]))
    assert rows == [{"x": typed}] * 2
    values = [row["x"] for row in space.to_values(np.linspace(0, 1, 500)[:, np.newaxis])]
    assert values == [float(f"{value:.12e}") for value in values]


def test_zero_has_one_sign() -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace({"x": (-1.0, 1.0)}))
    low, high = space.to_vectors([{"x": -1e-300}, {"x": 0.0}])
    below = np.array([0.49999999999999994])
    assert space.key(low) == space.key(high) == space.key(below)
    assert repr(space.to_values(np.array([low, below]))) == "[{'x': 0.0}, {'x': 0.0}]"


def test_coordinates_beyond_the_cube_count_as_the_bound() -> None:
    original = CS.ConfigurationSpace(
        space=[CS.Float("a", (1, 9)), CS.Float("b", (1, 9), log=True), CS.Integer("c", (1, 9)), CS.Constant("d", 9)]
    )
    space = SearchSpace.from_configspace(original)
    low, high = space.to_values(np.array([[-0.1] * 4, [1.1] * 4]))
    assert (low, high) == ({"a": 1.0, "b": 1.0, "c": 1, "d": 9}, {"a": 9.0, "b": 9.0, "c": 9, "d": 9})


@pytest.mark.parametrize(
    ("lower", "upper", "log"),
    [(0, 2**50 - 1, False), (2**60, 2**60 + 4096, False), (1, 2**40, True), (7, 8, True), (-5, -4, False)],
)
def test_the_widest_integer_ranges_still_tell_neighbours_apart(lower: int, upper: int, log: bool) -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace(space=[CS.Integer("x", (lower, upper), log=log)]))
    middle = (lower + upper) // 2
    numbers = sorted({lower, lower + 1, middle, min(middle + 1, upper), upper - 1, upper})
    vectors = space.to_vectors([{"x": number} for number in numbers])
    assert [row["x"] for row in space.to_values(vectors)] == numbers
    assert (np.diff(vectors[:, 0]) > 0).all()


def test_choices_come_back_as_what_they_were() -> None:
    choices: list[Any] = [True, 0, 2.5, "True", None]
    space = SearchSpace.from_configspace(CS.ConfigurationSpace(space=[CS.Categorical("x", choices)]))
    space = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    back = [row["x"] for row in space.to_values(space.to_vectors([{"x": choice} for choice in choices]))]
    assert [(value, type(value)) for value in back] == [(value, type(value)) for value in choices]


def test_tuples_are_choices_with_conditions_and_clauses_and_come_back_as_lists() -> None:
    kernel = CS.Categorical("kernel", [(3, 3), (5, (1, 1)), "none"])
    size = CS.OrdinalHyperparameter("size", [(1,), (2,)])
    depth, fixed = CS.Integer("depth", (1, 3)), CS.Constant("fixed", ("a", None))
    original = CS.ConfigurationSpace(space=[kernel, size, depth, fixed])
    original.add(CS.EqualsCondition(depth, kernel, (5, (1, 1))))
    original.add(
        CS.ForbiddenAndConjunction(
            CS.ForbiddenInClause(kernel, [(3, 3), "none"]), CS.ForbiddenEqualsClause(size, (2,))
        )
    )
    plain = json.loads(json.dumps(configspace_to_json(original)))
    for space in (SearchSpace.from_configspace(original), SearchSpace(tables(plain))):
        found = space.to_values(space.enumerate())  # type: ignore[arg-type]  # coordinates as rows
        assert len(found) == 3 * 2 + 2
        assert {"kernel": [5, [1, 1]], "size": [2], "depth": 1, "fixed": ["a", None]} in found
        users: list[dict[str, Any]] = [{"kernel": (5, (1, 1)), "size": (1,), "depth": 2, "fixed": ("a", None)}]
        assert space.to_values(space.to_vectors(users)) == [
            {"depth": 2, "fixed": ["a", None], "kernel": [5, [1, 1]], "size": [1]}
        ]
        wrong: dict[str, Any] = {"kernel": (3, 3), "size": (2,), "fixed": ("a", None)}
        with pytest.raises(SpaceError, match=r"kernel in \(\(3, 3\), 'none'\) and size == \(2,\)"):
            space.to_vectors([wrong])
        with pytest.raises(SpaceError, match=r"choose from \(3, 3\), \(5, \(1, 1\)\), 'none'"):
            space.to_vectors([wrong | {"kernel": (3, 4)}])
    assert configspace_from_json(plain) == original
    assert first_difference(plain, configspace_to_json(original)) is None


def test_values_of_numpy_are_understood_and_handed_back_as_plain_ones() -> None:
    original = CS.ConfigurationSpace(
        space=[CS.Float("f", (0, 1)), CS.Integer("i", (1, 5)), CS.Categorical("c", [np.int64(3), np.str_("a")])]
    )
    space = SearchSpace.from_configspace(original)
    given_values: dict[str, Any] = {"f": np.float32(0.5), "i": np.int16(2), "c": np.int64(3)}
    (values,) = space.to_values(space.to_vectors([given_values]))
    assert values == {"c": 3, "f": 0.5, "i": 2}
    assert [type(value) for value in values.values()] == [int, float, int]


# ---------------------------------------------------------------------------------------- buckets and edges


@pytest.mark.parametrize(("lower", "upper", "log"), [(1, 16, True), (0, 20, False), (3, 4, True), (8, 512, True)])
def test_the_edges_of_an_integer_are_half_a_unit_beside_its_values(lower: int, upper: int, log: bool) -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace(space=[CS.Integer("x", (lower, upper), log=log)]))
    (dim,) = space.dimensions
    edges = np.arange(lower, upper + 2) - 0.5
    scale = np.log(edges) if log else edges
    assert dim.edges == pytest.approx((scale - scale[0]) / (scale[-1] - scale[0]), abs=1e-12)
    assert (dim.edges[0], dim.edges[-1]) == (0.0, 1.0)
    centres = space.to_vectors([{"x": value} for value in range(lower, upper + 1)])[:, 0]
    assert centres == pytest.approx((dim.edges[:-1] + dim.edges[1:]) / 2)
    for found, expected in zip(dim.bucket(centres), (dim.edges[:-1], dim.edges[1:]), strict=True):
        assert np.array_equal(found, expected)


def test_an_ordinal_has_even_buckets_and_a_float_has_none() -> None:
    original = CS.ConfigurationSpace(space=[CS.OrdinalHyperparameter("o", ["s", "m", "l"]), CS.Float("f", (0, 1))])
    ordinal, number = sorted(SearchSpace.from_configspace(original).dimensions, key=lambda dim: dim.name)[::-1]
    assert ordinal.edges == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert np.isnan(ordinal.bucket(np.array([np.nan]))[0]).all()
    for ask in (lambda: number.edges, lambda: number.bucket(np.array([0.5]))):
        with pytest.raises(InvariantBroken, match="'f'"):
            ask()


# ------------------------------------------------------------------------------------------------- sampling


def counts(space: CS.ConfigurationSpace, name: str, n: int = 40_000) -> dict[Any, int]:
    compiled = SearchSpace.from_configspace(space)
    return Counter(row[name] for row in compiled.to_values(compiled.sample(np.random.default_rng(1), n)))


def close(found: dict[Any, int], expected: dict[Any, float]) -> bool:
    """Whether counts are within five standard deviations of their expectation."""
    n = sum(found.values())
    return all(abs(found.get(k, 0) - n * p) < 5 * math.sqrt(n * p * (1 - p)) for k, p in expected.items())


def test_integers_are_sampled_evenly() -> None:
    space = CS.ConfigurationSpace(space=[CS.Integer("x", (-2, 7))])
    assert close(counts(space, "x"), dict.fromkeys(range(-2, 8), 0.1))


def test_log_integers_are_sampled_by_their_buckets_as_the_paper_has_it() -> None:
    found = counts(CS.ConfigurationSpace(space=[CS.Integer("x", (1, 16), log=True)]), "x")
    shares = {v: math.log((v + 0.5) / (v - 0.5)) / math.log(16.5 / 0.5) for v in range(1, 17)}
    assert close(found, shares)
    assert shares[1] == pytest.approx(0.314, abs=1e-3)  # the shares that METHOD lists for residual blocks
    assert shares[16] == pytest.approx(0.018, abs=1e-3)


def test_categoricals_are_sampled_by_weight_and_never_at_weight_zero() -> None:
    space = CS.ConfigurationSpace(space=[CS.Categorical("x", ["a", "b", "c", "d"], weights=[0, 1, 3, 0])])
    found = counts(space, "x")
    assert set(found) == {"b", "c"}
    assert close(found, {"b": 0.25, "c": 0.75})
    compiled = SearchSpace.from_configspace(space)
    assert compiled.to_values(compiled.to_vectors([{"x": "a"}])) == [{"x": "a"}]
    assert (compiled.size(), len(compiled.enumerate())) == (2, 2)  # type: ignore[arg-type]  # it is small


@pytest.mark.parametrize(
    "original",
    [
        CS.Float("x", (0.0, 4.0), distribution=CS.Normal(1.0, 2.0)),
        CS.Float("x", (0.0, 1.0), distribution=CS.Normal(-1.0, 0.2)),
        CS.Float("x", (0.0, 1.0), distribution=CS.Normal(-10.0, 1.0)),
        CS.Float("x", (0.0, 1.0), distribution=CS.Normal(1.5, 0.1)),
        CS.Float("x", (1e-4, 1e-1), distribution=CS.Normal(1e-2, 1e-3), log=True),
        CS.Float("x", (1.0, 9.0), distribution=CS.Beta(2.0, 3.0)),
        CS.Float("x", (1.0, 9.0), distribution=CS.Beta(5.0, 1.0), log=True),
    ],
    ids=str,
)
def test_normal_and_beta_floats_are_distributed_as_in_configspace(original: Any) -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace(space=[original]))
    found = np.sort(space.sample(np.random.default_rng(2), 5_000)[:, 0])
    theirs = np.sort(original.sample_vector(5_000, seed=np.random.RandomState(3)))
    at = np.concatenate([found, theirs])
    distance = np.abs(np.searchsorted(found, at, "right") - np.searchsorted(theirs, at, "right")).max() / 5_000
    assert distance < 1.95 * math.sqrt(2 / 5_000)  # Kolmogorov-Smirnov at the level 0.001


def test_a_normal_integer_has_its_buckets_share_of_the_bell() -> None:
    found = counts(CS.ConfigurationSpace(space=[CS.Integer("x", (1, 8), distribution=CS.Normal(3.0, 2.0))]), "x")
    cumulated = [0.5 * math.erfc((3.0 - edge) / 2.0 / math.sqrt(2)) for edge in np.arange(0.5, 9)]
    inside = cumulated[-1] - cumulated[0]
    assert close(found, {v: (cumulated[v] - cumulated[v - 1]) / inside for v in range(1, 9)})


@given(original=spaces(), seed=st.integers(0, 2**32), n=st.integers(0, 30))
def test_sampling_gives_as_many_as_asked_all_allowed_and_the_same_again(
    original: CS.ConfigurationSpace, seed: int, n: int
) -> None:
    space = SearchSpace.from_configspace(original)
    vectors = sampled(space, seed, n)
    assert vectors.shape == (n, space.d)
    assert space.allowed(vectors).all()
    assert np.array_equal(vectors, sampled(SearchSpace.from_json(space.to_json()), seed, n), equal_nan=True)


def rarely_allowed(top: int) -> SearchSpace:
    original = CS.ConfigurationSpace(space=[CS.Integer("x", (0, top), default=0)])
    original.add(CS.ForbiddenGreaterThanClause(original["x"], 0))
    return SearchSpace.from_configspace(original)


def test_a_rare_configuration_is_found_and_a_hopeless_space_gives_up_with_its_clauses() -> None:
    assert rarely_allowed(2_000).to_values(rarely_allowed(2_000).sample(np.random.default_rng(0), 3)) == [{"x": 0}] * 3
    with pytest.raises(SpaceError, match=r"in a row were forbidden \(x > 0\); relax"):
        rarely_allowed(10**12).sample(np.random.default_rng(0), 1)


# ---------------------------------------------------------------------------------------- size, enumeration


@given(original=spaces(DISCRETE))
@settings(max_examples=60)
def test_enumeration_gives_every_valid_configuration_once(original: CS.ConfigurationSpace) -> None:
    space = SearchSpace.from_configspace(original)
    options = [[*(dim.value(i) for i in range(dim.levels or 0)), ...] for dim in space.dimensions]
    if math.prod(map(len, options)) > 3_000:
        reject()
    expected = set()
    for row in itertools.product(*options):
        values = {name: value for name, value in zip(space.names, row, strict=True) if value is not ...}
        try:
            CS.Configuration(original, values=values)
        except ValueError:
            continue
        expected.add(tuple(values.items()))
    vectors = space.enumerate()
    assert vectors is not None
    found = [tuple(values.items()) for values in space.to_values(vectors)]
    assert len(found) == len(set(found)) <= space.size()
    assert set(found) == expected


def test_enumeration_stops_at_its_limit_and_at_floats() -> None:
    cube = SearchSpace.from_configspace(CS.ConfigurationSpace({"a": (1, 10), "b": (1, 10), "c": (1, 10)}))
    assert cube.size() == 1000
    assert len(cube.enumerate(limit=1000)) == 1000  # type: ignore[arg-type]  # it is small enough
    assert cube.enumerate(limit=999) is None
    assert cube.enumerate(limit=100) is None
    huge = SearchSpace.from_configspace(CS.ConfigurationSpace({f"x{i}": (1, 10**9) for i in range(9)}))
    assert huge.size() == pytest.approx(1e81)
    assert huge.enumerate() is None
    mixed = SearchSpace.from_configspace(CS.ConfigurationSpace({"a": [1, 2], "b": (0.0, 1.0)}))
    assert mixed.size() == math.inf
    assert mixed.enumerate() is None


def test_forbidden_beginnings_are_dropped_while_enumerating() -> None:
    original = CS.ConfigurationSpace({"a": (1, 100), "b": (1, 100), "c": (1, 100)})
    for name in "abc":
        original[name].default_value = 1
        original.add(CS.ForbiddenGreaterThanClause(original[name], 5))
    found = SearchSpace.from_configspace(original).enumerate(limit=1_000)
    assert found is not None
    assert len(found) == 125


# ----------------------------------------------------------------------------------------------------- JSON


@given(original=spaces())
def test_configspaces_json_and_back_is_the_same_space(original: CS.ConfigurationSpace) -> None:
    plain = json.loads(json.dumps(configspace_to_json(original), allow_nan=False))
    again = configspace_from_json(plain)
    assert first_difference(plain, configspace_to_json(again)) is None
    assert SearchSpace.from_configspace(again).to_json() == SearchSpace.from_configspace(original).to_json()
