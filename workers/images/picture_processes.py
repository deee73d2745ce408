"""Reads many pictures in two processes: what they are (``look``), or their pixels into a file (``decode``).

Law of this file: the answer for a picture depends on its file alone. A file on which a process dies is one that cannot
be read, and the others are read all the same. Few pictures are read in this process.

``python -m hpbandster_lite.workers.images.picture_processes`` is one such process: it reads a task and then pictures
from standard input, a JSON value on each line, and writes an answer for each to standard output.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.picture import Preparation, examine, read_picture, with_channels

PROCESSES = 2
FEW_BYTES = 30_000_000
"""Pictures of fewer bytes in all are read in this process: two others take a quarter of a second to start."""
DIGEST_BYTES = 16

OnDone: TypeAlias = Callable[[int], object]
"""Receives the number of pictures that were read."""


class Seen(NamedTuple):
    """What one file is: the digest of its content, the fields of :class:`~.picture.Examined`, and what is wrong."""

    digest: str
    mode: str = ""
    height: int = 0
    width: int = 0
    channels: int = 0
    traits: tuple[str, ...] = ()
    highest: int = 0
    fault: str = ""


class Decoding(NamedTuple):
    """Where pixels go: images of ``shape`` (channels, height, width) from the byte ``first`` of a file on."""

    file: str
    first: int
    shape: tuple[int, int, int]
    preparation: Preparation


class Item(NamedTuple):
    """One picture: its number, its file, and its size in bytes."""

    number: int
    file: str
    n_bytes: int


# --------------------------------------------------------------------------------------------------------- one picture


def look(file: str) -> Seen:
    """What a file is; a file that cannot be read has a fault."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        return Seen("", fault=error.strerror or str(error))
    digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
    try:
        found = examine(content)
    except ImageDataError as error:
        return Seen(digest, fault=str(error))
    return Seen(digest, *found)


def decode(item: Item, into: Decoding) -> str:
    """Write the pixels of a picture to their place; returns what is wrong, else an empty text.

    Raises
    ------
    OSError
        If the file of the pixels cannot be written.
    """
    channels, height, width = into.shape
    try:
        pixels = with_channels(read_picture(Path(item.file), into.preparation), channels)
    except ImageDataError as error:
        return str(error)
    if pixels.shape != into.shape:
        return f"{item.file} has changed since it was looked at: it now has {pixels.shape[1]}x{pixels.shape[2]} pixels"
    target = os.open(into.file, os.O_WRONLY)
    try:
        rest = memoryview(pixels.tobytes())
        place = into.first + item.number * channels * height * width
        while rest:
            n = os.pwrite(target, rest, place)
            rest, place = rest[n:], place + n
    finally:
        os.close(target)
    return ""


# ------------------------------------------------------------------------------------------------------- many pictures


def look_at_all(items: Sequence[Item], on_done: OnDone) -> dict[int, Seen]:
    """What each file is, by its number."""
    if _are_few(items):
        return {item.number: look(item.file) for item in _counted(items, on_done)}
    answers = _in_processes(["look"], items, on_done)
    return {
        number: Seen("", fault=answer) if isinstance(answer, str) else seen_of(answer)
        for number, answer in answers.items()
    }


def decode_all(items: Sequence[Item], into: Decoding, on_done: OnDone) -> list[str]:
    """Write the pixels of all pictures; returns what is wrong with any of them."""
    if _are_few(items):
        faults = (decode(item, into) for item in _counted(items, on_done))
        return [fault for fault in faults if fault]
    answers = _in_processes(["decode", *into], items, on_done)
    return [fault for _, fault in sorted(answers.items()) if fault]


def seen_of(fields: Sequence[Any]) -> Seen:
    """The record of its fields as JSON gives them."""
    digest, mode, height, width, channels, traits, highest, fault = fields
    return Seen(digest, mode, height, width, channels, tuple(traits), highest, fault)


def _are_few(items: Sequence[Item]) -> bool:
    return sum(item.n_bytes for item in items) < FEW_BYTES


def _counted(items: Iterable[Item], on_done: OnDone) -> Iterator[Item]:
    for n, item in enumerate(items):
        yield item
        on_done(n + 1)


def _in_processes(task: Sequence[Any], items: Sequence[Item], on_done: OnDone) -> dict[int, Any]:
    """The answers for all items by their number; that for a file on which a process died is a text."""
    answers: dict[int, Any] = {}
    errors: list[ImportError | OSError | ValueError] = []

    def work(part: Sequence[Item]) -> None:
        try:
            while part:
                part = _in_one_process(task, part, answers, lambda: on_done(len(answers)))
        except (ImportError, OSError, ValueError) as error:
            # The other thread ends first; then the caller gets it.
            errors.append(error)

    threads = [threading.Thread(target=work, args=(items[first::PROCESSES],)) for first in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers


def _in_one_process(
    task: Sequence[Any], part: Sequence[Item], answers: dict[int, Any], on_done: Callable[[], object]
) -> Sequence[Item]:
    """Read pictures in a new process until they are done or it dies; returns those that are left."""
    with tempfile.TemporaryFile() as orders, tempfile.TemporaryFile() as errors:
        orders.write(b"".join(json.dumps(line).encode("ascii") + b"\n" for line in (task, *part)))
        orders.seek(0)
        command = [sys.executable, "-m", "hpbandster_lite.workers.images.picture_processes"]
        n = 0
        with subprocess.Popen(command, stdin=orders, stdout=subprocess.PIPE, stderr=errors) as process:
            for line in process.stdout or ():
                if not line.endswith(b"\n"):
                    break
                answers[part[n].number] = json.loads(line)
                n += 1
                on_done()
        if n == len(part):
            return ()
        if process.returncode >= 0:
            errors.seek(0)
            raise OSError(_last_line(errors.read()) or f"a process that reads pictures ended: {process.returncode}")
        answers[part[n].number] = f"the process that reads it dies of {signal.Signals(-process.returncode).name}"
        return part[n + 1 :]


def _last_line(printed: bytes) -> str:
    lines = printed.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else ""


def _decoding(file: str, first: int, shape: list[int], preparation: list[Any]) -> Decoding:
    channels, height, width = shape
    size, aspect, refused = preparation
    return Decoding(
        file, first, (channels, height, width), Preparation(size and (size[0], size[1]), aspect, tuple(refused))
    )


def main() -> None:
    """Answer for each picture of standard input."""
    task, *about = json.loads(sys.stdin.readline())
    into = _decoding(*about) if task == "decode" else None
    for line in sys.stdin:
        item = Item(*json.loads(line))
        answer = look(item.file) if into is None else decode(item, into)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
