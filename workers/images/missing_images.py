"""What an image problem lacks on this host: libraries, or the files of its images.

Law of this file: it only looks whether files exist, and imports neither torch nor torchvision, so that a host without
them can say what is missing.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES, DataSet
from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.read_images import ENVIRONMENT_VARIABLE, place_of

LIBRARIES = ("torch",)
DOWNLOADS = "torchvision"
"""The library that downloads data sets."""


def missing_images(data_set: str, data: Path | str | None) -> str | None:
    """What is missing, where it was looked for, and the remedy; None if nothing is.

    Parameters
    ----------
    data_set, data
        See :class:`~hpbandster_lite.workers.images.read_images.ImageSource`.
    """
    try:
        place = place_of(data_set, data)
    except ImageDataError as error:
        return str(error)
    if data_set != OWN_IMAGES:
        return _missing_published(data_set, place)
    if place.exists():
        return None
    return (
        f"the images are missing: {place} does not exist; give a folder with one folder for each class, or an .npz "
        f"file, with the option data (--data) or the environment variable {ENVIRONMENT_VARIABLE}; if only the hosts of "
        "workers have it, the first worker looks at the images before its first evaluation"
    )


def is_published(data_set: str) -> bool:
    """Whether a data set can be downloaded here."""
    return data_set in CATALOGUE and all(find_spec(name) for name in (*LIBRARIES, DOWNLOADS))


def missing_libraries(names: tuple[str, ...] = LIBRARIES) -> str | None:
    """The libraries that are not installed, and the remedy; None if all are."""
    absent = [name for name in names if find_spec(name) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)}, which the problem needs to train, cannot be imported here; install what is missing"


def _missing_published(data_set: str, root: Path) -> str | None:
    known = CATALOGUE[data_set]
    looked_in = _looked_in(known, root)
    if any(_is_complete(known, folder) for folder in looked_in):
        return None
    archive = root / known.archive
    if known.archive and archive.is_file():
        return None
    named = f"the folder {known.folder} or the archive {known.archive}" if known.archive else "its four files"
    searched = [*looked_in, *([archive] if known.archive else [])]
    package = f", or {known.system_package}" if known.system_package else ""
    return (
        f"{data_set} is missing: looked for {named} in {', '.join(map(str, searched))}; workers download it to {root} "
        f"before their first evaluation, or stop; without a network, put {named} into a folder and give it with the "
        f"option data (--data DIR) or the environment variable {ENVIRONMENT_VARIABLE}{package}"
    )


def _looked_in(known: DataSet, root: Path) -> list[Path]:
    if known.file_format == "cifar":
        return [root if root.name == known.folder else root / known.folder]
    folders = [root / known.torchvision_class / "raw", root]
    return folders if known.system_folder is None else [*folders, known.system_folder]


def _is_complete(known: DataSet, folder: Path) -> bool:
    endings = ("",) if known.file_format == "cifar" else ("", ".gz")
    return all(
        any((folder / f"{name}{ending}").is_file() for ending in endings) for name in known.files or known.content_md5
    )
