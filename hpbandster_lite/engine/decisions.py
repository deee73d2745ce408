"""What an agent that asks for work gets: the order of work, as a function of the state.

Law of this file: it reads the state and changes nothing. A rung that waits to be filled from the pool is filled first.
Then the order is: evaluations to be run again, then open places in rungs, the smallest (budget, bracket, index) first,
then the next bracket. An agent with limited time gets the first in this order that will end in its time. The living
engine and ``verify`` call the same functions.
"""

from __future__ import annotations

from hpbandster_lite.engine.decision_types import Decision, Done, FillRung, OpenBracket, Promote, Rerun, Sample
from hpbandster_lite.engine.limits import (
    is_affordable,
    may_open_bracket,
    missing_results,
    search_end,
    why_nothing_new,
    why_on_hold,
    why_unaffordable,
)
from hpbandster_lite.engine.state import State
from hpbandster_lite.protocol.messages import Leave, Wait
from hpbandster_lite.records import SearchSettings

WAIT_S = 1.0
"""An agent with nothing to do asks again after this long, unless the caller has a better time."""


def decide(state: State, settings: SearchSettings, served_s: float, time_left_s: float | None = None) -> Decision:
    """What to do next for an agent that asks for work and ends in ``time_left_s`` seconds (None: no limit)."""
    ended = search_end(state, settings, served_s)
    if ended is not None:
        return Done(ended)
    reason = why_nothing_new(state) or why_on_hold(state)
    if reason is not None:
        return Wait(seconds=WAIT_S, reason=reason)
    if state.to_fill:
        return FillRung(*state.to_fill[0])
    if time_left_s is not None:
        return _within(state, time_left_s)
    if state.to_rerun:
        return Rerun(state.to_rerun[0])
    where = state.rung_with_work()
    if where is None:
        if may_open_bracket(state):
            return OpenBracket(len(state.brackets))
        return _wait_for_results(state)
    return _fill_place(state, *where)


def _wait_for_results(state: State) -> Wait:
    return Wait(seconds=WAIT_S, reason=f"{missing_results(state)}, and no other bracket may be opened")


def _fill_place(state: State, bracket: int, index: int) -> Promote | Sample | Wait:
    """Which configuration takes an open place of a rung."""
    rung = state.brackets[bracket].rungs[index]
    if not is_affordable(state, rung.budget):
        return Wait(seconds=WAIT_S, reason=why_unaffordable(state, rung.budget))
    if rung.promoted:
        return Promote(state.promotion_to(bracket, index))
    return Sample(state.next_config_id(bracket, index))


def _within(state: State, time_left_s: float) -> Decision:
    """The first in the order of work that will end in time; no bracket is opened beside work that is too long."""
    too_long: list[float] = []
    for identity in state.to_rerun:
        budget = state.evaluations[identity].budget
        if _fits(state, budget, time_left_s):
            return Rerun(identity)
        too_long.append(budget)
    for bracket, index in state.rungs_with_work():
        budget = state.brackets[bracket].rungs[index].budget
        if _fits(state, budget, time_left_s):
            return _fill_place(state, bracket, index)
        too_long.append(budget)
    if not too_long and may_open_bracket(state):
        first = state.next_budget()
        if _fits(state, first, time_left_s):
            return OpenBracket(len(state.brackets))
        too_long.append(first)
    if not too_long:
        return _wait_for_results(state)
    least = min(too_long)
    expected_s = state.durations.expected_s(least)
    takes = "" if expected_s is None else f" is expected to take up to {expected_s:.0f} s, and"
    return Leave(
        reason=f"the shortest evaluation that waits (budget {least:g}){takes} has {max(0.0, time_left_s):.0f} s here"
    )


def _fits(state: State, budget: float, time_left_s: float) -> bool:
    """Whether an evaluation of this budget will end in time; one of unknown duration may."""
    expected_s = state.durations.expected_s(budget)
    return time_left_s > 0 and (expected_s is None or expected_s <= time_left_s)
