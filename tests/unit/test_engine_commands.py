"""Commands of users to a running search: cancel, pause, resume, stop, and repeat failed evaluations."""

from __future__ import annotations

import pytest

from hpbandster_lite.engine.decision_types import Done, Granted, Retried
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.limits import stopped_by_user
from hpbandster_lite.errors import InvariantBroken, UsageError
from hpbandster_lite.protocol.messages import Keep, Stop, Wait
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    FailureKind,
    Finished,
    FinishKind,
    LateReport,
    Limits,
    Origin,
    Paused,
    PutBack,
    Recorded,
    Resumed,
    Started,
)
from tests.engine_room import (
    ONE_BRACKET,
    engine_for,
    fail,
    failed,
    finish,
    granted,
    loss,
    replayed,
    settings_for,
    snapshot,
    space_of,
    started,
    traceback,
)

CODE, INVALID = FailureKind.CODE, FailureKind.INVALID


def kind_of(engine: Engine, evaluation: EvaluationId) -> FailureKind | None:
    outcome = engine.state.evaluations[evaluation].outcome
    return None if outcome is None or outcome.failure is None else outcome.failure.kind


# ------------------------------------------------------------------------------------------------------------ cancel


def test_a_cancelled_evaluation_ends_for_good_and_its_worker_stops_at_its_next_heartbeat() -> None:
    engine = started()
    grant = granted(engine, "a")
    turn = engine.cancel(grant.evaluation, reason="too dear")
    assert turn.answer.is_change
    assert [type(entry) for entry in turn.entries] == [Recorded]
    assert kind_of(engine, grant.evaluation) is FailureKind.CANCELLED
    assert engine.renew("a", grant.evaluation, 1, now=2.0).answer == Stop(reason="too dear")
    assert granted(engine, "b").evaluation != grant.evaluation
    engine.validate()


def test_a_cancelled_evaluation_fills_its_place_and_ranks_last() -> None:
    engine = started(ONE_BRACKET)
    first = granted(engine, "a")
    engine.cancel(first.evaluation)
    grants = finish(engine)
    assert [grant.budget for grant in grants] == [1.0] * 8 + [3.0] * 3 + [9.0]
    assert first.evaluation.config_id not in {grant.evaluation.config_id for grant in grants}


def test_the_model_never_sees_what_was_cancelled() -> None:
    engine = started(algorithm="bohb")
    engine.cancel(granted(engine, "a").evaluation)
    assert engine.state.observed_at == 0
    following = engine.lease("b", 0, now=0.0).entries[0]
    assert getattr(following, "basis", None) == 0


def test_a_report_of_what_was_cancelled_is_late_and_a_second_one_is_known() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.cancel(grant.evaluation)
    turn = engine.report("a", loss(grant, 0.0), now=1.0)
    assert (turn.answer, [type(entry) for entry in turn.entries]) == ("late", [LateReport])
    assert engine.report("a", loss(grant, 0.0), now=1.0).answer == "known"
    assert engine.best() is None


def test_an_evaluation_that_waits_to_be_run_again_can_be_cancelled() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.expire(now=60.0)
    engine.cancel(grant.evaluation)
    assert granted(engine, "b", now=61.0).evaluation != grant.evaluation
    engine.validate()


def test_a_promotion_that_no_agent_has_leased_can_be_cancelled_and_costs_nothing() -> None:
    engine = started(Limits(brackets=1, total_budget=9 + 2 * 3 + 9))
    for index in range(9):
        engine.report("a", loss(granted(engine, "a", index), index), now=0.0)
    second = EvaluationId(ConfigId(0, 0, 1), 1)
    engine.cancel(second)
    engine.validate()
    assert [str(grant.evaluation) for grant in finish(engine)] == ["0-0-0@1", "0-0-2@1", "0-0-0@2"]
    assert engine.state.budget_started == 9 + 2 * 3 + 9


def test_to_cancel_again_changes_nothing() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.cancel(grant.evaluation)
    turn = engine.cancel(grant.evaluation)
    assert (turn.answer.is_change, turn.entries) == (False, ())


def test_what_has_ended_or_never_was_cannot_be_cancelled() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.report("a", loss(grant, 0.5), now=0.0)
    with pytest.raises(UsageError, match=r"ended already, with the loss 0\.5"):
        engine.cancel(grant.evaluation)
    with pytest.raises(UsageError, match="no evaluation 9-0-0@0; hpbandster-lite list shows"):
        engine.cancel(EvaluationId(ConfigId(9, 0, 0), 0))
    with pytest.raises(UsageError, match="no evaluation 0-0-0@7"):
        engine.cancel(EvaluationId(ConfigId(0, 0, 0), 7))


# -------------------------------------------------------------------------------------------------- pause and resume


def test_a_paused_search_hands_out_nothing_and_lets_what_runs_end() -> None:
    engine = started()
    grant = granted(engine, "a")
    assert engine.pause(reason="maintenance").entries == (Paused(reason="maintenance"),)
    waiting = engine.lease("b", 0, now=0.0).answer
    assert isinstance(waiting, Wait)
    assert waiting.reason == (
        "paused (maintenance): nothing is handed out until it is resumed; 1 evaluation still runs"
    )
    assert engine.renew("a", grant.evaluation, 1, now=1.0).answer == Keep()
    assert engine.report("a", loss(grant, 1.0), now=2.0).answer == "recorded"
    assert engine.resume().entries == (Resumed(),)
    assert isinstance(engine.lease("b", 1, now=3.0).answer, Granted)


def test_a_pause_outlives_its_master() -> None:
    engine = started()
    entries = [Started(epoch=1, limits=Limits()), *engine.pause().entries]
    again = replayed(engine.settings, entries)
    again.start(2, Limits(), now=0.0)
    assert isinstance(again.lease("a", 0, now=0.0).answer, Wait)


def test_to_pause_or_resume_twice_changes_nothing() -> None:
    engine = started()
    assert engine.resume().entries == ()
    engine.pause()
    assert engine.pause().entries == ()
    engine.resume()
    assert engine.resume().entries == ()


def test_a_search_that_is_over_cannot_be_paused() -> None:
    engine = started(ONE_BRACKET)
    finish(engine)
    with pytest.raises(UsageError, match="the one bracket is complete"):
        engine.pause()


def test_a_paused_search_that_has_nothing_left_is_over_all_the_same() -> None:
    engine = started(Limits(evaluations=1))
    grant = granted(engine, "a")
    engine.pause()
    engine.report("a", loss(grant, 1.0), now=0.0)
    assert isinstance(engine.lease("a", 1, now=0.0).answer, Done)


# -------------------------------------------------------------------------------------------------------------- stop


def test_a_stopped_search_is_over_and_running_evaluations_are_called_back() -> None:
    engine = started()
    grant = granted(engine, "a")
    turn = engine.stop(reason="enough for today")
    assert turn.entries == (stopped_by_user("enough for today"),)
    assert engine.renew("a", grant.evaluation, 1, now=1.0).answer == Stop(
        reason="stopped by its user: enough for today"
    )
    assert engine.lease("b", 0, now=1.0).answer == Done(stopped_by_user("enough for today"))
    assert engine.stop(reason="again").entries == ()


def test_a_later_start_goes_on_with_what_was_handed_back() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.stop(reason="enough for today")
    engine.release("a", grant.evaluation, 1, "enough for today", "checkpoint", now=2.0)
    engine.start(2, Limits(), now=10.0)
    again = granted(engine, "b", now=10.0)
    assert (again.evaluation, again.earlier) == (grant.evaluation, ((1, "checkpoint"),))


def test_a_report_after_the_stop_counts() -> None:
    engine = started()
    grant = granted(engine, "a")
    engine.stop(reason="enough for today")
    assert engine.report("a", loss(grant, 1.0), now=1.0).answer == "recorded"
    assert engine.finished == stopped_by_user("enough for today")


# ------------------------------------------------------------------------------------------------------------- retry


def test_failures_of_a_rung_that_is_not_complete_are_run_again_and_everything_else_stays() -> None:
    engine = started(ONE_BRACKET)
    fail(engine, traceback(1), traceback(2))
    fail(engine, None, kind=INVALID, first=2)
    fail(engine, None, kind=FailureKind.MEMORY, first=3)
    engine.report("a", loss(granted(engine, "a", 4), 1.0), now=0.0)
    turn = engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True)
    failures = tuple(EvaluationId(ConfigId(0, 0, index), 0) for index in range(3))
    assert turn.answer == Retried(put_back=failures, others={FailureKind.MEMORY: 1})
    assert turn.entries[1:] == tuple(PutBack(evaluation=each) for each in failures)
    engine.validate()
    again = granted(engine, "b")
    assert (again.evaluation, again.attempt, again.earlier) == (failures[0], 2, ((1, None),))
    assert turn.answer.sentence == (
        "3 failed evaluations are run again; 1 is not, because memory is no fault of the code"
    )


def test_without_the_wish_nothing_is_put_back() -> None:
    engine = started(ONE_BRACKET)
    fail(engine, traceback())
    turn = engine.start(2, ONE_BRACKET, now=0.0)
    assert (turn.answer, len(turn.entries)) == (Retried(), 1)


def test_failures_that_others_were_promoted_over_stay_as_they_are() -> None:
    engine = started(ONE_BRACKET)
    fail(engine, traceback())
    for index in range(1, 9):
        engine.report("a", loss(granted(engine, "a", index), index), now=0.0)
    turn = engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True)
    assert turn.answer.put_back == ()
    assert turn.answer.decided == (EvaluationId(ConfigId(0, 0, 0), 0),)
    assert turn.answer.sentence == (
        "0 failed evaluations are run again; 1 is not (0-0-0@0): promotions were decided with that"
    )
    engine.validate()


def test_failures_above_which_fresh_configurations_were_sampled_stay_as_they_are() -> None:
    engine = started(ONE_BRACKET)
    fail(engine, *(traceback(line) for line in range(9)))
    assert str(granted(engine, "a", 9).evaluation) == "0-1-0@1"
    turn = engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True)
    assert (len(turn.answer.put_back), len(turn.answer.decided)) == (0, 9)
    assert "9 are not (0-0-0@0, 0-0-1@0, 0-0-2@0, 0-0-3@0, 0-0-4@0, ...): promotions" in turn.answer.sentence


def test_a_sample_above_that_proved_infeasible_was_a_decision_too() -> None:
    engine = started(ONE_BRACKET, budgets=(1.0, 3.0))
    fail(engine, *(traceback(line) for line in range(3)))
    fail(engine, None, kind=FailureKind.INFEASIBLE, first=3)
    assert engine.state.brackets[0].rungs[1].taken == 0
    assert engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True).answer.put_back == ()


def test_a_rung_above_that_an_exhausted_space_left_empty_was_a_decision_too() -> None:
    from ConfigSpace import Categorical

    engine = started(space=space_of(Categorical("c", ["a", "b", "c"])), budgets=(1.0, 3.0))
    fail(engine, *(traceback(line) for line in range(3)))
    assert isinstance(engine.lease("a", 3, now=0.0).answer, Done)
    assert engine.state.brackets[0].rungs[1].places == 0
    turn = engine.start(2, Limits(), now=0.0, retry_failed=True)
    assert (len(turn.answer.put_back), len(turn.answer.decided)) == (0, 3)
    engine.validate()


def test_a_rung_that_failed_as_a_whole_is_open_again_when_nothing_was_built_on_it() -> None:
    # Three places, three failures with one fault: the rung is complete, and the search stopped before it continued.
    engine = started(Limits(brackets=3), budgets=(1.0, 3.0))
    fail(engine, *[traceback()] * 3, misses="the module 'pandass'")
    assert engine.finished is not None
    assert [rung.is_open for rung in engine.state.brackets[0].rungs] == [True, True]
    turn = engine.start(2, Limits(brackets=1), now=0.0, retry_failed=True)
    assert len(turn.answer.put_back) == 3
    assert [rung.is_open for rung in engine.state.brackets[0].rungs] == [True, False]
    engine.validate()
    first, second = {"0-0-0": 2.0, "0-0-1": 1.0, "0-0-2": 3.0}, ["0-0-0@0", "0-0-1@0", "0-0-2@0", "0-0-1@1"]
    assert [str(grant.evaluation) for grant in finish(engine, first)] == second
    assert engine.finished == Finished(kind=FinishKind.COMPLETE, reason="the one bracket is complete")


def test_the_last_rung_decides_nothing_so_its_failures_are_run_again() -> None:
    engine = started(ONE_BRACKET, algorithm="random", budgets=(1.0, 3.0))
    places = engine_places(engine)
    fail(engine, *(traceback(line) for line in range(places)))
    assert isinstance(engine.lease("a", places, now=0.0).answer, Done)
    assert len(engine.take_discontinued()) == places
    turn = engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True)
    assert len(turn.answer.put_back) == places
    assert engine.state.discontinued == []
    engine.validate()
    assert len(finish(engine)) == places
    assert engine.best() is not None
    assert len(engine.take_discontinued()) == places


def engine_places(engine: Engine) -> int:
    granted(engine, "probe")
    held = engine.state.held_by["probe"]
    engine.release("probe", held, 1, "it was a probe", None, now=0.0)
    return engine.state.brackets[0].rungs[0].places


@pytest.mark.parametrize("algorithm", ["bohb", "bo", "hyperband", "sh", "random"])
def test_the_model_forgets_the_bad_results_that_are_run_again(algorithm: str) -> None:
    """Two searches with the same losses propose the same configurations, although one of them had failures before."""
    space = space_of()
    settings = settings_for(space, algorithm=algorithm, budgets=(1.0, 3.0, 9.0), sampler=model_only(algorithm))
    mended, spotless = engine_for(settings, space), engine_for(settings, space)
    for engine in (mended, spotless):
        engine.start(1, Limits(), now=0.0)
    grants = [granted(mended, f"a{index}") for index in range(5)]
    for index, grant in enumerate(grants):
        mended.report(f"a{index}", failed(grant, CODE, traceback(index)), now=0.0)
    mended.start(2, Limits(), now=0.0, retry_failed=True)
    granted_there = [granted(spotless, f"a{index}") for index in range(5)]
    for index, grant in enumerate(granted_there):
        again = granted(mended, f"b{index}")
        assert again.evaluation == grant.evaluation
        value = float(grant.values["x"])  # type: ignore[arg-type]  # x is a number
        mended.report(f"b{index}", loss(again, value), now=0.0)
        spotless.report(f"a{index}", loss(grant, value), now=0.0)
    ahead = [(granted(mended, f"c{index}"), granted(spotless, f"c{index}")) for index in range(3)]
    assert [one.values for one, _ in ahead] == [other.values for _, other in ahead]
    if algorithm == "bohb":
        assert Origin.MODEL in {mended.state.proposals[one.evaluation.config_id].origin for one, _ in ahead}


def model_only(algorithm: str) -> dict[str, float]:
    return {"random_fraction": 0.0} if algorithm in ("bohb", "bo") else {}


def test_what_was_put_back_is_journalled_and_replayed() -> None:
    engine = engine_for(settings_for(space_of()), space_of())
    entries: list[Entry] = [*engine.start(1, ONE_BRACKET, now=0.0).entries]
    for index in range(3):
        turn = engine.lease("a", index, now=0.0)
        assert isinstance(turn.answer, Granted)
        entries += turn.entries
        entries += engine.report("a", failed(turn.answer.grant, CODE, traceback()), now=0.0).entries
    entries += engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True).entries
    # The data of the sampler has changed, so the next proposal has another basis.
    assert isinstance(entries[-1], PutBack)
    assert engine.state.observed_at == len(entries)
    again = replayed(engine.settings, entries)
    assert snapshot(again) == snapshot(engine)
    assert again.lease("b", 0, now=0.0).entries == engine.lease("b", 0, now=0.0).entries


def test_an_entry_that_puts_back_what_it_may_not_is_refused() -> None:
    engine = started(ONE_BRACKET)
    engine.report("a", loss(granted(engine, "a"), 1.0), now=0.0)
    with pytest.raises(InvariantBroken, match="0-0-0@0 cannot be put back"):
        engine.apply(PutBack(evaluation=EvaluationId(ConfigId(0, 0, 0), 0)))


def test_an_old_report_of_a_put_back_evaluation_changes_nothing() -> None:
    engine = started(ONE_BRACKET)
    grant = granted(engine, "a")
    report = failed(grant, CODE, traceback())
    engine.report("a", report, now=0.0)
    engine.start(2, ONE_BRACKET, now=0.0, retry_failed=True)
    assert engine.report("a", report, now=0.0).answer == "known"
    assert engine.state.evaluations[grant.evaluation].outcome is None
