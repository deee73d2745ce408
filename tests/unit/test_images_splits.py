"""The split of training and validation images: fixed, disjoint, in the paper's shares."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.splits import (
    apart_for_test,
    checked_count,
    classes_without,
    folds_of,
    split_rows,
    validation_count,
)

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=200).map(lambda labels: np.array(labels, dtype=np.int64))
SHARES = st.floats(0.01, 0.99)


@given(labels=LABELS, share=SHARES, seed=st.integers(0, 100), stratified=st.booleans())
def test_every_image_trains_or_validates_and_none_does_both(
    labels: np.ndarray, share: float, seed: int, stratified: bool
) -> None:
    split = split_rows(labels, valid_share=share, seed=seed, stratified=stratified)
    assert sorted([*split.training, *split.validation]) == list(range(len(labels)))
    assert 1 <= len(split.validation) < len(labels)
    if not stratified:
        assert len(split.validation) == min(max(round(share * len(labels)), 1), len(labels) - 1)


def test_cifar_is_split_into_45000_and_5000() -> None:
    split = split_rows(np.zeros(50_000, dtype=np.int64))
    assert (len(split.training), len(split.validation)) == (45_000, 5_000)


@given(labels=LABELS, share=SHARES)
def test_a_stratified_split_takes_each_classs_share_to_within_one_image(labels: np.ndarray, share: float) -> None:
    split = split_rows(labels, valid_share=share, stratified=True)
    for name in np.unique(labels):
        ideal = validation_count(len(labels), share) * np.mean(labels == name)
        assert abs(np.sum(labels[split.validation] == name) - ideal) < 1 + 1e-9


@given(labels=LABELS, share=SHARES)
def test_every_class_with_two_images_trains_and_validates(labels: np.ndarray, share: float) -> None:
    split = split_rows(labels, valid_share=share, stratified=True)
    for name, count in zip(*np.unique(labels, return_counts=True), strict=True):
        if count > 1:
            assert name in labels[split.training]
            assert name in labels[split.validation]


@given(labels=LABELS)
def test_a_class_gives_a_test_image_only_if_two_remain(labels: np.ndarray) -> None:
    train, test = apart_for_test(labels)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for name, count in zip(*np.unique(labels, return_counts=True), strict=True):
        assert count < 3 or name in labels[test]
        assert np.sum(labels[train] == name) >= min(count, 2) or np.unique(labels, return_counts=True)[1].max() < 3


# ------------------------------------------------------------------------------------------------------------ folds


@given(labels=LABELS, folds=st.integers(2, 10))
def test_folds_have_every_image_once_and_each_class_evenly(labels: np.ndarray, folds: int) -> None:
    if len(labels) < folds:
        with pytest.raises(ImageDataError, match=f"{len(labels)} training images do not make {folds} folds"):
            folds_of(labels, folds)
        return
    parts = folds_of(labels, folds)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for name in np.unique(labels):
        counts = [np.sum(labels[part] == name) for part in parts]
        assert max(counts) - min(counts) <= 1


# ----------------------------------------------------------------------------------------------------------- groups


def patients(n: int, sizes: tuple[int, int], classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups: every patient has images of one class, as in many clinics."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(*sizes, n, endpoint=True)
    return np.repeat(np.arange(n) % classes, counts), np.repeat(np.arange(n), counts)


GROUPED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=4, max_size=150).map(np.array)


@given(pairs=GROUPED, share=st.floats(0.05, 0.5), folds=st.integers(2, 5))
def test_no_group_is_on_two_sides(pairs: np.ndarray, share: float, folds: int) -> None:
    labels, groups = pairs.T
    if len(np.unique(groups)) < max(folds, 3):
        with pytest.raises(ImageDataError, match=r"cannot be divided into . parts without a group in two of them"):
            folds_of(labels, 6, groups=groups)
        return
    split = split_rows(labels, valid_share=share, groups=groups, stratified=True)
    in_folds = folds_of(labels, folds, groups=groups)
    for parts in ([split.training, split.validation], apart_for_test(labels, groups), in_folds):
        assert sorted(np.concatenate(parts)) == list(range(len(labels)))
        assert all(map(len, parts))
        found = [set(groups[part]) for part in parts]
        assert sum(map(len, found)) == len(set(groups))


@pytest.mark.parametrize("seed", range(3))
def test_a_grouped_split_is_stratified_as_well_as_the_groups_allow(seed: int) -> None:
    labels, groups = patients(120, (1, 9), 3, seed)
    split = split_rows(labels, groups=groups, valid_share=0.2)
    assert len(split.validation) == pytest.approx(0.2 * len(labels), abs=2)
    for name in range(3):
        assert np.mean(labels[split.validation] == name) == pytest.approx(np.mean(labels == name), abs=0.02)
    for part in folds_of(labels, 5, groups=groups):
        assert len(part) == pytest.approx(len(labels) / 5, abs=3)
        assert np.bincount(labels[part], minlength=3) / len(part) == pytest.approx(
            np.bincount(labels) / len(labels), abs=0.04
        )


def test_a_class_of_two_patients_trains_and_validates_and_is_not_tested() -> None:
    # Class 1 has two large patients, class 0 forty small ones.
    labels = np.repeat([0, 1, 1], [80, 30, 31])
    groups = np.concatenate([np.arange(80) // 2, np.repeat([100, 101], [30, 31])])
    train, test = apart_for_test(labels, groups)
    assert set(labels[test]) == {0}
    assert len(test) == pytest.approx(0.15 * 141, abs=8)
    split = split_rows(labels[train], groups=groups[train])
    assert set(labels[train][split.training]) == set(labels[train][split.validation]) == {0, 1}


def test_a_class_of_one_patient_is_trained() -> None:
    labels, groups = np.repeat([0, 1], [80, 5]), np.concatenate([np.arange(80) // 2, np.full(5, 100)])
    split = split_rows(labels, groups=groups)
    assert set(labels[split.training]) == {0, 1}
    assert classes_without(split.validation, labels, ("a", "b")) == ["b"]


def test_many_groups_are_divided_in_little_time() -> None:
    labels, groups = patients(3_000, (1, 30), 10, 0)
    began = time.process_time()
    split = split_rows(labels, groups=groups)
    assert time.process_time() - began < 5
    assert len(split.validation) == pytest.approx(0.1 * len(labels), rel=0.001)


def test_the_split_by_groups_is_the_same_for_ever() -> None:
    labels, groups = np.arange(12) % 2, np.arange(12) // 3
    assert split_rows(labels, groups=groups, valid_share=0.25).validation.tolist() == [2, 1, 0]
    assert [sorted(part.tolist()) for part in folds_of(labels, 2)] == [[3, 6, 7, 8, 10, 11], [0, 1, 2, 4, 5, 9]]


def test_the_split_is_the_same_for_ever_and_another_with_another_seed() -> None:
    labels = np.arange(10) % 2
    split = split_rows(labels, valid_share=0.2)
    assert split.validation.tolist() == [2, 8]
    assert split.training.tolist() == [4, 9, 1, 6, 7, 3, 0, 5]
    assert split_rows(labels, valid_share=0.2, seed=1).training.tolist() != split.training.tolist()
    assert split_rows(labels, valid_share=0.2, stratified=True).validation.tolist() == [2, 9]


@given(labels=LABELS, share=SHARES)
def test_the_number_of_validation_images_is_known_beforehand(labels: np.ndarray, share: float) -> None:
    assert len(split_rows(labels, valid_share=share).validation) == validation_count(len(labels), share)


@pytest.mark.parametrize("asked", [0, -1, 10])
def test_more_images_than_there_are_and_no_images_are_refused(asked: int) -> None:
    with pytest.raises(ImageDataError, match=f"train_images must be from 1 to 9.* got {asked}"):
        checked_count("train_images", asked, 9)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_of_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ImageDataError, match=r"valid_share must be between 0 and 1, got .* 0\.1 is usual"):
        split_rows(np.zeros(10, dtype=np.int64), valid_share=share)


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(ImageDataError, match="1 training images cannot be split"):
        split_rows(np.zeros(1, dtype=np.int64))
