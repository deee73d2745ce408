"""Tables of names and values."""

from __future__ import annotations

from typing import Any

from hpbandster_lite.cli.view.tables import figures_table, values_table
from tests.rendered import text_of


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


def test_records_of_folds_do_not_widen_the_table() -> None:
    folds: Any = [{"loss": 1.5, "seed": 1}, {"loss": 2.5, "seed": 2}]
    assert text_of(figures_table({"validation": {"folds": folds, "rungs": [1, 2]}})) == [
        "       validation",
        "folds  2 records",
        "rungs  1, 2",
    ]
