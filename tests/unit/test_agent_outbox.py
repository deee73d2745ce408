"""An agent repeats a message, unchanged and with the same number, until it is acknowledged."""

from __future__ import annotations

from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.protocol.messages import ExchangeRequest, ReleaseRequest, SlotRequest
from hpbandster_lite.records import ConfigId, EvaluationId, Outcome, Report

REPORT = Report(evaluation=EvaluationId(ConfigId(2, 0, 5), 1), attempt=1, outcome=Outcome(loss=0.5))
RELEASE = ReleaseRequest(
    agent="a",
    evaluation=REPORT.evaluation,
    attempt=1,
    reason="signal to end",
    directory="evaluations/2-0-5/rung1/attempt1",
)


def exchange(request: int, *, asks: bool, report: Report | None = None) -> ExchangeRequest:
    slots = (SlotRequest(slot=0, wants_lease=asks, report=report),)
    return ExchangeRequest(agent="a", request=request, worker="node1-0", slots=slots)


def test_a_request_for_work_is_repeated_under_its_number_until_it_is_acknowledged() -> None:
    outbox = Outbox("a", "node1-0")
    assert [outbox.next(asks=True), outbox.next(asks=True)] == [exchange(1, asks=True)] * 2
    outbox.acknowledge()
    assert outbox.next(asks=True) == exchange(2, asks=True)


def test_a_result_that_comes_meanwhile_waits_for_the_next_number() -> None:
    outbox = Outbox("a", "node1-0")
    begun = outbox.next(asks=True)
    outbox.reports["a"] = REPORT
    assert outbox.next(asks=False) == begun


def test_a_report_and_the_next_request_travel_together() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.reports["a"] = REPORT
    assert outbox.next(asks=True) == exchange(1, asks=True, report=REPORT)
    outbox.acknowledge()
    assert not outbox.owes
    assert outbox.next(asks=False) is None


def test_a_report_alone_asks_for_nothing() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.reports["a"] = REPORT
    assert outbox.next(asks=False) == exchange(1, asks=False, report=REPORT)


def test_what_was_begun_without_asking_is_not_changed_into_a_request() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.reports["a"] = REPORT
    outbox.next(asks=False)
    assert outbox.next(asks=True) == exchange(1, asks=False, report=REPORT)


def test_a_lease_is_handed_back_before_another_is_asked_for() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.releases.append(RELEASE)
    assert [outbox.next(asks=True), outbox.next(asks=True)] == [RELEASE] * 2
    outbox.acknowledge()
    assert outbox.next(asks=True) == exchange(1, asks=True)


def test_a_request_that_was_begun_is_settled_before_a_lease_is_handed_back() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.next(asks=True)
    outbox.releases.append(RELEASE)
    assert outbox.next(asks=False) == exchange(1, asks=True)
    outbox.acknowledge()
    assert outbox.next(asks=False) == RELEASE
    outbox.acknowledge()
    assert not outbox


def test_a_report_and_a_release_are_owed_and_a_question_is_not() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.next(asks=True)
    owes = [outbox.owes]
    outbox.releases.append(RELEASE)
    owes.append(outbox.owes)
    outbox.acknowledge()
    outbox.next(asks=False)
    outbox.acknowledge()
    owes.append(outbox.owes)
    outbox.reports["a"] = REPORT
    owes.append(outbox.owes)
    assert owes == [False, True, False, True]


def test_an_outbox_is_empty_when_all_is_acknowledged() -> None:
    outbox = Outbox("a", "node1-0")
    holds = [bool(outbox)]
    assert outbox.next(asks=False) is None
    outbox.next(asks=True)
    holds.append(bool(outbox))
    outbox.acknowledge()
    holds.append(bool(outbox))
    assert holds == [False, True, False]
