"""The forecast of a search's end: its rule, case by case, and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.protocol.status import Agent, Bracket, Forecast, Status
from hpbandster_lite.records import Limits, ProblemDescription, SearchSettings
from hpbandster_lite.results.forecast import MOST_BRACKETS_AHEAD, Price, forecast, price
from hpbandster_lite.samplers import bracket_plan
from tests.statuses import a_bracket, a_rung, a_status, a_worker, counts

SETTINGS = SearchSettings(
    run_id="sleep-1",
    problem=ProblemDescription(reference="sleep", name="sleep", space_json={}, space_tables={}),
    budgets=(1.0, 3.0, 9.0),
    eta=3.0,
    unit="epochs",
    algorithm="bohb",
    bracket_rule="floor",
    seed=7,
    seed_was_given=True,
)
PLACES = {0: (9, 3, 1), 1: (3, 1), 2: (3,)}
"""One cycle: 20 evaluations, a budget of 27 + 18 + 27 = 72."""
MEAN_S = {1.0: 2.0, 3.0: 6.0, 9.0: 18.0}
"""Two seconds an epoch: the cycle takes one worker 144 s."""


def bracket(number: int, done: Sequence[int]) -> Bracket:
    rungs = bracket_plan(SETTINGS, number).rungs
    assert tuple(rung.places for rung in rungs) == PLACES[number]
    return a_bracket(
        number, *(a_rung(rung.budget, rung.places, count) for rung, count in zip(rungs, done, strict=True))
    )


def agent(evaluation: str | None = None, since_s: float | None = None, *, is_connected: bool = True) -> Agent:
    return a_worker("w", evaluation, since_s=since_s, is_connected=is_connected)


def status(*brackets: Bracket, workers: Any = 1, state: str = "running", **limits: Any) -> Status:
    return a_status(
        state=state,
        brackets=brackets,
        agents=(agent(),) * workers if isinstance(workers, int) else tuple(workers),
        evaluations=counts(sum(rung.done for each in brackets for rung in each.rungs)),
        limits=Limits(**limits),
    )


def time_left_s(now: Status, mean_s: Mapping[float, float] = MEAN_S, served_s: float = 0.0) -> float | None:
    return forecast(now, SETTINGS, mean_s, served_s).time_left_s


# ---------------------------------------------------------------------------------------------------------- the rule


def test_a_search_that_has_not_begun_comes_to_its_plan() -> None:
    assert forecast(status(brackets=3), SETTINGS, MEAN_S) == Forecast(evaluations=20, share=0.0, time_left_s=144.0)


def test_what_is_recorded_is_taken_off_time_and_added_to_the_share() -> None:
    now = status(bracket(0, (9, 3, 1)), bracket(1, (1, 0)), brackets=3)
    # 27 + 3 of 72 are recorded; 2 evaluations of 3 epochs and 4 of 9 are left.
    assert forecast(now, SETTINGS, MEAN_S) == Forecast(evaluations=20, share=30 / 72, time_left_s=2 * 6 + 4 * 18)


def test_the_work_is_shared_by_the_living_workers() -> None:
    assert time_left_s(status(brackets=3, workers=2)) == 72.0
    lost = agent("0-0-1@0", 3.0, is_connected=False)
    assert time_left_s(status(brackets=3, workers=[agent(), agent(), lost])) == pytest.approx(71.5, abs=0.5)


def test_no_number_of_workers_shortens_the_way_through_the_longest_bracket() -> None:
    assert time_left_s(status(brackets=3, workers=1000)) == 2 + 6 + 18


def test_the_brackets_are_used_again_after_one_cycle() -> None:
    assert time_left_s(status(brackets=6)) == 2 * 144


def test_a_running_evaluation_costs_what_is_left_of_it() -> None:
    last = status(bracket(0, (9, 3, 0)), brackets=1, workers=[agent("0-0-2@2", 15.0), agent()])
    assert time_left_s(last) == 3.0


def test_an_evaluation_that_takes_longer_than_the_others_did_is_expected_to_go_on() -> None:
    last = status(bracket(0, (9, 3, 0)), brackets=1, workers=[agent("0-0-2@2", 90.0)])
    assert time_left_s(last) == 90.0 - 18.0


def test_workers_that_are_silent_or_take_no_work_shorten_nothing() -> None:
    no_room = a_worker("full", hindrance="no room on its disk")
    silent = a_worker("stopped", is_silent=True, silent_s=60.0)
    assert time_left_s(status(brackets=3, workers=[agent(), no_room, silent])) == 144.0
    assert time_left_s(status(brackets=3, workers=[no_room, silent])) is None


def test_while_an_evaluation_may_hang_no_time_left_is_claimed() -> None:
    hangs = a_worker("w", "0-0-2@2", since_s=216.0, times_median=12.0)
    assert forecast(status(bracket(0, (9, 3, 0)), brackets=1, workers=[hangs]), SETTINGS, MEAN_S) == Forecast(
        evaluations=13, share=18 / 27, time_left_s=None
    )
    with_wall = status(bracket(0, (9, 3, 0)), brackets=1, wall_time_s=500.0, workers=[hangs])
    assert time_left_s(with_wall, served_s=300.0) == 200.0


def test_a_budget_without_results_costs_what_the_nearest_one_did_in_proportion() -> None:
    assert time_left_s(status(brackets=3), {1.0: 2.0}) == 144.0
    # 9 is nearer to 3 than to 1: overhead makes small evaluations expensive.
    assert time_left_s(status(bracket(0, (9, 3, 0)), brackets=1), {1.0: 5.0, 3.0: 7.0}) == 21.0


@given(
    done=st.tuples(st.integers(0, 9), st.integers(0, 3), st.integers(0, 1)),
    workers=st.integers(1, 40),
    mean_s=st.dictionaries(st.sampled_from([1.0, 3.0, 9.0]), st.floats(0.01, 1e5), min_size=1),
)
def test_more_workers_and_more_results_never_make_it_longer(
    done: tuple[int, int, int], workers: int, mean_s: dict[float, float]
) -> None:
    now = time_left_s(status(bracket(0, done), brackets=3, workers=workers), mean_s)
    more_workers = time_left_s(status(bracket(0, done), brackets=3, workers=workers + 1), mean_s)
    one_more = (min(9, done[0] + 1), *done[1:])
    more_done = time_left_s(status(bracket(0, one_more), brackets=3, workers=workers), mean_s)
    assert now is not None
    assert more_workers is not None
    assert more_done is not None
    assert 0 <= more_workers <= now
    assert 0 <= more_done <= now * (1 + 1e-12)


# ------------------------------------------------------------------------------------------------------------- limits


def test_a_limit_on_evaluations_cuts_the_order_of_the_brackets() -> None:
    # 9 of one epoch and 2 of three.
    assert forecast(status(evaluations=11), SETTINGS, MEAN_S) == Forecast(
        evaluations=11, share=0.0, time_left_s=9 * 2 + 2 * 6
    )


def test_a_limit_on_evaluations_goes_beyond_one_cycle() -> None:
    assert forecast(status(evaluations=29), SETTINGS, MEAN_S).time_left_s == 144 + 9 * 2


def test_a_total_budget_buys_whole_evaluations() -> None:
    now = forecast(status(total_budget=14.0), SETTINGS, MEAN_S)
    assert (now.evaluations, now.time_left_s) == (9 + 1, 9 * 2 + 6)


def test_a_total_budget_of_exactly_the_plan_buys_all_of_it() -> None:
    assert forecast(status(total_budget=72.0, brackets=3), SETTINGS, MEAN_S).evaluations == 20


def test_a_limit_that_is_passed_leaves_nothing() -> None:
    now = status(bracket(0, (9, 3, 1)), evaluations=5, brackets=3)
    assert forecast(now, SETTINGS, MEAN_S) == Forecast(evaluations=13, share=1.0, time_left_s=0.0)


def test_the_wall_time_ends_the_search_sooner_and_counts_earlier_masters() -> None:
    assert time_left_s(status(brackets=3, wall_time_s=100.0), served_s=40.0) == 60.0
    assert time_left_s(status(brackets=3, wall_time_s=1000.0), served_s=40.0) == 144.0
    assert time_left_s(status(brackets=3, wall_time_s=100.0), served_s=140.0) == 0.0


def test_a_limit_on_concurrency_leaves_workers_idle() -> None:
    assert time_left_s(status(brackets=3, workers=8, max_concurrent=2)) == 72.0


def test_a_search_that_ends_by_the_clock_alone_has_no_number_of_evaluations() -> None:
    now = forecast(status(wall_time_s=100.0), SETTINGS, MEAN_S, 30.0)
    assert now == Forecast(evaluations=None, share=None, time_left_s=70.0)


# ---------------------------------------------------------------------------------------------- without a forecast


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(status(target_loss=0.1), id="only a target loss"),
        pytest.param(status(evaluations=10**9), id="a limit beyond the horizon"),
        pytest.param(status(brackets=MOST_BRACKETS_AHEAD + 1), id="brackets beyond the horizon"),
    ],
)
def test_no_end_in_sight_is_not_made_up(now: Status) -> None:
    assert forecast(now, SETTINGS, MEAN_S) == Forecast(evaluations=None, share=None, time_left_s=None)


def test_without_workers_or_results_there_is_a_number_but_no_time() -> None:
    for now, mean_s in ((status(brackets=3, workers=0), MEAN_S), (status(brackets=3), {})):
        assert forecast(now, SETTINGS, mean_s) == Forecast(evaluations=20, share=0.0, time_left_s=None)


def test_a_search_that_is_over_has_no_time_left_whatever_its_plan_was() -> None:
    now = status(bracket(0, (9, 3, 1)), brackets=3, state="finished")
    assert forecast(now, SETTINGS, MEAN_S) == Forecast(evaluations=13, share=1.0, time_left_s=None)


# --------------------------------------------------------------------------------------------------------- the price


def priced(limits: Limits, *, continues: bool = True, workers: int = 1, unit_s: float = 1.0) -> Price:
    return price(None, SETTINGS, limits, seconds_per_unit=unit_s, continues=continues, workers=workers)


def test_the_price_of_a_bracket_is_that_of_every_unit_that_is_trained_anew() -> None:
    # 9 at 1, 3 at 3, 1 at 9: 9 + 3 * 2 + 6 if promotions continue, 9 + 9 + 9 if they begin from the start.
    assert priced(Limits(brackets=1)) == Price(
        evaluations=13, budget=27.0, worker_s=21.0, wall_s=21.0, is_one_cycle=False
    )
    assert priced(Limits(brackets=1), continues=False, unit_s=2.0).worker_s == 54.0


def test_many_workers_wait_for_the_longest_bracket() -> None:
    assert priced(Limits(brackets=1), workers=3).wall_s == 9.0
    assert priced(Limits(brackets=1), workers=2).wall_s == 10.5
    assert priced(Limits(brackets=1, max_concurrent=2), workers=100).wall_s == 10.5


def test_limits_on_evaluations_and_budget_bound_the_price() -> None:
    assert priced(Limits(evaluations=5)).worker_s == 5.0
    assert priced(Limits(total_budget=12.0)).worker_s == 9.0 + 2.0


def test_a_search_without_such_a_limit_is_priced_for_one_cycle() -> None:
    now = priced(Limits(wall_time_s=60.0))
    assert now.is_one_cycle
    assert now.evaluations == priced(Limits(brackets=3)).evaluations
