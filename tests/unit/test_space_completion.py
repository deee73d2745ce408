"""Configurations of users: completed, with every bit of what was given, in every form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ConfigSpace as CS  # noqa: N817  (its own documentation calls it so)
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.space import Cell, Completed, SearchSpace, completed
from hpbandster_lite.space.completion import from_cell
from hpbandster_lite.space.examples import EXAMPLES, space_of


def sample() -> SearchSpace:
    """``rate`` is active for a steep one, ``width`` for a flat one; a steep one has no depth of 3."""
    kind, rate = CS.Categorical("kind", ["flat", "steep"]), CS.Float("rate", (1e-3, 1.0), log=True, default=0.25)
    width, depth = CS.Integer("width", (8, 64), default=16), CS.Integer("depth", (1, 3), default=2)
    act = CS.Categorical("act", ["relu", None], default="relu")
    return space_of(
        *(kind, rate, width, depth, act, CS.Constant("c", "a")),
        clauses=[
            CS.EqualsCondition(rate, kind, "steep"),
            CS.EqualsCondition(width, kind, "flat"),
            CS.ForbiddenAndConjunction(CS.ForbiddenEqualsClause(kind, "steep"), CS.ForbiddenEqualsClause(depth, 3)),
        ],
    )


def complete(*rows: Mapping[Any, Any], space: SearchSpace | None = None) -> list[Completed]:
    return completed(space or sample(), rows, np.random.default_rng)


FLAT = {"act": "relu", "c": "a", "depth": 2, "kind": "flat", "width": 16}


def test_what_is_left_out_is_as_in_the_default_or_sampled_and_named() -> None:
    (nothing,) = complete({})
    assert nothing.values == FLAT
    assert nothing.note == "act='relu', depth=2, kind='flat', width=16 as in the default configuration"
    (steep,) = complete({"kind": "steep", "depth": 1, "act": None})
    assert list(steep.sampled) == ["rate"]
    assert 1e-3 <= steep.values["rate"] <= 1.0  # type: ignore[operator]  # rate is a number
    assert steep.values == {"kind": "steep", "rate": steep.values["rate"], "depth": 1, "act": None, "c": "a"}
    assert steep.note == f"rate={steep.values['rate']} sampled"
    (whole,) = complete({"kind": "flat", "width": 9, "depth": 1, "act": "relu"})
    assert (whole.note, whole.values["c"]) == ("", "a")


def test_the_same_generator_completes_in_the_same_way() -> None:
    assert complete({"kind": "steep"}) == complete({"kind": "steep"})
    first, second = complete({"kind": "steep"}, {"kind": "steep"})
    assert first.values != second.values


@pytest.mark.parametrize("given_part", [{"rate": 0.125}, {"rate": 0.125, "act": None}])
def test_what_is_left_out_is_sampled_where_the_default_does_not_fit(given_part: dict[str, Any]) -> None:
    (found,) = complete(given_part)
    assert {"kind": "steep", **given_part}.items() <= found.values.items()
    assert found.sampled["kind"] == "steep"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"kind": "flat", "rate": 0.5}, "rate=0.5 is inactive: it requires kind == 'steep'; leave it out"),
        ({"kind": "steep", "depth": 3}, "the space forbids kind == 'steep' and depth == 3"),
        ({"depht": 3}, "unknown hyperparameter depht=3; did you mean 'depth'?"),
        ({"config.depht": 3}, "unknown hyperparameter depht=3; did you mean 'depth'?"),
        ({"depth": 4}, "depth=4 is out of range; give a whole number from 1 to 3"),
        ({"depth": None}, "depth=None is a NoneType; give a whole number from 1 to 3, or leave it out"),
        ({"depth": math.nan}, "depth=nan is out of range"),
        ({"depth": Cell("two")}, "depth='two' is a str; give a whole number from 1 to 3"),
        ({"act": Cell("tanh")}, "act='tanh' is not one of its values; choose from 'relu', None"),
    ],
)
def test_what_cannot_be_completed_is_refused_with_its_number(row: dict[str, Any], words: str) -> None:
    with pytest.raises(SpaceError) as caught:
        complete(row)
    assert str(caught.value).startswith(words)
    with pytest.raises(SpaceError) as caught:
        complete({}, row)
    assert str(caught.value).startswith(f"configuration 1: {words}")


# ---------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("missing", [math.nan, pd.NA, np.float64("nan")], ids=["nan", "NA", "numpy"])
def test_a_row_of_our_tables_is_a_configuration_with_what_is_missing_left_out(missing: Any) -> None:
    row = {
        "config_id": "0-0-1", "bracket": 0, "origin": "random", "model_budget": missing, "config.kind": "flat",
        "config.rate": missing, "config.width": 16, "config.depth": 2.0, "config.act": None, "config.c": "a",
    }  # fmt: skip
    (found,) = complete(row)
    assert repr(found.values) == repr(FLAT | {"act": None})
    assert found.note == ""


def test_none_in_a_row_is_left_out_where_it_is_no_choice() -> None:
    (found,) = complete({"config.kind": "flat", "config.rate": None, "config.width": 16})
    assert found.values == FLAT


def test_what_best_prints_is_a_configuration() -> None:
    assert complete({"config_id": [0, 0, 1], "values": FLAT, "loss": 0.5})[0].values == FLAT


def test_a_hyperparameter_may_have_the_name_of_a_column() -> None:
    space = space_of(CS.Integer("config.n", (1, 9)), CS.Integer("values", (1, 9)))
    (found,) = complete({"config.n": 3, "values": 4}, space=space)
    assert found.values == {"config.n": 3, "values": 4}


# --------------------------------------------------------------------------------------------------------------- cells


@pytest.mark.parametrize(
    ("hyperparameter", "cell", "value"),
    [
        *((CS.Float("x", (0.0, 1.0)), text, value) for text, value in (("0.5", 0.5), ("5e-1", 0.5), ("1", 1.0))),
        *((CS.Integer("x", (1, 9)), text, 3) for text in ("3", "3.0", "3e0", " 3 ")),
        *((CS.Categorical("x", [True, False]), text, True) for text in ("true", "True", "TRUE")),
        (CS.Categorical("x", ["TRUE", "FALSE"]), "TRUE", "TRUE"),
        *((CS.Categorical("x", ["a", None]), text, None) for text in ("null", "None")),
        (CS.Categorical("x", ["null", "b"]), "null", "null"),
        (CS.Categorical("x", ["1", "2"]), "1", "1"),
        (CS.Categorical("x", [1, 2]), "1", 1),
        (CS.Categorical("x", [0.1, 1.0]), "1", 1.0),
        (CS.Categorical("x", ["1", 1]), "1", "1"),
        (CS.Categorical("x", ["a b", "c"]), " a b", "a b"),
        (CS.OrdinalHyperparameter("x", ["s", "m"]), "m", "m"),
        *((CS.Categorical("x", [(3, 3), (5, 5)]), text, [5, 5]) for text in ("(5, 5)", "[5, 5]", "[5,5]")),
    ],
)
def test_a_cell_has_the_type_of_its_hyperparameter(hyperparameter: Any, cell: str, value: Any) -> None:
    space = space_of(hyperparameter)
    (found,) = complete({"x": Cell(cell)}, space=space)
    assert repr(found.values["x"]) == repr(value)


def test_an_empty_cell_is_left_out() -> None:
    assert complete({"width": Cell(""), "depth": Cell("2"), "kind": Cell(" ")})[0].values == FLAT


@pytest.mark.parametrize("name", EXAMPLES)
@given(seed=st.integers(0, 2**32))
def test_every_configuration_comes_back_from_its_cells_and_from_itself(name: str, seed: int) -> None:
    space = EXAMPLES[name]()
    (values,) = space.to_values(space.sample(np.random.default_rng(seed), 1))
    cells = {each: Cell("null" if value is None else str(value)) for each, value in values.items()}
    assert [each.values for each in complete(values, cells, space=space)] == [values, values]


@given(value=st.floats(1e-3, 1.0))
def test_every_bit_of_a_float_arrives(value: float) -> None:
    (found,) = complete({"kind": "steep", "rate": value})
    assert repr(found.values["rate"]) == repr(value)
    assert from_cell(sample().dimensions[sample().names.index("rate")], repr(value)) == value
