"""The types of options as pydantic models, made from the table: they check values and describe search files to editors.

Law of this file: it alone imports pydantic, and it is imported only where unchecked values arrive: where a search file
is read, and where Python code calls :func:`hpbandster_lite.minimize`. It checks types; what a value means is checked
where it acts, with the same error for the command line, a search file and Python.
"""

from __future__ import annotations

import datetime
import decimal
import functools
import math
import numbers
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from hpbandster_lite.errors import UsageError
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.initial_file import read_initial
from hpbandster_lite.settings.options import FREE_TABLES, Option, keys_by_table, options_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_STRICT = ConfigDict(strict=True, extra="forbid")
_FREE_TYPE = dict[str, bool | int | float | str]
_FILE_HELP = "A search in one file: hpbandster-lite run search.toml"
_MORE = Annotated[str, Field(pattern=r"^\+ *[0-9.]")]
"""A limit that is an amount to add to what the search has."""
_MOST_SHOWN = 100
"""Characters of a wrong value in an error."""
_PROBLEM_HELP = "A shipped problem, a file (path/to/file.py), a module, or an object in either (file.py:problem)."


class Fault(NamedTuple):
    """A wrong entry of a search file: its table (empty for the top), its key, and whether the key is unknown."""

    table: str
    key: str
    is_unknown: bool


def faults(content: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with the content of a search file, in its order; at most one fault an entry."""
    try:
        _file_model().model_validate(content)
    except ValidationError as error:
        found = {_place(each["loc"]): each["type"] == "extra_forbidden" for each in error.errors()}
        return [Fault(*place, is_unknown) for place, is_unknown in found.items()]
    return []


def _place(location: tuple[int | str, ...]) -> tuple[str, str]:
    tables = {*keys_by_table(), *FREE_TABLES}
    first, *rest = map(str, location)
    return (first, rest[0] if rest else "") if first in tables else ("", first)


def json_schema() -> dict[str, Any]:
    """JSON schema of a search file, with which editors complete and check it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_file_model().model_json_schema()}


@functools.cache
def _file_model() -> type[BaseModel]:
    top: dict[str, Any] = {"problem": (_not_empty(str), Field(default=None, description=_PROBLEM_HELP))}
    for table, keys in keys_by_table().items():
        fields: dict[str, Any] = {key: _file_field(option) for key, option in keys.items()}
        if table:
            top[table] = (create_model(table, __config__=_STRICT, **fields), None)
        else:
            top.update(fields)
    top.update(dict.fromkeys(FREE_TABLES, (_FREE_TYPE, None)))
    return create_model("Search file", __config__=_STRICT, __doc__=_FILE_HELP, **top)


def _file_field(option: Option) -> tuple[Any, Any]:
    extra: dict[str, Any] = _choices(option.accepted) if option.choices else {}
    examples = [_python_example(option)]
    about = Field(default=None, description=plain_help(option), examples=examples, json_schema_extra=extra)
    return _whole_too(option.kind, _file_type(option.kind)), about


def _choices(accepted: Sequence[str]) -> dict[str, Any]:
    if not any(choice.endswith(":N") for choice in accepted):
        return {"enum": list(accepted)}
    return {"pattern": f"^({'|'.join(choice.replace(':N', ':[1-9][0-9]*') for choice in accepted)})$"}


def _file_type(kind: kinds.Kind) -> Any:
    if kind is kinds.WHOLE_OR_MORE:
        return int | _MORE
    return float | _MORE if kind is kinds.NUMBER_OR_MORE else _not_empty(kind.in_file)


def _not_empty(kind: Any) -> Any:
    return Annotated[str, Field(min_length=1)] if kind is str else kind


def _whole_too(kind: kinds.Kind, accepted: Any) -> Any:
    """A type that also accepts a float without a fraction, where a whole number is wanted."""
    return Annotated[accepted, BeforeValidator(kinds.whole)] if kind.takes_whole else accepted


def plain_help(option: Option) -> str:
    """Help of an option in one paragraph, with its default."""
    return option.help + (f" Default: {option.otherwise}." if option.otherwise else "")


def typed_values(record_type: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Values for a record of options, with the types of the table.

    numpy's values become Python's, and floats without a fraction whole numbers where these are wanted.

    Raises
    ------
    UsageError
        With the option, the value and what is accepted.
    """
    options = options_of(record_type)
    values = {name: _python_value(options[name], value) for name, value in given.items()}
    try:
        _record_model(record_type).model_validate({name: _as_text(value) for name, value in values.items()})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise UsageError(_wrong_type(options[name], given[name])) from error
    return {name: options[name].kind.from_python(value) for name, value in values.items()}


def _as_text(value: Any) -> Any:
    """Escapes for what pydantic refuses in text: lone surrogates, which names of files may contain."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _wrong_type(option: Option, value: Any) -> str:
    """What is wrong in an argument of Python, and an example of a right one."""
    is_duration = option.kind in kinds.DURATIONS
    wanted = "a number of seconds" if is_duration else option.kind.wanted.removesuffix(" in quotes")
    if option.kind is kinds.DURATION_OR_MORE:
        wanted += ', or text such as "+3600" for so many more'
    example = _python_example(option)
    if is_duration:
        example = kinds.whole(kinds.seconds(option.name, str(example)))
    text = repr(value)
    shown = text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."
    return f"{option.name} must be {wanted}, got {shown}; give for example {option.name}={example!r}"


def _python_example(option: Option) -> Any:
    return tomllib.loads(f"value = {option.example or 'true'}")["value"]


@functools.cache
def _record_model(record_type: type) -> type[BaseModel]:
    options = options_of(record_type)
    fields: dict[str, Any] = {name: (_python_type(option), option.default) for name, option in options.items()}
    return create_model(record_type.__name__, __config__=_STRICT, **fields)


def _python_type(option: Option) -> Any:
    # Space and sampler check what is in configurations and parameters, and name the nearest known name.
    others: dict[kinds.Kind, Any] = {
        kinds.CONFIGURATIONS: tuple[dict[Any, Any], ...], kinds.PARAMETERS: dict[Any, Any], kinds.ADDRESS: Any,
        kinds.DURATION: float, kinds.NUMBERS: tuple[float, ...],
    }  # fmt: skip
    kind = others.get(option.kind, _file_type(option.kind))
    if option.kind is kinds.DURATION_OR_MORE:
        kind = float | _MORE
    return kind | None if option.default is None else kind


def _python_value(option: Option, value: Any) -> Any:
    if option.kind is kinds.CONFIGURATIONS:
        return _configurations(option, value)
    match value:
        case str() if option.kind in (kinds.DIRECTORY, kinds.FILE):
            return _path(option, value)
        case None | str() | bytes():
            return value
        case os.PathLike() if option.kind in (kinds.DIRECTORY, kinds.FILE):
            return _path(option, os.fspath(value))
        case datetime.timedelta() if option.kind in kinds.DURATIONS:
            return value.total_seconds()
        case Mapping():
            return _python_table(value)
        case Iterable() if option.kind is kinds.NUMBERS:
            return tuple(map(_python_number, value))
    number = _python_number(value)
    return kinds.whole(number) if option.kind.takes_whole else number


def _path(option: Option, value: str | bytes) -> str | bytes:
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"{option.name} must be {option.kind.wanted}, got {value!r:.100}, which has a null character")
    return value


def _configurations(option: Option, value: Any) -> Any:
    """Configurations, of which one is a list of one: mappings, rows of a table of pandas, a table, or a file."""
    if isinstance(value, str | os.PathLike) and value:
        return read_initial(Path(os.fspath(value)), option.name)
    if _is_of_pandas(value, "DataFrame"):
        value = value.to_dict("records")
        return tuple(_python_table(_without_missing(each)) for each in value)
    if isinstance(value, Mapping) or _is_of_pandas(value, "Series") or _has_values(value):
        value = (value,)
    if value is None or isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return value
    return tuple(map(_configuration, value))


def _configuration(value: Any) -> Any:
    if _is_of_pandas(value, "Series"):
        return _python_table(_without_missing(value.to_dict()))
    if _has_values(value):
        value = value.values
    return _python_table(value) if isinstance(value, Mapping) else value


def _has_values(value: Any) -> bool:
    """Whether it is an incumbent of a result, or another object with the values of a configuration."""
    return isinstance(getattr(value, "values", None), Mapping)


def _is_of_pandas(value: Any, name: str) -> bool:
    # By name: a process with such a value has imported pandas.
    return any(each.__name__ == name and each.__module__.partition(".")[0] == "pandas" for each in type(value).__mro__)


def _without_missing(row: Mapping[Any, Any]) -> dict[Any, Any]:
    """The values of a row of pandas, in which NaN stands for none; those of our tables stay, by which it is one."""
    return {
        name: value
        for name, value in row.items()
        if str(name).startswith("config.") or not (isinstance(value, float) and math.isnan(value))
    }


def _python_table(values: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: _python_list(value) for name, value in values.items()}


def _python_list(value: Any) -> Any:
    """A choice that is an array of numpy as a list, which stands for the tuple with these values."""
    is_array = bool(getattr(value, "shape", None)) and callable(getattr(value, "tolist", None))
    return value.tolist() if is_array else _python_number(value)


def _python_number(value: Any) -> Any:
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        # A scalar of numpy, or an array or tensor without an axis.
        value = value.item()
    match value:
        case bool():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real() | decimal.Decimal():
            return float(value)
        case _:
            return value
