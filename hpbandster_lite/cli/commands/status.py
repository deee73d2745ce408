"""``status``, ``best`` and ``list``: what a run directory holds, while its search runs and ever after."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.view.evaluations import evaluations_table
from hpbandster_lite.cli.view.formats import amount
from hpbandster_lite.cli.view.status import status_view
from hpbandster_lite.cli.view.tables import figures_table, values_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.errors import JournalError, PeerError, RunDirectoryError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master import connect
from hpbandster_lite.protocol.status import Status, status_from_plain, status_to_plain
from hpbandster_lite.results.forecast import with_forecast
from hpbandster_lite.results.incumbent import FILE_NAME, current_incumbent
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.rundir import RunDirectory

REFRESH_S = 1.0
MASTER_TIMEOUT_S = 3.0


def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Renew the picture every second until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how a search stands: brackets and rungs, workers and what each does, the incumbent, the time left.

    Asks the living master; where none answers it reads the journal, and says so.

    In the table of brackets a cell such as 5/9 +2 is a rung in which 5 of 9 evaluations are done and 2 are running.
    """
    directory = directory_of_a_search(run)
    out = console()
    if not watch:
        now = read_status(directory)
        if as_json:
            typer.echo(json.dumps(status_to_plain(now), indent=2))
        else:
            out.print(status_view(now))
        return
    if as_json or not out.is_terminal:
        while True:
            now = read_status(directory)
            if as_json:
                typer.echo(json.dumps(status_to_plain(now)))
            else:
                out.print(status_view(now), "")
            time.sleep(REFRESH_S)
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(status_view(read_status(directory), height=out.height), refresh=True)
            time.sleep(REFRESH_S)


def read_status(directory: RunDirectory) -> Status:
    """The status from the master, or from the journal where none answers; ``answered_by`` says which."""
    with contextlib.suppress(PeerError, RunDirectoryError), connect(directory, timeout_s=MASTER_TIMEOUT_S) as client:
        return completed(directory, status_from_plain(client.call("status", {})))
    return completed(directory, status_from_journal(JournalReader(directory.journal)))


def completed(directory: RunDirectory, status: Status) -> Status:
    """The status with its forecast, where the journal can be read."""
    with contextlib.suppress(JournalError):
        return with_forecast(status, JournalReader(directory.journal))
    return status


def directory_of_a_search(run: Path) -> RunDirectory:
    """A run directory with a journal in it; what else it may be is refused with what to do."""
    directory = RunDirectory(run)
    if directory.journal.is_file():
        return directory
    what = "does not exist" if not run.exists() else "holds no search" if run.is_dir() else "is no directory"
    others = sorted(str(journal.parent) for place in (run, run.parent) for journal in place.glob("*/journal.sqlite"))
    hint = f"there is {', '.join(others)}" if others else "give the one that the search named when it began"
    raise RunDirectoryError(f"the run directory {run} {what}; {hint}")


def best(run: Run, as_json: AsJson = False) -> None:
    """Print the incumbent: the configuration with the lowest loss at the highest budget evaluated so far.

    The test figures are there once the search is over, if the problem has a test.
    """
    directory = directory_of_a_search(run)
    if as_json:
        typer.echo(json.dumps(current_incumbent(directory), indent=2))
    else:
        print_incumbent(console(), directory)


def print_incumbent(out: Console, directory: RunDirectory) -> None:
    """The best configuration, its validation figures and, beside them, the test figures of its model."""
    incumbent = current_incumbent(directory)
    if incumbent is None:
        out.print("no evaluation has a loss yet")
        return
    config_id = "-".join(str(part) for part in incumbent["config_id"])
    where = amount(incumbent["budget"], incumbent["unit"])
    out.print(f"[b]best configuration {config_id}[/], evaluated for {where}\n")
    out.print(values_table("hyperparameter", incumbent["values"]))
    figures = {"validation": {"loss": incumbent["loss"], **incumbent["info"]}}
    if incumbent["test"] is not None:
        figures["test"] = incumbent["test"]
    out.print()
    out.print(figures_table(figures))
    if incumbent["test"] is None and JournalReader(directory.journal).settings().problem.has_test:
        out.print("\nnot tested: the test is made when the search is over")


def say_where_saved(out: Console, directory: RunDirectory) -> None:
    """Where the incumbent lies, and how to see the rest."""
    out.print(f"\nsaved in {directory.path / FILE_NAME}; all evaluations: hpbandster-lite list {directory.path}",
              markup=False, soft_wrap=True)  # fmt: skip
    if JournalReader(directory.journal).settings().problem.has_refit:
        out.print(f"a model of it in a file: hpbandster-lite refit {directory.path}", markup=False, soft_wrap=True)


def list_evaluations(
    run: Run,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the evaluations: configuration@rung, budget, state, loss, time, worker, and why one failed.

    Through a pipe each one is a single line.
    """
    directory = directory_of_a_search(run)
    reader = JournalReader(directory.journal)
    rows = reader.evaluations(["failed"] if failed else ())
    if as_json:
        told = [
            {"evaluation": f"{row['config_id']}@{row['rung']}", **row, "config_id": list(row["config_id"])}
            for row in rows
        ]
        typer.echo(json.dumps(told, indent=2))
    elif not rows:
        console().print("no evaluation has failed" if failed else "no evaluation has begun")
    else:
        console().print(evaluations_table(rows, reader.settings().unit))
