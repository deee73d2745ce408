"""Numbers, budgets, times and values as short texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.cli.view.formats import amount, duration, number, rate, value_text
from hpbandster_lite.records import Plain


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.0, "0.0 s"),
        (8.24, "8.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.6, "1 min 00 s"),
        (119.7, "2 min 00 s"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
        (7199.0, "2 h 00 min"),
        (47 * 3600.0, "47 h 00 min"),
        (76 * 3600.0, "3 d 04 h"),
        (71.9 * 3600, "3 d 00 h"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(0, 1e8))
def test_no_part_of_a_duration_is_as_large_as_the_next_unit(seconds: float) -> None:
    parts = duration(seconds).split()
    named = dict(zip(parts[1::2], map(float, parts[::2]), strict=True))
    assert named.get("s", 0) < 60
    assert named.get("min", 0) < 60
    assert named.get("h", 0) < (24 if "d" in named else 48)
    value = sum(part * {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit] for unit, part in named.items())
    assert value == pytest.approx(seconds, rel=0.05, abs=0.051)


@pytest.mark.parametrize(
    ("count", "seconds", "words"),
    [
        (305_000, 1000, "305 a second"),
        (25, 10, "2.5 a second"),
        (10, 60, "10 a minute"),
        (7, 3600 * 2, "3.5 an hour"),
        (5, 0, "-"),
    ],
)
def test_a_rate_has_a_unit_that_gives_at_least_one(count: int, seconds: float, words: str) -> None:
    assert rate(count, seconds) == words


@pytest.mark.parametrize(
    ("budget", "unit", "words"),
    [
        (9.0, "epochs", "9 epochs"),
        (1.0, "epochs", "1 epoch"),
        (1.0, "s", "1 s"),
        (10800.0, "seconds", "10800 seconds"),
        (1234567.0, "samples", "1234567 samples"),
        (0.5, "epochs", "0.5 epochs"),
        (9.0, "budget", "budget 9"),
    ],
)
def test_a_budget_has_its_unit(budget: float, unit: str, words: str) -> None:
    assert amount(budget, unit) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.1234567, "0.123457"),
        (True, "True"),
        (1_000_000, "1000000"),
        ("adam", "adam"),
        ([1, 0.5], "1, 0.5"),
        ((3, (3, 0.5)), "(3, (3, 0.5))"),
        ({"a": 0.25, "b": [1]}, "a=0.25, b=1"),
    ],
)
def test_any_plain_value_is_a_short_text(value: Plain, words: str) -> None:
    assert value_text(value) == words


def test_a_number_is_short_and_none_is_a_dash() -> None:
    assert (number(0.1234567), number(3.0), number(None), number(1234.5, 2)) == ("0.123457", "3", "-", "1.2e+03")
