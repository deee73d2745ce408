"""What a search space of image classifiers is: hyperparameters, and the network and the recipe of a configuration.

Law of this file: a space can be described, and a configuration refused, without torch; ``network`` and ``recipe``
import it when they are called. A hyperparameter that has an effect only with certain others is conditional. For what no
condition can express (a stage that is too narrow, too many parameters), :meth:`Space.refusal` gives a reason with the
number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.training.schedule import Schedule

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from torch import nn

    from hpbandster_lite.workers.images.training import ImageRecipe

Config: TypeAlias = Mapping[str, Any]

ADAMW_RATE, ADAMW_DECAY = "learning_rate_adamw", "weight_decay_adamw"
"""Names of AdamW's hyperparameters: its useful learning rates are about a hundred times lower than SGD's, and its
weight decay, which is multiplied by the rate, is about a hundred times higher."""


class Space(ABC):
    """A named search space.

    Attributes
    ----------
    schedule
        Default schedule of the learning rate.
    max_parameters
        Default bound on the number of parameters of a network; ``None`` for no bound.
    """

    schedule: ClassVar[Schedule] = "restarts"
    max_parameters: ClassVar[int | None] = None

    @abstractmethod
    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """The hyperparameters.

        Parameters
        ----------
        schedule
            The schedule that the user chose. Default: ``None``; then the space decides, and may search it.
        """

    @abstractmethod
    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """A new network of a configuration, with weights from torch's global generator.

        Parameters
        ----------
        config, shape
            The configuration, and the shape of the images.
        shake_softmax
            Whether to draw Shake-Shake's factors as the released code of arXiv:1807.06906 does. Default: False.
        """

    def parameter_count(self, config: Config, shape: ImageShape) -> int:
        """Number of trained values of the network, which is built on torch's device ``meta``, without values."""
        import torch

        from hpbandster_lite.workers.training.memory import parameter_count

        with torch.device("meta"):
            return parameter_count(self.network(config, shape))

    def refusal(self, config: Config, shape: ImageShape, max_parameters: int | None) -> str | None:
        """Why a configuration should not be trained; ``None`` if it should.

        Parameters
        ----------
        config, shape
            The configuration, and the shape of the images.
        max_parameters
            Bound on the number of parameters; ``None`` for no bound.
        """
        if max_parameters is None:
            return None
        count = self.parameter_count(config, shape)
        return too_large(count, max_parameters) if count > max_parameters else None

    def recipe(self, config: Config, **fixed: Any) -> ImageRecipe:
        """How a configuration is trained.

        Parameters
        ----------
        config
            A configuration of :meth:`space`.
        fixed
            Fields of :class:`~hpbandster_lite.workers.images.training.ImageRecipe` that the space does not search, and
            ``pad`` and ``mirror`` of its augmentation. With ``schedule=None``, the configuration or the space
            determines the schedule.
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


def too_large(count: int, most: int) -> str:
    """The reason to refuse a network that is too large."""
    return f"{count:,} parameters are more than --max-parameters {most:,}"


def _searched(config: Config) -> dict[str, Any]:
    """Fields of the recipe that the configuration sets."""
    names = ("batch_size", "momentum", "label_smoothing", "warmup", "optimizer", "clip_norm", "average_decay")
    searched = {name: config[name] for name in names if name in config}
    is_adamw = config.get("optimizer") == "adamw"
    searched["learning_rate"] = config[ADAMW_RATE if is_adamw else "learning_rate"]
    searched["weight_decay"] = config[ADAMW_DECAY if is_adamw else "weight_decay"]
    return searched
