"""The decorator of records: a frozen dataclass that takes little time to import.

Law of this file: a decorated class is a dataclass in every respect (``fields``, ``replace``, ``match``), except that
most of its code is shared. ``dataclass`` compiles six functions for each class, which took a third of the time in which
an agent is imported. Here all classes share the functions for comparing, showing and copying, and ``__init__`` is
generated when :data:`FEW` records of a class were made: a process makes few records of most classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

__all__ = ["maker", "record"]

_Class = TypeVar("_Class", bound=type)

if TYPE_CHECKING:
    # Type checkers know this decorator by its name.
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool = False, kw_only: bool = False) -> Callable[[_Class], _Class]:
        """Like ``dataclass(frozen=True, ...)``; ``frozen`` is always true, and is there for type checkers."""

        def decorated(cls: _Class) -> _Class:
            own = set(vars(cls))
            # The class's own methods go first, as in a dataclass.
            made = dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            for name, function in _SHARED.items():
                if name not in own:
                    setattr(made, name, function)
            return made

        return decorated


FEW = 20
"""So many records of a class are made field by field: to generate ``__init__`` takes longer."""
_made: dict[type, int] = {}
"""How many records of each class were made field by field."""


def _first_init(self: Any, /, *args: Any, **values: Any) -> None:
    """The ``__init__`` of a class until it is generated, for the first records and for faults of the caller."""
    cls = type(self)
    _made[cls] = made = _made.get(cls, 0) + 1
    if made <= FEW and _set_each(self, cls, args, values):
        if hasattr(cls, "__post_init__"):
            self.__post_init__()
        return
    cls.__init__ = _init(cls)
    cls.__init__(self, *args, **values)


def _set_each(self: Any, cls: type, args: tuple[Any, ...], values: dict[str, Any]) -> bool:
    """Set each field to its argument or its default; False if the arguments are not those of the class."""
    entries = fields(cls)
    positional = [each.name for each in entries if not each.kw_only][: len(args)]
    given = {**dict(zip(positional, args, strict=False)), **values}
    if len(given) != len(args) + len(values):
        return False
    used = 0
    for each in entries:
        name = each.name
        if name in given:
            value = given[name]
            used += 1
        elif each.default is not MISSING:
            value = each.default
        elif each.default_factory is not MISSING:
            value = each.default_factory()
        else:
            return False
        object.__setattr__(self, name, value)
    return used == len(given)


def _init(cls: type) -> Callable[..., None]:
    """The ``__init__`` of a class."""
    positional: list[str] = []
    by_keyword: list[str] = []
    lines: list[str] = []
    names: dict[str, Any] = {"_made_anew": _MADE_ANEW}
    for each in fields(cls):
        name, default = each.name, ""
        if each.default is not MISSING:
            names[f"_default_{name}"], default = each.default, f"=_default_{name}"
        elif each.default_factory is not MISSING:
            names[f"_factory_{name}"], default = each.default_factory, "=_made_anew"
            lines.append(f" if {name} is _made_anew: {name} = _factory_{name}()")
        (by_keyword if each.kw_only else positional).append(f"{name}{default}")
    parameters = ["self", *positional, *(["*", *by_keyword] if by_keyword else [])]
    return _function(cls, "__init__", parameters, [*lines, *_setting(cls, names)], names)


def maker(cls: type) -> Callable[..., Any]:
    """The function that makes a record from the values of all its fields, in order, in half the time of ``cls(...)``.

    ``cls`` may be any dataclass, but others take their usual time.
    """
    parameters, names = [each.name for each in fields(cls)], {"_cls": cls, "_new": object.__new__}
    if vars(cls).get("__setattr__") is _refuse_to_set:
        lines = [" self = _new(_cls)", *_setting(cls, names), " return self"]
    else:
        lines = [f" return _cls({', '.join(f'{name}={name}' for name in parameters)})"]
    return _function(cls, "maker", parameters, lines, names)


def _setting(cls: type, names: dict[str, Any]) -> list[str]:
    """The lines that set each field of ``self`` and check the record; ``__setattr__`` would refuse every value."""
    lines = []
    names["_set"] = object.__setattr__
    for name in (each.name for each in fields(cls)):
        slot: Any = vars(cls).get(name)
        if hasattr(slot, "__set__"):
            names[f"_set_{name}"] = slot.__set__
            lines.append(f" _set_{name}(self, {name})")
        else:
            lines.append(f" _set(self, {name!r}, {name})")
    return [*lines, " self.__post_init__()"] if hasattr(cls, "__post_init__") else lines


def _function(
    cls: type, name: str, parameters: Sequence[str], lines: Sequence[str], names: dict[str, Any]
) -> Callable[..., Any]:
    head = f"def {name}({', '.join(parameters)}):"
    exec("\n".join([head, *(lines or [" pass"])]), names)  # noqa: S102  # made of names of fields, which are identifiers
    function: Callable[..., Any] = names[name]
    function.__qualname__ = f"{cls.__qualname__}.{name}"
    return function


_MADE_ANEW = object()
"""Stands for the default of a field that has a factory."""


class _Values(dict[type, Callable[[Any], tuple[Any, ...]]]):
    """For each class the function that reads all fields of a record, made when it is first used."""

    def __missing__(self, cls: type) -> Callable[[Any], tuple[Any, ...]]:
        # Of one name, attrgetter would return the value itself and no tuple.
        return self.setdefault(cls, attrgetter("__class__", *(each.name for each in fields(cls)), "__class__"))


_values_of = _Values()


def _eq(self: Any, other: Any) -> Any:
    cls = type(self)
    if type(other) is not cls:
        return NotImplemented
    values = _values_of[cls]
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash(_values_of[type(self)](self))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
    return f"{type(self).__qualname__}({shown})"


def _refuse_to_set(self: Any, name: str, value: Any) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    # A copy is made without __init__.
    for each, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)


_SHARED: dict[str, Callable[..., Any]] = {
    "__init__": _first_init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__getstate__": _get_state,
    "__setstate__": _set_state,
}
