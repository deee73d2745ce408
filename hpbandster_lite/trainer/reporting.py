"""Sends points of learning curves from ``trial.report`` to the agent, and answers ``trial.should_stop``.

Law of this file: each point has the number of its order, and counts only while this order runs. A trial that has ended,
or a thread or child process that it left, may still report: these points are dropped, with one note for each order.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable

from hpbandster_lite.records import CurvePoint
from hpbandster_lite.trainer.frames import frames_of, write_frames
from hpbandster_lite.trainer.messages import (
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerPoint,
    TrainerStopSeen,
)

log = logging.getLogger(__name__)


class CurrentOrder:
    """Counts orders on the agent's side, and accepts only points of the running order."""

    def __init__(self) -> None:
        self._number = 0
        self._is_running = False
        self._has_note = False
        self._stop_was_seen = False

    def begin(self) -> None:
        """Begin the next order."""
        self._number += 1
        self._is_running, self._has_note, self._stop_was_seen = True, False, False

    def admitted(self, message: TrainerMessage) -> TrainerMessage | None:
        """The message, or None if it does not count: points of orders that have ended do not.

        A result does not count either after a child process of the objective has seen that it must stop.
        """
        if isinstance(message, TrainerStopSeen):
            self._stop_was_seen |= self._is_running and message.order == self._number
            return None
        if isinstance(message, TrainerEnded | TrainerInterrupted):
            self._is_running = False
            if self._stop_was_seen and isinstance(message, TrainerEnded) and message.failure is None:
                return TrainerInterrupted(has_children=message.has_children, renewal=message.renewal)
        if not isinstance(message, TrainerPoint) or (self._is_running and message.order == self._number):
            return message
        if not self._has_note:
            self._has_note = True
            log.warning("a process or thread of an earlier evaluation still calls trial.report; its points are dropped")
        return None


class PointSender:
    """Sends the points of one order, in the trainer and in its child processes, and says whether it must stop.

    A forked child has the descriptors of the trainer. A spawned child receives this object by pickle, and opens the
    descriptors through ``/proc``.

    Parameters
    ----------
    order
        Number of the order.
    send
        Sends a record, in this process and its forks.
    is_to_stop
        Whether the objective must stop, in this process and its forks.
    answers
        Descriptor for the points of child processes.
    orders
        Descriptor that becomes readable when the objective must stop.
    """

    def __init__(
        self,
        order: int,
        send: Callable[[TrainerPoint | TrainerStopSeen], object],
        is_to_stop: Callable[[], bool],
        answers: int,
        orders: int,
    ) -> None:
        self._order, self._send, self._is_to_stop = order, send, is_to_stop
        self._home = os.getpid(), answers, orders

    def __call__(self, point: CurvePoint) -> bool:
        """Send a point; return whether the objective must stop."""
        self._send(TrainerPoint(point=point, order=self._order))
        return self._is_to_stop()

    def must_stop(self) -> bool:
        """Whether the objective must stop."""
        must = self._is_to_stop()
        if must and os.getpid() != self._home[0]:
            self._send(TrainerStopSeen(order=self._order))
        return must

    def __reduce__(self) -> tuple[type[RemoteSender], tuple[int, int, int, int]]:
        return RemoteSender, (self._order, *self._home)


class RemoteSender:
    """A :class:`PointSender` in a process without the trainer's descriptors.

    Parameters
    ----------
    order
        Number of the order that the points belong to.
    pid, answers, orders
        The trainer's process, and the numbers of its two pipes there.
    """

    def __init__(self, order: int, pid: int, answers: int, orders: int) -> None:
        self._arguments = order, pid, answers, orders
        self._answers: int | None = None
        self._orders: int | None = None
        self._is_lost = False

    def __call__(self, point: CurvePoint) -> bool:
        """Send a point; return whether the objective must stop."""
        self._send(TrainerPoint(point=point, order=self._arguments[0]))
        return self._is_to_stop()

    def must_stop(self) -> bool:
        """Whether the objective must stop."""
        self._open()
        must = self._is_to_stop()
        if must:
            self._send(TrainerStopSeen(order=self._arguments[0]))
        return must

    def _is_to_stop(self) -> bool:
        return self._orders is not None and is_readable(self._orders)

    def _send(self, record: TrainerPoint | TrainerStopSeen) -> None:
        self._open()
        if self._answers is not None:
            try:
                write_frames(self._answers, frames_of(record))
            except OSError as error:
                self._lose(error)

    def _open(self) -> None:
        _, pid, answers, orders = self._arguments
        if self._answers is not None or self._is_lost:
            return
        try:
            self._answers = os.open(f"/proc/{pid}/fd/{answers}", os.O_WRONLY)
            self._orders = os.open(f"/proc/{pid}/fd/{orders}", os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        sys.stderr.write(f"hpbandster_lite: points of trial.report in this process are lost: {error}\n")
        self._is_lost, self._answers = True, None

    def __reduce__(self) -> tuple[type[RemoteSender], tuple[int, int, int, int]]:
        return RemoteSender, self._arguments


def is_readable(descriptor: int) -> bool:
    """Whether a pipe has data. The data stays in the pipe, so that each process of a training sees it."""
    return bool(_events(descriptor) & select.POLLIN)


def is_abandoned(descriptor: int) -> bool:
    """Whether a pipe is empty and its writer has ended."""
    events = _events(descriptor)
    return bool(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL)) and not events & select.POLLIN


def _events(descriptor: int) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return next((events for _, events in poll.poll(0)), 0)
