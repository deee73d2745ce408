"""Functions that write and read the records, or the named tuples, of one class, generated from its fields.

Law of this file: a generated function depends on the class alone; no part of a message becomes code. A generated reader
returns valid records, and passes every other message to ``refuse``, which reports the fault. A generated function has
no loop over the fields, which halves its time; Python compiles it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hpbandster_lite.errors import ProtocolMismatch, SearchError
from hpbandster_lite.records import Plain
from hpbandster_lite.records.decorator import maker

REQUIRED: Any = object()
"""Marks a field without a default."""


class Field(NamedTuple):
    """One field: its attribute, its name in a message, the function that writes or reads it, and its default.

    Values of the types ``as_they_are`` are written or read unchanged. ``factory`` makes a new default for each record.
    """

    attribute: str
    name: str
    as_they_are: frozenset[type]
    convert: Callable[[Any], Any]
    default: Any = REQUIRED
    factory: Callable[[], Any] | None = None

    @property
    def is_required(self) -> bool:
        """Whether every message has this field."""
        return self.default is REQUIRED and self.factory is None

    @property
    def is_empty_by_default(self) -> bool:
        """Whether its default is None or empty, so that a simple test can leave it out of a message."""
        return self.default in (None, "", ()) or self.factory is dict


def writer(fields: Sequence[Field], start: dict[str, Plain], *, is_short: bool) -> Callable[[Any], dict[str, Plain]]:
    """The function that writes the fields of a record into a new dict, after the items of ``start``.

    With ``is_short`` it leaves out fields that are empty both by default and in the record.
    """
    left_out = [is_short and each.is_empty_by_default for each in fields]
    items = [f"{key!r}: {value!r}" for key, value in start.items()]
    items += [
        f"{each.name!r}: {_converted(each, index, f'record.{each.attribute}')}"
        for index, each in enumerate(fields)
        if not left_out[index]
    ]
    lines = ["def function(record):", f" message = {{{', '.join(items)}}}"]
    for index, each in enumerate(fields):
        if left_out[index]:
            is_given = " is not None" if each.default is None else ""
            lines.append(f" if (value := record.{each.attribute}){is_given}:")
            lines.append(f"  message[{each.name!r}] = {_converted(each, index, 'value')}")
    write: Callable[[Any], dict[str, Plain]] = _function([*lines, " return message"], fields)
    return write


def writer_by_fields(
    fields: Sequence[Field], start: dict[str, Plain], *, is_short: bool
) -> Callable[[Any], dict[str, Plain]]:
    """The same function as :func:`writer` makes, without generated code: slower, and made sooner."""
    left_out = [each for each in fields if is_short and each.is_empty_by_default]
    others = [each for each in fields if not (is_short and each.is_empty_by_default)]

    def write(record: Any) -> dict[str, Plain]:
        message = dict(start)
        for each in others:
            value = getattr(record, each.attribute)
            message[each.name] = value if type(value) in each.as_they_are else each.convert(value)
        for each in left_out:
            value = getattr(record, each.attribute)
            if value is not None if each.default is None else value:
                message[each.name] = value if type(value) in each.as_they_are else each.convert(value)
        return message

    return write


def reader(
    cls: type, tag: str, fields: Sequence[Field], refuse: Callable[[Plain], Any]
) -> Callable[[Plain], Any]:
    """The function that reads a record of the class from a message, with or without its tag.

    It passes a message that it cannot read to ``refuse``, which raises; it raises ProtocolMismatch for values that the
    class refuses.
    """
    body = [f"  known = {sum(each.is_required for each in fields)}"]
    for index, each in enumerate(fields):
        value = f"value_{index} = {_converted(each, index, f'message[{each.name!r}]')}"
        if each.is_required:
            body.append(f"  {value}")
        else:
            default = f"default_{index}" if each.factory is None else f"factory_{index}()"
            body += [f"  if {each.name!r} in message:", f"   {value}", "   known += 1"]
            body += ["  else:", f"   value_{index} = {default}"]
    values = ", ".join(f"value_{index}" for index in range(len(fields)))
    lines = [
        "def function(message):",
        " if type(message) is not dict: return refuse(message)",
        " try:",
        *body,
        " except (ValueError, KeyError): return refuse(message)",
        " if len(message) - ('type' in message) != known: return refuse(message)",
        f" try: return make({values})",
        " except refusals as error: raise mismatch(f'a {tag} was refused: {error}') from error",
    ]
    # OverflowError: a record checks that its loss is finite, and an integer may be larger than every float.
    names = {"make": maker(cls), "tag": tag, "refuse": refuse, "refusals": (SearchError, OverflowError)}
    read: Callable[[Plain], Any] = _function(lines, fields, mismatch=ProtocolMismatch, **names)
    return read


def items_writer(items: Sequence[Field]) -> Callable[[Any], list[Plain]]:
    """The function that writes a named tuple of these items as a list."""
    names, converted = _unpacked(items)
    lines = ["def function(record):", f" {names} = record", f" return [{converted}]"]
    write: Callable[[Any], list[Plain]] = _function(lines, items)
    return write


def items_reader(cls: type, items: Sequence[Field], otherwise: Callable[[Plain], Any]) -> Callable[[Plain], Any]:
    """The function that reads a named tuple from a list of all its items; it passes other messages to ``otherwise``."""
    names, converted = _unpacked(items)
    lines = [
        "def function(message):",
        f" if type(message) is not list or len(message) != {len(items)}: return otherwise(message)",
        f" {names} = message",
        f" return new(cls, ({converted}))",
    ]
    read: Callable[[Plain], Any] = _function(lines, items, new=tuple.__new__, cls=cls, otherwise=otherwise)
    return read


def _unpacked(items: Sequence[Field]) -> tuple[str, str]:
    """The names of the items, and the expressions that convert their values, each followed by a comma."""
    names = [f"item_{index}" for index in range(len(items))]
    converted = [_converted(each, index, names[index]) for index, each in enumerate(items)]
    return "".join(f"{name}, " for name in names), "".join(f"{each}, " for each in converted)


def _converted(field: Field, index: int, value: str) -> str:
    """The expression that converts a value; it calls nothing for scalars, because those calls take half of the time."""
    if not field.as_they_are:
        return f"convert_{index}({value})"
    return f"value if type(value := {value}) in types_{index} else convert_{index}(value)"


def _function(lines: Sequence[str], fields: Sequence[Field], **names: Any) -> Any:
    for index, each in enumerate(fields):
        names[f"types_{index}"], names[f"convert_{index}"] = each.as_they_are, each.convert
        names[f"default_{index}"], names[f"factory_{index}"] = each.default, each.factory
    exec("\n".join(lines), names)  # noqa: S102  # made of names of fields, which are identifiers or quoted
    return names["function"]
