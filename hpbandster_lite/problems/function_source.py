"""The source of a function or an object that no other process can import: a lambda, a nested function, a notebook cell.

Law of this file: each part of that source has its own hash, so that a difference can be named: the code, the default
values, the closure, the globals that the code names, the attributes of an object. If one part cannot be read
completely, no part counts.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from hpbandster_lite.problems.source import source_of
from hpbandster_lite.problems.value_hash import (
    Unreadable,
    ValueReader,
    attributes_of,
    closure_of,
    global_names,
    imported_names,
    is_library_class,
)
from hpbandster_lite.records import ProblemSource

Part: TypeAlias = tuple[str, Callable[[ValueReader], None]]
"""The name of a part, and a function that reads it."""
_BEFORE: dict[frozenset[tuple[str, str]], Mapping[str, str]] = {}
"""For functions that were searched in this process: the parts before the search, by the parts after it."""


def source_of_function(function: Any, problem: Any) -> ProblemSource:
    """The source of a function or an object, as it is in this process.

    Parameters
    ----------
    function
        The function or object that the user gave.
    problem
        The problem that was made from it, which may name further files and variables.
    """
    parts, reason = function_parts(function)
    parts = _BEFORE.get(_key(parts), parts)
    listed = source_of(problem, None, is_named_only=True)
    return replace(listed, function=parts, not_comparable=reason)


def note_own_changes(function: Any, source: ProblemSource) -> None:
    """Record, after a search, that changes by its evaluations to the function's own state are no change of source.

    Parameters
    ----------
    function
        The function or object that the user gave.
    source
        What :func:`source_of_function` returned before the search.
    """
    parts, _ = function_parts(function)
    if parts and source.function:
        _BEFORE[_key(parts)] = source.function


def _key(parts: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset(parts.items())


def function_parts(problem: Any) -> tuple[Mapping[str, str], str]:
    """The hash of each part of a function's or an object's source; or no hashes, and the reason.

    Returns
    -------
    dict, str
        The hashes by the names of the parts. If a part cannot be read, the dict is empty and the text names the part.
    """
    found = {}
    for name, read in _parts(problem):
        reader = ValueReader()
        try:
            read(reader)
        except Unreadable as unreadable:
            return {}, f"{name} holds a {unreadable}"
        except Exception as error:  # noqa: BLE001 (the values are the user's, and threads may change them meanwhile)
            return {}, f"{name} cannot be read ({type(error).__name__}: {error})"
        found[name] = reader.hash
    return found, ""


def _parts(problem: Any) -> Iterator[Part]:
    if isinstance(problem, functools.partial):
        bound = (problem.args, problem.keywords)
        yield "its bound arguments", lambda reader: reader.read(bound)
        yield from _parts(problem.func)
    elif isinstance(problem, types.MethodType):
        yield from _parts(problem.__func__)
        yield from _parts_of_object(problem.__self__)
    elif isinstance(problem, types.FunctionType):
        yield from _parts_of_function(problem)
    else:
        yield from _parts_of_object(problem)


def _parts_of_function(function: types.FunctionType) -> Iterator[Part]:
    code = function.__code__
    yield "its code", lambda reader: reader.read_code(code)
    bound = (function.__defaults__, function.__kwdefaults__, vars(function))
    yield "its default values", lambda reader: reader.read(bound)
    for name, cell in closure_of(function):
        yield f"its variable {name!r}", functools.partial(_read_cell, function=function, cell=cell)
    for name in filter(function.__globals__.__contains__, global_names(code)):
        yield f"its global {name!r}", functools.partial(_read_global, function=function, name=name)
    for name in imported_names(code):
        yield f"its import {name!r}", functools.partial(_read_import, function=function, name=name)


def _parts_of_object(value: Any) -> Iterator[Part]:
    if is_library_class(type(value)):
        yield "the object", lambda reader: reader.read(value)
        return
    yield "its class", lambda reader: reader.read(type(value))
    yield "its content", lambda reader: reader.read_base(value)
    attributes = attributes_of(value)
    # The space is compared separately.
    for name in sorted(attributes.keys() - {"space"}):
        yield f"its attribute {name!r}", functools.partial(_read, value=attributes[name])


def _read(reader: ValueReader, value: Any) -> None:
    reader.read(value)


def _read_cell(reader: ValueReader, function: types.FunctionType, cell: types.CellType) -> None:
    reader.read_cell(function, cell)


def _read_global(reader: ValueReader, function: types.FunctionType, name: str) -> None:
    reader.read_global(function, name)


def _read_import(reader: ValueReader, function: types.FunctionType, name: str) -> None:
    reader.read_import(function, name)
