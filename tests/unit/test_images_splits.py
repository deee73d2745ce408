"""The split of training and validation images: fixed, disjoint, in the paper's shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.splits import checked_count, split_rows, validation_count

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=200).map(lambda labels: np.array(labels, dtype=np.int64))
SHARES = st.floats(0.01, 0.99)


@given(labels=LABELS, share=SHARES, seed=st.integers(0, 100), stratified=st.booleans())
def test_every_image_trains_or_validates_and_none_does_both(
    labels: np.ndarray, share: float, seed: int, stratified: bool
) -> None:
    split = split_rows(labels, valid_share=share, seed=seed, stratified=stratified)
    assert sorted([*split.training, *split.validation]) == list(range(len(labels)))
    assert len(split.validation) == min(max(round(share * len(labels)), 1), len(labels) - 1)


def test_cifar_is_split_into_45000_and_5000() -> None:
    split = split_rows(np.zeros(50_000, dtype=np.int64))
    assert (len(split.training), len(split.validation)) == (45_000, 5_000)


@given(labels=LABELS, share=SHARES)
def test_a_stratified_split_takes_each_classs_share_to_within_one_image(labels: np.ndarray, share: float) -> None:
    split = split_rows(labels, valid_share=share, stratified=True)
    for name in np.unique(labels):
        ideal = len(split.validation) * np.mean(labels == name)
        assert abs(np.sum(labels[split.validation] == name) - ideal) < 1


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
