"""The shape of images, as a network needs it: channels, height, width, classes.

Law of this file: no torch, so that a configuration can be refused before a network is built.
"""

from __future__ import annotations

from typing import NamedTuple

LARGEST_AS_IT_IS = 96
"""Side in pixels of the largest square image that a network processes at full size (STL-10's)."""


class ImageShape(NamedTuple):
    """Channels, height and width of images, and number of classes; the defaults are CIFAR-10's."""

    channels: int = 3
    height: int = 32
    width: int = 32
    classes: int = 10

    @property
    def is_large(self) -> bool:
        """Whether an image has more than 96 x 96 pixels; networks first shrink such an image to a quarter of each side.

        At 224 x 224 pixels (X-ray pictures), a CIFAR network would need 49 times the computation as at 32 x 32; with
        such a stem it needs three times.
        """
        return self.height * self.width > LARGEST_AS_IT_IS**2


CIFAR10 = ImageShape()
CIFAR100 = ImageShape(classes=100)
