"""From the name of a problem to the problem, and back.

Law of this file: a reference is a text with which any process can load the problem: a shipped name, ``module`` or
``path/to/file.py``, alone or with ``:attribute``, followed by the problem's options
(:mod:`~hpbandster_lite.problems.options`). An error in the user's import becomes an error about the user's problem,
with the line in the user's file.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import os
import re
import shlex
import site
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

from hpbandster_lite._version import __version__
from hpbandster_lite.errors import ProblemError, SearchError, SpaceError, did_you_mean
from hpbandster_lite.problems.interface import Problem, as_problem, instantiated
from hpbandster_lite.problems.options import configured, target_of
from hpbandster_lite.problems.source import ARGUMENTS_REMEDY
from hpbandster_lite.problems.statements import names_set_later
from hpbandster_lite.process.forks import ForksEndHere
from hpbandster_lite.process.spawned import make_importable

GROUP = "hpbandster_lite.problems"
"""The entry points of this group are problems; other packages may add theirs."""
GUARD = 'start the search under if __name__ == "__main__": so that workers can import the file without starting it'

_loads_under_way = 0
_one_at_a_time = threading.RLock()
"""Workers may be threads of one process, and a module is incomplete while another thread imports it. The lock is
reentrant, because a problem may load another problem during its import."""


def loading() -> bool:
    """Whether this process is importing a problem, so that no search may start."""
    return _loads_under_way > 0


def load(reference: str) -> Problem:
    """Import the problem that a reference names.

    Parameters
    ----------
    reference
        The reference, as in the law of this file; paths and modules are relative to the current directory.

    Raises
    ------
    ProblemError
        If there is no such problem (the message has the nearest names), its import fails, a part is missing, or an
        option or its value is invalid.
    SpaceError
        If ConfigSpace refuses the search space during the import.
    """
    global _loads_under_way  # noqa: PLW0603 (loading() reports a fact about the process)
    with _one_at_a_time:
        _loads_under_way += 1
        try:
            name = target_of(reference)
            with _import_errors_as_ours(name), ForksEndHere():
                target = instantiated(_target(name), name)
            with _import_errors_as_ours(name, "configuring"), ForksEndHere():
                return as_problem(configured(target, reference), name)
        finally:
            _loads_under_way -= 1


def load_here(reference: str) -> tuple[Problem, str]:
    """Load a problem; also return a reference that names it afterwards, if its import changes the working directory."""
    whole, before = absolute(reference), Path.cwd()
    problem = load(reference)
    try:
        return problem, reference if Path.cwd() == before else whole
    except FileNotFoundError:
        # It has deleted the directory.
        return problem, whole


def module_of(reference: str) -> ModuleType | None:
    """The loaded module that a reference names; None if there is none, as for a function without a path."""
    where = target_of(reference).partition(":")[0]
    found = _loaded_module(where)
    if found is not None or _is_file(where):
        return found
    value = _shipped_here().get(where)
    if value is None:
        entry = _shipped().get(where)
        value = "" if entry is None else entry.value
    return sys.modules.get(value.partition(":")[0])


def loaded(reference: str) -> Any:
    """The problem that a reference to a file or a module names, as this process has it; None if it is not loaded."""
    where, _, attribute = target_of(reference).partition(":")
    module = _loaded_module(where)
    return module if module is None or not attribute else _attribute(module, attribute)


def _loaded_module(where: str) -> ModuleType | None:
    if not _is_file(where):
        return sys.modules.get(where)
    file, modules = str(Path(where).resolve()), list(sys.modules.values())
    return next((module for module in modules if getattr(module, "__file__", None) == file), None)


def name_of(reference: str) -> str:
    """Short name of a problem, valid as a file name: ``digits``, ``my_module-problem``, ``file-problem``."""
    last = target_of(reference).rstrip("/").rpartition("/")[2].replace(".py:", ":").removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "search"


def absolute(reference: str) -> str:
    """The reference with an absolute file path, so that it is valid in any directory."""
    name, mark, options = reference.partition("?")
    where, colon, attribute = name.partition(":")
    return f"{Path(where).resolve()}{colon}{attribute}{mark}{options}" if _is_file(where) else reference


def reference_of(problem: Any, *, by_own_name: bool = False) -> str:
    """The reference with which another process loads this function, object, class or module.

    It is found by its own name, a bound method by the name of its object, and anything else, such as a lambda, a
    partial or what a decorator returns, by the name that a module has for it.

    Parameters
    ----------
    problem
        What the user gave.
    by_own_name
        Whether what has a name of its own is found by this name alone.

    Raises
    ------
    ProblemError
        If no other process can load it: it has no name in a module, or only under the main block of the script; or it
        was typed into a notebook or a shell.
    """
    if isinstance(problem, ModuleType):
        refusal = _refusal(problem, problem.__name__)
        if refusal is not None:
            raise refusal
        return _module_reference(problem)
    refusals = []
    own_name = getattr(problem, "__qualname__", None)
    for module, name in _names_of(problem):
        if by_own_name and own_name is not None and name != own_name:
            continue
        refusal = _refusal(module, name)
        if refusal is None:
            return f"{_module_reference(module)}:{name}"
        # Another module may have it under another name.
        refusals.append(refusal)
    raise refusals[0] if refusals else _unnamed(own_name or f"this {type(problem).__qualname__}")


def _names_of(value: Any) -> Iterator[tuple[ModuleType, str]]:
    """The modules that have a value, and its name in each: its own name first."""
    own = getattr(value, "__qualname__", None)
    first = _modules_of(value)
    for module in first:
        if isinstance(own, str) and _is_same(_attribute(module, own), value):
            yield module, own
    for module in [*first, *_modules_with_files()]:
        # A copy: another thread may import something meanwhile.
        for name, other in list(vars(module).items()):
            if other is value and not name.startswith("__"):
                yield module, name
    for module in first:
        yield from ((module, name) for name in _names_in_objects(module, value))
    if isinstance(value, MethodType):
        for module, name in _names_of(value.__self__):
            method = f"{name}.{value.__func__.__name__}"
            if _is_same(_attribute(module, method), value):
                yield module, method


def _names_in_objects(module: ModuleType, value: Any) -> Iterator[str]:
    """The names of a value that is an attribute of a class or an object of a module."""
    for name, holder in list(vars(module).items()):
        held = None if isinstance(holder, ModuleType) else getattr(holder, "__dict__", None)
        for inner, other in list(held.items()) if isinstance(held, Mapping) else ():
            if other is value and not name.startswith("__"):
                yield f"{name}.{inner}"


def _modules_with_files() -> list[ModuleType]:
    return [
        module
        for name, module in list(sys.modules.items())
        # __mp_main__ is the script in a process that multiprocessing spawned; libraries put other objects there, too.
        if not name.startswith("__") and hasattr(module, "__dict__") and getattr(module, "__file__", None)
    ]


def _is_same(found: Any, value: Any) -> bool:
    if isinstance(value, MethodType):
        # Each access makes another object.
        return isinstance(found, MethodType) and found.__self__ is value.__self__ and found.__func__ is value.__func__
    return found is value


def _modules_of(value: Any) -> list[ModuleType]:
    inner = value.func if isinstance(value, functools.partial) else value
    names = (getattr(value, "__module__", None), getattr(inner, "__module__", None), type(value).__module__, "__main__")
    return [sys.modules[name] for name in dict.fromkeys(names) if isinstance(name, str) and name in sys.modules]


def _refusal(module: ModuleType, name: str) -> ProblemError | None:
    """Why other processes do not find this name in a module; None if they do."""
    if module.__name__ != "__main__":
        return None
    file = getattr(module, "__file__", None)
    if file is not None and name.partition(".")[0] in names_set_later(Path(file)):
        return _set_later(name)
    has_name = module.__spec__ is not None and module.__spec__.name
    return None if has_name or (file is not None and Path(file).is_file()) else _unnamed(name)


def _module_reference(module: ModuleType) -> str:
    if module.__name__ != "__main__":
        file = _file_beside_the_script(module)
        return module.__name__ if file is None else str(file)
    if module.__spec__ is not None and module.__spec__.name:
        # Run as python -m package.module
        return module.__spec__.name.removesuffix(".__main__")
    return str(Path(str(module.__file__)).resolve())


def _file_beside_the_script(module: ModuleType) -> Path | None:
    """The file of a module beside the running script, which other processes would not find by the module's name."""
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    path = Path(file).resolve()
    if path.suffix == ".py" and "." in path.stem:
        # No process finds a file with dots in its name by the name of its module.
        return path
    levels = module.__name__.count(".") + (path.name == "__init__.py")
    root = path.parents[levels] if levels < len(path.parents) else None
    of_all_processes = {Path.cwd(), *map(Path, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))}
    installed = (sys.prefix, sys.base_prefix, site.getusersitepackages())
    is_on_every_path = root is None or root in {entry.resolve() for entry in of_all_processes}
    if is_on_every_path or any(path.is_relative_to(Path(place).resolve()) for place in installed):
        return None
    # If the module is not on this process's path either, an import hook found it, and other processes have it too.
    return path if root in {Path(entry).resolve() for entry in sys.path} else None


def _unnamed(name: str) -> ProblemError:
    return ProblemError(
        f"other processes cannot import {name}: it has no name at the top level of a file, as a lambda or a function "
        "inside a function has none, or it was typed into a notebook or a shell; write it at the top level of a file, "
        "or, if it is cheap, use isolation='none'"
    )


def _set_later(name: str) -> ProblemError:
    return ProblemError(
        f'other processes cannot import {name}: the script sets {name.partition(".")[0]} under '
        'if __name__ == "__main__":, and workers import the script without that block; move it above the block, to the '
        "top level of the file, or, if it is cheap, use isolation='none'"
    )


# ------------------------------------------------------------------------------------------------------- looking up


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where


def _target(reference: str) -> Any:
    where, _, attribute = reference.partition(":")
    if not where:
        raise ProblemError(f"{reference!r} names no problem; use for example 'digits' or 'path/to/file.py:problem'")
    module = _module_from_file(Path(where), reference) if _is_file(where) else _module_by_entry_point(where, reference)
    if not attribute:
        return module
    target = _attribute(module, attribute)
    if target is None:
        public = [name for name in getattr(module, "__dict__", {}) if not name.startswith("_")]
        raise ProblemError(f"{where} has no {attribute!r}{did_you_mean(attribute, sorted(public))}")
    return target


def _module_by_entry_point(name: str, reference: str) -> Any:
    value = _shipped_here().get(name)
    if value is not None:
        module, _, attribute = value.partition(":")
        return functools.reduce(getattr, attribute.split(".") if attribute else [], importlib.import_module(module))
    shipped = _shipped()
    return shipped[name].load() if name in shipped else _module_by_name(name, reference, shipped)


def _shipped() -> dict[str, Any]:
    # Imported here: it takes 15 ms, and a trainer with a problem in a file does not need it.
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _shipped_here() -> dict[str, str]:
    """The problems of this package by name, as its metadata lists them; empty if it is installed in an unusual way.

    Read without ``importlib.metadata``, which reads the metadata of all packages: each trainer starts 15 ms earlier.
    """
    for folder in sys.path:
        try:
            metadata = Path(folder, f"hpbandster_lite-{__version__}.dist-info", "entry_points.txt").read_text("utf-8")
        except (OSError, ValueError):
            continue
        lines = metadata.partition(f"[{GROUP}]")[2].partition("\n[")[0].splitlines()
        parts = [line.partition("=") for line in lines]
        return {name.strip(): value.strip() for name, mark, value in parts if mark}
    return {}


def _attribute(module: Any, dotted: str) -> Any:
    target: Any = module
    for name in dotted.split("."):
        target = getattr(target, name, None)
    return target


def _module_by_name(name: str, reference: str, shipped: dict[str, Any]) -> ModuleType:
    # python -m searches the current directory and a console script does not; a reference must be valid in both.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise ProblemError(
            f"there is no problem {reference!r}: it is not shipped, and Python finds no module {error.name!r} from "
            f"{Path.cwd()}{did_you_mean(reference, sorted(shipped))}; write a file as path/to/file.py:problem"
        ) from error
    except (TypeError, ValueError) as error:
        if _frames(error, name.partition(".")[0]):
            raise
        # import_module itself raises this for a name such as "..x" or "a..b".
        raise ProblemError(
            f"{reference!r} is not the name of a module ({error}); use for example 'digits'"
        ) from error


def _module_from_file(path: Path, reference: str) -> ModuleType:
    if path.is_dir():
        # A run directory has a search file, which commands accept in the place of a problem.
        inside = sorted(path.glob("*.toml")) or sorted(path.glob("*.py"))
        hint = f", such as {inside[0]}" if inside else ""
        raise ProblemError(f"{reference!r}: {path.resolve()} is a directory; name a file in it{hint}")
    if not path.is_file():
        beside = [entry.name for entry in path.parent.glob("*.py")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, sorted(beside)) if beside else ""
        raise ProblemError(f"{reference!r}: there is no file {path.resolve()}{hint}")
    path = path.resolve()
    root, parts = path.parent, [] if path.name == "__init__.py" else [path.stem]
    while (root / "__init__.py").is_file() and "." not in root.name:
        # The file is part of a package; its relative imports work only under the full name.
        parts.insert(0, root.name)
        root = root.parent
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    # Python would take what stands before a dot for a package.
    name = ".".join(part.replace(".", "_") for part in parts)
    is_plain = "." not in path.stem
    for each in (name, f"{name}_problem"):
        known = sys.modules.get(each)
        if known is not None and getattr(known, "__file__", None) == str(path):
            return known
    if len(parts) > 1 and is_plain:
        return importlib.import_module(name)
    # Under its file name, so that processes that the problem starts can import it, unless that name is in use.
    is_free = name not in sys.modules
    name = name if is_free else f"{name}_problem"
    if len(parts) > 1:
        importlib.import_module(name.rpartition(".")[0])
    if not (is_plain and is_free):
        make_importable(name, path)
    return _executed(name, path)


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ProblemError(f"{path} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    with contextlib.ExitStack() as on_failure:
        sys.modules[name] = module
        on_failure.callback(sys.modules.pop, name, None)
        spec.loader.exec_module(module)
        on_failure.pop_all()
    return module


# ------------------------------------------------------------------------------------------------------------ errors


@contextlib.contextmanager
def _import_errors_as_ours(reference: str, doing: str = "importing") -> Iterator[None]:
    try:
        yield
    except (ProblemError, SpaceError):
        raise
    except SearchError as error:
        raise ProblemError(f"{doing} {reference!r}: {error}") from error
    except SystemExit as error:
        raise ProblemError(f"{doing} {reference!r} called sys.exit({error.code!r}){_why_it_exits(error)}") from error
    except Exception as error:  # the user's code may raise any exception
        if _frames(error, "ConfigSpace"):
            raise SpaceError(space_refused(reference, error)) from error
        message = f"{doing} {reference!r} failed{_place(error)}: {one_line(error)}{_remedy(error)}"
        raise ProblemError(message) from error


def _why_it_exits(error: SystemExit) -> str:
    """What a parser of arguments says, which otherwise only the log has, and the remedy."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__") == "argparse" and frame.f_code.co_name == "error":
            words = f"argparse: {frame.f_locals.get('message')}"
            break
    else:
        # Other parsers exit while they handle an exception of theirs.
        words = "" if error.__context__ is None else one_line(error.__context__)
    if not words:
        return f"; {GUARD}"
    return (
        f"{_users_place(error)}: {words}. Workers of minimize import the script with its own arguments, those of other "
        f"commands with none; {ARGUMENTS_REMEDY}"
    )


def _users_place(error: BaseException) -> str:
    """The last line of the user's own code that led to an error in a library."""
    # Imported here: most problems are imported without an error.
    from hpbandster_lite.problems.value_hash import is_library_file

    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(file, line) for file, line in lines if not is_library_file(file)]
    return f" at {own[-1][0]}:{own[-1][1]}" if own else ""


def space_refused(reference: str, error: BaseException) -> str:
    """The message for a space that ConfigSpace refuses, with ConfigSpace's message."""
    # ConfigSpace's error names the hyperparameter, and the cause of that error names the fault.
    cause = "" if error.__cause__ is None else f" ({one_line(error.__cause__)})"
    return (
        f"the search space of {reference!r} cannot be built{_place(error)}: {one_line(error)}{cause}; correct it and "
        f"check it with: hpbandster-lite plan {shlex.quote(reference)}"
    )


def one_line(error: BaseException) -> str:
    """An exception in one line, as Python prints it."""
    lines = traceback.format_exception_only(type(error), error)
    return next((line for line in reversed(lines) if not line.startswith(" ")), lines[-1]).strip()


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        library = error.name.partition(".")[0]
        if library in ("torch", "torchvision", "sklearn"):
            return '; install it with: pip install -e ".[torch]" in a clone of hpbandster_lite'
        return f"; install the package that provides {library!r} for {sys.executable}"
    return ""


def _frames(error: BaseException, package: str) -> list[traceback.FrameSummary]:
    return [
        summary
        for (frame, _), summary in zip(
            traceback.walk_tb(error.__traceback__), traceback.extract_tb(error.__traceback__), strict=True
        )
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == package
    ]


_MACHINERY = ("hpbandster_lite.problems", "importlib", "ConfigSpace", "_frozen_importlib", "hpbandster_lite.space")


def _place(error: BaseException) -> str:
    """The user's line that raised an error: the last line outside this package, importlib and ConfigSpace."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {error.filename}:{error.lineno}"
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not str(frame.f_globals.get("__name__", "")).startswith(_MACHINERY):
            place = f" at {frame.f_code.co_filename}:{line}"
    return place
