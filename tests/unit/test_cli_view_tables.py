"""Words and tables for people: numbers, durations, the plan, lists of evaluations."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console, RenderableType

from hpbandster_lite.cli.view.evaluations import evaluations_table
from hpbandster_lite.cli.view.formats import amount, duration, number, rate, value_text
from hpbandster_lite.cli.view.plan import plan_plain, plan_summary, plan_table
from hpbandster_lite.cli.view.tables import figures_table, values_table
from hpbandster_lite.records import ConfigId, Limits, Plain, ProblemDescription, SearchSettings
from hpbandster_lite.settings.prepare import Prepared


def text_of(content: RenderableType, width: int = 100) -> list[str]:
    """Lines as they are printed, without the blanks at their ends."""
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(content)
    return [line.rstrip() for line in console.export_text().splitlines()]


def prepared(unit: str = "epochs", **limits: Any) -> Prepared:
    settings = SearchSettings(
        run_id="digits-1",
        problem=ProblemDescription(reference="digits", name="digits", space_json={}, space_tables={}),
        budgets=(1.0, 3.0, 9.0),
        eta=3.0,
        unit=unit,
        algorithm="bohb",
        bracket_rule="floor",
        seed=7,
        seed_was_given=True,
    )
    return Prepared(settings=settings, limits=Limits(**limits), resumed=False, notes=("a note",))


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "-"),
        (0.0, "0.0 s"),
        (8.24, "8.2 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (59.6, "1 min 00 s"),
        (119.7, "2 min 00 s"),
        (200.0, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
        (7199.0, "2 h 00 min"),
        (47 * 3600.0, "47 h 00 min"),
        (76 * 3600.0, "3 d 04 h"),
        (71.9 * 3600, "3 d 00 h"),
    ],
)
def test_a_duration_reads_as_a_person_says_it(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@given(st.floats(0, 1e8))
def test_no_part_of_a_duration_is_as_large_as_the_next_unit(seconds: float) -> None:
    parts = duration(seconds).split()
    told = dict(zip(parts[1::2], map(float, parts[::2]), strict=True))
    assert told.get("s", 0) < 60
    assert told.get("min", 0) < 60
    assert told.get("h", 0) < (24 if "d" in told else 48)
    value = sum(part * {"s": 1, "min": 60, "h": 3600, "d": 86400}[unit] for unit, part in told.items())
    assert value == pytest.approx(seconds, rel=0.05, abs=0.051)


@pytest.mark.parametrize(
    ("count", "seconds", "words"),
    [
        (305_000, 1000, "305 a second"),
        (25, 10, "2.5 a second"),
        (10, 60, "10 a minute"),
        (7, 3600 * 2, "3.5 an hour"),
        (5, 0, "-"),
    ],
)
def test_a_rate_is_told_in_a_unit_that_gives_at_least_one(count: int, seconds: float, words: str) -> None:
    assert rate(count, seconds) == words


@pytest.mark.parametrize(
    ("budget", "unit", "words"),
    [
        (9.0, "epochs", "9 epochs"),
        (1.0, "epochs", "1 epoch"),
        (1.0, "s", "1 s"),
        (10800.0, "seconds", "10800 seconds"),
        (1234567.0, "samples", "1234567 samples"),
        (0.5, "epochs", "0.5 epochs"),
        (9.0, "budget", "budget 9"),
    ],
)
def test_a_budget_is_told_with_its_unit(budget: float, unit: str, words: str) -> None:
    assert amount(budget, unit) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (0.1234567, "0.123457"),
        (True, "True"),
        (1_000_000, "1000000"),
        ("adam", "adam"),
        ([1, 0.5], "1, 0.5"),
        ({"a": 0.25, "b": [1]}, "a=0.25, b=1"),
    ],
)
def test_any_plain_value_is_said_in_few_characters(value: Plain, words: str) -> None:
    assert value_text(value) == words


def test_a_number_is_short_and_none_is_a_dash() -> None:
    assert (number(0.1234567), number(3.0), number(None), number(1234.5, 2)) == ("0.123457", "3", "-", "1.2e+03")


# -------------------------------------------------------------------------------------------------------------- plan


def test_a_plan_has_a_row_a_bracket_and_the_sums_below() -> None:
    assert text_of(plan_table(prepared(brackets=3))) == [
        "digits: bohb, eta 3",
        "bracket  1 epoch  3 epochs  9 epochs  epochs in all",
        "      0        9         3         1             27",
        "      1                  3         1             18",
        "      2                            3             27",
        "    all        9         6         5             72",
    ]


def test_a_plan_of_a_thousand_brackets_lists_the_first_and_sums_all() -> None:
    lines = text_of(plan_table(prepared(brackets=1000)))
    assert len(lines) == 2 + 30 + 2
    assert lines[-3:] == [
        "     29                            3             27",
        "... 999",
        "    all     3006      2001      1666          24003",
    ]


@pytest.mark.parametrize(
    ("limits", "ending"),
    [
        ({"brackets": 3}, "(8 times the full budget)"),
        (
            {"evaluations": 50, "wall_time_s": 600.0},
            "begun again until a limit ends the search; it ends at 50 evaluations, 10 min 00 s",
        ),
        (
            {"brackets": 3, "total_budget": 60.0, "target_loss": 0.25},
            "(8 times the full budget); it ends at a total budget of 60, a loss of 0.25",
        ),
    ],
)
def test_the_plan_in_a_sentence_says_what_else_ends_it(limits: dict[str, Any], ending: str) -> None:
    summary = plan_summary(prepared(**limits))
    assert summary.startswith("15 configurations, 20 evaluations, 72 epochs in all (8 times the full budget)")
    assert summary.endswith(ending)


def test_a_budget_without_a_unit_reads_as_a_sentence_too() -> None:
    assert "20 evaluations, budget 72 in all" in plan_summary(prepared(unit="budget", brackets=3))


def test_seconds_are_told_in_hours_too_once_they_make_one() -> None:
    assert "72 seconds in all (8 times the full budget)" in plan_summary(prepared(unit="seconds", brackets=3))
    told = prepared(unit="seconds", brackets=3)
    long = replace(told, settings=replace(told.settings, budgets=(400.0, 1200.0, 3600.0)))
    assert "28800 seconds in all (8 hours; 8 times the full budget)" in plan_summary(long)


def test_the_plan_as_plain_values_has_what_the_table_has() -> None:
    assert plan_plain(prepared(brackets=2)) == {
        "problem": "digits",
        "options": {},
        "algorithm": "bohb",
        "eta": 3.0,
        "unit": "epochs",
        "budgets": [1.0, 3.0, 9.0],
        "brackets": [
            {
                "bracket": 0,
                "rungs": [
                    {"budget": 1.0, "places": 9},
                    {"budget": 3.0, "places": 3},
                    {"budget": 9.0, "places": 1},
                ],
            },
            {"bracket": 1, "rungs": [{"budget": 3.0, "places": 3}, {"budget": 9.0, "places": 1}]},
        ],
        "configurations": 12,
        "evaluations": 17,
        "evaluations_per_budget": [9, 6, 2],
        "total_budget": 45.0,
        "notes": ["a note"],
    }


# --------------------------------------------------------------------------------------------------- list and values


def row(index: int, rung: int = 0, **changed: Any) -> dict[str, Any]:
    told = {
        "config_id": ConfigId(0, 0, index),
        "rung": rung,
        "budget": 3.0**rung,
        "state": "done",
        "attempt": 1,
        "worker": "node-0",
        "leased_at": 100.0,
        "finished_at": 108.0,
        "loss": 0.25,
        "failure": None,
        "reason": None,
    }
    return told | changed


def test_a_list_has_one_line_an_evaluation() -> None:
    rows = [row(0), row(0, 1, loss=0.125), row(1, state="running", finished_at=None, loss=None)]
    assert text_of(evaluations_table(rows, "epochs")) == [
        "evaluation    budget  state     loss   time  worker",
        "0-0-0@0      1 epoch  done      0.25  8.0 s  node-0",
        "0-0-0@1     3 epochs  done     0.125  8.0 s  node-0",
        "0-0-1@0      1 epoch  running      -      -  node-0",
    ]


def test_attempts_and_reasons_have_a_column_where_there_are_any() -> None:
    reason = "evaluate returned 'good' [sic]"
    failed: dict[str, Any] = {"state": "failed", "failure": "invalid", "loss": None, "reason": reason}
    assert text_of(evaluations_table([row(0), row(1, attempt=2, **failed)], "epochs")) == [
        "evaluation   budget  state            loss   time  worker  attempt  reason",
        "0-0-0@0     1 epoch  done             0.25  8.0 s  node-0        1",
        "0-0-1@0     1 epoch  failed: invalid     -  8.0 s  node-0        2  evaluate returned 'good' [sic]",
    ]


def test_a_list_of_five_hundred_on_eighty_columns_folds_the_reasons_alone() -> None:
    reason = "RuntimeError: " + "the gradient is not finite " * 10
    rows = [row(index, state="failed", failure="code", loss=None, reason=reason) for index in range(500)]
    lines = text_of(evaluations_table(rows, "epochs"), 80)
    assert max(map(len, lines)) <= 80
    begun = [line for line in lines if not line.startswith(" ")]
    assert len(begun) == 1 + 500
    assert all("failed: code" in line and "8.0 s" in line and "node-0" in line for line in begun[1:])


def test_through_a_pipe_an_evaluation_is_one_line() -> None:
    reason = "RuntimeError: " + "the gradient is not finite " * 10
    rows = [row(index, state="failed", failure="code", loss=None, reason=reason) for index in range(500)]
    lines = text_of(evaluations_table(rows, "epochs"), 1000)
    assert len(lines) == 1 + 500
    assert all(line.endswith(reason.rstrip()) for line in lines[1:])


def test_thirty_hyperparameters_have_a_line_each() -> None:
    values = {f"a_hyperparameter_with_a_long_name_{index}": index / 7 for index in range(30)}
    lines = text_of(values_table("hyperparameter", values), 80)
    assert len(lines) == 31
    assert lines[1] == "a_hyperparameter_with_a_long_name_0   0"
    assert lines[30] == "a_hyperparameter_with_a_long_name_29  4.14286"


def test_names_and_values_are_no_markup() -> None:
    assert text_of(values_table("name", {"[bold]lr": "[red]"}))[1] == "[bold]lr  [red]"


def test_test_figures_stand_beside_those_of_the_validation() -> None:
    figures = {"validation": {"loss": 0.05, "error_percent": 4.5}, "test": {"error_percent": 5.25, "images": 360}}
    assert text_of(figures_table(figures)) == [
        "               validation  test",
        "loss           0.05        -",
        "error_percent  4.5         5.25",
        "images         -           360",
    ]
