"""Values beside the loss are kept in plain form; a value without one is replaced by a note."""

from __future__ import annotations

import enum
from collections import Counter, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from hpbandster_lite import wire
from hpbandster_lite.problems.plain_forms import NOT_KEPT, plain_forms

LIMIT = 10_000


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


@dataclass
class Shape:
    width: int
    place: Path


Pair = namedtuple("Pair", "a b")


class Tensor:
    """The part of torch's tensor that has an obvious plain form."""

    def __init__(self, *values: float, shape: tuple[int, ...] | None = None) -> None:
        self._values = values
        self.shape = (len(values),) if shape is None else shape

    def item(self) -> float:
        (value,) = self._values
        return value

    def tolist(self) -> list[float]:
        return list(self._values)


class Raising:
    """A value whose special methods raise."""

    def __fspath__(self) -> str:
        raise ValueError("no path")

    def __repr__(self) -> str:
        raise ValueError("no text")


class Lazy(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise OSError("the file is gone")

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


def form(value: object) -> Any:
    (found,) = plain_forms({"x": value}, "info", LIMIT).values()
    assert wire.decode(wire.encode(found)) == found or found != found
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Tensor(0.5, shape=()), 0.5),
        (Tensor(1.0, 2.0), [1.0, 2.0]),
        (Path("/data/x"), "/data/x"),
        (PurePosixPath("x"), "x"),
        (datetime(2020, 1, 2, 3, 4, tzinfo=timezone.utc), "2020-01-02T03:04:00+00:00"),
        (date(2020, 1, 2), "2020-01-02"),
        (timedelta(minutes=1), 60.0),
        (pd.Timestamp("2020-01-02"), "2020-01-02T00:00:00"),
        (np.datetime64("2020-01-02"), "2020-01-02"),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.array(["2020-01-02"], "datetime64[D]"), ["2020-01-02"]),
        (Colour.RED, "red"),
        (Colour.PAIR, "PAIR"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({Path("b"), Path("a")}, ["a", "b"]),
        ({1, "a", None}, [None, 1, "a"]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (Pair(1, 2), [1, 2]),
        (Counter("aab"), {"a": 2, "b": 1}),
        (Shape(3, Path("w")), {"width": 3, "place": "w"}),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 2), 0.5),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.float32(0.25), 0.25),
        (np.longdouble(0.25), 0.25),
        (np.array([1, 2]), [1, 2]),
        (np.array([Path("a"), 1], object), ["a", 1]),
        ([{"deep": {Path("a")}}], [{"deep": ["a"]}]),
        ({Path("a"): 1, True: 2, (1, 2): 3, None: 4, 5: 6}, {"a": 1, "True": 2, "(1, 2)": 3, "None": 4, 5: 6}),
    ],
    ids=map(str, count()),
)
def test_an_obvious_plain_form_is_kept(value: object, expected: object) -> None:
    found = form(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "info['x'] is an object"),
        ([1, {"model": object()}], "info['x'][1]['model'] is an object"),
        (pd.DataFrame({"a": [1]}), "info['x'] is a pandas."),
        (pd.Series([1]), "info['x'] is a pandas."),
        (b"bytes", "info['x'] is a bytes"),
        (1 + 2j, "info['x'] is a complex"),
        (np.array([1j]), "info['x'] is a numpy.ndarray of complex128"),
        (len, "info['x'] is a builtin_function_or_method"),
        ((n for n in range(3)), "info['x'] is a generator"),
        (Raising(), "ValueError: no path"),
        (Lazy(), "OSError: the file is gone"),
        (Tensor(1.0, 2.0, shape=()), "ValueError"),
        (1 << 20_000, "an int of 20,001 bits"),
        ("x" * 2 * LIMIT, f"info['x'] is {2 * LIMIT + 2:,} bytes long; the limit is"),
        (np.zeros(LIMIT), "too many entries"),
        (range(10**12), "too many entries"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_plain_form_leaves_a_note_with_path_and_reason(value: object, words: str) -> None:
    texts = str(form(value))
    assert NOT_KEPT in texts
    assert words in texts


def test_values_beside_a_refused_one_are_kept() -> None:
    found = plain_forms({"a": 1, "b": object(), "c": [1, object(), 3]}, "info", LIMIT)
    assert (found["a"], found["c"][0], found["c"][2]) == (1, 1, 3)


def test_keys_that_become_the_same_text_are_both_kept() -> None:
    found = plain_forms({1: "int", "1": "text", 1.5: {True: "yes", "True": "text"}}, "info", LIMIT)
    assert found == {"1": "int", "1 (2)": "text", "1.5": {"True": "yes", "True (2)": "text"}}


def test_only_the_largest_part_leaves_a_note_in_its_own_place() -> None:
    found = plain_forms({"a": 1, "deep": [{"log": "x" * 20_000_000, "name": "n"}], "b": "y" * 5_000}, "info", LIMIT)
    assert (found["a"], found["deep"][0]["name"], found["b"]) == (1, "n", "y" * 5_000)
    assert found["deep"][0]["log"].startswith("not kept: info['deep'][0]['log'] is 20,000,002 bytes long")


def test_many_small_parts_that_are_too_large_together_leave_one_note() -> None:
    found = plain_forms({"history": [0.5] * 4_000, "a": 1}, "info", LIMIT)
    assert found["a"] == 1
    assert "info['history'] is 16,001 bytes long" in found["history"]
    assert list(plain_forms({str(n): n for n in range(4_000)}, "info", LIMIT)) == ["info"]


def test_a_value_that_contains_itself_ends_in_a_note() -> None:
    looped: list[Any] = [1]
    looped.append(looped)
    assert "contains itself" in str(form(looped))
    branching: list[Any] = []
    branching += [branching, branching]
    assert "too many entries" in form(branching)


def test_torch_tensors_are_numbers_and_lists() -> None:
    torch = pytest.importorskip("torch")
    assert form(torch.tensor(0.5, requires_grad=True)) == 0.5
    assert form(torch.tensor(0.5, dtype=torch.bfloat16)) == 0.5
    assert form(torch.arange(3)) == [0, 1, 2]
    assert "torch.nn.Module" in form(torch.nn.Linear(1, 1))
    assert NOT_KEPT in form(torch.empty(2, device="meta"))


class Endless(list[int]):
    def __iter__(self) -> Iterator[int]:
        return count()


def test_a_container_without_an_end_leaves_a_note() -> None:
    note = "not kept: info['a'] has too many entries for its limit of 1,000 bytes"
    assert plain_forms({"a": Endless([1])}, "info", 1_000) == {"a": note}


def test_the_place_of_a_plain_number_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ``info`` with a million numbers would take half a minute."""
    monkeypatch.setattr("hpbandster_lite.problems.plain_forms._shown", lambda key: pytest.fail(f"named {key}"))
    values: dict[str, object] = {"a": 1, "b": 2.5, "c": None, "d": True}
    assert plain_forms(values, "info", 1_000) == values
    note = "not kept: info is 33 bytes long; the limit is 8: write it to a file in trial.directory"
    assert plain_forms(values, "info", 8) == {"info": note}
