"""The file ``incumbent.json``: the best configuration, with the test figures of its model.

Law of this file: the journal says which configuration it is; the file alone has the test figures, and those of another
search or another model are never shown with it. A file of that name which no search wrote stays as it is.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from typing import TypedDict, cast

from hpbandster_lite.errors import JournalError
from hpbandster_lite.hyperband.direction import turned
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Plain, Value
from hpbandster_lite.results.journal_status import incumbent_from_journal
from hpbandster_lite.rundir import RunDirectory, write_atomically

FILE_NAME = "incumbent.json"
_IDENTITY = ("run_id", "config_id", "rung", "values", "loss")
"""Two incumbents that agree in these are one model."""

log = logging.getLogger(__name__)


class SavedIncumbent(TypedDict):
    """The content of the file: ``loss`` as the objective returned it; ``test``, if this very model was tested."""

    run_id: str
    problem: str
    config_id: list[int]
    rung: int
    values: dict[str, Value]
    budget: float
    unit: str
    loss: float
    maximize: bool
    info: dict[str, Plain]
    directory: str | None
    test: dict[str, Plain] | None


def read_incumbent(directory: RunDirectory) -> SavedIncumbent | None:
    """The content of the file; ``None`` before the first search there has ended, and of what no search wrote."""
    try:
        content: Plain = json.loads((directory.path / FILE_NAME).read_bytes())
    except (OSError, ValueError, RecursionError):
        # Also a directory of this name, or a file of another user.
        return None
    is_ours = isinstance(content, dict) and set(_IDENTITY) <= content.keys()
    return cast(SavedIncumbent, content) if is_ours else None


def write_incumbent(directory: RunDirectory, incumbent: SavedIncumbent) -> None:
    """Replace the file, unless no search wrote it, or it has this content."""
    if _text_of(read_incumbent(directory)) == _text_of(incumbent):
        return
    if _is_foreign(directory):
        log.warning(
            "%s was not written by a search, so the incumbent is not saved there; move it away, and "
            "hpbandster-lite best, or the end of the search, writes one",
            directory.path / FILE_NAME,
        )
        return
    write_atomically(directory.path / FILE_NAME, json.dumps(incumbent, indent=2) + "\n")


def refresh_incumbent(directory: RunDirectory, *, create: bool = False) -> None:
    """Make the file agree with the journal: it may not, after a search that was extended and then stopped or killed.

    Test figures stay with their model. If something cannot be read or written, the file stays as it is: another command
    tries again.

    Parameters
    ----------
    directory
        Of a search that no master serves.
    create
        Write the file also where there is none yet.
    """
    file = directory.path / FILE_NAME
    with suppress(OSError, JournalError):
        # A file of another user here would block this directory's owner.
        if not (create or file.exists()) or directory.path.stat().st_uid != os.geteuid():
            return
        incumbent = current_incumbent(directory)
        if incumbent is not None:
            write_incumbent(directory, incumbent)
        elif not _is_foreign(directory):
            # The incumbent of an earlier search in this directory.
            file.unlink(missing_ok=True)


def current_incumbent(directory: RunDirectory) -> SavedIncumbent | None:
    """The incumbent as it is in the journal now.

    Returns
    -------
    SavedIncumbent or None
        With the test figures of the file, if they are of this very model; None before any loss.
    """
    reader = JournalReader(directory.journal)
    with reader.group():
        settings, best = reader.settings(), incumbent_from_journal(reader)
    if best is None:
        return None
    incumbent: SavedIncumbent = {
        "run_id": settings.run_id,
        "problem": settings.problem.name,
        "config_id": list(best.config_id),
        "rung": best.rung,
        "values": dict(best.values),
        "budget": best.budget,
        "unit": settings.unit,
        "loss": turned(best.loss, maximize=settings.maximize),
        "maximize": settings.maximize,
        "info": dict(best.info),
        "directory": best.directory,
        "test": None,
    }
    saved = read_incumbent(directory)
    if saved is not None and _identity_of(saved) == _identity_of(incumbent):
        test = saved.get("test")
        incumbent["test"] = test if isinstance(test, dict) else None
    return incumbent


def _identity_of(incumbent: SavedIncumbent) -> tuple[Plain, ...]:
    return tuple(value for name, value in sorted(incumbent.items()) if name in _IDENTITY)


def _text_of(incumbent: SavedIncumbent | None) -> str:
    return json.dumps(incumbent, sort_keys=True)


def _is_foreign(directory: RunDirectory) -> bool:
    return os.path.lexists(directory.path / FILE_NAME) and read_incumbent(directory) is None
