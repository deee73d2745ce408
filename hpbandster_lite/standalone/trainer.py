"""A trainer without an agent: it runs a few orders, one after the other, while the caller waits.

Law of this file: the trainer ends with the ``with`` block, also after an exception. An order that left the trainer
unfit for another one, as for an agent, is followed by a new trainer.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Sequence
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
    TrainerFetches,
    TrainerInterrupted,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
    TrainerStopSeen,
)

OrderEnd: TypeAlias = TrainerEnded | TrainerInterrupted | TrainerDied | TrainerRefused
"""How an order ended."""
_ENDS = (TrainerEnded, TrainerInterrupted, TrainerDied, TrainerRefused)


def as_ended(end: OrderEnd, *, interrupted: Failure) -> TrainerEnded:
    """The end of an order as one record; ``interrupted`` is the failure that stands for an interruption.

    Raises
    ------
    ProblemError
        If the trainer could not import the problem.
    """
    match end:
        case TrainerRefused(message=message):
            raise ProblemError(message)
        case TrainerEnded():
            return end
        case TrainerInterrupted():
            return TrainerEnded(failure=interrupted)
        case died:
            return TrainerEnded(failure=died.failure)


class StandaloneTrainer:
    """A trainer that runs orders while its caller waits; use it in a ``with`` block.

    Parameters
    ----------
    reference
        The problem.
    problem
        The problem itself, where no other process can import it: it then runs in this process.
    device, threads, run_directory
        See :func:`~hpbandster_lite.process.environment.trainer_environment`.
    processes, arguments
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
        arguments: Sequence[str] = (),
        run_directory: str | None = None,
    ) -> None:
        self._reference, self._problem = reference, problem
        self._processes, self._arguments = processes, arguments
        self._environment = trainer_environment(os.environ, device, threads, run_directory)
        self.import_s: float | None = None
        self._start()

    def _start(self) -> None:
        self._started_at = time.monotonic()
        self._is_ready = self._is_unfit = False
        self._trainer: TrainerHandle | InlineTrainer
        if self._problem is None:
            self._trainer = TrainerHandle(
                self._reference, self._environment, processes=self._processes, arguments=self._arguments
            )
        else:
            self._trainer = InlineTrainer(self._reference, self._problem)

    def __enter__(self) -> StandaloneTrainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._trainer.close()

    def run(
        self,
        order: TrainerOrder,
        log: Path,
        *,
        limit_s: float | None = None,
        on_point: Callable[[CurvePoint], object] | None = None,
        grace_s: float = 0.0,
    ) -> OrderEnd:
        """Wait until the problem is imported, send the order, and wait for its end.

        Parameters
        ----------
        order
            What to do; an earlier order must have ended.
        log
            File for its output.
        limit_s
            Time limit of the evaluation; after it the trainer is killed.
        on_point
            Called with each point of the learning curve when it arrives.
        grace_s
            Seconds that the objective has to save after KeyboardInterrupt, which is then raised again. Default: 0.

        Raises
        ------
        KeyboardInterrupt
            If one was raised in this process.
        """
        try:
            return self._ended(order, log, limit_s, on_point)
        except KeyboardInterrupt:
            if grace_s > 0 and self._is_ready:
                self._trainer.ask_to_stop()
                self._wait_for_end(grace_s)
            raise

    def _wait_for_end(self, within_s: float) -> None:
        """Receive until the order has ended, or this time has passed."""
        ends_at = time.monotonic() + within_s
        while time.monotonic() < ends_at:
            self._wait(ends_at)
            if any(isinstance(message, _ENDS) for message in self._trainer.receive()):
                return

    def _ended(
        self,
        order: TrainerOrder,
        log: Path,
        limit_s: float | None,
        on_point: Callable[[CurvePoint], object] | None,
    ) -> OrderEnd:
        """See :meth:`run`."""
        if self._is_unfit:
            self._trainer.kill()
            self._start()
        is_sent = self._is_ready
        if is_sent:
            self._trainer.evaluate(order, log)
        ends_at = None if limit_s is None or not is_sent else time.monotonic() + limit_s
        while True:
            self._wait(ends_at)
            for message in self._trainer.receive():
                match message:
                    case TrainerReady():
                        self._is_ready = True
                        self.import_s = time.monotonic() - self._started_at
                        self._trainer.evaluate(order, log)
                        ends_at = None if limit_s is None else time.monotonic() + limit_s
                    case TrainerEnded() | TrainerInterrupted() | TrainerDied() | TrainerRefused():
                        self._is_unfit = self._problem is None and self._must_be_renewed(message)
                        return message
                    case TrainerFetches() | TrainerStopSeen():
                        pass
                    case TrainerPoint(point=point):
                        if on_point is not None:
                            on_point(point)
            if limit_s is not None and ends_at is not None and time.monotonic() >= ends_at:
                return self._killed(limit_s)

    def _must_be_renewed(self, end: OrderEnd) -> bool:
        if not isinstance(end, TrainerEnded | TrainerInterrupted):
            return True
        failure = end.failure if isinstance(end, TrainerEnded) else None
        is_spoilt = end.renewal is not None or (failure is not None and failure.kind is FailureKind.MEMORY)
        return is_spoilt or bool(self._trainer.leftover_processes(end.has_children))

    def _killed(self, limit_s: float) -> TrainerDied:
        tail = self._trainer.log_tail()
        self._trainer.kill()
        self._is_unfit = self._problem is None
        reason = f"took longer than {limit_s:g} s"
        return TrainerDied(failure=Failure(kind=FailureKind.TIME_LIMIT, reason=reason, log_tail=tail))

    def _wait(self, ends_at: float | None) -> None:
        """Wait for a message, or until the trainer must be checked for an end that sends none."""
        most_s = self._trainer.poll_every_s
        if ends_at is not None:
            most_s = max(0.0, min(most_s, ends_at - time.monotonic()))
        with selectors.DefaultSelector() as selector:
            for descriptor in self._trainer.descriptors:
                selector.register(descriptor, selectors.EVENT_READ)
            selector.select(timeout=most_s)
