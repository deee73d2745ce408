"""``master``: serve a search for workers on other machines."""

from __future__ import annotations

import sys
from dataclasses import replace

from hpbandster_lite.cli.chosen_directory import chosen_directory
from hpbandster_lite.cli.options import Problem, note, takes_options
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.serving import run_master
from hpbandster_lite.settings.options import (
    CheckpointOptions,
    DirectoryOptions,
    ListenOptions,
    LogOptions,
    RunOptions,
    SearchOptions,
    check_files,
    check_values,
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
    logs: LogOptions,
) -> None:
    """Serve a search: decide what to evaluate, give it to workers that request work, keep the journal.

    Start it again on the same run directory, however it ended: it continues, and workers that are still training report
    to it. Ctrl-C or SIGTERM ends it cleanly, with exit code 130; the workers wait for the next master. SIGUSR2 (the
    allocation ends) ends it with exit code 75: start it again in the next allocation. If its journal is deleted or
    replaced, it saves its copy as journal.lost-EPOCH.sqlite and ends with exit code 4.

    Workers on the same file system find it through the run directory, others through --nameserver. With --run-id and
    --key you can start workers before the master.
    """
    check_values(keep)
    check_files(run)
    directory = chosen_directory(problem, place.run_dir)
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
