"""ResNet for CIFAR: its sizes, its shortcut without parameters, its depths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.resnet import ResidualBlock, ResNet
from hpbandster_lite.workers.training.memory import parameter_count


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018), (110, 1_727_962)]
)
def test_the_nets_of_the_paper_have_its_parameters(depth: int, parameters: int) -> None:
    with torch.device("meta"):
        assert parameter_count(ResNet(depth)) == parameters


def test_depth_counts_the_convolutions_and_the_linear_layer() -> None:
    with torch.device("meta"):
        modules = list(ResNet(32).modules())
    assert sum(isinstance(module, nn.Conv2d | nn.Linear) for module in modules) == 32


def test_a_block_whose_convolutions_are_silent_takes_every_second_pixel_and_new_channels_of_zero() -> None:
    block = ResidualBlock(2, 5, 2).eval()
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    x = torch.rand(3, 2, 7, 8)
    out = block(x)
    assert torch.equal(out[:, :2], x[:, :, ::2, ::2])
    assert torch.equal(out[:, 2:], torch.zeros(3, 3, 4, 4))


def test_a_block_is_relu_of_two_normalised_convolutions_and_its_input() -> None:
    block = ResidualBlock(4, 4, 1)
    x = torch.randn(8, 4, 6, 6)
    first, second = (module for module in block.body if isinstance(module, nn.Conv2d))
    out = torch.relu(normalised(torch.nn.functional.conv2d(x, first.weight, padding=1)))
    out = normalised(torch.nn.functional.conv2d(out, second.weight, padding=1))
    torch.testing.assert_close(block(x), torch.relu(out + x))


def normalised(x: torch.Tensor) -> torch.Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()


@pytest.mark.parametrize(
    ("depth", "nearest"), [(21, "use 20 or 26"), (18, "use 14 or 20"), (2, "use 8"), (-5, "use 8")]
)
def test_an_invalid_depth_is_refused_with_the_nearest_ones(depth: int, nearest: str) -> None:
    with pytest.raises(UsageError, match=rf"depth={depth}; {nearest}$"):
        ResNet(depth)


def test_the_smallest_depth_has_one_block_in_each_stage() -> None:
    assert len(ResNet(8).stages) == 3
