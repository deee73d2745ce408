"""``status``, ``best`` and ``list``: what a run directory holds, while its search runs and ever after."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.progress import status_view
from hpbandster_lite.cli.tables import number, rows_table
from hpbandster_lite.errors import PeerError, RunDirectoryError
from hpbandster_lite.incumbent import current_incumbent
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master import connect
from hpbandster_lite.records import Plain, SearchSettings
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings import bracket_plan

REFRESH_S = 1.0


def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Renew the picture every second until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show brackets and rungs, workers and what each does, occupancy, failures and the incumbent.

    Asks the living master; where there is none, reads the journal.
    """
    directory = RunDirectory(run)
    console = Console()
    if as_json:
        typer.echo(json.dumps(read_status(directory), indent=2))
        return
    if not watch:
        console.print(status_view(read_status(directory)))
        return
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(status_view(read_status(directory)), refresh=True)
            time.sleep(REFRESH_S)


def read_status(directory: RunDirectory) -> dict[str, Plain]:
    """The living master's status, or the journal's, which knows no living workers."""
    reader = JournalReader(directory.journal)
    with contextlib.suppress(PeerError, RunDirectoryError), connect(directory, timeout_s=3.0) as client:
        told: dict[str, Plain] = client.call("status", {})
        return told
    return _journal_status(directory, reader)


def _journal_status(directory: RunDirectory, reader: JournalReader) -> dict[str, Plain]:
    """The same picture from the journal's tables."""
    settings, rungs, finished = reader.settings(), reader.rungs(), reader.finished()
    counts = {state: sum(rung[state] for rung in rungs) for state in ("queued", "running", "done", "failed")}
    return {
        "state": "running" if finished is None else "finished",
        "reason": finished or "no master answers: run the same command again to go on",
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
    losses: dict[tuple[int, int], float] = {}
    for done in reader.evaluations(["done"]):
        where = (done["config_id"].bracket, done["rung"])
        losses[where] = min(losses.get(where, math.inf), done["loss"] if done["loss"] is not None else math.inf)
    brackets = []
    for bracket in range(1 + max((where[0] for where in begun), default=-1)):
        rungs = []
        for index, rung in enumerate(bracket_plan(settings, bracket).rungs):
            row = begun.get((bracket, index))
            told = {"done": 0, "failed": 0, "running": 0}
            if row is not None:
                told = {"done": row["done"] + row["failed"], "failed": row["failed"], "running": row["running"]}
            best = losses.get((bracket, index))
            rungs.append(
                {"budget": rung.budget, "places": rung.places, "is_open": row is not None, "best": best, **told}
            )
        brackets.append({"bracket": bracket, "rungs": rungs})
    return brackets


def best(run: Run, as_json: AsJson = False) -> None:
    """Print the incumbent: the lowest loss at the highest budget evaluated so far."""
    directory = RunDirectory(run)
    incumbent = current_incumbent(directory)
    if as_json:
        typer.echo(json.dumps(incumbent, indent=2))
    elif incumbent is None:
        typer.echo("no evaluation has a loss yet")
    else:
        print_incumbent(Console(), directory)


def print_incumbent(console: Console, directory: RunDirectory) -> None:
    """The best configuration, its validation figures and the test figures of its model."""
    incumbent = current_incumbent(directory)
    if incumbent is None:
        console.print("no evaluation has a loss yet")
        return
    config_id = "-".join(str(part) for part in incumbent["config_id"])
    console.print(f"best configuration {config_id}, evaluated for {number(incumbent['budget'])} {incumbent['unit']}")
    console.print(_pairs("hyperparameter", incumbent["values"]))
    figures = {"loss": incumbent["loss"], **incumbent["info"]}
    console.print(_pairs("validation", figures))
    if incumbent["test"] is not None:
        console.print(_pairs("test", incumbent["test"]))
    console.print(f"saved in {directory.path / 'incumbent.json'}", markup=False)


def _pairs(title: str, values: Mapping[str, Plain]) -> Table:
    rows = [{"name": name, "value": value} for name, value in values.items()]
    return rows_table(rows, {"name": title, "value": "value"})


def list_evaluations(run: Run, as_json: AsJson = False) -> None:
    """List all evaluations: configuration, budget, state, loss or the reason of the failure, times."""
    rows = JournalReader(RunDirectory(run).journal).evaluations()
    told = [
        {**row, "evaluation": f"{row['config_id']}@{row['rung']}", "config_id": list(row["config_id"])} for row in rows
    ]
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    columns = {"evaluation": "evaluation", "budget": "budget", "state": "state", "loss": "loss", "failure": "failure"}
    columns |= {"attempt": "attempt", "worker": "worker", "reason": "reason"}
    Console().print(rows_table(told, columns))
