"""The order of results: one order for promotion, incumbent, SQL and the model, for any order of arrival."""

from __future__ import annotations

import math
import sqlite3
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.hyperband.ranking import (
    BEST_LOSS_SQL,
    INCUMBENT_FIRST_SQL,
    best_loss,
    incumbent_key,
    rank_key,
    reaches,
    rows_best_first,
    survivors,
)
from hpbandster_lite.records import ConfigId

losses = st.one_of(st.none(), st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf]), st.floats(-5, 5))
config_ids = st.builds(ConfigId, st.integers(0, 3), st.integers(0, 2), st.integers(0, 9))
rungs = st.dictionaries(config_ids, losses, max_size=30)


@given(results=rungs, places=st.integers(0, 12))
def test_the_promoted_are_the_lowest_finite_losses_with_ties_by_config_id(
    results: dict[ConfigId, float | None], places: int
) -> None:
    promoted = survivors(list(results.items()), places)
    finite = {config_id: loss for config_id, loss in results.items() if loss is not None and math.isfinite(loss)}
    assert len(promoted) == min(places, len(finite)) == len(set(promoted))
    ranks = [(finite[config_id], config_id) for config_id in promoted]
    assert ranks == sorted(ranks)
    left = [(loss, config_id) for config_id, loss in finite.items() if config_id not in promoted]
    assert all(rank < other for rank in ranks for other in left)


@given(results=rungs, places=st.integers(0, 12), data=st.data())
def test_promotion_does_not_depend_on_the_order_of_arrival(
    results: dict[ConfigId, float | None], places: int, data: st.DataObject
) -> None:
    arrived = data.draw(st.permutations(list(results.items())))
    assert survivors(arrived, places) == survivors(list(results.items()), places)


def test_a_failure_ranks_behind_every_loss() -> None:
    results = [(ConfigId(0, 0, 0), None), (ConfigId(0, 0, 1), 1e300), (ConfigId(0, 0, 2), math.nan)]
    assert min(rank_key(*result) for result in results) == rank_key(ConfigId(0, 0, 1), 1e300)


def test_a_higher_budget_comes_before_a_lower_loss() -> None:
    assert incumbent_key(3.0, 0.9, ConfigId(0, 0, 0)) < incumbent_key(1.0, 0.1, ConfigId(0, 0, 1))


# ------------------------------------------------------------------------------------------- the other places agree


class Result(NamedTuple):
    config_id: ConfigId
    budget: float
    loss: float


results = st.lists(
    st.builds(Result, config_ids, st.sampled_from([1.0, 3.0, 9.0]), st.floats(allow_nan=False, allow_infinity=False)),
    unique_by=lambda result: (result.config_id, result.budget),
    max_size=20,
) | st.lists(
    st.builds(Result, config_ids, st.sampled_from([1.0, 3.0]), st.sampled_from([-0.0, 0.0, 1.0])),
    unique_by=lambda result: (result.config_id, result.budget),
    max_size=20,
)


@given(results=results)
def test_sql_sorts_as_python_does(results: list[Result]) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE evaluations (bracket, sampled_rung, number, budget REAL, loss REAL)")
        connection.executemany(
            "INSERT INTO evaluations VALUES (?, ?, ?, ?, ?)",
            [(*result.config_id, result.budget, result.loss) for result in results],
        )
        query = f"SELECT * FROM evaluations ORDER BY {INCUMBENT_FIRST_SQL}"  # noqa: S608  # a constant of ours
        rows = connection.execute(query).fetchall()
        # Names of our own tables.
        (lowest,) = connection.execute(f"SELECT {BEST_LOSS_SQL} FROM evaluations").fetchone()  # noqa: S608
    finally:
        connection.close()
    assert lowest == best_loss(result.loss for result in results)
    in_sql = [Result(ConfigId(*ids), budget, loss) for *ids, budget, loss in rows]
    assert in_sql == sorted(results, key=lambda each: incumbent_key(each.budget, each.loss, each.config_id))


@given(results=st.lists(st.builds(Result, config_ids, st.just(1.0), st.floats(-5, 5)), unique_by=lambda each: each[0]))
def test_at_one_budget_the_incumbent_is_the_first_to_be_promoted(results: list[Result]) -> None:
    in_order = sorted(results, key=lambda each: incumbent_key(each.budget, each.loss, each.config_id))
    promoted = survivors([(each.config_id, each.loss) for each in results], len(results))
    assert promoted == [each.config_id for each in in_order]


@given(results=rungs)
def test_the_models_order_differs_from_that_of_promotion_among_ties_only(
    results: dict[ConfigId, float | None],
) -> None:
    by_id = sorted(results.items())
    losses = np.array([loss if loss is not None and math.isfinite(loss) else math.inf for _, loss in by_id])
    # If results arrive in the order of their config ids, ties have one order.
    rows = [by_id[row][0] for row in rows_best_first(losses)]
    assert rows == [config_id for _, _, config_id in sorted(rank_key(*result) for result in by_id)]


def test_the_model_keeps_the_order_of_arrival_among_equal_losses() -> None:
    assert rows_best_first(np.array([1.0, 0.5, 1.0, math.inf, 0.5])).tolist() == [1, 4, 0, 2, 3]


@pytest.mark.parametrize(("loss", "is_reached"), [(0.4, True), (0.5, True), (0.6, False)])
def test_a_target_is_reached_by_an_equal_or_lower_loss(loss: float, is_reached: bool) -> None:
    assert reaches(loss, 0.5) is is_reached
