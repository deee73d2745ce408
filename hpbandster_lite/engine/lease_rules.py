"""What the engine answers to an agent about a lease: a table of the lease's state and the agent's request.

Law of this file: the table is the law, and :data:`RULES` has a rule for each state and request. Nothing here changes
anything; the engine carries a rule out.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from hpbandster_lite.engine.state import Evaluation
from hpbandster_lite.records import FailureKind, Finished


class _Key(Enum):
    """An enum whose members hash by identity; Enum's own hash is a Python function, which triples a lookup's time."""

    __hash__ = object.__hash__


class LeaseState(_Key):
    """The state of an attempt of an evaluation for the agent that names it."""

    UNKNOWN = auto()
    """The search has no such evaluation."""
    CANCELLED = auto()
    """The evaluation was cancelled."""
    ENDED = auto()
    """The evaluation has another outcome."""
    HELD = auto()
    """The agent holds the lease of this attempt."""
    TAKEN = auto()
    """Another agent holds the evaluation, or a later attempt was leased."""
    LAPSED = auto()
    """The lease expired while the agent was silent, and no other agent has the evaluation."""
    WAITING = auto()
    """The lease ended in another way, and the evaluation waits to be run again."""


class Request(_Key):
    """What an agent asks for or reports."""

    RENEW = auto()
    """A heartbeat."""
    RENEW_AT_LIMIT = auto()
    """A heartbeat while as many evaluations run as the limit allows."""
    RENEW_AT_END = auto()
    """A heartbeat while the search ends and agents must hand evaluations back."""
    REPORT = auto()
    """An outcome of the objective."""
    REPORT_LOSS = auto()
    """An attempt that was lost to its infrastructure, or cancelled: no outcome of the objective."""
    REPORT_DOUBTFUL = auto()
    """A failure of the code after the attempt received the directory of one that was cut off."""
    RELEASE = auto()
    """The agent hands the evaluation back."""


class Rule(_Key):
    """What the engine does."""

    KEEP = auto()
    """Extend the lease; the agent continues."""
    GIVE_BACK = auto()
    """Lease the same attempt to the agent again; the agent continues."""
    CALL_BACK = auto()
    """Extend the lease, so that the agent has time to save, and tell it to stop because the search ends."""
    STOP_AT_END = auto()
    """Tell the agent to stop because the search ends."""
    STOP_CANCELLED = auto()
    """Tell the agent to stop for the reason of the cancellation."""
    STOP_UNKNOWN = auto()
    STOP_ENDED = auto()
    STOP_TAKEN = auto()
    STOP_WAITING = auto()
    STOP_AT_LIMIT = auto()
    RECORD = auto()
    """Record the outcome; it is the final one, whichever agent runs the evaluation now."""
    LOSE = auto()
    """End the lease and count the attempt as lost."""
    SET_ASIDE = auto()
    """End the lease without an outcome; the evaluation is run once more, without the directories of these attempts."""
    LATE = auto()
    """Keep the report in the journal without effect."""
    DROP = auto()
    """Keep no trace of the report."""
    HAND_BACK = auto()
    """End the lease; the evaluation waits to be run again. The kind of the hand-back decides whether the attempt
    counts as lost."""
    IGNORE = auto()
    """Change nothing."""


EXTENDING = frozenset({Rule.KEEP, Rule.GIVE_BACK, Rule.CALL_BACK})
"""Rules by which the lease gets its full length again."""
CONTINUING = frozenset({Rule.KEEP, Rule.GIVE_BACK})
"""Rules by which the agent continues."""
STOP_REASONS: Mapping[Rule, str] = {
    Rule.STOP_UNKNOWN: "this search has no such evaluation",
    Rule.STOP_ENDED: "the evaluation has an outcome already",
    Rule.STOP_TAKEN: "the lease expired and another worker got the evaluation",
    Rule.STOP_WAITING: "the lease ended, and the evaluation waits to be run again",
    Rule.STOP_AT_LIMIT: "the lease expired, and as many other evaluations run as the limit allows",
}
"""The reason that the agent gets, where it is always the same."""

_R = Rule
_ROWS: Mapping[LeaseState, tuple[Rule, ...]] = {
    #                    RENEW, RENEW_AT_LIMIT, RENEW_AT_END, REPORT, REPORT_LOSS, REPORT_DOUBTFUL, RELEASE
    LeaseState.UNKNOWN: (*[_R.STOP_UNKNOWN] * 3, _R.DROP, _R.DROP, _R.DROP, _R.IGNORE),
    LeaseState.CANCELLED: (*[_R.STOP_CANCELLED] * 3, _R.LATE, _R.LATE, _R.LATE, _R.IGNORE),
    LeaseState.ENDED: (*[_R.STOP_ENDED] * 3, _R.LATE, _R.LATE, _R.LATE, _R.IGNORE),
    LeaseState.HELD: (_R.KEEP, _R.KEEP, _R.CALL_BACK, _R.RECORD, _R.LOSE, _R.SET_ASIDE, _R.HAND_BACK),
    LeaseState.TAKEN: (*[_R.STOP_TAKEN] * 3, _R.RECORD, _R.LATE, _R.LATE, _R.IGNORE),
    LeaseState.LAPSED: (_R.GIVE_BACK, _R.STOP_AT_LIMIT, _R.STOP_AT_END, _R.RECORD, _R.LATE, _R.LATE, _R.IGNORE),
    LeaseState.WAITING: (_R.STOP_WAITING, _R.STOP_WAITING, _R.STOP_AT_END, _R.RECORD, _R.LATE, _R.LATE, _R.IGNORE),
}
RULES: Mapping[tuple[LeaseState, Request], Rule] = {
    (state, request): rule for state, rules in _ROWS.items() for request, rule in zip(Request, rules, strict=True)
}
"""The rule for each state and request."""


def lease_state(evaluation: Evaluation | None, agent: str, attempt: int, *, has_lapsed: bool) -> LeaseState:
    """The state of an attempt for an agent.

    Parameters
    ----------
    evaluation
        The evaluation in the state of the search; ``None`` if there is none.
    agent, attempt
        The agent, and the attempt that it names.
    has_lapsed
        Whether the agent's lease of this attempt expired while it was silent, and it has not left the evaluation since.
    """
    if evaluation is None:
        return LeaseState.UNKNOWN
    if evaluation.outcome is not None:
        failure = evaluation.outcome.failure
        was_cancelled = failure is not None and failure.kind is FailureKind.CANCELLED
        return LeaseState.CANCELLED if was_cancelled else LeaseState.ENDED
    if evaluation.attempts != attempt or evaluation.agent not in (None, agent):
        return LeaseState.TAKEN
    if evaluation.agent == agent:
        return LeaseState.HELD
    return LeaseState.LAPSED if has_lapsed else LeaseState.WAITING


def why_stop(rule: Rule, evaluation: Evaluation | None, ended: Finished | None) -> str:
    """The reason that an agent gets with a stop.

    Parameters
    ----------
    rule
        The rule of its heartbeat, one that stops it.
    evaluation
        The evaluation in the state of the search; ``None`` if there is none.
    ended
        Why the search ends, if it does.
    """
    if rule is Rule.STOP_CANCELLED and evaluation is not None and evaluation.outcome is not None:
        failure = evaluation.outcome.failure
        return "" if failure is None else failure.reason
    if ended is not None and rule in (Rule.CALL_BACK, Rule.STOP_AT_END):
        return ended.reason
    return STOP_REASONS[rule]
