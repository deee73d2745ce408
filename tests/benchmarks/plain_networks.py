"""Plain networks for ``plain_step.py``: the joint network and wide ResNets as a user of torch writes them.

Law of this file: it uses nothing of the package's networks, and has their parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Mixed(torch.autograd.Function):
    """A weighted sum of branches with separate weights for their gradients."""

    @staticmethod
    def forward(ctx: Any, alpha: torch.Tensor, beta: torch.Tensor, *branches: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(beta)
        mixed = alpha[0] * branches[0]
        for weight, branch in zip(alpha[1:], branches[1:], strict=True):
            mixed = mixed + weight * branch
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (beta,) = ctx.saved_tensors
        return (None, None, *(weight * gradients[0] for weight in beta))


class Shortcut(nn.Module):
    """Two paths, the second one shifted by a pixel and without ReLU."""

    def __init__(self, before: int, width: int, stride: int, *, by_slices: bool) -> None:
        super().__init__()
        self.by_slices = by_slices
        self.first = nn.Conv2d(before, width // 2, 1, stride, bias=False)
        self.second = nn.Conv2d(before, width - width // 2, 1, stride, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor, activated: torch.Tensor) -> Any:
        source, border = (x[:, :, 1:, 1:], (0, 1, 0, 1)) if self.by_slices else (x, (-1, 1, -1, 1))
        shifted = functional.pad(source, border)
        return self.norm(torch.cat([self.first(activated), self.second(shifted)], dim=1))


class JointBlock(nn.Module):
    """One or several branches; one is disturbed by ShakeDrop, several are mixed by Shake-Shake."""

    def __init__(
        self, before: int, width: int, stride: int, branches: int, *, by_slices: bool, death_rate: float
    ) -> None:
        super().__init__()
        self.death_rate = death_rate
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
            )
            for _ in range(branches)
        )  # fmt: skip
        changes = before != width or stride != 1
        self.shortcut = Shortcut(before, width, stride, by_slices=by_slices) if changes else None

    def forward(self, x: torch.Tensor) -> Any:
        activated = functional.relu(x)
        outputs = [branch(activated) for branch in self.branches]
        shortcut = x if self.shortcut is None else self.shortcut(x, activated)
        size, dtype = (len(outputs), len(x), 1, 1, 1), outputs[0].dtype
        if len(outputs) > 1:
            alpha, beta = (torch.rand(size).softmax(dim=0).to(dtype) for _ in range(2))
        elif float(torch.rand(())) < self.death_rate:
            alpha, beta = (2 * torch.rand(size) - 1).to(dtype), torch.rand(size).to(dtype)
        else:
            return outputs[0] + shortcut
        return Mixed.apply(alpha, beta, *outputs) + shortcut  # type: ignore[no-untyped-call]  # torch has no type for it


class WideBlock(nn.Module):
    """Two pre-activated convolutions and their input."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first_norm = nn.BatchNorm2d(before)
        self.first = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        changes = before != width or stride != 1
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if changes else None

    def forward(self, x: torch.Tensor) -> Any:
        activated = functional.relu(self.first_norm(x), inplace=True)
        out = self.second(functional.relu(self.second_norm(self.first(activated)), inplace=True))
        return out + (x if self.shortcut is None else self.shortcut(activated))


def plain_joint(architecture: Any, *, shortcut: str, death_rate: float) -> nn.Module:
    """The joint network of an architecture."""
    filters = architecture.initial_filters
    layers: list[nn.Module] = [nn.Conv2d(3, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)]
    for main in architecture.plan:
        layers += [JointBlock(*block, by_slices=shortcut == "slices", death_rate=death_rate) for block in main]
    return nn.Sequential(*layers, nn.ReLU(), *_head(architecture.widths[-1]))


def plain_wide(depth: int, widen_factor: int) -> nn.Module:
    """A wide ResNet."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)]
    before = 16
    for stage in range(3):
        for number in range((depth - 4) // 6):
            width = 16 * widen_factor << stage
            layers.append(WideBlock(before, width, 2 if stage and not number else 1))
            before = width
    return nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU(inplace=True), *_head(before))


def _head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
