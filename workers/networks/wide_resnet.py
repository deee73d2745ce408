"""Wide ResNet (Zagoruyko and Komodakis, arXiv:1605.07146): few, wide pre-activation blocks.

Law of this file: three stages of 16 k, 32 k and 64 k channels after a convolution to 16; a block is
normalisation-ReLU-convolution, once for each of its convolutions. WRN-d-k is ``WideResNet(d, k)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape
from hpbandster_lite.workers.networks.layers import Convolution, classifier, normalisation, stem

STEM = 16
STAGES = (16, 32, 64)
BASIC = (3, 3)


class WideResNet(nn.Module):
    """Wide residual network.

    Parameters
    ----------
    depth
        ``4 + 3 l N``, where N is the number of blocks of a stage and l the deepening factor; with the usual l = 2:
        10, 16, 22, 28, 34, 40, ...
    widen_factor
        k, above 0; widths are rounded to whole channels.
    block
        Filter sizes of a block's convolutions, as the paper writes them: ``"3,3"`` (the default), ``"3,1,3"``,
        ``"1,3,1"``, ``"1,3"``, ``"3,1"``, ``"3,1,1"``, or a tuple such as ``(3, 1, 3)``. The first convolution has the
        block's stride.
    deepening
        l, the number of 3x3 convolutions of a block, only for the block B(3,3). Default: 2.
    dropout
        Share of values dropped between the convolutions of a block (in the paper 0.3 for CIFAR). Default: 0.
    shape
        Shape of the images. Default: CIFAR-10's.

    Raises
    ------
    UsageError
        If there is no such network; for a depth, the message names the nearest depths.
    """

    def __init__(
        self,
        depth: int,
        widen_factor: float,
        *,
        block: str | Sequence[int] = BASIC,
        deepening: int = len(BASIC),
        dropout: float = 0.0,
        shape: ImageShape = CIFAR10,
    ) -> None:
        super().__init__()
        sizes = filter_sizes(block, deepening)
        blocks = blocks_per_stage(depth, deepening)
        widths = [round(width * widen_factor) for width in STAGES]
        if min(widths) < 1:
            raise UsageError(f"{widen_factor=} leaves a stage without channels; give at least {1 / STAGES[0]}")
        self.stem = stem(shape, STEM, fan="in")
        self.stages = nn.Sequential()
        before = STEM
        for stage, width in enumerate(widths):
            for number in range(blocks):
                stride = 2 if stage and not number else 1
                self.stages.append(PreActivationBlock(before, width, stride, sizes=sizes, dropout=dropout))
                before = width
        self.norm = normalisation(before)
        self.classifier = classifier(before, shape.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images (n, channels, h, w) to logits (n, classes)."""
        out = self.norm(self.stages(self.stem(x)))
        logits: torch.Tensor = self.classifier(functional.relu(out, inplace=True))
        return logits


class PreActivationBlock(nn.Module):
    """Normalisation, ReLU, (dropout,) convolution, once for each size; plus the shortcut.

    The shortcut is the input. If the shape changes, it is a 1x1 convolution of the input after the first normalisation
    and ReLU.
    """

    def __init__(self, before: int, width: int, stride: int, *, sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(normalisation(before), nn.ReLU(inplace=True))
        self.body = nn.Sequential(Convolution(before, width, sizes[0], stride, fan="in"))
        for size in sizes[1:]:
            self.body.extend([normalisation(width), nn.ReLU(inplace=True)])
            if dropout:
                self.body.append(nn.Dropout(dropout))
            self.body.append(Convolution(width, width, size, fan="in"))
        changes_shape = stride != 1 or before != width
        self.shortcut = Convolution(before, width, 1, stride, fan="in") if changes_shape else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, before, h, w) to (n, width, ⌈h / stride⌉, ⌈w / stride⌉)."""
        activated = self.first(x)
        out: torch.Tensor = self.body(activated)
        # In place: the backward pass of a convolution does not need its output.
        return out.add_(x if self.shortcut is None else self.shortcut(activated))


def filter_sizes(block: str | Sequence[int], deepening: int = len(BASIC)) -> tuple[int, ...]:
    """Sizes of a block's filters: the sizes of its type, or ``deepening`` times 3.

    Raises
    ------
    UsageError
        For filters other than 1x1 and 3x3, and for a deepening factor with another block than B(3,3).
    """
    if deepening < 1:
        raise UsageError(f"deepening must be at least 1, got {deepening}")
    try:
        sizes = tuple(int(size) for size in (block.split(",") if isinstance(block, str) else block))
    except ValueError:
        sizes = ()
    if not sizes or not set(sizes) <= {1, 3}:
        raise UsageError(f'a block must have filters of size 1 and 3, such as "3,1,3", got {block=}')
    if deepening == len(BASIC):
        return sizes
    if sizes != BASIC:
        raise UsageError(f"only the block 3,3 can be deepened, got {block=} with {deepening=}; write the filters out")
    return (3,) * deepening


def blocks_per_stage(depth: int, deepening: int = len(BASIC)) -> int:
    """Number of blocks of a stage: N = (depth - 4) / (3 l), where l is 2 for every block type that is not deepened.

    For each block type, N is the number of blocks that B(3,3) has at this depth, even if the block has another number
    of convolutions: only this rule reproduces all parameter counts of the paper's Table 2. Deepening (Table 3) reduces
    the number of blocks instead, so that all networks of that table have the same number of parameters.

    Raises
    ------
    UsageError
        If N is not a whole number from 1.
    """
    step = 3 * deepening
    blocks, rest = divmod(depth - 4, step)
    if rest or blocks < 1:
        nearest = sorted({4 + step * n for n in (max(1, blocks), max(1, blocks + 1))})
        raise UsageError(
            f"a wide ResNet with {deepening=} must have depth 4 + {step} N with N from 1, got {depth=}; use "
            f"{' or '.join(map(str, nearest))}"
        )
    return blocks
