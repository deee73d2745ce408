"""A trainer without a process: the objective runs in a thread of the agent. For functions that take milliseconds.

Law of this file: the same handle as :class:`~hpbandster_lite.trainer.handle.TrainerHandle`, without its protection:
what crashes the objective crashes the agent, and what hangs cannot be ended. Why a thread, even for microseconds:
docs/decisions/0004-inline-evaluations-in-a-thread.md.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from pathlib import Path

from hpbandster_lite.errors import SearchError
from hpbandster_lite.problems import Problem, described_options, load, name_of, shared_values, source_hash
from hpbandster_lite.records import CurvePoint
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.messages import TrainerMessage, TrainerOrder, TrainerPoint, TrainerReady, TrainerRefused

CLOSE_GRACE_S = 1.0


class InProcessHandle:
    """What a trainer's handle says of a process, where there is none."""

    poll_every_s = 60.0
    """Nothing happens here that is not told."""

    def sample_memory(self) -> None:
        """Nothing to sample: the agent would die of it, too."""

    def had_oom_kill(self) -> bool:
        """False: the agent would have died of it, too."""
        return False

    def log_tail(self) -> tuple[str, ...]:
        """Nothing is captured."""
        return ()

    def leftover_processes(self, has_children: bool) -> list[str]:
        """Nothing is followed."""
        del has_children
        return []


class InlineTrainer(InProcessHandle):
    """Evaluates in one background thread, so that heartbeats go on as far as the interpreter lets them.

    Parameters
    ----------
    reference
        Name of the problem; it is imported here unless ``problem`` is given.
    problem
        The problem itself, for functions that cannot be imported by a name.
    """

    def __init__(self, reference: str, problem: Problem | None = None) -> None:
        self._said: deque[TrainerMessage] = deque()
        self._wakes, self._wake = os.pipe()
        os.set_blocking(self._wakes, False)
        self._orders: queue.SimpleQueue[TrainerOrder | None] = queue.SimpleQueue()
        self._grace = threading.Event()
        self._is_over = False
        self.is_ready = False
        try:
            self._problem = load(reference) if problem is None else problem
        except SearchError as error:
            self._say(TrainerRefused(message=str(error)))
            return
        self.is_ready = True
        options = shared_values(described_options(self._problem, reference))
        self._say(TrainerReady(problem=name_of(reference), source_hash=source_hash(self._problem), options=options))
        # A daemon: an objective that never returns must not keep the agent from ending.
        self._thread = threading.Thread(target=self._work, name="inline-trainer", daemon=True)
        self._thread.start()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when :meth:`receive` has something to do."""
        return () if self._is_over else (self._wakes,)

    def evaluate(self, order: TrainerOrder, log: str | Path | None) -> None:
        """Have an order carried out; what it prints is the agent's own output, and ``log`` is not written."""
        del log
        self._grace.clear()
        self._orders.put(order)

    def ask_to_stop(self) -> None:
        """Begin grace: the objective is interrupted at its next report."""
        self._grace.set()

    terminate = ask_to_stop

    def receive(self) -> list[TrainerMessage]:
        """What the objective has said since, without waiting."""
        if self._is_over:
            return []
        try:
            os.read(self._wakes, 4_096)
        except BlockingIOError:
            return []
        return [self._said.popleft() for _ in range(len(self._said))]

    def kill(self) -> None:
        """Forget it; the thread ends with the agent, if the objective does not come back before."""
        self.close()

    def close(self) -> None:
        """End the thread, if it is idle."""
        if self._is_over:
            return
        self._is_over = True
        self._orders.put(None)
        if self.is_ready:
            self._thread.join(CLOSE_GRACE_S)
        if not self.is_ready or not self._thread.is_alive():
            os.close(self._wake)
        os.close(self._wakes)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            self._say(run_objective(self._problem, order, on_report=self._take_point))

    def _take_point(self, point: CurvePoint) -> bool:
        self._say(TrainerPoint(point=point))
        return self._grace.is_set()

    def _say(self, heard: TrainerMessage) -> None:
        self._said.append(heard)
        if not self._is_over:
            # Closed at this very moment: an objective that had been given up comes back.
            with contextlib.suppress(BrokenPipeError):
                os.write(self._wake, b".")
