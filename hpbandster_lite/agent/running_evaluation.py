"""The evaluation that an agent's trainer runs: its beginning, its limits, and what each of its ends means.

Law of this file: one evaluation runs at a time, and its lease ends in a report or in a release. If something other than
the agent cuts an evaluation off, the agent waits for an order that explains it, because a batch system signals all
processes of a job.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace

from hpbandster_lite.agent.assignment import Assignment, Curve, HandBack
from hpbandster_lite.agent.curve_file import CurveFile, earlier_curve
from hpbandster_lite.agent.lease_ends import LeaseEnds
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.own_disk import OwnDisk
from hpbandster_lite.agent.trainer_keeper import TrainerKeeper
from hpbandster_lite.records import Failure, FailureKind, HandBackKind, Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.trainer.messages import TrainerDied, TrainerEnded, TrainerInterrupted, TrainerMessage, TrainerPoint
from hpbandster_lite.trainer.own_worker import INSTEAD_OF_SIGNALS

log = logging.getLogger(__name__)

KILL_AFTER_S = 2.0
"""Time between SIGTERM and SIGKILL for an evaluation over its time limit."""

_INTERRUPTED = "its trainer received a signal, or its objective interrupted itself"
_NO_ORDER = "and its worker received no order to stop"
_OVER_TIME = "its evaluation took too long"
_MAY_BE_THE_DISK = (FailureKind.CODE, FailureKind.INVALID)
_SPOILT = {FailureKind.MEMORY: "its memory was used up", FailureKind.TIME_LIMIT: _OVER_TIME}
"""After which failures a trainer is always renewed."""


class RunningEvaluation:
    """The evaluation that runs, or that the trainer is to begin.

    Parameters
    ----------
    options
        The agent's.
    keeper, disk, ends
        Run the evaluation, judge whether a full disk ended it, and take the end of its lease.
    clock
        Monotonic clock, in seconds.

    Attributes
    ----------
    current : Assignment or None
        Its lease; None while there is no evaluation.
    idle_since : float
        Since when there is no evaluation; valid only while there is none.
    asks_from : float
        Earliest time to ask for the next lease.
    """

    def __init__(
        self,
        options: AgentOptions,
        keeper: TrainerKeeper,
        disk: OwnDisk,
        ends: LeaseEnds,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._keeper = keeper
        self._disk = disk
        self._ends = ends
        self._clock = clock
        self.current: Assignment | None = None
        self.idle_since = self.asks_from = clock()

    # ------------------------------------------------------------------------------------------ beginning and limits

    def begin(self, assignment: Assignment) -> None:
        """Begin an evaluation as soon as there is a trainer for it."""
        self.current = assignment
        if not self._keeper.is_ready:
            return
        assignment.began_at = self._clock()
        if self._options.timeout_s is not None:
            assignment.ends_at = assignment.began_at + self._options.timeout_s
        earlier = earlier_curve(assignment.order.resume_directory)
        if earlier:
            assignment.curve = Curve(earlier=earlier)
        assignment.curve_file = CurveFile(assignment.place, earlier)
        self._keeper.evaluate(assignment.order, f"{assignment.place}/{RunDirectory.LOG_NAME}")

    def was_signalled(self, reason: str) -> None:
        """The objective sent a signal to this worker: the evaluation is to stop, and its attempt counts as lost."""
        log.warning("the signal has no effect on this worker: %s", reason)
        if self.current is not None and self.current.began_at is not None:
            self.stop(HandBack(HandBackKind.UNORDERED, f"{reason} ({INSTEAD_OF_SIGNALS})"))

    def stop(self, why: HandBack) -> None:
        """Ask the evaluation to stop, which hands it back; one that does not run is handed back at once."""
        assignment = self.current
        if assignment is None or assignment.stop is not None:
            return
        if assignment.began_at is None or assignment.order_by is not None:
            self.hand_back(assignment, why)
            return
        log.info("evaluation %s is to stop: %s", assignment.evaluation, why.reason)
        assignment.stop = why
        assignment.stop_by = self._clock() + self._options.grace_s
        self._keeper.ask_to_stop()

    def next_due(self) -> float:
        """When a limit of the evaluation ends."""
        if self.current is None:
            return math.inf
        due = (self.current.ends_at, self.current.stop_by, self.current.order_by)
        return min((at for at in due if at is not None), default=math.inf)

    def act(self, now: float) -> None:
        """Enforce the limits of the evaluation."""
        if self.current is None:
            return
        if self.current.order_by is not None:
            if now >= self.current.order_by:
                self._end_unordered(self.current)
        elif self.current.began_at is not None:
            self._enforce_limits(self.current, now)

    def _enforce_limits(self, assignment: Assignment, now: float) -> None:
        if assignment.stop is not None and assignment.stop_by is not None and now >= assignment.stop_by:
            self._keeper.kill()
            kind, reason = assignment.stop
            self.hand_back(assignment, HandBack(kind, f"{reason}; it did not stop within {self._options.grace_s:g} s"))
        elif assignment.ends_at is not None and now >= assignment.ends_at:
            if assignment.has_timed_out:
                self._finish(assignment, failure=self._over_time())
                self._keeper.kill()
            else:
                assignment.has_timed_out = True
                assignment.ends_at = now + KILL_AFTER_S
                self._keeper.terminate()

    # ------------------------------------------------------------------------------------------ what the trainer sends

    def trainer_is_ready(self) -> None:
        """Begin the evaluation that waits for a trainer, if there is one."""
        if self.current is None:
            # An import may take long (torch from a network file system: a minute) and does not count as time without
            # work.
            self.idle_since = self._clock()
        elif self.current.began_at is None:
            # A trainer without a process is ready before its message, and may have begun already.
            self.begin(self.current)

    def receive(self, event: TrainerMessage) -> None:
        """Act on what the trainer sent about the evaluation."""
        assignment = self.current
        match event:
            case TrainerDied(failure=failure):
                self._died(assignment, failure)
            case TrainerPoint(point=point) if assignment is not None:
                if assignment.curve.add(point) and assignment.curve_file is not None:
                    assignment.curve_file.add(point)
            case TrainerEnded() if assignment is not None:
                self._ended(assignment, event)
            case TrainerInterrupted(has_children=has_children, renewal=renewal) if assignment is not None:
                assignment.was_interrupted = not event.was_cut_off
                if assignment.has_timed_out:
                    self._finish(assignment, failure=self._over_time())
                else:
                    self._was_cut_off(assignment)
                spoilt = _OVER_TIME if assignment.has_timed_out else renewal
                self._keeper.replace(has_children=has_children, spoilt=spoilt)
            case _:
                pass

    def _ended(self, assignment: Assignment, ended: TrainerEnded) -> None:
        failure = ended.failure
        if assignment.has_timed_out:
            failure = self._over_time()
        elif failure is not None:
            if failure.kind is FailureKind.CODE and self._keeper.had_oom_kill():
                # A data loader's process, for example: the objective only saw that it was gone.
                failure = replace(failure, kind=FailureKind.MEMORY)
            failure = replace(failure, log_tail=self._keeper.log_tail())
        loss = ended.loss if failure is None else None
        if failure is None or not self._refused_for_disk(assignment, failure, ended.no_room_in):
            self._finish(assignment, loss=loss, failure=failure, info=ended.info, duration_s=ended.duration_s)
        # An exception alone leaves a trainer as it was. What memory was not freed is gone with the process.
        spoilt = _SPOILT.get(failure.kind, ended.renewal) if failure is not None else ended.renewal
        self._keeper.replace(has_children=ended.has_children, spoilt=spoilt)

    def _died(self, assignment: Assignment | None, failure: Failure) -> None:
        if assignment is None or assignment.began_at is None or assignment.order_by is not None:
            self._keeper.died(failure, had_evaluation=False)
            return
        self._keeper.died(failure, had_evaluation=True)
        if assignment.has_timed_out:
            self._finish(assignment, failure=replace(self._over_time(), log_tail=failure.log_tail))
        elif failure.kind is FailureKind.INFRASTRUCTURE:
            self._was_cut_off(assignment, failure)
        else:
            log.warning("evaluation %s: %s", assignment.evaluation, failure.reason, extra=assignment.log_fields)
            if not self._refused_for_disk(assignment, failure):
                self._finish(assignment, failure=failure)

    def _refused_for_disk(self, assignment: Assignment, failure: Failure, no_room_in: str | None = None) -> bool:
        """Hand back what failed because the disk of this worker is full, or may have; whether it did."""
        if failure.kind is FailureKind.TIME_LIMIT:
            return False
        folder, reason, refusal = no_room_in, failure.reason, failure.reason
        if failure.kind in _MAY_BE_THE_DISK and (refusal := self._disk.refusal()):
            # A library may hide the error of the disk, and a write into a mapped file ends the process.
            folder, reason = assignment.place, f"{refusal}; {failure.reason}"
        if folder is None:
            return False
        self._disk.found_no_room(folder, refusal, self._clock())
        self.hand_back(assignment, HandBack(HandBackKind.REFUSED, reason))
        return True

    # ------------------------------------------------------------------------------ cut off, but not by the agent

    def _was_cut_off(self, assignment: Assignment, failure: Failure | None = None) -> None:
        """Hand back what was to stop; otherwise, wait for an order that explains the end."""
        if assignment.stop is not None:
            self.hand_back(assignment, assignment.stop)
            return
        reason = _INTERRUPTED if failure is None else failure.reason
        log.warning("evaluation %s: %s", assignment.evaluation, reason, extra=assignment.log_fields)
        assignment.cut_off, assignment.ends_at = failure, None
        assignment.order_by = self._clock() + self._options.order_within_s

    def _end_unordered(self, assignment: Assignment) -> None:
        """No order came: the attempt counts as lost."""
        if assignment.cut_off is not None:
            self._finish(assignment, failure=assignment.cut_off)
        else:
            self.hand_back(assignment, HandBack(HandBackKind.UNORDERED, f"{_INTERRUPTED}, {_NO_ORDER}"))

    # -------------------------------------------------------------------------------------------- how it ends

    def hand_back(self, assignment: Assignment, why: HandBack) -> None:
        """End the evaluation without an outcome."""
        log.info("evaluation %s is handed back: %s", assignment.evaluation, why.reason, extra=assignment.log_fields)
        self._ends.hand_back(assignment, why)
        self._become_idle()

    def _finish(
        self,
        assignment: Assignment,
        *,
        loss: float | None = None,
        failure: Failure | None = None,
        info: Plain = None,
        duration_s: float | None = None,
    ) -> None:
        self._ends.report(assignment, loss=loss, failure=failure, info=info, duration_s=duration_s)
        self._become_idle()

    def _over_time(self) -> Failure:
        reason = f"not done within the time limit of {self._options.timeout_s:g} s"
        return Failure(kind=FailureKind.TIME_LIMIT, reason=reason, log_tail=self._keeper.log_tail())

    def _become_idle(self) -> None:
        self.current = None
        self.idle_since = self.asks_from = self._clock()
