"""Finds what masters saved when the journal in a directory was deleted or replaced: see :mod:`.lost`.

Law of this file: it only reads. While such a copy lies beside a journal, the journal may be older than the copy. If the
whole directory was deleted, the copy is in the folder above, where it counts as long as there is no journal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def lost_copies(path: Path) -> list[Path]:
    """The lost copies of a journal, in the order of their names."""
    pattern = f"{path.stem}.lost-*{path.suffix}"
    above = [] if _has_content(path) else sorted(path.absolute().parents[1].glob(pattern))
    return sorted(path.parent.glob(pattern)) + above


def lost_note(path: Path, *, is_ours: Callable[[Path], bool] = lambda _: True) -> str:
    """That there are copies of a journal, and what to do with them; empty if there is none.

    Parameters
    ----------
    path
        The journal, which need not exist.
    is_ours
        Whether a copy in the folder above may be of this journal. Default: each may.
    """
    copies = [each for each in lost_copies(path) if each.parent == path.parent or is_ours(each)]
    if not copies:
        return ""
    is_one = len(copies) == 1
    what = "is a copy that a master" if is_one else "are copies that masters"
    one, all_of_them = ("it", "it") if is_one else ("one of them", "them")
    return (
        f"{', '.join(map(str, copies))} {what} saved when the journal was deleted or replaced, and may have results "
        f"that {path.name} lacks; to continue from there, move {one} to {path}; otherwise move {all_of_them} away"
    )


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False
