"""Every ``stride``-th pixel of images that are moved by some pixels, as the shortcuts of residual blocks read them.

Law of this file: a gradient has the memory format of the images. The gradient of torch's slices is always contiguous by
channels; added to a gradient in channels_last, it would drag the layers below through both formats, in which the
backward pass of a batch normalisation takes five times as long on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional


def sampled(x: torch.Tensor, stride: int, shift: int = 0) -> torch.Tensor:
    """Every ``stride``-th pixel, from the first, of images moved by ``(shift, shift)``, with zeros outside.

    Parameters
    ----------
    x
        Images, shape (n, c, h, w).
    stride
        At least 1.
    shift
        Rows down and columns to the right by which the images are moved first: 0, 1, or -1. Default: 0.

    Returns
    -------
    torch.Tensor
        Shape (n, c, ⌈h / stride⌉, ⌈w / stride⌉), in the memory format of ``x``. It may share the memory of ``x``.
    """
    if stride == 1 and shift == 0:
        return x
    if torch.compiler.is_compiling():
        # A compiler chooses the formats of gradients itself.
        return _taken(x, stride, shift)
    out: torch.Tensor = _Sampled.apply(x, stride, shift)  # type: ignore[no-untyped-call]  # torch has no type for it
    return out


def memory_format(x: torch.Tensor) -> torch.memory_format:
    """``channels_last`` if the images have this format, else ``contiguous_format``."""
    is_channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_channels_last else torch.contiguous_format


class _Sampled(torch.autograd.Function):
    """The pixels, and their gradient scattered into zeros."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, stride: int, shift: int) -> torch.Tensor:
        ctx.how = x.shape, memory_format(x), stride, shift  # type: ignore[attr-defined]  # torch keeps it for the backward pass
        return _taken(x, stride, shift).contiguous(memory_format=memory_format(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        shape, its_format, stride, shift = ctx.how
        whole = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=its_format).zero_()
        rows, columns = (_Places(side, stride, shift) for side in shape[2:])
        whole[..., rows.read, columns.read] = gradient[..., rows.written, columns.written]
        return whole, None, None


class _Places:
    """Along one axis: which pixels are read, and where in the result they are; ``before`` and ``after`` are zeros."""

    def __init__(self, side: int, stride: int, shift: int) -> None:
        sampled_side = -(-side // stride)
        self.before = -(-max(shift, 0) // stride)
        self.read = slice(self.before * stride - shift, max(side - max(shift, 0), 0), stride)
        self.after = sampled_side - self.before - len(range(side)[self.read])
        self.written = slice(self.before, sampled_side - self.after)


def _taken(x: torch.Tensor, stride: int, shift: int) -> torch.Tensor:
    rows, columns = (_Places(side, stride, shift) for side in x.shape[2:])
    taken = x[..., rows.read, columns.read]
    missing = columns.before, columns.after, rows.before, rows.after
    return functional.pad(taken, missing) if any(missing) else taken
