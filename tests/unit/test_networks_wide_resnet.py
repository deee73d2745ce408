"""Wide ResNet: the paper's tables, its block types and deepening, dropout, depths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.image_shape import CIFAR100
from hpbandster_lite.workers.networks.wide_resnet import (
    PreActivationBlock,
    WideResNet,
    blocks_per_stage,
    filter_sizes,
)
from hpbandster_lite.workers.training.memory import parameter_count


def parameters(depth: int, widen_factor: float, **options: Any) -> int:
    with torch.device("meta"):
        return parameter_count(WideResNet(depth, widen_factor, **options))


@pytest.mark.parametrize(
    ("depth", "widen_factor", "expected"),
    [
        (40, 1, 563_930), (40, 2, 2_243_546), (40, 4, 8_949_210), (40, 8, 35_748_314), (28, 10, 36_479_194),
        (28, 12, 52_517_850), (22, 8, 17_158_106), (22, 10, 26_797_914), (16, 8, 10_961_370), (16, 10, 17_116_634),
        (28, 2, 1_467_610), (16, 4, 2_748_890),
    ],
)  # fmt: skip
def test_the_nets_of_the_paper_have_its_parameters(depth: int, widen_factor: int, expected: int) -> None:
    assert parameters(depth, widen_factor) == expected


def test_a_hundred_classes_cost_ninety_columns_more() -> None:
    assert parameters(28, 10, shape=CIFAR100) == 36_536_884


@pytest.mark.parametrize(
    ("block", "depth", "expected"),
    [
        ("1,3,1", 40, 1_429_082), ("3,1", 40, 1_211_354), ("1,3", 40, 1_297_370), ("3,1,1", 40, 1_343_066),
        ("3,3", 28, 1_467_610), ("3,1,3", 22, 1_145_498),
    ],
)  # fmt: skip
def test_the_block_types_of_the_paper_have_its_parameters(block: str, depth: int, expected: int) -> None:
    assert parameters(depth, 2, block=block) == expected
    assert parameters(depth, 2, block=tuple(map(int, block.split(",")))) == expected


@pytest.mark.parametrize("deepening", [1, 2, 3, 4])
def test_deepening_blocks_leaves_the_parameters_as_they_are(deepening: int) -> None:
    assert parameters(40, 2, deepening=deepening) == 2_243_546
    assert blocks_per_stage(40, deepening) * deepening == 12


def test_a_block_is_the_formula() -> None:
    block = PreActivationBlock(3, 4, 2, sizes=(3, 1), dropout=0.0)
    x = torch.randn(8, 3, 6, 6)
    first, second = (module for module in block.body if isinstance(module, nn.Conv2d))
    assert block.shortcut is not None
    activated = torch.relu(normalised(x))
    out = torch.relu(normalised(functional.conv2d(activated, first.weight, stride=2, padding=1)))
    expected = functional.conv2d(out, second.weight) + functional.conv2d(activated, block.shortcut.weight, stride=2)
    torch.testing.assert_close(block(x), expected)


def test_a_block_that_keeps_the_shape_adds_its_raw_input() -> None:
    block = PreActivationBlock(4, 4, 1, sizes=(3, 3), dropout=0.0)
    nn.init.zeros_(block.get_parameter("body.3.weight"))
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def normalised(x: torch.Tensor) -> torch.Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()


def test_dropout_lies_between_the_convolutions_and_acts_in_training_only() -> None:
    block = PreActivationBlock(4, 4, 1, sizes=(3, 3, 3), dropout=0.5)
    kinds = [type(module).__name__ for module in block.body]
    inner = ["BatchNorm2d", "ReLU", "Dropout", "Convolution"]
    assert kinds == ["Convolution", *inner, *inner]
    x = torch.randn(2, 4, 8, 8)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


def test_weights_keep_the_scale_of_activations() -> None:
    torch.manual_seed(1)
    weight = PreActivationBlock(64, 128, 1, sizes=(3, 3), dropout=0.0).get_parameter("body.0.weight")
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "deepening", "message"),
    [
        (27, 2, "depth 4 + 6 N with N from 1, got depth=27; use 22 or 28"),
        (4, 2, "got depth=4; use 10"),
        (0, 2, "got depth=0; use 10"),
        (30, 3, "depth 4 + 9 N with N from 1, got depth=30; use 22 or 31"),
    ],
)
def test_an_invalid_depth_is_refused_with_the_nearest_ones(depth: int, deepening: int, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        WideResNet(depth, 1, deepening=deepening)
    assert message in str(caught.value)


@pytest.mark.parametrize("block", ["", "3,5", "three", (3, 2), ()])
def test_filters_of_other_sizes_are_refused(block: Any) -> None:
    with pytest.raises(UsageError, match="filters of size 1 and 3"):
        filter_sizes(block)


def test_only_the_basic_block_is_deepened() -> None:
    with pytest.raises(UsageError, match="deepening=3; write the filters out"):
        filter_sizes("3,1", 3)
    with pytest.raises(UsageError, match="deepening must be at least 1, got 0"):
        filter_sizes("3,3", 0)


def test_a_factor_that_leaves_no_channels_is_refused() -> None:
    with pytest.raises(UsageError, match=r"widen_factor=0.01 leaves a stage without channels"):
        WideResNet(10, 0.01)
