"""What a script sets under ``if __name__ == "__main__":``, which the processes that import it do not have.

Law of this file: it reads the text of the script, and code; it evaluates nothing. The functions of the script that the
block calls count, except those that the problem calls, too. A module that is imported there is the same module
everywhere, and does not count; an attribute of a module that is set there does.
"""

from __future__ import annotations

import ast
import functools
import types
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpbandster_lite.problems.source_text import is_main_block

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_CHANGES = frozenset(
    {"update", "setdefault", "append", "extend", "insert", "add", "clear", "pop", "popitem", "remove", "discard"}
    | {"sort", "reverse", "__setitem__", "__setattr__"}
)
"""Methods that change a container or an object."""


@dataclass(frozen=True, slots=True)
class _Set:
    """A global name of a script that a statement binds; or of which it sets an attribute, or other content."""

    name: str
    is_bound: bool = False
    attribute: str = ""


def names_bound(file: Path) -> set[str]:
    """The global names that the block of a file binds."""
    tree = _tree_of(file)
    return set() if tree is None else {each.name for node in _block(tree) for each in _set_by(node) if each.is_bound}


def _tree_of(file: Path) -> ast.Module | None:
    try:
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _block(tree: ast.Module) -> list[ast.stmt]:
    return [part for node in tree.body if isinstance(node, ast.If) and is_main_block(node) for part in node.body]


def _set_in(file: Path, own: Container[str]) -> Iterator[_Set]:
    """What the block of a file sets, and the functions of the file that it calls, except the problem's own."""
    tree = _tree_of(file)
    if tree is None:
        return
    defined = {node.name: node for node in tree.body if isinstance(node, _SCOPES) and node.name not in own}
    block = _block(tree)
    for node in block:
        yield from _set_by(node)
    called: list[ast.stmt] = list(block)
    while called:
        names = {each.id for each in ast.walk(called.pop()) if isinstance(each, ast.Name)}
        for scope in [defined.pop(name) for name in sorted(names & defined.keys())]:
            yield from _set_in_scope(scope)
            called.append(scope)


def _set_in_scope(scope: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[_Set]:
    """The globals that a function sets, or a class: not their own variables."""
    nodes = list(ast.walk(scope))
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for found in (each for statement in scope.body for each in _set_by(statement, is_whole=True)):
        if found.name in declared or not (found.is_bound or found.name in own):
            yield found


def _set_by(node: ast.AST, *, is_whole: bool = False) -> Iterator[_Set]:
    """What a statement sets; ``is_whole`` also looks into the functions that it defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield _Set(name, is_bound=True)
            if not is_whole:
                # What is inside binds names of its own.
                return
        case ast.Lambda():
            return
        case ast.alias(name=name, asname=asname):
            yield _Set(asname or name.partition(".")[0], is_bound=True)
        case ast.Name(id=name, ctx=ast.Store()):
            yield _Set(name, is_bound=True)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store()):
            yield _Set(name, attribute=attribute)
        case ast.Call(func=ast.Name(id="setattr"), args=[ast.Name(id=name), ast.Constant(value=str(attribute)), _]):
            yield _Set(name, attribute=attribute)
        case (
            ast.Subscript(value=ast.Name(id=name), ctx=ast.Store())
            | ast.Call(func=ast.Name(id="setattr"), args=[ast.Name(id=name), _, _])
        ):
            yield _Set(name)
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _CHANGES:
            yield _Set(name)
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _set_by(child, is_whole=is_whole)


def names_read(problem: Any, module: types.ModuleType) -> dict[str, set[str]]:
    """The globals of a module that a function or an object of it reads, its own functions and classes in turn.

    Each has the names in the code of the functions that read it, among which are its attributes.
    """
    # Imported here: a trainer asks for no names.
    from hpbandster_lite.problems.value_hash import all_names, global_names

    found: dict[str, set[str]] = {}
    waiting = list(_functions_of(problem))
    seen: set[int] = set()
    while waiting:
        function = waiting.pop()
        if id(function) in seen or function.__globals__ is not vars(module):
            continue
        seen.add(id(function))
        for name in global_names(function.__code__):
            if name in vars(module):
                found.setdefault(name, set()).update(all_names(function.__code__))
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
    """What a problem reads and the block of the running script sets: other processes have other values, or none."""
    file = getattr(module, "__file__", None)
    if file is None:
        return []
    read = names_read(problem, module)
    own = {*read, *(function.__qualname__.partition(".")[0] for function in _functions_of(problem))}
    later = set()
    for each in _set_in(Path(file), own):
        value = vars(module).get(each.name)
        if isinstance(value, types.ModuleType):
            if each.attribute and each.attribute in read.get(each.name, names_read(problem, value)):
                later.add(f"{each.name}.{each.attribute}")
        elif each.name in read or (each.name in vars(module) and value is problem):
            later.add(each.name)
    return sorted(later)
