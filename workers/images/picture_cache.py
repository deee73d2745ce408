"""The decoded pixels of pictures, kept in a file and read by memory map, so that not every trainer decodes them.

Law of this file: the name of a file is the content that it was made from, so it never goes stale. It is written under
another name and renamed when it is complete; a file whose header, size or checksum is wrong is made anew. One process
makes it and the others wait. A full or read-only disk costs time and no result.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

from hpbandster_lite.process.environment import RUN_DIRECTORY_VARIABLE
from hpbandster_lite.workers.images.image_data import ImageDataError, Pixels
from hpbandster_lite.workers.images.picture import Preparation, read_picture, with_channels
from hpbandster_lite.workers.images.picture_processes import Decoding, Item, decode_all

logger = logging.getLogger(__name__)

RULES = 1
"""Number of the rules by which pictures become pixels; another number makes all files anew."""
HEADER_BYTES = 4096
"""The header is JSON, padded with spaces to one page of memory."""
WORDS_EVERY_S = 10.0
LOCK_S = 3600.0
"""Longest wait in seconds for another process; afterwards this process does the work itself."""
CHUNK_BYTES = 1 << 24
MOST_NAMED = 20


class Pictures(NamedTuple):
    """Pictures to decode.

    Parameters
    ----------
    files
        The files, in order, with their sizes.
    digests
        Digest of the content of each.
    shape
        Channels, height and width of all pixels.
    preparation
        How they are made from the pictures.
    """

    files: Sequence[Item]
    digests: Sequence[str]
    shape: tuple[int, int, int]
    preparation: Preparation

    @property
    def key(self) -> str:
        """Identifies the pixels: the contents, their order, and how they are prepared."""
        size, aspect, _ = self.preparation
        text = json.dumps([RULES, self.shape, size, aspect, list(self.digests)])
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]

    @property
    def n_bytes(self) -> int:
        """Size of the pixels in bytes."""
        channels, height, width = self.shape
        return len(self.files) * channels * height * width


def cache_folder(given: Path | None) -> Path:
    """The given folder, else that of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (given or Path(cache) / "hpbandster_lite" / "pictures").expanduser().absolute()


def pixels_folder(given: Path | None) -> Path:
    """Where decoded pixels are kept: the given folder, else the run directory, else the folder of this user."""
    run = os.environ.get(RUN_DIRECTORY_VARIABLE)
    return Path(run, "pictures") if given is None and run else cache_folder(given)


def decoded(pictures: Pictures, folder: Path) -> Pixels:
    """The pixels of pictures, (n, channels, height, width): from a file in the folder, which is made if need be.

    Raises
    ------
    ImageDataError
        If pictures cannot be decoded.
    """
    file = folder / f"{pictures.key}.pixels"
    found = _mapped(file, pictures)
    if found is not None:
        return found
    with held(file, f"another process decodes {len(pictures.files):,} pictures"):
        found = _mapped(file, pictures)
        if found is None:
            found = _made(file, pictures)
    return _in_memory(pictures) if found is None else found


# ---------------------------------------------------------------------------------------------------------------- file


def _header(pictures: Pictures, checksum: int) -> bytes:
    text = json.dumps(
        {"pixels": RULES, "key": pictures.key, "n": len(pictures.files), "shape": pictures.shape, "crc32": checksum}
    )
    return text.encode("ascii").ljust(HEADER_BYTES - 1) + b"\n"


def _mapped(file: Path, pictures: Pictures) -> Pixels | None:
    """The pixels of a complete file; None if there is none."""
    try:
        with file.open("rb") as stream:
            header = stream.read(HEADER_BYTES)
            is_whole = os.fstat(stream.fileno()).st_size == HEADER_BYTES + pictures.n_bytes
        if not is_whole or header != _header(pictures, _checksum(file)):
            logger.warning("%s is not complete or has other content; it is made anew", file)
            return None
        shape = (len(pictures.files), *pictures.shape)
        return np.memmap(file, dtype=np.uint8, mode="r", offset=HEADER_BYTES, shape=shape)
    except OSError:
        return None


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        stream.seek(HEADER_BYTES)
        while chunk := stream.read(CHUNK_BYTES):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _made(file: Path, pictures: Pictures) -> Pixels | None:
    """Decode the pictures into the file; None if it cannot be written, with words in the log."""
    for left_behind in file.parent.glob(f".{pictures.key}-*"):
        # A process that was killed left it.
        left_behind.unlink(missing_ok=True)
    unfinished = file.with_name(f".{pictures.key}-{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as stream:
            # Reserved before, because a full disk would otherwise end a process that writes.
            os.posix_fallocate(stream.fileno(), 0, HEADER_BYTES + pictures.n_bytes)
        into = Decoding(str(unfinished), HEADER_BYTES, pictures.shape, pictures.preparation)
        _refuse(decode_all(pictures.files, into, lambda n: None))
        with unfinished.open("r+b") as stream:
            stream.write(_header(pictures, _checksum(unfinished)))
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except OSError as error:
        logger.warning(
            "%.0f MB of decoded pictures cannot be kept in %s (%s): each trainer decodes them itself; free space or "
            "give another folder with --cache DIR", pictures.n_bytes / 1e6, file.parent, error.strerror or error,
        )  # fmt: skip
        return None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return _mapped(file, pictures)


def _in_memory(pictures: Pictures) -> Pixels:
    pixels = np.empty((len(pictures.files), *pictures.shape), dtype=np.uint8)
    for item in pictures.files:
        pixels[item.number] = with_channels(read_picture(Path(item.file), pictures.preparation), pictures.shape[0])
    return pixels


def _refuse(faults: Sequence[str]) -> None:
    if faults:
        more = f"; and {len(faults) - MOST_NAMED:,} more" if len(faults) > MOST_NAMED else ""
        raise ImageDataError("; ".join(faults[:MOST_NAMED]) + more)


# ------------------------------------------------------------------------------------------------------- one at a time


@contextlib.contextmanager
def held(file: Path, words: str, on_progress: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold the lock of a file that one process makes; without a lock where the folder allows none.

    Parameters
    ----------
    file
        The file.
    words
        What another process does that has the lock.
    on_progress
        Receives the words while this process waits. Default: ``None``, for one line in the log.
    """
    lock = filelock.FileLock(file.with_name(f".{file.name}.lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, f"{words}: waiting for {file}", on_progress)
    except (OSError, NotImplementedError) as error:
        logger.info("no lock in %s (%s)", file.parent, error)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, words: str, on_progress: Callable[[str], object] | None) -> None:
    ends_at = time.monotonic() + LOCK_S
    timeout_s = 0.0
    while time.monotonic() < ends_at:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=timeout_s)
            return
        if on_progress is not None:
            on_progress(words)
        elif not timeout_s:
            logger.info(words)
        timeout_s = WORDS_EVERY_S
    logger.warning("%s since %.0f s: this process does it, too", words, LOCK_S)


def replace_file(file: Path, content: bytes) -> None:
    """Write a file under another name, then rename it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
