"""Training of an image classifier: its batches, its loss and its judgement, for the loop of ``workers/training``.

Sources: the recipe and the loss of an evaluation (validation error after the last epoch, on clean images) are as in
arXiv:1807.06906; augmentation is in :mod:`~hpbandster_lite.workers.images.augmentation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any, ClassVar, get_args

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.workers.images.augmentation import (
    Augmentation,
    BatchDraws,
    EpochDraws,
    Scaling,
    augmented,
    mixed,
    mixup_loss,
    normalised,
)
from hpbandster_lite.workers.images.device_images import DeviceImages, Sides
from hpbandster_lite.workers.images.error_interval import ErrorRate, error_rate
from hpbandster_lite.workers.images.metric_names import ClassWeights
from hpbandster_lite.workers.images.metrics import Answers, Scoring, named, value_of
from hpbandster_lite.workers.training import loop
from hpbandster_lite.workers.training.clock import Stopwatch
from hpbandster_lite.workers.training.faults import Diverged
from hpbandster_lite.workers.training.loop import BatchLoss, Builder, Forward, Judgement, Refitted, Run
from hpbandster_lite.workers.training.recipe import Recipe, check
from hpbandster_lite.workers.training.schedule import Budget

EVALUATION_PIXELS = {"cuda": 1_000 * 32 * 32, "cpu": 250 * 32 * 32}
"""Pixels that are judged at once: a thousand images of 32x32 pixels keep a GPU busy; on a CPU more than fit into its
cache save no time. Larger images come in smaller batches, so that a judgement needs no more memory than a training
step."""
CROP_AND_MIRROR = Augmentation()
PLAIN = Scoring()
OF_EACH_FOLD = frozenset({"loss", "seed", "epochs", "budget_used", "continued_from", "training_s"})
"""Information of each fold, besides that of its validation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRecipe(Recipe):
    """How an image classifier is trained.

    Parameters
    ----------
    label_smoothing
        Share of each target that is distributed over all classes, in [0, 1). Default: 0.
    augmentation
        Crop, mirror, CutOut and MixUp of training images. Default: crop and mirror.
    class_weights
        ``balanced``: each image counts in the training loss inversely to the number of images of its class, so that all
        classes count the same. Default: None; then all images count the same.
    channels_last
        Whether the channels of a pixel are side by side in memory, which is faster on GPUs with tensor cores and on
        CPUs. Default: True.
    """

    label_smoothing: float = 0.0
    augmentation: Augmentation = CROP_AND_MIRROR
    class_weights: ClassWeights | None = None
    channels_last: bool = True

    def __post_init__(self) -> None:
        # Not super(), which refers to the class without slots that the decorator replaces.
        Recipe.__post_init__(self)
        check(self, "label_smoothing", 0 <= self.label_smoothing < 1, "in [0, 1)")
        weights = get_args(ClassWeights)
        check(self, "class_weights", self.class_weights in (None, *weights), f"None or {' or '.join(weights)}")

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images and network."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


@dataclass(frozen=True, slots=True)
class ImageTrainingSet:
    """Training images with a recipe's augmentation; see :class:`~hpbandster_lite.workers.training.loop.TrainingSet`.

    Parameters
    ----------
    images
        The images, on the device of the training.
    recipe
        Batch size, augmentation and label smoothing.
    """

    noun: ClassVar[str] = "images"
    images: DeviceImages
    recipe: ImageRecipe

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def batches(self, seed: int, epoch: int, first_step: int) -> Iterator[BatchLoss]:
        """The losses of an epoch's batches from a step on."""
        images, recipe = self.images, self.recipe
        draws = EpochDraws.of(
            seed,
            epoch,
            len(images),
            recipe.batch_size,
            images.shape,
            recipe.augmentation,
            images.x.device,
            fills_last_batch=recipe.fills_last_batch,
        )
        weights = balanced_weights(images) if recipe.class_weights == "balanced" else None
        scaling = Scaling.of(images.mean, images.std, images.shape.width)
        for batch in draws.from_step(first_step):
            pixels, targets = images.batch(batch.rows)
            x = augmented(pixels, batch, images.mean, images.std, recipe.augmentation, scaling=scaling)
            x = mixed(x, batch).contiguous(memory_format=recipe.memory_format)
            yield partial(_batch_loss, x, targets, batch, recipe.label_smoothing, weights)

    def inputs(self, seed: int, most: int) -> Iterator[torch.Tensor]:
        """Normalised images of at most ``most`` batches, in a random order of their own."""
        images, recipe = self.images, self.recipe
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).to(images.x.device)
        scaling = Scaling.of(images.mean, images.std, images.shape.width)
        for step in range(min(most, len(images) // recipe.batch_size)):
            pixels, _ = images.batch(order[step * recipe.batch_size : (step + 1) * recipe.batch_size])
            x = normalised(pixels, images.mean, images.std, scaling=scaling)
            yield x.contiguous(memory_format=recipe.memory_format)


def _batch_loss(
    x: torch.Tensor,
    targets: torch.Tensor,
    draws: BatchDraws,
    label_smoothing: float,
    weights: torch.Tensor | None,
    forward: Forward,
) -> torch.Tensor:
    return mixup_loss(forward(x), targets, draws, label_smoothing=label_smoothing, weights=weights)


def balanced_weights(images: DeviceImages) -> torch.Tensor:
    """A weight for each class, shape (classes,): all classes with images have the same sum, and the mean is 1."""
    counts = torch.bincount(images.y, minlength=len(images.class_names)).float()
    present = (counts > 0).sum()
    return torch.where(counts > 0, len(images) / (present * counts), torch.zeros_like(counts))


@dataclass(frozen=True, slots=True)
class Judged:
    """Error and mean cross-entropy of a network on images outside its training set, and its answers."""

    error: ErrorRate
    cross_entropy: float
    answers: Answers = field(compare=False, repr=False)


@torch.inference_mode()
def judged(run: Run, images: DeviceImages, memory_format: torch.memory_format = torch.channels_last) -> Judged:
    """Error and mean cross-entropy on clean images, in large batches, with reads from the device only at the end.

    Raises
    ------
    Diverged
        If the cross-entropy is not finite; the classes of such outputs mean nothing.
    """
    run.network.eval()
    pixels = EVALUATION_PIXELS.get(torch.device(run.device).type, EVALUATION_PIXELS["cpu"])
    size = max(pixels // (images.shape.height * images.shape.width), 1)
    scaling = Scaling.of(images.mean, images.std, images.shape.width)
    parts = []
    for first in range(0, len(images), size):
        run.stop_if_asked()
        x = normalised(images.x[first : first + size], images.mean, images.std, scaling=scaling)
        with run.autocast():
            parts.append(run.network(x.contiguous(memory_format=memory_format)).float())
    logits = torch.cat(parts)
    wrong = (logits.argmax(dim=1) != images.y).sum()
    outputs = logits.double().log_softmax(dim=1)
    cross_entropy = float(functional.nll_loss(outputs, images.y))
    if not math.isfinite(cross_entropy):
        raise Diverged(
            f"the cross-entropy of the network on {len(images):,} images is {cross_entropy} after "
            f"{run.clock.epochs():.4g} epochs"
        )
    answers = Answers(images.y.cpu().numpy(), outputs.cpu().numpy(), images.groups)
    return Judged(error_rate(int(wrong), len(images)), cross_entropy, answers)


# ------------------------------------------------------------------------------------------------------- one evaluation


def train(
    build: Builder,
    recipe: ImageRecipe,
    budget: Budget,
    trial: Trial,
    images: DeviceImages,
    validation: DeviceImages,
    *,
    scoring: Scoring = PLAIN,
    repeats: int = 1,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> dict[str, Any]:
    """Train a classifier for a budget and judge it on the validation images.

    Parameters
    ----------
    images, validation
        Training and validation images, on the device of the trial.
    scoring
        What the loss is. Default: the validation error in percent.
    build, recipe, budget, trial, repeats, new_stopwatch
        See :func:`hpbandster_lite.workers.training.loop.train`.

    Returns
    -------
    dict
        ``loss`` after the last step, ``validation_error_percent``, ``validation_cross_entropy``, another metric by its
        name, and the loop's information.
    """
    sides = [Sides(images, validation)]
    return train_folds(
        build, recipe, budget, trial, sides, scoring=scoring, repeats=repeats, new_stopwatch=new_stopwatch
    )


def train_folds(
    build: Builder,
    recipe: ImageRecipe,
    budget: Budget,
    trial: Trial,
    folds: Sequence[Sides],
    *,
    scoring: Scoring = PLAIN,
    repeats: int = 1,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> dict[str, Any]:
    """Train a classifier for each fold; the loss, and each metric of the validation images, is the mean over the folds.

    Parameters and result are as for :func:`train`.
    """

    def judge(validation: DeviceImages, run: Run) -> Judgement:
        found = judged(run, validation.part(0, run.judges), recipe.memory_format)
        return _judgement(found, scoring, trainings=repeats * len(folds))

    with_judges = [
        loop.Fold(ImageTrainingSet(images, recipe), partial(judge, validation), len(validation))
        for images, validation in folds
    ]
    build = partial(_in_memory_format, build, recipe)
    return _with_means(
        loop.train_folds(
            build, recipe, budget, trial, with_judges, repeats=repeats, new_stopwatch=new_stopwatch
        )
    )


def _with_means(info: dict[str, Any]) -> dict[str, Any]:
    """The information of an evaluation, with the means over repeats and folds of what its validation found."""
    parts = [_with_means(part) for part in info.get("repeats", info.get("folds", ()))]
    if not parts:
        return info
    means = {name: fmean(part[name] for part in parts) for name in info if name.startswith("validation_")}
    if "repeats" in info:
        return {**info, **means, "repeats": parts}
    # What all folds have in common is not repeated: the information is stored and shown with each evaluation.
    kept = [name for name in info if name in means or name in OF_EACH_FOLD]
    return {**info, **means, "folds": [{name: part[name] for name in kept} for part in parts]}


def _judgement(found: Judged, scoring: Scoring, *, trainings: int) -> Judgement:
    metrics = {"validation_error_percent": found.error.percent, "validation_cross_entropy": found.cross_entropy}
    value = found.error.percent / 100
    if scoring.metric != "error":
        value = value_of(scoring.metric, found.answers)
        metrics |= named(scoring.metric, "validation", value)
    counts = found.answers.class_counts
    return Judgement(scoring.loss_percent(value, found.cross_entropy, counts, trainings=trainings), metrics)


def test(
    build: Builder, recipe: ImageRecipe, budget: Budget, trial: Trial, folds: Sequence[Sides]
) -> list[Judged]:
    """What the trained network of each fold answers; see :func:`~..training.loop.test`.

    Parameters
    ----------
    folds
        The training images of each fold, and the test images with their normalisation.
    build, recipe, budget, trial
        See :func:`hpbandster_lite.workers.training.loop.train`.
    """
    training_sets = [ImageTrainingSet(images, recipe) for images, _ in folds]
    judges = [partial(_on_test_images, test_images, recipe) for _, test_images in folds]
    build = partial(_in_memory_format, build, recipe)
    return loop.test_folds(build, recipe, budget, trial, training_sets, judges)


def refit(
    build: Builder,
    recipe: ImageRecipe,
    budget: Budget,
    trial: Trial,
    images: DeviceImages,
    test_images: DeviceImages,
    *,
    new_stopwatch: Callable[[], Stopwatch] | None = None,
) -> Refitted[Judged]:
    """Train on all images outside the test set, and judge once, at the end, on the test images.

    Parameters
    ----------
    images, test_images
        All images outside the test set, and the test images.
    build, recipe, budget, trial, new_stopwatch
        See :func:`hpbandster_lite.workers.training.loop.train`.
    """
    training_set = ImageTrainingSet(images, recipe)
    build = partial(_in_memory_format, build, recipe)
    judge = partial(_on_test_images, test_images, recipe)
    return loop.refit(build, recipe, budget, trial, training_set, judge, new_stopwatch=new_stopwatch)


def _on_test_images(images: DeviceImages, recipe: ImageRecipe, run: Run) -> Judged:
    return judged(run, images, recipe.memory_format)


def _in_memory_format(build: Builder, recipe: ImageRecipe) -> nn.Module:
    network: nn.Module = build().to(memory_format=recipe.memory_format)  # type: ignore[call-overload]  # missing in torch's stub
    return network
