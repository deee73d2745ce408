"""Splits training images into training and validation images, and your own images into these and test images.

Law of this file: a split depends only on the labels, its arguments and the seed, so that all configurations of all
searches are compared on the same images. The share of validation images is as in arXiv:1807.06906: 5,000 of CIFAR-10's
50,000.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError, Labels, Pixels

VALID_SHARE = 0.1
SPLIT_SEED = 0
TEST_SHARE = 0.15
"""Share of your own images for the test set, if they have none."""
TEST_SEED = 0

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint rows of the training file in a fixed order; a subset uses the first rows."""

    training: Rows
    validation: Rows


def split_rows(
    labels: Rows, *, valid_share: float = VALID_SHARE, seed: int = SPLIT_SEED, stratified: bool = False
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
        Whether each class gives its share of validation images, to within one image. The first training images are
        still a random sample of all classes. Default: False.

    Raises
    ------
    ImageDataError
        For a share outside (0, 1), or fewer than two images.
    """
    if not 0 < valid_share < 1:
        raise ImageDataError(f"valid_share must be between 0 and 1, got {valid_share}; 0.1 is usual")
    n = len(labels)
    if n < 2:
        raise ImageDataError(f"{n} training images cannot be split into training and validation; give more images")
    # RandomState, because numpy guarantees its stream; the stream of default_rng may change with a release.
    order = np.random.RandomState(seed).permutation(n).astype(np.int64)
    n_valid = validation_count(n, valid_share)
    if not stratified:
        return Split(training=order[n_valid:], validation=order[:n_valid])
    is_validation = _first_of_each_class(labels[order], n_valid)
    return Split(training=order[~is_validation], validation=order[is_validation])


def validation_count(n: int, valid_share: float = VALID_SHARE) -> int:
    """Number of validation images among n: the share, rounded, with at least one image on each side."""
    return min(max(round(valid_share * n), 1), n - 1)


def _first_of_each_class(labels: Rows, n_chosen: int) -> npt.NDArray[np.bool_]:
    """Choose ``n_chosen`` images, the first ones of each class: its share rounded down, then by largest remainder."""
    classes, counts = np.unique(labels, return_counts=True)
    ideal = n_chosen * counts / len(labels)
    quota = np.floor(ideal + 1e-9).astype(np.int64)
    # Stable, so that classes with the same remainder keep their order.
    largest = np.argsort(quota - ideal, kind="stable")
    quota[largest[: n_chosen - quota.sum()]] += 1
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


def with_test_set_apart(source: str, x: Pixels, y: Labels, class_names: tuple[str, ...]) -> ImageData:
    """Make ``TEST_SHARE`` of the images the test set, always the same images, with each class in its share."""
    split = split_rows(y, valid_share=TEST_SHARE, seed=TEST_SEED, stratified=True)
    # In the order of the file, so that only the split into training and validation shuffles.
    train, test = np.sort(split.training), np.sort(split.validation)
    return ImageData(
        source=source, train_x=x[train], train_y=y[train], test_x=x[test], test_y=y[test], class_names=class_names
    )
