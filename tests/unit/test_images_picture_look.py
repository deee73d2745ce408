"""One look at a folder of pictures: everything found at once, once for files that do not change; the decoded cache."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
from PIL import Image

from hpbandster_lite.problems.shipped_data import missing_data, notes_of
from hpbandster_lite.workers.images import picture_cache, picture_look, picture_processes, read_images
from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError
from hpbandster_lite.workers.images.options import ImageOptions
from hpbandster_lite.workers.images.picture import Preparation, Unusual
from hpbandster_lite.workers.images.picture_look import look_at_folder
from hpbandster_lite.workers.images.problem import ImageProblem
from hpbandster_lite.workers.images.read_images import ImageSource, look_at_images


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HPBANDSTER_LITE_RUN_DIR", raising=False)
    return tmp_path / "cache/hpbandster_lite/pictures"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of ten pictures, 8 x 6."""
    for i, name in enumerate(("healthy", "ill")):
        for j in range(10):
            save(tmp_path / "data" / name / f"{j}.png", noise(100 * i + j, 8, 6))
    return tmp_path / "data"


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def read_anew(folder: Path, **how: Any) -> ImageData:
    """As another process would read them."""
    read_images._read.cache_clear()
    return read_images.read_images("images", folder, **how)


def make_unusual(folder: Path) -> None:
    """One of each kind that is found."""
    (folder / "ill/broken.png").write_bytes(b"no picture")
    (folder / "ill/empty.jpg").write_bytes(b"")
    (folder / "ill/scan.dcm").write_bytes(b"")
    (folder / "ill/IM0001").write_bytes(bytes(128) + b"DICM")
    (folder / "healthy/photo.heic").write_bytes(b"")
    (folder / "healthy/notes.txt").write_text("none")
    shutil.copy(folder / "ill/0.png", folder / "healthy/other.png")
    shutil.copy(folder / "ill/1.png", folder / "ill/again.png")
    save(folder / "ill/deep.png", np.full((8, 6), 4_000, np.uint16))
    save(folder / "ill/alpha.png", noise(1, 8, 6, 4))
    frames = [Image.fromarray(noise(500 + seed, 8, 6)) for seed in range(2)]
    frames[0].save(folder / "ill/moving.gif", save_all=True, append_images=frames[1:])
    save(folder / "ill/large.png", noise(600, 20, 30))


REFUSED = (
    "files that cannot be read (2): ill/broken.png (it has no format that PIL knows), ill/empty.jpg (it is empty); ",
    "DICOM files (2): healthy", "pictures of formats that are not read (1): healthy/photo.heic; save them as PNG",
    "pictures with copies in several classes (1): healthy/other.png = ill/0.png; keep each in one class",
    "pictures with copies, which a split may put on two sides (1): ill/1.png = ill/again.png; keep one",
)  # fmt: skip
CONVERTED = (
    "pictures with more than 8 bits per channel (1)", "pictures with transparent parts (1)",
    "pictures with several frames or pages (1)",
)  # fmt: skip


def test_everything_is_found_at_once(folder: Path) -> None:
    make_unusual(folder)
    notes, refusal = look_at_images(ImageSource("images", folder))[:2]
    assert refusal is not None
    assert refusal.startswith(f"{folder}: the pictures cannot be used as they are:\n- files that cannot be read (2)")
    lines = refusal.splitlines()
    for words in (*REFUSED[:1], "DICOM files (2): ill/IM0001, ill/scan.dcm; convert them to PNG", *REFUSED[2:]):
        assert any(line.startswith(f"- {words}") for line in lines), words
    for words in CONVERTED:
        assert any(line.startswith(f"- {words}: ill/") and "--unusual convert" in line for line in lines), words
    assert any("the pictures have 2 sizes: 8x6 (25), 20x30 (1); " in line for line in lines)
    assert notes[0] == f"{folder}: 26 pictures: healthy 11, ill 15"
    assert notes[1].startswith("sizes: 8x6 (25), 20x30 (1); modes: L (")
    assert "files that are no pictures: .txt (1)" in notes
    with pytest.raises(ImageDataError, match="the pictures cannot be used as they are"):
        read_anew(folder)


def test_convert_converts_and_skip_leaves_out_with_words(folder: Path) -> None:
    make_unusual(folder)
    notes, refusal = look_at_images(ImageSource("images", folder, 8, unusual="convert"))[:2]
    assert refusal is not None
    assert not any(words in line for line in refusal.splitlines() for words in ("--unusual convert",))
    assert "files that cannot be read (2)" in refusal
    notes, refusal = look_at_images(ImageSource("images", folder, 8, unusual="skip"))[:2]
    assert refusal is None
    text = "\n".join(notes)
    for words in (
        f"{folder}: 23 pictures: healthy 10, ill 13",
        "files that cannot be read (2); --unusual skip leaves them out: ill/broken.png (it has no format that PIL",
        "pictures with copies in several classes (1); --unusual skip leaves all of them out: healthy/other.png",
        "two sides (1); --unusual skip keeps one of each: ill/1.png = ill/again.png",
        "pictures with more than 8 bits per channel (1), scaled from 0 ... 65,535 to 0 ... 255: ill/deep.png",
        "is 4,000, so only 16 of 256 values remain; choose the range that matters",
        "pictures with transparent parts (1), put on white: ill/alpha.png",
        "pictures with several frames or pages (1), of which the first one is used: ill/moving.gif",
        "squeezed to 8x8, one side by up to 1.50 times more than the other; --aspect crop or pad",
    ):
        assert words in text, words
    images = read_anew(folder, size=8, unusual="skip")
    assert (images.shape, len(images.train_y) + len(images.test_y)) == ((3, 8, 8, 2), 23)


@pytest.mark.parametrize(("unusual", "n_train"), [("refuse", None), ("convert", None), ("skip", 19)])
def test_a_picture_for_training_and_for_test_stays_in_the_test_set(
    unusual: Unusual, n_train: int | None, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "both/train")
    for number, name in enumerate(("healthy", "ill")):
        save(tmp_path / "both/test" / name / "a.png", noise(700 + number, 8, 6))
    shutil.copy(folder / "ill/3.png", tmp_path / "both/test/ill/3.png")
    notes, refusal = look_at_images(ImageSource("images", tmp_path / "both", unusual=unusual))[:2]
    words = "pictures both for training and for test (1)"
    assert words in "\n".join(notes if n_train else [refusal or ""])
    if n_train:
        images = read_anew(tmp_path / "both", unusual=unusual)
        assert (len(images.train_y), len(images.test_y)) == (n_train, 3)


def test_a_copy_in_the_test_set_alone_is_no_matter(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "both/train")
    for name in ("a", "b"):
        save(tmp_path / "both/test/ill" / f"{name}.png", noise(700, 8, 6))
    assert look_at_images(ImageSource("images", tmp_path / "both"))[1] is None


def test_a_class_of_which_nothing_is_left_is_refused(folder: Path) -> None:
    for file in (folder / "ill").iterdir():
        file.write_bytes(b"")
    _, refusal = look_at_images(ImageSource("images", folder, unusual="skip"))[:2]
    assert "no picture for training is left of class ill" in str(refusal)


def test_many_names_are_in_a_file(folder: Path) -> None:
    for number in range(12):
        (folder / f"ill/broken{number:02}.png").write_bytes(b"no")
    _, refusal = look_at_images(ImageSource("images", folder))[:2]
    assert refusal is not None
    assert "ill/broken09.png (it has no format that PIL knows) and 2 more; " in refusal
    file = Path(refusal.split("all names are in ")[1].splitlines()[0])
    assert "  ill/broken11.png (it has no format that PIL knows)\n" in file.read_text()


def test_a_plan_and_a_start_have_the_words(folder: Path) -> None:
    problem = ImageProblem(ImageOptions(data_set="images", data=folder))
    assert missing_data(problem) is None
    assert notes_of(problem)[0] == f"{folder}: 20 pictures: healthy 10, ill 10"
    (folder / "ill/broken.png").write_bytes(b"")
    found = missing_data(problem)
    assert found is not None
    assert not found.is_fetched
    assert "ill/broken.png (it is empty)" in found.text


def test_an_array_file_has_its_counts(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=noise(0, 20, 8, 8), y=np.arange(20) % 2)
    notes, refusal = look_at_images(ImageSource("images", tmp_path / "a.npz"))[:2]
    assert (notes, refusal) == (
        [f"{tmp_path}/a.npz: 17 images for training and validation, 3 for test: 0 10, 1 10"], None,
    )  # fmt: skip
    x = noise(0, 20, 8, 8)
    np.savez(
        tmp_path / "copies.npz",
        x_train=x[[0, 0, 1, 2, 3]], y_train=[0, 0, 1, 0, 1], x_test=x[[1, 2, 5]], y_test=[1, 1, 0],
    )  # fmt: skip
    notes, refusal = look_at_images(ImageSource("images", tmp_path / "copies.npz"))[:2]
    assert refusal is None
    assert notes[1:] == [
        "test images that are also for training or validation, so that the test error is too low: 2",
        "images with copies in several classes: 1",
        "copies of an image, which a split may put on two sides: 1",
    ]
    (tmp_path / "a.npz").write_bytes(b"no")
    read_images._read.cache_clear()
    _, refusal = look_at_images(ImageSource("images", tmp_path / "a.npz"))[:2]
    assert "a.npz is not an .npz file that can be read" in str(refusal)


def test_a_link_to_a_folder_above_is_followed_once(folder: Path) -> None:
    (folder / "ill/all").symlink_to(folder / "ill")
    assert look_at_images(ImageSource("images", folder))[0][0] == f"{folder}: 20 pictures: healthy 10, ill 10"


# ------------------------------------------------------------------------------------------------------- only one look


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were opened for a look."""
    names: list[str] = []
    look = picture_processes.look

    def counted(file: str) -> Any:
        names.append(Path(file).name)
        return look(file)

    monkeypatch.setattr(picture_processes, "look", counted)
    return names


def test_only_files_that_changed_are_looked_at_again(folder: Path, looked: list[str], own_cache: Path) -> None:
    names = [f"ill/{number}.png" for number in range(5)]
    first = look_at_folder(folder, names)
    assert len(looked) == 5
    assert look_at_folder(folder, names) == first
    assert len(looked) == 5
    os.utime(folder / "ill/2.png", ns=(0, 0))
    save(folder / "ill/3.png", noise(3, 9, 9))
    look_at_folder(folder, [*names, "ill/7.png"])
    assert looked[5:] == ["2.png", "3.png", "7.png"]
    (found,) = own_cache.glob("looks/*.json.gz")
    found.write_bytes(b"damaged")
    assert [each.seen for each in look_at_folder(folder, names[:2])] == [each.seen for each in first[:2]]
    assert looked[8:] == ["0.png", "1.png"]


def test_a_file_that_could_not_be_opened_is_tried_again(folder: Path) -> None:
    (folder / "ill/link.png").symlink_to(folder / "absent.png")
    (found,) = look_at_folder(folder, ["ill/link.png"])
    assert "No such file" in found.seen.fault
    shutil.copy(folder / "ill/0.png", folder / "absent.png")
    os.utime(folder / "absent.png", ns=(0, 0))
    (found,) = look_at_folder(folder, ["ill/link.png"])
    assert found.seen.fault == ""


def test_a_look_needs_no_folder_in_which_it_can_be_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert look_at_images(ImageSource("images", folder))[1] is None
    assert "cannot be kept in /proc/none/hpbandster_lite/pictures/looks" in caplog.text
    assert len(read_anew(folder).train_y) == 17
    assert "each trainer decodes them itself; free space or give another folder with --cache DIR" in caplog.text


def test_two_processes_find_and_decode_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_unusual(folder)
    source = ImageSource("images", folder, 8, "pad", "skip", tmp_path / "one")
    here = look_at_images(source), read_anew(folder, size=8, aspect="pad", unusual="skip", cache=tmp_path / "one")
    monkeypatch.setattr(picture_processes, "FEW_BYTES", 0)
    there = (
        look_at_images(source._replace(cache=tmp_path / "two")),
        read_anew(folder, size=8, aspect="pad", unusual="skip", cache=tmp_path / "two"),
    )
    assert here[0][:2] == there[0][:2]
    assert np.array_equal(here[1].train_x, there[1].train_x)


def test_a_file_on_which_a_process_dies_cannot_be_read_and_the_others_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A process that reads a name of this kind ends itself, as a library with a fault would.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('/3.png'):\n"
        "        os.kill(os.getpid(), 11)\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(picture_processes, "FEW_BYTES", 0)
    found = look_at_folder(folder, [f"ill/{number}.png" for number in range(8)])
    assert {each.name: each.seen.fault for each in found if each.seen.fault} == {
        "ill/3.png": "the process that reads it dies of SIGSEGV"
    }


def test_a_long_look_gives_its_progress(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_look, "WORDS_EVERY_S", 0.0)
    words: list[str] = []
    missing_data(ImageProblem(ImageOptions(data_set="images", data=folder)), words.append)
    assert words[-1] == f"looked at 20 of 20 pictures in {folder}; about 0 s left"


# ------------------------------------------------------------------------------------------------------ decoded pixels


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures of each decoding."""
    counts: list[int] = []

    def counted(items: Any, *rest: Any) -> Any:
        counts.append(len(items))
        return picture_processes.decode_all(items, *rest)

    monkeypatch.setattr("hpbandster_lite.workers.images.picture_cache.decode_all", counted)
    return counts


def cached(folder: Path) -> Path:
    (file,) = folder.glob("*.pixels")
    return file


def test_pictures_are_decoded_once_and_read_by_memory_map(
    folder: Path, decodings: list[int], own_cache: Path
) -> None:
    first = read_anew(folder)
    again = read_anew(folder)
    assert decodings == [20]
    assert np.array_equal(first.train_x, again.train_x)
    assert isinstance(picture_cache._mapped(cached(own_cache), pictures_of(folder)), np.memmap)
    assert {file.suffix for file in own_cache.iterdir() if file.is_file()} == {".pixels", ".lock"}


def pictures_of(folder: Path) -> picture_cache.Pictures:
    names = [f"{name}/{number}.png" for name in ("healthy", "ill") for number in range(10)]
    found = look_at_folder(folder, names)
    items = [picture_processes.Item(i, f"{folder}/{each.name}", each.n_bytes) for i, each in enumerate(found)]
    preparation = Preparation(None, "squeeze", ())
    return picture_cache.Pictures(items, [each.seen.digest for each in found], (1, 8, 6), preparation)


def test_the_key_is_the_content_and_how_it_is_prepared(folder: Path, decodings: list[int], tmp_path: Path) -> None:
    read_anew(folder)
    shutil.copytree(folder, tmp_path / "moved")
    read_anew(tmp_path / "moved")
    assert decodings == [20]
    read_anew(folder, size=(8, 8))
    read_anew(folder, size=(8, 8), aspect="crop")
    save(folder / "ill/0.png", noise(900, 8, 6))
    changed = read_anew(folder)
    assert decodings == [20] * 4
    assert any(np.array_equal(x[0], noise(900, 8, 6)) for x in np.concatenate([changed.train_x, changed.test_x]))


@pytest.mark.parametrize("damage", ["cut", "pixel", "header", "foreign", "empty"])
def test_a_damaged_file_is_made_anew(
    damage: str, folder: Path, decodings: list[int], own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read_anew(folder)
    file = cached(own_cache)
    content = bytearray(file.read_bytes())
    if damage == "pixel":
        content[-1] ^= 1
    elif damage == "header":
        content[5] ^= 1
    damaged = {"cut": bytes(content[:-1]), "foreign": b"something else", "empty": b""}
    file.write_bytes(damaged.get(damage, bytes(content)))
    assert np.array_equal(read_anew(folder).train_x, first.train_x)
    assert decodings == [20, 20]
    assert f"{file} is not complete or has other content; it is made anew" in caplog.text


def test_the_run_directory_has_the_pixels_unless_a_folder_is_given(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPBANDSTER_LITE_RUN_DIR", str(tmp_path / "run"))
    read_anew(folder)
    assert cached(tmp_path / "run/pictures").is_file()
    read_anew(folder, cache=tmp_path / "given")
    assert cached(tmp_path / "given").is_file()


def test_a_full_disk_costs_time_and_no_result(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, own_cache: Path
) -> None:
    expected = read_anew(folder)
    cached(own_cache).unlink()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert np.array_equal(read_anew(folder).train_x, expected.train_x)
    assert "(No space left on device): each trainer decodes them itself" in caplog.text
    assert not list(own_cache.glob("*.pixels"))
    assert not [file for file in own_cache.glob(".*") if file.suffix != ".lock"]


def test_what_a_killed_process_left_is_removed(folder: Path, own_cache: Path) -> None:
    own_cache.mkdir(parents=True)
    left = own_cache / f".{pictures_of(folder).key}-1234"
    left.write_bytes(b"half")
    read_anew(folder)
    assert not left.exists()


def test_a_second_process_waits_for_the_first_one(
    folder: Path, decodings: list[int], own_cache: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    read_anew(folder)
    file = cached(own_cache)
    shutil.move(file, tmp_path / "made")
    caplog.set_level(logging.INFO, picture_cache.__name__)
    other = filelock.FileLock(file.with_name(f".{file.name}.lock"), thread_local=False)
    other.acquire()

    class Finishes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another process decodes 20 pictures" in record.getMessage():
                shutil.move(tmp_path / "made", file)
                other.release()

    handler = Finishes()
    picture_cache.logger.addHandler(handler)
    try:
        read_anew(folder)
    finally:
        picture_cache.logger.removeHandler(handler)
        other.release(force=True)
    assert decodings == [20]


def test_a_lock_that_is_not_released_does_not_stop_a_search(
    folder: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = pictures_of(folder).key
    monkeypatch.setattr(picture_cache, "LOCK_S", 0.1)
    monkeypatch.setattr(picture_cache, "WORDS_EVERY_S", 0.05)
    with filelock.FileLock(own_cache / f".{key}.pixels.lock", thread_local=False):
        assert len(read_anew(folder).train_y) == 17
    assert "this process does it, too" in caplog.text


def test_a_picture_that_changes_after_the_look_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = pictures_of(folder)
    save(folder / "ill/4.png", noise(1, 5, 5))
    (folder / "ill/5.png").write_bytes(b"")
    with pytest.raises(ImageDataError, match=r"4\.png has changed since it was looked at.*; .*5\.png is not a picture"):
        picture_cache.decoded(pictures, folder / "cache")


def test_the_header_is_one_page_of_text(folder: Path, own_cache: Path) -> None:
    read_anew(folder)
    header = json.loads(cached(own_cache).read_bytes()[: picture_cache.HEADER_BYTES])
    assert (header["n"], header["shape"]) == (20, [1, 8, 6])
