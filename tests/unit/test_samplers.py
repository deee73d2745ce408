"""Samplers: conformance of each, Algorithm 2 of BOHB, small spaces, and errors."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Categorical, Constant, EqualsCondition, Float, Integer
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import InvariantBroken, UsageError
from hpbandster_lite.records import Origin, Proposal
from hpbandster_lite.samplers import Foreseeing, Sampler, make_sampler, random, sampler_parameters
from hpbandster_lite.samplers.conformance import BUDGETS, ForeseeingConformance, SamplerConformance, generator
from hpbandster_lite.samplers.kde.sampler import Bohb, split
from hpbandster_lite.space import Array, SearchSpace
from hpbandster_lite.space.examples import EXAMPLES, conditional_space, line, space_of, square


def bohb(space: SearchSpace, **parameters: Any) -> Sampler:
    return make_sampler("bohb", space, BUDGETS, {"random_fraction": 0.0, **parameters})


def feed(sampler: Sampler, vectors: Array, losses: Sequence[float | None], budget: float = 1.0) -> None:
    for vector, loss in zip(vectors, losses, strict=True):
        sampler.add(vector)
        sampler.observe(vector, budget, loss)


def filled(space: SearchSpace, n: int, budget: float = 1.0, **parameters: Any) -> Sampler:
    """A sampler with the model of ``n`` random configurations, whose loss is the first coordinate."""
    sampler, vectors = bohb(space, **parameters), space.sample(generator(n), n)
    feed(sampler, vectors, [float(np.nan_to_num(vector[0])) for vector in vectors], budget)
    return sampler


def certain(proposal: Proposal | None) -> Proposal:
    assert proposal is not None
    return proposal


def array(proposal: Proposal) -> Array:
    return np.array(proposal.vector, dtype=np.float64)


# -------------------------------------------------------------------------------- conformance of every sampler


class TestMfbo(SamplerConformance):
    def make(self, space: SearchSpace, budgets: Sequence[float]) -> Sampler:
        return make_sampler("mfbo", space, budgets, {})


class TestMfboWithoutDensities(SamplerConformance):
    """The Gaussian process from the first full result on, and no other model."""

    def make(self, space: SearchSpace, budgets: Sequence[float]) -> Sampler:
        return make_sampler("mfbo", space, budgets, {"density_fraction": 0, "random_fraction": 0, "full_results": 1})


class TestBohb(SamplerConformance):
    def make(self, space: SearchSpace, budgets: Sequence[float]) -> Sampler:
        return make_sampler("bohb", space, budgets, {})


class TestBohbWithoutRandomSamples(SamplerConformance):
    def make(self, space: SearchSpace, budgets: Sequence[float]) -> Sampler:
        return make_sampler("bohb", space, budgets, {"random_fraction": 0.0})


class TestRandom(ForeseeingConformance):
    def make(self, space: SearchSpace, budgets: Sequence[float]) -> Sampler:
        return make_sampler("random", space, budgets, {})


@pytest.mark.parametrize("make_space", EXAMPLES.values(), ids=EXAMPLES.keys())
@pytest.mark.parametrize(
    ("algorithm", "expected"), [("bohb", {Origin.MODEL, Origin.RANDOM}), ("random", {Origin.RANDOM})]
)
def test_only_bohb_has_a_model(algorithm: str, expected: set[Origin], make_space: Callable[[], SearchSpace]) -> None:
    sampler, origins = make_sampler(algorithm, make_space(), BUDGETS, {}), set()
    for index in range(40):
        proposal = certain(sampler.propose(generator(index)))
        origins.add(proposal.origin)
        sampler.add(proposal.vector)
        sampler.observe(proposal.vector, 1.0, None if index % 7 == 3 else math.sin(index))
    assert origins == expected


def test_what_was_sampled_since_is_not_proposed_any_more() -> None:
    sampler = make_sampler("random", line(), BUDGETS, {})
    assert isinstance(sampler, Foreseeing)
    foreseen = [certain(proposal) for proposal in sampler.foresee([generator(1), generator(1)])]
    assert foreseen[0] == foreseen[1]
    assert sampler.still_proposes(foreseen[0])
    sampler.add(foreseen[0].vector)
    assert not sampler.still_proposes(foreseen[1])


def test_the_model_foresees_nothing() -> None:
    assert not isinstance(bohb(square()), Foreseeing)


def test_a_result_that_was_good_or_never_observed_cannot_be_forgotten() -> None:
    space = line(6)
    sampler = make_sampler("bohb", space, BUDGETS, {})
    sampler.observe([0.25], 1.0, 0.5)
    sampler.observe([0.75], 1.0, None)
    for vector in ([0.25], [0.5]):
        with pytest.raises(InvariantBroken, match=r"cannot forget a bad result of \[0\.\d+\]: none was observed"):
            sampler.forget(vector, 1.0)
    sampler.forget([0.75], 1.0)
    with pytest.raises(InvariantBroken, match=r"cannot forget a bad result of \[0\.\d+\]: none was observed"):
        sampler.forget([0.75], 1.0)


def test_a_large_discrete_space_is_exhausted_after_many_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    space = line(10)
    monkeypatch.setattr(space, "enumerate", lambda: None)
    sampler = make_sampler("random", space, BUDGETS, {})
    for vector in space.to_vectors([{"n": value} for value in range(1, 11)]):
        assert sampler.propose(generator(1)) is not None
        sampler.add(vector)
    assert sampler.propose(generator(1)) is None


def test_a_space_with_a_float_repeats_rather_than_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    kind, rate = Categorical("kind", ["a", "b"], weights=[0, 1]), Float("rate", (0.0, 1.0))
    space = space_of(kind, rate, clauses=[EqualsCondition(rate, kind, "a")])
    monkeypatch.setattr(random, "MOST_TRIES", 100)
    sampler = make_sampler("random", space, BUDGETS, {})
    sampler.add(space.to_vectors([{"kind": "b"}])[0])
    assert certain(sampler.propose(generator(0))).values == {"kind": "b"}


def test_random_proposals_follow_the_weights_of_the_space() -> None:
    space = space_of(Categorical("c", ["a", "b"], weights=[9, 1]), Float("x", (0.0, 1.0)))
    sampler = make_sampler("random", space, BUDGETS, {})
    share = np.mean([certain(sampler.propose(generator(i))).values["c"] == "a" for i in range(400)])
    assert share == pytest.approx(0.9, abs=0.05)


# -------------------------------------------------------------------------------------- Algorithm 2 of the paper


@pytest.mark.parametrize("name", ["floats", "one float", "one integer", "conditions"])
def test_the_model_starts_at_d_plus_three_points(name: str) -> None:
    space = EXAMPLES[name]()
    d = sum(dim.levels != 1 for dim in space.dimensions)
    assert certain(filled(space, d + 2).propose(generator(0))).origin is Origin.RANDOM
    assert certain(filled(space, d + 3).propose(generator(0))).origin is Origin.MODEL


def test_the_number_of_points_can_be_set() -> None:
    assert certain(filled(square(), 8, min_points_in_model=7).propose(generator(0))).origin is Origin.RANDOM
    assert certain(filled(square(), 9, min_points_in_model=7).propose(generator(0))).origin is Origin.MODEL


def test_the_model_is_that_of_the_largest_usable_budget() -> None:
    space = square()
    sampler = filled(space, 50)
    for budget, expected in ((9.0, 1.0), (3.0, 3.0), (1.0, 3.0), (9.0, 9.0)):
        feed(sampler, space.sample(generator(int(budget)), 4), [0.1, 0.2, 0.3, 0.4], budget)
        if (budget, expected) in ((3.0, 3.0), (9.0, 9.0)):
            feed(sampler, space.sample(generator(7), 1), [0.5], budget)
        assert certain(sampler.propose(generator(0))).model_budget == expected


def test_one_proposal_in_three_is_random() -> None:
    sampler = make_sampler("bohb", square(), BUDGETS, {})
    vectors = square().sample(generator(0), 20)
    feed(sampler, vectors, vectors[:, 0].tolist())
    share = np.mean([certain(sampler.propose(generator(i))).origin is Origin.RANDOM for i in range(600)])
    assert share == pytest.approx(1 / 3, abs=0.06)


UNBOUND = 10**6


def test_good_and_bad_set_overlap_where_there_are_few_points() -> None:
    losses = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    good, bad = split(losses, 3, 15, UNBOUND)
    assert (good.tolist(), bad.tolist()) == ([1, 3, 4], [4, 2, 0])
    good, bad = split(losses, 4, 15, UNBOUND)
    assert (good.tolist(), bad.tolist()) == ([1, 3, 4, 2], [3, 4, 2, 0])


@pytest.mark.parametrize(
    ("n", "percent", "expected"), [(100, 15, 15), (99, 15, 14), (107, 15, 16), (100, 7, 7), (700, 29, 203)]
)
def test_the_good_set_is_the_top_percentage_rounded_down(n: int, percent: float, expected: int) -> None:
    good, bad = split(np.arange(n, dtype=float), 2, percent, UNBOUND)
    assert good.tolist() == list(range(expected))
    assert bad.tolist() == list(range(expected, n))


def test_equal_losses_rank_in_the_order_of_observation() -> None:
    good, bad = split(np.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0]), 3, 15, UNBOUND)
    assert (good.tolist(), bad.tolist()) == ([1, 3, 0], [2, 4, 5])


def test_bad_results_are_never_good() -> None:
    losses = np.full(100, math.inf)
    losses[40:45] = [3.0, 1.0, 2.0, 5.0, 4.0]
    good, bad = split(losses, 3, 15, UNBOUND)
    assert good.tolist() == [41, 42, 40, 44, 43]
    assert len(bad) == 85
    assert not np.isfinite(losses[bad]).any()


@given(n=st.integers(20, 400), most=st.integers(2, 100), seed=st.integers(0, 99))
def test_of_many_points_the_best_and_an_even_share_of_the_others_are_kept(n: int, most: int, seed: int) -> None:
    losses = np.random.default_rng(seed).permutation(n).astype(float)
    all_good, all_bad = split(losses, 2, 15, UNBOUND)
    good, bad = split(losses, 2, 15, most)
    assert good.tolist() == all_good[:most].tolist()
    assert len(bad) == min(most, len(all_bad))
    ranks = losses[bad]
    assert (ranks[0], ranks[-1]) == (losses[all_bad[0]], n - 1)
    gaps = np.diff(ranks)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_a_model_is_bounded_to_no_fewer_points_than_it_needs() -> None:
    wide = space_of(*(Float(f"x{i}", (0.0, 1.0)) for i in range(6)))
    vectors = wide.sample(generator(0), 40)
    bounded, needed = (bohb(wide, max_points_in_model=most) for most in (2, 7))
    for sampler in (bounded, needed):
        feed(sampler, vectors, vectors.sum(axis=1).tolist())
    proposals = [certain(sampler.propose(generator(1))) for sampler in (bounded, needed)]
    assert proposals[0].origin is not Origin.RANDOM
    assert proposals[0] == proposals[1]


def test_a_budget_where_nearly_all_failed_has_no_model() -> None:
    space = square()
    sampler = bohb(space)
    vectors = space.sample(generator(0), 40)
    feed(sampler, vectors, [None] * 38 + [0.1, 0.2], budget=9.0)
    assert certain(sampler.propose(generator(0))).origin is Origin.RANDOM
    feed(sampler, vectors[:5], [0.1, 0.2, 0.3, 0.4, 0.5], budget=1.0)
    assert certain(sampler.propose(generator(0))).model_budget == 1.0
    feed(sampler, vectors[:1], [0.3], budget=9.0)
    assert certain(sampler.propose(generator(0))).model_budget == 9.0


def test_all_failed_is_random_search() -> None:
    sampler = bohb(square())
    feed(sampler, square().sample(generator(0), 30), [None] * 30)
    assert certain(sampler.propose(generator(0))).origin is Origin.RANDOM


def test_the_model_avoids_what_crashes() -> None:
    space = square()
    sampler, vectors = bohb(space), space.sample(generator(0), 80)
    feed(sampler, vectors, [None if vector[0] > 0.5 else 1.0 for vector in vectors])
    proposed = [array(certain(sampler.propose(generator(i))))[0] for i in range(40)]
    assert np.mean(np.array(proposed) > 0.55) < 0.1


def test_the_proposal_has_the_largest_ratio_of_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    space = square()
    sampler = filled(space, 60, num_samples=32)
    assert isinstance(sampler, Bohb)
    model = sampler._model()
    assert model is not None
    shown: list[Array] = []
    original = sampler._candidates

    def spy(*arguments: Any) -> Array | None:
        candidates = original(*arguments)
        assert candidates is not None
        shown.append(candidates)
        return candidates

    monkeypatch.setattr(sampler, "_candidates", spy)
    proposal = certain(sampler.propose(generator(5)))
    (candidates,) = shown
    points = sampler._axes.points(candidates)
    ratio = model.good.log_density(points) - model.bad.log_density(points)
    assert len(candidates) == 32
    assert np.array_equal(array(proposal), candidates[np.argmax(ratio)])


def test_candidates_come_from_wider_kernels() -> None:
    spread = []
    for factor in (0.1, 3.0):
        sampler = filled(space_of(Float("x", (0.0, 1.0))), 40, bandwidth_factor=factor, num_samples=1)
        spread.append(np.std([array(certain(sampler.propose(generator(i))))[0] for i in range(200)]))
    assert spread[1] > 1.3 * spread[0]


def test_candidates_keep_the_levels_that_most_good_configurations_share() -> None:
    space = space_of(Categorical("c", ["a", "b"]), Float("x", (0.0, 1.0)))
    sampler, rng = bohb(space, num_samples=4_000), generator(0)
    names = ["a"] * 24 + ["b"] * 6 + ["b"] * 170
    vectors = space.to_vectors([{"c": name, "x": rng.random()} for name in names])
    feed(sampler, vectors, list(range(200)))
    assert isinstance(sampler, Bohb)
    model = sampler._model()
    assert model is not None
    candidates = sampler._candidates(model, rng)
    assert candidates is not None
    h = 1.06 * math.sqrt(0.8 * 0.2) * 30 ** (-1 / 6)
    share = np.mean(candidates[:, space.names.index("c")] < 0.5)
    # Three times the bandwidth would be the uniform kernel, and the share 0.5: 20 standard deviations away.
    assert share == pytest.approx(0.8 * (1 - h) + 0.2 * h, abs=0.03)


def test_the_model_finds_the_good_region_and_random_search_does_not() -> None:
    space = space_of(Float("x", (0.0, 1.0)), Integer("n", (1, 20)), Categorical("c", list("abcd")))

    def loss(proposal: Proposal) -> float:
        values: Mapping[str, Any] = proposal.values
        return float((values["x"] - 0.3) ** 2 + (values["n"] / 20 - 0.8) ** 2 + 0.3 * (values["c"] != "b"))

    late: dict[str, list[float]] = {"bo": [], "random": []}
    for algorithm, losses in late.items():
        for seed in range(5):
            sampler = make_sampler(algorithm, space, BUDGETS, {})
            for index in range(60):
                proposal = certain(sampler.propose(generator(seed, index)))
                sampler.add(proposal.vector)
                sampler.observe(proposal.vector, 9.0, loss(proposal))
                if index >= 40:
                    losses.append(loss(proposal))
    assert np.mean(late["bo"]) < 0.5 * np.mean(late["random"])
    assert np.median(late["bo"]) < 0.2 * np.median(late["random"])


def test_the_model_chooses_among_the_few_that_are_left() -> None:
    space = line(30)
    sampler = bohb(space)
    for value in range(1, 31):
        vector = space.to_vectors([{"n": value}])[0]
        if value not in (14, 29):
            sampler.add(vector)
        if value <= 10 or value > 25:
            sampler.observe(vector, 1.0, abs(value - 8))
    proposal = certain(sampler.propose(generator(0)))
    assert (proposal.values, proposal.origin) == ({"n": 14}, Origin.MODEL)


# ------------------------------------------------------------------------------------------------- degenerate data


@pytest.mark.parametrize("density", ["truncated", "statsmodels"])
def test_one_level_seen_and_constant_columns_give_no_nan(density: str) -> None:
    space = space_of(Float("x", (0.0, 1.0)), Integer("n", (1, 9)), Categorical("c", ["a", "b", "c"]), Constant("k", 3))
    sampler = bohb(space, density=density)
    vectors = space.to_vectors([{"x": 0.5, "n": 4, "c": "b", "k": 3}] * 12)
    feed(sampler, vectors, [float(i) for i in range(12)])
    proposals = [certain(sampler.propose(generator(i))) for i in range(10)]
    assert {proposal.origin for proposal in proposals} == {Origin.MODEL}
    assert all(np.isfinite(array(proposal)).all() for proposal in proposals)


@pytest.mark.parametrize("density", ["truncated", "statsmodels"])
def test_equal_losses_are_no_trouble(density: str) -> None:
    sampler, vectors = bohb(square(), density=density), square().sample(generator(0), 20)
    feed(sampler, vectors, [1.0] * 20)
    assert certain(sampler.propose(generator(0))).origin is Origin.MODEL


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 25), fails=st.floats(0, 1))
def test_any_data_give_a_proposal(seed: int, n: int, fails: float) -> None:
    space, rng = conditional_space(), np.random.default_rng(seed)
    sampler = bohb(space)
    vectors = space.sample(rng, n)
    # Repeated configurations, few different losses, failures.
    vectors[rng.random(n) < 0.3] = vectors[:1]
    feed(sampler, vectors, [None if rng.random() < fails else float(rng.integers(3)) for _ in range(n)])
    proposal = certain(sampler.propose(rng))
    assert space.allowed(array(proposal)[np.newaxis]).all()


# ------------------------------------------------------------------------------------------------------ statsmodels


def test_the_switch_to_statsmodels_proposes_from_the_model() -> None:
    space = space_of(Float("x", (0.0, 1.0)), Integer("n", (1, 9)), Categorical("c", ["a", "b", "c"]))
    sampler = filled(space, 40, density="statsmodels")
    proposed = [certain(sampler.propose(generator(i))) for i in range(5)]
    assert {proposal.origin for proposal in proposed} == {Origin.MODEL}


def test_statsmodels_is_imported_only_when_it_is_asked_for() -> None:
    code = (
        "import sys, numpy as np\n"
        "from hpbandster_lite.samplers import make_sampler\n"
        "from hpbandster_lite.space import SearchSpace\n"
        f"space = SearchSpace.from_json({square().to_json()!r})\n"
        "sampler = make_sampler('bohb', space, [1.0], {'random_fraction': 0.0})\n"
        "for vector in space.sample(np.random.default_rng(0), 9): sampler.observe(vector, 1.0, vector[0])\n"
        "assert sampler.propose(np.random.default_rng(1)).model_budget == 1.0\n"
        "print(sorted({'statsmodels', 'pandas', 'ConfigSpace', 'scipy.stats'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
                          env={**os.environ, "PYTHONWARNINGS": "error"})
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_statsmodels_is_refused_where_it_cannot_be_used() -> None:
    with pytest.raises(UsageError, match="conditions, and 'rate' has one; use density='truncated'"):
        bohb(conditional_space(), density="statsmodels")
    with pytest.raises(UsageError, match="min_points_in_model=2 for 2; use at least 3"):
        bohb(square(), density="statsmodels", min_points_in_model=2)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_sample": 3}, "no parameter num_sample=3; did you mean 'num_samples'"),
        ({"zzz": 3}, "no parameter zzz=3; it has min_points_in_model, top_n_percent"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1.*got 0"),
        ({"num_samples": 1.5}, "got 1.5"),
        ({"num_samples": True}, "got True"),
        ({"min_points_in_model": 1}, "min_points_in_model must be a whole number of at least 2.*got 1"),
        ({"max_points_in_model": 1}, "max_points_in_model must be a whole number of at least 2.*got 1"),
        ({"max_points_in_model": None}, "got None"),
        ({"top_n_percent": 0}, "top_n_percent must be a number above 0 and below 100.*got 0"),
        ({"top_n_percent": 100}, "got 100"),
        ({"random_fraction": -0.1}, "random_fraction must be a probability.*got -0.1"),
        ({"random_fraction": 1.1}, "got 1.1"),
        ({"random_fraction": "much"}, "got 'much'"),
        ({"bandwidth_factor": 0}, "bandwidth_factor must be a number above 0.*got 0"),
        ({"bandwidth_factor": math.nan}, "got nan"),
        ({"min_bandwidth": 0}, "min_bandwidth must be above 0 and at most 1.*got 0"),
        ({"min_bandwidth": 1.01}, "got 1.01"),
        ({"density": "gaussian"}, "density must be one of truncated, statsmodels; got 'gaussian'"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_remedy(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_sampler("bohb", square(), BUDGETS, parameters)


@pytest.mark.parametrize("algorithm", ["hyperband", "sh", "random"])
def test_random_search_has_no_parameters(algorithm: str) -> None:
    assert sampler_parameters(algorithm) == {}
    with pytest.raises(UsageError, match=f"{algorithm!r} has no parameter num_samples=64; it has none"):
        make_sampler(algorithm, square(), BUDGETS, {"num_samples": 64})


def test_an_unknown_algorithm_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown algorithm 'bhob'; did you mean 'bohb'"):
        make_sampler("bhob", square(), BUDGETS, {})
    with pytest.raises(UsageError, match="choose from bohb, mfbo, hyperband, sh, bo, random"):
        sampler_parameters("xyz")


def test_the_defaults_are_those_of_the_paper() -> None:
    assert sampler_parameters("bohb") == sampler_parameters("bo") == {
        "min_points_in_model": None, "top_n_percent": 15.0, "max_points_in_model": 512, "num_samples": 64,
        "random_fraction": 1 / 3, "bandwidth_factor": 3.0, "min_bandwidth": 1e-3, "density": "truncated"}
    make_sampler("bohb", square(), BUDGETS, sampler_parameters("bohb"))


def test_a_bug_of_the_caller_is_named() -> None:
    sampler, vector = bohb(square()), square().default()
    with pytest.raises(InvariantBroken, match=r"budget 2.0 is not in the ladder \[1.0, 3.0, 9.0\]"):
        sampler.observe(vector, 2.0, 0.1)
    with pytest.raises(InvariantBroken, match="a loss must be finite, got nan"):
        sampler.observe(vector, 1.0, math.nan)
    with pytest.raises(InvariantBroken, match=r"shape \(2,\), got \(3,\)"):
        sampler.observe([0.1, 0.2, 0.3], 1.0, 0.1)
    with pytest.raises(InvariantBroken, match=r"shape \(2,\), got \(1,\)"):
        sampler.add([0.1])
