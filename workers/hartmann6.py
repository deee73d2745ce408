"""Hartmann-6 with fidelities: six dimensions, six local minima, and cheap evaluations with a small bias.

Claim: f(x, b) = -sum_i alpha_i(b) exp(-sum_j A_ij (x_j - P_ij)^2) on [0, 1]^6, with
alpha(b) = alpha + log_3(27 / b) delta and delta = (0.01, -0.01, -0.1, 0.1): each budget is one step of fidelity further
from the true function than a budget three times larger. Kandasamy et al., "Gaussian process bandit optimisation with
multi-fidelity evaluations" (NeurIPS 2016), use alpha + (M - m) delta for fidelities m = 1..M. At b = 27 this is the
function of Dixon and Szegoe: its minimum is -3.32237 at (0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573). It
has no noise and requires numpy, but not torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.problems.trial import Trial

min_budget = 1
max_budget = 27
eta = 3
unit = "fidelity"

NAMES = ("x1", "x2", "x3", "x4", "x5", "x6")
MINIMUM = -3.32237

ALPHA = (1.0, 1.2, 3.0, 3.2)
DELTA = (0.01, -0.01, -0.1, 0.1)
A = (
    (10.0, 3.0, 17.0, 3.5, 1.7, 8.0),
    (0.05, 10.0, 17.0, 0.1, 8.0, 14.0),
    (3.0, 3.5, 1.7, 10.0, 17.0, 8.0),
    (17.0, 8.0, 0.05, 10.0, 0.1, 14.0),
)
P = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)


def space() -> ConfigurationSpace:
    """Six coordinates in [0, 1]."""
    from ConfigSpace import ConfigurationSpace, Float

    cube = ConfigurationSpace()
    cube.add([Float(name, (0.0, 1.0)) for name in NAMES])
    return cube


def evaluate(config: Mapping[str, Any], budget: float, _trial: Trial) -> dict[str, float]:
    """The value of the function at a fidelity.

    Parameters
    ----------
    config
        ``x1`` to ``x6``.
    budget
        The fidelity; 27 or more is the true function.
    _trial
        Not used, because the function is deterministic.

    Returns
    -------
    dict
        ``loss``, and ``regret``: the true value at this point minus the minimum.
    """
    import numpy as np

    x = np.array([config[name] for name in NAMES])
    bumps = np.exp(-(np.array(A) * (x - np.array(P)) ** 2).sum(axis=1))
    steps = max(0.0, math.log(max_budget / budget, eta))
    alpha = np.array(ALPHA)
    return {
        "loss": -float((alpha + steps * np.array(DELTA)) @ bumps),
        "regret": -float(alpha @ bumps) - MINIMUM,
    }
