"""Trainings that cannot continue: out of memory, and diverged.

Law of this file: a fault is an outcome. Its error states the reason, and the memory of the training is freed before the
error is raised.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from hpbandster_lite.trainer.evaluation import is_out_of_memory
from hpbandster_lite.workers.training.memory import MIB, parameter_count, peak_memory_mib

Result = TypeVar("Result")


class Diverged(FloatingPointError):
    """The loss of a training or of its judgement is not finite; the trainer reports an invalid result."""


class OutOfMemory(MemoryError):
    """The host or the GPU is out of memory; the trainer reports a failure of memory."""


def freed_if_it_fails(call: Callable[[], Result], *, build: Callable[[], nn.Module], device: str, batch: str) -> Result:
    """The result of ``call``; if it fails, its memory is freed before the error is raised.

    Parameters
    ----------
    call
        Trains the network.
    build
        Makes the network that ``call`` trains, to report its size.
    device
        ``"cpu"`` or ``"cuda"``.
    batch
        The examples of a training step, for example ``"128 images"``.

    Raises
    ------
    OutOfMemory
        If ``call`` runs out of memory; the message has the peak and the number of parameters.
    """
    if device.startswith("cuda"):
        # The cached blocks of the previous configuration have the wrong sizes for this one.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return call()
    except Exception as error:  # libraries raise many classes for a lack of memory; other errors are raised again
        _clear_frames(error)
        if not is_out_of_memory(error):
            raise
        message = _out_of_memory_message(build, device, batch)
        gc.collect()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        raise OutOfMemory(message) from error


def _out_of_memory_message(build: Callable[[], nn.Module], device: str, batch: str) -> str:
    peak = f"{peak_memory_mib(device):,.0f} MiB"
    if device.startswith("cuda"):
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / MIB
        held = f"this evaluation held up to {peak} of the GPU's {total:,.0f} MiB"
    else:
        held = f"the process has held up to {peak}"
    return f"out of memory with {_size(build)} and batches of {batch}; {held}"


def _size(build: Callable[[], nn.Module]) -> str:
    try:
        # On the meta device, tensors have shapes without values and take no memory.
        with torch.device("meta"):
            return f"{parameter_count(build()):,} parameters"
    except (RuntimeError, NotImplementedError):
        # A network that reads values during its construction cannot be built on it; then only the size is missing.
        return "a network of unknown size"


def _clear_frames(error: BaseException | None) -> None:
    """Clear the frames of an error's tracebacks, which refer to the network, its gradients and the batch."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
