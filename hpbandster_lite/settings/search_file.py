"""A whole search in one TOML file: read, checked by name and type, and written.

Law of this file: a key is the option of the command line of the same name, in the table of its group; what a value
means is checked where the option's is. An unknown key is refused with the nearest known one, a value of a wrong type
with what is right; a relative path counts from the file's own directory.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError, did_you_mean
from hpbandster_lite.problems import with_options
from hpbandster_lite.problems.options import FROM, target_of, text_of
from hpbandster_lite.records import Plain, Value
from hpbandster_lite.rundir import RunDirectory, write_atomically
from hpbandster_lite.settings.prepare import Prepared, read_initial, seconds

SUFFIX = ".toml"
FILE_NAME = "search.toml"
"""In a run directory: the settings of its search, as they are in effect."""
INITIAL_NAME = "initial.json"
PARAMETERS = "parameters"
"""The table of the algorithm's parameters, whose names the sampler knows."""
OPTIONS = "options"
"""The table of the problem's options, whose names and types the problem knows."""
FREE = (PARAMETERS, OPTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchFile:
    """What a file says, with the names of :class:`~hpbandster_lite.settings.SearchOptions` and of the commands.

    Parameters
    ----------
    problem
        Reference of the problem.
    search
        Fields of SearchOptions and, beside them, of its limits; the sampler's parameters are under ``sampler``.
    command
        Options of the commands themselves: ``run_dir``, ``workers``, ``timeout``, ``nameserver``, ...
    """

    problem: str
    search: Mapping[str, Any] = field(default_factory=dict)
    command: Mapping[str, Any] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------- reading


class _Wrong(Exception):
    """A value of another type than its key's."""


def _number(value: Any, base: Path) -> float:
    del base
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise _Wrong


def _whole(value: Any, base: Path) -> int:
    del base
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _Wrong


def _text(value: Any, base: Path) -> str:
    del base
    if isinstance(value, str) and value:
        return value
    raise _Wrong


def _flag(value: Any, base: Path) -> bool:
    del base
    if isinstance(value, bool):
        return value
    raise _Wrong


def _numbers(value: Any, base: Path) -> tuple[float, ...]:
    if isinstance(value, list):
        return tuple(float(_number(item, base)) for item in value)
    raise _Wrong


def _duration(value: Any, base: Path) -> float:
    try:
        return float(_number(value, base))
    except _Wrong:
        return seconds("", _text(value, base))


def _duration_text(value: Any, base: Path) -> str:
    """A duration as it would be typed."""
    if isinstance(value, str):
        seconds("", value)
        return value
    return f"{_number(value, base):f}"


def _count_text(value: Any, base: Path) -> str:
    """A number or text as it would be typed."""
    return _text(value, base) if isinstance(value, str) else str(_whole(value, base))


def _path(value: Any, base: Path) -> Path:
    return base / Path(_text(value, base)).expanduser()


def _reference(value: Any, base: Path) -> str:
    name, mark, options = _text(value, base).partition("?")
    where, colon, attribute = name.partition(":")
    whole = f"{_path(where, base)}{colon}{attribute}" if where.endswith(".py") or "/" in where else name
    return f"{whole}{mark}{options}"


def _initial(value: Any, base: Path) -> tuple[Mapping[str, Value], ...]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return tuple(value)
    return read_initial(_path(value, base))


@dataclass(frozen=True, slots=True)
class _Key:
    """A key: how its value is read, what is said where it is another, and where the value belongs."""

    read: Callable[[Any, Path], Any]
    wanted: str
    example: str
    target: str = ""
    is_command: bool = False


def _num(example: str) -> _Key:
    return _Key(_number, "a number", example)


def _int(example: str, *, is_command: bool = False) -> _Key:
    return _Key(_whole, "a whole number", example, is_command=is_command)


def _word(example: str, *, is_command: bool = False) -> _Key:
    return _Key(_text, "text in quotes", example, is_command=is_command)


_TIME = "seconds, or text such as 90s, 30m, 12h or 2d"

KEYS: Mapping[str, Mapping[str, _Key]] = {
    "": {
        "problem": _Key(_reference, "the name of a problem", '"net.py:problem"'),
        "run_dir": _Key(_path, "the path of a directory", '"runs/net"', is_command=True),
        "keep_checkpoints": _word('"needed"', is_command=True),
    },
    "budgets": {
        "min_budget": _num("1"),
        "max_budget": _num("27"),
        "eta": _num("3"),
        "budgets": _Key(_numbers, "a list of numbers", "[1, 3, 9]"),
        "unit": _word('"epochs"'),
        "bracket_rule": _word('"floor"'),
    },
    "search": {
        "algorithm": _word('"bohb"'),
        "seed": _int("7"),
        "initial": _Key(_initial, "a list of configurations, or the path of a JSON file with one", "[{lr = 0.1}]"),
        "skip_default": _Key(_flag, "true or false", "true"),
    },
    "limits": {
        "brackets": _int("5"),
        "evaluations": _int("100"),
        "total_budget": _num("1000"),
        "max_time": _Key(_duration, _TIME, '"12h"', "wall_time_s"),
        "target_loss": _num("0.05"),
    },
    "workers": {
        "workers": _int("4", is_command=True),
        "threads": _int("2", is_command=True),
        "gpus": _Key(_count_text, 'a whole number, "all", or tokens in quotes', '"all"', is_command=True),
        "gpus_per_worker": _int("2", is_command=True),
        "timeout": _Key(_duration_text, _TIME, '"30m"', is_command=True),
        "in_agent": _Key(_flag, "true or false", "true", is_command=True),
        "idle_timeout": _Key(_duration_text, _TIME, '"10m"', is_command=True),
        "max_evaluations": _int("100", is_command=True),
        "max_concurrent": _int("8"),
    },
    "service": {
        "host": _word('"127.0.0.1"', is_command=True),
        "interface": _word('"eth0"', is_command=True),
        "port": _int("0", is_command=True),
        "tls": _Key(_path, "the path of a directory", '"tls"', is_command=True),
        "nameserver": _word('"127.0.0.1:9090"', is_command=True),
        "nameserver_key": _Key(_path, "the path of a file", '"names.key"', is_command=True),
        "max_attempts": _int("3"),
        "lease_s": _num("60"),
        "heartbeat_s": _num("5"),
    },
}
"""Every table with its keys; the top of the file is the table without a name."""


def is_search_file(problem: str) -> bool:
    """Whether what stands in a problem's place is the name of a search file."""
    return problem.endswith(SUFFIX)


def read_search_file(path: Path) -> SearchFile:
    """Read a search file.

    Raises
    ------
    UsageError
        If it cannot be read, is no TOML, has an unknown key or a value of a wrong type, or names no problem.
    """
    # Here: a master, which only writes such a file, starts without it.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        beside = [entry.name for entry in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, sorted(beside)) if beside else ""
        raise UsageError(f"there is no search file {path}{hint}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the search file {path} cannot be read: {error}") from error
    return _understood(content, path)


def _understood(content: Mapping[str, Any], path: Path) -> SearchFile:
    tables = [*filter(None, KEYS), *FREE]
    top = {name: value for name, value in content.items() if name not in tables}
    search: dict[str, Any] = {}
    command: dict[str, Any] = {}
    free: dict[str, dict[str, Value]] = {}
    for name in ("", *tables):
        table = content.get(name, {}) if name else top
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {name} = {table!r:.60} must be a table; write [{name}] and its keys below")
        if name in FREE:
            free[name] = _free(name, table, path)
            continue
        for key, value in table.items():
            entry = KEYS[name].get(key)
            if entry is None:
                raise UsageError(f"{path}: {_unknown(name, key)}")
            told = command if entry.is_command else search
            told[entry.target or key] = _value(entry, name, key, value, path)
    problem = search.pop("problem", None)
    if problem is None:
        raise UsageError(f'{path} names no problem; write one at its top, for example problem = "digits"')
    problem = with_options(problem, _problem_options(free[OPTIONS], path.parent))
    return SearchFile(problem=problem, search={**search, "sampler": free[PARAMETERS]}, command=command)


def _value(entry: _Key, table: str, key: str, value: Any, path: Path) -> Any:
    try:
        return entry.read(value, path.parent)
    except _Wrong:
        wrong = f"{_in_table(table)}{key} = {_as_toml(value)} is {_kind(value)}"
    except UsageError as error:
        # A duration or a file that was found out where all are.
        if entry.wanted != _TIME:
            raise UsageError(f"{path}: {error}") from error
        wrong = f"{_in_table(table)}{key} = {_as_toml(value)} is no duration"
    raise UsageError(f"{path}: {wrong}; it must be {entry.wanted}, for example {key} = {entry.example}")


def _problem_options(table: Mapping[str, Value], base: Path) -> dict[str, Value]:
    """The options as a reference carries them; only the problem knows which of them are paths."""
    told = dict(table)
    told.update({f"{key}{FROM}": str(base.resolve()) for key, value in table.items() if isinstance(value, str)})
    return told


def _free(name: str, table: Mapping[str, Any], path: Path) -> dict[str, Value]:
    for key, value in table.items():
        if not isinstance(value, bool | int | float | str):
            raise UsageError(
                f"{path}: [{name}] {key} = {_as_toml(value)} is {_kind(value)}; it must be one number or word"
            )
    return dict(table)


def _unknown(table: str, key: str) -> str:
    elsewhere = [name for name, keys in KEYS.items() if key in keys]
    if elsewhere:
        return f"{_in_table(table)}{key} stands in the wrong place; it belongs {_where(elsewhere[0])}"
    if not table:
        known = [*KEYS[""], *filter(None, KEYS), *FREE]
        return f"there is no key or table {key!r}{did_you_mean(key, sorted(known))}"
    return f"[{table}] has no key {key!r}{did_you_mean(key, sorted(KEYS[table]))}"


def _where(table: str) -> str:
    return f"under [{table}]" if table else "at the top of the file"


def _in_table(table: str) -> str:
    return f"[{table}] " if table else ""


def _kind(value: Any) -> str:
    # bool before int, of which it is one.
    names: Mapping[type, str] = {
        bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table",
    }  # fmt: skip
    return next((name for kind, name in names.items() if isinstance(value, kind)), "a date or time")


def _as_toml(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ------------------------------------------------------------------------------------------------------------- writing


def keep_search_file(directory: RunDirectory, prepared: Prepared, command: Mapping[str, Plain]) -> None:
    """Write the settings in effect into the run directory, so that ``run DIR/search.toml`` goes on with its search.

    Parameters
    ----------
    directory
        Of the search.
    prepared
        What defines it, and when it stops.
    command
        Options of the commands by their names; ``None`` where one was left out.

    Raises
    ------
    RunDirectoryError
        If it cannot be written.
    """
    initial = prepared.settings.initial
    if initial:
        write_atomically(directory.path / INITIAL_NAME, json.dumps([dict(each) for each in initial], indent=1) + "\n")
    write_atomically(directory.path / FILE_NAME, search_text(prepared, command))


def search_text(prepared: Prepared, command: Mapping[str, Plain]) -> str:
    """The text of the file that :func:`keep_search_file` writes."""
    # Here: it brings numpy, which most commands can do without.
    from hpbandster_lite.samplers import sampler_parameters

    settings, limits = prepared.settings, dataclasses.asdict(prepared.limits)
    values = {
        **command,
        **dataclasses.asdict(dataclasses.replace(settings, sampler={}, initial=())),
        **limits,
        "problem": target_of(settings.problem.reference),
        "run_dir": ".",
        "initial": INITIAL_NAME if settings.initial else None,
    }
    lines = [
        "# The settings of the search in this directory, as they are in effect; written anew by each start.",
        "# hpbandster-lite run with the path of this file goes on with the search. A copy that is to begin another one",
        "# names another run_dir, or none.",
    ]
    for table, keys in KEYS.items():
        told = [(key, values.get(entry.target or key)) for key, entry in keys.items()]
        written = [f"{key} = {_written(value)}" for key, value in told if value is not None]
        lines += ["", f"[{table}]"] if table and written else []
        lines += written
    lines += ["", f"[{OPTIONS}]"] if settings.problem.options else []
    for option in settings.problem.options:
        value = option.value if option.value is not None else text_of(None)
        lines.append(f"{'# ' if option.value == option.default else ''}{option.name} = {_written(value)}")
    lines += ["", f"[{PARAMETERS}]"]
    for name, default in sampler_parameters(settings.algorithm).items():
        chosen = settings.sampler.get(name)
        if chosen is not None:
            lines.append(f"{_bare(name)} = {_written(chosen)}")
        elif default is not None:
            lines.append(f"# {name} = {_written(default)}")
    text = "\n".join(lines) + "\n"
    # A path that is no UTF-8 cannot be said in TOML; the file is for people then.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _written(value: Plain) -> str:
    """A value as TOML has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case _:
            # JSON's escapes are TOML's, but for DEL, which TOML wants escaped, too.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _bare(name: str) -> str:
    return name if name.replace("_", "").isalnum() and name.isascii() else _written(name)
