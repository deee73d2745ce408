"""What a problem is: a search space, a function that evaluates, and the defaults of its budgets.

Law of this file: an object or a module is a problem if it has the attributes of one; base classes do not matter. It is
checked before any use; an error names the missing part and how to write it.
"""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from hpbandster_lite.errors import ProblemError, did_you_mean

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.problems.trial import Trial

EVALUATE = ("config", "budget", "trial")
"""Arguments of ``evaluate``, ``test`` and ``refit``."""
FEASIBLE = ("config",)
EXPORT = ("directory", "file")
HOOKS: Mapping[str, Sequence[str]] = {"feasible": FEASIBLE, "test": EVALUATE, "refit": EVALUATE, "export": EXPORT}
"""Optional functions of a problem, and the arguments of each."""


class Problem(Protocol):
    """The required parts of a problem, which is an object or a module.

    Optional parts: ``feasible(config)`` returns True, or False or a reason if a configuration should not be trained;
    ``test(config, budget, trial)`` returns test figures of the model in ``trial.previous_directory``; ``refit(config,
    budget, trial)`` trains once more, with all the data, and saves a model; ``export(directory, file)`` writes that
    model in a form that other programs read; ``options`` and ``configured(options)`` are described in
    :mod:`~hpbandster_lite.problems.options`; the defaults are ``min_budget``, ``max_budget``, ``eta``, ``unit``,
    ``budgets``, ``brackets``, ``integer_budgets`` and ``maximize``.
    """

    def space(self) -> ConfigurationSpace:
        """The search space; ``space`` may also be an attribute that holds it."""

    def evaluate(self, config: dict[str, Any], budget: float, trial: Trial) -> Any:
        """The loss of a configuration at a budget: a number, or a mapping with ``loss`` and plain information.

        If the problem has ``maximize``: a value to maximize, or a mapping with ``value`` and plain information.
        """


class FunctionProblem:
    """A problem made of a function.

    Parameters
    ----------
    evaluate
        A function ``evaluate(config, budget, trial)``.
    space
        The search space. Default: None, for a problem that is only evaluated.
    feasible, test, refit, export
        See :class:`Problem`.
    defaults
        ``min_budget``, ``max_budget``, ``eta``, ``unit``, ``budgets``, ``brackets``, ``integer_budgets``,
        ``maximize``.

    Raises
    ------
    ProblemError
        If the function does not accept (config, budget, trial), or a default is unknown.
    """

    def __init__(
        self,
        evaluate: Callable[..., Any],
        space: ConfigurationSpace | None = None,
        *,
        feasible: Callable[..., Any] | None = None,
        test: Callable[..., Any] | None = None,
        refit: Callable[..., Any] | None = None,
        export: Callable[..., Any] | None = None,
        **defaults: Any,
    ) -> None:
        check_callable(evaluate, EVALUATE, _name(evaluate))
        for name in defaults:
            if name not in DEFAULTS:
                raise ProblemError(f"a problem has no default {name!r}{did_you_mean(name, sorted(DEFAULTS))}")
        self.evaluate = evaluate
        self.feasible = feasible
        self.test = test
        self.refit = refit
        self.export = export
        self._space = space
        vars(self).update(defaults)

    def space(self) -> ConfigurationSpace:
        """The search space.

        Raises
        ------
        ProblemError
            If the problem has no space.
        """
        if self._space is None:
            name = _name(self.evaluate)
            raise ProblemError(
                f"{name} is a function, which has no search space; call minimize({name}, space), or name a module or "
                "an object that has space() and evaluate(config, budget, trial)"
            )
        return self._space


def as_problem(target: Any, reference: str) -> Problem:
    """The problem of a loaded reference: a module, an object, a class without arguments, or a function.

    Raises
    ------
    ProblemError
        If it has no ``evaluate``, or one of its functions has other arguments.
    """
    target = instantiated(target, reference)
    if not hasattr(target, "evaluate"):
        if callable(target):
            return FunctionProblem(target)
        raise ProblemError(f"{reference!r} has no evaluate(config, budget, trial){_problems_in(target)}")
    check_callable(target.evaluate, EVALUATE, f"evaluate of {reference!r}")
    for name, arguments in HOOKS.items():
        if getattr(target, name, None) is not None:
            check_callable(getattr(target, name), arguments, f"{name} of {reference!r}")
    problem: Problem = target
    return problem


def instantiated(target: Any, reference: str) -> Any:
    """An instance if the reference names a class; any other object unchanged.

    Raises
    ------
    ProblemError
        If the class requires arguments.
    """
    if not isinstance(target, type):
        return target
    check_callable(target, (), f"the class of {reference!r}")
    return target()


def check_callable(function: Any, arguments: Sequence[str], what: str) -> None:
    """Check that a function can be called with these positional arguments.

    Raises
    ------
    ProblemError
        If it cannot; the message has its signature and the required one.
    """
    wanted = f"({', '.join(arguments)})"
    if not callable(function):
        kind = type(function).__qualname__
        named = f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"
        raise ProblemError(f"{what} is {named}; it must be a function {wanted}")
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Some functions written in C have no readable signature; a wrong signature fails at the call.
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        is_unbound = next(iter(signature.parameters), "") == "self" and arguments
        remedy = "; it is a method of a class: give the method of an object" if is_unbound else ""
        how = f"has the signature {signature}, but must accept {wanted}: {error}{remedy}"
        raise ProblemError(f"{what} {how}") from error
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "a coroutine" if inspect.iscoroutinefunction(function) else "a generator"
        raise ProblemError(f"{what} returns {kind}, not its result; write def, and return in place of yield")


def _flag(value: Any) -> bool:
    return isinstance(_plain(value), bool)


def _number(value: Any) -> bool:
    value = _plain(value)
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _numbers(value: Any) -> bool:
    value = _plain(value)
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_number, value))


def _whole(value: Any) -> bool:
    return _number(value) and float(value).is_integer()


def _plain(value: Any) -> Any:
    """A scalar or an array of numpy as Python's values; any other value unchanged."""
    return value.tolist() if type(value).__module__ == "numpy" else value


DEFAULTS: Mapping[str, tuple[Callable[[Any], bool], Callable[[Any], Any], str]] = {
    "min_budget": (_number, float, "a number"),
    "max_budget": (_number, float, "a number"),
    "eta": (_number, float, "a number"),
    "unit": (lambda value: isinstance(value, str), str, "a string"),
    "budgets": (_numbers, lambda value: tuple(map(float, value)), "a list of numbers"),
    "brackets": (_whole, int, "an integer"),
    "integer_budgets": (_flag, bool, "True or False"),
    "maximize": (_flag, bool, "True or False"),
}
"""Defaults that a problem may declare: a test of the value, its conversion to a plain value, and the type's name."""


def defaults_of(problem: Problem, reference: str) -> dict[str, Any]:
    """The defaults that a problem declares, by name.

    Raises
    ------
    ProblemError
        If a default has a wrong type. :mod:`hpbandster_lite.hyperband.budgets` checks later that budgets form a ladder.
    """
    found = {}
    for name, (is_valid, plain, wanted) in DEFAULTS.items():
        value = getattr(problem, name, None)
        if value is None:
            continue
        if not is_valid(value):
            raise ProblemError(f"{name} of {reference!r} is {value!r}; it must be {wanted}")
        found[name] = plain(value)
    return found


def _problems_in(target: Any) -> str:
    members = getattr(target, "__dict__", {})
    inside = [name for name, value in members.items() if hasattr(value, "evaluate")]
    return f"; did you mean its attribute {' or '.join(map(repr, sorted(inside)))}?" if inside else ""


def _name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or repr(function))
