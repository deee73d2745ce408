"""The best configuration with its figures, and where it is saved."""

from __future__ import annotations

from rich.console import Console

from hpbandster_lite.cli.view.formats import amount
from hpbandster_lite.cli.view.tables import figures_table, values_table
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import users_values
from hpbandster_lite.results.incumbent import FILE_NAME, current_incumbent, read_incumbent
from hpbandster_lite.rundir import RunDirectory


def print_incumbent(out: Console, directory: RunDirectory) -> None:
    """The best configuration, its validation figures and, beside them, the test figures of its model."""
    incumbent = current_incumbent(directory)
    if incumbent is None:
        maximize = JournalReader(directory.journal).settings().maximize
        out.print(f"no evaluation has a {word_for(maximize=maximize)} yet")
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
        out.print("\nnot tested: the test is made when the search is over")


def print_where_saved(out: Console, directory: RunDirectory) -> None:
    """Where the incumbent is saved, and the commands that show the rest."""
    where = f"saved in {directory.path / FILE_NAME}; " if read_incumbent(directory) is not None else ""
    out.print(f"\n{where}all evaluations: hpbandster-lite list {directory.path}", markup=False, soft_wrap=True)
    if JournalReader(directory.journal).settings().problem.has_refit:
        out.print(f"a model of it in a file: hpbandster-lite refit {directory.path}", markup=False, soft_wrap=True)
