"""The trainer of a simulated world: a deterministic objective that takes its virtual time, fails, hangs or dies.

Law of this file: all draws come from the world's generator. :mod:`tests.world` contains the reaction of the world.
"""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.agent.pace import Pace
from hpbandster_lite.records import CurvePoint, Failure, FailureKind, ProblemSource
from hpbandster_lite.trainer.in_thread import InProcessHandle
from hpbandster_lite.trainer.messages import (
    TrainerDied,
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
)

if TYPE_CHECKING:
    from tests.world_workers import Worker

OBJECTIVE = "world:problem"
CHECKPOINT = "state"
EDIT = 1_000.0
HALF = "half a file"
"""Content of a checkpoint whose save was cut off; an attempt that reads it fails by its code."""


def source_of(version: int) -> ProblemSource:
    """The source of the objective after so many edits."""
    return ProblemSource(version=version)


def loss_of(order_values: Any, budget: float) -> float:
    """The objective: deterministic, so that the world detects a result that went to another evaluation.

    Each edit of its source adds :data:`EDIT` to its losses.
    """
    parts = [ord(value) * 0.01 if isinstance(value, str) else float(value) for value in order_values.values()]
    return math.fsum([*parts, 1.0 / budget])


class FakeTrainer(InProcessHandle):
    """A trainer in virtual time: each of its messages has a time; some evaluations ignore a stop."""

    descriptors: tuple[int, ...] = ()

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._world = world = worker.world
        self._clock = worker.clock
        self._messages: deque[tuple[float, TrainerMessage]] = deque()
        self.obeys_after_s: float | None = None
        self._is_busy = False
        self._checkpoint: Path | None = None
        self.is_ready = False
        self._version = world.source_version
        source = source_of(self._version) if world.has_source else None
        ready = TrainerReady(problem=OBJECTIVE, source_hash="0", source=source)
        self._send(world.random.uniform(0.0, 3.0), ready)

    def _send(self, after_s: float, message: TrainerMessage) -> None:
        self._messages.append((self._clock() + after_s, message))

    @property
    def next_at(self) -> float:
        return self._messages[0][0] if self._messages else math.inf

    def receive(self) -> list[TrainerMessage]:
        received = []
        while self._messages and self._messages[0][0] <= self._clock():
            received.append(self._in_its_room(self._messages.popleft()[1]))
        self.is_ready = self.is_ready or bool(received)
        if any(not isinstance(each, TrainerPoint | TrainerReady) for each in received):
            self._is_busy = False
        return received

    def _in_its_room(self, message: TrainerMessage) -> TrainerMessage:
        """What an evaluation gives whose worker has a full disk at its end: what it wrote found no room."""
        if not isinstance(message, TrainerEnded) or self._worker.has_room:
            return message
        self._world.counts["no room"] += 1
        if self._world.random.random() < 0.5:
            # A library hides what it met.
            return TrainerEnded(failure=Failure(kind=FailureKind.CODE, reason=f"it cannot write {self._name}"))
        failure = Failure(kind=FailureKind.INFRASTRUCTURE, reason="no room")
        return TrainerEnded(failure=failure, no_room_in=str(self._world.directory.path))

    def evaluate(self, order: TrainerOrder, log: Path | None) -> None:
        del log
        assert self._worker.agent.held.disk.hindrance is None, "a worker that cannot write took work"
        draw = self._world.random
        self._is_busy = True
        self._world.check_checkpoints(order)
        self._checkpoint = Path(order.directory) / CHECKPOINT if draw.random() < 0.7 else None
        self._name = str(order.evaluation)
        # Some last longer than a lease, so that a lapsed agent is still at work when it returns.
        taken_s = draw.lognormvariate(1.5, 1.0) * draw.choice([1.0] * 3 + [15.0])
        if self._world.is_quick and draw.random() < 0.9:
            taken_s = draw.uniform(0.0, 0.9 * Pace.QUICK_S)
        if draw.random() < 0.3:
            self._send(taken_s / 2, TrainerPoint(point=CurvePoint(1.0, 0.5)))
        # Some never react to a stop, and must be killed.
        self.obeys_after_s = draw.choice([0.1, 2.0, None])
        self._send(taken_s, self._ending(order, taken_s))

    def _ending(self, order: TrainerOrder, taken_s: float) -> TrainerMessage:
        dice, world = self._world.random.random(), self._world
        if order.resume_directory is not None and (Path(order.resume_directory) / CHECKPOINT).read_text() == HALF:
            return TrainerEnded(failure=Failure(kind=FailureKind.CODE, reason=HALF), duration_s=taken_s)
        if world.code_is_broken:
            failure = Failure(kind=FailureKind.CODE, reason="boom", traceback=f"{world.random.random()}: boom")
            return TrainerEnded(failure=failure, duration_s=taken_s)
        if dice < 0.02:
            # As if it signalled itself: no order of the agent causes this.
            return TrainerInterrupted()
        if dice < 0.04:
            self._leave_half_a_file()
            return TrainerDied(failure=Failure(kind=FailureKind.INFRASTRUCTURE, reason="killed by SIGKILL"))
        if dice < 0.12:
            kind = world.random.choice(
                [FailureKind.CODE, FailureKind.INVALID, FailureKind.MEMORY, FailureKind.INFEASIBLE]
            )
            # All tracebacks differ; another history has equal ones.
            failure = Failure(kind=kind, reason="it failed", traceback=f'  File "{order.evaluation}", line 1, in f')
            return TrainerEnded(failure=failure, duration_s=taken_s)
        loss = loss_of(order.values, order.budget) + EDIT * self._version
        return TrainerEnded(loss=loss, duration_s=taken_s)

    def ask_to_stop(self) -> None:
        if self._is_busy and self.obeys_after_s is not None and self._messages:
            if self._checkpoint is not None:
                # Like an objective that saves before it is interrupted.
                self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
                self._checkpoint.write_text(self._name)
            self._messages = deque(each for each in self._messages if isinstance(each[1], TrainerReady))
            self._send(self.obeys_after_s, TrainerInterrupted())

    terminate = ask_to_stop

    def kill(self) -> None:
        if self._is_busy:
            self._leave_half_a_file()
        self._messages.clear()

    def _leave_half_a_file(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
            self._checkpoint.write_text(HALF)

    close = kill
