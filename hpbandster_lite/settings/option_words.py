"""Options in the words of the interface through which a user gives them: the command line, a search file, Python.

Law of this file: text in, text out; an error is written once, with the names of Python, and translated here. The name
of an option is found by rule, so a text that means something else by the same word stays as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection

from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.options import OPTIONS, Option


def as_written(name: str, value: object = None, *, is_call: bool) -> str:
    """An option as its user writes it: ``--seed 7`` on the command line, ``seed=7`` in a call of ``minimize``."""
    about = OPTIONS[name]
    if not is_call:
        return about.flag if value is None else f"{about.flag} {value}"
    if value is None and about.kind is kinds.FLAG:
        value = True
    return name if value is None else f"{name}={value!r}"


def for_command_line(text: str) -> str:
    """An error's text with the options that it names as they are typed: ``--wall-time`` for ``wall_time_s``.

    A name with an underscore is always an option's. One without is also a plain word: it is an option's at the
    beginning, before a value, and where the text says what to give or to leave out.
    """
    return _with_options(text, _as_typed)


def for_search_file(text: str, names: Collection[str]) -> str | None:
    """As :func:`for_command_line` where a search file has the values of some options: ``[limits] wall_time``.

    Returns
    -------
    str or None
        None if the text names none of them.
    """
    in_file = [OPTIONS[name] for name in names if name in OPTIONS]
    shown = _with_options(text, lambda option, value: (_as_key if option in in_file else _as_typed)(option, value))
    for option in in_file:
        if option.has_flag:
            shown = re.sub(rf"(?<![\w-]){option.flag}(?![\w-])", _as_key(option, None), shown)
    return None if shown == for_command_line(text) else shown


def _with_options(text: str, written: Callable[[Option, str | None], str]) -> str:
    def replaced(found: re.Match[str]) -> str:
        value = found["value"] if found["given"] else None
        return written(OPTIONS[found["name"]], value) if _names_an_option(found) else found[0]

    return _named_options().sub(replaced, text)


@functools.cache
def _named_options() -> re.Pattern[str]:
    names = "|".join(sorted(OPTIONS, key=len, reverse=True))
    return re.compile(
        rf"(?<![\w./'\"`-])(?P<name>{names})(?:(?P<given>=)(?P<quote>'?)(?P<value>[\w.:+-]*)(?P=quote))?(?![\w./(])"
    )


def _names_an_option(found: re.Match[str]) -> bool:
    before, after = found.string[: found.start()], found.string[found.end() :]
    is_subject = not before and after.startswith((" must ", " is ", " '", "["))
    is_given = bool(found["given"])
    return "_" in found["name"] or is_given or is_subject or before.endswith(("give either ", "leave "))


def _as_typed(option: Option, value: str | None) -> str:
    if not option.has_flag:
        return option.key if value is None else f"{option.key} = {value}"
    return option.flag if value is None else f"{option.flag} {value}".rstrip()


def _as_key(option: Option, value: str | None) -> str:
    key = f"[{option.group.table}] {option.key}" if option.group.table else option.key
    if value is None:
        return key
    return f"{key} = {value}" if re.fullmatch(r"[-+.\w]*\d|true|false|inf|nan", value) else f'{key} = "{value}"'
