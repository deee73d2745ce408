"""How an agent parts from a search whose master does not answer: what it leaves, and how it sees that none will come.

Law of this file: all of it is in the run directory; where that cannot be seen, there is nothing to leave or to see.
"""

from __future__ import annotations

import logging

from hpbandster_lite.agent.assignment import Places
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.errors import JournalError, SearchError
from hpbandster_lite.records import Plain, Report
from hpbandster_lite.rundir import RunDirectory

log = logging.getLogger(__name__)


def leave_behind(outbox: Outbox, places: Places) -> None:
    """Write what the master has not acknowledged into the run directory, where the next one finds it."""
    for release in outbox.releases:
        _leave_release(release, places)
    for lane, report in outbox.reports.items():
        _leave_report(report, places, lane)


def _leave_release(release: dict[str, Plain], places: Places) -> None:
    try:
        places.leave_release(release)
    except (SearchError, OSError) as error:
        # Its lease ends by itself, and what was saved is found all the same.
        log.warning("the next master is not told that an evaluation was handed back: %s", error)


def _leave_report(report: Report, places: Places, lane: str) -> None:
    try:
        path = places.leave_report(report, lane)
    except (SearchError, OSError) as error:
        log.error("the result of evaluation %s is lost: %s", report.evaluation, error)
        return
    log.warning("the result of evaluation %s waits for the next master in %s", report.evaluation, path)


def over_by_journal(run_dir: str) -> str | None:
    """Why the search is over; None where it is not, or cannot be seen to be."""
    # Imported here: few agents ever lose their master for so long.
    from hpbandster_lite.journal import JournalReader

    directory = RunDirectory(run_dir)
    if directory.is_served():
        return None
    try:
        finished = JournalReader(directory.journal).finished()
        return None if finished is None else finished.reason
    except JournalError as error:
        log.debug("the journal cannot tell whether the search is over: %s", error)
        return None
