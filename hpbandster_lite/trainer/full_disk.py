"""Whether an objective failed because a disk is full, so that neither its code nor its configuration is the cause.

Law of this file: it reads only an exception and the free space of file systems.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS = (
    "no space left on device",
    "disk quota exceeded",
    "database or disk is full",
    "no usable temporary directory found",
)
"""Messages of libraries that raise errors without errno."""
_UNCLEAR_WORDS = (
    "pytorchstreamwriter failed",
    "unexpected pos",
    "file write failed",
    "disk i/o error",
    "requested and ",
)
"""torch.save, numpy's tofile and sqlite use these words for a write that failed, without the reason."""
FULL_BELOW_BYTES = 2**20
"""A disk with less free space counts as full: real checkpoints are larger. Reserved blocks do not count as free."""
MOUNTS = Path("/proc/self/mounts")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (only its free space is read)
_LOCAL_TYPES = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "vfat", "exfat"})
_ESCAPED = re.compile(r"\\([0-7]{3})")


class NoRoom(NamedTuple):
    """A folder whose disk has no free space, and the whole reason as text."""

    folder: str
    reason: str


def full_disk_at_import(error: BaseException) -> str | None:
    """The folder whose full disk is the reason that a problem cannot be imported; None for another reason."""
    no_room = full_disk(error, _temporary())
    return None if no_room is None else no_room.folder


def full_disk(error: BaseException, directory: str | os.PathLike[str]) -> NoRoom | None:
    """The full disk, if an exception shows it.

    A read-only disk counts too if it has the attempt's directory.

    Parameters
    ----------
    error
        The exception of the objective; its cause and context are examined too.
    directory
        The attempt's directory, in which it saves checkpoints. The reason names it if the error names no file, unless
        another disk of this host is full.

    Returns
    -------
    NoRoom or None
        None if no disk is full.
    """
    chain = tuple(_chain(error))
    # The error of the system names a file; another error around it may not.
    found = (_by_number(each, directory) for each in chain if isinstance(each, OSError))
    return next(filter(None, found), None) or _by_words(chain, directory)


def _by_number(error: OSError, directory: str | os.PathLike[str]) -> NoRoom | None:
    where = error.filename2 or error.filename
    named = os.fsdecode(where) if isinstance(where, str | bytes) else None
    if error.errno in _NO_ROOM:
        place = named or _full_place(directory)
        return NoRoom(_folder(place, named), f"no room on the disk of {place}: {error.strerror}")
    if error.errno == errno.EROFS and named is not None and _belongs(named, directory):
        return NoRoom(str(directory), f"cannot write to the disk of {named}: {error.strerror}")
    return None


def _by_words(chain: tuple[BaseException, ...], directory: str | os.PathLike[str]) -> NoRoom | None:
    for each in chain:
        # traceback also handles an exception whose __str__ raises.
        words = traceback.format_exception_only(type(each), each)[-1].strip()
        lower = words.lower()
        is_unclear = isinstance(each, RuntimeError | OSError) or type(each).__name__ == "OperationalError"
        may_be = is_unclear and any(part in lower for part in _UNCLEAR_WORDS)
        if any(part in lower for part in _WORDS) or (may_be and _is_full(directory)):
            place = _full_place(directory)
            return NoRoom(place, f"no room on the disk of {place}: {words}")
    return None


def _folder(place: str, named: str | None) -> str:
    """The folder at which to check the disk: that of the file which the error names."""
    if named is None:
        return place
    try:
        return os.path.dirname(os.path.abspath(named))  # noqa: PTH100, PTH120 (resolves no link)
    except OSError:
        # The objective has deleted its working directory.
        return "/"


def _full_place(directory: str | os.PathLike[str]) -> str:
    """A disk that is full: first of those that any objective may write to, then of all on this host.

    If none is full, the attempt's.
    """
    places = (str(directory), _temporary(), _SHARED_MEMORY, *_local_disks())
    return next(filter(_is_full, places), str(directory))


def _temporary() -> str:
    # gettempdir writes a file, and fails if the disk is full.
    return tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 (only its free space is read)


def _local_disks() -> Iterator[str]:
    """The mount points of this host's own disks; a query to a file server that does not answer would never return."""
    try:
        lines = MOUNTS.read_text("utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for fields in (line.split(" ") for line in lines):
        if len(fields) > 2 and fields[2] in _LOCAL_TYPES:
            yield _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[1])


def _belongs(named: str, directory: str | os.PathLike[str]) -> bool:
    """Whether a path lies in the attempt's directory, or is one of its parents."""
    path, own = Path(named), Path(directory)
    return path.is_relative_to(own) or (own.is_relative_to(path) and len(path.parts) > 1)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes, each once, because they may form a cycle."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _is_full(directory: str | os.PathLike[str]) -> bool:
    existing = next((each for each in (Path(directory), *Path(directory).parents) if each.is_dir()), Path("/"))
    try:
        disk = os.statvfs(existing)
    except OSError:
        return False
    # Some file systems report no sizes, and a read-only one never has free space.
    counts = disk.f_blocks > 0 and not disk.f_flag & os.ST_RDONLY
    return counts and disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES
