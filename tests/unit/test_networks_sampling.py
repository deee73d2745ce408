"""Sampled pixels of moved images, and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hpbandster_lite.workers.networks.sampling import sampled

SIDES = [(1, 1), (1, 2), (2, 1), (5, 6), (8, 7)]


def moved(x: torch.Tensor, shift: int) -> torch.Tensor:
    """The formula: a border of zeros, of which a window of the original size is taken."""
    height, width = x.shape[2:]
    return functional.pad(x, (1, 1, 1, 1))[..., 1 - shift : 1 - shift + height, 1 - shift : 1 - shift + width]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("shift", [0, 1, -1])
def test_moved_images_are_sampled_and_their_gradient_is_scattered(
    sides: tuple[int, int], stride: int, shift: int
) -> None:
    x = torch.randn(2, 3, *sides).requires_grad_()
    expected = moved(x, shift)[..., ::stride, ::stride]
    ours = sampled(x, stride, shift)
    assert torch.equal(ours, expected)
    weights = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(ours, x, weights)
    assert torch.equal(gradient, torch.autograd.grad(expected, x, weights)[0])


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
def test_pixels_and_gradients_have_the_format_of_the_images(form: torch.memory_format) -> None:
    x = torch.randn(2, 3, 8, 8).contiguous(memory_format=form).requires_grad_()
    out = sampled(x, 2, -1)
    # A gradient may arrive in either format.
    (gradient,) = torch.autograd.grad(out, x, torch.randn(2, 3, 4, 4))
    assert out.is_contiguous(memory_format=form)
    assert gradient.is_contiguous(memory_format=form)


def test_the_pixels_themselves_are_not_copied() -> None:
    x = torch.randn(1, 2, 4, 4)
    assert sampled(x, 1) is x
