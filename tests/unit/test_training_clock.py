"""What counts as used budget, and when the clock waits for a device."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.training.clock import BudgetClock, DeviceStopwatch, HostStopwatch, stopwatch_for
from hpbandster_lite.workers.training.schedule import Budget


class Time:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Stream:
    """A device that works ``step_s`` on each step, after the process that feeds it; its events record their times."""

    def __init__(self, step_s: Callable[[int], float]) -> None:
        self._step_s = step_s
        self.recorded = 0
        self.waited_for: list[int] = []

    def event(self) -> Event:
        return Event(self)

    def time_of(self, number: int) -> float:
        """Time in seconds of event ``number``: events come in pairs, and the device works only within a pair."""
        return sum(self._step_s(step) for step in range((number + 1) // 2))


class Event:
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._number = -1

    def record(self) -> None:
        self._number = self._stream.recorded
        self._stream.recorded += 1

    def synchronize(self) -> None:
        self._stream.waited_for.append(self._number)

    def elapsed_time(self, end: Event) -> float:
        assert self._number in range(self._stream.recorded)
        # The time of an event is available only after a wait for it.
        assert end._number in self._stream.waited_for
        return 1_000 * (self._stream.time_of(end._number) - self._stream.time_of(self._number))


def steps(clock: BudgetClock, count: int) -> None:
    for _ in range(count):
        clock.begin()
        clock.end()


# ------------------------------------------------------------------------------------------------------------- seconds


def test_only_training_steps_count() -> None:
    time = Time()
    clock = BudgetClock(Budget(amount=5, unit="seconds"), 10, HostStopwatch(time))
    for _ in range(4):
        time.now += 100  # augmentation, validation
        clock.begin()
        time.now += 1.25
        assert not clock.is_spent()
        clock.end()
    assert clock.is_spent()
    assert (clock.used(), clock.seconds(), clock.epochs()) == (5.0, 5.0, 0.4)


def test_a_continued_clock_goes_on_where_it_stopped() -> None:
    time = Time()
    clock = BudgetClock(Budget(amount=5, unit="seconds"), 10, HostStopwatch(time), steps=7, seconds=4.5)
    assert clock.used() == 4.5
    clock.begin()
    time.now += 0.5
    clock.end()
    assert (clock.is_spent(), clock.steps, clock.epochs()) == (True, 8, 0.8)


@given(every=st.integers(1, 8), count=st.integers(0, 60))
def test_a_device_is_never_waited_for_within_the_last_steps(every: int, count: int) -> None:
    stream = Stream(lambda step: 0.01)
    watch = DeviceStopwatch(stream.event, read_every=every)
    for _ in range(count):
        watch.begin()
        watch.end()
        watch.estimate_s()
        assert all(number < stream.recorded - 2 * every for number in stream.waited_for)
        # At most 2 * every steps, of two events each, are queued beyond the last wait.
        assert stream.recorded - 1 - max(stream.waited_for, default=-1) <= 4 * every
    assert watch.settled_s() == pytest.approx(0.01 * count)


@given(seed=st.integers(0, 1_000), amount=st.floats(0.05, 5))
def test_a_budget_of_seconds_on_a_device_ends_within_the_unread_steps(seed: int, amount: float) -> None:
    def step_s(step: int) -> float:
        return 0.01 + 0.001 * ((step * 7919 + seed) % 13)

    stream = Stream(step_s)
    clock = BudgetClock(Budget(amount=amount, unit="seconds"), 10, DeviceStopwatch(stream.event, read_every=4))
    while not clock.is_spent():
        steps(clock, 1)
    needed = next(count for count in range(10_000) if sum(map(step_s, range(count))) >= amount - 1e-9)
    assert needed <= clock.steps <= needed + 8
    assert clock.used() == clock.seconds() == pytest.approx(sum(map(step_s, range(clock.steps))))


def test_on_a_device_with_even_steps_a_budget_is_met_to_the_step() -> None:
    clock = BudgetClock(Budget(amount=1.0, unit="seconds"), 10, DeviceStopwatch(Stream(lambda step: 0.0625).event))
    while not clock.is_spent():
        steps(clock, 1)
    assert clock.steps == 16


# -------------------------------------------------------------------------------------------------------------- epochs


@given(epochs=st.integers(1, 30), per_epoch=st.integers(1, 500))
def test_whole_epochs_are_met_exactly(epochs: int, per_epoch: int) -> None:
    clock = BudgetClock(Budget(amount=epochs), per_epoch, HostStopwatch(Time()), steps=epochs * per_epoch - 1)
    assert not clock.is_spent()
    steps(clock, 1)
    assert clock.is_spent()
    assert clock.used() == epochs


def test_a_part_of_an_epoch_is_a_number_of_steps_and_never_none() -> None:
    clock = BudgetClock(Budget(amount=1.5), 4, HostStopwatch(Time()))
    steps(clock, 5)
    assert not clock.is_spent()
    steps(clock, 1)
    assert clock.is_spent()
    small = BudgetClock(Budget(amount=0.001), 4, HostStopwatch(Time()))
    assert not small.is_spent()
    steps(small, 1)
    assert small.is_spent()


def test_an_epoch_without_a_step_is_refused() -> None:
    with pytest.raises(UsageError, match="as many examples as a batch"):
        BudgetClock(Budget(amount=1), 0, HostStopwatch(Time()))


def test_a_second_of_processor_time_is_one_that_the_process_worked() -> None:
    wall, processor = stopwatch_for("cpu"), stopwatch_for("cpu", "processor")
    for stopwatch in (wall, processor):
        stopwatch.begin()
    time.sleep(0.2)
    for stopwatch in (wall, processor):
        stopwatch.end()
    assert wall.settled_s() >= 0.2
    assert processor.settled_s() < 0.1


def test_a_gpu_counts_its_own_time_whatever_the_clock() -> None:
    assert isinstance(stopwatch_for("cuda:0", "processor"), DeviceStopwatch)
