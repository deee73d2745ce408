"""Values that cross a process arrive unchanged, or are refused by name."""

from __future__ import annotations

import contextlib
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, make_dataclass
from enum import Enum, IntEnum
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpbandster_lite import records, wire
from hpbandster_lite.errors import InvariantBroken, NotPlain, ProtocolMismatch
from hpbandster_lite.records import (
    ConfigId,
    CurvePoint,
    EvaluationId,
    Failure,
    FailureKind,
    Leased,
    Limits,
    Outcome,
    Plain,
    Recorded,
    Report,
)
from hpbandster_lite.wire import messages
from hpbandster_lite.wire.text import shortened

any_text = st.text(alphabet=st.characters(), max_size=8)
"""Including lone surrogates."""
keys = any_text | st.sampled_from(["$float", "$dict", "$", "type"]) | st.integers()
atoms = st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.integers(2**100, 2**101)
plain_values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def same(left: Plain, right: Plain) -> bool:
    """Equal, of the same types, with NaN equal to NaN and 0.0 apart from -0.0."""
    return repr(left) == repr(right)


# ------------------------------------------------------------------------------------------------------------- text


@given(plain_values)
@example(float("nan"))
@example({"a": [float("inf"), -float("inf"), -0.0]})
@example("\ud800")
@example({1: "integer", "1": "string"})
@example({"$float": "nan"})
@example(-(2**wire.MAX_INT_BITS - 1))
def test_a_plain_value_comes_back_from_its_text_as_it_was(value: Plain) -> None:
    assert same(wire.decode(wire.encode(value)), wire.plain(value))


@given(plain_values)
def test_a_plain_value_is_its_own_plain_copy(value: Plain) -> None:
    once = wire.plain(value)

    assert same(wire.plain(once), once)


@given(plain_values)
def test_a_text_is_strict_ascii_json_of_one_line(value: Plain) -> None:
    text = wire.encode(value)

    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert text.isascii()
    assert "\n" not in text


@given(plain_values)
def test_reading_a_text_and_writing_it_again_gives_the_same_text(value: Plain) -> None:
    text = wire.encode(value)

    assert wire.encode(wire.decode(text)) == text


def test_two_surrogates_that_form_a_character_become_it() -> None:
    assert wire.plain("\ud83d\ude00") == wire.decode(wire.encode("\ud83d\ude00")) == "\U0001f600"


def test_a_plain_copy_shares_nothing_with_the_value() -> None:
    info: dict[str, list[int]] = {"a": [1]}
    copy = wire.plain(info)
    info["a"].append(2)

    assert copy == {"a": [1]}


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda some: some.decode("latin-1")))
@example("")
@example("NaN")
@example("[1e5, Infinity]")
@example('{"$float":"1.5"}')
@example('{"$float":["nan"]}')
@example('{"$dict":[[1]]}')
@example('{"$dict":[[1.5,2]]}')
@example('{"$dict":[[true,2]]}')
@example('{"$other":1}')
@example('{"$float":"nan","b":1}')
@example("1" * 5_000)
@example("[" * 100_000)
def test_any_text_is_refused_or_read_as_what_can_be_written_again(text: str) -> None:
    with contextlib.suppress(ProtocolMismatch):
        value = wire.decode(text)

        assert same(wire.decode(wire.encode(value)), value)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        '{"$float":"1.5"}',
        '{"$dict":[[1]]}',
        '{"$dict":[[1.5,2]]}',
        '{"$dict":[[true,2]]}',
        '{"$other":1}',
        '{"$float":"nan","b":1}',
        "[" * 100_000,
        "1" * 5_000,
    ],
    ids=shortened,
)
def test_what_encode_never_writes_is_refused(text: str) -> None:
    with pytest.raises(ProtocolMismatch, match="malformed"):
        wire.decode(text)


# ------------------------------------------------------------------------------------------------------------ limits


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_a_message_may_be_nested_as_deep_as_the_limit_and_no_deeper() -> None:
    deepest = nested(wire.MAX_MESSAGE_DEPTH)

    assert wire.decode(wire.encode(deepest)) == deepest
    with pytest.raises(NotPlain, match="too deep"):
        wire.encode([deepest])
    with pytest.raises(ProtocolMismatch, match="deeper than 64"):
        wire.decode(json.dumps([deepest]))


def test_a_value_leaves_room_for_the_message_around_it() -> None:
    deepest = nested(wire.MAX_VALUE_DEPTH)
    outcome = Outcome(loss=1.0, info={"deep": wire.plain(deepest)})
    report = Report(evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, outcome=outcome)
    message = {"report": wire.to_message(report)}

    assert wire.decode(wire.encode(message)) == message
    with pytest.raises(NotPlain, match="too deep"):
        wire.plain([deepest])


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(NotPlain, match=r"^info\[0\].*contains itself"):
        wire.plain(loop, "info")


def test_an_info_of_20_megabytes_is_refused_by_name_and_size() -> None:
    info = {"accuracy": 0.5, "weights": {"layer": ["0123456789" * 100_000] * 20}}

    part = r"\(info\['weights'\]\['layer'\] alone is 20,[\d,]+ bytes\)"
    with pytest.raises(NotPlain, match=rf"info is 20,[\d,]+ bytes long {part}; the limit is 8,388,608: .*file"):
        wire.plain_within(info, "info")


def test_a_message_of_just_the_limit_passes_and_a_byte_more_does_not() -> None:
    text = wire.encode("a" * 98, limit_bytes=100)

    assert wire.decode(text, limit_bytes=100) == "a" * 98
    with pytest.raises(NotPlain, match="message is 101 bytes long; the limit is 100"):
        wire.encode("a" * 99, limit_bytes=100)
    with pytest.raises(ProtocolMismatch, match="101 bytes was refused; the limit is 100"):
        wire.decode(text + " ", limit_bytes=100)


def test_without_a_limit_any_size_passes() -> None:
    text = "a" * (wire.MAX_MESSAGE_BYTES + 1)

    assert wire.decode(wire.encode(text, limit_bytes=None), limit_bytes=None) == text


# ------------------------------------------------------------------------------------------------------ plain values


class Size(IntEnum):
    SMALL = 3


class Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


class Colour(Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float16("nan"), math.nan),
        (np.longdouble(0.5), 0.5),
        (np.longdouble("1e4000"), math.inf),
        (np.int64(7), 7),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.array(2.5, dtype=np.float32), 2.5),
        (np.array(3), 3),
        (np.arange(4, dtype=np.int8).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.zeros((0, 3)), []),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([1, "a", None, np.int8(3)], dtype=object), [1, "a", None, 3]),
        ((1, (2, 3)), [1, [2, 3]]),
        (Pair(1, "b"), [1, "b"]),
        ({np.int64(4): 1, 5: 2, np.str_("six"): 3}, {4: 1, 5: 2, "six": 3}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (Size.SMALL, 3),
        (Word("this"), "this"),
        (FailureKind.CODE, "code"),
    ],
    ids=lambda value: f"{type(value).__name__}-{value}",
)
def test_a_value_with_one_plain_form_takes_it(value: object, expected: Plain) -> None:
    copy = wire.plain(value)

    assert same(copy, expected)
    assert same(wire.decode(wire.encode(copy)), expected)
    assert same(wire.decode(wire.encode(value)), expected)


class Model:
    """Represents any value that a user may return by mistake."""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"model": Model()}, r"^info\['model'\] is a .*Model: return plain numbers, strings, lists or dicts$"),
        ({"a": [1, {"b": {2}}]}, r"^info\['a'\]\[1\]\['b'\] is a set: .*; sorted\(\) makes it a list$"),
        ({"raw": b"x"}, r"^info\['raw'\] is a bytes: .*\.hex\(\)"),
        ({3: 1j}, r"^info\[3\] is a complex: "),
        ({"n": [-(10**5000)]}, r"^info\['n'\]\[0\] is an int of 16,610 bits; the limit is 14,280"),
        ({10**5000: 1}, r"^info is an int of 16,610 bits"),
        ({"a": np.zeros(2, complex)}, r"^info\['a'\] is a numpy\.ndarray of complex128: "),
        ({"a": np.datetime64("2020-01-01")}, r"^info\['a'\] is a numpy\.datetime64 of "),
        ({"a": np.array([None, Model()])}, r"^info\['a'\]\[1\] is a .*Model: "),
        ({"a": memoryview(b"")}, r"^info\['a'\] is a memoryview: .*; \.tolist\(\) converts it$"),
        ({"c": Colour.RED}, r"^info\['c'\] is a .*Colour: .*; its \.value may be plain$"),
        ({1.5: 2}, r"^info has the key 1\.5, a float: use strings or integers as keys"),
        ({"a": {True: 2}}, r"^info\['a'\] has the key True, a bool: "),
        ({"a": {(1, 2): 2}}, r"^info\['a'\] has the key \(1, 2\), a tuple: "),
        (len, r"^info is a builtin_function_or_method: "),
    ],
)
def test_anything_else_is_refused_by_name_and_path(value: object, words: str) -> None:
    with pytest.raises(NotPlain, match=words):
        wire.plain(value, "info")
    with pytest.raises(NotPlain, match=words):
        wire.encode(value, "info")


def test_a_network_is_refused_by_the_name_that_its_author_knows() -> None:
    module = type("Module", (), {"__module__": "torch.nn.modules.module"})
    network = type("Net", (module,), {"__module__": "__main__"})

    with pytest.raises(NotPlain) as caught:
        wire.plain({"model": network()}, "info")
    assert str(caught.value) == "info['model'] is a torch.nn.Module: return plain numbers, strings, lists or dicts"


def test_an_integer_of_one_bit_too_many_is_refused() -> None:
    largest = 2**wire.MAX_INT_BITS - 1

    assert wire.decode(wire.encode(wire.plain(-largest))) == -largest
    with pytest.raises(NotPlain, match="14,281 bits"):
        wire.plain(largest + 1)


def test_a_long_path_is_shortened_in_the_middle() -> None:
    value: Any = Model()
    for _ in range(20):
        value = [value]

    with pytest.raises(NotPlain, match=r"^info\[0\]\[0\]\[0\]\[0\]\.\.\.\[0\]\[0\]\[0\]\[0\] is a"):
        wire.plain(value, "info")


# ----------------------------------------------------------------------------------------------------------- records

all_records = [cls for cls in vars(records).values() if is_dataclass(cls) and isinstance(cls, type)]
finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers()


def instances_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field with this annotation."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in simple:
        return simple[hint]
    if origin in (Union, UnionType):
        return st.one_of([instances_of(arg) for arg in args])
    if origin is list:
        return st.lists(instances_of(args[0]), max_size=3)
    if origin is tuple:
        return st.lists(instances_of(args[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(keys if args[1] is Any else any_text, instances_of(args[1]), max_size=3)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    hints = get_type_hints(hint)
    if hint is Outcome:
        fields_of = {name: instances_of(hints[name]) for name in ("info", "curve", "duration_s", "directory")}
        good = st.builds(Outcome, loss=finite, **fields_of)
        return good | st.builds(Outcome, failure=instances_of(Failure), **fields_of)
    return st.builds(hint, **{name: instances_of(inner) for name, inner in hints.items()})


simple: dict[Any, st.SearchStrategy[Any]] = {
    Any: plain_values,
    NoneType: st.none(),
    bool: st.booleans(),
    int: st.integers(0, 9),
    float: st.floats(min_value=0, exclude_min=True),
    str: any_text,
    Limits: st.builds(Limits, brackets=st.none() | st.integers(1, 9), target_loss=st.none() | finite),
}


@pytest.mark.parametrize("cls", all_records, ids=lambda cls: cls.__name__)
@settings(max_examples=30)
@given(data=st.data())
def test_a_record_comes_back_from_its_message_as_it_was(cls: type, data: st.DataObject) -> None:
    record = data.draw(instances_of(cls))
    message = wire.to_message(record)
    returned: Any = wire.from_message(wire.decode(wire.encode(message)), cls)

    assert same(returned, wire.from_message(message))
    assert same(wire.to_message(returned), wire.plain(message))
    assert type(returned) is cls
    # Later records of a class are written and read by generated functions.
    assert wire.encode(messages._tagged_writer(cls, is_generated=True)(record)) == wire.encode(message)
    assert same(messages._reader(cls, is_generated=True)(message), returned)


@pytest.fixture(params=[0, 20], ids=["generated", "by fields"])
def _few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are read and written by generated functions from the first one, or by fields."""
    monkeypatch.setattr(messages, "FEW", request.param)
    monkeypatch.setattr(messages, "_readers", messages._OnDemand(messages._reader))
    monkeypatch.setattr(messages, "_tagged_writers", messages._OnDemand(messages._tagged_writer))


def test_functions_are_generated_for_a_class_of_which_there_are_many_records(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in (("_readers", messages._reader), ("_tagged_writers", messages._tagged_writer)):
        monkeypatch.setattr(messages, name, messages._OnDemand(make))
    record = Limits(brackets=3)
    for _ in range(messages.FEW):
        assert wire.from_message(wire.to_message(record)) == record
    slow = messages._readers[Limits], messages._tagged_writers[Limits]
    assert wire.from_message(wire.to_message(record)) == record
    quick = messages._readers[Limits], messages._tagged_writers[Limits]
    assert quick == (
        messages._reader(Limits, is_generated=True),
        messages._tagged_writer(Limits, is_generated=True),
    )
    assert not set(quick) & set(slow)


def test_a_record_with_everything_in_it_is_equal_to_its_copy() -> None:
    failure = Failure(kind=FailureKind.MEMORY, reason="out of memory", traceback="line", log_tail=("a", "\udcff"))
    record = Recorded(
        evaluation=EvaluationId(ConfigId(3, 1, 4), 1),
        attempt=2,
        agent="host-7",
        outcome=Outcome(
            failure=failure,
            info={"a": {1: [2.5]}},
            curve=(CurvePoint(1, 0.5, {"lr": 0.1}), CurvePoint(2.0, 0.25)),
            duration_s=3.5,
        ),
    )
    returned = wire.from_message(wire.decode(wire.encode(wire.to_message(record))), Recorded)

    assert returned == record
    assert isinstance(returned.evaluation.config_id, ConfigId)
    assert isinstance(returned.outcome.curve[0], CurvePoint)
    assert returned.outcome.failure is not None
    assert returned.outcome.failure.kind is FailureKind.MEMORY


def test_every_entry_of_the_journal_is_registered() -> None:
    assert set(get_args(records.Entry)) <= set(all_records)


def test_a_field_that_is_not_plain_is_refused_under_its_own_name() -> None:
    with pytest.raises(NotPlain, match=r"^info\['model'\] is a .*Model"):
        wire.to_message(Outcome(loss=1.0, info={"model": Model()}))


def test_numpy_numbers_in_a_record_become_plain_ones() -> None:
    message = wire.to_message(Outcome(loss=np.float32(0.5)))  # type: ignore[arg-type]  # what a careless objective returns

    assert type(message["loss"]) is float


leased: dict[Any, Plain] = wire.to_message(
    Leased(evaluation=EvaluationId(ConfigId(0, 0, 1), 0), attempt=1, agent="a", request=1)
)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("text", "expected a record, got"),
        ({}, "expected a record"),
        ({"type": "Unknown"}, "expected a record, got .*Unknown"),
        ({"type": ["Leased"]}, "expected a record"),
        ({**leased, "extra": 1}, "Leased with the unknown field 'extra'"),
        ({**leased, 5: 1, "extra": 1}, "Leased with the unknown field"),
        ({key: value for key, value in leased.items() if key != "agent"}, "Leased without 'agent'"),
        ({**leased, "agent": 5}, r"Leased\.agent: expected str, got '5'"),
        ({**leased, "attempt": True}, r"Leased\.attempt: expected int, got 'True'"),
        ({**leased, "attempt": 1.0}, r"Leased\.attempt: expected int"),
        ({**leased, "evaluation": None}, r"Leased\.evaluation: expected a list"),
        ({**leased, "evaluation": [[0, 0], 0]}, r"Leased\.evaluation: expected 3 items"),
        ({**leased, "evaluation": [[0, 0, 0], 0, 0]}, r"Leased\.evaluation: expected 2 items"),
        ({"type": "Outcome", "loss": "low"}, r"Outcome\.loss: expected float or None, got"),
        ({"type": "Outcome", "loss": 1.0, "info": []}, r"Outcome\.info: expected an object"),
        ({"type": "Outcome", "loss": 1.0, "curve": {}}, r"Outcome\.curve: expected a list"),
        ({"type": "Outcome"}, "Outcome was refused: give either a loss or a failure"),
        ({"type": "Outcome", "loss": math.inf}, "Outcome was refused: a loss must be finite"),
        ({"type": "Outcome", "loss": 10**400}, "Outcome was refused: int too large"),
        ({"type": "Outcome", "failure": 3}, "expected a Failure, got"),
        ({"type": "Failure", "kind": "bad luck", "reason": ""}, r"Failure\.kind: 'bad luck' is not a valid"),
        ({"type": "Failure", "kind": ["code"], "reason": ""}, r"Failure\.kind"),
        ({"type": "Limits", "brackets": 0}, "Limits was refused: brackets must be above zero"),
        ({"type": "Proposal", "values": {1: 2}, "vector": [], "origin": "random"}, "expected strings"),
    ],
)
@pytest.mark.usefixtures("_few")
def test_a_message_that_is_no_record_is_refused_by_field(message: Plain, words: str) -> None:
    with pytest.raises(ProtocolMismatch, match=words):
        wire.from_message(message)


def test_a_record_of_another_class_than_the_wanted_one_is_refused() -> None:
    with pytest.raises(ProtocolMismatch, match="expected a Report, got"):
        wire.from_message(leased, Report)


@pytest.mark.usefixtures("_few")
def test_a_field_that_a_message_lacks_takes_its_default() -> None:
    assert wire.from_message({"type": "Limits", "brackets": 4}) == Limits(brackets=4)


# ------------------------------------------------------------------------------------------------------ registration


@wire.register("Cat")
@dataclass(frozen=True, slots=True, kw_only=True)
class Cat:
    lives: int = 9


@wire.register("Dog")
@dataclass(frozen=True, slots=True, kw_only=True)
class Dog:
    name: str


@wire.register("Zoo")
@dataclass(frozen=True, slots=True, kw_only=True)
class Zoo:
    first: Cat | Dog
    second: Cat | Dog | None = None
    named: Mapping[str, Dog] = field(default_factory=dict)
    sizes: Mapping[str, float] = field(default_factory=dict)
    place: tuple[float, str] = (0.0, "")
    mode: Literal["open", "closed"] = "open"
    many: tuple[Cat, ...] = ()


def test_classes_of_other_rooms_travel_with_unions_and_literals() -> None:
    zoo = Zoo(
        first=Dog(name="Rex"),
        second=Cat(),
        named={"a": Dog(name="Bo")},
        sizes={"a": 1.5},
        place=(1.5, "b"),
        mode="closed",
        many=(Cat(lives=1),),
    )

    assert wire.from_message(wire.decode(wire.encode(wire.to_message(zoo))), Zoo) == zoo
    assert wire.from_message(wire.to_message(Zoo(first=Cat())), Zoo) == Zoo(first=Cat())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "ajar"}, r"Zoo\.mode: expected one of \('open', 'closed'\)"),
        ({"first": leased}, r"Zoo\.first: expected one of \['Cat', 'Dog'\], got 'Leased'"),
        ({"sizes": {3: 1.0}}, r"Zoo\.sizes: expected strings as keys"),
        ({"sizes": {"a": "b"}}, r"Zoo\.sizes: expected float"),
        ({"place": [1.0]}, r"Zoo\.place: expected 2 items"),
    ],
)
@pytest.mark.usefixtures("_few")
def test_fields_of_other_rooms_are_checked_too(change: dict[str, Plain], words: str) -> None:
    with pytest.raises(ProtocolMismatch, match=words):
        wire.from_message({**wire.to_message(Zoo(first=Cat())), **change})


def test_a_class_that_was_not_registered_does_not_travel() -> None:
    with pytest.raises(InvariantBroken, match=r"Model.*wire\.register"):
        wire.to_message(Model())


def test_registering_a_class_again_changes_nothing() -> None:
    assert wire.register("Cat")(Cat) is Cat


@dataclass
class Lone:
    size: int = 0


@pytest.mark.parametrize("tag", [Lone, "", None])
def test_a_record_without_a_fixed_tag_is_refused(tag: Any) -> None:
    with pytest.raises(InvariantBroken, match=r"requires a fixed tag.*wire\.register\('Tag'\)"):
        wire.register(tag)


def test_two_classes_of_one_tag_are_refused() -> None:
    with pytest.raises(InvariantBroken, match="tag 'Report'"):
        wire.register("Report")(Lone)


def test_one_class_of_two_tags_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="tag 'Kitten'"):
        wire.register("Kitten")(Cat)


@wire.register("Old", fields_of={"new_name": "old_name"})
@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    new_name: int
    other: int = 0


@pytest.mark.usefixtures("_few")
def test_a_class_and_an_attribute_can_be_renamed_and_their_messages_stay_as_they_were() -> None:
    message = {"type": "Old", "old_name": 3, "other": 4}

    assert wire.to_message(New(new_name=3, other=4)) == message
    assert wire.from_message(message) == New(new_name=3, other=4)
    with pytest.raises(ProtocolMismatch, match="a Old without 'old_name'"):
        wire.from_message({"type": "Old", "other": 4})
    with pytest.raises(ProtocolMismatch, match=r"Old\.old_name: expected int"):
        wire.from_message({"type": "Old", "old_name": "three"})
    with pytest.raises(ProtocolMismatch, match="unknown field 'new_name'"):
        wire.from_message({"type": "Old", "old_name": 3, "new_name": 4})


@pytest.mark.parametrize("names", [{"length": "size"}, {"size": "type"}])
def test_field_names_that_fit_no_attribute_or_hide_the_type_are_refused(names: dict[str, str]) -> None:
    with pytest.raises(InvariantBroken, match=r"'length'|'type'"):
        wire.register("Lone", fields_of=names)(Lone)


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(InvariantBroken, match="two fields with the same name"):
        wire.register("Dog 2", fields_of={"new_name": "other"})(make_dataclass("Both", ["new_name", "other"]))


def test_a_class_that_is_no_dataclass_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="must be a dataclass"):
        wire.register("Model")(Model)


def test_a_field_that_would_hide_the_type_is_refused() -> None:
    @dataclass
    class Typed:
        type: str

    with pytest.raises(InvariantBroken, match="'type'"):
        wire.register("Typed")(Typed)


def test_a_field_of_a_type_that_cannot_travel_is_refused_by_name() -> None:
    @wire.register("Odd")
    @dataclass
    class Odd:
        things: set[int]

    with pytest.raises(InvariantBroken, match="'things'"):
        wire.to_message(Odd(things={1}))


@given(messages=st.lists(plain_values | st.just({"$": 1}), max_size=5))
def test_many_texts_are_decoded_as_each_of_them(messages: list[Any]) -> None:
    texts = [wire.encode(message) for message in messages]
    values = wire.decode_all(texts)
    assert (values is None) == any('"$' in text for text in texts)
    if values is not None:
        assert repr(values) == repr([wire.decode(text) for text in texts])


@pytest.mark.parametrize("texts", [["1,2"], ["1", "]"], ["[1", "2]"], ["1", ""], ["NaN"], ["[" * 100_000], [b"1"]])
def test_texts_of_which_one_is_malformed_are_left_to_be_decoded_one_by_one(texts: list[Any]) -> None:
    assert wire.decode_all(texts) is None


@wire.register("short-whole", is_short=True)
@dataclass(frozen=True)
class ShortWhole:
    count: int
    outcome: Outcome | None = None
    one_of: Leased | Limits | None = None
    names: tuple[str, ...] = ()
    options: Mapping[str, int] = field(default_factory=dict)
    reason: str = ""
    is_last: bool = False


@pytest.mark.usefixtures("_few")
def test_a_short_record_leaves_out_what_is_empty_also_in_records_within_it() -> None:
    assert wire.to_message(ShortWhole(0)) == {"type": "short-whole", "count": 0, "is_last": False}
    record = ShortWhole(1, Outcome(loss=0.0), Limits(brackets=1), ("a",), {"b": 0}, "c", is_last=True)
    assert wire.to_message(record) == {
        "type": "short-whole",
        "count": 1,
        "outcome": {"loss": 0.0},
        "one_of": {"type": "Limits", "brackets": 1},
        "names": ["a"],
        "options": {"b": 0},
        "reason": "c",
        "is_last": True,
    }
    for each in (ShortWhole(0), record):
        assert wire.from_message(wire.decode(wire.encode(wire.to_message(each))), ShortWhole) == each


@pytest.mark.usefixtures("_few")
def test_a_record_that_a_journal_contains_is_written_whole_also_after_a_short_one() -> None:
    outcome = Outcome(loss=0.5)
    wire.to_message(ShortWhole(1, outcome))
    assert list(wire.to_message(outcome)) == ["type", *wire.field_names(Outcome)]
    entry = Recorded(evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, agent="a", outcome=outcome)
    assert list(wire.to_message(entry)["outcome"]) == list(wire.field_names(Outcome))


@pytest.mark.usefixtures("_few")
def test_entries_of_a_journal_keep_their_empty_fields() -> None:
    for cls in (records.Paused, records.Resumed, records.ProblemSource, Limits):
        assert list(wire.to_message(cls())) == ["type", *wire.field_names(cls)]


@pytest.mark.parametrize("message", [{"type": "short-whole"}, {"count": 1, "none": 2}, {"count": 1, "reason": None}])
@pytest.mark.usefixtures("_few")
def test_a_short_record_is_checked_as_any_other(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolMismatch, match="short-whole"):
        wire.from_message({"type": "short-whole", **message})
