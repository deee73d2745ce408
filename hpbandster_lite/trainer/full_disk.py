"""Whether an objective failed because a disk has no room left: that is no fault of its code, nor of its configuration.

Law of this file: it reads an exception, and asks the attempt's own file system how much room there is; nothing else.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_WORDS = ("no space left on device", "disk quota exceeded", "database or disk is full")
"""Of libraries whose errors carry no number."""
_TORCH_WRITES = ("pytorchstreamwriter failed", "unexpected pos", "file write failed")
"""torch.save says that it could not write, and not why."""
FULL_BELOW_BYTES = 2**20
"""Less than a checkpoint takes that is worth the name; what a disk keeps for its administrator is not counted."""


def full_disk(error: BaseException, directory: str | os.PathLike[str]) -> str | None:
    """Where there was no room, and the words of who said so.

    Parameters
    ----------
    error
        What the objective raised; what it was raised from, or while handling, is looked at, too.
    directory
        The attempt's own, named where the error does not name a file: that is where checkpoints go.

    Returns
    -------
    str or None
        A reason for people; None where a disk is not to blame.
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
    """An exception and those that it came from; a user's code may have made a ring of them."""
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
