"""Options of a problem: declared by the problem as a dataclass, given by users as text, converted and checked here.

Law of this file: the chosen options are part of the reference, ``cifar10?data_set=fashion_mnist&scale=0.001``, so a
process that receives a reference has the options too. A problem has options if it has both an attribute ``options``,
which is a dataclass or an instance of one, and a function ``configured(options)``, which returns the problem with these
options as its attribute ``options``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from hpbandster_lite.errors import ProblemError, UnknownOption, did_you_mean
from hpbandster_lite.problems.interface import Problem
from hpbandster_lite.records import ProblemOption, Value

FROM = ".from"
"""``data.from`` beside ``data`` is the directory to which a relative path refers; no field can have this name."""
NEGATION = "no_"
NONE = "none"
_TYPE_NAMES: Mapping[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path",
}  # fmt: skip


class _NotAValue(Exception):
    """A text that is not a value of its option's type."""


class _Declared(NamedTuple):
    """One field of a problem's options."""

    hint: Any
    default: Any
    help: str
    is_local: bool


# ----------------------------------------------------------------------------------------------------- references


def target_of(reference: str) -> str:
    """A reference without its options."""
    return reference.partition("?")[0]


def given_in(reference: str) -> dict[str, str]:
    """The options in a reference, as text; an option without ``=`` has an empty text, which sets a flag."""
    query = reference.partition("?")[2]
    if not query:
        return {}
    # Imported here: most problems have no options, and every process reads a reference.
    from urllib.parse import unquote

    pairs = (part.partition("=") for part in query.split("&") if part)
    return {unquote(name).replace("-", "_"): unquote(value) for name, _, value in pairs}


def with_options(reference: str, given: Mapping[str, Any]) -> str:
    """The reference with these options, which replace options with the same names.

    Parameters
    ----------
    reference
        The reference of a problem.
    given
        Names (with dashes or underscores) and values: text, or any valid value of an option.
    """
    if not given:
        return reference
    from urllib.parse import quote

    options = given_in(reference)
    for name, value in given.items():
        key = name.replace("-", "_")
        # The last value counts, and a new value has its own directory.
        options.pop(key, None)
        options.pop(f"{key}{FROM}", None)
        options[key] = text_of(value)
    query = "&".join(f"{quote(name)}={quote(value, safe='/:,~')}" for name, value in options.items())
    return f"{target_of(reference)}?{query}"


def text_of(value: Any) -> str:
    """A value as a user types it."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        # numpy's float64 is a float, and repr of it has the name of its type.
        return repr(float(value)).removesuffix(".0")
    return str(value)


def canonical(reference: str, options: Iterable[ProblemOption]) -> str:
    """The reference with its options in the order of their declaration, without options that have their default.

    Options that the reference gives stay, because an object in a file may have other defaults than the class of its
    options.
    """
    given = given_in(reference)
    kept = {each.name: each.value for each in options if each.value != each.default or each.name in given}
    return with_options(target_of(reference), kept)


# --------------------------------------------------------------------------------------------------- configuration


def configured(target: Any, reference: str) -> Any:
    """The problem with the options of the reference; a problem without options is returned unchanged.

    Raises
    ------
    UnknownOption
        If the problem has no such option; the message has the nearest names.
    ProblemError
        If a value of an option or the problem's declaration is invalid.
    """
    given, name = given_in(reference), target_of(reference)
    if not takes_options(target):
        if given:
            first = next(iter(given))
            raise UnknownOption(f"the problem {name!r} takes no options, so it has no {first!r}", first)
        return target
    found = _instance(target.options, name)
    declared = _declared_in(found, name)
    try:
        options = dataclasses.replace(found, **_chosen(declared, given, name))
    except (TypeError, ValueError) as error:
        # The problem may check its options in __post_init__.
        if isinstance(error, ProblemError):
            raise
        raise ProblemError(f"the options of {name!r} are not valid: {error}") from error
    made = target.configured(options)
    if getattr(made, "options", None) != options:
        raise ProblemError(
            f"configured(options) of {name!r} must return a problem whose attribute options equals the given options"
        )
    return made


def takes_options(problem: Any) -> bool:
    """Whether a problem can be configured."""
    return getattr(problem, "options", None) is not None and callable(getattr(problem, "configured", None))


def described_options(problem: Problem, reference: str) -> tuple[ProblemOption, ...]:
    """The options of a configured problem, in the order of their declaration."""
    options = getattr(problem, "options", None)
    if not takes_options(problem) and (isinstance(options, type) or not _has_known_types(options)):
        # A configured problem need not be configurable again; its attribute options has its values.
        return ()
    options = _instance(options, reference)
    return tuple(
        ProblemOption(
            name=name,
            value=_plain(getattr(options, name)),
            default=_plain(field.default),
            kind=_type_name(field.hint),
            help=field.help,
            is_local=field.is_local,
        )
        for name, field in _declared_in(options, target_of(reference)).items()
    )


def shared_values(options: Iterable[ProblemOption]) -> dict[str, Value]:
    """The values that must be the same in all workers of a search."""
    return {each.name: each.value for each in options if not each.is_local}


def value_difference(ours: Mapping[str, Value], theirs: Mapping[str, Value]) -> tuple[str, str, str]:
    """The first option in which two :func:`shared_values` differ: its name and both values as users type them."""
    absent = object()
    name = next(name for name in (*ours, *theirs) if ours.get(name, absent) != theirs.get(name, absent))
    return name, _typed(ours, name), _typed(theirs, name)


def _typed(values: Mapping[str, Value], name: str) -> str:
    return text_of(values[name]) if name in values else "not there"


def _instance(options: Any, name: str) -> Any:
    if not dataclasses.is_dataclass(options):
        raise ProblemError(
            f"the options of {name!r} are {options!r:.100}; they must be a dataclass, or an instance of one"
        )
    if not isinstance(options, type):
        return options
    try:
        return options()
    except TypeError as error:
        raise ProblemError(f"every option of {name!r} must have a default: {error}") from error


def _declared_in(options: Any, name: str) -> dict[str, _Declared]:
    hints = get_type_hints(type(options))
    declared = {}
    for field in dataclasses.fields(options):
        if not _is_known(hints[field.name]):
            raise ProblemError(
                f"the option {field.name} of {name!r} has the type {hints[field.name]!r}; an option is a bool, int, "
                "float, str, Path, a Literal, or one of these or None"
            )
        declared[field.name] = _Declared(
            hint=hints[field.name],
            default=_default(field, getattr(options, field.name)),
            help=str(field.metadata.get("help", "")),
            is_local=bool(field.metadata.get("local")),
        )
    return declared


def _default(field: dataclasses.Field[Any], value: Any) -> Any:
    """The default of a field in its class; its value in the instance, if the class has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return value if field.default is dataclasses.MISSING else field.default


def _plain(value: Any) -> Value:
    plain: Value = str(value) if isinstance(value, Path) else value
    return plain


# ---------------------------------------------------------------------------------------------------------- values


def _chosen(declared: Mapping[str, _Declared], given: Mapping[str, str], problem: str) -> dict[str, Any]:
    """The values of the given options, by name."""
    chosen = {}
    for key, text in given.items():
        if key.endswith(FROM) and key.removesuffix(FROM) in given:
            continue
        positive = key.removeprefix(NEGATION)
        if key not in declared and not text and bool in _members_of(declared.get(positive)):
            chosen[positive] = False
        elif key in declared:
            chosen[key] = _value(key, text, declared[key].hint, given.get(f"{key}{FROM}", "."), problem)
        else:
            remedy = did_you_mean(key, sorted(declared))
            raise UnknownOption(f"the problem {problem!r} has no option {key!r}{remedy}", key)
    return chosen


def _value(name: str, text: str, hint: Any, base: str, problem: str) -> Any:
    try:
        return _read(text, hint, base)
    except _NotAValue:
        what = f"is {text!r}" if text else "has no value"
        wanted = f"{_type_name(hint)}{_nearest(text, hint)}"
        raise ProblemError(f"the option {name} of the problem {problem!r} {what}; it must be {wanted}") from None


def _members_of(declared: _Declared | None) -> tuple[Any, ...]:
    return () if declared is None else _members(declared.hint)


def _members(hint: Any) -> tuple[Any, ...]:
    """The possible types of a field."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_known(hint: Any) -> bool:
    return all(
        get_origin(member) is Literal or member is type(None) or member in _TYPE_NAMES for member in _members(hint)
    )


def _has_known_types(options: Any) -> bool:
    """Whether an object is a dataclass in which every field has a valid type for an option."""
    if not dataclasses.is_dataclass(options):
        return False
    try:
        hints = get_type_hints(type(options))
    except NameError:
        # Some annotations can be resolved only by a type checker.
        return False
    return all(_is_known(hints[field.name]) for field in dataclasses.fields(options))


def _read(text: str, hint: Any, base: str) -> Any:
    """A text as a value of a type.

    Raises
    ------
    _NotAValue
        If it is not a value of this type.
    """
    members = _members(hint)
    if type(None) in members and text.lower() == NONE:
        return None
    for member in members:
        with contextlib.suppress(ValueError, _NotAValue):
            return _read_as(text, member, base)
    if int in members:
        # 1e3 is the whole number 1000.
        with contextlib.suppress(ValueError):
            number = float(text)
            if number.is_integer():
                return int(number)
    raise _NotAValue


def _read_as(text: str, member: Any, base: str) -> Any:
    """A text as a value of one type; raises ValueError or _NotAValue if it is not such a value."""
    if member is bool:
        # An option without a value is a flag, which is then True.
        return _one_of(text.lower(), {"": True, "true": True, "false": False})
    if get_origin(member) is Literal:
        return _one_of(text, {text_of(choice): choice for choice in get_args(member)})
    if not text or member is type(None):
        raise _NotAValue
    if member is Path:
        whole = Path(base).expanduser() / Path(text).expanduser()
        return Path(os.path.abspath(whole))  # noqa: PTH100 (resolve follows links, which other hosts may not have)
    value = member(text)
    if member is float and not math.isfinite(value):
        raise _NotAValue
    return value


def _one_of(text: str, values: Mapping[str, Any]) -> Any:
    if text not in values:
        raise _NotAValue
    return values[text]


def _type_name(hint: Any) -> str:
    names = []
    for member in _members(hint):
        if get_origin(member) is Literal:
            names.append(f"one of {', '.join(map(text_of, get_args(member)))}")
        elif member is not type(None):
            names.append(_TYPE_NAMES[member])
    return " or ".join([*names, *([NONE] if type(None) in _members(hint) else [])])


def _nearest(text: str, hint: Any) -> str:
    literals = [member for member in _members(hint) if get_origin(member) is Literal]
    choices = [text_of(choice) for member in literals for choice in get_args(member)]
    return did_you_mean(text, choices, otherwise="")
