"""A whole search in one TOML file: read, checked by name and type, and written.

Law of this file: the keys, their tables and their types come from the table of options (:mod:`.options`); what a value
means is checked where the option acts. An unknown key is refused with the nearest known one, a value of a wrong type
with what is accepted; a relative path counts from the file's own directory.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.errors import RunDirectoryError, SearchFileError, UsageError, did_you_mean
from hpbandster_lite.problems import with_options
from hpbandster_lite.problems.options import FROM, target_of, text_of
from hpbandster_lite.records import Plain, Value
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory, default_run_directory, write_atomically
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.options import (
    FREE_TABLES,
    OPTIONS,
    PROBLEM_OPTIONS,
    SAMPLER,
    OldName,
    Option,
    keys_by_table,
    options_of,
)

if TYPE_CHECKING:
    from hpbandster_lite.settings.prepare import Prepared
    from hpbandster_lite.settings.schema import Fault

SUFFIX = ".toml"
FILE_NAME = "search.toml"
"""In a run directory: the settings of its search, as they are in effect."""
INITIAL_NAME = "initial.json"
_HEADING = "# The settings of the search in this directory, as they are in effect"
"""Marks a file that a search wrote, version 0.1.0 included."""
_ONLY_MINIMIZE = "# Only minimize continues it"
"""Begins the second line of the file of a search that no command can continue."""
_PROBLEM_WANTED = 'the name of a problem, for example problem = "net.py:problem"'


@record(frozen=True, slots=True, kw_only=True)
class SearchFile:
    """The content of a search file.

    Parameters
    ----------
    problem
        Reference of the problem.
    values
        Values by the names of their options; the sampler's parameters are under ``sampler``.
    notes
        Messages for the user: keys with an old name.
    """

    problem: str
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def is_search_file(problem: str) -> bool:
    """Whether what is given as the problem is the name of a search file."""
    return problem.endswith(SUFFIX)


# ------------------------------------------------------------------------------------------------------------- reading


def read_search_file(path: Path) -> SearchFile:
    """Read a search file.

    Raises
    ------
    UsageError
        If it cannot be read, is not TOML, has an unknown key or a value of a wrong type, or names no problem.
    """
    # Here: a master, which only writes such a file, starts without it.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError as error:
        beside = [entry.name for entry in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
        raise UsageError(f"there is no search file {path}{did_you_mean(path.name, beside)}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"the search file {path} cannot be read: {error}") from error
    try:
        return _checked(content, path.parent)
    except UsageError as error:
        raise SearchFileError(f"{path}: {error}") from error


def _checked(content: dict[str, Any], base: Path) -> SearchFile:
    notes = _rename_old_keys(content)
    for table in [*filter(None, keys_by_table()), *FREE_TABLES]:
        value = content.get(table, {})
        if not isinstance(value, dict):
            raise UsageError(f"{table} = {value!r:.60} must be a table; write [{table}] and its keys below")
    # Here: pydantic takes longer to import than all else that a command needs from this room.
    from hpbandster_lite.settings.schema import faults

    for fault in faults(content):
        raise UsageError(_unknown(fault.table, fault.key) if fault.is_unknown else _wrong_type(content, fault))
    values = _values(content, base)
    problem = content.get("problem")
    if problem is None:
        raise UsageError('no problem is named; write one at the top, for example problem = "digits"')
    reference = with_options(_reference(problem, base), _problem_options(content.get(PROBLEM_OPTIONS, {}), base))
    return SearchFile(problem=reference, values=values, notes=tuple(notes))


def _values(content: Mapping[str, Any], base: Path) -> dict[str, Any]:
    found: dict[str, Any] = {SAMPLER: dict(content.get(SAMPLER, {}))}
    for table, keys in keys_by_table().items():
        given = content.get(table, {}) if table else content
        for key, option in keys.items():
            if key in given:
                found[option.name] = _value(option, given[key], base)
    return found


def _value(option: Option, value: Any, base: Path) -> Any:
    try:
        return option.kind.from_file(value, base)
    except UsageError as error:
        # Errors about initial configurations and addresses already say what is wrong.
        if option.kind not in (kinds.WHOLE_OR_MORE, kinds.NUMBER_OR_MORE, *kinds.DURATIONS):
            raise
        where = f"{_in_table(option.group.table)}{option.key} = {_as_toml(value)}"
        what = "a duration" if option.kind in kinds.DURATIONS else "such a limit"
        raise UsageError(f"{where} is not {what}; it must be {_wanted(option)}") from error


def _reference(text: str, base: Path) -> str:
    name, mark, options = text.partition("?")
    where, colon, attribute = name.partition(":")
    is_path = where.endswith(".py") or "/" in where
    whole = f"{base / Path(where).expanduser()}{colon}{attribute}" if is_path else name
    return f"{whole}{mark}{options}"


def _problem_options(table: Mapping[str, Value], base: Path) -> dict[str, Value]:
    """The options as a reference has them; only the problem knows which of them are paths."""
    given = dict(table)
    given.update({f"{key}{FROM}": str(base.resolve()) for key, value in table.items() if isinstance(value, str)})
    return given


# ----------------------------------------------------------------------------------------------------------- old names


def _rename_old_keys(content: dict[str, Any]) -> list[str]:
    """Give keys with an old name their new one; return the messages about them."""
    notes = []
    for option in OPTIONS.values():
        table = "" if option.kind is kinds.PARAMETERS else option.group.table
        keys = content.get(table, {}) if table else content
        for old in option.old:
            if not old.key or not isinstance(keys, dict) or old.key not in keys:
                continue
            new_name, old_name = _shown(option, table, option.key), _shown(option, table, old.key)
            if option.key in keys:
                raise UsageError(f"{old_name} is the old name of {new_name}, and both are given; remove {old_name}")
            keys[option.key] = _translated(old, table, keys.pop(old.key))
            notes.append(f"{old_name} is now {new_name}; the old name works for one more release")
    return notes


def _translated(old: OldName, table: str, value: Any) -> Any:
    """The value of a key with an old name, as the new key has it."""
    if old.means is None:
        return value
    if not isinstance(value, bool):
        wrong = f"{_in_table(table)}{old.key} = {_as_toml(value)} is {_kind(value)}"
        raise UsageError(f"{wrong}; it must be true or false, for example {old.key} = true")
    return old.means[value]


def _shown(option: Option, table: str, key: str) -> str:
    return f"[{key}]" if option.kind is kinds.PARAMETERS else f"{_in_table(table)}{key}"


# -------------------------------------------------------------------------------------------------------------- errors


def _wrong_type(content: Mapping[str, Any], fault: Fault) -> str:
    value = content[fault.table][fault.key] if fault.table else content[fault.key]
    wrong = f"{_in_table(fault.table)}{fault.key} = {_as_toml(value)} is {_kind(value)}; it must be"
    if fault.table in FREE_TABLES:
        return f"{wrong} one number or string"
    option = keys_by_table()[fault.table].get(fault.key)
    return f"{wrong} {_PROBLEM_WANTED if option is None else _wanted(option)}"


def _wanted(option: Option) -> str:
    return f"{option.kind.wanted}, for example {option.key} = {option.example}"


def _unknown(table: str, key: str) -> str:
    tables = {name: ["problem", *keys] if not name else list(keys) for name, keys in keys_by_table().items()}
    elsewhere = [name for name, keys in tables.items() if key in keys]
    if elsewhere:
        where = f"under [{elsewhere[0]}]" if elsewhere[0] else "at the top of the file"
        return f"{_in_table(table)}{key} is in the wrong place; it belongs {where}"
    if not table:
        known = [*tables[""], *filter(None, tables), *FREE_TABLES]
        return f"there is no key or table {key!r}{did_you_mean(key, known)}"
    return f"[{table}] has no key {key!r}{did_you_mean(key, tables[table])}"


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


def file_values(*records: object) -> dict[str, Plain]:
    """The values of records of options as a search file has them, by the names of the options."""
    return {
        name: option.kind.to_file(getattr(record, name))
        for record in records
        for name, option in options_of(type(record)).items()
        if option.has_key and getattr(record, name) is not None
    }


def keep_search_file(directory: RunDirectory, prepared: Prepared, command: Mapping[str, Plain]) -> None:
    """Write the settings in effect into the run directory, so that ``run DIR/search.toml`` continues its search.

    It cannot continue one whose space is in a call of ``minimize``; the file then says so.

    Parameters
    ----------
    directory
        Of the search.
    prepared
        What defines the search, and when it stops.
    command
        Options of the command that started it, see :func:`file_values`.

    Raises
    ------
    RunDirectoryError
        If the file cannot be written, or if there is one that no search wrote.
    """
    file, initial = directory.path / FILE_NAME, prepared.settings.initial
    is_ours = _first_line(file).startswith(_HEADING)
    if not is_ours and os.path.lexists(file):
        raise _foreign(file)
    if initial:
        listed, text = directory.path / INITIAL_NAME, json.dumps([dict(each) for each in initial], indent=1) + "\n"
        if not is_ours and os.path.lexists(listed) and listed.read_text("utf-8", errors="replace") != text:
            raise _foreign(listed)
        write_atomically(listed, text)
    write_atomically(file, search_text(prepared, command))


def _first_line(file: Path) -> str:
    return _first_lines(file)[0]


def _first_lines(file: Path) -> tuple[str, str]:
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return lines.readline(), lines.readline()
    except OSError:
        return "", ""


def can_run(file: Path) -> bool:
    """Whether this file of a search is there, and the command ``run`` continues its search."""
    heading, second = _first_lines(file)
    return heading.startswith(_HEADING) and not second.startswith(_ONLY_MINIMIZE)


def how_to_continue(directory: RunDirectory, reference: str) -> str:
    """What a user does to continue a search that no master serves, as the end of a sentence after "to ..., ".

    Parameters
    ----------
    directory
        Of the search.
    reference
        Of its problem.
    """
    heading, second = _first_lines(directory.path / FILE_NAME)
    # The directories that --new makes have such names, too.
    is_numbered = re.fullmatch(re.escape(default_run_directory(reference).name) + r"-\d+", directory.path.name)
    if second.startswith(_ONLY_MINIMIZE):
        # With its directory: which one a call takes without may depend on what the function reads.
        return f"call minimize again with run_dir={str(directory.path)!r} and without new"
    if is_numbered and heading.startswith(_HEADING):
        return f"run: hpbandster-lite run {shlex.quote(str(directory.path / FILE_NAME))}"
    where = f"with --run-dir {shlex.quote(str(directory.path))} and" if is_numbered else "but"
    return f"run the command that began it again, {where} without --new"


def _foreign(file: Path) -> RunDirectoryError:
    return RunDirectoryError(f"{file} was not written by a search; move it away, and the next start writes one")


def search_text(prepared: Prepared, command: Mapping[str, Plain]) -> str:
    """The text of the file that :func:`keep_search_file` writes."""
    settings = prepared.settings
    values = {
        **command,
        **dataclasses.asdict(dataclasses.replace(settings, sampler={}, initial=())),
        **dataclasses.asdict(prepared.users_limits),
        "run_dir": ".",
        "integer_budgets": settings.problem.integer_budgets or None,
        "maximize": settings.maximize or None,
        "initial": INITIAL_NAME if settings.initial else None,
    }
    how_to_run: tuple[str, ...] = (
        f"{_ONLY_MINIMIZE}, called again with this run directory: the problem is a function, whose space is in the",
        "# call, or an object that no other process can import. hpbandster-lite run needs a module, or an object in",
        "# one, that has space() and evaluate(config, budget, trial).",
    )
    if not prepared.only_minimize:
        how_to_run = (
            "# hpbandster-lite run with the path of this file continues the search. To begin another one with a copy,",
            "# give the copy another run_dir, or none.",
        )
    lines = [
        f"{_HEADING}; each start writes them anew.",
        *how_to_run,
        f"problem = {_written(target_of(settings.problem.reference))}",
    ]
    for table, keys in keys_by_table().items():
        given = [(key, values.get(option.name)) for key, option in keys.items()]
        written = [f"{key} = {_written(value)}" for key, value in given if value is not None]
        lines += ["", f"[{table}]"] if table and written else []
        lines += written
    text = "\n".join([*lines, *_problem_option_lines(prepared), *_sampler_lines(prepared)]) + "\n"
    # A path that is not valid UTF-8 cannot be written in TOML; the file is then for people only.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _problem_option_lines(prepared: Prepared) -> list[str]:
    options = prepared.settings.problem.options
    lines = ["", f"[{PROBLEM_OPTIONS}]"] if options else []
    for option in options:
        value = option.value if option.value is not None else text_of(None)
        lines.append(f"{'# ' if option.value == option.default else ''}{option.name} = {_written(value)}")
    return lines


def _sampler_lines(prepared: Prepared) -> list[str]:
    # Here: it imports numpy, which most commands do not need.
    from hpbandster_lite.samplers import sampler_parameters

    lines = ["", f"[{SAMPLER}]"]
    for name, default in sampler_parameters(prepared.settings.algorithm).items():
        chosen = prepared.settings.sampler.get(name)
        if chosen is not None:
            lines.append(f"{_bare(name)} = {_written(chosen)}")
        elif default is not None:
            lines.append(f"# {name} = {_written(default)}")
    return lines


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
            # TOML has JSON's escapes, and requires one for DEL, too.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _bare(name: str) -> str:
    return name if name.replace("_", "").isalnum() and name.isascii() else _written(name)
