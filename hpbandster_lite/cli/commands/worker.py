"""``worker``: work for a search whose master runs elsewhere."""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime, timezone

from hpbandster_lite.agent.loop import run_agent
from hpbandster_lite.agent.options import AgentOptions, one_per_worker
from hpbandster_lite.cli.chosen_directory import chosen_directory
from hpbandster_lite.cli.options import Problem, takes_options
from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.environment import KEY_VARIABLE, job_left_s
from hpbandster_lite.process.log_format import write_line
from hpbandster_lite.settings.options import (
    DirectoryOptions,
    GraceOptions,
    LeaveOptions,
    LogOptions,
    RunOptions,
    WorkerOptions,
    check_files,
    in_common,
)


@takes_options
def worker(
    problem: Problem,
    place: DirectoryOptions,
    run: RunOptions,
    options: WorkerOptions,
    grace: GraceOptions,
    leave: LeaveOptions,
    logs: LogOptions,
) -> None:
    """Work for a search: request an evaluation from its master, train, report, until the search is over.

    A worker finds the master through --run-dir on a shared file system, otherwise through --nameserver and --run-id.
    Workers may start before the master, join late and leave early.

    Ctrl-C or SIGTERM hands the running evaluation back; a second signal ends at once. SIGUSR2 (the allocation ends)
    also hands it back.

    Exit codes: 0 the search is over, --idle-timeout or --max-evaluations; 2 wrong input; 3 no master, or another
    process has its id; 5 the source of the problem here differs from that of the search; 75 the allocation ends, or has
    no time for another evaluation: start it again in the next one; 130 interrupted.
    """
    _check_way_to_master(place, run)
    by_name = run.nameserver is not None and run.run_id is not None
    unix_time = datetime.now(timezone.utc).timestamp()
    left_s = leave.allocation_time_s
    if left_s is None:
        left_s = job_left_s(os.environ, unix_time)
    run_dir = place.run_dir or (None if by_name else str(chosen_directory(problem, None).path))
    shared = AgentOptions(
        problem=problem,
        run_dir=run_dir,
        time_ends_at=None if left_s is None else time.monotonic() + left_s,
        **in_common(AgentOptions, run, options, grace, leave),
    )
    check_files(run)
    is_one = options.workers is None and options.gpus is None
    agents = one_per_worker(shared, 1 if is_one else options.workers, options.threads, options.gpus)
    if len(agents) == 1:
        sys.exit(run_agent(agents[0], is_alone=True))
    # Imported here: one worker runs in this process, and supervises nothing.
    from hpbandster_lite.launch.local_workers import LocalWorkers

    with LocalWorkers(write_line) as here:
        sys.exit(here.run(agents))


def _check_way_to_master(place: DirectoryOptions, run: RunOptions) -> None:
    if run.run_id is None:
        return
    if run.nameserver is None:
        raise UsageError(
            f"--run-id {run.run_id} is looked up at a name server; give its address with --nameserver HOST:PORT"
        )
    if place.run_dir is None and run.key is None and KEY_VARIABLE not in os.environ:
        raise UsageError(
            f"--run-id {run.run_id} needs the run's key: give a copy of its file with --key, or {KEY_VARIABLE}"
        )
