"""The records that processes exchange and store: frozen values that check themselves.

Law of this file: values only, no behaviour beyond checking and naming. Configuration values and ``info`` are plain
(``None``, bool, int, float, str, lists and string-keyed dicts of these); :mod:`hpbandster_lite.wire` converts other
values. Names that end in ``_s`` are seconds; names that end in ``_at`` are Unix times, for display and tables only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from hpbandster_lite.errors import InvariantBroken, UsageError
from hpbandster_lite.records.decorator import record

Value: TypeAlias = bool | int | float | str | list[Any] | None
"""A value of one hyperparameter; a list stands for a tuple of the user's space, which JSON does not have."""
Values: TypeAlias = Mapping[str, Value]
"""A configuration: the active hyperparameters only."""
Plain: TypeAlias = Any
"""None, bool, int, float, str, a list of Plain, or a dict from str to Plain."""


def with_tuples(value: Any) -> Any:
    """A value as the user's space has it: with tuples in place of lists."""
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def users_values(values: Values) -> dict[str, Any]:
    """A configuration as the objective gets it: with tuples in place of lists."""
    return {name: with_tuples(value) for name, value in values.items()}


class ConfigId(NamedTuple):
    """Name of a configuration: HpBandSter's triple (bracket, rung at which it was sampled, index)."""

    bracket: int
    rung: int
    index: int  # type: ignore[assignment]  # the triple has its third name from HpBandSter; tuple.index is not needed

    def __str__(self) -> str:
        return f"{self.bracket}-{self.rung}-{self.index}"


class EvaluationId(NamedTuple):
    """One configuration at one rung of its bracket (0 is the bracket's lowest); the budget follows from the rung."""

    config_id: ConfigId
    rung: int

    def __str__(self) -> str:
        return f"{self.config_id}@{self.rung}"


class Origin(str, Enum):
    """The source of a configuration."""

    DEFAULT = "default"
    INITIAL = "initial"
    RANDOM = "random"
    MODEL = "model"


class FailureKind(str, Enum):
    """The classes of failure; each has its own rule in the engine."""

    CODE = "code"
    """An exception or a crash of the objective: a bad result."""
    INVALID = "invalid"
    """The objective returned no number, NaN or infinity: a bad result."""
    MEMORY = "memory"
    """Out of host or GPU memory: a bad result."""
    TIME_LIMIT = "time_limit"
    """Longer than the worker's time limit: a bad result."""
    INFEASIBLE = "infeasible"
    """Refused by the problem's ``feasible`` hook: not trained; its place gets a new sample."""
    INFRASTRUCTURE = "infrastructure"
    """The worker or its node was lost: it runs again. Recorded after the last attempt; the model never sees it."""
    CANCELLED = "cancelled"
    """Dropped by a user: it ranks last and fills its place; the model never sees it."""

    @property
    def is_mendable(self) -> bool:
        """Whether a change of the user's code can undo it, so that ``--retry-failed`` runs the evaluation again."""
        return self in (FailureKind.CODE, FailureKind.INVALID)


@record(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an evaluation has no loss.

    ``misses`` names what the code needs for every configuration and does not find: a module, a file, an argument.
    """

    kind: FailureKind
    reason: str
    traceback: str | None = None
    log_tail: tuple[str, ...] = ()
    misses: str | None = None


NOTES = "notes"
"""Under this name, ``info`` of an outcome has what the trainer noted about the evaluation."""


class CurvePoint(NamedTuple):
    """One point of a learning curve as reported by ``trial.report``."""

    step: float
    loss: float
    metrics: Mapping[str, Plain] = {}


@record(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an attempt ended: either a finite ``loss`` or a ``failure``.

    ``duration_s`` is the time that the objective ran; ``directory`` is the attempt's directory, if it has one.
    """

    loss: float | None = None
    failure: Failure | None = None
    info: Mapping[str, Plain] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    duration_s: float | None = None
    directory: str | None = None

    def __post_init__(self) -> None:
        if (self.loss is None) == (self.failure is None):
            raise InvariantBroken(f"give either a loss or a failure, got loss={self.loss!r}, failure={self.failure!r}")
        if self.loss is not None and not math.isfinite(self.loss):
            raise InvariantBroken(f"a loss must be finite, got {self.loss!r}; report a failure of kind 'invalid'")


@record(frozen=True, slots=True, kw_only=True)
class Report:
    """What an agent reports when an attempt has ended.

    ``resumed_from`` is the earlier attempt whose directory this one received; ``None`` if there was no such attempt.
    """

    evaluation: EvaluationId
    attempt: int
    outcome: Outcome
    resumed_from: int | None = None


@record(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A configuration that a sampler proposes.

    ``vector`` has one unit-cube coordinate per dimension of the space, ``None`` where the dimension is inactive;
    ``model_budget`` is the budget whose model proposed it, ``None`` unless ``origin`` is ``MODEL``. A proposal of a
    Gaussian process names its ``fit`` by :attr:`ModelFitted.number`, and has the logarithm of the expected improvement
    at the full budget, in the unit of the transformed losses.
    """

    values: Values
    vector: tuple[float | None, ...]
    origin: Origin
    model_budget: float | None = None
    fit: int | None = None
    log_improvement: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop; ``None`` means no limit. You can change these settings, and no others, when you resume a search.

    ``brackets``, ``evaluations`` and ``total_budget`` let running evaluations finish; at ``wall_time_s`` and
    ``target_loss`` (reached at the highest budget) agents hand them back. ``max_concurrent`` bounds open leases.
    """

    brackets: int | None = None
    evaluations: int | None = None
    total_budget: float | None = None
    wall_time_s: float | None = None
    target_loss: float | None = None
    max_concurrent: int | None = None

    def __post_init__(self) -> None:
        for name in ("brackets", "evaluations", "total_budget", "wall_time_s", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above zero, got {value!r}; leave it out for no limit")


# ------------------------------------------------------------------------------------------------ journal entries


FIRST_FAULTS_RULE = 2
"""The newest rule by which a search stops for one fault: :mod:`hpbandster_lite.engine.first_faults`."""


@record(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """Which process an agent is; two processes differ in one of these fields.

    ``boot_id`` and ``pid_namespace`` say where ``pid`` and ``started_ticks`` (the start time in clock ticks since the
    boot) mean a process; they are empty, and the start time is 0, where the agent could not read them.
    """

    host: str
    pid: int
    boot_id: str = ""
    pid_namespace: str = ""
    started_ticks: int = 0

    def is_another_than(self, other: ProcessIdentity) -> bool:
        """Whether these are two processes."""
        mine = (self.host, self.boot_id, self.pid, self.started_ticks)
        return mine != (other.host, other.boot_id, other.pid, other.started_ticks)


@record(frozen=True, slots=True, kw_only=True)
class AgentJoined:
    """Which process an agent is; written before its first lease, in journals of masters that know it.

    A later master learns from it whose lease a dead process holds, and that another process has the same id.
    """

    agent: str
    process: ProcessIdentity


@record(frozen=True, slots=True, kw_only=True)
class Started:
    """A master began to serve; ``spent_s`` is the serving time of all earlier masters of this search.

    ``first_faults_rule`` is the rule of this master, by default that of journals without this field; a master that
    is to ``keep_going`` does not stop for one fault. ``restored``: the journal was restored from a copy, so attempts
    that are leased from here on may have been leased before, by masters whose entries it lacks.
    """

    epoch: int
    limits: Limits
    spent_s: float = 0.0
    fingerprint: Mapping[str, Plain] = field(default_factory=dict)
    first_faults_rule: int = 1
    keep_going: bool = False
    restored: bool = False


@record(frozen=True, slots=True, kw_only=True)
class BracketOpened:
    """The next bracket of the plan was opened, for an agent with ``time_left_s`` seconds; None for no limit."""

    bracket: int
    time_left_s: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A new configuration took a place in a rung.

    ``basis`` is the position in the journal of the last outcome that the sampler had seen (0: none); ``time_left_s``
    is as in :class:`Leased`.
    """

    config_id: ConfigId
    proposal: Proposal
    basis: int
    time_left_s: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class Leased:
    """An agent got an evaluation; ``request`` is the number that the agent gave to its request.

    ``agent`` is the id of one process, ``worker`` the worker's display name. If the lease of a silent agent expired and
    no other agent has leased the evaluation since, the same agent gets the same attempt back. ``time_left_s`` is the
    time that the agent had left when it asked, on which the decision depends; None for no limit.
    """

    evaluation: EvaluationId
    attempt: int
    agent: str
    request: int
    worker: str = ""
    time_left_s: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The final outcome of an evaluation; if no agent ever leased it, ``agent`` is empty and ``attempt`` is 0.

    ``resumed_from`` is that of the report. Entries that were written before reports had this field have ``None``: then
    every failure counts.
    """

    evaluation: EvaluationId
    attempt: int
    agent: str
    outcome: Outcome
    resumed_from: int | None = None


@record(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A failure that does not count, because the attempt received the directory of one that was cut off.

    That directory may hold half a file. The evaluation is run once more, without the directories of this attempt and of
    those before it.
    """

    evaluation: EvaluationId
    attempt: int
    agent: str
    outcome: Outcome
    resumed_from: int


@record(frozen=True, slots=True, kw_only=True)
class LateReport:
    """A report without effect: it arrived after the final outcome, or reports a loss that was counted before."""

    evaluation: EvaluationId
    attempt: int
    agent: str
    outcome: Outcome


UNEXPLAINED_AT_NO_COST = 2
"""Unexplained hand-backs of one evaluation that cost no attempt."""


class HandBackKind(str, Enum):
    """Why a worker hands an evaluation back; it decides whether the attempt counts as lost."""

    ORDERED = "ordered"
    """The worker received an order: a stop, a signal, the end of its allocation. No attempt is lost."""
    REFUSED = "refused"
    """The worker cannot run it: it has another source, or no room on its disk. No attempt is lost."""
    UNORDERED = "unordered"
    """The objective was interrupted, and the worker received no order: the attempt counts as lost."""
    UNEXPLAINED = "unexplained"
    """The worker received a signal whose sender had ended: an order, or a program of the objective. Only after
    :data:`UNEXPLAINED_AT_NO_COST` of them does the attempt count as lost."""


@record(frozen=True, slots=True, kw_only=True)
class Released:
    """An agent handed its evaluation back; ``directory`` holds its checkpoint, if it wrote one.

    ``curve`` has the points that it reported; the next attempt adds to them. ``kind`` is ``None`` in entries that were
    written before hand-backs had a kind: no attempt is lost. ``was_cut_off`` is True if the objective was ended outside
    ``trial.report``, so that a file may be half written.
    """

    evaluation: EvaluationId
    attempt: int
    agent: str
    reason: str
    directory: str | None = None
    curve: tuple[CurvePoint, ...] = ()
    kind: HandBackKind | None = None
    was_cut_off: bool = False


class ExpiryKind(str, Enum):
    """Why a lease ended without a report or a release. Code decides by this kind; the reason beside it is for users."""

    SILENT = "silent"
    """Its agent sent no message in time."""
    NEW_REQUEST = "new_request"
    """Its agent asked for new work, so it no longer has the evaluation."""
    ATTEMPT_LOST = "attempt_lost"
    """Its agent reported that its own machine ended the attempt."""
    DEAD = "dead"
    """Its agent's process is gone, which the master has proven on its own machine."""
    STOPPED = "stopped"
    """Its agent's process is stopped, and nothing else was left to do. The attempt does not count as lost."""


@record(frozen=True, slots=True, kw_only=True)
class Expired:
    """A lease ended without an outcome or a release: its agent was silent, lost the attempt or asked for new work.

    Or its agent is dead or stopped. ``curve`` has the points that the master had received. ``kind`` is ``None`` in
    entries that were written before leases ended with a kind.
    """

    evaluation: EvaluationId
    attempt: int
    agent: str
    reason: str
    curve: tuple[CurvePoint, ...] = ()
    kind: ExpiryKind | None = None


@record(frozen=True, slots=True, kw_only=True)
class RungShrunk:
    """A rung has fewer places than planned, because the space is exhausted."""

    bracket: int
    rung: int
    places: int
    time_left_s: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class ModelFitted:
    """Parameters of a model, written before the first decision for which they are used.

    ``number`` is the fit's place in the chain of fits, from 0, and ``results`` the number of results from which it was
    computed. ``exponent`` is that of the losses' transformation, ``parameters`` are the logarithms of the parameters of
    the covariance.
    """

    number: int
    results: int
    exponent: float
    parameters: tuple[float, ...]


@record(frozen=True, slots=True, kw_only=True)
class RungFilled:
    """A rung opened, and these configurations, the best first, were promoted to it from the pool of all brackets.

    ``means`` has the posterior means of all candidates, in the order of their losses, with which they were ranked;
    it is empty, and ``fit`` is ``None``, where the losses alone decided. ``basis`` is as in :class:`Sampled`,
    ``time_left_s`` as in :class:`Leased`.
    """

    bracket: int
    rung: int
    promoted: tuple[ConfigId, ...]
    basis: int
    fit: int | None = None
    means: tuple[float, ...] = ()
    time_left_s: float | None = None


@record(frozen=True, slots=True, kw_only=True)
class PutBack:
    """A failed evaluation waits to be run again, because its code was corrected; its outcome no longer counts.

    The old outcome stays in the journal, and the numbers of the attempts continue.
    """

    evaluation: EvaluationId


@record(frozen=True, slots=True, kw_only=True)
class Paused:
    """No master hands out work from here until :class:`Resumed`."""

    reason: str = ""


@record(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Work is handed out again."""


@record(frozen=True, slots=True, kw_only=True)
class SourceChanged:
    """The user accepted an edited source: evaluations leased from here on run with ``source``.

    ``differences`` describes the differences from the source before, one text for each part.
    """

    source: ProblemSource
    differences: tuple[str, ...] = ()


class FinishKind(str, Enum):
    """Why a search ended. Code decides by this kind; the reason beside it is for users."""

    COMPLETE = "complete"
    """All brackets that the limits allow are complete."""
    EXHAUSTED = "exhausted"
    """All configurations of the space were evaluated."""
    LIMIT = "limit"
    """The number of evaluations, the total budget or the wall time is used up."""
    TARGET = "target"
    """The target loss is reached at the highest budget."""
    INFEASIBLE = "infeasible"
    """The problem refused too many configurations in a row."""
    STOPPED = "stopped"
    """A user stopped it."""
    SAME_FAULT = "same_fault"
    """Its evaluations met nothing but one fault of the code."""

    @property
    def was_stopped(self) -> bool:
        """Whether the search stopped before it reached its limits: a start under the same limits continues it."""
        return self in (FinishKind.STOPPED, FinishKind.SAME_FAULT)


@record(frozen=True, slots=True, kw_only=True)
class Finished:
    """The search ended and hands nothing out; the next :class:`Started` continues it."""

    kind: FinishKind
    reason: str


Entry: TypeAlias = (
    Started
    | BracketOpened
    | Sampled
    | AgentJoined
    | Leased
    | Recorded
    | SetAside
    | LateReport
    | Released
    | Expired
    | RungShrunk
    | ModelFitted
    | RungFilled
    | PutBack
    | Paused
    | Resumed
    | SourceChanged
    | Finished
)
"""One record of the journal."""


# -------------------------------------------------------------------------------------------- what defines a search


@record(frozen=True, slots=True, kw_only=True)
class ProblemOption:
    """An option that a problem declares, with its ``value`` in this search; ``kind`` describes valid values.

    An option with ``is_local`` describes a host, for example the folder of its data, and does not define the search.
    """

    name: str
    value: Value
    default: Value
    kind: str
    help: str = ""
    is_local: bool = False


SOURCE_METHOD = 2
"""Number of the method that lists and hashes sources. Method 1 is ``ProblemDescription.source_hash`` alone."""


@record(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that counts as a problem's source, with the hash of the parts that count.

    ``path`` is relative to the problem's folder, or ``MODULE:`` and a path relative to the folder of a module, or
    absolute. ``hash`` is ``absent`` if the problem looked for a file that did not exist, and ``made`` if the problem
    itself wrote the file; such a file is not compared.
    """

    path: str
    hash: str


@record(frozen=True, slots=True, kw_only=True)
class ProblemSource:
    """The code of a problem, which identifies it together with its name, its options and its space.

    ``version`` is the version of a problem that hpbandster_lite ships, which has no other parts; ``None`` for others.
    ``environment`` has the hashes of the environment variables that the problem names. ``file`` is the path on ``host``
    of the file that defines the problem. Both distinguish problems with the same name and are not compared as source.
    ``function`` has the hashes of what a function or an object reads that no other process can import, by the names of
    the parts; ``not_comparable`` says why there are none. ``arguments`` is the hash of the script's arguments if
    importing the problem reads them, else empty.
    """

    method: int = SOURCE_METHOD
    version: int | None = None
    files: tuple[SourceFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    host: str = ""
    function: Mapping[str, str] = field(default_factory=dict)
    not_comparable: str = ""
    arguments: str = ""


@record(frozen=True, slots=True, kw_only=True)
class ProblemDescription:
    """The declarations of a problem; a child process reads them.

    ``space_json`` is ConfigSpace's own JSON, ``space_tables`` the compiled tables of
    :class:`hpbandster_lite.space.SearchSpace`; the budgets are the problem's defaults, ``None`` without a default.
    ``reference`` contains the values of ``options`` that differ from the defaults. ``source_hash`` is the hash of the
    source by method 1, for journals that have no ``source``. Journals store descriptions, so a field stays even if
    nothing reads it (``has_feasible``).
    """

    reference: str
    name: str
    space_json: Plain
    space_tables: Plain
    unit: str = "budget"
    min_budget: float | None = None
    max_budget: float | None = None
    eta: float | None = None
    budgets: tuple[float, ...] | None = None
    brackets: int | None = None
    integer_budgets: bool = False
    maximize: bool = False
    has_feasible: bool = False
    has_test: bool = False
    has_refit: bool = False
    has_export: bool = False
    source_hash: str = ""
    source: ProblemSource | None = None
    options: tuple[ProblemOption, ...] = ()


@record(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """Everything that defines a search and cannot change later (limits can, see :class:`Limits`).

    ``bracket_rule`` is ``floor`` (Hyperband's Table 5, the default) or ``ceil`` (Algorithm 1); ``algorithm`` is a name
    in :mod:`hpbandster_lite.samplers.registry`; ``sampler`` holds the sampler's parameters by name; with
    ``skip_default`` the search does not evaluate the default configuration first. With ``replaces_forbidden_default``
    it samples another one in place of a default that the space forbids; it is false for searches from before this rule.
    ``maximize``: the objective returns values to maximize, and everything in the journal has the other sign, so that
    lower is better.
    With ``keeps_given_values`` the default configuration and those in ``initial`` keep every bit of their floats, which
    searches from before this rule round to the decimals of the space.
    """

    run_id: str
    problem: ProblemDescription
    budgets: tuple[float, ...]
    eta: float
    unit: str
    algorithm: str
    bracket_rule: str
    seed: int
    seed_was_given: bool
    sampler: Mapping[str, Plain] = field(default_factory=dict)
    initial: tuple[Values, ...] = ()
    skip_default: bool = False
    replaces_forbidden_default: bool = False
    keeps_given_values: bool = False
    max_attempts: int = 3
    lease_s: float = 60.0
    heartbeat_s: float = 5.0
    maximize: bool = False
