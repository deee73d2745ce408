"""Your own images from a folder of class folders.

Law of this file: every picture in a class folder, at any depth, is one image, unless :mod:`.picture_findings` leaves it
out, with words. A file that is no picture is never passed over in silence, either.

There are two layouts: class folders, where a fixed share of each class becomes the test set; or folders ``train`` and
``test`` that contain the class folders. Without ``test``, ``val`` is the test set; with both, ``val`` belongs to the
training images, of which every search uses a fixed part as validation images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hpbandster_lite.workers.images.groups import groups_of_pictures
from hpbandster_lite.workers.images.image_data import (
    Groups,
    ImageData,
    ImageDataError,
    Labelled,
    Labels,
    refuse_in_both,
)
from hpbandster_lite.workers.images.picture import Preparation
from hpbandster_lite.workers.images.picture_cache import Pictures, decoded, pixels_folder, replace_file
from hpbandster_lite.workers.images.picture_findings import Findings, Kept, LookedSample, Sample, findings_in, refuse
from hpbandster_lite.workers.images.picture_look import OnProgress, list_file, look_at_folder
from hpbandster_lite.workers.images.picture_processes import Item
from hpbandster_lite.workers.images.read_how import ReadHow
from hpbandster_lite.workers.images.splits import apart_for_test, with_test_set_apart

SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing")
VALID_NAMES = ("val", "valid", "validation")


class Listing(NamedTuple):
    """The files of a folder.

    Attributes
    ----------
    folder
        The folder.
    train
        The pictures for training and validation, in a fixed order; all pictures if there is no test set.
    test
        The pictures of the test set; None if it is a share of ``train``.
    others
        Files of other kinds, relative to the folder.
    """

    folder: Path
    train: list[Sample]
    test: list[Sample] | None
    others: list[str]

    @property
    def samples(self) -> list[Sample]:
        """All pictures: those of ``train``, then those of ``test``."""
        return self.train + (self.test or [])


def read_folder(folder: Path, how: ReadHow) -> ImageData:
    """Read all pictures below a folder.

    Parameters
    ----------
    folder
        A folder in one of the two layouts.
    how
        Size, aspect, what happens with unusual pictures, and the folder of the cache.

    Raises
    ------
    ImageDataError
        If the folder does not exist, it or a class has no pictures, the pictures have several sizes, or something was
        found in them that ``how`` refuses.
    """
    findings = look_at_classes(folder, how)
    refuse(findings)
    kept = findings.kept
    labels = labels_of(folder, kept, how.group)
    looked = kept.train + (kept.test or [])
    first = looked[0].looked.seen
    height, width = how.size or (first.height, first.width)
    channels = max(sample.looked.seen.channels for sample in looked)
    pixels = decoded(
        Pictures(
            files=[
                Item(number, f"{folder}/{sample.looked.name}", sample.looked.n_bytes)
                for number, sample in enumerate(looked)
            ],
            digests=[sample.looked.seen.digest for sample in looked],
            shape=(channels, height, width),
            preparation=Preparation(how.size, how.aspect, ()),
        ),
        pixels_folder(how.cache),
    )
    if kept.test is None:
        return with_test_set_apart(str(folder), pixels, labels.train_y, labels.class_names, labels.train_groups)
    n = len(kept.train)
    return ImageData(source=str(folder), train_x=pixels[:n], test_x=pixels[n:], **labels._asdict())


class FolderLabels(NamedTuple):
    """Classes and groups of the pictures of a folder; all are ``train`` if the test set is a share of them."""

    train_y: Labels
    test_y: Labels
    class_names: tuple[str, ...]
    train_groups: Groups | None
    test_groups: Groups | None

    def outside_test(self, source: str) -> Labelled:
        """The images outside the test set.

        Raises
        ------
        ImageDataError
            If a group has training and test images.
        """
        groups = self.train_groups
        if not len(self.test_y):
            rows, _ = apart_for_test(self.train_y, None if groups is None else groups.numbers)
            return Labelled(self.train_y[rows], self.class_names, None if groups is None else groups.of(rows))
        if groups is not None and self.test_groups is not None:
            refuse_in_both(source, groups, self.test_groups)
        return Labelled(self.train_y, self.class_names, groups)


def labels_of(folder: Path, kept: Kept, group: str | None) -> FolderLabels:
    """Classes and groups of the pictures that are used.

    Raises
    ------
    ImageDataError
        If the groups cannot be found.
    """
    n, looked = len(kept.train), kept.train + (kept.test or [])
    names = tuple(sorted({sample.class_name for sample in kept.train}))
    y = _labels((sample.class_name for sample in looked), names)
    groups = None
    if group is not None:
        groups = groups_of_pictures(folder, [sample.looked.name for sample in looked], group)
    first, last = slice(0, n), slice(n, None)
    return FolderLabels(y[first], y[last], names, groups and groups.of(first), groups and groups.of(last))


def look_at_classes(folder: Path, how: ReadHow, on_progress: OnProgress | None = None) -> Findings:
    """What is in a folder; the pictures themselves are looked at once, see :mod:`.picture_look`.

    Raises
    ------
    ImageDataError
        If the folder has none of the two layouts.
    """
    listing = listed(folder)
    samples = listing.samples
    looked = look_at_folder(folder, [sample.name for sample in samples], how.cache, on_progress)
    n = len(listing.train)
    seen = [LookedSample(each, sample.class_name) for sample, each in zip(samples, looked, strict=True)]
    findings = findings_in(folder, seen[:n], None if listing.test is None else seen[n:], listing.others, how)
    if not findings.names_are_cut:
        return findings
    file = list_file(folder, how.cache)
    try:
        replace_file(file, findings.name_list.encode("utf-8", "backslashreplace"))
    except OSError:
        return findings
    return findings._replace(list_file=file)


def listed(folder: Path) -> Listing:
    """The files of a folder, without a look at their content.

    Raises
    ------
    ImageDataError
        If it has none of the two layouts.
    """
    if not folder.is_dir():
        raise ImageDataError(f"--data {folder} does not exist; give a folder of class folders, or an .npz file")
    parts = {child.name.lower(): child for child in _folders(folder)}
    train = [parts[name] for name in TRAIN_NAMES if name in parts]
    test = [parts[name] for name in TEST_NAMES if name in parts]
    valid = [parts[name] for name in VALID_NAMES if name in parts]
    others: list[str] = []
    if not (train and (test or valid)):
        return Listing(folder, _samples(folder, folder, others), None, others)
    in_train, in_test = (train + valid, test) if test else (train, valid)
    train_samples = [sample for part in in_train for sample in _samples(folder, part, others)]
    test_samples = [sample for part in in_test for sample in _samples(folder, part, others)]
    if unknown := {sample.class_name for sample in test_samples} - {sample.class_name for sample in train_samples}:
        raise ImageDataError(
            f"{folder}: class {sorted(unknown)} has test images but no training images; the folders of "
            f"{_named(in_train)} and {_named(in_test)} must have the same names"
        )
    return Listing(folder, train_samples, test_samples, others)


def _named(parts: list[Path]) -> str:
    return " and ".join(part.name for part in parts)


def _folders(folder: Path) -> list[Path]:
    """The class folders, sorted; folders of tools (``.git``, ``__MACOSX``) are left out."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))


def _samples(root: Path, folder: Path, others: list[str]) -> list[Sample]:
    """All pictures of all classes, in a fixed order; files of other kinds are added to ``others``."""
    classes = _folders(folder)
    if not classes:
        raise ImageDataError(f"{folder} has no folders; put the pictures of each class into a folder in it")
    samples: list[Sample] = []
    for of_class in classes:
        above = len(str(root).rstrip("/")) + 1
        files = [file[above:] for file in sorted(_files(of_class), key=_parts)]
        pictures = [file for file in files if Path(file).suffix.lower() in SUFFIXES]
        foreign = [file for file in files if Path(file).suffix.lower() not in SUFFIXES]
        if not pictures:
            has = f"; it has {len(foreign):,} other files, such as {foreign[0]}" if foreign else ""
            raise ImageDataError(
                f"class {of_class.name!r} is empty: {of_class} has no picture ({' '.join(sorted(SUFFIXES))}){has}; "
                "add pictures or remove the folder"
            )
        others += foreign
        samples += [Sample(file, of_class.name) for file in pictures]
    return samples


def _files(folder: Path) -> Iterator[str]:
    """All files at any depth; a link to a folder above itself is not followed without end."""
    passed: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in passed:
            folders.clear()
            continue
        passed.add((status.st_dev, status.st_ino))
        yield from (f"{place}/{name}" for name in names if not name.startswith("."))


def _parts(file: str) -> list[str]:
    """The order of files, as that of paths: folder by folder."""
    return file.split("/")


def _labels(class_names: Iterable[str], names: tuple[str, ...]) -> Labels:
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[name] for name in class_names], dtype=np.int64)
