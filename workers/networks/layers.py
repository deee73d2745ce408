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
from hpbandster_lite.workers.networks.sampling import sampled

Fan: TypeAlias = Literal["in", "out"]
ShortcutStyle: TypeAlias = Literal["paper", "gastaldi"]


class Convolution(nn.Conv2d):
    """Square convolution without a bias, padded so that only the stride shrinks the image.

    Weights are normal with mean 0 and variance ``2 / fan`` (He et al. 2015), so that activations (fan in, equation 10)
    or gradients (fan out, equation 14) keep their scale through convolutions and ReLUs.

    Parameters
    ----------
    before, width
        Input and output channels.
    size
        Side of the filter in pixels, odd. Default: 3.
    stride
        Stride of the convolution. Default: 1.
    fan
        ``out`` (the default): size² times outputs, as in most residual networks here; ``in``: size² times inputs, as in
        Wide ResNet.
    side_by_side
        Number of separate convolutions in this one, each with the weights that it would have alone. All have the same
        input if ``groups`` is 1; each has a part of the input if ``groups`` equals this number. Default: 1.
    groups
        As in torch. Default: 1.
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
        # Set before the base class, which calls reset_parameters().
        self._fan = size**2 * (width // side_by_side if fan == "out" else before // groups)
        super().__init__(before, width, size, stride, padding=size // 2, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.normal_(self.weight, std=math.sqrt(2 / self._fan))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, before, h, w) to (n, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        if self.kernel_size == (1, 1) and self.stride != (1, 1):
            # The same result from only the pixels that count, without the library's stride: with fewer than 8
            # channels_last channels, oneDNN's backward pass of a 1x1 convolution with a stride writes outside its
            # memory (torch 2.13 on AVX2: crashes within 30 calls; stride 1 and 3x3 never crashed).
            return functional.conv2d(sampled(x, self.stride[0]), self.weight, groups=self.groups)
        return super().forward(x)


def normalisation(width: int) -> nn.BatchNorm2d:
    """Batch normalisation of ``width`` channels, weight 1 and bias 0."""
    norm = nn.BatchNorm2d(width)
    # The number of batches is used only without a momentum, and to count it takes a kernel launch per layer and step.
    norm.num_batches_tracked = None
    return norm


def stem(shape: ImageShape, width: int, *, fan: Fan = "out") -> nn.Module:
    """First convolution: 3x3; for large images (:attr:`ImageShape.is_large`) 7x7 with stride 2, then max-pooling.

    Pooling precedes normalisation, which then processes a quarter of the pixels. The order does not change the result
    of a ReLU after both, if the normalisation's weights are positive.
    """
    if not shape.is_large:
        return Convolution(shape.channels, width, fan=fan)
    return nn.Sequential(Convolution(shape.channels, width, 7, 2, fan=fan), nn.MaxPool2d(3, 2, padding=1))


def classifier(width: int, classes: int) -> nn.Sequential:
    """Global average pooling and a linear layer with bias 0: maps (n, width, h, w), of any size, to (n, classes)."""
    linear = nn.Linear(width, classes)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)


class TwoPathShortcut(nn.Module):
    """Shortcut of a block that changes the shape: 1x1 convolutions of two shifted samplings, joined and normalised.

    With stride 2, path A reads the pixels in even rows and columns, and path B those in odd rows and columns. So it
    loses less of the image than a plain projection, which loses three quarters. Each path has half of the channels; B
    has one more if their number is odd.

    Parameters
    ----------
    before, width
        Input and output channels; ``width`` is at least 2.
    stride
        Stride of the block.
    style
        ``gastaldi`` (the default): both paths read the image after ReLU, and path B reads it moved down and right by
        one pixel. ``paper``, as in the released code of arXiv:1807.06906: path B reads it without ReLU, moved up and
        left.
    """

    def __init__(self, before: int, width: int, stride: int, *, style: ShortcutStyle = "gastaldi") -> None:
        super().__init__()
        self._stride = stride
        self._style = style
        self.path_a = Convolution(before, width // 2, 1, stride)
        self.path_b = Convolution(before, width - width // 2, 1)
        self.norm = normalisation(width)

    def forward(self, x: torch.Tensor, activated: torch.Tensor) -> torch.Tensor:
        """Maps (n, before, h, w), and the same after ReLU, to (n, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        # Average pooling of single pixels with a stride and a 1x1 convolution are one 1x1 convolution with this stride.
        b = sampled(x, self._stride, -1) if self._style == "paper" else sampled(activated, self._stride, 1)
        joined = torch.cat([self.path_a(activated), self.path_b(b)], dim=1)
        normalised: torch.Tensor = self.norm(joined)
        return normalised
