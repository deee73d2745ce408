"""Layers that several families share: convolution, normalisation, stem, the two-path shortcut, the classifier.

Law of this file: a layer draws its weights once, from torch's default generator, so that a seed and an architecture
determine a network. Images are (n, channels, height, width), in either memory format. Sources: He et al. 2015
(arXiv:1502.01852) for the weights, Gastaldi 2017 (arXiv:1705.07485) for the shortcut.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.workers.networks.image_shape import ImageShape

Fan: TypeAlias = Literal["in", "out"]
ShortcutStyle: TypeAlias = Literal["paper", "gastaldi"]


class Convolution(nn.Conv2d):
    """Square convolution without a bias, padded so that only the stride shrinks the image.

    Weights are normal with mean 0 and variance ``2 / fan`` (He et al. 2015): activations (fan in, equation 10) or
    gradients (fan out, equation 14) then keep their scale through convolutions and ReLUs.

    Parameters
    ----------
    before, width
        Channels of input and output.
    size
        Side of the filter in pixels, odd.
    stride
        Of the convolution.
    fan
        ``out``: size² times outputs, which the residual networks here use; ``in``: size² times inputs, Wide ResNet's.
    side_by_side
        Number of separate convolutions in this one: all of the same input if ``groups`` is 1, each of a part of the
        input if ``groups`` equals it. Each has the weights that it would have alone.
    groups
        As torch's.
    """

    def __init__(
        self,
        before: int,
        width: int,
        size: int = 3,
        stride: int = 1,
        *,
        fan: Fan = "out",
        side_by_side: int = 1,
        groups: int = 1,
    ) -> None:
        # Before the base class, which calls reset_parameters().
        self._fan = size**2 * (width // side_by_side if fan == "out" else before // groups)
        super().__init__(before, width, size, stride, padding=size // 2, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self._fan))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, before, h, w) to (n, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            # The same, of only the pixels that count. Not by the library: with fewer than 8 channels_last channels,
            # oneDNN's backward pass of a 1x1 convolution at a stride writes beyond its memory (torch 2.13 on
            # AVX2: crashes within 30 calls; stride 1 and 3x3 never did).
            return functional.conv2d(x[..., :: self.stride[0], :: self.stride[1]], self.weight, groups=self.groups)
        return super().forward(x)


def normalisation(width: int) -> nn.BatchNorm2d:
    """Batch normalisation of ``width`` channels, weight 1 and bias 0."""
    norm = nn.BatchNorm2d(width)
    # The number of batches is used only without a momentum; counting them costs a kernel launch per layer and step.
    norm.num_batches_tracked = None
    return norm


def stem(shape: ImageShape, width: int, *, fan: Fan = "out") -> nn.Module:
    """First convolution: 3x3; of large images (:attr:`ImageShape.is_large`) 7x7 at stride 2, then max-pooling.

    Pooling precedes normalisation, which then has a quarter of the pixels. The order does not change the result of a
    ReLU after both, as long as the normalisation's weights are positive.
    """
    if not shape.is_large:
        return Convolution(shape.channels, width, fan=fan)
    return nn.Sequential(Convolution(shape.channels, width, 7, 2, fan=fan), nn.MaxPool2d(3, 2, padding=1))


def classifier(width: int, classes: int) -> nn.Sequential:
    """Global average pooling (for any image size) and a linear layer, bias 0: (n, width, h, w) to (n, classes)."""
    linear = nn.Linear(width, classes)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


class TwoPathShortcut(nn.Module):
    """Shortcut of a block that changes the shape: two 1x1 convolutions of two shifted samplings, joined, normalised.

    With stride 2 path A reads the pixels of even rows and columns, path B those of odd ones, so that less of the image
    is lost than the three quarters of a plain projection. Each path has half of the channels (B has the odd one).

    Parameters
    ----------
    before, width
        Channels that come in and go out; ``width`` is at least 2.
    stride
        Of the block.
    style
        ``gastaldi``: both paths read the image after ReLU, and path B reads it moved down and right by one pixel.
        ``paper``, the released code of arXiv:1807.06906: path B reads it without ReLU, moved up and left.
    """

    def __init__(self, before: int, width: int, stride: int, *, style: ShortcutStyle = "gastaldi") -> None:
        super().__init__()
        self._stride = stride
        self._style = style
        self.path_a = Convolution(before, width // 2, 1, stride)
        self.path_b = Convolution(before, width - width // 2, 1)
        self.norm = normalisation(width)

    def forward(self, x: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
        """(n, before, h, w), and the same after ReLU, to (n, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        # Average pooling of single pixels at a stride, then a 1x1 convolution: a 1x1 convolution at that stride.
        if self._style == "paper":
            b = shifted_up_and_left(x, self._stride)
        else:
            b = shifted_down_and_right(activated, self._stride)
        joined = torch.cat([self.path_a(activated), self.path_b(b)], dim=1)
        normalised: torch.Tensor = self.norm(joined)
        return normalised


def shifted_up_and_left(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Every ``stride``-th pixel, from the first, of the images moved by (-1, -1), with zeros below and right."""
    height, width = x.shape[-2:]
    taken = x[..., 1::stride, 1::stride]
    missing = [-(-side // stride) - -(-(side - 1) // stride) for side in (width, height)]
    return functional.pad(taken, (0, missing[0], 0, missing[1])) if any(missing) else taken


def shifted_down_and_right(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Every ``stride``-th pixel, from the first, of the images moved by (1, 1), with zeros above and left."""
    height, width = x.shape[-2:]
    return functional.pad(x[..., stride - 1 : height - 1 : stride, stride - 1 : width - 1 : stride], (1, 0, 1, 0))
