"""Whether the validation images suffice: each class needs one, and a point of difference needs thousands.

Law of this file: arithmetic on labels; a refusal and a note say what to change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hpbandster_lite.workers.images.catalogue import DataSet
from hpbandster_lite.workers.images.image_data import Labelled
from hpbandster_lite.workers.images.metric_names import OF_CLASSES, Metric
from hpbandster_lite.workers.images.splits import Division, Split, classes_without, validation_count

SHOWN = 3
USUAL_ERROR = 0.1
"""Error for which a note gives the interval."""
Z = 1.96
FEW_IMAGES = 5_000
"""Up to so many images folds are affordable."""


class Verdict(NamedTuple):
    """Why a division cannot judge a network, and that it cannot tell a point of difference apart; None if it can."""

    refusal: str | None
    note: str | None


def verdict_on(labelled: Labelled, division: Division, metric: Metric, *, stratified: bool) -> Verdict:
    """Whether the images of a division suffice for a metric.

    Raises
    ------
    ImageDataError
        If the images cannot be divided.
    """
    sides = [
        Split(side.training[: division.train_images], side.validation[: division.valid_images])
        for side in division.rows(labelled, stratified=stratified)
    ]
    refused = refusal(sides, labelled, metric, is_limited=division.is_limited)
    validating = labelled.labels[np.concatenate([side.validation for side in sides])]
    counts = np.bincount(validating, minlength=len(labelled.class_names)).tolist()
    note = precision_note(counts, metric, folds=len(sides), images=len(labelled.labels))
    return Verdict(refused, note)


def verdict_on_sizes(known: DataSet, division: Division, metric: Metric) -> Verdict:
    """The same from the size of a data set of the catalogue, whose classes are about equally large."""
    whole = known.training_images
    n = whole if division.folds > 1 else validation_count(whole, division.valid_share)
    if division.valid_images is not None:
        n = min(n, division.valid_images * division.folds)
    classes = known.shape.classes
    counts = [n * (i + 1) // classes - n * i // classes for i in range(classes)]
    return Verdict(None, precision_note(counts, metric, folds=division.folds, images=whole))


def refusal(sides: Sequence[Split], labelled: Labelled, metric: Metric, *, is_limited: bool) -> str | None:
    """Why these sides cannot judge a network; None if they can.

    Parameters
    ----------
    sides
        The rows of each fold.
    labelled
        All images outside the test set.
    metric
        The metric of the loss.
    is_limited
        Whether ``--train-images`` or ``--valid-images`` limits the sides; then only a metric of the classes needs all.
    """
    if is_limited and metric not in OF_CLASSES:
        return None
    for number, side in enumerate(sides):
        for part, rows in (("training", side.training), ("validation", side.validation)):
            lacking = classes_without(rows, labelled.labels, labelled.class_names)
            if lacking:
                where = f"{part} image{f' in fold {number}' if len(sides) > 1 else ''}"
                remedy = _remedy(len(sides), _fewest(lacking, labelled), labelled.groups is not None, is_limited)
                return f"{_named(lacking, labelled)} no {where}, so no loss would count {_them(lacking)}; {remedy}"
    return None


def _named(lacking: Sequence[str], labelled: Labelled) -> str:
    names = ", ".join(map(repr, lacking[:SHOWN])) + (", ..." if len(lacking) > SHOWN else "")
    verb = "has" if len(lacking) == 1 else "have"
    return f"{len(lacking)} of {len(labelled.class_names)} classes ({names}) {verb}"


def _them(lacking: Sequence[str]) -> str:
    return "it" if len(lacking) == 1 else "them"


def _fewest(lacking: Sequence[str], labelled: Labelled) -> int:
    counts = np.bincount(labelled.labels, minlength=len(labelled.class_names))
    return int(min(counts[labelled.class_names.index(name)] for name in lacking))


def _remedy(folds: int, fewest: int, has_groups: bool, is_limited: bool) -> str:
    if is_limited:
        return "give more --valid-images and --train-images, or leave them out"
    if has_groups:
        needed = f"{folds} groups (--folds {folds})" if folds > 1 else "2 groups, one for each side,"
        return f"each class needs images of at least {needed} outside the test set; give more, or leave --group out"
    if folds > 1:
        return f"each class needs {folds} images, one for each fold, and one of these has {fewest}; give fewer --folds"
    return "each class needs 2 images outside the test set; give more, or remove the class"


def precision_note(counts: Sequence[int], metric: Metric, *, folds: int, images: int) -> str | None:
    """That the validation images cannot tell a point of difference apart; None if they can.

    Parameters
    ----------
    counts
        Validation images of each class, of all folds together.
    metric
        The metric of the loss.
    folds
        Number of folds.
    images
        Number of images outside the test set.
    """
    n = sum(counts)
    present = [count for count in counts if count]
    # A mean over classes is as certain as the error on so many images.
    effective = len(present) ** 2 / sum(1 / count for count in present) if metric in OF_CLASSES else n
    points = 100 * Z * math.sqrt(USUAL_ERROR * (1 - USUAL_ERROR) / effective)
    if points <= 1:
        return None
    remedies = ["more images"]
    if folds == 1 and images <= FEW_IMAGES:
        remedies.append(f"--folds 5, which validates with all {images:,}")
    if folds == 1:
        remedies.append("a larger --valid-share")
    rare = f", {min(present):,} of the rarest class," if metric in OF_CLASSES else ""
    return (
        f"{n:,} validation images{rare} cannot tell a point of difference apart: an error of {100 * USUAL_ERROR:.0f} % "
        f"has a 95 % interval of ±{points:.1f} points; what helps is {' or '.join(remedies)}"
    )
