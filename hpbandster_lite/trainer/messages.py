"""The messages between an agent and its trainer: one record per line.

Law of this file: frozen records, encoded by :mod:`hpbandster_lite.wire` as lines. The trainer runs user code, which may
write anything to any descriptor: every other line is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.records import CurvePoint, EvaluationId, Failure, Plain, Value, Values

# ------------------------------------------------------------------------------------------- from agent to trainer


@wire.register("TrainerOrder")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerOrder:
    """Run the objective once. Directories are absolute; the last two have a checkpoint, or are None.

    ``budgets`` are those of the search. ``export`` writes ``file`` and reads the model in ``directory``.
    """

    evaluation: EvaluationId
    attempt: int
    values: Values
    budget: float
    max_budget: float
    unit: str
    seed: int
    directory: str
    previous_directory: str | None = None
    resume_directory: str | None = None
    budgets: tuple[float, ...] = ()
    call: Literal["evaluate", "test", "refit", "export"] = "evaluate"
    file: str | None = None


@wire.register("TrainerStop")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerStop:
    """Interrupt the running evaluation at its next ``trial.report``."""


# ------------------------------------------------------------------------------------------- from trainer to agent


@wire.register("TrainerReady")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerReady:
    """The problem is imported; ``options`` has the values of the options that all workers of a search share."""

    problem: str
    source_hash: str
    options: Mapping[str, Value] = field(default_factory=dict)


@wire.register("TrainerRefused")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerRefused:
    """The problem cannot be imported; the trainer has ended."""

    message: str


@wire.register("TrainerPoint")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerPoint:
    """``trial.report`` was called."""

    point: CurvePoint


@wire.register("TrainerEnded")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerEnded:
    """The objective ended: with a ``loss`` (None for other calls), or with a ``failure``.

    ``has_children`` says whether it left processes behind.
    """

    loss: float | None = None
    failure: Failure | None = None
    info: Mapping[str, Plain] = field(default_factory=dict)
    duration_s: float = 0.0
    has_children: bool = False


@wire.register("TrainerInterrupted")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInterrupted:
    """The objective was interrupted in ``trial.report``."""

    has_children: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerDied:
    """The trainer died: the failure of its evaluation. The handle makes it; it is never sent."""

    failure: Failure


TrainerMessage: TypeAlias = (
    TrainerReady | TrainerRefused | TrainerPoint | TrainerEnded | TrainerInterrupted | TrainerDied
)
"""What an agent receives from its trainer."""


# ------------------------------------------------------------------------------------------------------------ lines


def line_of(record: object) -> bytes:
    """Encode one record as a line."""
    return wire.encode(wire.to_message(record)).encode("ascii") + b"\n"


def write_line(descriptor: int, line: bytes) -> None:
    """Write all of a line to a blocking descriptor."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class LineReader:
    """Collects bytes until lines are complete; limited, because the input may be anything."""

    def __init__(self, limit_bytes: int = wire.MAX_MESSAGE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._rest = bytearray()

    def records(self, data: bytes) -> Iterator[object]:
        """The records that these bytes complete.

        Raises
        ------
        ProtocolMismatch
            If a line is not a record, or longer than the limit.
        """
        self._rest += data
        if b"\n" not in data:
            if len(self._rest) > self._limit_bytes:
                raise ProtocolMismatch(f"a line of more than {self._limit_bytes:,} bytes")
            return
        *lines, rest = self._rest.split(b"\n")
        self._rest = rest
        for line in lines:
            yield wire.from_message(wire.decode(line.decode("ascii", errors="replace")))
