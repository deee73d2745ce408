"""The calls that a master answers, from agents, readers and users, and what each makes durable.

Law of this file: the engine decides; the entries of its decisions wait here until the turn is committed. A message is
checked before the engine sees it: the agent, its problem and its directories.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any

from hpbandster_lite import wire
from hpbandster_lite.engine.decision_types import Done, Grant, Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.errors import (
    AgentIdTaken,
    InvariantBroken,
    JournalError,
    ProblemError,
    ProtocolMismatch,
    SourceDiffers,
)
from hpbandster_lite.journal import Fenced, Journal, JournalLost
from hpbandster_lite.master.checkpoint_quota import CheckpointQuota
from hpbandster_lite.master.left_reports import left_behind, set_aside
from hpbandster_lite.problems import digest_of, shared_values, value_difference
from hpbandster_lite.process import identity
from hpbandster_lite.process.identity import Condition
from hpbandster_lite.protocol import messages
from hpbandster_lite.protocol.slots import agent_of, slot_name, slot_names
from hpbandster_lite.protocol.status import Serving, Status, status_to_plain
from hpbandster_lite.records import (
    Entry,
    Expired,
    Finished,
    FinishKind,
    LateReport,
    Plain,
    ProcessIdentity,
    Report,
    SetAside,
)
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory, is_valid_directory
from hpbandster_lite.transport import Call

log = logging.getLogger(__package__)

SOONEST_QUESTION_S = 0.05
"""A few idle agents ask for work this often, so that they get new work within this time."""
SERVED_EVERY_S = 10.0
"""How often a master without work notes in the journal that it serves; the wall time counts from these notes."""

_OF_AGENTS = (messages.ExchangeRequest, messages.RenewRequest, messages.ReleaseRequest)
"""Requests that only an agent sends. A tuple: a union would be made anew for each call."""


def wall_clock() -> float:
    """Unix time, for tables and users; no decision depends on it."""
    return datetime.now(timezone.utc).timestamp()


class Master:
    """One search being served: the engine, the journal and the answers between them.

    Parameters
    ----------
    journal, engine, directory, keeper
        The parts of the search; the engine has started.
    clock
        Monotonic seconds, the same as the engine was started with.
    wall_clock
        Unix time, for the tables.
    paused_at
        Since when the search is paused, as a Unix time.
    quota
        Limits what the checkpoints take.
    soonest_question_s
        The shortest time after which an idle agent asks for work again.
    condition_of
        What is proven about a process; default: what this machine says about it.
    """

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        directory: RunDirectory,
        keeper: CheckpointKeeper,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = wall_clock,
        paused_at: float | None = None,
        quota: CheckpointQuota | None = None,
        soonest_question_s: float = SOONEST_QUESTION_S,
        condition_of: Callable[[ProcessIdentity], Condition] | None = None,
    ) -> None:
        if journal.epoch is None:
            raise InvariantBroken("a master serves a journal whose epoch it has begun; call begin_epoch first")
        self.engine = engine
        self._epoch = journal.epoch
        self._clock = clock
        self._wall_clock = wall_clock
        self._soonest_question_s = soonest_question_s
        self._directory = directory
        self._journal = journal
        self._keeper = keeper
        self._quota = quota
        self._kept: tuple[Finished, tuple[str, ...]] | None = None
        self._pending: list[Entry] = []
        self._condition_of = condition_of or partial(identity.condition_of, own=identity.own_process())
        self._agent_of: dict[str, str] = {}
        self._absent: frozenset[str] = frozenset()
        """Agents that get no notice of the end: dead, stopped, or silent for a lease."""
        self._informed_of_end: set[str] = set()
        self._options = shared_values(engine.settings.problem.options)
        self._source = engine.state.source or engine.settings.problem.source
        self._source_hash = engine.settings.problem.source_hash
        self._refused: set[str] = set()
        self._stalled_since: float | None = None
        self._stalled_by: str | None = None
        self._committed_at = clock()
        self._started_at = self._committed_at
        self._recorded_before = engine.state.recorded
        self._paused_at = paused_at

    # ------------------------------------------------------------------------------------------------- one turn

    def handle(self, call: Call) -> str:
        """Answer one call; the transport sends the answer after the turn's commit.

        Raises
        ------
        ProtocolMismatch
            If the call carries no message of its method.
        ProblemError
            If the agent's problem has other options than the search.
        SourceDiffers
            If the agent's problem has another source than the search accepts.
        AgentIdTaken
            If another process has the agent's id.
        """
        now = self._clock()
        if call.method == "status":
            return wire.encode({"epoch": self._epoch, **status_to_plain(self.status(now))})
        expected = messages.REQUESTS.get(call.method)
        if expected is None:
            raise ProtocolMismatch(f"this master has no method {call.method!r}")
        request = wire.from_message(wire.decode(call.text), expected)
        return wire.encode(wire.to_message(self._answer(request, call, now)))

    def _answer(self, request: messages.Request[Any], call: Call, now: float) -> object:
        if isinstance(request, _OF_AGENTS):
            self._admit(call, agent_of(request.agent), is_release=isinstance(request, messages.ReleaseRequest))
        match request:
            case messages.ExchangeRequest():
                return self._exchange(request, now)
            case messages.RenewRequest():
                return self._renew(request, now)
            case messages.SourceRequest():
                if call.hello:
                    greeting = wire.from_message(call.hello, messages.Hello)
                    self._check_process(greeting.agent, greeting.process)
                return messages.SourceAnswer(epoch=self._epoch, source=self._source, source_hash=self._source_hash)
            case messages.ReleaseRequest():
                self._release(request, now)
                return messages.ReleaseAnswer(epoch=self._epoch)
            case messages.PauseRequest() | messages.ResumeRequest() | messages.StopRequest() | messages.CancelRequest():
                return self._command(request)
            case _:
                raise ProtocolMismatch(f"{type(request).__name__} is not a request")

    def commit(self) -> bool:
        """Make the turn durable; False keeps its entries for the next try and holds its answers back.

        Raises
        ------
        Fenced
            If a newer master serves the search: this one may decide nothing more.
        JournalLost
            If the journal's file was deleted or replaced: nothing of this turn may be answered.
        """
        now = self._clock()
        try:
            if not self._pending and now - self._committed_at < SERVED_EVERY_S:
                self._journal.look(self._wall_clock())
                return True
            self._journal.commit(self._pending, at=self._wall_clock())
            if self._quota is not None:
                self._quota.note(self._pending)
        except (Fenced, JournalLost):
            raise
        except JournalError as error:
            if self._stalled_since is None:
                log.error("the journal cannot be written, and nothing is handed out until it can: %s", error)
                self._stalled_since = now
            self._stalled_by = str(error)
            return False
        if self._stalled_since is not None:
            log.warning("the journal can be written again")
            self._stalled_since = self._stalled_by = None
        self._pending.clear()
        self._committed_at = now
        return True

    def expire(self, closed_peers: list[str], now: float) -> None:
        """Shorten the leases of lost connections and end those that ran out; called when all input was read."""
        for peer in closed_peers:
            agent = self._agent_of.pop(peer, None)
            if agent is not None and agent not in self._agent_of.values():
                for slot in slot_names(agent):
                    self.engine.disconnected(slot, now=now)
        self._pending.extend(self.engine.expire(now=now).entries)

    def sweep(self, now: float) -> None:
        """Delete the checkpoints of configurations that are out; called when all decisions are durable.

        If this master is killed before, its successor decides again, and may continue from any of these checkpoints.
        """
        self._keeper.out(self.engine.take_discontinued(), now)
        if self._keeper.is_due(now):
            self._delete_due(now)
        if self._quota is not None:
            self._quota.look(self.engine, now)

    def sweep_at_end(self) -> None:
        """Delete what the search, which is over, no longer needs, without waiting: no worker reads it any more."""
        self._keeper.out(self.engine.take_discontinued(), 0.0)
        self._delete_due(math.inf)
        if self._quota is not None:
            self._quota.look(self.engine, self._clock(), at_once=True)

    def _delete_due(self, now: float) -> None:
        if self._keeper.keep_best is None:
            return
        swept = self._keeper.sweep(now, spare=self.engine.best_configurations(self._keeper.keep_best))
        if self._quota is not None:
            self._quota.note_swept(swept)
        log.debug("deleted the checkpoints of %d configurations that are out of the search", len(swept))

    @property
    def is_stalled(self) -> bool:
        """Whether the last commit failed; until one succeeds no request is handled."""
        return self._stalled_since is not None

    @property
    def has_agents(self) -> bool:
        """Whether an agent is connected."""
        return bool(self._agent_of)

    @property
    def waits_for_agents(self) -> bool:
        """Whether a connected agent that will ask has not been informed yet that the search is over."""
        return any(agent not in self._informed_of_end | self._absent for agent in self._agent_of.values())

    def take_left_reports(self) -> None:
        """Record what agents left in the run directory because no master answered; a file is deleted once it counts."""
        for file in (*self._directory.left_reports(), *self._directory.left_releases()):
            try:
                left = left_behind(file)
            except OSError as error:
                # The next turn tries again: the file system may be back by then.
                log.warning("a report that was left cannot be read at present: %s", error)
                continue
            if left is None:
                continue
            try:
                what = self._take_left(left)
            except ProtocolMismatch as error:
                with contextlib.suppress(OSError):
                    set_aside(file, error)
                continue
            if not self.commit():
                return
            log.info("recorded %s that %s had left", what, left.agent)
            with contextlib.suppress(OSError):
                # If it stays, the next look finds it recorded already.
                file.unlink()

    def _take_left(self, left: messages.LeftReport | messages.ReleaseRequest) -> str:
        """Record it; what it was, for the log."""
        now = self._clock()
        if isinstance(left, messages.ReleaseRequest):
            self._release(left, now)
            return "the release"
        _check_directory(left.report.outcome.directory)
        turn = self.engine.report(left.agent, left.report, now=now)
        self._note_unknown(left.agent, left.report, turn.answer, turn.entries)
        self._add(turn.entries)
        return f"the report ({turn.answer})"

    # ------------------------------------------------------------------------------------------- dead or stopped agents

    def look_at_processes(self, now: float) -> None:
        """End the leases of agents that are proven dead, or stopped while nothing else is left to do.

        When the search is over, find the agents that will not ask any more.
        """
        if self.engine.finished is not None:
            uninformed = set(self._agent_of.values()) - self._informed_of_end
            self._absent = frozenset(agent for agent in uninformed if self._is_absent(agent, now))
            return
        found: dict[Condition, list[str]] = {condition: [] for condition in Condition}
        for slot in self.engine.holders_in_doubt(set(self._agent_of.values()), now=now):
            found[self._condition(slot)].append(slot)
        if found[Condition.DEAD]:
            # An agent that ended in order may have left its report: its attempt is not lost.
            self.take_left_reports()
        turn = self.engine.end_proven(found[Condition.DEAD], found[Condition.STOPPED], now=now)
        for entry in turn.entries:
            if isinstance(entry, Expired):
                log.warning("the lease of evaluation %s ends: %s", entry.evaluation, entry.reason)
        self._pending.extend(turn.entries)

    def _is_absent(self, agent: str, now: float) -> bool:
        silent_s = self.engine.silent_s(agent, now=now)
        if silent_s is not None and silent_s > self.engine.settings.lease_s:
            return True
        return self._condition(agent) in (Condition.DEAD, Condition.STOPPED)

    def _condition(self, slot: str) -> Condition:
        process = self.engine.process_of(agent_of(slot))
        return Condition.UNKNOWN if process is None else self._condition_of(process)

    # ---------------------------------------------------------------------------------------------- the methods

    def _admit(self, call: Call, agent: str, *, is_release: bool) -> None:
        """Check who an agent is, at its first message of a connection; a new connection replaces the old one."""
        if self._agent_of.get(call.peer) == agent:
            return
        if call.hello:
            if not is_release:
                # An agent of an earlier master may be in an evaluation, with a source that was accepted then.
                self._check_problem(call.hello)
            self._check_process(agent, wire.from_message(call.hello, messages.Hello).process)
        if not is_release:
            for peer in [peer for peer, other in self._agent_of.items() if other == agent]:
                del self._agent_of[peer]
            self._agent_of[call.peer] = agent

    def _check_process(self, agent: str, process: ProcessIdentity) -> None:
        """Refuse a second process with the id of an agent: each would answer for what the other one does.

        Raises
        ------
        AgentIdTaken
            With both processes.
        """
        known = self.engine.process_of(agent)
        if known is not None and process.is_another_than(known):
            text = (
                f"two processes have the agent id {agent}: pid {known.pid} on host {known.host} is this agent, and pid "
                f"{process.pid} on host {process.host} is refused; start the refused worker again, then it has an id "
                "of its own"
            )
            log.error("%s", text)
            raise AgentIdTaken(text)
        self.engine.introduce(agent, process)

    def _check_problem(self, hello: Plain) -> None:
        """Refuse a worker whose problem has another source or other options: its losses would not be comparable.

        Raises
        ------
        ProblemError, SourceDiffers
            With the option and both values; logged here once for each worker, and by the worker when it ends.
        """
        if not hello:
            return
        greeting = wire.from_message(hello, messages.Hello)
        if not greeting.problem:
            # Its disk has no room for the import, and it asks for no work.
            return
        if greeting.source not in ("", digest_of(self._source, self._source_hash)):
            raise SourceDiffers(f"the search accepts another source of the problem than that of {greeting.worker}")
        if greeting.options == self._options:
            return
        name, ours, theirs = value_difference(self._options, greeting.options)
        worker, problem = greeting.worker, self.engine.settings.problem.name
        if worker not in self._refused:
            self._refused.add(worker)
            log.error("worker %s is refused: its option %s is %s, this search has %s", worker, name, theirs, ours)
        remedy = f"; start it with --{name.replace('_', '-')} {ours}" if name in self._options else ""
        raise ProblemError(
            f"this worker cannot work for the search: its option {name} of the problem {problem!r} is {theirs}, the "
            f"search has {ours}{remedy}"
        )

    def _exchange(self, request: messages.ExchangeRequest, now: float) -> messages.ExchangeAnswer:
        for each in request.slots:
            _check_directory(None if each.report is None else each.report.outcome.directory)
        ask = partial(self._ask, request, now=now)
        first, *others = request.slots
        # Reports first: the next evaluation of one slot may wait for the result of another.
        done = [self._report(slot_name(request.agent, each.slot), each.report, now) for each in others]
        answers = [ask(first, report=first.report)]
        answers += [ask(each, report_is=report_is) for each, report_is in zip(others, done, strict=True)]
        return messages.ExchangeAnswer(epoch=self._epoch, slots=tuple(answers))

    def _report(self, slot: str, report: Report | None, now: float) -> messages.ReportIs | None:
        if report is None:
            return None
        turn = self.engine.report(slot, report, now=now)
        self._note_unknown(slot, report, turn.answer, turn.entries)
        self._add(turn.entries)
        return turn.answer

    def _note_unknown(
        self, slot: str, report: Report, answer: messages.ReportIs | None, entries: Sequence[Entry]
    ) -> None:
        if answer == "late" and not entries:
            log.warning(
                "the result of evaluation %s, attempt %d, of %s is not recorded: the journal has no such lease, for "
                "example because a copy was restored",
                *(report.evaluation, report.attempt, slot),
            )

    def _add(self, entries: Iterable[Entry]) -> None:
        """Add to the turn what reports made; users read in the log which failures do not count."""
        for entry in entries:
            self._pending.append(entry)
            if isinstance(entry, SetAside):
                failure = entry.outcome.failure
                log.warning(
                    "evaluation %s is run once more from the rung below: attempt %d failed after it had continued from "
                    "attempt %d, which was cut off (%s)",
                    *(entry.evaluation, entry.attempt, entry.resumed_from, "" if failure is None else failure.reason),
                )

    def _ask(
        self,
        request: messages.ExchangeRequest,
        slot: messages.SlotRequest,
        *,
        now: float,
        report: Report | None = None,
        report_is: messages.ReportIs | None = None,
    ) -> messages.SlotAnswer:
        """The answer to one slot of an agent; its ``report`` is recorded here unless ``report_is`` says that it was."""
        name = slot_name(request.agent, slot.slot)
        turn = self.engine.exchange(
            name,
            request.request,
            now=now,
            report=report,
            want_lease=slot.wants_lease,
            worker=request.worker,
            time_left_s=request.time_left_s,
            hindrance=None if request.hindrance is None else _one_line(request.hindrance),
        )
        if report is not None:
            # The entries of the lease come after it: a report that is recorded is "late" no more.
            self._note_unknown(name, report, turn.answer.report_is, _of_reports(turn.entries))
        self._add(turn.entries)
        answer = turn.answer.answer
        return messages.SlotAnswer(
            slot=slot.slot,
            report_is=report_is or turn.answer.report_is,
            answer=answer
            if isinstance(answer, messages.Wait) and request.hindrance is not None
            else self._lease_message(name, answer),
        )

    def _lease_message(
        self, slot: str, answer: Granted | messages.Wait | messages.Leave | Done | None
    ) -> messages.Grant | messages.Wait | messages.Leave | messages.Done | None:
        match answer:
            case None | messages.Leave():
                return answer
            case Granted(grant):
                return self._grant_message(grant)
            case messages.Wait(seconds=wait_s, reason=reason):
                # All idle agents together ask at most 500 times a second.
                seconds = max(self._soonest_question_s, min(wait_s, 0.002 * len(self._agent_of)))
                return messages.Wait(seconds=seconds, reason=reason)
            case Done(finished):
                self._informed_of_end.add(slot)
                return messages.Done(reason=finished.reason, kept=self._kept_after(finished))

    def _kept_after(self, finished: Finished) -> tuple[str, ...] | None:
        """The configurations whose checkpoints workers keep; None where the search may continue from any of them."""
        if self._keeper.keep_best is None or finished.kind is not FinishKind.COMPLETE:
            return None
        if self._kept is None or self._kept[0] is not finished:
            best = self.engine.best_configurations(self._keeper.keep_best)
            self._kept = finished, tuple(map(str, sorted(best)))
        return self._kept[1]

    def _grant_message(self, grant: Grant) -> messages.Grant:
        settings, timeline_of = self.engine.settings, dict(grant.timelines)
        return messages.Grant(
            evaluation=grant.evaluation,
            attempt=grant.attempt,
            values=grant.values,
            budget=grant.budget,
            max_budget=settings.budgets[-1],
            budgets=settings.budgets,
            unit=settings.unit,
            integer_budgets=settings.problem.integer_budgets,
            maximize=settings.maximize,
            seed=grant.seed,
            heartbeat_s=grant.heartbeat_s,
            note=grant.note,
            previous_directory=grant.previous_directory,
            resume_directories=tuple(
                self._directory.relative_attempt_path(grant.evaluation, attempt, timeline_of.get(attempt, 0))
                if handed_back is None
                else handed_back
                for attempt, handed_back in grant.earlier
            ),
            timeline=timeline_of.get(grant.attempt, 0),
        )

    def _renew(self, request: messages.RenewRequest, now: float) -> messages.RenewAnswer:
        turn = self.engine.renew(request.agent, request.evaluation, request.attempt, now=now, curve=request.curve)
        self._pending.extend(turn.entries)
        return messages.RenewAnswer(epoch=self._epoch, answer=turn.answer)

    def _release(self, request: messages.ReleaseRequest, now: float) -> None:
        _check_directory(request.directory)
        turn = self.engine.release(
            request.agent,
            request.evaluation,
            request.attempt,
            request.reason,
            request.directory,
            now=now,
            kind=request.kind,
            was_cut_off=request.was_cut_off,
            curve=request.curve,
        )
        self._pending.extend(turn.entries)

    def _command(self, request: messages.Command) -> messages.CommandAnswer:
        """Carry out a command of a user; repeating it changes nothing."""
        match request:
            case messages.PauseRequest(reason=reason):
                turn = self.engine.pause(reason=_one_line(reason))
                self._paused_at = self._wall_clock() if turn.answer.is_change else self._paused_at
            case messages.ResumeRequest():
                turn = self.engine.resume()
                self._paused_at = None
            case messages.StopRequest(reason=reason):
                turn = self.engine.stop(reason=_one_line(reason))
            case _:
                turn = self.engine.cancel(request.evaluation, reason=_one_line(request.reason))
        self._pending.extend(turn.entries)
        log.info("command %s: %s", request.method, turn.answer.sentence)
        return messages.CommandAnswer(epoch=self._epoch, is_change=turn.answer.is_change, sentence=turn.answer.sentence)

    def status(self, now: float) -> Status:
        """The status of the search now."""
        serving = Serving(
            pid=os.getpid(),
            host=socket.gethostname(),
            uptime_s=now - self._started_at,
            recorded_here=self.engine.state.recorded - self._recorded_before,
            paused_at=self._paused_at,
            journal_stalled_s=None if self._stalled_since is None else now - self._stalled_since,
            journal_stalled_by=self._stalled_by,
        )
        return self.engine.status(now=now, serving=serving)


def _of_reports(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if isinstance(entry, LateReport)]


def _one_line(reason: str) -> str:
    """A reason without line breaks: what follows the first line of a reason is displayed as a traceback."""
    return " ".join(reason.split())


def _check_directory(directory: str | None) -> None:
    """Refuse a directory outside the run directory: other workers would load what lies there.

    Raises
    ------
    ProtocolMismatch
        With the directory.
    """
    if directory is not None and not is_valid_directory(directory):
        raise ProtocolMismatch(f"the directory {directory!r:.200} is not an attempt's directory")
