"""The search spaces of image classifiers by name: one row each; a new row is a new value of ``--space``."""

from __future__ import annotations

from collections.abc import Mapping

from hpbandster_lite.errors import UsageError, did_you_mean
from hpbandster_lite.workers.images.family_spaces import ResNetSpace, ShakeShakeSpace, WideResNetSpace
from hpbandster_lite.workers.images.joint_spaces import ExtendedSpace, PaperSpace, SmallSpace
from hpbandster_lite.workers.images.search_space import Space

SPACES: Mapping[str, Space] = {
    "paper": PaperSpace(),
    "extended": ExtendedSpace(),
    "small": SmallSpace(),
    "shake_shake": ShakeShakeSpace(),
    "wide_resnet": WideResNetSpace(),
    "resnet": ResNetSpace(),
}


def space_named(name: str) -> Space:
    """The space with this name.

    Raises
    ------
    UsageError
        If there is no such space.
    """
    if name not in SPACES:
        raise UsageError(f"there is no space {name!r}{did_you_mean(name, SPACES, otherwise='choose one of')}")
    return SPACES[name]
