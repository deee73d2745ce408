"""The joint network: the architecture of a configuration, its number of parameters, and the built network."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.workers.networks.branches import MixedBlock, Mixing
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.networks.joint_network import JointNetwork
from hpbandster_lite.workers.networks.layers import TwoPathShortcut
from hpbandster_lite.workers.networks.shake_drop import ShakeDrop
from hpbandster_lite.workers.networks.shake_shake import ShakeShake
from hpbandster_lite.workers.training.memory import parameter_count

PAPER: dict[str, Any] = {
    "nr_residual_blocks_1": 4, "nr_residual_blocks_2": 3, "nr_residual_blocks_3": 2, "initial_filters": 16,
    "widen_factor_1": 2.0, "widen_factor_2": 1.5, "widen_factor_3": 0.5, "res_branches_1": 2, "res_branches_2": 1,
    "res_branches_3": 5, "learning_rate": 0.1, "batch_size": 64, "weight_decay": 1e-4, "momentum": 0.9, "alpha": 0.2,
    "length": 16, "death_rate": 0.25,
}  # fmt: skip
TINY = JointArchitecture(
    blocks=(2, 1, 1), initial_filters=4, widen_factors=(1.0, 2.0, 1.0), branches=(1, 2, 3), death_rate=0.5
)


def changed(architecture: JointArchitecture = TINY, **fields: Any) -> JointArchitecture:
    return replace(architecture, **fields)


# ------------------------------------------------------------------------------------------------------- architecture


def test_the_hyperparameters_of_the_paper_are_read_by_their_names() -> None:
    assert JointArchitecture.of(PAPER) == JointArchitecture(
        blocks=(4, 3, 2), initial_filters=16, widen_factors=(2.0, 1.5, 0.5), branches=(2, 1, 5), death_rate=0.25
    )


def test_the_number_of_main_blocks_and_options_beyond_the_paper_are_read() -> None:
    config = PAPER | {"nr_main_blocks": 2, "block_type": "pre", "shake_backward": "even", "shake_softmax": True}
    architecture = JointArchitecture.of(config)
    assert architecture.blocks == (4, 3)
    assert (architecture.block_type, architecture.shake_backward, architecture.shake_softmax) == ("pre", "even", True)


def test_a_death_rate_that_is_not_active_is_none() -> None:
    assert JointArchitecture.of({k: v for k, v in PAPER.items() if k != "death_rate"}).death_rate == 0


def test_a_missing_hyperparameter_is_named() -> None:
    with pytest.raises(SpaceError, match="lacks 'widen_factor_2'; it has alpha, batch_size"):
        JointArchitecture.of({k: v for k, v in PAPER.items() if k != "widen_factor_2"})


def test_halves_are_rounded_to_the_even_number() -> None:
    architecture = changed(initial_filters=5, widen_factors=(0.5, 1.25, 7.0))
    assert architecture.widths == (2, 2, 14)
    assert changed(initial_filters=7, widen_factors=(0.5, 1.0, 1.0)).widths == (4, 4, 4)


def test_every_main_block_but_the_first_begins_at_stride_two() -> None:
    first, second, third = TINY.plan
    assert [tuple(block) for block in first] == [(4, 4, 1, 1), (4, 4, 1, 1)]
    assert [tuple(block) for block in second + third] == [(4, 8, 2, 2), (8, 8, 2, 3)]


def test_a_stage_of_one_channel_is_a_problem_with_its_reason() -> None:
    narrow = changed(widen_factors=(1.0, 0.5, 0.5))
    found = narrow.problem()
    assert found is not None
    assert found.startswith("main block 3 would have 1 channels")
    assert TINY.problem() is None
    assert changed(widen_factors=(0.5, 1.0, 1.0)).problem() is None
    with pytest.raises(SpaceError, match="main block 3 would have 1 channels; at least 2"):
        JointNetwork(narrow)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": (1, 1)}, "one value for each main block"),
        ({"blocks": (), "widen_factors": (), "branches": ()}, "at least one"),
        ({"blocks": (1, 0, 1)}, r"blocks must be at least 1 in each main block, got \(1, 0, 1\)"),
        ({"branches": (1, 1, 0)}, "branches must be at least 1"),
        ({"initial_filters": 0}, "initial_filters must be at least 1, got 0"),
        ({"widen_factors": (1.0, 0.0, 1.0)}, "widen_factors must be positive"),
        ({"widen_factors": (1.0, float("nan"), 1.0)}, "widen_factors must be positive"),
        ({"death_rate": 1.5}, "death_rate must be a probability from 0 to 1, got 1.5"),
        ({"block_type": "middle"}, "block_type must be one of post, pre, got 'middle'"),
        ({"shake_level": "pixel"}, "shake_level must be one of image, batch, got 'pixel'"),
        ({"shake_forward": "keep", "shake_backward": "keep"}, "set one of them to shake or even"),
    ],
)
def test_invalid_values_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        changed(**fields)


def test_a_configuration_is_judged_without_torch() -> None:
    code = (
        "import sys, hpbandster_lite.workers.networks.joint_architecture as j\n"
        f"print(j.JointArchitecture.of({PAPER!r}).parameter_count(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


# --------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(("factor", "parameters"), [(2.0, 2_923_162), (6.0, 26_192_922)])
def test_two_nets_of_the_shake_shake_paper_are_points_of_the_space(factor: float, parameters: int) -> None:
    architecture = JointArchitecture(
        blocks=(4, 4, 4), initial_filters=16, widen_factors=(factor, 2.0, 2.0), branches=(2, 2, 2)
    )
    assert architecture.parameter_count() == parameters
    with torch.device("meta"):
        assert parameter_count(JointNetwork(architecture)) == parameters


def test_the_largest_of_the_paper_has_25_billion() -> None:
    largest = JointArchitecture(
        blocks=(16, 16, 16), initial_filters=32, widen_factors=(8.0, 4.0, 4.0), branches=(5, 5, 5)
    )
    assert round(largest.parameter_count() / 1e9, 1) == 25.2


@st.composite
def architectures(draw: st.DrawFn) -> JointArchitecture:
    mains = draw(st.integers(1, 4))

    def each(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return draw(st.tuples(*[values] * mains))

    return JointArchitecture(
        blocks=each(st.integers(1, 2)),
        initial_filters=draw(st.integers(8, 32)),
        widen_factors=each(st.floats(0.5, 4)),
        branches=each(st.integers(1, 5)),
        block_type=draw(st.sampled_from(["post", "pre"])),
        shortcut=draw(st.sampled_from(["paper", "gastaldi"])),
    )


@settings(max_examples=40)
@given(
    architecture=architectures(),
    shape=st.sampled_from([CIFAR10, ImageShape(1, 28, 28, 7), ImageShape(1, 224, 224, 2)]),
)
def test_the_count_by_arithmetic_is_that_of_the_network(architecture: JointArchitecture, shape: ImageShape) -> None:
    if architecture.problem() is None:
        with torch.device("meta"):
            assert parameter_count(JointNetwork(architecture, shape)) == architecture.parameter_count(shape)


# ------------------------------------------------------------------------------------------------------------ network


def mixings_of(architecture: JointArchitecture) -> list[Mixing]:
    return [module for module in JointNetwork(architecture).modules() if isinstance(module, Mixing)]


def test_one_branch_is_dropped_and_several_are_shaken() -> None:
    mixings = mixings_of(TINY)
    assert [type(mixing) for mixing in mixings] == [ShakeDrop, ShakeShake, ShakeShake]
    assert mixings[0].at_test_time() == [0.5, 0.5]
    assert list(mixings[2].at_test_time()) == pytest.approx([1 / 3])


def test_a_linear_death_rate_counts_all_blocks_of_the_network() -> None:
    architecture = changed(branches=(1, 2, 1), death_decay="linear")
    first, _, last = [mixing.at_test_time() for mixing in mixings_of(architecture)]
    assert first == pytest.approx([0.875, 0.75])
    assert last == pytest.approx([0.5])


def test_nothing_comes_between_the_first_convolution_and_the_blocks_but_a_normalisation() -> None:
    assert [type(module).__name__ for module in JointNetwork(TINY).stem] == ["Convolution", "BatchNorm2d"]
    assert [type(module).__name__ for module in JointNetwork(changed(block_type="pre")).stem] == ["Convolution"]


@pytest.mark.parametrize("block_type", ["post", "pre"])
def test_a_block_of_the_same_shape_adds_its_raw_input(block_type: Any) -> None:
    block = MixedBlock(4, 4, 1, 2, block_type=block_type)
    nn.init.zeros_(block.branches.second.weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x, 0.5), x)


def test_a_pre_activation_block_projects_what_its_branches_see() -> None:
    block = MixedBlock(3, 4, 2, 2, block_type="pre").eval()
    nn.init.zeros_(block.branches.second.weight)
    assert block.projection is not None
    x = torch.randn(2, 3, 6, 6)
    activated = torch.relu(x / (1 + 1e-5) ** 0.5)
    expected = nn.functional.conv2d(activated, block.projection.weight, stride=2)
    torch.testing.assert_close(block(x, 0.5), expected)


def test_the_same_seed_makes_the_same_net_and_step_bit_for_bit() -> None:
    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(11)
        network = JointNetwork(TINY)
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]

    one, other = gradients(), gradients()
    assert len(one) == len(list(JointNetwork(TINY).parameters()))
    assert all(map(torch.equal, one, other))


# ---------------------------------------------------------------------------------------------------------- shortcuts


@pytest.mark.parametrize("style", ["paper", "gastaldi"])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_two_paths_are_joined_and_normalised(style: Any, stride: int) -> None:
    shortcut = TwoPathShortcut(4, 5, stride, style=style).eval()
    x = torch.randn(3, 4, 6, 6)
    moved = torch.zeros_like(x)
    if style == "paper":
        moved[..., :-1, :-1] = x[..., 1:, 1:]
    else:
        moved[..., 1:, 1:] = torch.relu(x)[..., :-1, :-1]
    paths = [(torch.relu(x), shortcut.path_a), (moved, shortcut.path_b)]
    pooled = [nn.functional.conv2d(nn.functional.avg_pool2d(y, 1, stride), path.weight) for y, path in paths]
    assert [path.shape[1] for path in pooled] == [2, 3]
    torch.testing.assert_close(shortcut(x, torch.relu(x)), torch.cat(pooled, dim=1) / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("style", ["paper", "gastaldi"])
@pytest.mark.parametrize("side", [8, 7])
def test_the_gradients_of_a_shortcut_are_those_of_the_plain_formula(style: Any, side: int) -> None:
    torch.manual_seed(3)
    shortcut = TwoPathShortcut(6, 8, 2, style=style)

    def plain(x: torch.Tensor) -> torch.Tensor:
        activated = torch.relu(x)
        if style == "paper":
            moved = nn.functional.pad(x[..., 1:, 1:], (0, 1, 0, 1))
        else:
            moved = nn.functional.pad(activated[..., :-1, :-1], (1, 0, 1, 0))
        paths = [(activated, shortcut.path_a), (moved, shortcut.path_b)]
        parts = [nn.functional.conv2d(nn.functional.avg_pool2d(y, 1, 2), path.weight) for y, path in paths]
        out: torch.Tensor = shortcut.norm(torch.cat(parts, dim=1))
        return out

    def gradients(function: Any) -> list[torch.Tensor]:
        shortcut.zero_grad()
        x = start.clone().requires_grad_()
        (function(x) * weights).sum().backward()
        return [x.grad, *(its.grad.clone() for its in shortcut.parameters())]  # type: ignore[list-item, union-attr]  # all have gradients

    start = torch.randn(5, 6, side, side).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(5, 8, -(-side // 2), -(-side // 2))
    ours = gradients(lambda x: shortcut(x, torch.relu(x)))
    torch.testing.assert_close(ours, gradients(plain), atol=1e-5, rtol=1e-5)
    assert all(map(torch.equal, ours, gradients(lambda x: shortcut(x, torch.relu(x)))))


def test_narrow_stages_train_in_channels_last_without_harming_memory() -> None:
    """oneDNN's 1x1 convolution with a stride once failed here: below 8 channels it wrote beyond its memory."""
    code = (
        "import torch\n"
        "from hpbandster_lite.workers.networks.layers import Convolution\n"
        "torch.set_num_threads(1)\n"
        "for width in (2, 3, 4, 6, 7) * 8:\n"
        "    x = torch.randn(8, width, 32, 32).contiguous(memory_format=torch.channels_last).requires_grad_()\n"
        "    Convolution(width, 4, 1, 2)(x).sum().backward()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
