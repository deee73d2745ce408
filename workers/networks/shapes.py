"""What a network takes from the data: channels, height, width, classes.

Law of this file: no torch, so that a configuration is refused before anything is built.
"""

from __future__ import annotations

from typing import NamedTuple


class ImageShape(NamedTuple):
    """Images (channels, height, width) in so many classes; the defaults are CIFAR-10's."""

    channels: int = 3
    height: int = 32
    width: int = 32
    classes: int = 10


CIFAR10 = ImageShape()
CIFAR100 = ImageShape(classes=100)
