"""How much of its budget a training has used: seconds of training steps, or epochs by steps.

Law of this file: only what lies between :meth:`BudgetClock.begin` and :meth:`BudgetClock.end` counts (zero_grad to
optimizer.step); augmentation, validation and saving do not. A device is never waited for within the last few steps: it
works behind the process that feeds it, and a clock that asked it for the time after each step would make it idle.
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
"""Steps between two readings of a device. It is fed at most twice as many steps ahead of those that it has done, which
is more than it needs to be kept busy and bounds how late a budget's end is seen."""


class Stopwatch(Protocol):
    """Adds up the time of training steps, in seconds."""

    def begin(self) -> None:
        """A step begins."""

    def end(self) -> None:
        """The step has been given to the device."""

    def estimate_s(self) -> float:
        """Seconds so far, without waiting for anything."""

    def settled_s(self) -> float:
        """Seconds so far, once all steps are done."""


class HostStopwatch:
    """For a device that works while the process waits, the CPU.

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
    """For a GPU: each step lies between two events of its stream, which are read when they are long over.

    Parameters
    ----------
    new_event
        Makes an event with ``record()``, ``synchronize()`` and ``elapsed_time(end)`` in milliseconds.
    read_every
        Steps between two readings.
    """

    def __init__(self, new_event: Callable[[], Any] | None = None, read_every: int = READ_EVERY) -> None:
        # blocking: whoever waits for the device leaves its core to others, for example to another worker.
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
        """What has been read, and for each step that has not, the mean of those that were read last."""
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
        A GPU counts the time of its own stream, whatever the clock.
    clock
        What a second is on a CPU: one of the wall clock, or one of processor time, that of all threads added up. The
        latter is (nearly) the same however busy others keep the machine.
    """
    if device.startswith("cuda"):
        return DeviceStopwatch()
    return HostStopwatch(time.process_time if clock == "processor" else time.perf_counter)


class BudgetClock:
    """Counts steps, and says when a budget is spent.

    Parameters
    ----------
    budget
        The whole.
    steps_per_epoch
        Batches that an epoch has.
    stopwatch
        Measures the steps.
    steps, seconds
        What was used before, by whoever left the checkpoint.
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
        # At least one: an evaluation that trained nothing would say nothing.
        self._last_step = max(1, round(budget.amount * steps_per_epoch))

    def begin(self) -> None:
        """A training step begins."""
        self._stopwatch.begin()

    def end(self) -> None:
        """It has been given to the device."""
        self._stopwatch.end()
        self.steps += 1

    def used(self) -> float:
        """Budget used so far, in its unit; for seconds on a device an estimate, which waits for nothing."""
        if self.budget.unit == "epochs":
            return self.steps / self._steps_per_epoch
        return self._seconds_before + self._stopwatch.estimate_s()

    def is_spent(self) -> bool:
        """Whether the training is over. It waits for the device only when that is likely."""
        if self.budget.unit == "epochs":
            return self.steps >= self._last_step
        return self.used() >= self.budget.amount and self.seconds() >= self.budget.amount

    def seconds(self) -> float:
        """Seconds of training steps in all, those of the checkpoint included; waits until the device has done them."""
        return self._seconds_before + self._stopwatch.settled_s()

    def remaining_s(self) -> float:
        """Seconds that are left, for epochs judged by the steps of this process; 0 while there are none to judge by."""
        if self.budget.unit == "seconds":
            return max(self.budget.amount - self.used(), 0.0)
        done = self.steps - self._steps_before
        return self._stopwatch.estimate_s() / done * max(self._last_step - self.steps, 0) if done else 0.0

    def epochs(self) -> float:
        """Epochs trained in all."""
        return self.steps / self._steps_per_epoch
