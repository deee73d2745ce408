"""The status of a search: one record for the terminal, for ``status --json`` and for every program that reads it.

Law of this file: values only. Two functions build a :class:`Status`: :func:`hpbandster_lite.engine.status.status_of`
from a running engine, and :func:`hpbandster_lite.results.journal_status.status_from_journal` when no master answers.
Everything that shows a status reads this record. Its JSON has the names of the fields and a ``version``, which rises
whenever a field is added, is removed or changes its meaning.

Names that end in ``_s`` are seconds; names that end in ``_at`` are Unix times. ``None`` means that the value does not
exist or that the source does not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.hyperband.direction import turned, turned_limits
from hpbandster_lite.records import ConfigId, FinishKind, Limits, Plain
from hpbandster_lite.records.decorator import record

VERSION = 1
"""Version of the JSON that this code writes; it also reads older versions."""
TAG = "Status"
SILENT_HEARTBEATS = 2
"""A worker counts as silent after this many heartbeats without a message, because one message may get lost."""
LONG_TIMES = 10.0
"""An evaluation that runs for this many times the median of its budget may hang."""
LONG_S = 5.0
"""A shorter one is not marked: by chance, an evaluation of milliseconds takes many times the median."""
LONG_EXPECTED_S = 30.0
"""The same where the median is estimated from few evaluations or from another budget, which is less certain."""

WaitKind: TypeAlias = Literal["worker", "rung", "limit", "paused"]


def is_silent(silent_s: float, heartbeat_s: float) -> bool:
    """Whether a worker counts as silent ``silent_s`` seconds after its last message."""
    return silent_s > SILENT_HEARTBEATS * heartbeat_s


@wire.register("StatusWaiting")
@record(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A reason why the search, or a part of it, does not continue now.

    Attributes
    ----------
    kind
        ``worker``: there is no worker, or some take no work. ``rung``: a rung waits for its running evaluations.
        ``limit``: a limit lets nothing new start. ``paused``: a user paused the search.
    reason
        One sentence, with the deadline.
    ends_in_s
        Seconds until the wait ends at the latest (0 if it is due); None if no time ends it.
    """

    kind: WaitKind
    reason: str
    ends_in_s: float | None = None


@wire.register("StatusRung")
@record(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung of a bracket.

    Attributes
    ----------
    budget
        Budget of its evaluations.
    places
        How many configurations it holds when it is complete.
    is_open
        Whether evaluations may start in it.
    done
        Evaluations with an outcome; infeasible configurations do not count, because they gave their place back.
    running
        Evaluations that a worker runs.
    failed
        The evaluations of ``done`` without a loss.
    best
        The best loss.
    """

    budget: float
    places: int
    is_open: bool = False
    done: int = 0
    running: int = 0
    failed: int = 0
    best: float | None = None


@wire.register("StatusBracket")
@record(frozen=True, slots=True, kw_only=True)
class Bracket:
    """One bracket.

    Attributes
    ----------
    bracket
        Its number, from 0.
    complete
        Whether all its places have an outcome.
    rungs
        Its rungs, the lowest budget first.
    """

    bracket: int
    complete: bool
    rungs: tuple[Rung, ...]


@wire.register("StatusAgent")
@record(frozen=True, slots=True, kw_only=True)
class Agent:
    """One worker process and its evaluation; the fields from ``evaluation`` on are None while it is idle.

    Attributes
    ----------
    agent
        Id of this process; a restarted worker has a new one.
    worker
        The worker's name; empty if it gave none.
    is_connected
        Whether this master has a connection to it.
    silent_s
        Seconds since its last message; None if this master has received none.
    is_silent
        Whether ``silent_s`` is longer than the heartbeat allows, or the worker is not connected.
    evaluation
        The evaluation that it runs, for example ``0-0-3@1``.
    bracket, rung
        Bracket and rung of that evaluation.
    budget
        Budget of that evaluation.
    attempt
        Number of the attempt, from 1.
    since_s
        Seconds since it got the evaluation from this master.
    lease_ends_in_s
        Seconds until the evaluation is given to another worker, if no heartbeat arrives before.
    step, loss
        The newest point of its learning curve.
    hindrance
        Why it takes no work, for example because its disk is full; None where it does.
    times_median
        ``since_s`` as a multiple of the median duration of evaluations of that budget; None before three are completed.
    times_expected
        ``since_s`` as a multiple of what evaluations of the nearest budget suggest, while ``times_median``
        is None; None before three are completed at any budgets.
    """

    agent: str
    worker: str
    is_connected: bool
    silent_s: float | None
    is_silent: bool
    evaluation: str | None = None
    bracket: int | None = None
    rung: int | None = None
    budget: float | None = None
    attempt: int | None = None
    since_s: float | None = None
    lease_ends_in_s: float | None = None
    step: float | None = None
    loss: float | None = None
    hindrance: str | None = None
    times_median: float | None = None
    times_expected: float | None = None

    @property
    def name(self) -> str:
        """The worker's name, or the process's id while the name is not known."""
        return self.worker or self.agent

    @property
    def is_busy(self) -> bool:
        """Whether it runs an evaluation."""
        return self.evaluation is not None

    @property
    def runs_long(self) -> bool:
        """Whether its evaluation has run for so many times the usual time that it may hang."""
        at_least_s = LONG_S if self.times_median is not None else LONG_EXPECTED_S
        return self.times_usual >= LONG_TIMES and (self.since_s or 0.0) >= at_least_s

    @property
    def times_usual(self) -> float:
        """For how many times the usual time its evaluation has run; 0 where that is not known."""
        return self.times_median or self.times_expected or 0.0

    @property
    def how_long(self) -> str:
        """For how many times which time its evaluation has run, for users."""
        if self.times_median is not None:
            return f"running for {self.times_median:.0f} times the median of its budget"
        return f"running for {self.times_expected or 0.0:.0f} times as long as expected from the evaluations so far"


@wire.register("StatusEvaluations")
@record(frozen=True, slots=True, kw_only=True)
class Evaluations:
    """Numbers of evaluations.

    Attributes
    ----------
    started
        Evaluations that exist: with an outcome, on a worker, or waiting for a worker.
    recorded
        Evaluations with an outcome.
    running
        Evaluations that a worker runs; without a master, those that ran when the last master ended.
    to_run_again
        Evaluations that wait for a worker: new ones, those that were handed back or lost, and retried ones.
    late
        Reports that arrived too late to count; None without a master.
    recorded_here
        Evaluations whose outcome this master recorded; None without a master.
    """

    started: int
    recorded: int
    running: int
    to_run_again: int
    late: int | None
    recorded_here: int | None = None


@wire.register("StatusSourceEdit")
@record(frozen=True, slots=True, kw_only=True)
class SourceEdit:
    """An edit of the problem's source that the user accepted.

    Attributes
    ----------
    recorded
        Number of outcomes recorded before the edit.
    first
        The first evaluation that a worker got after the edit, for example ``0-0-3@1``; None if there is none yet.
    differences
        The differences from the source before the edit.
    """

    recorded: int
    first: str | None = None
    differences: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """The edit in words, for users."""
        where = f"from evaluation {self.first} on" if self.first else "for all evaluations from now on"
        return f"edited after {self.recorded} outcomes, another one {where}: {'; '.join(self.differences)}"


@wire.register("StatusIncumbent")
@record(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best configuration: the lowest loss at the highest budget evaluated so far.

    Attributes
    ----------
    config_id
        Bracket, rung at which it was sampled, and number there.
    rung
        Rung of this evaluation.
    budget
        Budget of this evaluation.
    loss
        Its loss.
    values
        The hyperparameters.
    info
        The values that the objective returned with the loss.
    directory
        Directory of the attempt, in the run directory; None if there is none.
    """

    config_id: ConfigId
    rung: int
    budget: float
    loss: float
    values: Mapping[str, Plain]
    info: Mapping[str, Plain]
    directory: str | None


@wire.register("StatusForecast")
@record(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The expected rest of the search, by :func:`hpbandster_lite.results.forecast.forecast`.

    Attributes
    ----------
    evaluations
        Number of evaluations at the end of the search, recorded ones included; None if no limit determines it.
    share
        Share of their budget that is recorded, from 0 to 1.
    time_left_s
        Seconds until the search is over; None before the first result, without workers, and while an evaluation may
        hang.
    """

    evaluations: int | None
    share: float | None
    time_left_s: float | None


@record(frozen=True, slots=True, kw_only=True)
class Serving:
    """Facts that only the serving process knows; :class:`Status` has the same fields.

    Attributes
    ----------
    pid, host
        The master's process and the name of its machine.
    uptime_s
        Seconds since it started.
    recorded_here
        Number of outcomes that it recorded.
    paused_at
        When the search was paused.
    journal_stalled_s
        Seconds since its first failed write to the journal; None while writes succeed.
    journal_stalled_by
        The error of the last one.
    """

    pid: int | None = None
    host: str | None = None
    uptime_s: float | None = None
    recorded_here: int | None = None
    paused_at: float | None = None
    journal_stalled_s: float | None = None
    journal_stalled_by: str | None = None


@wire.register(TAG)
@record(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a search.

    Attributes
    ----------
    version
        Version of this record's JSON.
    answered_by
        ``master``, or ``journal`` if no master answers.
    state
        ``running``: a master serves it. ``stopped``: no master answers, and it is not over. ``finished``: it is over.
    finish_kind
        Why it is finished, for programs; see :class:`hpbandster_lite.records.FinishKind`.
    reason
        Why it is finished or stopped, for users; a traceback may follow the first line.
    paused
        Why a user paused it (empty without a reason); None if it is not paused.
    paused_at
        When it was paused.
    run_id, problem, algorithm, unit, seed
        Its id, the name of its problem, its algorithm, the unit of its budgets and its seed.
    maximize
        Whether it maximizes what its objective returns; then every loss in this record is such a value.
    epoch
        How many masters it has had.
    limits
        When it stops.
    waits
        Why it does not continue now, the most general reason first; empty without a master.
    hints
        Possible mistakes in the problem, one sentence each.
    model
        How many configurations came from the model, or what it needs to begin; None if the search has no model.
    brackets
        The brackets that it has opened.
    agents
        Workers that are connected or hold an evaluation; empty without a master.
    occupancy
        Share of the workers that run an evaluation, from 0 to 1; None without workers.
    evaluations
        Numbers of evaluations.
    configurations
        How many configurations were sampled.
    budget_started
        Sum of the budgets of all evaluations that were started.
    failures
        How many evaluations failed, by the kind of failure.
    incumbent
        The best configuration; None before the first loss.
    forecast
        The expected rest of the search. The program that shows the status adds it; a master does not send it.
    source_edits
        The accepted edits of the problem's source, oldest first.
    pid, host
        The master's process and the name of its machine; None without a master.
    uptime_s
        Seconds since this master started; None without a master.
    journal_stalled_s
        Seconds since the master's first failed write to the journal; None while writes succeed.
    journal_stalled_by
        The error of the last one, with what to do about it.
    """

    version: int = VERSION
    answered_by: Literal["master", "journal"]
    state: Literal["running", "stopped", "finished"]
    finish_kind: FinishKind | None
    reason: str | None
    paused: str | None
    paused_at: float | None
    run_id: str
    problem: str
    algorithm: str
    unit: str
    seed: int
    maximize: bool = False
    epoch: int
    limits: Limits
    waits: tuple[Waiting, ...] = ()
    hints: tuple[str, ...] = ()
    model: str | None = None
    brackets: tuple[Bracket, ...] = ()
    agents: tuple[Agent, ...] = ()
    occupancy: float | None = None
    evaluations: Evaluations
    configurations: int
    budget_started: float
    failures: Mapping[str, int]
    incumbent: Incumbent | None
    forecast: Forecast | None = None
    source_edits: tuple[SourceEdit, ...] = ()
    pid: int | None = None
    host: str | None = None
    uptime_s: float | None = None
    journal_stalled_s: float | None = None
    journal_stalled_by: str | None = None

    @property
    def busy(self) -> int:
        """How many workers run an evaluation."""
        return sum(agent.is_busy for agent in self.agents)


def in_users_sign(status: Status) -> Status:
    """A status with losses as one that the user reads: if the search maximizes, with the sign of its objective."""
    if not status.maximize:
        return status
    brackets = tuple(
        replace(each, rungs=tuple(replace(rung, best=turned(rung.best, maximize=True)) for rung in each.rungs))
        for each in status.brackets
    )
    best = status.incumbent
    return replace(
        status,
        limits=turned_limits(status.limits, maximize=True),
        brackets=brackets,
        agents=tuple(replace(each, loss=turned(each.loss, maximize=True)) for each in status.agents),
        incumbent=None if best is None else replace(best, loss=turned(best.loss, maximize=True)),
    )


def status_to_plain(status: Status) -> dict[str, Plain]:
    """The status as plain values: what a master sends and ``status --json`` prints."""
    message = wire.to_message(status)
    del message["type"]
    return message


def status_from_plain(message: Plain) -> Status:
    """The status that :func:`status_to_plain` wrote.

    Raises
    ------
    ProtocolMismatch
        If its version is newer than :data:`VERSION`, or the message is not a status.
    """
    if not isinstance(message, dict) or type(message.get("version")) is not int:
        raise ProtocolMismatch(f"expected the status of a search with its version, got {message!r:.100}")
    version = message["version"]
    if version > VERSION:
        raise ProtocolMismatch(
            f"the status has version {version}, and this program reads versions up to {VERSION}; "
            "use the version of hpbandster_lite that the master has"
        )
    return wire.from_message({**message, "type": TAG}, Status)
