"""The messages between agents, users and the master: requests, and the answer to each.

Law of this file: frozen records that :mod:`hpbandster_lite.wire` encodes under fixed tags, each checked when it is
made, and the two functions that send them. Nothing here decides. If you change a field without a default, raise
:data:`hpbandster_lite.transport.PROTOCOL`; files of older versions in ``reports/`` must stay readable.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeAlias, TypeVar, cast

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.protocol.slots import MOST_SLOTS
from hpbandster_lite.records import (
    CurvePoint,
    EvaluationId,
    HandBackKind,
    Plain,
    ProblemSource,
    ProcessIdentity,
    Report,
    Value,
    Values,
)
from hpbandster_lite.records.decorator import record

LONGEST_NAME = 255
ReportIs: TypeAlias = Literal["recorded", "late", "known"]
"""The effect of a report: it is the outcome, it arrived after another outcome, or it was recorded before."""


class Caller(Protocol):
    """Sends requests: :class:`hpbandster_lite.transport.Client`, or a fake in a test."""

    def call(self, method: str, message: Plain) -> Plain:
        """The answer of one call."""


class Answer(Protocol):
    """Every answer has the epoch of the master that sent it."""

    @property
    def epoch(self) -> int:
        """The number of this start of a master; a master with a larger number replaces one with a smaller number."""


A = TypeVar("A", bound=Answer)


class Request(Generic[A]):
    """A call to the master; ``A`` is the record that answers it."""

    __slots__ = ()
    method: ClassVar[str]
    answer: ClassVar[type[Any]]


def send(request: Request[A], caller: Caller) -> A:
    """Call the master and read its answer.

    Raises
    ------
    ProtocolMismatch
        If the answer is not the record that this request expects.
    SearchError
        Any error of the call.
    """
    return read_answer(request, caller.call(request.method, wire.to_message(request)))


def read_answer(request: Request[A], message: Plain) -> A:
    """The answer to a request from its message.

    Raises
    ------
    ProtocolMismatch
        If it is not the record that this request expects.
    """
    return cast("A", wire.from_message(message, request.answer))


# ----------------------------------------------------------------------------------------------------------- answers


@wire.register("grant", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Grant:
    """The lease of one attempt of an evaluation.

    Directories are relative to the run directory, or absolute on the host of a worker without one.
    ``previous_directory`` has the checkpoint of the rung below; ``resume_directories`` are the directories of earlier
    attempts of this evaluation, the newest first: of attempt - 1, attempt - 2, and so on. The
    ``note`` is for the log of the attempt. With ``integer_budgets`` the objective gets budgets as int; with
    ``maximize`` it returns a value to maximize, and the report has the other sign. The attempt's directory has the
    ``timeline`` in its name, unless it is 0.
    """

    evaluation: EvaluationId
    attempt: int
    values: Values
    budget: float
    max_budget: float
    budgets: tuple[float, ...]
    unit: str
    seed: int
    heartbeat_s: float
    previous_directory: str | None = None
    resume_directories: tuple[str, ...] = ()
    note: str = ""
    integer_budgets: bool = False
    maximize: bool = False
    timeline: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_s < math.inf:
            raise ProtocolMismatch(f"heartbeat_s must be above 0 and finite, got {self.heartbeat_s!r}")


@wire.register("wait", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Wait:
    """There is no work now; ask again after ``seconds``."""

    seconds: float
    reason: str

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise ProtocolMismatch(f"seconds must be finite and not negative, got {self.seconds!r}")


@wire.register("leave", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Leave:
    """There is work, but it takes longer than the time that this agent has left: the agent ends to make room."""

    reason: str


@wire.register("done", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Done:
    """The search is over; ``kept`` are the configurations that keep their checkpoints, or None: all of them."""

    reason: str
    kept: tuple[str, ...] | None = None


@wire.register("keep", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Keep:
    """The lease is renewed: continue the evaluation."""


@wire.register("stop", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Stop:
    """Hand the evaluation back, or drop it: the agent no longer holds it, or the search is over."""

    reason: str


@wire.register("slot-answer", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class SlotAnswer:
    """The answer to one slot: the effect of its report, and its lease; None if the slot asked for no lease."""

    slot: int
    report_is: ReportIs | None = None
    answer: Grant | Wait | Leave | Done | None = None


@wire.register("exchange-answer", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class ExchangeAnswer:
    """One answer for each slot of the request, in the same order."""

    epoch: int
    slots: tuple[SlotAnswer, ...]


@wire.register("renew-answer", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class RenewAnswer:
    """Whether the lease still holds."""

    epoch: int
    answer: Keep | Stop


@wire.register("source-answer")
@record(frozen=True, slots=True, kw_only=True)
class SourceAnswer:
    """The accepted source of the search; without ``source``, ``source_hash`` is its hash by method 1."""

    epoch: int
    source: ProblemSource | None = None
    source_hash: str = ""


@wire.register("release-answer", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class ReleaseAnswer:
    """The release is recorded, or the lease had ended before."""

    epoch: int


@wire.register("command-answer", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """The effect of a user's command; ``is_change`` is False if nothing had to change."""

    epoch: int
    is_change: bool
    sentence: str


# --------------------------------------------------------------------------------------- requests from agent to master


@wire.register("hello", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class Hello:
    """The greeting of an agent: its identity, and the problem that its trainer has imported.

    ``boot_id``, ``pid_namespace`` and ``started_ticks`` are as in :class:`~hpbandster_lite.records.ProcessIdentity`.
    ``options`` are the values of the problem's options that all workers of a search share. ``source`` is the hash of
    this worker's copies of the files that the search lists; it is empty before the worker knows the list. ``problem``
    is empty if the worker cannot import it before its disk has room: it then asks for no work.
    """

    agent: str
    worker: str
    host: str
    pid: int
    problem: str
    source_hash: str
    options: Mapping[str, Value] = field(default_factory=dict)
    source: str = ""
    boot_id: str = ""
    pid_namespace: str = ""
    started_ticks: int = 0

    @property
    def process(self) -> ProcessIdentity:
        """Which process the agent is."""
        return ProcessIdentity(
            host=self.host,
            pid=self.pid,
            boot_id=self.boot_id,
            pid_namespace=self.pid_namespace,
            started_ticks=self.started_ticks,
        )


@wire.register("slot-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class SlotRequest:
    """One slot of an exchange: the report of its last lease, and whether it asks for the next lease."""

    slot: int
    wants_lease: bool
    report: Report | None = None


@wire.register("exchange-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class ExchangeRequest(Request[ExchangeAnswer]):
    """Reports of one or more slots and their requests for work, in one message.

    Parameters
    ----------
    agent
        Id of this incarnation of the agent.
    request
        The agent's number for this exchange: a repeated number gets the same leases again.
    worker
        The worker's display name.
    slots
        In ascending order; the first is slot 0, the agent itself.
    time_left_s
        Seconds until the agent's allocation ends; None for no limit.
    hindrance
        Why the agent takes no work now, though it asks: it wants to know whether the search is over.
    """

    method: ClassVar[str] = "exchange"
    answer: ClassVar[type[Any]] = ExchangeAnswer

    agent: str
    request: int
    worker: str
    slots: tuple[SlotRequest, ...]
    time_left_s: float | None = None
    hindrance: str | None = None

    def __post_init__(self) -> None:
        if len(self.agent) > LONGEST_NAME or len(self.worker) > LONGEST_NAME:
            raise ProtocolMismatch(
                f"agent and worker must have at most {LONGEST_NAME} characters, got agent={self.agent!r:.100} "
                f"and worker={self.worker!r:.100}"
            )
        numbers = [each.slot for each in self.slots]
        if numbers != [0] and not (numbers[:1] == [0] and numbers == sorted(set(numbers)) and numbers[-1] < MOST_SLOTS):
            raise ProtocolMismatch(f"slots must ascend from 0 to at most {MOST_SLOTS - 1}, got {numbers!r:.100}")
        if self.time_left_s is not None and not math.isfinite(self.time_left_s):
            raise ProtocolMismatch(f"time_left_s must be finite, got {self.time_left_s!r}")


@wire.register("renew-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class RenewRequest(Request[RenewAnswer]):
    """A heartbeat of the agent that holds a lease, with the learning curve's points since the last heartbeat."""

    method: ClassVar[str] = "renew"
    answer: ClassVar[type[Any]] = RenewAnswer

    agent: str
    evaluation: EvaluationId
    attempt: int
    curve: tuple[CurvePoint, ...] = ()


@wire.register("source-request")
@record(frozen=True, slots=True, kw_only=True)
class SourceRequest(Request[SourceAnswer]):
    """Asks which source of the problem the search accepts; an agent sends it before its first request for work."""

    method: ClassVar[str] = "source"
    answer: ClassVar[type[Any]] = SourceAnswer


@wire.register("release-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class ReleaseRequest(Request[ReleaseAnswer]):
    """The agent that holds a lease hands its evaluation back; ``directory`` has its checkpoint, if it saved one.

    ``curve`` has all points of this evaluation that the agent knows. A ``.release`` file in ``reports/`` holds the same
    record; a file of an earlier version has no ``kind``.
    """

    method: ClassVar[str] = "release"
    answer: ClassVar[type[Any]] = ReleaseAnswer

    agent: str
    evaluation: EvaluationId
    attempt: int
    reason: str
    directory: str | None = None
    curve: tuple[CurvePoint, ...] = ()
    kind: HandBackKind = HandBackKind.ORDERED
    was_cut_off: bool = False


@wire.register("left-report", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class LeftReport:
    """The content of a ``.json`` file in ``reports/``: a report that no master has acknowledged, and its sender."""

    agent: str
    report: Report


# --------------------------------------------------------------------------------------- requests from user to master


@wire.register("pause-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class PauseRequest(Request[CommandAnswer]):
    """Grant no new leases."""

    method: ClassVar[str] = "pause"
    answer: ClassVar[type[Any]] = CommandAnswer

    reason: str = ""


@wire.register("resume-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class ResumeRequest(Request[CommandAnswer]):
    """Grant leases again."""

    method: ClassVar[str] = "resume"
    answer: ClassVar[type[Any]] = CommandAnswer


@wire.register("stop-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class StopRequest(Request[CommandAnswer]):
    """End the search."""

    method: ClassVar[str] = "stop"
    answer: ClassVar[type[Any]] = CommandAnswer

    reason: str = ""


@wire.register("cancel-request", is_short=True)
@record(frozen=True, slots=True, kw_only=True)
class CancelRequest(Request[CommandAnswer]):
    """Drop one evaluation."""

    method: ClassVar[str] = "cancel"
    answer: ClassVar[type[Any]] = CommandAnswer

    evaluation: EvaluationId
    reason: str = ""


Command: TypeAlias = PauseRequest | ResumeRequest | StopRequest | CancelRequest
REQUESTS: Mapping[str, type[Request[Any]]] = {
    request.method: request
    for request in (
        ExchangeRequest,
        RenewRequest,
        SourceRequest,
        ReleaseRequest,
        PauseRequest,
        ResumeRequest,
        StopRequest,
        CancelRequest,
    )
}
"""The record of each method that takes one; ``status`` takes no record."""
