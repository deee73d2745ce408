"""A record behaves like a frozen dataclass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any, ClassVar

import pytest

from hpbandster_lite.records import decorator
from hpbandster_lite.records.decorator import maker, record
from tests.unit.test_rooms import REPOSITORY, room_of, sources


def same_classes(decorator: Callable[..., Any]) -> list[type[Any]]:
    """Classes of each form that the package uses, made by the decorator."""

    @decorator(frozen=True, slots=True, kw_only=True)
    class Named:
        """By keyword."""

        constant: ClassVar[int] = 7
        first: int
        second: str = "b"
        many: list[int] = field(default_factory=list)
        choices: tuple[str, ...] = ()

    @decorator(frozen=True, slots=True)
    class Placed:
        """By position."""

        first: int
        second: str = "b"

    @decorator(frozen=True, kw_only=True)
    class Open:
        """With a dict, and a check."""

        first: int
        second: str = "b"

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError(f"first must not be negative, got {self.first}")

    @decorator(frozen=True, slots=True)
    class Empty:
        """Without fields."""

    @decorator(frozen=True, slots=True, kw_only=True)
    class Own:
        """With methods of its own."""

        first: int
        second: int = 0

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self)) and self.first == other.first

        def __hash__(self) -> int:
            return self.first

        def __repr__(self) -> str:
            return "own"

    return [Named, Placed, Open, Empty, Own]


def name_of(cls: type) -> str:
    return cls.__name__


RECORDS, DATACLASSES = same_classes(record), same_classes(dataclass)
GENERATED = same_classes(record)
"""Classes whose ``__init__`` is generated, as after many records of a class."""
for each in GENERATED:
    each.__init__ = decorator._init(each)
PAIRS = pytest.mark.parametrize(
    ("made", "model"),
    list(zip(RECORDS + GENERATED, 2 * DATACLASSES, strict=True)),
    ids=[*map(name_of, RECORDS), *(f"{name_of(each)} generated" for each in GENERATED)],
)
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((), {"first": 1}),
    ((), {"first": 1, "second": "c"}),
    ((1, "c"), {}),
    ((1,), {"first": 1}),
    ((), {"first": -1}),
    ((), {"second": "c"}),
    ((), {"first": 1, "third": 3}),
    ((), {"first": 1, "many": [4], "choices": ("x",)}),
    ((1, 2, 3), {}),
    ((), {"first": None, "second": None}),
]


def outcome(made: type, args: tuple[Any, ...], values: dict[str, Any]) -> tuple[str, ...]:
    """What a call gives: the record's text and fields, or the error."""
    try:
        one = made(*args, **values)
    except (TypeError, ValueError) as error:
        return (type(error).__name__, str(error).replace("same_classes.<locals>.", ""))
    return (repr(one), *(repr(getattr(one, each.name)) for each in fields(made)))


@PAIRS
@pytest.mark.parametrize("call", CALLS, ids=repr)
def test_each_call_gives_the_record_or_the_error_of_a_dataclass(
    made: type, model: type, call: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    assert outcome(made, *call) == outcome(model, *call)


def test_the_first_records_of_a_class_need_no_generated_code() -> None:
    placed = same_classes(record)[1]
    first = placed.__init__
    for number in range(decorator.FEW):
        assert placed(number).first == number
    assert placed.__init__ is first
    assert placed(1, second="c") == placed(first=1, second="c")
    assert placed.__init__ is not first


@PAIRS
def test_it_has_the_fields_and_patterns_of_a_dataclass(made: Any, model: Any) -> None:
    assert [(each.name, each.default, each.kw_only) for each in fields(made)] == [
        (each.name, each.default, each.kw_only) for each in fields(model)
    ]
    for name in ("__match_args__", "__slots__"):
        assert getattr(made, name, None) == getattr(model, name, None)


@pytest.mark.parametrize("made", [each for each in RECORDS if fields(each)], ids=name_of)
def test_equal_records_have_equal_hashes_and_others_differ(made: Any) -> None:
    values = {} if made.__name__ != "Named" else {"many": ()}
    one, same, other = (made(first=first, **values) for first in (1, 1, 2))

    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert {one, same, other} == {one, other}


def test_records_of_two_classes_differ_although_their_values_are_equal() -> None:
    placed, opened = RECORDS[1](1), RECORDS[2](first=1)

    assert placed != opened
    assert placed.__eq__(opened) is NotImplemented


@pytest.mark.parametrize("made", RECORDS, ids=name_of)
@pytest.mark.parametrize("name", ["first", "other"])
def test_no_attribute_can_be_set_or_deleted(made: Any, name: str) -> None:
    one = made(first=1) if fields(made) else made()

    with pytest.raises(FrozenInstanceError, match=rf"cannot assign to field '{name}'"):
        setattr(one, name, 2)
    with pytest.raises(FrozenInstanceError, match=rf"cannot delete field '{name}'"):
        delattr(one, name)


def test_a_default_from_a_factory_is_made_anew_for_each_record() -> None:
    one, other = RECORDS[0](first=1), RECORDS[0](first=1)
    one.many.append(3)

    assert (one.many, other.many) == ([3], [])


def test_a_replaced_record_is_checked_and_keeps_its_other_fields() -> None:
    assert replace(RECORDS[0](first=1, second="c"), first=2) == RECORDS[0](first=2, second="c")
    with pytest.raises(ValueError, match="must not be negative"):
        replace(RECORDS[2](first=1), first=-1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("made", [each for each in RECORDS if fields(each)], ids=name_of)
def test_a_copy_is_equal(made: Any, copied: Callable[[Any], Any]) -> None:
    one = made(first=1)

    assert copied(one) == one
    assert copied(one) is not one


def test_fields_may_have_any_names() -> None:
    @record(frozen=True, slots=True, kw_only=True)
    class Odd:
        """Fields with the names of functions."""

        new: int
        set: int = 2
        cls: list[int] = field(default_factory=list)
        fields: int = 4

    assert Odd(new=1) == maker(Odd)(1, 2, [], 4)


@PAIRS
def test_the_maker_makes_the_same_record(made: Any, model: Any) -> None:
    by_class = made(first=1) if fields(made) else made()
    values = [getattr(by_class, each.name) for each in fields(made)]

    assert maker(made)(*values) == by_class
    assert type(maker(made)(*values)) is made
    assert repr(maker(model)(*values)) == repr(by_class)


def test_the_maker_checks_the_record() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        maker(RECORDS[2])(-1, "b")


def test_every_frozen_class_of_the_package_is_a_record() -> None:
    """A dataclass takes ten times as long to import; shipped problems import larger things."""
    slow = [
        f"{path.relative_to(REPOSITORY)}: {line}"
        for path, place in sources(REPOSITORY)
        if room_of(place) != "workers" and place != ("records", "decorator.py")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith("@dataclass(frozen=True")
    ]

    assert slow == []
