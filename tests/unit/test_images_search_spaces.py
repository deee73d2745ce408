"""Search spaces of images: ranges of the papers, and conditions; every configuration is a network or is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpbandster_lite.errors import UsageError
from hpbandster_lite.space import SearchSpace, configspace_to_json, first_difference, has_only_grown
from hpbandster_lite.workers.images.joint_spaces import MOST_MAIN_BLOCKS
from hpbandster_lite.workers.images.search_spaces import SPACES, space_named
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape
from hpbandster_lite.workers.training.memory import parameter_count
from hpbandster_lite.workers.training.schedule import Schedule

GREY = ImageShape(1, 28, 28, 10)
COMPILED = {name: SearchSpace.from_configspace(space.space()) for name, space in SPACES.items()}
NAMES = sorted(SPACES)
RECORDED = Path(__file__).parents[1] / "recorded"


def sampled(name: str, n: int, seed: int = 0) -> list[dict[str, Any]]:
    return [dict(values) for values in COMPILED[name].to_values(COMPILED[name].sample(np.random.default_rng(seed), n))]


def default(name: str, **changed: Any) -> dict[str, Any]:
    return {**COMPILED[name].to_values(COMPILED[name].default()[None])[0], **changed}


# ------------------------------------------------------------------------------------------------------------ the paper


def test_the_space_of_the_paper_has_its_17_hyperparameters_with_its_ranges_and_scales() -> None:
    found = {dim.name: (dim.kind, dim.lower, dim.upper, dim.log) for dim in COMPILED["paper"].dimensions}
    assert found == {
        "nr_residual_blocks_1": ("integer", 1, 16, True),
        "nr_residual_blocks_2": ("integer", 1, 16, True),
        "nr_residual_blocks_3": ("integer", 1, 16, True),
        "initial_filters": ("integer", 8, 32, True),
        "widen_factor_1": ("float", 0.5, 8, True),
        "widen_factor_2": ("float", 0.5, 4, True),
        "widen_factor_3": ("float", 0.5, 4, True),
        "res_branches_1": ("integer", 1, 5, False),
        "res_branches_2": ("integer", 1, 5, False),
        "res_branches_3": ("integer", 1, 5, False),
        "learning_rate": ("float", 1e-3, 1, True),
        "batch_size": ("integer", 32, 128, True),
        "weight_decay": ("float", 1e-5, 1e-3, True),
        "momentum": ("float", 1e-3, 0.99, False),
        "alpha": ("float", 0, 1, False),
        "length": ("integer", 0, 20, False),
        "death_rate": ("float", 0, 1, False),
    }
    assert not SPACES["paper"].space().conditional_hyperparameters


def test_integers_of_the_paper_have_the_probabilities_of_its_rounded_floats() -> None:
    space = COMPILED["paper"]
    drawn = space.to_values(space.sample(np.random.default_rng(1), 40_000))
    blocks = np.array([values["nr_residual_blocks_1"] for values in drawn])
    # A float uniform on a log scale from 0.50001 to 16.49999, rounded.
    borders = np.log(np.concatenate([[0.50001], np.arange(1.5, 16), [16.49999]]))
    expected = np.diff(borders) / (borders[-1] - borders[0])
    assert expected[0] == pytest.approx(0.314, abs=5e-4)
    assert np.bincount(blocks, minlength=17)[1:] / len(blocks) == pytest.approx(expected, abs=0.01)


def test_the_paper_has_no_bound_and_the_others_have_one() -> None:
    assert SPACES["paper"].max_parameters is None
    assert all(SPACES[name].max_parameters for name in NAMES if name != "paper")


# ------------------------------------------------------------------------------------------- networks and parameters


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [CIFAR10, GREY])
def test_every_configuration_is_a_network_with_as_many_parameters_as_counted_or_is_refused(
    name: str, shape: ImageShape
) -> None:
    space, built = SPACES[name], 0
    for config in [default(name), *sampled(name, 8, seed=len(name))]:
        if space.refusal(config, shape, None) is not None:
            continue
        with torch.device("meta"):
            network = space.network(config, shape)
        assert space.parameter_count(config, shape) == parameter_count(network)
        built += 1
    assert built > 4


def test_defaults_are_the_published_networks() -> None:
    assert SPACES["shake_shake"].parameter_count(default("shake_shake"), CIFAR10) == 2_923_162
    assert SPACES["resnet"].parameter_count(default("resnet"), CIFAR10) == 269_722
    wide = default("wide_resnet", widen_factor=10)
    assert SPACES["wide_resnet"].parameter_count(wide, CIFAR10) == 36_479_194
    # Table 3 of Wide ResNet: the number does not depend on the depth of the blocks.
    for deepening in range(1, 5):
        config = {**wide, "depth": 40, "widen_factor": 2, "deepening": deepening}
        assert SPACES["wide_resnet"].parameter_count(config, CIFAR10) == 2_243_546


def test_a_network_of_too_many_parameters_is_refused_with_both_numbers() -> None:
    config = default("shake_shake")
    space = SPACES["shake_shake"]
    assert space.refusal(config, CIFAR10, 1_000_000) == "2,923,162 parameters are more than --max-parameters 1,000,000"
    assert space.refusal(config, CIFAR10, 2_923_162) is None
    assert space.refusal(config, CIFAR10, None) is None


@pytest.mark.parametrize("most", [None, 10**12])
def test_a_main_block_of_one_channel_is_refused_with_its_number(most: int | None) -> None:
    config = default("paper", initial_filters=8, widen_factor_1=0.5, widen_factor_2=0.5, widen_factor_3=0.5)
    refusal = SPACES["paper"].refusal(config, CIFAR10, most)
    assert refusal is not None
    assert refusal.startswith("main block 3 would have 1 channels; at least 2 are needed")


def test_small_networks_are_mostly_within_their_bound_and_half_of_them_below_a_half() -> None:
    space = SPACES["small"]
    counts = np.array([space.parameter_count(config, GREY) for config in sampled("small", 300)])
    assert space.max_parameters is not None
    assert np.mean(counts <= space.max_parameters) > 0.8
    assert np.median(counts) < space.max_parameters / 2
    assert space.parameter_count(default("small"), GREY) < space.max_parameters


def test_shake_shake_draws_as_the_released_code_does_only_where_that_is_asked_for() -> None:
    branches = torch.zeros(2, 1, 1, 1)
    for name in ("paper", "extended", "small", "shake_shake"):
        config = default(name, res_branches=2, res_branches_1=2, res_branches_2=2, res_branches_3=2)
        for softmax in (False, True):
            torch.manual_seed(0)
            with torch.device("cpu"):
                network = SPACES[name].network({**config, "width": 4, "depth": 14}, GREY, shake_softmax=softmax)
            mixing = next(module for module in network.modules() if type(module).__name__ == "ShakeShake")
            # Of type ShakeShake.
            drawn = torch.stack([mixing.draw(branches).forward[0] for _ in range(200)])  # type: ignore[operator]
            assert (float(drawn.max()) < 0.732) == softmax


# --------------------------------------------------------------------------------------------------------- conditions


def check_extended(config: Mapping[str, Any]) -> None:
    count = config["nr_main_blocks"]
    for i in range(1, MOST_MAIN_BLOCKS + 1):
        for hyperparameter in ("nr_residual_blocks", "widen_factor", "res_branches"):
            assert (f"{hyperparameter}_{i}" in config) == (i <= count)
    branches = [config[f"res_branches_{i}"] for i in range(1, count + 1)]
    assert ("death_rate" in config) == ("death_decay" in config) == (1 in branches)
    assert ("shake_forward" in config) == ("shake_backward" in config) == ("shake_level" in config)
    assert ("shake_level" in config) == (max(branches) > 1)
    assert ("shortcut" in config) == (config["block_type"] == "post")
    is_sgd = config["optimizer"] == "sgd"
    assert ("momentum" in config) == ("learning_rate" in config) == ("weight_decay" in config) == is_sgd
    assert ("learning_rate_adamw" in config) == ("weight_decay_adamw" in config) == (not is_sgd)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_hyperparameters_of_the_extended_space_are_active_where_they_act_and_nowhere_else(seed: int) -> None:
    for config in sampled("extended", 20, seed):
        check_extended(config)


def test_conditions_are_the_same_in_configspace_and_in_our_tables() -> None:
    for name in NAMES:
        space = SPACES[name].space()
        space.seed(3)
        drawn = [dict(config) for config in space.sample_configuration(60)]
        # Refused if a hyperparameter is missing, inactive, or the configuration forbidden.
        COMPILED[name].to_vectors(drawn)
        if name == "extended":
            for config in drawn:
                check_extended(config)


def test_the_schedule_is_searched_unless_the_user_chooses_it() -> None:
    assert "schedule" in COMPILED["extended"].names
    fixed = SPACES["extended"].space(schedule="nested")
    assert "schedule" not in fixed
    assert len(fixed) == COMPILED["extended"].d - 1


def test_shake_shake_has_the_five_pairs_of_modes_and_a_level_where_anything_is_drawn() -> None:
    pairs = set()
    for config in sampled("shake_shake", 300):
        pair = config["forward"], config["backward"]
        pairs.add(pair)
        assert ("level" in config) == ("shake" in pair)
    assert pairs == {("shake", "shake"), ("shake", "even"), ("shake", "keep"), ("even", "shake"), ("even", "even")}


def test_shake_shake_has_networks_for_small_machines() -> None:
    shape = ImageShape(1, 28, 28, 10)
    small = [SPACES["shake_shake"].parameter_count(config, shape) < 600_000 for config in sampled("shake_shake", 60)]
    assert sum(small) > 10


def test_wide_resnets_have_whole_numbers_of_blocks_and_deepen_only_the_basic_block() -> None:
    factors = set()
    for config in sampled("wide_resnet", 400):
        assert ("deepening" in config) == (config["block"] == "3,3")
        factor = config.get("deepening", 2)
        # Dropout acts between the convolutions of a block.
        assert ("dropout" in config) == (factor > 1)
        assert (config["depth"] - 4) % (3 * factor) == 0
        factors.add(factor)
    assert factors == {1, 2, 3, 4}


# ------------------------------------------------------------------------------------------------------------ recipes


def test_a_recipe_has_the_values_of_the_configuration() -> None:
    config = default("paper", learning_rate=0.3, batch_size=77, weight_decay=3e-4, momentum=0.4, alpha=0.7, length=9)
    recipe = SPACES["paper"].recipe(config, pad=3, mirror=False, precision="fp32", decay_norm_and_bias=True)
    assert (recipe.learning_rate, recipe.batch_size, recipe.weight_decay, recipe.momentum) == (0.3, 77, 3e-4, 0.4)
    augmentation = recipe.augmentation
    assert (augmentation.mixup, augmentation.cutout, augmentation.pad, augmentation.mirror) == (0.7, 9, 3, False)
    assert (recipe.optimizer, recipe.schedule, recipe.precision, recipe.decay_norm_and_bias) == (
        "sgd", "restarts", "fp32", True,
    )  # fmt: skip


def test_adamw_has_a_rate_and_a_decay_of_its_own() -> None:
    config = next(config for config in sampled("extended", 50) if config["optimizer"] == "adamw")
    recipe = SPACES["extended"].recipe(config)
    assert recipe.optimizer == "adamw"
    assert recipe.learning_rate == config["learning_rate_adamw"]
    assert recipe.weight_decay == config["weight_decay_adamw"]
    assert (recipe.label_smoothing, recipe.warmup) == (config["label_smoothing"], config["warmup"])


@pytest.mark.parametrize("name", ["small", "wide_resnet", "extended"])
def test_spaces_that_have_grown_continue_searches_that_began_before(name: str) -> None:
    then = json.loads((RECORDED / "image_spaces.json").read_text())[name]
    now = configspace_to_json(SPACES[name].space())
    assert first_difference(then, now) is not None
    assert has_only_grown(then, now)
    given = default(name)
    former = {key: value for key, value in given.items() if key in {item["name"] for item in then["hyperparameters"]}}
    # What a configuration of before lacks has its former behaviour.
    assert SPACES[name].recipe(former) == SPACES[name].recipe(given)


@pytest.mark.parametrize("name", ["small", "wide_resnet", "extended"])
def test_the_training_of_these_spaces_is_smoothed_clipped_averaged_and_by_either_optimizer(name: str) -> None:
    seen = set()
    for config in sampled(name, 60):
        recipe = SPACES[name].recipe(config)
        is_adamw = recipe.optimizer == "adamw"
        assert recipe.learning_rate == config["learning_rate_adamw" if is_adamw else "learning_rate"]
        assert ("momentum" in config) is not is_adamw
        for field in ("label_smoothing", "warmup", "clip_norm", "average_decay"):
            assert getattr(recipe, field) == config[field]
            seen |= {field} if config[field] else set()
        seen.add(recipe.optimizer)
    assert seen == {"label_smoothing", "warmup", "clip_norm", "average_decay", "sgd", "adamw"}


@pytest.mark.parametrize(
    ("name", "schedule"),
    [("paper", "restarts"), ("small", "cosine"), ("shake_shake", "cosine"), ("wide_resnet", "step")],
)
def test_the_schedule_is_the_user_s_or_else_the_space_s(name: str, schedule: Schedule) -> None:
    config = default(name)
    assert SPACES[name].recipe(config).schedule == schedule
    assert SPACES[name].recipe(config, schedule="nested").schedule == "nested"


def test_the_schedule_of_a_configuration_goes_before_the_space_s() -> None:
    config = default("extended", schedule="step")
    assert SPACES["extended"].recipe(config, schedule=None).schedule == "step"
    assert SPACES["extended"].recipe(config, schedule="nested").schedule == "nested"


def test_an_unknown_space_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no space 'papers'; did you mean 'paper'"):
        space_named("papers")
    with pytest.raises(UsageError, match="no space 'big'; choose one of paper, extended, small"):
        space_named("big")
