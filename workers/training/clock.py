"""How much of its budget a training has used: seconds of training steps, or epochs by steps.

Law of this file: only the time between :meth:`BudgetClock.begin` and :meth:`BudgetClock.end` counts (zero_grad to
optimizer.step); augmentation, validation and saving do not. The clock does not wait for the latest steps of a device:
a device works some steps behind the process, and would become idle if the clock read its time after each step.
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
"""Steps between two readings of a device. The process is at most twice this number of steps ahead of the device, which
keeps the device busy and limits the excess over the budget."""


class Stopwatch(Protocol):
    """Adds up the time of training steps, in seconds."""

    def begin(self) -> None:
        """Call this before a step."""

    def end(self) -> None:
        """Call this when the step has been sent to the device."""

    def estimate_s(self) -> float:
        """Estimate of the seconds so far, without a wait for the device."""

    def settled_s(self) -> float:
        """Seconds so far, after a wait until all steps are done."""


class HostStopwatch:
    """The stopwatch for a CPU, on which a step is done when the process continues.

    Parameters
    ----------
    now
        A monotonic clock in seconds. Default: ``time.perf_counter``.
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
    """The stopwatch for a GPU: it records an event before and after each step, and reads both some steps later.

    Parameters
    ----------
    new_event
        Makes an event with ``record()``, ``synchronize()`` and ``elapsed_time(end)`` in milliseconds. Default: a
        ``torch.cuda.Event``.
    read_every
        Steps between two readings. Default: 8.
    """

    def __init__(self, new_event: Callable[[], Any] | None = None, read_every: int = READ_EVERY) -> None:
        # blocking: while a process waits for the device, other processes such as another worker can use its core.
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
        """The time of all read steps, plus the mean time of the last read steps for each unread step."""
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
    """The stopwatch for a device.

    Parameters
    ----------
    device
        ``"cpu"`` or ``"cuda"``. A GPU always counts the time of its stream.
    clock
        The time that counts on a CPU: ``wall`` time (the default), or ``processor`` time, which is the sum over all
        threads and nearly independent of other load on the machine.
    """
    if device.startswith("cuda"):
        return DeviceStopwatch()
    return HostStopwatch(time.process_time if clock == "processor" else time.perf_counter)


class BudgetClock:
    """Counts steps and seconds, and tells when a budget is spent.

    Parameters
    ----------
    budget
        The whole budget.
    steps_per_epoch
        Number of batches of an epoch.
    stopwatch
        Measures the steps.
    steps, seconds
        Steps and seconds of the checkpoint from which the training continues. Default: 0.

    Raises
    ------
    UsageError
        If an epoch has no steps.
    """

    def __init__(
        self, budget: Budget, steps_per_epoch: int, stopwatch: Stopwatch, *, steps: int = 0, seconds: float = 0.0
    ) -> None:
        if steps_per_epoch < 1:
            raise UsageError(
                f"an epoch must have at least one step, got {steps_per_epoch}; give at least as many examples as a "
                "batch has"
            )
        self.budget = budget
        self._steps_per_epoch = steps_per_epoch
        self._stopwatch = stopwatch
        self._seconds_before = seconds
        self._steps_before = self.steps = steps

    def begin(self) -> None:
        """Call this before a training step."""
        self._stopwatch.begin()

    def end(self) -> None:
        """Call this when the step has been sent to the device."""
        self._stopwatch.end()
        self.steps += 1

    def used(self) -> float:
        """Budget used so far, in its unit; seconds on a device are an estimate, without a wait for the device."""
        if self.budget.unit == "epochs":
            return self.steps / self._steps_per_epoch
        return self._seconds_before + self._stopwatch.estimate_s()

    def is_spent(self) -> bool:
        """Whether the budget is used up."""
        return self.has_reached(self.budget.amount)

    def has_reached(self, at: float) -> bool:
        """Whether so much budget is used; this waits for the device only if the estimate says so."""
        if self.budget.unit == "epochs":
            return self.steps >= self.step_at(at)
        return self.used() >= at and self.seconds() >= at

    def had_reached(self, at: float, steps: int, seconds: float) -> bool:
        """Whether so much budget was used after these steps and seconds."""
        return steps >= self.step_at(at) if self.budget.unit == "epochs" else seconds >= at

    def step_at(self, epochs: float) -> int:
        """The step after which so many epochs are done: at least 1, because an untrained network is useless."""
        return max(1, round(epochs * self._steps_per_epoch))

    def seconds(self) -> float:
        """Seconds of all training steps, including those of the checkpoint, after a wait for the device."""
        return self._seconds_before + self._stopwatch.settled_s()

    def remaining_s(self) -> float:
        """Remaining seconds; a budget in epochs estimates them from the steps of this process (0 before the first)."""
        if self.budget.unit == "seconds":
            return max(self.budget.amount - self.used(), 0.0)
        done = self.steps - self._steps_before
        left = max(self.step_at(self.budget.amount) - self.steps, 0)
        return self._stopwatch.estimate_s() / done * left if done else 0.0

    def epochs(self) -> float:
        """Number of trained epochs, including those of the checkpoint."""
        return self.steps / self._steps_per_epoch
