"""Search spaces of published families of networks: ``shake_shake``, ``wide_resnet`` and ``resnet``.

Law of this file: the default configuration is a published network with its authors' recipe. Sources: Shake-Shake
(arXiv:1705.07485), Wide ResNet (arXiv:1605.07146), ResNet (arXiv:1512.03385).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from hpbandster_lite.workers.images.recipe_hyperparameters import add_optimizers, steadying
from hpbandster_lite.workers.images.search_space import Config, Space
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.training.schedule import Schedule

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from ConfigSpace.hyperparameters import Hyperparameter
    from torch import nn


class FamilySpace(Space):
    """A published family of networks: its architectures, and training hyperparameters around the authors' recipe."""

    max_parameters = 100_000_000

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`; the default schedule is the authors', and the space does not search it."""
        from ConfigSpace import ConfigurationSpace

        whole = ConfigurationSpace()
        self._add_network(whole)
        self._add_training(whole)
        return whole

    @abstractmethod
    def _add_network(self, whole: ConfigurationSpace) -> None:
        """Add the architecture's hyperparameters, conditions and forbidden clauses."""

    @abstractmethod
    def _add_training(self, whole: ConfigurationSpace) -> None:
        """Add the training's hyperparameters."""


def _sgd(*, learning_rate: float, weight_decay: float) -> list[Hyperparameter[Any, Any]]:
    """The hyperparameters of SGD with the defaults of a recipe."""
    from ConfigSpace import Float

    return [
        Float("learning_rate", (1e-3, 1.0), log=True, default=learning_rate),
        Float("weight_decay", (1e-5, 1e-2), log=True, default=weight_decay),
        Float("momentum", (0.5, 0.99), default=0.9),
    ]


def _batches(batch_size: int) -> list[Hyperparameter[Any, Any]]:
    """The hyperparameters of batches and their augmentation."""
    from ConfigSpace import Float, Integer

    return [
        Integer("batch_size", (32, 256), log=True, default=batch_size),
        Float("alpha", (0.0, 1.0), default=0.0),
        Integer("length", (0, 20), default=0),
    ]


class ShakeShakeSpace(FamilySpace):
    """Shake-Shake networks by depth, width, branches, modes and level; the default is "26 2x32d, S-S-I".

    The space is for Shake-Shake at other dimensions than the published ones. The forward factors are drawn or even; the
    backward factors are drawn, even, or equal to drawn forward factors: the five pairs of the paper. The level is
    active if factors are drawn.
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
            OrdinalHyperparameter("depth", [8, 14, 20, 26, 32, 38], default_value=26),
            Integer("width", (4, 128), log=True, default=32),
            Integer("branches", (2, 4), default=2),
            forward,
            backward,
            level,
        )
        whole.add(OrConjunction(EqualsCondition(level, forward, "shake"), EqualsCondition(level, backward, "shake")))
        # Keeping even numbers is the same as even.
        whole.add(
            ForbiddenAndConjunction(ForbiddenEqualsClause(forward, "even"), ForbiddenEqualsClause(backward, "keep"))
        )

    def _add_training(self, whole: ConfigurationSpace) -> None:
        whole.add(*_sgd(learning_rate=0.2, weight_decay=1e-4), *_batches(128))

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
    """Wide ResNets by depth, widening factor, block type, deepening factor and dropout; the default is WRN-28-4.

    The training may also use AdamW, label smoothing, a warm-up, gradient clipping and an average of the weights.
    The deepening factor is active only for the block B(3,3), and dropout only if a block has several convolutions, as
    it acts between them. Pairs of depth and factor without a whole number of blocks are forbidden.
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
            GreaterThanCondition,
            Integer,
            NotEqualsCondition,
            OrConjunction,
            OrdinalHyperparameter,
        )

        depth = OrdinalHyperparameter("depth", list(self.DEPTHS), default_value=28)
        block = Categorical("block", list(self.BLOCKS), default="3,3")
        deepening = Integer("deepening", (1, 4), default=2)
        dropout = Float("dropout", (0.0, 0.5), default=0.0)
        whole.add(
            depth,
            Integer("widen_factor", (1, 12), log=True, default=4),
            block,
            deepening,
            dropout,
        )
        whole.add(
            EqualsCondition(deepening, block, "3,3"),
            OrConjunction(NotEqualsCondition(dropout, block, "3,3"), GreaterThanCondition(dropout, deepening, 1)),
        )
        for factor in range(1, 5):
            uneven = [its for its in self.DEPTHS if (its - 4) % (3 * factor)]
            if uneven:
                whole.add(
                    ForbiddenAndConjunction(
                        ForbiddenEqualsClause(deepening, factor), ForbiddenInClause(depth, uneven)
                    )
                )

    def _add_training(self, whole: ConfigurationSpace) -> None:
        add_optimizers(whole, _sgd(learning_rate=0.1, weight_decay=5e-4))
        whole.add(*_batches(128), *steadying())

    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """See :meth:`Space.network`."""
        from hpbandster_lite.workers.networks.wide_resnet import WideResNet

        deepening = {"deepening": config["deepening"]} if "deepening" in config else {}
        return WideResNet(
            config["depth"],
            config["widen_factor"],
            block=config["block"],
            dropout=config.get("dropout", 0.0),
            shape=shape,
            **deepening,
        )


class ResNetSpace(FamilySpace):
    """ResNets by depth; the default is ResNet-20."""

    schedule = "step"

    def _add_network(self, whole: ConfigurationSpace) -> None:
        from ConfigSpace import OrdinalHyperparameter

        whole.add(OrdinalHyperparameter("depth", [20, 32, 44, 56, 110], default_value=20))

    def _add_training(self, whole: ConfigurationSpace) -> None:
        whole.add(*_sgd(learning_rate=0.1, weight_decay=1e-4), *_batches(128))

    def network(self, config: Config, shape: ImageShape, *, shake_softmax: bool = False) -> nn.Module:
        """See :meth:`Space.network`."""
        from hpbandster_lite.workers.networks.resnet import ResNet

        return ResNet(config["depth"], shape)
