"""``slurm cancel``: end all jobs of a search."""

from __future__ import annotations

import typer

from hpbandster_lite import slurm
from hpbandster_lite.cli.options import Run
from hpbandster_lite.rundir import RunDirectory


def cancel(run: Run) -> None:
    """End all jobs of a search: workers hand back their evaluations, then the master closes the journal.

    Nothing is lost: the same slurm submit command continues the search.
    """
    slurm.cancel(slurm.Slurm(), RunDirectory(run), typer.echo)
