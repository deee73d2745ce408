"""A deployed model sees a picture as the search saw it: upright, converted and resized by one function."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from hpbandster_lite.workers.images.device_images import images_for_test
from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.picture import picture_pixels, read_picture, with_channels
from hpbandster_lite.workers.images.read_images import ImageSource, read_images
from hpbandster_lite.workers.images.search_spaces import SPACES
from hpbandster_lite.workers.images.trained_classifier import ImageClassifier

ORIENTATION = 0x0112
SIDE = 12
SMALL = {
    "initial_filters": 4, "widen_factor": 1.0, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1,
    "nr_residual_blocks_3": 1, "res_branches": 1,
}  # fmt: skip


def noise(seed: int, *shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def folder_of_pictures(folder: Path, mode: str) -> None:
    """Pictures of several sizes, some of them with an orientation of a camera."""
    for number, (part, name) in enumerate([(part, name) for part in ("train", "test") for name in "ab"] * 4):
        picture = Image.fromarray(noise(number, 20 + number, 31, 3)).convert(mode)
        exif = Image.Exif()
        exif[ORIENTATION] = (1, 3, 6, 8)[number % 4]
        place = folder / part / name
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{number:02}.jpg", exif=exif, quality=95)


def model_for(folder: Path) -> ImageClassifier:
    data = read_images("images", folder, SIDE)
    torch.manual_seed(0)
    network = SPACES["small"].network(SMALL, data.shape)
    channels = data.shape.channels
    mean, std = torch.full((channels,), 120.0), torch.full((channels,), 60.0)
    return ImageClassifier(network, mean, std, data.shape, data.class_names, {}).eval()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_files_are_classified_exactly_as_the_search_judged_them(mode: str, tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, mode)
    model = model_for(tmp_path)
    files = sorted((tmp_path / "test").rglob("*.jpg"))
    judged = images_for_test("cpu", ImageSource("images", tmp_path, SIDE))
    found, expected = model.classify(files), model.classify(judged.x)
    assert torch.equal(found.probabilities, expected.probabilities)
    assert found.names == expected.names


def test_a_picture_is_the_same_as_its_file_and_as_its_array(tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, "RGB")
    model, file = model_for(tmp_path), tmp_path / "picture.png"
    pixels = noise(1, 40, 17, 3)
    Image.fromarray(pixels).save(file)
    expected = model.classify(str(file)).probabilities
    for same in (file, [file], Image.fromarray(pixels), [Image.open(file)], pixels, [pixels]):
        assert torch.equal(model.classify(same).probabilities, expected)
    two = model.classify([file, noise(2, 9, 9, 3)]).probabilities
    assert torch.allclose(two[:1], expected)
    assert not torch.allclose(two[1:], expected)


def test_more_images_than_a_batch_are_all_classified(tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, "L")
    model = model_for(tmp_path)
    assert len(model.classify([noise(seed, 12, 12) for seed in range(203)]).names) == 203
    assert len(model.classify(noise(1, 203, 1, 12, 12)).names) == 203


def test_a_picture_in_colour_becomes_grey_for_a_grey_model_and_a_grey_one_has_its_values_in_all_channels() -> None:
    colour, grey = noise(1, 6, 7, 3), noise(2, 6, 7)
    assert np.array_equal(with_channels(colour, 1)[0], np.asarray(Image.fromarray(colour).convert("L")))
    assert np.array_equal(with_channels(colour, 3), colour.transpose(2, 0, 1))
    assert all(np.array_equal(plane, grey) for plane in with_channels(grey, 3))


def test_a_rotated_photo_is_turned_upright(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(1, 10, 20, 3))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture.save(tmp_path / "photo.png", exif=exif)
    assert read_picture(tmp_path / "photo.png").shape == (20, 10, 3)


def test_a_picture_of_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(1, 40, 40)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageDataError, match=r"huge\.png is not a picture that can be read"):
        read_picture(tmp_path / "huge.png")


def test_a_picture_of_more_than_8_bits_is_refused() -> None:
    with pytest.raises(ImageDataError, match="the picture has more than 8 bits per channel"):
        picture_pixels(Image.fromarray(np.zeros((3, 3), np.uint16)))
