"""The architecture of a configuration, and its number of parameters.

Law of this file: arithmetic only, without torch, so that a configuration can be refused before a network is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

CLASSES = 10


class BlockPlan(NamedTuple):
    """One block: input and output channels, and the stride of the first convolution."""

    before: int
    width: int
    stride: int

    @property
    def changes_shape(self) -> bool:
        """Whether its shortcut must be a convolution."""
        return self.stride != 1 or self.before != self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A convolutional network: a stem, stages of blocks of two convolutions, global average pooling, a linear layer.

    Parameters
    ----------
    widths
        Channels of each stage. Each stage after the first begins with a block that halves the image.
    blocks
        Number of blocks of each stage.
    kernel_size
        Kernel size in pixels of all convolutions except those of shortcuts.
    residual
        Whether a block's input is added to its output.
    activation
        ``relu``, ``silu`` or ``tanh``.
    dropout
        Share of channels that a block drops between its convolutions, in [0, 1).
    """

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    kernel_size: int
    residual: bool
    activation: str
    dropout: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """The architecture of a configuration; each stage is ``widening`` times as wide as the one before."""
        stages = range(config["stages"])
        return cls(
            widths=tuple(round(config["filters"] * config.get("widening", 1.0) ** i) for i in stages),
            blocks=tuple(config[f"blocks_{i + 1}"] for i in stages),
            kernel_size=config["kernel_size"],
            residual=config["residual"],
            activation=config["activation"],
            dropout=config["dropout"],
        )

    @property
    def plan(self) -> list[BlockPlan]:
        """All blocks in order; the first block of each stage after the first halves the image."""
        plan: list[BlockPlan] = []
        before = self.widths[0]
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            for block in range(blocks):
                plan.append(BlockPlan(before, width, stride=2 if stage and not block else 1))
                before = width
        return plan

    @property
    def parameter_count(self) -> int:
        """Weights of the convolutions (without biases), two for each normalised channel, and the linear layer."""
        window = self.kernel_size**2
        count = (window + 2) * self.widths[0] + CLASSES * (self.widths[-1] + 1)
        for block in self.plan:
            count += window * block.width * (block.before + block.width) + 4 * block.width
            if self.residual and block.changes_shape:
                count += block.before * block.width + 2 * block.width
        return count
