"""Your own images from a folder of class folders.

Law of this file: every picture in a class folder, at any depth, is one image; a picture that cannot be read is an
error and is never skipped.

There are two layouts: class folders, where a fixed share of each class becomes the test set; or folders ``train`` and
``test`` that contain the class folders. Without ``test``, ``val`` is the test set; with both, ``val`` belongs to the
training images, of which every search uses a fixed part as validation images.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError, Labels, Pixels
from hpbandster_lite.workers.images.picture import read_picture, with_channels
from hpbandster_lite.workers.images.splits import with_test_set_apart

logger = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VALID_NAMES = ("val", "valid", "validation")

Sample = tuple[Path, str]
"""A picture and the name of its class."""


def read_folder(folder: Path, size: tuple[int, int] | None = None) -> ImageData:
    """Read all pictures below a folder.

    Parameters
    ----------
    folder
        A folder in one of the two layouts.
    size
        Height and width to which all pictures are resized. Default: ``None``; then all pictures must have the same
        size.

    Raises
    ------
    ImageDataError
        If the folder does not exist, it or a class has no pictures, a picture is broken or has more than 8 bits per
        channel, or the pictures have several sizes.
    """
    if not folder.is_dir():
        raise ImageDataError(f"--data {folder} does not exist; give a folder of class folders, or an .npz file")
    parts = {child.name.lower(): child for child in _folders(folder)}
    train = [parts[name] for name in TRAIN_NAMES if name in parts]
    test = [parts[name] for name in TEST_NAMES if name in parts]
    valid = [parts[name] for name in VALID_NAMES if name in parts]
    if train and (test or valid):
        return _in_two_parts(folder, train + valid if test else train, test or valid, size)
    samples = _samples(folder)
    names = tuple(sorted({name for _, name in samples}))
    pixels = _pixels(folder, [file for file, _ in samples], size)
    return with_test_set_apart(str(folder), pixels, _labels(samples, names), names)


def _in_two_parts(folder: Path, train: list[Path], test: list[Path], size: tuple[int, int] | None) -> ImageData:
    names_of = [" and ".join(part.name for part in parts) for parts in (train, test)]
    logger.info("%s: training and validation images from %s, test images from %s", folder, *names_of)
    train_samples = [sample for part in train for sample in _samples(part)]
    test_samples = [sample for part in test for sample in _samples(part)]
    names = tuple(sorted({name for _, name in train_samples}))
    if unknown := {name for _, name in test_samples} - set(names):
        raise ImageDataError(
            f"{folder}: class {sorted(unknown)} has test images but no training images; the folders of "
            f"{names_of[0]} and {names_of[1]} must have the same names"
        )
    # Read all pictures together, because they determine colour and size together.
    pixels = _pixels(folder, [file for file, _ in train_samples + test_samples], size)
    n = len(train_samples)
    return ImageData(
        source=str(folder),
        train_x=pixels[:n],
        train_y=_labels(train_samples, names),
        test_x=pixels[n:],
        test_y=_labels(test_samples, names),
        class_names=names,
    )


def _folders(folder: Path) -> list[Path]:
    """The class folders, sorted; folders of tools (``.git``, ``__MACOSX``) are left out."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))


def _samples(folder: Path) -> list[Sample]:
    """All pictures of all classes, in a fixed order."""
    classes = _folders(folder)
    if not classes:
        raise ImageDataError(f"{folder} has no folders; put the pictures of each class into a folder in it")
    samples: list[Sample] = []
    for of_class in classes:
        files = [
            Path(place, name)
            for place, _, names in os.walk(of_class, followlinks=True)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
        if not files:
            raise ImageDataError(
                f"class {of_class.name!r} is empty: {of_class} has no picture ({' '.join(sorted(SUFFIXES))}); add "
                "pictures or remove the folder"
            )
        samples += [(file, of_class.name) for file in sorted(files)]
    return samples


def _labels(samples: Iterable[Sample], names: tuple[str, ...]) -> Labels:
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[name] for _, name in samples], dtype=np.int64)


def _pixels(folder: Path, files: list[Path], size: tuple[int, int] | None) -> Pixels:
    """All pictures as one array, with one channel if all are grey, else with three."""
    pictures = [read_picture(file, size) for file in files]
    sizes = Counter(picture.shape[:2] for picture in pictures)
    if len(sizes) > 1:
        counts = ", ".join(f"{height}x{width} ({count:,})" for (height, width), count in sizes.most_common(3))
        height, width = sizes.most_common(1)[0][0]
        raise ImageDataError(
            f"{folder}: the pictures have {len(sizes)} sizes: {counts}{', ...' if len(sizes) > 3 else ''}; resize "
            f"them to the same size, for example with size=({height}, {width})"
        )
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    (height, width), _ = sizes.popitem()
    pixels = np.empty((len(pictures), channels, height, width), dtype=np.uint8)
    for i, picture in enumerate(pictures):
        pixels[i] = with_channels(picture, channels)
    return pixels

