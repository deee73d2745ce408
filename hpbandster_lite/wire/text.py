"""Plain values as one line of strict ASCII JSON, and back without a change.

Law of this file: ``decode(encode(message)) == plain(message)`` (except NaN, which never equals NaN), within a limit on
size and depth; any other text is refused. Two kinds of values have no form in JSON and become an object with one key
that begins with ``$``::

    NaN, infinities                                  {"$float": "nan"}, {"$float": "inf"}, {"$float": "-inf"}
    dicts with integer keys, or with keys like "$b"  {"$dict": [[1, "a"], ["$b", 2]]}
"""

from __future__ import annotations

import json
import json.encoder
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from hpbandster_lite.errors import NotPlain, ProtocolMismatch
from hpbandster_lite.records import Plain
from hpbandster_lite.wire.values import MAX_MESSAGE_DEPTH, plain, plain_message

MAX_MESSAGE_BYTES = 16 * 2**20
"""Largest message; a message is ASCII, so this is also its number of characters."""
MAX_INFO_BYTES = MAX_MESSAGE_BYTES // 2
"""Largest ``info`` of a result: half a message, so that learning curve, traceback and log have room."""
SAME_VERSION = "does the other side run the same version of hpbandster_lite?"


def encode(message: Plain, path: str = "message", *, limit_bytes: int | None = MAX_MESSAGE_BYTES) -> str:
    """One line of ASCII JSON; ``decode(encode(message)) == plain(message)``.

    Parameters
    ----------
    message
        A value that :func:`plain` accepts.
    path
        Name of the message in an error.
    limit_bytes
        Largest length of the text; ``None`` for no limit.

    Raises
    ------
    NotPlain
        If a part of the message is not plain, or if the message is too large; the error names the largest part.
    """
    text = _text_of(message, path)
    if limit_bytes is not None and len(text) > limit_bytes:
        raise NotPlain(_too_large(message, path, len(text), limit_bytes))
    return text


def _encoder() -> Callable[[Plain], str]:
    # MAX_MESSAGE_DEPTH replaces check_circular, which costs a dict entry per container.
    encoder = json.JSONEncoder(ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    # encoder.encode makes this callable for each message, which takes a third of the time of a small message.
    parts = make(None, encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False)
    return lambda message: "".join(parts(message, 0))


json_of = _encoder()
"""ASCII JSON of a value, without checks; for containers of values that are valid already."""


def _text_of(message: Plain, path: str) -> str:
    try:
        text = json_of(message)
    except (TypeError, ValueError, RecursionError):
        # NaN, an infinity, an int with too many digits, or a type without JSON: rare, so the encoder detects them.
        return json_of(_escaped(plain_message(message, path)))
    if '"$' in text or (_may_be_changed(text) and not _is_json(message, MAX_MESSAGE_DEPTH)):
        return json_of(_escaped(plain_message(message, path)))
    return text


_LIKE_ANOTHER_KEY = re.compile(r'"(?:[-0-9][^"]*|true|false|null)":')
"""Matches keys that the encoder writes for keys that are not strings."""


def _may_be_changed(text: str) -> bool:
    """Whether the encoder may have converted a key to a string, or written a value that is nested too deep.

    To check the text takes a fifth of the time of a check of the message, and most texts exclude both.
    """
    is_deep = len(text) > 2 * MAX_MESSAGE_DEPTH and text.count("[") + text.count("{") > MAX_MESSAGE_DEPTH
    return is_deep or _LIKE_ANOTHER_KEY.search(text) is not None


_ATOMS = frozenset({type(None), bool, int, float, str})
_KEYS = frozenset({str})


def _is_json(value: Any, depth: int) -> bool:
    """Whether the encoder keeps the value's types; it converts integer keys to strings, and has no limit on depth."""
    if type(value) is dict:
        if not _KEYS.issuperset(map(type, value)):
            return False
        items: Iterable[Any] = value.values()
    elif type(value) is list:
        items = value
    else:
        return type(value) in _ATOMS
    # Most containers hold only scalars, and this test has no Python loop over the items.
    if _ATOMS.issuperset(map(type, items)):
        return True
    for item in items:
        kind = type(item)
        if kind is dict or kind is list:
            if depth == 1 or not _is_json(item, depth - 1):
                return False
        elif kind not in _ATOMS:
            return False
    return True


def _escaped(value: Plain) -> Plain:
    kind = type(value)
    if kind is float and not math.isfinite(value):
        return {"$float": repr(value)}
    if kind is list:
        return [_escaped(item) for item in value]
    if kind is dict:
        if all(type(key) is str and key[:1] != "$" for key in value):
            return {key: _escaped(item) for key, item in value.items()}
        return {"$dict": [[_escaped(key), _escaped(item)] for key, item in value.items()]}
    return value


def _too_large(message: Plain, path: str, size: int, limit: int) -> str:
    part_path, part_size = _largest_part(plain_message(message, path), path, size)
    part = "" if part_path == path else f" ({part_path} alone is {part_size:,} bytes)"
    return (
        f"{path} is {size:,} bytes long{part}; the limit is {limit:,}: "
        "write large data to a file in trial.directory and return its name"
    )


def _largest_part(value: Plain, path: str, size: int) -> tuple[str, int]:
    """Path and size of the deepest part that is more than half of the whole."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        item_size = len(_text_of(item, path))
        if item_size > size / 2:
            return _largest_part(item, f"{path}[{key!r}]", item_size)
    return path, size


def decode(text: str, *, limit_bytes: int | None = MAX_MESSAGE_BYTES) -> Plain:
    """The value that :func:`encode` wrote.

    Raises
    ------
    ProtocolMismatch
        If the text is too long, nested too deep, or not a text that ``encode`` writes. The sender need not be trusted.
    """
    if limit_bytes is not None and len(text) > limit_bytes:
        raise ProtocolMismatch(f"a message of {len(text):,} bytes was refused; the limit is {limit_bytes:,}")
    try:
        value = _value_of(text)
        if '"$' in text:
            value = _unescaped(value)
        # Most messages are short or have few brackets, and so cannot be too deep.
        if len(text) > 2 * MAX_MESSAGE_DEPTH and text.count("[") + text.count("{") > MAX_MESSAGE_DEPTH:
            _check_depth(value, MAX_MESSAGE_DEPTH)
    except (ValueError, RecursionError) as error:
        raise ProtocolMismatch(f"malformed message ({error}): {shortened(text)}; {SAME_VERSION}") from error
    return value


def decode_all(texts: Sequence[str]) -> list[Plain] | None:
    """The values of many texts of any size from a local journal, in a third of the time of :func:`decode`.

    ``None`` if a text is malformed or contains an escape: then :func:`decode` must read each one.
    """
    try:
        joined = ",".join(texts)
        values = None if '"$' in joined else _value_of(f"[{joined}]")
    except (TypeError, ValueError, RecursionError):
        return None
    return values if values is not None and len(values) == len(texts) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_scan: Callable[[str, int], tuple[Plain, int]] = vars(_DECODER)["scan_once"]


def _value_of(text: str) -> Plain:
    """The value of a JSON text; ``_DECODER.decode`` searches twice for spaces, which the encoder does not write."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return _DECODER.decode(text)
    return value if end == len(text) else _DECODER.decode(text)


def shortened(text: str) -> str:
    """A received text for an error: quoted, with at most 200 characters."""
    return repr(text if len(text) <= 200 else f"{text[:200]}...")


def _check_depth(value: Plain, depth: int) -> None:
    items = value.values() if type(value) is dict else value if type(value) is list else None
    if items is None:
        return
    if depth == 0:
        raise ValueError(f"nested deeper than {MAX_MESSAGE_DEPTH} levels")
    for item in items:
        _check_depth(item, depth - 1)


def _unescaped(value: Plain) -> Plain:
    kind = type(value)
    if kind is list:
        return [_unescaped(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if key == "$float" and content in ("nan", "inf", "-inf"):
            return float(content)
        if key == "$dict" and type(content) is list:
            return _dict_of(content)
    if any(key[:1] == "$" for key in value):
        raise ValueError(f"{next(iter(value))!r} is not a known escape")
    return {key: _unescaped(item) for key, item in value.items()}


def _dict_of(pairs: list[Plain]) -> dict[str | int, Plain]:
    if not all(type(pair) is list and len(pair) == 2 for pair in pairs):
        raise ValueError("$dict must hold pairs")
    unescaped = {}
    for raw_key, item in pairs:
        key = _unescaped(raw_key)
        if type(key) is not str and type(key) is not int:
            raise ValueError(f"{key!r} is not a valid key")
        unescaped[key] = _unescaped(item)
    return unescaped


def plain_within(value: object, path: str = "info", limit_bytes: int = MAX_INFO_BYTES) -> Plain:
    """Like :func:`plain`, for a value that must also fit into ``limit_bytes`` of a message.

    Raises
    ------
    NotPlain
        If it is not plain or too large; the message names the largest part and its size.
    """
    copy = plain(value, path)
    encode(copy, path, limit_bytes=limit_bytes)
    return copy
