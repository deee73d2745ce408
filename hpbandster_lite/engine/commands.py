"""What a user's command does to a search: to cancel an evaluation, to pause, to resume, to stop.

Law of this file: it reads the state and changes nothing; each function returns what the user reads and the entry that
carries the command out. A command that was given before has no entry.
"""

from __future__ import annotations

from hpbandster_lite.engine.decision_types import Effect
from hpbandster_lite.engine.limits import running_count, stopped_by_user
from hpbandster_lite.engine.state import State
from hpbandster_lite.errors import UsageError
from hpbandster_lite.hyperband.direction import result_text
from hpbandster_lite.records import (
    EvaluationId,
    Failure,
    FailureKind,
    Finished,
    Outcome,
    Paused,
    Recorded,
    Resumed,
)


def cancel(state: State, evaluation: EvaluationId, reason: str, *, maximize: bool) -> tuple[Effect, Recorded | None]:
    """Drop an evaluation that has no outcome, or a promotion that no agent has leased.

    Parameters
    ----------
    state
        The search.
    evaluation, reason
        What to drop, and why; empty: the user gave no reason.
    maximize
        Whether results in a message have the sign of a search that maximizes.

    Raises
    ------
    UsageError
        If there is no such evaluation, or it has another outcome.
    """
    known = state.evaluations.get(evaluation)
    if known is None and not state.is_promoted(evaluation):
        raise UsageError(f"this search has no evaluation {evaluation}; hpbandster-lite list shows all")
    if known is not None and known.outcome is not None:
        failure = known.outcome.failure
        if failure is None or failure.kind is not FailureKind.CANCELLED:
            how = f"as {failure.kind.value}" if failure is not None else _result_of(known.outcome, maximize=maximize)
            raise UsageError(f"evaluation {evaluation} has ended already, {how}; an outcome is final")
        return Effect(is_change=False, sentence=f"evaluation {evaluation} was cancelled before"), None
    attempt, agent = (0, None) if known is None else (known.attempts, known.agent)
    sentence = f"evaluation {evaluation} is cancelled"
    if agent is not None:
        sentence += f"; worker {state.worker_of.get(agent) or agent} stops at its next heartbeat"
    # Without a holder it is the outcome of the last attempt: the evaluation is never leased again.
    last = agent or ("" if known is None else known.agent_of.get(attempt, ""))
    outcome = Outcome(failure=Failure(kind=FailureKind.CANCELLED, reason=reason or "cancelled by its user"))
    entry = Recorded(evaluation=evaluation, attempt=attempt, agent=last, outcome=outcome)
    return Effect(is_change=True, sentence=sentence), entry


def _result_of(outcome: Outcome, *, maximize: bool) -> str:
    return "without one" if outcome.loss is None else f"with the {result_text(outcome.loss, maximize=maximize)}"


def pause(state: State, reason: str) -> tuple[Effect, Paused | None]:
    """Hand out no work until the search is resumed.

    Raises
    ------
    UsageError
        If the search is over.
    """
    if state.finished is not None:
        raise UsageError(f"the search is over and cannot be paused: {state.finished.reason}")
    if state.paused is not None:
        return Effect(is_change=False, sentence="the search was paused before"), None
    return Effect(is_change=True, sentence=f"the search is paused; {running_count(state)}"), Paused(reason=reason)


def resume(state: State) -> tuple[Effect, Resumed | None]:
    """Hand out work again."""
    if state.paused is None:
        return Effect(is_change=False, sentence="the search was not paused"), None
    return Effect(is_change=True, sentence="the search continues"), Resumed()


def stop(state: State, reason: str) -> tuple[Effect, Finished | None]:
    """Finish the search, so that agents hand running evaluations back."""
    if state.finished is not None:
        return Effect(is_change=False, sentence=f"the search was over before: {state.finished.reason}"), None
    sentence = f"the search is stopped; {running_count(state)}, to be handed back"
    return Effect(is_change=True, sentence=sentence), stopped_by_user(reason)
