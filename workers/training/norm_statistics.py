"""Statistics of batch normalisation, estimated anew before a network is judged.

In training, the running statistics of a batch normalisation are a moving average over the last tens of steps. After few
steps they are still near their initial values, and with a high learning rate they lag behind the weights, so the loss
of a short training says little about the network. A pass over training examples with the final weights, without
augmentation, gives the mean of the batches' statistics instead ("precise batch normalisation", arXiv:2105.07576).

Law of this file: only the running statistics change, and no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def estimate(network: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Replace the running statistics by their means over batches; the network is in evaluation mode afterwards.

    Parameters
    ----------
    network
        The network. All its layers except batch normalisations compute as in evaluation, so nothing is random.
    batches
        Inputs of the network. Without a batch, the statistics stay as they are.
    """
    layers = _layers(network)
    momenta = [layer.momentum for layer in layers]
    network.eval()
    try:
        for layer in layers:
            layer.train()
        for number, batch in enumerate(batches, start=1):
            for layer in layers:
                # A moving average with the factor 1/k at batch k is the mean of all batches, for any initial value.
                layer.momentum = 1 / number
            network(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        network.eval()


@contextmanager
def kept(network: nn.Module) -> Iterator[None]:
    """Restore the statistics when the context ends, so that the training continues as if nothing had been estimated."""
    buffers = [buffer for layer in _layers(network) for buffer in layer.buffers()]
    former = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, former, strict=True):
            buffer.copy_(value)


def _layers(network: nn.Module) -> list[_BatchNorm]:
    return [layer for layer in network.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
