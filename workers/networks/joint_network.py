"""The network that arXiv:1807.06906 searches, from a :class:`.JointArchitecture`.

Law of this file: modules only. A first convolution; main blocks of residual blocks, with ShakeDrop if they have one
branch and Shake-Shake if they have more; global average pooling and a linear layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

import torch
from torch import nn

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.workers.networks.branches import BlockType, Layout, Level, MixedBlock, MixedStage, Mixing
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape
from hpbandster_lite.workers.networks.joint_architecture import BlockPlan, JointArchitecture
from hpbandster_lite.workers.networks.layers import ShortcutStyle, classifier, normalisation, stem
from hpbandster_lite.workers.networks.shake_drop import Decay, ShakeDrop, death_rates
from hpbandster_lite.workers.networks.shake_shake import Mode, ShakeShake


class JointNetwork(nn.Module):
    """Network of an architecture.

    Parameters
    ----------
    architecture
        The architecture to build.
    shape
        Shape of the images. Default: CIFAR-10's.
    layout
        Layout of the computation, see :class:`~hpbandster_lite.workers.networks.branches.Branches`. Default: ``auto``.

    Raises
    ------
    SpaceError
        If the network cannot be built; the message has the reason.
    """

    def __init__(
        self, architecture: JointArchitecture, shape: ImageShape = CIFAR10, *, layout: Layout = "auto"
    ) -> None:
        super().__init__()
        problem = architecture.problem()
        if problem is not None:
            raise SpaceError(problem)
        is_post = architecture.block_type == "post"
        filters, last = architecture.initial_filters, architecture.widths[-1]
        # No ReLU, because every block begins with a ReLU or a normalisation.
        self.stem = nn.Sequential(stem(shape, filters), *([normalisation(filters)] if is_post else []))
        rates = iter(
            death_rates(sum(architecture.blocks), architecture.death_rate, cast("Decay", architecture.death_decay))
        )
        self.main_blocks = nn.Sequential(
            *(MixedStage(_blocks(plan, architecture, layout), _mixing(plan, architecture, rates))
              for plan in architecture.plan)
        )  # fmt: skip
        self.classifier = nn.Sequential(
            *([] if is_post else [normalisation(last)]), nn.ReLU(), *classifier(last, shape.classes)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (n, channels, h, w) to logits (n, classes)."""
        logits: torch.Tensor = self.classifier(self.main_blocks(self.stem(x)))
        return logits


def _blocks(plan: Sequence[BlockPlan], architecture: JointArchitecture, layout: Layout) -> Iterator[MixedBlock]:
    for block in plan:
        yield MixedBlock(
            *block,
            block_type=cast("BlockType", architecture.block_type),
            shortcut=cast("ShortcutStyle", architecture.shortcut),
            layout=layout,
        )


def _mixing(plan: Sequence[BlockPlan], architecture: JointArchitecture, rates: Iterator[float]) -> Mixing:
    """The mixing of a main block; it takes the rates of its blocks from ``rates``, even if it does not use them."""
    its = list(islice(rates, len(plan)))
    branches = plan[0].branches
    if branches == 1:
        return ShakeDrop(its)
    return ShakeShake(
        branches,
        forward=cast("Mode", architecture.shake_forward),
        backward=cast("Mode", architecture.shake_backward),
        level=cast("Level", architecture.shake_level),
        softmax=architecture.shake_softmax,
        blocks=len(plan),
    )
