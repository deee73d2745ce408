"""The architecture of a joint network (arXiv:1807.06906), and its number of parameters.

Law of this file: arithmetic only, without torch, so that a configuration can be refused before a network is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpbandster_lite.errors import SpaceError
from hpbandster_lite.workers.networks.image_shape import CIFAR10, ImageShape

FEWEST_CHANNELS = 2
"""Fewest channels of a stage, because each of the two paths of a shortcut needs one. About 0.007 % of the paper's space
has a stage with fewer."""
BLOCK_TYPES = ("post", "pre")
SHORTCUTS = ("paper", "gastaldi")
MODES = ("shake", "even", "keep")
LEVELS = ("image", "batch")
DECAYS = ("constant", "linear")


class BlockPlan(NamedTuple):
    """One block: input and output channels, stride, and number of branches."""

    before: int
    width: int
    stride: int
    branches: int

    @property
    def changes_shape(self) -> bool:
        """Whether its shortcut has convolutions."""
        return self.stride != 1 or self.before != self.width


@dataclass(frozen=True, slots=True, kw_only=True)
class JointArchitecture:
    """A network of main blocks, each a sequence of residual blocks with a number of branches.

    Parameters
    ----------
    blocks
        Number of residual blocks of each main block. Each main block after the first halves the image.
    initial_filters
        Channels of the first convolution.
    widen_factors
        Channels of each main block relative to the main block before; for the first, to the initial filters.
    branches
        Number of residual branches in the blocks of each main block: one uses ShakeDrop, several use Shake-Shake.
    death_rate
        ShakeDrop's probability that a block is disturbed, in [0, 1]. Default: 0.
    death_decay
        ``constant`` (the default, as in the paper): all blocks have the death rate; ``linear``: the rate grows over the
        blocks of the network, up to the death rate at the last block.
    block_type
        ``post`` (the default, as in the paper): twice ReLU-convolution-normalisation; ``pre``: twice
        normalisation-ReLU-convolution, as in a wide ResNet.
    shortcut
        Shortcut of ``post`` blocks that change the shape: ``paper`` (the default), as in the released code, with ReLU
        only on path A, or ``gastaldi``.
    shake_forward, shake_backward, shake_level, shake_softmax
        Options of Shake-Shake, see :class:`~.shake_shake.ShakeShake`. The released code draws by softmax; the default
        is the distribution of the Shake-Shake paper.

    Raises
    ------
    SpaceError
        If lengths differ, or a value is out of range. :meth:`problem` reports a stage that is too narrow, because the
        paper's space has such configurations.
    """

    blocks: tuple[int, ...]
    initial_filters: int
    widen_factors: tuple[float, ...]
    branches: tuple[int, ...]
    death_rate: float = 0.0
    death_decay: str = "constant"
    block_type: str = "post"
    shortcut: str = "paper"
    shake_forward: str = "shake"
    shake_backward: str = "shake"
    shake_level: str = "image"
    shake_softmax: bool = False

    def __post_init__(self) -> None:
        lengths = {"blocks": len(self.blocks), "widen_factors": len(self.widen_factors), "branches": len(self.branches)}
        if set(lengths.values()) != {max(1, len(self.blocks))}:
            raise SpaceError(f"give one value for each main block, and at least one main block; got {lengths}")
        for name, values in (("blocks", self.blocks), ("branches", self.branches)):
            if min(values) < 1:
                raise SpaceError(f"{name} must be at least 1 in each main block, got {values}")
        if self.initial_filters < 1:
            raise SpaceError(f"initial_filters must be at least 1, got {self.initial_filters}")
        if not all(0 < factor < math.inf for factor in self.widen_factors):
            raise SpaceError(f"widen_factors must be positive and finite, got {self.widen_factors}")
        if not 0 <= self.death_rate <= 1:
            raise SpaceError(f"death_rate must be a probability from 0 to 1, got {self.death_rate}")
        for name, known in (
            ("death_decay", DECAYS),
            ("block_type", BLOCK_TYPES),
            ("shortcut", SHORTCUTS),
            ("shake_forward", MODES),
            ("shake_backward", MODES),
            ("shake_level", LEVELS),
        ):
            if getattr(self, name) not in known:
                raise SpaceError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if self.shake_forward == self.shake_backward == "keep":
            raise SpaceError("shake_forward and shake_backward are both keep; set one of them to shake or even")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> JointArchitecture:
        """The architecture of a configuration.

        Parameters
        ----------
        config
            ``initial_filters``, and for each main block i from 1 ``nr_residual_blocks_i``, ``widen_factor_i`` and
            ``res_branches_i``. ``nr_main_blocks`` is the number of main blocks; without it, the names determine the
            number. Other fields are read by their names if they are present. Other hyperparameters are ignored.

        Raises
        ------
        SpaceError
            If a hyperparameter is missing or its value is invalid.
        """
        try:
            named = sum(1 for name in config if name.startswith("nr_residual_blocks_"))
            numbers = range(1, int(config.get("nr_main_blocks", named)) + 1)
            required: dict[str, Any] = {
                "blocks": tuple(int(config[f"nr_residual_blocks_{i}"]) for i in numbers),
                "initial_filters": int(config["initial_filters"]),
                "widen_factors": tuple(float(config[f"widen_factor_{i}"]) for i in numbers),
                "branches": tuple(int(config[f"res_branches_{i}"]) for i in numbers),
            }
        except KeyError as missing:
            raise SpaceError(f"the configuration lacks {missing}; it has {', '.join(sorted(config))}") from missing
        own: dict[str, type] = {
            "death_rate": float, "death_decay": str, "block_type": str, "shortcut": str, "shake_forward": str,
            "shake_backward": str, "shake_level": str, "shake_softmax": bool,
        }  # fmt: skip
        return cls(**required, **{name: kind(config[name]) for name, kind in own.items() if name in config})

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each main block; like Python's ``round``, halves are rounded to the even number."""
        widths = []
        width = self.initial_filters
        for factor in self.widen_factors:
            width = round(width * factor)
            widths.append(width)
        return tuple(widths)

    @property
    def plan(self) -> list[list[BlockPlan]]:
        """Blocks of each main block; the first block of each main block after the first halves the image."""
        plan: list[list[BlockPlan]] = []
        before = self.initial_filters
        for main, (width, blocks, branches) in enumerate(zip(self.widths, self.blocks, self.branches, strict=True)):
            strides = [2 if main else 1] + [1] * (blocks - 1)
            befores = [before] + [width] * (blocks - 1)
            plan.append([BlockPlan(b, width, stride, branches) for b, stride in zip(befores, strides, strict=True)])
            before = width
        return plan

    def problem(self) -> str | None:
        """Why the network cannot be built; ``None`` if it can."""
        for number, width in enumerate(self.widths, start=1):
            if width < FEWEST_CHANNELS:
                return (
                    f"main block {number} would have {width} channels; at least {FEWEST_CHANNELS} are needed "
                    f"(initial_filters={self.initial_filters}, widen_factors={self.widen_factors})"
                )
        return None

    def parameter_count(self, shape: ImageShape = CIFAR10) -> int:
        """Number of trained values for images of this shape: weights, and two values for each normalised channel."""
        is_post = self.block_type == "post"
        stem_window = 7**2 if shape.is_large else 3**2
        count = stem_window * shape.channels * self.initial_filters + 2 * self.initial_filters * is_post
        for block in (block for main in self.plan for block in main):
            all_branches = block.branches * block.width
            count += 9 * all_branches * (block.before + block.width) + 2 * all_branches
            count += 2 * all_branches if is_post else 2 * block.before
            if block.changes_shape:
                count += block.before * block.width + 2 * block.width * is_post
        last = self.widths[-1]
        return count + 2 * last * (not is_post) + (last + 1) * shape.classes
