"""Image classification as a problem: ``cifar10``, ``cifar100``, ``mnist``, ``fashion_mnist``, and one's own ``images``.

Law of this file: it ties a space, images and the training together as the options say, and decides nothing that one of
them decides. Torch is imported where something is trained, so the problem is described on machines that have none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.images.read_images import read_images
from hpbandster_lite.workers.images.spaces import SPACES, Space, SpaceName
from hpbandster_lite.workers.images.splits import VALID_SHARE
from hpbandster_lite.workers.networks.image_shape import CIFAR10, CIFAR100, ImageShape
from hpbandster_lite.workers.training.schedule import Budget, Schedule, Unit, nested_budgets

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.problems.trial import Trial
    from hpbandster_lite.workers.images.error_interval import ErrorRate
    from hpbandster_lite.workers.images.training import ImageRecipe
    from hpbandster_lite.workers.training.clock import Stopwatch
    from hpbandster_lite.workers.training.loop import Builder

DataSet = Literal["cifar10", "cifar100", "mnist", "fashion_mnist", "images"]
BUDGETS: Mapping[Unit, tuple[float, float]] = {"seconds": (400.0, 10_800.0), "epochs": (1.0, 27.0)}
"""Lowest and highest. The seconds are those of arXiv:1807.06906, for one GPU a worker."""
ETA = 3.0
RUNGS = 4
"""Of both, at eta 3; and of the nested budgets."""
PAPER_BRACKETS = 32
SHAPES: Mapping[str, ImageShape] = {
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "mnist": ImageShape(1, 28, 28, 10),
    "fashion_mnist": ImageShape(1, 28, 28, 10),
}
"""So that a configuration can be judged before the images are read."""
TRAINING_IMAGES: Mapping[str, int] = {"cifar10": 45_000, "cifar100": 45_000, "mnist": 54_000, "fashion_mnist": 54_000}
NOT_MIRRORED = ("mnist",)
"""A mirrored 2 is no digit."""
MODEL_FILE = "model.pt"
TOP_RUNG = 1 - 1e-9
"""Part of the highest budget from which an evaluation counts as one of the highest rung."""


@dataclass(frozen=True)
class ImageOptions:
    """What a user may choose; every option is explained by its ``help``."""

    data_set: DataSet = field(default="cifar10", metadata={"help": "the images; those of your own are named images"})
    data: Path | None = field(
        default=None,
        metadata={"help": "where they lie: a folder, for images also an .npz; none: the usual places", "local": True},
    )
    space: SpaceName = field(
        default="paper", metadata={"help": "the search space; for one CPU core: small, with --budget-unit epochs"}
    )
    preset: Literal["paper"] | None = field(
        default=None, metadata={"help": "paper: the published run, 32 brackets, drawing Shake-Shake as its code does"}
    )
    budget_unit: Unit = field(
        default="seconds", metadata={"help": "what a budget counts: seconds of training steps, or epochs"}
    )
    scale: float = field(default=1.0, metadata={"help": "factor of budgets in seconds"})
    clock: Literal["wall", "processor"] = field(
        default="wall",
        metadata={"help": "seconds of a CPU: wall, or processor, time of its threads, which no neighbour lengthens"},
    )
    schedule: Literal["auto", "restarts", "nested", "cosine", "step"] = field(
        default="auto",
        metadata={"help": "of the learning rate; nested: each rung goes on from the one below; auto: the space's own"},
    )
    train_images: int | None = field(
        default=None, metadata={"help": "train with so many images only; none: all of the training split"}
    )
    valid_images: int | None = field(
        default=None, metadata={"help": "validate with so many images only; none: all of the split"}
    )
    image_size: int | None = field(
        default=None, metadata={"help": "for images: resize to so many pixels a side; none: as they are"}
    )
    max_parameters: int | Literal["auto"] | None = field(
        default="auto", metadata={"help": "refuse larger networks; auto: the space's own bound; none: no bound"}
    )
    repeats: int = field(
        default=1, metadata={"help": "trainings with different seeds at the highest budget; the loss is their mean"}
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = field(
        default="auto", metadata={"help": "of the arithmetic; auto: bf16, or fp16, on a GPU, fp32 on a CPU"}
    )
    deterministic: bool = field(default=False, metadata={"help": "only kernels that give the same bits each time"})
    decay_norm_and_bias: bool = field(
        default=True, metadata={"help": "whether weight decay acts on normalisation and biases, too"}
    )
    pad: int = field(
        default=4, metadata={"help": "pixels of black around training images before a window of their size is cut out"}
    )
    mirror: bool | None = field(
        default=None, metadata={"help": "mirror every second training image; none: yes, but not for mnist"}
    )
    shake_softmax: bool | None = field(
        default=None,
        metadata={"help": "draw Shake-Shake by softmax, as the paper's code does; none: with --preset paper"},
    )
    compile: bool = field(
        default=False, metadata={"help": "use torch.compile where the budget repays it", "local": True}
    )

    def __post_init__(self) -> None:
        for name, value, least in (
            ("train_images", self.train_images, 1),
            ("valid_images", self.valid_images, 1),
            ("image_size", self.image_size, 1),
            ("repeats", self.repeats, 1),
            ("pad", self.pad, 0),
        ):
            if value is not None and value < least:
                raise UsageError(f"{name}={value}; it must be at least {least}")
        if isinstance(self.max_parameters, int) and self.max_parameters < 1:
            raise UsageError(f"max_parameters={self.max_parameters}; it must be at least 1, or none for no bound")
        if not self.scale > 0:
            raise UsageError(f"scale={self.scale}; it must be positive")
        if self.scale != 1 and self.budget_unit != "seconds":
            raise UsageError(
                f"scale={self.scale:g} is a factor of seconds, and budgets are {self.budget_unit}; give --max-budget"
            )
        if self.image_size is not None and self.data_set != "images":
            raise UsageError(f"image_size={self.image_size} is for the data set images; {self.data_set} has one size")
        self._check_preset()

    def _check_preset(self) -> None:
        if self.preset is None:
            return
        for name, fixed in (("space", ("paper",)), ("budget_unit", ("seconds",)), ("schedule", ("auto", "restarts"))):
            if getattr(self, name) not in fixed:
                raise UsageError(
                    f"{name}={getattr(self, name)} is not what --preset paper means, which is {fixed[-1]}; leave one "
                    "of them out"
                )


def _options_for(data_set: DataSet) -> type[ImageOptions]:
    """The options of the problem of this name: its own images are the default."""
    declared = {each.name: each for each in dataclasses.fields(ImageOptions)}["data_set"]
    own = field(default=data_set, metadata=declared.metadata)
    name = f"{data_set.title().replace('_', '')}Options"
    made = dataclasses.make_dataclass(
        name, [("data_set", DataSet, own)], bases=(ImageOptions,), frozen=True, namespace={"__module__": __name__}
    )
    return cast("type[ImageOptions]", made)


class ImageProblem:
    """Joint search of a network and its training for images.

    Parameters
    ----------
    options
        As chosen.
    """

    eta = ETA
    integer_budgets: bool
    source_modules = (
        "hpbandster_lite.workers.training",
        "hpbandster_lite.workers.networks",
        "hpbandster_lite.workers.images",
    )

    def __init__(self, options: ImageOptions) -> None:
        self.options = options
        self.unit = options.budget_unit
        self.integer_budgets = self.unit == "epochs"
        lowest, highest = (budget * options.scale for budget in BUDGETS[self.unit])
        self.budgets: tuple[float, ...] | None = None
        if options.schedule == "nested":
            self.budgets = nested_budgets(lowest, RUNGS)
        self.min_budget, self.max_budget = lowest, highest
        self.brackets = PAPER_BRACKETS if options.preset == "paper" else None

    def configured(self, options: ImageOptions) -> ImageProblem:
        """The problem with other options."""
        return ImageProblem(options)

    # ------------------------------------------------------------------------------------------------ what is searched

    def space(self) -> ConfigurationSpace:
        """The hyperparameters; see :mod:`~hpbandster_lite.workers.images.spaces`."""
        return self._space.space(schedule=self._schedule)

    def feasible(self, config: Mapping[str, Any]) -> bool | str:
        """Whether the network can be built and is small enough, and a batch has enough images; the reason if not."""
        asked, space = self.options.max_parameters, self._space
        most = space.max_parameters if asked == "auto" else asked
        refusal = space.refusal(config, self._shape(), most)
        if refusal is None and config["batch_size"] > self._training_images():
            refusal = f"batch_size={config['batch_size']} is more than the {self._training_images():,} training images"
        return True if refusal is None else refusal

    def evaluate(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        """Train for a budget; the loss is the validation error in percent after its last step."""
        from hpbandster_lite.workers.images.device_images import training_and_validation
        from hpbandster_lite.workers.images.training import train

        images, validation = training_and_validation(
            trial.device,
            self.options.data_set,
            self.options.data,
            size=self.options.image_size,
            train_images=self.options.train_images,
            valid_images=self.options.valid_images,
        )
        is_top = budget >= TOP_RUNG * trial.max_budget
        return train(
            self._builder(config, images.shape),
            self._recipe(config),
            self._budget(budget, trial),
            trial,
            images,
            validation,
            repeats=self.options.repeats if is_top else 1,
            new_stopwatch=self._new_stopwatch(trial),
        )

    # --------------------------------------------------------------------------------------------------- what is kept

    def test(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        """Error of the incumbent's checkpoint on the test images, with its 95 % interval."""
        from hpbandster_lite.workers.images import training
        from hpbandster_lite.workers.images.device_images import images_for_test, training_and_validation

        options = self.options
        images, _ = training_and_validation(
            trial.device, options.data_set, options.data, size=options.image_size, train_images=options.train_images
        )
        test_images = images_for_test(trial.device, options.data_set, options.data, size=options.image_size)
        build, recipe = self._builder(config, images.shape), self._recipe(config)
        return _figures(training.test(build, recipe, self._budget(budget, trial), trial, images, test_images))

    def refit(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        """Train with all images but those for test, whatever part of them the search had; keep the model.

        Returns
        -------
        dict
            ``model``, the file's name, for :func:`~hpbandster_lite.workers.images.trained_classifier.load_model`;
            ``test_error_percent`` with its 95 % interval; ``training_images``; and how the training went.
        """
        from hpbandster_lite.workers.images import training
        from hpbandster_lite.workers.images.device_images import all_for_refit, images_for_test
        from hpbandster_lite.workers.images.trained_classifier import save_model

        where = (trial.device, self.options.data_set, self.options.data)
        images = all_for_refit(*where, size=self.options.image_size)
        test_images = images_for_test(*where, size=self.options.image_size)
        build, recipe = self._builder(config, images.shape), self._recipe(config)
        done = training.refit(
            build,
            recipe,
            self._budget(budget, trial),
            trial,
            images,
            test_images,
            new_stopwatch=self._new_stopwatch(trial),
        )
        figures = {**_figures(done.judged), "training_images": len(images), **done.info}
        save_model(
            trial.directory / MODEL_FILE,
            done.network,
            images,
            space=self.options.space,
            configuration=config,
            figures=figures,
        )
        return {"model": MODEL_FILE, **figures}

    def export(self, directory: Path, file: Path) -> dict[str, Any]:
        """Write the model of a refit as ``.pt2`` of torch.export, checked to give the same outputs."""
        from hpbandster_lite.workers.images.trained_classifier import export_model, load_model

        return export_model(load_model(directory / MODEL_FILE), file)

    # ------------------------------------------------------------------------------------------------------- in parts

    @property
    def _space(self) -> Space:
        return SPACES[self.options.space]

    @property
    def _schedule(self) -> Schedule | None:
        return None if self.options.schedule == "auto" else self.options.schedule

    @property
    def _shake_softmax(self) -> bool:
        asked = self.options.shake_softmax
        return self.options.preset == "paper" if asked is None else asked

    def _shape(self) -> ImageShape:
        known = SHAPES.get(self.options.data_set)
        return self._own_images().shape if known is None else known

    def _training_images(self) -> int:
        if self.options.train_images is not None:
            return self.options.train_images
        known = TRAINING_IMAGES.get(self.options.data_set)
        if known is not None:
            return known
        n = len(self._own_images().train_y)
        return n - min(max(round(VALID_SHARE * n), 1), n - 1)

    def _own_images(self) -> Any:
        return read_images(self.options.data_set, self.options.data, size=self.options.image_size)

    def _builder(self, config: Mapping[str, Any], shape: ImageShape) -> Builder:
        return partial(self._space.network, config, shape, shake_softmax=self._shake_softmax)

    def _recipe(self, config: Mapping[str, Any]) -> ImageRecipe:
        options = self.options
        mirror = options.data_set not in NOT_MIRRORED if options.mirror is None else options.mirror
        return self._space.recipe(
            config,
            schedule=self._schedule,
            pad=options.pad,
            mirror=mirror,
            precision=options.precision,
            deterministic=options.deterministic,
            decay_norm_and_bias=options.decay_norm_and_bias,
            compile=options.compile,
        )

    def _new_stopwatch(self, trial: Trial) -> Callable[[], Stopwatch]:
        from hpbandster_lite.workers.training.clock import stopwatch_for

        return partial(stopwatch_for, trial.device, self.options.clock)

    def _budget(self, budget: float, trial: Trial) -> Budget:
        """The budget with its place among those of the search, on which the schedule's cycles depend."""
        own = [self.max_budget / ETA**k for k in reversed(range(RUNGS))] if self.budgets is None else self.budgets
        return Budget.on(trial.budgets or own, budget, self.unit)


def _figures(error: ErrorRate) -> dict[str, Any]:
    return {
        "test_error_percent": error.percent,
        "test_error_interval_percent": [error.low_percent, error.high_percent],
        "test_images": error.images,
    }


# What the entry points name.
cifar10 = ImageProblem(_options_for("cifar10")())
cifar100 = ImageProblem(_options_for("cifar100")())
mnist = ImageProblem(_options_for("mnist")())
fashion_mnist = ImageProblem(_options_for("fashion_mnist")())
images = ImageProblem(_options_for("images")())
