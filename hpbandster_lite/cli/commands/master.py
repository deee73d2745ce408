"""``master``, ``worker`` and ``nameserver``: the processes of a search, one command each, for more than one machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.access.listening import LOOPBACK
from hpbandster_lite.cli.options import (
    SERVICE,
    Host,
    Interface,
    KeepCheckpoints,
    NameServer,
    NameServerKey,
    Port,
    Problem,
    RetryFailed,
    RunDir,
    RunId,
    RunKey,
    Tls,
    takes_search_options,
)
from hpbandster_lite.master import MasterOptions, run_master
from hpbandster_lite.nameserver import DEFAULT_PORT, serve
from hpbandster_lite.process.host_port import check_port, parse_host_port
from hpbandster_lite.rundir import RunDirectory, default_run_directory, ensure_key_file
from hpbandster_lite.settings.prepare import SearchOptions, prepare


@takes_search_options
def master(
    problem: Problem,
    options: SearchOptions,
    run_dir: RunDir = None,
    run_id: RunId = None,
    key: RunKey = None,
    nameserver: NameServer = None,
    nameserver_key: NameServerKey = None,
    host: Host = LOOPBACK,
    interface: Interface = None,
    port: Port = 0,
    tls: Tls = None,
    keep_checkpoints: KeepCheckpoints = "needed",
    retry_failed: RetryFailed = False,
) -> None:
    """Serve a search: decide what is evaluated, hand it to the workers that ask, keep the journal.

    Start it again on the same run directory after whatever ended it: it goes on, and workers that are still training
    deliver to it. Ctrl-C or SIGTERM ends it cleanly, with exit code 130; the workers wait for the next master. So does
    SIGUSR2, the allocation ends, with exit code 75: start it again in the next one.

    Workers on the same file system find it through the run directory, others through --nameserver: with --run-id and
    --key they can be told of the run before it begins.
    """
    directory = RunDirectory(run_dir or default_run_directory(problem))
    prepared = prepare(replace(options, retry_failed=retry_failed, run_id=run_id), directory)
    told = MasterOptions(
        run_directory=str(directory.path),
        prepared=prepared,
        host=host,
        interface=interface,
        port=check_port("--port", port),
        tls=None if tls is None else str(tls),
        key=None if key is None else str(key),
        nameserver=None if nameserver is None else parse_host_port("--nameserver", nameserver),
        nameserver_key=None if nameserver_key is None else str(nameserver_key),
        keep_checkpoints=keep_checkpoints,
        told={
            "keep_checkpoints": keep_checkpoints,
            "host": host,
            "interface": interface,
            "port": port,
            "tls": None if tls is None else str(tls.resolve()),
            "nameserver": nameserver,
            "nameserver_key": None if nameserver_key is None else str(nameserver_key.resolve()),
        },
    )
    for note in prepared.notes:
        typer.echo(f"note: {note}", err=True)
    sys.exit(run_master(told))


def nameserver(
    host: Host = LOOPBACK,
    interface: Interface = None,
    port: Port = DEFAULT_PORT,
    tls: Tls = None,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="HPBANDSTER_LITE_NAMESERVER_KEY_FILE",
            help="File with the key, made if there is none. "
            "[dim]\\[default: nameserver.key in the user's configuration directory][/]",
            rich_help_panel=SERVICE,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve names: tells workers where the master of each run is.

    One name server serves many runs and may be restarted at any time: the masters enter themselves again. Masters and
    workers need its address (--nameserver) and its key (--nameserver-key).
    """
    check_port("--port", port)
    file = key or Path(typer.get_app_dir("hpbandster-lite")) / "nameserver.key"
    secret = ensure_key_file(file)
    typer.echo(f"the key of this name server: {file}", err=True)
    serve(host, port, secret, interface=interface, tls=None if tls is None else str(tls))
