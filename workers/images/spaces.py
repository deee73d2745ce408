"""Search spaces for image classifiers: which hyperparameters there are, and what network and recipe they stand for.

Law of this file: a space is described, and a configuration judged, without torch; ``network`` and ``recipe`` import it
when they are called. Hyperparameters that act only beside others are declared so, and what no condition can say (a
stage too narrow, too many parameters) is for :meth:`Space.refusal`, which names the number.

Sources: arXiv:1807.06906 (``paper``: ranges and scales as its authors' code has them), Shake-Shake (arXiv:1705.07485),
Wide ResNet (arXiv:1605.07146), ResNet (arXiv:1512.03385).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.training.schedule import Schedule

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from ConfigSpace.hyperparameters import Hyperparameter
    from torch import nn

    from hpbandster_lite.workers.images.training import ImageRecipe

SpaceName = Literal["paper", "extended", "small", "shake_shake", "wide_resnet", "resnet"]
Config = Mapping[str, Any]

MAIN_BLOCKS = 3
"""Of the paper: at 32 x 32 pixels the last one works on 8 x 8."""
MOST_MAIN_BLOCKS = 4
"""Of ``extended``: every one but the first halves the image, so the last one works on 4 x 4 pixels of CIFAR's 32."""
ADAMW_RATE, ADAMW_DECAY = "learning_rate_adamw", "weight_decay_adamw"
"""AdamW's own: its useful rates lie about a hundred times lower than SGD's, and its decay, which is multiplied by the
rate, about a hundred times higher."""


class Space(ABC):
    """A named search space.

    Attributes
    ----------
    schedule
        How the learning rate falls where the user does not say.
    max_parameters
        Largest network where the user does not say; ``None`` for no bound.
    """

    schedule: ClassVar[Schedule] = "restarts"
    max_parameters: ClassVar[int | None] = None

    @abstractmethod
    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """The hyperparameters.

        Parameters
        ----------
        schedule
            The one that the user wants; ``None`` leaves it to the space, which may search it.
        """

    @abstractmethod
    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """A fresh network of a configuration, from torch's global generator.

        Parameters
        ----------
        config, shape
            What to build, for which images.
        shake_softmax
            Draw Shake-Shake's numbers as the released code of arXiv:1807.06906 does.
        """

    def parameter_count(self, config: Config, shape: ImageShape) -> int:
        """Trained numbers of the network: built on torch's device ``meta``, which holds shapes and no numbers."""
        import torch

        from hpbandster_lite.workers.training.memory import parameter_count

        with torch.device("meta"):
            return parameter_count(self.network(config, shape))

    def refusal(self, config: Config, shape: ImageShape, max_parameters: int | None) -> str | None:
        """Why a configuration is not worth a try; nothing if it is.

        Parameters
        ----------
        config, shape
            What would be built, for which images.
        max_parameters
            Bound on the number of parameters; ``None`` for none.
        """
        if max_parameters is None:
            return None
        count = self.parameter_count(config, shape)
        return over(count, max_parameters) if count > max_parameters else None

    def recipe(self, config: Config, **fixed: Any) -> ImageRecipe:
        """How a configuration is trained.

        Parameters
        ----------
        config
            A configuration of :meth:`space`.
        fixed
            Fields of :class:`~hpbandster_lite.workers.images.training.ImageRecipe` that are not searched, and
            ``pad`` and ``mirror`` of its augmentation; ``schedule=None`` leaves the schedule to the configuration or
            the space.
        """
        from hpbandster_lite.workers.images.augmentation import Augmentation
        from hpbandster_lite.workers.images.training import ImageRecipe

        augmentation = Augmentation(
            cutout=config["length"],
            mixup=config["alpha"],
            **{name: fixed.pop(name) for name in ("pad", "mirror") if name in fixed},
        )
        schedule = fixed.pop("schedule", None) or config.get("schedule", self.schedule)
        return ImageRecipe(**_searched(config), augmentation=augmentation, schedule=schedule, **fixed)


def over(count: int, most: int) -> str:
    """A network that is too large, in words."""
    return f"{count:,} parameters are more than --max-parameters {most:,}"


def _searched(config: Config) -> dict[str, Any]:
    """Fields of the recipe that a configuration decides."""
    names = ("batch_size", "momentum", "label_smoothing", "warmup", "optimizer")
    told = {name: config[name] for name in names if name in config}
    is_adamw = config.get("optimizer") == "adamw"
    told["learning_rate"] = config[ADAMW_RATE if is_adamw else "learning_rate"]
    told["weight_decay"] = config[ADAMW_DECAY if is_adamw else "weight_decay"]
    return told


# ------------------------------------------------------------------------------------------------- the joint network


class JointSpace(Space):
    """A space of the joint network: its architecture is a :class:`~.JointArchitecture`."""

    def architecture(self, config: Config, *, shake_softmax: bool = False) -> JointArchitecture:
        """The architecture of a configuration."""
        return JointArchitecture.of({**config, "shake_softmax": shake_softmax})

    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """See :meth:`Space.network`."""
        from hpbandster_lite.workers.networks.joint_network import JointNetwork

        return JointNetwork(self.architecture(config, shake_softmax=shake_softmax), shape)

    def parameter_count(self, config: Config, shape: ImageShape) -> int:
        """See :meth:`Space.parameter_count`; here by arithmetic, without torch."""
        return self.architecture(config).parameter_count(shape)

    def refusal(self, config: Config, shape: ImageShape, max_parameters: int | None) -> str | None:
        """See :meth:`Space.refusal`; a main block with fewer than two channels cannot be built."""
        return self.architecture(config).problem() or super().refusal(config, shape, max_parameters)


class PaperSpace(JointSpace):
    """The 17 hyperparameters of arXiv:1807.06906, with its ranges and scales.

    Nothing is conditional and nothing has a default of its own there, although ``death_rate`` acts only where a main
    block has one branch. It has no bound on parameters either: half of it lies below 1.5 million, 3.4 % above 100
    million, and what does not fit a GPU fails as out of memory.

    The paper's integers are rounded floats from (lower - 0.5, upper + 0.5), on a log scale where there is one; ours are
    buckets with the same borders, so their probabilities are the same.
    """

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`; the schedule is not searched."""
        from ConfigSpace import ConfigurationSpace, Float, Integer

        blocks = range(1, MAIN_BLOCKS + 1)
        whole = ConfigurationSpace()
        whole.add(
            *(Integer(f"nr_residual_blocks_{i}", (1, 16), log=True) for i in blocks),
            Integer("initial_filters", (8, 32), log=True),
            *(Float(f"widen_factor_{i}", (0.5, 8.0 if i == 1 else 4.0), log=True) for i in blocks),
            *(Integer(f"res_branches_{i}", (1, 5)) for i in blocks),
            Float("learning_rate", (1e-3, 1.0), log=True),
            Integer("batch_size", (32, 128), log=True),
            Float("weight_decay", (1e-5, 1e-3), log=True),
            Float("momentum", (1e-3, 0.99)),
            Float("alpha", (0.0, 1.0)),
            Integer("length", (0, 20)),
            Float("death_rate", (0.0, 1.0)),
        )
        return whole


class ExtendedSpace(JointSpace):
    """``paper`` and what it leaves out, each hyperparameter active only where it acts.

    The number of main blocks (those of a block that is not there are inactive), the block type, the shortcut of the
    paper's block, modes and level of Shake-Shake where a main block has several branches, rate and decay of ShakeDrop
    where one has one, the optimizer with what belongs to it, label smoothing, warm-up, and the schedule.
    """

    max_parameters = 100_000_000

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`."""
        from ConfigSpace import ConfigurationSpace

        whole = ConfigurationSpace()
        _add_main_blocks(whole)
        _add_recipe(whole, schedule)
        return whole


def _add_main_blocks(whole: ConfigurationSpace) -> None:
    from ConfigSpace import (
        Categorical,
        EqualsCondition,
        Float,
        GreaterThanCondition,
        Integer,
        OrConjunction,
    )

    numbers = range(1, MOST_MAIN_BLOCKS + 1)
    count = Integer("nr_main_blocks", (1, MOST_MAIN_BLOCKS), default=MAIN_BLOCKS)
    blocks = [Integer(f"nr_residual_blocks_{i}", (1, 16), log=True, default=4) for i in numbers]
    widening = [Float(f"widen_factor_{i}", (0.5, 8.0 if i == 1 else 4.0), log=True, default=2.0) for i in numbers]
    branches = [Integer(f"res_branches_{i}", (1, 5), default=2) for i in numbers]
    block_type = Categorical("block_type", ["post", "pre"], default="post")
    shortcut = Categorical("shortcut", ["paper", "gastaldi"], default="gastaldi")
    drop = [
        Float("death_rate", (0.0, 1.0), default=0.5),
        Categorical("death_decay", ["constant", "linear"], default="linear"),
    ]
    shake: list[Hyperparameter[Any, Any]] = [
        Categorical("shake_forward", ["shake", "even"], default="shake"),
        Categorical("shake_backward", ["shake", "even", "keep"], default="shake"),
        Categorical("shake_level", ["image", "batch"], default="image"),
    ]
    whole.add(count, *blocks, Integer("initial_filters", (8, 32), log=True, default=16), *widening, *branches,
              block_type, shortcut, *drop, *shake)  # fmt: skip
    for i, theirs in enumerate(zip(blocks, widening, branches, strict=True)):
        if i:
            whole.add(*(GreaterThanCondition(its, count, i) for its in theirs))
    whole.add(
        EqualsCondition(shortcut, block_type, "post"),
        # An inactive number of branches, of a main block that is not there, satisfies neither.
        *(OrConjunction(*(EqualsCondition(its, number, 1) for number in branches)) for its in drop),
        *(OrConjunction(*(GreaterThanCondition(its, number, 1) for number in branches)) for its in shake),
    )


def _add_recipe(whole: ConfigurationSpace, schedule: Schedule | None) -> None:
    from ConfigSpace import Categorical, EqualsCondition, Float, Integer

    optimizer = Categorical("optimizer", ["sgd", "adamw"], default="sgd")
    of_sgd = [
        Float("learning_rate", (1e-3, 1.0), log=True, default=0.1),
        Float("momentum", (1e-3, 0.99), default=0.9),
        Float("weight_decay", (1e-5, 1e-3), log=True, default=1e-4),
    ]
    of_adamw = [
        Float(ADAMW_RATE, (1e-5, 1e-1), log=True, default=1e-3),
        Float(ADAMW_DECAY, (1e-3, 1.0), log=True, default=0.05),
    ]
    whole.add(
        optimizer,
        *of_sgd,
        *of_adamw,
        Integer("batch_size", (32, 256), log=True, default=128),
        Float("alpha", (0.0, 1.0), default=0.2),
        Integer("length", (0, 20), default=16),
        Float("label_smoothing", (0.0, 0.2), default=0.0),
        Float("warmup", (0.0, 0.2), default=0.0),
    )
    if schedule is None:
        # Not nested, which needs other budgets.
        whole.add(Categorical("schedule", ["restarts", "cosine", "step"], default="cosine"))
    whole.add(
        *(EqualsCondition(its, optimizer, "sgd") for its in of_sgd),
        *(EqualsCondition(its, optimizer, "adamw") for its in of_adamw),
    )


class SmallSpace(JointSpace):
    """Small joint networks for one CPU core: an epoch of 5,000 images of 28 x 28 pixels takes seconds.

    Twelve hyperparameters. Main blocks 2 and 3 share their widening, and all three their number of branches; the first
    one has the initial filters. Blocks of one branch are plain residual blocks (no ShakeDrop: it is made for deep
    networks). The ranges are those of textbooks around values that are usual for residual networks, which are the
    defaults.
    """

    schedule = "cosine"
    max_parameters = 100_000

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`; the schedule is not searched."""
        from ConfigSpace import ConfigurationSpace, Float, Integer

        whole = ConfigurationSpace()
        whole.add(
            Integer("initial_filters", (4, 16), log=True, default=8),
            Float("widen_factor", (1.0, 2.5), default=2.0),
            *(Integer(f"nr_residual_blocks_{i}", (1, 2), default=1) for i in range(1, MAIN_BLOCKS + 1)),
            Integer("res_branches", (1, 2), default=1),
            Float("learning_rate", (1e-2, 1.0), log=True, default=0.1),
            Integer("batch_size", (32, 128), log=True, default=64),
            Float("weight_decay", (1e-5, 1e-2), log=True, default=5e-4),
            Float("momentum", (0.5, 0.99), default=0.9),
            Float("alpha", (0.0, 0.5), default=0.0),
            Integer("length", (0, 12), default=0),
        )
        return whole

    def architecture(self, config: Config, *, shake_softmax: bool = False) -> JointArchitecture:
        """See :meth:`JointSpace.architecture`."""
        numbers = range(1, MAIN_BLOCKS + 1)
        return JointArchitecture(
            blocks=tuple(config[f"nr_residual_blocks_{i}"] for i in numbers),
            initial_filters=config["initial_filters"],
            widen_factors=tuple(1.0 if i == 1 else config["widen_factor"] for i in numbers),
            branches=(config["res_branches"],) * MAIN_BLOCKS,
            shortcut="gastaldi",
            shake_softmax=shake_softmax,
        )


# --------------------------------------------------------------------------------------------- the published families


class FamilySpace(Space):
    """A published family of networks: what it may be, and how it is trained around its authors' recipe."""

    max_parameters = 100_000_000

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`; the schedule is the authors' if the user does not say, and not searched."""
        from ConfigSpace import ConfigurationSpace

        whole = ConfigurationSpace()
        self._add_network(whole)
        whole.add(*self._training())
        return whole

    @abstractmethod
    def _add_network(self, whole: ConfigurationSpace) -> None:
        """Add the architecture's hyperparameters, their conditions and what is forbidden."""

    @abstractmethod
    def _training(self) -> list[Hyperparameter[Any, Any]]:
        """The training's hyperparameters."""


def _training(*, learning_rate: float, batch_size: int, weight_decay: float) -> list[Hyperparameter[Any, Any]]:
    """The training's hyperparameters with the defaults of a recipe."""
    from ConfigSpace import Float, Integer

    return [
        Float("learning_rate", (1e-3, 1.0), log=True, default=learning_rate),
        Integer("batch_size", (32, 256), log=True, default=batch_size),
        Float("weight_decay", (1e-5, 1e-2), log=True, default=weight_decay),
        Float("momentum", (0.5, 0.99), default=0.9),
        Float("alpha", (0.0, 1.0), default=0.0),
        Integer("length", (0, 20), default=0),
    ]


class ShakeShakeSpace(FamilySpace):
    """Shake-Shake networks by depth, width, branches, modes and level: "26 2x32d, S-S-I" is the default.

    How Shake-Shake does at other dimensions than the published ones is the question that this space is for. Forward the
    numbers are drawn or even; backward they are drawn, even, or (of drawn ones) kept: the five pairs of the paper. The
    level acts where anything is drawn.
    """

    schedule = "cosine"

    def _add_network(self, whole: ConfigurationSpace) -> None:
        from ConfigSpace import (
            Categorical,
            EqualsCondition,
            ForbiddenAndConjunction,
            ForbiddenEqualsClause,
            Integer,
            OrConjunction,
            OrdinalHyperparameter,
        )

        forward = Categorical("forward", ["shake", "even"], default="shake")
        backward = Categorical("backward", ["shake", "even", "keep"], default="shake")
        level = Categorical("level", ["image", "batch"], default="image")
        whole.add(
            OrdinalHyperparameter("depth", [14, 20, 26, 32, 38], default_value=26),
            Integer("width", (16, 128), log=True, default=32),
            Integer("branches", (2, 4), default=2),
            forward,
            backward,
            level,
        )
        whole.add(OrConjunction(EqualsCondition(level, forward, "shake"), EqualsCondition(level, backward, "shake")))
        # Even numbers that are kept are even.
        whole.add(
            ForbiddenAndConjunction(ForbiddenEqualsClause(forward, "even"), ForbiddenEqualsClause(backward, "keep"))
        )

    def _training(self) -> list[Hyperparameter[Any, Any]]:
        return _training(learning_rate=0.2, batch_size=128, weight_decay=1e-4)

    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """See :meth:`Space.network`."""
        from hpbandster_lite.workers.networks.shake_shake import ShakeShakeNet

        return ShakeShakeNet(
            config["depth"],
            config["width"],
            branches=config["branches"],
            forward=config["forward"],
            backward=config["backward"],
            level=config.get("level", "image"),
            softmax=shake_softmax,
            shape=shape,
        )


class WideResNetSpace(FamilySpace):
    """Wide ResNets by depth, widening factor, block type, deepening factor and dropout: WRN-28-4 is the default.

    The deepening factor is of the block B(3,3); pairs of depth and factor that make no whole number of blocks are
    forbidden.
    """

    schedule = "step"
    DEPTHS = (10, 16, 22, 28, 34, 40)
    BLOCKS = ("3,3", "3,1,3", "1,3,1", "1,3", "3,1", "3,1,1")

    def _add_network(self, whole: ConfigurationSpace) -> None:
        from ConfigSpace import (
            Categorical,
            EqualsCondition,
            Float,
            ForbiddenAndConjunction,
            ForbiddenEqualsClause,
            ForbiddenInClause,
            Integer,
            OrdinalHyperparameter,
        )

        depth = OrdinalHyperparameter("depth", list(self.DEPTHS), default_value=28)
        block = Categorical("block", list(self.BLOCKS), default="3,3")
        deepening = Integer("deepening", (1, 4), default=2)
        whole.add(
            depth,
            Integer("widen_factor", (1, 12), log=True, default=4),
            block,
            deepening,
            Float("dropout", (0.0, 0.5), default=0.0),
        )
        whole.add(EqualsCondition(deepening, block, "3,3"))
        for factor in range(1, 5):
            uneven = [its for its in self.DEPTHS if (its - 4) % (3 * factor)]
            if uneven:
                whole.add(
                    ForbiddenAndConjunction(
                        ForbiddenEqualsClause(deepening, factor), ForbiddenInClause(depth, uneven)
                    )
                )

    def _training(self) -> list[Hyperparameter[Any, Any]]:
        return _training(learning_rate=0.1, batch_size=128, weight_decay=5e-4)

    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """See :meth:`Space.network`."""
        from hpbandster_lite.workers.networks.wide_resnet import WideResNet

        deepening = {"deepening": config["deepening"]} if "deepening" in config else {}
        return WideResNet(
            config["depth"],
            config["widen_factor"],
            block=config["block"],
            dropout=config["dropout"],
            shape=shape,
            **deepening,
        )


class ResNetSpace(FamilySpace):
    """ResNets by depth; ResNet-20 is the default."""

    schedule = "step"

    def _add_network(self, whole: ConfigurationSpace) -> None:
        from ConfigSpace import OrdinalHyperparameter

        whole.add(OrdinalHyperparameter("depth", [20, 32, 44, 56, 110], default_value=20))

    def _training(self) -> list[Hyperparameter[Any, Any]]:
        return _training(learning_rate=0.1, batch_size=128, weight_decay=1e-4)

    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """See :meth:`Space.network`."""
        from hpbandster_lite.workers.networks.resnet import ResNet

        return ResNet(config["depth"], shape)


SPACES: Mapping[SpaceName, Space] = {
    "paper": PaperSpace(),
    "extended": ExtendedSpace(),
    "small": SmallSpace(),
    "shake_shake": ShakeShakeSpace(),
    "wide_resnet": WideResNetSpace(),
    "resnet": ResNetSpace(),
}


def space_named(name: str) -> Space:
    """The space of this name.

    Raises
    ------
    UsageError
        If there is none.
    """
    for known, space in SPACES.items():
        if known == name:
            return space
    raise UsageError(f"there is no space {name!r}; choose one of {', '.join(SPACES)}")
