"""The master process: one thread that owns the engine and the journal, and answers the agents.

Law of this file: every turn is read, decide, apply in memory, one commit, then all answers. Nothing here waits for a
peer; the only other thread keeps the entry at the name server and touches neither engine nor journal.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

import filelock

from hpbandster_lite import wire
from hpbandster_lite.briefing import READ, briefed
from hpbandster_lite.certificates import certificates_for
from hpbandster_lite.checkpoints import CheckpointKeeper
from hpbandster_lite.ending import REQUEUE, Ending, endings, leave
from hpbandster_lite.engine import Done, Engine, Grant, Granted, Keep, Leave, Stop, Wait, stopped_by_user
from hpbandster_lite.errors import (
    Held,
    JournalError,
    ProblemError,
    ProtocolMismatch,
    ResumeError,
    RunDirectoryError,
    SearchError,
)
from hpbandster_lite.journal import Fenced, Journal, settings_difference
from hpbandster_lite.listening import LOOPBACK, listening
from hpbandster_lite.problems import shared_values, value_difference
from hpbandster_lite.records import ConfigId, CurvePoint, Entry, EvaluationId, Paused, Plain, Report, Resumed
from hpbandster_lite.registration import Registration
from hpbandster_lite.rundir import RunDirectory, hosts_of, is_told_well, read_given_key
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.searchfile import keep_search_file
from hpbandster_lite.settings import Prepared
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.speaking import log_to_stderr
from hpbandster_lite.transport import PROTOCOL, Call, Client, NameServerClient, Server, run_name
from hpbandster_lite.verification import fingerprint

log = logging.getLogger(__name__)

OBJECT_ID = "hpbandster_lite.master"
LOCK_WAIT_S = 10.0
"""A new master waits this long for the old one to let go, then refuses."""
LONGEST_NAME = 255
GAP_S = 1.0
"""A turn that took so much longer than it may lengthens all leases: nobody loses one while nobody listened."""
ALONE_S = 30.0
"""A master whose launcher was killed waits this long for the workers to hand back what they hold."""
TURN_S = 0.25
LEFT_REPORTS_EVERY_S = 5.0
SERVED_EVERY_S = 10.0
"""How often a master without work notes in the journal that it serves; the wall time counts from these notes."""


@wire.register
@dataclass(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """Where a master serves; ``lifeline`` is a file descriptor whose end of file ends the master.

    ``interface`` takes the place of ``host``; ``tls`` is a folder with certificates, default: the run directory's.
    ``key`` is a file with the run's key, which the run directory then holds as well; ``None`` takes or makes that one.
    ``told`` are options of the command that started everything, for the search file in the run directory alone.
    """

    run_directory: str
    prepared: Prepared
    host: str = LOOPBACK
    interface: str | None = None
    port: int = 0
    tls: str | None = None
    key: str | None = None
    nameserver: tuple[str, int] | None = None
    nameserver_key: str | None = None
    keep_checkpoints: str = "needed"
    lifeline: int | None = None
    told: Mapping[str, Plain] = field(default_factory=dict)


def connect(directory: RunDirectory, *, timeout_s: float = 5.0) -> Client:
    """A client of the master that serves a run directory.

    Raises
    ------
    RunDirectoryError
        If no master has left its endpoint there.
    PeerError
        On the first call, if nobody answers.
    """
    endpoint = directory.read_endpoint()
    if endpoint is None:
        raise RunDirectoryError(f"no master serves {directory.path}; start one with: hpbandster-lite run PROBLEM")
    certificates = certificates_for(directory)
    return Client(
        hosts_of(endpoint),
        endpoint["port"],
        endpoint["object"],
        directory.read_key(),
        timeout_s=timeout_s,
        hello={"role": "reader"},
        tls=None if certificates is None else certificates.client_context(),
    )


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
                    answer = self.status(now)
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
                self.engine.disconnected(agent, now=now)
        self._pending.extend(self.engine.expire(now=now).entries)
        best = self.engine.best()
        self._keeper.out(self.engine.take_out(), now)
        self._keeper.sweep(now, spare=None if best is None else ConfigId(*best["config_id"]))

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
        told = message.get("report")
        report = None if told is None else wire.from_message(told, Report)
        _check_place(None if report is None else report.outcome.directory)
        turn = self.engine.exchange(
            agent,
            int(message["request"]),
            now=now,
            report=report,
            want_lease=bool(message.get("want_lease", True)),
            worker=str(message.get("worker", "")),
            time_left_s=_time_left(message),
        )
        self._pending.extend(turn.entries)
        return {"report_is": turn.answer.report_is, "answer": self._spoken(agent, turn.answer.answer)}

    def _spoken(self, agent: str, answer: Granted | Wait | Leave | Done | None) -> dict[str, Plain]:
        match answer:
            case None:
                return {"kind": "none"}
            case Granted(grant):
                return {"kind": "grant", "grant": self._granted(grant)}
            case Wait(wait_s, reason):
                # Many idle agents share 500 questions a second; a few hear within 50 ms that there is work.
                seconds = min(wait_s, max(0.05, 0.002 * len(self._agent_of)))
                return {"kind": "wait", "seconds": seconds, "reason": reason}
            case Leave(reason):
                return {"kind": "leave", "reason": reason}
            case Done(reason):
                self._told_done.add(agent)
                return {"kind": "done", "reason": reason}

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
                self._directory.told_directory(grant.evaluation, attempt) if handed_back is None else handed_back
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
                turn = self.engine.stop(stopped_by_user(reason))
            case _:
                turn = self.engine.cancel(_evaluation(message), now=now, reason=reason)
        self._pending.extend(turn.entries)
        log.info("told to %s: %s", command, turn.answer.words)
        return {"is_change": turn.answer.is_change, "words": turn.answer.words}

    def status(self, now: float) -> dict[str, Plain]:
        """What a reader may know of the search right now."""
        settings = self.engine.settings
        told = self.engine.status(now=now)
        told["evaluations"]["recorded_here"] = told["evaluations"]["recorded"] - self._recorded_before
        return {
            **told,
            "problem": settings.problem.name,
            "algorithm": settings.algorithm,
            "unit": settings.unit,
            "seed": settings.seed,
            "run_id": settings.run_id,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "uptime_s": now - self._started_at,
            "paused_at": self._paused_at,
            "journal_stalled_s": None if self._stalled_since is None else now - self._stalled_since,
        }


def run_master(options: MasterOptions) -> int:
    """Serve a search until it is over or a signal comes; the exit code of the process.

    Returns
    -------
    int
        0 when the search is over, 130 after SIGINT or SIGTERM, or when the launcher has gone, 75 after SIGUSR2: to be
        started again in the next allocation.

    Raises
    ------
    RunDirectoryError
        If the run directory is held by another master, or the run's name at the name server is, or the directory
        cannot be used.
    UsageError
        If the address cannot be had, or the run directory holds another search.
    """
    directory = RunDirectory(options.run_directory)
    directory.create()
    settings = options.prepared.settings
    with (
        _held(directory),
        endings(options.lifeline) as ending,
        Journal.open(directory.journal, create=settings, clock=time.monotonic) as journal,
    ):
        difference = settings_difference(journal.settings, settings)
        if difference is not None:
            raise ResumeError(f"{directory.path} holds another search: {difference}; give another run directory")
        if journal.network is not None:
            log.info(
                "%s is on a network file system (%s): the journal is kept with SQLite's rollback journal, which needs "
                "no shared memory",
                directory.path,
                journal.network,
            )
        try:
            # Here, because nobody else serves this directory now.
            keep_search_file(directory, options.prepared, options.told)
        except RunDirectoryError as error:
            log.warning("the settings are not written down for people: %s", error)
        return _serve(options, directory, journal, ending)


def _serve(options: MasterOptions, directory: RunDirectory, journal: Journal, ending: Ending) -> int:
    master, epoch = _resumed(options, directory, journal)
    run_id = journal.settings.run_id
    where = listening(options.host, options.interface, certificates_for(directory, options.tls))
    with Server(
        where.hosts,
        options.port,
        directory.ensure_key() if options.key is None else directory.adopt_key(Path(options.key)),
        object_id=OBJECT_ID,
        handle=master.handle,
        welcome={"epoch": epoch, "run_id": run_id},
        wakeup_fd=ending.wakeup_fd,
        tls=where.tls,
    ) as server:
        port = server.endpoint[1]
        host, *others = where.offered(server.addresses)
        endpoint = {
            "protocol": PROTOCOL,
            "run_id": run_id,
            "epoch": epoch,
            "host": host,
            "port": port,
            "object": OBJECT_ID,
            "pid": os.getpid(),
            **({"addresses": [host, *others]} if others else {}),
        }
        if where.certificates is not None:
            where.certificates.install(directory)
        directory.write_endpoint(endpoint)
        registration = _registration(options, run_id, endpoint)
        log.info("serving run %s of %s on %s, epoch %d", run_id, directory.path, where.told(server), epoch)
        try:
            _loop(server, master, ending, registration)
        finally:
            if registration is not None:
                registration.withdraw()
            directory.remove_endpoint(epoch)
    if master.engine.finished is None:
        if ending.exit_code == REQUEUE:
            log.info("told that its allocation ends: the search goes on when the master is started again")
        return ending.exit_code
    journal.seal()
    return 0


def _resumed(
    options: MasterOptions, directory: RunDirectory, journal: Journal, *, clock: Callable[[], float] = time.monotonic
) -> tuple[Master, int]:
    """The master of this search as the journal left it, with a new epoch."""
    # Of this start: the lease times may have changed, and everything else is the journal's.
    settings = replace(options.prepared.settings, run_id=journal.settings.run_id)
    space = SearchSpace.from_json(settings.problem.space_tables)
    engine = Engine(settings, space, make_sampler(settings.algorithm, space, settings.budgets, settings.sampler))
    paused_at, position = None, 0

    def entries() -> Iterator[Entry]:
        nonlocal paused_at, position
        for number, at, entry in journal.entries(after=position):
            position = number
            if isinstance(entry, Paused | Resumed):
                paused_at = at if isinstance(entry, Paused) else None
            yield entry

    engine.replay(entries())
    epoch = journal.begin_epoch()
    # What a master that still serves has committed while we read: from now on it can commit no more.
    engine.replay(entries())
    after = options.prepared.retry_failed_after
    # Whoever takes the place of a master that put failures back must not do it again: they have failed anew, perhaps.
    retry_failed = after is not None and engine.state.epoch <= after
    turn = engine.start(
        epoch,
        options.prepared.limits,
        now=clock(),
        spent_s=journal.spent_s(),
        fingerprint=fingerprint(),
        retry_failed=retry_failed,
    )
    if retry_failed:
        log.info("%s", turn.answer.words)
    journal.commit(turn.entries, at=wall_clock())
    keeper = CheckpointKeeper(directory, keep_all=options.keep_checkpoints == "all", delay_s=settings.lease_s)
    return Master(journal, engine, directory, keeper, clock=clock, paused_at=paused_at), epoch


def _loop(server: Server, master: Master, ending: Ending, registration: Registration | None) -> None:
    """Serve until the search is over and every connected agent knows it, or until the end is asked for.

    Raises
    ------
    Held
        If another living master has the run's name at the name server.
    """
    turns = Turns(server, master)
    alone_until = None
    while not ending.signals:
        if turns.take():
            log.info("the search is over: %s", master.engine.finished)
            return
        if registration is not None and registration.refusal is not None:
            raise Held(f"this run is served already: {registration.refusal}") from registration.refusal
        if ending.is_asked:
            # Whoever started us is gone, and our workers with it: they hand back what they hold before they end.
            alone_until = time.monotonic() + ALONE_S if alone_until is None else alone_until
            if not master.has_agents or time.monotonic() >= alone_until:
                return


class Serves(Protocol):
    """What turns need of :class:`hpbandster_lite.transport.Server`."""

    def turn(self, timeout_s: float, *, commit: Callable[[], bool]) -> int:
        """Handle all pending requests, commit, answer."""

    def closed_peers(self) -> list[str]:
        """Connections that have ended since."""


class Turns:
    """The turns of a master: read and answer all input, then end leases, look for what was left, and commit.

    Parameters
    ----------
    server, master
        Who reads and answers, and who decides.
    clock
        The master's.
    """

    def __init__(self, server: Serves, master: Master, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._master = master
        self._clock = clock
        self._last = self._next_look = clock()
        self._leaves_at: float | None = None

    def take(self) -> bool:
        """One turn; whether the search is over, and everybody who is connected knows it or has had time to."""
        master = self._master
        was_stalled = master.is_stalled
        self._server.turn(TURN_S, commit=master.commit)
        now = self._clock()
        passed_s, self._last = now - self._last, now
        if was_stalled or master.is_stalled:
            # Heartbeats were answered unheard: nobody may lose a lease for a disk that is full.
            master.engine.lengthen(passed_s)
        elif passed_s - TURN_S > GAP_S:
            master.engine.lengthen(passed_s - TURN_S)
        master.expire(self._server.closed_peers(), now)
        if now >= self._next_look:
            master.take_left_reports()
            self._next_look = now + LEFT_REPORTS_EVERY_S
        if not master.commit() or master.engine.finished is None:
            self._leaves_at = None
            return False
        self._leaves_at = now + master.engine.settings.lease_s if self._leaves_at is None else self._leaves_at
        return not master.waits_for_agents or now >= self._leaves_at


@contextlib.contextmanager
def _held(directory: RunDirectory) -> Iterator[None]:
    """Hold the run directory against a second master."""
    lock = filelock.FileLock(directory.lock_file, mode=0o600)
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=0.1)
    except filelock.Timeout as error:
        holder = directory.read_endpoint()
        who = f"pid {holder['pid']} at {holder['host']}:{holder['port']}" if holder is not None else "another process"
        raise Held(
            f"{directory.path} is served by another master ({who}); stop it, or give another --run-dir"
        ) from error
    except OSError as error:
        raise RunDirectoryError(f"cannot lock {directory.lock_file}: {error}") from error
    try:
        yield
    finally:
        lock.release()


def _registration(options: MasterOptions, run_id: str, endpoint: dict[str, Plain]) -> Registration | None:
    if options.nameserver is None:
        return None
    key = None if options.nameserver_key is None else read_given_key(Path(options.nameserver_key))
    certificates = certificates_for(RunDirectory(options.run_directory), options.tls)
    tls = None if certificates is None else certificates.client_context()
    client = NameServerClient(*options.nameserver, key, timeout_s=3.0, tls=tls)
    return Registration(client, run_name(run_id), endpoint)


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


def _time_left(message: dict[str, Plain]) -> float | None:
    told = message.get("time_left_s")
    # JSON of others may have numbers that are none.
    if told is not None and not math.isfinite(told):
        raise ValueError(f"time_left_s is {told!r}")
    return None if told is None else float(told)


def _check_place(told: Plain) -> None:
    """Refuse a directory that leads out of the run directory: other workers would load what lies there."""
    if told is not None and (not isinstance(told, str) or not is_told_well(told)):
        raise ProtocolMismatch(f"the directory {told!r:.200} is none of an attempt")


def _evaluation(message: dict[str, Plain]) -> EvaluationId:
    config_id, rung = message["evaluation"]
    return EvaluationId(ConfigId(*config_id), rung)


def wall_clock() -> float:
    """Unix time, for tables and people; no decision depends on it."""
    return datetime.now(timezone.utc).timestamp()


def _briefed() -> Plain:
    # Imported while there is nothing else to do: the model is needed as soon as the briefing has come.
    import hpbandster_lite.samplers.bohb  # noqa: F401

    return briefed()


def main(arguments: list[str]) -> int:
    """Run as ``python -m hpbandster_lite.master OPTIONS``, as the launcher does; people use the command line.

    ``OPTIONS`` is a :class:`MasterOptions` as one JSON object; ``-`` reads it from standard input, see
    :mod:`hpbandster_lite.briefing`.
    """
    log_to_stderr()
    try:
        told = _briefed() if arguments == [READ] else json.loads(arguments[0])
        return 0 if told is None else run_master(wire.from_message(told, MasterOptions))
    except SearchError as error:
        log.error("%s", error)
        return error.exit_code


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
