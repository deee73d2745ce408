"""Samplers: they propose new configurations.

Law of this room: the engine decides when a configuration is needed, a sampler decides which one. A sampler uses no
brackets, no clock and no files. Its proposal is a pure function of the generator and of the configurations and results
that it received.
``registry`` lists the algorithms by name, ``protocol`` is the interface, ``random`` samples from the space, ``kde`` is
the model of the paper. ``mfbo`` uses the results of all budgets, which ``history`` keeps, with density ratios
(``blend``) and a Gaussian process (``gp``). ``conformance`` holds the tests that every sampler passes.
"""

from hpbandster_lite.samplers.protocol import Foreseeing, Ranking, Sampler, Vector
from hpbandster_lite.samplers.registry import (
    Algorithm,
    algorithm_named,
    algorithm_names,
    bracket_plan,
    make_sampler,
    sampler_parameters,
)

__all__ = [
    "Algorithm",
    "Foreseeing",
    "Ranking",
    "Sampler",
    "Vector",
    "algorithm_named",
    "algorithm_names",
    "bracket_plan",
    "make_sampler",
    "sampler_parameters",
]
