"""Trainings that cannot go on: out of memory, and diverged.

Law of this file: a fault is an outcome. It leaves with a reason in words, and nothing that it had allocated is left.
"""

from __future__ import annotations

import gc
import resource
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from hpbandster_lite.trainer.evaluation import is_out_of_memory

Result = TypeVar("Result")

MIB = 2**20


class Diverged(FloatingPointError):
    """The training loss is no finite number any more; the trainer classes it as an invalid result."""


class OutOfMemory(MemoryError):
    """Memory of the host or the GPU ran out; the trainer classes it as memory."""


def freed_if_it_fails(call: Callable[[], Result], *, build: Callable[[], nn.Module], device: str, batch: int) -> Result:
    """What ``call`` returns; when it fails, all that it held is free before the error leaves.

    Parameters
    ----------
    call
        Trains.
    build
        Makes the network that it trains, to say how large it is.
    device
        ``"cpu"`` or ``"cuda"``.
    batch
        Images of a training step.

    Raises
    ------
    OutOfMemory
        With the peak and the number of parameters, raised from the error that said so first.
    """
    if device.startswith("cuda"):
        # The last configuration's blocks are of the wrong sizes for this one.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return call()
    except Exception as error:
        _clear_frames(error)
        if not is_out_of_memory(error):
            raise
        told = _in_words(build, device, batch)
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        raise OutOfMemory(told) from error


def peak_memory_mib(device: str) -> float:
    """Most memory held: of a GPU since this evaluation began, of the host since the process did."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / MIB
    # KiB on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def parameter_count(network: nn.Module) -> int:
    """Trained numbers of a network."""
    return sum(weights.numel() for weights in network.parameters())


def _in_words(build: Callable[[], nn.Module], device: str, batch: int) -> str:
    peak = f"{peak_memory_mib(device):,.0f} MiB"
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / MIB
        held = f"this evaluation held up to {peak} of the GPU's {total:,.0f} MiB"
    else:
        held = f"the process has held up to {peak}"
    return f"out of memory with {_size_in_words(build)} and batches of {batch} images; {held}"


def _size_in_words(build: Callable[[], nn.Module]) -> str:
    try:
        # Shapes without numbers: this costs no memory, however large the network.
        with torch.device("meta"):
            return f"{parameter_count(build()):,} parameters"
    except (RuntimeError, NotImplementedError):
        # A builder that looks at its numbers cannot be asked so; what it ran out of is the news.
        return "a network of unknown size"


def _clear_frames(error: BaseException | None) -> None:
    """Let go of what an error's tracebacks hold: the frames, and by them the network, its gradients and the batch."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
