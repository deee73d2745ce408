"""Images of a user from class folders and ``.npz`` files: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hpbandster_lite.workers.images.image_data import Groups, ImageData, ImageDataError
from hpbandster_lite.workers.images.npz_file import read_npz
from hpbandster_lite.workers.images.read_images import ImageSource, look_at_images, read_images
from hpbandster_lite.workers.networks.image_shape import ImageShape


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


def save(file: Path, pixels: np.ndarray, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_classes(
    root: Path, names: tuple[str, ...] = ("healthy", "ill"), n: int = 10, *shape: int, seed: int = 0
) -> None:
    for i, name in enumerate(names):
        for j in range(n):
            save(root / name / f"{j:03}.png", picture(seed + 100 * i + j, *(shape or (9, 7))))


def pictures_of(x: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in x}


# ----------------------------------------------------------------------------------------------------------- folders


def test_class_folders_are_read_and_a_fixed_share_of_each_class_is_the_test_set(tmp_path: Path) -> None:
    write_classes(tmp_path, n=20)
    images = read_images("images", tmp_path)
    assert images.shape == ImageShape(1, 9, 7, 2)
    assert images.class_names == ("healthy", "ill")
    assert np.bincount(images.train_y).tolist() == [17, 17]
    assert np.bincount(images.test_y).tolist() == [3, 3]
    assert not pictures_of(images.train_x) & pictures_of(images.test_x)
    for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y)):
        for image, label in zip(x, y, strict=True):
            assert any(np.array_equal(image[0], picture(100 * int(label) + j, 9, 7)) for j in range(20))
    again = read_images("images", str(tmp_path / "." / ""))
    assert np.array_equal(again.test_x, images.test_x)


@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Training", "Testing"), ("train", "val")])
def test_folders_for_training_and_test_are_kept_apart(train: str, test: str, tmp_path: Path) -> None:
    write_classes(tmp_path / train, n=4)
    write_classes(tmp_path / test, n=2, seed=10)
    images = read_images("images", tmp_path)
    assert (len(images.train_y), len(images.test_y)) == (8, 4)
    assert np.array_equal(images.test_x[2, 0], picture(110, 9, 7))


def test_with_train_val_and_test_the_first_two_are_for_training_and_validation(tmp_path: Path) -> None:
    for part, n, seed in (("train", 4, 0), ("val", 3, 10), ("test", 2, 20)):
        write_classes(tmp_path / part, n=n, seed=seed)
    images = read_images("images", tmp_path)
    assert (len(images.train_y), len(images.test_y)) == (14, 4)


def test_pictures_lie_as_deep_as_they_like_and_other_files_are_no_pictures(tmp_path: Path) -> None:
    write_classes(tmp_path, n=3)
    save(tmp_path / "ill" / "2021" / "June" / "a.JPG", picture(11, 9, 7))
    save(tmp_path / "ill" / "b.jfif", picture(12, 9, 7), format="jpeg")
    (tmp_path / "ill" / "notes.txt").write_text("none")
    (tmp_path / "ill" / ".hidden.png").write_text("none")
    (tmp_path / ".git").mkdir()
    (tmp_path / "__MACOSX").mkdir()
    images = read_images("images", tmp_path)
    assert images.class_names == ("healthy", "ill")
    assert len(images.train_y) + len(images.test_y) == 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_grey_pictures_have_one_channel_and_all_others_three(mode: str, tmp_path: Path) -> None:
    suffix = "tif" if mode == "CMYK" else "png"
    for i, name in enumerate("ab"):
        for j in range(3):
            file = tmp_path / name / f"{j}.{suffix}"
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(picture(10 * i + j, 6, 5, 3)).convert(mode).save(file)
    assert read_images("images", tmp_path).shape.channels == (1 if mode in ("1", "L", "LA") else 3)


def test_a_colour_among_grey_pictures_makes_all_of_them_coloured_with_their_values_kept(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", n=2)
    write_classes(tmp_path / "test", n=1, seed=10)
    save(tmp_path / "test" / "ill" / "colour.png", picture(7, 9, 7, 3))
    images = read_images("images", tmp_path)
    assert images.shape.channels == 3
    assert all(np.array_equal(images.train_x[0, c], picture(0, 9, 7)) for c in range(3))
    assert np.array_equal(images.test_x[-1], picture(7, 9, 7, 3).transpose(2, 0, 1))


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn clockwise
    for i, name in enumerate("ab"):
        for j in range(2):
            save(tmp_path / name / f"{j}.png", picture(10 * i + j, 4, 8), exif=exif)
    images = read_images("images", tmp_path)
    assert images.shape[1:3] == (8, 4)
    assert any(np.array_equal(images.train_x[0, 0], np.rot90(picture(j, 4, 8), -1)) for j in range(2))


def test_pictures_of_several_sizes_are_refused_with_the_remedy_and_resized_on_request(tmp_path: Path) -> None:
    write_classes(tmp_path, n=4)
    save(tmp_path / "ill" / "large.png", picture(9, 20, 30))
    with pytest.raises(ImageDataError, match=r"2 sizes: 9x7 \(8\), 20x30 \(1\); .* --image-size 7"):
        read_images("images", tmp_path)
    assert read_images("images", tmp_path, size=16).shape[1:3] == (16, 16)
    assert read_images("images", tmp_path, size=(12, 8)).shape[1:3] == (12, 8)


def test_resizing_keeps_the_mean_of_a_picture(tmp_path: Path) -> None:
    write_classes(tmp_path, ("a", "b"), 2, 64, 64)
    images = read_images("images", tmp_path, size=8)
    assert abs(images.train_x.mean() - 127.5) < 3
    assert images.train_x.std() < 20  # each pixel is the mean of many pixels


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path)
    (tmp_path / "rare").mkdir()
    with pytest.raises(ImageDataError, match=r"class 'rare' is empty: .*rare has no picture .*; add pictures or"):
        read_images("images", tmp_path)


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    write_classes(tmp_path, ("only",))
    with pytest.raises(ImageDataError, match=r"must have at least two classes, got \['only'\]; add images"):
        read_images("images", tmp_path)


def test_a_class_that_is_only_tested_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", ("healthy", "ill", "other"))
    with pytest.raises(ImageDataError, match=r"class \['other'\] has test images but no training images"):
        read_images("images", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", "cut off"])
def test_a_broken_picture_is_named(content: bytes | str, tmp_path: Path) -> None:
    write_classes(tmp_path)
    broken = tmp_path / "ill" / "003.png"
    broken.write_bytes(content if isinstance(content, bytes) else broken.read_bytes()[:-40])
    with pytest.raises(ImageDataError, match=r"cannot be read \(1\): ill/003\.png \(.*\); repair or remove"):
        read_images("images", tmp_path)


def test_more_than_8_bit_are_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    save(tmp_path / "ill" / "deep.png", np.full((9, 7), 4_000, dtype=np.uint16))
    with pytest.raises(ImageDataError, match=r"than 8 bits per channel \(1\): ill/deep\.png; .* scale it"):
        read_images("images", tmp_path)


def test_a_folder_without_folders_and_no_folder_at_all_are_explained(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(0, 3, 3))
    with pytest.raises(ImageDataError, match="has no folders; put the pictures of each class into a folder"):
        read_images("images", tmp_path)
    with pytest.raises(ImageDataError, match=r"--data .*missing does not exist; give a folder of class folders, or an"):
        read_images("images", tmp_path / "missing")


def test_ones_own_images_have_no_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HPBANDSTER_LITE_DATA", raising=False)
    with pytest.raises(ImageDataError, match=r"--data DIR, .* --data FILE\.npz; .* HPBANDSTER_LITE_DATA"):
        read_images("images")
    write_classes(tmp_path)
    monkeypatch.setenv("HPBANDSTER_LITE_DATA", str(tmp_path))
    assert read_images("images").class_names == ("healthy", "ill")


@pytest.mark.parametrize("size", [0, -3, (4, 0)])
def test_a_size_of_no_pixels_is_refused(size: Any, tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match=r"size must be at least 1 pixel, got size="):
        read_images("images", tmp_path, size=size)


# -------------------------------------------------------------------------------------------------------------- npz


def npz(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path / "images.npz"


LABELS = np.arange(20) % 2


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ((20, 8, 9), (1, 8, 9)),
        ((20, 8, 9, 1), (1, 8, 9)),
        ((20, 8, 9, 3), (3, 8, 9)),
        ((20, 3, 8, 9), (3, 8, 9)),
        ((20, 1, 8, 9), (1, 8, 9)),
    ],
)
@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("X", "Y")])
def test_layouts_are_recognised_and_the_test_set_is_split_off(
    x: tuple[int, ...], expected: tuple[int, ...], names: tuple[str, str], tmp_path: Path
) -> None:
    pixels = picture(0, *x)
    images = read_images("images", npz(tmp_path, **{names[0]: pixels, names[1]: LABELS}))
    assert images.shape == (*expected, 2)
    assert (len(images.train_y), len(images.test_y)) == (17, 3)
    first = pixels if x[1] in (1, 3) or len(x) == 3 else pixels.transpose(0, 3, 1, 2)
    given = {image.tobytes() for image in np.ascontiguousarray(first)}
    assert pictures_of(images.train_x) | pictures_of(images.test_x) == given


@pytest.mark.parametrize("name", ["{kind}_{part}", "{part}_{kind}"])
@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("images", "labels")])
def test_parts_are_recognised_by_their_names(name: str, x: str, y: str, tmp_path: Path) -> None:
    arrays = {}
    for i, (part, n) in enumerate((("train", 12), ("test", 4))):
        arrays[name.format(kind=x, part=part)] = picture(i, n, 8, 8)
        arrays[name.format(kind=y, part=part)] = (np.arange(n) % 2)[:, None]  # a column is accepted like a row
    images = read_images("images", npz(tmp_path, **arrays))
    assert np.array_equal(images.train_x[:, 0], picture(0, 12, 8, 8))
    assert np.array_equal(images.test_x[:, 0], picture(1, 4, 8, 8))
    assert images.test_y.tolist() == [0, 1, 0, 1]


def parts(**sizes: int) -> dict[str, np.ndarray]:
    arrays = {}
    for i, (part, n) in enumerate(sizes.items()):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = picture(i, n, 6, 6), np.arange(n) % 2
    return arrays


def test_validation_images_are_for_training_where_there_is_a_test_set_and_the_test_set_where_there_is_none(
    tmp_path: Path,
) -> None:
    three = read_images("images", npz(tmp_path, **parts(train=6, val=4, test=2)))
    assert (len(three.train_y), len(three.test_y)) == (10, 2)
    assert np.array_equal(three.train_x[6:, 0], picture(1, 4, 6, 6))
    (tmp_path / "two").mkdir()
    two = read_images("images", npz(tmp_path / "two", **parts(train=6, val=4)))
    assert (len(two.train_y), len(two.test_y)) == (6, 4)


@pytest.mark.parametrize("shape", [(20, 3, 8, 3), (20, 3, 3, 3), (20, 1, 1, 1), (20, 8, 9, 7)])
def test_an_ambiguous_layout_is_refused_and_may_be_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = picture(0, *shape)
    with pytest.raises(ImageDataError, match=r"may be the channels; add the layout to the file: .*layout='NHWC'"):
        read_npz(npz(tmp_path, x=x, y=LABELS))
    assert read_npz(npz(tmp_path, x=x, y=LABELS, layout="NHWC")).shape == (shape[3], *shape[1:3], 2)
    assert read_npz(npz(tmp_path, x=x, y=LABELS, layout="nchw")).shape == (*shape[1:], 2)


@pytest.mark.parametrize("layout", ["HWC", "NHW", "CHWN"])
def test_a_layout_that_does_not_fit_is_refused(layout: str, tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match=rf"layout='{layout}' does not fit .*\(20, 8, 9, 3\); choose from"):
        read_npz(npz(tmp_path, x=picture(0, 20, 8, 9, 3), y=LABELS, layout=layout))


def all_pixels(images: ImageData) -> np.ndarray:
    return np.sort(np.concatenate([images.train_x, images.test_x]).ravel())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_floats_from_0_to_1_are_scaled_with_a_warning(
    dtype: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = picture(0, 20, 8, 9)
    images = read_npz(npz(tmp_path, x=(pixels / 255).astype(dtype), y=LABELS))
    assert np.abs(all_pixels(images).astype(int) - np.sort(pixels.ravel())).max() <= (dtype is np.float16)
    assert "from 0 to 1 are scaled to 0 ... 255" in caplog.text


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16])
def test_wider_types_that_hold_bytes_are_kept_with_a_warning(
    dtype: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = picture(0, 20, 8, 9)
    images = read_npz(npz(tmp_path, x=pixels.astype(dtype), y=LABELS))
    assert np.array_equal(all_pixels(images), np.sort(pixels.ravel()))
    assert "are used as 0 ... 255" in caplog.text


def test_truth_values_are_black_and_white(tmp_path: Path) -> None:
    images = read_npz(npz(tmp_path, x=picture(0, 20, 8, 9) > 99, y=LABELS))
    assert set(np.unique(images.train_x)) == {0, 255}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (picture(0, 20, 8, 9).astype(np.uint16) * 16, r"uint16 range from 0 to \d+, but pixels have 8 bits; .* scale"),
        (picture(0, 20, 8, 9).astype(np.float32) / 127.5 - 1, r"float32 range from -1 to .*, but pixels have 8 bits"),
        (np.full((20, 8, 9), np.nan), "have values that are not finite"),
        (np.full((20, 8, 9), "a"), "are not pixels; give uint8"),
        (np.zeros((20, 8, 9), complex), "are not pixels; give uint8"),
        (picture(0, 20, 72), r"shape \(20, 72\) are not images; give \(n, h, w\)"),
        (picture(0, 19, 8, 9), "19 images but 20 labels; give one for each"),
    ],
)
def test_values_that_are_not_pixels_are_refused(x: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match=message):
        read_npz(npz(tmp_path, x=x, y=LABELS))


def test_labels_are_classes_in_the_order_of_their_values(tmp_path: Path) -> None:
    x = picture(0, 20, 4, 4)
    for y, names in (
        (LABELS * 5 + 3, ("3", "8")),
        (LABELS.astype(float), ("0", "1")),
        (np.array(["ill", "healthy"])[LABELS], ("healthy", "ill")),
        (LABELS.astype(bool), ("False", "True")),
    ):
        images = read_npz(npz(tmp_path, x=x, y=y))
        assert images.class_names == names
        assert set(images.train_y.tolist()) == {0, 1}
    named = read_npz(npz(tmp_path, x=x, y=LABELS, class_names=np.array(["no", "yes"])))
    assert named.class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.eye(2)[LABELS]}, r"shape \(20, 2\); give one number or name for each image, for example np.argmax"),
        ({"y": LABELS + 0.5}, "labels of type float64 are not classes"),
        ({"y": np.zeros(20, int)}, r"must have at least two classes, got \['0'\]"),
        ({"y": LABELS, "class_names": np.array(["a"])}, "1 class_names for 2 classes"),
        ({"z": LABELS}, r"has the arrays \['x', 'z'\]; name images and labels: np.savez"),
        ({"y": LABELS, "images": picture(0, 20, 4, 4)}, "two arrays with the meaning of 'images'"),
        ({"y": LABELS, "x_test": picture(0, 2, 4, 4), "y_test": LABELS[:2]}, "name images and labels"),
    ],
)
def test_unusable_labels_and_names_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match=message):
        read_npz(npz(tmp_path, x=picture(0, 20, 4, 4), **arrays))


def test_test_images_alone_and_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match=r"has images for \['test'\], but requires training and test images"):
        read_npz(npz(tmp_path, **parts(test=6)))
    with pytest.raises(ImageDataError, match=r"has images for \['train'\], but requires training and test images"):
        read_npz(npz(tmp_path, **parts(train=6)))
    unlike = parts(train=6, test=4) | {"test_images": picture(0, 4, 7, 6)}
    with pytest.raises(ImageDataError, match=r"training images are \(1, 6, 6\) .* but test images are \(1, 7, 6\)"):
        read_npz(npz(tmp_path, **unlike))
    assert read_npz(npz(tmp_path, **unlike), (5, 5)).shape == (1, 5, 5, 2)


def test_a_class_without_training_images_is_named(tmp_path: Path) -> None:
    arrays = parts(train=6, test=4) | {"test_labels": np.array([0, 1, 2, 2])}
    with pytest.raises(ImageDataError, match=r"no training image of class \['2'\]; add images or remove the class"):
        read_npz(npz(tmp_path, **arrays))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half of it"])
def test_a_file_that_is_no_npz_is_explained(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "images.npz").write_bytes(content)
    with pytest.raises(ImageDataError, match=r"is not an \.npz file that can be read .*; write np\.savez"):
        read_images("images", tmp_path / "images.npz")


def test_an_npz_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match=r"is not an \.npz file that can be read .*allow_pickle"):
        read_npz(npz(tmp_path, x=np.array([1, "a"], dtype=object), y=LABELS))


def test_a_single_npy_is_explained(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", LABELS)
    with pytest.raises(ImageDataError, match="is one array without a name; write"):
        read_npz(tmp_path / "x.npy")


@given(n=st.integers(8, 60), classes=st.integers(2, 4), channels=st.sampled_from([1, 3]), last=st.booleans())
def test_no_image_is_lost_or_takes_anothers_label(
    n: int, classes: int, channels: int, last: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    y = np.arange(n) % classes
    x = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, channels, 6, 5))
    file = npz(tmp_path_factory.mktemp("npz"), x=x.transpose(0, 2, 3, 1) if last else x, y=y)
    images = read_npz(file)
    numbers = np.concatenate([images.train_x, images.test_x])[:, 0, 0, 0]
    assert sorted(numbers.tolist()) == list(range(n))
    assert (np.concatenate([images.train_y, images.test_y]) == numbers % classes).all()


# ------------------------------------------------------------------------------------------------------------ groups


def write_patients(folder: Path, n: int = 12, *, first: int = 0, seed: int = 0) -> None:
    """Patients with two or three pictures each; every third one is ill."""
    for patient in range(first, first + n):
        for number in range(2 + patient % 2):
            kind = "ill" if patient % 3 == 0 else "healthy"
            save(folder / kind / f"p{patient}_{number}.png", picture(seed + 10 * patient + number, 9, 7))


def patients_of(groups: Groups | None) -> set[str]:
    assert groups is not None
    return {groups.names[number] for number in groups.numbers}


@pytest.mark.parametrize("group", [r"(p\d+)_", "patient"], ids=["pattern", "column"])
def test_no_patient_is_on_two_sides_of_a_folder(group: str, tmp_path: Path) -> None:
    write_patients(tmp_path)
    lines = [f"{file.name},{file.name.split('_')[0]}" for file in tmp_path.rglob("*.png")]
    (tmp_path / "table.csv").write_text("\n".join(["picture,patient", *lines]))
    images = read_images("images", tmp_path, group=group)
    assert not patients_of(images.train_groups) & patients_of(images.test_groups)
    assert len(patients_of(images.train_groups) | patients_of(images.test_groups)) == 12
    assert set(images.test_y) == {0, 1}
    for x, groups in ((images.train_x, images.train_groups), (images.test_x, images.test_groups)):
        assert groups is not None
        for image, number in zip(x, groups.numbers, strict=True):
            patient = int(groups.names[number][1:])
            assert any(np.array_equal(image[0], picture(10 * patient + each, 9, 7)) for each in range(3))
    look = look_at_images(ImageSource("images", tmp_path, group=group))
    assert look.refusal is None
    assert look.labelled is not None
    assert np.array_equal(look.labelled.labels, images.train_y)
    assert patients_of(look.labelled.groups) == patients_of(images.train_groups)


def test_a_patient_in_train_and_in_test_is_refused_before_the_start(tmp_path: Path) -> None:
    write_patients(tmp_path / "train")
    write_patients(tmp_path / "test", 4, first=11, seed=1_000)
    words = r"1 group has training and test images \('p11'\), so the test error would be too low; put all images of"
    with pytest.raises(ImageDataError, match=words):
        read_images("images", tmp_path, group=r"(p\d+)_")
    found = look_at_images(ImageSource("images", tmp_path, group=r"(p\d+)_")).refusal
    assert found is not None
    assert "so the test error would be too low" in found
    apart = read_images("images", tmp_path, group=r"((?:train|test).*p\d+)_")
    assert len(apart.test_y) == 10


def test_groups_that_cannot_be_found_are_refused_before_the_start(tmp_path: Path) -> None:
    write_patients(tmp_path)
    found = look_at_images(ImageSource("images", tmp_path, group="patient")).refusal
    assert found is not None
    assert "no CSV file in" in found


@pytest.mark.parametrize("names", [("patient", ""), ("patient_train", "_train"), ("test_patient", "_train")])
def test_arrays_have_groups_too(names: tuple[str, str], tmp_path: Path) -> None:
    rng, name = np.random.default_rng(0), names[1]
    y, patient = np.arange(60) % 2, np.array([f"p{number}" for number in np.arange(60) // 5])
    x = rng.integers(0, 255, (60, 4, 4), dtype=np.uint8)
    arrays: dict[str, Any] = {f"x{name}": x, f"y{name}": y, f"patient{name}": patient}
    if name:
        arrays |= {"x_test": x[:4], "y_test": y[:4], "test_patient": np.array(["q1", "q1", "q2", "q2"])}
    np.savez(tmp_path / "a.npz", **arrays)
    images = read_npz(tmp_path / "a.npz", group="patient")
    assert images.train_groups is not None
    assert not patients_of(images.train_groups) & patients_of(images.test_groups)
    for image, number in zip(images.train_x, images.train_groups.numbers, strict=True):
        (row,) = (i for i in range(60) if np.array_equal(image[0], x[i]))
        assert images.train_groups.names[number] == patient[row]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({}, "--group patient needs the array patient, one value for each image; add it"),
        ({"patient": np.arange(3)}, "3 values of patient for 20 images; give one for each"),
    ],
    ids=["none", "other length"],
)
def test_arrays_without_groups_are_refused(arrays: dict[str, Any], words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2, **arrays)
    with pytest.raises(ImageDataError, match=words):
        read_npz(tmp_path / "a.npz", group="patient")
