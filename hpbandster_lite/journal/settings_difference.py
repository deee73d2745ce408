"""The first difference between two settings because of which a search cannot continue.

Law of this file: it compares every setting on which earlier results depend, but not limits, times of leases or names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from hpbandster_lite.records import Plain, ProblemOption, SearchSettings, Value
from hpbandster_lite.wire import plain

SPACE, DIRECTION = "search space", "direction"
"""Names of two settings that no option alone decides."""

# The settings that cannot change, in the order in which a user looks for them.
_COMPARED: Mapping[str, Callable[[SearchSettings], Plain]] = {
    "problem": lambda settings: settings.problem.name,
    "algorithm": lambda settings: settings.algorithm,
    "seed": lambda settings: settings.seed,
    "eta": lambda settings: settings.eta,
    "budgets": lambda settings: settings.budgets,
    "integer_budgets": lambda settings: settings.problem.integer_budgets,
    DIRECTION: lambda settings: "maximize" if settings.maximize else "minimize",
    "unit": lambda settings: settings.unit,
    "bracket rule": lambda settings: settings.bracket_rule,
    "skip_default": lambda settings: settings.skip_default,
    "max_attempts": lambda settings: settings.max_attempts,
}


class SettingsDifference(NamedTuple):
    """A setting with two different values: its name, and a sentence that gives both."""

    setting: str
    sentence: str


def settings_difference(stored: SearchSettings, new: SearchSettings) -> SettingsDifference | None:
    """The first setting in which a journal differs from the requested settings.

    It compares the problem (its name, and its options except local ones), algorithm, seed, eta, budgets, direction,
    unit, bracket rule, ``skip_default``, attempts, parameters of the sampler, initial configurations and the space. It
    does not compare the run id, the times of leases and the problem's source.

    Returns
    -------
    SettingsDifference or None
        With a sentence such as ``seed: 1 in the journal, 2 requested``; ``None`` if the search can continue.
    """
    option = option_difference(stored.problem.options, new.problem.options)
    if stored.problem.name == new.problem.name and option is not None:
        return _differ(f"option {option.name} of the problem", _as_typed(option.stored), _as_typed(option.new))
    for name, value in _COMPARED.items():
        if value(stored) != value(new):
            return _differ(name, value(stored), value(new))
    for name in sorted({*stored.sampler, *new.sampler}):
        if stored.sampler.get(name) != new.sampler.get(name):
            return _differ(f"sampler parameter {name!r}", stored.sampler.get(name), new.sampler.get(name))
    if plain(stored.initial) != plain(new.initial):
        counts = f"{len(stored.initial)} in the journal, {len(new.initial)} others requested"
        return _named("initial configurations", counts)
    # Imported here: a reader of a journal needs no space, and hpbandster_lite.space imports scipy.
    from hpbandster_lite.space import first_difference

    difference = first_difference(stored.problem.space_json, new.problem.space_json)
    return None if difference is None else _named(SPACE, difference)


class OptionDifference(NamedTuple):
    """An option of a problem with two different values."""

    name: str
    stored: Value
    new: Value


def option_difference(stored: Iterable[ProblemOption], new: Iterable[ProblemOption]) -> OptionDifference | None:
    """The first option in which two descriptions of a problem differ, except local options; None if they agree.

    If only one of them has an option, the other counts as having the option's default.
    """
    before, after = ({each.name: each for each in options if not each.is_local} for options in (stored, new))
    for name in [*before, *(name for name in after if name not in before)]:
        old, now = before.get(name), after.get(name)
        value = old.value if old is not None else after[name].default
        other = now.value if now is not None else before[name].default
        if value != other:
            return OptionDifference(name, value, other)
    return None


def _differ(name: str, stored: Plain, new: Plain) -> SettingsDifference:
    return _named(name, f"{_as_text(stored)} in the journal, {_as_text(new)} requested")


def _named(name: str, difference: str) -> SettingsDifference:
    return SettingsDifference(name, f"{name}: {difference}")


def _as_typed(value: Value) -> Value:
    """An option's value as users write it; None is written ``none`` here, not ``the default``."""
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else value


def _as_text(value: Plain) -> str:
    if value is None:
        return "the default"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" for item in value)
    return str(value)
