"""A trainer without a process: the objective runs in a thread of the agent, for functions that take milliseconds.

Law of this file: the interface of :class:`~hpbandster_lite.trainer.handle.TrainerHandle` without its protection. A
crash of the objective ends the agent, and nothing can end an objective that hangs. Why a thread, even for microseconds:
docs/decisions/0004-inline-evaluations-in-a-thread.md.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from hpbandster_lite.errors import SearchError
from hpbandster_lite.problems import Problem, load_here
from hpbandster_lite.problems.script_arguments import script_arguments
from hpbandster_lite.problems.shipped_data import require_data
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.frames import END, FrameReader, frames_of, write_frames
from hpbandster_lite.trainer.full_disk import full_disk_at_import
from hpbandster_lite.trainer.messages import (
    TrainerMessage,
    TrainerOrder,
    TrainerPoint,
    TrainerRefused,
    TrainerStopSeen,
)
from hpbandster_lite.trainer.readiness import readiness
from hpbandster_lite.trainer.reporting import CurrentOrder, PointSender, is_readable

READ_BYTES = 65_536

CLOSE_GRACE_S = 1.0


class InProcessHandle:
    """The methods of a trainer's handle about its process, for trainers without a process."""

    poll_every_s = 60.0
    """Every event makes a descriptor readable."""

    def sample(self) -> None:
        """Do nothing: a lack of memory would kill the agent."""

    def had_oom_kill(self) -> bool:
        """False, because a lack of memory would have killed the agent."""
        return False

    def log_tail(self) -> tuple[str, ...]:
        """Empty, because the output is not captured."""
        return ()

    def leftover_processes(self, _has_children: bool) -> list[str]:
        """Empty, because processes are not tracked."""
        return []


class InlineTrainer(InProcessHandle):
    """Evaluates in one background thread, so that heartbeats continue if the interpreter lock allows it.

    Parameters
    ----------
    reference
        Reference of the problem, which is imported here unless ``problem`` is given.
    problem
        The problem itself, for functions without an import path. Default: None.
    arguments
        ``sys.argv`` while the problem is imported; empty for its file alone. Default: empty.

    Attributes
    ----------
    is_ready : bool
        Whether the problem is imported.
    """

    def __init__(self, reference: str, problem: Problem | None = None, arguments: Sequence[str] = ()) -> None:
        self._messages: deque[TrainerMessage] = deque()
        self._wakes, self._wake = os.pipe()
        os.set_blocking(self._wakes, False)
        # For children of the objective, which do not have this process's flag.
        self._stops, self._stop = os.pipe()
        self._orders: queue.SimpleQueue[TrainerOrder | None] = queue.SimpleQueue()
        self._grace = threading.Event()
        self._pid = os.getpid()
        self._reader = FrameReader()
        self._order = CurrentOrder()
        self._is_over = False
        self.is_ready = False
        try:
            read = ""
            if problem is None:
                with script_arguments(reference, arguments) as noted:
                    problem, reference = load_here(reference)
                read = noted.source
            self._problem = problem
            # A download holds the agent up, which has not introduced itself yet.
            require_data(self._problem, lambda: None)
        except SearchError as error:
            self._send(TrainerRefused(message=str(error), no_room_in=full_disk_at_import(error)))
            return
        self.is_ready = True
        self._send(readiness(self._problem, reference, read))
        # A daemon thread: an objective that never returns must not prevent the agent's exit.
        self._thread = threading.Thread(target=self._work, name="inline-trainer", daemon=True)
        self._thread.start()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that become readable when :meth:`receive` has something to do."""
        return () if self._is_over else (self._wakes,)

    def evaluate(self, order: TrainerOrder, _log: str | Path | None) -> None:
        """Start an evaluation; its output is part of the agent's output, and no log is written."""
        if self._grace.is_set():
            self._grace.clear()
            os.read(self._stops, 1)
        self._order.begin()
        self._orders.put(order)

    def ask_to_stop(self) -> None:
        """Ask the objective to stop: ``trial.should_stop`` is True, and its next report interrupts it."""
        if not self._grace.is_set() and not self._is_over:
            self._grace.set()
            os.write(self._stop, END)

    terminate = ask_to_stop

    def receive(self) -> list[TrainerMessage]:
        """The messages since the last call, without waiting."""
        if self._is_over:
            return []
        try:
            written = os.read(self._wakes, READ_BYTES)
        except BlockingIOError:
            return []
        # Children of the objective write their points to the pipe; this process writes only line ends.
        children = TrainerPoint | TrainerStopSeen
        sent = [record for record in self._reader.records(written) if isinstance(record, children)]
        messages = [*sent, *(self._messages.popleft() for _ in range(len(self._messages)))]
        return [message for message in map(self._order.admitted, messages) if message is not None]

    def kill(self) -> None:
        """Abandon the evaluation; the thread ends when the objective returns, or with the agent."""
        self.close()

    def close(self) -> None:
        """End the thread if it is idle."""
        if self._is_over:
            return
        # An objective that still runs is abandoned, and may end when it asks.
        self.ask_to_stop()
        self._is_over = True
        self._orders.put(None)
        if self.is_ready:
            self._thread.join(CLOSE_GRACE_S)
        if not self.is_ready or not self._thread.is_alive():
            for descriptor in (self._wake, self._stop, self._stops):
                os.close(descriptor)
        os.close(self._wakes)

    def _work(self) -> None:
        number = 0
        while (order := self._orders.get()) is not None:
            number += 1
            sender = PointSender(number, self._pass_on, self._is_to_stop, self._wake, self._stops)
            self._send(run_objective(self._problem, order, on_report=sender, must_stop=sender.must_stop))

    def _pass_on(self, record: TrainerPoint | TrainerStopSeen) -> None:
        if os.getpid() != self._pid:
            with contextlib.suppress(OSError):
                write_frames(self._wake, frames_of(record))
        else:
            self._send(record)

    def _is_to_stop(self) -> bool:
        return self._grace.is_set() or (os.getpid() != self._pid and is_readable(self._stops))

    def _send(self, message: TrainerMessage) -> None:
        self._messages.append(message)
        if not self._is_over:
            # The pipe may be closed at the same moment, because an abandoned objective returns late.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._wake, END)
