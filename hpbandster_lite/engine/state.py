"""The state of a search: what replaying the journal's entries gives.

Law of this file: :meth:`State.apply` is the only thing that changes it, living and replaying alike; it never asks the
sampler for a proposal, reads no clock and checks that each entry fits what is already there.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hpbandster_lite.brackets import BracketPlan, survivors
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.records import (
    BracketOpened,
    ConfigId,
    Entry,
    EvaluationId,
    Expired,
    FailureKind,
    Finished,
    LateReport,
    Leased,
    Limits,
    Outcome,
    Proposal,
    Recorded,
    Released,
    RungShrunk,
    Sampled,
    Started,
)


@dataclass(slots=True)
class Evaluation:
    """One configuration at one rung: waiting, leased to ``agent``, or ended with ``outcome``."""

    id: EvaluationId
    budget: float
    attempts: int = 0
    lost: int = 0
    agent: str | None = None
    outcome: Outcome | None = None
    agent_of: dict[int, str] = field(default_factory=dict)
    directories: dict[int, str] = field(default_factory=dict)
    reported: set[tuple[int, str]] = field(default_factory=set)


@dataclass(slots=True)
class Rung:
    """One level of a bracket. ``taken`` counts places that a configuration holds; infeasible ones give theirs back."""

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


@dataclass(frozen=True, slots=True, order=True)
class Best:
    """The incumbent: lowest loss at the highest budget evaluated so far (the smallest of these values)."""

    negative_budget: float
    loss: float
    config_id: ConfigId
    rung: int


class State:
    """Everything that the journal's entries say.

    Parameters
    ----------
    plan
        The plan of bracket number k.
    """

    def __init__(self, plan: Callable[[int], BracketPlan]) -> None:
        self._plan = plan
        self.position = 0
        self.epoch = 0
        self.limits = Limits()
        self.spent_s = 0.0
        self.finished: str | None = None
        self.brackets: list[Bracket] = []
        self.proposals: dict[ConfigId, Proposal] = {}
        self.evaluations: dict[EvaluationId, Evaluation] = {}
        self.again: deque[EvaluationId] = deque()
        self.held_by: dict[str, EvaluationId] = {}
        self.request_of: dict[str, int] = {}
        self.out: list[ConfigId] = []
        self.best: Best | None = None
        self.failures: Counter[FailureKind] = Counter()
        self.recorded = 0
        self.late = 0
        self.started = 0
        self.budget_started = 0.0
        self.infeasible_in_a_row = 0
        self.exhausted = False
        self.observed_at = 0
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

    def next_config_id(self, bracket: int, rung: int) -> ConfigId:
        """Id of the next fresh configuration of a rung."""
        return ConfigId(bracket, rung, self.brackets[bracket].rungs[rung].sampled)

    # ------------------------------------------------------------------------------------------------------ change

    def apply(self, entry: Entry) -> None:
        """Take one entry in; the position counts entries as the journal does."""
        self.position += 1
        match entry:
            case Started():
                self._start(entry)
            case BracketOpened(bracket=bracket):
                self._open(bracket)
            case Sampled():
                self._sample(entry)
            case Leased():
                self._lease(entry)
            case Recorded():
                self._record(entry)
            case LateReport():
                self.late += 1
                self._evaluation(entry.evaluation, entry).reported.add((entry.attempt, entry.agent))
            case Released():
                self._release(entry)
            case Expired():
                self._end_lease(entry.evaluation, entry.agent, entry)
                self.evaluations[entry.evaluation].lost += 1
                self._put_back(entry.evaluation)
            case RungShrunk():
                self._shrink(entry)
            case Finished(reason=reason):
                self.finished = reason

    def _start(self, entry: Started) -> None:
        self.epoch = entry.epoch
        self.limits = entry.limits
        self.spent_s = entry.spent_s
        self.finished = None

    def _open(self, number: int) -> None:
        self._require(number == len(self.brackets), f"bracket {number} opened after {len(self.brackets)} others")
        plan = self._plan(number)
        bracket = Bracket(plan, [Rung(rung.budget, rung.places) for rung in plan.rungs])
        self.brackets.append(bracket)
        self._open_rung(number, 0)

    def _sample(self, entry: Sampled) -> None:
        bracket, rung, index = entry.config_id
        where = self.brackets[bracket].rungs[rung]
        self._require(where.is_open and where.taken < where.places, f"{entry.config_id} has no place")
        self._require(index == where.sampled, f"{entry.config_id} is not the next of its rung")
        self.proposals[entry.config_id] = entry.proposal
        where.taken += 1
        where.sampled += 1
        self._start_evaluation(EvaluationId(entry.config_id, rung))

    def _start_evaluation(self, evaluation: EvaluationId) -> None:
        rung = self.brackets[evaluation.config_id.bracket].rungs[evaluation.rung]
        self.evaluations[evaluation] = Evaluation(evaluation, rung.budget)
        rung.started += 1
        self.started += 1
        self.budget_started += rung.budget
        self.again.append(evaluation)

    def _lease(self, entry: Leased) -> None:
        identity = entry.evaluation
        if identity not in self.evaluations:
            rung = self.brackets[identity.config_id.bracket].rungs[identity.rung]
            self._require(bool(rung.promoted) and rung.promoted[0] == identity.config_id, f"{identity} is not promoted")
            rung.promoted.popleft()
            self._start_evaluation(identity)
        evaluation = self._evaluation(identity, entry)
        self._require(evaluation.agent is None and evaluation.outcome is None, f"{identity} cannot be leased")
        self._require(entry.agent not in self.held_by, f"{entry.agent} holds a lease already")
        self._require(
            entry.attempt == evaluation.attempts + 1, f"attempt {entry.attempt} of {identity} is not the next"
        )
        # The evaluation to be leased is nearly always in front; only a report in between can have moved it.
        self.again.remove(identity)
        evaluation.attempts = entry.attempt
        evaluation.agent = entry.agent
        evaluation.agent_of[entry.attempt] = entry.agent
        self.held_by[entry.agent] = identity
        self.request_of[entry.agent] = entry.request
        self._rung(identity).running += 1

    def _record(self, entry: Recorded) -> None:
        evaluation = self._evaluation(entry.evaluation, entry)
        self._require(evaluation.outcome is None, f"{entry.evaluation} has an outcome already")
        if evaluation.agent is None:
            self.again.remove(entry.evaluation)
        elif evaluation.agent == entry.agent:
            self._end_lease(entry.evaluation, entry.agent, entry)
        else:
            # A report under an expired lease ends what another agent is running; that one hears it when it renews.
            self._end_lease(entry.evaluation, evaluation.agent, entry)
        evaluation.outcome = entry.outcome
        evaluation.reported.add((entry.attempt, entry.agent))
        self.recorded += 1
        failure = entry.outcome.failure
        if failure is not None:
            self.failures[failure.kind] += 1
        if failure is None or failure.kind is not FailureKind.INFRASTRUCTURE:
            self.observed_at = self.position
        rung = self._rung(entry.evaluation)
        if failure is not None and failure.kind is FailureKind.INFEASIBLE:
            self.infeasible_in_a_row += 1
            rung.taken -= 1
            self.out.append(entry.evaluation.config_id)
            self._push(entry.evaluation.config_id.bracket, entry.evaluation.rung)
            return
        self.infeasible_in_a_row = 0
        rung.done.append((entry.evaluation.config_id, entry.outcome.loss))
        if entry.outcome.loss is not None:
            best = Best(-evaluation.budget, entry.outcome.loss, entry.evaluation.config_id, entry.evaluation.rung)
            self.best = best if self.best is None else min(self.best, best)
        self._complete_if_full(entry.evaluation.config_id.bracket, entry.evaluation.rung)

    def _complete_if_full(self, number: int, index: int) -> None:
        bracket = self.brackets[number]
        rung = bracket.rungs[index]
        if not rung.is_complete:
            return
        if index + 1 == len(bracket.rungs):
            self.out.extend(config_id for config_id, _ in rung.done)
            return
        above = bracket.rungs[index + 1]
        promoted = survivors(rung.done, above.places)
        above.promoted.extend(promoted)
        above.taken = len(promoted)
        stay = set(promoted)
        self.out.extend(config_id for config_id, _ in rung.done if config_id not in stay)
        self._open_rung(number, index + 1)

    def _open_rung(self, bracket: int, rung: int) -> None:
        self.brackets[bracket].rungs[rung].is_open = True
        self._push(bracket, rung)

    def _push(self, bracket: int, rung: int) -> None:
        heapq.heappush(self._open_rungs, (self.brackets[bracket].rungs[rung].budget, bracket, rung))

    def _release(self, entry: Released) -> None:
        self._end_lease(entry.evaluation, entry.agent, entry)
        if entry.directory is not None:
            self.evaluations[entry.evaluation].directories[entry.attempt] = entry.directory
        self._put_back(entry.evaluation)

    def _end_lease(self, identity: EvaluationId, agent: str, entry: Entry) -> None:
        evaluation = self._evaluation(identity, entry)
        self._require(evaluation.agent == agent, f"{identity} is leased to {evaluation.agent}, not to {agent}")
        evaluation.agent = None
        del self.held_by[agent]
        self._rung(identity).running -= 1

    def _put_back(self, identity: EvaluationId) -> None:
        self.again.append(identity)

    def _shrink(self, entry: RungShrunk) -> None:
        rung = self.brackets[entry.bracket].rungs[entry.rung]
        self._require(rung.taken == entry.places < rung.places, f"rung {entry.rung} cannot shrink to {entry.places}")
        rung.places = entry.places
        self.exhausted = True
        self._complete_if_full(entry.bracket, entry.rung)

    def _rung(self, evaluation: EvaluationId) -> Rung:
        return self.brackets[evaluation.config_id.bracket].rungs[evaluation.rung]

    def _evaluation(self, identity: EvaluationId, entry: Entry) -> Evaluation:
        evaluation = self.evaluations.get(identity)
        if evaluation is None:
            raise InvariantBroken(f"entry {self.position} of the journal names an unknown evaluation: {entry}")
        return evaluation

    def _require(self, holds: bool, story: str) -> None:
        if not holds:
            raise InvariantBroken(f"entry {self.position} of the journal: {story}")
