"""Search spaces of the joint network: ``paper``, ``extended`` and ``small``.

Law of this file: ranges and scales of ``paper`` are those of the released code of arXiv:1807.06906; a hyperparameter of
the other two is active only where it acts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpbandster_lite.workers.images.search_space import ADAMW_DECAY, ADAMW_RATE, Config, Space
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.training.schedule import Schedule

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from ConfigSpace.hyperparameters import Hyperparameter
    from torch import nn

MAIN_BLOCKS = 3
"""Of the paper: at 32 x 32 pixels the last one works on 8 x 8."""
MOST_MAIN_BLOCKS = 4
"""Of ``extended``: each one but the first halves the image, so the fourth works on 4 x 4 pixels of CIFAR's 32 x 32."""


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

    As in the paper nothing is conditional and nothing has a chosen default, although ``death_rate`` acts only if a main
    block has one branch. There is no bound on parameters: half of the space is below 1.5 million, 3.4 % above 100
    million, and a network that does not fit a GPU fails as out of memory.

    The paper's integers are rounded floats from (lower - 0.5, upper + 0.5), some on a log scale; ours are buckets with
    the same borders, so their probabilities are the same.
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
    """``paper`` and more, each hyperparameter active only where it acts.

    The number of main blocks (hyperparameters of an absent block are inactive), the block type, the shortcut of the
    paper's block, modes and level of Shake-Shake if a main block has several branches, rate and decay of ShakeDrop if
    one has a single branch, the optimizer with its hyperparameters, label smoothing, warm-up, and the schedule.
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
        # An inactive number of branches, of an absent main block, satisfies neither condition.
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
    one has the initial filters. Blocks of one branch are plain residual blocks (without ShakeDrop, which is for deep
    networks). The ranges are textbook ranges around usual values for residual networks, which are the defaults.
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
