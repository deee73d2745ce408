"""Whether an objective failed because a disk is full: neither its code nor its configuration is the cause.

Law of this file: it reads an exception, and asks the attempt's file system for its free space; nothing else.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
"""Messages of libraries whose errors have no errno."""
_TORCH_WRITES = ("pytorchstreamwriter failed", "unexpected pos", "file write failed")
"""torch.save reports that it could not write, but not why."""
FULL_BELOW_BYTES = 2**20
"""Less than any real checkpoint needs; blocks that are reserved for the administrator are not counted."""


def full_disk(error: BaseException, directory: str | os.PathLike[str]) -> str | None:
    """The reason that a disk is full, if an exception shows it.

    Parameters
    ----------
    error
        The exception of the objective; its cause and context are examined too.
    directory
        The attempt's directory, where checkpoints go; it is named if the error names no file.

    Returns
    -------
    str or None
        The reason, as text; None if the disk is not full.
    """
    for each in _chain(error):
        # traceback survives an exception whose own __str__ raises.
        words = traceback.format_exception_only(type(each), each)[-1].strip()
        if isinstance(each, OSError) and each.errno in _NO_ROOM:
            where = each.filename2 or each.filename
            named = os.fsdecode(where) if isinstance(where, str | bytes) else str(directory)
            return f"no room on the disk of {named}: {each.strerror}"
        lower = words.lower()
        may_be = isinstance(each, RuntimeError) and any(part in lower for part in _TORCH_WRITES)
        if any(part in lower for part in _WORDS) or (may_be and _is_full(directory)):
            return f"no room on the disk of {directory}: {words}"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and its causes; user code may have made a cycle of them."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _is_full(directory: str | os.PathLike[str]) -> bool:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < FULL_BELOW_BYTES
