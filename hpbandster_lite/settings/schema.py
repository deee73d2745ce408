"""The types of options as pydantic models, made from the table: they check values and describe search files to editors.

Law of this file: it alone imports pydantic, and it is imported only where unchecked values arrive: where a search file
is read, and where Python code calls :func:`hpbandster_lite.minimize` with a value that may be wrong. It checks types;
what a value means is checked where it acts, with the same error for the command line, a search file and Python.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from hpbandster_lite.errors import UsageError
from hpbandster_lite.settings import kinds
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


def refuse_wrong_types(record_type: type, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse values of a record of options that do not have the types of the table.

    Raises
    ------
    UsageError
        With the option, the value as it was ``given``, and what is accepted.
    """
    try:
        _record_model(record_type).model_validate({name: _as_text(value) for name, value in values.items()})
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise UsageError(_wrong_type(options_of(record_type)[name], given[name])) from error


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
