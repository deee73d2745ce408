"""The evaluations that an agent holds leases of: the one that runs, and those that wait behind it.

Law of this file: an agent that cannot evaluate holds no lease. Evaluations that wait behind a quick one are handed back
as soon as it proves slow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

from hpbandster_lite.agent.assignment import Assignment, HandBack, assignment_of
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.lease_ends import LeaseEnds
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.own_disk import OwnDisk
from hpbandster_lite.agent.pace import Pace
from hpbandster_lite.agent.running_evaluation import RunningEvaluation
from hpbandster_lite.agent.trainer_keeper import TrainerKeeper
from hpbandster_lite.protocol.messages import Grant
from hpbandster_lite.protocol.slots import MOST_SLOTS
from hpbandster_lite.records import HandBackKind
from hpbandster_lite.trainer.messages import TrainerMessage


class HeldEvaluations:
    """The leases of one agent and its slots.

    Parameters
    ----------
    options
        The agent's.
    keeper, directories, outbox
        Run an evaluation, give the directory where it writes, and take its report.
    clock
        Monotonic clock, in seconds.
    disk
        Whether the agent can write.

    Attributes
    ----------
    running : RunningEvaluation
        The evaluation that runs.
    waiting : deque of Assignment
        Leases of other slots, not begun yet.
    keeps_until : float
        Until when reports may wait for those of the evaluations behind them.
    pace : Pace
        How many evaluations to lease at a time.
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
        # A trainer's process takes longer than a round trip.
        self.pace = Pace(MOST_SLOTS if options.isolation == "none" else 1)
        self._options = options
        self._keeper = keeper
        self._directories = directories
        self._clock = clock
        self._ends = LeaseEnds(directories, outbox, self.pace, disk, clock)
        self._closed: HandBack | None = None
        self.running = RunningEvaluation(options, keeper, disk, self._ends, clock)
        self.waiting: deque[Assignment] = deque()
        self.keeps_until = 0.0

    # ------------------------------------------------------------------------------------------------------- leases

    @property
    def current(self) -> Assignment | None:
        """The evaluation that runs, or that the trainer is to begin."""
        return self.running.current

    @property
    def evaluated(self) -> int:
        """How many evaluations ended here; those that the problem refused as infeasible do not count."""
        return self._ends.evaluated

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
            # It asks only to report the hindrance.
            return 1
        if not self._keeper.is_ready:
            return 0
        most = self._options.max_evaluations
        return self.pace.slots if most is None else max(0, min(self.pace.slots, most - self.evaluated))

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
        first = self.waiting.popleft()
        self.keeps_until = now + Pace.PATIENCE_S if self.waiting else 0.0
        self.running.begin(first)

    def stop(self, why: HandBack) -> None:
        """Ask the running evaluation to stop, which hands it back; one that does not run is handed back at once."""
        self.running.stop(why)

    def was_signalled(self, reason: str) -> None:
        """The objective sent a signal to this worker: the evaluation is to stop, and its attempt counts as lost."""
        self.running.was_signalled(reason)

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
        return min(self.running.next_due(), self.keeps_until if self.waiting else math.inf)

    def act(self, now: float) -> None:
        """Enforce the limits of the running evaluation, then begin or hand back those that wait behind it."""
        if self._keeper.is_paused and self.disk.hindrance_at(now) is None:
            self._keeper.resume(now)
        self.running.act(now)
        if self.waiting:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self.current is not None:
            if now >= self.keeps_until:
                self._refuse_waiting("the evaluation before it takes too long")
        elif self.pace.slots > 1 and self._closed is None and self._keeper.is_ready:
            self.keeps_until = now + Pace.PATIENCE_S
            self.running.begin(self.waiting.popleft())
        else:
            self._refuse_waiting("the evaluation before it was not a quick one")

    # ------------------------------------------------------------------------------------------ what the trainer sends

    def trainer_is_ready(self) -> None:
        """Begin the evaluation that waits for a trainer, if there is one."""
        self.running.trainer_is_ready()

    def trainer_found_no_room(self, folder: str, reason: str) -> None:
        """The problem cannot be imported before there is room on a disk."""
        self.disk.found_no_room(folder, reason, self._clock())
        self._keeper.pause()
        if self.current is not None:
            self.running.hand_back(self.current, HandBack(HandBackKind.REFUSED, reason))

    def receive(self, event: TrainerMessage) -> None:
        """Act on what the trainer sent about an evaluation."""
        self.running.receive(event)
        if self.waiting and self.disk.hindrance is not None:
            # The evaluation found no room; those behind it would not find any either.
            self._refuse_waiting(self.disk.hindrance)

    def _hand_back_waiting(self, why: HandBack) -> None:
        while self.waiting:
            self._ends.hand_back(self.waiting.popleft(), why)

    def _refuse_waiting(self, reason: str) -> None:
        self._hand_back_waiting(HandBack(HandBackKind.REFUSED, reason))
