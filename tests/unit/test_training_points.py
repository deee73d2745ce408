"""The points of a training: the same for any machine, few, and nearly free beside the training."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.workers.training.points import (
    FORWARD,
    MOST,
    NORM_EXAMPLES,
    Point,
    norm_batches,
    points_of,
    share_of_ends,
)
from hpbandster_lite.workers.training.schedule import Budget, Unit

UNITS = st.sampled_from(["seconds", "epochs"])
LADDERS = st.lists(st.floats(0.1, 1e4), min_size=1, max_size=8, unique=True).map(sorted).filter(
    lambda ladder: all(high > 1.01 * low for low, high in pairwise(ladder))
)  # fmt: skip
COUNTS = st.integers(1, 10**6)


@given(LADDERS, UNITS, COUNTS, COUNTS, st.booleans())
def test_every_rung_s_end_is_a_point_and_there_are_at_most_twenty(
    ladder: list[float], unit: Unit, training: int, validation: int, continues: bool
) -> None:
    found = points_of(Budget.on(ladder, ladder[-1], unit), training, validation, continues=continues)
    places = [point.at for point in found]
    assert places == sorted(set(places))
    assert set(ladder) <= set(places)
    assert places[-1] == ladder[-1]
    assert len(found) <= MOST
    assert found[-1].is_full


@given(LADDERS, UNITS, COUNTS, COUNTS, st.booleans())
def test_the_points_up_to_a_rung_are_the_same_for_every_budget_of_the_ladder(
    ladder: list[float], unit: Unit, training: int, validation: int, continues: bool
) -> None:
    whole = points_of(Budget.on(ladder, ladder[-1], unit), training, validation, continues=continues)
    for rung in ladder:
        found = points_of(Budget.on(ladder, rung, unit), training, validation, continues=continues)
        until = [point for point in whole if point.at <= rung]
        assert [point.at for point in found] == [point.at for point in until]
        assert found[:-1] == tuple(until[:-1])
        # The end of a rung is judged on all examples where the next one continues from there, in both trainings.
        assert found[-1].is_full
        assert until[-1].is_full or not continues


@given(st.integers(1_000, 10**6), st.integers(1, 10**6), st.integers(1, 1_000), st.integers(1, 512))
def test_judgements_for_the_curve_cost_at_most_a_small_share_beside_the_ends(
    training: int, validation: int, epochs: int, batch_size: int
) -> None:
    *before, _ = points_of(Budget(amount=epochs), training, validation, continues=False)
    judged = sum((validation if point.examples is None else point.examples) + NORM_EXAMPLES for point in before)
    assert FORWARD * judged <= 0.02 * epochs * training
    # The last batch of the pass may exceed the examples.
    assert norm_batches(batch_size, is_full=False) * batch_size < NORM_EXAMPLES + batch_size


def test_no_pass_has_more_batches_than_it_may() -> None:
    assert [norm_batches(size, is_full=True) for size in (1, 20, 128, 512, 4_096)] == [100, 100, 16, 4, 1]
    assert [norm_batches(size, is_full=False) for size in (1, 50, 128, 512)] == [10, 10, 4, 1]


def test_a_documented_search_has_few_points_on_few_images() -> None:
    # 6,000 validation images for an epoch of 5,000.
    found = points_of(Budget.on((1, 3, 9, 27), 27, "epochs"), 5_000, 6_000, continues=False)
    assert found == (
        Point(1, 500), Point(3, 500), Point(9, 1214), Point(13, 528), Point(16, 528), Point(20, 528), Point(23, 528),
        Point(27),
    )  # fmt: skip


def test_a_large_training_set_is_judged_at_most_once_an_epoch() -> None:
    found = points_of(Budget.on((1, 3, 7, 15), 15, "epochs"), 54_000, 6_000, continues=True)
    assert [point.at for point in found] == [1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 13, 15]
    assert [point.at for point in found if point.is_full] == [1, 3, 7, 15]


def test_seconds_have_the_points_of_epochs_in_the_same_proportions() -> None:
    seconds = points_of(Budget.on((4, 12, 36, 108), 108, "seconds"), 5_000, 500, continues=True)
    epochs = points_of(Budget.on((1, 3, 9, 27), 27, "epochs"), 5_000, 500, continues=True)
    assert [point.examples for point in seconds] == [point.examples for point in epochs]
    # Epochs are whole.
    assert [point.at / 4 for point in seconds] == pytest.approx([point.at for point in epochs], abs=0.5)


def test_a_training_without_a_ladder_has_its_end_alone_or_points_at_whole_epochs() -> None:
    assert points_of(Budget(amount=1), 100, 10, continues=False) == (Point(1),)
    found = points_of(Budget(amount=50), 50_000, 100, continues=False)
    assert [point.at for point in found] == [round(2.5 * k) for k in range(1, 20)] + [50]


def test_the_share_of_the_ends_falls_with_the_budget() -> None:
    assert share_of_ends(1, 5_000, 6_000) == pytest.approx(0.36, abs=0.01)
    assert share_of_ends(27, 5_000, 6_000) == pytest.approx(0.02, abs=0.001)
    # A pass has at most all training examples.
    assert share_of_ends(1, 100, 100) == pytest.approx(70 / 170)
