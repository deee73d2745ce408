"""How much of a search is left, and how long that will take.

Law of this file: arithmetic on a status, on the plan of its brackets and on observed durations; only
:func:`with_forecast` reads a journal. A forecast is for users: no decision depends on it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.protocol.status import Agent, Bracket, Forecast, Status
from hpbandster_lite.records import Limits, SearchSettings
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers import bracket_plan

MOST_BRACKETS_AHEAD = 10_000
"""A forecast looks no further, so that it stays quick; under a limit beyond this there is none."""


@record(frozen=True, slots=True, kw_only=True)
class _Missing:
    """What one rung lacks: ``left`` evaluations of ``budget`` without an outcome, running ones included."""

    bracket: int
    rung: int
    budget: float
    left: int


def with_forecast(status: Status, reader: JournalReader) -> Status:
    """The status with its forecast, for which the journal has the durations."""
    served_s = math.fsum(master["served_s"] for master in reader.masters())
    return replace(status, forecast=forecast(status, reader.settings(), reader.seconds_taken(), served_s))


def forecast(
    status: Status, settings: SearchSettings, mean_s: Mapping[float, float], served_s: float = 0.0
) -> Forecast:
    """What is left of the search under its limits, by this rule.

    The evaluations that are left are those missing in the open brackets and all of the brackets to come, in the order
    in which brackets open, as far as the limits on brackets, evaluations and total budget reach. Each costs the mean
    time that an evaluation of its budget occupied a worker; before the first one of that budget, that of the nearest
    budget, in proportion to the budget. The time that a running one has used is subtracted; one that has used more is
    expected to run for as long again as it has run beyond the mean. The time left is the sum shared evenly by the
    workers that are connected, not silent, and take work (as many as ``max_concurrent`` admits), and no less than what
    the longest bracket needs if each of its rungs takes one evaluation. While an evaluation may hang, the time left is
    unknown. A limit on the wall time ends the search sooner. The forecast does not foresee how soon a target loss is
    met, failures, or workers that join or leave.

    Parameters
    ----------
    status
        Of the search.
    settings
        What defines the search.
    mean_s
        Mean seconds that evaluations occupied a worker, by budget.
    served_s
        Seconds in which masters served the search so far.
    """
    recorded = status.evaluations.recorded
    if status.state == "finished":
        return Forecast(evaluations=recorded, share=1.0, time_left_s=None)
    limits = status.limits
    left = _left(status.brackets, recorded, settings, limits)
    to_the_wall = None if limits.wall_time_s is None else max(0.0, limits.wall_time_s - served_s)
    if left is None:
        return Forecast(evaluations=None, share=None, time_left_s=to_the_wall)
    budget = _recorded_budget(status.brackets)
    total = budget + math.fsum(rung.left * rung.budget for rung in left)
    work = _time(status.agents, left, mean_s, limits)
    return Forecast(
        evaluations=recorded + sum(rung.left for rung in left),
        share=budget / total if total > 0 else None,
        time_left_s=_sooner(work, to_the_wall, may_hang=any(agent.runs_long for agent in status.agents)),
    )


@record(frozen=True, slots=True, kw_only=True)
class Price:
    """What the rest of a search costs.

    Attributes
    ----------
    evaluations, budget
        How many evaluations are left, and the sum of their budgets.
    worker_s
        Seconds of one worker in all.
    wall_s
        Seconds with all workers.
    is_one_cycle
        Whether the limits leave the number of evaluations open, so that this is the price of one Hyperband cycle.
    """

    evaluations: int
    budget: float
    worker_s: float
    wall_s: float
    is_one_cycle: bool


def price(
    status: Status | None,
    settings: SearchSettings,
    limits: Limits,
    *,
    seconds_per_unit: float,
    continues: bool,
    workers: int,
) -> Price:
    """The cost of a search if each unit of the budget takes a worker the same time.

    Parameters
    ----------
    status
        Of the search; None for one that has not begun.
    settings
        What defines the search.
    limits
        When it will stop; limits on the wall time and the loss are ignored.
    seconds_per_unit
        Seconds for one unit of the budget.
    continues
        Whether a promotion trains only the difference to the budget of the rung below.
    workers
        How many work at one time.
    """
    brackets, recorded = ((), 0) if status is None else (status.brackets, status.evaluations.recorded)
    left = _left(brackets, recorded, settings, limits)
    is_one_cycle = left is None
    if left is None:
        one_cycle = replace(limits, brackets=len(brackets) + len(settings.budgets))
        left = _left(brackets, recorded, settings, one_cycle) or []
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


def _left(
    brackets: Sequence[Bracket], recorded: int, settings: SearchSettings, limits: Limits
) -> list[_Missing] | None:
    """What each rung lacks, within the limits; None if they do not end the search, or end it beyond the horizon."""
    if limits.brackets is None and limits.evaluations is None and limits.total_budget is None:
        return None
    evaluations = math.inf if limits.evaluations is None else limits.evaluations - recorded
    budget = math.inf if limits.total_budget is None else limits.total_budget - _recorded_budget(brackets)
    kept = []
    for rung in _in_order(brackets, settings, limits):
        # 1e-9 as in the engine: a total budget that is a sum of budgets buys all of them.
        affordable = math.inf if math.isinf(budget) else math.floor(budget / rung.budget * (1 + 1e-9))
        count = int(max(0, min(rung.left, evaluations, affordable)))
        evaluations -= count
        budget -= count * rung.budget
        if count:
            kept.append(replace(rung, left=count))
        if count < rung.left:
            return kept
    return kept if limits.brackets is not None and limits.brackets <= _horizon(brackets) else None


def _in_order(brackets: Sequence[Bracket], settings: SearchSettings, limits: Limits) -> Iterator[_Missing]:
    """Every rung that lacks evaluations: of the open brackets, then of those to come."""
    for bracket in brackets:
        for index, rung in enumerate(bracket.rungs):
            if rung.places > rung.done:
                left = rung.places - rung.done
                yield _Missing(bracket=bracket.bracket, rung=index, budget=rung.budget, left=left)
    # Brackets come in cycles.
    plans = [bracket_plan(settings, number).rungs for number in range(len(settings.budgets))]
    horizon = _horizon(brackets)
    for number in range(len(brackets), min(limits.brackets or horizon, horizon)):
        for index, planned in enumerate(plans[number % len(plans)]):
            yield _Missing(bracket=number, rung=index, budget=planned.budget, left=planned.places)


def _horizon(brackets: Sequence[Bracket]) -> int:
    return len(brackets) + MOST_BRACKETS_AHEAD


def _recorded_budget(brackets: Sequence[Bracket]) -> float:
    return math.fsum(rung.done * rung.budget for bracket in brackets for rung in bracket.rungs)


def _sooner(work_s: float | None, to_the_wall_s: float | None, *, may_hang: bool) -> float | None:
    if may_hang:
        return to_the_wall_s
    return work_s if work_s is None or to_the_wall_s is None else min(work_s, to_the_wall_s)


def _time(agents: Sequence[Agent], left: list[_Missing], mean_s: Mapping[float, float], limits: Limits) -> float | None:
    workers = sum(agent.is_connected and not agent.is_silent and agent.hindrance is None for agent in agents)
    if not mean_s or not workers:
        return None
    elapsed: dict[tuple[int | None, int | None], list[float]] = defaultdict(list)
    for agent in agents:
        if agent.since_s is not None:
            elapsed[agent.bracket, agent.rung].append(agent.since_s)
    work = 0.0
    chains: dict[int, float] = defaultdict(float)
    for rung in left:
        cost = _cost(rung.budget, mean_s)
        running = [abs(cost - since_s) for since_s in elapsed[rung.bracket, rung.rung]][: rung.left]
        waiting = rung.left - len(running)
        work += math.fsum(running) + waiting * cost
        chains[rung.bracket] += cost if waiting else max(running)
    at_once = min(workers, limits.max_concurrent or workers)
    return max(work / at_once, *chains.values()) if chains else 0.0


def _cost(budget: float, mean_s: Mapping[float, float]) -> float:
    """Seconds of one evaluation of a budget."""
    nearest = min(mean_s, key=lambda observed: (abs(math.log(observed / budget)), observed))
    return mean_s[nearest] * budget / nearest
