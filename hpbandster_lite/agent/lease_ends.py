"""How the lease of an evaluation ends: with a report or with a release, in the outbox.

Law of this file: each lease is passed here once, by :meth:`LeaseEnds.report` or by :meth:`LeaseEnds.hand_back`.
"""

from __future__ import annotations

from collections.abc import Callable

from hpbandster_lite.agent.assignment import Assignment, HandBack
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.own_disk import OwnDisk
from hpbandster_lite.agent.pace import Pace
from hpbandster_lite.records import Failure, FailureKind, Outcome, Plain


class LeaseEnds:
    """Puts what ends a lease into the outbox, and notes what the agent learns from a report.

    Parameters
    ----------
    directories, outbox
        Where attempts write, and what the master has not acknowledged.
    pace, disk
        Take the duration of each evaluation, and that one was completed.
    clock
        Monotonic clock, in seconds.

    Attributes
    ----------
    evaluated : int
        How many evaluations were reported; those that the problem refused as infeasible do not count.
    """

    def __init__(
        self,
        directories: AttemptDirectories,
        outbox: Outbox,
        pace: Pace,
        disk: OwnDisk,
        clock: Callable[[], float],
    ) -> None:
        self._directories = directories
        self._outbox = outbox
        self._pace = pace
        self._disk = disk
        self._clock = clock
        self.evaluated = 0

    def report(
        self,
        assignment: Assignment,
        *,
        loss: float | None = None,
        failure: Failure | None = None,
        info: Plain = None,
        duration_s: float | None = None,
    ) -> None:
        """End a lease with an outcome: a loss or a failure; without a duration, the time since it began."""
        if duration_s is None and assignment.began_at is not None:
            duration_s = self._clock() - assignment.began_at
        outcome = Outcome(
            loss=loss,
            failure=failure,
            info=info or {},
            curve=assignment.curve.points(),
            duration_s=duration_s,
            directory=self._directories.to_send(assignment.place),
        )
        self.evaluated += failure is None or failure.kind is not FailureKind.INFEASIBLE
        self._outbox.reports[assignment.agent] = assignment.report(outcome)
        self._pace.note(duration_s if failure is None else None)
        if failure is None:
            self._disk.had_room()

    def hand_back(self, assignment: Assignment, why: HandBack) -> None:
        """End a lease without an outcome."""
        self._outbox.releases.append(assignment.release(why, self._directories.to_send(assignment.place)))
