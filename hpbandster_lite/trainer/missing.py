"""What an objective needs for every configuration and does not find: a module, a file, a data set, an argument.

Law of this file: it reads an exception and decides nothing. Where the name of what is missing contains a value of the
configuration, another configuration may find it, and there is no answer.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from types import TracebackType

from hpbandster_lite.problems import Problem
from hpbandster_lite.records import Values
from hpbandster_lite.trainer.exceptions import explicit_causes, one_line

MAX_NAME_CHARACTERS = 300
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM})
_DATA = r"(?:data(?:[ -]?sets?)?|files?|director(?:y|ies)|folders?|archives?)"
_GONE = r"(?:not found|(?:do(?:es)?)(?: not|n't) exist|(?:is|are) missing|(?:could|can) ?not be (?:found|opened|read))"
_NO_DATA = (
    rf"(?is)\bno such {_DATA}\b|\b{_DATA}\b.*\b{_GONE}"
    rf"|\b(?:could|can)(?: ?not|n't) (?:find|locate|open) .*\b{_DATA}\b|\bno {_DATA} (?:named|at|in)\b"
)
"""Messages of libraries whose errors are no OSError. A text, because few trainers need it compiled."""
_WRONG_CALL = (
    r"([\w.<>]+)\(\) (?:takes .*positional argument|missing \d+ required|got an unexpected keyword argument"
    r"|got multiple values for argument|takes no )"
)
"""Python's message for a call with other arguments than the function has."""


_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE]-?\d{1,2}(?!\d))?")


def missing(error: BaseException, problem: Problem, values: Values) -> str | None:
    """What the objective misses, as a noun with its name; None if the exception does not say so.

    Parameters
    ----------
    error
        What the objective raised; its explicit causes are examined, too.
    problem
        The problem whose objective it is.
    values
        The configuration.
    """
    for each in explicit_causes(error):
        found = _module(each) or _file(each) or _argument(each, problem)
        if found is not None:
            what, name = found[0], " ".join(found[1].split())[:MAX_NAME_CHARACTERS]
            return None if any(_occurs(value, what, name) for value in values.values()) else f"{what} {name}"
    return None


def _module(error: BaseException) -> tuple[str, str] | None:
    """What cannot be imported: a module that is not there, or one whose own code fails."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return "the module", repr(error.name)
    name = next(_failed_imports(error.__traceback__), None)
    if name is not None:
        return "the module", f"{name!r} (its import fails: {one_line(error)})"
    is_text = isinstance(error, SyntaxError) and (error.filename or "<").startswith("<")
    if isinstance(error, ImportError | SyntaxError) and not is_text:
        return "a module", f"({one_line(error)})"
    return None


def _failed_imports(frames: TracebackType | None) -> Iterator[str]:
    """The modules whose code was running; a script that the objective runs does not count as one."""
    while frames is not None:
        code, variables = frames.tb_frame.f_code, frames.tb_frame.f_globals
        is_module = code.co_name == "<module>" and not code.co_filename.startswith("<")
        if is_module and variables.get("__spec__") is not None:
            yield str(variables.get("__name__"))
        frames = frames.tb_next


def _file(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, OSError) and error.errno in _NOT_THERE:
        name = error.filename
        if isinstance(name, str | bytes | os.PathLike):
            return "the file", repr(os.fsdecode(name))
    message = one_line(error)
    is_named = isinstance(error, FileNotFoundError | NotADirectoryError)
    return ("data", f"({message})") if is_named or re.search(_NO_DATA, message) else None


def _argument(error: BaseException, problem: Problem) -> tuple[str, str] | None:
    """An argument of the objective itself; that of another function may depend on what the configuration has."""
    wrong = re.match(_WRONG_CALL, str(error)) if type(error) is TypeError else None
    if wrong is None:
        return None
    # A wrapper that takes any arguments hides those of the function in it.
    names = {"evaluate", str(getattr(problem.evaluate, "__name__", "evaluate"))}
    return ("arguments", f"({one_line(error)})") if wrong[1].rpartition(".")[2] in names else None


def _occurs(value: object, what: str, name: str) -> bool:
    """Whether a value of the configuration is a word or a number of a name.

    In a message of which the name is only a part, numbers and short words stand by accident.
    """
    path = name.partition("' (")[0] if what in ("the file", "the module") else ""
    if isinstance(value, list | tuple):
        return any(_occurs(item, what, name) for item in value)
    if isinstance(value, bool):
        return _is_word(str(value), path)
    if isinstance(value, str):
        return _is_word(value, name if len(value) > 1 else path)
    if isinstance(value, int | float):
        return any(_is_written(value, number) for number in _NUMBER.findall(path or (name if what == "data" else "")))
    return False


def _is_word(word: str, text: str) -> bool:
    return word != "" and re.search(rf"(?<![a-zA-Z0-9]){re.escape(word)}(?![a-zA-Z0-9])", text) is not None


def _is_written(value: float, number: str) -> bool:
    """Whether a number in a text may be this value, rounded to its digits."""
    digits, _, exponent = number.lower().partition("e")
    decimals = len(digits.partition(".")[2]) - int(exponent or 0)
    if value != int(value) and decimals <= 0:
        # Any name may have a whole number.
        return False
    return abs(float(number) - abs(value)) <= 0.5 * 10.0**-decimals if decimals > 0 else float(number) == abs(value)
