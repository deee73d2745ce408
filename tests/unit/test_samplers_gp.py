"""The Gaussian process: its gradient, its posterior beside a dense one, transformations beside scipy's, the search."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from hpbandster_lite.samplers.gp.acquisition import CandidateSearch, log_expected_improvement
from hpbandster_lite.samplers.gp.features import Features
from hpbandster_lite.samplers.gp.fit import chosen, fitted, most_probable, next_fit_at
from hpbandster_lite.samplers.gp.kernel import JITTER, Criterion, Kernel, Layout, Points
from hpbandster_lite.samplers.gp.posterior import Factor, Posterior
from hpbandster_lite.samplers.gp.targets import EXPONENTS, box_cox, likeliest_exponent, standardised, yeo_johnson
from hpbandster_lite.samplers.history import Table
from hpbandster_lite.samplers.kde.axes import axes_of
from hpbandster_lite.space import Array
from hpbandster_lite.space.examples import conditional_space, square

LAYOUT = Layout(3, 3)
GROUP = np.array([0, 1, 2, 2])


def points(rng: np.random.Generator, n: int, configurations: int = 1000) -> Points:
    """Evaluations of random configurations, of which some are the same."""
    features = rng.random((configurations, 4))
    numbers = rng.integers(configurations, size=n)
    return Points(features[numbers], rng.integers(3, size=n), numbers)


def parameters(rng: np.random.Generator) -> Array:
    mean, _ = LAYOUT.priors()
    return mean + 0.4 * rng.normal(size=LAYOUT.size)


def plain_covariance(theta: Array, left: Points, right: Points) -> Array:
    """The formula of the kernel's docstring in loops, without noise."""
    lengths, (a1, a2, a3, gamma) = np.exp(theta[:3]), np.exp(theta[3:7])
    scales, own = [*np.exp(theta[10:12]), 1.0], np.exp(theta[12:])
    result = np.empty((len(left), len(right)))
    for i in range(len(left)):
        for j in range(len(right)):
            r, q = left.rungs[i], right.rungs[j]
            difference = (left.features[i] - right.features[j]) / lengths[GROUP]
            u = math.sqrt(5 * float(difference @ difference))
            smooth = (1 + u + u * u / 3) * math.exp(-u)
            gap = abs(int(r) - int(q))
            result[i, j] = scales[r] * scales[q] * smooth * (a1 + a2 * math.exp(-gamma * gap))
            result[i, j] += a3 * math.exp(-gap / 2)
            result[i, j] += (left.numbers[i] == right.numbers[j]) * own[r] * own[q]
    return result


# ------------------------------------------------------------------------------------------------ covariance and fit


def test_the_covariance_is_the_formula_of_the_method() -> None:
    rng = np.random.default_rng(1)
    theta = parameters(rng)
    left, right = points(rng, 7, 4), points(rng, 5, 4)
    kernel = Kernel(LAYOUT, GROUP, theta)
    assert np.allclose(kernel.between(left, right), plain_covariance(theta, left, right), atol=1e-12)
    at_top = Points(right.features, np.full(5, 2), right.numbers)
    assert np.allclose(kernel.between(left, at_top), plain_covariance(theta, left, at_top), atol=1e-12)
    assert np.allclose(kernel.variance(left.rungs), np.diag(plain_covariance(theta, left, left)), atol=1e-12)


def test_a_configuration_that_was_not_evaluated_has_no_own_part() -> None:
    rng = np.random.default_rng(2)
    some = points(rng, 6, 3)
    unknown = Points(some.features, some.rungs, np.full(6, -1))
    kernel = Kernel(LAYOUT, GROUP, parameters(rng))
    assert np.array_equal(kernel.between(unknown, unknown), kernel.between(some, some, own=False))
    assert np.array_equal(kernel.between(some, unknown), kernel.between(some, some, own=False))
    assert (kernel.variance(some.rungs) > kernel.variance(some.rungs, own=False)).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = points(rng, 25, 12)
    criterion = Criterion(LAYOUT, GROUP, some, rng.normal(size=25))
    theta = parameters(rng)
    _, gradient = criterion(theta)
    steps = 1e-5 * np.eye(LAYOUT.size)
    numeric = [(criterion(theta + step)[0] - criterion(theta - step)[0]) / 2e-5 for step in steps]
    assert np.allclose(gradient, numeric, rtol=1e-5, atol=1e-5)


def test_the_criterion_is_minus_the_log_density_of_targets_and_parameters() -> None:
    rng = np.random.default_rng(5)
    some, targets = points(rng, 9, 5), rng.normal(size=9)
    criterion = Criterion(LAYOUT, GROUP, some, targets)
    mean, deviation = LAYOUT.priors()

    def plain(theta: Array) -> float:
        covariance = plain_covariance(theta, some, some) + np.diag(np.exp(theta[7:10])[some.rungs] + JITTER)
        density = stats.multivariate_normal(np.zeros(9), covariance).logpdf(targets)
        return -float(density) - float(np.sum(stats.norm.logpdf(theta, mean, deviation)))

    first, second = parameters(rng), parameters(rng)
    assert criterion(first)[0] - criterion(second)[0] == pytest.approx(plain(first) - plain(second), rel=1e-9)


def test_a_covariance_without_a_factor_is_worse_than_any_other() -> None:
    rng = np.random.default_rng(6)
    same = Points(np.full((30, 4), 0.5), np.full(30, 2), np.zeros(30, dtype=np.intp))
    criterion = Criterion(LAYOUT, GROUP, same, rng.normal(size=30))
    theta = LAYOUT.priors()[0]
    theta[LAYOUT.shared], theta[LAYOUT.noises] = 40.0, -60.0
    value, gradient = criterion(theta)
    assert value > criterion(LAYOUT.priors()[0])[0]
    assert not gradient.any()


def test_the_fit_is_more_probable_than_its_start_and_finds_what_matters() -> None:
    rng = np.random.default_rng(7)
    some = points(rng, 90)
    targets = np.sin(5 * some.features[:, 0]) + 0.05 * rng.normal(size=90)
    criterion = Criterion(LAYOUT, GROUP, some, (targets - targets.mean()) / targets.std())
    start = LAYOUT.priors()[0]
    found = most_probable(criterion, LAYOUT, start, 40)
    assert criterion(found)[0] < criterion(start)[0] - 20
    assert found[0] < min(found[1:3]) - 1, "the first hyperparameter alone matters, so its length is the shortest"


def test_a_chain_of_fits_depends_on_its_results_alone() -> None:
    space = conditional_space()
    axes = axes_of(space)
    rng = np.random.default_rng(8)
    vectors = space.sample(rng, 40)
    losses = np.nan_to_num(vectors[:, 5]) + 0.1
    table = Table(vectors=vectors, rungs=rng.integers(3, size=40), numbers=np.arange(40), losses=losses)
    layout, features = Layout(axes.d, 3), Features(axes)
    first = fitted(layout, features, table.take(slice(30)), None)
    assert (first.number, first.results) == (0, 30)
    second = fitted(layout, features, table, first)
    assert (second.number, second.results) == (1, 40)
    assert second == fitted(layout, features, table, fitted(layout, features, table.take(slice(30)), None))
    assert len(second.parameters) == layout.size


@pytest.mark.parametrize(("results", "due"), [(10, 20), (20, 30), (33, 43), (34, 45), (100, 130), (1000, 1300)])
def test_fits_are_due_at_numbers_of_results(results: int, due: int) -> None:
    assert next_fit_at(results) == due


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 40))
def test_the_highest_rungs_are_chosen_first(rungs: list[int], most: int) -> None:
    rows = chosen(np.array(rungs), most)
    assert len(rows) == min(most, len(rungs))
    assert (np.diff(rows) > 0).all()
    left = np.delete(np.array(rungs), rows)
    assert not len(left) or left.max() <= np.array(rungs)[rows].min()


# ------------------------------------------------------------------------------------------------ posterior


def dense(theta: Array, known: Points, targets: Array, running: Points, at: Points) -> tuple[Array, Array]:
    """Mean and deviation by the textbook's formulas, with running evaluations at their own mean."""
    noises = np.exp(theta[7:10]) + JITTER
    every = Points(*(np.concatenate([a, b]) for a, b in (
        (known.features, running.features), (known.rungs, running.rungs), (known.numbers, running.numbers))))
    covariance = plain_covariance(theta, every, every) + np.diag(noises[every.rungs])
    n = len(known)
    weights = np.linalg.solve(covariance[:n, :n], targets)
    believed = np.append(targets, covariance[n:, :n] @ weights)
    cross = plain_covariance(theta, every, at)
    mean = cross.T @ np.linalg.solve(covariance, believed)
    variance = np.diag(plain_covariance(theta, at, at)) - (cross * np.linalg.solve(covariance, cross)).sum(axis=0)
    return mean, np.sqrt(variance)


@pytest.mark.parametrize("running", [0, 3])
@pytest.mark.parametrize("appended", [0, 6])
def test_the_posterior_is_that_of_a_dense_reference(running: int, appended: int) -> None:
    rng = np.random.default_rng(10 * running + appended)
    theta = parameters(rng)
    every, targets = points(rng, 20, 9), rng.normal(size=20)
    pending = points(rng, running, 9)
    kernel = Kernel(LAYOUT, GROUP, theta)
    factor = Factor.of(kernel, every.take(slice(20 - appended))).with_each(every.take(slice(20 - appended, None)))
    posterior = Posterior(factor, targets, pending)
    candidates = Points(rng.random((5, 4)), np.full(5, 2), np.full(5, -1))
    mean, deviation = dense(theta, every, targets, pending, candidates)
    own = np.exp(theta[12:])[2]
    found_mean, found_deviation = posterior.mean_and_deviation(candidates)
    assert np.allclose(found_mean, mean, atol=1e-9)
    # The textbook's prior variance has the own part of the candidate, which equals itself; the search leaves it out.
    assert np.allclose(found_deviation**2, deviation**2 - own**2, atol=1e-9)
    again = Points(every.features[:4], np.full(4, 2), every.numbers[:4])
    assert np.allclose(posterior.mean(again), dense(theta, every, targets, pending, again)[0], atol=1e-9)


def test_running_evaluations_change_no_mean_and_reduce_the_deviation() -> None:
    rng = np.random.default_rng(11)
    kernel = Kernel(LAYOUT, GROUP, parameters(rng))
    known, targets = points(rng, 15), rng.normal(size=15)
    candidate = Points(rng.random((1, 4)), np.array([2]), np.array([-1]))
    running = Points(candidate.features, candidate.rungs, np.array([2000]))
    factor = Factor.of(kernel, known)
    free = Posterior(factor, targets, running.take(slice(0))).mean_and_deviation(candidate)
    taken = Posterior(factor, targets, running).mean_and_deviation(candidate)
    assert taken[0] == pytest.approx(free[0], abs=1e-12)
    assert taken[1] < 0.9 * free[1]


def test_many_results_of_one_configuration_have_a_posterior() -> None:
    theta = LAYOUT.priors()[0]
    theta[LAYOUT.shared], theta[LAYOUT.noises] = 5.0, -40.0
    same = Points(np.full((60, 4), 0.5), np.full(60, 2), np.zeros(60, dtype=np.intp))
    kernel = Kernel(LAYOUT, GROUP, theta)
    half = Factor.of(kernel, same.take(slice(30)))
    for factor in (Factor.of(kernel, same), half.with_each(same.take(slice(30, 60)))):
        mean = Posterior(factor, np.full(60, 0.7), same.take(slice(0))).mean(same.take(slice(1)))
        assert mean[0] == pytest.approx(0.7, abs=0.01)


# ------------------------------------------------------------------------------------------------ targets


@pytest.mark.parametrize("exponent", [-1.5, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_transformations_are_those_of_scipy(exponent: float) -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert np.allclose(yeo_johnson(values, exponent), stats.yeojohnson(values, exponent))
    assert np.allclose(box_cox(np.exp(values), exponent), stats.boxcox(np.exp(values), exponent))


@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_the_exponent_is_the_most_likely_one_of_the_grid(shift: float) -> None:
    losses = np.exp(np.random.default_rng(1).normal(size=200)) + shift
    bounded = np.minimum(losses, np.quantile(losses, 0.9))
    if shift:
        scaled = (bounded - np.median(bounded)) / bounded.std()
        best = max(EXPONENTS, key=lambda exponent: float(stats.yeojohnson_llf(exponent, scaled)))
    else:
        scaled = bounded / np.median(bounded)
        best = max(EXPONENTS, key=lambda exponent: float(stats.boxcox_llf(exponent, scaled)))
    assert likeliest_exponent(losses) == best


LOSSES = st.one_of(st.floats(-1.7e308, 1.7e308), st.floats(0, 1), st.just(math.inf))


@given(st.lists(LOSSES, min_size=2, max_size=40), st.sampled_from(EXPONENTS))
def test_targets_are_finite_and_keep_the_order_of_losses(losses: list[float], exponent: float) -> None:
    values = np.array([0.5, *losses])
    targets = standardised(values, exponent)
    assert np.isfinite(targets).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(targets[order]) >= -1e-9).all()
    top = np.quantile(0.5 * values[np.isfinite(values)], 0.9)
    assert np.allclose(targets[0.5 * values >= top], targets.max()), "bad results count as the 0.9 quantile"


def test_losses_whose_difference_is_infinite_have_targets() -> None:
    losses = np.array([-1.7e308, 1.7e308, math.inf])
    assert standardised(losses, likeliest_exponent(losses)) == pytest.approx([-math.sqrt(2), *[math.sqrt(0.5)] * 2])


# ------------------------------------------------------------------------------------------------ features, search


def test_features_keep_unequal_levels_one_unit_apart_and_share_a_length_per_hyperparameter() -> None:
    space = conditional_space()
    features = Features(axes_of(space))
    vectors = space.to_vectors([
        {"kind": "a", "act": "q", "rate": 0.01, "size": "m", "depth": 4, "fixed": "v"},
        {"kind": "b", "act": "q", "width": 20, "size": "m", "depth": 4, "fixed": "v"},
    ])
    first, second = features(vectors)
    assert features.groups == 6, "the constant has no length"
    assert len(first) == len(features.group) == 6 + 2 * 2 + 3, "six, two more for each categorical, three conditions"
    # kind: two unequal levels; rate and width: from active to inactive, which is 0.5 and marked with 0.7.
    by_group = np.bincount(features.group, (first - second) ** 2)
    assert sorted(np.round(by_group, 6))[-1] == 1.0
    assert np.count_nonzero(by_group) == 3
    assert not np.isnan(first).any()


def test_the_log_expected_improvement_is_that_of_the_integral() -> None:
    for mean, deviation in ((0.3, 0.5), (-1.0, 0.1), (2.0, 0.4)):
        expected, _ = integrate.quad(
            lambda y, m=mean, s=deviation: max(0.2 - y, 0.0) * stats.norm.pdf(y, m, s), -10, 0.2, epsabs=1e-14
        )
        found = log_expected_improvement(0.2, np.array([mean]), np.array([deviation]))[0]
        assert math.exp(found) == pytest.approx(expected, rel=1e-6)


def test_the_log_expected_improvement_falls_without_a_jump_far_from_the_goal() -> None:
    u = np.linspace(0.0, -60.0, 4001)
    found = log_expected_improvement(0.0, -u, np.ones(len(u)))
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    assert np.abs(np.diff(found, 2)).max() < 0.1


def test_the_search_finds_the_best_configuration_of_a_smooth_score() -> None:
    space = square()
    goal = np.array([0.31, 0.62])

    def score(vectors: Array) -> Array:
        scores: Array = -((vectors - goal) ** 2).sum(axis=1)
        return scores

    rng = np.random.default_rng(3)
    search = CandidateSearch(space, axes_of(space))
    vectors, scores = search.candidates(rng, np.array([[0.9, 0.1]]), rng.random((25, 2)), score)
    assert len(vectors) == len(scores) == 330
    assert np.array_equal(scores, score(vectors))
    assert scores.max() > -1e-3


def test_candidates_are_canonical_and_reach_every_level() -> None:
    space = conditional_space()
    rng = np.random.default_rng(4)
    search = CandidateSearch(space, axes_of(space))
    elite = space.sample(rng, 3)
    vectors, _ = search.candidates(rng, elite, rng.random((25, space.d)), lambda rows: np.zeros(len(rows)))
    assert space.complete(np.nan_to_num(vectors, nan=0.5)).tobytes() == vectors.tobytes()
    values = space.to_values(vectors)
    assert {row["kind"] for row in values} == {"a", "b", "c"}
    assert {row["depth"] for row in values} == set(range(1, 8))
