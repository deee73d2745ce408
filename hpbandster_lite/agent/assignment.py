"""One leased evaluation of an agent: its grant, its learning curve, and when something is due.

Law of this file: values and small rules only; no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from hpbandster_lite import wire
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.protocol.learning_curves import joined, key_of
from hpbandster_lite.protocol.messages import Grant, ReleaseRequest, RenewRequest
from hpbandster_lite.records import CurvePoint, EvaluationId, Failure, HandBackKind, Outcome, Plain, Report
from hpbandster_lite.trainer.messages import TrainerOrder

MAX_CURVE_BYTES = 2**22
"""A longer learning curve is thinned: the result may take half of a message, the curve a quarter."""


class Curve:
    """A learning curve of bounded size: every step at first, then every second, every fourth, and so on.

    A step that is reported again keeps its place, and its last point counts.

    Parameters
    ----------
    limit_bytes
        Largest length of its points in a message.
    earlier
        Points of earlier attempts of this evaluation.
    """

    def __init__(self, limit_bytes: int = MAX_CURVE_BYTES, earlier: tuple[CurvePoint, ...] = ()) -> None:
        self._limit_bytes = limit_bytes
        self._earlier = earlier
        self._points: dict[float | None, _Kept] = {}
        self._bytes = 0
        self._places = 0
        self._stride = 1
        self._reported = 0
        self._sent = 0

    def add(self, point: CurvePoint) -> bool:
        """Take a point; whether it is kept for now."""
        self._reported += 1
        key = key_of(point)
        before = self._points.get(key)
        if before is None:
            place = self._places
            self._places += 1
            if place % self._stride:
                return False
        else:
            place = before.place
            self._bytes -= before.size
        size = len(wire.encode(list(point)))
        self._points[key] = _Kept(place, self._reported, point, size)
        self._bytes += size
        while self._bytes > self._limit_bytes and len(self._points) > 1:
            self._stride *= 2
            self._points = {key: kept for key, kept in self._points.items() if kept.place % self._stride == 0}
            self._bytes = sum(kept.size for kept in self._points.values())
        return True

    def points(self) -> tuple[CurvePoint, ...]:
        """All points that are kept, those of earlier attempts included."""
        return joined(self._earlier, tuple(kept.point for kept in self._points.values()))

    def unsent(self) -> tuple[CurvePoint, ...]:
        """The points that are kept and not yet acknowledged."""
        return tuple(kept.point for kept in self._points.values() if kept.number > self._sent)

    def acknowledge(self) -> None:
        """The master has all points that :meth:`unsent` gave."""
        self._sent = self._reported

    def send_again(self) -> None:
        """Another master has none of the points."""
        self._sent = 0


class _Kept(NamedTuple):
    """A point of a curve: the place of its step among the steps, and its number among the reports."""

    place: int
    number: int
    point: CurvePoint
    size: int


class HandBack(NamedTuple):
    """Why an evaluation is handed back, for code and for people."""

    kind: HandBackKind
    reason: str


class PointFile(Protocol):
    """Keeps points beside the checkpoint of an attempt."""

    def add(self, point: CurvePoint) -> None:
        """Take a point."""


@dataclass(slots=True, kw_only=True)
class Assignment:
    """A lease, its holder (an agent or a slot of it), and its evaluation; times are of the agent's monotonic clock."""

    agent: str
    evaluation: EvaluationId
    attempt: int
    order: TrainerOrder
    heartbeat_s: float
    renew_at: float
    curve: Curve = field(default_factory=Curve)
    curve_file: PointFile | None = None
    points_are_of: int | None = None
    """Epoch of the master that has the acknowledged points."""
    began_at: float | None = None
    ends_at: float | None = None
    """When its time limit ends; then, when the trainer is killed for that."""
    has_timed_out: bool = False
    stop: HandBack | None = None
    """Why the evaluation must stop; None if it continues."""
    stop_by: float | None = None
    """When its grace ends."""
    order_by: float | None = None
    """Its objective was cut off: until when an order to the agent explains that."""
    was_interrupted: bool = False
    """Its objective ended in ``trial.report``, where no file is half written."""
    resumed_from: int | None = None
    """The earlier attempt whose directory it received."""
    cut_off: Failure | None = None
    """What is reported if there is no such order; without it, the evaluation is handed back."""

    @property
    def place(self) -> str:
        """The attempt's directory, which need not exist."""
        return self.order.directory

    @property
    def log_fields(self) -> dict[str, Plain]:
        """Fields of log entries about this evaluation, for programs."""
        return {"evaluation": str(self.evaluation), "attempt": self.attempt, "agent": self.agent}

    def renewal(self) -> RenewRequest:
        """The next heartbeat."""
        return RenewRequest(
            agent=self.agent, evaluation=self.evaluation, attempt=self.attempt, curve=self.curve.unsent()
        )

    def release(self, why: HandBack, directory: str | None) -> ReleaseRequest:
        """The message that hands the lease back."""
        return ReleaseRequest(
            agent=self.agent,
            evaluation=self.evaluation,
            attempt=self.attempt,
            reason=why.reason,
            directory=directory,
            curve=self.curve.points(),
            kind=why.kind,
            was_cut_off=self.began_at is not None and not self.was_interrupted,
        )

    def report(self, outcome: Outcome) -> Report:
        """The message that ends the lease with an outcome."""
        return Report(
            evaluation=self.evaluation, attempt=self.attempt, outcome=outcome, resumed_from=self.resumed_from
        )


def assignment_of(grant: Grant, directories: AttemptDirectories, now: float, agent: str) -> Assignment:
    """The assignment that a grant to an agent, or to a slot of it, means."""
    # From the newest on: an attempt is named by how far it lies back.
    earlier = enumerate(map(directories.received, grant.resume_directories), start=1)
    back, resume_directory = next(((back, found) for back, found in earlier if found is not None), (0, None))
    order = TrainerOrder(
        evaluation=grant.evaluation,
        attempt=grant.attempt,
        values=grant.values,
        budget=float(grant.budget),
        max_budget=float(grant.max_budget),
        budgets=tuple(map(float, grant.budgets)),
        unit=grant.unit,
        integer_budgets=grant.integer_budgets,
        maximize=grant.maximize,
        seed=grant.seed,
        directory=directories.new(grant.evaluation, grant.attempt, grant.timeline),
        previous_directory=directories.received_previous(grant.previous_directory),
        resume_directory=resume_directory,
        note=grant.note,
    )
    return Assignment(
        agent=agent,
        evaluation=grant.evaluation,
        attempt=grant.attempt,
        order=order,
        heartbeat_s=grant.heartbeat_s,
        renew_at=now + grant.heartbeat_s,
        resumed_from=grant.attempt - back if back else None,
    )
