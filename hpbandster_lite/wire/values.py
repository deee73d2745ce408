"""Conversion to plain values; a value without a plain form is refused, with its path, in the process that made it.

Law of this file: a plain value is None, a bool, an int, a float, a str, a list of these, or a dict from str or int to
these. A value with one obvious plain form is converted to it; every other value is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeAlias

from hpbandster_lite.errors import NotPlain
from hpbandster_lite.records import Plain

MAX_MESSAGE_DEPTH = 64
"""Deepest nesting of lists and dicts in a message; it bounds every recursion, even for a list that contains itself."""
MAX_VALUE_DEPTH = 48
"""Deepest nesting of one value; the message around it may use the other levels."""

MAX_INT_BITS = 14_280
"""Largest size of an integer, because Python refuses to print integers of more than 4,300 digits."""

_REMEDY = "return plain numbers, strings, lists or dicts"
_Path: TypeAlias = Any
"""Path of a value: the root's name, or a pair of the parent's path and the key; converted to text only for an error."""


def plain(value: object, path: str = "value") -> Plain:
    """A plain copy of a value.

    ``None``, bool, int, float and str stay unchanged; numpy scalars and 0-d arrays become numbers, other arrays become
    nested lists, tuples become lists, mappings become dicts. Keys are strings or integers. Subclasses of str, int and
    float (also enums with values of these types) become their value. A surrogate pair becomes its character.

    Parameters
    ----------
    value
        Anything.
    path
        Name of the value in the error, for example ``"info"``.

    Raises
    ------
    NotPlain
        For a value of any other type; the message names its path, its type and the remedy.
    """
    return _plain(value, path, MAX_VALUE_DEPTH)


def plain_message(value: object, path: str = "message") -> Plain:
    """Like :func:`plain`, for a whole message, which may be nested deeper than a value in it."""
    return _plain(value, path, MAX_MESSAGE_DEPTH)


def _plain(value: Any, path: _Path, depth: int) -> Plain:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _with_pairs_joined(value)
    if kind is float or kind is bool or value is None:
        return value
    if kind is int:
        return _plain_int(value, path)
    if depth == 0:
        raise NotPlain(_too_deep(path))
    if kind is dict or isinstance(value, Mapping):
        return {plain_key(key, path): _plain(item, (path, key), depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (path, index), depth - 1) for index, item in enumerate(value)]
    if isinstance(value, str):
        return _with_pairs_joined(str.__str__(value))
    if isinstance(value, int):
        return _plain_int(int.__int__(value), path)
    if isinstance(value, float):
        return float.__float__(value)
    return _plain_array(value, path, depth)


def plain_key(key: Any, path: _Path) -> str | int:
    """A key as a string or an integer; other keys are refused, also bool, which would clash with 0 and 1."""
    if type(key) is str and key.isascii():
        return key
    if not isinstance(key, bool):
        if isinstance(key, str):
            return str(_plain(key, path, 1))
        if isinstance(key, int) or _is_numpy_integer(key):
            return _plain_int(int(key), path)
    raise NotPlain(f"{_rendered(path)} has the key {key!r}, {_named(key)}: use strings or integers as keys")


def _plain_int(value: int, path: _Path) -> int:
    if value.bit_length() > MAX_INT_BITS:
        raise NotPlain(f"{_rendered(path)} is an int of {value.bit_length():,} bits; the limit is {MAX_INT_BITS:,}")
    return value


def _is_numpy_integer(value: object) -> bool:
    import numpy as np

    return isinstance(value, np.integer)


def _plain_array(value: Any, path: _Path, depth: int) -> Plain:
    # Imported here: an agent whose problem needs no numpy does not load it; if the value is numpy's, it is loaded.
    import numpy as np

    if not isinstance(value, np.ndarray | np.generic):
        raise NotPlain(f"{_rendered(path)} is {_named(value)}: {_REMEDY}{_hint(value)}")
    array = np.asanyarray(value)
    if array.dtype.kind not in "biufUTO":
        raise NotPlain(f"{_rendered(path)} is {_named(value)} of {array.dtype}: {_REMEDY}")
    if array.ndim > depth:
        raise NotPlain(_too_deep(path))
    if array.dtype.kind == "f":
        # tolist keeps longdouble, so convert it first; a value outside float64 becomes an infinity without a warning.
        with np.errstate(over="ignore"):
            array = array.astype(np.float64)
    listed = array.tolist()
    return listed if array.dtype.kind in "biuf" else _plain(listed, path, depth - 1)


def _with_pairs_joined(text: str) -> str:
    # JSON writes a character above U+FFFF as two surrogates, so two surrogates in a row are read as one character.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


_PUBLIC_NAMES = {"torch.nn.modules.module.Module": "torch.nn.Module"}


def _named(value: object) -> str:
    """Name of a value's type with its article; for a torch module the public base class."""
    names = [f"{base.__module__}.{base.__qualname__}".removeprefix("builtins.") for base in type(value).__mro__]
    name = next((_PUBLIC_NAMES[known] for known in names if known in _PUBLIC_NAMES), names[0])
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def _too_deep(path: _Path) -> str:
    return f"{_rendered(path)} is nested too deep (more than {MAX_VALUE_DEPTH} levels), or contains itself: {_REMEDY}"


def _hint(value: object) -> str:
    if isinstance(value, set | frozenset):
        return "; sorted() makes it a list"
    if isinstance(value, bytes | bytearray):
        return "; .hex() makes it a string"
    if hasattr(value, "tolist"):
        return "; .tolist() converts it"
    if isinstance(value, Enum):
        return "; its .value may be plain"
    return ""


def _rendered(path: _Path) -> str:
    steps: list[str] = []
    while isinstance(path, tuple):
        path, key = path
        steps.append(f"[{key!r}]")
    if len(steps) > 8:
        steps[4:-4] = ["..."]
    return str(path) + "".join(reversed(steps))
