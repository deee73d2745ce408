"""The size of a network, and the memory of its training."""

from __future__ import annotations

import resource
import sys

import torch
from torch import nn

MIB = 2**20


def parameter_count(network: nn.Module) -> int:
    """Number of trained values of a network, without running statistics."""
    return sum(parameter.numel() for parameter in network.parameters())


def peak_memory_mib(device: str) -> float:
    """Peak memory in MiB: on a GPU since the evaluation began, on the host since the process began."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / MIB
    # KiB on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
