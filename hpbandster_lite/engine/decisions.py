"""What to do next, and why nothing is done: the order of work and the limits, as a function of the state.

Law of this file: it reads the state and changes nothing; time comes as ``served_s``, the seconds that this master has
served. The order is: evaluations to be run again, then open places in rungs, the smallest (budget, bracket, index)
first, then the next bracket. Whoever has limited time is given the first in this order that will end in it. Living
engine and ``verify`` ask the same functions.
"""

from __future__ import annotations

from hpbandster_lite.engine.decision_types import Decision, Done, Leave, OpenBracket, Promote, Rerun, Sample, Wait
from hpbandster_lite.engine.hints import failures_in_words
from hpbandster_lite.engine.same_fault import SAME_FAULTS
from hpbandster_lite.engine.state import State
from hpbandster_lite.hyperband.ranking import reaches
from hpbandster_lite.records import EvaluationId, Finished, FinishKind, SearchSettings

WAIT_S = 1.0
"""An agent with nothing to do asks again after this long, unless the caller knows better."""
MAX_INFEASIBLE_IN_A_ROW = 1_000
"""So many refusals by the problem's ``feasible`` hook in a row end the search: something is wrong with it."""


def decide(
    state: State, settings: SearchSettings, served_s: float, time_left_s: float | None = None
) -> Decision:
    """What to do next for an agent that asks for work, and ends in ``time_left_s`` seconds if that is a number."""
    ended = over(state, settings, served_s)
    if ended is not None:
        return Done(ended)
    reason = no_more(state) or held_up(state)
    if reason is not None:
        return Wait(WAIT_S, reason)
    if time_left_s is not None:
        return _within(state, time_left_s)
    if state.again:
        return Rerun(state.again[0])
    where = state.rung_with_work()
    if where is None:
        if may_open(state):
            return OpenBracket(len(state.brackets))
        return Wait(WAIT_S, f"{missing(state)}, and no other bracket may be opened")
    return _place(state, *where)


def _place(state: State, bracket: int, index: int) -> Promote | Sample | Wait:
    """Who takes an open place of a rung."""
    rung = state.brackets[bracket].rungs[index]
    if not affords(state, rung.budget):
        return Wait(WAIT_S, too_dear(state, rung.budget))
    if rung.promoted:
        return Promote(EvaluationId(rung.promoted[0], index))
    return Sample(state.next_config_id(bracket, index))


def _within(state: State, time_left_s: float) -> Decision:
    """The first in the order of work that will end in time; no bracket is opened beside work that waits for others."""
    too_long: list[float] = []
    for identity in state.again:
        budget = state.evaluations[identity].budget
        if _fits(state, budget, time_left_s):
            return Rerun(identity)
        too_long.append(budget)
    for bracket, index in state.rungs_with_work():
        budget = state.brackets[bracket].rungs[index].budget
        if _fits(state, budget, time_left_s):
            return _place(state, bracket, index)
        too_long.append(budget)
    if not too_long and may_open(state):
        first = state.next_budget()
        if _fits(state, first, time_left_s):
            return OpenBracket(len(state.brackets))
        too_long.append(first)
    if not too_long:
        return Wait(WAIT_S, f"{missing(state)}, and no other bracket may be opened")
    least = min(too_long)
    expected_s = state.durations.expected_s(least)
    takes = "" if expected_s is None else f" is expected to take up to {expected_s:.0f} s, and"
    return Leave(f"the shortest evaluation that waits (budget {least:g}){takes} has {max(0.0, time_left_s):.0f} s here")


def _fits(state: State, budget: float, time_left_s: float) -> bool:
    """Whether an evaluation of this budget will end in time; one of which nothing is known may."""
    expected_s = state.durations.expected_s(budget)
    return time_left_s > 0 and (expected_s is None or expected_s <= time_left_s)


def over(state: State, settings: SearchSettings, served_s: float) -> Finished | None:
    """Why the search is over: it is finished, or it ends now because nothing runs any more; None while it goes on."""
    finished = cut_off(state, settings, served_s)
    if finished is not None or state.held_by:
        return finished
    finished = closing(state)
    if finished is not None or state.again:
        return finished
    where = state.rung_with_work()
    if where is None:
        return None if may_open(state) or not state.brackets else _all_done(state)
    if not affords(state, state.brackets[where[0]].rungs[where[1]].budget):
        return Finished(kind=FinishKind.LIMIT, reason=f"the total budget of {state.limits.total_budget:g} is spent")
    return None


def cut_off(state: State, settings: SearchSettings, served_s: float) -> Finished | None:
    """Why agents must hand running evaluations back: the search is finished, or a limit requires it."""
    if state.finished is not None:
        return state.finished
    limits, best = state.limits, state.best
    if limits.wall_time_s is not None and state.spent_s + served_s >= limits.wall_time_s:
        return Finished(kind=FinishKind.LIMIT, reason=f"the wall time of {limits.wall_time_s:g} s is over")
    target = limits.target_loss
    at_the_top = best is not None and best.budget == settings.budgets[-1]
    if target is not None and best is not None and at_the_top and reaches(best.loss, target):
        return Finished(kind=FinishKind.TARGET, reason=f"the target loss of {target:g} is reached: {best.loss:g}")
    return None


def closing(state: State) -> Finished | None:
    """A limit that starts nothing new and lets running evaluations end."""
    if state.infeasible_in_a_row >= MAX_INFEASIBLE_IN_A_ROW:
        reason = (
            f"the problem refused the last {state.infeasible_in_a_row} configurations as infeasible; "
            "mend feasible() or the space"
        )
        return Finished(kind=FinishKind.INFEASIBLE, reason=reason)
    most = state.limits.evaluations
    if most is not None and state.started - state.refused >= most and not state.again:
        reason = f"{_evaluations(most, 'was', 'were')} started, which is the limit"
        return Finished(kind=FinishKind.LIMIT, reason=reason)
    return None


def no_more(state: State) -> str | None:
    """Why nothing new is started while the last evaluations end."""
    finished = closing(state)
    return None if finished is None else f"{finished.reason}; {running(state)}"


def held_up(state: State) -> str | None:
    """Why nothing is handed out although there may be work."""
    if state.paused is not None:
        why = f" ({state.paused})" if state.paused else ""
        return f"paused{why}: nothing is handed out until it is resumed; {running(state)}"
    most = state.limits.max_concurrent
    if most is not None and len(state.held_by) >= most:
        return f"max_concurrent: {_evaluations(most, 'runs', 'run')} already"
    return None


def running(state: State) -> str:
    """How many evaluations run, in words."""
    return _evaluations(len(state.held_by), "still runs", "still run")


def may_open(state: State) -> bool:
    """Whether the next bracket may be opened."""
    most = state.limits.brackets
    return not state.exhausted and (most is None or len(state.brackets) < most)


def affords(state: State, budget: float) -> bool:
    """Whether the total budget buys an evaluation of this one."""
    most = state.limits.total_budget
    return most is None or state.budget_started + budget <= most * (1 + 1e-9)


def too_dear(state: State, budget: float) -> str:
    """What is said where :func:`affords` is False."""
    return f"what is left of the total budget does not buy another {budget:g}; {running(state)}"


def missing(state: State, where: tuple[int, int] | None = None) -> str:
    """What a rung (default: the first one in which something runs) lacks."""
    if where is None:
        held = [(identity.config_id.bracket, identity.rung) for identity in state.held_by.values()]
        if not held:
            return "no bracket is open"
        where = min(held)
    bracket, index = where
    rung = state.brackets[bracket].rungs[index]
    return f"rung {index} of bracket {bracket}: {rung.places - len(rung.done)} of {rung.places} missing"


def for_the_journal(state: State, finished: Finished) -> Finished:
    """The entry that ends the search; where no evaluation has a loss, its reason says so."""
    if state.best is not None or not state.recorded:
        return finished
    reason = (
        f"{finished.reason}; none of its {state.recorded} evaluations has a loss: "
        f"{failures_in_words(state.failures)}. The logs of the attempts say more"
    )
    return Finished(kind=finished.kind, reason=reason)


def stopped_by_user(why: str) -> Finished:
    """The end of a search that its user stopped; ``why`` may be empty."""
    return Finished(kind=FinishKind.STOPPED, reason=f"stopped by its user: {why}" if why else "stopped by its user")


def stopped_by_same_fault(shown: str) -> Finished:
    """The end of a search whose first evaluations all failed with one fault; ``shown`` is its text for people."""
    reason = (
        f"stopped, because the first {SAME_FAULTS} evaluations all failed with the same fault; "
        f"mend the code, then go on with --retry-failed:\n{shown}"
    )
    return Finished(kind=FinishKind.SAME_FAULT, reason=reason)


def _evaluations(count: int, verb: str, verbs: str) -> str:
    return f"1 evaluation {verb}" if count == 1 else f"{count} evaluations {verbs}"


def _all_done(state: State) -> Finished:
    if state.exhausted:
        reason = f"the space is exhausted: all {len(state.proposals)} configurations were evaluated"
        return Finished(kind=FinishKind.EXHAUSTED, reason=reason)
    count = len(state.brackets)
    reason = "the one bracket is complete" if count == 1 else f"all {count} brackets are complete"
    return Finished(kind=FinishKind.COMPLETE, reason=reason)
