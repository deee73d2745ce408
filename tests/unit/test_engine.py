"""The engine's rules, one scripted scenario each."""

from __future__ import annotations

import pytest

from hpbandster_lite.engine.decision_types import Done, Granted, Turn
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.protocol.messages import Keep, Stop, Wait
from hpbandster_lite.protocol.status import Evaluations
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Expired,
    ExpiryKind,
    FailureKind,
    Finished,
    FinishKind,
    HandBackKind,
    LateReport,
    Leased,
    Limits,
    Origin,
    Recorded,
    Released,
    RungShrunk,
    Sampled,
)
from hpbandster_lite.space import SearchSpace
from tests.engine_room import (
    ONE_BRACKET,
    engine_for,
    failed,
    finish,
    granted,
    loss,
    replayed,
    settings_for,
    snapshot,
    space_of,
    space_that_forbids_its_default,
    started,
)


def best_of_rung(engine: Engine, rung: int) -> list[ConfigId]:
    return [name.config_id for name in engine.state.evaluations if name.rung == rung]


# ------------------------------------------------------------------------------------------------- successive halving


def test_one_bracket_is_9_then_3_then_1() -> None:
    engine = started(ONE_BRACKET)
    grants = finish(engine)
    assert [grant.budget for grant in grants] == [1.0] * 9 + [3.0] * 3 + [9.0]
    assert engine.finished == Finished(kind=FinishKind.COMPLETE, reason="the one bracket is complete")


def test_the_lowest_losses_are_promoted_and_ties_go_by_config_id() -> None:
    engine = started(ONE_BRACKET)
    finish(engine, dict.fromkeys((f"0-0-{index}" for index in range(9)), 1.0) | {"0-0-8": 0.5})
    assert best_of_rung(engine, 1) == [ConfigId(0, 0, 8), ConfigId(0, 0, 0), ConfigId(0, 0, 1)]


def test_a_rung_with_too_few_losses_is_topped_up_with_fresh_samples_of_the_higher_rung() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        grant = granted(engine, "a", index)
        engine.report("a", loss(grant, 1.0) if index == 2 else failed(grant, FailureKind.CODE), now=0.0)
    grants = finish(engine)
    assert [str(grant.evaluation) for grant in grants[:3]] == ["0-0-2@1", "0-1-0@1", "0-1-1@1"]
    assert engine.finished is not None


def test_a_failure_is_never_promoted_even_where_nothing_has_a_loss() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        engine.report("a", failed(granted(engine, "a", index), FailureKind.MEMORY), now=0.0)
    assert all(grant.evaluation.config_id.rung == 1 for grant in finish(engine)[:3])


def test_the_smallest_budget_comes_first_and_the_next_bracket_opens_only_when_nothing_else_can_start() -> None:
    engine = started(Limits(brackets=2))
    grants = [granted(engine, f"a{index}") for index in range(10)]
    assert [grant.evaluation.config_id.bracket for grant in grants] == [0] * 9 + [1]
    for index, grant in enumerate(grants[:9]):
        engine.report(f"a{index}", loss(grant, index), now=0.0)
    # Rung 1 of bracket 0 and rung 0 of bracket 1 both cost 3: the lower bracket goes first.
    following = [granted(engine, f"b{index}") for index in range(4)]
    assert [str(grant.evaluation) for grant in following] == ["0-0-0@1", "0-0-1@1", "0-0-2@1", "1-0-1@0"]


def test_an_infeasible_configuration_gives_its_place_to_a_new_one() -> None:
    engine = started(ONE_BRACKET)
    engine.report("a", failed(granted(engine, "a", 0), FailureKind.INFEASIBLE), now=0.0)
    grants = finish(engine)
    assert [grant.budget for grant in grants] == [1.0] * 9 + [3.0] * 3 + [9.0]
    assert str(grants[0].evaluation) == "0-0-1@0"


def test_a_problem_that_refuses_everything_ends_the_search_with_the_remedy() -> None:
    engine = started()
    for index in range(1_000):
        engine.report("a", failed(granted(engine, "a", index), FailureKind.INFEASIBLE), now=0.0)
    answer = engine.lease("a", 1_000, now=0.0).answer
    assert isinstance(answer, Done)
    assert answer.finished.kind is FinishKind.INFEASIBLE
    assert "correct feasible()" in answer.finished.reason


# ----------------------------------------------------------------------------------------------------- order of work


def test_the_default_comes_first_then_the_users_configurations_each_once() -> None:
    space = space_of()
    default = space.to_values(space.default()[None])[0]
    given = ({"x": 0.25, "n": 3}, default, {"x": 0.25, "n": 3}, {"x": 0.75, "n": 9})
    engine = started(ONE_BRACKET, initial=given)
    grants = [granted(engine, f"a{index}") for index in range(4)]
    assert [grant.values for grant in grants[:3]] == [default, given[0], given[3]]
    origins = [engine.state.proposals[grant.evaluation.config_id].origin for grant in grants]
    assert origins == [Origin.DEFAULT, Origin.INITIAL, Origin.INITIAL, Origin.RANDOM]


def test_a_skipped_default_is_evaluated_where_the_user_names_it() -> None:
    space = space_of()
    default = space.to_values(space.default()[None])[0]
    without = granted(started(ONE_BRACKET, skip_default=True), "a")
    named = started(ONE_BRACKET, skip_default=True, initial=({"x": 0.25, "n": 3}, default))
    assert without.values != default
    assert [granted(named, f"a{index}").values for index in range(2)] == [{"x": 0.25, "n": 3}, default]


def test_a_default_that_the_space_forbids_is_replaced_by_a_sampled_configuration() -> None:
    space = SearchSpace.from_configspace(space_that_forbids_its_default())
    given = {"x": 0.25, "n": 3}
    engine = started(ONE_BRACKET, space=space, initial=(given,))
    grants = finish(engine)
    assert [grant.budget for grant in grants] == [1.0] * 9 + [3.0] * 3 + [9.0]
    assert grants[0].values == given
    assert all(grant.values["n"] != 5 for grant in grants)
    assert {p.origin for p in engine.state.proposals.values()} == {Origin.INITIAL, Origin.RANDOM}


def test_a_search_from_before_this_rule_evaluates_its_forbidden_default() -> None:
    space = SearchSpace.from_configspace(space_that_forbids_its_default())
    engine = started(ONE_BRACKET, space=space, replaces_forbidden_default=False)
    assert granted(engine, "a").values == {"x": 0.5, "n": 5}


def test_random_search_runs_everything_at_the_full_budget() -> None:
    grants = finish(started(Limits(brackets=3), algorithm="random"))
    assert {grant.budget for grant in grants} == {9.0}
    # The cost of Hyperband's three brackets: 27 + 18 + 27 = 72, eight times the full budget.
    assert len(grants) == 8


def test_an_exhausted_space_shrinks_the_rung_and_the_brackets_finish() -> None:
    from ConfigSpace import Categorical

    engine = started(space=space_of(Categorical("c", ["a", "b", "c", "d"])))
    grants = finish(engine, {f"0-0-{index}": index for index in range(4)})
    assert [str(grant.evaluation) for grant in grants[:4]] == [f"0-0-{index}@0" for index in range(4)]
    exhausted = "the space is exhausted: all 4 configurations were evaluated"
    assert engine.finished == Finished(kind=FinishKind.EXHAUSTED, reason=exhausted)
    assert len({str(grant.values) for grant in grants if grant.evaluation.rung == 0}) == 4
    engine.validate()


def test_a_shrunk_rung_is_journalled_so_that_replay_needs_no_sampler() -> None:
    from ConfigSpace import Categorical

    engine = started(space=space_of(Categorical("c", ["a", "b"])))
    for request in range(2):
        engine.report("a", loss(granted(engine, "a", request), 1.0), now=0.0)
    entries = engine.lease("a", 2, now=0.0).entries
    assert RungShrunk(bracket=0, rung=0, places=2) in entries


# ------------------------------------------------------------------------------------------------------------ leases


def test_the_same_request_gets_the_same_grant_and_no_second_lease() -> None:
    engine = started()
    first = granted(engine, "a", 5)
    turn = engine.lease("a", 5, now=1.0)
    assert turn.answer == Granted(first)
    assert turn.entries == ()


def test_a_request_that_comes_late_is_refused_and_changes_nothing() -> None:
    engine = started()
    granted(engine, "a", 5)
    turn = engine.lease("a", 4, now=1.0)
    assert isinstance(turn.answer, Wait)
    assert turn.entries == ()
    assert len(engine.state.held_by) == 1


def test_an_agent_that_asks_for_new_work_has_lost_what_it_held() -> None:
    engine = started()
    first = granted(engine, "a", 0)
    turn = engine.lease("a", 1, now=1.0)
    assert isinstance(turn.entries[0], Expired)
    assert turn.entries[0].kind is ExpiryKind.NEW_REQUEST
    assert isinstance(turn.answer, Granted)
    assert turn.answer.grant.evaluation == first.evaluation
    assert turn.answer.grant.attempt == 2


def test_a_lease_ends_at_its_deadline_and_a_heartbeat_moves_it() -> None:
    engine = started()
    grant = granted(engine, "a", now=0.0)
    assert engine.renew("a", grant.evaluation, 1, now=59.0).answer == Keep()
    assert engine.expire(now=118.9).entries == ()
    (entry,) = engine.expire(now=119.0).entries
    assert isinstance(entry, Expired)
    assert entry.kind is ExpiryKind.SILENT
    assert "60 s" in entry.reason


def test_a_lapsed_lease_is_given_back_to_its_agent_while_no_other_agent_has_the_evaluation() -> None:
    engine = started(max_attempts=1 + 1)
    grant = granted(engine, "a", 5, now=0.0)
    for lapsed_at in (60.0, 130.0, 200.0):
        engine.expire(now=lapsed_at)
        assert not engine.state.held_by
        turn = engine.renew("a", grant.evaluation, 1, now=lapsed_at + 10.0)
        assert turn.answer == Keep()
        (entry,) = turn.entries
        assert isinstance(entry, Leased)
        assert (entry.evaluation, entry.attempt, entry.agent, entry.request) == (grant.evaluation, 1, "a", 5)
        # It was not lost, so it may lapse any number of times.
        assert engine.state.evaluations[grant.evaluation].lost == 0
        engine.validate()
    assert engine.report("a", loss(grant, 1.0), now=211.0).answer == "recorded"
    assert granted(engine, "b", now=212.0).evaluation != grant.evaluation


def test_a_lease_that_was_given_back_is_there_after_a_restart() -> None:
    engine = started()
    opened = engine.lease("a", 1, now=0.0)
    assert isinstance(opened.answer, Granted)
    evaluation = opened.answer.grant.evaluation
    lapsed = engine.expire(now=60.0)
    given_back = engine.renew("a", evaluation, 1, now=61.0)
    again = started()
    again.replay([*opened.entries, *lapsed.entries, *given_back.entries])
    assert snapshot(again) == snapshot(engine)
    assert again.state.held_by == {"a": evaluation}


def test_a_lease_that_another_agent_has_is_not_given_back() -> None:
    engine = started()
    grant = granted(engine, "a", now=0.0)
    engine.expire(now=60.0)
    granted(engine, "b", now=61.0)
    turn = engine.renew("a", grant.evaluation, 1, now=62.0)
    assert turn == Turn(Stop(reason="the lease expired and another worker got the evaluation"))
    engine.disconnected("b", now=63.0)
    engine.expire(now=80.0)
    assert isinstance(engine.renew("a", grant.evaluation, 1, now=81.0).answer, Stop)
    assert engine.renew("b", grant.evaluation, 2, now=82.0).answer == Keep()


@pytest.mark.parametrize("word", ["release", "question", "lost"])
def test_an_agent_that_left_its_lapsed_lease_does_not_get_it_back_for_a_late_heartbeat(word: str) -> None:
    engine = started()
    grant = granted(engine, "a", 1, now=0.0)
    if word == "lost":
        engine.report("a", failed(grant, FailureKind.INFRASTRUCTURE), now=1.0)
    else:
        engine.expire(now=60.0)
    if word == "release":
        engine.release("a", grant.evaluation, 1, "x", None, now=61.0)
    elif word == "question":
        engine.exchange("a", 1, now=61.0, want_lease=False)
    turn = engine.renew("a", grant.evaluation, 1, now=62.0)
    assert turn == Turn(Stop(reason="the lease ended, and the evaluation waits to be run again"))


def test_no_lease_is_given_back_beyond_the_limit_of_those_that_run_or_the_end_of_the_search() -> None:
    engine = started(Limits(max_concurrent=1))
    first = granted(engine, "a", now=0.0)
    engine.expire(now=60.0)
    engine.cancel(first.evaluation)
    second = granted(engine, "b", now=60.0)
    engine.expire(now=120.0)
    assert engine.renew("b", second.evaluation, 1, now=121.0).answer == Keep()
    engine.expire(now=200.0)
    granted(engine, "c", now=201.0)
    assert isinstance(engine.renew("b", second.evaluation, 1, now=202.0).answer, Stop)
    ended = started()
    grant = granted(ended, "a", now=0.0)
    ended.expire(now=60.0)
    ended.stop(reason="enough")
    assert ended.renew("a", grant.evaluation, 1, now=61.0) == Turn(Stop(reason="stopped by its user: enough"))


def test_what_was_lost_runs_again_before_anything_else() -> None:
    engine = started()
    first = granted(engine, "a", now=0.0)
    granted(engine, "b", now=30.0)
    engine.expire(now=60.0)
    again = granted(engine, "c", now=61.0)
    assert (again.evaluation, again.attempt) == (first.evaluation, 2)
    assert again.earlier == ((1, None),)


def test_a_lost_connection_leaves_two_heartbeats() -> None:
    engine = started()
    granted(engine, "a", now=0.0)
    engine.disconnected("a", now=1.0)
    assert engine.expire(now=10.9).entries == ()
    assert len(engine.expire(now=11.0).entries) == 1


def test_a_heartbeat_after_a_lost_connection_keeps_the_lease() -> None:
    engine = started()
    grant = granted(engine, "a", now=0.0)
    engine.disconnected("a", now=1.0)
    assert engine.renew("a", grant.evaluation, 1, now=5.0).answer == Keep()
    assert engine.expire(now=64.9).entries == ()


def test_a_heartbeat_at_the_end_of_the_search_extends_the_lease_until_the_evaluation_is_handed_back() -> None:
    engine = started()
    grant = granted(engine, "a", now=0.0)
    engine.disconnected("a", now=1.0)
    engine.stop(reason="enough for today")
    assert engine.renew("a", grant.evaluation, 1, now=10.0) == Turn(
        Stop(reason="stopped by its user: enough for today")
    )
    assert engine.expire(now=69.9).entries == ()
    (handed_back,) = engine.release("a", grant.evaluation, 1, "enough for today", "here", now=69.9).entries
    assert isinstance(handed_back, Released)


def test_an_agent_that_repeats_its_request_after_a_lost_answer_has_a_full_lease() -> None:
    engine = started()
    granted(engine, "a", 5, now=0.0)
    engine.disconnected("a", now=0.0)
    granted(engine, "a", 5, now=9.0)
    assert engine.expire(now=68.9).entries == ()
    assert len(engine.expire(now=69.0).entries) == 1


def test_a_gap_in_which_the_master_did_not_listen_ends_no_lease() -> None:
    engine = started()
    granted(engine, "a", now=0.0)
    engine.lengthen(300.0)
    assert engine.expire(now=359.9).entries == ()
    assert len(engine.expire(now=360.0).entries) == 1


def test_the_third_loss_is_an_outcome_that_the_model_never_sees() -> None:
    engine = started(ONE_BRACKET, algorithm="bohb")
    entries: tuple[Entry, ...] = ()
    for attempt in range(3):
        granted(engine, f"a{attempt}", now=100.0 * attempt)
        entries = engine.expire(now=100.0 * attempt + 60.0).entries
    record = entries[-1]
    assert isinstance(record, Recorded)
    assert record.outcome.failure is not None
    assert record.outcome.failure.kind is FailureKind.INFRASTRUCTURE
    assert engine.state.observed_at == 0
    assert len(finish(engine)) == 8 + 3 + 1


@pytest.mark.parametrize("kind", [HandBackKind.ORDERED, HandBackKind.REFUSED])
def test_handing_back_costs_no_attempt_of_the_limit_and_names_the_checkpoint(kind: HandBackKind) -> None:
    engine = started(max_attempts=1)
    for attempt in range(1, 6):
        grant = granted(engine, f"a{attempt}")
        assert grant.attempt == attempt
        (entry,) = engine.release(
            f"a{attempt}", grant.evaluation, attempt, "preempted", f"d{attempt}", now=0.0, kind=kind
        ).entries
        assert isinstance(entry, Released)
        assert entry.kind is kind
    assert granted(engine, "b").earlier == tuple((n, f"d{n}") for n in (5, 4, 3, 2, 1))


def test_the_third_hand_back_of_its_own_accord_is_an_outcome_that_the_model_never_sees() -> None:
    engine = started(ONE_BRACKET, algorithm="bohb")
    entries: tuple[Entry, ...] = ()
    for attempt in range(1, 4):
        grant = granted(engine, f"a{attempt}")
        entries = engine.release(
            f"a{attempt}", grant.evaluation, attempt, "a signal", None, now=0.0, kind=HandBackKind.UNORDERED
        ).entries
        assert len(entries) == (2 if attempt == 3 else 1)
        engine.validate()
    record = entries[-1]
    assert isinstance(record, Recorded)
    assert record.outcome.failure is not None
    assert record.outcome.failure.kind is FailureKind.INFRASTRUCTURE
    assert record.outcome.failure.reason == "lost 3 times, the last time because of: a signal"
    assert engine.state.observed_at == 0
    assert len(finish(engine)) == 8 + 3 + 1


def test_only_repeated_signals_whose_sender_had_ended_cost_attempts() -> None:
    engine = started(ONE_BRACKET, max_attempts=2)
    for attempt in range(1, 5):
        grant = granted(engine, f"a{attempt}")
        assert grant.attempt == attempt
        kind = HandBackKind.UNEXPLAINED
        engine.release(f"a{attempt}", grant.evaluation, attempt, "SIGTERM", None, now=0.0, kind=kind)
        assert engine.state.evaluations[grant.evaluation].lost == max(0, attempt - 2)
    (outcome,) = [each.outcome for each in engine.state.evaluations.values() if each.outcome is not None]
    assert outcome.failure is not None
    assert outcome.failure.reason == "lost 2 times, the last time because of: SIGTERM"


def test_losses_of_all_kinds_count_together_and_other_hand_backs_between_them_do_not() -> None:
    engine = started()
    grant = granted(engine, "a", now=0.0)
    engine.expire(now=60.0)
    for number, kind in enumerate((HandBackKind.ORDERED, HandBackKind.UNORDERED, HandBackKind.REFUSED)):
        grant = granted(engine, f"b{number}", now=60.0)
        engine.release(f"b{number}", grant.evaluation, grant.attempt, "x", None, now=60.0, kind=kind)
    evaluation = engine.state.evaluations[grant.evaluation]
    assert (evaluation.lost, evaluation.outcome) == (2, None)
    grant = granted(engine, "c", now=60.0)
    engine.report("c", failed(grant, FailureKind.INFRASTRUCTURE), now=60.0)
    assert evaluation.outcome is not None


def test_a_hand_back_of_a_journal_of_before_costs_no_attempt() -> None:
    engine = started(max_attempts=1)
    for attempt in range(1, 4):
        grant = granted(engine, "a", attempt)
        engine.apply(Released(evaluation=grant.evaluation, attempt=attempt, agent="a", reason="its trainer was"))
    assert granted(engine, "a", 4).attempt == 4


def test_what_is_not_held_cannot_be_handed_back() -> None:
    engine = started()
    grant = granted(engine, "a")
    assert engine.release("b", grant.evaluation, 1, "x", None, now=0.0).entries == ()
    assert engine.release("a", grant.evaluation, 2, "x", None, now=0.0).entries == ()
    assert engine.release("a", EvaluationId(ConfigId(9, 9, 9), 0), 1, "x", None, now=0.0).entries == ()


# ----------------------------------------------------------------------------------------------------------- reports


def test_the_first_report_counts_the_second_is_known_and_changes_nothing() -> None:
    engine = started()
    grant = granted(engine, "a")
    assert engine.report("a", loss(grant, 1.0), now=0.0).answer == "recorded"
    turn = engine.report("a", loss(grant, 2.0), now=0.0)
    assert (turn.answer, turn.entries) == ("known", ())


def test_a_report_under_an_expired_lease_counts_if_nothing_ended_the_evaluation() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.expire(now=60.0)
    assert engine.report("a", loss(grant, 1.0), now=61.0).answer == "recorded"
    assert granted(engine, "b").evaluation != grant.evaluation
    engine.validate()


def test_a_late_report_ends_what_another_agent_runs_and_stops_that_agent() -> None:
    engine = started()
    first = granted(engine, "a")
    engine.expire(now=60.0)
    second = granted(engine, "b", now=61.0)
    assert engine.report("a", loss(first, 1.0), now=62.0).answer == "recorded"
    assert isinstance(engine.renew("b", second.evaluation, 2, now=63.0).answer, Stop)
    turn = engine.report("b", loss(second, 2.0), now=64.0)
    assert turn.answer == "late"
    assert isinstance(turn.entries[0], LateReport)
    assert engine.report("b", loss(second, 2.0), now=65.0).answer == "known"
    assert engine.state.evaluations[first.evaluation].outcome == loss(first, 1.0).outcome
    engine.validate()


def test_an_attempt_that_was_lost_with_its_trainer_is_run_again_and_the_third_loss_is_the_end() -> None:
    engine = started()
    for attempt in range(1, 4):
        grant = granted(engine, f"a{attempt}")
        assert grant.attempt == attempt
        turn = engine.report(f"a{attempt}", failed(grant, FailureKind.INFRASTRUCTURE), now=0.0)
        assert turn.answer == "recorded"
        assert isinstance(turn.entries[0], Expired)
        assert turn.entries[0].kind is ExpiryKind.ATTEMPT_LOST
        assert "made up: infrastructure" in turn.entries[0].reason
    outcome = engine.state.evaluations[EvaluationId(ConfigId(0, 0, 0), 0)].outcome
    assert outcome is not None
    assert outcome.failure is not None
    assert "lost 3 times" in outcome.failure.reason
    engine.validate()


def test_a_loss_of_the_trainer_that_is_reported_twice_costs_one_attempt() -> None:
    engine = started()
    grant = granted(engine, "a")
    report = failed(grant, FailureKind.INFRASTRUCTURE)
    engine.report("a", report, now=0.0)
    again = granted(engine, "b")
    assert [engine.report("a", report, now=0.0).answer for _ in range(2)] == ["late", "known"]
    assert engine.state.held_by == {"b": again.evaluation}
    assert engine.state.evaluations[grant.evaluation].lost == 1


def test_a_report_of_a_stranger_is_not_believed() -> None:
    engine = started()
    grant = granted(engine, "a")
    turn = engine.report("b", loss(grant, -1e9), now=0.0)
    assert (turn.answer, turn.entries) == ("late", ())
    assert engine.best() is None


def test_report_and_next_lease_travel_in_one_exchange() -> None:
    engine = started()
    grant = granted(engine, "a", 0)
    turn = engine.exchange("a", 1, now=1.0, report=loss(grant, 1.0))
    assert turn.answer.report_is == "recorded"
    assert isinstance(turn.answer.answer, Granted)
    assert [type(entry) for entry in turn.entries] == [Recorded, Sampled, Leased]


def test_an_agent_that_takes_no_work_opens_and_samples_nothing_and_asks_again_after_a_heartbeat() -> None:
    engine = started(ONE_BRACKET)
    turn = engine.exchange("a", 1, now=0.0, hindrance="its disk is full")
    assert turn.entries == ()
    assert turn.answer.answer == Wait(seconds=engine.settings.heartbeat_s, reason="its disk is full")
    assert granted(engine, "a", 2).attempt == 1


def test_an_agent_that_takes_no_work_is_informed_of_the_end() -> None:
    engine = started(ONE_BRACKET)
    finish(engine)
    assert isinstance(engine.exchange("a", 1, now=0.0, hindrance="its disk is full").answer.answer, Done)


def test_a_report_of_an_agent_that_takes_no_work_counts() -> None:
    engine = started(ONE_BRACKET)
    grant = granted(engine, "a")
    turn = engine.exchange("a", 1, now=0.0, report=loss(grant, 1.0), hindrance="its disk is full")
    assert turn.answer.report_is == "recorded"
    assert isinstance(turn.answer.answer, Wait)


def test_an_exchange_without_a_wish_for_work_leases_nothing() -> None:
    engine = started()
    grant = granted(engine, "a", 0)
    turn = engine.exchange("a", 1, now=1.0, report=loss(grant, 1.0), want_lease=False)
    assert turn.answer.answer is None
    assert not engine.state.held_by


def test_the_grant_of_a_promoted_evaluation_names_the_checkpoint_of_the_rung_below() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        grant = granted(engine, "a", index)
        report = loss(grant, index)
        outcome = type(report.outcome)(loss=float(index), directory=f"dir{index}")
        engine.report("a", type(report)(evaluation=grant.evaluation, attempt=1, outcome=outcome), now=0.0)
    assert granted(engine, "b").previous_directory == "dir0"


# ------------------------------------------------------------------------------------------------------------ limits


def test_the_limit_of_evaluations_lets_the_running_ones_end() -> None:
    engine = started(Limits(evaluations=2))
    first, second = granted(engine, "a"), granted(engine, "b")
    waiting = engine.lease("c", 0, now=0.0).answer
    assert isinstance(waiting, Wait)
    assert "2 evaluations still run" in waiting.reason
    engine.report("a", loss(first, 1.0), now=0.0)
    engine.report("b", loss(second, 1.0), now=0.0)
    answer = engine.lease("c", 1, now=0.0).answer
    assert answer == Done(Finished(kind=FinishKind.LIMIT, reason="2 evaluations were started, which is the limit"))


def test_an_evaluation_that_was_lost_runs_again_although_the_limit_is_reached() -> None:
    engine = started(Limits(evaluations=1))
    grant = granted(engine, "a")
    engine.expire(now=60.0)
    assert granted(engine, "b", now=61.0).evaluation == grant.evaluation


def test_the_total_budget_is_never_exceeded() -> None:
    engine = started(Limits(total_budget=11.0))
    grants = finish(engine)
    assert [grant.budget for grant in grants] == [1.0] * 9
    assert engine.finished == Finished(kind=FinishKind.LIMIT, reason="the total budget of 11 is spent")


def test_the_wall_time_counts_earlier_masters_and_stops_what_runs() -> None:
    space = space_of()
    engine = engine_for(settings_for(space), space)
    engine.start(2, Limits(wall_time_s=100.0), now=1_000.0, spent_s=60.0)
    grant = granted(engine, "a", now=1_000.0)
    assert engine.renew("a", grant.evaluation, 1, now=1_039.0).answer == Keep()
    answer = engine.renew("a", grant.evaluation, 1, now=1_040.0).answer
    assert isinstance(answer, Stop)
    assert "wall time" in answer.reason
    assert isinstance(engine.lease("b", 0, now=1_040.0).answer, Done)


def test_the_target_loss_counts_at_the_highest_budget_alone() -> None:
    engine = started(Limits(target_loss=0.5), budgets=(1.0, 3.0))
    finish(engine, {f"0-0-{index}": 0.1 for index in range(3)})
    assert engine.finished == Finished(kind=FinishKind.TARGET, reason="the target loss of 0.5 is reached: 0.1")
    assert engine.state.best is not None
    assert engine.state.best.budget == 3.0


def test_no_more_than_max_concurrent_run_at_once() -> None:
    engine = started(Limits(max_concurrent=2))
    granted(engine, "a"), granted(engine, "b")
    answer = engine.lease("c", 0, now=0.0).answer
    assert isinstance(answer, Wait)
    assert "max_concurrent" in answer.reason


def test_a_wait_names_the_rung_and_what_is_missing() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        granted(engine, f"a{index}")
    answer = engine.lease("b", 0, now=0.0).answer
    assert isinstance(answer, Wait)
    assert "rung 0 of bracket 0: 9 of 9 missing" in answer.reason


def test_raised_limits_reopen_a_finished_search() -> None:
    engine = started(ONE_BRACKET)
    finish(engine)
    ended = engine.finished
    engine.start(2, Limits(brackets=2), now=0.0)
    assert (ended, engine.finished) == (Finished(kind=FinishKind.COMPLETE, reason="the one bracket is complete"), None)
    assert len(finish(engine)) == 3 + 1


def test_the_end_is_journalled_once() -> None:
    engine = started(Limits(evaluations=1))
    engine.report("a", loss(granted(engine, "a"), 1.0), now=0.0)
    first = engine.lease("a", 1, now=0.0).entries
    second = engine.lease("a", 2, now=0.0).entries
    assert [type(entry) for entry in first] == [Finished]
    assert second == ()


# ------------------------------------------------------------------------------------------------------------ replay


def test_after_a_replay_the_same_request_gets_the_same_grant_and_a_full_lease() -> None:
    space = space_of()
    settings = settings_for(space, algorithm="bohb")
    engine = engine_for(settings, space)
    entries = [*engine.start(1, Limits(), now=0.0).entries, *engine.lease("a", 3, now=0.0).entries]
    again = replayed(settings, entries, space=space)
    assert snapshot(again) == snapshot(engine)
    again.start(2, Limits(), now=5_000.0)
    assert again.expire(now=5_059.9).entries == ()
    assert again.lease("a", 3, now=5_059.9).answer == engine.lease("a", 3, now=50.0).answer
    without_messages = replayed(settings, entries, space=space)
    without_messages.start(2, Limits(), now=5_000.0)
    assert len(without_messages.expire(now=5_060.0).entries) == 1


@pytest.mark.parametrize("algorithm", ["bohb", "mfbo", "hyperband", "sh", "bo", "random"])
def test_an_interruption_at_any_point_changes_no_decision(algorithm: str) -> None:
    space = space_of()
    settings = settings_for(space, algorithm=algorithm, budgets=(1.0, 3.0))
    straight = engine_for(settings, space)
    entries: list[Entry] = []
    entries += straight.start(1, Limits(evaluations=40), now=0.0).entries
    broken = replayed(settings, entries, space=space)
    for request in range(40):
        turn = straight.lease("a", request, now=0.0)
        entries += turn.entries
        if request % 5 == 0:
            # The interrupted engine is discarded and rebuilt from the journal's entries.
            broken = replayed(settings, entries[: len(entries) - len(turn.entries)], space=space)
        assert broken.lease("a", request, now=0.0) == turn
        if not isinstance(turn.answer, Granted):
            break
        # x is a number.
        report = loss(turn.answer.grant, abs(float(turn.answer.grant.values["x"]) - 0.3))  # type: ignore[arg-type]
        turn_of_report = straight.report("a", report, now=0.0)
        entries += turn_of_report.entries
        assert broken.report("a", report, now=0.0) == turn_of_report
    assert snapshot(broken) == snapshot(straight)


# ------------------------------------------------------------------------------------------------------------ status


def test_the_status_says_what_each_agent_does_and_what_the_rungs_hold() -> None:
    engine = started(ONE_BRACKET)
    grant = granted(engine, "a", 0, now=0.0)
    granted(engine, "b", 0, now=10.0)
    engine.report("a", loss(grant, 0.25), now=20.0)
    status = engine.status(now=30.0)
    first = status.brackets[0].rungs[0]
    assert (first.places, first.done, first.running, first.best) == (9, 1, 1, 0.25)
    idle, busy = status.agents
    assert (idle.agent, idle.evaluation, idle.silent_s) == ("a", None, 10.0)
    assert (busy.agent, busy.evaluation, busy.lease_ends_in_s) == ("b", "0-0-1@0", 40.0)
    assert status.occupancy == 0.5
    assert status.incumbent is not None
    assert status.incumbent.loss == 0.25
    assert status.evaluations == Evaluations(started=2, recorded=1, running=1, to_run_again=0, late=0)


def test_checkpoints_of_configurations_that_are_out_are_named_once() -> None:
    engine = started(ONE_BRACKET)
    for index in range(9):
        engine.report("a", loss(granted(engine, "a", index), index), now=0.0)
    assert engine.take_discontinued() == [ConfigId(0, 0, index) for index in range(3, 9)]
    assert engine.take_discontinued() == []


# ------------------------------------------------------------------------------------------------------- infeasible


def test_what_is_refused_as_infeasible_is_charged_to_no_limit() -> None:
    limits = Limits(evaluations=3, total_budget=3.0)
    engine = started(limits)
    for request in range(5):
        engine.report("a", failed(granted(engine, "a", request), FailureKind.INFEASIBLE), now=0.0)
    assert engine.finished is None
    assert len(finish(engine)) == 3
    assert engine.state.budget_started == 3.0
