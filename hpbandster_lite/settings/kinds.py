"""The kinds of values that options have, and how each kind is written on the command line and in a search file.

Law of this file: a kind converts between text, TOML and the value that a record holds. It knows no option by name and
imports nothing slow. A relative path in a search file counts from the directory of the file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.host_port import check_port, format_host_port, parse_host_port
from hpbandster_lite.records import Plain, Value, Values
from hpbandster_lite.records.decorator import record
from hpbandster_lite.settings.initial_file import read_initial

SIZES = "50GB, 1.5TB, 512MiB or a number of bytes"
TIME = "seconds, or text such as 90s, 30m, 1h30m, 12h or 2d"
_UNITS: Mapping[str, int] = {
    "": 1,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
"""Seconds of a unit of time."""
_NUMBER = r"(?:\d+(?:_\d+)*(?:\.\d*)?|\.\d+)"
_AMOUNT = re.compile(rf"({_NUMBER}(?:e[+-]?\d{{1,2}})?)\s*([a-z]*)\s*")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")


def _same(_flag: str, value: Any) -> Any:
    return value


def _same_in_file(value: Any, _base: Path) -> Any:
    return value


@record(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a value is written.

    Parameters
    ----------
    wanted
        What an error asks for in a search file.
    in_file
        Type of the value in a search file, as pydantic checks it.
    typed
        Type that the command line parses; ``list`` for an option that may be given more than once.
    read
        Makes the value from the flag and what the command line parsed.
    from_file
        Makes the value from that in a search file and the directory of the file.
    to_file
        Makes the value in a search file.
    typed_hint
        How a value is typed on the command line, where its help should say so.
    takes_whole
        Whether a float without a fraction counts as a whole number.
    from_python
        Makes the value from that of an argument of Python with the right type.
    amount
        Reads what follows the plus sign of a limit such as ``+50``; None for a kind without such values.
    """

    wanted: str
    in_file: Any
    typed: type = str
    read: Callable[[str, Any], Any] = _same
    from_file: Callable[[Any, Path], Any] = _same_in_file
    to_file: Callable[[Any], Plain] = lambda value: value
    typed_hint: str = ""
    takes_whole: bool = False
    from_python: Callable[[Any], Any] = lambda value: value
    amount: Callable[[str, str], float] | None = None


def seconds(option: str, text: str) -> float:
    """Read a duration such as ``90``, ``30m``, ``1h30m``, ``2 days``, ``1:30:00`` or ``1-12:00:00`` as seconds.

    Raises
    ------
    UsageError
        If the text is not a duration; the message names the option.
    """
    written = text.strip().lower()
    clock = _CLOCK.fullmatch(written)
    if clock is not None and max(int(clock[3]), int(clock[4])) < 60:
        return ((int(clock[1] or 0) * 24 + int(clock[2])) * 60 + int(clock[3])) * 60.0 + int(clock[4])
    amounts = [(each[1], each[2]) for each in _AMOUNT.finditer(written)]
    sizes = [_UNITS.get(unit, 0) for _, unit in amounts]
    # The largest unit first, and each once: 1h30m.
    is_ordered = len(sizes) == 1 or (sizes == sorted(set(sizes), reverse=True) and all(unit for _, unit in amounts))
    if not amounts or not all(sizes) or not is_ordered or "".join(map("".join, amounts)) != re.sub(r"\s", "", written):
        raise UsageError(f"{option} {text!r} is not a duration; write 90 (seconds), 30m, 1h30m, 12h or 2d")
    return sum(float(number) * size for (number, _), size in zip(amounts, sizes, strict=True))


def byte_count(option: str, size: int | str) -> int:
    """Read a size such as ``50GB``, ``1.5TB``, ``512MiB`` or a number of bytes as bytes.

    Raises
    ------
    UsageError
        If it is not a size of at least one byte; the message names the option.
    """
    match = re.fullmatch(rf"({_NUMBER}(?:e\+?\d{{1,3}})?)\s*(?:([kmgt])(i)?)?b?", str(size).strip(), re.IGNORECASE)
    power = 0 if match is None or match[2] is None else "kmgt".index(match[2].lower()) + 1
    count = 0.0 if match is None else float(match[1]) * (1024 if match[3] else 1000) ** power
    if isinstance(size, bool) or not 1 <= count < math.inf:
        raise UsageError(f"{option} {size!r} is not a size; write {SIZES}")
    return int(count)


def whole(value: Any) -> Any:
    """A float without a fraction, such as ``1e3``, as the whole number that it is; any other value unchanged."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def whole_number(text: str | int) -> int:
    """Read a whole number, which may also be written as ``1e3`` or ``3.0``.

    Raises
    ------
    UsageError
        If the text is not a whole number.
    """
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = whole(float(text))
    except ValueError:
        number = None
    if not isinstance(number, int):
        raise UsageError(f"{text!r} is not a whole number; write one such as 10 or 1e1")
    return number


def is_more(value: object) -> bool:
    """Whether a limit is an amount to add to what the search has."""
    return isinstance(value, str) and value.startswith("+")


def _whole_number(option: str, text: str) -> int:
    try:
        number = whole(float(text))
    except ValueError:
        number = None
    if not isinstance(number, int):
        raise UsageError(f"{option} {text!r} is not a whole number; write 50, or +50 for 50 more than before")
    return number


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a number; write 50, or +50 for 50 more than before") from error


def _or_more(amount: Callable[[str, str], float]) -> Callable[[str, str], float | str]:
    """Read a number, or check and keep a text such as ``+50``."""

    def read(flag: str, text: str) -> float | str:
        bare = text.strip().removeprefix("+")
        try:
            number = amount(flag, bare)
        except UsageError as error:
            # With the plus sign, as it was given.
            raise UsageError(str(error).replace(repr(bare), repr(text), 1)) from error
        return f"+{text.strip()[1:].strip()}" if is_more(text.strip()) else number

    return read


def _or_more_from_file(amount: Callable[[str, str], float]) -> Callable[[float | str, Path], float | str]:
    read = _or_more(amount)
    return lambda value, _base: read("", value) if isinstance(value, str) else whole(value)


def _whole_from_file(value: Any, _base: Path) -> Any:
    return whole(value)


def _count_or_tokens(_flag: str, text: str) -> str:
    try:
        return str(whole_number(text))
    except UsageError:
        return text


def _checked_size(option: str, size: str) -> str:
    byte_count(option, size)
    return size


def _initial_from_file(value: list[Values] | Values | str, base: Path) -> tuple[Values, ...]:
    if isinstance(value, Mapping):
        return (value,)
    return read_initial(Path(_path_from_file(value, base)), "initial") if isinstance(value, str) else tuple(value)


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag} {text!r}: {error}; write numbers such as 1,3,9") from error


def _assignments(flag: str, texts: list[str]) -> dict[str, Value]:
    return dict(_assignment(flag, text) for text in texts)


def _assignment(flag: str, text: str) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(
            f"{flag} {text!r} is not an assignment; write NAME=VALUE, for example {flag} random_fraction=0.2"
        )
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    if isinstance(read, list | dict):
        raise UsageError(f"{flag} {text!r}: give one number or string")
    return name.strip(), read


def _duration_from_file(value: float | str, _base: Path) -> float:
    return seconds("", value) if isinstance(value, str) else float(value)


def _path_from_file(value: str, base: Path) -> str:
    return str(base / Path(value).expanduser())


def _absolute(value: str) -> Plain:
    return str(Path(value).resolve())


def _not_empty(flag: str, text: str) -> str:
    if not text.strip():
        raise UsageError(f"{flag} {text!r} is empty; give a value, or leave it out")
    return text


def _path(wanted: str) -> Kind:
    return Kind(
        wanted=wanted,
        in_file=str,
        read=lambda flag, text: str(Path(_not_empty(flag, text))),
        from_file=_path_from_file,
        to_file=_absolute,
    )


NUMBER = Kind(wanted="a number", in_file=float, typed=float)
WHOLE = Kind(wanted="a whole number", in_file=int, typed=int, from_file=_whole_from_file, takes_whole=True)
TEXT = Kind(wanted="text in quotes", in_file=str, read=_not_empty)
FLAG = Kind(wanted="true or false", in_file=bool, typed=bool)
NUMBERS = Kind(
    wanted="a list of numbers",
    in_file=list[float],
    read=_numbers,
    from_file=lambda value, _base: tuple(map(float, value)),
    from_python=lambda value: None if value is None else tuple(map(float, value)),
    to_file=list,
)
DURATION = Kind(
    wanted=TIME,
    in_file=float | str,
    read=seconds,
    from_file=_duration_from_file,
    typed_hint="In seconds, or 30m, 1h30m, 2d.",
)
"""A record holds seconds; its field's name ends with ``_s``, the flag and the key do not."""
WHOLE_OR_MORE = Kind(
    wanted='a whole number, or text such as "+50" for so many more than before',
    in_file=int | str,
    read=_or_more(_whole_number),
    from_file=_or_more_from_file(_whole_number),
    takes_whole=True,
    amount=_whole_number,
)
"""A limit: a number, or a text such as ``+50``."""
NUMBER_OR_MORE = Kind(
    wanted='a number, or text such as "+50" for so much more than before',
    in_file=float | str,
    read=_or_more(_number),
    from_file=_or_more_from_file(_number),
    amount=_number,
)
DURATION_OR_MORE = Kind(
    wanted=f'{TIME}, or such text after "+" for so much more than before',
    in_file=float | str,
    read=_or_more(seconds),
    from_file=lambda value, _base: _or_more(seconds)("", value) if isinstance(value, str) else float(value),
    typed_hint="In seconds, or 30m, 1h30m, 2d.",
    amount=seconds,
)
DURATIONS = (DURATION, DURATION_OR_MORE)
SIZE = Kind(wanted=f"a size such as {SIZES}", in_file=int | str, read=_checked_size, from_file=_whole_from_file,
            takes_whole=True)  # fmt: skip
"""A record holds it as it was given; :func:`byte_count` reads it where it acts."""
DIRECTORY = _path("the path of a directory")
FILE = _path("the path of a file")
ADDRESS = Kind(
    wanted='text such as "login:9090"',
    in_file=str,
    read=parse_host_port,
    from_file=lambda value, _base: parse_host_port("nameserver", value),
    to_file=lambda value: format_host_port(*value),
)
PORT = Kind(wanted="a whole number", in_file=int, typed=int, read=check_port,
            from_file=lambda value, _base: check_port("port", whole(value)), takes_whole=True)  # fmt: skip
DEVICES = Kind(
    wanted='a whole number, "all", or tokens in quotes',
    in_file=int | str,
    read=_count_or_tokens,
    from_file=lambda value, _base: str(whole(value)),
    from_python=lambda value: None if value is None else str(value),
    takes_whole=True,
)
CONFIGURATIONS = Kind(
    wanted="a configuration, a list of configurations, or the path of a JSON or CSV file with them",
    in_file=list[dict[str, Any]] | dict[str, Any] | str,
    read=lambda flag, text: read_initial(Path(_not_empty(flag, text))),
    from_file=_initial_from_file,
)
PARAMETERS = Kind(
    wanted="a table of numbers and strings",
    in_file=dict[str, bool | int | float | str],
    typed=list,
    read=_assignments,
    to_file=dict,
    typed_hint="May be given more than once.",
)
"""Names that only the sampler knows; in a search file they have a table of their own."""
