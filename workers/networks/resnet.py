"""ResNet for small images (He et al., arXiv:1512.03385, section 4.2): three stages of 16, 32 and 64 channels.

Law of this file: depth 6 n + 2 means a 3x3 convolution, 3 n blocks of two convolutions, and a linear layer. Shortcuts
have no parameters (option A): at the beginning of a stage they use every second pixel, and the new channels are zero.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape
from hpbandster_lite.workers.networks.layers import Convolution, classifier, normalisation, stem
from hpbandster_lite.workers.networks.sampling import sampled

STAGES = (16, 32, 64)


class ResNet(nn.Module):
    """Residual network of He et al. for CIFAR.

    Parameters
    ----------
    depth
        6 n + 2 with n from 1: 20, 32, 44, 56 and 110 in the paper.
    shape
        Shape of the images. Default: CIFAR-10's.

    Raises
    ------
    UsageError
        If no network has this depth; the message names the nearest depths.
    """

    def __init__(self, depth: int, shape: ImageShape = CIFAR10) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            nearest = sorted({6 * n + 2 for n in (max(1, blocks), max(1, blocks + 1))})
            raise UsageError(
                f"a ResNet must have depth 6 n + 2 with n from 1, got {depth=}; use {' or '.join(map(str, nearest))}"
            )
        self.stem = nn.Sequential(stem(shape, STAGES[0]), normalisation(STAGES[0]), nn.ReLU(inplace=True))
        self.stages = nn.Sequential()
        before = STAGES[0]
        for stage, width in enumerate(STAGES):
            for block in range(blocks):
                self.stages.append(ResidualBlock(before, width, stride=2 if stage and not block else 1))
                before = width
        self.classifier = classifier(before, shape.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (n, channels, h, w) to logits (n, classes)."""
        logits: torch.Tensor = self.classifier(self.stages(self.stem(x)))
        return logits


class ResidualBlock(nn.Module):
    """Convolution, normalisation, ReLU, convolution, normalisation; plus its input; ReLU."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self._stride = stride
        self._new_channels = width - before
        self.body = nn.Sequential(
            Convolution(before, width, 3, stride),
            normalisation(width),
            nn.ReLU(inplace=True),
            Convolution(width, width),
            normalisation(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, before, h, w) to (n, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        out: torch.Tensor = self.body(x)
        if self._stride != 1 or self._new_channels:
            x = functional.pad(sampled(x, self._stride), (0, 0, 0, 0, 0, self._new_channels))
        return functional.relu(out + x)
