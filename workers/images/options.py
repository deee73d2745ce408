"""The options of an image problem: declared once, typed on the command line, checked together.

Law of this file: it has the help of each option, and refuses impossible combinations before any work.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES
from hpbandster_lite.workers.images.metric_names import ClassWeights, Metric
from hpbandster_lite.workers.images.picture import Aspect, Unusual
from hpbandster_lite.workers.images.search_spaces import SPACES
from hpbandster_lite.workers.images.splits import VALID_SHARE
from hpbandster_lite.workers.training.schedule import Unit

if TYPE_CHECKING:
    DataSetName: TypeAlias = str
    SpaceName: TypeAlias = str
else:
    # The names follow the catalogue and the spaces; a type checker cannot read them from there.
    DataSetName = Literal[(*CATALOGUE, OWN_IMAGES)]
    SpaceName = Literal[tuple(SPACES)]


OWN_IMAGES_ALONE = ("image_size", "aspect", "unusual", "group")
"""Options that are only for your own images."""


@dataclass(frozen=True)
class ImageOptions:
    """The options, each with its default and its ``help``."""

    data_set: DataSetName = field(
        default="cifar10", metadata={"help": "the data set; images: your own images"}
    )
    data: Path | None = field(
        default=None,
        metadata={
            "help": "folder of the images; for your own images also an .npz; none: the default folders", "local": True
        },
    )
    space: SpaceName = field(
        default="paper", metadata={"help": "the search space; for one CPU core: small, with --budget-unit epochs"}
    )
    preset: Literal["paper"] | None = field(
        default=None, metadata={"help": "paper: the published run, with 32 brackets and --shake-softmax"}
    )
    budget_unit: Unit = field(
        default="seconds", metadata={"help": "what a budget counts: seconds of training steps, or epochs"}
    )
    scale: float = field(default=1.0, metadata={"help": "factor of budgets in seconds"})
    clock: Literal["wall", "processor"] = field(
        default="wall",
        metadata={"help": "time that counts on a CPU: wall time, or processor time, which ignores other processes"},
    )
    schedule: Literal["auto", "restarts", "nested", "cosine", "step"] = field(
        default="auto",
        metadata={"help": "learning-rate schedule; nested: a rung continues the rung below; auto: the space's"},
    )
    train_images: int | None = field(
        default=None, metadata={"help": "number of training images to use; none: all of the split"}
    )
    valid_images: int | None = field(
        default=None, metadata={"help": "number of validation images to use; none: all of the split"}
    )
    valid_share: float = field(
        default=VALID_SHARE, metadata={"help": "share of the training images for validation, above 0 and below 1"}
    )
    folds: int = field(
        default=1,
        metadata={
            "help": "for few images: divide them into so many folds, train without each of them for the whole budget, "
            "and validate with it; the loss is the mean"
        },
    )
    group: str | None = field(
        default=None,
        metadata={
            "help": "for your own images: a column of a CSV file in their folder (of an .npz: an array), or a pattern "
            "of their names; images with one value, such as a patient's, are all for training, validation, or test"
        },
    )
    metric: Metric = field(
        default="error",
        metadata={
            "help": "what the loss is, in percent: error; balanced_error, the mean over the classes; or 100 (1 - value)"
            " for macro_f1 and auroc, the mean over the classes, one against the rest"
        },
    )
    class_weights: ClassWeights | None = field(
        default=None,
        metadata={"help": "balanced: all classes count the same in the training, however many images they have"},
    )
    image_size: int | None = field(
        default=None, metadata={"help": "for your own images: side in pixels to resize to; none: keep the size"}
    )
    aspect: Aspect = field(
        default="squeeze",
        metadata={"help": "how pictures of another shape get the image size; crop: the middle; pad: whole, with black"},
    )
    unusual: Unusual = field(
        default="auto",
        metadata={
            "help": "pictures that lose something; convert: 16 bits scaled, alpha on white, first frame; skip: also "
            "leave out unreadable files and copies; auto: refuse, except in a search that began before this option"
        },
    )
    cache: Path | None = field(
        default=None,
        metadata={"help": "folder for decoded pictures; none: the run directory and ~/.cache", "local": True},
    )
    max_parameters: int | Literal["auto"] | None = field(
        default="auto", metadata={"help": "refuse larger networks; auto: the space's bound; none: no bound"}
    )
    repeats: int = field(
        default=1, metadata={"help": "trainings with different seeds at the highest budget; the loss is their mean"}
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = field(
        default="auto",
        metadata={"help": "precision of the arithmetic; auto: bf16 or fp16 on a GPU, --cpu-precision on a CPU"},
    )
    cpu_precision: Literal["auto", "fp32", "bf16"] = field(
        default="auto",
        metadata={
            "help": "what --precision auto means on all CPUs of a search; auto: the host that begins it chooses bf16"
            " if its processor has AMX or AVX512-BF16, else fp32"
        },
    )
    deterministic: bool = field(default=False, metadata={"help": "use only kernels that give the same bits each time"})
    decay_norm_and_bias: bool = field(
        default=True, metadata={"help": "whether weight decay also acts on normalisation and biases"}
    )
    pad: int = field(
        default=4, metadata={"help": "pixels of black around training images before they are cropped to their size"}
    )
    mirror: bool | None = field(
        default=None, metadata={"help": "mirror half of the training images; none: yes, except for mnist"}
    )
    shake_softmax: bool | None = field(
        default=None,
        metadata={"help": "draw Shake-Shake's factors by softmax, as the paper's code; none: only with --preset paper"},
    )
    compile: bool = field(
        default=False, metadata={"help": "use torch.compile if the budget is large enough", "local": True}
    )

    def __post_init__(self) -> None:
        for name, value, least in (
            ("train_images", self.train_images, 1),
            ("valid_images", self.valid_images, 1),
            ("image_size", self.image_size, 1),
            ("repeats", self.repeats, 1),
            ("folds", self.folds, 1),
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
                f"scale={self.scale:g} requires budgets in seconds, got {self.budget_unit}; give --max-budget instead"
            )
        if not 0 < self.valid_share < 1:
            raise UsageError(f"valid_share={self.valid_share:g}; it must be above 0 and below 1, for example 0.2")
        if self.folds > 1 and self.valid_share != VALID_SHARE:
            raise UsageError(
                f"folds={self.folds} determines the validation images, so valid_share={self.valid_share:g} has no "
                "effect; leave one of them out"
            )
        self._check_own_images()
        self._check_preset()

    def _check_own_images(self) -> None:
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.name in OWN_IMAGES_ALONE and value != each.default and self.data_set != OWN_IMAGES:
                raise UsageError(
                    f"{each.name}={value} is only for the data set images, not for {self.data_set}; leave it out"
                )
        if self.aspect != "squeeze" and self.image_size is None:
            raise UsageError(f"aspect={self.aspect} requires image_size, the size that pictures get; give both")

    def _check_preset(self) -> None:
        if self.preset is None:
            return
        required: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("space", ("paper",)),
            ("budget_unit", ("seconds",)),
            ("schedule", ("auto", "restarts")),
            ("metric", ("error",)),
            ("class_weights", (None,)),
            ("folds", (1,)),
        )
        for name, fixed in required:
            if getattr(self, name) not in fixed:
                wanted = "none" if fixed[-1] is None else fixed[-1]
                raise UsageError(
                    f"--preset paper requires {name}={wanted}, got {getattr(self, name)}; leave one of them out"
                )


def options_for(data_set: DataSetName) -> ImageOptions:
    """The default options of a data set's problem, with this data set as the default of ``data_set``."""
    declared = {each.name: each for each in dataclasses.fields(ImageOptions)}["data_set"]
    own = field(default=data_set, metadata=declared.metadata)
    name = f"{data_set.title().replace('_', '')}Options"
    made = dataclasses.make_dataclass(
        name, [("data_set", DataSetName, own)], bases=(ImageOptions,), frozen=True, namespace={"__module__": __name__}
    )
    return cast("type[ImageOptions]", made)()
