"""When the model of a search begins: how many results it needs, and when the plan of the brackets has them.

Law of this file: pure functions of settings and limits, without numpy, so that a status needs no import of it. They
assume one worker, which evaluates in the order of the plan; with more workers, several evaluations already run when the
model begins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from hpbandster_lite.hyperband.brackets import BracketPlan
from hpbandster_lite.records import Limits, SearchSettings
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.registry import BUILT_IN, bracket_plan


@record(frozen=True, slots=True, kw_only=True)
class ModelStart:
    """When the model begins.

    Attributes
    ----------
    results
        Number of results at one budget that it needs.
    evaluations
        Number of evaluations after which it has them; None if it never has.
    budget
        The budget with these results, else the one with the most.
    most
        The most results at one budget, counted until the model begins.
    is_used
        Whether a configuration is sampled after that.
    """

    results: int
    evaluations: int | None
    budget: float
    most: int
    is_used: bool


def results_for_model(settings: SearchSettings) -> int | None:
    """The number of results at one budget with which the model of a search begins; None if it has no model."""
    # Algorithms of installed packages do not declare it, and loading one takes longer than a status may.
    algorithm = BUILT_IN.get(settings.algorithm)
    if algorithm is None or algorithm.results_for_model is None:
        return None
    return algorithm.results_for_model(settings.problem.space_tables, {**algorithm.parameters, **settings.sampler})


def model_start(settings: SearchSettings, limits: Limits) -> ModelStart | None:
    """When the model of a new search begins under these limits; None if the search has no model."""
    results = results_for_model(settings)
    if results is None:
        return None
    counts: Counter[float] = Counter()
    began_at: int | None = None
    began_with = settings.budgets[0]
    for number, (budget, is_sampled) in enumerate(_evaluations(settings, limits, results)):
        if began_at is not None and is_sampled:
            return ModelStart(results=results, evaluations=began_at, budget=began_with, most=results, is_used=True)
        counts[budget] += 1
        if began_at is None and counts[budget] >= results:
            began_at, began_with = number + 1, budget
    most_at = max(counts, key=lambda budget: counts[budget], default=began_with)
    return ModelStart(
        results=results,
        evaluations=began_at,
        budget=most_at if began_at is None else began_with,
        most=counts[most_at],
        is_used=False,
    )


def _evaluations(settings: SearchSettings, limits: Limits, results: int) -> Iterator[tuple[float, bool]]:
    """The budget of each planned evaluation, and whether its configuration is sampled for it, until a limit."""
    # After so many cycles every budget has enough results.
    most = limits.brackets or (results + 1) * len(settings.budgets) + 1
    left, left_budget = limits.evaluations or math.inf, limits.total_budget or math.inf
    for bracket in range(most):
        for budget, is_sampled in _of_bracket(bracket_plan(settings, bracket)):
            if left < 1 or budget > left_budget:
                return
            left, left_budget = left - 1, left_budget - budget
            yield budget, is_sampled


def _of_bracket(plan: BracketPlan) -> Iterator[tuple[float, bool]]:
    for number, rung in enumerate(plan.rungs):
        for _ in range(rung.places):
            yield rung.budget, number == 0
