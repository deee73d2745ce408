"""Training of an image classifier under a budget: read it from top to bottom.

Claim: a training on a CPU that stopped where it was saved, and went on from there in another process, ends bit for bit
where one ends that never stopped (budget in epochs, or in seconds of a clock that is given;
tests/unit/test_training_loop.py). A batch depends on seed, epoch and step alone, the learning rate on the budget used
alone, and the checkpoint holds the rest: network, optimizer, scale of the gradients, steps, seconds, random state.

Sources: the recipe, its clock and its loss (validation error at the last epoch, from clean images) are those of
arXiv:1807.06906; schedules are in :mod:`~hpbandster_lite.workers.training.schedule`, what counts as budget in
:mod:`~hpbandster_lite.workers.training.clock`, augmentation in :mod:`hpbandster_lite.workers.images.augmentation`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.workers.images.augmentation import (
    Augmentation,
    EpochDraws,
    augmented,
    mixed,
    mixup_loss,
    normalised,
)
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.error_interval import ErrorRate, error_rate
from hpbandster_lite.workers.training.checkpointing import load_checkpoint, save_checkpoint
from hpbandster_lite.workers.training.clock import READ_EVERY, BudgetClock, Stopwatch, stopwatch_for
from hpbandster_lite.workers.training.faults import Diverged, freed_if_it_fails, parameter_count, peak_memory_mib
from hpbandster_lite.workers.training.schedule import SCHEDULES, Budget, Schedule, factor
from hpbandster_lite.workers.training.torch_switches import process_settings

Builder = Callable[[], nn.Module]
"""Makes the network, untrained, from torch's global generator."""
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Optimizer = Literal["sgd", "adamw"]

EVALUATION_BATCH = {"cuda": 1_000, "cpu": 250}
"""Images that are judged at once: a thousand of 32x32 fill a GPU; on a CPU more than fit its cache gain nothing."""
COMPILATION_S = 50
"""What torch.compile costs before the first step; it counts as training, because the user waits for it."""
COMPILATION_SHARE = 0.1
"""Most of the time that is left which a compilation may take: it saves 10 to 30 % of a step, so below 500 s it may cost
more than it saves."""
SEEDS_APART = 1_000_003
"""Between the seeds of two repeats. A prime, so that they meet another configuration's seed only by chance."""


USUAL = Augmentation()
"""Crop and mirror."""


# ----------------------------------------------------------------------------------------------------------- the recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained, whatever its architecture and its budget.

    Parameters
    ----------
    learning_rate
        At the beginning of each cycle.
    batch_size
        Images of a step; the last, smaller batch of an epoch is dropped.
    optimizer
        ``sgd`` with Nesterov momentum, or ``adamw``, whose useful learning rates lie about a hundred times lower.
    momentum
        Of SGD; 0 is none.
    weight_decay
        L2 for SGD, decoupled for AdamW.
    decay_norm_and_bias
        Whether it also acts on what has one dimension: batch norm's weights and all biases (as in the paper).
    schedule, warmup
        See :func:`~hpbandster_lite.workers.training.schedule.factor`. Under ``nested`` a rung continues from the
        checkpoint of the one below; under all others each begins from its seed (as in the paper).
    label_smoothing
        Share of each target that is spread over all classes.
    augmentation
        Crop, mirror, CutOut and MixUp of training images.
    precision
        Of the network's arithmetic; its weights are float32. ``bf16``; ``fp16`` with a scale for its gradients;
        ``auto``: on a GPU the first of these that it has, on a CPU ``fp32``.
    tf32
        Whether a GPU may round float32 factors to 10 bits of mantissa.
    channels_last
        Channels of a pixel side by side in memory: faster on GPUs with tensor cores, and on CPUs.
    compile
        Use torch.compile where the budget repays it (:data:`COMPILATION_S`).
    deterministic
        Only kernels that give the same bits each time.

    Raises
    ------
    UsageError
        If a value makes no sense; the message names it.
    """

    learning_rate: float = 0.1
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_norm_and_bias: bool = True
    schedule: Schedule = "restarts"
    warmup: float = 0.0
    label_smoothing: float = 0.0
    augmentation: Augmentation = USUAL
    precision: Precision = "auto"
    tf32: bool = True
    channels_last: bool = True
    compile: bool = False
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, is_right, rule in (
            ("learning_rate", 0 < self.learning_rate < math.inf, "positive and finite"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "finite and not negative"),
            ("warmup", 0 <= self.warmup < 1, "in [0, 1)"),
            ("label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)"),
            ("optimizer", self.optimizer in get_args(Optimizer), f"one of {', '.join(get_args(Optimizer))}"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
            ("precision", self.precision in get_args(Precision), f"one of {', '.join(get_args(Precision))}"),
        ):
            if not is_right:
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be {rule}")


# ------------------------------------------------------------------------------------------------------- one evaluation


def train(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    images: DeviceImages,
    validation: DeviceImages,
    *,
    repeats: int = 1,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> dict[str, Any]:
    """Train a network for a budget and judge it by the validation images.

    After each epoch a checkpoint is saved and a point of the learning curve reported; what an interrupted attempt left
    in ``trial.resume_directory`` is continued.

    Parameters
    ----------
    build, recipe, budget, trial
        See their types.
    images, validation
        On the device of the trial.
    repeats
        Trainings from different seeds, one after the other; the loss is their mean.
    new_stopwatch
        Makes what measures the seconds of training steps; left out, the one that suits the device.

    Returns
    -------
    dict
        ``loss``, the validation error in percent after the last step, and the information of :func:`_information`.

    Raises
    ------
    Diverged, OutOfMemory
        See their classes.
    OSError
        If a checkpoint cannot be written.
    """
    done = []
    for repeat in range(repeats):
        one = _Repeat(build, recipe, budget, trial, images, repeat, new_stopwatch)
        call = partial(one.train, validation)
        done.append(freed_if_it_fails(call, build=build, device=trial.device, batch=recipe.batch_size))
    result = {**done[0], "loss": fmean(info["loss"] for info in done)}
    if repeats > 1:
        result["repeats"] = done
    return result


def test(
    build: Builder, recipe: Recipe, budget: Budget, trial: Trial, images: DeviceImages, test_images: DeviceImages
) -> ErrorRate:
    """Error of the trained network on images that no search has seen.

    A checkpoint that has used the budget is taken from ``trial.previous_directory``; without one the network is trained
    again from its seed.
    """

    def judge() -> ErrorRate:
        with process_settings(trial.device, deterministic=recipe.deterministic, tf32=recipe.tf32):
            state = load_checkpoint(trial.resume_directory, "cpu") or load_checkpoint(trial.previous_directory, "cpu")
            run = Run(build, recipe, budget, trial.device, images, trial.seed, stopwatch_for(trial.device), state)
            if not run.clock.is_spent():
                run = Run(build, recipe, budget, trial.device, images, trial.seed, stopwatch_for(trial.device))
            while not run.clock.is_spent():
                run.train_one_epoch()
            return run.judged(test_images).error

    return freed_if_it_fails(judge, build=build, device=trial.device, batch=recipe.batch_size)


class Refitted(NamedTuple):
    """A network trained on all images but those for test, its error on these, and how its training went."""

    network: nn.Module
    error: ErrorRate
    info: dict[str, Any]


def refit(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    images: DeviceImages,
    test_images: DeviceImages,
    *,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> Refitted:
    """Train on training and validation images together, and judge once, at the end, by the test images.

    The learning curve is that of the training loss. What was interrupted is continued from ``trial.resume_directory``.

    Parameters
    ----------
    build, recipe, budget, trial, new_stopwatch
        See :func:`train`.
    images, test_images
        All images that are not for test, and those that are.
    """
    one = _Repeat(build, recipe, budget, trial, images, 0, new_stopwatch)
    return freed_if_it_fails(partial(one.refit, test_images), build=build, device=trial.device, batch=recipe.batch_size)


class _Repeat(NamedTuple):
    """One training of an evaluation: everything that it is made of."""

    build: Builder
    recipe: Recipe
    budget: Budget
    trial: Trial
    images: DeviceImages
    number: int
    new_stopwatch: Callable[[], Stopwatch] | None

    def train(self, validation: DeviceImages) -> dict[str, Any]:
        with self._begun() as (run, began):
            judged = None
            while not run.clock.is_spent():
                training_loss = run.train_one_epoch()
                judged = run.judged(validation)
                self._save(run)
                self.trial.report(
                    run.clock.used(),
                    judged.error.percent,
                    training_loss=training_loss,
                    validation_cross_entropy=judged.cross_entropy,
                    learning_rate=run.learning_rate,
                    epoch=run.clock.epochs(),
                    repeat=self.number,
                )
            if judged is None:
                # An earlier attempt had trained it all; whoever continues looks into the directory of this one.
                judged = run.judged(validation)
                self._save(run)
            return {
                "loss": judged.error.percent,
                "validation_cross_entropy": judged.cross_entropy,
                **_information(run, time.perf_counter() - began),
            }

    def refit(self, test_images: DeviceImages) -> Refitted:
        with self._begun() as (run, began):
            while not run.clock.is_spent():
                training_loss = run.train_one_epoch()
                self._save(run)
                self.trial.report(run.clock.used(), training_loss, epoch=run.clock.epochs())
            info = _information(run, time.perf_counter() - began)
            return Refitted(run.network, run.judged(test_images).error, info)

    @contextmanager
    def _begun(self) -> Iterator[tuple[Run, float]]:
        recipe, device = self.recipe, self.trial.device
        began = time.perf_counter()
        with process_settings(device, deterministic=recipe.deterministic, tf32=recipe.tf32):
            state = load_checkpoint(self._within(self.trial.resume_directory), "cpu")
            if state is None and recipe.schedule == "nested":
                state = load_checkpoint(self._within(self.trial.previous_directory), "cpu")
            # Modulo: a seed of numpy and of torch, whatever the repeat.
            seed = (self.trial.seed + self.number * SEEDS_APART) % 2**31
            stopwatch = stopwatch_for(device) if self.new_stopwatch is None else self.new_stopwatch()
            yield Run(self.build, recipe, self.budget, device, self.images, seed, stopwatch, state), began

    def _save(self, run: Run) -> None:
        directory = self._within(self.trial.directory)
        directory.mkdir(exist_ok=True)
        save_checkpoint(directory, run.state())

    def _within(self, directory: Path | None) -> Any:
        return directory if directory is None or self.number == 0 else directory / f"repeat{self.number}"


def _information(run: Run, wall_s: float) -> dict[str, Any]:
    """What an evaluation says of itself beside its loss.

    ``budget_used`` in the budget's unit with what the last step went over it; ``continued_from``, the part of it that
    the checkpoint brought; ``training_s``, seconds of training steps in all; of this attempt alone ``images_per_s`` in
    training steps and ``share_outside_training`` of the wall time (images, validation, saving).
    """
    clock = run.clock
    used, seconds = clock.used(), clock.seconds() - run.seconds_before
    images = (clock.steps - run.steps_before) * run.recipe.batch_size
    return {
        "parameters": parameter_count(run.network),
        "seed": run.seed,
        "epochs": clock.epochs(),
        "budget_used": used,
        "overshoot": max(used - clock.budget.amount, 0.0),
        "continued_from": run.used_before,
        "training_s": clock.seconds(),
        "images_per_s": images / seconds if seconds > 0 else 0.0,
        "share_outside_training": max(1 - seconds / wall_s, 0.0) if wall_s > 0 else 0.0,
        "peak_memory_mib": peak_memory_mib(run.device),
        "precision": run.precision,
        "compiled": run.is_compiled,
    }


# --------------------------------------------------------------------------------------------------------- the training


class Judged(NamedTuple):
    """What a network does with images that it is not trained on."""

    error: ErrorRate
    cross_entropy: float


class Run:
    """A network in training: from its checkpoint if there is one, else from its seed.

    Parameters
    ----------
    build, recipe, budget
        See their types.
    device
        ``"cpu"`` or ``"cuda"``.
    images
        To train on.
    seed
        In [0, 2^31).
    stopwatch
        Measures training steps.
    state
        What :meth:`state` returned before.
    """

    def __init__(
        self,
        build: Builder,
        recipe: Recipe,
        budget: Budget,
        device: str,
        images: DeviceImages,
        seed: int,
        stopwatch: Stopwatch,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.recipe, self.device, self.seed = recipe, device, seed
        self._images = images
        self._type = torch.device(device).type
        torch.manual_seed(seed)
        self._format = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.network = build().to(device=device, memory_format=self._format)  # type: ignore[call-overload] # torch's stub
        self._forward: Callable[[torch.Tensor], torch.Tensor] = self.network
        self._optimizer = _optimizer(self.network, recipe, self._type)
        self.precision = _precision(recipe.precision, self._type)
        self._scaler = torch.amp.GradScaler(self._type, enabled=self.precision == "fp16")
        steps, self.seconds_before = (0, 0.0) if state is None else self._restore(state)
        self.steps_before = steps
        self.steps_per_epoch = len(images) // recipe.batch_size
        self.clock = BudgetClock(budget, self.steps_per_epoch, stopwatch, steps=steps, seconds=self.seconds_before)
        self.used_before = self.clock.used()
        self.learning_rate = recipe.learning_rate
        self.is_compiled = False

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, but the recipe."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "steps": self.clock.steps,
            "seconds": self.clock.seconds(),
            # The noise of Shake-Shake, ShakeDrop and dropout.
            "random": torch.get_rng_state(),
            "random_on_device": torch.cuda.get_rng_state() if self._type == "cuda" else None,
        }

    def _restore(self, state: dict[str, Any]) -> tuple[int, float]:
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            # It is empty if that was trained in another precision, on another kind of GPU.
            self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self._type == "cuda" and state["random_on_device"] is not None:
            torch.cuda.set_rng_state(state["random_on_device"])
        return state["steps"], state["seconds"]

    def train_one_epoch(self) -> float:
        """Train to the end of the epoch, or of the budget if that comes first; return the mean loss of these steps.

        Raises
        ------
        Diverged
            If the loss is no finite number.
        """
        self._compile_if_it_pays()
        recipe, images, clock = self.recipe, self._images, self.clock
        epoch, first_step = divmod(clock.steps, self.steps_per_epoch)
        draws = EpochDraws.of(
            self.seed, epoch, len(images), recipe.batch_size, images.shape, recipe.augmentation, self.device
        )
        losses = _Losses(self)
        self.network.train()
        for batch in draws.from_step(first_step):
            pixels, targets = images.batch(batch.rows)
            x = augmented(pixels, batch, images.mean, images.std, recipe.augmentation)
            x = mixed(x, batch).contiguous(memory_format=self._format)
            self._set_learning_rate()
            clock.begin()
            self._optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                loss = mixup_loss(self._forward(x), targets, batch, label_smoothing=recipe.label_smoothing)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call] # torch's
            self._scaler.step(self._optimizer)
            self._scaler.update()
            clock.end()
            losses.add(loss.detach())
            if clock.is_spent():
                break
        return losses.mean()

    @torch.inference_mode()
    def judged(self, images: DeviceImages) -> Judged:
        """Error and mean cross-entropy on clean images, in large batches; the device is asked once, at the end."""
        self.network.eval()
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        entropy = torch.zeros((), dtype=torch.float64, device=self.device)
        size = EVALUATION_BATCH.get(self._type, EVALUATION_BATCH["cpu"])
        for first in range(0, len(images), size):
            targets = images.y[first : first + size]
            x = normalised(images.x[first : first + size], images.mean, images.std)
            with self._autocast():
                logits = self.network(x.contiguous(memory_format=self._format)).float()
            wrong += (logits.argmax(dim=1) != targets).sum()
            entropy += functional.cross_entropy(logits, targets, reduction="sum")
        return Judged(error_rate(int(wrong), len(images)), float(entropy) / len(images))

    def _set_learning_rate(self) -> None:
        recipe, clock = self.recipe, self.clock
        self.learning_rate = recipe.learning_rate * factor(
            recipe.schedule, clock.used(), clock.budget, warmup=recipe.warmup
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate

    def _autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self._type, dtype=dtype, enabled=self.precision != "fp32")

    def _compile_if_it_pays(self) -> None:
        if self.recipe.compile and not self.is_compiled and pays_to_compile(self.clock.remaining_s()):
            # A class is compiled for eight networks at most, then no more: forget those of earlier evaluations.
            torch.compiler.reset()
            # The module itself is judged and saved: other batch sizes would be compiled anew, and names would change.
            self._forward = torch.compile(self.network)
            self.is_compiled = True


class _Losses:
    """Losses of an epoch, added up where they are, and looked at without waiting for the last few steps."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sum = torch.zeros((), device=run.device)
        self._count = 0
        self._copied: tuple[torch.Tensor, torch.cuda.Event] | None = None

    def add(self, loss: torch.Tensor) -> None:
        """Add a step's loss; a number that is not finite stays in the sum for good."""
        self._sum += loss.float()
        self._count += 1
        if not self._sum.is_cuda:
            self._check(float(self._sum))
        elif self._count % READ_EVERY == 0:
            self._check_what_was_copied()

    def mean(self) -> float:
        """Mean of the losses; waits for the device."""
        total = float(self._sum)
        self._check(total)
        return total / self._count

    def _check_what_was_copied(self) -> None:
        if self._copied is not None:
            number, event = self._copied
            event.synchronize()
            self._check(float(number))
        number = torch.empty((), pin_memory=True)
        number.copy_(self._sum, non_blocking=True)
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call] # torch's
        event.record()
        self._copied = number, event

    def _check(self, total: float) -> None:
        if not math.isfinite(total):
            clock = self._run.clock
            raise Diverged(
                f"the training loss is {total} after {clock.epochs():.4g} epochs (step {clock.steps}), at a learning "
                f"rate of {self._run.learning_rate:.4g} that began at {self._run.recipe.learning_rate:.4g}"
            )


def pays_to_compile(remaining_s: float) -> bool:
    """Whether so many seconds of training repay a compilation."""
    return COMPILATION_SHARE * remaining_s >= COMPILATION_S


def _optimizer(network: nn.Module, recipe: Recipe, device_type: str) -> torch.optim.Optimizer:
    # One kernel for all weights, where torch has one; it also takes float16's scale without a look at the device.
    fused = device_type in ("cuda", "cpu")
    groups = _groups(network, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, recipe.learning_rate, fused=fused)
    return torch.optim.SGD(
        groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=fused
    )


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    weights = list(network.parameters())
    if recipe.decay_norm_and_bias:
        return [{"params": weights, "weight_decay": recipe.weight_decay}]
    return [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]


def _precision(wanted: Precision, device_type: str) -> Precision:
    if wanted != "auto":
        return wanted
    if device_type != "cuda":
        return "fp32"
    # Older ones than Ampere only imitate bfloat16, slowly.
    return "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp16"
