"""The evaluations that an agent holds leases of: the one that runs, those that wait behind it, and how each ends.

Law of this file: one evaluation runs at a time. Each lease ends in a report or in a release in the outbox. Evaluations
that wait behind a quick one are handed back as soon as it proves slow. If something other than the agent cuts an
evaluation off, the agent waits for an order that explains it, because a batch system signals all processes of a job.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from hpbandster_lite.agent.assignment import Assignment, Curve, HandBack, assignment_of
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.curve_file import CurveFile, earlier_curve
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.own_disk import OwnDisk
from hpbandster_lite.agent.pace import Pace
from hpbandster_lite.agent.trainer_keeper import TrainerKeeper
from hpbandster_lite.protocol.messages import Grant
from hpbandster_lite.protocol.slots import MOST_SLOTS
from hpbandster_lite.records import Failure, FailureKind, HandBackKind, Outcome, Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.trainer.messages import TrainerDied, TrainerEnded, TrainerInterrupted, TrainerMessage, TrainerPoint

log = logging.getLogger(__name__)

KILL_AFTER_S = 2.0
"""Time between SIGTERM and SIGKILL for an evaluation over its time limit."""

_INTERRUPTED = "its trainer received a signal, or its objective interrupted itself"
_NO_ORDER = "and its worker received no order to stop"
_OVER_TIME = "its evaluation took too long"
_MAY_BE_THE_DISK = (FailureKind.CODE, FailureKind.INVALID)
_SPOILT = {FailureKind.MEMORY: "its memory was used up", FailureKind.TIME_LIMIT: _OVER_TIME}
"""After which failures a trainer is always renewed."""


class HeldEvaluations:
    """The leases of one agent and its slots.

    Parameters
    ----------
    options
        The agent's.
    keeper, directories, outbox
        Run an evaluation, say where it writes, and take its report.
    clock
        Monotonic clock, in seconds.
    disk
        Whether the agent can write.

    Attributes
    ----------
    current : Assignment or None
        The evaluation that runs, or that the trainer is to begin.
    waiting : deque of Assignment
        Leases of other slots, not begun yet.
    keeps_until : float
        Until when reports may wait for those of the evaluations behind them.
    evaluated : int
        How many evaluations ended here; those that the problem refused as infeasible do not count.
    idle_since : float
        Since when there is no evaluation; valid only while there is none.
    asks_from : float
        Earliest time to ask for the next lease.
    """

    def __init__(
        self,
        options: AgentOptions,
        keeper: TrainerKeeper,
        directories: AttemptDirectories,
        outbox: Outbox,
        clock: Callable[[], float],
        disk: OwnDisk,
    ) -> None:
        self.disk = disk
        self._options = options
        self._keeper = keeper
        self._directories = directories
        self._outbox = outbox
        self._clock = clock
        # A trainer's process takes longer than a round trip.
        self._pace = Pace(MOST_SLOTS if options.isolation == "none" else 1)
        self._closed: HandBack | None = None
        self.current: Assignment | None = None
        self.waiting: deque[Assignment] = deque()
        self.keeps_until = 0.0
        self.evaluated = 0
        self.idle_since = self.asks_from = clock()

    # ------------------------------------------------------------------------------------------------------- leases

    @property
    def has_done_its_share(self) -> bool:
        """Whether this agent has made as many evaluations as it may."""
        most = self._options.max_evaluations
        return most is not None and self.evaluated >= most

    @property
    def wanted(self) -> int:
        """How many leases to ask for; 0 while an evaluation runs, and where none can."""
        if self.current is not None or self._closed is not None:
            return 0
        if self.disk.hindrance is not None:
            # It asks only to say so.
            return 1
        if not self._keeper.is_ready:
            return 0
        most = self._options.max_evaluations
        return self._pace.slots if most is None else max(0, min(self._pace.slots, most - self.evaluated))

    def take(self, grants: Iterable[tuple[str, Grant]]) -> None:
        """Take leases, each with the agent or slot that holds it, and begin the first."""
        now = self._clock()
        self.waiting.extend(assignment_of(grant, self._directories, now, holder) for holder, grant in grants)
        if not self.waiting:
            return
        refusal = self._closed
        if refusal is None and self.disk.hindrance is not None:
            # It was asked for before the disk was full.
            refusal = HandBack(HandBackKind.REFUSED, self.disk.hindrance)
        if refusal is not None:
            self._hand_back_waiting(refusal)
            return
        self.current = self.waiting.popleft()
        self.keeps_until = now + Pace.PATIENCE_S if self.waiting else 0.0
        self._begin(self.current)

    def stop(self, why: HandBack) -> None:
        """Ask the running evaluation to stop, which hands it back; one that does not run is handed back at once."""
        assignment = self.current
        if assignment is None or assignment.stop is not None:
            return
        if assignment.began_at is None or assignment.order_by is not None:
            self._hand_back(assignment, why)
            return
        log.info("evaluation %s is to stop: %s", assignment.evaluation, why.reason)
        assignment.stop = why
        assignment.stop_by = self._clock() + self._options.grace_s
        self._keeper.ask_to_stop()

    def close(self, why: HandBack) -> None:
        """Hand back everything, now and later: the agent ends."""
        self._closed = why
        self._hand_back_waiting(why)
        self.stop(why)

    # ---------------------------------------------------------------------------------------------------- deadlines

    def next_due(self) -> float:
        """When :meth:`act` has something to do that no descriptor announces."""
        if self.current is None:
            return self.disk.look_at if self._keeper.is_paused else math.inf
        current = self.current
        due = [at for at in (current.ends_at, current.stop_by, current.order_by) if at is not None]
        if self.waiting:
            due.append(self.keeps_until)
        return min(due, default=math.inf)

    def act(self, now: float) -> None:
        """Enforce the limits of the running evaluation, then begin or hand back those that wait behind it."""
        if self._keeper.is_paused and self.disk.hindrance_at(now) is None:
            self._keeper.resume(now)
        if self.current is not None and self.current.order_by is not None:
            if now >= self.current.order_by:
                self._end_unordered(self.current)
        elif self.current is not None and self.current.began_at is not None:
            self._enforce_limits(self.current, now)
        if self.waiting:
            self._go_on(now)

    def _enforce_limits(self, assignment: Assignment, now: float) -> None:
        if assignment.stop is not None and assignment.stop_by is not None and now >= assignment.stop_by:
            self._keeper.kill()
            kind, reason = assignment.stop
            self._hand_back(assignment, HandBack(kind, f"{reason}; it did not stop within {self._options.grace_s:g} s"))
        elif assignment.ends_at is not None and now >= assignment.ends_at:
            if assignment.has_timed_out:
                self._finish(assignment, failure=self._over_time())
                self._keeper.kill()
            else:
                assignment.has_timed_out = True
                assignment.ends_at = now + KILL_AFTER_S
                self._keeper.terminate()

    def _go_on(self, now: float) -> None:
        if self.current is not None:
            if now >= self.keeps_until:
                self._refuse_waiting("the evaluation before it takes too long")
        elif self._pace.slots > 1 and self._closed is None and self._keeper.is_ready:
            self.current = self.waiting.popleft()
            self.keeps_until = now + Pace.PATIENCE_S
            self._begin(self.current)
        else:
            self._refuse_waiting("the evaluation before it was not a quick one")

    def _begin(self, assignment: Assignment) -> None:
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

    # ------------------------------------------------------------------------------------------ what the trainer sends

    def trainer_is_ready(self) -> None:
        """Begin the evaluation that waits for a trainer, if there is one."""
        if self.current is None:
            # An import may take long (torch from a network file system: a minute) and does not count as time without
            # work.
            self.idle_since = self._clock()
        elif self.current.began_at is None:
            # A trainer without a process is ready before its message, and may have begun already.
            self._begin(self.current)

    def trainer_found_no_room(self, folder: str, reason: str) -> None:
        """The problem cannot be imported before there is room on a disk."""
        self.disk.found_no_room(folder, reason, self._clock())
        self._keeper.pause()
        if self.current is not None:
            self._hand_back(self.current, HandBack(HandBackKind.REFUSED, reason))

    def receive(self, event: TrainerMessage) -> None:
        """Act on what the trainer sent about an evaluation."""
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
        if failure.kind in _MAY_BE_THE_DISK and (refusal := self.disk.refusal()):
            # A library may hide the error of the disk, and a write into a mapped file ends the process.
            folder, reason = assignment.place, f"{refusal}; {failure.reason}"
        if folder is None:
            return False
        self.disk.found_no_room(folder, refusal, self._clock())
        self._hand_back(assignment, HandBack(HandBackKind.REFUSED, reason))
        self._refuse_waiting(refusal)
        return True

    # ------------------------------------------------------------------------------ cut off, but not by the agent

    def _was_cut_off(self, assignment: Assignment, failure: Failure | None = None) -> None:
        """Hand back what was to stop; otherwise, wait for an order that explains the end."""
        if assignment.stop is not None:
            self._hand_back(assignment, assignment.stop)
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
            self._hand_back(assignment, HandBack(HandBackKind.UNORDERED, f"{_INTERRUPTED}, {_NO_ORDER}"))

    # -------------------------------------------------------------------------------------------- how a lease ends

    def _over_time(self) -> Failure:
        reason = f"not done within the time limit of {self._options.timeout_s:g} s"
        return Failure(kind=FailureKind.TIME_LIMIT, reason=reason, log_tail=self._keeper.log_tail())

    def _finish(
        self,
        assignment: Assignment,
        *,
        loss: float | None = None,
        failure: Failure | None = None,
        info: Plain = None,
        duration_s: float | None = None,
    ) -> None:
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
            self.disk.had_room()
        self._become_idle()

    def _hand_back(self, assignment: Assignment, why: HandBack) -> None:
        log.info("evaluation %s is handed back: %s", assignment.evaluation, why.reason, extra=assignment.log_fields)
        self._outbox.releases.append(assignment.release(why, self._directories.to_send(assignment.place)))
        self._become_idle()

    def _hand_back_waiting(self, why: HandBack) -> None:
        while self.waiting:
            waiting = self.waiting.popleft()
            self._outbox.releases.append(waiting.release(why, self._directories.to_send(waiting.place)))

    def _refuse_waiting(self, reason: str) -> None:
        self._hand_back_waiting(HandBack(HandBackKind.REFUSED, reason))

    def _become_idle(self) -> None:
        self.current = None
        self.idle_since = self.asks_from = self._clock()
