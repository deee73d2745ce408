"""The types of options as pydantic models, made from the table: they check values and describe search files to editors.

Law of this file: it alone imports pydantic, and it is imported only where unchecked values arrive: where a search file
is read, and where Python code calls :func:`hpbandster_lite.minimize`. It checks types; what a value means is checked
where it acts, with the same error for the command line, a search file and Python.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from hpbandster_lite.errors import UsageError
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.options import FREE_TABLES, Option, keys_by_table, options_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_RecordT = TypeVar("_RecordT")
_STRICT = ConfigDict(strict=True, extra="forbid")
_FREE_TYPE = dict[str, bool | int | float | str]
_FILE_HELP = "A search in one file: hpbandster-lite run search.toml"
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
    example = tomllib.loads(f"value = {option.example}")["value"]
    about = Field(default=None, description=plain_help(option), examples=[example], json_schema_extra=extra)
    return _not_empty(option.kind.in_file), about


def _choices(accepted: Sequence[str]) -> dict[str, Any]:
    if not any(choice.endswith(":N") for choice in accepted):
        return {"enum": list(accepted)}
    return {"pattern": f"^({'|'.join(choice.replace(':N', ':[1-9][0-9]*') for choice in accepted)})$"}


def _not_empty(kind: Any) -> Any:
    return Annotated[str, Field(min_length=1)] if kind is str else kind


def plain_help(option: Option) -> str:
    """Help of an option in one paragraph, with its default."""
    return option.help + (f" Default: {option.otherwise}." if option.otherwise else "")


def typed(record: _RecordT) -> _RecordT:
    """A record of options whose values have the types of the table; numpy numbers become Python numbers.

    Raises
    ------
    UsageError
        With the option, the value and what is accepted.
    """
    record_type: type = type(record)
    options = options_of(record_type)
    given = {name: _python_number(getattr(record, name)) for name in options}
    try:
        _record_model(record_type).model_validate(given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        wanted = "a number of seconds" if options[name].kind is kinds.DURATION else options[name].kind.wanted
        raise UsageError(f"{name} must be {wanted.removesuffix(' in quotes')}, got {given[name]!r:.100}") from error
    return dataclasses.replace(record, **given)  # type: ignore[type-var]


@functools.cache
def _record_model(record_type: type) -> type[BaseModel]:
    options = options_of(record_type)
    fields: dict[str, Any] = {name: (_python_type(option), option.default) for name, option in options.items()}
    return create_model(record_type.__name__, __config__=_STRICT, **fields)


def _python_type(option: Option) -> Any:
    if option.kind in (kinds.CONFIGURATIONS, kinds.PARAMETERS, kinds.ADDRESS):
        # Space and sampler check what is in them, and name the nearest known name.
        return Any
    kind: Any = float if option.kind is kinds.DURATION else option.kind.in_file
    if option.kind is kinds.DEVICES:
        kind = str
    if option.kind is kinds.NUMBERS:
        kind = tuple[float, ...]
    return kind | None if option.default is None else kind


def _python_number(value: Any) -> Any:
    match value:
        case bool():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case _:
            return value
