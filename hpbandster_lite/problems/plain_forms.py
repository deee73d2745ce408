"""The plain form of the values that an objective returns or reports with its loss; a note for a value without one.

Law of this file: no value makes the loss invalid. A value with an obvious plain form is converted: numbers of any
library, paths, dates, enums, sets as sorted lists. A value without a plain form, a value whose methods raise, and a
value that is too large become a text that begins with ``not kept:`` and names the place and the reason.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
import sys
from collections.abc import Iterator, Mapping, MappingView, Sequence, Set
from enum import Enum
from typing import Any

from hpbandster_lite import wire
from hpbandster_lite.errors import NotPlain
from hpbandster_lite.records import Plain
from hpbandster_lite.wire.values import plain_key

NOT_KEPT = "not kept: "
"""The first words of each note."""
MAX_NOTE_CHARACTERS = 400
MAX_KEY_CHARACTERS = 200
"""A key that is neither a string nor an integer is shortened to this length."""
MOST_NOTES = 16
"""A container with more parts that are too large becomes one note."""
_CHARACTERS_PER_ENTRY = 2
"""Smallest length of an entry of a list or dict in a message: ``0,``."""
_DEPTH = wire.MAX_VALUE_DEPTH - 1

_SMALL = 2**53
_ATOMS = (str, int, float, bool, type(None))


class _TooLarge(Exception):
    """A value has more entries than the limit of its size allows."""


def plain_forms(values: Mapping[Any, Any], path: str, limit_bytes: int) -> dict[str, Plain]:
    """A plain copy of a mapping, of at most ``limit_bytes`` in a message; its keys become strings.

    Parameters
    ----------
    values
        Any values under any keys.
    path
        Name of the mapping in notes, for example ``"info"``.
    limit_bytes
        Largest length in bytes. If the copy is longer, notes replace its largest parts until it fits.
    """
    forms: dict[str, Plain] = {}
    try:
        for key, value in values.items():
            walk = _Walk(limit_bytes)
            name = _free(str(walk.key(key)), forms)
            forms[name] = value if _is_plain_atom(value) else _form_or_note(walk, value, f"{path}[{_shown(key)}]")
    except Exception as error:  # noqa: BLE001 (methods of the user's mapping, which may raise anything)
        forms[_free(path, forms)] = _note(path, f"is incomplete: its items raised {type(error).__name__}")
    fitted = _fitted(forms, path, limit_bytes)
    return fitted if isinstance(fitted, dict) else {path: fitted}


def _form_or_note(walk: _Walk, value: Any, path: str) -> Plain:
    try:
        return walk.form(value, path, _DEPTH)
    except _TooLarge:
        return _note(path, f"has too many entries for its limit of {walk.limit_bytes:,} bytes")


class _Walk:
    """Converts one value to its plain form; the size limit also limits the number of steps."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._entries_left = limit_bytes // _CHARACTERS_PER_ENTRY

    def form(self, value: Any, path: str, depth: int) -> Plain:
        """The plain form of a value, or a note."""
        try:
            if type(value) in _ATOMS:
                return wire.plain(value, path)
            return self._form(value, path, depth)
        except NotPlain as error:
            return _clipped(f"{NOT_KEPT}{error}")
        except _TooLarge:
            raise
        except Exception as error:  # noqa: BLE001 (methods of the value, which may raise anything)
            return _note(path, f"is {_named(value)}: {type(error).__name__}: {_text(error)}")

    def _form(self, value: Any, path: str, depth: int) -> Plain:
        if isinstance(value, Mapping):
            return self._mapping(value.items(), path, self._deeper(path, depth))
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            items = [(entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value)]
            return self._mapping(items, path, self._deeper(path, depth))
        if isinstance(value, list | tuple | MappingView):
            return self._list(value, path, self._deeper(path, depth))
        if isinstance(value, Set):
            return sorted_forms(self._list(value, path, self._deeper(path, depth)))
        if isinstance(value, Enum):
            # A plain value, such as a string, is kept; otherwise the name.
            return wire.plain(value.value, path) if isinstance(value.value, _ATOMS) else str(value.name)
        if isinstance(value, str | int | float):
            return wire.plain(value, path)
        single = _single(value)
        if single is not None:
            return single
        array = self._array(value, path)
        if array is not value:
            return self.form(array, path, depth)
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return self._list(value, path, self._deeper(path, depth))
        return wire.plain(value, path)

    def _deeper(self, path: str, depth: int) -> int:
        if depth <= 0:
            limit = wire.MAX_VALUE_DEPTH
            raise NotPlain(f"{_middle_cut(path)} is nested too deep (more than {limit} levels), or contains itself")
        return depth - 1

    def _list(self, values: Any, path: str, depth: int) -> list[Plain]:
        return [
            item if _is_plain_atom(item) else self.form(item, f"{path}[{index}]", depth)
            for index, item in enumerate(self._counted(values))
        ]

    def _mapping(self, items: Any, path: str, depth: int) -> dict[str | int, Plain]:
        forms: dict[str | int, Plain] = {}
        for key, item in self._counted(items):
            form = item if _is_plain_atom(item) else self.form(item, f"{path}[{_shown(key)}]", depth)
            forms[_free(self.key(key), forms)] = form
        return forms

    def _array(self, value: Any, path: str) -> Any:
        """The content of an array or tensor as a number or a list; any other value unchanged."""
        shape = getattr(value, "shape", None)
        # tolist of a pandas Series would lose its index.
        if shape is None or isinstance(value, type) or hasattr(value, "iloc"):
            return value
        sizes = tuple(int(size) for size in shape)
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        if isinstance(kind, str) and kind in ("M", "m"):
            return _times(value, kind)
        if sizes == ():
            convert = getattr(value, "item", None) or getattr(value, "numpy", None)
        else:
            self._check(math.prod(sizes))
            convert = getattr(value, "tolist", None)
        if not callable(convert) or (isinstance(kind, str) and kind and kind in "cSV"):
            return value
        # tolist keeps numpy's longdouble; wire converts it to a float.
        found = wire.plain(value, path) if isinstance(kind, str) and kind and kind in "biufU" else convert()
        return value if found is value else found

    def _counted(self, values: Any) -> Iterator[Any]:
        """The entries of a container, which may have more of them than its length."""
        size = len(values)
        self._count(size)
        for number, value in enumerate(values):
            if number >= size:
                self._count(1)
            yield value

    def _count(self, entries: int) -> None:
        self._check(entries)
        self._entries_left -= entries

    def _check(self, entries: int) -> None:
        if entries > self._entries_left:
            raise _TooLarge

    def key(self, key: Any) -> str | int:
        """A key as a string or an integer; other keys by their plain form, or as ``str`` prints them."""
        try:
            return plain_key(key, "a key")
        except NotPlain:
            pass
        has_form = isinstance(key, Enum | os.PathLike) or _is_date(key) or _is_of(key, "uuid", "UUID")
        form = self.form(key, "a key", 1) if has_form else None
        if isinstance(form, str | int) and not isinstance(form, bool):
            return form
        return _text(key)[:MAX_KEY_CHARACTERS]


def _is_plain_atom(value: Any) -> bool:
    """Whether a value is plain as it is, which saves the name of its place: an ``info`` may have a million entries."""
    kind = type(value)
    return kind is float or kind is bool or value is None or (kind is int and -_SMALL < value < _SMALL)


def _is_date(value: Any) -> bool:
    # A date with a time is a date, too.
    return _is_of(value, "datetime", "date", "time")


def _is_of(value: Any, module: str, *names: str) -> bool:
    """Whether a value has one of the module's types."""
    # A problem that has such a value has imported the module; the other trainers start without it.
    imported = sys.modules.get(module)
    return imported is not None and isinstance(value, tuple(getattr(imported, name) for name in names))


def _single(value: Any) -> Plain:
    """The plain form of a path, a date, a duration or a number; None for other values."""
    if isinstance(value, os.PathLike):
        return wire.plain(os.fsdecode(value))
    if _is_date(value):
        return str(value.isoformat())
    if _is_of(value, "datetime", "timedelta"):
        return float(value.total_seconds())
    if _is_of(value, "uuid", "UUID"):
        return str(value)
    if getattr(value, "shape", None) is None and not isinstance(value, type):
        if isinstance(value, numbers.Integral):
            return wire.plain(int(value))
        if isinstance(value, numbers.Real) or hasattr(value, "__float__"):
            return float(value)
    return None


def _times(value: Any, kind: str) -> Any:
    """Dates of numpy as ISO text, durations in seconds."""
    import numpy as np

    if kind == "M":
        return np.datetime_as_string(value).tolist()
    return (value / np.timedelta64(1, "s")).tolist()


def sorted_forms(forms: list[Plain]) -> list[Plain]:
    """The elements of a set in an order that is the same in every process."""
    try:
        return sorted(forms)
    except TypeError:
        return sorted(forms, key=lambda form: (type(form).__name__, repr(form)))


# ---------------------------------------------------------------------------------------------------------- the limit


def _fitted(value: Plain, path: str, room: int) -> Plain:
    """The value, in which notes replace the largest parts so that it fits; one note if it still does not fit."""
    size = _size(value)
    if size <= room:
        return value
    too_large = _note(path, f"is {size:,} bytes long; the limit is {room:,}: write it to a file in trial.directory")
    if not isinstance(value, dict | list):
        return too_large
    smaller = value.copy()
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    sizes = ((_size(value[key]), number) for number, key in enumerate(keys) if _may_be_large(value[key]))
    by_size = sorted(sizes, reverse=True)
    for part_size, number in by_size[:MOST_NOTES]:
        key = keys[number]
        if size <= room or part_size <= MAX_NOTE_CHARACTERS:
            break
        smaller[key] = _fitted(value[key], f"{path}[{_shown(key)}]", max(0, room - (size - part_size)))
        size += _size(smaller[key]) - part_size
    return smaller if size <= room else too_large


def _may_be_large(value: Plain) -> bool:
    """Whether a note could be shorter than this part."""
    # A character takes up to 12 in a message.
    return isinstance(value, dict | list) or (isinstance(value, str) and 12 * len(value) > MAX_NOTE_CHARACTERS)


def _size(value: Plain) -> int:
    return len(wire.encode(value, limit_bytes=None))


def _free(key: Any, taken: Mapping[Any, object]) -> Any:
    """The key, followed by a number if it is taken."""
    if key not in taken:
        return key
    number = 2
    while f"{key} ({number})" in taken:
        number += 1
    return f"{key} ({number})"


# -------------------------------------------------------------------------------------------------------------- notes


def _note(path: str, reason: str) -> str:
    return _clipped(f"{NOT_KEPT}{_middle_cut(path)} {reason}")


def _clipped(text: str) -> str:
    # The text of an error may contain anything, also surrogates.
    return str(wire.plain(text if len(text) <= MAX_NOTE_CHARACTERS else f"{text[: MAX_NOTE_CHARACTERS - 3]}..."))


def _middle_cut(path: str) -> str:
    return path if len(path) <= 160 else f"{path[:80]}...{path[-77:]}"


def _shown(key: Any) -> str:
    shown = repr(key) if isinstance(key, str | int) else _text(key)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _text(value: Any) -> str:
    """``str`` of a value; the name of its class if ``str`` raises."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 (a method of the value, which may raise anything)
        return type(value).__qualname__


def _named(value: Any) -> str:
    cls = type(value)
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
