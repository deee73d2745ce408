"""Limits of a search: what ends it, what starts nothing new, and the messages about both.

Law of this file: it reads the state and changes nothing; time comes as ``served_s``, the seconds that this master has
served. Code decides by the kind of a :class:`~hpbandster_lite.records.Finished`; its sentence is for users.
"""

from __future__ import annotations

from hpbandster_lite.engine.first_faults import OneFault
from hpbandster_lite.engine.hints import failure_counts
from hpbandster_lite.engine.same_fault import fault_of, shown
from hpbandster_lite.engine.state import MENDABLE, State
from hpbandster_lite.hyperband.direction import turned, word_for
from hpbandster_lite.hyperband.ranking import reaches
from hpbandster_lite.records import Failure, Finished, FinishKind, SearchSettings

MAX_INFEASIBLE_IN_A_ROW = 1_000
"""This many refusals in a row by the problem's ``feasible`` hook end the search: the hook or the space is wrong."""
TOLERANCE = 1e-9
"""Relative; a sum of budgets may exceed the total budget by a rounding error."""


# ------------------------------------------------------------------------------------------------- ends of the search


def search_end(state: State, settings: SearchSettings, served_s: float) -> Finished | None:
    """Why the search is over: it is finished, or it ends now because nothing runs any more; None while it continues."""
    finished = immediate_end(state, settings, served_s)
    if finished is not None or state.held_by:
        return finished
    finished = _started_enough(state)
    if finished is not None or state.to_rerun:
        return finished
    if state.to_fill:
        return None
    where = state.rung_with_work()
    if where is None:
        return None if may_open_bracket(state) or not state.brackets else _all_complete(state)
    if not is_affordable(state, state.brackets[where[0]].rungs[where[1]].budget):
        return Finished(kind=FinishKind.LIMIT, reason=f"the total budget of {state.limits.total_budget:g} is spent")
    return None


def immediate_end(state: State, settings: SearchSettings, served_s: float) -> Finished | None:
    """Why agents must hand running evaluations back: the search is finished, or a limit requires it."""
    if state.finished is not None:
        return state.finished
    limits, best = state.limits, state.best
    if limits.wall_time_s is not None and state.spent_s + served_s >= limits.wall_time_s:
        return Finished(kind=FinishKind.LIMIT, reason=f"the wall time of {limits.wall_time_s:g} s is over")
    target = limits.target_loss
    at_the_top = best is not None and best.budget == settings.budgets[-1]
    if target is not None and best is not None and at_the_top and reaches(best.loss, target):
        maximize = settings.maximize
        wanted, found = (turned(loss, maximize=maximize) for loss in (target, best.loss))
        reason = f"the target {word_for(maximize=maximize)} of {wanted:g} is reached: {found:g}"
        return Finished(kind=FinishKind.TARGET, reason=reason)
    return None


def _started_enough(state: State) -> Finished | None:
    """The limit after which nothing new starts and running evaluations run to their end."""
    if state.infeasible_in_a_row >= MAX_INFEASIBLE_IN_A_ROW:
        reason = (
            f"the problem refused the last {state.infeasible_in_a_row} configurations as infeasible; "
            "correct feasible() or the space, and begin another search"
        )
        return Finished(kind=FinishKind.INFEASIBLE, reason=reason)
    most = state.limits.evaluations
    if most is not None and state.started - state.refused >= most and not state.to_rerun:
        reason = f"{_evaluations(most, 'was', 'were')} started, which is the limit"
        return Finished(kind=FinishKind.LIMIT, reason=reason)
    return None


def _all_complete(state: State) -> Finished:
    if state.exhausted:
        reason = f"the space is exhausted: all {len(state.proposals)} configurations were evaluated"
        return Finished(kind=FinishKind.EXHAUSTED, reason=reason)
    count = len(state.brackets)
    reason = "the one bracket is complete" if count == 1 else f"all {count} brackets are complete"
    return Finished(kind=FinishKind.COMPLETE, reason=reason)


def stopped_by_user(why: str) -> Finished:
    """The end of a search that its user stopped; ``why`` may be empty."""
    return Finished(kind=FinishKind.STOPPED, reason=f"stopped by its user: {why}" if why else "stopped by its user")


def stopped_by_same_fault(fault: OneFault, text: str) -> Finished:
    """The end of a search that has met nothing but one fault; ``text`` shows the fault to users."""
    # It may be read after a call of minimize, and after another command than that of this start.
    remedy = "correct the code, then continue the search with --retry-failed (retry_failed=True)"
    if fault.depends:
        remedy = (
            f"if the code is wrong, {remedy}; if the space has such configurations, continue the search as it is: "
            "it tries others, and with --keep-going (keep_going=True) it does not stop for them"
        )
    return Finished(kind=FinishKind.SAME_FAULT, reason=f"stopped, because {fault.sentence}; {remedy}:\n{text}")


def for_the_journal(state: State, finished: Finished, *, maximize: bool = False) -> Finished:
    """The entry that ends the search; where no evaluation has a loss, its reason says so."""
    if state.best is not None or not state.recorded:
        return finished
    none = f"none of its {state.recorded} evaluations has a {word_for(maximize=maximize)}"
    reason = f"{finished.reason}; {none}: {failure_counts(state.failures)}"
    only = _only_fault(state)
    more = f", with one fault:\n{shown(only)}" if only is not None else _where_logs_are(state)
    return Finished(kind=finished.kind, reason=f"{reason}{more}")


def _where_logs_are(state: State) -> str:
    """That logs say more, where there are any: an objective may print nothing, or run in its worker's main process."""
    outcomes = [each.outcome for each in state.evaluations.values() if each.outcome is not None]
    has_logs = any(each.failure is not None and each.failure.log_tail for each in outcomes)
    return ". The logs of the attempts say more" if has_logs else ""


def _only_fault(state: State) -> Failure | None:
    """A failure of the code whose fault all evaluations share."""
    failures = [each.outcome.failure for each in state.evaluations.values() if each.outcome is not None]
    last = failures[-1]
    if any(each is None or each.kind not in MENDABLE for each in failures) or last is None:
        return None
    fault = fault_of(last)
    return last if all(each is not None and fault_of(each) == fault for each in failures) else None


# ------------------------------------------------------------------------------------------- limits on new evaluations


def is_full(state: State) -> bool:
    """Whether as many evaluations run as ``max_concurrent`` allows."""
    most = state.limits.max_concurrent
    return most is not None and len(state.held_by) >= most


def may_open_bracket(state: State) -> bool:
    """Whether the next bracket may be opened."""
    most = state.limits.brackets
    return not state.exhausted and (most is None or len(state.brackets) < most)


def is_affordable(state: State, budget: float) -> bool:
    """Whether the rest of the total budget pays for an evaluation of this budget."""
    most = state.limits.total_budget
    return most is None or state.budget_started + budget <= most * (1 + TOLERANCE)


def why_nothing_new(state: State) -> str | None:
    """Why nothing new starts while the last evaluations run to their end."""
    finished = _started_enough(state)
    return None if finished is None else f"{finished.reason}; {running_count(state)}"


def why_on_hold(state: State) -> str | None:
    """Why no work is handed out although there may be some: the search is paused, or ``max_concurrent`` is reached."""
    if state.paused is not None:
        why = f" ({state.paused})" if state.paused else ""
        return f"paused{why}: nothing is handed out until it is resumed; {running_count(state)}"
    if is_full(state):
        return f"max_concurrent: {_evaluations(len(state.held_by), 'runs', 'run')} already"
    return None


def why_unaffordable(state: State, budget: float) -> str:
    """The sentence for a budget that is not affordable."""
    return f"the rest of the total budget does not cover another {budget:g}; {running_count(state)}"


def running_count(state: State) -> str:
    """The number of running evaluations, as part of a sentence."""
    return _evaluations(len(state.held_by), "still runs", "still run")


def missing_results(state: State, where: tuple[int, int] | None = None) -> str:
    """What a rung lacks; by default the first rung in which something runs."""
    if where is None:
        held = [state.place_of(identity) for identity in state.held_by.values()]
        if not held:
            return "no bracket is open"
        where = min(held)
    bracket, index = where
    rung = state.brackets[bracket].rungs[index]
    return f"rung {index} of bracket {bracket}: {rung.places - len(rung.done)} of {rung.places} missing"


def _evaluations(count: int, verb: str, verbs: str) -> str:
    return f"1 evaluation {verb}" if count == 1 else f"{count} evaluations {verbs}"
