"""Finds what masters saved when the journal in a directory was deleted or replaced: see :mod:`.lost`.

Law of this file: it only reads. While such a copy lies beside a journal, the journal may be older than the copy.
"""

from __future__ import annotations

from pathlib import Path


def lost_copies(path: Path) -> list[Path]:
    """The lost copies beside a journal, in the order of their names."""
    return sorted(path.parent.glob(f"{path.stem}.lost-*{path.suffix}"))


def lost_note(path: Path) -> str:
    """That copies lie beside a journal, and what to do with them; empty if there is none."""
    copies = lost_copies(path)
    if not copies:
        return ""
    is_one = len(copies) == 1
    what = "is a copy that a master" if is_one else "are copies that masters"
    one, all_of_them = ("it", "it") if is_one else ("one of them", "them")
    return (
        f"{', '.join(map(str, copies))} {what} saved when the journal was deleted or replaced, and may have results "
        f"that {path.name} lacks; to continue from there, move {one} to {path}; otherwise move {all_of_them} away"
    )
