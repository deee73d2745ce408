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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import checkpoints
from hpbandster_lite.problems.checkpoints import load_checkpoint, save_checkpoint
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.workers.training import norm_statistics
from hpbandster_lite.workers.training.clock import READ_EVERY, BudgetClock, Stopwatch, stopwatch_for
from hpbandster_lite.workers.training.faults import Diverged, freed_if_it_fails
from hpbandster_lite.workers.training.memory import parameter_count, peak_memory_mib
from hpbandster_lite.workers.training.points import Point, norm_batches, points_of
from hpbandster_lite.workers.training.recipe import Recipe, optimizer_for, precision_on, steps_per_epoch
from hpbandster_lite.workers.training.saves import Saves
from hpbandster_lite.workers.training.schedule import Budget, factor
from hpbandster_lite.workers.training.torch_switches import process_settings
from hpbandster_lite.workers.training.weight_average import WeightAverage

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
    validation: int = 0,
    repeats: int = 1,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> dict[str, Any]:
    """Train a network for a budget and judge it.

    It judges the network and reports at the points of :mod:`~hpbandster_lite.workers.training.points`. It saves a
    checkpoint from time to time, at the end, and when it must stop. If an attempt was interrupted, it continues from
    ``trial.resume_directory``.

    Parameters
    ----------
    build, recipe, budget, trial, training_set
        See their types.
    judge
        Returns the loss and the metrics of the learning curve, from the first :attr:`Run.judges` validation examples.
    validation
        Number of validation examples, on which the points depend. Default: 0, if a judgement costs nothing.
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
    Diverged, OutOfMemory, Interrupted
        See their classes.
    OSError
        If a checkpoint cannot be written.
    """
    folds = [Fold(training_set, judge, validation)]
    return train_folds(build, recipe, budget, trial, folds, repeats=repeats, new_stopwatch=new_stopwatch)


class Fold(NamedTuple):
    """Training examples, the judge that has the others, and their number."""

    training_set: TrainingSet
    judge: Callable[[Run], Judgement]
    validation: int = 0


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
        _Repeat(build, recipe, budget, trial, fold.training_set, number, new_stopwatch, len(folds), fold.validation)
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
    validation: int = 0

    def freed_if_it_fails(self, call: Callable[[], Result]) -> Result:
        batch = f"{self.recipe.batch_size} {self.training_set.noun}"
        return freed_if_it_fails(call, build=self.build, device=self.trial.device, batch=batch)

    def train(self, judge: Callable[[Run], Judgement]) -> dict[str, Any]:
        with self._begun() as (run, saves, began):
            judged = None
            while (point := run.train_to_next(self._points())) is not None:
                judged = run.judged_by(judge, point)
                training_loss = run.end_point()
                if run.clock.is_spent():
                    saves.save()
                self.trial.report(
                    run.clock.used(),
                    judged.loss,
                    training_loss=training_loss,
                    **judged.metrics,
                    **({} if point.is_full else {f"validation_{self.training_set.noun}": point.examples}),
                    learning_rate=run.learning_rate,
                    epoch=run.clock.epochs(),
                    **self._names,
                )
            if judged is None:
                # An earlier attempt used the whole budget. Save again, because the next rung looks in this directory.
                judged = run.judged_by(judge)
                saves.save()
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
        with self._begun() as (run, saves, began):
            while run.train_to_next(self._points()) is not None:
                training_loss = run.end_point()
                if run.clock.is_spent():
                    saves.save()
                self.trial.report(run.clock.used(), training_loss, epoch=run.clock.epochs())
            info = _information(run, time.perf_counter() - began)
            run.finish()
            return Refitted(run.network, judge(run), info)

    def _points(self) -> tuple[Point, ...]:
        return points_of(self.budget, len(self.training_set), self.validation, continues=self._continues)

    @property
    def _continues(self) -> bool:
        """Whether a rung continues from the checkpoint of the rung below."""
        return self.recipe.schedule == "nested"

    @contextmanager
    def _begun(self) -> Iterator[tuple[Run, Saves, float]]:
        """The training, from its checkpoint if there is one, its saves, and the time of its beginning."""
        began = time.perf_counter()
        with self._torch_configured():
            state = load_checkpoint(self.trial, self.checkpoint, rung_below=self._continues)
            stopwatch = stopwatch_for(self.trial.device) if self.new_stopwatch is None else self.new_stopwatch()
            run = self._run(stopwatch, state)
            saves = Saves(lambda: save_checkpoint(self.trial, run.state(), self.checkpoint))
            run.after_step = saves.save_if_due
            try:
                with saves.saved_if_interrupted():
                    yield run, saves, began
            finally:
                # Otherwise the network would wait for the garbage collector.
                run.after_step = bool

    def _torch_configured(self) -> Any:
        return process_settings(
            self.trial.device, deterministic=self.recipe.deterministic, tf32=self.recipe.tf32
        )

    def _run(self, stopwatch: Stopwatch, state: dict[str, Any] | None) -> Run:
        # Modulo, so that numpy and torch accept the seed of every repeat.
        seed = (self.trial.seed + self.number * SEEDS_APART) % 2**31
        run = Run(self.build, self.recipe, self.budget, self.trial.device, self.training_set, seed, stopwatch, state)
        run.must_stop = self.trial.should_stop
        return run

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
        self.precision = precision_on(self._type, recipe)
        self._average = WeightAverage(self.network, recipe.average_decay) if recipe.average_decay else None
        self._scaler = torch.amp.GradScaler(self._type, enabled=self.precision == "fp16")
        steps, self.seconds_before = (0, 0.0) if state is None else self._restore(state)
        self.steps_before = steps
        self.clock = BudgetClock(budget, self.steps_per_epoch, stopwatch, steps=steps, seconds=self.seconds_before)
        self.used_before = self.clock.used()
        self.learning_rate: float = self._optimizer.param_groups[0]["lr"]
        self.is_compiled = False
        self.judges: int | None = None
        """Number of validation examples of the judgement that is made; None for all."""
        self.must_stop: Callable[[], bool] = bool
        self.after_step: Callable[[], object] = bool
        self._losses = _Losses(device, *((0.0, 0) if state is None else state.get("losses", (0.0, 0))))
        # A checkpoint of an earlier version was always saved after a judgement.
        self._judged = (0, 0.0) if state is None else state.get("judged", (steps, self.seconds_before))

    def state(self) -> dict[str, Any]:
        """The state on which the next step depends, apart from the recipe."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": None if self._average is None else self._average.values,
            "steps": self.clock.steps,
            "seconds": self.clock.seconds(),
            "judged": self._judged,
            "losses": self._losses.state(),
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
        if self._average is not None:
            self._average.restore(state["average"])
        torch.set_rng_state(state["random"])
        if self._type == "cuda" and state["random_on_device"] is not None:
            torch.cuda.set_rng_state(state["random_on_device"])
        return state["steps"], state["seconds"]

    def train_to_next(self, points: Sequence[Point]) -> Point | None:
        """Train to the first point that has no judgement yet, and return it; None if all have one.

        If one step reaches several points, it returns one that all validation examples judge, if there is one.
        """
        left = [point for point in points if not self.clock.had_reached(point.at, *self._judged)]
        if not left:
            return None
        while not self.clock.has_reached(left[0].at):
            self.train_one_epoch(left[0].at)
        reached = [point for point in left if self.clock.has_reached(point.at)]
        return next((point for point in reached if point.is_full), reached[-1])

    def end_point(self) -> float:
        """Note that the point has been judged; return the mean loss of the steps since the one before."""
        self._judged = (self.clock.steps, self.clock.seconds())
        mean = self._losses.take_mean()
        self._require_finite(mean)
        return mean

    def train_one_epoch(self, until: float | None = None) -> None:
        """Train to the end of the epoch, of the budget, or until so much budget is used, whichever is first.

        Raises
        ------
        Diverged
            If the loss is not finite.
        Interrupted
            If the evaluation must stop.
        """
        self._compile_if_it_pays()
        clock = self.clock
        end = clock.budget.amount if until is None else until
        epoch, first_step = divmod(clock.steps, self.steps_per_epoch)
        self.network.train()
        for loss_of in self.training_set.batches(self.seed, epoch, first_step):
            self._set_learning_rate()
            clock.begin()
            self._optimizer.zero_grad(set_to_none=True)
            with self.autocast():
                loss = loss_of(self._forward)
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            self._clip_gradients()
            self._scaler.step(self._optimizer)
            self._scaler.update()
            if self._average is not None:
                self._average.update(clock.steps + 1)
            clock.end()
            self._require_finite(self._losses.add(loss.detach()))
            self.stop_if_asked()
            self.after_step()
            if clock.has_reached(end):
                break

    def stop_if_asked(self) -> None:
        """Raise Interrupted if the evaluation must stop; a judge calls this between its batches.

        Raises
        ------
        Interrupted
            If so.
        """
        if self.must_stop():
            raise Interrupted(f"the training stops after {self.clock.epochs():.4g} epochs")

    def judged_by(self, judge: Callable[[Run], Result], point: Point | None = None) -> Result:
        """The result of a judge for the network as it would be kept; the training stays as it is.

        Without a point, all validation examples judge.
        """
        is_full = point is None or point.is_full
        self.judges = None if point is None else point.examples
        with nullcontext() if self._average is None else self._average.taken(), norm_statistics.kept(self.network):
            self.estimate_norm_statistics(is_full=is_full)
            return judge(self)

    def finish(self) -> None:
        """Make the network the one that is kept: with the average of its weights, and with estimated statistics."""
        if self._average is not None:
            self._average.take()
        self.estimate_norm_statistics()

    def estimate_norm_statistics(self, *, is_full: bool = True) -> None:
        """Estimate the statistics of batch normalisation anew, unless the recipe keeps those of the training."""
        if self.recipe.norm_statistics == "estimated":
            most = norm_batches(self.recipe.batch_size, is_full=is_full)
            with self.autocast():
                norm_statistics.estimate(self.network, self._inputs(most))

    def _inputs(self, most: int) -> Iterator[torch.Tensor]:
        for batch in self.training_set.inputs(self.seed, most):
            self.stop_if_asked()
            yield batch

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            clock = self.clock
            raise Diverged(
                f"the training loss is {loss} after {clock.epochs():.4g} epochs (step {clock.steps}), at the learning "
                f"rate {self.learning_rate:.4g} (initially {self.recipe.learning_rate:.4g})"
            )

    def autocast(self) -> torch.autocast:
        """The context in which the network computes in this training's precision."""
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self._type, dtype=dtype, enabled=self.precision != "fp32")

    def _clip_gradients(self) -> None:
        if self.recipe.clip_norm:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)

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
    """Losses since the last point, summed on the device and checked without a wait for the latest steps.

    Parameters
    ----------
    device
        The device of the losses.
    total, count
        Of an earlier :meth:`state`.
    """

    def __init__(self, device: str, total: float, count: int) -> None:
        self._sum = torch.full((), total, device=device)
        self._count = count
        self._copied: tuple[torch.Tensor, torch.cuda.Event] | None = None

    def state(self) -> tuple[float, int]:
        """Sum and number of the losses, after a wait for the device."""
        return float(self._sum), self._count

    def add(self, loss: torch.Tensor) -> float:
        """Add a step's loss; return a recent sum, which is not finite once a loss was not."""
        self._sum += loss.float()
        self._count += 1
        if not self._sum.is_cuda:
            return float(self._sum)
        return self._from_copy() if self._count % READ_EVERY == 0 else 0.0

    def take_mean(self) -> float:
        """Mean of the losses, after a wait for the device; then begin anew."""
        total, count = self.state()
        self._sum = torch.zeros_like(self._sum)
        self._count, self._copied = 0, None
        return total / count if count else 0.0

    def _from_copy(self) -> float:
        """The sum of some steps ago; the latest one is being copied meanwhile."""
        total = 0.0
        if self._copied is not None:
            earlier, event = self._copied
            event.synchronize()
            total = float(earlier)
        number = torch.empty((), pin_memory=True)
        number.copy_(self._sum, non_blocking=True)
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch has no type for it
        event.record()
        self._copied = number, event
        return total


def pays_to_compile(remaining_s: float) -> bool:
    """Whether a compilation is expected to save time in the remaining seconds of training."""
    return COMPILATION_SHARE * remaining_s >= COMPILATION_S
