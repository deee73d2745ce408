"""The whole table of lease rules with a real engine: each state of a lease and each request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.lease_rules import RULES, STOP_REASONS, LeaseState, Request, Rule, lease_state
from hpbandster_lite.protocol.messages import Keep, Stop
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Expired,
    Failure,
    FailureKind,
    LateReport,
    Leased,
    Limits,
    Outcome,
    Recorded,
    Released,
    Report,
    SetAside,
)
from tests.engine_room import granted, loss, started

AGENT = "a"
UNKNOWN = EvaluationId(ConfigId(9, 0, 0), 0)
CANCELLATION, END = "too slow", "enough"
CLOCK = 61.0
"""Time of the request: after the end of a lease of 60 s that began at 0."""


def unknown(_engine: Engine) -> EvaluationId:
    return UNKNOWN


def held(engine: Engine) -> EvaluationId:
    evaluation = granted(engine, AGENT, now=0.0).evaluation
    engine.renew(AGENT, evaluation, 1, now=30.0)
    return evaluation


def lapsed(engine: Engine) -> EvaluationId:
    evaluation = granted(engine, AGENT, now=0.0).evaluation
    engine.expire(now=60.0)
    return evaluation


def waiting(engine: Engine) -> EvaluationId:
    evaluation = granted(engine, AGENT, now=0.0).evaluation
    engine.release(AGENT, evaluation, 1, "pre-empted", None, now=60.0)
    return evaluation


def taken(engine: Engine) -> EvaluationId:
    evaluation = lapsed(engine)
    assert granted(engine, "b", now=60.0).evaluation == evaluation
    return evaluation


def cancelled(engine: Engine) -> EvaluationId:
    evaluation = held(engine)
    engine.cancel(evaluation, reason=CANCELLATION)
    return evaluation


def ended(engine: Engine) -> EvaluationId:
    lapsed(engine)
    grant = granted(engine, "b", now=60.0)
    engine.report("b", loss(grant, 1.0), now=60.5)
    return grant.evaluation


MAKE: dict[LeaseState, Callable[[Engine], EvaluationId]] = {
    LeaseState.UNKNOWN: unknown,
    LeaseState.CANCELLED: cancelled,
    LeaseState.ENDED: ended,
    LeaseState.HELD: held,
    LeaseState.TAKEN: taken,
    LeaseState.LAPSED: lapsed,
    LeaseState.WAITING: waiting,
}


def at_limit(engine: Engine) -> None:
    """Fill the limit with running evaluations of other agents."""
    engine.state.limits = Limits(max_concurrent=max(1, len(engine.state.held_by)))
    if not engine.state.held_by:
        # Evaluations that wait for a rerun come first: this one is taken out, so that another one runs.
        kept = engine.state.to_rerun.copy()
        engine.state.to_rerun.clear()
        granted(engine, "c", now=60.5)
        engine.state.to_rerun.extendleft(kept)


def send(engine: Engine, evaluation: EvaluationId, request: Request) -> tuple[object, tuple[Entry, ...]]:
    """Send the request for attempt 1; return the answer and the entries."""
    match request:
        case Request.RENEW | Request.RENEW_AT_LIMIT | Request.RENEW_AT_END:
            turn = engine.renew(AGENT, evaluation, 1, now=CLOCK)
            return turn.answer, turn.entries
        case Request.RELEASE:
            released = engine.release(AGENT, evaluation, 1, "pre-empted", None, now=CLOCK)
            return released.answer, released.entries
        case _:
            outcome = Outcome(loss=0.5)
    if request is Request.REPORT_LOSS:
        outcome = Outcome(failure=Failure(kind=FailureKind.INFRASTRUCTURE, reason="its trainer was killed"))
    report = Report(evaluation=evaluation, attempt=1, outcome=outcome)
    if request is Request.REPORT_DOUBTFUL:
        if evaluation in engine.state.evaluations:
            # An attempt before the first one, so that one attempt makes every state.
            engine.state.evaluations[evaluation].dropped = -1
        outcome = Outcome(failure=Failure(kind=FailureKind.CODE, reason="half a file"))
        report = replace(report, outcome=outcome, resumed_from=0)
    reported = engine.report(AGENT, report, now=CLOCK)
    return reported.answer, reported.entries


EXPECTED: dict[Rule, tuple[object, tuple[type[Entry], ...]]] = {
    Rule.KEEP: (Keep(), ()),
    Rule.GIVE_BACK: (Keep(), (Leased,)),
    Rule.CALL_BACK: (Stop(reason=f"stopped by its user: {END}"), ()),
    Rule.STOP_AT_END: (Stop(reason=f"stopped by its user: {END}"), ()),
    Rule.STOP_CANCELLED: (Stop(reason=CANCELLATION), ()),
    **{rule: (Stop(reason=reason), ()) for rule, reason in STOP_REASONS.items()},
    Rule.RECORD: ("recorded", (Recorded,)),
    Rule.LOSE: ("recorded", (Expired,)),
    Rule.SET_ASIDE: ("recorded", (SetAside,)),
    Rule.LATE: ("late", (LateReport,)),
    Rule.DROP: ("late", ()),
    Rule.HAND_BACK: (None, (Released,)),
    Rule.IGNORE: (None, ()),
}
"""The answer and the entries of each rule."""


def test_the_table_has_a_rule_for_each_state_and_request_and_no_rule_is_unused() -> None:
    assert RULES.keys() == set(product(LeaseState, Request))
    assert set(RULES.values()) == set(Rule) == EXPECTED.keys()


@pytest.mark.parametrize("request_", Request, ids=lambda each: each.name.lower())
@pytest.mark.parametrize("state", LeaseState, ids=lambda each: each.name.lower())
def test_the_engine_does_what_the_table_says(state: LeaseState, request_: Request) -> None:
    engine = started()
    evaluation = MAKE[state](engine)
    if request_ is Request.RENEW_AT_LIMIT:
        at_limit(engine)
    elif request_ is Request.RENEW_AT_END:
        engine.stop(reason=END)
    known = engine.state.evaluations.get(evaluation)
    has_lapsed = engine._leases.has_lapsed(AGENT, evaluation, 1)
    assert lease_state(known, AGENT, 1, has_lapsed=has_lapsed) is state
    before = engine._leases.get(AGENT)
    deadline = None if before is None else before.deadline

    rule = RULES[state, request_]
    answer, entries = send(engine, evaluation, request_)

    assert (answer, tuple(type(entry) for entry in entries)) == EXPECTED[rule]
    lease = engine._leases.get(AGENT)
    if rule in (Rule.KEEP, Rule.GIVE_BACK, Rule.CALL_BACK):
        assert lease is not None
        assert lease.deadline == CLOCK + engine.settings.lease_s
    elif rule in (Rule.LOSE, Rule.SET_ASIDE, Rule.HAND_BACK):
        assert lease is None
        assert evaluation in engine.state.to_rerun
    elif rule is not Rule.RECORD:
        assert (None if lease is None else lease.deadline) == deadline
    engine.validate()


def test_a_report_that_was_recorded_is_known_when_it_is_repeated() -> None:
    engine = started()
    grant = granted(engine, AGENT)
    engine.report(AGENT, loss(grant, 1.0), now=0.0)
    assert engine.report(AGENT, loss(grant, 1.0), now=0.0).answer == "known"


def test_a_report_of_an_attempt_that_was_another_agents_leaves_no_trace() -> None:
    engine = started()
    grant = granted(engine, "b")
    turn = engine.report(AGENT, loss(grant, 1.0), now=0.0)
    assert (turn.answer, turn.entries) == ("late", ())
