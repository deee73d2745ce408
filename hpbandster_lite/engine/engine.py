"""The engine: what every request of an agent means for the search, decided in memory.

Law of this file: it answers, :mod:`~hpbandster_lite.engine.decisions` decides what is next,
:mod:`~hpbandster_lite.engine.lease_rules` what holds for a lease, and :class:`~hpbandster_lite.engine.state.State`
changes. No clock, sockets, files or threads: ``now`` is seconds on the caller's monotonic clock, randomness is keyed by
seed and config id. Every method that changes anything returns a :class:`Turn`, whose entries are applied already and
must be durable before its answer is sent.
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from hpbandster_lite.engine import commands
from hpbandster_lite.engine.checkpoint_needs import best_configurations, unneeded
from hpbandster_lite.engine.decision_types import (
    Done,
    Effect,
    Exchanged,
    FillRung,
    Granted,
    OpenBracket,
    Promote,
    Rerun,
    Retried,
    Sample,
    Turn,
)
from hpbandster_lite.engine.decisions import WAIT_S, decide
from hpbandster_lite.engine.grants import grant_of
from hpbandster_lite.engine.invariants import validate
from hpbandster_lite.engine.lease_rules import CONTINUING, EXTENDING, RULES, Request, Rule, lease_state, why_stop
from hpbandster_lite.engine.leases import Leases
from hpbandster_lite.engine.limits import (
    for_the_journal,
    immediate_end,
    is_full,
    search_end,
    stopped_by_same_fault,
)
from hpbandster_lite.engine.pool import follow, ranked, vector_and_budget
from hpbandster_lite.engine.proposing import Proposer
from hpbandster_lite.engine.retry_failed import retriable
from hpbandster_lite.engine.same_fault import shown
from hpbandster_lite.engine.state import MADE_HERE, State, is_shown_to_model, state_for
from hpbandster_lite.engine.status import incumbent_of, status_of
from hpbandster_lite.engine.waits import waits_of
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.protocol.learning_curves import Curve, by_step, joined
from hpbandster_lite.protocol.messages import Keep, Leave, ReportIs, Stop, Wait
from hpbandster_lite.protocol.slots import agent_of
from hpbandster_lite.protocol.status import Incumbent, Serving, Status, Waiting, is_silent
from hpbandster_lite.records import (
    FIRST_FAULTS_RULE,
    AgentJoined,
    BracketOpened,
    ConfigId,
    CurvePoint,
    Entry,
    EvaluationId,
    Expired,
    ExpiryKind,
    Failure,
    FailureKind,
    Finished,
    HandBackKind,
    LateReport,
    Leased,
    Limits,
    ModelFitted,
    Outcome,
    Plain,
    ProcessIdentity,
    PutBack,
    Recorded,
    Released,
    Report,
    RungShrunk,
    Sampled,
    SearchSettings,
    SetAside,
    SourceChanged,
    Started,
)
from hpbandster_lite.samplers import Ranking, Sampler
from hpbandster_lite.space import SearchSpace


class Engine:
    """One search as a state machine.

    Parameters
    ----------
    settings
        What defines the search.
    space
        The compiled space of its problem.
    sampler
        Where configurations come from; only the engine teaches it.
    """

    def __init__(self, settings: SearchSettings, space: SearchSpace, sampler: Sampler) -> None:
        self.settings = settings
        self._sampler = sampler
        self._state = state_for(settings)
        self._leases = Leases(settings.lease_s, settings.heartbeat_s)
        self._proposer = Proposer(settings, space, sampler)
        self._ranking = sampler if isinstance(sampler, Ranking) else None
        self._fits_recorded = 0
        self._learns = self._proposer.depends_on_outcomes
        self._started_at = 0.0
        self._discontinued_taken = 0
        self._processes: dict[str, ProcessIdentity] = {}

    @property
    def state(self) -> State:
        """The state, for reading."""
        return self._state

    # ------------------------------------------------------------------------------------------------ start, replay

    def replay(self, entries: Iterable[Entry]) -> None:
        """Rebuild the state and the sampler's knowledge from the journal."""
        # Nothing that is made here is garbage, and each search for garbage costs: a fifth of the time in all.
        was_collecting = gc.isenabled()
        gc.disable()
        try:
            for entry in entries:
                self.apply(entry)
        finally:
            if was_collecting:
                gc.enable()

    def start(
        self,
        epoch: int,
        limits: Limits,
        *,
        now: float,
        spent_s: float = 0.0,
        fingerprint: Mapping[str, Plain] | None = None,
        retry_failed: bool = False,
        keep_going: bool = False,
        edited: SourceChanged | None = None,
        restored: bool = False,
    ) -> Turn[Retried]:
        """Begin to serve: every open lease gets its full length again, and the limits are those of this start.

        A search that was finished or stopped continues; one that was paused stays paused until :meth:`resume`.

        Parameters
        ----------
        epoch
            Number of this master.
        limits
            When to stop.
        now
            The caller's clock.
        spent_s
            Serving time of all earlier masters.
        fingerprint
            What the last bits of this master's proposals depend on.
        retry_failed
            Run evaluations again that failed with ``code`` or ``invalid``, because the code was corrected
            (:class:`PutBack`). They keep their place, their seed and their count of attempts, and the model forgets
            their bad results. A failure is put back only if its rung has decided nothing with it: the rung is not
            complete, or nothing was promoted from it and nothing was sampled above it (as in a search that was stopped
            for one fault), or there is no rung above. The others stay as they are: their rung has promoted other
            configurations, which may run or have results, and a decision with results built on it is never undone.
            Failures of other kinds are not the code's.
        keep_going
            Do not stop when all evaluations fail with one fault.
        edited
            The edited source that the user accepted; nothing is done if it is the search's already, because a master
            of the same start has recorded it.
        restored
            The journal was restored from a copy: it may lack leases of earlier masters.

        Returns
        -------
        Turn of Retried
            What was put back and what was not; empty without ``retry_failed``.
        """
        entries = self._applied(
            Started(
                epoch=epoch,
                limits=limits,
                spent_s=spent_s,
                fingerprint=fingerprint or {},
                first_faults_rule=FIRST_FAULTS_RULE,
                keep_going=keep_going,
                restored=restored,
            ),
        )
        self._started_at = now
        self._discontinued_taken = 0
        for agent, identity in self._state.held_by.items():
            self._leases.open(agent, identity, self._state.evaluations[identity].attempts, now)
        if edited is not None and edited.source != (self._state.source or self.settings.problem.source):
            entries += self._applied(edited)
        if not retry_failed:
            return Turn(Retried(), entries)
        retried = retriable(self._state)
        entries += self._applied(*(PutBack(evaluation=identity) for identity in retried.put_back))
        return Turn(retried, entries)

    def apply(self, entry: Entry) -> None:
        """Apply one entry, and teach the sampler what follows from it."""
        self._state.apply(entry)
        match entry:
            case Sampled(proposal=proposal):
                self._sampler.add(proposal.vector)
            case Recorded(evaluation=identity, outcome=outcome) if self._learns and is_shown_to_model(outcome):
                self._sampler.observe(*vector_and_budget(self._state, identity), outcome.loss)
            case PutBack(evaluation=identity):
                self._sampler.forget(*vector_and_budget(self._state, identity))
            case _:
                pass
        if self._ranking is not None:
            follow(self._ranking, entry, self._state)
            recorded = entry.number + 1 if isinstance(entry, ModelFitted) else self._fits_recorded
            # A fit is dropped with a result that is forgotten.
            self._fits_recorded = min(recorded, self._ranking.known_fits)

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
        time_left_s: float | None = None,
        hindrance: str | None = None,
    ) -> Turn[Exchanged]:
        """Take a report and answer with work, in one request.

        ``request`` is the agent's own number of this call: the same number gets the same grant again, a lower one is
        refused, so that a lost answer or a repeated message leases nothing twice. An agent that ends in ``time_left_s``
        seconds gets only what is expected to end before, from the durations of evaluations of that budget. One with a
        ``hindrance`` gets no work, and asks again after a heartbeat.
        """
        entries: list[Entry] = []
        self._leases.note_message(agent, worker, now)
        report_is: ReportIs | None = None
        if report is not None:
            turn = self._report(agent, report)
            report_is = turn.answer
            entries += turn.entries
        self._leases.forget_lapsed(agent)
        answer: Granted | Wait | Leave | Done | None = None
        if want_lease:
            self._leases.note_hindrance(agent, hindrance)
            leased = self._lease(agent, request, now, worker, time_left_s, hindrance)
            answer = leased.answer
            entries += leased.entries
        return Turn(Exchanged(report_is=report_is, answer=answer), tuple(entries))

    def report(self, agent: str, report: Report, *, now: float) -> Turn[ReportIs]:
        """Record the outcome of an attempt, unless the evaluation has one."""
        self._leases.note_message(agent, "", now)
        turn = self._report(agent, report)
        self._leases.forget_lapsed(agent)
        return turn

    def _report(self, agent: str, report: Report) -> Turn[ReportIs]:
        what, attempt = report.evaluation, report.attempt
        outcome = replace(report.outcome, curve=by_step(report.outcome.curve))
        evaluation = self._state.evaluations.get(what)
        if evaluation is None or evaluation.agent_of.get(attempt) != agent:
            # Of another agent or another search: to record it would show the model a foreign loss.
            return Turn("late")
        if (attempt, agent) in evaluation.reported:
            return Turn("known")
        failure, origin = outcome.failure, report.resumed_from
        standing = lease_state(evaluation, agent, attempt, has_lapsed=False)
        match RULES[standing, self._request_of(report)]:
            case Rule.RECORD:
                entry = Recorded(evaluation=what, attempt=attempt, agent=agent, outcome=outcome, resumed_from=origin)
                entries = self._recorded(entry)
                fault = self._state.one_fault
                if failure is not None and fault is not None:
                    entries += self._applied(stopped_by_same_fault(fault, shown(failure)))
                return Turn("recorded", entries)
            case Rule.LOSE:
                reason = "" if failure is None else failure.reason
                return Turn("recorded", self._end(agent, ExpiryKind.ATTEMPT_LOST, reason, outcome.curve))
            case Rule.SET_ASIDE if origin is not None:
                aside = SetAside(evaluation=what, attempt=attempt, agent=agent, outcome=outcome, resumed_from=origin)
                self._leases.close(agent)
                return Turn("recorded", self._applied(aside))
            case _:
                late = LateReport(evaluation=what, attempt=attempt, agent=agent, outcome=outcome)
                return Turn("late", self._applied(late))

    def _request_of(self, report: Report) -> Request:
        """Which kind of report it is."""
        outcome = report.outcome
        if outcome.failure is not None and outcome.failure.kind in MADE_HERE:
            # Such as a trainer that was killed from outside: the evaluation has no result and is run again.
            return Request.REPORT_LOSS
        if self._state.is_doubtful(report.evaluation, report.attempt, report.resumed_from, outcome):
            return Request.REPORT_DOUBTFUL
        return Request.REPORT

    def lease(
        self, agent: str, request: int, *, now: float, worker: str = "", time_left_s: float | None = None
    ) -> Turn[Granted | Wait | Leave | Done]:
        """Give an agent work, or say why there is none."""
        self._leases.note_message(agent, worker, now)
        self._leases.forget_lapsed(agent)
        return self._lease(agent, request, now, worker, time_left_s)

    def _lease(
        self,
        agent: str,
        request: int,
        now: float,
        worker: str,
        time_left_s: float | None,
        hindrance: str | None = None,
    ) -> Turn[Granted | Wait | Leave | Done]:
        last = self._state.request_of.get(agent, -1)
        held = self._state.held_by.get(agent)
        if request < last:
            return Turn(
                Wait(seconds=WAIT_S, reason=f"request {request} came after request {last}; ask with a new number")
            )
        entries: list[Entry] = []
        if held is not None:
            if request == last:
                # Its answer was lost, usually with its connection: the lease begins now for this agent.
                self._leases.renew(agent, now, ())
                return Turn(Granted(grant_of(self._state, self.settings, held)))
            entries += self._end(agent, ExpiryKind.NEW_REQUEST, "its agent asked for new work")
        while True:
            decision = decide(self._state, self.settings, now - self._started_at, time_left_s)
            if hindrance is not None and not isinstance(decision, Leave | Done):
                return Turn(Wait(seconds=self.settings.heartbeat_s, reason=hindrance), tuple(entries))
            match decision:
                case OpenBracket(bracket):
                    entries += self._applied(BracketOpened(bracket=bracket, time_left_s=time_left_s))
                case FillRung(bracket, rung):
                    entries += self._filled(bracket, rung, time_left_s)
                case Sample(config_id):
                    entries += self._sampled(config_id, time_left_s)
                case Promote(identity) | Rerun(identity):
                    known = self._state.evaluations.get(identity)
                    attempt = 1 if known is None else known.attempts + 1
                    entries += self._leased(agent, identity, attempt, request, now, worker, time_left_s)
                    return Turn(Granted(grant_of(self._state, self.settings, identity)), tuple(entries))
                case Wait() | Leave():
                    return Turn(decision, tuple(entries))
                case Done(finished):
                    entries += self._finished(finished)
                    return Turn(Done(self._state.finished or finished), tuple(entries))

    def renew(
        self,
        agent: str,
        evaluation: EvaluationId,
        attempt: int,
        *,
        now: float,
        curve: tuple[CurvePoint, ...] = (),
    ) -> Turn[Keep | Stop]:
        """A heartbeat: extend the lease, or tell the agent to stop (:mod:`~hpbandster_lite.engine.lease_rules`).

        A lease that lapsed while its agent was silent is given back, the same attempt under the same number, if no
        other agent has the evaluation; then the attempt does not count as lost.
        """
        self._leases.note_message(agent, "", now)
        known = self._state.evaluations.get(evaluation)
        has_lapsed = self._leases.has_lapsed(agent, evaluation, attempt)
        standing = lease_state(known, agent, attempt, has_lapsed=has_lapsed)
        ended = immediate_end(self._state, self.settings, now - self._started_at)
        if ended is not None:
            request = Request.RENEW_AT_END
        else:
            request = Request.RENEW_AT_LIMIT if is_full(self._state) else Request.RENEW
        rule = RULES[standing, request]
        entries: tuple[Entry, ...] = ()
        if rule is Rule.GIVE_BACK:
            entries = self._leased(agent, evaluation, attempt, self._state.request_of[agent], now)
        if rule in EXTENDING:
            self._leases.renew(agent, now, curve)
        if rule in CONTINUING:
            return Turn(Keep(), entries)
        return Turn(Stop(reason=why_stop(rule, known, ended)))

    def release(
        self,
        agent: str,
        evaluation: EvaluationId,
        attempt: int,
        reason: str,
        directory: str | None,
        *,
        now: float,
        kind: HandBackKind = HandBackKind.ORDERED,
        curve: Curve = (),
        was_cut_off: bool = False,
    ) -> Turn[None]:
        """An agent hands its evaluation back; where it does not hold the lease, nothing changes.

        The attempt counts as lost where the agent hands back of its own accord, which the ``kind`` says.
        """
        self._leases.note_message(agent, "", now)
        self._leases.forget_lapsed(agent)
        standing = lease_state(self._state.evaluations.get(evaluation), agent, attempt, has_lapsed=False)
        if RULES[standing, Request.RELEASE] is not Rule.HAND_BACK:
            return Turn(None)
        released = Released(
            evaluation=evaluation,
            attempt=attempt,
            agent=agent,
            reason=reason,
            directory=directory,
            curve=by_step(curve),
            kind=kind,
            was_cut_off=was_cut_off,
        )
        entries = self._applied(released)
        self._leases.close(agent)
        if self._state.evaluations[evaluation].loses_by(kind):
            entries += self._given_up(evaluation, agent, reason)
        return Turn(None, entries)

    # ---------------------------------------------------------------------------------------------------- the clock

    def disconnected(self, agent: str, *, now: float) -> None:
        """A connection was lost: the lease ends after two heartbeats, unless the agent connects again before."""
        self._leases.shorten(agent, now)

    def lengthen(self, gap_s: float) -> None:
        """Move every deadline by a time in which the master did not listen, so that no lease ends for it."""
        self._leases.lengthen(gap_s)

    def expire(self, *, now: float) -> Turn[None]:
        """End the leases that expired; call it after all pending messages were handled."""
        entries: list[Entry] = []
        for agent, silent_s in self._leases.expired(now):
            identity = self._state.held_by[agent]
            entries += self._end(agent, ExpiryKind.SILENT, f"no message from its agent for {silent_s:.0f} s")
            self._leases.lapse(agent, identity, self._state.evaluations[identity].attempts)
        finished = search_end(self._state, self.settings, now - self._started_at)
        if finished is not None:
            entries += self._finished(finished)
        return Turn(None, tuple(entries))

    # ------------------------------------------------------------------------------------------- dead or stopped agents

    def introduce(self, agent: str, process: ProcessIdentity) -> None:
        """An agent has greeted the master; the journal learns which process it is before its first lease."""
        self._processes[agent] = process

    def process_of(self, agent: str) -> ProcessIdentity | None:
        """Which process an agent is, from its greeting or from the journal; None where neither says it."""
        return self._processes.get(agent) or self._state.process_of.get(agent)

    def holders_in_doubt(self, connected: Collection[str], *, now: float) -> list[str]:
        """Holders of leases that may be dead or stopped: silent ones, and those of agents that are not connected.

        All of them where nothing else is left to do, because then the search waits for them.
        """
        has_nothing_else = self._has_nothing_else_to_do(now)
        return [
            holder
            for holder, lease in self._leases
            if has_nothing_else
            or agent_of(holder) not in connected
            or is_silent(now - lease.last_message_at, self.settings.heartbeat_s)
        ]

    def end_proven(self, dead: Collection[str], stopped: Collection[str], *, now: float) -> Turn[None]:
        """End leases whose holders are proven dead or stopped; those of stopped ones only if nothing else is to do.

        A stopped agent may continue, as one whose lease ran out while it was silent; it has not used an attempt.
        """
        entries: list[Entry] = []
        for agent in dead:
            if agent in self._state.held_by:
                entries += self._end(agent, ExpiryKind.DEAD, f"the process of its agent is gone{self._which(agent)}")
        has_nothing_else = self._has_nothing_else_to_do(now)
        for agent in stopped:
            identity = self._state.held_by.get(agent)
            if identity is not None and has_nothing_else:
                reason = f"the process of its agent is stopped{self._which(agent)}, and nothing else was left to do"
                entries += self._end(agent, ExpiryKind.STOPPED, reason)
                self._leases.lapse(agent, identity, self._state.evaluations[identity].attempts)
            elif identity is not None:
                self._leases.note_stopped(agent)
        return Turn(None, tuple(entries))

    def silent_s(self, agent: str, *, now: float) -> float | None:
        """Seconds since the last message of an agent that is connected; None if there was none."""
        return self._leases.silent_s(agent, now)

    def _has_nothing_else_to_do(self, now: float) -> bool:
        """Whether an agent that asks for work would get none until a lease ends."""
        if self._state.paused is not None:
            return False
        return isinstance(decide(self._state, self.settings, now - self._started_at), Wait)

    def _which(self, agent: str) -> str:
        process = self.process_of(agent_of(agent))
        return "" if process is None else f" (pid {process.pid} on host {process.host})"

    # ------------------------------------------------------------------------------------------ commands from outside

    def cancel(self, evaluation: EvaluationId, *, reason: str = "") -> Turn[Effect]:
        """Drop an evaluation: it ends as cancelled, ranks last, fills its place and is never shown to the model.

        The worker that runs it gets a stop at its next heartbeat; its lease has no effect from now on, and its
        report, if one comes, is late. A promotion that no agent has leased can be cancelled, too. To cancel again
        changes nothing.

        Raises
        ------
        UsageError
            If there is no such evaluation, or it has another outcome.
        """
        effect, entry = commands.cancel(self._state, evaluation, reason, maximize=self.settings.maximize)
        return Turn(effect, () if entry is None else self._recorded(entry))

    def pause(self, *, reason: str = "") -> Turn[Effect]:
        """Hand out no work and let running evaluations end, until :meth:`resume`, also after the master restarts.

        Raises
        ------
        UsageError
            If the search is over.
        """
        effect, entry = commands.pause(self._state, reason)
        return Turn(effect, () if entry is None else self._applied(entry))

    def resume(self) -> Turn[Effect]:
        """Hand out work again."""
        effect, entry = commands.resume(self._state)
        return Turn(effect, () if entry is None else self._applied(entry))

    def stop(self, *, reason: str = "") -> Turn[Effect]:
        """Finish the search: agents hand running evaluations back, and a later start continues them."""
        effect, entry = commands.stop(self._state, reason)
        return Turn(effect, () if entry is None else self._finished(entry))

    # ---------------------------------------------------------------------------------------------------- questions

    def status(self, *, now: float, serving: Serving | None = None) -> Status:
        """The status; ``serving`` describes the process that serves the search."""
        return status_of(self._state, self._leases, self.settings, now=now, serving=serving or Serving())

    def waits(self, now: float) -> tuple[Waiting, ...]:
        """Everything that keeps the search, or a part of it, from continuing; the most general reason first.

        Empty while there is work for every agent, and when the search is over.
        """
        return waits_of(self._state, self._leases, now=now, heartbeat_s=self.settings.heartbeat_s)

    def best(self) -> Incumbent | None:
        """The incumbent: the lowest loss at the highest budget evaluated so far; ``None`` before any."""
        best = self._state.best
        return None if best is None else incumbent_of(self._state, best)

    def best_configurations(self, count: int) -> frozenset[ConfigId]:
        """The ``count`` best configurations, each by its best result."""
        return best_configurations(self._state, count)

    def unneeded(self, evaluations: Iterable[EvaluationId]) -> list[EvaluationId]:
        """Those of the evaluations whose checkpoint neither a lease nor a promotion needs, the worst first."""
        return unneeded(self._state, evaluations)

    def take_discontinued(self) -> list[ConfigId]:
        """Configurations, new since the last call, that will not be promoted: no checkpoint of theirs is needed."""
        new = self._state.discontinued[self._discontinued_taken :]
        self._discontinued_taken = len(self._state.discontinued)
        return new

    @property
    def finished(self) -> Finished | None:
        """Why the search is over; ``None`` while it continues."""
        return self._state.finished

    def validate(self) -> None:
        """Check every invariant.

        Raises
        ------
        InvariantBroken
            With the invariant that does not hold, and where.
        """
        validate(self._state)

    # ------------------------------------------------------------------------------------------------- doing them

    def _applied(self, *entries: Entry) -> tuple[Entry, ...]:
        for entry in entries:
            self.apply(entry)
        return entries

    def _recorded(self, entry: Recorded) -> tuple[Entry, ...]:
        """Apply an outcome, and close the lease of the agent that holds the evaluation."""
        known = self._state.evaluations.get(entry.evaluation)
        holder = None if known is None else known.agent
        if known is not None and known.curve:
            outcome = replace(entry.outcome, curve=joined(known.curve, entry.outcome.curve))
            entry = replace(entry, outcome=outcome)
        entries = self._applied(entry)
        if holder is not None:
            self._leases.close(holder)
        return entries

    def _finished(self, finished: Finished) -> tuple[Entry, ...]:
        if self._state.finished is not None:
            return ()
        return self._applied(for_the_journal(self._state, finished, maximize=self.settings.maximize))

    def _sampled(self, config_id: ConfigId, time_left_s: float | None) -> tuple[Entry, ...]:
        proposal = self._proposer.propose(config_id, self._state)
        if proposal is None:
            bracket, index = config_id.bracket, config_id.rung
            taken = self._state.brackets[bracket].rungs[index].taken
            return self._applied(RungShrunk(bracket=bracket, rung=index, places=taken, time_left_s=time_left_s))
        fits = self._new_fits()
        basis = self._state.observed_at
        sampled = Sampled(config_id=config_id, proposal=proposal, basis=basis, time_left_s=time_left_s)
        return fits + self._applied(sampled)

    def _filled(self, bracket: int, rung: int, time_left_s: float | None) -> tuple[Entry, ...]:
        """Rank the pool of a budget, and fill a rung of the next one."""
        if self._ranking is None:
            raise InvariantBroken(f"the sampler of {self.settings.algorithm} cannot rank candidates for promotions")
        filled = ranked(self._state, self._ranking, bracket, rung)
        fits = self._new_fits()
        return fits + self._applied(replace(filled, time_left_s=time_left_s))

    def _new_fits(self) -> tuple[Entry, ...]:
        """The fits that the sampler has computed since the last call."""
        if self._ranking is None:
            return ()
        numbers = range(self._fits_recorded, self._ranking.known_fits)
        return self._applied(*(self._ranking.fit(number) for number in numbers))

    def _leased(
        self,
        agent: str,
        identity: EvaluationId,
        attempt: int,
        request: int,
        now: float,
        worker: str | None = None,
        time_left_s: float | None = None,
    ) -> tuple[Entry, ...]:
        process = self._processes.get(agent_of(agent))
        joined: tuple[Entry, ...] = ()
        if process is not None and self._state.process_of.get(agent_of(agent)) != process:
            joined = self._applied(AgentJoined(agent=agent_of(agent), process=process))
        entries = joined + self._applied(
            Leased(
                evaluation=identity,
                attempt=attempt,
                agent=agent,
                request=request,
                worker=self._state.worker_of[agent] if worker is None else worker,
                time_left_s=time_left_s,
            )
        )
        self._leases.open(agent, identity, attempt, now)
        return entries

    def _end(self, agent: str, kind: ExpiryKind, reason: str, curve: Curve = ()) -> tuple[Entry, ...]:
        """End a lease without an outcome; after the last attempt, the evaluation fails as lost.

        ``curve`` has the points that came with its last message; by default those of its heartbeats are kept.
        """
        identity = self._state.held_by[agent]
        evaluation = self._state.evaluations[identity]
        attempt = evaluation.attempts
        lease = self._leases.get(agent)
        points = curve or (() if lease is None else lease.curve)
        entries = self._applied(
            Expired(evaluation=identity, attempt=attempt, agent=agent, reason=reason, curve=points, kind=kind)
        )
        self._leases.close(agent)
        return entries + self._given_up(identity, agent, reason)

    def _given_up(self, identity: EvaluationId, agent: str, reason: str) -> tuple[Entry, ...]:
        """The outcome of an evaluation that has no attempt left, after the last one was lost; else nothing."""
        evaluation = self._state.evaluations[identity]
        if evaluation.lost < self.settings.max_attempts:
            return ()
        failure = Failure(
            kind=FailureKind.INFRASTRUCTURE,
            reason=f"lost {evaluation.lost} times, the last time because of: {reason}",
        )
        outcome = Outcome(failure=failure, curve=evaluation.curve)
        return self._applied(Recorded(evaluation=identity, attempt=evaluation.attempts, agent=agent, outcome=outcome))
