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
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES
from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError

ENVIRONMENT_VARIABLE = "HPBANDSTER_LITE_DATA"

Size: TypeAlias = int | tuple[int, int]
"""Side of a square in pixels, or height and width."""

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
    """

    data_set: str
    data: Path | str | None = None
    size: Size | None = None


def read_images(data_set: str, data: Path | str | None = None, size: Size | None = None) -> ImageData:
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
        return _read(data_set, place_of(data_set, data), _height_and_width(size))


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


def _height_and_width(size: Size | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = size if isinstance(size, tuple) else (size, size)
    if height < 1 or width < 1:
        raise ImageDataError(f"size must be at least 1 pixel, got {size=}")
    return height, width


@functools.lru_cache(maxsize=4)
def _read(data_set: str, place: Path, size: tuple[int, int] | None) -> ImageData:
    if data_set != OWN_IMAGES:
        from hpbandster_lite.workers.images.catalogue_files import read_published

        return read_published(data_set, place)
    if place.is_file():
        from hpbandster_lite.workers.images.npz_file import read_npz

        return read_npz(place, size)
    from hpbandster_lite.workers.images.class_folders import read_folder

    return read_folder(place, size)
