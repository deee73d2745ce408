"""``run`` and ``plan``: a search on this machine, and what it would do."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from hpbandster_lite.cli.options import (
    WORKERS,
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
    seconds,
    takes_search_options,
)
from hpbandster_lite.cli.progress import introduce_plan, watcher_for
from hpbandster_lite.cli.reading import completed, print_incumbent, read_status, say_where_saved
from hpbandster_lite.cli.tables import plan_plain
from hpbandster_lite.cli.terminal import console
from hpbandster_lite.errors import UsageError
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
            metavar="N",
            help="Worker processes. [dim]\\[default: one for each GPU, else one for each core, at most 4][/]",
            rich_help_panel=WORKERS,
            show_default=False,
        ),
    ] = None,
    run_dir: RunDir = None,
    new: Annotated[
        bool,
        typer.Option("--new", help="Begin another search: in runs/PROBLEM-2, -3, ... where there is one already."),
    ] = False,
    threads: Threads = None,
    timeout: Timeout = None,
    keep_checkpoints: KeepCheckpoints = "needed",
    in_agent: InAgent = False,
    nameserver: NameServer = None,
    nameserver_key: NameServerKey = None,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="A live view, or a line now and then. [dim]\\[default: a live view on a terminal][/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search on this machine: starts a name server, a master and workers, and shows what happens.

    Run the same command again to go on with a search that was stopped or killed. Other limits, given then, extend or
    shorten it; the number of workers may change, too.

    Ctrl-C hands the running evaluations back and ends; a second one ends at once.

    Exit codes: 0 the search is over, 2 wrong input, 3 a master or name server did not answer, 4 the run directory
    cannot be used, 130 interrupted.
    """
    if new and run_dir is not None:
        raise UsageError("give either --new, which takes a free run directory, or --run-dir, not both")
    launch = LaunchOptions(
        workers=workers,
        threads=threads,
        timeout_s=None if timeout is None else seconds("--timeout", timeout),
        keep_checkpoints=keep_checkpoints,
        isolation="none" if in_agent else "trainer",
        nameserver=None if nameserver is None else address(nameserver),
        nameserver_key=nameserver_key,
    )
    directory = RunDirectory(run_dir or default_run_directory(problem, new=new))
    if directory.path.exists() and not directory.path.is_dir():
        # Before the plan is shown; an empty directory is taken over whatever its mode.
        directory.check()
    out = console()
    with watcher_for(out, completed, live=out.is_terminal if progress is None else progress) as watcher:
        code = search_here(options, directory, launch, watcher)
        if directory.journal.exists():
            # What the last look at the master missed.
            watcher.status(read_status(directory))
    if code == 0:
        out.print()
        print_incumbent(out, directory)
        say_where_saved(out, directory)
    sys.exit(code)


@takes_search_options
def plan(problem: Problem, options: SearchOptions, as_json: AsJson = False) -> None:
    """Show what a search would do: its brackets, the number of evaluations and the total budget. Runs nothing.

    Each row of the table is a bracket, each column a budget: so many configurations are evaluated at it, the best of
    them go on to the next one.
    """
    prepared = prepare(options)
    if as_json:
        typer.echo(json.dumps(plan_plain(prepared), indent=2))
        return
    introduce_plan(console(), prepared)
