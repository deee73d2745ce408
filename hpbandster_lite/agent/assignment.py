"""The evaluation that an agent holds: what was granted, what has been heard of it, when something is due.

Law of this file: values and small rules only; it talks to nobody.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hpbandster_lite import wire
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, Plain, Report
from hpbandster_lite.rundir import RunDirectory, holds_checkpoint, write_atomically
from hpbandster_lite.trainer.messages import TrainerOrder

log = logging.getLogger(__name__)

MAX_CURVE_BYTES = 2**22
"""A longer learning curve is thinned: half of a message is the result's, a quarter the curve's."""


class Curve:
    """A learning curve within bounds: every point at first, then every second, every fourth, and so on."""

    def __init__(self, limit_bytes: int = MAX_CURVE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._points: list[tuple[int, CurvePoint, int]] = []
        self._bytes = 0
        self._count = 0
        self._stride = 1
        self._sent = 0

    def add(self, point: CurvePoint) -> None:
        """Take a point."""
        number = self._count
        self._count += 1
        if number % self._stride:
            return
        size = len(wire.encode(list(point)))
        self._points.append((number, point, size))
        self._bytes += size
        while self._bytes > self._limit_bytes and len(self._points) > 1:
            self._stride *= 2
            self._points = [kept for kept in self._points if kept[0] % self._stride == 0]
            self._bytes = sum(size for _, _, size in self._points)

    def points(self) -> tuple[CurvePoint, ...]:
        """All that is kept."""
        return tuple(point for _, point, _ in self._points)

    def unsent(self) -> list[CurvePoint]:
        """What is kept and has not been acknowledged."""
        return [point for number, point, _ in self._points if number >= self._sent]

    def acknowledge(self) -> None:
        """The master has all that :meth:`unsent` gave."""
        self._sent = self._count


@dataclass(slots=True, kw_only=True)
class Assignment:
    """A lease, who holds it (an agent or a lane), and its evaluation; times are of the agent's monotonic clock."""

    agent: str
    evaluation: EvaluationId
    attempt: int
    order: TrainerOrder
    heartbeat_s: float
    renew_at: float
    curve: Curve = field(default_factory=Curve)
    began_at: float | None = None
    ends_at: float | None = None
    """When its time limit is over, then when the trainer is killed for it."""
    has_timed_out: bool = False
    stop_reason: str | None = None
    stop_by: float | None = None
    """When grace is over."""

    @property
    def place(self) -> str:
        """The attempt's own directory, which need not exist."""
        return self.order.directory

    @property
    def key(self) -> dict[str, Plain]:
        """Holder, evaluation and attempt as messages have them."""
        config_id, rung = self.evaluation
        return {"agent": self.agent, "evaluation": [list(config_id), rung], "attempt": self.attempt}


class Places:
    """Where attempts of this worker write, and how the master is told.

    Directories travel relative to the run directory where that can be seen, else as paths of this host, which no other
    start of a worker has.
    """

    def __init__(self, options: AgentOptions) -> None:
        self._run = None if options.run_dir is None else Path(options.run_dir).resolve()
        if self._run is not None:
            base = self._run
        else:
            # A run id that is given may come again with another search, whose attempts have the same names: what an
            # earlier one left here, or on the host that a directory is told to, must not be taken for this one's.
            name = f"{options.run_id}-{secrets.token_hex(4)}"
            scratch = None if options.scratch is None else Path(options.scratch).resolve()
            base = scratch / name if scratch else Path(tempfile.gettempdir()) / f"hpbandster_lite-{os.getuid()}-{name}"
        self.directory = RunDirectory(base)
        self._has_said = False
        if self._run is None:
            # The temporary folder is everybody's: refuse a directory that others made or may enter.
            self.directory.create()

    def tidy(self, attempts: Iterable[str]) -> None:
        """Remove what is of no use to anybody: attempts of this agent without a checkpoint, and folders left empty.

        Nothing in a run directory, where people look for the logs; and no checkpoint, which may be the best one's.
        """
        if self._run is not None:
            return
        base = self.directory.path
        for attempt in map(Path, filter(os.path.isdir, attempts)):
            if not holds_checkpoint(attempt):
                shutil.rmtree(attempt, ignore_errors=True)
            for folder in attempt.parents:
                if not folder.is_relative_to(base) or not _removed(folder):
                    break
        for folder in (self.directory.log("any").parent, base):
            _removed(folder)

    def told(self, place: str) -> str | None:
        """An attempt's directory for the master; None unless it holds more than a log."""
        if not holds_checkpoint(place):
            return None
        return str(Path(place).relative_to(self._run)) if self._run is not None else place

    def seen(self, told: str | None) -> str | None:
        """A directory of another attempt as an absolute path; None if no checkpoint can be seen there from here."""
        if told is None or (self._run is None and not told.startswith("/")):
            return None
        path = self.directory.readable_directory(told)
        return path if path is not None and holds_checkpoint(path) else None

    def below(self, told: str | None) -> str | None:
        """Like :meth:`seen`, of the rung below, which left one for certain; that it is elsewhere is said once."""
        found = self.seen(told)
        if told is not None and found is None and not self._has_said:
            self._has_said = True
            log.warning(
                "a checkpoint of the rung below lies where this worker cannot see it (%s): such evaluations train from "
                "the start here, which is said once; workers that share a run directory go on from each other's",
                told,
            )
        return found

    def leave_report(self, report: Report, agent: str) -> Path:
        """Write a report that no master took where the next one looks for it.

        Raises
        ------
        RunDirectoryError
            If it cannot be written.
        """
        name = f"{report.evaluation}-{report.attempt}.json"
        return self._leave(name, {"agent": agent, "report": wire.to_message(report)})

    def leave_release(self, release: dict[str, Plain]) -> Path | None:
        """Write what was handed back and no master heard where the next one looks for it; None where that is nowhere.

        Raises
        ------
        RunDirectoryError
            If it cannot be written.
        """
        if self._run is None:
            return None
        (bracket, sampled_at, index), rung = release["evaluation"]
        evaluation = EvaluationId(ConfigId(bracket, sampled_at, index), rung)
        return self._leave(f"{evaluation}-{release['attempt']}.release", release)

    def _leave(self, name: str, content: dict[str, Plain]) -> Path:
        reports = self.directory.path / "reports"
        reports.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = reports / name
        write_atomically(path, wire.encode(content) + "\n")
        return path


def _removed(folder: Path) -> bool:
    """Remove a folder that is empty; whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def read_grant(grant: Plain, places: Places, now: float, agent: str) -> Assignment:
    """The assignment that a master's grant to an agent, or to a lane of it, means.

    Raises
    ------
    ProtocolMismatch
        If a part of it is missing or of another type.
    """
    try:
        (bracket, sampled_at, index), rung = grant["evaluation"]
        evaluation = EvaluationId(ConfigId(int(bracket), int(sampled_at), int(index)), int(rung))
        attempt = int(grant["attempt"])
        order = TrainerOrder(
            evaluation=evaluation,
            attempt=attempt,
            values=dict(grant["values"]),
            budget=float(grant["budget"]),
            max_budget=float(grant["max_budget"]),
            budgets=tuple(map(float, grant["budgets"])),
            unit=str(grant["unit"]),
            seed=int(grant["seed"]),
            directory=places.directory.attempt_path(evaluation, attempt),
            previous_directory=places.below(grant["previous_directory"]),
            resume_directory=next(filter(None, map(places.seen, grant["resume_directories"])), None),
        )
        heartbeat_s = float(grant["heartbeat_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolMismatch(f"the master's grant is no evaluation ({error!r}): {grant!r:.300}") from error
    return Assignment(
        agent=agent,
        evaluation=evaluation,
        attempt=attempt,
        order=order,
        heartbeat_s=heartbeat_s,
        renew_at=now + heartbeat_s,
    )
