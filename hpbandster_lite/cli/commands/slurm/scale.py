"""``slurm scale``: change the number of workers of a running search."""

from __future__ import annotations

from typing import Annotated

import typer

from hpbandster_lite import slurm
from hpbandster_lite.cli.options import Run, whole_number
from hpbandster_lite.cli.run_directory import read_status
from hpbandster_lite.journal import holds_anything
from hpbandster_lite.master.calls import wall_clock
from hpbandster_lite.rundir import RunDirectory


def scale(
    run: Run,
    workers: Annotated[
        int, typer.Argument(metavar="N", help="New number of workers.", show_default=False, parser=whole_number)
    ],
) -> None:
    """Change the number of workers of a running search: submit more, or end some.

    Workers in the queue end first, then idle ones, then the most recently started ones, which hand back their
    evaluations.
    """
    directory = RunDirectory(run)

    def busy() -> set[str]:
        return slurm.busy_jobs(read_status(directory)) if holds_anything(directory.journal) else set()

    typer.echo(slurm.scale(slurm.Slurm(), directory, workers, busy=busy, at=wall_clock()))
