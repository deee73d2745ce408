"""What commands read from a run directory: the directory of a search, and the status of the search.

Law of this file: a directory that holds no search is refused by name. The status comes from the master, and from the
journal where none answers.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from hpbandster_lite.errors import JournalError, PeerError, RunDirectoryError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master.connection import connect
from hpbandster_lite.protocol.status import Status, status_from_plain
from hpbandster_lite.results.forecast import with_forecast
from hpbandster_lite.results.incumbent import refresh_incumbent
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.rundir import RunDirectory

MASTER_TIMEOUT_S = 3.0
DEFAULT_BASE = Path("runs")
"""Directory of all runs whose users gave no directory."""


def directory_of_a_search(run: Path) -> RunDirectory:
    """The run directory, which has a journal; if no master serves it, its ``incumbent.json`` agrees with the journal.

    Raises
    ------
    RunDirectoryError
        If it has none; the message says what it is, and where searches are.
    """
    directory = RunDirectory(run)
    if directory.journal.is_file():
        if not directory.is_served():
            refresh_incumbent(directory)
        return directory
    what = "does not exist" if not run.exists() else "holds no search" if run.is_dir() else "is not a directory"
    places = dict.fromkeys((run, run.parent, DEFAULT_BASE))
    others = sorted({str(journal.parent) for place in places for journal in place.glob("*/journal.sqlite")})
    hint = f"there is {', '.join(others)}" if others else "give the one that the search printed when it began"
    raise RunDirectoryError(f"the run directory {run} {what}; {hint}")


def read_status(directory: RunDirectory) -> Status:
    """The status from the master, or from the journal where none answers; ``answered_by`` says which."""
    with contextlib.suppress(PeerError, RunDirectoryError), connect(directory, timeout_s=MASTER_TIMEOUT_S) as client:
        return completed(directory, status_from_plain(client.call("status", {})))
    reader = JournalReader(directory.journal)
    with reader.group():
        return _with_forecast(status_from_journal(reader), reader)


def completed(directory: RunDirectory, status: Status) -> Status:
    """The status with its forecast, where the journal can be read."""
    with contextlib.suppress(JournalError):
        return _with_forecast(status, JournalReader(directory.journal))
    return status


def _with_forecast(status: Status, reader: JournalReader) -> Status:
    with contextlib.suppress(JournalError), reader.group():
        return with_forecast(status, reader)
    return status
