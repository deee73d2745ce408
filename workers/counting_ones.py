"""Counting ones: the BOHB paper's example of a mixed space with noise that decreases with the budget.

Claim: f(x) = -(sum of the categorical x_i in {0, 1} + sum of the estimated E[Bernoulli(x_j)], x_j in [0, 1]), where
each expectation is the mean of ``budget`` samples (arXiv:1807.01774, section 5.1; 8 + 8 dimensions, budgets 9 to 729).
The minimum is -(number of dimensions), at x = (1, ..., 1). It requires numpy, but not torch.

``counting_ones`` has 8 + 8 dimensions, ``counting_ones:d64`` has 32 + 32; there are also ``d8``, ``d16`` and ``d32``.
For any other number, write ``CountingOnes(n_categorical=..., n_float=...)`` in your own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.problems.trial import Trial

min_budget = 9
max_budget = 729
eta = 3
unit = "samples"
integer_budgets = True


class CountingOnes:
    """The problem in any number of dimensions.

    Parameters
    ----------
    n_categorical
        Number of hyperparameters with the choices 0 and 1. Default: 8.
    n_float
        Number of hyperparameters in [0, 1], each the success probability of a Bernoulli variable. Default: 8.

    Raises
    ------
    ValueError
        If there are no dimensions, or a number is negative.
    """

    min_budget, max_budget, eta = min_budget, max_budget, eta
    unit, integer_budgets = unit, integer_budgets

    def __init__(self, n_categorical: int = 8, n_float: int = 8) -> None:
        if n_categorical < 0 or n_float < 0 or n_categorical + n_float < 1:
            raise ValueError(f"give at least one dimension, got {n_categorical=} and {n_float=}")
        self._categorical = tuple(f"cat_{i}" for i in range(n_categorical))
        self._float = tuple(f"float_{i}" for i in range(n_float))

    def space(self) -> ConfigurationSpace:
        """``cat_0``, ... with the choices 0 and 1, ``float_0``, ... in [0, 1]."""
        from ConfigSpace import Categorical, ConfigurationSpace, Float

        space = ConfigurationSpace()
        space.add([Categorical(name, [0, 1]) for name in self._categorical])
        space.add([Float(name, (0.0, 1.0)) for name in self._float])
        return space

    def evaluate(self, config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, float]:
        """Minus the number of ones, estimated with ``budget`` samples for each continuous dimension.

        Parameters
        ----------
        config
            The values of the hyperparameters.
        budget
            Number of samples of each Bernoulli variable.
        trial
            Its seed determines the samples, which differ between budgets.

        Returns
        -------
        dict
            ``loss``, and ``expected_loss``, which has no noise.
        """
        import numpy as np

        n_samples = round(budget)
        rng = np.random.default_rng(np.random.SeedSequence(trial.seed, spawn_key=(n_samples,)))
        probabilities = np.array([config[name] for name in self._float], dtype=float)
        ones = sum(config[name] for name in self._categorical)
        estimated = rng.binomial(n_samples, probabilities) / n_samples
        return {"loss": -float(ones + estimated.sum()), "expected_loss": -float(ones + probabilities.sum())}


d8 = CountingOnes(4, 4)
d16 = CountingOnes(8, 8)
d32 = CountingOnes(16, 16)
d64 = CountingOnes(32, 32)

space = d16.space
evaluate = d16.evaluate
