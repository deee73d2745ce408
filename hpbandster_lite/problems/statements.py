"""What statements of a Python file set: names, attributes, items.

Law of this file: it reads the text of a file, and evaluates nothing except literals.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from hpbandster_lite.problems.source_text import is_main_block, parsed
from hpbandster_lite.records.decorator import record

Scope: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_CHANGES = frozenset(
    {"update", "setdefault", "append", "extend", "insert", "add", "clear", "pop", "popitem", "remove", "discard"}
    | {"sort", "reverse", "fill", "__setitem__", "__setattr__", "__delitem__", "__delattr__"}
)
"""Methods that change a container, an array or an object."""


@record(frozen=True, slots=True)
class Set:
    """A global name that a statement binds; or whose attribute it sets, by its ``path``, or other content."""

    name: str
    is_bound: bool = False
    path: tuple[str, ...] = ()


def tree_of(file: Path) -> ast.Module | None:
    """The syntax tree of a file; None if it cannot be read or parsed."""
    try:
        return parsed(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def main_block(tree: ast.Module) -> list[ast.stmt]:
    """The statements under ``if __name__ == "__main__":``."""
    return [part for node in tree.body if isinstance(node, ast.If) and is_main_block(node) for part in node.body]


def names_set_later(file: Path) -> set[str]:
    """The global names that the block of a file binds, or only a function of the file, by ``global``."""
    tree = tree_of(file)
    if tree is None:
        return set()
    block = main_block(tree)
    rest = [node for node in tree.body if not set(block) & set(ast.iter_child_nodes(node))]
    early, late = ({each.name for node in part for each in set_by(node) if each.is_bound} for part in (rest, block))
    return late | ({name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names} - early)


def literals(tree: ast.Module) -> dict[str, Any]:
    """The global names that a file binds once, to a literal, outside all blocks; none if it binds computed names."""
    bound = [
        each.name
        for node in tree.body
        if not (isinstance(node, ast.If) and is_main_block(node))
        for each in set_by(node)
        if each.is_bound
    ]
    found: dict[str, Any] = {}
    if "*" in bound or any(_binds_computed_names(node) for node in tree.body):
        return found
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        names = [name for target in targets for name in _names_in(target, value)]
        found |= {name: literal for name, literal in names if bound.count(name) == 1}
    return found


def _binds_computed_names(node: ast.stmt) -> bool:
    if isinstance(node, ast.If) and is_main_block(node):
        return False
    calls = (each.func for each in run_at_once(node) if isinstance(each, ast.Call))
    return any(isinstance(each, ast.Name) and each.id in ("globals", "vars", "exec", "locals") for each in calls)


def _names_in(target: ast.expr | None, value: Any) -> Iterator[tuple[str, Any]]:
    """The names of a target, each with its literal."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, its_value in zip(target.elts, value.elts, strict=True):
            yield from _names_in(one, its_value)
    elif isinstance(target, ast.Name) and isinstance(value, ast.expr):
        try:
            yield target.id, ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            return


def run_at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement without the bodies of functions."""
    yield node
    skipped = {"body"} if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) else set()
    for name, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if name not in skipped and isinstance(part, ast.AST):
                yield from run_at_once(part)


def set_in_scope(scope: Scope, itself: str = "") -> Iterator[Set]:
    """The globals that a function or a class sets, not their own variables.

    If ``itself`` is given, what a method sets of its first argument counts as set of the object with this name.
    """
    nodes = list(ast.walk(scope))
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    own = {node.arg for node in nodes if isinstance(node, ast.arg)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    first = "" if isinstance(scope, ast.ClassDef) or not scope.args.args else scope.args.args[0].arg
    for found in (each for statement in scope.body for each in set_by(statement, is_whole=True)):
        if itself and found.name == first:
            yield Set(itself)
        elif found.name in declared or not (found.is_bound or found.name in own):
            yield found


def set_by(node: ast.AST, *, is_whole: bool = False) -> Iterator[Set]:
    """What a statement sets; ``is_whole`` also looks into the functions that it defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield Set(name, is_bound=True)
            if not is_whole:
                # What is inside binds names of its own.
                return
        case ast.Lambda():
            return
        case ast.alias(name=name, asname=asname):
            yield Set(asname or name.partition(".")[0], is_bound=True)
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield Set(name, is_bound=True)
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            yield from _of_target(node)
        case ast.Call():
            yield from _of_call(node)
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from set_by(child, is_whole=is_whole)


def _of_target(node: ast.expr) -> Iterator[Set]:
    """What an assignment to an attribute or an item sets."""
    match node:
        case ast.Subscript(value=space, slice=ast.Constant(value=str(name))) if (owner := _owner_of(space)) is not None:
            yield _attribute_of(owner, name)
        case _:
            chain = chain_of(node)
            if chain is not None:
                yield Set(chain[0], path=chain[1])


def _of_call(node: ast.Call) -> Iterator[Set]:
    """What a call of ``setattr``, or of a method that changes its object, sets."""
    match node:
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[changed, *rest]):
            chain = chain_of(changed)
            if chain is not None:
                name = rest[0].value if rest and isinstance(rest[0], ast.Constant) else None
                yield Set(chain[0], path=(*chain[1], name) if isinstance(name, str) else chain[1])
        case ast.Call(func=ast.Attribute(value=space, attr="update"), keywords=keywords) if (
            owner := _owner_of(space)
        ) is not None:
            yield from (_attribute_of(owner, each.arg) for each in keywords if each.arg)
        case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in _CHANGES:
            chain = chain_of(changed)
            if chain is not None:
                yield Set(chain[0], path=chain[1])


def _owner_of(space: ast.expr) -> tuple[str, tuple[str, ...]] | None:
    """The owner of a dict of variables, such as ``vars(owner)``; an empty name for ``globals()``."""
    match space:
        case ast.Call(func=ast.Name(id="globals" | "vars"), args=[]):
            return "", ()
        case ast.Call(func=ast.Name(id="vars"), args=[owner]) | ast.Attribute(value=owner, attr="__dict__"):
            return chain_of(owner)
        case _:
            return None


def _attribute_of(owner: tuple[str, tuple[str, ...]], name: str) -> Set:
    return Set(owner[0], path=(*owner[1], name)) if owner[0] else Set(name, is_bound=True)


def chain_of(node: ast.expr) -> tuple[str, tuple[str, ...]] | None:
    """The name at the beginning of ``name.one.two``, and the attributes, up to the first item; None for a call."""
    path: list[str] = []
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute):
            path.append(node.attr)
        elif isinstance(node, ast.Subscript):
            path.clear()
        else:
            return None
        node = node.value
    return node.id, tuple(reversed(path))
