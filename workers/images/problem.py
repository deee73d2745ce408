"""Image classification as a problem: one for each data set of the catalogue, and ``images`` for your own images.

Law of this file: it connects a space, images and the training as the options say, and leaves all other decisions to
them. It imports torch only to train, so a machine without torch can describe a problem.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.problems.trial import recorded_note
from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES
from hpbandster_lite.workers.images.enough_images import Verdict, verdict_on, verdict_on_sizes
from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.judging_share import judging_notes
from hpbandster_lite.workers.images.metric_names import OF_CLASSES, Metric
from hpbandster_lite.workers.images.missing_images import is_published, missing_images, missing_libraries
from hpbandster_lite.workers.images.options import ImageOptions, options_for
from hpbandster_lite.workers.images.read_images import ImageSource, Look, look_at_images, read_images
from hpbandster_lite.workers.images.same_pictures import other_pictures
from hpbandster_lite.workers.images.search_space import Space
from hpbandster_lite.workers.images.search_spaces import SPACES
from hpbandster_lite.workers.images.splits import Division
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.training.processor import has_fast_bfloat16
from hpbandster_lite.workers.training.schedule import Budget, Schedule, Unit, nested_budgets

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.problems.trial import Trial
    from hpbandster_lite.workers.images.device_images import DeviceImages, Sides
    from hpbandster_lite.workers.images.metrics import Scoring
    from hpbandster_lite.workers.images.training import ImageRecipe
    from hpbandster_lite.workers.training.clock import Stopwatch
    from hpbandster_lite.workers.training.loop import Builder

BUDGETS: Mapping[Unit, tuple[float, float]] = {"seconds": (400.0, 10_800.0), "epochs": (1.0, 27.0)}
"""Lowest and highest budget. The seconds are the budgets of arXiv:1807.06906, for one GPU per worker."""
ETA = 3.0
RUNGS = 4
"""Number of rungs with both units, at eta 3, and of the nested budgets."""
PAPER_BRACKETS = 32
MODEL_FILE = "model.pt"
SLOW_BFLOAT16 = (
    "this host's processor has neither AMX nor AVX512-BF16, so it computes the bfloat16 of this search slowly; for "
    "hosts like this one, begin a search with --cpu-precision fp32"
)
TOP_RUNG = 1 - 1e-9
"""An evaluation with at least this share of the highest budget belongs to the highest rung."""


class ImageProblem:
    """Joint search of a network and its training for images.

    Parameters
    ----------
    options
        The options of the problem.
    """

    version = 2
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

    # ------------------------------------------------------------------------------------------------------- searching

    def space(self) -> ConfigurationSpace:
        """The hyperparameters; see :mod:`~hpbandster_lite.workers.images.search_spaces`."""
        return self._space.space(schedule=self._schedule)

    def missing_data(self) -> str | None:
        """What this host lacks to train: libraries, or the files of the images."""
        return missing_libraries() or missing_images(self.options.data_set, self.options.data)

    @property
    def refused_data(self) -> Callable[[Callable[[str], object] | None], str | None] | None:
        """Why images cannot be used, with everything that a look at your own finds, or None if they can."""
        # Of the catalogue's images, only a limit can leave a class out.
        needs_all = self.options.metric in OF_CLASSES and self._division.is_limited
        return self._refusal if needs_all or self.options.data_set not in CATALOGUE else None

    @property
    def prepare_data(self) -> Callable[[], object] | None:
        """Decodes your own images once for all trainers of this host."""
        return None if self.options.data_set in CATALOGUE else partial(read_images, *self._source)

    def notes(self) -> list[str]:
        """What to know before a search: what costs more than its budget, and what your own images are."""
        look = look_at_images(self._source)
        judged = self._verdict(look)
        groups = [] if look.labelled is None else look.labelled.group_notes
        continues = self.options.schedule == "nested"
        judging = judging_notes(self.options, self._own_ladder(), continues=continues)
        return [*cost_notes(self.options), *judging, *look.notes, *groups, *filter(None, [judged.note])]

    def _refusal(self, on_progress: Callable[[str], object] | None) -> str | None:
        look = look_at_images(self._source, on_progress)
        try:
            if self.options.data_set in CATALOGUE:
                return _verdict_on(self._source, self._division, self.options.metric).refusal
            return look.refusal or self._verdict(look).refusal
        except ImageDataError as error:
            return str(error)

    def _verdict(self, look: Look) -> Verdict:
        """Whether the validation images suffice, as far as that is known without the images of the catalogue."""
        options, labelled = self.options, look.labelled
        if labelled is not None:
            return verdict_on(labelled, self._division, options.metric, stratified=True)
        known = CATALOGUE.get(options.data_set)
        return Verdict(None, None) if known is None else verdict_on_sizes(known, self._division, options.metric)

    def chosen_at_the_beginning(self) -> dict[str, Any]:
        """Options that the host on which a search begins chooses for all its workers."""
        options = self.options
        chosen: dict[str, Any] = {}
        if options.data_set == OWN_IMAGES and options.unusual == "auto":
            chosen["unusual"] = "refuse"
        is_open = options.precision == "auto" and options.cpu_precision == "auto"
        if is_open and has_fast_bfloat16():
            chosen["cpu_precision"] = "bf16"
        return chosen

    @property
    def fetch_data(self) -> Callable[[], object] | None:
        """Downloads the images, or refuses; None for those that cannot be downloaded."""
        return partial(read_images, *self._source) if is_published(self.options.data_set) else None

    def feasible(self, config: Mapping[str, Any]) -> bool | str:
        """True if the network can be built and is small enough, else the reason."""
        asked, space = self.options.max_parameters, self._space
        most = space.max_parameters if asked == "auto" else asked
        refusal = space.refusal(config, self._shape(), most)
        return True if refusal is None else refusal

    def evaluate(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        """Train for a budget; the loss is ``--metric`` of the validation images, in percent, after the last step.

        Returns
        -------
        dict
            As of :func:`~hpbandster_lite.workers.images.training.train`; ``lowered``: the values of the
            hyperparameters that are too large for these images, as the training uses them; and ``refit_factor``: how
            many times as long a refit trains, with all images.
        """
        from hpbandster_lite.workers.images.training import train_folds

        folds = self._divided(trial.device)
        if self.options.data_set == OWN_IMAGES and (other := other_pictures(self._source)):
            recorded_note(other)
        images = smallest(folds)
        is_top = budget >= TOP_RUNG * trial.max_budget
        repeats = self.options.repeats if is_top else 1
        result = train_folds(
            self._builder(config, images.shape),
            self._recipe_for(config, images),
            self._budget(budget, trial),
            trial,
            folds,
            scoring=self._scoring,
            repeats=repeats,
            new_stopwatch=self._new_stopwatch(trial),
        )
        more = len(read_images(*self._source).train_y) / len(images) if self.unit == "epochs" else 1.0
        result["refit_factor"] = more / (repeats * len(folds))
        lowered = lowered_to(config, images.shape, len(images))
        return {**result, "lowered": lowered} if lowered else result

    # ----------------------------------------------------------------------------------------- testing and keeping

    def test(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        """Error, and ``--metric``, of the incumbent's checkpoint on the test images, each with its 95 % interval.

        With folds, these are the means over their networks.
        """
        from hpbandster_lite.workers.images import training
        from hpbandster_lite.workers.images.device_images import Sides, images_for_test
        from hpbandster_lite.workers.images.figures import figures_of

        folds = self._divided(trial.device)
        images = smallest(folds)
        build, recipe = self._builder(config, images.shape), self._recipe_for(config, images)
        sides = [
            Sides(each.training, images_for_test(trial.device, self._source, each.training)) for each in folds
        ]
        found = training.test(build, recipe, self._budget(budget, trial), trial, sides)
        return figures_of(found, self.options.metric)

    def refit(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        """Train with all images outside the test set, even if the search used only a part of them; keep the model.

        Returns
        -------
        dict
            ``model``, the name of the file for :func:`hpbandster_lite.load_model`; ``test_error_percent`` with its 95 %
            interval; ``training_images``; and information about the training.
        """
        from hpbandster_lite.workers.images import training
        from hpbandster_lite.workers.images.device_images import all_for_refit, images_for_test
        from hpbandster_lite.workers.images.figures import figures_of
        from hpbandster_lite.workers.images.trained_classifier import SeenAs, save_model

        images = all_for_refit(trial.device, self._source, self._division)
        test_images = images_for_test(trial.device, self._source, images)
        searched = smallest(self._divided(trial.device))
        build, recipe = self._builder(config, images.shape), self._recipe_for(config, searched)
        done = training.refit(
            build,
            recipe,
            self._budget(budget, trial),
            trial,
            images,
            test_images,
            new_stopwatch=self._new_stopwatch(trial),
        )
        figures = {**figures_of([done.judged], self.options.metric), "training_images": len(images), **done.info}
        save_model(
            trial.directory / MODEL_FILE,
            done.network,
            images,
            space=self.options.space,
            configuration=config,
            figures=figures,
            seen_as=SeenAs(self.options.aspect, self.options.unusual != "refuse"),
        )
        return {"model": MODEL_FILE, **figures}

    def export(self, directory: Path, file: Path) -> dict[str, Any]:
        """Write the model of a refit as a ``.pt2`` file of torch.export, and check that its outputs are the same."""
        from hpbandster_lite.workers.images.trained_classifier import export_model, load_model

        return export_model(load_model(directory / MODEL_FILE), file)

    # ------------------------------------------------------------------------------------------- what options decide

    @property
    def _space(self) -> Space:
        return SPACES[self.options.space]

    @property
    def _schedule(self) -> Schedule | None:
        return None if self.options.schedule == "auto" else self.options.schedule

    @property
    def _division(self) -> Division:
        options = self.options
        return Division(options.valid_share, options.folds, options.train_images, options.valid_images)

    def _divided(self, device: str) -> tuple[Sides, ...]:
        """The images of a search: the two sides of each fold."""
        from hpbandster_lite.workers.images.device_images import divided

        found = _verdict_on(self._source, self._division, self.options.metric)
        if found.refusal is not None:
            raise ImageDataError(found.refusal)
        return divided(device, self._source, self._division)

    @property
    def _scoring(self) -> Scoring:
        from hpbandster_lite.workers.images.metrics import Scoring

        return Scoring(self.options.metric, breaks_ties=self.options.preset != "paper")

    @property
    def _shake_softmax(self) -> bool:
        asked = self.options.shake_softmax
        return self.options.preset == "paper" if asked is None else asked

    @property
    def _source(self) -> ImageSource:
        options = self.options
        return ImageSource(
            options.data_set,
            options.data,
            options.image_size,
            options.aspect,
            options.unusual,
            options.cache,
            options.group,
        )

    def _shape(self) -> ImageShape:
        known = CATALOGUE.get(self.options.data_set)
        return read_images(*self._source).shape if known is None else known.shape

    def _builder(self, config: Mapping[str, Any], shape: ImageShape) -> Builder:
        return partial(self._space.network, config, shape, shake_softmax=self._shake_softmax)

    def _recipe(self, config: Mapping[str, Any]) -> ImageRecipe:
        options = self.options
        mirror = options.mirror
        if mirror is None:
            mirror = options.data_set not in CATALOGUE or CATALOGUE[options.data_set].is_mirrored
        return self._space.recipe(
            config,
            schedule=self._schedule,
            pad=options.pad,
            mirror=mirror,
            class_weights=options.class_weights,
            fills_last_batch=options.preset != "paper",
            norm_statistics="running" if options.preset == "paper" else "estimated",
            precision=options.precision,
            # A search that began without a choice computes in float32.
            cpu_precision="fp32" if options.cpu_precision == "auto" else options.cpu_precision,
            deterministic=options.deterministic,
            decay_norm_and_bias=options.decay_norm_and_bias,
            compile=options.compile,
        )

    def _recipe_for(self, config: Mapping[str, Any], images: DeviceImages) -> ImageRecipe:
        """The recipe with which a search trains on these images; a note if this host computes it slowly."""
        from hpbandster_lite.workers.training.recipe import precision_on

        recipe = self._recipe({**config, **lowered_to(config, images.shape, len(images))})
        device = images.x.device.type
        if device == "cpu" and precision_on(device, recipe) == "bf16" and not has_fast_bfloat16():
            recorded_note(SLOW_BFLOAT16)
        return recipe

    def _new_stopwatch(self, trial: Trial) -> Callable[[], Stopwatch]:
        from hpbandster_lite.workers.training.clock import stopwatch_for

        return partial(stopwatch_for, trial.device, self.options.clock)

    def _budget(self, budget: float, trial: Trial) -> Budget:
        """The budget with its rung on the search's ladder, on which the schedule's cycles depend."""
        return Budget.on(trial.budgets or self._own_ladder(), budget, self.unit)

    def _own_ladder(self) -> tuple[float, ...]:
        """The default budgets."""
        return self.budgets or tuple(self.max_budget / ETA**k for k in reversed(range(RUNGS)))


@functools.lru_cache(maxsize=4)
def _verdict_on(source: ImageSource, division: Division, metric: Metric) -> Verdict:
    """Whether the images suffice; computed once for all evaluations of a process."""
    labelled = read_images(*source).labelled
    return verdict_on(labelled, division, metric, stratified=source.data_set == OWN_IMAGES)


def cost_notes(options: ImageOptions) -> list[str]:
    """Where an evaluation trains several networks."""
    folds, repeats = options.folds, options.repeats
    notes = []
    if folds > 1:
        notes.append(
            f"an evaluation trains {folds} networks, one for each fold (--folds {folds}), each for the whole budget, "
            f"so it takes {folds} times its budget"
        )
    if repeats > 1:
        networks = folds * repeats
        of_folds = f" of {folds} folds" if folds > 1 else ""
        notes.append(
            f"an evaluation at the highest budget trains {networks} networks (--repeats {repeats}{of_folds}), so it "
            f"takes {networks} times its budget"
        )
    return notes


def lowered_to(config: Mapping[str, Any], shape: ImageShape, training_images: int) -> dict[str, int]:
    """The hyperparameters of a configuration that are too large for these images, with the values to use instead.

    A batch has at most a quarter of the training images, so that an epoch has some steps; CutOut's square has at most
    three quarters of an image's shorter side, so that some of the image remains.
    """
    most = {
        "batch_size": max(training_images // 4, 2),
        "length": 3 * min(shape.height, shape.width) // 4,
    }
    return {name: value for name, value in most.items() if config[name] > value}


def smallest(folds: Sequence[Sides]) -> DeviceImages:
    """The training images of the fold that has the fewest, on which the recipe of all folds depends."""
    return min((each.training for each in folds), key=len)


# The entry points of setup.cfg name these.
cifar10 = ImageProblem(options_for("cifar10"))
cifar100 = ImageProblem(options_for("cifar100"))
mnist = ImageProblem(options_for("mnist"))
fashion_mnist = ImageProblem(options_for("fashion_mnist"))
images = ImageProblem(options_for("images"))
