"""What a master answers: the calls of agents, readers and users, and what becomes durable of them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from hpbandster_lite import wire
from hpbandster_lite.engine import Done, Engine, Grant, Granted, Keep, Leave, Stop, Wait
from hpbandster_lite.errors import JournalError, ProblemError, ProtocolMismatch, SearchError
from hpbandster_lite.journal import Fenced, Journal
from hpbandster_lite.problems import shared_values, value_difference
from hpbandster_lite.protocol.slots import MOST_LANES, lane_name, lanes_of
from hpbandster_lite.protocol.status import Serving, Status, status_to_plain
from hpbandster_lite.records import ConfigId, CurvePoint, Entry, EvaluationId, Plain, Report
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory, is_valid_directory
from hpbandster_lite.transport import Call

log = logging.getLogger(__package__)

LONGEST_NAME = 255
SOONEST_QUESTION_S = 0.05
"""A few idle agents hear within this time that there is work."""
SERVED_EVERY_S = 10.0
"""How often a master without work notes in the journal that it serves; the wall time counts from these notes."""


class Master:
    """One search being served: the engine, the journal and the answers between them.

    Parameters
    ----------
    journal, engine, directory, keeper
        Of the search; the engine has started.
    clock
        Monotonic seconds, the same as the engine was started with.
    paused_at
        Since when the search is paused, as a Unix time.
    """

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        directory: RunDirectory,
        keeper: CheckpointKeeper,
        *,
        clock: Callable[[], float] = time.monotonic,
        paused_at: float | None = None,
    ) -> None:
        self.engine = engine
        self._clock = clock
        self._directory = directory
        self._journal = journal
        self._keeper = keeper
        self._pending: list[Entry] = []
        self._agent_of: dict[str, str] = {}
        self._told_done: set[str] = set()
        self._options = shared_values(engine.settings.problem.options)
        self._refused: set[str] = set()
        self._stalled_since: float | None = None
        self._committed_at = clock()
        self._started_at = self._committed_at
        self._recorded_before = engine.state.recorded
        self._paused_at = paused_at

    # ------------------------------------------------------------------------------------------------- one turn

    def handle(self, call: Call) -> str:
        """Answer one call; the transport sends the answer after the turn's commit."""
        message = wire.decode(call.text)
        if not isinstance(message, dict):
            raise ProtocolMismatch(f"a call carries a dict, got {type(message).__name__}")
        now = self._clock()
        try:
            match call.method:
                case "exchange":
                    self._check_options(call.hello)
                    answer = self._exchange(call.peer, message, now)
                case "renew":
                    answer = self._renew(message, now)
                case "release":
                    answer = self._release(message, now)
                case "status":
                    answer = status_to_plain(self.status(now))
                case "pause" | "resume" | "stop" | "cancel" as command:
                    answer = self._commanded(command, message, now)
                case other:
                    raise ProtocolMismatch(f"this master has no method {other!r}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, SearchError):
                raise
            raise ProtocolMismatch(f"the message of {call.method!r} cannot be read: {error!r}") from error
        return wire.encode({"epoch": self._journal.epoch, **answer})

    def commit(self) -> bool:
        """Make the turn durable; False keeps its entries for the next try and holds its answers back.

        Raises
        ------
        Fenced
            If a newer master serves the search: this one may decide nothing more.
        """
        now = self._clock()
        if not self._pending and now - self._committed_at < SERVED_EVERY_S:
            return True
        try:
            self._journal.commit(self._pending, at=wall_clock())
        except Fenced:
            raise
        except JournalError as error:
            if self._stalled_since is None:
                log.error("the journal cannot be written, and nothing is handed out until it can: %s", error)
                self._stalled_since = now
            return False
        if self._stalled_since is not None:
            log.warning("the journal can be written again")
            self._stalled_since = None
        self._pending.clear()
        self._committed_at = now
        return True

    def expire(self, closed_peers: list[str], now: float) -> None:
        """Shorten the leases of lost connections and end those that ran out; called when all input was read."""
        for peer in closed_peers:
            agent = self._agent_of.pop(peer, None)
            if agent is not None and agent not in self._agent_of.values():
                for lane in lanes_of(agent):
                    self.engine.disconnected(lane, now=now)
        self._pending.extend(self.engine.expire(now=now).entries)

    def sweep(self, now: float) -> None:
        """Delete the checkpoints of configurations that are out; called when all decisions are durable.

        A master that is killed before leaves a successor that decides again, and may go on from any of them.
        """
        self._keeper.out(self.engine.take_discontinued(), now)
        if self._keeper.is_due(now):
            best = self.engine.best()
            self._keeper.sweep(now, spare=None if best is None else best.config_id)

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
        """Whether a connected agent has not been told yet that the search is over."""
        return any(agent not in self._told_done for agent in self._agent_of.values())

    def take_left_reports(self) -> None:
        """Take in what agents left in the run directory because no master answered them; a file goes once it counts."""
        for file in (*self._directory.left_reports(), *self._directory.left_releases()):
            try:
                left = _left_behind(file)
            except OSError as error:
                # Looked at again: a file system that fails now may be back by then.
                log.warning("a report that was left cannot be read at present: %s", error)
                continue
            if left is None:
                continue
            what, agent = self._take_left(left)
            if not self.commit():
                return
            log.info("took in %s that %s had left", what, agent)
            with contextlib.suppress(OSError):
                # If it stays, it is known when it is looked at again.
                file.unlink()

    def _take_left(self, left: _Left) -> tuple[str, str]:
        """What was left, in words, and by whom."""
        match left:
            case agent, report:
                turn = self.engine.report(agent, report, now=self._clock())
                self._pending.extend(turn.entries)
                return f"the report ({turn.answer})", agent
            case dict():
                self._release(left, self._clock())
                return "the evaluation", str(left["agent"])

    # ---------------------------------------------------------------------------------------------- the methods

    def _check_options(self, hello: Plain) -> None:
        """Refuse a worker whose problem has other options than the search: its losses would be of something else.

        Raises
        ------
        ProblemError
            With the option and both values; said here once a worker, and there when it ends.
        """
        # Without the key it is an agent of an earlier version, whose problems had none.
        told = hello.get("options", self._options) if isinstance(hello, dict) else self._options
        if told == self._options or not isinstance(told, dict):
            return
        name, ours, theirs = value_difference(self._options, told)
        worker, problem = str(hello["worker"]), self.engine.settings.problem.name
        if worker not in self._refused:
            self._refused.add(worker)
            log.error("worker %s is refused: its option %s is %s, this search has %s", worker, name, theirs, ours)
        remedy = f"; start it with --{name.replace('_', '-')} {ours}" if name in self._options else ""
        raise ProblemError(
            f"this worker cannot work for the search: its option {name} of the problem {problem!r} is {theirs}, the "
            f"search has {ours}{remedy}"
        )

    def _exchange(self, peer: str, message: dict[str, Plain], now: float) -> dict[str, Plain]:
        agent = str(message["agent"])
        if max(len(agent), len(str(message.get("worker", "")))) > LONGEST_NAME:
            raise ProtocolMismatch(f"names of agents have up to {LONGEST_NAME} characters, got {agent!r:.100}")
        self._agent_of[peer] = agent
        request, report, limit = int(message["request"]), _report(message), _time_left(message)
        ask = partial(self._ask, request=request, worker=str(message.get("worker", "")), time_left_s=limit, now=now)
        lanes = _lanes(message.get("lanes", []))
        # All reports first: what one lane has done may be what another one's next evaluation waits for.
        done = [self._reported(lane_name(agent, lane), reported, now) for lane, reported, _ in lanes]
        answer = ask(agent, report, wants=bool(message.get("want_lease", True)))
        if lanes:
            answer["lanes"] = [
                {**ask(lane_name(agent, lane), None, wants=wants), "lane": lane, "report_is": report_is}
                for (lane, _, wants), report_is in zip(lanes, done, strict=True)
            ]
        return answer

    def _reported(self, lane: str, report: Report | None, now: float) -> str | None:
        if report is None:
            return None
        turn = self.engine.report(lane, report, now=now)
        self._pending.extend(turn.entries)
        return turn.answer

    def _ask(
        self,
        lane: str,
        report: Report | None,
        *,
        wants: bool,
        request: int,
        worker: str,
        time_left_s: float | None,
        now: float,
    ) -> dict[str, Plain]:
        """The answer to an agent, or to one lane of it."""
        turn = self.engine.exchange(
            lane, request, now=now, report=report, want_lease=wants, worker=worker, time_left_s=time_left_s
        )
        self._pending.extend(turn.entries)
        return {"report_is": turn.answer.report_is, "answer": self._spoken(lane, turn.answer.answer)}

    def _spoken(self, agent: str, answer: Granted | Wait | Leave | Done | None) -> dict[str, Plain]:
        match answer:
            case None:
                return {"kind": "none"}
            case Granted(grant):
                return {"kind": "grant", "grant": self._granted(grant)}
            case Wait(wait_s, reason):
                # Many idle agents share 500 questions a second.
                seconds = min(wait_s, max(SOONEST_QUESTION_S, 0.002 * len(self._agent_of)))
                return {"kind": "wait", "seconds": seconds, "reason": reason}
            case Leave(reason):
                return {"kind": "leave", "reason": reason}
            case Done(finished):
                self._told_done.add(agent)
                return {"kind": "done", "reason": finished.reason}

    def _granted(self, grant: Grant) -> dict[str, Plain]:
        settings = self.engine.settings
        return {
            "evaluation": [list(grant.evaluation.config_id), grant.evaluation.rung],
            "attempt": grant.attempt,
            "values": grant.values,
            "budget": grant.budget,
            "max_budget": settings.budgets[-1],
            "budgets": list(settings.budgets),
            "unit": settings.unit,
            "seed": grant.seed,
            "lease_s": grant.lease_s,
            "heartbeat_s": grant.heartbeat_s,
            "previous_directory": grant.previous_directory,
            "resume_directories": [
                self._directory.relative_attempt_path(grant.evaluation, attempt) if handed_back is None else handed_back
                for attempt, handed_back in grant.earlier
            ],
        }

    def _renew(self, message: dict[str, Plain], now: float) -> dict[str, Plain]:
        curve = tuple(CurvePoint(*point) for point in message.get("curve", ()))
        turn = self.engine.renew(
            str(message["agent"]), _evaluation(message), int(message["attempt"]), now=now, curve=curve
        )
        self._pending.extend(turn.entries)
        match turn.answer:
            case Keep():
                return {"answer": {"kind": "keep"}}
            case Stop(reason):
                return {"answer": {"kind": "stop", "reason": reason}}

    def _release(self, message: dict[str, Plain], now: float) -> dict[str, Plain]:
        directory = message.get("directory")
        _check_place(directory)
        turn = self.engine.release(
            str(message["agent"]),
            _evaluation(message),
            int(message["attempt"]),
            str(message["reason"]),
            directory,
            now=now,
        )
        self._pending.extend(turn.entries)
        return {}

    def _commanded(self, command: str, message: dict[str, Plain], now: float) -> dict[str, Plain]:
        """What a user asks for from outside; who is not heard may ask again, which changes nothing."""
        # One line: what follows the first line of a reason is a traceback to those who show it.
        reason = " ".join(str(message.get("reason", "")).split())
        match command:
            case "pause":
                turn = self.engine.pause(reason=reason)
                self._paused_at = wall_clock() if turn.answer.is_change else self._paused_at
            case "resume":
                turn = self.engine.resume()
                self._paused_at = None
            case "stop":
                turn = self.engine.stop(reason=reason)
            case _:
                turn = self.engine.cancel(_evaluation(message), reason=reason)
        self._pending.extend(turn.entries)
        log.info("told to %s: %s", command, turn.answer.words)
        return {"is_change": turn.answer.is_change, "words": turn.answer.words}

    def status(self, now: float) -> Status:
        """How the search stands right now."""
        serving = Serving(
            pid=os.getpid(),
            host=socket.gethostname(),
            uptime_s=now - self._started_at,
            recorded_here=self.engine.state.recorded - self._recorded_before,
            paused_at=self._paused_at,
            journal_stalled_s=None if self._stalled_since is None else now - self._stalled_since,
        )
        return self.engine.status(now=now, serving=serving)


_Left = tuple[str, Report] | dict[str, Plain]
"""Who left a report, and the report; or a release, as an agent would have said it."""


def _left_behind(file: Path) -> _Left | None:
    """What an agent left; what is nothing is set aside, because whoever wrote it may know what it was."""
    try:
        left = wire.decode(file.read_text("utf-8"))
        if file.suffix == ".json":
            return str(left["agent"]), wire.from_message(left["report"], Report)
        _evaluation(left)
        return {name: left[name] for name in ("agent", "evaluation", "attempt", "reason", "directory")}
    except (KeyError, TypeError, ValueError, ProtocolMismatch) as error:
        log.error("%s is no report, and is set aside: %r", file, error)
        file.replace(file.with_suffix(".refused"))
        return None


def _report(message: dict[str, Plain]) -> Report | None:
    told = message.get("report")
    report = None if told is None else wire.from_message(told, Report)
    _check_place(None if report is None else report.outcome.directory)
    return report


def _lanes(told: list[dict[str, Plain]]) -> list[tuple[int, Report | None, bool]]:
    """The number of each lane, its report, and whether it wants a lease."""
    numbers = [each["lane"] for each in told]
    if any(type(lane) is not int for lane in numbers) or numbers != sorted({*numbers} & {*range(1, MOST_LANES)}):
        raise ProtocolMismatch(f"lanes are numbered from 1 to {MOST_LANES - 1}, in order, got {numbers!r:.100}")
    return [(each["lane"], _report(each), bool(each.get("want_lease", True))) for each in told]


def _time_left(message: dict[str, Plain]) -> float | None:
    told = message.get("time_left_s")
    # JSON of others may have numbers that are none.
    if told is not None and not math.isfinite(told):
        raise ValueError(f"time_left_s is {told!r}")
    return None if told is None else float(told)


def _check_place(told: Plain) -> None:
    """Refuse a directory that leads out of the run directory: other workers would load what lies there."""
    if told is not None and (not isinstance(told, str) or not is_valid_directory(told)):
        raise ProtocolMismatch(f"the directory {told!r:.200} is none of an attempt")


def _evaluation(message: dict[str, Plain]) -> EvaluationId:
    config_id, rung = message["evaluation"]
    return EvaluationId(ConfigId(*config_id), rung)


def wall_clock() -> float:
    """Unix time, for tables and people; no decision depends on it."""
    return datetime.now(timezone.utc).timestamp()
