"""Samplers: they propose new configurations.

Law of this room: the engine decides when a configuration is needed, a sampler decides which. A sampler knows no
brackets, no clock and no files, and its proposal is a pure function of its generator, of what was added and of what was
observed.
``registry`` lists the algorithms by name, ``protocol`` is the interface, ``random`` follows the space, ``kde`` is the
model of the paper, and ``conformance`` holds the tests that every sampler passes.
"""

from hpbandster_lite.samplers.protocol import Foreseeing, Sampler, Vector
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
    "Sampler",
    "Vector",
    "algorithm_named",
    "algorithm_names",
    "bracket_plan",
    "make_sampler",
    "sampler_parameters",
]
