"""When to retry, and the limits of a server."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import UsageError
from hpbandster_lite.transport import Bounds, Retry


@given(
    attempt=st.integers(0, 10**9),
    seed=st.integers(0, 2**32 - 1),
    first_s=st.floats(0.001, 10),
    factor=st.floats(1, 1e6),
    growth=st.floats(1, 1e6),
)
def test_a_delay_is_between_half_the_first_and_the_longest(
    attempt: int, seed: int, first_s: float, factor: float, growth: float
) -> None:
    retry = Retry(first_s=first_s, factor=factor, longest_s=first_s * growth)
    assert 0.5 * first_s <= retry.delay_s(attempt, np.random.default_rng(seed)) <= first_s * growth


class NoJitter:
    def random(self) -> float:
        return 0.0


def test_delays_double_up_to_the_longest() -> None:
    retry = Retry(first_s=0.1, factor=2, longest_s=1.0)
    assert [retry.delay_s(attempt, NoJitter()) for attempt in range(1, 7)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    )


def test_agents_that_lost_the_same_master_do_not_come_back_together() -> None:
    delays = {Retry().delay_s(3, random.Random(seed)) for seed in range(100)}
    assert len(delays) == 100


def test_what_the_other_side_asked_for_comes_on_top() -> None:
    assert Retry(first_s=0.1).delay_s(1, NoJitter(), at_least_s=5.0) == pytest.approx(5.1)


@pytest.mark.parametrize(
    "wrong", [{"first_s": 0.0}, {"first_s": 2.0, "longest_s": 1.0}, {"factor": 0.5}, {"factor": float("nan")}]
)
def test_delays_that_do_not_grow_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="first_s"):
        Retry(**wrong)


@pytest.mark.parametrize("name", ["greeting_s", "message_s", "message_bytes", "unread_bytes", "connections", "busy_s"])
def test_a_bound_of_zero_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Bounds(**{name: 0})
