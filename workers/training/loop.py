"""Training of a network under a budget, for any kind of data: read it from top to bottom.

Claim: a training on a CPU that was interrupted after a checkpoint and continued in another process ends with bitwise
the same network as an uninterrupted one (budget in epochs, or in seconds of a given clock;
tests/unit/test_images_training.py). Batches depend only on seed, epoch and step, and the learning rate only on the used
budget. The checkpoint holds the rest: network, optimizer, scale of the gradients, steps, seconds, random state.

Law of this file: it does not depend on the kind of examples. A :class:`TrainingSet` gives batches and their losses; a
judge gives the loss of the evaluation. :mod:`~hpbandster_lite.workers.training.schedule` has the schedules, and
:mod:`~hpbandster_lite.workers.training.clock` measures the budget.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import checkpoints
from hpbandster_lite.problems.checkpoints import load_checkpoint, save_checkpoint
from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.workers.training import norm_statistics
from hpbandster_lite.workers.training.clock import READ_EVERY, BudgetClock, Stopwatch, stopwatch_for
from hpbandster_lite.workers.training.faults import Diverged, freed_if_it_fails
from hpbandster_lite.workers.training.memory import parameter_count, peak_memory_mib
from hpbandster_lite.workers.training.norm_statistics import BATCHES_AT_THE_END, BATCHES_BEFORE_THE_END
from hpbandster_lite.workers.training.recipe import Recipe, optimizer_for, precision_on, steps_per_epoch
from hpbandster_lite.workers.training.schedule import Budget, factor
from hpbandster_lite.workers.training.torch_switches import process_settings

Builder: TypeAlias = Callable[[], nn.Module]
"""Makes an untrained network, with weights from torch's global generator."""
Forward: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""Maps a network's inputs to its outputs."""
BatchLoss: TypeAlias = Callable[[Forward], torch.Tensor]
"""Returns the mean loss of a network on one batch."""
Result = TypeVar("Result")

COMPILATION_S = 50
"""Seconds that torch.compile takes before the first step; they count as training, because the user waits for them."""
COMPILATION_SHARE = 0.1
"""Largest share of the remaining time for a compilation. It saves 10 to 30 % of each step, so with less than 500 s left
it may take longer than it saves."""
SEEDS_APART = 1_000_003
"""Difference between the seeds of two repeats: a prime, so that they rarely equal another configuration's seed."""


class TrainingSet(Protocol):
    """The training examples of a network."""

    @property
    def noun(self) -> str:
        """The name of the examples in messages, in the plural."""

    def __len__(self) -> int:
        """Number of examples."""

    def batches(self, seed: int, epoch: int, first_step: int) -> Iterator[BatchLoss]:
        """The losses of an epoch's batches from a step on; a batch depends only on seed, epoch and step.

        Their number is that of :func:`~hpbandster_lite.workers.training.recipe.steps_per_epoch`.
        """

    def inputs(self, seed: int, most: int) -> Iterator[torch.Tensor]:
        """Network inputs of at most ``most`` batches, without augmentation; they depend only on the seed."""


class Judgement(NamedTuple):
    """The loss of a network on data outside its training set, and other metrics by name."""

    loss: float
    metrics: Mapping[str, float]


# ------------------------------------------------------------------------------------------------------- one evaluation


def train(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    training_set: TrainingSet,
    judge: Callable[[Run], Judgement],
    *,
    repeats: int = 1,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> dict[str, Any]:
    """Train a network for a budget and judge it.

    After each epoch it saves a checkpoint and reports a point of the learning curve. If an attempt was interrupted, it
    continues from ``trial.resume_directory``.

    Parameters
    ----------
    build, recipe, budget, trial, training_set
        See their types.
    judge
        Returns the loss and the metrics of the learning curve.
    repeats
        Number of trainings from different seeds, one after the other; the loss is their mean. Default: 1.
    new_stopwatch
        Makes the stopwatch that measures training steps. Default: the stopwatch for the device.

    Returns
    -------
    dict
        ``loss`` and the metrics after the last step, and the information of :func:`_information`.

    Raises
    ------
    Diverged, OutOfMemory
        See their classes.
    OSError
        If a checkpoint cannot be written.
    """
    folds = [Fold(training_set, judge)]
    return train_folds(build, recipe, budget, trial, folds, repeats=repeats, new_stopwatch=new_stopwatch)


class Fold(NamedTuple):
    """Training examples, and the judge that has the others."""

    training_set: TrainingSet
    judge: Callable[[Run], Judgement]


def train_folds(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    folds: Sequence[Fold],
    *,
    repeats: int = 1,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> dict[str, Any]:
    """Train a network for each fold, each for the whole budget; the loss is their mean.

    Parameters and result are as for :func:`train`, with the information of each fold under ``folds``. Every fold has
    its own seed and its own checkpoint, and continues where it was.
    """
    every = [*folds] * repeats
    parts = [
        _Repeat(build, recipe, budget, trial, fold.training_set, number, new_stopwatch, folds=len(folds))
        for number, fold in enumerate(every)
    ]
    # If this attempt is cut off in the first part, the next one finds the checkpoints of the others.
    checkpoints.take_over(trial, [part.checkpoint for part in parts])
    done = [part.freed_if_it_fails(partial(part.train, fold.judge)) for part, fold in zip(parts, every, strict=True)]
    in_folds = [_mean(done[first : first + len(folds)], "folds") for first in range(0, len(done), len(folds))]
    return _mean(in_folds, "repeats")


def _mean(done: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The information of the first training with the mean loss, and that of all trainings under a name."""
    if len(done) == 1:
        return done[0]
    loss, training_s = fmean(each["loss"] for each in done), math.fsum(each["training_s"] for each in done)
    return {**done[0], "loss": loss, "training_s": training_s, name: list(done)}


def test(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    training_set: TrainingSet,
    judge: Callable[[Run], Result],
) -> Result:
    """The result of ``judge`` for the trained network.

    If the checkpoint of :func:`~hpbandster_lite.problems.checkpoints.load_checkpoint` has the whole budget, it is used;
    otherwise the network is trained again from its seed.
    """
    return test_folds(build, recipe, budget, trial, [training_set], [judge])[0]


def test_folds(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    training_sets: Sequence[TrainingSet],
    judges: Sequence[Callable[[Run], Result]],
) -> list[Result]:
    """The results of the judges for the networks of all folds; see :func:`test`."""
    parts = [
        _Repeat(build, recipe, budget, trial, training_set, number, None, folds=len(training_sets))
        for number, training_set in enumerate(training_sets)
    ]
    return [
        part.freed_if_it_fails(partial(part.test, judge)) for part, judge in zip(parts, judges, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Refitted(Generic[Result]):
    """A trained network, the judge's result for it, and information about the training."""

    network: nn.Module
    judged: Result
    info: dict[str, Any]


def refit(
    build: Builder,
    recipe: Recipe,
    budget: Budget,
    trial: Trial,
    training_set: TrainingSet,
    judge: Callable[[Run], Result],
    *,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> Refitted[Result]:
    """Train a network and judge it once, at the end; the learning curve shows the training loss.

    It continues an interrupted refit from ``trial.resume_directory``. The parameters are as for :func:`train`.
    """
    one = _Repeat(build, recipe, budget, trial, training_set, 0, new_stopwatch)
    return one.freed_if_it_fails(partial(one.refit, judge))


class _Repeat(NamedTuple):
    """One training of an evaluation, with all its parts; number ``r * folds + f`` is fold f of repeat r."""

    build: Builder
    recipe: Recipe
    budget: Budget
    trial: Trial
    training_set: TrainingSet
    number: int
    new_stopwatch: Callable[[], Stopwatch] | None
    folds: int = 1

    def freed_if_it_fails(self, call: Callable[[], Result]) -> Result:
        batch = f"{self.recipe.batch_size} {self.training_set.noun}"
        return freed_if_it_fails(call, build=self.build, device=self.trial.device, batch=batch)

    def train(self, judge: Callable[[Run], Judgement]) -> dict[str, Any]:
        with self._begun() as (run, began):
            judged = None
            while not run.clock.is_spent():
                training_loss = run.train_one_epoch()
                judged = run.judged_by(judge)
                self._save(run)
                self.trial.report(
                    run.clock.used(),
                    judged.loss,
                    training_loss=training_loss,
                    **judged.metrics,
                    learning_rate=run.learning_rate,
                    epoch=run.clock.epochs(),
                    **self._names,
                )
            if judged is None:
                # An earlier attempt used the whole budget. Save again, because the next rung looks in this directory.
                judged = run.judged_by(judge)
                self._save(run)
            return {"loss": judged.loss, **judged.metrics, **_information(run, time.perf_counter() - began)}

    def test(self, judge: Callable[[Run], Result]) -> Result:
        with self._torch_configured():
            run = self._run(stopwatch_for(self.trial.device), load_checkpoint(self.trial, self.checkpoint))
            if not run.clock.is_spent():
                run = self._run(stopwatch_for(self.trial.device), None)
            while not run.clock.is_spent():
                run.train_one_epoch()
            return run.judged_by(judge)

    def refit(self, judge: Callable[[Run], Result]) -> Refitted[Result]:
        with self._begun() as (run, began):
            while not run.clock.is_spent():
                training_loss = run.train_one_epoch()
                self._save(run)
                self.trial.report(run.clock.used(), training_loss, epoch=run.clock.epochs())
            info = _information(run, time.perf_counter() - began)
            run.estimate_norm_statistics()
            return Refitted(run.network, judge(run), info)

    @contextmanager
    def _begun(self) -> Iterator[tuple[Run, float]]:
        """The training, from its checkpoint if there is one, and the time of its beginning."""
        began = time.perf_counter()
        with self._torch_configured():
            state = load_checkpoint(self.trial, self.checkpoint, rung_below=self.recipe.schedule == "nested")
            stopwatch = stopwatch_for(self.trial.device) if self.new_stopwatch is None else self.new_stopwatch()
            yield self._run(stopwatch, state), began

    def _torch_configured(self) -> Any:
        return process_settings(
            self.trial.device, deterministic=self.recipe.deterministic, tf32=self.recipe.tf32
        )

    def _run(self, stopwatch: Stopwatch, state: dict[str, Any] | None) -> Run:
        # Modulo, so that numpy and torch accept the seed of every repeat.
        seed = (self.trial.seed + self.number * SEEDS_APART) % 2**31
        return Run(
            self.build, self.recipe, self.budget, self.trial.device, self.training_set, seed, stopwatch, state
        )

    def _save(self, run: Run) -> None:
        save_checkpoint(self.trial, run.state(), self.checkpoint)

    @property
    def _names(self) -> dict[str, int]:
        """The repeat, and the fold if there are several, for the points of the learning curve."""
        repeat, fold = divmod(self.number, self.folds)
        return {"repeat": repeat, **({"fold": fold} if self.folds > 1 else {})}

    @property
    def checkpoint(self) -> str:
        """The name of the checkpoint."""
        names = [f"{kind}{number}" for kind, number in self._names.items() if kind == "fold" or number > 0]
        return "/".join([*names, checkpoints.NAME])


def _information(run: Run, wall_s: float) -> dict[str, Any]:
    """Information about the training of an evaluation.

    ``budget_used`` is in the budget's unit, with the excess of the last step; ``continued_from`` is the part of it from
    the checkpoint; ``training_s`` is the total of seconds in training steps. ``images_per_s`` (or another name of the
    examples) in training steps and ``share_outside_training`` of the wall time (data, judging, saving) describe only
    this attempt.
    """
    clock = run.clock
    used, seconds = clock.used(), clock.seconds() - run.seconds_before
    examples = (clock.steps - run.steps_before) * run.recipe.batch_size
    return {
        "parameters": parameter_count(run.network),
        "seed": run.seed,
        "epochs": clock.epochs(),
        "budget_used": used,
        "overshoot": max(used - clock.budget.amount, 0.0),
        "continued_from": run.used_before,
        "training_s": clock.seconds(),
        f"{run.training_set.noun}_per_s": examples / seconds if seconds > 0 else 0.0,
        "share_outside_training": max(1 - seconds / wall_s, 0.0) if wall_s > 0 else 0.0,
        "peak_memory_mib": peak_memory_mib(run.device),
        "precision": run.precision,
        "compiled": run.is_compiled,
    }


# --------------------------------------------------------------------------------------------------------- the training


class Run:
    """A network in training: from its checkpoint if there is one, else from its seed.

    Parameters
    ----------
    build, recipe, budget, training_set
        See their types.
    device
        ``"cpu"`` or ``"cuda"``.
    seed
        The seed, in [0, 2^31).
    stopwatch
        Measures training steps.
    state
        An earlier result of :meth:`state`. Default: None, to train from the seed.

    Raises
    ------
    UsageError
        If the examples do not fill one batch.
    """

    def __init__(
        self,
        build: Builder,
        recipe: Recipe,
        budget: Budget,
        device: str,
        training_set: TrainingSet,
        seed: int,
        stopwatch: Stopwatch,
        state: dict[str, Any] | None = None,
    ) -> None:
        self.recipe, self.device, self.seed, self.training_set = recipe, device, seed, training_set
        self._type = torch.device(device).type
        self.steps_per_epoch = _steps_per_epoch(training_set, recipe)
        torch.manual_seed(seed)
        self.network = build().to(device=device)
        self._forward: Forward = self.network
        self._optimizer = optimizer_for(self.network, recipe, self._type)
        self.precision = precision_on(self._type, recipe.precision)
        self._scaler = torch.amp.GradScaler(self._type, enabled=self.precision == "fp16")
        steps, self.seconds_before = (0, 0.0) if state is None else self._restore(state)
        self.steps_before = steps
        self.clock = BudgetClock(budget, self.steps_per_epoch, stopwatch, steps=steps, seconds=self.seconds_before)
        self.used_before = self.clock.used()
        self.learning_rate = recipe.learning_rate
        self.is_compiled = False

    def state(self) -> dict[str, Any]:
        """The state on which the next step depends, apart from the recipe."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "steps": self.clock.steps,
            "seconds": self.clock.seconds(),
            # For Shake-Shake, ShakeDrop and dropout.
            "random": torch.get_rng_state(),
            "random_on_device": torch.cuda.get_rng_state() if self._type == "cuda" else None,
        }

    def _restore(self, state: dict[str, Any]) -> tuple[int, float]:
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            # The state is empty if the checkpoint comes from another precision, on another kind of GPU.
            self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if self._type == "cuda" and state["random_on_device"] is not None:
            torch.cuda.set_rng_state(state["random_on_device"])
        return state["steps"], state["seconds"]

    def train_one_epoch(self) -> float:
        """Train to the end of the epoch or of the budget, whichever is first; return the mean loss of these steps.

        Raises
        ------
        Diverged
            If the loss is not finite.
        """
        self._compile_if_it_pays()
        clock = self.clock
        epoch, first_step = divmod(clock.steps, self.steps_per_epoch)
        losses = _Losses(self)
        self.network.train()
        for loss_of in self.training_set.batches(self.seed, epoch, first_step):
            self._set_learning_rate()
            clock.begin()
            self._optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                loss = loss_of(self._forward)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            self._scaler.step(self._optimizer)
            self._scaler.update()
            clock.end()
            losses.add(loss.detach())
            if clock.is_spent():
                break
        return losses.mean()

    def judged_by(self, judge: Callable[[Run], Result]) -> Result:
        """The result of a judge, with the recipe's statistics of batch normalisation; the training stays as it is."""
        with norm_statistics.kept(self.network):
            self.estimate_norm_statistics()
            return judge(self)

    def estimate_norm_statistics(self) -> None:
        """Estimate the statistics of batch normalisation anew, unless the recipe keeps those of the training."""
        if self.recipe.norm_statistics == "estimated":
            most = BATCHES_AT_THE_END if self.clock.is_spent() else BATCHES_BEFORE_THE_END
            with self.autocast():
                norm_statistics.estimate(self.network, self.training_set.inputs(self.seed, most))

    def autocast(self) -> torch.autocast:
        """The context in which the network computes in this training's precision."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self._type, dtype=dtype, enabled=self.precision != "fp32")

    def _set_learning_rate(self) -> None:
        recipe, clock = self.recipe, self.clock
        self.learning_rate = recipe.learning_rate * factor(
            recipe.schedule, clock.used(), clock.budget, warmup=recipe.warmup
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate

    def _compile_if_it_pays(self) -> None:
        if self.recipe.compile and not self.is_compiled and pays_to_compile(self.clock.remaining_s()):
            # torch compiles a class for at most eight networks, so forget the networks of earlier evaluations.
            torch.compiler.reset()
            # Judge and save the module itself: the compiled one compiles again for other batch sizes and changes names.
            self._forward = torch.compile(self.network)
            self.is_compiled = True


def _steps_per_epoch(training_set: TrainingSet, recipe: Recipe) -> int:
    batch_size = recipe.batch_size
    steps = steps_per_epoch(len(training_set), batch_size, fills_last_batch=recipe.fills_last_batch)
    if steps < 1:
        noun = training_set.noun
        raise UsageError(
            f"{len(training_set)} training {noun} do not fill a batch of batch_size={batch_size}; use a smaller "
            f"batch_size or more {noun}"
        )
    return steps


class _Losses:
    """Losses of an epoch, summed on the device and checked without a wait for the latest steps."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sum = torch.zeros((), device=run.device)
        self._count = 0
        self._copied: tuple[torch.Tensor, torch.cuda.Event] | None = None

    def add(self, loss: torch.Tensor) -> None:
        """Add a step's loss; once a loss is not finite, the sum is not finite either."""
        self._sum += loss.float()
        self._count += 1
        if not self._sum.is_cuda:
            self._check(float(self._sum))
        elif self._count % READ_EVERY == 0:
            self._check_the_copy()

    def mean(self) -> float:
        """Mean of the losses, after a wait for the device."""
        total = float(self._sum)
        self._check(total)
        return total / self._count

    def _check_the_copy(self) -> None:
        if self._copied is not None:
            number, event = self._copied
            event.synchronize()
            self._check(float(number))
        number = torch.empty((), pin_memory=True)
        number.copy_(self._sum, non_blocking=True)
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch has no type for it
        event.record()
        self._copied = number, event

    def _check(self, total: float) -> None:
        if not math.isfinite(total):
            clock = self._run.clock
            raise Diverged(
                f"the training loss is {total} after {clock.epochs():.4g} epochs (step {clock.steps}), at the learning "
                f"rate {self._run.learning_rate:.4g} (initially {self._run.recipe.learning_rate:.4g})"
            )


def pays_to_compile(remaining_s: float) -> bool:
    """Whether a compilation is expected to save time in the remaining seconds of training."""
    return COMPILATION_SHARE * remaining_s >= COMPILATION_S
