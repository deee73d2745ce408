"""The arguments of a script, ``sys.argv``, while a problem is imported from it.

Law of this file: their text is stored nowhere. Their hash counts as source only if importing the problem reads them; a
library that reads ``sys.argv`` while it is itself imported does not count.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from hpbandster_lite.problems.options import target_of
from hpbandster_lite.problems.references import absolute
from hpbandster_lite.problems.source_text import hash_of_bytes

_READS = (
    *("__getitem__", "__iter__", "__len__", "__contains__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"),
    *("__add__", "__mul__", "__rmul__", "__repr__", "__reversed__", "copy", "index", "count", "pop"),
)


class ScriptArguments(list[str]):
    """A list that notes whether the user's code reads it, until :meth:`stop`."""

    def __init__(self, arguments: Sequence[str]) -> None:
        super().__init__(arguments)
        self._hash = _hash_of(arguments)
        self._is_read = False
        self._is_stopped = False

    def note(self) -> None:
        """Note that the caller reads the list."""
        if not self._is_stopped and not self._is_read:
            self._is_read = _is_code_of_the_user(inspect.currentframe())

    def stop(self) -> None:
        """Note nothing more."""
        self._is_stopped = True

    @property
    def source(self) -> str:
        """Their hash if they were read, without the name of the script; else empty."""
        return self._hash if self._is_read else ""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        """A plain list, for processes that the problem starts."""
        self.note()
        return list, (list.copy(self),)


def _noting(name: str) -> Callable[..., Any]:
    plain = getattr(list, name)

    def read(self: ScriptArguments, *arguments: Any, **keywords: Any) -> Any:
        # The first one is the script's name, with which a parser of argparse calls itself.
        if name != "__getitem__" or arguments != (0,):
            self.note()
        return plain(self, *arguments, **keywords)

    return read


for _name in _READS:
    setattr(ScriptArguments, _name, _noting(_name))


@contextlib.contextmanager
def script_arguments(reference: str, arguments: Sequence[str]) -> Iterator[ScriptArguments]:
    """Let ``sys.argv`` be these arguments, from now on, and note whether the user's code reads them inside the block.

    Parameters
    ----------
    reference
        Of the problem that is imported there.
    arguments
        As in ``sys.argv`` of the script; empty for the file of the problem alone.
    """
    noted = ScriptArguments(list(arguments) or [target_of(absolute(reference)).partition(":")[0]])
    sys.argv = noted
    try:
        yield noted
    finally:
        noted.stop()
        if sys.argv is noted:
            sys.argv = list.copy(noted)


def _hash_of(arguments: Sequence[str]) -> str:
    return hash_of_bytes(json.dumps(list(arguments[1:])).encode("ascii"))


def _is_code_of_the_user(frame: FrameType | None) -> bool:
    """Whether the user's code reads, itself or by a function of a library that it calls."""
    # Imported here: most problems do not read their arguments.
    from hpbandster_lite.problems.value_hash import is_library_file

    while frame is not None:
        if not is_library_file(frame.f_code.co_filename):
            return True
        if frame.f_code.co_name == "<module>":
            return False
        frame = frame.f_back
    return False
