"""What a network takes from the data: channels, height, width, classes.

Law of this file: no torch, so that a configuration is refused before anything is built.
"""

from __future__ import annotations

from typing import NamedTuple

LARGEST_AS_IT_IS = 96
"""Pixels of the side of the largest square image that a network takes at full size (STL-10 has this many)."""


class ImageShape(NamedTuple):
    """Images (channels, height, width) in so many classes; the defaults are CIFAR-10's."""

    channels: int = 3
    height: int = 32
    width: int = 32
    classes: int = 10

    @property
    def is_large(self) -> bool:
        """More pixels than 96 x 96: networks then begin by shrinking the image to a quarter of its height and width.

        A CIFAR network at 224 x 224 (X-ray pictures) would cost 49 times as much as at 32 x 32; behind such a stem it
        costs three times as much.
        """
        return self.height * self.width > LARGEST_AS_IT_IS**2


CIFAR10 = ImageShape()
CIFAR100 = ImageShape(classes=100)
