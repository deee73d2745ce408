"""What keeps a search from going on with other settings, in words.

Law of this file: every setting that the earlier results depend on is compared; limits, leases and names are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hpbandster_lite.records import Plain, SearchSettings
from hpbandster_lite.wire import plain

# What may not change, in the order in which a user would look for it.
_COMPARED: Mapping[str, Callable[[SearchSettings], Plain]] = {
    "problem": lambda settings: settings.problem.name,
    "algorithm": lambda settings: settings.algorithm,
    "seed": lambda settings: settings.seed,
    "eta": lambda settings: settings.eta,
    "budgets": lambda settings: settings.budgets,
    "unit": lambda settings: settings.unit,
    "bracket rule": lambda settings: settings.bracket_rule,
    "max_attempts": lambda settings: settings.max_attempts,
}


def settings_difference(stored: SearchSettings, new: SearchSettings) -> str | None:
    """First setting in which a search that goes on would differ from what its journal holds.

    Compared are problem (its name), algorithm, seed, eta, budgets, unit, bracket rule, attempts, parameters of the
    sampler, initial configurations and the space; not the run id, the times of leases, and the problem's source.

    Returns
    -------
    str or None
        Words such as ``seed: 1 in the journal, 2 asked for``; ``None`` if the search may go on.
    """
    for name, value in _COMPARED.items():
        if value(stored) != value(new):
            return _differ(name, value(stored), value(new))
    for name in sorted({*stored.sampler, *new.sampler}):
        if stored.sampler.get(name) != new.sampler.get(name):
            return _differ(f"sampler parameter {name!r}", stored.sampler.get(name), new.sampler.get(name))
    if plain(stored.initial) != plain(new.initial):
        return f"initial configurations: {len(stored.initial)} in the journal, {len(new.initial)} others asked for"
    # Imported here: who only reads a journal needs no space, and it takes scipy to make one.
    from hpbandster_lite.space import first_difference

    difference = first_difference(stored.problem.space_json, new.problem.space_json)
    return None if difference is None else f"search space: {difference}"


def _differ(name: str, stored: Plain, new: Plain) -> str:
    return f"{name}: {_words(stored)} in the journal, {_words(new)} asked for"


def _words(value: Plain) -> str:
    if value is None:
        return "the default"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" for item in value)
    return str(value)
