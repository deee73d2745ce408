"""Test the model of the incumbent once the search is over, and save both.

Law of this file: the test split is used once a search, after it, and with the model that the search trained: the
checkpoint of the incumbent's evaluation.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.randomness import training_seed
from hpbandster_lite.records import ConfigId, EvaluationId, ProblemDescription, SearchSettings
from hpbandster_lite.results.incumbent import SavedIncumbent, current_incumbent, write_incumbent
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.standalone.trainer import OrderEnd, StandaloneTrainer
from hpbandster_lite.trainer.messages import TrainerDied, TrainerEnded, TrainerInterrupted, TrainerOrder, TrainerRefused


def save_tested_incumbent(
    directory: RunDirectory,
    about: ProblemDescription,
    note: Callable[[str], None],
    problem: Problem | None = None,
    arguments: Sequence[str] = (),
) -> SavedIncumbent | None:
    """Write the incumbent to its file, tested if the problem has a ``test`` and this model was not tested before.

    Parameters
    ----------
    directory
        A run directory whose search is over.
    about
        The description of the problem as it is now; the journal has the one from the start of the search.
    note
        Called with one line if the model could not be tested.
    problem
        The problem itself, where no other process can import it.
    arguments
        ``sys.argv`` while the problem is imported; empty for its file alone.

    Returns
    -------
    SavedIncumbent or None
        As :func:`~hpbandster_lite.results.incumbent.current_incumbent`.
    """
    incumbent = current_incumbent(directory)
    if incumbent is None:
        return None
    if about.has_test and incumbent["test"] is None:
        settings = JournalReader(directory.journal).settings()
        order, log = _order(directory, incumbent, settings), directory.log("test")
        match _run(about.reference, problem, arguments, order, log, directory.path):
            case TrainerEnded(failure=None, info=info):
                incumbent["test"] = dict(info)
            case TrainerEnded(failure=failure) | TrainerDied(failure=failure):
                note(f"the incumbent could not be tested: {failure.reason if failure is not None else failure}")
            case TrainerRefused(message=message):
                note(f"the incumbent could not be tested: {message}")
            case TrainerInterrupted():
                note("the incumbent could not be tested: its test was interrupted")
    try:
        write_incumbent(directory, incumbent)
    except RunDirectoryError as error:
        # The search is complete, and its journal has the incumbent.
        note(f"the incumbent is not saved: {error}; hpbandster-lite best {shlex.quote(str(directory.path))} shows it")
    return incumbent


def _order(directory: RunDirectory, incumbent: SavedIncumbent, settings: SearchSettings) -> TrainerOrder:
    evaluation = EvaluationId(ConfigId(*incumbent["config_id"]), incumbent["rung"])
    return TrainerOrder(
        evaluation=evaluation,
        attempt=1,
        values=incumbent["values"],
        budget=incumbent["budget"],
        max_budget=incumbent["budget"],
        budgets=settings.budgets,
        unit=incumbent["unit"],
        integer_budgets=settings.problem.integer_budgets,
        maximize=settings.maximize,
        seed=training_seed(settings.seed, evaluation.config_id),
        directory=str((directory.path / "test").resolve()),
        previous_directory=_checkpoint(directory, incumbent["directory"]),
        call="test",
    )


def _checkpoint(directory: RunDirectory, recorded: str | None) -> str | None:
    """The directory of the incumbent's evaluation, if it exists and may be read."""
    readable = None if recorded is None else directory.readable_directory(recorded)
    return None if readable is None or not Path(readable).is_dir() else str(Path(readable).resolve())


def _run(
    reference: str, problem: Problem | None, arguments: Sequence[str], order: TrainerOrder, log: Path, run: Path
) -> OrderEnd:
    device, threads = worker_devices(1)[0]
    with StandaloneTrainer(
        reference, problem, device=device, threads=threads, arguments=arguments, run_directory=str(run.resolve())
    ) as trainer:
        return trainer.run(order, log)
