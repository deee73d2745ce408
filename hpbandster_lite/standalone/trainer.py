"""A trainer without an agent: a few orders, one after the other, each waited for.

Law of this file: whoever uses it waits, and the trainer ends with the ``with`` block, whatever happened in it.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.environment import trainer_environment
from hpbandster_lite.records import CurvePoint, Failure, FailureKind
from hpbandster_lite.trainer.handle import TrainerHandle
from hpbandster_lite.trainer.in_thread import InlineTrainer
from hpbandster_lite.trainer.messages import (
    TrainerDied,
    TrainerEnded,
    TrainerInterrupted,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
)

Answer: TypeAlias = TrainerEnded | TrainerInterrupted | TrainerDied | TrainerRefused


def ended(answer: Answer, *, interrupted: Failure) -> TrainerEnded:
    """An answer as the end of its order, whatever it was; ``interrupted`` is what an interruption means to the caller.

    Raises
    ------
    ProblemError
        If the trainer could not import the problem.
    """
    match answer:
        case TrainerRefused(message=message):
            raise ProblemError(message)
        case TrainerEnded():
            return answer
        case TrainerInterrupted():
            return TrainerEnded(failure=interrupted)
        case died:
            return TrainerEnded(failure=died.failure)
"""How an order ended."""


class LoneTrainer:
    """A trainer that carries out orders while its caller waits; use it in a ``with`` block.

    Parameters
    ----------
    reference
        The problem.
    problem
        The problem itself, where no other process can import it: it then runs in this process.
    device, threads
        See :func:`~hpbandster_lite.process.environment.trainer_environment`.
    processes
        See :class:`~hpbandster_lite.trainer.handle.TrainerHandle`.
    """

    def __init__(
        self,
        reference: str,
        problem: Problem | None = None,
        *,
        device: str | None = None,
        threads: int | None = None,
        processes: int = 1,
    ) -> None:
        self._began_at = time.monotonic()
        self._is_ready = False
        self.import_s: float | None = None
        self._trainer: TrainerHandle | InlineTrainer
        if problem is None:
            environment = trainer_environment(os.environ, device, threads)
            self._trainer = TrainerHandle(reference, environment, processes=processes)
        else:
            self._trainer = InlineTrainer(reference, problem)

    def __enter__(self) -> LoneTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._trainer.close()

    def carry_out(
        self,
        order: TrainerOrder,
        log: Path,
        *,
        limit_s: float | None = None,
        on_point: Callable[[CurvePoint], object] | None = None,
    ) -> Answer:
        """Wait until the problem is imported, give the order, and wait for its end.

        Parameters
        ----------
        order
            What to do; an earlier one must have ended.
        log
            File for what it prints.
        limit_s
            Time that the evaluation may take; a trainer that takes longer is killed.
        on_point
            Told each point of the learning curve as it is reported.
        """
        given = self._is_ready
        if given:
            self._trainer.evaluate(order, log)
        ends_at = None if limit_s is None or not given else time.monotonic() + limit_s
        while True:
            self._wait(ends_at)
            for heard in self._trainer.receive():
                match heard:
                    case TrainerReady():
                        self._is_ready = True
                        self.import_s = time.monotonic() - self._began_at
                        self._trainer.evaluate(order, log)
                        ends_at = None if limit_s is None else time.monotonic() + limit_s
                    case TrainerEnded() | TrainerInterrupted() | TrainerDied() | TrainerRefused():
                        return heard
                    case TrainerPoint(point=point):
                        if on_point is not None:
                            on_point(point)
            if limit_s is not None and ends_at is not None and time.monotonic() >= ends_at:
                tail = self._trainer.log_tail()
                self._trainer.kill()
                reason = f"took longer than {limit_s:g} s"
                return TrainerDied(failure=Failure(kind=FailureKind.TIME_LIMIT, reason=reason, log_tail=tail))

    def _wait(self, ends_at: float | None) -> None:
        """Until something was said, or may have happened that nobody tells."""
        most_s = self._trainer.poll_every_s
        if ends_at is not None:
            most_s = max(0.0, min(most_s, ends_at - time.monotonic()))
        with selectors.DefaultSelector() as selector:
            for descriptor in self._trainer.descriptors:
                selector.register(descriptor, selectors.EVENT_READ)
            selector.select(timeout=most_s)
