"""``run`` and ``plan``: a search on this machine, and what it would do."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

from hpbandster_lite.cli.options import (
    SERVICE,
    AsJson,
    InAgent,
    KeepCheckpoints,
    NameServer,
    NameServerKey,
    Problem,
    RunDir,
    Threads,
    Timeout,
    address,
    takes_search_options,
)
from hpbandster_lite.cli.progress import watcher_for
from hpbandster_lite.cli.reading import print_incumbent
from hpbandster_lite.cli.tables import plan_plain, plan_summary, plan_table
from hpbandster_lite.launch import LaunchOptions, search_here
from hpbandster_lite.rundir import RunDirectory, default_run_directory
from hpbandster_lite.settings import SearchOptions, prepare


@takes_search_options
def run(
    problem: Problem,
    options: SearchOptions,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            help="Worker processes. Default: one per GPU, else one per core, at most 4.",
            show_default=False,
        ),
    ] = None,
    run_dir: RunDir = None,
    new: Annotated[
        bool, typer.Option("--new", help="Begin another search beside the one in the default run directory.")
    ] = False,
    threads: Threads = None,
    timeout: Timeout = None,
    keep_checkpoints: KeepCheckpoints = "needed",
    in_agent: InAgent = False,
    nameserver: NameServer = None,
    nameserver_key: NameServerKey = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Live view. Default: on a terminal.", rich_help_panel=SERVICE),
    ] = None,
) -> None:
    """Search on this machine: starts a name server, a master and the workers, and shows what happens.

    Run the same command again to go on with a search that was stopped, killed or is to be extended. Ctrl-C once hands
    the running evaluations back and ends; twice ends at once. Exit codes: 0 finished, 130 interrupted, 2 wrong input,
    3 a peer failed, 4 the run directory failed.
    """
    launch = LaunchOptions(
        workers=workers,
        threads=threads,
        timeout_s=timeout,
        keep_checkpoints=keep_checkpoints,
        isolation="none" if in_agent else "trainer",
        nameserver=None if nameserver is None else address(nameserver),
        nameserver_key=nameserver_key,
    )
    path = run_dir or default_run_directory(problem, new=new)
    console = Console(soft_wrap=True)
    with watcher_for(console, live=console.is_terminal if progress is None else progress) as watcher:
        code = search_here(options, RunDirectory(path), launch, watcher)
    if code == 0:
        print_incumbent(console, RunDirectory(path))
    sys.exit(code)


@takes_search_options
def plan(problem: Problem, options: SearchOptions, as_json: AsJson = False) -> None:
    """Print the brackets, the number of evaluations and the total budget, without running anything."""
    prepared = prepare(options)
    if as_json:
        typer.echo(json.dumps(plan_plain(prepared), indent=2))
        return
    console = Console()
    console.print(plan_table(prepared))
    console.print(plan_summary(prepared))
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)
