"""Reading images: four known data sets by their names, and anybody's own from a folder or an ``.npz``.

Law of this file: whatever the source, what comes out is :class:`ImageData`, and a process reads it once.

The known sets are looked for in ``--data DIR``, else in the folder that the environment variable HPBANDSTER_LITE_DATA
names, else in ``~/.cache/hpbandster_lite/data`` (XDG_CACHE_HOME is respected), and are downloaded to it where there is
a network.
"""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path

from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError

DATA_SETS = ("cifar10", "cifar100", "mnist", "fashion_mnist", "images")
ENVIRONMENT_VARIABLE = "HPBANDSTER_LITE_DATA"

Size = int | tuple[int, int]
"""Side of a square in pixels, or height and width."""

_one_at_a_time = threading.Lock()

__all__ = ["DATA_SETS", "ENVIRONMENT_VARIABLE", "ImageData", "Size", "read_images"]


def read_images(data_set: str, data: Path | str | None = None, *, size: Size | None = None) -> ImageData:
    """Read a data set; a second call with the same arguments costs nothing.

    Parameters
    ----------
    data_set
        One of ``DATA_SETS``. ``images`` are one's own: a folder of class folders, with or without ``train`` and
        ``test`` above them, or an ``.npz`` file.
    data
        Folder (or ``.npz`` file); the default is said above, and ``images`` has none but the environment variable.
    size
        For ``images``: resize all of them; ``None``: take them as they are, which must be of one size.

    Raises
    ------
    ImageDataError
        For an unknown name, and when the images cannot be had, are damaged, or are of no use.
    """
    if data_set not in DATA_SETS:
        raise ImageDataError(f"there is no data set {data_set!r}; known are {', '.join(DATA_SETS)}")
    if size is not None and data_set != "images":
        raise ImageDataError(f"size={size} is for the data set images; {data_set} comes in one size")
    # One thread at a time: two that ask for the same images would both read them.
    with _one_at_a_time:
        return _read(data_set, place_of(data_set, data), _height_and_width(size))


def place_of(data_set: str, data: Path | str | None) -> Path:
    """The folder or file that is read."""
    given = data or os.environ.get(ENVIRONMENT_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    if data_set == "images":
        raise ImageDataError(
            "say where the images are: --data DIR for a folder with one folder for each class, or --data FILE.npz; "
            f"or set the environment variable {ENVIRONMENT_VARIABLE}"
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
    if data_set != "images":
        from hpbandster_lite.workers.images.catalogue_files import read_known

        return read_known(data_set, place)
    if place.is_file():
        from hpbandster_lite.workers.images.npz_file import read_npz

        return read_npz(place, size)
    from hpbandster_lite.workers.images.class_folders import read_folder

    return read_folder(place, size)
