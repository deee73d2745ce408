"""Where a search is kept if the user names no directory.

Law of this file: ``runs/NAME`` belongs to another problem only if its journal names a file that still exists on this
host and is another one; otherwise the files have moved, and the search goes on.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from hpbandster_lite.errors import JournalError
from hpbandster_lite.journal import JournalReader, holds_anything
from hpbandster_lite.problems import is_function, source_differences
from hpbandster_lite.problems.options import target_of
from hpbandster_lite.records import ProblemDescription, ProblemSource
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory, default_run_directory
from hpbandster_lite.settings.source_check import other_file


@record(frozen=True, slots=True, kw_only=True)
class Place:
    """The run directory, and why it is not the first of its name; empty where it is."""

    directory: RunDirectory
    note: str = ""


def place_of(reference: str, given: str | os.PathLike[str] | None, *, new: bool = False) -> Place:
    """The run directory that the user gives, or the default one of the problem: :func:`default_place`."""
    return default_place(reference, new=new) if given is None else Place(directory=RunDirectory(given))


def default_place(reference: str, base: str | os.PathLike[str] = "runs", *, new: bool = False) -> Place:
    """The run directory of a problem where the user names none.

    Parameters
    ----------
    reference
        The problem as the user wrote it.
    base
        Directory of all runs.
    new
        The first one that does not exist.

    Returns
    -------
    Place
        ``runs/NAME``, or the first of ``runs/NAME-2``, ``runs/NAME-3``, ... that is this problem's or free, if the
        ones before it belong to other problems.
    """
    path = default_run_directory(reference, base, new=new)
    if new:
        return Place(directory=RunDirectory(path))
    file = file_of_reference(reference)
    first, number, owner = path, 2, owner_of(RunDirectory(path), file)
    other = owner
    while other:
        path = first.with_name(f"{first.name}-{number}")
        other = owner_of(RunDirectory(path), file)
        number += 1
    # A path of no file is refused later.
    is_problem = file is None or Path(file).is_file()
    note = f"{first} belongs to {owner}; this search is kept in {path}" if owner and is_problem else ""
    return Place(directory=RunDirectory(path), note=note)


def place_of_function(
    reference: str, source: ProblemSource, base: str | os.PathLike[str] = "runs", *, is_edit: bool = False
) -> Place:
    """The run directory of a function that no other process can import, where the user names none.

    Parameters
    ----------
    reference
        Its name.
    source
        What it reads.
    base
        Directory of all runs.
    is_edit
        Whether the user accepts that the function was edited: then it continues the last search of its name.

    Returns
    -------
    Place
        The first of ``runs/NAME``, ``runs/NAME-2``, ... whose search has the same function, else the first free one.
    """
    first = default_run_directory(reference, base)
    path, number, last = first, 2, None
    while holds_anything(RunDirectory(path).journal):
        accepted = _accepted_source(RunDirectory(path))
        if accepted is not None and _is_same_function(accepted, source):
            return Place(directory=RunDirectory(path))
        if accepted is not None and is_function(accepted):
            last = path
        path, number = first.with_name(f"{first.name}-{number}"), number + 1
    if is_edit and last is not None:
        return Place(directory=RunDirectory(last))
    if source.not_comparable:
        return Place(directory=RunDirectory(path), note=_not_comparable_note(source, path))
    note = f"{first} has the search of another function of this name, or of one that reads other values"
    return Place(directory=RunDirectory(path), note="" if path == first else f"{note}; this search is kept in {path}")


def _is_same_function(accepted: ProblemSource, source: ProblemSource) -> bool:
    is_comparable = is_function(accepted) and not accepted.not_comparable and not source.not_comparable
    return is_comparable and not source_differences(accepted, source)


def _not_comparable_note(source: ProblemSource, path: Path) -> str:
    return (
        f"whether this function has been searched before cannot be seen ({source.not_comparable}), so this is a new "
        f"search, in {path}; give run_dir to continue one"
    )


def _accepted_source(directory: RunDirectory) -> ProblemSource | None:
    try:
        return JournalReader(directory.journal).source()
    except JournalError:
        return None


def owner_of(directory: RunDirectory, file: Path | None) -> str:
    """The other problem that a run directory belongs to; empty if it is free, or that of the problem in ``file``."""
    if not holds_anything(directory.journal):
        return ""
    try:
        problem = JournalReader(directory.journal).settings().problem
    except JournalError:
        # It is refused when the search is prepared.
        return ""
    if problem.source is not None and is_function(problem.source):
        return "a function that no other process can import"
    if file is None:
        return ""
    other = other_file(problem, str(file))
    if other is not None:
        return f"the problem in {other}"
    return f"the shipped problem {problem.name!r}" if _is_shipped(problem) and not _is_ours(file) else ""


def file_of_reference(reference: str) -> Path | None:
    """The file of the module that a reference names, which is not imported; None if it is not found."""
    where = target_of(reference).partition(":")[0]
    if where.endswith(".py") or "/" in where:
        return Path(where).resolve()
    places: list[str] | None = [*sys.path, str(Path.cwd())]
    found = None
    parts = where.split(".")
    for count in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:count]), places)
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return None if found is None or found.origin is None else Path(found.origin).resolve()


def _is_shipped(problem: ProblemDescription) -> bool:
    return problem.source is not None and problem.source.version is not None


def _is_ours(file: Path) -> bool:
    return "hpbandster_lite" in file.parts
