"""Descriptions of problems, what a user asks for, and searches that began, for the tests of how one is prepared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ConfigSpace import ConfigurationSpace, Float, Integer

from hpbandster_lite.journal import Journal
from hpbandster_lite.records import ProblemDescription, ProblemSource, SourceFile, Started
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.space import SearchSpace, configspace_to_json


def description(*hyperparameters: Any, **changed: Any) -> ProblemDescription:
    space = ConfigurationSpace(space=list(hyperparameters or (Float("x", (0.0, 1.0)), Integer("n", (1, 9)))))
    facts: dict[str, Any] = {
        "reference": "/here/net.py",
        "name": "net",
        "space_json": configspace_to_json(space),
        "space_tables": SearchSpace.from_configspace(space).to_json(),
        "unit": "epochs",
        "min_budget": 1.0,
        "max_budget": 9.0,
        "source_hash": "a",
    }
    return ProblemDescription(**(facts | changed))


def described(space: ConfigurationSpace) -> ProblemDescription:
    tables = SearchSpace.from_configspace(space).to_json()
    return replace(description(), space_json=configspace_to_json(space), space_tables=tables)


def sources(*hashes: str, **about: Any) -> ProblemSource:
    files = [SourceFile(path=f"{number}.py", hash=each) for number, each in enumerate(hashes)]
    return ProblemSource(files=tuple(files), **about)


def asked(about: ProblemDescription | None = None, **options: Any) -> SearchOptions:
    return SearchOptions(problem="net.py", description=about or description(), **options)


def stored_search(folder: Path, about: ProblemDescription | None = None, **options: Any) -> RunDirectory:
    """The run directory of a search with these options that a master has begun."""
    directory = RunDirectory(folder / "run")
    directory.create()
    prepared = prepare(asked(about, **options), directory)
    with Journal.open(directory.journal, create=prepared.settings) as journal:
        epoch = journal.begin_epoch()
        journal.commit([Started(epoch=epoch, limits=prepared.limits)], at=1.0)
    return directory
