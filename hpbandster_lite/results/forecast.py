"""How much of a search is left, and how long that will take.

Law of this file: arithmetic on a status, on the plan of its brackets and on observed durations; it reads and prints
nothing. A forecast is for people: no decision depends on it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hpbandster_lite.records import Limits, Plain, SearchSettings
from hpbandster_lite.settings.prepare import bracket_plan

MOST_BRACKETS_AHEAD = 10_000
"""A forecast looks no further, so that it stays quick; a limit beyond this is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a search comes to; ``None`` where no limit, or no result yet, tells.

    Attributes
    ----------
    evaluations
        Number of evaluations when it is over, those recorded included.
    share
        Part of their budget that is recorded, from 0 to 1.
    time_left_s
        Seconds until it is over.
    """

    evaluations: int | None
    share: float | None
    time_left_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """What is missing in one rung: ``left`` evaluations of ``budget`` without an outcome, running ones included."""

    bracket: int
    rung: int
    budget: float
    left: int


def forecast(
    status: Mapping[str, Plain], settings: SearchSettings, mean_s: Mapping[float, float], served_s: float = 0.0
) -> Forecast:
    """What the search comes to under its limits, by this rule.

    The evaluations that are left are those missing in the open brackets and all of the brackets to come, in the order
    in which brackets open, as far as the limits on brackets, evaluations and total budget reach. Each costs the mean
    time that a worker was taken by an evaluation of its budget; where none has ended yet, that of the nearest budget,
    in proportion to the budget. What a running one has used of its time is taken off. The time left is the sum shared
    evenly by the living workers (as many as ``max_concurrent`` admits), and no less than what the longest bracket
    needs if each of its rungs takes one evaluation. A limit on the wall time ends the search sooner. How soon a target
    loss will be met, what becomes of failures, and workers that come or go are not foreseen.

    Parameters
    ----------
    status
        A status of the master, or of the journal.
    settings
        What defines the search.
    mean_s
        Seconds that evaluations took a worker, by budget, on average.
    served_s
        Seconds in which the search was served so far.
    """
    if status["state"] == "finished":
        return Forecast(evaluations=status["evaluations"]["recorded"], share=1.0, time_left_s=None)
    limits = Limits(**status["limits"])
    left = _left(status, settings, limits)
    to_the_wall = None if limits.wall_time_s is None else max(0.0, limits.wall_time_s - served_s)
    if left is None:
        return Forecast(evaluations=None, share=None, time_left_s=to_the_wall)
    missing = sum(rung.left for rung in left)
    recorded = _recorded_budget(status)
    total = recorded + math.fsum(rung.left * rung.budget for rung in left)
    work = _time(status, left, mean_s, limits)
    return Forecast(
        evaluations=status["evaluations"]["recorded"] + missing,
        share=recorded / total if total > 0 else None,
        time_left_s=work if work is None or to_the_wall is None else min(work, to_the_wall),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What is left of a search costs.

    Attributes
    ----------
    evaluations, budget
        How many evaluations are left, and the sum of their budgets.
    worker_s
        Seconds of one worker in all.
    wall_s
        Seconds with all workers.
    is_one_cycle
        Whether the limits do not say how many evaluations there will be, so that this is one Hyperband cycle.
    """

    evaluations: int
    budget: float
    worker_s: float
    wall_s: float
    is_one_cycle: bool


def price(
    status: Mapping[str, Plain],
    settings: SearchSettings,
    limits: Limits,
    *,
    seconds_per_unit: float,
    continues: bool,
    workers: int,
) -> Price:
    """What a search comes to if each unit of the budget takes a worker the same time.

    Parameters
    ----------
    status
        A status of the journal; of a search that has not begun, no brackets and nothing recorded.
    settings
        What defines the search.
    limits
        When it will stop; one on the wall time or the loss is not looked at.
    seconds_per_unit
        Seconds for one unit of the budget.
    continues
        Whether a promotion trains only what its budget has more than that of the rung below.
    workers
        How many work at one time.
    """
    left = _left(status, settings, limits)
    is_one_cycle = left is None
    if left is None:
        left = _left(status, settings, replace(limits, brackets=len(status["brackets"]) + len(settings.budgets))) or []
    work = 0.0
    chains: dict[int, float] = defaultdict(float)
    for rung in left:
        rungs = bracket_plan(settings, rung.bracket).rungs
        done_before = rungs[rung.rung - 1].budget if continues and rung.rung > 0 else 0.0
        each_s = (rung.budget - done_before) * seconds_per_unit
        work += rung.left * each_s
        chains[rung.bracket] += each_s
    at_once = min(workers, limits.max_concurrent or workers)
    return Price(
        evaluations=sum(rung.left for rung in left),
        budget=math.fsum(rung.left * rung.budget for rung in left),
        worker_s=work,
        wall_s=max([work / at_once, *chains.values()]),
        is_one_cycle=is_one_cycle,
    )


def _left(status: Mapping[str, Plain], settings: SearchSettings, limits: Limits) -> list[_Rung] | None:
    """What is missing in each rung, within the limits; None if they do not end the search, or too far ahead to tell."""
    if limits.brackets is None and limits.evaluations is None and limits.total_budget is None:
        return None
    evaluations = math.inf if limits.evaluations is None else limits.evaluations - status["evaluations"]["recorded"]
    budget = math.inf if limits.total_budget is None else limits.total_budget - _recorded_budget(status)
    kept = []
    for rung in _in_order(status, settings, limits):
        # 1e-9 as in the engine: a total budget that is a sum of budgets buys all of them.
        affordable = math.inf if math.isinf(budget) else math.floor(budget / rung.budget * (1 + 1e-9))
        count = int(max(0, min(rung.left, evaluations, affordable)))
        evaluations -= count
        budget -= count * rung.budget
        if count:
            kept.append(_Rung(bracket=rung.bracket, rung=rung.rung, budget=rung.budget, left=count))
        if count < rung.left:
            return kept
    return kept if limits.brackets is not None and limits.brackets <= _horizon(status) else None


def _in_order(status: Mapping[str, Plain], settings: SearchSettings, limits: Limits) -> Iterator[_Rung]:
    """Every rung with something missing: of the open brackets, then of those to come."""
    brackets = status["brackets"]
    for bracket in brackets:
        for index, rung in enumerate(bracket["rungs"]):
            if rung["places"] > rung["done"]:
                left = rung["places"] - rung["done"]
                yield _Rung(bracket=bracket["bracket"], rung=index, budget=rung["budget"], left=left)
    # Brackets come in cycles.
    plans = [bracket_plan(settings, number).rungs for number in range(len(settings.budgets))]
    horizon = _horizon(status)
    for number in range(len(brackets), min(limits.brackets or horizon, horizon)):
        for index, planned in enumerate(plans[number % len(plans)]):
            yield _Rung(bracket=number, rung=index, budget=planned.budget, left=planned.places)


def _horizon(status: Mapping[str, Plain]) -> int:
    return len(status["brackets"]) + MOST_BRACKETS_AHEAD


def _recorded_budget(status: Mapping[str, Plain]) -> float:
    return math.fsum(rung["done"] * rung["budget"] for bracket in status["brackets"] for rung in bracket["rungs"])


def _time(
    status: Mapping[str, Plain], left: list[_Rung], mean_s: Mapping[float, float], limits: Limits
) -> float | None:
    workers = sum(agent["silent_s"] is not None for agent in status["agents"])
    if not mean_s or not workers:
        return None
    elapsed: dict[tuple[int, int], list[float]] = defaultdict(list)
    for agent in status["agents"]:
        if agent["evaluation"] is not None:
            config_id, _, rung = agent["evaluation"].rpartition("@")
            elapsed[int(config_id.partition("-")[0]), int(rung)].append(agent["since_s"])
    work = 0.0
    chains: dict[int, float] = defaultdict(float)
    for rung in left:
        cost = _cost(rung.budget, mean_s)
        running = [max(0.0, cost - since_s) for since_s in elapsed[rung.bracket, rung.rung]][: rung.left]
        waiting = rung.left - len(running)
        work += math.fsum(running) + waiting * cost
        chains[rung.bracket] += cost if waiting else max(running)
    at_once = min(workers, limits.max_concurrent or workers)
    return max(work / at_once, *chains.values()) if chains else 0.0


def _cost(budget: float, mean_s: Mapping[float, float]) -> float:
    """Seconds of one evaluation of a budget."""
    nearest = min(mean_s, key=lambda observed: (abs(math.log(observed / budget)), observed))
    return mean_s[nearest] * budget / nearest
