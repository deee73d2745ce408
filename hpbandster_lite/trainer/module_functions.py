"""Functions of modules and methods of classes that an evaluation may replace.

Law of this file: a function that the user's code replaced is put back. A replacement by an installed library stays,
because the library makes it once in a process, when it is imported. Only modules whose functions are often replaced are
compared, because comparing all would take longer than a short evaluation.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hpbandster_lite.trainer.process_state import Restore, all_of

MODULES = (
    *("copy", "datetime", "functools", "gc", "glob", "hashlib", "importlib", "io", "itertools", "json", "logging"),
    *("math", "multiprocessing", "operator", "os", "pathlib", "pickle", "posixpath", "random", "re", "resource"),
    *("secrets", "shutil", "signal", "socket", "statistics", "struct", "subprocess", "sys", "tempfile", "threading"),
    *("time", "traceback", "urllib.request", "uuid", "warnings"),
    *("numpy", "numpy.fft", "numpy.linalg", "numpy.random", "pandas", "scipy.optimize", "scipy.stats"),
    *("sklearn.metrics", "sklearn.model_selection", "torch", "torch.autograd", "torch.cuda", "torch.nn"),
    *("torch.nn.functional", "torch.nn.init", "torch.nn.utils", "torch.optim", "torch.optim.lr_scheduler"),
    *("torch.utils.data", "torchvision.datasets", "torchvision.transforms"),
)
CLASSES: Mapping[str, tuple[str, ...]] = {
    "json": ("JSONEncoder", "JSONDecoder"),
    "logging": ("Logger", "Handler", "StreamHandler", "Formatter"),
    "pathlib": ("Path", "PurePath"),
    "random": ("Random",),
    "socket": ("socket",),
    "subprocess": ("Popen",),
    "threading": ("Thread", "Timer"),
    "torch": ("Tensor",),
    "torch.nn": ("*",),
    "torch.optim": ("*",),
    "torch.utils.data": ("*",),
}
"""The classes of a module whose methods count, too; ``*`` for all."""
_CHANGE_BY_THEMSELVES = frozenset({"__abstractmethods__", "__annotations__", "__annotate__", "__doc__", "__class__"})
_METHODS = (types.FunctionType, staticmethod, classmethod, property)


def functions_of(module: types.ModuleType) -> Restore:
    """Record the functions and classes of a module, and the methods of its classes."""
    restores = [_recorded(module, vars(module), callable)]
    names = CLASSES.get(module.__name__, ())
    for name in vars(module) if names == ("*",) else names:
        value = vars(module).get(name)
        if isinstance(value, type):
            restores.append(_recorded(value, vars(value), lambda value: isinstance(value, _METHODS)))
    return all_of(*restores)


def _recorded(owner: Any, variables: Mapping[str, Any], counts: Callable[[Any], bool]) -> Restore:
    before = {
        name: value for name, value in variables.items() if counts(value) and name not in _CHANGE_BY_THEMSELVES
    }
    if not before:
        return lambda: None
    values: Any = None
    # One read of all: single reads take five times as long.
    read = operator.itemgetter(*before)

    def restore() -> None:
        nonlocal values
        with suppress(KeyError):
            # Identical objects are not compared further.
            if values is not None and read(variables) == values:
                return
        for name, value in before.items():
            now = variables.get(name)
            if now is not value and _is_of_installed_library(now):
                before[name] = now
            elif now is not value:
                setattr(owner, name, value)
        values = read(variables)

    values = read(variables)
    return restore


def _is_of_installed_library(value: Any) -> bool:
    """Whether a function or its class is defined in an installed package, not in Python's library."""
    if value is None:
        return False
    # Imported here: few evaluations replace a function.
    from hpbandster_lite.problems.value_hash import is_library_file

    name = getattr(value, "__module__", None) or type(value).__module__
    code = getattr(value, "__code__", None)
    file = code.co_filename if isinstance(code, types.CodeType) else getattr(sys.modules.get(name), "__file__", None)
    is_standard = name.partition(".")[0] in sys.stdlib_module_names
    return not is_standard and file is not None and is_library_file(file)
