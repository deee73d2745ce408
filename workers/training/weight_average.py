"""An exponential average of a network's weights, with which it is judged and kept.

After step t the average moves by ``1 - decay`` of the way to the weights, by more in the first steps: the decay is at
most ``(1 + t) / (10 + t)``, so that the average of a short training does not contain its initial weights. The training
itself does not use it.

Law of this file: the average depends only on the weights after each step and the number of steps, so a training that
continues from a checkpoint has bitwise the same average. Buffers are averaged with the weights, because running
statistics of a normalisation belong to the weights of the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

WARM_UP_STEPS = 10


class WeightAverage:
    """The average of a network's parameters and floating buffers.

    Parameters
    ----------
    network
        The network; its weights are the first average.
    decay
        Share of the average that a step keeps, in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        self._weights: list[torch.Tensor] = [*network.parameters(), *buffers]
        self.values: list[torch.Tensor] = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the weights after step ``step``, from 1."""
        decay = min(self._decay, (1 + step) / (WARM_UP_STEPS + step))
        torch._foreach_lerp_(self.values, self._weights, 1 - decay)

    def restore(self, values: Sequence[torch.Tensor]) -> None:
        """Continue from the values of a checkpoint."""
        self._copy(values, self.values)

    def take(self) -> None:
        """Make the average the network's weights."""
        self._copy(self.values, self._weights)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """The network has the average in this context, and its own weights afterwards."""
        own = [weight.detach().clone() for weight in self._weights]
        self.take()
        try:
            yield
        finally:
            self._copy(own, self._weights)

    @staticmethod
    @torch.no_grad()
    def _copy(values: Sequence[torch.Tensor], targets: Sequence[torch.Tensor]) -> None:
        for value, target in zip(values, targets, strict=True):
            target.copy_(value)
