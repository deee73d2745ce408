"""How a network is trained, apart from its architecture, its data and its budget.

Law of this file: a recipe is checked when it is made, and this file builds the parts of torch that it configures
(optimizer, precision). It does not depend on the kind of data; a subclass adds fields for a kind of data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.training.schedule import SCHEDULES, Schedule

Precision = Literal["auto", "fp32", "bf16", "fp16"]
CpuPrecision = Literal["fp32", "bf16"]
Optimizer = Literal["sgd", "adamw"]
NormStatistics = Literal["estimated", "running"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Hyperparameters of a training.

    Parameters
    ----------
    learning_rate
        Learning rate at the beginning of each cycle, above 0. Default: 0.1.
    batch_size
        Examples of a step. Default: 128.
    fills_last_batch
        Whether the last batch of an epoch is filled up with examples that the epoch has had before, so that it has
        every example, or dropped. Default: True.
    optimizer
        ``sgd`` (the default) with Nesterov momentum, or ``adamw``, whose useful learning rates are about a hundred
        times lower.
    momentum
        Momentum of SGD, in [0, 1). Default: 0.9.
    weight_decay
        L2 penalty for SGD, decoupled weight decay for AdamW. Default: 5e-4.
    decay_norm_and_bias
        Whether weight decay also acts on one-dimensional parameters: weights of batch norm, and all biases. Default:
        True.
    clip_norm
        Largest norm of the gradient of all weights together; a longer one is shortened to it before a step. 0 (the
        default) for none.
    average_decay
        Decay of the exponential average of the weights with which the network is judged and kept
        (:mod:`~hpbandster_lite.workers.training.weight_average`), in [0, 1). Default: 0, for the weights themselves.
    schedule, warmup
        See :func:`~hpbandster_lite.workers.training.schedule.factor`. With ``nested`` a rung continues from the
        checkpoint of the rung below; with the other schedules each rung begins from its seed. Default: ``restarts``
        without a warm-up.
    norm_statistics
        Statistics of batch normalisation with which the network is judged: ``estimated`` anew (the default; see
        :mod:`~hpbandster_lite.workers.training.norm_statistics`), or the ``running`` ones of the training.
    precision
        Precision of the network's arithmetic; its weights are float32. ``fp32``; ``bf16``; ``fp16`` with a scale for
        its gradients; ``auto`` (the default): ``bf16`` on a GPU that supports it, ``fp16`` on other GPUs, and
        ``cpu_precision`` on a CPU.
    cpu_precision
        What ``auto`` means on a CPU: ``fp32`` (the default) or ``bf16``, which is faster on a processor for which
        :func:`~hpbandster_lite.workers.training.processor.has_fast_bfloat16` is true.
    tf32
        Whether a GPU may round float32 factors to 10 bits of mantissa. Default: True.
    compile
        Whether to use torch.compile if the budget is large enough
        (:data:`~hpbandster_lite.workers.training.loop.COMPILATION_S`). Default: False.
    deterministic
        Whether to use only kernels that give the same bits each time. Default: False.

    Raises
    ------
    UsageError
        If a value is out of range; the message names it.
    """

    learning_rate: float = 0.1
    batch_size: int = 128
    fills_last_batch: bool = True
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norm_and_bias: bool = True
    clip_norm: float = 0.0
    average_decay: float = 0.0
    schedule: Schedule = "restarts"
    warmup: float = 0.0
    norm_statistics: NormStatistics = "estimated"
    precision: Precision = "auto"
    cpu_precision: CpuPrecision = "fp32"
    tf32: bool = True
    compile: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, is_right, rule in (
            ("learning_rate", 0 < self.learning_rate < math.inf, "positive and finite"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "finite and not negative"),
            ("clip_norm", 0 <= self.clip_norm < math.inf, "finite and not negative"),
            ("average_decay", 0 <= self.average_decay < 1, "in [0, 1)"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("optimizer", self.optimizer in get_args(Optimizer), f"one of {', '.join(get_args(Optimizer))}"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            (
                "norm_statistics",
                self.norm_statistics in get_args(NormStatistics),
                f"one of {', '.join(get_args(NormStatistics))}",
            ),
            ("precision", self.precision in get_args(Precision), f"one of {', '.join(get_args(Precision))}"),
            (
                "cpu_precision",
                self.cpu_precision in get_args(CpuPrecision),
                f"one of {', '.join(get_args(CpuPrecision))}",
            ),
        ):
            check(self, name, is_right, rule)


def steps_per_epoch(examples: int, batch_size: int, *, fills_last_batch: bool) -> int:
    """Number of batches of an epoch, all of the same size; 0 if there are fewer examples than a batch has."""
    whole, rest = divmod(examples, batch_size)
    return whole + (fills_last_batch and rest > 0) if whole else 0


def check(recipe: Recipe, name: str, is_right: bool, rule: str) -> None:
    """Raise UsageError with the value of a field that breaks its rule."""
    if not is_right:
        raise UsageError(f"{name} is {getattr(recipe, name)!r}; it must be {rule}")


def optimizer_for(network: nn.Module, recipe: Recipe, device_type: str) -> torch.optim.Optimizer:
    """The optimizer of a recipe, with the parameters of a network."""
    # A fused optimizer has one kernel for all weights, and applies float16's scale without a read from the device.
    fused = device_type in ("cuda", "cpu")
    groups = _parameter_groups(network, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.learning_rate, fused=fused)
    return torch.optim.SGD(
        groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused
    )


def _parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    weights = list(network.parameters())
    if recipe.decay_norm_and_bias:
        return [{"params": weights, "weight_decay": recipe.weight_decay}]
    return [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]


def precision_on(device_type: str, recipe: Recipe) -> Precision:
    """The precision of a recipe on a device, where ``auto`` is a certain one."""
    if recipe.precision != "auto":
        return recipe.precision
    if device_type != "cuda":
        return recipe.cpu_precision
    # GPUs older than Ampere emulate bfloat16, which is slow.
    return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
