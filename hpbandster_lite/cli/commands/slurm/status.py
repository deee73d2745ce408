"""``slurm status``: the jobs of a search, and the status of the search."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from hpbandster_lite import slurm
from hpbandster_lite.cli.commands.status import REFRESH_S
from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.run_directory import read_status
from hpbandster_lite.cli.view.status import status_view
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.journal import holds_anything
from hpbandster_lite.protocol.status import Status, status_to_plain
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.slurm.parsing import WAITING, explain_reason

MOST_JOBS = 50
"""Of more jobs, those of one array in one state share a row; ``--json`` lists all."""


def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the jobs of a search as Slurm reports them, and the status of the search."""
    directory, commands, out = RunDirectory(run), slurm.Slurm(), console()
    while True:
        jobs, search = _status(commands, directory)
        if as_json:
            content = {"jobs": jobs, "search": None if search is None else status_to_plain(search)}
            typer.echo(json.dumps(content, indent=None if watch else 2))
        else:
            if watch and out.is_terminal:
                out.clear()
            _print_status(out, jobs, search)
        if not watch:
            return
        time.sleep(REFRESH_S)


def _status(commands: slurm.Slurm, directory: RunDirectory) -> tuple[list[dict[str, Plain]], Status | None]:
    """Jobs in the queue and jobs that have left it, newest last; and the status of the search."""
    jobs = slurm.jobs_of_run(directory)
    queued = commands.queue(jobs.of())
    rows: list[dict[str, Plain]] = []
    for submitted in jobs.jobs:
        # A requeued job never leaves squeue; scontrol shows an ended job for some minutes.
        found = {job.name: job for job in commands.recently_ended(submitted.job) if not job.is_active}
        found.update((job.name, job) for job in queued if job.array == submitted.job)
        if not found:
            found = {submitted.job: slurm.QueuedJob(name=submitted.job, number=submitted.job, state="ENDED")}
        rows += [{"kind": submitted.kind, **asdict(job)} for _, job in sorted(found.items(), key=_by_task)]
    search = read_status(directory) if holds_anything(directory.journal) else None
    return rows, search


def _by_task(item: tuple[str, Any]) -> tuple[int, str]:
    return len(item[0]), item[0]


def _summed(jobs: Sequence[Mapping[str, Plain]]) -> Sequence[Mapping[str, Plain]]:
    """The jobs, or, of many, one row for those of an array in one state and for one reason."""
    if len(jobs) <= MOST_JOBS:
        return jobs
    groups: dict[tuple[Plain, ...], list[Mapping[str, Plain]]] = {}
    for row in jobs:
        # A node differs for each job; a reason, in parentheses, is that of many.
        why = row["where"] if row["state"] in WAITING else ""
        groups.setdefault((str(row["name"]).partition("_")[0], row["kind"], row["state"], why), []).append(row)
    return [
        rows[0]
        if len(rows) == 1
        else {"name": f"{array} ({len(rows)} jobs)", "kind": kind, "state": state, "used": "", "left": "", "where": why}
        for (array, kind, state, why), rows in groups.items()
    ]


def _print_status(out: Console, jobs: Sequence[Mapping[str, Plain]], search: Status | None) -> None:
    table: Table = plain_table()
    for heading in ("job", "kind", "state", "used", "left", "nodes or reason"):
        table.add_column(heading)
    for row in _summed(jobs):
        state = row["state"].lower().replace("_", " ")
        table.add_row(row["name"], row["kind"].replace("_", " "), state, row["used"], row["left"], row["where"])
    out.print(table)
    for reason in dict.fromkeys(row["where"] for row in jobs if row["state"] in WAITING):
        if (explanation := explain_reason(reason)) is not None:
            out.print(f"{reason}: {explanation}", markup=False, soft_wrap=True)
    out.print()
    if search is None:
        out.print("the search has not started: its master has not run yet")
    else:
        out.print(status_view(search))
