"""A deployed model sees a picture as the search saw it: upright, converted and resized by one function."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from PIL.Image import Image as Picture

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.images import picture
from hpbandster_lite.workers.images.device_images import DeviceImages, images_for_test
from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError
from hpbandster_lite.workers.images.picture import (
    Aspect,
    Examined,
    Preparation,
    examine,
    picture_pixels,
    read_picture,
    with_channels,
)
from hpbandster_lite.workers.images.read_images import ImageSource, read_images
from hpbandster_lite.workers.images.search_spaces import SPACES
from hpbandster_lite.workers.images.trained_classifier import ImageClassifier, SeenAs, load_model, save_model

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


def device_images_of(data: ImageData) -> DeviceImages:
    shape = (data.shape.channels,)
    return DeviceImages(
        x=torch.from_numpy(data.train_x.copy()),
        y=torch.from_numpy(data.train_y),
        mean=torch.full(shape, 120.0),
        std=torch.full(shape, 60.0),
        class_names=data.class_names,
    )


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


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


def test_an_array_of_several_pictures_and_one_with_alpha_are_pictures(tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, "RGB")
    model, several, alpha = model_for(tmp_path), noise(1, 3, 40, 17, 3), noise(2, 40, 17, 4)
    expected = model.classify(list(several)).probabilities
    assert torch.equal(model.classify(several).probabilities, expected)
    assert torch.equal(model.classify(alpha).probabilities, model.classify(Image.fromarray(alpha)).probabilities)
    with pytest.raises(UsageError, match=r"or \(n, height, width, 3\) as arrays of numpy, got torch.float32"):
        model.classify(several.astype(np.float32))


def test_all_files_that_cannot_be_classified_are_named_at_once(tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, "RGB")
    good = next((tmp_path / "test").rglob("*.jpg"))
    (tmp_path / "scan.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageDataError) as caught:
        model_for(tmp_path).classify([tmp_path / "scan.dcm", *[good] * 120, tmp_path / "empty.png"])
    assert "scan.dcm is not a picture that can be read (it is a DICOM file, which has to be" in str(caught.value)
    assert f"; {tmp_path}/empty.png is not a picture that can be read (it is empty)" in str(caught.value)


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
    monkeypatch.setattr(picture, "MOST_PIXELS", 100)
    with pytest.raises(ImageDataError, match=r"huge\.png has 1,600 pixels, more than 100; make it smaller"):
        read_picture(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageDataError, match=r"huge\.png has too many pixels \(.*\); make it smaller"):
        read_picture(tmp_path / "huge.png")
    monkeypatch.setattr(picture, "MOST_PIXELS", 1600)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    assert read_picture(tmp_path / "huge.png").shape == (40, 40)


def test_a_picture_of_more_than_8_bits_is_refused() -> None:
    with pytest.raises(ImageDataError, match="the picture has more than 8 bits per channel"):
        picture_pixels(Image.fromarray(np.zeros((3, 3), np.uint16)))


# -------------------------------------------------------------------------------------------------- pictures that lose

CONVERTED = Preparation(refused=())


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values: npt.NDArray[Any], colour: int, *, bits: int = 16, transparent: bytes = b"") -> bytes:
    """A PNG whose channels have 16 bits, which PIL does not write; ``colour`` is PNG's type of colours."""
    height, width = values.shape[:2]
    stored = values.astype(">u2" if bits == 16 else np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def tiff(values: npt.NDArray[np.uint16], order: str, *, packed: bool) -> bytes:
    """A TIFF of 16 bits per channel in one strip, in the order of bytes ``<`` or ``>``."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if packed else data
    first = 8 + 2 + 12 * 9 + 4
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    tags = [
        (256, width), (257, height), (258, first), (259, 8 if packed else 1), (262, 2), (273, first + len(bits)),
        (277, channels), (278, height), (279, len(data)),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value)
        if tag in (256, 257, 273, 278, 279)
        else struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
        if tag != 258
        else struct.pack(f"{order}HHII", tag, 3, channels, value)
        for tag, value in tags
    )
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}IH", 8, len(tags))
    return head + entries + struct.pack(f"{order}I", 0) + bits + data


def written(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "picture").write_bytes(content)
    return tmp_path / "picture"


def scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.rint(values.astype(np.float64) * 255 / 65535).astype(np.uint8)


def deep(*shape: int) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("made", ["png", "tiff <", "tiff >", "packed tiff <", "packed tiff >", "ppm"])
def test_colours_of_16_bits_are_scaled_and_not_cut(made: str, tmp_path: Path) -> None:
    values = deep(9, 7, 3)
    content = {
        "png": lambda: png(values, 2),
        "ppm": lambda: b"P6 7 9 65535\n" + values.astype(">u2").tobytes(),
    }.get(made, lambda: tiff(values, made[-1], packed="packed" in made))()
    assert np.array_equal(read_picture(written(tmp_path, content), CONVERTED), scaled(values))
    assert examine(content).traits == ("deep",)
    with pytest.raises(ImageDataError, match=r"more than 8 bits per channel; --unusual convert scales 0"):
        read_picture(tmp_path / "picture")


def test_grey_of_16_bits_is_scaled_with_its_highest_value_known(tmp_path: Path) -> None:
    values = deep(9, 7, 1) // 16
    assert np.array_equal(read_picture(written(tmp_path, png(values, 0)), CONVERTED), scaled(values[..., 0]))
    # The mode is I in older versions of PIL.
    expected = Examined("I;16", 9, 7, 1, ("deep",), int(values.max()))
    assert examine(png(values, 0))._replace(mode="I;16") == expected
    assert np.array_equal(picture_pixels(Image.fromarray(values[..., 0]), CONVERTED), scaled(values[..., 0]))


@pytest.mark.parametrize(("colour", "channels"), [(4, 2), (6, 4)])
def test_16_bits_with_alpha_are_scaled_and_put_on_white(colour: int, channels: int, tmp_path: Path) -> None:
    values = deep(9, 7, channels)
    values[..., -1] = np.where(np.arange(7) % 2, 65535, 0)
    found = read_picture(written(tmp_path, png(values, colour)), CONVERTED).reshape(9, 7, channels - 1)
    assert np.array_equal(found[:, 1::2], scaled(values[:, 1::2, :-1]))
    assert (found[:, ::2] == 255).all()
    assert examine(png(values, colour)).traits == ("deep", "alpha")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_of_an_unknown_range_are_refused_in_any_case(mode: str) -> None:
    picture = Image.fromarray(np.zeros((3, 3), np.float32 if mode == "F" else np.int32))
    with pytest.raises(ImageDataError, match=rf"the picture has values of 32 bits \(mode {mode}\), .* choose the"):
        picture_pixels(picture, CONVERTED)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_transparent_parts_are_white_and_hide_their_colour(mode: str, tmp_path: Path) -> None:
    hidden = np.zeros((4, 6, 4), np.uint8)
    hidden[:, 3:] = (90, 90, 90, 255)
    picture = Image.fromarray(hidden)
    file = tmp_path / "picture.png"
    if mode == "P":
        indices = Image.fromarray((hidden[..., 3] // 255).astype(np.uint8)).convert("P")
        indices.putpalette([0, 0, 0, 90, 90, 90])
        indices.save(file, transparency=0)
    else:
        picture.convert(mode).save(file)
    found = read_picture(file, CONVERTED)
    assert (found[:, :3] == 255).all()
    assert (found[:, 3:] == 90).all()
    with pytest.raises(ImageDataError, match="has transparent parts; --unusual convert puts them on white"):
        read_picture(file)


def test_a_colour_that_a_file_declares_transparent_is_white(tmp_path: Path) -> None:
    grey = np.array([[7, 8], [9, 7]], np.uint8)
    content = png(grey, 0, bits=8, transparent=b"\0\7")
    assert read_picture(written(tmp_path, content), CONVERTED).tolist() == [[255, 8], [9, 255]]
    wide = png(grey.astype(np.uint16) * 257, 0, transparent=struct.pack(">H", 7 * 257))
    assert read_picture(written(tmp_path, wide), CONVERTED).tolist() == [[255, 8], [9, 255]]


def test_opaque_alpha_loses_nothing() -> None:
    pixels = noise(1, 5, 6, 4)
    pixels[..., 3] = 255
    assert np.array_equal(picture_pixels(Image.fromarray(pixels)), pixels[..., :3])


def test_a_palette_of_greys_has_one_channel_and_one_of_colours_three() -> None:
    grey = noise(1, 5, 6)
    palette = Image.fromarray(grey).convert("P")
    assert np.array_equal(picture_pixels(palette), grey)
    colours = Image.fromarray(noise(1, 5, 6, 3)).quantize(8)
    assert np.array_equal(picture_pixels(colours), np.asarray(colours.convert("RGB")))


def test_of_several_frames_the_first_is_used_on_request_alone(tmp_path: Path) -> None:
    frames = [Image.fromarray(noise(seed, 5, 6)) for seed in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_picture(tmp_path / "moving.gif", CONVERTED), noise(0, 5, 6))
    with pytest.raises(ImageDataError, match=r"moving\.gif has several frames or pages; --unusual convert takes the"):
        read_picture(tmp_path / "moving.gif")


@pytest.mark.parametrize("at", range(8, 160, 8))
def test_a_changed_byte_of_a_png_is_noticed(at: int) -> None:
    content = png(noise(0, 12, 9), 0, bits=8)
    with pytest.raises(ImageDataError):
        examine(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "bmp", "tif", "webp"])
def test_a_file_that_was_cut_off_is_noticed(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(noise(1, 64, 64, 3)).save(tmp_path / f"whole.{suffix}")
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    assert examine(content).height == 64
    with pytest.raises(ImageDataError):
        examine(content[: len(content) * 2 // 3])


def test_a_look_finds_the_upright_size_of_a_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(noise(1, 100, 200, 3)).save(tmp_path / "photo.jpg", exif=exif)
    assert examine((tmp_path / "photo.jpg").read_bytes()) == Examined("RGB", 200, 100, 3, (), 0)


# -------------------------------------------------------------------------------------------------------------- aspect


def bars() -> Picture:
    """20 high and 60 wide: a third black, a third grey, a third white."""
    return Image.fromarray(np.repeat(np.array([[0, 100, 255]], np.uint8), 20, axis=1).reshape(1, 60).repeat(20, axis=0))


def test_squeezed_pictures_show_everything_crops_their_middle_and_padded_ones_everything_on_black() -> None:
    squeezed, cropped, padded = (
        picture_pixels(bars(), Preparation((20, 20), aspect)) for aspect in ("squeeze", "crop", "pad")
    )
    assert [squeezed[10, column] for column in (1, 10, 18)] == [0, 100, 255]
    assert (cropped[:, 1:-1] == 100).all()
    assert (padded[:6] == 0).all()
    assert (padded[14:] == 0).all()
    assert [padded[10, column] for column in (1, 10, 18)] == [0, 100, 255]


@pytest.mark.parametrize("aspect", get_args(Aspect))
@pytest.mark.parametrize("size", [(7, 5), (5, 7), (1, 9), (64, 64)])
def test_every_aspect_gives_the_size_for_any_shape(aspect: Aspect, size: tuple[int, int]) -> None:
    for shape in ((20, 31), (31, 20), (1, 300), (300, 1), size):
        assert picture_pixels(Image.fromarray(noise(1, *shape)), Preparation(size, aspect)).shape == size
    assert np.array_equal(
        picture_pixels(Image.fromarray(noise(1, *size)), Preparation(size, aspect)), noise(1, *size)
    )


@pytest.mark.parametrize("aspect", get_args(Aspect))
def test_a_model_sees_pictures_with_the_aspect_of_its_search(aspect: Aspect, tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, "RGB")
    data = read_images("images", tmp_path, SIDE, aspect)
    model = model_for(tmp_path)
    model.seen_as = SeenAs(aspect)
    save_model(
        tmp_path / "model.pt", model.network, device_images_of(data), space="small", configuration=SMALL, figures={},
        seen_as=SeenAs(aspect, scales_deep=True),
    )  # fmt: skip
    files = sorted((tmp_path / "test").rglob("*.jpg"))
    assert torch.equal(model.classify(files).probabilities, model.classify(data.test_x).probabilities)
    assert load_model(tmp_path / "model.pt").seen_as == SeenAs(aspect, scales_deep=True)


def test_a_model_refuses_deep_pictures_unless_its_search_converted_them(tmp_path: Path) -> None:
    folder_of_pictures(tmp_path, "RGB")
    model, values = model_for(tmp_path), deep(SIDE, SIDE, 3)
    file = written(tmp_path, png(values, 2))
    with pytest.raises(ImageDataError, match="more than 8 bits per channel"):
        model.classify(file)
    model.seen_as = SeenAs(scales_deep=True)
    expected = model.classify(scaled(values)).probabilities
    assert torch.equal(model.classify(file).probabilities, expected)
    assert torch.equal(model.classify(Image.open(file)).probabilities, expected)
