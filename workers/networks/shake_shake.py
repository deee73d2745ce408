"""Shake-Shake (Gastaldi, arXiv:1705.07485): branches are mixed at random, their gradients by other numbers.

Law of this file: ``x + sum_i alpha_i F_i(x)`` forward and ``beta_i`` times the gradient backward, where alpha and beta
each are non-negative numbers that sum to 1; 1/n at test time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.branches import Factors, Layout, Level, MixedBlock, MixedStage, Mixing, mix
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape
from hpbandster_lite.workers.networks.layers import classifier, normalisation, stem

Mode: TypeAlias = Literal["shake", "even", "keep"]
STEM = 16
STAGES = 3


class ShakeShake(Mixing):
    """Random mixing of n branches, for the blocks of a stage or, if called with branches, alone.

    The numbers are drawn uniformly from all positive ones that sum to 1 (the flat Dirichlet distribution, by
    exponentials divided by their sum). For n = 2 this is the paper's alpha ~ U(0, 1) and 1 - alpha. It is the one
    distribution that prefers no mixture, has the mean 1/n that is used at test time, and needs no constant for n > 2.

    Parameters
    ----------
    branches
        n, at least 2.
    forward, backward
        ``shake``: drawn anew; ``even``: 1/n; ``keep``: the numbers of the other pass (the paper has it backward).
    level
        ``image``: numbers for each image; ``batch``: one set for all images.
    softmax
        Draw as the code of arXiv:1807.06906 does: the softmax of n numbers from U(0, 1), which keeps each alpha of two
        within [0.269, 0.731].
    blocks
        Blocks for which :meth:`draw` draws.

    Raises
    ------
    UsageError
        If an option has no such value, or each pass would keep the other's numbers.
    """

    def __init__(
        self,
        branches: int = 2,
        *,
        forward: Mode = "shake",
        backward: Mode = "shake",
        level: Level = "image",
        softmax: bool = False,
        blocks: int = 1,
    ) -> None:
        super().__init__()
        problem = shake_problem(forward, backward, level)
        if branches < 2:
            problem = f"Shake-Shake mixes at least 2 branches, got {branches=}; ShakeDrop is for one"
        if problem is not None:
            raise UsageError(problem)
        self._branches = branches
        self._forward, self._backward = forward, backward
        self._level = level
        self._softmax = softmax
        self._blocks = blocks

    def draw(self, x: torch.Tensor) -> Factors:
        """Numbers for one step: see :meth:`Mixing.draw`."""
        forward, backward = self._forward, self._backward
        first = self._numbers(backward if forward == "keep" else forward, x)
        kept = "keep" in (forward, backward) or forward == backward == "even"
        return Factors(first, first if kept else self._numbers(backward, x))

    def _numbers(self, mode: Mode, x: torch.Tensor) -> torch.Tensor:
        images = x.shape[0] if self._level == "image" else 1
        size = (self._blocks, self._branches, images, 1, 1, 1)
        if mode == "even":
            return x.new_full(size, 1 / self._branches)
        # Always in single precision: half precision has few numbers between 0 and 1.
        if self._softmax:
            drawn = torch.rand(size, device=x.device).softmax(dim=1)
        else:
            drawn = torch.empty(size, device=x.device).exponential_()
            drawn /= drawn.sum(dim=1, keepdim=True)
        return drawn.to(x.dtype)

    def at_test_time(self) -> Sequence[float]:
        """1/n for each block."""
        return [1 / self._branches] * self._blocks

    def forward(self, *branches: torch.Tensor) -> torch.Tensor:
        """Mixture of n tensors (images, ...) of equal shape, such as the branches of one block without its shortcut."""
        factors = next(iter(self.draw(branches[0]).per_block())) if self.training else self.at_test_time()[0]
        return mix(None, branches, factors)


def shake_problem(forward: str, backward: str, level: str) -> str | None:
    """Why these modes and this level are not valid; ``None`` if they are."""
    for name, value, known in (
        ("forward", forward, get_args(Mode)),
        ("backward", backward, get_args(Mode)),
        ("level", level, get_args(Level)),
    ):
        if value not in known:
            return f"{name} of Shake-Shake is one of {', '.join(known)}, got {value!r}"
    if forward == backward == "keep":
        return "forward and backward cannot both keep the other's numbers; let one of them be shake or even"
    return None


class ShakeShakeNet(nn.Module):
    """Gastaldi's network: "26 2x32d" is ``ShakeShakeNet(26, 32)``.

    Parameters
    ----------
    depth
        6 n + 2 with n from 1: 20 and 26 in the papers.
    width
        Channels of each branch in the first of three stages; each stage has twice those of the one before.
    branches, forward, backward, level, softmax
        As of :class:`ShakeShake`.
    shape
        Of the images.
    layout
        How branches are computed, see :class:`~hpbandster_lite.workers.networks.branches.Branches`.

    Raises
    ------
    UsageError
        If there is no such network; for depths the message names the nearest ones.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        branches: int = 2,
        forward: Mode = "shake",
        backward: Mode = "shake",
        level: Level = "image",
        softmax: bool = False,
        shape: ImageShape = CIFAR10,
        layout: Layout = "auto",
    ) -> None:
        super().__init__()
        blocks = blocks_per_stage(depth)
        if width < 1:
            raise UsageError(f"a branch has at least 1 channel, got {width=}")
        self.stem = nn.Sequential(stem(shape, STEM), normalisation(STEM))
        self.stages = nn.Sequential()
        before = STEM
        for stage in range(STAGES):
            members = []
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                members.append(MixedBlock(before, width << stage, stride, branches, layout=layout))
                before = width << stage
            mixing = ShakeShake(
                branches, forward=forward, backward=backward, level=level, softmax=softmax, blocks=blocks
            )
            self.stages.append(MixedStage(members, mixing))
        self.classifier = nn.Sequential(nn.ReLU(), *classifier(before, shape.classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (n, channels, h, w) to logits (n, classes)."""
        logits: torch.Tensor = self.classifier(self.stages(self.stem(x)))
        return logits


def blocks_per_stage(depth: int) -> int:
    """(depth - 2) / 6.

    Raises
    ------
    UsageError
        If that is not a whole number from 1.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        nearest = sorted({6 * n + 2 for n in (max(1, blocks), max(1, blocks + 1))})
        raise UsageError(
            f"a Shake-Shake network has depth 6 n + 2 with n from 1, got {depth=}; nearest: "
            f"{' or '.join(map(str, nearest))}"
        )
    return blocks
