"""The results of a search, from its run directory, while it runs or after its end.

Law of this file: it reads the journal's tables and changes nothing; each property shows the moment at which it is read.
pandas is imported by the properties that return tables, and nowhere else in the package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.hyperband.ranking import IncumbentKey, incumbent_key
from hpbandster_lite.journal import ConfigurationRow, Ending, EvaluationRow, JournalReader, source_of_row
from hpbandster_lite.records import (
    ConfigId,
    EvaluationId,
    FailureKind,
    FinishKind,
    Limits,
    Outcome,
    Plain,
    SearchSettings,
    users_values,
    with_tuples,
)
from hpbandster_lite.records.decorator import record
from hpbandster_lite.results.users_sign import best_row, evaluation_rows, limits_of, outcomes, users_outcome
from hpbandster_lite.rundir import RunDirectory

if TYPE_CHECKING:
    from pandas import DataFrame, Series


_INACTIVE = object()
_DTYPES = {bool: "boolean", int: "Int64", str: "string"}
"""Types of pandas that have a missing value, for columns of values of one type."""


@record(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best configuration at a moment of a search.

    Attributes
    ----------
    config_id
        Its id: bracket, rung at which it was sampled, index.
    values
        Its active hyperparameters.
    loss, budget
        Its loss, and the budget of that evaluation.
    info
        What the objective returned beside the loss.
    directory
        Directory of that attempt, with its checkpoint if that was kept; ``None`` if the attempt made none.
    origin
        ``default``, ``initial``, ``random`` or ``model``.
    finished_at
        Unix time at which the result was recorded.
    elapsed_s
        Seconds since the start of the search, including time without a master.
    total_budget
        Budget of all evaluations recorded so far, including this one; infeasible configurations cost nothing.
    """

    config_id: ConfigId
    values: Mapping[str, Any]
    loss: float
    budget: float
    info: Mapping[str, Plain]
    directory: Path | None
    origin: str
    finished_at: float
    elapsed_s: float
    total_budget: float


class Result:
    """Results of one search.

    Parameters
    ----------
    run_directory
        The directory that ``hpbandster-lite run`` printed; the search in it may still be running.

    Raises
    ------
    UsageError
        If it is not a path.
    RunDirectoryError
        If there is no such directory, or no journal in it.
    JournalError
        If the journal cannot be read; from each property, too.
    """

    def __init__(self, run_directory: str | os.PathLike[str]) -> None:
        given: object = run_directory
        if not isinstance(given, str | os.PathLike):
            raise UsageError(
                f"run_directory must be the path of a run directory, got {given!r:.100}; give for example 'runs/digits'"
            )
        self._directory = RunDirectory(run_directory)
        if not self._directory.journal.exists():
            what = "holds no search" if self._directory.path.is_dir() else "does not exist"
            raise RunDirectoryError(
                f"the run directory {self._directory.path} {what}; "
                "give the one that the search printed at its start, for example runs/digits"
            )
        self._reader = JournalReader(self._directory.journal)

    @property
    def run_directory(self) -> Path:
        """The run directory."""
        return self._directory.path

    @property
    def settings(self) -> SearchSettings:
        """The settings that define the search."""
        return self._reader.settings()

    @property
    def limits(self) -> Limits:
        """The limits of its newest start."""
        return limits_of(self._reader)

    @property
    def finished(self) -> str | None:
        """Why the search ended, for people; ``None`` if it has not."""
        finished = self._reader.finished()
        return None if finished is None else finished.reason

    @property
    def finish_kind(self) -> FinishKind | None:
        """Why the search ended, for programs; ``None`` if it has not."""
        finished = self._reader.finished()
        return None if finished is None else finished.kind

    @property
    def incumbent(self) -> Incumbent | None:
        """The best configuration at the highest budget evaluated so far; ``None`` before any loss.

        It has the lowest loss, or the highest if the search maximizes: every ``loss`` of a result has the sign of what
        the objective returns.
        """
        steps = list(_improvements(self._reader.endings()))
        return self._incumbent(*steps[-1]) if steps else None

    @property
    def trajectory(self) -> list[Incumbent]:
        """All incumbents, oldest first; the last one is :attr:`incumbent`.

        The first result at a higher budget is a new incumbent, even with a worse loss: losses at different budgets are
        not comparable.
        """
        return [self._incumbent(*step) for step in _improvements(self._reader.endings())]

    @property
    def evaluations(self) -> DataFrame:
        """One row per evaluation, by config id and rung, including queued and running ones.

        Columns: ``config_id`` (text such as 0-0-3), ``bracket``, ``rung``, ``budget``, ``state`` (queued, running,
        done, failed), ``attempt``, ``worker``, ``agent``, ``queued_at``, ``leased_at``, ``started_at``,
        ``finished_at`` (UTC), ``duration_s``, ``loss``, ``failure`` (its kind), ``reason``, ``origin``,
        ``model_budget``, ``directory``, ``source`` (1, or more after accepted edits of the source), ``info`` (a dict),
        and ``config.<name>`` for each hyperparameter: whole numbers as Int64, and missing (NA, or NaN for a float)
        where it is inactive, which differs from a choice None.
        """
        rows = evaluation_rows(self._reader)
        ends = outcomes(self._reader)
        # Read last, so that it has the configuration of each evaluation.
        configurations = {row["config_id"]: row for row in self._reader.configurations()}
        of_each = [configurations[row["config_id"]] for row in rows]
        ended = [ends.get(EvaluationId(row["config_id"], row["rung"])) for row in rows]
        columns: dict[str, Any] = {
            "config_id": [str(row["config_id"]) for row in rows],
            "bracket": [row["config_id"].bracket for row in rows],
        }
        for name in ("rung", "budget", "state", "attempt", "worker", "agent"):
            columns[name] = _column(rows, name)
        for name in ("queued_at", "leased_at", "started_at", "finished_at"):
            columns[name] = _times(_column(rows, name))
        columns["duration_s"] = _numbers([_duration_s(row) for row in rows])
        columns["loss"] = _numbers(_column(rows, "loss"))
        for name in ("failure", "reason"):
            columns[name] = _column(rows, name)
        columns |= self._sampled_columns(of_each)
        columns["directory"] = _column(rows, "directory")
        edits = self._reader.source_edits()
        columns["source"] = [source_of_row(row, edits) for row in rows]
        columns["info"] = [None if outcome is None else dict(outcome.info) for outcome in ended]
        return _table(columns | self._hyperparameters(of_each))

    @property
    def configurations(self) -> DataFrame:
        """One row per configuration, by config id.

        Columns: ``config_id``, ``bracket``, ``origin``, ``model_budget`` (the budget whose model proposed it),
        ``sampled_at`` (UTC), and ``config.<name>`` for each hyperparameter.
        """
        rows = self._reader.configurations()
        columns = {
            "config_id": [str(row["config_id"]) for row in rows],
            "bracket": [row["config_id"].bracket for row in rows],
            **self._sampled_columns(rows),
            "sampled_at": _times([row["sampled_at"] for row in rows]),
        }
        return _table(columns | self._hyperparameters(rows))

    def configurations_as_dicts(self) -> list[dict[str, Any]]:
        """The values of each configuration, in the order of :attr:`configurations`, exactly as the objective gets them.

        ``minimize(initial=...)`` accepts them, too.
        """
        return [users_values(row["values"]) for row in self._reader.configurations()]

    @property
    def learning_curves(self) -> DataFrame:
        """One row per point of ``trial.report``, of all completed evaluations in the order of completion.

        Columns: ``config_id``, ``rung``, ``budget``, ``step``, ``loss`` and ``metric.<name>``. The long form suits
        plotting; ``result.learning_curves.groupby(["config_id", "rung"])`` gives one curve at a time.
        """
        budgets = {ending.evaluation: ending.budget for ending in self._reader.endings()}
        points = [
            (evaluation, point)
            for evaluation, outcome in outcomes(self._reader).items()
            if evaluation in budgets
            for point in outcome.curve
        ]
        metrics = dict.fromkeys(chain.from_iterable(point.metrics for _, point in points))
        return _table(
            {
                "config_id": [str(evaluation.config_id) for evaluation, _ in points],
                "rung": [evaluation.rung for evaluation, _ in points],
                "budget": _numbers([budgets[evaluation] for evaluation, _ in points]),
                "step": _numbers([point.step for _, point in points]),
                "loss": _numbers([point.loss for _, point in points]),
                **{f"metric.{name}": _nullable([point.metrics.get(name) for _, point in points]) for name in metrics},
            }
        )

    @property
    def failures(self) -> dict[str, DataFrame]:
        """The failed evaluations by kind: code, invalid, memory, time_limit, infeasible, infrastructure.

        Each table has the columns ``config_id``, ``rung``, ``budget``, ``attempt``, ``worker``, ``finished_at`` (UTC),
        ``reason``, ``traceback``, ``log_tail`` (a list of lines) and ``directory``; kinds without a failure are absent.
        """
        rows = evaluation_rows(self._reader, ["failed"])
        ends = outcomes(self._reader)
        kinds = [kind.value for kind in FailureKind if any(row["failure"] == kind.value for row in rows)]
        return {kind: _failures([row for row in rows if row["failure"] == kind], ends) for kind in kinds}

    def __repr__(self) -> str:
        settings, reader = self.settings, self._reader
        rungs, failures, best = reader.rungs(), reader.failures(), best_row(reader)
        states = ("done", "failed", "running", "queued")
        counts = {state: sum(_column(rungs, state)) for state in states}
        kinds = ", ".join(f"{count} {kind}" for kind, count in failures.items())
        counted = [
            f"{counts[state]} {state}" + (f" ({kinds})" if state == "failed" and kinds else "") for state in states
        ]
        how = f"{settings.algorithm}, maximize" if settings.maximize else settings.algorithm
        lines = [
            f"Result of {settings.run_id} in {self.run_directory} ({how}, "
            f"{', '.join(f'{budget:g}' for budget in settings.budgets)} {settings.unit}, seed {settings.seed})",
            f"  evaluations  {', '.join(counted)}",
            "  incumbent    " + ("none yet" if best is None else self._line(best)),
            f"  ended        {self.finished or 'not yet'}",
        ]
        return "\n".join(lines)

    def _line(self, best: EvaluationRow) -> str:
        values = users_values(self._reader.configuration(best["config_id"])["values"])
        shown = ", ".join(
            f"{name}={value:g}" if type(value) is float else f"{name}={value}" for name, value in values.items()
        )
        word = word_for(maximize=self.settings.maximize)
        return f"{best['config_id']}: {word} {best['loss']:g} at budget {best['budget']:g} with {shown}"

    def _incumbent(self, ending: Ending, total_budget: float) -> Incumbent:
        configuration = self._reader.configuration(ending.evaluation.config_id)
        outcome = users_outcome(self._reader.outcome(ending.position), maximize=self.settings.maximize)
        began_at = self._reader.masters()[0]["started_at"]
        if outcome.loss is None or began_at is None:
            raise RunDirectoryError(f"the journal of {self.run_directory} contradicts itself at {ending.position}")
        return Incumbent(
            config_id=ending.evaluation.config_id,
            values=users_values(configuration["values"]),
            loss=outcome.loss,
            budget=ending.budget,
            info=outcome.info,
            # A relative directory is in the run directory.
            directory=None if outcome.directory is None else self.run_directory / outcome.directory,
            origin=configuration["origin"],
            finished_at=ending.finished_at,
            elapsed_s=ending.finished_at - began_at,
            total_budget=total_budget,
        )

    def _hyperparameters(self, rows: Sequence[ConfigurationRow]) -> dict[str, Any]:
        problem = self.settings.problem
        dimensions = problem.space_tables.get("dimensions", ())
        possible = {each["name"]: each["choices"] or [each["lower"]] for each in dimensions}
        names = [item["name"] for item in problem.space_json.get("hyperparameters", [])]
        names = list(dict.fromkeys(chain(names, chain.from_iterable(row["values"] for row in rows))))
        found = {name: [with_tuples(row["values"].get(name, _INACTIVE)) for row in rows] for name in names}
        return {f"config.{name}": _nullable(values, possible.get(name)) for name, values in found.items()}

    def _sampled_columns(self, rows: Sequence[ConfigurationRow]) -> dict[str, Any]:
        return {
            "origin": [row["origin"] for row in rows],
            "model_budget": _numbers([row["model_budget"] for row in rows]),
        }


def _improvements(endings: Sequence[Ending]) -> Iterator[tuple[Ending, float]]:
    """Each evaluation that became the incumbent, with the total budget up to it."""
    best: IncumbentKey | None = None
    total = 0.0
    for ending in endings:
        if ending.failure != FailureKind.INFEASIBLE.value:
            total += ending.budget
        if ending.loss is None:
            continue
        key = incumbent_key(ending.budget, ending.loss, ending.evaluation.config_id)
        if best is None or key < best:
            best = key
            yield ending, total


def _duration_s(row: EvaluationRow) -> float | None:
    started_at, finished_at = row["started_at"], row["finished_at"]
    return None if started_at is None or finished_at is None else finished_at - started_at


def _failures(rows: Sequence[EvaluationRow], outcomes: Mapping[EvaluationId, Outcome]) -> DataFrame:
    failures = [outcomes[EvaluationId(row["config_id"], row["rung"])].failure for row in rows]
    return _table(
        {
            "config_id": [str(row["config_id"]) for row in rows],
            **{name: _column(rows, name) for name in ("rung", "budget", "attempt", "worker")},
            "finished_at": _times(_column(rows, "finished_at")),
            "reason": [None if failure is None else failure.reason for failure in failures],
            "traceback": [None if failure is None else failure.traceback for failure in failures],
            "log_tail": [[] if failure is None else list(failure.log_tail) for failure in failures],
            "directory": _column(rows, "directory"),
        }
    )


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


def _table(columns: Mapping[str, Any]) -> DataFrame:
    import pandas as pd

    return pd.DataFrame(dict(columns))


def _nullable(values: Sequence[Any], possible: Sequence[Any] | None = None) -> Series[Any]:
    """A column of a type that has a missing value: NaN for floats, else NA.

    Parameters
    ----------
    values
        ``_INACTIVE`` where there is none; without ``possible`` also None.
    possible
        The choices of a hyperparameter, or a value of a number; by default those that are there.
    """
    import pandas as pd

    is_missing = [value is _INACTIVE or (value is None and possible is None) for value in values]
    there = [value for value, missing in zip(values, is_missing, strict=True) if not missing]
    kinds = {with_tuples(value).__class__ for value in (there if possible is None else possible)}
    if float in kinds and kinds <= {int, float}:
        return _numbers([None if missing else value for value, missing in zip(values, is_missing, strict=True)])
    kept = [pd.NA if missing else value for value, missing in zip(values, is_missing, strict=True)]
    is_large = any(type(value) is int and not -(2**63) <= value < 2**63 for value in there)
    dtype = "object" if is_large or len(kinds) != 1 else _DTYPES.get(kinds.pop(), "object")
    return pd.Series(kept, dtype=dtype)


def _times(seconds: Sequence[float | None]) -> Series[Any]:
    import pandas as pd

    return pd.to_datetime(_numbers(seconds), unit="s", utc=True)


def _numbers(values: Sequence[float | None]) -> Series[Any]:
    import pandas as pd

    return pd.Series([math.nan if value is None else value for value in values], dtype="float64")
