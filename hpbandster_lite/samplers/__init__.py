"""Samplers: where new configurations come from.

Law of this room: the engine says when a configuration is wanted, a sampler says which; it knows no brackets, no clock
and no files, and its proposal is a pure function of its generator, of what was added and of what was observed.
``random`` follows the space, ``bohb`` the model of the paper with the densities of ``kde``, ``reference`` has those of
statsmodels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from hpbandster_lite.errors import UsageError, did_you_mean
from hpbandster_lite.records import Plain
from hpbandster_lite.samplers.kde.parameters import BohbParameters, refuse_unknown
from hpbandster_lite.samplers.protocol import Foreseeing, Sampler, Vector
from hpbandster_lite.samplers.random import Random
from hpbandster_lite.space import SearchSpace

if TYPE_CHECKING:
    from hpbandster_lite.samplers.kde.sampler import Bohb

__all__ = ["Bohb", "BohbParameters", "Foreseeing", "Random", "Sampler", "Vector", "make_sampler", "sampler_parameters"]

_HAS_MODEL = {"bohb": True, "bo": True, "hyperband": False, "random": False}


def make_sampler(
    algorithm: str, space: SearchSpace, budgets: Sequence[float], parameters: Mapping[str, Plain]
) -> Sampler:
    """The sampler of an algorithm.

    Parameters
    ----------
    algorithm
        ``bohb`` and ``bo`` use the model, ``hyperband`` and ``random`` sample at random.
    space
        The search space.
    budgets
        The budgets at which results will be observed.
    parameters
        Parameters by name, see :func:`sampler_parameters`.

    Raises
    ------
    UsageError
        For an unknown algorithm or parameter, with the nearest known one, and for a wrong value.
    """
    if _has_model(algorithm):
        # Here, because it takes scipy 0.4 s to be imported, and most processes have no use for a model.
        from hpbandster_lite.samplers.kde.sampler import Bohb

        return Bohb(space, budgets, BohbParameters.from_mapping(parameters, algorithm))
    refuse_unknown(parameters, [], algorithm)
    return Random(space)


def sampler_parameters(algorithm: str) -> dict[str, Plain]:
    """Names and defaults of the parameters of an algorithm's sampler; raises UsageError for an unknown algorithm."""
    if not _has_model(algorithm):
        return {}
    return {field.name: field.default for field in fields(BohbParameters)}


def _has_model(algorithm: str) -> bool:
    if algorithm not in _HAS_MODEL:
        remedy = did_you_mean(algorithm, _HAS_MODEL, otherwise="choose from")
        raise UsageError(f"unknown algorithm {algorithm!r}{remedy}")
    return _HAS_MODEL[algorithm]


def __getattr__(name: str) -> Any:
    # For who asks for the class itself.
    if name == "Bohb":
        from hpbandster_lite.samplers.kde.sampler import Bohb

        return Bohb
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
