"""Whether a problem that is found now is the one of a search that goes on.

Law of this file: another problem is refused. The same problem with an edited source is refused, too, unless the user
accepts the edit; the acceptance is recorded in the journal. Paths are compared on one host only.
"""

from __future__ import annotations

import functools
import socket
from pathlib import Path

from hpbandster_lite.errors import ResumeError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import ARGUMENTS_DIFFER, ARGUMENTS_REMEDY, source_differences
from hpbandster_lite.problems.options import target_of
from hpbandster_lite.records import FailureKind, ProblemDescription, ProblemSource, SourceChanged
from hpbandster_lite.settings.option_words import as_written

FIRST_VERSION = ProblemSource(version=1)
"""The source of a shipped problem in a journal that is older than versions of problems."""


def edited_source(
    accepted: ProblemSource | None, began: ProblemDescription, found: ProblemDescription
) -> tuple[str, ...]:
    """In what the source that is found differs from the accepted one, one text for each part; empty without an edit.

    Parameters
    ----------
    accepted
        The source with which the search goes on; None in a journal of method 1.
    began
        The problem as the search began.
    found
        The problem as it is now.
    """
    if found.source is None:
        return ()
    if accepted is None and found.source.version is not None:
        accepted = FIRST_VERSION
    if accepted is not None:
        return source_differences(accepted, found.source)
    if "" in (began.source_hash, found.source_hash) or began.source_hash == found.source_hash:
        return ()
    return (f"{Path(found.source.file).name or 'the source'} is another one",)


def accepted_edit(
    reader: JournalReader, found: ProblemDescription, path: Path, *, is_accepted: bool, is_call: bool
) -> SourceChanged | None:
    """The edit of the source to record; None if there is none.

    Parameters
    ----------
    reader
        Of the search that goes on.
    found
        The problem as it is now.
    path
        The run directory.
    is_accepted
        Whether the user accepts an edit.
    is_call
        Whether the user calls ``minimize``, and reads of its arguments.

    Raises
    ------
    ResumeError
        If the source is another one and the user does not accept it, with the remedies.
    """
    written = functools.partial(as_written, is_call=is_call)
    accepted, began = reader.source(), reader.settings().problem
    differences = edited_source(accepted, began, found)
    if not differences or found.source is None:
        return None
    if is_accepted:
        return SourceChanged(source=found.source, differences=differences)
    other = other_file(began, found.source.file)
    what = "; ".join((*differences, *([ARGUMENTS_REMEDY] if ARGUMENTS_DIFFER in differences else [])))
    if other is not None:
        raise ResumeError(
            f"the run directory {path} belongs to the problem in {other}, not to {found.source.file}, whose source is "
            f"another one ({what}); give another {written('run_dir')}, or {written('new')}. If it is a copy of that "
            f"problem that is to continue its search: {written('accept_edited_source')}"
        )
    # An objective that failed is edited to be run again.
    is_mendable = any(FailureKind(kind).is_mendable for kind in reader.failures())
    retry = f"{written('retry_failed')}, which also runs again what failed, or with " if is_mendable else ""
    raise ResumeError(
        f"the problem's source is not the one of the search in {path}: {what}. Begin another search with "
        f"{written('new')}; or, if the losses before and after the edit can be compared, continue this one with {retry}"
        f"{written('accept_edited_source')}"
    )


def check_source(
    accepted: ProblemSource | None, expected: ProblemSource | None, edited: SourceChanged | None, path: Path
) -> None:
    """Check, once the journal cannot change any more, that no other start has changed the search meanwhile.

    Parameters
    ----------
    accepted
        The source that the journal has.
    expected, edited
        The source that it had when the search was prepared, or that of the new search; the edit that was accepted.
    path
        The run directory.

    Raises
    ------
    ResumeError
        If the journal has another source.
    """
    known = [source for source in (expected, None if edited is None else edited.source) if source is not None]
    if accepted is None or not known or not all(source_differences(accepted, source) for source in known):
        return
    raise ResumeError(
        f"{path} holds a search with another source of the problem: "
        f"{'; '.join(source_differences(accepted, known[-1]))}; give another run directory"
    )


def other_file(began: ProblemDescription, found: str) -> Path | None:
    """The file that a journal names, if it still exists on this host and is not the one that is found."""
    source = began.source
    if source is not None and source.host not in ("", socket.gethostname()):
        return None
    named = source.file if source is not None else target_of(began.reference).rpartition(":")[0] or began.reference
    path = Path(named or "/")
    if not found or not path.is_absolute() or not path.is_file() or not Path(found).is_file():
        return None
    return None if path.samefile(found) else path
