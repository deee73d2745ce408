"""``slurm submit``: submit the jobs of a search."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import typer

from hpbandster_lite import slurm
from hpbandster_lite.cli.chosen_directory import chosen_directory
from hpbandster_lite.cli.commands.slurm import submit_options as option
from hpbandster_lite.cli.options import Force, Problem, takes_options, typed_search_options
from hpbandster_lite.cli.view.plan import introduce_plan
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.errors import UnknownOption, UsageError
from hpbandster_lite.master.calls import wall_clock
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import (
    CheckpointOptions,
    DirectoryOptions,
    GraceOptions,
    SearchOptions,
    check_values,
)
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.settings.search_file import is_search_file, read_search_file
from hpbandster_lite.slurm.scripts import ALL_IN_ONE, MASTER, WORKERS

COMMAND = "hpbandster-lite"


@takes_options
def submit(
    problem: Problem,
    options: SearchOptions,
    place: DirectoryOptions,
    keep: CheckpointOptions,
    grace: GraceOptions,
    ctx: typer.Context,
    workers: option.Workers = 1,
    gpus_per_worker: option.GpusPerWorker = 1,
    cpus_per_worker: option.CpusPerWorker = None,
    time_limit: option.TimeLimit = None,
    partition: option.Partition = None,
    account: option.Account = None,
    array_throttle: option.ArrayThrottle = None,
    nodes: option.Nodes = None,
    master_sbatch: option.MasterSbatch = None,
    worker_sbatch: option.WorkerSbatch = None,
    master_options: option.MasterOptions = None,
    worker_options: option.WorkerOptions = None,
    venv: option.Venv = option.DEFAULT_VENV,
    dry_run: option.DryRun = False,
    force: Force = False,
) -> None:
    """Submit a search: a job for its master, and an array of jobs for its workers.

    Arguments after [b]--[/] go to sbatch, for all jobs: [b]slurm submit digits --workers 10 -- --qos=high[/].

    The command first reads the problem, so that an error in it costs no job. The same command continues a search whose
    jobs have ended.
    """
    check_values(keep)
    check_values(grace)
    directory = RunDirectory(chosen_directory(problem, place.run_dir).path.absolute())
    prepared = _prepared(options, directory)
    request = slurm.SubmitRequest(
        problem=str(ctx.params["problem"]),
        run_dir=directory.path,
        venv=_checked_venv(venv),
        cwd=Path.cwd(),
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        nodes=nodes,
        throttle=array_throttle,
        time=time_limit,
        partition=partition,
        account=account,
        grace_s=grace.grace_s,
        for_all=ctx.meta.get(option.SBATCH_OPTIONS, ()),
        for_master=_split("--master-sbatch", master_sbatch),
        for_workers=_split("--worker-sbatch", worker_sbatch),
        master_arguments=(
            *_master_arguments(ctx, prepared, keep),
            *_split("--master-options", master_options),
        ),
        worker_arguments=(*ctx.args, *_worker_options(worker_options)),
    )
    introduce_plan(console(stderr=dry_run), prepared)
    planned = slurm.plan_submissions(request)
    if dry_run:
        _print_scripts_and_commands(planned, directory)
    else:
        _submit(planned, directory, jobs=1 if nodes is not None else 2, force=force)


def _prepared(options: SearchOptions, directory: RunDirectory) -> Prepared:
    """The search; this reads the problem, before anything is submitted."""
    try:
        return prepare(options, directory)
    except UnknownOption as error:
        raise UnknownOption(f"{error}; options of sbatch stand at the end, after --", error.option) from error


def _checked_venv(venv: Path) -> Path:
    command = venv.absolute() / "bin" / COMMAND
    if not command.exists():
        raise UsageError(
            f"--venv {venv}: {command} does not exist; give the virtual environment in which {COMMAND} is installed"
        )
    return venv.absolute()


def _master_arguments(ctx: typer.Context, prepared: Prepared, keep: CheckpointOptions) -> list[str]:
    """Options of the search as typed, and those that the master cannot derive from them."""
    return [
        *typed_search_options(ctx),
        *_drawn_seed(prepared),
        *_listening_options(str(ctx.params["problem"])),
        *([] if keep.keep_checkpoints == "needed" else [f"--keep-checkpoints={keep.keep_checkpoints}"]),
        *([] if keep.checkpoint_quota is None else [f"--checkpoint-quota={keep.checkpoint_quota}"]),
    ]


def _drawn_seed(prepared: Prepared) -> list[str]:
    """The seed that the plan shows, so that the master does not draw another one."""
    settings = prepared.settings
    return [] if prepared.resumed or settings.seed_was_given else [f"--seed={settings.seed}"]


def _listening_options(problem: str) -> list[str]:
    """``host`` and ``interface`` of a search file: the script checks only its arguments for them."""
    in_file = read_search_file(Path(problem)).values if is_search_file(problem) else {}
    return [f"--{name}={in_file[name]}" for name in ("host", "interface") if name in in_file]


def _split(name: str, text: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text or ""))
    except ValueError as error:
        raise UsageError(f"{name} {text!r}: {error}; quote it as for a shell") from error


def _worker_options(text: str | None) -> tuple[str, ...]:
    words = _split("--worker-options", text)
    if any(word == "--grace" or word.startswith("--grace=") for word in words):
        raise UsageError(
            f"--worker-options {text!r} has --grace; give --grace to slurm submit itself, which then has Slurm warn "
            "the jobs early enough"
        )
    return words


def _submit(planned: dict[str, slurm.Submission], directory: RunDirectory, *, jobs: int, force: bool) -> None:
    """Submit, and print the job numbers and the commands to use next."""
    commands = slurm.Slurm()
    commands.require()
    directory.create()
    submitted = slurm.submit(commands, directory, planned, at=wall_clock(), force=force)
    for job in submitted.jobs[-jobs:]:
        tasks = f" ({job.tasks} workers)" if job.kind == WORKERS else ""
        typer.echo(f"{job.kind.replace('_', ' ')}: job {job.job}{tasks}")
    path = shlex.quote(str(_relative_to_cwd(directory.path)))
    typer.echo(
        f"status: {COMMAND} slurm status {path}; change the number of workers: {COMMAND} slurm scale {path} N; "
        f"end: {COMMAND} slurm cancel {path}"
    )


def _relative_to_cwd(path: Path) -> Path:
    """The path relative to the working directory, if it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_scripts_and_commands(planned: Mapping[str, slurm.Submission], directory: RunDirectory) -> None:
    """Each script below its path, then the commands that would submit them."""
    folder = directory.path / slurm.SCRIPTS_FOLDER
    shown = [planned[ALL_IN_ONE]] if ALL_IN_ONE in planned else [planned[MASTER], planned[WORKERS]]
    for each in shown:
        typer.echo(f"##### {each.file(folder)}\n{each.text}")
    typer.echo("##### commands; without --dependency if the master starts at once")
    for each in shown:
        after = "JOB_OF_MASTER" if each.kind == WORKERS else None
        typer.echo(shlex.join(each.command(folder, after=after)))
