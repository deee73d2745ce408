"""The algorithms that a search can choose by name: the plan of brackets, the sampler and its parameters.

Law of this file: one entry for each algorithm, and no other list of their names. An installed package adds an algorithm
with an entry point in the group ``hpbandster_lite.samplers``, whose object is an :class:`Algorithm`; it cannot replace
a built-in one. This file imports numpy and scipy only to make a sampler: most commands need only names and plans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from typing import TYPE_CHECKING, TypeAlias, cast

from hpbandster_lite.errors import UsageError, did_you_mean
from hpbandster_lite.hyperband.brackets import BracketPlan, PlanKind, Promotion, Rule, plan_bracket
from hpbandster_lite.records import Plain, SearchSettings
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.gp.parameters import MfboParameters
from hpbandster_lite.samplers.kde.parameters import BohbParameters

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from hpbandster_lite.samplers.protocol import Sampler
    from hpbandster_lite.space import SearchSpace

GROUP = "hpbandster_lite.samplers"
"""The entry-point group in which packages publish algorithms."""
MakeSampler: TypeAlias = "Callable[[SearchSpace, Sequence[float], Mapping[str, Plain]], Sampler]"
"""Makes a sampler from the space, the budgets of the search, and parameters by name."""
ResultsForModel: TypeAlias = "Callable[[Mapping[str, Plain], Mapping[str, Plain]], int | None]"


@record(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """An algorithm that a search can use.

    Parameters
    ----------
    plan
        Which brackets it runs, see :func:`hpbandster_lite.hyperband.brackets.plan_bracket`.
    sampler
        Makes its sampler. It receives only the parameters in ``parameters``, and raises a
        :class:`~hpbandster_lite.errors.UsageError` for a wrong value.
    promotion
        Which configurations a complete rung promotes. Default: ``rung``, the best ones of the rung. With ``pool``, the
        best at its budget of all brackets that were not promoted yet; its sampler is a
        :class:`~hpbandster_lite.samplers.protocol.Ranking`, whose model decides half of their rank.
    parameters
        Names and defaults of the sampler's parameters. Default: none.
    help
        One line of help about the algorithm.
    results_for_model
        How many results at one budget its model needs, from the tables of the space and all parameters; None if no
        configuration will come from a model. Default: None, for an algorithm without a model.
    """

    plan: PlanKind
    sampler: MakeSampler
    promotion: Promotion = "rung"
    parameters: Mapping[str, Plain] = field(default_factory=dict)
    help: str = ""
    results_for_model: ResultsForModel | None = None


def _random(space: SearchSpace, _budgets: Sequence[float], _parameters: Mapping[str, Plain]) -> Sampler:
    from hpbandster_lite.samplers.random import Random

    return Random(space)


def _bohb(space: SearchSpace, budgets: Sequence[float], parameters: Mapping[str, Plain]) -> Sampler:
    # Imported here: scipy takes 0.4 s to import, and most processes need no model.
    from hpbandster_lite.samplers.kde.sampler import Bohb

    return Bohb(space, budgets, BohbParameters(**parameters))


def _results_for_bohb(tables: Mapping[str, Plain], parameters: Mapping[str, Plain]) -> int | None:
    """As :mod:`hpbandster_lite.samplers.kde.sampler` counts: hyperparameters with more than one value, and three."""
    count = sum(_has_values(dimension) for dimension in tables.get("dimensions", ()))
    if not count or parameters["random_fraction"] >= 1:
        return None
    return int(parameters["min_points_in_model"] or count + 1) + 2


def _mfbo(space: SearchSpace, budgets: Sequence[float], parameters: Mapping[str, Plain]) -> Sampler:
    # Imported here, as above.
    from hpbandster_lite.samplers.gp.sampler import Mfbo

    return Mfbo(space, budgets, MfboParameters(**parameters))


def _results_for_mfbo(tables: Mapping[str, Plain], parameters: Mapping[str, Plain]) -> int | None:
    """As :mod:`hpbandster_lite.samplers.blend.ratio` counts: as many as BOHB's model needs by default."""
    count = sum(_has_values(dimension) for dimension in tables.get("dimensions", ()))
    return None if not count or parameters["random_fraction"] >= 1 else count + 3


def _has_values(dimension: Mapping[str, Plain]) -> bool:
    if dimension["kind"] == "float":
        return True
    if dimension["kind"] == "integer":
        return int(dimension["lower"]) < int(dimension["upper"])
    return len(dimension["choices"]) > 1


_MODEL_PARAMETERS: Mapping[str, Plain] = {each.name: each.default for each in fields(BohbParameters)}

BUILT_IN: Mapping[str, Algorithm] = {
    "bohb": Algorithm(
        plan="hyperband",
        sampler=_bohb,
        parameters=_MODEL_PARAMETERS,
        help="the model inside Hyperband",
        results_for_model=_results_for_bohb,
    ),
    "mfbo": Algorithm(
        plan="hyperband",
        promotion="pool",
        sampler=_mfbo,
        parameters={each.name: each.default for each in fields(MfboParameters)},
        help="a model of all budgets inside Hyperband, which also decides about promotions",
        results_for_model=_results_for_mfbo,
    ),
    "hyperband": Algorithm(plan="hyperband", sampler=_random, help="random samples inside Hyperband"),
    "sh": Algorithm(
        plan="successive_halving",
        sampler=_random,
        help="random samples inside successive halving: Hyperband's most aggressive bracket alone",
    ),
    "bo": Algorithm(
        plan="full_budget",
        sampler=_bohb,
        parameters=_MODEL_PARAMETERS,
        help="the model alone, at the full budget",
        results_for_model=_results_for_bohb,
    ),
    "random": Algorithm(plan="full_budget", sampler=_random, help="random samples at the full budget"),
}
"""The algorithms of this package by name."""


def algorithm_names() -> tuple[str, ...]:
    """Names of all algorithms: the built-in ones, then those of installed packages.

    Raises
    ------
    UsageError
        If two packages publish the same name, or a package publishes a built-in name.
    """
    return (*BUILT_IN, *sorted(_installed()))


def algorithm_named(name: str) -> Algorithm:
    """The algorithm with a name.

    Raises
    ------
    UsageError
        For an unknown name, with the nearest known one; for an entry point that cannot be loaded, is not an
        :class:`Algorithm`, or shares its name with another one.
    """
    built_in = BUILT_IN.get(name)
    if built_in is not None:
        return built_in
    installed = _installed()
    if name not in installed:
        remedy = did_you_mean(name, (*BUILT_IN, *sorted(installed)), otherwise="choose from")
        raise UsageError(f"unknown algorithm {name!r}{remedy}")
    return _loaded(installed[name])


def make_sampler(
    algorithm: str, space: SearchSpace, budgets: Sequence[float], parameters: Mapping[str, Plain]
) -> Sampler:
    """The sampler of an algorithm.

    Parameters
    ----------
    algorithm
        Its name.
    space
        The search space.
    budgets
        The budgets of the search.
    parameters
        Parameters by name, see :func:`sampler_parameters`.

    Raises
    ------
    UsageError
        For an unknown algorithm or parameter, with the nearest known one, and for a wrong value.
    """
    chosen = algorithm_named(algorithm)
    for name, value in parameters.items():
        if name not in chosen.parameters:
            remedy = did_you_mean(name, list(chosen.parameters), otherwise="it has")
            raise UsageError(f"the sampler of {algorithm!r} has no parameter {name}={value!r}{remedy}")
    return chosen.sampler(space, budgets, parameters)


def sampler_parameters(algorithm: str) -> dict[str, Plain]:
    """Names and defaults of the parameters of an algorithm's sampler; raises UsageError for an unknown algorithm."""
    return dict(algorithm_named(algorithm).parameters)


def bracket_plan(settings: SearchSettings, bracket: int) -> BracketPlan:
    """Plan of one bracket of a search."""
    return plan_bracket(
        bracket,
        settings.budgets,
        settings.eta,
        rule=cast(Rule, settings.bracket_rule),
        plan=algorithm_named(settings.algorithm).plan,
    )


# ------------------------------------------------------------------------------------------------ installed packages


def _installed() -> dict[str, EntryPoint]:
    """Entry points of the group by name; nothing is loaded."""
    # Imported here: it takes 15 ms, and a search with a built-in algorithm does not need it.
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in BUILT_IN:
            raise UsageError(f"{_described(entry)} has a built-in algorithm's name; rename it or uninstall the package")
        other = found.setdefault(entry.name, entry)
        # A package that is on the path twice publishes the same object twice.
        if other.value != entry.value:
            raise UsageError(f"{_described(entry)} and {_described(other)} share a name; uninstall one package")
    return found


def _loaded(entry: EntryPoint) -> Algorithm:
    try:
        algorithm = entry.load()
    except Exception as error:
        # The package's code may raise any exception; the remedy is the same.
        raise UsageError(
            f"{_described(entry)} cannot be loaded ({type(error).__name__}: {error}); repair or uninstall the package"
        ) from error
    if not isinstance(algorithm, Algorithm):
        raise UsageError(
            f"{_described(entry)} is a {type(algorithm).__name__}; it must be a hpbandster_lite.samplers.Algorithm"
        )
    return algorithm


def _described(entry: EntryPoint) -> str:
    package = "an unknown package" if entry.dist is None else f"the package {entry.dist.name!r}"
    return f"the algorithm {entry.name!r} ({entry.value}) of {package}"
