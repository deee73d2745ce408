"""Tables of spaces: errors, differences, and use without ConfigSpace."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import ConfigSpace as CS  # noqa: N817  (its own documentation calls it so)
import numpy as np
import pytest

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.space import (
    Dimension,
    SearchSpace,
    configspace_to_json,
    first_difference,
    has_only_grown,
    in_order_of,
)
from hpbandster_lite.space.compile import tables

# ----------------------------------------------------------------------------------------------------- JSON

WITHOUT_CONFIGSPACE = """
import json, sys
import numpy as np
from hpbandster_lite.space import SearchSpace
space = SearchSpace.from_json(json.loads(sys.stdin.read()))
vectors = space.sample(np.random.default_rng(5), 50)
assert np.array_equal(space.to_vectors(space.to_values(vectors)), vectors, equal_nan=True)
assert not {"ConfigSpace", "scipy", "pandas"} & set(sys.modules), sorted(sys.modules)
print(json.dumps(space.to_values(vectors)))
"""


def test_a_space_from_its_tables_samples_the_same_without_configspace() -> None:
    original = CS.ConfigurationSpace({"a": ["x", "y"], "b": (0.0, 1.0), "c": (1, 9)})
    original.add(CS.EqualsCondition(original["b"], original["a"], "x"))
    original.add(CS.ForbiddenEqualsClause(original["c"], 9))
    space = SearchSpace.from_configspace(original)
    text = json.dumps(space.to_json(), allow_nan=False)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CONFIGSPACE], input=text, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == space.to_values(space.sample(np.random.default_rng(5), 50))


def test_tables_of_another_format_are_refused() -> None:
    plain = SearchSpace.from_configspace(CS.ConfigurationSpace({"a": [1, 2]})).to_json()
    with pytest.raises(SpaceError, match="format 99"):
        SearchSpace.from_json({**plain, "format": 99})


# ------------------------------------------------------------------------------------------ first difference


def variant(**changes: Any) -> CS.ConfigurationSpace:
    lr = changes.get("lr", CS.Float("lr", (1e-4, 1e-1), log=True))
    kind = changes.get("kind", CS.Categorical("kind", ["a", "b"], default="a"))
    space = CS.ConfigurationSpace(name=changes.get("name"), space=[lr, kind, *changes.get("more", ())])
    for clause in (changes.get("condition"), changes.get("clause")):
        if clause is not None:
            space.add(clause(space))
    return space


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": CS.Float("lr", (1e-4, 0.5), log=True)}, "hyperparameter 'lr': upper was 0.1 and is 0.5"),
        ({"lr": CS.Float("lr", (1e-4, 1e-1))}, "hyperparameter 'lr': default_value was 0.0031622776602 and is 0.05005"),
        ({"lr": CS.Integer("lr", (1, 9))}, "hyperparameter 'lr': type was 'uniform_float' and is 'uniform_int'"),
        ({"kind": CS.Categorical("kind", ["a"])}, "hyperparameter 'kind': choices was ['a', 'b'] and is ['a']"),
        ({"kind": CS.Categorical("size", ["a", "b"])}, "hyperparameter 'kind' is gone"),
        ({"more": [CS.Constant("k", 1)]}, "hyperparameter 'k' is new"),
        (
            {"condition": lambda space: CS.EqualsCondition(space["lr"], space["kind"], "a")},
            "hyperparameter 'lr': condition was always active and is kind == 'a'",
        ),
        ({"clause": lambda space: CS.ForbiddenEqualsClause(space["kind"], "b")}, "newly forbidden: kind == 'b'"),
    ],
)
def test_the_first_difference_names_hyperparameter_and_field(changes: dict[str, Any], words: str) -> None:
    assert first_difference(configspace_to_json(variant()), configspace_to_json(variant(**changes))) == words


def test_what_was_dropped_is_named_too() -> None:
    before = variant(
        condition=lambda space: CS.EqualsCondition(space["lr"], space["kind"], "a"),
        clause=lambda space: CS.ForbiddenAndConjunction(
            CS.ForbiddenLessThanClause(space["lr"], 1e-3), CS.ForbiddenInClause(space["kind"], ["a"])
        ),
    )
    then, now = configspace_to_json(before), configspace_to_json(variant())
    assert first_difference(then, now) == "hyperparameter 'lr': condition was kind == 'a' and is always active"
    assert first_difference({**then, "conditions": []}, now) == "no longer forbidden: lr < 0.001 and kind in ('a')"


def test_names_of_spaces_versions_and_meta_are_no_difference() -> None:
    then = configspace_to_json(variant())
    described = CS.Float("lr", (1e-4, 1e-1), log=True, meta={"why": object()})
    now = configspace_to_json(variant(name="other", lr=described))
    assert first_difference(then, {**now, "python_module_version": "9.9"}) is None


def test_true_and_one_differ_and_so_does_the_order() -> None:
    then = configspace_to_json(variant(kind=CS.Categorical("kind", [True, False])))
    now = configspace_to_json(variant(kind=CS.Categorical("kind", [1, 0])))
    assert first_difference(then, now) == "hyperparameter 'kind': choices was [True, False] and is [1, 0]"
    turned = {**then, "hyperparameters": then["hyperparameters"][::-1]}
    assert "order of the hyperparameters" in str(first_difference(then, turned))


# --------------------------------------------------------------------------------------------------- errors


def sample_space() -> SearchSpace:
    original = CS.ConfigurationSpace(
        space=[
            CS.Float("lr", (1e-4, 1e-1), log=True),
            CS.Integer("width", (8, 64)),
            CS.Categorical("kind", ["a", "b"]),
            CS.Integer("depth", (1, 3), default=1),
        ]
    )
    original.add(CS.EqualsCondition(original["width"], original["kind"], "a"))
    original.add(
        CS.ForbiddenAndConjunction(
            CS.ForbiddenEqualsClause(original["kind"], "b"), CS.ForbiddenEqualsClause(original["depth"], 3)
        )
    )
    return SearchSpace.from_configspace(original)


GOOD: dict[str, Any] = {"lr": 0.01, "width": 16, "kind": "a", "depth": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lrr": 0.1}, ("unknown hyperparameter lrr=0.1", "'lr'")),
        ({"zzz": 0.1}, ("unknown hyperparameter zzz=0.1", "depth, kind, lr, width")),
        ({"lr": None}, ("lr=None", "NoneType", "0.0001", "0.1")),
        ({"lr": 0.2}, ("lr=0.2", "out of range", "0.0001 to 0.1")),
        ({"lr": math.nan}, ("lr=nan", "out of range")),
        ({"lr": "0.1"}, ("lr='0.1'", "str", "a number")),
        ({"lr": True}, ("lr=True", "bool")),
        ({"width": 7}, ("width=7", "8 to 64")),
        ({"width": 8.5}, ("width=8.5", "whole number")),
        ({"width": math.inf}, ("width=inf", "8 to 64")),
        ({"kind": "c"}, ("kind='c'", "'a', 'b'")),
        ({"kind": ["a"]}, ("kind=['a']", "'a', 'b'")),
        ({"kind": "b"}, ("width=16", "inactive", "kind == 'a'", "leave it out")),
        ({"width": ...}, ("'width' is missing", "active because kind == 'a'")),
        ({"depth": ...}, ("'depth' is missing;", "give it a value")),
        ({"kind": "b", "width": ..., "depth": 3}, ("forbids kind == 'b' and depth == 3", "change one")),
    ],
)
def test_a_configuration_that_does_not_belong_is_refused_by_name_value_and_remedy(
    changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    configuration = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    with pytest.raises(SpaceError) as caught:
        sample_space().to_vectors([configuration])
    assert all(word in str(caught.value) for word in words), str(caught.value)
    with pytest.raises(SpaceError) as caught:
        sample_space().to_vectors([*[GOOD] * 12, configuration, GOOD])
    assert str(caught.value).startswith("configuration 12: ")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_bound_missed_by_a_rounding_error_is_the_bound() -> None:
    space = SearchSpace.from_configspace(CS.ConfigurationSpace({"x": (0.1, 0.3)}))
    assert space.to_values(space.to_vectors([{"x": 0.1 + 0.2}, {"x": 0.3 - 0.2}])) == [{"x": 0.3}, {"x": 0.1}]


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ([CS.Categorical("x", [[1, 2], [3, 4]])], ("'x'", "[1, 2]", "list", "use a tuple")),
        ([CS.Categorical("x", [(1, [2]), (3, 4)])], ("'x'", "[2]", "list", "use a tuple")),
        ([CS.Constant("x", {1})], ("'x'", "{1}", "set", "as a list, for example with sorted()")),
        ([CS.Constant("x", b"a")], ("'x'", "b'a'", "bytes", "use a string")),
        ([CS.Categorical("x", [1.0, math.nan])], ("'x'", "NaN", "'nan'")),
        ([CS.OrdinalHyperparameter("x", [b"a", b"b"])], ("'x'", "bytes")),
        ([CS.Integer("x", (0, 2**50))], ("'x'", str(2**50), "use a float")),
        ([CS.Integer("x", (1, 2**40 + 1), log=True)], ("'x'", str(2**40), "use a float")),
        ([], ("no hyperparameters", "add")),
    ],
)
def test_what_the_tables_cannot_hold_is_refused_by_name_and_remedy(
    hyperparameters: list[Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_configspace(CS.ConfigurationSpace(space=hyperparameters))
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_range_wider_than_the_largest_float_is_refused() -> None:
    plain = configspace_to_json(CS.ConfigurationSpace({"x": (0.0, 1.0)}))
    plain["hyperparameters"][0].update(lower=-1e308, upper=1e308)
    with pytest.raises(SpaceError, match=r"'x': the range from -1e\+308 to 1e\+308 is too wide"):
        tables(plain)


def test_a_normal_distribution_without_width_is_refused() -> None:
    plain = configspace_to_json(
        CS.ConfigurationSpace(space=[CS.Float("x", (0.5, 2.0), distribution=CS.Normal(1.0, 0.1), log=True)])
    )
    plain["hyperparameters"][0].update(sigma=0.5)
    with pytest.raises(SpaceError, match=r"'x': sigma=0.5 leaves .* without width; give a larger sigma"):
        tables(plain)


def test_something_else_than_a_space_is_refused() -> None:
    anything: Any = {"lr": (0, 1)}
    with pytest.raises(SpaceError, match=r"is a dict; give a ConfigSpace\.ConfigurationSpace"):
        SearchSpace.from_configspace(anything)
    anything = CS.ConfigurationSpace
    with pytest.raises(SpaceError, match=r"is a class ConfigurationSpace; give a ConfigSpace\.ConfigurationSpace"):
        SearchSpace.from_configspace(anything)


# ------------------------------------------------------------------------------------------------ relations


def related(left: Any, right: Any, relation: Any) -> list[tuple[Any, Any]]:
    """Pairs of values that a forbidden relation allows."""
    original = CS.ConfigurationSpace(space=[left, right])
    original.add(relation(original["l"], original["r"]))
    space = SearchSpace.from_configspace(original)
    vectors = space.enumerate()
    assert vectors is not None
    return sorted((row["l"], row["r"]) for row in space.to_values(vectors))


def test_relations_compare_values_not_positions() -> None:
    left, right = CS.OrdinalHyperparameter("l", [9, 1, 5]), CS.Integer("r", (1, 5), default=1)
    expected = [(a, b) for a in (1, 5, 9) for b in range(1, 6) if not a < b]
    assert related(left, right, CS.ForbiddenLessThanRelation) == expected


def test_relations_of_strings_go_by_the_alphabet() -> None:
    left, right = CS.Categorical("l", ["b", "a"]), CS.Categorical("r", ["c", "a"], default="a")
    assert related(left, right, CS.ForbiddenLessThanRelation) == [("a", "a"), ("b", "a")]


def test_equality_holds_between_unlike_choices_and_order_is_refused() -> None:
    left, right = CS.Categorical("l", ["x", 2, 1]), CS.Integer("r", (1, 2), default=1)
    assert related(CS.Categorical("l", [2, 1]), right, CS.ForbiddenEqualsRelation) == [(1, 2), (2, 1)]
    space = CS.ConfigurationSpace(space=[left, right])
    plain = SearchSpace.from_configspace(space).to_json()
    plain["forbidden"] = [{"op": "==", "name": "l", "other": "r"}]
    vectors = SearchSpace.from_json(plain).enumerate()
    assert vectors is not None
    assert len(vectors) == 4
    plain["forbidden"] = [{"op": "<", "name": "l", "other": "r"}]
    with pytest.raises(SpaceError, match=r"l < r compares values without a common order \('x', 2, 1\)"):
        SearchSpace.from_json(plain)


def test_a_dimension_survives_a_round_trip_through_its_plain_table() -> None:
    for dim in sample_space().dimensions:
        assert Dimension.from_plain(json.loads(json.dumps(dim.to_plain()))) == dim


# --------------------------------------------------------------------------------------------- order of choices


def chosen(choices: Sequence[Any], clause: Sequence[Any] = ("a", "b"), **about: Any) -> dict[str, Any]:
    """A space with these choices, of which a condition and a clause name two."""
    kind, x, y = CS.Categorical("kind", choices, **about), CS.Float("x", (0.0, 1.0)), CS.Integer("y", (1, 9))
    space = CS.ConfigurationSpace(space=[kind, x, y])
    space.add(CS.InCondition(x, kind, list(clause)))
    parts = CS.ForbiddenInClause(kind, list(clause)), CS.ForbiddenEqualsClause(y, 1)
    space.add(CS.ForbiddenAndConjunction(*parts))
    plain: dict[str, Any] = configspace_to_json(space)
    return plain


@pytest.mark.parametrize(
    ("then", "now", "is_same"),
    [
        (chosen("abc"), chosen("cba"), True),
        (chosen("abc"), chosen("bca", "ba"), True),
        (chosen("abc", default="b"), chosen("cab", default="b"), True),
        (chosen("abc", default="b"), chosen("cab", default="a"), False),
        (chosen("abc"), chosen("cab", default="b"), False),
        (chosen("abc", weights=[1, 2, 3]), chosen("cab", weights=[3, 1, 2]), True),
        (chosen("abc", weights=[2, 2, 1]), chosen("bac", weights=[2, 2, 1]), True),
        (chosen("abc", weights=[1, 2, 3]), chosen("cab", weights=[1, 2, 3]), False),
        (chosen("abc"), chosen("abcd"), False),
        (chosen("abc"), chosen("abd"), False),
        (chosen("abc"), chosen("abc", "bc"), False),
        (chosen(["a", "b", (1, 2), 1]), chosen([1, (1, 2), "b", "a"]), True),
        (chosen(["a", "b", True]), chosen(["a", "b", 1]), False),
    ],
)
def test_choices_in_another_order_are_the_same_space(
    then: dict[str, Any], now: dict[str, Any], is_same: bool
) -> None:
    kept = json.dumps(now)
    assert (first_difference(then, in_order_of(then, now)) is None) is is_same
    assert json.dumps(now) == kept


# ------------------------------------------------------------------------------------------------ grown spaces


def sizes(*values: str) -> CS.OrdinalHyperparameter:
    return CS.OrdinalHyperparameter("size", list(values))


def only_kind_a(space: CS.ConfigurationSpace) -> CS.EqualsCondition:
    return CS.EqualsCondition(space["lr"], space["kind"], "a")


def never_b(space: CS.ConfigurationSpace) -> CS.ForbiddenEqualsClause:
    return CS.ForbiddenEqualsClause(space["kind"], "b")


@pytest.mark.parametrize(
    ("then", "now", "grown"),
    [
        ({}, {}, True),
        ({}, {"more": [CS.Float("new", (0.0, 1.0))]}, True),
        ({"more": [CS.Float("old", (0.0, 1.0))]}, {}, False),
        ({}, {"lr": CS.Float("lr", (1e-5, 1.0), log=True)}, True),
        ({}, {"lr": CS.Float("lr", (1e-3, 1e-1), log=True)}, False),
        ({}, {"lr": CS.Float("lr", (1e-4, 1e-2), log=True)}, False),
        ({}, {"lr": CS.Float("lr", (1e-4, 1e-1), log=True, default=1e-2)}, True),
        ({}, {"lr": CS.Float("lr", (1e-4, 1e-1))}, False),
        ({}, {"lr": CS.Integer("lr", (0, 9))}, False),
        ({}, {"kind": CS.Categorical("kind", ["c", "b", "a"])}, True),
        ({}, {"kind": CS.Categorical("kind", ["a", "c"])}, False),
        ({"more": [sizes("s", "l")]}, {"more": [sizes("s", "m", "l", "xl")]}, True),
        ({"more": [sizes("s", "l")]}, {"more": [sizes("l", "m", "s")]}, False),
        ({"more": [CS.Constant("k", 1)]}, {"more": [CS.Constant("k", 2)]}, False),
        ({}, {"condition": only_kind_a}, True),
        ({"condition": only_kind_a}, {}, True),
        ({}, {"clause": never_b}, False),
        ({"clause": never_b}, {}, True),
    ],
)
def test_a_space_has_grown_if_all_that_it_had_is_valid(then: dict[str, Any], now: dict[str, Any], grown: bool) -> None:
    assert has_only_grown(configspace_to_json(variant(**then)), configspace_to_json(variant(**now))) is grown
