"""CIFAR, MNIST and Fashion-MNIST from small sets in the published formats: found, checked, downloaded, or refused.

The files have the published formats and artificial content, so the tests replace the MD5 sums by those of these files,
and nothing else.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import logging
import pickle  # noqa: TID251 (the CIFAR files are pickles)
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest

from hpbandster_lite.workers.images import catalogue_files
from hpbandster_lite.workers.images.catalogue import CATALOGUE
from hpbandster_lite.workers.images.cifar_file import read_cifar_file
from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.read_images import place_of, read_images
from hpbandster_lite.workers.images.torchvision_import import data_sets
from hpbandster_lite.workers.networks.image_shape import ImageShape

PUBLISHED = dict(CATALOGUE)
IDX_FILES = tuple(CATALOGUE["mnist"].content_md5)


@pytest.fixture(autouse=True)
def no_data_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HPBANDSTER_LITE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    debian = replace(CATALOGUE["fashion_mnist"], system_folder=tmp_path / "debian")
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", debian)
    # No server listens on port 1, so no test connects to another machine.
    for kind in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(getattr(data_sets(), kind), "url", "http://127.0.0.1:1/archive.tar.gz")
    for kind in ("MNIST", "FashionMNIST"):
        monkeypatch.setattr(getattr(data_sets(), kind), "mirrors", ["http://127.0.0.1:1/"])


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def pickled(file: Path, content: dict[str, Any]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(content, protocol=2))
    return md5(file.read_bytes())


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch, per_file: int = 4) -> dict[str, np.ndarray]:
    """The six files and batches.meta, and their sums in torchvision's list."""
    kind, rng = data_sets().CIFAR10, np.random.default_rng(0)
    folder = root / kind.base_folder
    written: dict[str, np.ndarray] = {}
    sums = {}
    for name, _ in kind.train_list + kind.test_list:
        pixels = rng.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        labels = rng.permutation(10)[:per_file].tolist()
        written[name] = pixels
        written[f"{name} labels"] = np.array(labels)
        sums[name] = pickled(folder / name, {"data": pixels, "labels": labels, "batch_label": name, "filenames": []})
    # Every class needs a training image; 5 files of at least 4 labels might miss one.
    first = kind.train_list[0][0]
    written[first] = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
    written[f"{first} labels"] = np.arange(10)
    sums[first] = pickled(folder / first, {"data": written[first], "labels": list(range(10))})
    meta = pickled(folder / "batches.meta", {"label_names": [f"class {i}" for i in range(10)], "num_vis": 3072})
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[name, sums[name]] for name, _ in kind.test_list])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": meta})
    known = CATALOGUE["cifar10"]
    monkeypatch.setitem(CATALOGUE, "cifar10", replace(known, files={**sums, "batches.meta": meta}))
    return written


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = data_sets().CIFAR100
    sums = {
        name: pickled(
            root / kind.base_folder / name,
            {"data": np.full((n, 3072), n, np.uint8), "fine_labels": list(range(n)), "coarse_labels": [0] * n},
        )
        for name, n in (("train", 100), ("test", 7))
    }
    meta = pickled(root / kind.base_folder / "meta", {"fine_label_names": [f"fine {i}" for i in range(100)]})
    monkeypatch.setattr(kind, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": meta})
    monkeypatch.setitem(CATALOGUE, "cifar100", replace(CATALOGUE["cifar100"], files={**sums, "meta": meta}))


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zeros, the type (8: uint8), the number of axes, each axis as big-endian int32, the values."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def write_mnist(
    folder: Path, data_set: str, monkeypatch: pytest.MonkeyPatch, *, packed: bool, seed: int = 0
) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    arrays = [
        rng.integers(0, 256, (20, 28, 28), dtype=np.uint8), (np.arange(20) % 10).astype(np.uint8),
        rng.integers(0, 256, (6, 28, 28), dtype=np.uint8), np.arange(6, dtype=np.uint8),
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, array in zip(IDX_FILES, arrays, strict=True):
        content = idx(array)
        sums[name] = md5(content)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    monkeypatch.setitem(CATALOGUE, data_set, replace(CATALOGUE[data_set], content_md5=sums))
    return arrays


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a server on loopback that serves its files."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def archive(folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pack CIFAR-10's folder below root into an archive in another folder, and delete it."""
    kind = data_sets().CIFAR10
    file: Path = folder / kind.filename
    with tarfile.open(file, "w:gz") as tar:
        tar.add(root / kind.base_folder, kind.base_folder)
    for written in (root / kind.base_folder).iterdir():
        written.unlink()
    (root / kind.base_folder).rmdir()
    monkeypatch.setattr(kind, "tgz_md5", md5(file.read_bytes()))
    return file


# -------------------------------------------------------------------------------------------- where files are found


def test_cifar10_is_read_as_its_files_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_cifar10(tmp_path, monkeypatch)
    images = read_images("cifar10", tmp_path)
    names = [f"data_batch_{i}" for i in range(1, 6)]
    assert images.shape == ImageShape(3, 32, 32, 10)
    # A row has 1,024 values of red, then green, then blue, each line by line.
    assert np.array_equal(images.train_x.reshape(-1, 3072), np.concatenate([written[name] for name in names]))
    assert images.train_y.tolist() == np.concatenate([written[f"{name} labels"] for name in names]).tolist()
    assert np.array_equal(images.test_x.reshape(-1, 3072), written["test_batch"])
    assert images.test_y.tolist() == written["test_batch labels"].tolist()
    assert images.class_names == tuple(f"class {i}" for i in range(10))
    assert [str(array.dtype) for array in (images.train_x, images.train_y)] == ["uint8", "int64"]


def test_cifar100_has_its_hundred_fine_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar100(tmp_path, monkeypatch)
    images = read_images("cifar100", tmp_path)
    assert images.shape == ImageShape(3, 32, 32, 100)
    assert images.train_y.tolist() == list(range(100))
    assert images.class_names[99] == "fine 99"


def test_the_folder_of_the_files_itself_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    assert len(read_images("cifar10", tmp_path / "cifar-10-batches-py").train_y) == 26


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["KIND/raw", "."])
@pytest.mark.parametrize(("data_set", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_is_read_as_its_files_hold_it(
    data_set: str, kind: str, below: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_x, train_y, test_x, test_y = write_mnist(
        tmp_path / below.replace("KIND", kind), data_set, monkeypatch, packed=packed
    )
    images = read_images(data_set, tmp_path)
    assert images.shape == ImageShape(1, 28, 28, 10)
    assert np.array_equal(images.train_x[:, 0], train_x)
    assert np.array_equal(images.test_x[:, 0], test_x)
    assert images.train_y.tolist() == train_y.tolist()
    assert images.test_y.tolist() == test_y.tolist()


def test_debians_fashion_mnist_is_found_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_x, *_ = write_mnist(tmp_path / "package", "fashion_mnist", monkeypatch, packed=True)
    (tmp_path / "debian").symlink_to(tmp_path / "package")
    images = read_images("fashion_mnist")
    assert np.array_equal(images.train_x[:, 0], train_x)
    assert images.class_names[0] == "T-shirt/top"
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_is_given_comes_before_debians(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "debian", "fashion_mnist", monkeypatch, packed=True, seed=1)
    train_x, *_ = write_mnist(tmp_path / "mine", "fashion_mnist", monkeypatch, packed=False, seed=2)
    assert np.array_equal(read_images("fashion_mnist", tmp_path / "mine").train_x[:, 0], train_x)


REAL = CATALOGUE["fashion_mnist"]


@pytest.mark.skipif(
    not (REAL.system_folder and REAL.system_folder.is_dir()),
    reason="NOT TESTED on real images: apt-get install dataset-fashion-mnist",
)
def test_the_real_fashion_mnist_is_what_its_paper_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "fashion_mnist", REAL)
    images = read_images("fashion_mnist")
    assert images.shape == ImageShape(1, 28, 28, 10)
    assert np.bincount(images.train_y).tolist() == [6_000] * 10
    assert np.bincount(images.test_y).tolist() == [1_000] * 10
    assert images.class_names[images.train_y[0]] == "Ankle boot"


@pytest.mark.parametrize("data_set", list(CATALOGUE))
def test_the_catalogue_has_what_torchvision_has(data_set: str) -> None:
    known, kind = PUBLISHED[data_set], getattr(data_sets(), PUBLISHED[data_set].torchvision_class)
    if known.file_format == "idx":
        assert list(known.class_names) == kind.classes
        return
    sums = dict(kind.train_list + kind.test_list) | {kind.meta["filename"]: kind.meta["md5"]}
    assert (known.files, known.folder, known.archive) == (sums, kind.base_folder, kind.filename)


@pytest.mark.parametrize("data_set", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_files_that_exist_are_read_without_torchvision(
    data_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if data_set == "cifar10":
        write_cifar10(tmp_path, monkeypatch)
    elif data_set == "cifar100":
        write_cifar100(tmp_path, monkeypatch)
    else:
        write_mnist(tmp_path, data_set, monkeypatch, packed=True)

    def refuse() -> None:
        raise AssertionError("torchvision was imported")

    monkeypatch.setattr(catalogue_files, "data_sets", refuse)
    assert read_images(data_set, tmp_path).shape == CATALOGUE[data_set].shape


@pytest.mark.parametrize("protocol", range(6))
def test_a_cifar_file_is_read_without_running_anything_in_it(protocol: int) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return exec, ("raise SystemExit",)

    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    text = pixels.tobytes().decode("latin-1")
    content = {"batch_label": "b", "labels": [7, 300, 7], "data": text, "filenames": ["a.png"]}
    found = read_cifar_file(pickle.dumps({"num_vis": 3072, **content, "x": Harmful()}, protocol=protocol))
    assert (found.images, found.labels) == (pixels.tobytes(), [7, 300, 7])
    with pytest.raises(ValueError, match="6,144 bytes of images for 3 labels"):
        read_cifar_file(pickle.dumps({**content, "data": text[:6144]}, protocol=protocol))


def test_a_set_is_read_once_by_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path, "mnist", monkeypatch, packed=False)
    assert read_images("mnist", tmp_path) is read_images("mnist", str(tmp_path))


def test_the_place_is_what_is_given_then_the_environments_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert place_of("mnist", None) == Path("/caches/hpbandster_lite/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert place_of("mnist", None) == Path.home() / ".cache/hpbandster_lite/data"
    monkeypatch.setenv("HPBANDSTER_LITE_DATA", "/shared")
    assert place_of("mnist", None) == place_of("images", None) == Path("/shared")
    assert place_of("mnist", Path("/mine")) == Path("/mine")


# ---------------------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_cifar_file_is_named_and_never_unpickled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, monkeypatch)
    file = tmp_path / "cifar-10-batches-py" / name
    file.write_bytes(b"cos\nabort\n(tR.")  # a pickle that would end the process
    with pytest.raises(ImageDataError, match=f"{name} is damaged: its MD5 sum is .* delete it and download it again"):
        read_images("cifar10", tmp_path)


@pytest.mark.parametrize("name", IDX_FILES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_mnist_file_is_named(
    name: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mnist(tmp_path, "mnist", monkeypatch, packed=packed)
    file = tmp_path / (f"{name}.gz" if packed else name)
    content = gzip.decompress(file.read_bytes()) if packed else file.read_bytes()
    changed = content[:-1] + bytes([content[-1] ^ 1])
    file.write_bytes(gzip.compress(changed) if packed else changed)
    with pytest.raises(ImageDataError, match=rf"{file.name} is damaged: the MD5 sum of its content is"):
        read_images("mnist", tmp_path)


def test_a_packed_file_that_was_cut_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path, "mnist", monkeypatch, packed=True)
    file = tmp_path / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ImageDataError, match=r"t10k-images-idx3-ubyte\.gz is damaged: it cannot be unpacked"):
        read_images("mnist", tmp_path)


# --------------------------------------------------------------------------------------------------------- download


def test_missing_files_are_downloaded_once_with_a_log_line_and_leave_nothing_else(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder, address = served
    root = tmp_path / "data"
    write_cifar10(root, monkeypatch)
    archive(folder, root, monkeypatch)
    monkeypatch.setattr(data_sets().CIFAR10, "url", f"{address}{data_sets().CIFAR10.filename}")
    (root / ".cifar10-of-one-that-was-killed").mkdir(parents=True)
    caplog.set_level(logging.INFO, catalogue_files.__name__)
    assert len(read_images("cifar10", root).train_y) == 26
    assert f"downloading cifar10 from {address}cifar-10-python.tar.gz to {root}" in caplog.text
    assert {path.name for path in root.iterdir()} <= {"cifar-10-batches-py", ".cifar10.lock"}
    assert socket.getdefaulttimeout() is None


def test_mnist_is_downloaded_to_torchvisions_layout(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    write_mnist(folder, "mnist", monkeypatch, packed=True)
    resources = [(f"{name}.gz", md5((folder / f"{name}.gz").read_bytes())) for name in IDX_FILES]
    monkeypatch.setattr(data_sets().MNIST, "resources", resources)
    monkeypatch.setattr(data_sets().MNIST, "mirrors", [address])
    assert len(read_images("mnist", tmp_path / "data").train_y) == 20
    assert (tmp_path / "data/MNIST/raw/train-images-idx3-ubyte").is_file()


def test_an_archive_that_lies_there_is_unpacked_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path, monkeypatch)
    file = archive(tmp_path, tmp_path, monkeypatch)
    assert len(read_images("cifar10", tmp_path).train_y) == 26
    assert file.is_file()


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half of it")
    with pytest.raises(ImageDataError, match=r"cifar-10-python\.tar\.gz is damaged: its MD5 sum is"):
        read_images("cifar10", tmp_path)


@pytest.mark.parametrize("data_set", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_without_a_network_every_way_to_the_data_is_named(data_set: str, tmp_path: Path) -> None:
    with pytest.raises(ImageDataError) as caught:
        read_images(data_set, tmp_path)
    found = str(caught.value)
    assert found.startswith(f"{data_set} is not in {tmp_path} and cannot be downloaded to it (")
    where = {"cifar10": "cifar-10-batches-py/", "cifar100": "cifar-100-python/", "mnist": "MNIST/raw/"}
    for way in (where.get(data_set, "FashionMNIST/raw/"), "--data DIR", "HPBANDSTER_LITE_DATA", "with a network"):
        assert way in found
    assert ("apt-get install dataset-fashion-mnist" in found) == (data_set == "fashion_mnist")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["cache"] * (tmp_path / "cache").exists()


def test_a_wrong_download_is_refused(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    (folder / "cifar-10-python.tar.gz").write_bytes(b"please log in")
    monkeypatch.setattr(data_sets().CIFAR10, "url", f"{address}cifar-10-python.tar.gz")
    with pytest.raises(ImageDataError, match=r"cannot be downloaded to it .RuntimeError: File not found or corrupted"):
        read_images("cifar10", tmp_path / "data")
    assert not (tmp_path / "data/cifar-10-batches-py").exists()


def test_a_silent_server_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(catalogue_files, "SILENCE_S", 0.2)
        monkeypatch.setattr(data_sets().CIFAR10, "url", f"http://127.0.0.1:{silent.getsockname()[1]}/a.tar.gz")
        with pytest.raises(ImageDataError, match=r"cannot be downloaded to it .*timed out"):
            read_images("cifar10", tmp_path)


def test_two_workers_of_a_host_do_not_download_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Another process holds the lock and finishes when this one has logged that it waits. No server answers, so a second
    # download would fail.
    caplog.set_level(logging.INFO, catalogue_files.__name__)
    other = filelock.FileLock(tmp_path / ".mnist.lock", thread_local=False)
    other.acquire()

    class Finishes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another process is downloading" in record.getMessage():
                write_mnist(tmp_path / "MNIST/raw", "mnist", monkeypatch, packed=True)
                other.release()

    handler = Finishes()
    catalogue_files.logger.addHandler(handler)
    try:
        assert len(read_images("mnist", tmp_path).train_y) == 20
    finally:
        catalogue_files.logger.removeHandler(handler)
        other.release(force=True)
    assert "downloading mnist from" not in caplog.text


def test_a_lock_that_is_not_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue_files, "LOCK_S", 0.1)
    with (
        filelock.FileLock(tmp_path / ".mnist.lock"),
        pytest.raises(ImageDataError, match=r"\.mnist\.lock for 0 s and is still downloading; end it, or give another"),
    ):
        read_images("mnist", tmp_path)


# ------------------------------------------------------------------------------------------------------------- usage


def test_an_unknown_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ImageDataError, match=r"there is no data set 'imagenet'; known are cifar10, cifar100, mnist"):
        read_images("imagenet")


def test_a_known_set_has_its_size(tmp_path: Path) -> None:
    with pytest.raises(ImageDataError, match="size=64 is only for the data set images, not for cifar10"):
        read_images("cifar10", tmp_path, size=64)


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageDataError, match="file is a file; give the folder with DIR/cifar-10-batches-py/"):
        read_images("cifar10", tmp_path / "file")
