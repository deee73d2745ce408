"""Several residual branches of one input, computed once and added to the shortcut with a weight for each.

Law of this file: one sum, ``shortcut + sum_i w_i branch_i``, whose gradients have other factors than the forward
weights. A :class:`Mixing` gives the factors: Shake-Shake for several branches, ShakeDrop for one.

The :data:`Layout` of a computation does not change its result: the parameters have the same shapes in every layout, so
a checkpoint from a GPU continues on a CPU. ``tests/benchmarks/networks.py`` measures the layouts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from hpbandster_lite.workers.networks.layers import Convolution, ShortcutStyle, TwoPathShortcut, normalisation
from hpbandster_lite.workers.networks.sampling import memory_format

Level: TypeAlias = Literal["batch", "image"]
Layout: TypeAlias = Literal["auto", "separate", "wide", "grouped"]
BlockType: TypeAlias = Literal["post", "pre"]


class Factors(NamedTuple):
    """Factors of branches: of their outputs (``forward``) and of their gradients (``backward``).

    Both have shape (..., branches, n, 1, 1, 1), where n is the number of images, or 1 for the same factor in the whole
    batch.
    """

    forward: torch.Tensor
    backward: torch.Tensor

    def per_block(self) -> Iterable[Factors]:
        """The factors of each block of a stage; blocks are the first dimension."""
        return map(Factors, self.forward.unbind(), self.backward.unbind())


class Mixing(nn.Module, ABC):
    """The rule that mixes the branches of a stage's blocks."""

    @abstractmethod
    def draw(self, x: torch.Tensor) -> Factors:
        """Factors of one training step for all blocks of a stage, (blocks, branches, n or 1, 1, 1, 1), in x's type.

        One draw from the generator of x's device serves all blocks of a stage. A draw for each block would launch more
        kernels on a GPU, which takes as long as the convolutions of a small network.
        """

    @abstractmethod
    def at_test_time(self) -> Sequence[float]:
        """Factor of all branches of each block in evaluation."""


def mix(shortcut: torch.Tensor | None, branches: Sequence[torch.Tensor], factors: Factors | float) -> torch.Tensor:
    """Weighted sum of branches and their shortcut.

    Parameters
    ----------
    shortcut
        Shape (n, c, h, w), or ``None``.
    branches
        Each of shape (n, c, h, w), or (n, k c, h, w) for k branches side by side (only with a shortcut).
    factors
        Factors of all branches in order, shape (branches, n or 1, 1, 1, 1); or one number as the weight of each branch,
        with the usual gradient.

    Returns
    -------
    torch.Tensor
        Shape (n, c, h, w). The gradient of branch i is the output's gradient times ``factors.backward[i]``; the
        gradient of the shortcut is the output's.

    Raises
    ------
    ValueError
        If there is no branch.
    """
    if not branches:
        raise ValueError("nothing to mix: give at least one branch")
    if not isinstance(factors, float):
        mixed: torch.Tensor = _Mix.apply(shortcut, *factors, *branches)  # type: ignore[no-untyped-call]  # torch has no type for it
        return mixed
    whole = list(_singles(branches, _width(shortcut, branches)))
    out = whole.pop(0) * factors if shortcut is None else shortcut
    for branch in whole:
        out = torch.add(out, branch, alpha=factors)
    return out


class _Mix(torch.autograd.Function):
    """A running sum, which copies no branch and keeps none for the backward pass, which needs only the factors."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        shortcut: torch.Tensor | None,
        forward: torch.Tensor,
        backward: torch.Tensor,
        *branches: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(backward)
        ctx.widths = [branch.shape[1] for branch in branches]  # type: ignore[attr-defined]  # torch lets any name be set
        singles = zip(_singles(branches, _width(shortcut, branches)), forward.unbind(), strict=True)
        branch, weight = next(singles)
        out = branch * weight if shortcut is None else torch.addcmul(shortcut, branch, weight)
        for branch, weight in singles:
            out.addcmul_(branch, weight)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (factors,) = ctx.saved_tensors
        n, width, *sides = gradient.shape
        remaining = iter(factors.unbind())
        gradients: list[torch.Tensor] = []
        for total in ctx.widths:
            if total == width:
                gradients.append(gradient * next(remaining))
                continue
            # Write in place, because a later concatenation would copy each part again.
            whole = gradient.new_empty((n, total, *sides)).contiguous(memory_format=memory_format(gradient))
            for part in whole.chunk(total // width, dim=1):
                torch.mul(gradient, next(remaining), out=part)
            gradients.append(whole)
        return (gradient if ctx.needs_input_grad[0] else None, None, None, *gradients)


def _width(shortcut: torch.Tensor | None, branches: Sequence[torch.Tensor]) -> int:
    return (branches[0] if shortcut is None else shortcut).shape[1]


def _singles(branches: Sequence[torch.Tensor], width: int) -> Iterable[torch.Tensor]:
    for branch in branches:
        yield from (branch,) if branch.shape[1] == width else branch.chunk(branch.shape[1] // width, dim=1)


class Branches(nn.Module):
    """Branches of one input: convolution, normalisation, ReLU, convolution, and (optionally) normalisation.

    All branches have the same input, so their first convolutions can be one convolution with all outputs, and their
    second convolutions one grouped convolution. One normalisation of all channels normalises each branch.

    Parameters
    ----------
    before, width
        Input and output channels of each branch.
    stride
        Stride of the first convolution.
    branches
        Number of branches.
    ends_normalised
        Whether the last layer is a normalisation. Default: True.
    layout
        ``separate``: branch by branch. ``wide``: the first convolution, its normalisation and ReLU for all branches at
        once. ``grouped``: the second convolution for all branches at once too. ``auto`` (the default): ``separate`` on
        a CPU, where it was the fastest: on one thread, with 8 to 128 channels and 2 to 5 branches, ``wide`` took 0.92
        to 1.32 times its time (median 1.02) and ``grouped`` 0.85 to 1.60 times (median 1.08). On other devices
        ``wide``, because the launch of small kernels takes time and grouped convolutions of channels_last images are
        slow with some libraries; this choice has not been measured.
    """

    def __init__(
        self,
        before: int,
        width: int,
        stride: int,
        branches: int,
        *,
        ends_normalised: bool = True,
        layout: Layout = "auto",
    ) -> None:
        super().__init__()
        self._width = width
        self._stride = stride
        self._branches = branches
        self._layout = layout
        total = branches * width
        self.first = Convolution(before, total, 3, stride, side_by_side=branches)
        self.first_norm = normalisation(total)
        self.second = Convolution(total, total, side_by_side=branches, groups=branches)
        self.second_norm = normalisation(total) if ends_normalised else None

    def forward(self, x: torch.Tensor) -> Sequence[torch.Tensor]:
        """Maps (n, before, h, w) to the branches for :func:`mix`, one by one or side by side."""
        layout = self._layout
        if layout == "auto":
            layout = "separate" if x.device.type == "cpu" else "wide"
        if layout == "separate" and self._branches > 1:
            firsts = self.first.weight.chunk(self._branches)
            return self._seconds(self._activated(convolved(x, w, self._stride), i) for i, w in enumerate(firsts))
        inner = functional.relu(self.first_norm(self.first(x)), inplace=True)
        if layout == "wide" and self._branches > 1:
            return self._seconds(inner.chunk(self._branches, dim=1))
        out = self.second(inner)
        return [out if self.second_norm is None else self.second_norm(out)]

    def _activated(self, x: torch.Tensor, branch: int) -> torch.Tensor:
        return functional.relu(self._normalised(self.first_norm, x, branch), inplace=True)

    def _seconds(self, inner: Iterable[torch.Tensor]) -> Sequence[torch.Tensor]:
        outputs = []
        for branch, (x, weight) in enumerate(zip(inner, self.second.weight.chunk(self._branches), strict=True)):
            out = convolved(x, weight, 1)
            outputs.append(out if self.second_norm is None else self._normalised(self.second_norm, out, branch))
        return outputs

    def _normalised(self, norm: nn.BatchNorm2d, x: torch.Tensor, branch: int) -> torch.Tensor:
        """Normalise images with the branch's part of a normalisation, and update its running statistics in place."""
        rows = slice(branch * self._width, (branch + 1) * self._width)
        mean, variance = norm.running_mean, norm.running_var
        return functional.batch_norm(
            x,
            None if mean is None else mean[rows],
            None if variance is None else variance[rows],
            norm.weight[rows],
            norm.bias[rows],
            training=norm.training,
            momentum=0.0 if norm.momentum is None else norm.momentum,
            eps=norm.eps,
        )


def convolved(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """3x3 convolution, padded so that only the stride shrinks the image."""
    return functional.conv2d(x, weight, stride=stride, padding=1)


class MixedBlock(nn.Module):
    """Residual block with any number of branches.

    ``post``: ReLU, then branches that end in a normalisation; no ReLU after the sum; a two-path shortcut if the shape
    changes. ``pre``: normalisation and ReLU, shared by all branches, which end in a convolution; if the shape changes,
    the shortcut is a 1x1 convolution of the activated input, as in a wide ResNet. If the shape does not change, the
    shortcut is the input.
    """

    def __init__(
        self,
        before: int,
        width: int,
        stride: int,
        branches: int,
        *,
        block_type: BlockType = "post",
        shortcut: ShortcutStyle = "gastaldi",
        layout: Layout = "auto",
    ) -> None:
        super().__init__()
        is_post = block_type == "post"
        self.norm = None if is_post else normalisation(before)
        self.branches = Branches(before, width, stride, branches, ends_normalised=is_post, layout=layout)
        changes_shape = stride != 1 or before != width
        self.two_paths = (
            TwoPathShortcut(before, width, stride, style=shortcut) if changes_shape and is_post else None
        )
        self.projection = Convolution(before, width, 1, stride) if changes_shape and not is_post else None

    def forward(self, x: torch.Tensor, factors: Factors | float) -> torch.Tensor:
        """Maps (n, before, h, w) to (n, width, ⌈h / stride⌉, ⌈w / stride⌉); ``factors`` as for :func:`mix`."""
        activated = functional.relu(x) if self.norm is None else functional.relu(self.norm(x), inplace=True)
        shortcut = x
        if self.two_paths is not None:
            shortcut = self.two_paths(x, activated)
        elif self.projection is not None:
            shortcut = self.projection(activated)
        return mix(shortcut, self.branches(activated), factors)


class MixedStage(nn.Module):
    """A sequence of blocks with one mixing.

    Parameters
    ----------
    blocks
        The blocks in order.
    mixing
        The mixing, for the same number of blocks.
    """

    def __init__(self, blocks: Iterable[MixedBlock], mixing: Mixing) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.mixing = mixing

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output of the last block."""
        factors = self.mixing.draw(x).per_block() if self.training else self.mixing.at_test_time()
        for block, its in zip(self.blocks, factors, strict=True):
            x = block(x, its)
        return x
