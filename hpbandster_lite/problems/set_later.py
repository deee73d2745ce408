"""What a script sets that the processes that import its problem do not have.

Law of this file: it reads the text of the user's files, code and values; it changes nothing. What a function of the
user's files sets counts if the script calls the function and the problem does not. A value that the file has at its top
level is not set later.
"""

from __future__ import annotations

import ast
import functools
import inspect
import logging
import os
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hpbandster_lite.problems.statements import (
    SCOPES,
    Scope,
    Set,
    chain_of,
    literals,
    main_block,
    run_at_once,
    set_by,
    set_in_scope,
    tree_of,
)
from hpbandster_lite.problems.value_hash import (
    PLAIN,
    all_names,
    global_names,
    imported_names,
    is_library_class,
    is_library_file,
    is_library_module,
)
from hpbandster_lite.records.decorator import record

TORCH_DEFAULTS = {
    "set_default_dtype": "torch's default dtype",
    "set_default_device": "torch's default device",
    "set_default_tensor_type": "torch's default type of tensors",
}
"""What these functions of torch set; it changes losses, and each process has its own."""
_PARTS = ("evaluate", "space", "feasible", "test", "refit", "export")


def set_later(problem: Any, script: types.ModuleType, *, is_of_script: bool = True) -> list[str]:
    """What a problem reads and the running script sets: other processes have other values, or none.

    Parameters
    ----------
    problem
        The problem, as the user gave it.
    script
        The module of the running script.
    is_of_script
        Whether other processes import the script without the block of ``if __name__ == "__main__":``. Otherwise they
        do not import it at all.
    """
    reads = _Reads(problem)
    files = _Files(script)
    tree = files.tree_of(script)
    later = set()
    if tree is not None:
        block = main_block(tree) if is_of_script else tree.body
        sets = _SetBy(files, reads.functions)
        found = sets.all_of(script, block)
        filled = {(id(each.module), each.name) for each in reads.sets(files) if files.is_empty_at_first(each)}
        later = {
            each.label
            for each in found
            if reads.reads(each) and not files.is_unchanged(each) and (id(each.module), each.name) not in filled
        }
        later |= {TORCH_DEFAULTS[name] for name in TORCH_DEFAULTS.keys() & sets.named - sets.own_names}
    return sorted(later | set(_changed_literals(reads, files, script if is_of_script else None)))


@record(frozen=True, slots=True)
class _Found:
    """What a statement sets: a variable of a module, or content of the value of this variable."""

    module: types.ModuleType
    name: str
    is_content: bool
    label: str

    @property
    def value(self) -> Any:
        return vars(self.module).get(self.name)


# ----------------------------------------------------------------------------------------------- what a problem reads


class _Reads:
    """The variables of the user's modules that a problem reads, its own functions and classes in turn."""

    def __init__(self, problem: Any) -> None:
        self.functions: list[types.FunctionType] = []
        self.variables: set[tuple[int, str]] = set()
        """The ``id`` of the variables of a module, and a name."""
        self.modules: dict[int, types.ModuleType] = {}
        self._objects = {id(each) for each in _parts_of(problem)}
        self._waiting = [*functions_of(problem)]
        seen: set[types.CodeType] = set()
        while self._waiting:
            function = self._waiting.pop()
            if function.__code__ not in seen and not is_library_file(function.__code__.co_filename):
                seen.add(function.__code__)
                self.functions.append(function)
                self._read(function)

    def reads(self, found: _Found) -> bool:
        """Whether the problem reads this variable, or an object whose content is set."""
        if isinstance(found.value, types.ModuleType) or (found.is_content and isinstance(found.value, logging.Logger)):
            # A module that is imported is the same everywhere, and a logger changes no loss.
            return False
        if found.module is sys or (found.module, found.name) == (os, "environ"):
            # Workers inherit the environment, and get the arguments and streams of their own.
            return False
        if (id(vars(found.module)), found.name) in self.variables:
            return True
        return found.is_content and type(found.value) not in PLAIN and id(found.value) in self._objects

    def sets(self, files: _Files) -> Iterator[_Found]:
        """What the problem sets itself."""
        for function in self.functions:
            yield from _SetBy(files).of_function(function)

    def _read(self, function: types.FunctionType) -> None:
        names = all_names(function.__code__)
        module = sys.modules.get(function.__globals__.get("__name__", ""))
        if module is not None and vars(module) is function.__globals__:
            self.modules[id(module)] = module
        held = [function.__globals__.get(name) for name in global_names(function.__code__)]
        for name in global_names(function.__code__):
            self._add(function.__globals__, name)
        package = function.__globals__.get("__package__")
        for name in imported_names(function.__code__):
            held += [sys.modules.get(name), sys.modules.get(f"{package}.{name}")]
        self._read_modules([each for each in held if isinstance(each, types.ModuleType)], names)

    def _read_modules(self, modules: list[types.ModuleType], names: set[str]) -> None:
        seen: set[int] = set()
        while modules:
            module = modules.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            is_own = not is_library_module(module)
            if is_own:
                self.modules[id(module)] = module
            for name in names & vars(module).keys():
                value = vars(module)[name]
                if isinstance(value, types.ModuleType):
                    modules.append(value)
                elif is_own:
                    self._add(vars(module), name)
                else:
                    # Setting it changes what the problem reads; its code is not the user's.
                    self.variables.add((id(vars(module)), name))

    def _add(self, variables: dict[str, Any], name: str) -> None:
        if name in variables:
            self.variables.add((id(variables), name))
            value = variables[name]
            if isinstance(value, types.ModuleType):
                return
            self._objects.update(id(each) for each in _parts_of(value))
            self._waiting += functions_of(value)


def _parts_of(value: Any) -> Iterator[Any]:
    """A value, and those of its classes that are the user's."""
    if isinstance(value, functools.partial):
        yield from _parts_of(value.func)
    if isinstance(value, types.MethodType):
        yield from _parts_of(value.__self__)
    yield value
    owner = value if isinstance(value, type) else type(value)
    yield from (each for each in owner.__mro__ if not is_library_class(each))


def functions_of(value: Any) -> Iterator[types.FunctionType]:
    """The functions in Python that run when a value is called or used."""
    if isinstance(value, functools.partial):
        yield from functions_of(value.func)
    elif isinstance(value, types.MethodType):
        yield from functions_of(value.__func__)
        yield from functions_of(value.__self__)
    elif isinstance(value, types.FunctionType):
        yield value
        yield from functions_of(getattr(value, "__wrapped__", None))
    elif isinstance(value, type):
        for base in value.__mro__:
            yield from (each for part in vars(base).values() for each in _functions_in_class(part))
    elif isinstance(value, types.ModuleType):
        yield from (each for name in _PARTS for each in functions_of(vars(value).get(name)))
    elif hasattr(value, "__wrapped__"):
        # functools.lru_cache
        yield from functions_of(value.__wrapped__)
    elif value is not None and not isinstance(value, types.BuiltinFunctionType) and not is_library_class(type(value)):
        yield from functions_of(type(value))


def _functions_in_class(part: Any) -> Iterator[types.FunctionType]:
    for each in (part, getattr(part, "__func__", None), getattr(part, "fget", None), getattr(part, "func", None)):
        if isinstance(each, types.FunctionType):
            yield each


# ----------------------------------------------------------------------------------------------- what statements set


class _Files:
    """The syntax trees of modules."""

    def __init__(self, script: types.ModuleType) -> None:
        self._script = script
        self._trees: dict[int, ast.Module | None] = {}
        self._literals: dict[int, dict[str, Any]] = {}

    def is_script(self, module: types.ModuleType) -> bool:
        """Whether a module is the running script."""
        return module is self._script

    def tree_of(self, module: types.ModuleType) -> ast.Module | None:
        """The tree of a module of the user's; None if it has no file."""
        if id(module) not in self._trees:
            file = getattr(module, "__file__", None)
            is_own = file is not None and (module is self._script or not is_library_file(file))
            self._trees[id(module)] = tree_of(Path(file)) if is_own and file else None
        return self._trees[id(module)]

    def literals_of(self, module: types.ModuleType) -> dict[str, Any]:
        """The variables that a module's file binds to literals."""
        if id(module) not in self._literals:
            tree = self.tree_of(module)
            self._literals[id(module)] = {} if tree is None else literals(tree)
        return self._literals[id(module)]

    def is_unchanged(self, found: _Found) -> bool:
        """Whether a variable has the value that its file gives it."""
        values = self.literals_of(found.module)
        return found.name in values and is_same(found.value, values[found.name])

    def is_empty_at_first(self, found: _Found) -> bool:
        """Whether a variable begins as an empty container, like caches and logs."""
        return self.literals_of(found.module).get(found.name, found) in ([], {}, set())

    def module_of(self, variables: dict[str, Any]) -> types.ModuleType | None:
        """The module with these variables."""
        if variables is vars(self._script):
            return self._script
        module = sys.modules.get(variables.get("__name__", ""))
        return module if module is not None and vars(module) is variables else None

    def scope_of(self, value: Any) -> tuple[types.ModuleType, Scope] | None:
        """The module and the definition of a function or class of the user's."""
        if isinstance(value, types.FunctionType):
            module, name = self.module_of(value.__globals__), value.__code__.co_name
        elif isinstance(value, type):
            owner = sys.modules.get(value.__module__)
            module, name = self._script if vars(self._script).get(value.__name__) is value else owner, value.__name__
        else:
            return None
        tree = None if module is None else self.tree_of(module)
        if module is None or tree is None:
            return None
        named = [node for node in ast.walk(tree) if isinstance(node, SCOPES) and node.name == name]
        if isinstance(value, types.FunctionType):
            line = value.__code__.co_firstlineno
            named = [node for node in named if line in {node.lineno, *(each.lineno for each in node.decorator_list)}]
        return (module, named[-1]) if named else None


def is_same(value: Any, literal: Any) -> bool:
    """Whether a value is equal to a literal, in all its items' types, too."""
    return type(value) is type(literal) and repr(value) == repr(literal)


@record(frozen=True, slots=True)
class _Called:
    """A function or class that statements call; of a method, the variable that has its object."""

    module: types.ModuleType
    scope: Scope
    home: _Found | None = None


class _SetBy:
    """What statements set, and the functions of the user's files that they call.

    Parameters
    ----------
    files
        The user's files.
    own
        The functions that do not count.
    """

    def __init__(self, files: _Files, own: Iterable[types.FunctionType] = ()) -> None:
        self._files = files
        self._own = {each.__code__ for each in own}
        self.named: set[str] = set()
        """The attributes that the examined code names."""
        self.own_names = {name for code in self._own for name in all_names(code)}
        self._seen: set[tuple[int, str]] = set()
        self._waiting: list[_Called] = []

    def all_of(self, module: types.ModuleType, statements: Iterable[ast.stmt]) -> Iterator[_Found]:
        """What statements of a module set."""
        statements = list(statements)
        for node in statements:
            yield from self.of_statement(module, node)
        yield from self.of_called(module, (part for node in statements for part in ast.walk(node)))

    def of_statement(self, module: types.ModuleType, node: ast.stmt) -> Iterator[_Found]:
        """What a statement sets, without the functions that it calls."""
        yield from (self._found(module, each, {}) for each in set_by(node))

    def of_called(self, module: types.ModuleType, nodes: Iterable[ast.AST]) -> Iterator[_Found]:
        """What the functions set that these parts of a module call."""
        self._call(module, nodes, {})
        while self._waiting:
            called = self._waiting.pop()
            local = _local_imports(called.module, called.scope)
            yield from self._of_scope(called, local)
            self._call(called.module, ast.walk(called.scope), local)

    def of_function(self, function: types.FunctionType) -> Iterator[_Found]:
        """What a function sets, without those that it calls."""
        scope = self._files.scope_of(function)
        if scope is not None:
            yield from self._of_scope(_Called(*scope), _local_imports(*scope))

    def _of_scope(self, called: _Called, local: dict[str, Any]) -> Iterator[_Found]:
        for each in set_in_scope(called.scope, ITSELF if called.home is not None else ""):
            yield called.home if called.home and each.name == ITSELF else self._found(called.module, each, local)

    def _found(self, module: types.ModuleType, each: Set, local: dict[str, Any]) -> _Found:
        if each.is_bound:
            return _Found(module, each.name, is_content=False, label=self._label(module, each.name))
        return self._at(module, (each.name, *each.path), local)[0]

    def _at(self, module: types.ModuleType, path: tuple[str, ...], local: dict[str, Any]) -> tuple[_Found, list[str]]:
        """The variable at ``name.one.two``, through modules, and the rest of the path."""
        owner, name, rest = module, path[0], list(path[1:])
        label = self._label(module, name)
        value = local.get(name, vars(module).get(name))
        while isinstance(value, types.ModuleType) and rest:
            owner, name = value, rest.pop(0)
            label, value = f"{owner.__name__}.{name}", vars(owner).get(name)
        return _Found(owner, name, is_content=True, label=label), rest

    def _label(self, module: types.ModuleType, name: str) -> str:
        return name if self._files.is_script(module) else f"{module.__name__}.{name}"

    def _call(self, module: types.ModuleType, nodes: Iterable[ast.AST], local: dict[str, Any]) -> None:
        """Everything that code names counts as called."""
        chains = (chain_of(each) for each in nodes if isinstance(each, ast.Name | ast.Attribute))
        for chain in chains:
            if chain is not None:
                self.named.update(chain[1])
                home, rest = self._at(module, (chain[0], *chain[1]), local)
                value = local.get(home.name, home.value) if home.module is module else home.value
                self._add(value, rest, home)

    def _add(self, value: Any, rest: list[str], home: _Found) -> None:
        if not rest:
            self._wait_for(value)
        elif value is not None and not isinstance(value, types.ModuleType):
            owner = value if isinstance(value, type) else type(value)
            if not is_library_class(owner):
                method = inspect.getattr_static(owner, rest[0], None)
                self._wait_for(getattr(method, "__func__", method), home)

    def _wait_for(self, value: Any, home: _Found | None = None) -> None:
        is_own = isinstance(value, types.FunctionType) and value.__code__ in self._own
        # A problem that reads an object does not call all its methods.
        if is_own and (home is None or value.__name__ in self.own_names):
            return
        while value is not None:
            key = id(value), "" if home is None else home.label
            scope = None if key in self._seen else self._files.scope_of(value)
            self._seen.add(key)
            if scope is not None:
                self._waiting.append(_Called(*scope, home))
            value = getattr(value, "__wrapped__", None)


ITSELF = "(itself)"
"""Stands for the object of a method."""


def _local_imports(module: types.ModuleType, scope: Scope) -> dict[str, Any]:
    """The modules that a function imports, and what it imports from them, by their names there."""
    found: dict[str, Any] = {}
    package = getattr(module, "__package__", None) or ""
    for node in ast.walk(scope):
        if isinstance(node, ast.Import):
            for each in node.names:
                name = each.name if each.asname else each.name.partition(".")[0]
                found[each.asname or name] = sys.modules.get(name)
        elif isinstance(node, ast.ImportFrom):
            base = f"{package}.{node.module or ''}".strip(".") if node.level else node.module or ""
            for each in node.names:
                inside = getattr(sys.modules.get(base), each.name, None)
                found[each.asname or each.name] = sys.modules.get(f"{base}.{each.name}", inside)
    return {name: value for name, value in found.items() if value is not None}


# -------------------------------------------------------------------------------------------------- changed literals


def _changed_literals(reads: _Reads, files: _Files, script: types.ModuleType | None) -> Iterator[str]:
    """The variables that a problem reads and that have another value than the literal in their file.

    Variables that an import or the problem itself changes do not count.
    """
    modules = {**reads.modules, **({} if script is None else {id(script): script})}
    early = list(reads.sets(files))
    for module in modules.values():
        early += _set_at_import(module, files)
    variables = {(id(vars(each.module)), each.name) for each in early}
    objects = {id(each.value) for each in early}
    for module in modules.values():
        for name, literal in files.literals_of(module).items():
            value, key = vars(module).get(name), (id(vars(module)), name)
            is_early = key in variables or (type(value) not in PLAIN and id(value) in objects)
            if key in reads.variables and not is_early and not is_same(value, literal):
                yield name if files.is_script(module) else f"{module.__name__}.{name}"


def _set_at_import(module: types.ModuleType, files: _Files) -> Iterator[_Found]:
    """What the top level of a module changes: variables of others, contents; not what it only binds."""
    tree = files.tree_of(module)
    if tree is None:
        return
    block = set(main_block(tree))
    for node in (each for each in tree.body if not block & set(ast.iter_child_nodes(each))):
        found = _SetBy(files)
        yield from (each for each in found.of_statement(module, node) if each.is_content)
        yield from found.of_called(module, run_at_once(node))

