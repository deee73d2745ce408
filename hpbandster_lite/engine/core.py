"""The engine: what every request of an agent means for the search, decided in memory.

Law of this file: it decides, :class:`~hpbandster_lite.engine.state.State` changes. No clock, sockets, files or
threads: ``now`` is seconds on the caller's monotonic clock, randomness is keyed by seed and config id. Every method
that changes anything returns a :class:`Turn`, whose entries are applied already and must be durable before its
answer is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import numpy as np

from hpbandster_lite.brackets import Rule, plan_bracket
from hpbandster_lite.engine.answers import (
    Decision,
    Done,
    Exchanged,
    Grant,
    Granted,
    Keep,
    OpenBracket,
    Promote,
    ReportIs,
    Rerun,
    Sample,
    Stop,
    Turn,
    Wait,
)
from hpbandster_lite.engine.invariants import validate
from hpbandster_lite.engine.leases import Leases
from hpbandster_lite.engine.state import State
from hpbandster_lite.engine.status import incumbent_of, status_of
from hpbandster_lite.randomness import Purpose, generator_for, training_seed
from hpbandster_lite.records import (
    BracketOpened,
    ConfigId,
    CurvePoint,
    Entry,
    EvaluationId,
    Expired,
    Failure,
    FailureKind,
    Finished,
    LateReport,
    Leased,
    Limits,
    Origin,
    Outcome,
    Plain,
    Proposal,
    Recorded,
    Released,
    Report,
    RungShrunk,
    Sampled,
    SearchSettings,
    Started,
)
from hpbandster_lite.samplers import Sampler
from hpbandster_lite.space import SearchSpace

WAIT_S = 1.0
"""An agent with nothing to do asks again after this long, unless the caller knows better."""
MAX_INFEASIBLE_IN_A_ROW = 1_000
"""So many refusals by the problem's ``feasible`` hook in a row end the search: something is wrong with it."""


class Engine:
    """One search as a state machine.

    Parameters
    ----------
    settings
        What defines the search.
    space
        The compiled space of its problem.
    sampler
        Where configurations come from; the engine feeds it and nobody else.
    """

    def __init__(self, settings: SearchSettings, space: SearchSpace, sampler: Sampler) -> None:
        self.settings = settings
        self._space = space
        self._sampler = sampler
        self._state = State(
            lambda bracket: plan_bracket(
                bracket,
                settings.budgets,
                settings.eta,
                rule=cast(Rule, settings.bracket_rule),
                algorithm=settings.algorithm,
            )
        )
        self._leases = Leases(settings.lease_s, settings.heartbeat_s)
        self._first = self._first_proposals()
        self._started_at = 0.0
        self._out_taken = 0

    @property
    def state(self) -> State:
        """The state, for reading."""
        return self._state

    # ------------------------------------------------------------------------------------------------ start, replay

    def replay(self, entries: Iterable[Entry]) -> None:
        """Rebuild the state and the sampler's knowledge from the journal."""
        for entry in entries:
            self.apply(entry)

    def start(
        self,
        epoch: int,
        limits: Limits,
        *,
        now: float,
        spent_s: float = 0.0,
        fingerprint: Mapping[str, Plain] | None = None,
    ) -> Turn[None]:
        """Begin to serve: every open lease gets one full new lease, and the limits are those of this start."""
        entry = Started(epoch=epoch, limits=limits, spent_s=spent_s, fingerprint=fingerprint or {})
        self.apply(entry)
        self._started_at = now
        for agent, identity in self._state.held_by.items():
            self._leases.open(agent, identity, self._state.evaluations[identity].attempts, now)
        return Turn(None, (entry,))

    def apply(self, entry: Entry) -> None:
        """Take one entry in, and tell the sampler what it may learn from it."""
        self._state.apply(entry)
        match entry:
            case Sampled(proposal=proposal):
                self._sampler.add(_vector(proposal))
            case Recorded(evaluation=identity, outcome=outcome) if _teaches(outcome):
                proposal = self._state.proposals[identity.config_id]
                self._sampler.observe(_vector(proposal), self._state.evaluations[identity].budget, outcome.loss)
            case _:
                pass

    # --------------------------------------------------------------------------------------------- agents' requests

    def exchange(
        self,
        agent: str,
        request: int,
        *,
        now: float,
        report: Report | None = None,
        want_lease: bool = True,
        worker: str = "",
    ) -> Turn[Exchanged]:
        """Take a report in and answer with work, in one request.

        ``request`` is the agent's own number of this call: the same number gets the same grant again, a lower one is
        refused, so that a lost answer or a repeated message leases nothing twice.
        """
        entries: list[Entry] = []
        self._leases.hear(agent, worker, now)
        report_is: ReportIs | None = None
        if report is not None:
            turn = self.report(agent, report, now=now)
            report_is = turn.answer
            entries += turn.entries
        answer: Granted | Wait | Done | None = None
        if want_lease:
            leased = self.lease(agent, request, now=now, worker=worker)
            answer = leased.answer
            entries += leased.entries
        return Turn(Exchanged(report_is=report_is, answer=answer), tuple(entries))

    def report(self, agent: str, report: Report, *, now: float) -> Turn[ReportIs]:
        """Record the outcome of an attempt, unless another one was first."""
        self._leases.hear(agent, "", now)
        evaluation = self._state.evaluations.get(report.evaluation)
        if evaluation is None or evaluation.agent_of.get(report.attempt) != agent:
            # Not ours, or of another search: taking it would put a foreign loss into the model.
            return Turn("late")
        if (report.attempt, agent) in evaluation.reported:
            return Turn("known")
        what, attempt, outcome = report.evaluation, report.attempt, report.outcome
        if evaluation.outcome is not None:
            late = LateReport(evaluation=what, attempt=attempt, agent=agent, outcome=outcome)
            return Turn("late", self._applied(late))
        holder = evaluation.agent
        entries = self._applied(Recorded(evaluation=what, attempt=attempt, agent=agent, outcome=outcome))
        if holder is not None:
            self._leases.close(holder)
        return Turn("recorded", entries)

    def lease(self, agent: str, request: int, *, now: float, worker: str = "") -> Turn[Granted | Wait | Done]:
        """Give an agent work, or say why there is none."""
        self._leases.hear(agent, worker, now)
        last = self._state.request_of.get(agent, -1)
        held = self._state.held_by.get(agent)
        if request < last:
            return Turn(Wait(WAIT_S, f"request {request} came after request {last}; ask with a new number"))
        entries: list[Entry] = []
        if held is not None:
            if request == last:
                return Turn(Granted(self._grant(held)))
            entries += self._end(agent, "its agent asked for new work")
        while True:
            decision = self._decide(now)
            match decision:
                case OpenBracket(bracket):
                    entries += self._applied(BracketOpened(bracket=bracket))
                case Sample(config_id):
                    entries += self._sampled(config_id)
                case Promote(identity) | Rerun(identity):
                    entries += self._leased(agent, identity, request, worker, now)
                    return Turn(Granted(self._grant(identity)), tuple(entries))
                case Wait():
                    return Turn(decision, tuple(entries))
                case Done(reason):
                    if self._state.finished is None:
                        entries += self._applied(Finished(reason=reason))
                    return Turn(decision, tuple(entries))

    def renew(
        self,
        agent: str,
        evaluation: EvaluationId,
        attempt: int,
        *,
        now: float,
        curve: tuple[CurvePoint, ...] = (),
    ) -> Turn[Keep | Stop]:
        """A heartbeat: the lease gets its full length again, if it is still this agent's."""
        self._leases.hear(agent, "", now)
        known = self._state.evaluations.get(evaluation)
        if known is None or known.outcome is not None:
            return Turn(Stop("the evaluation has an outcome already"))
        if known.agent != agent or known.attempts != attempt:
            return Turn(Stop("the lease ran out and the evaluation was given to another worker"))
        reason = self._cut_off(now)
        if reason is not None:
            return Turn(Stop(reason))
        self._leases.renew(agent, now, curve)
        return Turn(Keep())

    def release(
        self, agent: str, evaluation: EvaluationId, attempt: int, reason: str, directory: str | None, *, now: float
    ) -> Turn[None]:
        """An agent hands its evaluation back; what it no longer holds it cannot hand back, and nothing changes."""
        self._leases.hear(agent, "", now)
        known = self._state.evaluations.get(evaluation)
        if known is None or known.agent != agent or known.attempts != attempt:
            return Turn(None)
        entries = self._applied(
            Released(evaluation=evaluation, attempt=attempt, agent=agent, reason=reason, directory=directory)
        )
        self._leases.close(agent)
        return Turn(None, entries)

    # ---------------------------------------------------------------------------------------------------- the clock

    def disconnected(self, agent: str, *, now: float) -> None:
        """A connection was lost: the lease ends after two heartbeats, if the agent does not come back before."""
        self._leases.shorten(agent, now)

    def lengthen(self, gap_s: float) -> None:
        """Nobody loses a lease for a time in which the master did not listen."""
        self._leases.lengthen(gap_s)

    def expire(self, *, now: float) -> Turn[None]:
        """End the leases that ran out; call it after all pending input was taken in."""
        entries: list[Entry] = []
        for agent, silent_s in self._leases.expired(now):
            entries += self._end(agent, f"no word from its agent for {silent_s:.0f} s")
        if self._state.finished is None:
            over = self._over(now)
            if over is not None:
                entries += self._applied(Finished(reason=over))
        return Turn(None, tuple(entries))

    # ---------------------------------------------------------------------------------------------------- questions

    def status(self, *, now: float) -> dict[str, Plain]:
        """Brackets and rungs, agents, totals, failures and the incumbent, as plain values."""
        return status_of(self._state, self._leases, now=now, over=self._state.finished)

    def best(self) -> dict[str, Plain] | None:
        """The incumbent: the lowest loss at the highest budget evaluated so far; ``None`` before any."""
        best = self._state.best
        return None if best is None else incumbent_of(self._state, best)

    def take_out(self) -> list[ConfigId]:
        """Configurations that went out since this was asked last: nobody will continue from their checkpoints."""
        out = self._state.out[self._out_taken :]
        self._out_taken = len(self._state.out)
        return out

    @property
    def finished(self) -> str | None:
        """Why the search is over; ``None`` while it goes on."""
        return self._state.finished

    def validate(self) -> None:
        """Check every invariant.

        Raises
        ------
        InvariantBroken
            With what was found where.
        """
        validate(self._state)

    # ------------------------------------------------------------------------------------------------- the decisions

    def _decide(self, now: float) -> Decision:
        """What to do next: run again, then the smallest (budget, bracket) with an open place, then the next bracket."""
        state = self._state
        over = self._over(now)
        if over is not None:
            return Done(over)
        closing = self._closing()
        if closing is not None:
            return Wait(WAIT_S, f"{closing}; {len(state.held_by)} evaluations still run")
        most = state.limits.max_concurrent
        if most is not None and len(state.held_by) >= most:
            return Wait(WAIT_S, f"max_concurrent: {most} evaluations run already")
        if state.again:
            return Rerun(state.again[0])
        where = state.rung_with_work()
        if where is None:
            if self._may_open():
                return OpenBracket(len(state.brackets))
            return Wait(WAIT_S, self._missing())
        bracket, index = where
        rung = state.brackets[bracket].rungs[index]
        if not self._affords(rung.budget):
            return Wait(WAIT_S, f"what is left of the total budget does not buy another {rung.budget:g}")
        if rung.promoted:
            return Promote(EvaluationId(rung.promoted[0], index))
        return Sample(state.next_config_id(bracket, index))

    def _over(self, now: float) -> str | None:
        """Why the search is over, once nothing runs that may end."""
        state = self._state
        cut_off = self._cut_off(now)
        if cut_off is not None or state.held_by:
            return cut_off
        closing = self._closing()
        if closing is not None or state.again:
            return closing
        where = state.rung_with_work()
        if where is None:
            return None if self._may_open() or not state.brackets else self._all_done()
        if not self._affords(state.brackets[where[0]].rungs[where[1]].budget):
            return f"the total budget of {state.limits.total_budget:g} is spent"
        return None

    def _cut_off(self, now: float) -> str | None:
        """A limit that hands running evaluations back."""
        state = self._state
        limits = state.limits
        if limits.wall_time_s is not None and state.spent_s + now - self._started_at >= limits.wall_time_s:
            return f"the wall time of {limits.wall_time_s:g} s is over"
        best = state.best
        target = limits.target_loss
        at_the_top = best is not None and -best.negative_budget == self.settings.budgets[-1]
        if target is not None and best is not None and at_the_top and best.loss <= target:
            return f"the target loss of {target:g} is reached: {best.loss:g}"
        return None

    def _closing(self) -> str | None:
        """A limit that starts nothing new and lets running evaluations end."""
        state = self._state
        if state.infeasible_in_a_row >= MAX_INFEASIBLE_IN_A_ROW:
            return (
                f"the problem refused the last {state.infeasible_in_a_row} configurations as infeasible; "
                "mend feasible() or the space"
            )
        most = state.limits.evaluations
        if most is not None and state.started >= most and not state.again:
            return f"{state.started} evaluations were started, which is the limit"
        return None

    def _may_open(self) -> bool:
        state = self._state
        most = state.limits.brackets
        return not state.exhausted and (most is None or len(state.brackets) < most)

    def _affords(self, budget: float) -> bool:
        most = self._state.limits.total_budget
        return most is None or self._state.budget_started + budget <= most * (1 + 1e-9)

    def _all_done(self) -> str:
        state = self._state
        if state.exhausted:
            return f"the space is exhausted: all {len(state.proposals)} configurations were evaluated"
        count = len(state.brackets)
        return "the one bracket is complete" if count == 1 else f"all {count} brackets are complete"

    def _missing(self) -> str:
        for bracket in self._state.brackets:
            for index, rung in enumerate(bracket.rungs):
                if rung.is_open and not rung.is_complete:
                    missing = rung.places - len(rung.done)
                    return (
                        f"rung {index} of bracket {bracket.plan.bracket}: {missing} of {rung.places} missing, and no "
                        "other bracket may be opened"
                    )
        return "no bracket is open"

    # ------------------------------------------------------------------------------------------------- doing them

    def _applied(self, *entries: Entry) -> tuple[Entry, ...]:
        for entry in entries:
            self.apply(entry)
        return entries

    def _sampled(self, config_id: ConfigId) -> tuple[Entry, ...]:
        proposal = self._propose(config_id)
        if proposal is None:
            rung = self._state.brackets[config_id.bracket].rungs[config_id.rung]
            return self._applied(RungShrunk(bracket=config_id.bracket, rung=config_id.rung, places=rung.taken))
        return self._applied(Sampled(config_id=config_id, proposal=proposal, basis=self._state.observed_at))

    def _propose(self, config_id: ConfigId) -> Proposal | None:
        order = len(self._state.proposals)
        if order < len(self._first):
            return self._first[order]
        return self._sampler.propose(generator_for(self.settings.seed, Purpose.PROPOSAL, config_id))

    def _first_proposals(self) -> list[Proposal]:
        """The default configuration, then the user's, each once."""
        default = self._space.default()
        vectors = [default[None]]
        if self.settings.initial:
            vectors.append(self._space.to_vectors(list(self.settings.initial)))
        stacked = np.concatenate(vectors)
        seen: set[bytes] = set()
        proposals = []
        for order, (vector, values) in enumerate(zip(stacked, self._space.to_values(stacked), strict=True)):
            key = self._space.key(vector)
            if key not in seen:
                seen.add(key)
                proposals.append(
                    Proposal(
                        values=values,
                        vector=tuple(None if np.isnan(u) else float(u) for u in vector),
                        origin=Origin.INITIAL if order else Origin.DEFAULT,
                    )
                )
        return proposals

    def _leased(self, agent: str, identity: EvaluationId, request: int, worker: str, now: float) -> tuple[Entry, ...]:
        known = self._state.evaluations.get(identity)
        attempt = 1 if known is None else known.attempts + 1
        entries = self._applied(
            Leased(evaluation=identity, attempt=attempt, agent=agent, request=request, worker=worker)
        )
        self._leases.open(agent, identity, attempt, now)
        return entries

    def _grant(self, identity: EvaluationId) -> Grant:
        evaluation = self._state.evaluations[identity]
        below = self._state.evaluations.get(EvaluationId(identity.config_id, identity.rung - 1))
        return Grant(
            evaluation=identity,
            attempt=evaluation.attempts,
            values=self._state.proposals[identity.config_id].values,
            budget=evaluation.budget,
            seed=training_seed(self.settings.seed, identity.config_id),
            lease_s=self.settings.lease_s,
            heartbeat_s=self.settings.heartbeat_s,
            previous_directory=below.outcome.directory if below is not None and below.outcome is not None else None,
            earlier=tuple((n, evaluation.directories.get(n)) for n in range(evaluation.attempts - 1, 0, -1)),
        )

    def _end(self, agent: str, reason: str) -> tuple[Entry, ...]:
        """End a lease without a report; the last attempt's end is the evaluation's outcome."""
        identity = self._state.held_by[agent]
        evaluation = self._state.evaluations[identity]
        attempt = evaluation.attempts
        entries = self._applied(Expired(evaluation=identity, attempt=attempt, agent=agent, reason=reason))
        self._leases.close(agent)
        if evaluation.lost >= self.settings.max_attempts:
            failure = Failure(
                kind=FailureKind.INFRASTRUCTURE,
                reason=f"lost {evaluation.lost} times, the last time because of: {reason}",
            )
            entries += self._applied(
                Recorded(evaluation=identity, attempt=attempt, agent=agent, outcome=Outcome(failure=failure))
            )
        return entries


def _teaches(outcome: Outcome) -> bool:
    return outcome.failure is None or outcome.failure.kind is not FailureKind.INFRASTRUCTURE


def _vector(proposal: Proposal) -> np.ndarray:
    return np.array([np.nan if u is None else u for u in proposal.vector])
