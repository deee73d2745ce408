"""One look at the pictures of a folder: what each file is, found once for files that have not changed.

Law of this file: a file is looked at again only if its name, size or time of change is another one. What was found is
kept in the cache of the user, under a name made from the folder's path; if it cannot be kept, the look is repeated.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hpbandster_lite.workers.images.picture_cache import cache_folder, held, replace_file
from hpbandster_lite.workers.images.picture_processes import Item, Seen, look_at_all, seen_of

logger = logging.getLogger(__name__)

RULES = 1
"""Number of the rules by which pictures are looked at; another number makes all looks anew."""
WORDS_EVERY_S = 10.0
OnProgress: TypeAlias = Callable[[str], object]


class Looked(NamedTuple):
    """A file as it was looked at."""

    name: str
    n_bytes: int
    changed_ns: int
    seen: Seen


def look_at_folder(
    folder: Path, names: Sequence[str], cache: Path | None = None, on_progress: OnProgress | None = None
) -> list[Looked]:
    """What each of these files is, in their order.

    Parameters
    ----------
    folder
        The folder.
    names
        Files, relative to the folder.
    cache
        Folder in which to keep what was found. Default: ``None``, for that of this user.
    on_progress
        Receives words about a look that takes long. Default: ``None``, for the log.
    """
    stored = cache_folder(cache) / "looks" / f"{_key(folder)}.json.gz"
    asked = [_asked(folder, name) for name in names]
    known = _stored(stored)
    if all(each in known for each in asked):
        return [Looked(*each, known[each]) for each in asked]
    with held(stored, f"another process looks at the pictures in {folder}", on_progress):
        known = _stored(stored)
        found = _look(folder, asked, known, on_progress or logger.info)
        _store(stored, found)
    return found


def list_file(folder: Path, cache: Path | None = None) -> Path:
    """The file with the names of all files that are unusual."""
    return cache_folder(cache) / "looks" / f"{_key(folder)}.txt"


_Asked: TypeAlias = tuple[str, int, int]


def _key(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]


def _asked(folder: Path, name: str) -> _Asked:
    try:
        status = Path(folder, name).stat()
    except OSError:
        # A link without a target: the look finds what is wrong.
        return name, 0, 0
    return name, status.st_size, status.st_mtime_ns


def _look(folder: Path, asked: Sequence[_Asked], known: dict[_Asked, Seen], on_progress: OnProgress) -> list[Looked]:
    items = [
        Item(number, f"{folder}/{each[0]}", each[1]) for number, each in enumerate(asked) if each not in known
    ]
    begun = words_at = time.monotonic()

    def on_done(n: int) -> None:
        nonlocal words_at
        now = time.monotonic()
        if now >= words_at + WORDS_EVERY_S:
            words_at = now
            left_s = (now - begun) * (len(items) - n) / n
            on_progress(f"looked at {n:,} of {len(items):,} pictures in {folder}; about {left_s:.0f} s left")

    seen = look_at_all(items, on_done)
    return [Looked(*each, seen[number] if number in seen else known[each]) for number, each in enumerate(asked)]


def _stored(file: Path) -> dict[_Asked, Seen]:
    """What an earlier look found; empty if there is none that can be read."""
    try:
        rules, rows = json.loads(gzip.decompress(file.read_bytes()))
        if rules != RULES:
            return {}
        rows = [(name, size, changed, seen_of(fields)) for name, size, changed, fields in rows]
        # A file without a digest could not be opened, perhaps only then.
        return {(name, size, changed): seen for name, size, changed, seen in rows if seen.digest}
    except (OSError, EOFError, ValueError, TypeError, zlib.error):
        return {}


def _store(file: Path, found: Iterable[Looked]) -> None:
    content = gzip.compress(json.dumps([RULES, list(found)]).encode("ascii"), compresslevel=1)
    try:
        replace_file(file, content)
    except OSError as error:
        logger.warning("what was found in the pictures cannot be kept in %s (%s): each start looks again", file, error)
