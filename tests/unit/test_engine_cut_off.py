"""What an attempt that was cut off has left may be half a file: failing on it does not count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpbandster_lite.engine.decision_types import Grant
from hpbandster_lite.records import (
    CurvePoint,
    Entry,
    FailureKind,
    LateReport,
    Recorded,
    Report,
    SetAside,
)
from tests.engine_room import (
    ONE_BRACKET,
    engine_for,
    failed,
    finish,
    loss,
    replayed,
    settings_for,
    snapshot,
    space_of,
    verified,
)


class Story:
    """An engine, and everything that it has journalled."""

    def __init__(self) -> None:
        self.space = space_of()
        self.settings = settings_for(self.space)
        self.engine = engine_for(self.settings, self.space)
        self.now = 0.0
        self.entries: list[Entry] = [*self.engine.start(1, ONE_BRACKET, now=0.0).entries]

    def lease(self, agent: str, request: int = 0) -> Grant:
        turn = self.engine.lease(agent, request, now=self.now)
        self.entries += turn.entries
        return turn.answer.grant  # type: ignore[union-attr] # there is work

    def lose(self, agent: str) -> Grant:
        """Lease, and end the lease by silence."""
        grant = self.lease(agent)
        self.now += 60.0
        self.entries += self.engine.expire(now=self.now).entries
        return grant

    def hand_back(self, agent: str, *, was_cut_off: bool) -> Grant:
        grant = self.lease(agent)
        turn = self.engine.release(
            agent, grant.evaluation, grant.attempt, "stop", "d", now=self.now, was_cut_off=was_cut_off
        )
        self.entries += turn.entries
        return grant

    def report(self, agent: str, report: Report) -> tuple[str, tuple[Entry, ...]]:
        turn = self.engine.report(agent, report, now=self.now)
        self.entries += turn.entries
        self.engine.validate()
        return turn.answer, turn.entries

    def differences(self, entries: list[Entry] | None = None) -> list[str]:
        found = verified(self.settings, self.entries if entries is None else entries, space=self.space)
        return [each.description for each in found.differences]


def failing(grant: Grant, resumed_from: int | None, kind: FailureKind = FailureKind.CODE, **changed: Any) -> Report:
    report = failed(grant, kind)
    return replace(report, resumed_from=resumed_from, outcome=replace(report.outcome, **changed))


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_failure_after_a_cut_off_attempt_is_set_aside_and_only_the_second_one_counts(story: Story) -> None:
    first = story.lose("a")
    second = story.lease("b")
    assert second.earlier == ((1, None),)
    answer, (entry,) = story.report("b", failing(second, 1, curve=(CurvePoint(1.0, 0.5),)))
    assert (answer, type(entry)) == ("recorded", SetAside)
    assert story.report("b", failing(second, 1)) == ("known", ())
    evaluation = story.engine.state.evaluations[first.evaluation]
    assert (evaluation.outcome, evaluation.lost, evaluation.curve) == (None, 1, (CurvePoint(1.0, 0.5),))
    assert not story.engine.state.failures

    third = story.lease("b", 1)
    assert (third.evaluation, third.attempt, third.earlier) == (first.evaluation, 3, ())
    assert third.note == (
        "attempt 2 failed after it had continued from an attempt that was cut off, so this attempt continues from the "
        "rung below"
    )
    _, (entry,) = story.report("b", failing(third, None))
    assert isinstance(entry, Recorded)
    assert story.engine.state.failures == {FailureKind.CODE: 1}
    assert story.differences() == []
    assert snapshot(replayed(story.settings, story.entries, space=story.space)) == snapshot(story.engine)


def test_a_loss_after_the_second_try_counts_and_the_search_goes_on_to_its_end(story: Story) -> None:
    story.lose("a")
    story.report("b", failing(story.lease("b"), 1))
    third = story.lease("b", 1)
    assert story.report("b", loss(third, 0.5))[0] == "recorded"
    assert finish(story.engine, now=story.now)
    assert story.engine.finished is not None


def test_each_directory_that_was_cut_off_excuses_one_failure(story: Story) -> None:
    story.lose("a")
    story.report("b", failing(story.lease("b"), 1))
    third = story.lose("c")
    assert story.engine.state.evaluations[third.evaluation].lost == 2
    fourth = story.lease("d")
    assert fourth.earlier == ((3, None),)
    assert isinstance(story.report("d", failing(fourth, 3))[1][0], SetAside)
    assert isinstance(story.report("d", failing(story.lease("d", 1), None))[1][0], Recorded)
    assert story.differences() == []


@pytest.mark.parametrize(("was_cut_off", "expected"), [(True, SetAside), (False, Recorded)])
def test_an_attempt_that_was_handed_back_in_a_report_left_whole_files(
    was_cut_off: bool, expected: type, story: Story
) -> None:
    story.hand_back("a", was_cut_off=was_cut_off)
    _, (entry,) = story.report("b", failing(story.lease("b"), 1))
    assert isinstance(entry, expected)
    assert story.differences() == []


@pytest.mark.parametrize(
    ("resumed_from", "kind"),
    [
        *((None, FailureKind.CODE), (2, FailureKind.CODE), (0, FailureKind.CODE)),
        *((1, FailureKind.INVALID), (1, FailureKind.MEMORY)),
    ],
    ids=["began anew", "from itself", "from no attempt", "invalid", "memory"],
)
def test_other_failures_count(resumed_from: int | None, kind: FailureKind, story: Story) -> None:
    story.lose("a")
    _, (entry,) = story.report("b", failing(story.lease("b"), resumed_from, kind))
    assert isinstance(entry, Recorded)


def test_a_loss_of_infrastructure_after_a_cut_off_attempt_is_one_more_loss(story: Story) -> None:
    story.lose("a")
    second = story.lease("b")
    story.report("b", failing(second, 1, FailureKind.INFRASTRUCTURE))
    assert story.engine.state.evaluations[second.evaluation].lost == 2


@pytest.mark.parametrize("is_taken", [True, False], ids=["another worker has it", "it waits"])
def test_such_a_failure_of_an_attempt_whose_lease_has_expired_has_no_effect(is_taken: bool, story: Story) -> None:
    story.lose("a")
    second = story.lose("b")
    third = story.lease("c") if is_taken else None
    answer, (entry,) = story.report("b", failing(second, 1))
    assert (answer, type(entry)) == ("late", LateReport)
    third = third or story.lease("c")
    assert (third.evaluation, third.attempt) == (second.evaluation, 3)
    assert story.report("c", loss(third, 0.5))[0] == "recorded"
    assert story.differences() == []


def test_verify_names_a_failure_that_counts_and_one_that_is_set_aside_against_the_rule(story: Story) -> None:
    story.lose("a")
    story.report("b", failing(story.lease("b"), 1))
    aside = story.entries[-1]
    assert isinstance(aside, SetAside)
    about: dict[str, Any] = {"evaluation": aside.evaluation, "attempt": 2, "agent": "b", "outcome": aside.outcome}
    counted = [*story.entries[:-1], Recorded(**about, resumed_from=1)]
    assert story.differences(counted) == [f"the failure of {aside.evaluation} counts although attempt 1 was cut off"]
    # By the rule of journals from before, every failure counts.
    assert story.differences([*story.entries[:-1], Recorded(**about)]) == []
    (difference,) = story.differences([*story.entries[:-1], replace(aside, resumed_from=2)])
    assert "cannot be set aside" in difference
