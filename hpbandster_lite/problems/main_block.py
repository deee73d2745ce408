"""What a script sets under ``if __name__ == "__main__":``, which the processes that import it do not have.

Law of this file: it reads the text of the script, and code; it evaluates nothing. A module that is imported there is
the same module everywhere, and does not count.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpbandster_lite.problems.source_text import is_main_block


def names_bound(file: Path) -> set[str]:
    """The global names that the block of a file binds."""
    return {name for name, is_bound in _set_in(file) if is_bound}


def _set_in(file: Path) -> Iterator[tuple[str, bool]]:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in tree.body:
        if isinstance(node, ast.If) and is_main_block(node):
            for statement in node.body:
                yield from _set_by(statement)


def _set_by(node: ast.AST) -> Iterator[tuple[str, bool]]:
    """The names that a statement sets, and whether it binds them or sets an attribute or an item of theirs."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            # What is inside binds names of its own.
            yield name, True
            return
        case ast.Lambda():
            return
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0], True
        case ast.Name(id=name, ctx=ast.Store()):
            yield name, True
        case (
            ast.Attribute(value=ast.Name(id=name), ctx=ast.Store())
            | ast.Subscript(value=ast.Name(id=name), ctx=ast.Store())
        ):
            yield name, False
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _set_by(child)


def names_read(problem: Any, module: types.ModuleType) -> set[str]:
    """The globals of a script that a function or an object of it reads, its own functions and classes in turn."""
    # Imported here: a trainer asks for no names.
    from hpbandster_lite.problems.value_hash import global_names

    found: set[str] = set()
    waiting = list(_functions_of(problem))
    seen: set[int] = set()
    while waiting:
        function = waiting.pop()
        if id(function) in seen or function.__globals__ is not vars(module):
            continue
        seen.add(id(function))
        for name in global_names(function.__code__):
            if name in vars(module):
                found.add(name)
                waiting += _functions_of(vars(module)[name])
    return found


def _functions_of(value: Any) -> Iterator[types.FunctionType]:
    if isinstance(value, functools.partial):
        yield from _functions_of(value.func)
    elif isinstance(value, types.MethodType):
        yield from _functions_of(value.__func__)
        yield from _functions_of(value.__self__)
    elif isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, type):
        for base in value.__mro__:
            yield from (each for each in vars(base).values() if isinstance(each, types.FunctionType))
    elif not isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        yield from _functions_of(type(value))


def set_later(problem: Any, module: types.ModuleType) -> list[str]:
    """What a problem of the running script reads and its block sets: other processes have other values, or none."""
    file = getattr(module, "__file__", None)
    names = {name for name, _ in _set_in(Path(file))} if file is not None else set()
    names = {name for name in names & vars(module).keys() if not isinstance(vars(module)[name], types.ModuleType)}
    itself = {name for name in names if vars(module)[name] is problem}
    return sorted(itself | (names & names_read(problem, module)))
