"""The network of an :class:`~hpbandster_lite.workers.digits.architecture.Architecture`.

Law of this file: modules only. A block is convolution, normalisation, activation, dropout, convolution, normalisation,
then (if residual) plus its input, then activation.
"""

from __future__ import annotations

import torch
from torch import nn

from hpbandster_lite.workers.digits.architecture import CLASSES, Architecture, BlockPlan

STATISTICS_MOMENTUM = 0.4
"""Momentum of the running statistics. An epoch may have as few as seven steps (898 images in batches of 128), after
which 3 % of the initial values remain. With torch's 0.1, 48 % remain, which makes the validation loss noisy."""
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}


def build_network(architecture: Architecture) -> nn.Sequential:
    """A new network, from images (n, 1, 8, 8) to logits (n, 10), with weights from torch's default generator."""
    width = architecture.widths[0]
    return nn.Sequential(
        _convolution(1, width, architecture.kernel_size),
        _normalisation(width),
        ACTIVATIONS[architecture.activation](),
        *(Block(plan, architecture) for plan in architecture.plan),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(architecture.widths[-1], CLASSES),
    )


class Block(nn.Module):
    """Two convolutions, the first with the block's stride, with normalisation, activation, dropout and shortcut."""

    def __init__(self, plan: BlockPlan, architecture: Architecture) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(plan.before, plan.width, architecture.kernel_size, plan.stride),
            _normalisation(plan.width),
            ACTIVATIONS[architecture.activation](),
            nn.Dropout2d(architecture.dropout),
            _convolution(plan.width, plan.width, architecture.kernel_size),
            _normalisation(plan.width),
        )
        self.shortcut: nn.Module | None = None
        if architecture.residual:
            self.shortcut = _projection(plan) if plan.changes_shape else nn.Identity()
        self.activation = ACTIVATIONS[architecture.activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, before, h, w) to (n, width, h / stride, w / stride)."""
        out = self.body(x)
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        activated: torch.Tensor = self.activation(out)
        return activated


def _convolution(before: int, width: int, size: int, stride: int = 1) -> nn.Conv2d:
    # No bias, because the next normalisation has one.
    return nn.Conv2d(before, width, size, stride=stride, padding=size // 2, bias=False)


def _normalisation(width: int) -> nn.Module:
    return nn.BatchNorm2d(width, momentum=STATISTICS_MOMENTUM)


def _projection(plan: BlockPlan) -> nn.Module:
    return nn.Sequential(_convolution(plan.before, plan.width, 1, plan.stride), _normalisation(plan.width))
