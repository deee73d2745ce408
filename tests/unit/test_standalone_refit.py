"""The results of orders to refit and to export, and the printed learning curve."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from rich.console import Console

from hpbandster_lite.cli.typed_ids import read_configuration_id
from hpbandster_lite.cli.view.refit_report import CurveLines, introduce_refit
from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, FailureKind
from hpbandster_lite.standalone.trained import Took, time_taken
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.messages import TrainerEnded, TrainerInterrupted, TrainerOrder


def ended(directory: Path, call: Literal["refit", "export"], **hooks: Any) -> TrainerEnded:
    order = TrainerOrder(
        evaluation=EvaluationId(ConfigId(0, 0, 3), 2), attempt=1, values={"x": 1}, budget=9.0, max_budget=9.0,
        unit="epochs", seed=5, directory=str(directory / "refit"), call=call, file=str(directory / "out.txt"),
    )  # fmt: skip
    found: Any = SimpleNamespace(evaluate=None, **hooks)
    answer = run_objective(found, order, on_report=lambda point: False)
    assert isinstance(answer, TrainerEnded)
    return answer


def reason(answer: TrainerEnded) -> str:
    assert answer.failure is not None
    assert answer.failure.kind is FailureKind.INVALID
    return answer.failure.reason


def test_a_refit_is_called_as_evaluate_is_and_its_figures_are_the_information(tmp_path: Path) -> None:
    def refit(config: Any, budget: float, trial: Any) -> dict[str, Any]:
        (trial.directory / "m.bin").write_text("weights")
        return {"model": "m.bin", "found": [config, budget, trial.seed, trial.rung]}

    answer = ended(tmp_path, "refit", refit=refit)
    assert (answer.failure, answer.loss) == (None, None)
    assert answer.info == {"model": "m.bin", "found": [{"x": 1}, 9.0, 5, 2]}


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (0.5, "refit returned a float; return a mapping such as {'model'"),
        ({"test_error": 1.0}, "refit returned nothing under 'model'"),
        ({"model": 3}, "refit returned 3 under 'model'"),
        ({"model": "m.bin"}, "refit returned the model 'm.bin', but there is no such file"),
        ({"model": "m.bin", "test": {1}}, "test"),
    ],
)
def test_a_refit_must_leave_the_model_that_it_names(result: Any, words: str, tmp_path: Path) -> None:
    assert words in reason(ended(tmp_path, "refit", refit=lambda config, budget, trial: result))


def test_an_export_receives_the_place_of_the_model_and_the_file_to_write(tmp_path: Path) -> None:
    def export(directory: Path, file: Path) -> dict[str, Any]:
        file.write_text(directory.name)
        return {"largest_difference": 0.0}

    assert ended(tmp_path, "export", export=export).info == {"largest_difference": 0.0}
    assert (tmp_path / "out.txt").read_text() == "refit"


@pytest.mark.parametrize(
    ("result", "words"), [(None, "export returned a NoneType; return a mapping"), ({}, "returned without writing")]
)
def test_an_export_must_write_its_file(result: Any, words: str, tmp_path: Path) -> None:
    assert words in reason(ended(tmp_path, "export", export=lambda directory, file: result))


@pytest.mark.parametrize("call", ["refit", "export"])
def test_a_problem_without_the_function_says_so(call: Literal["refit", "export"], tmp_path: Path) -> None:
    assert reason(ended(tmp_path, call)) == f"the problem has no {call}"


def test_a_refit_is_interrupted_in_its_report(tmp_path: Path) -> None:
    order = TrainerOrder(
        evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, values={}, budget=1.0, max_budget=1.0, unit="epochs",
        seed=1, directory=str(tmp_path), call="refit",
    )  # fmt: skip
    found: Any = SimpleNamespace(evaluate=None, refit=lambda config, budget, trial: trial.report(1, 0.5))
    assert run_objective(found, order, on_report=lambda point: True) == TrainerInterrupted()


# --------------------------------------------------------------------------------------------------------- for people


def test_a_fast_curve_is_a_line_a_second_and_ends_with_its_last_point() -> None:
    now, printed = [0.0], list[str]()
    lines = CurveLines(printed.append, 9, "epochs", clock=lambda: now[0])
    for step in range(1, 8):
        lines.take(CurvePoint(step, 1 / step, {"error_percent": 50.0}))
        now[0] += 0.4
    lines.end()
    lines.end()
    assert [line.split(" ")[0] for line in printed] == ["1", "4", "7"]
    assert printed[1] == "4 of 9 epochs: loss 0.25, error_percent=50"


def test_a_slow_curve_is_shown_point_by_point() -> None:
    now, printed = [0.0], list[str]()
    lines = CurveLines(printed.append, 2, "epochs", clock=lambda: now[0])
    for step in (1, 2):
        lines.take(CurvePoint(step, 0.5))
        assert printed[-1] == f"{step} of 2 epochs: loss 0.5"
        now[0] += 1.5


@pytest.mark.parametrize("text", ["0-1-12", " 0-1-12@2 "])
def test_a_configuration_is_named_as_list_prints_it(text: str) -> None:
    assert read_configuration_id(text) == (0, 1, 12)


@pytest.mark.parametrize("text", ["7", "0-1", "a-b-c", "0-1-2-3", ""])
def test_what_names_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a configuration; give one as list prints it"):
        read_configuration_id(text)


@pytest.mark.parametrize(
    ("took", "is_resumed", "line"),
    [
        (
            Took(budget=27.0, seconds=110.0, factor=12.0),
            False,
            "it takes about 22 min 00 s: the search took 1 min 50 s for 27 epochs, and all the data takes 12 times as "
            "long",
        ),
        (
            Took(budget=9.0, seconds=40.0, factor=None),
            True,
            "it takes about 2 min 00 s, less what was trained before: the search took 40 s for 9 epochs, and more data "
            "takes longer",
        ),
    ],
)
def test_a_refit_says_before_it_begins_how_long_it_takes(took: Took, is_resumed: bool, line: str) -> None:
    refit: Any = SimpleNamespace(
        evaluation=EvaluationId(ConfigId(0, 0, 3), 2), budget=27.0, unit="epochs", seed=5, is_resumed=is_resumed,
        figures=None, directory="/runs/x/refit", values={"x": 1}, took=took,
    )  # fmt: skip
    out = Console(record=True, file=StringIO(), width=100)
    introduce_refit(out, refit)
    assert line in out.export_text().splitlines()
    refit.took = replace(took, seconds=0.001)
    introduce_refit(out, refit)
    assert "it takes" not in out.export_text()


def evaluated(budget: float, seconds: float | None, info: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    row = {"config_id": ConfigId(0, 0, 3), "budget": budget, "loss": 0.5, "outcome": int(budget)}
    return row, SimpleNamespace(duration_s=seconds, info=info)


@pytest.mark.parametrize(
    ("found", "took"),
    [
        ([], None),
        ([evaluated(9.0, None, {})], None),
        # A training that began from its seed; one that continued; and one of which this is not known.
        (
            [evaluated(3.0, 5.0, {}), evaluated(9.0, 14.0, {"continued_from": 0.0, "refit_factor": 12})],
            Took(budget=9.0, seconds=14.0, factor=12),
        ),
        (
            [evaluated(3.0, 5.0, {}), evaluated(9.0, 9.0, {"continued_from": 3.0, "refit_factor": 0.5})],
            Took(budget=9.0, seconds=14.0, factor=0.5),
        ),
        (
            [evaluated(3.0, 5.0, {}), evaluated(9.0, 9.0, {"refit_factor": "x"})],
            Took(budget=9.0, seconds=14.0, factor=None),
        ),
    ],
)
def test_how_long_a_search_trained_a_configuration_is_in_its_journal(found: list[Any], took: Took | None) -> None:
    outcomes = {row["outcome"]: outcome for row, outcome in found}
    other = {"config_id": ConfigId(0, 0, 4), "budget": 9.0, "loss": 0.1, "outcome": 99}
    reader: Any = SimpleNamespace(evaluations=lambda: [*(row for row, _ in found), other], outcome=outcomes.get)
    assert time_taken(reader, ConfigId(0, 0, 3)) == took
