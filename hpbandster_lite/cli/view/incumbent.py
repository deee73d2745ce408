"""The best configuration with its figures, and where it is saved."""

from __future__ import annotations

import shlex

from rich.console import Console

from hpbandster_lite.cli.view.formats import amount
from hpbandster_lite.cli.view.tables import figures_table, values_table
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import users_values
from hpbandster_lite.results.incumbent import FILE_NAME, current_incumbent, read_incumbent
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.search_file import FILE_NAME as SEARCH_FILE_NAME
from hpbandster_lite.settings.search_file import can_run


def print_incumbent(out: Console, directory: RunDirectory) -> None:
    """The best configuration, its validation figures and, beside them, the test figures of its model."""
    incumbent = current_incumbent(directory)
    if incumbent is None:
        reader = JournalReader(directory.journal)
        yet = " yet" if reader.finished() is None else ""
        out.print(f"no evaluation has a {word_for(maximize=reader.settings().maximize)}{yet}")
        return
    config_id = "-".join(str(part) for part in incumbent["config_id"])
    budget = amount(incumbent["budget"], incumbent["unit"])
    out.print(f"[b]best configuration {config_id}[/], evaluated for {budget}\n")
    out.print(values_table("hyperparameter", users_values(incumbent["values"])))
    figures = {"validation": {word_for(maximize=incumbent["maximize"]): incumbent["loss"], **incumbent["info"]}}
    if incumbent["test"] is not None:
        figures["test"] = incumbent["test"]
    out.print()
    out.print(figures_table(figures))
    if incumbent["test"] is None and JournalReader(directory.journal).settings().problem.has_test:
        out.print(f"\nnot tested: {_when_tested(directory)}", markup=False, soft_wrap=True)


def _when_tested(directory: RunDirectory) -> str:
    """What makes the test, which a master alone does not."""
    finished = JournalReader(directory.journal).finished()
    if finished is None or finished.kind.was_stopped:
        return "run and minimize make the test when the search is over"
    search_file = directory.path / SEARCH_FILE_NAME
    if not can_run(search_file):
        return "the same command or call makes the test"
    return f"hpbandster-lite run {shlex.quote(str(search_file))} makes the test"


def print_where_saved(out: Console, directory: RunDirectory) -> None:
    """Where the incumbent is saved, and the commands that show the rest."""
    run = shlex.quote(str(directory.path))
    where = f"saved in {directory.path / FILE_NAME}; " if read_incumbent(directory) is not None else ""
    out.print(f"\n{where}all evaluations: hpbandster-lite list {run}", markup=False, soft_wrap=True)
    if JournalReader(directory.journal).settings().problem.has_refit:
        out.print(f"a model of it in a file: hpbandster-lite refit {run}", markup=False, soft_wrap=True)
