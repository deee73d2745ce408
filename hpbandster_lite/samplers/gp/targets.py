"""Losses of all budgets as the process sees them: bounded, near to a normal distribution, mean 0 and deviation 1.

Law of this file: pure functions. Losses above the 0.9 quantile of the finite ones get its value, and so do bad results.
If all are positive, they are divided by their median and transformed as Box and Cox did; otherwise the median is
subtracted, the result is divided by the deviation and transformed as Yeo and Johnson did. The exponent is the most
likely of 25 values in [-2, 4].
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import boxcox

from hpbandster_lite.space import Array

QUANTILE = 0.9
EXPONENTS = tuple(0.25 * step for step in range(-8, 17))
LARGEST_RATIO = 1e15
"""Losses that differ from the median by a larger factor count as if they had this one, so that powers stay finite."""
TINY = 1e-12
"""Keeps the logarithm of a variance, and a division by a deviation, finite where all losses are equal."""


def standardised(losses: Array, exponent: float) -> Array:
    """Targets of losses with a known exponent.

    Parameters
    ----------
    losses
        Shape (n,), infinite for bad results; at least one is finite.
    exponent
        The exponent of the transformation; 1 changes nothing but location and scale.
    """
    scaled, transform = _scaled(losses)
    powered = transform(scaled, exponent)
    targets: Array = (powered - powered.mean()) / (powered.std() + TINY)
    return targets


def likeliest_exponent(losses: Array) -> float:
    """The exponent of ``EXPONENTS`` under which the transformed losses are most likely to come from a normal.

    Parameters
    ----------
    losses
        Shape (n,), infinite for bad results; at least one is finite.
    """
    scaled, transform = _scaled(losses)
    # The logarithm of the slope of either transformation: (exponent - 1) times this.
    log_slope = np.log(scaled) if transform is box_cox else np.sign(scaled) * np.log1p(np.abs(scaled))

    def log_likelihood(exponent: float) -> float:
        variance = transform(scaled, exponent).var()
        return float((exponent - 1.0) * log_slope.sum() - 0.5 * len(scaled) * math.log(variance + TINY))

    likelihoods = [log_likelihood(exponent) for exponent in EXPONENTS]
    return EXPONENTS[int(np.argmax(likelihoods))]


def box_cox(values: Array, exponent: float) -> Array:
    """``(v**e - 1) / e``, and ``log(v)`` for ``e = 0``; positive values only (Box and Cox, 1964)."""
    transformed: Array = np.asarray(boxcox(values, exponent), dtype=np.float64)
    return transformed


def yeo_johnson(values: Array, exponent: float) -> Array:
    """Box and Cox's transformation of ``1 + v`` for ``v >= 0``, and of ``1 - v`` with ``2 - e``, negated, below 0.

    As in Yeo and Johnson (2000), equation 1.
    """
    size = 1.0 + np.abs(values)
    transformed: Array = np.where(values >= 0, boxcox(size, exponent), -boxcox(size, 2.0 - exponent))
    return transformed


def _scaled(losses: Array) -> tuple[Array, Callable[[Array, float], Array]]:
    """Bounded losses in a natural unit, and the transformation for them."""
    # Halves, because the quantile subtracts losses, and the difference of two finite ones may be infinite.
    halves = 0.5 * losses
    top = np.quantile(halves[np.isfinite(halves)], QUANTILE)
    bounded = np.minimum(halves, top)
    # Neither transformation depends on the unit, and squares of losses beyond 1e154 would overflow.
    bounded = bounded / max(float(np.abs(bounded).max()), np.finfo(np.float64).tiny)
    if bounded.min() > 0:
        with np.errstate(over="ignore"):  # an infinite ratio is clipped
            return np.clip(bounded / np.median(bounded), 1 / LARGEST_RATIO, LARGEST_RATIO), box_cox
    return (bounded - np.median(bounded)) / (bounded.std() + TINY), yeo_johnson
