"""``status``, ``best`` and ``list``: what a run directory holds, while its search runs and ever after."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.view.live import status_view
from hpbandster_lite.cli.view.tables import amount, evaluations_table, figures_table, values_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.errors import JournalError, PeerError, RunDirectoryError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master import connect
from hpbandster_lite.records import Plain, SearchSettings
from hpbandster_lite.results.forecast import forecast
from hpbandster_lite.results.incumbent import FILE_NAME, current_incumbent
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import bracket_plan

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
        told = read_status(directory)
        if as_json:
            typer.echo(json.dumps(told, indent=2))
        else:
            out.print(status_view(told))
        return
    if as_json or not out.is_terminal:
        while True:
            told = read_status(directory)
            if as_json:
                typer.echo(json.dumps(told))
            else:
                out.print(status_view(told), "")
            time.sleep(REFRESH_S)
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(status_view(read_status(directory), height=out.height), refresh=True)
            time.sleep(REFRESH_S)


def read_status(directory: RunDirectory) -> dict[str, Plain]:
    """The living master's status, or the journal's, which knows no living workers; ``answered_by`` says which."""
    with contextlib.suppress(PeerError, RunDirectoryError), connect(directory, timeout_s=MASTER_TIMEOUT_S) as client:
        return completed(directory, client.call("status", {}))
    return completed(directory, _journal_status(directory))


def completed(directory: RunDirectory, told: Mapping[str, Plain]) -> dict[str, Plain]:
    """A status with the forecast of its end, for which the journal has the durations."""
    status = {"answered_by": "master", **told}
    with contextlib.suppress(JournalError):
        reader = JournalReader(directory.journal)
        served_s = math.fsum(master["served_s"] for master in reader.masters())
        status["forecast"] = asdict(forecast(status, reader.settings(), reader.seconds_taken(), served_s))
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


def _journal_status(directory: RunDirectory) -> dict[str, Plain]:
    """The same picture from the journal's tables."""
    reader = JournalReader(directory.journal)
    settings, rungs, finished = reader.settings(), reader.rungs(), reader.finished()
    why, since = reader.paused() or (None, None)
    counts = {state: sum(rung[state] for rung in rungs) for state in ("queued", "running", "done", "failed")}
    return {
        "answered_by": "journal",
        "state": "stopped" if finished is None else "finished",
        "reason": "no master answers; run the same command again to go on" if finished is None else finished.reason,
        "paused": why,
        "paused_at": since,
        "problem": settings.problem.name,
        "algorithm": settings.algorithm,
        "unit": settings.unit,
        "seed": settings.seed,
        "run_id": settings.run_id,
        "brackets": _journal_brackets(settings, reader),
        "agents": [],
        "occupancy": None,
        "evaluations": {
            "started": sum(counts.values()),
            "recorded": counts["done"] + counts["failed"],
            "running": counts["running"],
            "to_run_again": counts["queued"],
        },
        "failures": dict(reader.failures()),
        "limits": asdict(reader.limits()),
        "incumbent": current_incumbent(directory),
    }


def _journal_brackets(settings: SearchSettings, reader: JournalReader) -> list[dict[str, Plain]]:
    begun = {(row["bracket"], row["rung"]): row for row in reader.rungs()}
    brackets = []
    for bracket in range(1 + max((where[0] for where in begun), default=-1)):
        rungs = []
        for index, rung in enumerate(bracket_plan(settings, bracket).rungs):
            row = begun.get((bracket, index))
            told: dict[str, Plain] = {"done": 0, "failed": 0, "running": 0, "best": None}
            if row is not None:
                failed = row["failed"] - row["infeasible"]
                told = {
                    "done": row["done"] + failed,
                    "failed": failed,
                    "running": row["running"],
                    "best": row["best"],
                }
            rungs.append({"budget": rung.budget, "places": rung.places, "is_open": row is not None, **told})
        brackets.append({"bracket": bracket, "rungs": rungs})
    return brackets


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
