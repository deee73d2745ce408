"""Images in memory: a training and a test set with the same shape and the same classes.

Law of this file: images from every source are uint8, (n, channels, height, width), and are checked when the record is
made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.image_shape import ImageShape

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


class ImageDataError(UsageError):
    """Images that cannot be read, are damaged, or do not fit the arguments; the message names the file or argument."""


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Groups of images that belong together, such as those of one patient.

    Attributes
    ----------
    numbers
        The number of the group of each image, int64, shape (n,).
    names
        The name of each group.
    """

    numbers: Labels
    names: tuple[str, ...]

    def of(self, rows: npt.NDArray[np.int64] | slice) -> Groups:
        """The groups of these images."""
        return Groups(self.numbers[rows], self.names)


class Labelled(NamedTuple):
    """The images outside the test set without their pixels.

    Attributes
    ----------
    labels
        Classes from 0, int64, shape (n,).
    class_names
        One name for each class.
    groups
        The groups of the images, if they have some.
    """

    labels: Labels
    class_names: tuple[str, ...]
    groups: Groups | None = None

    @property
    def group_notes(self) -> list[str]:
        """How many groups there are."""
        if self.groups is None:
            return []
        count = len(np.unique(self.groups.numbers))
        return [f"{len(self.labels):,} images for training and validation are of {count:,} groups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageData:
    """The images of a data set.

    Attributes
    ----------
    source
        Source of the images, for messages.
    train_x, test_x
        Images, uint8, shape (n, channels, height, width).
    train_y, test_y
        Classes from 0, int64, shape (n,).
    class_names
        One name for each class.
    train_groups, test_groups
        The groups of the images, if they have some.

    Raises
    ------
    ImageDataError
        If there are fewer than two classes, a set or a class has no images, the arrays do not match, or a group has
        training and test images.
    """

    source: str
    train_x: Pixels
    train_y: Labels
    test_x: Pixels
    test_y: Labels
    class_names: tuple[str, ...]
    train_groups: Groups | None = None
    test_groups: Groups | None = None

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise ImageDataError(
                f"{self.source} must have at least two classes, got {list(self.class_names)}; add images of another "
                "class"
            )
        for part, x, y in (("training", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if not len(x):
                raise ImageDataError(f"{self.source} has no {part} images; give at least one of each class")
            if len(x) != len(y):
                raise ImageDataError(
                    f"{self.source}: {len(x):,} {part} images but {len(y):,} labels; give one label for each image"
                )
            if y.min() < 0 or y.max() >= len(self.class_names):
                raise ImageDataError(
                    f"{self.source}: labels of {part} images range from {y.min()} to {y.max()}, but there are "
                    f"{len(self.class_names)} classes; labels must be 0 ... {len(self.class_names) - 1}"
                )
        if self.train_x.shape[1:] != self.test_x.shape[1:]:
            raise ImageDataError(
                f"{self.source}: training images are {self.train_x.shape[1:]} (channels, height, width) but test "
                f"images are {self.test_x.shape[1:]}; give all images the same size"
            )
        counts = np.bincount(self.train_y, minlength=len(self.class_names))
        if not counts.all():
            empty = [self.class_names[i] for i in np.flatnonzero(counts == 0)]
            raise ImageDataError(f"{self.source}: no training image of class {empty}; add images or remove the class")

        if self.train_groups is not None and self.test_groups is not None:
            refuse_in_both(self.source, self.train_groups, self.test_groups)

    @property
    def labelled(self) -> Labelled:
        """The images outside the test set without their pixels."""
        return Labelled(self.train_y, self.class_names, self.train_groups)

    @property
    def shape(self) -> ImageShape:
        """The shape of the images, with the number of classes."""
        _, channels, height, width = self.train_x.shape
        return ImageShape(channels, height, width, len(self.class_names))


def refuse_in_both(source: str, train: Groups, test: Groups) -> None:
    """Refuse groups with training and test images; both have the same names.

    Raises
    ------
    ImageDataError
        With some of these groups.
    """
    both = np.intersect1d(train.numbers, test.numbers)
    if len(both):
        named = ", ".join(repr(train.names[number]) for number in both[:3]) + (", ..." if len(both) > 3 else "")
        raise ImageDataError(
            f"{source}: {len(both):,} group{'s have' if len(both) > 1 else ' has'} training and test images ({named}), "
            "so the test error would be too low; put all images of a group into one of the two, or all images into one "
            "set, from which test images are taken by groups"
        )
