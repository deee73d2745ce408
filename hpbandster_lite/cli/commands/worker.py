"""``worker``: work for a search that is served elsewhere."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone
from typing import Annotated

import typer

from hpbandster_lite.agent import AgentOptions, run_agent
from hpbandster_lite.cli.options import (
    WORKERS,
    Gpus,
    GpusPerWorker,
    InAgent,
    NameServer,
    NameServerKey,
    Problem,
    RunDir,
    RunId,
    RunKey,
    Threads,
    Timeout,
    Tls,
    takes_search_file,
)
from hpbandster_lite.errors import UsageError
from hpbandster_lite.launch.children import LocalWorkers, one_per_worker
from hpbandster_lite.process.environment import KEY_VARIABLE, job_left_s
from hpbandster_lite.process.host_port import parse_host_port
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.rundir import default_run_directory
from hpbandster_lite.settings.prepare import seconds


@takes_search_file
def worker(
    problem: Problem,
    run_dir: RunDir = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            metavar="N",
            help="Worker processes on this machine. [dim]\\[default: one for each GPU of --gpus, else 1][/]",
            rich_help_panel=WORKERS,
            show_default=False,
        ),
    ] = None,
    run_id: RunId = None,
    key: RunKey = None,
    nameserver: NameServer = None,
    nameserver_key: NameServerKey = None,
    tls: Tls = None,
    threads: Threads = None,
    gpus: Gpus = None,
    gpus_per_worker: GpusPerWorker = 1,
    timeout: Timeout = None,
    in_agent: InAgent = False,
    master_timeout: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Go on for so long without a master; then leave the result in the run directory and end.",
            rich_help_panel=WORKERS,
        ),
    ] = "30m",
    idle_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Leave after so long without work (90, 30m, 12h), each worker by itself: the last evaluations of a "
            "search are few. [dim]\\[default: stay until the search is over][/]",
            rich_help_panel=WORKERS,
            show_default=False,
        ),
    ] = None,
    max_evaluations: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Leave after so many evaluations of each worker.",
            rich_help_panel=WORKERS,
            show_default=False,
        ),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="What is left of this allocation: take no evaluation that will not end in it, by what others of its "
            "budget took, and leave when none is left that will. [dim]\\[default: what SLURM_JOB_END_TIME says, else "
            "no limit][/]",
            rich_help_panel=WORKERS,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Work for a search: ask its master for an evaluation, train, report, until the search is over.

    Finds the master through --run-dir on a shared file system, else through --nameserver and --run-id. Workers may
    start before the master, join late and leave early.

    Ctrl-C or SIGTERM hands the running evaluation back; a second one ends at once. SIGUSR2, the allocation ends, hands
    it back, too.

    Exit codes: 0 the search is over, --idle-timeout or --max-evaluations; 2 wrong input, 3 no master, 75 the
    allocation ends, or has no time for another evaluation: start it again in the next one, 130 told to end.
    """
    if run_id is not None and nameserver is None:
        raise UsageError(
            f"--run-id {run_id} is looked up at a name server; give its address with --nameserver HOST:PORT"
        )
    if run_id is not None and run_dir is None and key is None and KEY_VARIABLE not in os.environ:
        raise UsageError(
            f"--run-id {run_id} needs the run's key: give a copy of its file with --key, or {KEY_VARIABLE}"
        )
    by_name = nameserver is not None and run_id is not None
    unix_time = datetime.now(timezone.utc).timestamp()
    left_s = job_left_s(os.environ, unix_time) if max_time is None else seconds("--max-time", max_time)
    shared = AgentOptions(
        problem=problem,
        run_dir=str(run_dir or default_run_directory(problem)) if run_dir is not None or not by_name else None,
        nameserver=None if nameserver is None else parse_host_port("--nameserver", nameserver),
        nameserver_key=None if nameserver_key is None else str(nameserver_key),
        run_id=run_id,
        key=None if key is None else str(key),
        tls=None if tls is None else str(tls),
        timeout_s=None if timeout is None else seconds("--timeout", timeout),
        isolation="none" if in_agent else "trainer",
        master_timeout_s=seconds("--master-timeout", master_timeout),
        idle_timeout_s=None if idle_timeout is None else seconds("--idle-timeout", idle_timeout),
        max_evaluations=max_evaluations,
        time_ends_at=None if left_s is None else time.monotonic() + left_s,
        gpus_per_worker=gpus_per_worker,
    )
    agents = one_per_worker(shared, 1 if workers is None and gpus is None else workers, threads, gpus)
    if len(agents) == 1:
        sys.exit(run_agent(agents[0]))
    with LocalWorkers(lambda text: typer.echo(escape_controls(text), err=True)) as here:
        sys.exit(here.run(agents))
