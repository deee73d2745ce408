"""The shape of images, as a network needs it: channels, height, width, classes.

Law of this file: no torch, so that a configuration is refused before anything is built.
"""

from __future__ import annotations

from typing import NamedTuple

LARGEST_AS_IT_IS = 96
"""Side in pixels of the largest square image that a network processes at full size (that of STL-10)."""


class ImageShape(NamedTuple):
    """Channels, height and width of images, and number of classes; the defaults are CIFAR-10's."""

    channels: int = 3
    height: int = 32
    width: int = 32
    classes: int = 10

    @property
    def is_large(self) -> bool:
        """Whether an image has more pixels than 96 x 96; networks then first shrink it to a quarter of each side.

        A CIFAR network at 224 x 224 (X-ray pictures) would cost 49 times as much as at 32 x 32; with such a stem it
        costs three times as much.
        """
        return self.height * self.width > LARGEST_AS_IT_IS**2


CIFAR10 = ImageShape()
CIFAR100 = ImageShape(classes=100)
