"""Why, when and how an agent ends, and what it leaves in the run directory.

Law of this file: the first reason to end is kept; a later exit code for the same reason replaces the earlier one. What
the master has not acknowledged is left in ``reports/`` of the run directory. Without a run directory a release is not
left, and whether the search is over cannot be read.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from hpbandster_lite.agent.assignment import HandBack
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.conversation import Conversation
from hpbandster_lite.agent.held_evaluations import HeldEvaluations
from hpbandster_lite.agent.master_link import Link
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.trainer_keeper import TrainerKeeper
from hpbandster_lite.errors import (
    JournalError,
    MasterUnreachable,
    ProblemError,
    ProtocolMismatch,
    SearchError,
    SourceDiffers,
)
from hpbandster_lite.process.shutdown import REQUEUE
from hpbandster_lite.protocol.messages import ReleaseRequest
from hpbandster_lite.records import HandBackKind, Report
from hpbandster_lite.rundir import RunDirectory

log = logging.getLogger(__name__)

GOODBYE_S = 5.0
"""How long an agent that ends waits for the master to take what it hands back, from when its trainer is idle."""
OVER_AFTER_S = 15.0
"""A master that is silent for this long may have ended with its search, and the journal shows it. Not earlier: workers
start together with a master that continues a finished search, which imports and replays first."""
OVER_AT_FIRST_S = 2.0
"""The same for an agent that never reached a master, if none holds the run directory. A master that continues the
search holds it within its first second, and a worker that is too late need not wait."""
LOOK_EVERY_S = 5.0


class Departure:
    """How one agent ends.

    Parameters
    ----------
    options
        The agent's.
    keeper, held, outbox, conversation, directories
        Its other parts.
    clock
        Monotonic clock, in seconds.

    Attributes
    ----------
    reason : str or None
        Why it ends, once it does.
    exit_code : int or None
        Exit code of the process, once it may end.
    """

    def __init__(
        self,
        options: AgentOptions,
        keeper: TrainerKeeper,
        held: HeldEvaluations,
        outbox: Outbox,
        conversation: Conversation,
        directories: AttemptDirectories,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._keeper = keeper
        self._held = held
        self._outbox = outbox
        self._conversation = conversation
        self._directories = directories
        self._clock = clock
        self._began_at = self._ends_by = 0.0
        self._planned_code = 0
        self._looked_at = -math.inf
        self.reason: str | None = None
        self.exit_code: int | None = None

    def begin(self, reason: str, exit_code: int, kind: HandBackKind = HandBackKind.ORDERED) -> None:
        """Stop what runs, hand everything back as this kind, and end."""
        if self.reason is not None:
            self._planned_code = exit_code if reason == self.reason else self._planned_code
            return
        is_busy = self._held.current is not None
        if not is_busy:
            log.info("ending: %s", reason)
        self.reason, self._planned_code = reason, exit_code
        self._began_at = self._clock()
        self._ends_by = self._began_at + (self._options.grace_s if is_busy else 0.0) + GOODBYE_S
        self._keeper.retire()
        self._held.close(HandBack(kind, reason))

    # ---------------------------------------------------------------------------------------------------- deadlines

    def next_due(self) -> float:
        """When :meth:`act` has something to do; never a time at which it would do nothing."""
        if self.reason is not None:
            return self._gives_up_at()
        if self._held.current is not None:
            return math.inf
        due = [] if self._options.time_ends_at is None else [self._options.time_ends_at]
        link = self._conversation.link
        if link is not None:
            due += [link.answered_at + self._options.master_timeout_s, self._journal_check_at(link)]
            if self._options.idle_timeout_s is not None and not self._outbox:
                due.append(self._held.running.idle_since + self._options.idle_timeout_s)
        return min(due, default=math.inf)

    def act(self, now: float) -> None:
        """Check for a reason to end, and whether the end must still wait."""
        if self.exit_code is None:
            self.exit_code = self._conversation.exit_code
        if self.exit_code is None and self.reason is None:
            self.act_on_source()
            self._find_reason(now)
        # A request without an answer may have leased something; that lease ends with our connection.
        if self.exit_code is None and self.reason is not None and (not self._owes or now >= self._gives_up_at()):
            self.leave_behind()
            self.exit_code = self._planned_code

    @property
    def _owes(self) -> bool:
        return self._held.current is not None or self._outbox.owes

    def _gives_up_at(self) -> float:
        """When it ends though the master has not acknowledged everything."""
        if self._held.current is not None:
            return self._ends_by
        return min(self._ends_by, max(self._began_at, self._held.running.idle_since) + GOODBYE_S)

    def act_on_source(self) -> None:
        """Hand everything back and end, if the trainer has another source than the search."""
        refusal = self._conversation.source.refusal
        if refusal is not None and self.reason is None:
            log.error("%s", refusal)
            self.begin(f"its source is refused: {refusal}", SourceDiffers.exit_code, HandBackKind.REFUSED)

    def _find_reason(self, now: float) -> None:
        ends_at = self._options.time_ends_at
        if self._keeper.refusal is not None:
            self.begin("its worker cannot run the problem", ProblemError.exit_code, HandBackKind.REFUSED)
        elif self._conversation.refusal is not None:
            self.begin("the master has another protocol version", ProtocolMismatch.exit_code)
        elif self._held.current is not None:
            return
        elif ends_at is not None and now >= ends_at:
            self.begin("its time is over", REQUEUE)
        elif self._conversation.link is not None:
            self._end_without_work(self._conversation.link, now)

    def _end_without_work(self, link: Link, now: float) -> None:
        """End if no master can be expected any more, or if there was no work for too long."""
        # By sums, as in :meth:`next_due`: a difference may be rounded down, and the loop would turn without effect.
        limit_s = self._options.idle_timeout_s
        if now >= link.answered_at + self._options.master_timeout_s:
            silent_s = now - link.answered_at
            log.error("no master for %.0f s; start a worker again when there is one", silent_s)
            self.leave_behind()
            self.exit_code = MasterUnreachable.exit_code
        elif self._held.has_done_its_share and not self._outbox:
            self.begin(f"it has made {self._held.evaluated} evaluations", 0)
        elif now >= self._journal_check_at(link) and (reason := self._over_by_journal(now)) is not None:
            log.info("no master answers, and the search is over: %s", reason)
            self.leave_behind()
            self.exit_code = 0
        elif not self._outbox and limit_s is not None and now >= self._held.running.idle_since + limit_s:
            self.begin(f"nothing to do for {limit_s:g} s", 0)

    # -------------------------------------------------------------------------------------------- the run directory

    def _journal_check_at(self, link: Link) -> float:
        """When to look whether the search is over; only a run directory has its journal."""
        if self._options.run_dir is None or (self._options.has_own_master and not link.epoch):
            return math.inf
        first_s = OVER_AFTER_S if link.epoch else OVER_AT_FIRST_S
        return max(link.answered_at + first_s, self._looked_at + LOOK_EVERY_S)

    def _over_by_journal(self, now: float) -> str | None:
        self._looked_at = now
        return over_by_journal(self._options.run_dir or "")

    def leave_behind(self) -> None:
        """Write what the master has not acknowledged into the run directory, where the next master finds it."""
        for release in self._outbox.releases:
            self._leave_release(release)
        for slot, report in self._outbox.reports.items():
            self._leave_report(report, slot)

    def _leave_release(self, release: ReleaseRequest) -> None:
        try:
            self._directories.leave_release(release)
        except (SearchError, OSError) as error:
            # Its lease expires, and its checkpoint is found anyway.
            log.warning("the release of an evaluation is not left for the next master: %s", error)

    def _leave_report(self, report: Report, slot: str) -> None:
        try:
            path = self._directories.leave_report(report, slot)
        except (SearchError, OSError) as error:
            log.error("the result of evaluation %s is lost: %s", report.evaluation, error)
            return
        log.warning("the result of evaluation %s waits for the next master in %s", report.evaluation, path)


def over_by_journal(run_dir: str) -> str | None:
    """Why the search is over; None where it is not, or where its journal cannot be read."""
    # Imported here: few agents ever lose their master for so long.
    from hpbandster_lite.journal import JournalReader

    directory = RunDirectory(run_dir)
    if directory.is_served():
        return None
    try:
        finished = JournalReader(directory.journal).finished()
        return None if finished is None else finished.reason
    except JournalError as error:
        log.debug("the journal does not say whether the search is over: %s", error)
        return None
