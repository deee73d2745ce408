"""Shake-Shake (Gastaldi, arXiv:1705.07485): random factors mix branches, and other random factors their gradients.

Law of this file: the forward pass computes ``x + sum_i alpha_i F_i(x)``, the backward pass multiplies the gradient of
branch i by ``beta_i``. The alpha_i are non-negative and sum to 1, and so do the beta_i; at test time all are 1/n.
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
    """Random mixing of n branches, for the blocks of a stage or for given branches.

    The factors are drawn uniformly from all positive factors that sum to 1: the flat Dirichlet distribution, by
    exponentials divided by their sum. For n = 2 this is the paper's alpha ~ U(0, 1) and 1 - alpha. Only this
    distribution prefers no mixture; it has the mean 1/n that is used at test time, and no constant for n > 2.

    Parameters
    ----------
    branches
        n, at least 2. Default: 2.
    forward, backward
        ``shake`` (the default): new random factors; ``even``: 1/n; ``keep``: the factors of the other pass (in the
        paper only for backward).
    level
        ``image`` (the default): factors for each image; ``batch``: the same factors for all images.
    softmax
        Whether to draw as the code of arXiv:1807.06906 does: the softmax of n numbers from U(0, 1), with which each
        alpha of two is within [0.269, 0.731]. Default: False.
    blocks
        Number of blocks for which :meth:`draw` draws. Default: 1.

    Raises
    ------
    UsageError
        If an option has an unknown value, or both passes keep the factors of the other.
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
            problem = f"Shake-Shake requires at least 2 branches, got {branches=}; use ShakeDrop for one branch"
        if problem is not None:
            raise UsageError(problem)
        self._branches = branches
        self._forward, self._backward = forward, backward
        self._level = level
        self._softmax = softmax
        self._blocks = blocks

    def draw(self, x: torch.Tensor) -> Factors:
        """Factors for one step: see :meth:`Mixing.draw`."""
        forward, backward = self._forward, self._backward
        first = self._numbers(backward if forward == "keep" else forward, x)
        kept = "keep" in (forward, backward) or forward == backward == "even"
        return Factors(first, first if kept else self._numbers(backward, x))

    def _numbers(self, mode: Mode, x: torch.Tensor) -> torch.Tensor:
        images = x.shape[0] if self._level == "image" else 1
        size = (self._blocks, self._branches, images, 1, 1, 1)
        if mode == "even":
            return x.new_full(size, 1 / self._branches)
        # Draw in single precision, because half precision has few numbers between 0 and 1.
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
        """Mixture of n tensors (images, ...) of equal shape, for example of a block's branches without its shortcut."""
        factors = next(iter(self.draw(branches[0]).per_block())) if self.training else self.at_test_time()[0]
        return mix(None, branches, factors)


def shake_problem(forward: str, backward: str, level: str) -> str | None:
    """Why these modes and this level are invalid; ``None`` if they are valid."""
    for name, value, known in (
        ("forward", forward, get_args(Mode)),
        ("backward", backward, get_args(Mode)),
        ("level", level, get_args(Level)),
    ):
        if value not in known:
            return f"{name} of Shake-Shake must be one of {', '.join(known)}, got {value!r}"
    if forward == backward == "keep":
        return "forward and backward are both keep; set one of them to shake or even"
    return None


class ShakeShakeNet(nn.Module):
    """Gastaldi's network: "26 2x32d" is ``ShakeShakeNet(26, 32)``.

    Parameters
    ----------
    depth
        6 n + 2 with n from 1: 20 and 26 in the papers.
    width
        Channels of each branch in the first of three stages; each stage has twice the channels of the stage before.
    branches, forward, backward, level, softmax
        As for :class:`ShakeShake`.
    shape
        Shape of the images. Default: CIFAR-10's.
    layout
        Layout of the computation, see :class:`~hpbandster_lite.workers.networks.branches.Branches`. Default: ``auto``.

    Raises
    ------
    UsageError
        If there is no such network; for a depth, the message names the nearest depths.
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
            raise UsageError(f"a branch must have at least 1 channel, got {width=}")
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
        """Maps images (n, channels, h, w) to logits (n, classes)."""
        logits: torch.Tensor = self.classifier(self.stages(self.stem(x)))
        return logits


def blocks_per_stage(depth: int) -> int:
    """Number of blocks of a stage: (depth - 2) / 6.

    Raises
    ------
    UsageError
        If this is not a whole number from 1.
    """
    blocks, rest = divmod(depth - 2, 6)
    if rest or blocks < 1:
        nearest = sorted({6 * n + 2 for n in (max(1, blocks), max(1, blocks + 1))})
        raise UsageError(
            f"a Shake-Shake network must have depth 6 n + 2 with n from 1, got {depth=}; use "
            f"{' or '.join(map(str, nearest))}"
        )
    return blocks
