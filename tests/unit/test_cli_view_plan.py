"""The plan as a table, as a sentence and as plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpbandster_lite.cli.view.plan import plan_plain, plan_summary, plan_table
from hpbandster_lite.records import Limits, ProblemDescription, SearchSettings
from hpbandster_lite.settings.prepare import Prepared
from tests.rendered import text_of


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


def test_seconds_are_shown_in_hours_too_once_they_make_one() -> None:
    assert "72 seconds in all (8 times the full budget)" in plan_summary(prepared(unit="seconds", brackets=3))
    short = prepared(unit="seconds", brackets=3)
    long = replace(short, settings=replace(short.settings, budgets=(400.0, 1200.0, 3600.0)))
    assert "28800 seconds in all (8 hours; 8 times the full budget)" in plan_summary(long)


def test_the_plan_as_plain_values_has_what_the_table_has() -> None:
    assert plan_plain(prepared(brackets=2)) == {
        "problem": "digits",
        "options": {},
        "algorithm": "bohb",
        "maximize": False,
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
        "model": None,
        "notes": ["a note"],
    }
