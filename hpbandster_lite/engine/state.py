"""The state of a search: what replaying the journal's entries gives.

Law of this file: only :meth:`State.apply` changes it, in a living master and in a replay alike. It never asks the
sampler for a proposal, reads no clock, and checks that each entry fits the state.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hpbandster_lite.engine.durations import Durations
from hpbandster_lite.engine.first_faults import FirstFaults, OneFault
from hpbandster_lite.engine.hints import Growth, Noted
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.hyperband.brackets import BracketPlan, Promotion
from hpbandster_lite.hyperband.ranking import IncumbentKey, incumbent_key, rank_key, survivors
from hpbandster_lite.protocol.learning_curves import Curve, joined
from hpbandster_lite.records import (
    UNEXPLAINED_AT_NO_COST,
    AgentJoined,
    BracketOpened,
    ConfigId,
    Entry,
    EvaluationId,
    Expired,
    ExpiryKind,
    FailureKind,
    Finished,
    HandBackKind,
    LateReport,
    Leased,
    Limits,
    ModelFitted,
    Outcome,
    Paused,
    ProblemSource,
    ProcessIdentity,
    Proposal,
    PutBack,
    Recorded,
    Released,
    Resumed,
    RungFilled,
    RungShrunk,
    Sampled,
    SearchSettings,
    SetAside,
    SourceChanged,
    Started,
)
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers import algorithm_named, bracket_plan

MENDABLE = frozenset(kind for kind in FailureKind if kind.is_mendable)
"""Failures that a change of the user's code can undo."""
MADE_HERE = frozenset({FailureKind.INFRASTRUCTURE, FailureKind.CANCELLED})
"""Failures that the engine records itself: they are no outcome of the objective, and the model never sees them."""


@dataclass(slots=True)
class SourceChange:
    """Where the user accepted an edited source: the outcomes before it, and the first evaluation leased after it."""

    recorded: int
    differences: tuple[str, ...]
    first: EvaluationId | None = None


@dataclass(slots=True)
class Evaluation:
    """One configuration at one rung: waiting, leased to ``agent``, or ended with ``outcome``."""

    id: EvaluationId
    budget: float
    attempts: int = 0
    lost: int = 0
    returned: int = 0
    """Hand-backs that cost no attempt."""
    why_returned: str = ""
    """The reason of the last one."""
    unexplained: int = 0
    """Hand-backs because of a signal whose sender had ended."""
    agent: str | None = None
    outcome: Outcome | None = None
    agent_of: dict[int, str] = field(default_factory=dict)
    directories: dict[int, str] = field(default_factory=dict)
    whole: tuple[int, ...] = ()
    """The attempts that ended in ``trial.report``, where no file is half written."""
    dropped: int = 0
    """No later attempt gets the directories of this attempt and of those before it."""
    reported: set[tuple[int, str]] = field(default_factory=set)
    expired_agent: str | None = None
    """The agent of the last lease, if this lease expired."""
    expiry_counts: bool = False
    """Whether the attempt of that lease counts as lost."""
    curve: Curve = ()
    """The points of attempts that were handed back or cut off, until there is an outcome, which has them all."""
    timelines: tuple[tuple[int, int], ...] = ()
    """Each attempt that was leased after a journal had been restored, and the epoch with which its masters began."""

    def loses_by(self, kind: HandBackKind | None) -> bool:
        """Whether a hand-back of this kind, which is counted already, costs an attempt."""
        if kind is HandBackKind.UNEXPLAINED:
            return self.unexplained > UNEXPLAINED_AT_NO_COST
        return kind is HandBackKind.UNORDERED


@dataclass(slots=True)
class Rung:
    """One level of a bracket. ``taken`` counts the places that configurations hold; infeasible ones hold none."""

    budget: float
    places: int
    is_open: bool = False
    promoted: deque[ConfigId] = field(default_factory=deque)
    taken: int = 0
    sampled: int = 0
    running: int = 0
    done: list[tuple[ConfigId, float | None]] = field(default_factory=list)
    started: int = 0

    @property
    def has_work(self) -> bool:
        """Whether an evaluation can be started here."""
        return self.is_open and (bool(self.promoted) or self.taken < self.places)

    @property
    def is_complete(self) -> bool:
        """Whether all places have an outcome."""
        return self.is_open and len(self.done) >= self.places


@dataclass(slots=True)
class Bracket:
    """One run of successive halving."""

    plan: BracketPlan
    rungs: list[Rung]

    @property
    def is_complete(self) -> bool:
        """Whether its last rung is complete."""
        return self.rungs[-1].is_complete

    def is_decided(self, index: int) -> bool:
        """Whether the outcomes of a rung have decided anything: a promotion, or a sample at the rung above."""
        if not self.rungs[index].is_complete or index + 1 == len(self.rungs):
            return False
        above = self.rungs[index + 1]
        return bool(above.taken or above.sampled or above.is_complete)


@record(frozen=True, slots=True)
class Best:
    """The incumbent: lowest loss at the highest budget evaluated so far."""

    budget: float
    loss: float
    config_id: ConfigId
    rung: int


class State:
    """The sum of the journal's entries.

    Parameters
    ----------
    plan
        The plan of bracket number k.
    promotion
        Which configurations a complete rung promotes.

    Attributes
    ----------
    position
        Number of entries that were applied.
    epoch, timeline
        Epoch of the newest master; epoch of the last master that began with a restored journal, 0 for none.
    limits, spent_s
        Of the newest start: when to stop, and the seconds that all earlier masters served.
    finished, paused
        Why the search is over, and why it is paused; None where it is not.
    source, source_changes
        The edited source that was accepted last, None for none; all edits, oldest first.
    brackets, proposals, evaluations
        Everything that was opened, sampled and started.
    pool, to_fill
        Only if promotion is by pool: the finite losses of the configurations that were not promoted, by budget;
        brackets and rungs that open as soon as it is decided which of these configurations they take.
    to_rerun
        Evaluations without a lease and an outcome, in the order in which they are leased.
    held_by, request_of, worker_of, process_of
        By agent: the evaluation of its lease, the number of its last request, its display name, its process.
    discontinued
        Configurations that will not be promoted, oldest first.
    best
        The incumbent; None before any loss.
    recorded, late, failures
        Number of outcomes, of late reports, and of failures by kind.
    started, refused, from_model
        Number of evaluations that were started, of those refused as infeasible, and of configurations of the model.
    budget_started
        Sum of the budgets of all evaluations that were started, without those that cost nothing.
    infeasible_in_a_row, exhausted
        Refusals since the last other outcome; whether the sampler has no further configuration.
    observed_at
        Position of the last entry that changed what the sampler knows about outcomes.
    first_faults, growth, noted, durations
        What the outcomes show: one fault of all, whether a larger budget helps, notes of evaluations, durations.
    """

    def __init__(self, plan: Callable[[int], BracketPlan], promotion: Promotion = "rung") -> None:
        self._plan = plan
        self.promotion = promotion
        self.pool: dict[float, dict[ConfigId, float]] = defaultdict(dict)
        self.to_fill: deque[tuple[int, int]] = deque()
        self._guests: dict[EvaluationId, tuple[int, int]] = {}
        self.position = 0
        self.epoch = 0
        self.timeline = 0
        self.limits = Limits()
        self.spent_s = 0.0
        self.finished: Finished | None = None
        self.paused: str | None = None
        self.source: ProblemSource | None = None
        self.source_changes: list[SourceChange] = []
        self.brackets: list[Bracket] = []
        self.proposals: dict[ConfigId, Proposal] = {}
        self.evaluations: dict[EvaluationId, Evaluation] = {}
        self.to_rerun: deque[EvaluationId] = deque()
        self.held_by: dict[str, EvaluationId] = {}
        self.request_of: dict[str, int] = {}
        self.worker_of: dict[str, str] = {}
        self.process_of: dict[str, ProcessIdentity] = {}
        self.discontinued: list[ConfigId] = []
        self.best: Best | None = None
        self.failures: Counter[FailureKind] = Counter()
        self.recorded = 0
        self.late = 0
        self.started = 0
        self.from_model = 0
        self.refused = 0
        self.budget_started = 0.0
        self.infeasible_in_a_row = 0
        self.exhausted = False
        self.observed_at = 0
        self.first_faults = FirstFaults()
        self.growth = Growth()
        self.noted = Noted()
        self.durations = Durations()
        self._best_key: IncumbentKey | None = None
        self._open_rungs: list[tuple[float, int, int]] = []

    # -------------------------------------------------------------------------------------------------- questions

    def rung_with_work(self) -> tuple[int, int] | None:
        """Bracket and rung of the smallest (budget, bracket) with an open place."""
        while self._open_rungs:
            _, bracket, rung = self._open_rungs[0]
            if self.brackets[bracket].rungs[rung].has_work:
                return bracket, rung
            heapq.heappop(self._open_rungs)
        return None

    def rungs_with_work(self) -> list[tuple[int, int]]:
        """Bracket and rung of all open places, in the order of :meth:`rung_with_work`."""
        opened = ((bracket, rung) for _, bracket, rung in sorted(set(self._open_rungs)))
        return [(bracket, rung) for bracket, rung in opened if self.brackets[bracket].rungs[rung].has_work]

    def next_budget(self) -> float:
        """The smallest budget of the bracket that would be opened next."""
        return self._plan(len(self.brackets)).rungs[0].budget

    def next_config_id(self, bracket: int, rung: int) -> ConfigId:
        """Id of the next fresh configuration of a rung."""
        return ConfigId(bracket, rung, self.brackets[bracket].rungs[rung].sampled)

    def place_of(self, identity: EvaluationId) -> tuple[int, int]:
        """Bracket and rung in which an evaluation has its place.

        That is the configuration's own bracket, unless the rung was filled from the pool of all brackets.
        """
        return self._guests.get(identity, (identity.config_id.bracket, identity.rung))

    def promotion_to(self, bracket: int, rung: int) -> EvaluationId:
        """The evaluation of the first configuration that is promoted to a rung and was not leased."""
        return self.promotion_of(self.brackets[bracket].rungs[rung].promoted[0], bracket, rung)

    def promotion_of(self, config_id: ConfigId, bracket: int, rung: int) -> EvaluationId:
        """The evaluation of a configuration at the budget of a bracket's rung; all brackets end at the full budget."""
        own, others = self.brackets[config_id.bracket].rungs, self.brackets[bracket].rungs
        return EvaluationId(config_id, rung + len(own) - len(others))

    def candidates(self, bracket: int, rung: int) -> list[tuple[ConfigId, float]]:
        """The configurations that may be promoted to a rung from the pool, with their losses, the best first."""
        pool = self.pool[self.brackets[bracket].rungs[rung - 1].budget]
        return sorted(pool.items(), key=lambda each: rank_key(*each))

    def is_promoted(self, identity: EvaluationId) -> bool:
        """Whether this is a promotion that no agent has leased."""
        bracket, index = self.place_of(identity)
        if not 0 <= bracket < len(self.brackets) or not 0 <= index < len(self.brackets[bracket].rungs):
            return False
        return identity.config_id in self.brackets[bracket].rungs[index].promoted

    def is_given_back(self, entry: Leased) -> bool:
        """Whether the entry returns to an agent the lease that it lost by expiry."""
        known = self.evaluations.get(entry.evaluation)
        return known is not None and entry.attempt == known.attempts and known.expired_agent == entry.agent

    def may_retry(self, identity: EvaluationId) -> bool:
        """Whether a failure can be undone: one of the code, in a rung whose results have decided nothing."""
        outcome = self.evaluations[identity].outcome
        if outcome is None or outcome.failure is None or outcome.failure.kind not in MENDABLE:
            return False
        bracket, index = self.place_of(identity)
        return not self.brackets[bracket].is_decided(index)

    @property
    def one_fault(self) -> OneFault | None:
        """The fault for which the search must stop now; None if it goes on."""
        return None if self.finished is not None else self.first_faults.verdict

    def is_doubtful(self, identity: EvaluationId, attempt: int, resumed_from: int | None, outcome: Outcome) -> bool:
        """Whether a failure of the code may come from what an earlier attempt left when it was cut off."""
        failure = outcome.failure
        if resumed_from is None or failure is None or failure.kind is not FailureKind.CODE:
            return False
        known = self.evaluations.get(identity)
        return known is not None and known.dropped < resumed_from < attempt and resumed_from not in known.whole

    # ------------------------------------------------------------------------------------------------------ change

    def apply(self, entry: Entry) -> None:
        """Apply one entry; the position counts entries as the journal does."""
        self.position += 1
        # Most entries are of the first three classes.
        match entry:
            case Leased():
                self._lease(entry)
            case Recorded():
                self._record(entry)
            case Sampled():
                self._sample(entry)
            case BracketOpened(bracket=bracket):
                self._open(bracket)
            case Started() | AgentJoined() | Paused() | Resumed() | SourceChanged() | Finished():
                self._govern(entry)
            case LateReport():
                self.late += 1
                self._evaluation(entry.evaluation, entry).reported.add((entry.attempt, entry.agent))
            case Released() | SetAside() | Expired():
                self._come_back(entry)
            case RungShrunk():
                self._shrink(entry)
            case RungFilled():
                self._fill(entry)
            case ModelFitted():
                pass
            case PutBack(evaluation=identity):
                self._retry(identity, entry)

    def _come_back(self, entry: Released | SetAside | Expired) -> None:
        """Entries that end a lease without an outcome that counts."""
        match entry:
            case Released():
                self._release(entry)
            case SetAside():
                self._set_aside(entry)
            case Expired():
                self._expire(entry)

    def _govern(self, entry: Started | AgentJoined | Paused | Resumed | SourceChanged | Finished) -> None:
        """Entries about the search as a whole."""
        match entry:
            case Started():
                self.epoch = entry.epoch
                self.timeline = entry.epoch if entry.restored else self.timeline
                self.limits = entry.limits
                self.spent_s = entry.spent_s
                self.finished = None
                self.first_faults.begin(entry.first_faults_rule, keep_going=entry.keep_going)
            case AgentJoined(agent=agent, process=process):
                self.process_of[agent] = process
            case Paused(reason=reason):
                self.paused = reason
            case Resumed():
                self.paused = None
            case SourceChanged(source=source):
                self.source = source
                self.source_changes.append(SourceChange(self.recorded, entry.differences))
            case Finished():
                self.finished = entry

    def _open(self, number: int) -> None:
        self._require(number == len(self.brackets), "bracket {} opened after {} others", number, len(self.brackets))
        plan = self._plan(number)
        bracket = Bracket(plan, [Rung(rung.budget, rung.places) for rung in plan.rungs])
        self.brackets.append(bracket)
        self._open_rung(number, 0)

    def _sample(self, entry: Sampled) -> None:
        bracket, rung, index = entry.config_id
        where = self.brackets[bracket].rungs[rung]
        self._require(where.is_open and where.taken < where.places, "{} has no place", entry.config_id)
        self._require(index == where.sampled, "{} is not the next of its rung", entry.config_id)
        self.proposals[entry.config_id] = entry.proposal
        self.from_model += entry.proposal.model_budget is not None
        where.taken += 1
        where.sampled += 1
        self._start_evaluation(EvaluationId(entry.config_id, rung))

    def _start_evaluation(self, evaluation: EvaluationId, *, is_paid: bool = True) -> None:
        rung = self._rung(evaluation)
        self.evaluations[evaluation] = Evaluation(evaluation, rung.budget)
        rung.started += 1
        self.started += 1
        if is_paid:
            self.budget_started += rung.budget
        self.to_rerun.append(evaluation)

    def _lease(self, entry: Leased) -> None:
        identity = entry.evaluation
        if self.source_changes and self.source_changes[-1].first is None:
            self.source_changes[-1].first = identity
        if identity not in self.evaluations:
            rung = self._rung(identity)
            is_first = bool(rung.promoted) and rung.promoted[0] == identity.config_id
            self._require(is_first, "{} is not promoted", identity)
            rung.promoted.popleft()
            self._start_evaluation(identity)
        evaluation = self._evaluation(identity, entry)
        self._require(evaluation.agent is None and evaluation.outcome is None, "{} cannot be leased", identity)
        self._require(entry.agent not in self.held_by, "{} holds a lease already", entry.agent)
        if self.is_given_back(entry):
            # The attempt does not count as lost any more.
            evaluation.lost -= evaluation.expiry_counts
        else:
            is_next = entry.attempt == evaluation.attempts + 1
            self._require(is_next, "attempt {} of {} is not the next", entry.attempt, identity)
            if self.timeline:
                evaluation.timelines += ((entry.attempt, self.timeline),)
        # The evaluation to be leased is nearly always in front; only a report in between can have moved it.
        self.to_rerun.remove(identity)
        evaluation.attempts = entry.attempt
        evaluation.agent = entry.agent
        evaluation.expired_agent = None
        evaluation.agent_of[entry.attempt] = entry.agent
        self.held_by[entry.agent] = identity
        self.request_of[entry.agent] = entry.request
        self.worker_of[entry.agent] = entry.worker
        self._rung(identity).running += 1

    def _record(self, entry: Recorded) -> None:
        if entry.evaluation not in self.evaluations and self.is_promoted(entry.evaluation):
            # Cancelled before any agent leased it: it takes its place, and costs nothing.
            self._rung(entry.evaluation).promoted.remove(entry.evaluation.config_id)
            self._start_evaluation(entry.evaluation, is_paid=False)
        evaluation = self._evaluation(entry.evaluation, entry)
        self._require(evaluation.outcome is None, "{} has an outcome already", entry.evaluation)
        if evaluation.agent is None:
            self.to_rerun.remove(entry.evaluation)
        elif evaluation.agent == entry.agent:
            self._end_lease(entry.evaluation, entry.agent, entry)
        else:
            # A report under an expired lease ends what another agent runs; that agent stops at its next heartbeat.
            self._end_lease(entry.evaluation, evaluation.agent, entry)
        evaluation.outcome, evaluation.curve = entry.outcome, ()
        self.recorded += 1
        self.first_faults.add(entry.evaluation.config_id, entry.outcome)
        failure = entry.outcome.failure
        if failure is not None:
            self.failures[failure.kind] += 1
        if failure is None or failure.kind not in MADE_HERE:
            self.observed_at = self.position
            evaluation.reported.add((entry.attempt, entry.agent))
        rung = self._rung(entry.evaluation)
        if failure is not None and failure.kind is FailureKind.INFEASIBLE:
            self.infeasible_in_a_row += 1
            # Nothing was trained: neither the total budget nor the number of evaluations is charged for it.
            self.budget_started -= evaluation.budget
            self.refused += 1
            rung.taken -= 1
            self.discontinued.append(entry.evaluation.config_id)
            self._push(*self.place_of(entry.evaluation))
            return
        self.infeasible_in_a_row = 0
        self.noted.add(entry.outcome.info)
        rung.done.append((entry.evaluation.config_id, entry.outcome.loss))
        if entry.outcome.loss is not None:
            self._compare_with_best(evaluation, entry.outcome.loss)
            if entry.attempt == 1 and entry.outcome.duration_s:
                # A later attempt may have continued from a checkpoint, so its duration is not that of the whole.
                self.durations.add(evaluation.budget, entry.outcome.duration_s)
            self._compare_with_rung_below(evaluation, entry.outcome)
            if self.promotion == "pool":
                self.pool[evaluation.budget][entry.evaluation.config_id] = entry.outcome.loss
        self._complete_if_full(*self.place_of(entry.evaluation))

    def _compare_with_best(self, evaluation: Evaluation, loss: float) -> None:
        config_id, rung = evaluation.id
        key = incumbent_key(evaluation.budget, loss, config_id)
        if self._best_key is None or key < self._best_key:
            self._best_key = key
            self.best = Best(evaluation.budget, loss, config_id, rung)

    def _compare_with_rung_below(self, evaluation: Evaluation, outcome: Outcome) -> None:
        below = self.evaluations.get(EvaluationId(evaluation.id.config_id, evaluation.id.rung - 1))
        if below is not None and below.outcome is not None and below.outcome.loss is not None:
            self.growth.add(
                (below.budget, evaluation.budget),
                (below.outcome.loss, outcome.loss),
                (below.outcome.duration_s, outcome.duration_s),
                has_checkpoint=below.outcome.directory is not None,
            )

    def _complete_if_full(self, number: int, index: int) -> None:
        bracket = self.brackets[number]
        rung = bracket.rungs[index]
        if not rung.is_complete:
            return
        if index + 1 == len(bracket.rungs):
            self.discontinued.extend(config_id for config_id, _ in rung.done)
            return
        if self.promotion == "pool":
            # A candidate stays one for later rungs; only what failed is never promoted.
            self.discontinued.extend(config_id for config_id, loss in rung.done if loss is None)
            self.to_fill.append((number, index + 1))
            return
        above = bracket.rungs[index + 1]
        promoted = survivors(rung.done, above.places)
        above.promoted.extend(promoted)
        above.taken = len(promoted)
        stay = set(promoted)
        self.discontinued.extend(config_id for config_id, _ in rung.done if config_id not in stay)
        self._open_rung(number, index + 1)

    def _fill(self, entry: RungFilled) -> None:
        """Open a rung for configurations of the pool; it shrinks to their number, unless there are none."""
        where = entry.bracket, entry.rung
        self._require(where in self.to_fill, "rung {1} of bracket {0} cannot be filled", *where)
        rung = self.brackets[entry.bracket].rungs[entry.rung]
        pool = self.pool[self.brackets[entry.bracket].rungs[entry.rung - 1].budget]
        self._require(len(entry.promoted) <= rung.places, "{} configurations have no place", len(entry.promoted))
        for config_id in entry.promoted:
            self._require(config_id in pool, "{} is not in the pool", config_id)
            del pool[config_id]
            identity = self.promotion_of(config_id, *where)
            if where != (config_id.bracket, identity.rung):
                self._guests[identity] = where
        rung.promoted.extend(entry.promoted)
        rung.taken = len(entry.promoted)
        rung.places = rung.taken or rung.places
        self.to_fill.remove(where)
        self._open_rung(*where)

    def _open_rung(self, bracket: int, rung: int) -> None:
        self.brackets[bracket].rungs[rung].is_open = True
        self._push(bracket, rung)

    def _push(self, bracket: int, rung: int) -> None:
        heapq.heappush(self._open_rungs, (self.brackets[bracket].rungs[rung].budget, bracket, rung))

    def _release(self, entry: Released) -> None:
        self._end_lease(entry.evaluation, entry.agent, entry)
        if entry.directory is not None:
            self.evaluations[entry.evaluation].directories[entry.attempt] = entry.directory
        evaluation = self.evaluations[entry.evaluation]
        evaluation.unexplained += entry.kind is HandBackKind.UNEXPLAINED
        if evaluation.loses_by(entry.kind):
            evaluation.lost += 1
        else:
            evaluation.returned += 1
            evaluation.why_returned = entry.reason
        if not entry.was_cut_off:
            evaluation.whole += (entry.attempt,)
        self._keep_points(entry)
        self._put_back(entry.evaluation)

    def _expire(self, entry: Expired) -> None:
        self._end_lease(entry.evaluation, entry.agent, entry)
        evaluation = self.evaluations[entry.evaluation]
        evaluation.expired_agent = entry.agent
        evaluation.expiry_counts = entry.kind is not ExpiryKind.STOPPED
        evaluation.lost += evaluation.expiry_counts
        self._keep_points(entry)
        self._put_back(entry.evaluation)

    def _set_aside(self, entry: SetAside) -> None:
        identity = entry.evaluation
        is_doubtful = self.is_doubtful(identity, entry.attempt, entry.resumed_from, entry.outcome)
        self._require(is_doubtful, "the failure of {} cannot be set aside", identity)
        self._end_lease(identity, entry.agent, entry)
        evaluation = self.evaluations[identity]
        evaluation.reported.add((entry.attempt, entry.agent))
        evaluation.dropped = entry.attempt
        evaluation.curve = joined(evaluation.curve, entry.outcome.curve)
        self._put_back(identity)

    def _keep_points(self, entry: Released | Expired) -> None:
        evaluation = self.evaluations[entry.evaluation]
        evaluation.curve = joined(evaluation.curve, entry.curve)

    def _end_lease(self, identity: EvaluationId, agent: str, entry: Entry) -> None:
        evaluation = self._evaluation(identity, entry)
        self._require(evaluation.agent == agent, "{} is leased to {}, not to {}", identity, evaluation.agent, agent)
        evaluation.agent = None
        del self.held_by[agent]
        self._rung(identity).running -= 1

    def _put_back(self, identity: EvaluationId) -> None:
        self.to_rerun.append(identity)

    def _retry(self, identity: EvaluationId, entry: Entry) -> None:
        """Undo a failure, and the completion of its rung where that has decided nothing."""
        evaluation = self._evaluation(identity, entry)
        outcome = evaluation.outcome
        self._require(self.may_retry(identity), "{} cannot be put back", identity)
        number, index = self.place_of(identity)
        bracket, rung = self.brackets[number], self._rung(identity)
        if rung.is_complete:
            if index + 1 < len(bracket.rungs):
                bracket.rungs[index + 1].is_open = False
            if (number, index + 1) in self.to_fill:
                self.to_fill.remove((number, index + 1))
            stay = {config_id for config_id, _ in rung.done}
            self.discontinued = [config_id for config_id in self.discontinued if config_id not in stay]
        rung.done.remove((identity.config_id, None))
        if outcome is not None and outcome.failure is not None:
            self.failures[outcome.failure.kind] -= 1
        self.failures = +self.failures
        self.recorded -= 1
        evaluation.outcome = None
        evaluation.curve = () if outcome is None else outcome.curve
        # What the sampler knows has changed, as by an outcome.
        self.observed_at = self.position
        self.to_rerun.append(identity)

    def _shrink(self, entry: RungShrunk) -> None:
        rung = self.brackets[entry.bracket].rungs[entry.rung]
        self._require(rung.taken == entry.places < rung.places, "rung {} cannot shrink to {}", entry.rung, entry.places)
        rung.places = entry.places
        self.exhausted = True
        self._complete_if_full(entry.bracket, entry.rung)

    def _rung(self, evaluation: EvaluationId) -> Rung:
        bracket, index = self.place_of(evaluation)
        return self.brackets[bracket].rungs[index]

    def _evaluation(self, identity: EvaluationId, entry: Entry) -> Evaluation:
        evaluation = self.evaluations.get(identity)
        if evaluation is None:
            raise InvariantBroken(f"entry {self.position} of the journal names an unknown evaluation: {entry}")
        return evaluation

    def _require(self, holds: bool, story: str, *parts: object) -> None:
        # Formatted only when it is raised: for a journal of 100,000 evaluations, the formatting would take a second.
        if not holds:
            raise InvariantBroken(f"entry {self.position} of the journal: {story.format(*parts)}")


def state_for(settings: SearchSettings) -> State:
    """The state of a search whose journal holds no entry yet."""
    return State(lambda bracket: bracket_plan(settings, bracket), algorithm_named(settings.algorithm).promotion)


def is_shown_to_model(outcome: Outcome) -> bool:
    """Whether the sampler observes an outcome."""
    return outcome.failure is None or outcome.failure.kind not in MADE_HERE
