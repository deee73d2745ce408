"""Several residual branches of one input, computed once and added to the shortcut with a weight for each.

Law of this file: one sum, ``shortcut + sum_i w_i branch_i``, whose gradients are multiplied by other numbers than the
forward weights. A :class:`Mixing` gives the numbers: Shake-Shake for several branches, ShakeDrop for one.

The way of computing the branches does not change their result: the parameters have the same shapes in every
:data:`Layout`, so a checkpoint of a GPU continues on a CPU. ``tests/benchmarks/networks.py`` measures them.
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

Level: TypeAlias = Literal["batch", "image"]
Layout: TypeAlias = Literal["auto", "separate", "wide", "grouped"]
BlockType: TypeAlias = Literal["post", "pre"]


class Factors(NamedTuple):
    """Factors of branches: of their outputs (``forward``) and of their gradients (``backward``).

    Both have shape (..., branches, n, 1, 1, 1), where n is the number of images, or 1 for one number for the batch.
    """

    forward: torch.Tensor
    backward: torch.Tensor

    def per_block(self) -> Iterable[Factors]:
        """From the factors of a stage those of its blocks, which are the first dimension."""
        return map(Factors, self.forward.unbind(), self.backward.unbind())


class Mixing(nn.Module, ABC):
    """The rule that mixes the branches of a stage's blocks."""

    @abstractmethod
    def draw(self, x: torch.Tensor) -> Factors:
        """Factors of one training step for all blocks of a stage, (blocks, branches, n or 1, 1, 1, 1), as x's type.

        They are drawn at once from the generator of x's device: a few kernels for a stage instead of for each of its
        blocks, whose launches on a GPU take as long as the convolutions of a small network.
        """

    @abstractmethod
    def at_test_time(self) -> Sequence[float]:
        """Factor of every branch in evaluation, one for each block."""


def mix(shortcut: torch.Tensor | None, branches: Sequence[torch.Tensor], factors: Factors | float) -> torch.Tensor:
    """Weighted sum of branches and their shortcut.

    Parameters
    ----------
    shortcut
        (n, c, h, w), or ``None``.
    branches
        Each (n, c, h, w), or (n, k c, h, w) for k branches side by side (with a shortcut only).
    factors
        Of all branches in order, shape (branches, n or 1, 1, 1, 1); a number is the weight of each branch, with the
        usual gradient.

    Returns
    -------
    torch.Tensor
        (n, c, h, w). The gradient of branch i is the output's times ``factors.backward[i]``; the shortcut's is the
        output's.

    Raises
    ------
    ValueError
        If there is no branch.
    """
    if not branches:
        raise ValueError("nothing to mix: give at least one branch")
    if not isinstance(factors, float):
        mixed: torch.Tensor = _Mix.apply(shortcut, *factors, *branches)  # type: ignore[no-untyped-call]
        return mixed
    whole = list(_singles(branches, _width(shortcut, branches)))
    out = whole.pop(0) * factors if shortcut is None else shortcut
    for branch in whole:
        out = torch.add(out, branch, alpha=factors)
    return out


class _Mix(torch.autograd.Function):
    """A running sum: no branch is copied or kept for the backward pass, which needs the factors alone."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        shortcut: torch.Tensor | None,
        forward: torch.Tensor,
        backward: torch.Tensor,
        *branches: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(backward)
        ctx.widths = [branch.shape[1] for branch in branches]  # type: ignore[attr-defined]
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
            # Written in place: joining them afterwards would copy each once more.
            whole = gradient.new_empty((n, total, *sides)).contiguous(memory_format=_memory_format(gradient))
            for part in whole.chunk(total // width, dim=1):
                torch.mul(gradient, next(remaining), out=part)
            gradients.append(whole)
        return (gradient if ctx.needs_input_grad[0] else None, None, None, *gradients)


def _width(shortcut: torch.Tensor | None, branches: Sequence[torch.Tensor]) -> int:
    return (branches[0] if shortcut is None else shortcut).shape[1]


def _singles(branches: Sequence[torch.Tensor], width: int) -> Iterable[torch.Tensor]:
    for branch in branches:
        yield from (branch,) if branch.shape[1] == width else branch.chunk(branch.shape[1] // width, dim=1)


def _memory_format(x: torch.Tensor) -> torch.memory_format:
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_channels_last else torch.contiguous_format


class Branches(nn.Module):
    """Branches of one input: convolution, normalisation, ReLU, convolution, and (optionally) normalisation.

    All branches have the same input, so their first convolutions are one convolution with all outputs; the second ones
    are one grouped convolution. Normalising all channels at once normalises each branch.

    Parameters
    ----------
    before, width
        Channels of input and output of each branch.
    stride
        Of the first convolution.
    branches
        Number of branches.
    ends_normalised
        Whether the last layer is a normalisation.
    layout
        ``separate``: branch by branch. ``wide``: the first convolution, its normalisation and ReLU for all branches at
        once. ``grouped``: the second one, too. ``auto``: ``separate`` on a CPU, where it was the fastest: on one
        thread, 8 to 128 channels and 2 to 5 branches, ``wide`` took 0.92 to 1.32 times its time (median 1.02) and
        ``grouped`` 0.85 to 1.60 times (median 1.08). ``wide`` elsewhere, where small kernels cost their launch and
        grouped convolutions of channels_last images are slow with some libraries; this choice has not been measured.
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
        """(n, before, h, w) to the branches of :func:`mix`, one by one or side by side."""
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
        """Images normalised by the branch's part of a normalisation, whose running statistics are updated in place."""
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
    """Residual block of any number of branches.

    ``post``: ReLU, then branches that end in a normalisation; no ReLU after the sum; a two-path shortcut if the shape
    changes. ``pre``: normalisation and ReLU, shared by all branches, which end in a convolution; a 1x1 convolution of
    these if the shape changes, as in a wide ResNet. If the shape does not change, the shortcut is the input itself.
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
        """(n, before, h, w) to (n, width, ⌈h / stride⌉, ⌈w / stride⌉); ``factors`` as :func:`mix` takes them."""
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
        In their order.
    mixing
        For as many blocks.
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
