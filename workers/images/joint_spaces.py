"""Search spaces of the joint network: ``paper``, ``extended`` and ``small``.

Law of this file: ``paper`` has the ranges and scales of the released code of arXiv:1807.06906. In ``extended`` and
``small`` a hyperparameter is active only if it has an effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpbandster_lite.workers.images.recipe_hyperparameters import add_optimizers, steadying
from hpbandster_lite.workers.images.search_space import Config, Space
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.training.schedule import Schedule

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from ConfigSpace.hyperparameters import Hyperparameter
    from torch import nn

MAIN_BLOCKS = 3
"""Number of main blocks in the paper: with images of 32 x 32 pixels, the last one processes 8 x 8."""
MOST_MAIN_BLOCKS = 4
"""Most main blocks in ``extended``: each one after the first halves the image, so with CIFAR's 32 x 32 pixels the
fourth processes 4 x 4."""


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
        """See :meth:`Space.parameter_count`; this space computes it without torch."""
        return self.architecture(config).parameter_count(shape)

    def refusal(self, config: Config, shape: ImageShape, max_parameters: int | None) -> str | None:
        """See :meth:`Space.refusal`; a main block with fewer than two channels is refused too."""
        return self.architecture(config).problem() or super().refusal(config, shape, max_parameters)


class PaperSpace(JointSpace):
    """The 17 hyperparameters of arXiv:1807.06906, with its ranges and scales.

    As in the paper, there are no conditions and no chosen defaults, although ``death_rate`` has an effect only if a
    main block has one branch. There is no bound on parameters: half of the space has fewer than 1.5 million, 3.4 % has
    more than 100 million, and a network that does not fit into a GPU fails with a lack of memory.

    The paper's integers are rounded floats from (lower - 0.5, upper + 0.5), some on a log scale. Here they are integers
    whose buckets have the same borders, and so the same probabilities.
    """

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`; the space does not search the schedule."""
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
    """``paper`` and further hyperparameters, each active only if it has an effect.

    It adds the number of main blocks (hyperparameters of an absent block are inactive), the block type, the shortcut of
    the paper's block, modes and level of Shake-Shake if a main block has several branches, rate and decay of ShakeDrop
    if a main block has one branch, the optimizer with its hyperparameters, label smoothing, warm-up, gradient clipping,
    an average of the weights, and the schedule.
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
        # The number of branches of an absent main block is inactive and satisfies neither condition.
        *(OrConjunction(*(EqualsCondition(its, number, 1) for number in branches)) for its in drop),
        *(OrConjunction(*(GreaterThanCondition(its, number, 1) for number in branches)) for its in shake),
    )


def _add_recipe(whole: ConfigurationSpace, schedule: Schedule | None) -> None:
    from ConfigSpace import Categorical, Float, Integer

    of_sgd = [
        Float("learning_rate", (1e-3, 1.0), log=True, default=0.1),
        Float("momentum", (1e-3, 0.99), default=0.9),
        Float("weight_decay", (1e-5, 1e-3), log=True, default=1e-4),
    ]
    add_optimizers(whole, of_sgd)
    whole.add(
        Integer("batch_size", (32, 256), log=True, default=128),
        Float("alpha", (0.0, 1.0), default=0.2),
        Integer("length", (0, 20), default=16),
        *steadying(),
    )
    if schedule is None:
        # Without nested, which requires other budgets.
        whole.add(Categorical("schedule", ["restarts", "cosine", "step"], default="cosine"))


class SmallSpace(JointSpace):
    """Small joint networks for one CPU core: an epoch of 5,000 images of 28 x 28 pixels takes seconds.

    There are 19 hyperparameters. Main blocks 2 and 3 have the same widening factor, and all three have the same
    number of branches; the first has the initial filters. Blocks with one branch are plain residual blocks, because
    ShakeDrop is for deep networks. The defaults are usual values for residual networks, and the ranges are textbook
    ranges around them.
    """

    schedule = "cosine"
    max_parameters = 100_000

    def space(self, *, schedule: Schedule | None = None) -> ConfigurationSpace:
        """See :meth:`Space.space`; the space does not search the schedule."""
        from ConfigSpace import ConfigurationSpace, Float, Integer

        whole = ConfigurationSpace()
        whole.add(
            Integer("initial_filters", (4, 16), log=True, default=8),
            Float("widen_factor", (1.0, 2.5), default=2.0),
            *(Integer(f"nr_residual_blocks_{i}", (1, 2), default=1) for i in range(1, MAIN_BLOCKS + 1)),
            Integer("res_branches", (1, 2), default=1),
            Integer("batch_size", (32, 128), log=True, default=64),
            Float("alpha", (0.0, 0.5), default=0.0),
            Integer("length", (0, 12), default=0),
            *steadying(),
        )
        of_sgd = [
            Float("learning_rate", (1e-2, 1.0), log=True, default=0.1),
            Float("weight_decay", (1e-5, 1e-2), log=True, default=5e-4),
            Float("momentum", (0.5, 0.99), default=0.9),
        ]
        add_optimizers(whole, of_sgd)
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
