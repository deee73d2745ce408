"""The images on the device: one copy, views of it, one normalisation, and a test set that is read only on request."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hpbandster_lite.workers.images import device_images
from hpbandster_lite.workers.images.device_images import (
    all_for_refit,
    channel_mean_and_std,
    divided,
    images_for_test,
    training_and_validation,
)
from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError
from hpbandster_lite.workers.images.read_images import ImageSource, read_images
from hpbandster_lite.workers.images.splits import Division, sides_of, split_rows
from hpbandster_lite.workers.networks.image_shape import ImageShape


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 training and 10 test images of 3x6x5, three classes."""
    rng = np.random.default_rng(0)
    file = tmp_path / "images.npz"
    np.savez(
        file,
        x_train=rng.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8), y_train=np.arange(40) % 3,
        x_test=rng.integers(0, 256, (10, 6, 5, 3), dtype=np.uint8), y_test=np.arange(10) % 3,
    )  # fmt: skip
    return file


def test_training_and_validation_are_the_images_of_the_split_in_its_order(data: Path) -> None:
    images = read_images("images", data)
    split = split_rows(images.train_y, stratified=True)
    train, validation = training_and_validation("cpu", ImageSource("images", data))
    for part, rows in ((train, split.training), (validation, split.validation)):
        assert np.array_equal(part.x.numpy(), images.train_x[rows])
        assert np.array_equal(part.y.numpy(), images.train_y[rows])
        assert (part.x.dtype, part.y.dtype) == (torch.uint8, torch.int64)
        assert part.x.is_contiguous(memory_format=torch.channels_last)
        assert part.shape == ImageShape(3, 6, 5, 3)


def test_the_split_of_published_images_is_shuffled_and_not_stratified(monkeypatch: pytest.MonkeyPatch) -> None:
    made = published_images()
    monkeypatch.setattr(device_images, "read_images", lambda *_: made)
    train, _ = training_and_validation("cpu", ImageSource("mnist", "/nowhere"))
    rows = split_rows(made.train_y, stratified=False).training
    assert np.array_equal(train.y.numpy(), made.train_y[rows])


def test_every_part_shares_one_memory_and_a_second_call_costs_nothing(data: Path) -> None:
    train, validation = training_and_validation("cpu", ImageSource("images", data))
    again, _ = training_and_validation("cpu", ImageSource("images", data), train_images=7)
    everything = all_for_refit("cpu", ImageSource("images", data))
    storages = {part.x.untyped_storage().data_ptr() for part in (train, validation, again, everything)}
    assert len(storages) == 1
    assert (len(train), len(validation), len(again), len(everything)) == (36, 4, 7, 40)
    # A part is the first images of the fixed order.
    assert torch.equal(again.x, train.x[:7])
    # Fewer training images do not change the validation images.
    _, judges = training_and_validation("cpu", ImageSource("images", data), train_images=7, valid_images=3)
    assert torch.equal(judges.x, validation.x[:3])
    assert torch.equal(everything.x, torch.cat([train.x, validation.x]))
    source = ImageSource("images", data)
    assert all_for_refit("cpu", source) is all_for_refit(torch.device("cpu"), source)


def test_a_search_never_brings_the_test_images_to_the_device(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the test images were read")

    with monkeypatch.context() as patched:
        patched.setattr(device_images, "_test_tensors", refuse)
        train, validation = training_and_validation("cpu", ImageSource("images", data))
        all_for_refit("cpu", ImageSource("images", data))
    test = images_for_test("cpu", ImageSource("images", data))
    seen = {image.numpy().tobytes() for part in (train, validation) for image in part.x}
    assert len(test) == 10
    assert not seen & {image.numpy().tobytes() for image in test.x}


def test_every_part_is_normalised_by_the_training_part_alone(data: Path) -> None:
    images = read_images("images", data)
    rows = split_rows(images.train_y, stratified=True).training
    values = images.train_x[rows].astype(np.float64)
    source = ImageSource("images", data)
    train, validation = training_and_validation("cpu", source, train_images=5)
    for part in (train, validation, all_for_refit("cpu", source), images_for_test("cpu", source)):
        assert part.mean.numpy() == pytest.approx(values.mean((0, 2, 3)), rel=1e-6)
        assert part.std.numpy() == pytest.approx(values.std((0, 2, 3)), rel=1e-6)


def test_a_channel_that_never_changes_has_deviation_1() -> None:
    x = np.stack([np.full((4, 3, 3), 9, np.uint8), np.arange(36, dtype=np.uint8).reshape(4, 3, 3)], axis=1)
    mean, std = channel_mean_and_std(x, np.arange(4))
    assert mean.tolist() == [9.0, 17.5]
    assert std == pytest.approx([1.0, np.arange(36).std()])


def published_images() -> ImageData:
    pixels = np.zeros((20, 3, 32, 32), np.uint8)
    labels = np.arange(20) % 10
    return ImageData(
        source="made up", train_x=pixels, train_y=labels, test_x=pixels, test_y=labels, class_names=tuple("0123456789")
    )


def test_cifar10_has_the_constants_of_the_released_code(monkeypatch: pytest.MonkeyPatch) -> None:
    made = published_images()
    monkeypatch.setattr(device_images, "read_images", lambda *_: made)
    train, validation = training_and_validation("cpu", ImageSource("cifar10", "/nowhere/at/all"))
    assert train.mean.tolist() == validation.mean.tolist() == pytest.approx([125.3, 123.0, 113.9])
    assert train.std.tolist() == pytest.approx([63.0, 62.1, 66.7])
    assert (len(train), len(validation)) == (18, 2)


def test_a_batch_holds_the_rows_that_are_asked_for(data: Path) -> None:
    train, _ = training_and_validation("cpu", ImageSource("images", data))
    rows = torch.tensor([5, 0, 35, 5])
    x, y = train.batch(rows)
    assert torch.equal(x, train.x[rows])
    assert torch.equal(y, train.y[rows])
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_more_images_than_there_are_and_no_images_are_refused(data: Path) -> None:
    with pytest.raises(ImageDataError, match=r"train_images must be from 1 to 36, .* got 37"):
        training_and_validation("cpu", ImageSource("images", data), train_images=37)
    with pytest.raises(ImageDataError, match=r"valid_images must be from 1 to 4, .* got 0"):
        training_and_validation("cpu", ImageSource("images", data), valid_images=0)


def test_ones_own_images_need_no_torchvision(data: Path) -> None:
    script = (
        "import sys; from hpbandster_lite.workers.images.device_images import training_and_validation as t;"
        "from hpbandster_lite.workers.images.read_images import ImageSource;"
        f"t('cpu', ImageSource('images', {str(data)!r})); print('torchvision' in sys.modules)"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "False"


def test_folds_share_one_memory_and_each_validates_a_training_with_the_others(data: Path) -> None:
    images, source = read_images("images", data), ImageSource("images", data)
    folds = divided("cpu", source, Division(folds=4))
    rows = sides_of(images.train_y, folds=4, stratified=True)
    for (train, validation), side in zip(folds, rows, strict=True):
        assert sorted([*side.training, *side.validation]) == list(range(40))
        assert np.array_equal(train.x.numpy(), images.train_x[side.training])
        assert np.array_equal(validation.y.numpy(), images.train_y[side.validation])
        for part in (train, validation, images_for_test("cpu", source, train)):
            expected = images.train_x[side.training].astype(np.float64).mean((0, 2, 3))
            assert part.mean.numpy() == pytest.approx(expected, rel=1e-6)
    everything = all_for_refit("cpu", source, Division(folds=4))
    assert len(everything) == 40
    assert everything.mean.numpy() == pytest.approx(images.train_x.astype(np.float64).mean((0, 2, 3)), rel=1e-6)
    storages = {part.x.untyped_storage().data_ptr() for fold in folds for part in (*fold, everything)}
    assert len(storages) == 1
    short = divided("cpu", source, Division(folds=4, train_images=7, valid_images=3))
    assert [(len(train), len(validation)) for train, validation in short] == [(7, 3)] * 4


def test_the_share_of_validation_images_follows_the_option(data: Path) -> None:
    ((train, validation),) = divided("cpu", ImageSource("images", data), Division(valid_share=0.4))
    assert (len(train), len(validation)) == (24, 16)
    assert torch.bincount(validation.y).tolist() == [6, 5, 5]
