"""Adapter of the speed benchmark that measures HpBandSter with the same scripts: ours under its names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version as version_of
from typing import Any

import numpy as np

from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.space import SearchSpace

NAME = "hpbandster_lite"
IMPORT_MASTER = "import hpbandster_lite.master"
IMPORT_WORKER = "import hpbandster_lite.agent"

BUDGETS = (1.0,)


def version() -> dict[str, str]:
    """Versions of what is measured."""
    return {name: version_of(name) for name in ("hpbandster_lite", "Pyro4", "ConfigSpace", "numpy", "scipy")}


def make_space(params: Sequence[Mapping[str, Any]]) -> SearchSpace:
    """The search space of the benchmark's neutral description."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

    space = ConfigurationSpace()
    for p in params:
        if p["type"] == "cat":
            space.add(Categorical(p["name"], p["choices"]))
        else:
            make = Float if p["type"] == "float" else Integer
            space.add(make(p["name"], (p["lower"], p["upper"]), log=p.get("log", False)))
    return SearchSpace.from_configspace(space)


class Generator:
    """The proposal model alone, with no process around it; a proposal includes the fit after new results."""

    def __init__(self, params: Sequence[Mapping[str, Any]], random_fraction: float | None = None) -> None:
        self._space = make_space(params)
        parameters = {} if random_fraction is None else {"random_fraction": random_fraction}
        self._sampler = make_sampler("bohb", self._space, BUDGETS, parameters)
        self._rng = np.random.default_rng(0)

    def tell(self, config: Mapping[str, Any], budget: float, loss: float | None, refit: bool = True) -> None:
        """Take a result in; the fit waits for the next proposal, whatever ``refit`` says."""
        vector = self._space.to_vectors([config])[0]
        self._sampler.add(vector)
        self._sampler.observe(vector, budget, loss)

    def propose(self, budget: float) -> tuple[Mapping[str, Any], bool]:
        """A configuration, and whether it came from the model."""
        proposal = self._sampler.propose(self._rng)
        if proposal is None:
            raise RuntimeError("the space is exhausted")
        return proposal.values, proposal.model_budget is not None
