"""Refusals and notes about validation images that are too few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpbandster_lite.workers.images.enough_images import precision_note, verdict_on
from hpbandster_lite.workers.images.image_data import Groups, Labelled
from hpbandster_lite.workers.images.metric_names import Metric
from hpbandster_lite.workers.images.splits import Division

NAMES = ("cat", "dog", "eel")


def refused(
    labels: list[int], metric: Metric = "error", *, groups: np.ndarray | None = None, **division: Any
) -> str | None:
    named = None if groups is None else Groups(groups, tuple(map(str, range(50))))
    labelled = Labelled(np.array(labels), NAMES, named)
    return verdict_on(labelled, Division(**division), metric, stratified=True).refusal


@pytest.mark.parametrize("metric", ["error", "balanced_error", "macro_f1", "auroc"])
def test_a_class_of_one_image_is_refused_and_of_two_not(metric: Metric) -> None:
    assert refused([0] * 20 + [1] * 20 + [2] * 2, metric) is None
    assert refused([0] * 20 + [1] * 20 + [2], metric) == (
        "1 of 3 classes ('eel') has no validation image, so no loss would count it; each class needs 2 images outside "
        "the test set; give more, or remove the class"
    )


def test_only_a_metric_of_the_classes_refuses_a_limit_that_leaves_a_class_out() -> None:
    labels = [0] * 20 + [1] * 20 + [2] * 20
    assert refused(labels, valid_images=1) is None
    found = refused(labels, "auroc", valid_images=1)
    assert found is not None
    assert found.startswith("2 of 3 classes (")
    assert ") have no validation image, so no loss would count them; " in found
    assert found.endswith("give more --valid-images and --train-images, or leave them out")


def test_every_fold_needs_every_class() -> None:
    labels = [0] * 20 + [1] * 20 + [2] * 4
    assert refused(labels, folds=4) is None
    found = refused(labels, folds=5)
    assert found is not None
    assert "no validation image in fold" in found
    assert "each class needs 5 images, one for each fold, and one of these has 4; give fewer --folds" in found


def test_a_class_of_one_group_is_refused() -> None:
    labels, groups = [0] * 20 + [1] * 20 + [2] * 8, np.array([*range(20), *range(20), *[30] * 8])
    found = refused(labels, groups=groups)
    assert found is not None
    assert found.startswith("1 of 3 classes ('eel') has no validation image")
    needed = "images of at least 2 groups, one for each side, outside the test set"
    assert found.endswith(f"{needed}; give more, or leave --group out")
    assert refused(labels, groups=np.where(np.arange(48) == 47, 31, groups)) is None


# ------------------------------------------------------------------------------------------------------------ notes


def test_eight_validation_images_tell_no_point_apart_and_five_thousand_do() -> None:
    assert precision_note([4, 4], "error", folds=1, images=80) == (
        "8 validation images cannot tell a point of difference apart: an error of 10 % has a 95 % interval of ±20.8 "
        "points; what helps is more images or --folds 5, which validates with all 80 or a larger --valid-share"
    )
    assert precision_note([2_500, 2_500], "error", folds=1, images=50_000) is None


def test_a_mean_over_classes_is_as_uncertain_as_its_rarest_class() -> None:
    assert precision_note([4_900, 100], "error", folds=1, images=50_000) is None
    found = precision_note([4_900, 100], "balanced_error", folds=1, images=50_000)
    assert found is not None
    assert found.startswith("5,000 validation images, 100 of the rarest class, cannot tell a point")
    assert "±3.0 points" in found
    assert "folds" not in found


def test_folds_are_no_remedy_for_folds() -> None:
    found = precision_note([40, 40], "error", folds=5, images=80)
    assert found is not None
    assert found.endswith("what helps is more images")
