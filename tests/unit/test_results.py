"""Results agree with the journal, while a search runs and after it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer, OrdinalHyperparameter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpbandster_lite.errors import JournalError, RunDirectoryError, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import (
    ConfigId,
    CurvePoint,
    EvaluationId,
    Failure,
    FailureKind,
    Finished,
    FinishKind,
    Leased,
    Limits,
    Origin,
    Outcome,
    Plain,
    ProblemDescription,
    Proposal,
    Recorded,
    Sampled,
    SearchSettings,
    Started,
    users_values,
)
from hpbandster_lite.results.result import Incumbent, Result
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.python_values import typed_values
from hpbandster_lite.space import SearchSpace, completed, configspace_to_json

SETTINGS = SearchSettings(
    run_id="digits-1",
    problem=ProblemDescription(
        reference="digits",
        name="digits",
        space_json={"hyperparameters": [{"name": "lr"}, {"name": "depth"}, {"name": "dropout"}]},
        space_tables={},
    ),
    budgets=(1.0, 3.0, 9.0),
    eta=3.0,
    unit="epochs",
    algorithm="bohb",
    bracket_rule="floor",
    seed=7,
    seed_was_given=True,
)


def sampled(number: int, origin: Origin = Origin.RANDOM, model_budget: float | None = None, **values: Plain) -> Sampled:
    proposal = Proposal(values=values, vector=(), origin=origin, model_budget=model_budget)
    return Sampled(config_id=ConfigId(0, 0, number), proposal=proposal, basis=0)


def recorded(number: int, loss: float | None, rung: int = 0, **more: Plain) -> Recorded:
    evaluation = EvaluationId(ConfigId(0, 0, number), rung)
    return Recorded(evaluation=evaluation, attempt=1, agent="agent", outcome=Outcome(loss=loss, **more))


def failed(number: int, kind: FailureKind, rung: int = 0) -> Recorded:
    failure = Failure(kind=kind, reason=f"it was {kind.value}", traceback="line 1", log_tail=("a", "b"))
    return recorded(number, None, rung, failure=failure)


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "digits")
    made.create()
    return made


@pytest.fixture
def journal(directory: RunDirectory) -> Iterator[Journal]:
    with Journal.open(directory.journal, create=SETTINGS) as opened:
        opened.begin_epoch()
        opened.commit([Started(epoch=1, limits=Limits(brackets=3))], at=100.0)
        yield opened


@pytest.fixture
def searched(journal: Journal) -> Journal:
    """A search of five configurations: three results at the lowest budget, a failure, and one that waits."""
    journal.commit(
        [
            sampled(0, lr=0.1, depth=2),
            sampled(1, Origin.MODEL, 1.0, lr=0.2, dropout=0.5),
            *[sampled(number, lr=0.3) for number in (2, 3, 4)],
            Leased(evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, agent="agent", request=1, worker="w"),
        ],
        at=101.0,
    )
    journal.commit([recorded(0, 0.5, duration_s=8.0, info={"weights": 12}, directory="evaluations/0")], at=110.0)
    journal.commit([recorded(1, 0.4, curve=(CurvePoint(1, 0.6, {"lr": 0.1}), CurvePoint(2, 0.4)))], at=120.0)
    journal.commit([recorded(2, 0.6), failed(3, FailureKind.CODE)], at=130.0)
    journal.commit(
        [recorded(0, 0.7, rung=1, directory="/elsewhere", curve=(CurvePoint(1, 0.9, {"acc": 0.2}),))], at=140.0
    )
    return journal


@pytest.fixture
def result(searched: Journal, directory: RunDirectory) -> Result:
    return Result(directory.path)


# --------------------------------------------------------------------------------------------------------- incumbent


def test_the_incumbent_has_the_lowest_loss_at_the_highest_budget(result: Result) -> None:
    assert result.incumbent == Incumbent(
        config_id=ConfigId(0, 0, 0),
        values={"lr": 0.1, "depth": 2},
        loss=0.7,
        budget=3.0,
        info={},
        directory=Path("/elsewhere"),
        origin="random",
        finished_at=140.0,
        elapsed_s=40.0,
        total_budget=7.0,
    )


def test_the_trajectory_holds_every_incumbent_in_its_time(result: Result) -> None:
    steps = [
        (step.config_id.index, step.budget, step.loss, step.elapsed_s, step.total_budget) for step in result.trajectory
    ]

    assert steps == [(0, 1.0, 0.5, 10.0, 1.0), (1, 1.0, 0.4, 20.0, 2.0), (0, 3.0, 0.7, 40.0, 7.0)]


def test_a_directory_of_an_incumbent_lies_in_the_run_directory(result: Result, directory: RunDirectory) -> None:
    assert [step.directory for step in result.trajectory] == [
        directory.path / "evaluations/0",
        None,
        Path("/elsewhere"),
    ]
    assert result.trajectory[0].info == {"weights": 12}


def test_before_any_loss_there_is_no_incumbent(journal: Journal, directory: RunDirectory) -> None:
    journal.commit([sampled(0), failed(0, FailureKind.MEMORY)], at=101.0)
    result = Result(directory.path)

    assert result.incumbent is None
    assert result.trajectory == []


def test_what_was_infeasible_cost_nothing(journal: Journal, directory: RunDirectory) -> None:
    ends = [failed(0, FailureKind.INFEASIBLE), failed(1, FailureKind.TIME_LIMIT), recorded(2, 0.5)]
    journal.commit([sampled(2), *ends], at=101.0)

    assert [step.total_budget for step in Result(directory.path).trajectory] == [2.0]


endings = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from([None, 0.1, 0.2, 0.3])),
    unique_by=lambda ending: ending[:2],
    min_size=1,
    max_size=12,
)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=endings)
def test_the_last_of_the_trajectory_is_the_incumbent_whatever_the_order(
    tmp_path: Path, order: list[tuple[int, int, float | None]]
) -> None:
    path = tmp_path / "journal.sqlite"
    path.unlink(missing_ok=True)
    with Journal.open(path, create=SETTINGS) as journal:
        journal.begin_epoch()
        journal.commit([Started(epoch=1, limits=Limits()), *[sampled(number) for number in range(6)]], at=0.0)
        for number, rung, loss in order:
            entry = failed(number, FailureKind.CODE, rung) if loss is None else recorded(number, loss, rung)
            journal.commit([entry], at=1.0)
    trajectory, best = Result(tmp_path).trajectory, JournalReader(path).best()

    ranks = [(-step.budget, step.loss, step.config_id) for step in trajectory]
    assert ranks == sorted(ranks, reverse=True)
    assert [(step.config_id, step.budget) for step in trajectory[-1:]] == (
        [] if best is None else [(best["config_id"], best["budget"])]
    )


# ------------------------------------------------------------------------------------------------------------ tables


def test_every_evaluation_is_a_row(result: Result) -> None:
    table = result.evaluations

    assert list(zip(table["config_id"], table["rung"], table["budget"], table["state"], strict=True)) == [
        ("0-0-0", 0, 1.0, "done"),
        ("0-0-0", 1, 3.0, "done"),
        ("0-0-1", 0, 1.0, "done"),
        ("0-0-2", 0, 1.0, "done"),
        ("0-0-3", 0, 1.0, "failed"),
        ("0-0-4", 0, 1.0, "queued"),
    ]
    first = table.iloc[0]
    assert first["duration_s"] == 8.0
    assert first["worker"] == "w"
    assert first["info"] == {"weights": 12}
    assert first["finished_at"] == pd.Timestamp(110, unit="s", tz="UTC")
    assert first["queued_at"] < first["started_at"]
    assert table["failure"].dropna().tolist() == ["code"]
    assert table["model_budget"].dropna().tolist() == [1.0]


def test_hyperparameters_are_columns_and_missing_where_they_are_inactive(result: Result) -> None:
    for table in (result.evaluations, result.configurations):
        assert [name for name in map(str, table) if name.startswith("config.")] == [
            "config.lr",
            "config.depth",
            "config.dropout",
        ]
        of_second = table[table["config_id"] == "0-0-1"].iloc[0]
        assert of_second["config.dropout"] == 0.5
        assert pd.isna(of_second["config.depth"])


def space_with_every_kind() -> ConfigurationSpace:
    """The child of each kind is active where ``root`` is ``on``."""
    root: Any = Categorical("root", ["on", "off"])
    children: dict[str, Any] = {
        "int": Integer("int", (1, 9)), "float": Float("float", (0.0, 1.0)), "flag": Categorical("flag", [True, False]),
        "text": Categorical("text", ["a", "b"]), "none": Categorical("none", ["a", None]),
        "mixed": Categorical("mixed", [1, "a"]), "count": OrdinalHyperparameter("count", [1, 2]),
        "rate": Categorical("rate", [0.5, 1.0]), "shape": Categorical("shape", [(3, 3), (5, 5)]),
    }  # fmt: skip
    space = ConfigurationSpace(space=[root, *children.values()])
    space.add([EqualsCondition(child, root, "on") for child in children.values()])
    return space


@pytest.fixture
def of_every_kind(tmp_path: Path) -> tuple[Result, list[dict[str, Any]], SearchSpace]:
    """A result of three configurations, as the objective gets them, and their space."""
    space = space_with_every_kind()
    compiled = SearchSpace.from_configspace(space)
    problem = replace(SETTINGS.problem, space_json=configspace_to_json(space), space_tables=compiled.to_json())
    on: dict[str, Any] = {
        "root": "on", "int": 3, "float": 0.5, "flag": True, "text": "a", "mixed": 1, "count": 2, "rate": 1.0,
        "shape": (3, 3),
    }  # fmt: skip
    values: list[dict[str, Any]] = [{"root": "off"}, {**on, "none": None}, {**on, "none": "a"}]
    made = RunDirectory(tmp_path / "kinds")
    made.create()
    with Journal.open(made.journal, create=replace(SETTINGS, problem=problem)) as opened:
        opened.begin_epoch()
        entries = [sampled(number, **each) for number, each in enumerate(values)]
        opened.commit([Started(epoch=1, limits=Limits(brackets=3)), *entries], at=100.0)
    return Result(made.path), values, compiled


DTYPES = {
    "root": "string", "int": "Int64", "float": "float64", "flag": "boolean", "text": "string", "none": "object",
    "mixed": "object", "count": "Int64", "rate": "float64", "shape": "object",
}  # fmt: skip


@pytest.mark.parametrize("name", DTYPES)
def test_a_column_has_a_type_with_a_missing_value_and_the_values_keep_theirs(
    name: str, of_every_kind: tuple[Result, list[dict[str, Any]], SearchSpace]
) -> None:
    result, values, _ = of_every_kind
    for table in (result.configurations, result.evaluations):
        column = table[f"config.{name}"]
        assert str(column.dtype) == DTYPES[name]
        inactive = [name not in each for each in values]
        assert [value is pd.NA or value != value for value in column] == inactive
        assert column.tolist()[1:] == [each[name] for each in values[1:]]


def test_the_exact_values_come_back_and_begin_another_search(
    of_every_kind: tuple[Result, list[dict[str, Any]], SearchSpace],
) -> None:
    result, values, space = of_every_kind
    assert result.configurations_as_dicts() == values
    assert [type(each) for each in result.configurations_as_dicts()[1].values()] == list(map(type, values[1].values()))
    table = result.configurations
    rows = [table, table.to_dict("records"), [row for _, row in table.iterrows()], result.configurations_as_dicts()]
    for given_rows in rows:
        initial = typed_values(SearchOptions, {"initial": given_rows})["initial"]
        found = completed(space, initial, np.random.default_rng)
        assert [users_values(each.values) for each in found] == values
        assert not any(each.note for each in found)


def test_a_metric_of_whole_numbers_stays_one_where_a_point_lacks_it(journal: Journal, directory: RunDirectory) -> None:
    journal.commit([sampled(0, lr=0.1)], at=101.0)
    curve = (CurvePoint(1, 0.5, {"n": 2**60 + 1}), CurvePoint(2, 0.4, {"acc": 0.5}))
    journal.commit([recorded(0, 0.4, curve=curve)], at=102.0)
    table = Result(directory.path).learning_curves
    assert (str(table["metric.n"].dtype), table["metric.n"].dropna().tolist()) == ("Int64", [2**60 + 1])
    assert str(table["metric.acc"].dtype) == "float64"


def test_every_configuration_is_a_row(result: Result) -> None:
    table = result.configurations

    assert table["config_id"].tolist() == [f"0-0-{number}" for number in range(5)]
    assert table["origin"].tolist() == ["random", "model", "random", "random", "random"]
    assert (table["sampled_at"] == pd.Timestamp(101, unit="s", tz="UTC")).all()


def test_learning_curves_are_one_long_table(result: Result) -> None:
    table = result.learning_curves

    assert list(table.columns) == ["config_id", "rung", "budget", "step", "loss", "metric.lr", "metric.acc"]
    assert table["config_id"].tolist() == ["0-0-1", "0-0-1", "0-0-0"]
    assert table["loss"].tolist() == [0.6, 0.4, 0.9]
    assert table["metric.acc"].dropna().tolist() == [0.2]
    curves = {key: curve["step"].tolist() for key, curve in table.groupby(["config_id", "rung"])}
    assert curves == {("0-0-1", 0): [1.0, 2.0], ("0-0-0", 1): [1.0]}


def test_failures_come_by_kind_with_their_story(result: Result, searched: Journal) -> None:
    searched.commit([failed(4, FailureKind.MEMORY), failed(1, FailureKind.CODE, rung=1)], at=150.0)

    assert list(result.failures) == ["code", "memory"]
    table = result.failures["code"]
    assert list(zip(table["config_id"], table["rung"], strict=True)) == [("0-0-1", 1), ("0-0-3", 0)]
    assert table["reason"].tolist() == ["it was code"] * 2
    assert table["traceback"].tolist() == ["line 1"] * 2
    assert table["log_tail"].tolist() == [["a", "b"]] * 2


def test_an_empty_search_has_empty_tables_with_all_columns(journal: Journal, directory: RunDirectory) -> None:
    result = Result(directory.path)

    assert len(result.evaluations) == len(result.configurations) == len(result.learning_curves) == 0
    assert {"loss", "config.lr", "info", "finished_at"} <= set(result.evaluations)
    assert {"step", "loss"} <= set(result.learning_curves)
    assert result.failures == {}


# ------------------------------------------------------------------------------------------------------ the search


def test_settings_limits_and_end_are_those_of_the_journal(result: Result, searched: Journal) -> None:
    assert result.settings == SETTINGS
    assert result.limits == Limits(brackets=3)
    assert (result.finished, result.finish_kind) == (None, None)
    searched.commit([Finished(kind=FinishKind.COMPLETE, reason="all brackets are done")], at=200.0)

    assert (result.finished, result.finish_kind) == ("all brackets are done", FinishKind.COMPLETE)


def test_a_result_in_a_notebook_says_what_matters(result: Result, searched: Journal, directory: RunDirectory) -> None:
    searched.commit([Finished(kind=FinishKind.COMPLETE, reason="all brackets are done")], at=200.0)

    assert repr(result) == (
        f"Result of digits-1 in {directory.path} (bohb, 1, 3, 9 epochs, seed 7)\n"
        "  evaluations  4 done, 1 failed (1 code), 0 running, 1 queued\n"
        "  incumbent    0-0-0: loss 0.7 at budget 3 with lr=0.1, depth=2\n"
        "  ended        all brackets are done"
    )


def test_a_result_before_the_first_loss_says_so(journal: Journal, directory: RunDirectory) -> None:
    assert "incumbent    none yet\n  ended        not yet" in repr(Result(directory.path))


def test_a_result_follows_a_search_that_runs(result: Result, searched: Journal) -> None:
    searched.commit([recorded(1, 0.3, rung=1)], at=150.0)

    assert result.incumbent is not None
    assert result.incumbent.config_id == ConfigId(0, 0, 1)
    assert len(result.evaluations) == 7


WRITER = """
import sys
from test_results import SETTINGS, Journal, Limits, Started, recorded, sampled
journal = Journal.open(sys.argv[1], create=SETTINGS)
journal.begin_epoch()
journal.commit([Started(epoch=1, limits=Limits())], at=1.0)
number = 0
while True:
    journal.commit([sampled(number, lr=0.1), recorded(number, 1.0 / (1 + number))], at=2.0)
    number += 1
    print(number, flush=True)
"""


def test_a_search_that_was_killed_has_all_its_results(directory: RunDirectory) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory.journal)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    ) as writer:
        assert writer.stdout is not None
        for _ in range(20):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        acknowledged = int((["20", *writer.stdout.read().split()])[-1])
    result = Result(directory.path)

    assert acknowledged <= len(result.evaluations) <= acknowledged + 1
    assert result.incumbent is not None
    assert result.incumbent.loss <= 1.0 / acknowledged


@pytest.mark.parametrize("given_path", [3, None, b"runs", ["runs"]], ids=repr)
def test_what_is_no_path_is_refused(given_path: Any) -> None:
    with pytest.raises(UsageError) as caught:
        Result(given_path)
    assert str(caught.value) == (
        f"run_directory must be the path of a run directory, got {given_path!r}; give for example 'runs/digits'"
    )


def test_a_directory_without_a_search_is_named(tmp_path: Path, directory: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match=r"digits holds no search; give the one .* for example runs/digits"):
        Result(directory.path)
    with pytest.raises(RunDirectoryError, match=r"nowhere does not exist; give the one"):
        Result(tmp_path / "nowhere")


def test_a_damaged_journal_is_an_error_of_the_journal(journal: Journal, directory: RunDirectory) -> None:
    journal.close()
    os.truncate(directory.journal, 5_000)

    with pytest.raises(JournalError, match="is truncated"):
        Result(directory.path)


def test_results_import_pandas_only_for_tables() -> None:
    code = "import sys, hpbandster_lite.results.result; sys.exit(len({'pandas', 'scipy', 'torch'} & {*sys.modules}))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
