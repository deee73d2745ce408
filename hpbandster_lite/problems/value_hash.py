"""The hash of a value's content: of plain values, containers, arrays, tables, functions, classes and objects.

Law of this file: values with equal hashes are the same to a function that reads them, in this process and in any other.
A value that cannot be read completely has no hash. The hash of code covers what runs, not its position in a file; for
an object that an installed library provides, it covers only the name and the version.
"""

from __future__ import annotations

import abc
import copyreg
import dis
import functools
import hashlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Protocol

from hpbandster_lite.problems.source import hashes_of_import, hashes_with_imports
from hpbandster_lite.problems.source_text import HASH_CHARACTERS

OURS = __name__.partition(".")[0]
PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_CONTENT: Mapping[type, Callable[[Any], Any]] = {
    list: list.copy,
    tuple: lambda value: tuple.__getitem__(value, slice(None)),
    dict: dict.copy,
    set: lambda value: frozenset(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytes(bytearray.__getitem__(value, slice(None))),
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
}
"""How to read the content of an object whose class is derived from one of these types, without calling its methods."""
_WITHOUT_STATE = frozenset({object, abc.ABC, Generic, Protocol, *_CONTENT})
"""Base classes whose objects hold only their attributes, or are read in another way."""
_MANY = 64
"""A container of more plain values than this is read as one text, not value by value."""
_LIBRARIES = frozenset({"site-packages", "dist-packages"})
_NO_STATE_OF_A_CLASS = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__", "_abc_impl"}
    | {"__slotnames__", "__static_attributes__"}
)
"""Python adds some of these to a class later, or in another order in another process."""
_BY_NAME = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_WRAPPED: Mapping[type, Callable[[Any], tuple[Any, ...]]] = {
    types.MethodType: lambda value: (value.__func__, value.__self__),
    types.MappingProxyType: lambda value: (dict(value),),
    types.CellType: lambda value: tuple(_contents(value)),
    property: lambda value: (value.fget, value.fset, value.fdel),
    staticmethod: lambda value: (value.__func__,),
    classmethod: lambda value: (value.__func__,),
    functools.cached_property: lambda value: (value.func,),
    functools.partial: lambda value: (value.func, value.args, value.keywords, vars(value)),
    bytearray: lambda value: (bytes(value),),
    # It is pickled only as its name.
    type(functools.lru_cache(len)): lambda value: (value.__wrapped__, value.cache_parameters()),
}
"""The values of which a value of these types consists."""


class Unreadable(Exception):
    """A value cannot be read completely; the text is its type."""


class ValueReader:
    """Reads values one after another; :attr:`hash` covers all of them.

    Parameters
    ----------
    known
        Numbers of the objects, by their id, that another reader has read; a cycle of values ends there.
    """

    def __init__(self, known: Mapping[int, int] | None = None) -> None:
        self._digest = hashlib.sha256()
        self._known = dict(known or {})
        self._kept: list[Any] = []
        self._modules: set[tuple[int, frozenset[str]]] = set()

    @property
    def hash(self) -> str:
        """The hash of what was read."""
        return self._digest.hexdigest()[:HASH_CHARACTERS]

    def read(self, value: Any) -> None:
        """Read one value.

        Raises
        ------
        Unreadable
            If it, or a value that it holds, cannot be read completely.
        """
        kind = type(value)
        if kind in PLAIN:
            self._put(kind.__name__, repr(value))
        elif id(value) in self._known:
            self._put("again", str(self._known[id(value)]))
        else:
            self._known[id(value)] = len(self._known)
            # Otherwise a later value may have the same id.
            self._kept.append(value)
            self._read_new(value, kind)

    def _put(self, *texts: str) -> None:
        for text in texts:
            self._put_bytes(text.encode("utf-8", "surrogatepass"))

    def _put_bytes(self, content: bytes | memoryview) -> None:
        self._digest.update(b"%d:" % len(content))
        self._digest.update(content)

    def _read_new(self, value: Any, kind: type) -> None:
        if kind in (list, tuple):
            self._put(kind.__name__, str(len(value)))
            self._read_all(value)
        elif kind is dict:
            self._put("dict", str(len(value)))
            self._read_all(value)
            self._read_all(value.values())
        elif kind in (set, frozenset):
            self._read_set(value, kind)
        elif kind in _WRAPPED:
            self._put(kind.__name__)
            self._read_all(_WRAPPED[kind](value))
        elif isinstance(value, types.FunctionType):
            self.read_function(value)
        elif isinstance(value, types.CodeType):
            self.read_code(value)
        elif isinstance(value, types.ModuleType):
            # Which of its values are read is not known.
            self._read_module(value, frozenset(name for name, held in vars(value).items() if _is_state(name, held)))
        elif isinstance(value, type):
            self._read_class(value)
        elif isinstance(value, _BY_NAME):
            self._read_by_name(value)
        elif _is_named_in_library(value):
            self._put_name(value.__module__, value.__qualname__)
        else:
            self._read_object(value, kind)

    # -------------------------------------------------------------------------------------------------- containers

    def _read_all(self, values: Iterable[Any]) -> None:
        values = list(values)
        if len(values) > _MANY and {*map(type, values)} <= {*PLAIN}:
            self._put("plain", repr(values))
            return
        for value in values:
            self.read(value)

    def _read_set(self, values: Iterable[Any], kind: type) -> None:
        # The order of a set differs from process to process.
        self._put(kind.__name__, *sorted(map(self._apart, values)))

    def _apart(self, value: Any) -> str:
        reader = ValueReader(self._known)
        reader.read(value)
        return reader.hash

    # -------------------------------------------------------------------------------------------------------- code

    def read_function(self, function: types.FunctionType) -> None:
        """Read a function: its code, what is bound to it, and the globals that it names."""
        module = function.__module__ or ""
        is_library = is_library_file(function.__code__.co_filename)
        if is_library and _named(module, function.__qualname__) is function:
            self._put_name(module, function.__qualname__)
            return
        self._put("function")
        self.read_code(function.__code__)
        self.read(function.__defaults__)
        self.read(function.__kwdefaults__)
        self.read(vars(function))
        for name, cell in closure_of(function):
            self._put(name)
            self.read_cell(function, cell)
        if is_library:
            self._put(version_of(module))
            return
        for name in global_names(function.__code__):
            self.read_global(function, name)
        for name in imported_names(function.__code__):
            self.read_import(function, name)

    def read_code(self, code: types.CodeType) -> None:
        """Read what runs in code: without the names of files and functions, and without line numbers."""
        self._put("code", str(code.co_flags), str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)))
        self._put_bytes(code.co_code)
        self._put_bytes(getattr(code, "co_exceptiontable", b""))
        for names in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self._put(repr(names))
        for value in code.co_consts:
            self.read(value)

    def read_cell(self, function: types.FunctionType, cell: types.CellType) -> None:
        """Read a variable of a function's closure."""
        held = tuple(_contents(cell))
        if held and isinstance(held[0], types.ModuleType):
            self._read_module(held[0], frozenset(all_names(function.__code__)))
        else:
            self.read(cell)

    def read_global(self, function: types.FunctionType, name: str) -> None:
        """Read the value of a name in a function: a global, a module that it imports, or a built-in."""
        self._put("global", name)
        value = function.__globals__.get(name, function)
        if isinstance(value, types.ModuleType):
            self._read_module(value, frozenset(all_names(function.__code__)))
        elif value is not function or function.__globals__.get(name) is function:
            self.read(value)

    def read_import(self, function: types.FunctionType, name: str) -> None:
        """Read a module that a function imports when it is called."""
        self._put("import", name)
        package = function.__globals__.get("__package__")
        module = sys.modules.get(name) or sys.modules.get(f"{package}.{name}")
        if module is not None:
            self._read_module(module, frozenset(all_names(function.__code__)))
            return
        found: dict[str, str] = {}
        for dotted in (f"{package}.{name}".rstrip("."), name) if package else (name,):
            found |= _hashes_of_import(dotted, all_names(function.__code__))
        for path in sorted(found):
            self._put(path, found[path])
        if not found:
            self._put_name(name, "")

    # ---------------------------------------------------------------------------------------- modules and classes

    def _read_module(self, module: types.ModuleType, names: frozenset[str]) -> None:
        """Read a library's version, or another module's file and its values of these names."""
        file = getattr(module, "__file__", None)
        if is_library_module(module):
            self._put_name(module.__name__, "")
            return
        self._put("module", module.__name__)
        if (id(module), names) in self._modules:
            return
        self._modules.add((id(module), names))
        if file is not None:
            self._put_file(file)
        for name in sorted(names & vars(module).keys()):
            value = vars(module)[name]
            self._put(name)
            if isinstance(value, types.ModuleType):
                self._read_module(value, names)
            else:
                self.read(value)

    def _put_file(self, file: str) -> None:
        for path, found in hashes_with_imports(Path(file)).items():
            self._put(path, found)

    def _read_class(self, cls: type) -> None:
        if is_library_class(cls):
            self._put_name(cls.__module__, cls.__qualname__)
            return
        self._put("class", cls.__qualname__)
        self._read_all((type(cls), *cls.__bases__))
        for name in sorted(vars(cls).keys() - _NO_STATE_OF_A_CLASS):
            self._put(name)
            self.read(vars(cls)[name])

    def _read_by_name(self, value: Any) -> None:
        """Read a function or descriptor that is written in C, and the object to which it is bound, if any."""
        owner = getattr(value, "__self__", None)
        self._put_name(getattr(value, "__module__", None) or "", value.__qualname__)
        if owner is not None and not isinstance(owner, types.ModuleType):
            self.read(owner)

    def _put_name(self, module: str, name: str) -> None:
        self._put("name", module, name, version_of(module))

    # ----------------------------------------------------------------------------------------------------- objects

    def _read_object(self, value: Any, kind: type) -> None:
        library = kind.__module__.partition(".")[0]
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            self._read_tensor(value, torch)
        elif _is_torch(value, "utils.hooks.RemovableHandle"):
            hooks = value.hooks_dict_ref() or {}
            self._put("handle of a hook", str(list(hooks).index(value.id) if value.id in hooks else None))
        elif library == "numpy" and kind.__name__ in ("ndarray", "memmap"):
            self._read_array(value)
        elif library == "pandas" and (hasattr(value, "columns") or hasattr(value, "dtype")):
            self._read_table(value)
        elif library == "ConfigSpace" and hasattr(value, "to_serialized_dict"):
            # Its pickled form contains the state of a random generator.
            self.read(value.to_serialized_dict())
        elif is_library_class(kind):
            self._read_reduced(value)
        else:
            self._read_own_object(value, kind)

    def _read_array(self, array: Any) -> None:
        self._put("array", repr(array.dtype), str(array.shape))
        if array.dtype.hasobject:
            self._read_all(array.ravel().tolist())
        elif array.size and array.dtype.itemsize:
            self._put_bytes(memoryview(array.ravel().view("u1")))

    def _read_tensor(self, tensor: Any, torch: Any) -> None:
        self._put("tensor", str(tensor.dtype), str(tuple(tensor.shape)), str(tensor.requires_grad))
        try:
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise Unreadable(_type_of(tensor)) from error
        self._put_bytes(memoryview(content))
        hooks = getattr(tensor, "_backward_hooks", None)
        if hooks:
            self._read_all(hooks.values())

    def _read_table(self, table: Any) -> None:
        """Read a pandas table column by column, and a column or an index by its values."""
        self._put(type(table).__name__)
        self._read_all([table.attrs] if getattr(table, "attrs", None) else [])
        if hasattr(table, "columns"):
            self._read_all((table.columns, table.index, *(table.iloc[:, j] for j in range(table.shape[1]))))
            return
        self._put(str(table.dtype), str(getattr(table.dtype, "ordered", "")))
        self._read_all((list(table.names) if hasattr(table, "names") else table.name, table.to_numpy()))
        self._read_all((getattr(table, "index", None), getattr(table.dtype, "categories", None)))

    def _read_reduced(self, value: Any) -> None:
        """Read a library's object in its pickled form, which is enough to build an equal object."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            found = value.__reduce_ex__(4) if reduce is None else reduce(value)
        except RuntimeError as error:
            if not _is_torch(value, "nn.Module") or not hasattr(value, "parametrizations"):
                raise Unreadable(_type_of(value)) from error
            # It refuses to be pickled, because its class was created in this process.
            self._put_name(type(value).__module__, type(value).__name__)
            self._read_all(without_numbers_of_hooks(attributes_of(value)).items())
            return
        except (TypeError, ValueError, AttributeError, OSError) as error:
            # As the pickle protocol has it; other exceptions are those of the object's own code.
            raise Unreadable(_type_of(value)) from error
        if isinstance(found, str):
            # A ufunc that np.frompyfunc made has a name, but no module has it.
            if _named(type(value).__module__, found) is not value and not _is_in_a_module(value, found):
                raise Unreadable(_type_of(value))
            self._put_name(type(value).__module__, found)
            return
        self._put("object")
        made_by, arguments, state, items, pairs = (*found, None, None, None)[:5]
        if _is_torch(value, "nn.Module") and isinstance(state, dict):
            state = without_numbers_of_hooks(state)
        self._read_all((made_by, arguments, state, list(items or ()), list(pairs or ())))

    def _read_own_object(self, value: Any, kind: type) -> None:
        """Read an object of the user's class: the class and all attributes, also those that its pickled form omits."""
        self._put("own object")
        self.read(kind)
        attributes = without_numbers_of_hooks(attributes_of(value))
        self._read_all((name, attributes[name]) for name in sorted(attributes))
        self.read_base(value)

    def read_base(self, value: Any) -> None:
        """Read what an object of the user's class holds through its built-in or library base classes."""
        for base, content in _CONTENT.items():
            if isinstance(value, base):
                self.read(content(value))
        if any(is_library_class(base) and base not in _WITHOUT_STATE for base in type(value).__mro__):
            self._read_reduced(value)


def _is_state(name: str, held: Any) -> bool:
    """Whether a module's value is state, not code that its file has."""
    is_code = isinstance(held, types.ModuleType | types.FunctionType | types.BuiltinFunctionType | type)
    return not is_code and not (name.startswith("__") and name.endswith("__"))


def _hashes_of_import(dotted: str, names: Iterable[str]) -> dict[str, str]:
    """The hashes of the files of a module that is not loaded, and of modules in it; empty for a library."""
    top = dotted.partition(".")[0]
    spec = importlib.util.find_spec(top) if top and top not in sys.modules else _spec_of_loaded(top)
    if spec is None:
        return {}
    places = list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
    found: dict[str, str] = {}
    for place in (Path(each) for each in places if not is_library_file(each) and Path(each).exists()):
        found |= hashes_of_import(dotted, names, place.parent)
    return found


def _spec_of_loaded(name: str) -> importlib.machinery.ModuleSpec | None:
    return getattr(sys.modules.get(name), "__spec__", None)


def _type_of(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _contents(cell: types.CellType) -> Iterator[Any]:
    try:
        yield cell.cell_contents
    except ValueError:
        # Not bound yet.
        return


def closure_of(function: types.FunctionType) -> Iterator[tuple[str, types.CellType]]:
    """The variables of a function's closure, by name."""
    return zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


def without_numbers_of_hooks(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of an object of torch, whose hooks have numbers from one counter for the whole process."""
    hooks = {name: held for name, held in attributes.items() if "_hooks" in name and _is_numbered(held)}
    numbers = sorted({key for held in hooks.values() for key in held})
    order = {number: position for position, number in enumerate(numbers)}
    return {**attributes, **{name: [(order[k], v) for k, v in held.items()] for name, held in hooks.items()}}


def _is_numbered(held: Any) -> bool:
    return isinstance(held, dict) and held != {} and all(type(key) is int for key in held)


def _is_torch(value: Any, name: str) -> bool:
    """Whether a value is an object of a class of torch, if torch is loaded."""
    found: Any = sys.modules.get("torch")
    for part in name.split("."):
        found = getattr(found, part, None)
    return isinstance(found, type) and isinstance(value, found)


def attributes_of(value: Any) -> dict[str, Any]:
    """The attributes of an object, including those in slots."""
    found = dict(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        for name, slot in vars(cls).items():
            if isinstance(slot, types.MemberDescriptorType) and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


# --------------------------------------------------------------------------------------------------- names in code


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object, and those of the functions and classes inside it."""
    yield code
    for value in code.co_consts:
        if isinstance(value, types.CodeType):
            yield from _codes(value)


def _operands(code: types.CodeType, operations: frozenset[str]) -> list[str]:
    found = {
        str(each.argval) for part in _codes(code) for each in dis.get_instructions(part) if each.opname in operations
    }
    return sorted(found)


def global_names(code: types.CodeType) -> list[str]:
    """The globals and built-in names that code reads."""
    return _operands(code, frozenset({"LOAD_GLOBAL", "LOAD_NAME"}))


def imported_names(code: types.CodeType) -> list[str]:
    """The modules that code imports when it runs."""
    return _operands(code, frozenset({"IMPORT_NAME"}))


def all_names(code: types.CodeType) -> set[str]:
    """All names in code, of globals, attributes and modules."""
    return {name for part in _codes(code) for name in part.co_names}


# ------------------------------------------------------------------------------------------------------- libraries


def is_library_file(file: str) -> bool:
    """Whether a file is part of Python, of an installed distribution or of this package."""
    if file.startswith("<"):
        return file.startswith("<frozen")
    path = Path(file)
    return _LIBRARIES.intersection(path.parts) != set() or any(path.is_relative_to(base) for base in _bases())


@functools.cache
def _bases() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    bases = [Path(paths["stdlib"]), Path(paths["platstdlib"]), Path(__file__).parents[1]]
    for name in ("workers", "nameserver"):
        spec = importlib.util.find_spec(f"{OURS}.{name}")
        bases += [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return tuple({path for base in bases for path in (base, base.resolve())})


def is_library_module(module: types.ModuleType) -> bool:
    """Whether a module is part of a library; one without a file is, unless it was created in this process."""
    file = getattr(module, "__file__", None)
    if file is not None:
        return is_library_file(file)
    places = list(getattr(module, "__path__", ()))
    if places:
        return all(is_library_file(place) for place in places)
    return module.__name__ in sys.builtin_module_names or module.__spec__ is not None


def is_library_class(cls: type) -> bool:
    """Whether a class is part of a library."""
    module = sys.modules.get(cls.__module__)
    if cls.__module__.startswith("_cython_"):
        # Not a module that was imported.
        return True
    # The module of a class that is defined in a notebook is __main__, and sys.modules may have the notebook's program.
    return module is not None and cls.__module__ != "__main__" and is_library_module(module)


def _is_named_in_library(value: Any) -> bool:
    """Whether a value is what a library has under the name that the value has, as its functions in Cython."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in sys.modules:
        return False
    return is_library_module(sys.modules[module]) and _named(module, name) is value


def _named(module: str, dotted: str) -> Any:
    target: Any = sys.modules.get(module)
    for name in dotted.split("."):
        target = getattr(target, name, None)
    return target


def _is_in_a_module(value: Any, name: str) -> bool:
    """Whether a loaded module has a value under a name; a module's own ``__getattr__`` is not called."""
    return any(getattr(module, "__dict__", {}).get(name) is value for module in list(sys.modules.values()))


@functools.cache
def version_of(module: str) -> str:
    """The version of the distribution that has a module; for a standard module Python's version; empty if unknown."""
    top = module.partition(".")[0]
    if top in ("", OURS):
        return ""
    if top in sys.stdlib_module_names or top in sys.builtin_module_names:
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    version = getattr(sys.modules.get(top), "__version__", None)
    if isinstance(version, str):
        return version
    # Imported here: it takes 30 ms.
    import importlib.metadata

    try:
        return importlib.metadata.version(importlib.metadata.packages_distributions().get(top, [top])[0])
    except importlib.metadata.PackageNotFoundError:
        return ""
