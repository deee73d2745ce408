"""How much of its budget a training has used: seconds of training steps, or epochs by steps.

Law of this file: only the time between :meth:`BudgetClock.begin` and :meth:`BudgetClock.end` counts (zero_grad to
optimizer.step); augmentation, validation and saving do not. The clock never waits for the latest few steps of a device:
a device works behind the process that feeds it, and a clock that read its time after each step would make it idle.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import torch

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.training.schedule import Budget

Clock = Literal["wall", "processor"]

READ_EVERY = 8
"""Steps between two readings of a device. The process runs at most twice as many steps ahead of the device, which is
more than keeps it busy, and bounds how late the end of a budget is noticed."""


class Stopwatch(Protocol):
    """Adds up the time of training steps, in seconds."""

    def begin(self) -> None:
        """A step begins."""

    def end(self) -> None:
        """The step has been sent to the device."""

    def estimate_s(self) -> float:
        """Seconds so far, without waiting for the device."""

    def settled_s(self) -> float:
        """Seconds so far; waits until all steps are done."""


class HostStopwatch:
    """For the CPU, which works while the process waits.

    Parameters
    ----------
    now
        Seconds on any monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._began = 0.0
        self._seconds = 0.0

    def begin(self) -> None:
        """See :class:`Stopwatch`."""
        self._began = self._now()

    def end(self) -> None:
        """See :class:`Stopwatch`."""
        self._seconds += self._now() - self._began

    def estimate_s(self) -> float:
        """See :class:`Stopwatch`."""
        return self._seconds

    def settled_s(self) -> float:
        """See :class:`Stopwatch`."""
        return self._seconds


class DeviceStopwatch:
    """For a GPU: each step has an event before and after it in the GPU's stream, which are read some steps later.

    Parameters
    ----------
    new_event
        Makes an event with ``record()``, ``synchronize()`` and ``elapsed_time(end)`` in milliseconds.
    read_every
        Steps between two readings.
    """

    def __init__(self, new_event: Callable[[], Any] | None = None, read_every: int = READ_EVERY) -> None:
        # blocking: a process that waits for the device leaves its core to other processes, such as another worker.
        self._new_event = new_event or partial(torch.cuda.Event, enable_timing=True, blocking=True)
        self._read_every = read_every
        self._pending: deque[tuple[Any, Any]] = deque()
        self._began: Any = None
        self._read_s = 0.0
        self._step_s = 0.0

    def begin(self) -> None:
        """See :class:`Stopwatch`."""
        self._began = self._new_event()
        self._began.record()

    def end(self) -> None:
        """See :class:`Stopwatch`."""
        ended = self._new_event()
        ended.record()
        self._pending.append((self._began, ended))
        if len(self._pending) >= 2 * self._read_every:
            self._read(self._read_every)

    def estimate_s(self) -> float:
        """The time of all read steps, and for each unread step the mean of those that were read last."""
        return self._read_s + len(self._pending) * self._step_s

    def settled_s(self) -> float:
        """See :class:`Stopwatch`."""
        self._read(len(self._pending))
        return self._read_s

    def _read(self, steps: int) -> None:
        if steps == 0:
            return
        read = 0.0
        for _ in range(steps):
            began, ended = self._pending.popleft()
            ended.synchronize()
            read += began.elapsed_time(ended) / 1_000
        self._read_s += read
        self._step_s = read / steps


def stopwatch_for(device: str, clock: Clock = "wall") -> Stopwatch:
    """The stopwatch that suits a device, ``"cpu"`` or ``"cuda"``.

    Parameters
    ----------
    device
        A GPU counts the time of its own stream, with either clock.
    clock
        What a second is on a CPU: wall time, or processor time, summed over all threads. Processor time is (nearly) the
        same however busy the machine is.
    """
    if device.startswith("cuda"):
        return DeviceStopwatch()
    return HostStopwatch(time.process_time if clock == "processor" else time.perf_counter)


class BudgetClock:
    """Counts steps, and knows when a budget is spent.

    Parameters
    ----------
    budget
        The whole budget.
    steps_per_epoch
        Number of batches of an epoch.
    stopwatch
        Measures the steps.
    steps, seconds
        Those of the checkpoint from which the training continues.
    """

    def __init__(
        self, budget: Budget, steps_per_epoch: int, stopwatch: Stopwatch, *, steps: int = 0, seconds: float = 0.0
    ) -> None:
        if steps_per_epoch < 1:
            raise UsageError(f"an epoch of {steps_per_epoch} steps; give at least as many examples as a batch has")
        self.budget = budget
        self._steps_per_epoch = steps_per_epoch
        self._stopwatch = stopwatch
        self._seconds_before = seconds
        self._steps_before = self.steps = steps
        # At least one: an evaluation without training is of no use.
        self._last_step = max(1, round(budget.amount * steps_per_epoch))

    def begin(self) -> None:
        """A training step begins."""
        self._stopwatch.begin()

    def end(self) -> None:
        """The step has been sent to the device."""
        self._stopwatch.end()
        self.steps += 1

    def used(self) -> float:
        """Budget used so far, in its unit; for seconds on a device an estimate, without waiting for it."""
        if self.budget.unit == "epochs":
            return self.steps / self._steps_per_epoch
        return self._seconds_before + self._stopwatch.estimate_s()

    def is_spent(self) -> bool:
        """Whether the budget is used up; waits for the device only if that is likely."""
        if self.budget.unit == "epochs":
            return self.steps >= self._last_step
        return self.used() >= self.budget.amount and self.seconds() >= self.budget.amount

    def seconds(self) -> float:
        """Seconds of all training steps, those of the checkpoint included; waits until the device has done them."""
        return self._seconds_before + self._stopwatch.settled_s()

    def remaining_s(self) -> float:
        """Remaining seconds; for epochs estimated from the steps of this process, and 0 before its first step."""
        if self.budget.unit == "seconds":
            return max(self.budget.amount - self.used(), 0.0)
        done = self.steps - self._steps_before
        return self._stopwatch.estimate_s() / done * max(self._last_step - self.steps, 0) if done else 0.0

    def epochs(self) -> float:
        """Number of epochs trained, those of the checkpoint included."""
        return self.steps / self._steps_per_epoch
