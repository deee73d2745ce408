"""What a refit needs of a search: a configuration, and how the search trained it; also as JSON, for another machine.

Law of this file: ``best --json`` writes everything that it has here, so that a refit of that file needs no journal and
trains what a refit of the run directory would.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.randomness import training_seed
from hpbandster_lite.records import ConfigId, Plain, ProblemOption, Values
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.samplers import bracket_plan

REFIT_FACTOR = "refit_factor"
"""Key of an evaluation's information: how many times as long a refit of its budget takes, with all the data."""


@record(frozen=True, slots=True, kw_only=True)
class Took:
    """How long the search trained a configuration, up to its highest budget.

    ``factor`` is the :data:`REFIT_FACTOR`, or None if the problem gives none.
    """

    budget: float
    seconds: float
    factor: float | None

    def refit_s(self, budget: float) -> float:
        """Estimate of the seconds of a refit."""
        return self.seconds * budget / self.budget * (self.factor or 1.0)


@record(frozen=True, slots=True, kw_only=True)
class Trained:
    """A configuration of a search, and what determines its training.

    ``took`` is how long the search trained it, if that is known. ``rungs`` are the budgets of its bracket, ``options``
    the shared options of the problem, ``arguments`` the hash of the script's arguments; ``directory`` is where the
    directories of refits are by default.
    """

    run_id: str
    reference: str
    options: tuple[ProblemOption, ...]
    config_id: ConfigId
    values: Values
    rungs: tuple[float, ...]
    budgets: tuple[float, ...]
    unit: str
    seed: int
    integer_budgets: bool
    maximize: bool
    arguments: str
    directory: Path
    took: Took | None = None


def trained_in(run: RunDirectory, wanted: ConfigId | None = None) -> Trained:
    """A configuration of a search; by default its incumbent.

    Raises
    ------
    UsageError
        If there is no such configuration, or none with a loss yet.
    """
    reader = JournalReader(run.journal)
    settings, source = reader.settings(), reader.source()
    config_id, values = _configuration(reader, wanted, run.path)
    return Trained(
        run_id=settings.run_id,
        reference=settings.problem.reference,
        options=tuple(each for each in settings.problem.options if not each.is_local),
        config_id=config_id,
        values=values,
        rungs=tuple(rung.budget for rung in bracket_plan(settings, config_id.bracket).rungs),
        budgets=settings.budgets,
        unit=settings.unit,
        seed=training_seed(settings.seed, config_id),
        integer_budgets=settings.problem.integer_budgets,
        maximize=settings.maximize,
        arguments="" if source is None else source.arguments,
        directory=run.path / "refit",
        took=time_taken(reader, config_id),
    )


def time_taken(reader: JournalReader, config_id: ConfigId) -> Took | None:
    """How long a search trained a configuration, by the outcomes of its evaluations; None if none was measured."""
    rows = [row for row in reader.evaluations() if row["config_id"] == config_id and row["loss"] is not None]
    found = [(row["budget"], reader.outcome(row["outcome"])) for row in rows if row["outcome"] is not None]
    lasted = [(budget, outcome, outcome.duration_s) for budget, outcome in found if outcome.duration_s is not None]
    if not lasted:
        return None
    budget, outcome, seconds = max(lasted, key=lambda each: each[0])
    if outcome.info.get("continued_from") != 0:
        # It may have continued from the rungs below.
        seconds = math.fsum(each[2] for each in lasted)
    factor = outcome.info.get(REFIT_FACTOR)
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        factor = None
    return Took(budget=budget, seconds=seconds, factor=factor)


def _configuration(reader: JournalReader, wanted: ConfigId | None, path: Path) -> tuple[ConfigId, Values]:
    if wanted is None:
        best = reader.best()
        if best is None:
            word = word_for(maximize=reader.settings().maximize)
            raise UsageError(
                f"no evaluation in {path} has a {word} yet, so there is no incumbent to refit; wait for one, or give a "
                "configuration with --config"
            )
        wanted = best["config_id"]
    known = {row["config_id"]: row["values"] for row in reader.configurations()}
    if wanted not in known:
        where = shlex.quote(str(path))
        raise UsageError(f"there is no configuration {wanted} in {path}; see: hpbandster-lite list {where}")
    return wanted, known[wanted]


def trained_plain(trained: Trained) -> dict[str, Plain]:
    """What :func:`read_trained` reads, as plain values."""
    return {
        "run_id": trained.run_id,
        "run_directory": str(trained.directory.parent.absolute()),
        "reference": trained.reference,
        "options": {each.name: each.value for each in trained.options},
        "config_id": list(trained.config_id),
        "values": dict(trained.values),
        "rungs": list(trained.rungs),
        "budgets": list(trained.budgets),
        "unit": trained.unit,
        "seed": trained.seed,
        "integer_budgets": trained.integer_budgets,
        "maximize": trained.maximize,
        "arguments": trained.arguments,
        "took": None if trained.took is None else [trained.took.budget, trained.took.seconds, trained.took.factor],
    }


_FIELDS: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "run_id": (str, "text"),
    "run_directory": (str, "text"),
    "reference": (str, "text"),
    "options": (dict, "an object"),
    "config_id": (list, "a list of three numbers"),
    "values": (dict, "an object"),
    "rungs": (list, "a list of numbers"),
    "budgets": (list, "a list of numbers"),
    "unit": (str, "text"),
    "seed": (int, "a whole number"),
    "integer_budgets": (bool, "true or false"),
    "maximize": (bool, "true or false"),
    "arguments": (str, "text"),
}


def read_trained(file: Path, wanted: ConfigId | None = None) -> Trained:
    """The configuration in a file that ``best --json`` printed.

    Raises
    ------
    UsageError
        If the file cannot be read, was not printed by ``best --json``, or has another configuration.
    """
    try:
        content: Any = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _no_output(file, str(error)) from error
    if not isinstance(content, dict):
        raise _no_output(file, "it holds no configuration")
    for name, (kind, words) in _FIELDS.items():
        if name not in content:
            raise _no_output(file, f"it has no {name}")
        if not isinstance(content[name], kind):
            raise UsageError(f"{file}: {name} must be {words}, got {content[name]!r:.60}; print it again: best --json")
    config_id = _read(file, "config_id", content, lambda value: ConfigId(*map(int, value)))
    if wanted not in (None, config_id):
        raise UsageError(f"{file} has the configuration {config_id} alone; give the run directory to refit {wanted}")
    run = Path(content["run_directory"])
    return Trained(
        run_id=content["run_id"],
        reference=content["reference"],
        options=tuple(
            ProblemOption(name=name, value=value, default=value, kind="") for name, value in content["options"].items()
        ),
        config_id=config_id,
        values=content["values"],
        rungs=_read(file, "rungs", content, lambda value: tuple(map(float, value))),
        budgets=_read(file, "budgets", content, lambda value: tuple(map(float, value))),
        unit=content["unit"],
        seed=content["seed"],
        integer_budgets=content["integer_budgets"],
        maximize=content["maximize"],
        arguments=content["arguments"],
        # On another machine there may be no run directory.
        directory=(run if run.is_dir() else file.parent) / "refit",
        took=_took_in(content.get("took")),
    )


def _took_in(value: Any) -> Took | None:
    """What an output says; None for that of an earlier version, or if it says nothing of use."""
    try:
        budget, seconds, factor = value
        return Took(budget=float(budget), seconds=float(seconds), factor=None if factor is None else float(factor))
    except (TypeError, ValueError):
        return None


def _no_output(file: Path, why: str) -> UsageError:
    return UsageError(f"{file} is no output of best --json: {why}; give that, or a run directory")


def _read(file: Path, name: str, content: Mapping[str, Any], convert: Callable[[Any], Any]) -> Any:
    try:
        found = convert(content[name])
    except (TypeError, ValueError) as error:
        words = _FIELDS[name][1]
        message = f"{file}: {name} must be {words}, got {content[name]!r:.60}; print it again: best --json"
        raise UsageError(message) from error
    if not found:
        raise UsageError(f"{file}: {name} is empty; print it again: best --json")
    return found
