"""Agents of limited time: estimates come from the journal, and no agent gets an evaluation that does not fit."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.durations import KEPT, SAFETY, Durations
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.protocol.messages import Leave, Wait
from hpbandster_lite.records import Entry, EvaluationId, Leased, Limits, Outcome, Report, Sampled
from hpbandster_lite.space import SearchSpace
from tests.engine_room import (
    LADDER,
    ONE_BRACKET,
    engine_for,
    granted,
    replayed,
    settings_for,
    snapshot,
    space_of,
    started,
    verified,
)

BUDGETS = st.sampled_from(LADDER)
SECONDS = st.floats(0.01, 1e5)


def durations(*seen: tuple[float, float]) -> Durations:
    found = Durations()
    for budget, seconds in seen:
        found.add(budget, seconds)
    return found


# --------------------------------------------------------------------------------------------------------- estimates


def test_before_anything_has_ended_nothing_is_expected() -> None:
    assert durations().expected_s(9.0) is None


@given(st.lists(SECONDS, min_size=1, max_size=KEPT), BUDGETS)
def test_nine_of_ten_that_were_seen_would_end_within_two_thirds_of_what_is_expected(
    took: list[float], budget: float
) -> None:
    expected = durations(*((budget, seconds) for seconds in took)).expected_s(budget)
    assert expected is not None
    within = sum(seconds <= expected / SAFETY * (1 + 1e-9) for seconds in took)
    assert within >= 0.9 * len(took)
    assert expected <= SAFETY * max(took) * (1 + 1e-9)


@given(SECONDS, BUDGETS, BUDGETS)
def test_another_budget_is_expected_in_proportion(seconds: float, seen: float, asked: float) -> None:
    assert durations((seen, seconds)).expected_s(asked) == pytest.approx(SAFETY * seconds * asked / seen)


def test_another_budget_is_estimated_from_the_nearest_one_and_of_two_from_the_larger() -> None:
    known = durations((1.0, 1.0), (3.0, 30.0), (81.0, 8.1))
    assert known.expected_s(9.0) == pytest.approx(SAFETY * 90.0)
    assert known.expected_s(27.0) == pytest.approx(SAFETY * 2.7)
    assert durations((1.0, 1.0), (9.0, 90.0)).expected_s(3.0) == pytest.approx(SAFETY * 30.0)


def test_what_was_seen_long_ago_is_forgotten() -> None:
    known = durations(*((1.0, 1_000.0) for _ in range(KEPT)), *((1.0, 1.0) for _ in range(KEPT)))
    assert known.expected_s(1.0) == SAFETY


def test_the_median_is_that_of_one_budget_and_known_from_three_evaluations_on() -> None:
    assert durations((1.0, 2.0), (1.0, 4.0), (3.0, 6.0), (3.0, 6.0), (3.0, 6.0)).median_s(1.0) is None
    assert durations((1.0, 2.0), (1.0, 90.0), (1.0, 4.0)).median_s(1.0) == 4.0
    assert durations((1.0, 2.0), (1.0, 90.0), (1.0, 4.0)).median_s(3.0) is None


# ---------------------------------------------------------------------------- which agent gets which evaluation


def ends(engine: Engine, agent: str, request: int, took_s: float, *, time_left_s: float | None = None) -> EvaluationId:
    """An agent gets work and ends it after ``took_s``."""
    answer = engine.lease(agent, request, now=0.0, time_left_s=time_left_s).answer
    assert isinstance(answer, Granted), answer
    grant = answer.grant
    outcome = Outcome(loss=float(grant.values["x"]), duration_s=took_s)  # type: ignore[arg-type]  # x is a number
    engine.report(agent, Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=outcome), now=0.0)
    return grant.evaluation


def with_promotions(limits: Limits | None = None) -> Engine:
    """A search whose lowest rung is complete, with 10 s for each evaluation: promotions come next."""
    engine = started(limits or Limits(brackets=1))
    for request in range(9):
        assert ends(engine, "a", request, 10.0).rung == 0
    return engine


def test_an_agent_without_a_limit_gets_what_comes_next_and_one_with_enough_time_the_same() -> None:
    assert granted(with_promotions(), "b").evaluation.rung == 1
    answer = with_promotions().lease("b", 0, now=0.0, time_left_s=45.0).answer
    assert isinstance(answer, Granted)
    assert answer.grant.evaluation.rung == 1


def test_an_agent_is_sent_away_where_no_waiting_evaluation_ends_in_its_time() -> None:
    answer = with_promotions().lease("b", 0, now=0.0, time_left_s=44.0).answer
    assert answer == Leave(
        reason="the shortest evaluation that waits (budget 3) is expected to take up to 45 s, and has 44 s here"
    )


def test_before_anything_has_ended_everything_may_fit_but_into_no_time_at_all() -> None:
    engine = started()
    assert isinstance(engine.lease("a", 0, now=0.0, time_left_s=0.0).answer, Leave)
    assert isinstance(engine.lease("a", 1, now=0.0, time_left_s=0.1).answer, Granted)


def busy_beside(bracket: int) -> tuple[Engine, EvaluationId]:
    """A search with places of budget 1 in a later bracket, and one evaluation of budget 3 that was handed back."""
    engine = with_promotions(Limits(brackets=bracket + 1))
    first = granted(engine, "first")
    assert first.budget == 3.0
    number = 0
    while granted(engine, f"other{number}").evaluation.config_id.bracket < bracket:
        number += 1
    engine.release("first", first.evaluation, first.attempt, "its time is over", None, now=0.0)
    return engine, first.evaluation


def test_what_is_to_be_run_again_and_takes_too_long_waits_for_others_and_a_smaller_place_is_given() -> None:
    engine, waits = busy_beside(3)
    short = engine.lease("short", 0, now=0.0, time_left_s=20.0).answer
    assert isinstance(short, Granted)
    assert (short.grant.budget, short.grant.evaluation.config_id.bracket) == (1.0, 3)
    assert granted(engine, "long").evaluation == waits


def test_no_bracket_is_opened_for_an_agent_of_little_time_beside_work_that_waits_for_others() -> None:
    engine = with_promotions(Limits(brackets=4))
    held = [granted(engine, f"h{number}") for number in range(7)]
    assert len(engine.state.brackets) == 3
    engine.release("h0", held[0].evaluation, 1, "", None, now=0.0)
    assert isinstance(engine.lease("short", 0, now=0.0, time_left_s=20.0).answer, Leave)
    assert len(engine.state.brackets) == 3


def test_an_agent_whose_time_would_do_waits_where_there_is_nothing_to_do() -> None:
    engine = started(ONE_BRACKET)
    for number in range(9):
        granted(engine, f"a{number}")
    assert isinstance(engine.lease("b", 0, now=0.0, time_left_s=5.0).answer, Wait)


def test_the_next_bracket_is_opened_for_an_agent_only_if_its_first_evaluations_fit() -> None:
    engine = started(Limits(brackets=2))
    for request in range(13):
        ends(engine, "a", request, 10.0)
    assert all(bracket.is_complete for bracket in engine.state.brackets)
    assert isinstance(engine.lease("b", 0, now=0.0, time_left_s=1.0).answer, Leave)
    assert len(engine.state.brackets) == 1
    assert isinstance(engine.lease("b", 1, now=0.0, time_left_s=100.0).answer, Granted)


def test_an_evaluation_that_continued_tells_nothing_of_how_long_a_whole_one_takes() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.release("a", grant.evaluation, 1, "", "somewhere", now=0.0)
    ends(engine, "b", 0, 0.5)
    assert engine.state.durations.expected_s(1.0) is None


# -------------------------------------------------------------------------------------------------------- the journal


def lived(seed: int) -> tuple[Engine, list[Entry], SearchSpace]:
    """A search by agents, some of which have little time, and its journal."""
    draw, space = random.Random(seed), space_of()
    settings = settings_for(space, algorithm="bohb")
    engine = engine_for(settings, space)
    entries = list(engine.start(1, Limits(brackets=5), now=0.0).entries)
    held: dict[str, Report] = {}
    for number in range(600):
        agent = f"a{draw.randrange(6)}"
        left = draw.choice([None, draw.uniform(0.0, 40.0), draw.uniform(0.0, 200.0)])
        if draw.random() < 0.4 and agent in held:
            lease = held.pop(agent)
            entries += engine.release(agent, lease.evaluation, lease.attempt, "", None, now=0.0).entries
            continue
        turn = engine.exchange(agent, number, now=0.0, report=held.pop(agent, None), time_left_s=left)
        entries += turn.entries
        if isinstance(turn.answer.answer, Granted):
            grant = turn.answer.answer.grant
            took_s = grant.budget * draw.lognormvariate(1.0, 0.5)
            # x is a number.
            outcome = Outcome(loss=float(grant.values["x"]), duration_s=took_s)  # type: ignore[arg-type]
            held[agent] = Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=outcome)
    return engine, entries, space


@pytest.mark.parametrize("seed", range(5))
def test_a_search_by_agents_of_little_time_is_replayed_and_verified(seed: int) -> None:
    engine, entries, space = lived(seed)
    assert any(isinstance(entry, Leased) and entry.time_left_s is not None for entry in entries)
    assert snapshot(replayed(engine.settings, entries, space=space)) == snapshot(engine)
    verification = verified(engine.settings, entries, space=space)
    assert verification.holds, verification.summary


def leased_without_limit(entry: Entry) -> Entry:
    return replace(entry, time_left_s=None) if isinstance(entry, Leased) else entry


def sampled_without_limit(entry: Entry) -> Entry:
    return replace(entry, time_left_s=None) if isinstance(entry, Sampled) else entry


def with_less(entry: Entry) -> Entry:
    is_limited = isinstance(entry, Leased) and entry.time_left_s is not None
    # An entry with a time limit.
    return replace(entry, time_left_s=entry.time_left_s / 100) if is_limited else entry  # type: ignore[operator, union-attr, arg-type]


@pytest.mark.parametrize("change", [leased_without_limit, sampled_without_limit, with_less])
def test_a_journal_in_which_agents_had_other_times_is_not_verified(change: Callable[[Entry], Entry]) -> None:
    stories = []
    for seed in range(5):
        engine, entries, space = lived(seed)
        differences = verified(engine.settings, [change(entry) for entry in entries], space=space).differences
        stories += [each.description for each in differences]
    assert any("the next decision was" in story for story in stories)
