"""``master``, ``worker`` and ``nameserver``: the processes of a search, one command each, for more than one machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.agent import AgentOptions, run_agent
from hpbandster_lite.cli.options import (
    SERVICE,
    Host,
    InAgent,
    KeepCheckpoints,
    NameServer,
    NameServerKey,
    Port,
    Problem,
    RunDir,
    Threads,
    Timeout,
    address,
    takes_search_options,
)
from hpbandster_lite.launch import LocalWorkers, one_per_worker
from hpbandster_lite.master import MasterOptions, run_master
from hpbandster_lite.nameserver import DEFAULT_PORT, serve
from hpbandster_lite.rundir import RunDirectory, default_run_directory, ensure_key_file
from hpbandster_lite.settings import SearchOptions, prepare


@takes_search_options
def master(
    problem: Problem,
    options: SearchOptions,
    run_dir: RunDir = None,
    nameserver: NameServer = None,
    nameserver_key: NameServerKey = None,
    host: Host = "127.0.0.1",
    port: Port = 0,
    keep_checkpoints: KeepCheckpoints = "needed",
) -> None:
    """Serve a search: run the brackets and the model, hand evaluations to workers, keep the journal.

    Start it again on the same run directory after whatever ended it: workers that are still training deliver to it.
    Ctrl-C or SIGTERM ends it cleanly; the workers wait for the next master.
    """
    directory = RunDirectory(run_dir or default_run_directory(problem))
    told = MasterOptions(
        run_directory=str(directory.path),
        prepared=prepare(options, directory),
        host=host,
        port=port,
        nameserver=None if nameserver is None else address(nameserver),
        nameserver_key=None if nameserver_key is None else str(nameserver_key),
        keep_checkpoints=keep_checkpoints,
    )
    sys.exit(run_master(told))


def worker(
    problem: Problem,
    run_dir: RunDir = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Worker processes on this machine.")] = 1,
    run_id: Annotated[
        str | None, typer.Option(help="The run to look up at the name server.", rich_help_panel=SERVICE)
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="File with the run's key, where --run-dir cannot be seen.", rich_help_panel=SERVICE),
    ] = None,
    nameserver: NameServer = None,
    nameserver_key: NameServerKey = None,
    threads: Threads = None,
    timeout: Timeout = None,
    in_agent: InAgent = False,
    master_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Go on so long without a master, then leave the result and end.")
    ] = 1800.0,
) -> None:
    """Work for a search: pull evaluations from its master, train, report, until the search is over.

    Finds the master through --run-dir (a shared file system) or through --nameserver and --run-id. May start before
    the master, join late and leave early. Ctrl-C or SIGTERM hands the evaluation back; a second one ends at once.
    """
    by_name = nameserver is not None and run_id is not None
    shared = AgentOptions(
        problem=problem,
        run_dir=str(run_dir or default_run_directory(problem)) if run_dir is not None or not by_name else None,
        nameserver=None if nameserver is None else address(nameserver),
        nameserver_key=None if nameserver_key is None else str(nameserver_key),
        run_id=run_id,
        key=None if key is None else str(key),
        timeout_s=timeout,
        isolation="none" if in_agent else "trainer",
        master_timeout_s=master_timeout,
    )
    agents = one_per_worker(shared, workers, threads)
    if len(agents) == 1:
        sys.exit(run_agent(agents[0]))
    with LocalWorkers(lambda text: typer.echo(text, err=True)) as here:
        sys.exit(here.run(agents))


def nameserver(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = DEFAULT_PORT,
    key: Annotated[
        Path | None,
        typer.Option(
            envvar="HPBANDSTER_LITE_NAMESERVER_KEY_FILE",
            help="File with the key; made if there is none. Default: one in the user's configuration directory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve names: where the master of each run is found. One serves many runs, and may be restarted at any time."""
    file = key or Path(typer.get_app_dir("hpbandster-lite")) / "nameserver.key"
    secret = ensure_key_file(file)
    typer.echo(f"the key of this name server: {file}", err=True)
    serve(host, port, secret)
