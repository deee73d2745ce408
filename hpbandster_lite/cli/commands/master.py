"""``master``, ``worker`` and ``nameserver``: the processes of a search, one command each, for more than one machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.cli.options import Problem, note, takes_options
from hpbandster_lite.master import MasterOptions, run_master
from hpbandster_lite.nameserver import DEFAULT_PORT, serve
from hpbandster_lite.rundir import RunDirectory, default_run_directory, ensure_key_file
from hpbandster_lite.settings.options import (
    CheckpointOptions,
    DirectoryOptions,
    Group,
    ListenOptions,
    RunOptions,
    SearchOptions,
    TlsOptions,
    in_common,
)
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.settings.search_file import file_values


@takes_options
def master(
    problem: Problem,
    search: SearchOptions,
    place: DirectoryOptions,
    keep: CheckpointOptions,
    run: RunOptions,
    listen: ListenOptions,
) -> None:
    """Serve a search: decide what is evaluated, hand it to the workers that ask, keep the journal.

    Start it again on the same run directory after whatever ended it: it goes on, and workers that are still training
    deliver to it. Ctrl-C or SIGTERM ends it cleanly, with exit code 130; the workers wait for the next master. So does
    SIGUSR2, the allocation ends, with exit code 75: start it again in the next one.

    Workers on the same file system find it through the run directory, others through --nameserver: with --run-id and
    --key they can be told of the run before it begins.
    """
    directory = RunDirectory(place.run_dir or default_run_directory(problem))
    prepared = prepare(replace(search, run_id=run.run_id), directory)
    listen = replace(listen, port=listen.port or 0)
    options = MasterOptions(
        run_directory=str(directory.path),
        prepared=prepared,
        **in_common(MasterOptions, keep, run, listen),
        command_options=file_values(keep, run, listen),
    )
    for text in prepared.notes:
        note(text)
    sys.exit(run_master(options))


@takes_options
def nameserver(
    listen: ListenOptions,
    certificates: TlsOptions,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="HPBANDSTER_LITE_NAMESERVER_KEY_FILE",
            help="File with the key, made if there is none. "
            "[dim]\\[default: nameserver.key in the user's configuration directory][/]",
            rich_help_panel=Group.SERVICE.title,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve names: tells workers where the master of each run is.

    One name server serves many runs and may be restarted at any time: the masters enter themselves again. Masters and
    workers need its address (--nameserver) and its key (--nameserver-key).
    """
    file = key or Path(typer.get_app_dir("hpbandster-lite")) / "nameserver.key"
    secret = ensure_key_file(file)
    typer.echo(f"the key of this name server: {file}", err=True)
    port = DEFAULT_PORT if listen.port is None else listen.port
    serve(listen.host, port, secret, interface=listen.interface, tls=certificates.tls)
