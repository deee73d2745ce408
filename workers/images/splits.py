"""Splits training images into training and validation images, and your own images into these and test images.

Law of this file: a split depends only on the labels, the groups, its arguments and the seed, so that all configurations
of all searches are compared on the same images. The default share of validation images is as in arXiv:1807.06906: 5,000
of CIFAR-10's 50,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpbandster_lite.workers.images.grouped_parts import grouped_parts
from hpbandster_lite.workers.images.image_data import Groups, ImageData, ImageDataError, Labelled, Labels, Pixels

VALID_SHARE = 0.1
SPLIT_SEED = 0
TEST_SHARE = 0.15
"""Share of your own images for the test set, if they have none."""
TEST_SEED = 0

Rows = npt.NDArray[np.int64]


class Division(NamedTuple):
    """How the images outside the test set are divided into training and validation images.

    Parameters
    ----------
    valid_share
        Share of validation images. Default: 0.1.
    folds
        Number of folds, each of which validates a training with the others. Default: 1, for one division by the share.
    train_images, valid_images
        Number of images of each side, the first ones in the fixed order. Default: ``None``, for all.
    """

    valid_share: float = VALID_SHARE
    folds: int = 1
    train_images: int | None = None
    valid_images: int | None = None

    @property
    def of_all(self) -> Division:
        """The division without limits."""
        return self._replace(train_images=None, valid_images=None)

    @property
    def is_limited(self) -> bool:
        """Whether a number of images is given."""
        return self != self.of_all

    def rows(self, labelled: Labelled, *, stratified: bool) -> tuple[Split, ...]:
        """The rows of each fold, without the limits."""
        groups = None if labelled.groups is None else labelled.groups.numbers
        return sides_of(
            labelled.labels, valid_share=self.valid_share, folds=self.folds, stratified=stratified, groups=groups
        )


ONE_TENTH = Division()


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint rows of the training file in a fixed order; a subset uses the first rows."""

    training: Rows
    validation: Rows


def split_rows(
    labels: Rows,
    *,
    valid_share: float = VALID_SHARE,
    seed: int = SPLIT_SEED,
    stratified: bool = False,
    groups: Rows | None = None,
    least: int = 1,
) -> Split:
    """Split the rows of the training images.

    Parameters
    ----------
    labels
        Class of each training image, shape (n,).
    valid_share
        Share of validation images, in (0, 1); see :func:`validation_count`. Default: 0.1.
    seed
        Seed of the shuffle. Default: 0.
    stratified
        Whether each class gives its share of validation images, to within one image, and at least one if it has more
        than ``least`` images. The first training images are still a random sample of all classes. Default: False.
    groups
        A number for the group of each image: all images of a group are on one side, and each class gives its share as
        well as the groups allow. Default: None, for images that are independent.
    least
        Images of each class that stay training images if the split is stratified. Default: 1.

    Raises
    ------
    ImageDataError
        For a share outside (0, 1), fewer than two images, or fewer than two groups.
    """
    if not 0 < valid_share < 1:
        raise ImageDataError(f"valid_share must be between 0 and 1, got {valid_share}; 0.1 is usual")
    n = len(labels)
    if n < 2:
        raise ImageDataError(f"{n} training images cannot be split into training and validation; give more images")
    order = _shuffled(n, seed)
    if groups is not None:
        part = grouped_parts(labels[order], groups[order], (1 - valid_share, valid_share))
        return Split(training=order[part == 0], validation=order[part == 1])
    n_valid = validation_count(n, valid_share)
    if not stratified:
        return Split(training=order[n_valid:], validation=order[:n_valid])
    is_validation = _first_of_each_class(labels[order], n_valid, least)
    return Split(training=order[~is_validation], validation=order[is_validation])


def sides_of(
    labels: Rows, *, valid_share: float = VALID_SHARE, folds: int = 1, stratified: bool = False,
    groups: Rows | None = None,
) -> tuple[Split, ...]:  # fmt: skip
    """The rows of each fold: training and validation; one fold is a division by the share."""
    if folds == 1:
        return (split_rows(labels, valid_share=valid_share, stratified=stratified, groups=groups),)
    parts = folds_of(labels, folds, groups=groups)
    # The training images of a fold are those of the folds after it, and then of those before it.
    return tuple(
        Split(training=np.concatenate([*parts[number + 1 :], *parts[:number]]), validation=part)
        for number, part in enumerate(parts)
    )


def folds_of(
    labels: Rows, folds: int, *, seed: int = SPLIT_SEED, groups: Rows | None = None
) -> tuple[Rows, ...]:
    """The rows of the training images in ``folds`` disjoint parts, each of which validates once.

    Each class is distributed evenly, to within one image, or as well as the groups allow.

    Raises
    ------
    ImageDataError
        If there are fewer images, or fewer groups, than folds.
    """
    order = _shuffled(len(labels), seed)
    if groups is not None:
        part = grouped_parts(labels[order], groups[order], (1 / folds,) * folds)
    elif len(labels) < folds:
        raise ImageDataError(f"{len(labels)} training images do not make {folds} folds; give fewer folds")
    else:
        part = np.empty(len(labels), dtype=np.int64)
        # Dealt class by class, so that the sizes of the folds differ by one image at most.
        part[np.argsort(labels[order], kind="stable")] = np.arange(len(labels)) % folds
    return tuple(order[part == fold] for fold in range(folds))


def validation_count(n: int, valid_share: float = VALID_SHARE) -> int:
    """Number of validation images among n: the share, rounded, with at least one image on each side."""
    return min(max(round(valid_share * n), 1), n - 1)


def _shuffled(n: int, seed: int) -> Rows:
    # RandomState, because numpy guarantees its stream; the stream of default_rng may change with a release.
    return np.random.RandomState(seed).permutation(n).astype(np.int64)


def _first_of_each_class(labels: Rows, n_chosen: int, least: int) -> npt.NDArray[np.bool_]:
    """Choose about ``n_chosen`` images, the first of each class: its share rounded down, then by largest remainder.

    A class with more than ``least`` images gives at least one and keeps ``least``; more are chosen if that requires it.
    """
    classes, counts = np.unique(labels, return_counts=True)
    ideal = n_chosen * counts / len(labels)
    most = np.maximum(counts - least, 0)
    quota = np.minimum(np.maximum(np.floor(ideal + 1e-9).astype(np.int64), 1), most)
    room = most if most.any() else counts
    # Stable, so that classes with the same remainder keep their order.
    largest = [i for i in np.argsort(quota - ideal, kind="stable") if quota[i] < min(room[i], ideal[i])]
    quota[largest[: max(n_chosen - quota.sum(), 0)]] += 1
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for name, count in zip(classes, quota, strict=True):
        chosen[np.flatnonzero(labels == name)[:count]] = True
    return chosen


def checked_count(name: str, asked: int | None, most: int) -> int:
    """Number of images of a subset; ``None`` means all.

    Raises
    ------
    ImageDataError
        If the number is below one or above the number of images.
    """
    if asked is None:
        return most
    if not 1 <= asked <= most:
        raise ImageDataError(f"{name} must be from 1 to {most}, the number of such images; got {asked}")
    return asked


def with_test_set_apart(
    source: str, x: Pixels, y: Labels, class_names: tuple[str, ...], groups: Groups | None = None
) -> ImageData:
    """Make ``TEST_SHARE`` of the images the test set, always the same images, with each class in its share."""
    train, test = apart_for_test(y, None if groups is None else groups.numbers)
    return ImageData(
        source=source, train_x=x[train], train_y=y[train], test_x=x[test], test_y=y[test], class_names=class_names,
        train_groups=None if groups is None else groups.of(train),
        test_groups=None if groups is None else groups.of(test),
    )  # fmt: skip


def apart_for_test(labels: Rows, groups: Rows | None = None) -> tuple[Rows, Rows]:
    """The rows of your own images for training and validation, and those for the test.

    A class gives a test image only if it has two others (or a group if it has two others), for training and validation.
    Both are in the order of the file, so that only the split into training and validation shuffles.
    """
    if groups is None:
        split = split_rows(labels, valid_share=TEST_SHARE, seed=TEST_SEED, stratified=True, least=2)
        return np.sort(split.training), np.sort(split.validation)
    order = _shuffled(len(labels), TEST_SEED)
    rest = 1 - TEST_SHARE
    part = np.empty(len(labels), dtype=np.int64)
    # In three parts, so that what remains can be divided again.
    shares = ((1 - VALID_SHARE) * rest, VALID_SHARE * rest, TEST_SHARE)
    part[order] = grouped_parts(labels[order], groups[order], shares)
    return np.flatnonzero(part < 2), np.flatnonzero(part == 2)


def classes_without(rows: Rows, labels: Rows, class_names: Sequence[str]) -> list[str]:
    """The classes of which none of these rows is."""
    counts = np.bincount(labels[rows], minlength=len(class_names))
    return [name for name, count in zip(class_names, counts, strict=True) if count == 0]
