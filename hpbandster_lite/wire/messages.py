"""Records as plain dicts, and back, by the annotations of their fields.

Law of this file: ``from_message(to_message(record)) == record`` for every registered class; a message can create only
registered classes, and every field is checked against its annotation when it is read. A message names its type and its
fields by strings that :func:`register` fixes: you can rename a class or an attribute, and old messages stay readable.
A record of a class is written and read field by field, until it pays to generate the functions of the class.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache, partial
from operator import attrgetter
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from hpbandster_lite.errors import InvariantBroken, ProtocolMismatch, SearchError
from hpbandster_lite.records import Plain
from hpbandster_lite.wire import generated
from hpbandster_lite.wire.text import SAME_VERSION, shortened
from hpbandster_lite.wire.values import plain_key, plain_message

_Record = TypeVar("_Record")
_TAG = "type"
FEW = 20
"""So many records of a class are handled by fields: to generate the functions of a class takes about as long."""
classes_by_tag: dict[str, type] = {}
"""Every registered class."""
_names: dict[type, _Names] = {}


class _Names(NamedTuple):
    """The fixed strings of one class: its tag, and the field names that differ from the attribute names.

    With ``is_short``, a message leaves out empty fields.
    """

    tag: str
    fields: Mapping[str, str]
    is_short: bool


def register(
    tag: str, *, fields_of: Mapping[str, str] | None = None, is_short: bool = False
) -> Callable[[type[_Record]], type[_Record]]:
    """Register a dataclass under a fixed tag; a decorator above ``@record``.

    Its fields may be annotated as None, bool, int, float, str, ``Plain``, an enum, a ``Literal``, a NamedTuple, a
    registered dataclass, a union of registered dataclasses, each of these or None, and tuples and string-keyed mappings
    of these.

    Parameters
    ----------
    tag
        Value of ``"type"`` in a message. Journals contain it, so it never changes, even if you rename the class.
    fields_of
        The field name of each attribute whose name differs from its field name. If you rename an attribute, add its old
        name here.
    is_short
        Leave out fields that are None or empty both by default and in the record, in this record and in records within
        it. Do not use it for records in a journal, because their text must not change.

    Raises
    ------
    InvariantBroken
        If there is no tag, if the class is not a dataclass, if another class has the tag, or if two fields have the
        same name.
    """
    given: object = tag
    if not isinstance(given, str) or not given:
        raise InvariantBroken(f"a record requires a fixed tag, got {tag!r}: write @wire.register('Tag') at the class")

    def registered(cls: type[_Record]) -> type[_Record]:
        if not is_dataclass(cls):
            raise InvariantBroken(f"a record must be a dataclass, got {cls!r}")
        names = _Names(tag, dict(fields_of or {}), is_short)
        if classes_by_tag.get(tag, cls) is not cls or _names.get(cls, names) != names:
            raise InvariantBroken(f"two records have the tag {tag!r}, or one has two tags; change the tag of {cls!r}")
        _check_fields(cls, names)
        classes_by_tag[tag], _names[cls] = cls, names
        return cls

    return registered


def _check_fields(cls: Any, names: _Names) -> None:
    attributes = [entry.name for entry in fields(cls)]
    if unknown := names.fields.keys() - set(attributes):
        raise InvariantBroken(f"{cls!r} has no attribute {min(unknown)!r}; correct fields_of")
    named = [names.fields.get(name, name) for name in attributes]
    if _TAG in named:
        raise InvariantBroken(f"{cls!r} has a field {_TAG!r}, but this name holds the tag in a message; rename it")
    if len(set(named)) < len(named):
        raise InvariantBroken(f"{cls!r} has two fields with the same name; correct fields_of")


def field_names(cls: type) -> Mapping[str, str]:
    """Attributes of a registered class, in order, with their field names in a message."""
    return {name: _names[cls].fields.get(name, name) for name in (entry.name for entry in fields(cls))}


def to_message(record: object) -> dict[str, Plain]:
    """A registered record as a plain dict: its tag under ``"type"``, then its fields.

    Raises
    ------
    NotPlain
        If a field holds a value that is not plain.
    InvariantBroken
        If the record's class is not registered.
    """
    message: dict[str, Plain] = _tagged_writers[type(record)](record)
    return message


def _tagged_writer(
    cls: type, *, is_generated: bool, is_short: bool | None = None
) -> Callable[[Any], dict[str, Plain]]:
    """The function that writes a record with its tag; the class says whether in short, if the caller does not."""
    if cls not in _names:
        raise InvariantBroken(f"{cls!r} is not registered; write @wire.register('Tag') above the class")
    names = _names[cls]
    way = _Way(is_short=names.is_short if is_short is None else is_short, is_generated=is_generated)
    return _writer(cls, way, tag=names.tag)


@overload
def from_message(message: Plain, cls: type[_Record]) -> _Record: ...
@overload
def from_message(message: Plain, cls: None = None) -> Any: ...
def from_message(message: Plain, cls: type[_Record] | None = None) -> Any:
    """The record that :func:`to_message` wrote; ``from_message(to_message(record)) == record``.

    A missing field takes its default, so old journals stay readable when a record gains fields.

    Parameters
    ----------
    message
        The plain value from :func:`decode`.
    cls
        The expected class; ``None`` for any registered class.

    Raises
    ------
    ProtocolMismatch
        For an unknown type, an unknown or missing field, a field of a wrong type, or values that the record refuses.
    """
    name = message.get(_TAG) if type(message) is dict else None
    found = classes_by_tag.get(name) if type(name) is str else None
    if found is None or (cls is not None and found is not cls):
        wanted = "a record" if cls is None else f"a {_names[cls].tag}"
        raise ProtocolMismatch(f"expected {wanted}, got {shortened(repr(message))}; {SAME_VERSION}")
    return _readers[found](message)


def _read_by_fields(cls: type, message: Plain) -> Any:
    """Read a message field by field; a generated function does so to report a fault."""
    shape = _shape(cls)
    if type(message) is not dict:
        raise ProtocolMismatch(f"expected a {shape.tag}, got {shortened(repr(message))}; {SAME_VERSION}")
    values = dict(message)
    values.pop(_TAG, None)
    if values.keys() != shape.names:
        _refuse_other_fields(values, shape)
    readers = shape.readers
    for name, value in values.items():
        as_they_are, read = readers[name]
        if type(value) not in as_they_are:
            try:
                # The keys stay the same, so the iteration may continue.
                values[name] = read(value)
            except ValueError as error:
                raise ProtocolMismatch(f"{shape.tag}.{name}: {error}; {SAME_VERSION}") from error
    if shape.renamed:
        values = {shape.renamed.get(name, name): value for name, value in values.items()}
    try:
        return cls(**values)
    # OverflowError: a record checks that its loss is finite, and an integer may be larger than every float.
    except (SearchError, OverflowError) as error:
        raise ProtocolMismatch(f"a {shape.tag} was refused: {error}") from error


# ----------------------------------------------------------------------------------------------- fields by their type


class _Way(NamedTuple):
    """The task of a function for a field: to read or to write it, in short, for a generated function or for another."""

    reads: bool = False
    is_short: bool = False
    is_generated: bool = False


class _Codec(NamedTuple):
    """A function that writes or reads a field of one type; a reader raises ValueError for what the writer never writes.

    Values of the types ``as_they_are`` do not change, so the function is not called for them.
    """

    convert: Callable[[Any], Any]
    as_they_are: frozenset[type] = frozenset()


class _OnDemand(dict[type, Callable[[Any], Any]]):
    """The functions of each class. The first ones work by fields; later ones are generated, which is slow."""

    def __init__(self, make: Callable[..., Callable[[Any], Any]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, cls: type) -> Callable[[Any], Any]:
        slow, left = self._make(cls, is_generated=False), FEW

        def by_fields(value: Any) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                return slow(value)
            self[cls] = self._make(cls, is_generated=True)
            return self[cls](value)

        return self.setdefault(cls, by_fields)


class _Shape(NamedTuple):
    """The data for reading one class by fields.

    ``readers``, ``names`` and ``required`` (the fields without a default) contain field names; ``renamed`` maps a field
    name to an attribute with another name.
    """

    tag: str
    readers: Mapping[str, tuple[frozenset[type], Callable[[Plain], Any]]]
    names: frozenset[str]
    required: tuple[str, ...]
    renamed: Mapping[str, str]


@cache
def _shape(cls: type) -> _Shape:
    """The shape of a class."""
    parts = _fields_of(cls, _Way(reads=True))
    return _Shape(
        tag=_names[cls].tag,
        readers={each.name: (each.as_they_are, each.convert) for each in parts},
        names=frozenset(each.name for each in parts),
        required=tuple(each.name for each in parts if each.is_required),
        renamed={each.name: each.attribute for each in parts if each.name != each.attribute},
    )


def _reader(cls: type, *, is_generated: bool) -> Callable[[Plain], Any]:
    return _generated_reader(cls) if is_generated else partial(_read_by_fields, cls)


@cache
def _generated_reader(cls: type) -> Callable[[Plain], Any]:
    parts = _fields_of(cls, _Way(reads=True, is_generated=True))
    return generated.reader(cls, _names[cls].tag, parts, partial(_read_by_fields, cls))


@cache
def _writer(cls: type, way: _Way, tag: str | None = None) -> Callable[[Any], dict[str, Plain]]:
    start: dict[str, Plain] = {} if tag is None else {_TAG: tag}
    make = generated.writer if way.is_generated else generated.writer_by_fields
    return make(_fields_of(cls, way), start, is_short=way.is_short)


_readers = _OnDemand(_reader)
_tagged_writers = _OnDemand(_tagged_writer)
_tagged_writers_within = {short: _OnDemand(partial(_tagged_writer, is_short=short)) for short in (False, True)}
"""The same for a record within another one, which says whether it is written in short."""


def _fields_of(cls: Any, way: _Way) -> list[generated.Field]:
    hints, named, found = _hints(cls), field_names(cls), []
    for entry in fields(cls):
        codec = _codec(hints[entry.name], named[entry.name], way)
        found.append(
            generated.Field(
                attribute=entry.name,
                name=named[entry.name],
                as_they_are=codec.as_they_are,
                convert=codec.convert,
                default=generated.REQUIRED if entry.default is MISSING else entry.default,
                factory=None if entry.default_factory is MISSING else entry.default_factory,
            )
        )
    return found


# Python evaluates the text of each annotation again for each call.
_hints = cache(get_type_hints)


def _refuse_other_fields(values: Mapping[Any, Plain], shape: _Shape) -> None:
    """Refuse a message that lacks a field without a default, or has a field that the class does not have."""
    for name in shape.required:
        if name not in values:
            raise ProtocolMismatch(f"a {shape.tag} without {name!r} was refused; {SAME_VERSION}")
    if unknown := values.keys() - shape.names:
        first = min(unknown, key=str)
        raise ProtocolMismatch(f"a {shape.tag} with the unknown field {first!r} was refused; {SAME_VERSION}")


def _codec(hint: Any, name: str, way: _Way) -> _Codec:
    """Codec of an annotation; ``name`` is the name of the field in an error about a value that is not plain."""
    origin, args, reads = get_origin(hint), get_args(hint), way.reads
    if hint is Any:
        return _Codec(_identity if reads else partial(plain_message, path=name))
    if origin is Union or origin is types.UnionType:
        return _union_codec(args, name, way)
    if hint in _SCALARS:
        return _scalar_codec((hint,), name, way)
    if origin is tuple:
        return _tuple_codec(args, name, way)
    if origin is Literal:
        return _Codec(partial(_read_literal, args) if reads else _identity)
    if origin in (Mapping, dict):
        return _mapping_codec(args[1], name, way)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Codec(hint if reads else attrgetter("value"))
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return _Codec(_named_tuple_reader(hint) if reads else _named_tuple_writer(hint))
    if hint in _names:
        return _Codec(_reader(hint, is_generated=way.is_generated) if reads else _writer(hint, way))
    raise InvariantBroken(f"the field {name!r} has the unsupported type {hint!r}; see wire.register for the types")


# An int in a float field stays an int: 400 stays 400 in messages that users read.
_SCALARS: Mapping[Any, frozenset[type]] = {
    type(None): frozenset({type(None)}),
    bool: frozenset({bool}),
    int: frozenset({int}),
    float: frozenset({float, int}),
    str: frozenset({str}),
    list[Any]: frozenset({list}),
}


def _scalar_codec(hints: tuple[Any, ...], name: str, way: _Way) -> _Codec:
    allowed = frozenset().union(*(_SCALARS[hint] for hint in hints))

    def write(value: Any) -> Plain:
        return value if type(value) in allowed else plain_message(value, name)

    def read(value: Plain) -> Any:
        if type(value) in allowed:
            return value
        raise ValueError(f"expected {' or '.join(_name_of(hint) for hint in hints)}, got {shortened(repr(value))}")

    return _Codec(read if way.reads else write, allowed)


def _name_of(hint: type) -> str:
    return "None" if hint is type(None) else hint.__name__


def _union_codec(hints: tuple[Any, ...], name: str, way: _Way) -> _Codec:
    if all(hint in _SCALARS for hint in hints):
        return _scalar_codec(hints, name, way)
    others = [hint for hint in hints if hint is not type(None)]
    if len(others) == 1:
        inner = _codec(others[0], name, way)
    elif all(hint in _names for hint in others):
        inner = _one_of_codec(others, way)
    else:
        raise InvariantBroken(f"the field {name!r} has the unsupported type {hints!r}; see wire.register for the types")
    if len(others) == len(hints):
        return inner
    return _Codec(inner.convert, inner.as_they_are | {type(None)})


def _one_of_codec(classes: Sequence[type], way: _Way) -> _Codec:
    if not way.reads:
        writers = _tagged_writers_within[way.is_short]
        return _Codec(lambda record: writers[type(record)](record))
    by_tag = {_names[cls].tag: cls for cls in classes}

    def read(message: Plain) -> Any:
        tag = message.get(_TAG) if type(message) is dict else None
        found = by_tag.get(tag) if type(tag) is str else None
        return _refuse_other(by_tag, message) if found is None else _readers[found](message)

    return _Codec(read)


def _refuse_other(wanted: Iterable[str], message: Plain) -> NoReturn:
    record = from_message(message)
    raise ValueError(f"expected one of {sorted(wanted)}, got {_names[type(record)].tag!r}")


def _tuple_codec(args: tuple[Any, ...], name: str, way: _Way) -> _Codec:
    if len(args) == 2 and args[1] is Ellipsis:
        convert, as_they_are = _codec(args[0], name, way)
        if way.reads:
            return _Codec(
                lambda value: tuple([item if type(item) in as_they_are else convert(item) for item in _list_of(value)])
            )
        return _Codec(lambda value: [item if type(item) in as_they_are else convert(item) for item in value])
    codecs = [_codec(arg, name, way) for arg in args]
    if way.reads:
        return _Codec(lambda value: tuple(_read_items(codecs, len(codecs), value)))
    return _Codec(partial(_write_items, codecs))


@cache
def _named_tuple_reader(cls: Any) -> Callable[[Plain], Any]:
    items = _items_of(cls, _Way(reads=True))
    codecs = [_Codec(each.convert, each.as_they_are) for each in items]
    required = len(codecs) - len(cls._field_defaults)
    return generated.items_reader(cls, items, lambda value: cls(*_read_items(codecs, required, value)))


@cache
def _named_tuple_writer(cls: Any) -> Callable[[Any], list[Plain]]:
    return generated.items_writer(_items_of(cls, _Way()))


def _items_of(cls: Any, way: _Way) -> list[generated.Field]:
    codecs = [(name, _codec(_hints(cls)[name], name, way)) for name in cls._fields]
    return [
        generated.Field(attribute=name, name=name, as_they_are=codec.as_they_are, convert=codec.convert)
        for name, codec in codecs
    ]


def _write_items(codecs: Sequence[_Codec], values: Iterable[Any]) -> list[Plain]:
    return [
        value if type(value) in codec.as_they_are else codec.convert(value)
        for codec, value in zip(codecs, values, strict=True)
    ]


def _read_items(codecs: Sequence[_Codec], required: int, value: Plain) -> list[Any]:
    if not required <= len(_list_of(value)) <= len(codecs):
        raise ValueError(f"expected {len(codecs)} items, got {shortened(repr(value))}")
    return [
        item if type(item) in codec.as_they_are else codec.convert(item)
        for codec, item in zip(codecs, value, strict=False)
    ]


def _mapping_codec(hint: Any, name: str, way: _Way) -> _Codec:
    convert, as_they_are = _codec(hint, name, way)
    if hint is Any:
        return _Codec(_dict_only if way.reads else convert)
    if way.reads:
        return _Codec(
            lambda value: {
                _str_only(key): item if type(item) in as_they_are else convert(item)
                for key, item in _dict_only(value).items()
            }
        )
    return _Codec(
        lambda value: {
            plain_key(key, name): item if type(item) in as_they_are else convert(item) for key, item in value.items()
        }
    )


def _read_literal(allowed: tuple[Any, ...], value: Plain) -> Any:
    if value not in allowed:
        raise ValueError(f"expected one of {allowed!r}, got {shortened(repr(value))}")
    return value


def _list_of(value: Plain) -> list[Plain]:
    if type(value) is not list:
        raise ValueError(f"expected a list, got {shortened(repr(value))}")
    return value


def _dict_only(value: Plain) -> dict[str, Plain]:
    if type(value) is not dict:
        raise ValueError(f"expected an object, got {shortened(repr(value))}")
    return value


def _str_only(key: Plain) -> str:
    if type(key) is not str:
        raise ValueError(f"expected strings as keys, got {key!r}")
    return key


def _identity(value: Any) -> Any:
    return value
