"""Options of ``slurm submit`` beside those of a search, and the options of sbatch after ``--``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hpbandster_lite.cli.options import JOBS, whole_number

SBATCH_OPTIONS = "sbatch"
"""Key in the context's ``meta`` of the arguments after ``--``."""


class CommandWithSbatchOptions(TyperCommand):
    """A command that keeps the arguments after ``--`` for sbatch."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments before ``--`` and keep the rest."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[SBATCH_OPTIONS] = args[:at], tuple(args[at + 1 :])
        return super().parse_args(ctx, args)


def _option(*names: str, text: str, metavar: str = "OPTIONS") -> Any:
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=JOBS, show_default=False)


def _number(*names: str, text: str) -> Any:
    return typer.Option(*names, metavar="N", help=text, rich_help_panel=JOBS, parser=whole_number)


def _number_if_given(*names: str, text: str) -> Any:
    return typer.Option(
        *names, metavar="N", help=text, rich_help_panel=JOBS, show_default=False, parser=whole_number
    )


Workers = Annotated[int, _number("--workers", "-w", text="Number of workers.")]
GpusPerWorker = Annotated[int, _number("--gpus-per-worker", text="GPUs of each worker; 0: use the CPU.")]
CpusPerWorker = Annotated[
    int | None, _number_if_given("--cpus-per-worker", text="Cores of each worker. [dim]\\[default: 4][/]")
]
TimeLimit = Annotated[
    str | None,
    _option(
        "--time",
        text="Time limit of each job in sbatch's format: 12:00:00, 1-12. A job is requeued at its limit.",
        metavar="TIME",
    ),
]
Partition = Annotated[str | None, _option("--partition", text="Partition of all jobs.", metavar="NAME")]
Account = Annotated[str | None, _option("--account", text="Account of all jobs.", metavar="NAME")]
ArrayThrottle = Annotated[
    int | None,
    _number_if_given("--array-throttle", text="Largest number of workers that Slurm runs at a time."),
]
Nodes = Annotated[
    int | None,
    _number_if_given("--nodes", text="Submit a single job of N nodes for the master and all workers."),
]
MasterSbatch = Annotated[
    str | None,
    _option("--master-sbatch", text="Options of sbatch for the master's job only: '--partition=cpu --time=7-0'."),
]
WorkerSbatch = Annotated[str | None, _option("--worker-sbatch", text="Options of sbatch for the workers' jobs only.")]
MasterOptions = Annotated[
    str | None,
    _option("--master-options", text="Further options of [b]hpbandster-lite master[/]: '--interface ib0'."),
]
WorkerOptions = Annotated[
    str | None,
    _option("--worker-options", text="Options of [b]hpbandster-lite worker[/]: '--idle-timeout 10m --timeout 2h'."),
]
Venv = Annotated[
    Path,
    _option(
        "--venv",
        text="Virtual environment of the jobs. [dim]\\[default: the one of this command][/]",
        metavar="DIR",
    ),
]
DEFAULT_VENV = Path(sys.prefix)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the scripts and commands, and submit nothing.")]
