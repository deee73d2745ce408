"""The incumbent as a file, with the test figures of its model.

Law of this file: the test split is looked at once a search, after it, and with the model that the search trained: the
checkpoint that the incumbent's evaluation left.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.randomness import training_seed
from hpbandster_lite.records import ConfigId, EvaluationId, Plain, ProblemDescription, SearchSettings
from hpbandster_lite.rundir import RunDirectory, write_atomically
from hpbandster_lite.standalone.trainer import Answer, LoneTrainer
from hpbandster_lite.trainer.messages import TrainerDied, TrainerEnded, TrainerInterrupted, TrainerOrder, TrainerRefused

FILE_NAME = "incumbent.json"


def read_incumbent(directory: RunDirectory) -> dict[str, Plain] | None:
    """What :func:`save_incumbent` wrote; ``None`` before the first search there has ended."""
    file = directory.path / FILE_NAME
    if not file.exists():
        return None
    content: dict[str, Plain] = json.loads(file.read_text("utf-8"))
    return content


def current_incumbent(directory: RunDirectory) -> dict[str, Plain] | None:
    """The incumbent as the journal has it now.

    Returns
    -------
    dict or None
        ``run_id``, ``problem``, ``config_id``, ``rung``, ``values``, ``budget``, ``unit``, ``loss``, ``info``,
        ``directory`` and ``test`` (test figures where this very model was tested, else None); None before any loss.
    """
    reader = JournalReader(directory.journal)
    settings = reader.settings()
    best = reader.best()
    if best is None or best["outcome"] is None:
        return None
    known = read_incumbent(directory)
    same = known is not None and (known["config_id"], known["rung"]) == (list(best["config_id"]), best["rung"])
    return {
        "run_id": settings.run_id,
        "problem": settings.problem.name,
        "config_id": list(best["config_id"]),
        "rung": best["rung"],
        "values": reader.configuration(best["config_id"])["values"],
        "budget": best["budget"],
        "unit": settings.unit,
        "loss": best["loss"],
        "info": dict(reader.outcome(best["outcome"]).info),
        "directory": best["directory"],
        "test": known["test"] if known is not None and same else None,
    }


def save_incumbent(
    directory: RunDirectory, about: ProblemDescription, note: Callable[[str], None], problem: Problem | None = None
) -> dict[str, Plain] | None:
    """Write the incumbent to ``incumbent.json``, tested if the problem has a ``test`` and it was not tested before.

    Parameters
    ----------
    directory
        A run directory whose search is over.
    about
        The problem as it was found now; the journal has it as it was found when the search began.
    note
        Told, in one line, if the model could not be tested.
    problem
        The problem itself, where no other process can import it.

    Returns
    -------
    dict or None
        As :func:`current_incumbent`.
    """
    incumbent = current_incumbent(directory)
    if incumbent is None:
        return None
    if about.has_test and incumbent["test"] is None:
        settings = JournalReader(directory.journal).settings()
        match _carried_out(about.reference, problem, _order(directory, incumbent, settings), directory.log("test")):
            case TrainerEnded(failure=None, info=info):
                incumbent["test"] = dict(info)
            case TrainerEnded(failure=failure) | TrainerDied(failure=failure):
                note(f"the incumbent could not be tested: {failure.reason if failure is not None else failure}")
            case TrainerRefused(message=message):
                note(f"the incumbent could not be tested: {message}")
            case TrainerInterrupted():
                note("the incumbent could not be tested: its test was interrupted")
    write_atomically(directory.path / FILE_NAME, json.dumps(incumbent, indent=2) + "\n")
    return incumbent


def _order(directory: RunDirectory, incumbent: dict[str, Plain], settings: SearchSettings) -> TrainerOrder:
    evaluation = EvaluationId(ConfigId(*incumbent["config_id"]), incumbent["rung"])
    told = incumbent["directory"]
    checkpoint = None if told is None or (seen := directory.readable_directory(told)) is None else Path(seen)
    return TrainerOrder(
        evaluation=evaluation,
        attempt=1,
        values=incumbent["values"],
        budget=incumbent["budget"],
        max_budget=incumbent["budget"],
        budgets=settings.budgets,
        unit=incumbent["unit"],
        seed=training_seed(settings.seed, evaluation.config_id),
        directory=str((directory.path / "test").resolve()),
        previous_directory=str(checkpoint.resolve()) if checkpoint is not None and checkpoint.is_dir() else None,
        call="test",
    )


def _carried_out(reference: str, problem: Problem | None, order: TrainerOrder, log: Path) -> Answer:
    """Give one order to a trainer of its own and wait for its end."""
    device, threads = worker_devices(1)[0]
    with LoneTrainer(reference, problem, device=device, threads=threads) as trainer:
        return trainer.carry_out(order, log)
