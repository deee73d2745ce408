"""Arguments of Python as the values of options: numpy's numbers, paths, durations, and tables of pandas are converted.

Law of this file: it accepts the types that :mod:`~hpbandster_lite.settings.schema` accepts. It decides only about
values that are right at a glance, which most are, because pydantic takes 0.1 s to import before a search can start.
"""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.initial_file import read_initial
from hpbandster_lite.settings.options import Option, options_of

_TYPES: Mapping[kinds.Kind, tuple[type, ...]] = {
    **dict.fromkeys((kinds.WHOLE, kinds.WHOLE_OR_MORE), (int,)),
    **dict.fromkeys((kinds.NUMBER, kinds.NUMBER_OR_MORE, kinds.DURATION, kinds.DURATION_OR_MORE), (float, int)),
    **dict.fromkeys((kinds.TEXT, kinds.DIRECTORY, kinds.FILE), (str,)),
    kinds.FLAG: (bool,),
    kinds.PARAMETERS: (dict,),
}
"""Types of values that are right at a glance; there are others."""


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
    if not all(is_plainly_right(options[name], value) for name, value in values.items()):
        # Imported here: it takes 0.1 s, and most calls do not need it.
        from hpbandster_lite.settings.schema import refuse_wrong_types

        refuse_wrong_types(record_type, values, given)
    return {name: options[name].kind.from_python(value) for name, value in values.items()}


def is_plainly_right(option: Option, value: Any) -> bool:
    """Whether a value certainly has a type that the option accepts; False proves nothing."""
    if value is None:
        return option.default is None
    if type(value) is str and not value:
        return False
    is_default = type(value) is type(option.default) and value == option.default
    return is_default or type(value) in _TYPES.get(option.kind, ())


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
