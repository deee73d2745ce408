"""``status``: the state of a search."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.run_directory import directory_of_a_search, read_status
from hpbandster_lite.cli.view.status import status_view
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.protocol.status import status_to_plain
from hpbandster_lite.rundir import RunDirectory

REFRESH_S = 1.0


def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the state of a search: brackets and rungs, workers and what each does, the incumbent, the time left.

    The status comes from the running master; if none answers, from the journal, and the output says so.

    In the table of brackets a cell such as 5/9 +2 is a rung in which 5 of 9 evaluations are done and 2 are running.
    """
    directory = directory_of_a_search(run)
    out = console()
    if watch and out.is_terminal and not as_json:
        _watch_on_a_terminal(directory, out)
    while True:
        now = read_status(directory)
        if as_json:
            typer.echo(json.dumps(status_to_plain(now), indent=None if watch else 2))
        else:
            out.print(status_view(now), *([""] if watch else []))
        if not watch:
            return
        time.sleep(REFRESH_S)


def _watch_on_a_terminal(directory: RunDirectory, out: Console) -> None:
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(status_view(read_status(directory), height=out.height), refresh=True)
            time.sleep(REFRESH_S)
