"""The files of the catalogue's data sets: found on disk, else downloaded; checked before they are read.

Law of this file: a file is read as images only if its MD5 sum equals the published one. Only a download needs
torchvision.
An incomplete file never appears in its place, even if a process is killed during a download.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import logging
import shutil
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from hpbandster_lite.workers.images.catalogue import CATALOGUE
from hpbandster_lite.workers.images.cifar_file import CifarFile, read_cifar_file
from hpbandster_lite.workers.images.image_data import ImageData, ImageDataError, Labels, Pixels
from hpbandster_lite.workers.images.torchvision_import import data_sets

logger = logging.getLogger(__name__)

META = ("batches.meta", "meta")
"""The file with the names of the classes."""
SILENCE_S = 20.0
"""Seconds without a byte from a server after which a download fails, for example behind a firewall."""
LOCK_S = 3600.0
"""Longest wait in seconds for another worker's download; CIFAR-10 has 170 MB."""


def read_published(data_set: str, root: Path) -> ImageData:
    """Read a data set of the catalogue.

    Parameters
    ----------
    data_set
        Name of the data set.
    root
        A folder in torchvision's layout, or the folder with the files.

    Raises
    ------
    ImageDataError
        If a file is damaged, or if the files do not exist and cannot be downloaded.
    """
    if root.exists() and not root.is_dir():
        raise ImageDataError(f"--data {root} is a file; give the folder with {layout(data_set)}")
    known, read = CATALOGUE[data_set], _reader(data_set)
    if known.folder and root.name == known.folder:
        root = root.parent
    found = read(data_set, root)
    if found is None:
        _download(data_set, root)
        found = read(data_set, root)
    if found is None:
        raise ImageDataError(f"{data_set} was downloaded to {root} and then removed; {_ways(data_set)}")
    return found


def _torchvision_class(data_set: str) -> Any:
    return getattr(data_sets(), CATALOGUE[data_set].torchvision_class)


def _reader(data_set: str) -> Callable[[str, Path], ImageData | None]:
    return {"cifar": _read_cifar, "idx": _read_idx}[CATALOGUE[data_set].file_format]


def layout(data_set: str) -> str:
    """Description of the files of a data set in a folder DIR."""
    known = CATALOGUE[data_set]
    if known.file_format == "cifar":
        return f"DIR/{known.folder}/, or the archive DIR/{known.archive} from {_torchvision_class(data_set).url}"
    return f"the four files of DIR/{known.torchvision_class}/raw/, such as train-images-idx3-ubyte, plain or .gz"


def _ways(data_set: str) -> str:
    package = CATALOGUE[data_set].system_package
    return (
        f"put {layout(data_set)}, into a folder and give it with --data DIR or the environment variable "
        f"HPBANDSTER_LITE_DATA{f', or {package}' if package else ''}, or run once with a network and the same folder"
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _damaged(file: Path, what: str) -> ImageDataError:
    return ImageDataError(f"{file} is damaged: {what}; delete it and download it again")


# ------------------------------------------------------------------------------------------------------------ CIFAR


def _read_cifar(data_set: str, root: Path) -> ImageData | None:
    """The images, or None if a file is missing."""
    known = CATALOGUE[data_set]
    files = {name: root / known.folder / name for name in known.files}
    if not all(file.is_file() for file in files.values()):
        return None
    read = {name: _cifar_file(file, known.files[name]) for name, file in files.items()}
    test, meta = (next(name for name in files if name.startswith(start)) for start in ("test", META))
    train = [name for name in files if name not in (test, meta)]
    return ImageData(
        source=f"{data_set} in {root}",
        train_x=_cifar_images(b"".join(read[name].images for name in train)),
        train_y=np.array([label for name in train for label in read[name].labels], dtype=np.int64),
        test_x=_cifar_images(read[test].images),
        test_y=np.array(read[test].labels, dtype=np.int64),
        class_names=tuple(read[meta].class_names),
    )


def _cifar_file(file: Path, expected: str) -> CifarFile:
    content = file.read_bytes()
    found = _md5(content)
    if found != expected:
        raise _damaged(file, f"its MD5 sum is {found}, not {expected}")
    try:
        return read_cifar_file(content)
    except ValueError as error:
        raise _damaged(file, str(error)) from error


def _cifar_images(content: bytes) -> Pixels:
    """An image is its red, then its green, then its blue values, each line by line."""
    return np.frombuffer(content, np.uint8).reshape(-1, 3, 32, 32)


# ------------------------------------------------------------------------------------------------------------ MNIST


def _read_idx(data_set: str, root: Path) -> ImageData | None:
    """The images, or None if no folder has all four files, each plain or packed."""
    known = CATALOGUE[data_set]
    folders = [root / known.torchvision_class / "raw", root]
    if known.system_folder is not None:
        folders.append(known.system_folder)
    for folder in folders:
        files = [_plain_or_packed(folder / name) for name in known.content_md5]
        if all(files):
            break
    else:
        return None
    contents = [
        _checked_content(file, md5)
        for file, md5 in zip(filter(None, files), known.content_md5.values(), strict=True)
    ]
    return ImageData(
        source=f"{data_set} in {folder}",
        train_x=_idx_images(contents[0]),
        train_y=_idx_labels(contents[1]),
        test_x=_idx_images(contents[2]),
        test_y=_idx_labels(contents[3]),
        class_names=known.class_names,
    )


def _plain_or_packed(file: Path) -> Path | None:
    packed = file.with_name(f"{file.name}.gz")
    return file if file.is_file() else packed if packed.is_file() else None


def _checked_content(file: Path, expected: str) -> bytes:
    content = file.read_bytes()
    if file.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(file, f"it cannot be unpacked ({error})") from error
    found = _md5(content)
    if found != expected:
        raise _damaged(file, f"the MD5 sum of its content is {found}, not {expected}")
    return content


def _idx_images(content: bytes) -> Pixels:
    """IDX: a magic number, n, rows, columns as big-endian int32, then the pixels."""
    n, rows, columns = np.frombuffer(content, ">i4", count=3, offset=4)
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, 1, rows, columns)


def _idx_labels(content: bytes) -> Labels:
    """IDX: a magic number and n as big-endian int32, then the labels."""
    return np.frombuffer(content, np.uint8, offset=8).astype(np.int64)


# --------------------------------------------------------------------------------------------------------- download


def _download(data_set: str, root: Path) -> None:
    """Download the files or unpack an existing archive; one process on each host at a time.

    A process that waited for another one finds the files and downloads nothing.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f".{data_set}.lock"):
            if _reader(data_set)(data_set, root) is None:
                _download_into(data_set, _torchvision_class(data_set), root)
    except ImageDataError:
        raise
    # torchvision raises RuntimeError for a wrong sum; the others come from the standard library.
    except (OSError, EOFError, RuntimeError, http.client.HTTPException, tarfile.TarError, zlib.error) as error:
        raise ImageDataError(
            f"{data_set} is not in {root} and cannot be downloaded to it ({_one_line(error)}); {_ways(data_set)}"
        ) from error


def _download_into(data_set: str, kind: Any, root: Path) -> None:
    for left_behind in root.glob(f".{data_set}-*"):
        # A process that was killed during a download left this folder.
        shutil.rmtree(left_behind)
    with tempfile.TemporaryDirectory(dir=root, prefix=f".{data_set}-") as name:
        unpacked = Path(name)
        archive = root / getattr(kind, "filename", "")
        if archive.is_file() and hasattr(kind, "tgz_md5"):
            found = _md5(archive.read_bytes())
            if found != kind.tgz_md5:
                raise _damaged(archive, f"its MD5 sum is {found}, not {kind.tgz_md5}")
            logger.info("unpacking %s", archive)
            (unpacked / archive.name).symlink_to(archive.resolve())
        else:
            urls = [kind.url] if hasattr(kind, "url") else kind.mirrors
            logger.info("downloading %s from %s to %s", data_set, " or ".join(urls), root)
        with _socket_timeout():
            kind(unpacked, download=True)
        for file in sorted(unpacked.rglob("*")):
            place = root / file.relative_to(unpacked)
            if file.is_file() and file.parent != unpacked:
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
        logger.info("%s is now in %s", data_set, root)


@contextlib.contextmanager
def _locked(lock_file: Path) -> Iterator[None]:
    lock = filelock.FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logger.info("another process is downloading: waiting for %s", lock_file)
        try:
            lock.acquire(timeout=LOCK_S)
        except filelock.Timeout as error:
            raise ImageDataError(
                f"another process has held {lock_file} for {LOCK_S:.0f} s and is still downloading; end it, or give "
                "another folder with --data DIR"
            ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Set a timeout for new sockets in this context, because torchvision sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
