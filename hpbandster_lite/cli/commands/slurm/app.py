"""The group of commands ``hpbandster-lite slurm``."""

from __future__ import annotations

import typer

from hpbandster_lite.cli.app import paragraphs
from hpbandster_lite.cli.commands.slurm.cancel import cancel
from hpbandster_lite.cli.commands.slurm.scale import scale
from hpbandster_lite.cli.commands.slurm.status import status
from hpbandster_lite.cli.commands.slurm.submit import submit
from hpbandster_lite.cli.commands.slurm.submit_options import CommandWithSbatchOptions
from hpbandster_lite.cli.problem_options import PASSES_ON

app = typer.Typer(
    help="Search on a Slurm cluster: submit, status, scale, cancel.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("submit", help=paragraphs(submit), cls=CommandWithSbatchOptions, context_settings=dict(PASSES_ON))(submit)
for command in (status, scale, cancel):
    app.command(command.__name__, help=paragraphs(command))(command)
