"""Sends points of learning curves from ``trial.report`` to the agent, each with the number of its order.

Law of this file: a point counts only while its order runs. A trial that has ended, or a thread or child process that
it left, may still report: these points are dropped, with one note for each order.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Callable

from hpbandster_lite.records import CurvePoint
from hpbandster_lite.trainer.frames import frames_of, write_frames
from hpbandster_lite.trainer.messages import TrainerEnded, TrainerInterrupted, TrainerMessage, TrainerPoint

log = logging.getLogger(__name__)


class CurrentOrder:
    """Counts orders on the agent's side, and accepts only points of the running order."""

    def __init__(self) -> None:
        self._number = 0
        self._is_running = False
        self._has_note = False

    def begin(self) -> None:
        """Begin the next order."""
        self._number += 1
        self._is_running, self._has_note = True, False

    def admits(self, message: TrainerMessage) -> bool:
        """Whether a message counts; only points of orders that have ended do not."""
        if isinstance(message, TrainerEnded | TrainerInterrupted):
            self._is_running = False
        if not isinstance(message, TrainerPoint) or (self._is_running and message.order == self._number):
            return True
        if not self._has_note:
            self._has_note = True
            log.warning("a process or thread of an earlier evaluation still calls trial.report; its points are dropped")
        return False


class PointSender:
    """Sends the points of one order, in the trainer and in its child processes.

    A forked child has the descriptors of the trainer. A spawned child receives this object by pickle, and opens the
    descriptors through ``/proc``.

    Parameters
    ----------
    order
        Number of the order.
    send
        Called with each point in this process; returns whether the objective must stop.
    answers
        Descriptor for the points of child processes.
    orders
        Descriptor that becomes readable when the objective must stop. Default: None.
    """

    def __init__(
        self, order: int, send: Callable[[TrainerPoint], bool], answers: int, orders: int | None = None
    ) -> None:
        self._order, self._send = order, send
        self._home = os.getpid(), answers, orders

    def __call__(self, point: CurvePoint) -> bool:
        """Send a point; return whether the objective must stop."""
        return self._send(TrainerPoint(point=point, order=self._order))

    def __reduce__(self) -> tuple[type[RemoteSender], tuple[int, int, int, int | None]]:
        return RemoteSender, (self._order, *self._home)


class RemoteSender:
    """A :class:`PointSender` in a process without the trainer's descriptors."""

    def __init__(self, order: int, pid: int, answers: int, orders: int | None) -> None:
        self._arguments = order, pid, answers, orders
        self._answers: int | None = None
        self._orders: int | None = None
        self._is_lost = False

    def __call__(self, point: CurvePoint) -> bool:
        """Send a point; return whether the objective must stop."""
        order, pid, answers, orders = self._arguments
        try:
            if self._answers is None and not self._is_lost:
                self._answers = os.open(f"/proc/{pid}/fd/{answers}", os.O_WRONLY)
                if orders is not None:
                    self._orders = os.open(f"/proc/{pid}/fd/{orders}", os.O_RDONLY | os.O_NONBLOCK)
            if self._answers is not None:
                write_frames(self._answers, frames_of(TrainerPoint(point=point, order=order)))
        except OSError as error:
            if not self._is_lost:
                sys.stderr.write(f"hpbandster_lite: points of trial.report in this process are lost: {error}\n")
            self._is_lost, self._answers = True, None
        return self._orders is not None and is_readable(self._orders)

    def __reduce__(self) -> tuple[type[RemoteSender], tuple[int, int, int, int | None]]:
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
