"""The density: a probability for any inactive dimensions, equal to a plain loop, to statsmodels, and to its draws."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    Float,
    GreaterThanCondition,
    Integer,
    OrdinalHyperparameter,
)
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.records import Values
from hpbandster_lite.samplers.kde import axes as axes_module
from hpbandster_lite.samplers.kde import density as kde
from hpbandster_lite.samplers.kde.axes import Axes, Points, axes_of
from hpbandster_lite.samplers.kde.density import Density, bandwidths, clipped, log_mass_inside, log_mass_of_bucket
from hpbandster_lite.samplers.kde.statsmodels_density import StatsmodelsDensity
from hpbandster_lite.space import Array, SearchSpace


def space_of(*hyperparameters: Any, conditions: Sequence[Any] = ()) -> SearchSpace:
    space = ConfigurationSpace()
    space.add(*hyperparameters, *conditions)
    return SearchSpace.from_configspace(space)


def discrete_space() -> SearchSpace:
    """Every discrete kernel, with and without a condition; 2 * 3 * 4 * (2 * 3 + 3) * ... configurations, all listed."""
    kind = Categorical("kind", ["a", "b", "c"])
    depth = Integer("depth", (1, 4))
    units, size = Integer("units", (1, 5), log=True), OrdinalHyperparameter("size", ["s", "m", "l"])
    extra = Categorical("extra", ["x", "y"])
    return space_of(kind, depth, units, size, extra, Constant("fixed", 1), conditions=[
        EqualsCondition(size, kind, "a"), EqualsCondition(extra, kind, "b"), GreaterThanCondition(units, depth, 2)])


def mixed_space(*, conditional: bool) -> SearchSpace:
    kind = Categorical("kind", ["a", "b", "c"])
    momentum, width = Float("momentum", (0.0, 1.0)), Integer("width", (1, 16), log=True)
    conditions = [EqualsCondition(momentum, kind, "a"), EqualsCondition(width, kind, "b")] if conditional else []
    return space_of(
        kind, momentum, width, Float("rate", (1e-4, 1.0), log=True), Float("decay", (0.0, 2.0)), Integer("n", (1, 7)),
        Categorical("flag", [True, False]), Categorical("act", list("pqrst")), Constant("fixed", "v"),
        Integer("many", (1, 1000)), Integer("units", (4, 900), log=True), conditions=conditions)  # fmt: skip


def drawn(space: SearchSpace, n: int, seed: int = 0) -> tuple[Axes, Points]:
    axes = axes_of(space)
    return axes, axes.points(space.sample(np.random.default_rng(seed), n))


def plain_kernel(space: SearchSpace, column: int, x: float, c: float, h: float) -> float:
    """One kernel of one pair, by the formula of the module's docstring, with the functions of ``math``."""
    dim = space.dimensions[column]
    if dim.levels == 1 or math.isnan(x):
        return 1.0
    inside = normal((1 - c) / h) - normal(-c / h)
    if dim.levels is None:
        return 1.0 if math.isnan(c) else math.exp(-0.5 * ((x - c) / h) ** 2) / (h * math.sqrt(2 * math.pi) * inside)
    if dim.kind == "categorical":
        if math.isnan(c):
            return 1 / dim.levels
        return 1 - h if round(x * dim.levels - 0.5) == round(c * dim.levels - 0.5) else h / (dim.levels - 1)
    low, high = (float(edge[0]) for edge in dim.bucket(np.array([x])))
    if math.isnan(c):
        return high - low
    # From the nearer tail, because the difference of two numbers near one loses digits.
    sign = -1 if 0.5 * (low + high) > c else 1
    return abs(normal(sign * (high - c) / h) - normal(sign * (low - c) / h)) / inside


def normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))


def plain_density(space: SearchSpace, data: Array, h: Array, candidates: Array) -> list[float]:
    return [
        math.fsum(math.prod(plain_kernel(space, j, x[j], c[j], h[j]) for j in range(space.d)) for c in data) / len(data)
        for x in candidates
    ]


# --------------------------------------------------------------------------------------------------- the density


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_density_equals_the_plain_loop(conditional: bool, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    space = mixed_space(conditional=conditional)
    axes, data = drawn(space, n)
    candidates = drawn(space, 12, seed=1)[1]
    h = clipped(axes, np.linspace(0.05, 0.4, space.d), 1e-3)
    monkeypatch.setattr(kde, "BLOCK", 16)
    density = np.exp(Density(axes, data, h).log_density(candidates))
    assert density == pytest.approx(plain_density(space, data.vectors, h, candidates.vectors), rel=1e-10, abs=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bandwidth", [1e-3, 0.1, 1.0])
def test_it_sums_to_one_over_the_configurations_of_a_discrete_space(seed: int, bandwidth: float) -> None:
    space = discrete_space()
    axes, data = drawn(space, 7, seed)
    everything = space.enumerate()
    assert everything is not None
    density = Density(axes, data, clipped(axes, np.full(space.d, bandwidth), 1e-3))
    assert math.fsum(np.exp(density.log_density(axes.points(everything)))) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("bandwidth", [0.03, 0.3, 3.0])
def test_it_integrates_to_one_over_the_square(bandwidth: float) -> None:
    space = space_of(Float("x", (0.0, 1.0)), Float("y", (0.0, 1.0)))
    axes, data = drawn(space, 6)
    nodes, weights = np.polynomial.legendre.leggauss(120)
    grid = np.stack(np.meshgrid(0.5 * nodes + 0.5, 0.5 * nodes + 0.5), axis=-1).reshape(-1, 2)
    density = Density(axes, data, np.full(2, bandwidth)).log_density(axes.points(grid))
    assert np.exp(density) @ np.outer(weights / 2, weights / 2).ravel() == pytest.approx(1, abs=1e-10)


def test_it_integrates_to_one_over_a_space_with_an_inactive_float() -> None:
    kind, rate = Categorical("kind", ["a", "b"]), Float("rate", (0.0, 1.0))
    space = space_of(kind, rate, conditions=[EqualsCondition(rate, kind, "a")])
    axes, data = drawn(space, 9)
    assert 0 < np.isnan(data.vectors).sum() < 9
    nodes, weights = np.polynomial.legendre.leggauss(80)
    with_rate = space.to_vectors([{"kind": "a", "rate": float(u)} for u in 0.5 * nodes + 0.5])
    density = Density(axes, data, clipped(axes, np.full(2, 0.2), 1e-3))
    of_a = np.exp(density.log_density(axes.points(with_rate))) @ (weights / 2)
    of_b = np.exp(density.log_density(axes.points(space.to_vectors([{"kind": "b"}]))))[0]
    assert of_a + of_b == pytest.approx(1, abs=1e-10)


def test_a_point_without_the_dimension_spreads_evenly_over_it() -> None:
    kind, child = Categorical("kind", ["a", "b"]), Integer("child", (1, 3), log=True)
    space = space_of(kind, child, conditions=[EqualsCondition(child, kind, "a")])
    axes = axes_of(space)
    density = Density(axes, axes.points(space.to_vectors([{"kind": "b"}])), np.array([0.4, 0.1]))
    candidates = space.to_vectors([{"kind": "a", "child": value} for value in (1, 2, 3)])
    widths = np.diff(space.dimensions[space.names.index("child")].edges)
    assert np.exp(density.log_density(axes.points(candidates))) == pytest.approx(0.4 * widths, rel=1e-12)


@given(levels=st.integers(2, 300), log=st.booleans(), h=st.floats(1e-3, 10.0), where=st.floats(0, 1))
def test_an_integer_kernel_sums_to_one_over_its_buckets(levels: int, log: bool, h: float, where: float) -> None:
    space = space_of(Integer("n", (1, levels), log=log))
    axes = axes_of(space)
    everything = space.enumerate()
    assert everything is not None
    data = axes.points(space.complete(np.array([[where]])))
    log_density = Density(axes, data, np.array([h])).log_density(axes.points(everything))
    assert np.isfinite(log_density).all()
    assert math.fsum(np.exp(log_density)) == pytest.approx(1, abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1), exponent=st.floats(-3, 1))
def test_the_log_density_is_always_finite(seed: int, exponent: float) -> None:
    space = mixed_space(conditional=True)
    axes, data = drawn(space, 5, seed)
    h = clipped(axes, np.full(space.d, 10**exponent), 1e-3)
    assert np.isfinite(Density(axes, data, h).log_density(drawn(space, 8, seed + 1)[1])).all()


def test_the_quadratic_form_keeps_its_digits_at_the_smallest_bandwidth() -> None:
    space = space_of(*(Float(f"x{j}", (0.0, 1.0)) for j in range(20)))
    axes, rng = axes_of(space), np.random.default_rng(0)
    data, candidates = 0.9 + 1e-3 * rng.normal(size=(50, 20)), 0.9 + 1e-3 * rng.normal(size=(10, 20))
    h = np.full(20, 1e-3)
    ours = Density(axes, axes.points(data), h).log_density(axes.points(candidates))
    square = (((candidates[:, np.newaxis] - data) / h) ** 2).sum(axis=2)
    exact = np.log(np.exp(-0.5 * square).mean(axis=1)) - 20 * math.log(1e-3 * math.sqrt(2 * math.pi))
    assert np.abs(np.expm1(ours - exact)).max() < 2e-13


def test_many_blocks_give_the_same_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    space = mixed_space(conditional=True)
    axes, data = drawn(space, 100)
    candidates = drawn(space, 5, seed=1)[1]
    density = Density(axes, data, bandwidths(axes, data, 1e-3))
    at_once = density.log_density(candidates)
    for block in (1, 7, 99, 100):
        monkeypatch.setattr(kde, "BLOCK", block)
        assert density.log_density(candidates) == pytest.approx(at_once, rel=1e-12)


@pytest.mark.parametrize("joint", [1, 8, 100_000])
def test_shared_tables_change_nothing(joint: int, monkeypatch: pytest.MonkeyPatch) -> None:
    space = mixed_space(conditional=True)
    candidates = drawn(space, 5, seed=1)[1]
    densities = []
    for most in (axes_module.MOST_JOINT_ROWS, joint):
        monkeypatch.setattr(axes_module, "MOST_JOINT_ROWS", most)
        axes, data = drawn(space, 30)
        densities.append(Density(axes, data, bandwidths(axes, data, 1e-3)).log_density(candidates))
    assert densities[1] == pytest.approx(densities[0], rel=1e-12)


def test_an_integer_with_very_many_values_is_smooth_and_a_log_one_is_not() -> None:
    axes = axes_of(space_of(Integer("a", (1, 10_001)), Integer("b", (1, 10_000)), Integer("c", (1, 10_001), log=True),
                            Integer("d", (1, 2**21), log=True), Constant("e", 1)))
    assert (axes.smooth.tolist(), axes.even.tolist(), axes.uneven.tolist()) == ([0, 3], [1], [2])
    assert axes.d == 4


# ------------------------------------------------------------------------------------------------------- buckets


def test_the_mass_of_buckets_adds_up() -> None:
    edges = np.concatenate([np.linspace(0.01, 3, 50), np.linspace(3.1, 60, 100)])
    low, high = edges[:-1], edges[1:]
    parts = log_mass_of_bucket(0.5 * (low + high), high - low)
    whole = math.log(math.erf(60 / math.sqrt(2)) / 2 - math.erf(0.01 / math.sqrt(2)) / 2)
    assert np.logaddexp.reduce(parts) == pytest.approx(whole, abs=1e-13)


@pytest.mark.parametrize("distance", [0.0, 1e-3, 0.7, 3.0, 9.0, 1000.0])
def test_narrow_and_wide_buckets_agree_where_they_meet(distance: float) -> None:
    widths = np.array([0.999e-4, 1.001e-4]) / max(distance, 1)
    below, above = np.exp(log_mass_of_bucket(np.array(distance), widths) + 0.5 * distance**2) / widths
    assert below == pytest.approx(above, rel=1e-8)


def test_the_mass_of_a_far_bucket_is_that_of_its_near_edge() -> None:
    # Mills: the tail beyond z is phi(z) / z * (1 - 1 / z**2 + 3 / z**4 - ...).
    z = 400.0
    tail = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - math.log(z) + math.log1p(-1 / z**2 + 3 / z**4)
    assert log_mass_of_bucket(np.array(z + 0.5), np.array(1.0)) == pytest.approx(tail, rel=1e-14)


def test_the_mass_around_the_centre_is_the_error_function() -> None:
    assert np.exp(log_mass_of_bucket(np.array(0.0), np.array(2.0))) == pytest.approx(0.6826894921370859, rel=1e-14)


def test_the_mass_inside_the_cube_is_symmetric() -> None:
    centre, h = np.linspace(0, 1, 11), np.full(11, 0.2)
    assert log_mass_inside(centre, h) == pytest.approx(log_mass_inside(1 - centre, h), abs=1e-14)
    assert np.exp(log_mass_inside(centre[0], h[0])) == pytest.approx(0.5, abs=1e-6)


# ---------------------------------------------------------------------------------------------------- bandwidths


def statsmodels_density(table: Array, kinds: str, bandwidth: Array | None = None) -> Any:
    from statsmodels.nonparametric.kernel_density import KDEMultivariate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return KDEMultivariate(table, kinds, bw=bandwidth)


def test_bandwidths_are_the_normal_reference_of_statsmodels() -> None:
    space = space_of(Float("x", (0.0, 1.0)), Float("y", (1e-3, 1.0), log=True), Integer("n", (1, 9)),
                     Categorical("two", ["a", "b"]))
    axes, data = drawn(space, 30)
    order = [space.names.index(name) for name in ("x", "y", "n")]
    two = space.names.index("two")
    table = np.column_stack([data.vectors[:, order], np.floor(2 * data.vectors[:, two])])
    reference = statsmodels_density(table, "cccu").bw
    assert bandwidths(axes, data, 1e-3)[[*order, two]] == pytest.approx(reference, rel=1e-12)


def test_the_bandwidth_of_a_categorical_does_not_depend_on_the_order_of_its_levels() -> None:
    axes = axes_of(space_of(Categorical("c", ["a", "b", "c"])))
    level = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    of = [bandwidths(axes, axes.points((np.array(names)[level][:, np.newaxis] + 0.5) / 3), 1e-3)[0]
          for names in ([0, 1, 2], [2, 0, 1], [1, 0, 2])]  # fmt: skip
    differ = 1 - (3 / 9) ** 2 - (2 / 9) ** 2 - (4 / 9) ** 2
    assert of == pytest.approx([1.06 * math.sqrt(differ / 2) * 9**-0.2] * 3, rel=1e-12)


def test_bandwidths_have_a_floor_and_categorical_ones_a_ceiling() -> None:
    axes = axes_of(space_of(Float("x", (0.0, 1.0)), Categorical("c", ["a", "b"]), Categorical("k", list("abcde"))))
    order = [int(axes.smooth[0]), *axes.unordered]
    data = np.full((4, 3), 0.1)
    assert bandwidths(axes, axes.points(data), 1e-3).tolist() == [1e-3] * 3
    assert clipped(axes, np.full(3, 2.0), 1e-3)[order].tolist() == [2.0, 0.5, 0.8]
    assert clipped(axes, np.full(3, 0.1), 0.7)[order].tolist() == [0.7, 0.5, 0.7]


def test_candidates_are_drawn_wider_in_numbers_alone() -> None:
    axes = axes_of(space_of(Float("x", (0.0, 1.0)), Integer("n", (1, 9)), Categorical("c", list("abcde"))))
    (x,), (n,), (c,) = axes.smooth, axes.ordered, axes.unordered
    bandwidth = np.empty(3)
    bandwidth[[x, n, c]] = 0.1, 0.2, 0.3
    for factor, expected in ((3.0, [0.3, 0.6, 0.3]), (1e-9, [1e-3, 1e-3, 0.3])):
        wider = kde.widened(axes, bandwidth, factor, 1e-3)
        assert wider[[x, n, c]] == pytest.approx(expected, rel=1e-12)
    assert bandwidth[[x, n, c]].tolist() == [0.1, 0.2, 0.3]


def test_bandwidths_count_the_points_that_have_the_dimension() -> None:
    kind, rate = Categorical("kind", ["a", "b"]), Float("rate", (0.0, 1.0))
    space = space_of(kind, rate, conditions=[EqualsCondition(rate, kind, "a")])
    axes = axes_of(space)

    def bandwidth_of(*rates: float) -> float:
        values: list[Values] = [{"kind": "a", "rate": value} for value in rates]
        values += [{"kind": "b"}] * 5
        return float(bandwidths(axes, axes.points(space.to_vectors(values)), 1e-3)[space.names.index("rate")])

    assert bandwidth_of(0.25, 0.75) == pytest.approx(1.06 * 0.25 * 2 ** (-1 / 6))
    assert bandwidth_of(0.25) == bandwidth_of() == pytest.approx(1.06 * math.sqrt(1 / 12))


def test_a_conditional_categorical_with_one_point_has_the_bandwidth_of_even_levels() -> None:
    kind, child = Categorical("kind", ["a", "b"]), Categorical("child", ["x", "y", "z"])
    space = space_of(kind, child, conditions=[EqualsCondition(child, kind, "a")])
    axes = axes_of(space)
    data = space.to_vectors([{"kind": "a", "child": "x"}, {"kind": "b"}, {"kind": "b"}])
    of_child = bandwidths(axes, axes.points(data), 1e-3)[space.names.index("child")]
    assert of_child == pytest.approx(1.06 * math.sqrt((1 - 1 / 3) / 2))


# --------------------------------------------------------------------------------------------------- statsmodels


def test_far_from_the_bounds_it_is_that_of_statsmodels() -> None:
    space = space_of(*(Float(f"x{j}", (0.0, 1.0)) for j in range(3)), Categorical("c", ["a", "b", "c"]),
                     Categorical("e", ["a", "b"]))
    axes, data = drawn(space, 60)
    candidates = drawn(space, 25, seed=1)[1]
    for points in (data, candidates):
        points.vectors[:, axes.smooth] = 0.4 + 0.2 * points.vectors[:, axes.smooth]
    h = bandwidths(axes, data, 1e-3)
    ours = np.exp(Density(axes, data, h).log_density(candidates))
    table, at = (np.hstack([points.vectors[:, axes.smooth], points.levels]) for points in (data, candidates))
    theirs = statsmodels_density(table, "cccuu", h[[*axes.smooth, *axes.unordered]])
    assert ours == pytest.approx(theirs.pdf(at), rel=1e-9, abs=0)
    through_the_switch = StatsmodelsDensity(axes, data, h).log_density(candidates)
    assert through_the_switch == pytest.approx(np.log(theirs.pdf(at)), rel=1e-12)


@pytest.mark.parametrize("kinds", ["one level of one", "one level of two", "only categoricals"])
def test_statsmodels_survives_a_categorical_of_which_one_level_was_seen(kinds: str) -> None:
    hyperparameters: dict[str, list[Any]] = {
        "one level of one": [Float("x", (0.0, 1.0)), Categorical("c", ["a", "b", "c"])],
        "one level of two": [Float("x", (0.0, 1.0)), Categorical("c", ["a", "b", "c"]), Categorical("e", ["a", "b"])],
        "only categoricals": [Categorical("c", ["a", "b", "c"])],
    }
    space = space_of(*hyperparameters[kinds])
    axes, data = drawn(space, 20)
    data.vectors[:, axes.unordered[0]] = 0.5
    data = axes.points(data.vectors)
    candidates = drawn(space, 20, seed=1)[1]
    h = bandwidths(axes, data, 0.3)
    theirs = StatsmodelsDensity(axes, data, h).log_density(candidates)
    assert np.isfinite(theirs).all()
    same = candidates.levels[:, 0] == 1
    assert theirs[same].max() > theirs[~same].max()
    if kinds == "only categoricals":
        assert theirs == pytest.approx(Density(axes, data, h).log_density(candidates), rel=1e-12)


# ----------------------------------------------------------------------------------------------------------- draw


def test_draws_follow_the_density() -> None:
    space = discrete_space()
    axes, data = drawn(space, 6)
    everything = space.enumerate()
    assert everything is not None
    h, n = clipped(axes, np.full(space.d, 0.25), 1e-3), 200_000
    density = Density(axes, data, h)
    expected = n * np.exp(density.log_density(axes.points(everything)))
    levels = axes.points(space.complete(density.draw(np.random.default_rng(3), n, h))).levels + 1
    # Typed for mypy.
    code: Callable[[Any], Any] = lambda rows: np.ravel_multi_index(rows.T, axes.levels + 1)  # noqa: E731
    place = {number: i for i, number in enumerate(code(axes.points(everything).levels + 1).tolist())}
    observed = np.bincount([place[number] for number in code(levels).tolist()], minlength=len(everything))
    # Each count is within 5 standard deviations of its expectation, plus five for small expectations.
    assert (np.abs(observed - expected) < 5 * np.sqrt(expected) + 5).all()


def test_draws_of_a_float_follow_the_truncated_density() -> None:
    space = space_of(Float("x", (0.0, 1.0)))
    axes = axes_of(space)
    density = Density(axes, axes.points(np.array([[0.02], [0.6]])), np.array([0.1]))
    drawn_points = density.draw(np.random.default_rng(0), 100_000, np.array([0.1]))[:, 0]
    grid = (np.arange(20_000) + 0.5) / 20_000
    mass = np.exp(density.log_density(axes.points(grid[:, np.newaxis]))).reshape(20, -1).mean(axis=1) / 20
    share = np.histogram(drawn_points, bins=20, range=(0, 1))[0] / 100_000
    assert np.abs(share - mass).max() < 5 * math.sqrt(0.25 / 100_000)


def test_draws_stay_in_the_cube_at_any_bandwidth() -> None:
    space = mixed_space(conditional=True)
    axes, data = drawn(space, 10)
    data.vectors[0, axes.smooth], data.vectors[1, axes.smooth] = 0.0, 1.0
    for bandwidth in (1e-3, 0.3, 50.0):
        points = Density(axes, data, clipped(axes, np.full(space.d, bandwidth), 1e-3)).draw(
            np.random.default_rng(0), 500, clipped(axes, np.full(space.d, 3 * bandwidth), 1e-3))
        assert ((points >= 0) & (points <= 1)).all()
