"""The table of evaluations on a terminal and through a pipe."""

from __future__ import annotations

from typing import Any

from hpbandster_lite.cli.view.evaluations import evaluations_table
from hpbandster_lite.records import ConfigId
from tests.rendered import text_of


def row(index: int, rung: int = 0, **changed: Any) -> dict[str, Any]:
    fields = {
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
    return fields | changed


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
