"""``ping``: whether a master or a name server answers, for finding faults and for health checks.

Law of this file: one request, sent as a worker would send it, with a deadline; it changes nothing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.agent.master_link import MasterFinder
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.cli.options import find_run, path, takes_options
from hpbandster_lite.errors import MasterUnreachable, UsageError
from hpbandster_lite.master.connection import connect
from hpbandster_lite.process.environment import KEY_VARIABLE, NAMESERVER_KEY_VARIABLE
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.protocol.status import status_from_plain
from hpbandster_lite.rundir import RunDirectory, read_given_key, why_stopped
from hpbandster_lite.settings.kinds import seconds
from hpbandster_lite.settings.options import RunOptions, in_common
from hpbandster_lite.transport import Busy, Client, NameServerClient


@takes_options
def ping(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            parser=path,
            callback=find_run,
            help="The run directory or its name, if this machine can see it.",
            show_default=False,
        ),
    ] = None,
    *,
    way: RunOptions,
    timeout: Annotated[str, typer.Option(metavar="TIME", help="Longest time to wait for the answer.")] = "5",
) -> None:
    """Check the connection to the master of RUN, to the master of --run-id, or to the name server.

    It connects as a worker does, so it shows what would prevent a worker from connecting: a wrong address, a firewall,
    another key, a master that has not registered.

    Exit codes: 0 an answer arrived; 3 no answer, or a refusal; 4 a key or the run directory cannot be read.
    """
    limit_s = seconds("--timeout", timeout)
    if run is not None:
        ping_run(RunDirectory(run), limit_s)
    elif way.nameserver is None:
        raise UsageError("give a run directory, or --nameserver HOST:PORT, with --run-id ID for the master of a run")
    elif way.run_id is None:
        _ask_names(way.nameserver, way, limit_s)
    else:
        if way.key is None and KEY_VARIABLE not in os.environ:
            raise UsageError(f"--run-id {way.run_id} needs the run's key: give its file with --key, or {KEY_VARIABLE}")
        options = AgentOptions(problem="", **in_common(AgentOptions, way))
        _ask_master(MasterFinder(options)(None, 0), limit_s)


def ping_run(directory: RunDirectory, limit_s: float) -> None:
    """Print the answer of the master of a run directory; if it is stopped, the refusal names its process."""
    try:
        _ask_master(connect(directory), limit_s)
    except MasterUnreachable as error:
        if stopped := why_stopped(directory.holder_file):
            raise MasterUnreachable(f"no answer: {stopped}") from error
        raise


def _ask_master(client: Client, limit_s: float) -> None:
    began = time.monotonic()
    with client:
        try:
            status = status_from_plain(client.call("status", {}, timeout_s=limit_s))
        except Busy as busy:
            # It is alive: a health check that restarted it would free no disk.
            typer.echo(f"the master at {client.address} answers, and cannot continue at present: {busy}")
            return
    answer = (
        f"the master of run {status.run_id} at {client.address} answers ({_ms(began)}): {status.state}, "
        f"{status.evaluations.recorded} evaluations recorded, {len(status.agents)} workers"
    )
    if status.journal_stalled_s is not None:
        stalled_s = status.journal_stalled_s
        answer += f"; it has waited for {stalled_s:.0f} s to write its journal: {status.journal_stalled_by}"
    typer.echo(escape_controls(answer))


def _ask_names(where: tuple[str, int], way: RunOptions, limit_s: float) -> None:
    certificates = certificates_for(None, way.tls)
    context = None if certificates is None else certificates.client_context()
    key = os.environ.get(NAMESERVER_KEY_VARIABLE, "").strip().encode() or None
    if way.nameserver_key is not None:
        key = read_given_key(Path(way.nameserver_key))
    began = time.monotonic()
    with NameServerClient(*where, key, timeout_s=limit_s, tls=context) as names:
        known = names.list()
    typer.echo(f"the name server at {where[0]}:{where[1]} answers ({_ms(began)}): it knows {len(known)} masters")


def _ms(began: float) -> str:
    return f"{(time.monotonic() - began) * 1_000:.0f} ms"
