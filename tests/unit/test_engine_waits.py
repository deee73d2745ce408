"""The engine reports its waits with their deadlines, and hints about likely faults of the problem."""

from __future__ import annotations

import pytest

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.protocol.status import Waiting
from hpbandster_lite.records import FailureKind, HandBackKind, Limits, Outcome, Report
from tests.engine_room import (
    LADDER,
    ONE_BRACKET,
    engine_for,
    failed,
    finish,
    granted,
    loss,
    replayed,
    settings_for,
    space_of,
    started,
)


def kinds(engine: Engine, now: float) -> list[str]:
    return [waiting.kind for waiting in engine.waits(now)]


def complete_but(engine: Engine, left: int, *, now: float = 0.0) -> None:
    """Complete the first rung except for ``left`` of its nine evaluations, which workers w0, w1, ... hold."""
    for index in range(9):
        turn = engine.lease(f"a{index}", 0, now=now, worker=f"w{index}")
        assert isinstance(turn.answer, Granted)
        if index >= left:
            engine.report(f"a{index}", loss(turn.answer.grant, index), now=now)


# ------------------------------------------------------------------------------------------------------------ workers


def test_a_search_without_workers_says_so() -> None:
    assert started().waits(100.0) == (Waiting(kind="worker", reason="no worker has joined yet"),)


def test_a_search_whose_last_worker_is_gone_says_when_its_last_message_arrived() -> None:
    engine = started()
    engine.lease("a", 0, now=5.0, worker="w7")
    engine.release("a", engine.state.held_by["a"], 1, "its time is over", None, now=20.0)
    engine.disconnected("a", now=20.5)
    (waiting,) = engine.waits(60.0)
    assert waiting == Waiting(kind="worker", reason="no worker is left: the last message arrived 40 s ago")


def test_a_new_master_waits_for_the_workers_of_the_old_one() -> None:
    engine = started()
    entries = engine.lease("a", 0, now=0.0).entries
    again = replayed(engine.settings, entries)
    again.start(2, Limits(), now=100.0)
    assert again.waits(103.0)[0].reason == "the one earlier worker has not found this master yet"


def test_workers_that_take_no_work_are_a_wait_with_their_reason_until_they_ask_again() -> None:
    engine = started()
    engine.exchange("a", 1, now=0.0, worker="w0", hindrance="no room on the disk of /x")
    assert engine.waits(1.0) == (Waiting(kind="worker", reason="worker w0 takes no work: no room on the disk of /x"),)
    engine.exchange("b", 1, now=0.0, worker="w1")
    reason = "1 of 2 workers takes no work, w0 because: no room on the disk of /x"
    assert engine.waits(1.0) == (Waiting(kind="worker", reason=reason),)
    engine.exchange("b", 2, now=1.0, worker="w1", hindrance="no room on the disk of /y")
    assert engine.waits(1.0)[0].reason == "2 of 2 workers take no work, w0 because: no room on the disk of /x"
    assert [agent.hindrance for agent in engine.status(now=1.0).agents] == [
        "no room on the disk of /x",
        "no room on the disk of /y",
    ]
    for agent in "ab":
        engine.exchange(agent, 3, now=2.0)
    assert engine.waits(2.0) == ()
    assert [agent.hindrance for agent in engine.status(now=2.0).agents] == [None, None]


def test_there_is_no_wait_while_everybody_works_and_places_are_open() -> None:
    engine = started()
    granted(engine, "a")
    assert engine.waits(1.0) == ()


def test_a_search_that_is_over_waits_for_nothing() -> None:
    engine = started(ONE_BRACKET)
    finish(engine)
    assert engine.waits(1_000.0) == ()


# -------------------------------------------------------------------------------------------------------------- rungs


def test_a_rung_names_what_is_missing_the_silent_worker_and_the_end_of_its_lease() -> None:
    engine = started(ONE_BRACKET)
    complete_but(engine, 3)
    for agent in ("a1", "a2"):
        engine.renew(agent, engine.state.held_by[agent], 1, now=44.0)
    (waiting,) = engine.waits(45.0)
    assert waiting == Waiting(
        kind="rung",
        reason="rung 0 of bracket 0: 3 of 9 missing, worker w0 silent for 45 s, its lease ends in 15 s",
        ends_in_s=15.0,
    )


def test_of_several_silent_workers_the_one_whose_lease_ends_last_is_named() -> None:
    engine = started(ONE_BRACKET)
    complete_but(engine, 2)
    engine.renew("a1", engine.state.held_by["a1"], 1, now=20.0)
    waiting = engine.waits(45.0)[-1]
    assert "worker w1 silent for 25 s, its lease ends in 35 s, another one is silent" in waiting.reason
    assert waiting.ends_in_s == 35.0


def test_a_lost_connection_is_named_at_once() -> None:
    engine = started(ONE_BRACKET)
    complete_but(engine, 1)
    engine.disconnected("a0", now=1.0)
    waiting = engine.waits(2.0)[-1]
    assert "worker w0 has lost its connection, its lease ends in 9 s" in waiting.reason
    assert waiting.ends_in_s == 9.0
    engine.renew("a0", engine.state.held_by["a0"], 1, now=3.0)
    assert engine.waits(4.0)[-1].ends_in_s is None


def test_a_rung_without_silent_workers_has_no_deadline_and_names_the_longest_run() -> None:
    engine = started(ONE_BRACKET)
    complete_but(engine, 2)
    for agent in ("a0", "a1"):
        engine.renew(agent, engine.state.held_by[agent], 1, now=30.0)
    (waiting,) = engine.waits(31.0)
    assert waiting == Waiting(
        kind="rung", reason="rung 0 of bracket 0: 2 of 9 missing, 2 running, the longest for 31 s by worker w0"
    )


def test_a_silent_worker_is_named_although_others_have_work() -> None:
    engine = started()
    granted(engine, "a", now=0.0)
    granted(engine, "b", now=11.0)
    (waiting,) = engine.waits(11.0)
    assert "9 of 9 missing, worker a silent for 11 s" in waiting.reason


# ------------------------------------------------------------------------------------------------- limits and commands


def test_limits_and_a_pause_are_reasons() -> None:
    most = started(Limits(max_concurrent=1))
    granted(most, "a")
    assert most.waits(1.0) == (Waiting(kind="limit", reason="max_concurrent: 1 evaluation runs already"),)

    last = started(Limits(evaluations=1))
    granted(last, "a")
    assert last.waits(1.0)[0].reason == "1 evaluation was started, which is the limit; 1 evaluation still runs"

    poor = started(Limits(total_budget=1.5))
    granted(poor, "a")
    assert poor.waits(1.0)[0].reason == (
        "the rest of the total budget does not cover another 1; 1 evaluation still runs"
    )

    paused = started()
    granted(paused, "a")
    paused.pause()
    assert paused.waits(1.0)[0] == Waiting(
        kind="paused", reason="paused: nothing is handed out until it is resumed; 1 evaluation still runs"
    )


@pytest.mark.parametrize("limits", [Limits(max_concurrent=1), Limits(evaluations=1), Limits(total_budget=1.5)])
def test_the_reason_in_an_answer_to_wait_is_among_the_waits_of_the_engine(limits: Limits) -> None:
    engine = started(limits)
    granted(engine, "a")
    answer = engine.lease("b", 0, now=1.0).answer
    assert getattr(answer, "reason", None) in {waiting.reason for waiting in engine.waits(1.0)}


def test_the_status_has_waits_hints_and_the_pause() -> None:
    engine = started()
    status = engine.status(now=1.0)
    assert status.waits == (Waiting(kind="worker", reason="no worker has joined yet"),)
    assert (status.hints, status.paused) == ((), None)
    engine.pause(reason="maintenance")
    assert engine.status(now=1.0).paused == "maintenance"


# -------------------------------------------------------------------------------------------------------------- hints


def run(engine: Engine, cost_s: dict[float, float], loss_at: dict[float, float], directory: str | None = None) -> None:
    request = 0
    while isinstance(answer := engine.lease("a", request, now=0.0).answer, Granted):
        grant = answer.grant
        value = float(grant.values["x"]) + loss_at[grant.budget]  # type: ignore[arg-type]  # x is a number
        outcome = Outcome(loss=value, duration_s=cost_s[grant.budget], directory=directory)
        engine.report("a", Report(evaluation=grant.evaluation, attempt=1, outcome=outcome), now=0.0)
        request += 1


FAIR = dict(zip(LADDER, (1.0, 3.0, 9.0), strict=True))
FLAT = dict.fromkeys(LADDER, 2.0)
FALLS = dict(zip(LADDER, (0.3, 0.2, 0.1), strict=True))
SAME = dict.fromkeys(LADDER, 0.0)


def test_a_loss_that_does_not_depend_on_the_budget_is_pointed_out_once() -> None:
    engine = started(Limits(brackets=2))
    run(engine, FAIR, SAME)
    (hint,) = engine.status(now=0.0).hints
    assert hint.startswith("the loss does not depend on the budget: all 3 configurations that were evaluated at 1 and ")


def test_a_cost_that_does_not_grow_with_the_budget_is_pointed_out_once() -> None:
    engine = started(Limits(brackets=2))
    run(engine, FLAT, FALLS)
    (hint,) = engine.status(now=0.0).hints
    assert hint.startswith("the cost does not grow with the budget: at 3 epochs an evaluation takes 1 times as long")


def test_a_budget_without_a_unit_is_named_as_one() -> None:
    engine = started(Limits(brackets=2))
    run(engine, FLAT, SAME)
    losses, costs = engine.state.growth.hints("budget")
    assert "evaluated at budget 1 and at budget 3 have the same loss" in losses
    assert "at budget 3 an evaluation takes 1 times as long as at budget 1 (median" in costs
    # The budgets of a search that has begun do not change.
    assert costs.endswith("or begin another search with a higher lowest budget")


def test_a_sound_problem_gets_no_hint() -> None:
    engine = started(Limits(brackets=2))
    run(engine, FAIR, FALLS)
    assert engine.status(now=0.0).hints == ()


def holding(took_s: float, running: int) -> Engine:
    """Three evaluations of ``took_s``, then ``running`` workers that hold one each since 0."""
    engine = started(ONE_BRACKET)
    for index in range(3):
        outcome = Outcome(loss=float(index), duration_s=took_s)
        evaluation = granted(engine, "a", index).evaluation
        engine.report("a", Report(evaluation=evaluation, attempt=1, outcome=outcome), now=0.0)
    for index in range(running):
        engine.lease(f"b{index}", 0, now=0.0, worker=f"w{index}")
    return engine


def hints_while_running(engine: Engine, now: float) -> tuple[str, ...]:
    for name, evaluation in list(engine.state.held_by.items()):
        engine.renew(name, evaluation, 1, now=now)
    return engine.status(now=now).hints


def test_an_evaluation_that_may_hang_is_pointed_out_with_what_ends_it() -> None:
    engine = holding(2.0, 2)
    assert hints_while_running(engine, 19.0) == ()
    (hint,) = hints_while_running(engine, 24.0)
    assert hint == (
        "evaluation 0-0-3@0 is running for 12 times the median of its budget, and 1 more run too long; if it hangs, "
        "`hpbandster-lite cancel RUN 0-0-3@0` drops it, and with a time limit (--timeout, timeout_s; not with "
        "isolation none) workers end such evaluations"
    )
    assert [agent.times_median for agent in engine.status(now=24.0).agents if agent.is_busy] == [12.0, 12.0]


def test_the_first_evaluation_of_a_budget_that_may_hang_is_pointed_out_too() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        outcome = Outcome(loss=float(index), duration_s=2.0)
        evaluation = granted(engine, "a", index).evaluation
        engine.report("a", Report(evaluation=evaluation, attempt=1, outcome=outcome), now=0.0)
    assert granted(engine, "b", 0).evaluation.rung == 1
    assert hints_while_running(engine, 89.0) == ()
    (hint,) = hints_while_running(engine, 108.0)
    words = "evaluation 0-0-0@1 is running for 12 times as long as expected from the evaluations so far; if it hangs, "
    assert hint.startswith(words)
    (agent,) = [agent for agent in engine.status(now=108.0).agents if agent.is_busy]
    assert agent.times_median is None
    assert agent.times_expected == pytest.approx(12.0)


def test_two_evaluations_suggest_nothing() -> None:
    engine = started(ONE_BRACKET)
    for index in range(2):
        outcome = Outcome(loss=float(index), duration_s=2.0)
        evaluation = granted(engine, "a", index).evaluation
        engine.report("a", Report(evaluation=evaluation, attempt=1, outcome=outcome), now=0.0)
    granted(engine, "b", 0)
    assert hints_while_running(engine, 1e4) == ()


def test_milliseconds_do_not_hang_and_a_silent_worker_has_words_of_its_own() -> None:
    assert hints_while_running(holding(0.001, 1), 1.0) == ()
    assert holding(2.0, 1).status(now=24.0).hints == ()


@pytest.mark.parametrize("kind", [HandBackKind.ORDERED, HandBackKind.REFUSED, HandBackKind.UNORDERED])
def test_an_evaluation_that_comes_back_at_no_cost_is_named_with_its_reason(kind: HandBackKind) -> None:
    engine = started()
    for number in range(3):
        assert engine.status(now=0.0).hints == ()
        grant = granted(engine, f"a{number}", now=0.0)
        engine.release(f"a{number}", grant.evaluation, grant.attempt, "no room on /x", None, now=0.0, kind=kind)
    words = (
        "evaluation 0-0-0@0 was handed back 3 times (the last time: no room on /x), which costs no attempt; if no "
        "worker has what it needs, or if it ends its own workers, `hpbandster-lite cancel RUN 0-0-0@0` drops it",
    )
    assert engine.status(now=0.0).hints == (() if kind is HandBackKind.UNORDERED else words)


def test_two_pairs_say_nothing() -> None:
    engine = started(Limits(evaluations=11))
    run(engine, FLAT, SAME)
    assert engine.status(now=0.0).hints == ()


def test_one_configuration_whose_loss_changes_takes_the_hint_back() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        engine.report("a", loss(granted(engine, "a", index), index), now=0.0)
    for index in range(9, 12):
        grant = granted(engine, "a", index)
        engine.report("a", loss(grant, index - 9 + (index == 11)), now=0.0)
    assert engine.status(now=0.0).hints == ()


def test_milliseconds_of_overhead_are_no_cost() -> None:
    engine = started(ONE_BRACKET)
    run(engine, dict.fromkeys(LADDER, 0.01), FALLS)
    assert engine.status(now=0.0).hints == ()


def test_a_training_that_was_continued_may_cost_the_same_when_the_budget_doubles() -> None:
    for has_checkpoint, count in ((True, 0), (False, 1)):
        engine = engine_for(settings_for(space_of(), budgets=(1.0, 2.0)), space_of())
        engine.start(1, Limits(brackets=1), now=0.0)
        for index in range(3):
            engine.report("a", loss(granted(engine, "a", index), index), now=0.0)
        pairs = engine.state.growth
        for index in range(3):
            pairs.add((1.0, 2.0), (0.5, index), (4.0, 4.0), has_checkpoint=has_checkpoint)
        assert len(pairs.hints("epochs")) == count


def test_a_search_in_which_everything_fails_says_so_before_it_ends() -> None:
    engine = started(ONE_BRACKET)
    for index, kind in enumerate((FailureKind.CODE, FailureKind.MEMORY, FailureKind.CODE)):
        engine.report("a", failed(granted(engine, "a", index), kind, f"line {'x' * index}"), now=0.0)
    assert engine.status(now=0.0).hints == ("none of the 3 evaluations so far has a loss: 2 code, 1 memory",)
    engine.report("a", loss(granted(engine, "a", 3), 1.0), now=0.0)
    assert engine.status(now=0.0).hints == ()
