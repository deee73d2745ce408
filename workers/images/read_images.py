"""Reads images: the data sets of the catalogue by their names, and your own images from a folder or an ``.npz`` file.

Law of this file: the result for every source is :class:`ImageData`, and a process reads it once.

A data set of the catalogue is read from ``--data DIR``, else from the folder of the environment variable
HPBANDSTER_LITE_DATA, else from ``~/.cache/hpbandster_lite/data`` (or the folder of XDG_CACHE_HOME). If it is not there,
it is downloaded to that folder.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES
from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError, Labelled
from hpbandster_lite.workers.images.picture import Aspect, Unusual
from hpbandster_lite.workers.images.read_how import ReadHow

ENVIRONMENT_VARIABLE = "HPBANDSTER_LITE_DATA"

Size: TypeAlias = int | tuple[int, int]
"""Side of a square in pixels, or height and width."""

MOST_CLASSES = 10
"""Classes that a note names."""

_one_at_a_time = threading.Lock()


class ImageSource(NamedTuple):
    """The images to read, and their location.

    Parameters
    ----------
    data_set
        A name of the catalogue, or ``images`` for your own images: a folder of class folders, with or without ``train``
        and ``test`` above them, or an ``.npz`` file.
    data
        Folder (or ``.npz`` file). Default: the folder in the text of this file; ``images`` has only the environment
        variable as its default.
    size
        Only for ``images``: the size to which all are resized. Default: ``None``; then all must have the same size.
    aspect
        How a picture of another shape is brought to the size. Default: ``"squeeze"``.
    unusual
        What happens with pictures that lose something or cannot be read; ``"auto"`` as in searches that began before
        there was a choice: they are converted, and copies are used. Default: ``"refuse"``.
    cache
        Folder for decoded pixels and for what was found. Default: ``None``, for the default folders.
    group
        Only for ``images``: what names the group of each image; see :mod:`.groups`. Default: ``None``, for no groups.
    """

    data_set: str
    data: Path | str | None = None
    size: Size | None = None
    aspect: Aspect = "squeeze"
    unusual: Unusual = "refuse"
    cache: Path | None = None
    group: str | None = None

    @property
    def how(self) -> ReadHow:
        """How your own images are read."""
        return ReadHow(_height_and_width(self.size), self.aspect, self.unusual, self.cache, self.group)


def read_images(
    data_set: str,
    data: Path | str | None = None,
    size: Size | None = None,
    aspect: Aspect = "squeeze",
    unusual: Unusual = "refuse",
    cache: Path | None = None,
    group: str | None = None,
) -> ImageData:
    """Read the images of an :class:`ImageSource`; a second call with the same arguments takes no time.

    Raises
    ------
    ImageDataError
        For an unknown name, or if the images cannot be found, are damaged, or cannot be used.
    """
    if data_set not in (known := (*CATALOGUE, OWN_IMAGES)):
        raise ImageDataError(f"there is no data set {data_set!r}; known are {', '.join(known)}")
    if size is not None and data_set != OWN_IMAGES:
        raise ImageDataError(f"size={size} is only for the data set images, not for {data_set}; leave size out")
    # One thread at a time, because two threads with the same request would both read the images.
    with _one_at_a_time:
        how = ReadHow(_height_and_width(size), aspect, unusual, cache, group)
        return _read(data_set, place_of(data_set, data), how)


def place_of(data_set: str, data: Path | str | None) -> Path:
    """The folder or file of the images."""
    given = data or os.environ.get(ENVIRONMENT_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    if data_set == OWN_IMAGES:
        raise ImageDataError(
            "the data set images requires --data DIR, a folder with one folder for each class, or --data FILE.npz; "
            f"you can also set the environment variable {ENVIRONMENT_VARIABLE}"
        )
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "hpbandster_lite" / "data"


class Look(NamedTuple):
    """What is found in your own images before anything is trained.

    Attributes
    ----------
    notes
        Sentences about them.
    refusal
        Why they are refused; None if they can be used.
    labelled
        The images outside the test set; None if they are refused, or are those of the catalogue.
    """

    notes: list[str]
    refusal: str | None = None
    labelled: Labelled | None = None


def look_at_images(source: ImageSource, on_progress: Callable[[str], object] | None = None) -> Look:
    """Look at your own images before anything is trained.

    Parameters
    ----------
    source
        The images.
    on_progress
        Receives words about a look that takes long. Default: ``None``, for the log.
    """
    notes: list[str] = []
    try:
        place = place_of(source.data_set, source.data)
        if source.data_set != OWN_IMAGES:
            return Look([])
        if place.is_file():
            images = read_images(*source)
            return Look([_about(images), *_copies(images)], None, images.labelled)
        from hpbandster_lite.workers.images.class_folders import labels_of, look_at_classes
        from hpbandster_lite.workers.images.picture_findings import refusal_text

        findings = look_at_classes(place, source.how, on_progress)
        notes = findings.all_notes
        if findings.refusals:
            return Look(notes, refusal_text(findings))
        return Look(notes, None, labels_of(place, findings.kept, source.group).outside_test(str(place)))
    except ImageDataError as error:
        return Look(notes, str(error))


def _about(images: ImageData) -> str:
    classes = np.bincount(np.concatenate([images.train_y, images.test_y]), minlength=len(images.class_names))
    counts = zip(images.class_names, classes, strict=True)
    named = ", ".join(f"{name} {n:,}" for name, n in sorted(counts, key=lambda each: -each[1])[:MOST_CLASSES])
    more = f", and {len(classes) - MOST_CLASSES:,} more classes" if len(classes) > MOST_CLASSES else ""
    return (
        f"{images.source}: {len(images.train_y):,} images for training and validation, {len(images.test_y):,} for "
        f"test: {named}{more}"
    )


def _copies(images: ImageData) -> list[str]:
    """Notes about equal images of an array file, whose images may have few values and be equal by chance."""
    train, test = ([row.tobytes() for row in x] for x in (images.train_x, images.test_x))
    classes: dict[bytes, set[int]] = defaultdict(set)
    for content, label in zip([*train, *test], [*images.train_y.tolist(), *images.test_y.tolist()], strict=True):
        classes[content].add(label)
    known = set(train)
    counts = {
        "test images that are also for training or validation, so that the test error is too low": sum(
            content in known for content in test
        ),
        "images with copies in several classes": sum(len(found) > 1 for found in classes.values()),
        "copies of an image, which a split may put on two sides": len(train) - len(known),
    }
    return [f"{what}: {n:,}" for what, n in counts.items() if n]


def _height_and_width(size: Size | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = size if isinstance(size, tuple) else (size, size)
    if height < 1 or width < 1:
        raise ImageDataError(f"size must be at least 1 pixel, got {size=}")
    return height, width


@functools.lru_cache(maxsize=4)
def _read(data_set: str, place: Path, how: ReadHow) -> ImageData:
    if data_set != OWN_IMAGES:
        from hpbandster_lite.workers.images.catalogue_files import read_published

        return read_published(data_set, place)
    if place.is_file():
        from hpbandster_lite.workers.images.npz_file import read_npz

        return read_npz(place, how.size, how.aspect, how.group)
    from hpbandster_lite.workers.images.class_folders import read_folder

    return read_folder(place, how)
