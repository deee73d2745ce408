"""The blended density ratio: a probability, its sets and weights, and the history that it reads."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from ConfigSpace import Categorical, EqualsCondition, Float, Integer
from scipy.stats import kstest

from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.samplers.blend.density import Mixture
from hpbandster_lite.samplers.blend.ratio import BlendedRatio, budget_weights, good_weights
from hpbandster_lite.samplers.history import History
from hpbandster_lite.samplers.kde.axes import axes_of
from hpbandster_lite.space import Array, SearchSpace
from hpbandster_lite.space.examples import space_of, square

BUDGETS = (1.0, 3.0, 9.0)


def mixed_space() -> SearchSpace:
    kind, extra = Categorical("kind", ["a", "b", "c"]), Categorical("extra", ["p", "q"])
    rate = Float("rate", (0.0, 1.0))
    return space_of(kind, extra, rate, clauses=[EqualsCondition(extra, kind, "a"), EqualsCondition(rate, kind, "b")])


def observed(vectors: Array, budget: float, losses: list[float | None], history: History | None = None) -> History:
    history = history or History(BUDGETS, vectors.shape[1])
    for vector, loss in zip(vectors, losses, strict=True):
        history.observe(vector, budget, loss)
    return history


# ------------------------------------------------------------------------------------------------ the density


@pytest.mark.parametrize("m", [0, 1, 5])
def test_the_density_is_a_probability(m: int) -> None:
    space = mixed_space()
    rng = np.random.default_rng(m)
    mixture = Mixture(axes_of(space), space.sample(rng, m), rng.random(m) + 0.1)
    # All three dimensions with a value: levels are summed, the float is integrated on a fine grid.
    grid = (np.arange(400) + 0.5) / 400
    total = 0.0
    for kind, extra in itertools.product((1 / 6, 0.5, 5 / 6), (0.25, 0.75)):
        rows = np.column_stack([np.full(400, kind), np.full(400, extra), grid])
        total += float(np.exp(mixture.log_density(rows[:, [space.names.index(n) for n in space.names]])).mean())
    assert total == pytest.approx(1.0, abs=2e-3)


def test_a_dimension_that_the_candidate_lacks_counts_with_the_factor_one() -> None:
    space = mixed_space()
    rng = np.random.default_rng(2)
    axes = axes_of(space)
    vectors = space.sample(rng, 6)
    column = space.names.index("rate")
    mixture = Mixture(axes, vectors, np.ones(6))
    row = np.array([[0.5, 0.25, 0.5]])
    grid = np.repeat(row, 2000, axis=0)
    grid[:, column] = (np.arange(2000) + 0.5) / 2000
    without = row.copy()
    without[:, column] = math.nan
    integral = np.exp(mixture.log_density(grid)).mean()
    assert integral == pytest.approx(float(np.exp(mixture.log_density(without))[0]), rel=1e-3)


def test_draws_follow_the_density() -> None:
    space = space_of(Float("x", (0.0, 1.0)), Categorical("c", ["a", "b", "d"]))
    ordered = np.empty((3, 2))
    ordered[:, space.names.index("x")] = [0.2, 0.25, 0.9]
    ordered[:, space.names.index("c")] = [1 / 6, 1 / 6, 5 / 6]
    mixture = Mixture(axes_of(space), ordered, np.array([1.0, 2.0, 1.0]))
    drawn = mixture.draw(np.random.default_rng(0), 20_000)
    x, c = drawn[:, space.names.index("x")], drawn[:, space.names.index("c")]
    grid = (np.arange(1000) + 0.5) / 1000
    total = np.zeros(1000)
    for level, coordinate in enumerate((1 / 6, 0.5, 5 / 6)):
        rows = np.empty((1000, 2))
        rows[:, space.names.index("x")], rows[:, space.names.index("c")] = grid, coordinate
        density = np.exp(mixture.log_density(rows))
        assert (np.floor(c * 3) == level).mean() == pytest.approx(density.mean(), abs=0.015)
        total += density
    cumulated = np.cumsum(total) / total.sum()
    assert kstest(x, lambda values: np.interp(values, grid, cumulated)).pvalue > 1e-3


def test_no_kernel_is_narrower_than_a_hundredth_of_the_range_or_three_tenths_of_a_level() -> None:
    space = space_of(Float("x", (0.0, 1.0)), Integer("n", (1, 4)))
    axes = axes_of(space)
    same = np.full((500, 2), 0.375)
    rows = np.full((1, 2), 0.375)
    for name, narrowest in (("x", 0.01), ("n", 0.3 / 4)):
        column = space.names.index(name)
        away = rows.copy()
        away[:, column] += 0.02
        mixture = Mixture(axes, same, np.ones(500))
        fall = float((mixture.log_density(rows) - mixture.log_density(away))[0])
        assert fall == pytest.approx(0.5 * (0.02 / narrowest) ** 2, rel=0.1)


# ------------------------------------------------------------------------------------------------ sets and weights


def test_good_configurations_weigh_by_their_improvement_over_the_best_bad_one() -> None:
    assert good_weights(np.array([1.0, 2.0, 3.0, 4.0]), 2) == pytest.approx([1.1, 0.6])
    assert good_weights(np.array([1.0, 2.0, math.inf]), 2) == pytest.approx([1.1, 0.1])
    assert good_weights(np.array([2.0, 2.0, 2.0]), 2) == pytest.approx([1.0, 1.0])
    assert good_weights(np.array([-1.7e308, 0.0, 1.7e308]), 2) == pytest.approx([1.1, 0.6])


def test_a_budget_weighs_by_its_results_and_its_agreement_with_the_highest_usable_one() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.random((20, 2))
    losses = vectors[:, 0].tolist()
    same = observed(vectors[:12], 3.0, losses[:12], observed(vectors, 1.0, losses))
    opposite = observed(vectors[:12], 3.0, losses[:12], observed(vectors, 1.0, [-loss for loss in losses]))
    few = observed(vectors[:3], 3.0, losses[:3], observed(vectors, 1.0, losses))
    here, there = 20 / 24, 12 / 16
    agreement = (12 + 6 * 0.7) / 18
    assert budget_weights(same, 1, 2)[0] == pytest.approx(agreement * here / (agreement * here + there))
    assert budget_weights(opposite, 1, 2)[0] == pytest.approx(0.02 * here / (0.02 * here + there))
    assert budget_weights(few, 0, 2) == {0: 1.0}, "three results have no weight"


def test_losses_without_an_order_agree_as_expected() -> None:
    vectors = np.random.default_rng(0).random((10, 2))
    history = observed(vectors, 3.0, [1.0] * 10, observed(vectors, 1.0, vectors[:, 0].tolist()))
    assert budget_weights(history, 1, 2)[0] == pytest.approx(0.7 / 1.7)


def test_the_ratio_prefers_what_is_near_to_the_good_and_avoids_what_runs() -> None:
    space = square()
    rng = np.random.default_rng(1)
    vectors = space.sample(rng, 30)
    history = observed(vectors, 1.0, ((vectors - 0.3) ** 2).sum(axis=1).tolist())
    ratio = BlendedRatio(axes_of(space), history)
    near, far = np.array([[0.3, 0.3]]), np.array([[0.9, 0.9]])
    assert ratio.highest_usable() == 0
    assert ratio.score(near) > ratio.score(far) + 1
    before = ratio.score(near)
    history.begin(near[0], 3.0)
    assert ratio.score(near) < before
    history.end(near[0], 3.0)
    assert ratio.score(near) == before


def test_bad_results_are_never_good_and_do_not_make_a_budget_usable() -> None:
    space = square()
    vectors = space.sample(np.random.default_rng(1), 30)
    history = observed(vectors[:10], 1.0, [None] * 6 + vectors[6:10, 0].tolist())
    ratio = BlendedRatio(axes_of(space), history)
    assert ratio.highest_usable() is None
    with pytest.raises(InvariantBroken, match="no budget has enough results"):
        ratio.score(vectors)
    observed(vectors[10:], 1.0, vectors[10:, 0].tolist(), history)
    assert ratio.highest_usable() == 0
    assert np.isfinite(ratio.score(vectors)).all()


# ------------------------------------------------------------------------------------------------ the history


def test_the_best_configurations_come_from_the_highest_budget_first_and_once() -> None:
    vectors = np.arange(8.0).reshape(4, 2) / 8
    history = observed(vectors, 1.0, [4.0, 3.0, 2.0, None])
    observed(vectors[:2], 9.0, [8.0, 9.0], history)
    assert history.best(9).vectors.tolist() == vectors[:3].tolist()
    assert history.best(2).vectors.tolist() == vectors[:2].tolist()
    assert history.best(9).numbers.tolist() == [0, 1, 2]


def test_the_only_result_can_be_forgotten_and_others_follow_it() -> None:
    history = History(BUDGETS, 2)
    history.observe([0.1, 0.2], 1.0, None)
    kept = history.table()
    history.forget([0.1, 0.2], 1.0)
    for number in range(40):
        history.observe([0.1, number / 40], 1.0, float(number))
    assert history.table().losses.tolist() == list(range(40))
    assert kept.losses.tolist() == [math.inf], "a table that was given out does not change"


def test_a_result_ends_what_runs_and_a_forgotten_one_leaves_no_trace() -> None:
    vectors = np.array([[0.1, math.nan], [0.2, 0.3]])
    history = History(BUDGETS, 2)
    history.begin(vectors[0], 1.0)
    history.begin(vectors[0], 3.0)
    history.begin(vectors[0], 3.0)
    assert history.running().rungs.tolist() == [0, 1]
    history.observe(vectors[0], 1.0, None)
    assert history.running().rungs.tolist() == [1]
    history.observe(vectors[1], 1.0, 0.5)
    history.forget(vectors[0], 1.0)
    assert history.table().losses.tolist() == [0.5]
    assert history.number_of(vectors[1]) == 1
    assert history.number_of(np.array([0.7, 0.7])) == -1
    with pytest.raises(InvariantBroken, match="none was observed"):
        history.forget(vectors[0], 1.0)
    with pytest.raises(InvariantBroken, match="not in the ladder"):
        history.begin(vectors[0], 2.0)
    with pytest.raises(InvariantBroken, match="must be finite"):
        history.observe(vectors[0], 1.0, math.nan)
