"""The most probable parameters of the covariance, and at which numbers of results they are computed.

Law of this file: pure functions. Fits form a chain: each begins at the parameters of the one before, so a fit is
defined by the results at its place in the chain, and never by the time at which it is needed.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import Bounds, minimize

from hpbandster_lite.records import ModelFitted
from hpbandster_lite.samplers.gp.features import Features
from hpbandster_lite.samplers.gp.kernel import Criterion, Kernel, Layout, Points
from hpbandster_lite.samplers.gp.targets import likeliest_exponent, standardised
from hpbandster_lite.samplers.history import Table
from hpbandster_lite.samplers.kde.axes import Indices
from hpbandster_lite.space import Array

FIRST_STEPS, LATER_STEPS = 40, 20
"""Iterations of the first fit, from the priors' means, and of a later one."""
MEMORY = 30
"""Past steps from which L-BFGS-B estimates the curvature."""
LARGEST_UNIT = 1.5
DEVIATIONS = 4.0
"""How far from its prior mean a parameter may be, in prior deviations."""
MOST_TO_FIT = 220
"""Most results from which parameters are computed; the time grows with the cube."""
MOST_TO_CONDITION = 300
"""Most results from which means are computed at first; those that come later are added."""
FACTOR, LEAST_NEW = 1.3, 10


def next_fit_at(results: int) -> int:
    """The number of results at which the fit after the one at ``results`` is due."""
    return math.ceil(max(FACTOR * results, results + LEAST_NEW))


def fitted(layout: Layout, features: Features, results: Table, before: ModelFitted | None) -> ModelFitted:
    """The fit to these results.

    Parameters
    ----------
    layout, features
        The parameters and the space.
    results
        All results at this place in the chain, in the order of observation.
    before
        The fit before, at whose parameters this one begins; ``None`` for the first.
    """
    exponent = likeliest_exponent(results.losses)
    rows = chosen(results.rungs, MOST_TO_FIT)
    used = results.take(rows)
    points = points_of(features, used)
    targets = standardised(results.losses, exponent)[rows]
    start = layout.priors()[0] if before is None else np.array(before.parameters)
    steps = FIRST_STEPS if before is None else LATER_STEPS
    parameters = most_probable(Criterion(layout, features.group, points, targets), layout, start, steps)
    return ModelFitted(
        number=0 if before is None else before.number + 1,
        results=len(results),
        exponent=exponent,
        parameters=tuple(parameters.tolist()),
    )


def most_probable(criterion: Criterion, layout: Layout, start: Array, steps: int) -> Array:
    """Minimise the criterion by L-BFGS-B, in units of the prior deviations (at most ``LARGEST_UNIT``)."""
    mean, deviation = layout.priors()
    unit = np.minimum(deviation, LARGEST_UNIT)

    def in_units(scaled: Array) -> tuple[float, Array]:
        value, gradient = criterion(scaled * unit)
        return value, gradient * unit

    reach = DEVIATIONS * deviation
    found = minimize(
        in_units,
        start / unit,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds((mean - reach) / unit, (mean + reach) / unit),
        options={"maxiter": steps, "maxcor": MEMORY},
    )
    parameters: Array = found.x * unit
    return parameters


def chosen(rungs: Indices, most: int) -> Indices:
    """At most ``most`` rows, in their order: those of the highest rungs; where a rung fits in part, by fixed lots."""
    if len(rungs) <= most:
        return np.arange(len(rungs))
    # The lot of a row depends on its place alone, so that a row stays chosen while the results grow.
    lots = np.random.default_rng(np.random.PCG64(0)).random(len(rungs)) - rungs
    return np.sort(np.argsort(lots, kind="stable")[:most])


def points_of(features: Features, table: Table) -> Points:
    """Evaluations as the covariance reads them."""
    return Points(features(table.vectors), table.rungs, table.numbers)


def kernel_of(layout: Layout, features: Features, fit: ModelFitted) -> Kernel:
    """The covariance with the parameters of a fit."""
    return Kernel(layout, features.group, np.array(fit.parameters))
