"""``slurm submit``, ``status``, ``scale`` and ``cancel``: a search as jobs of Slurm.

Law of this file: it reads what is typed and prints what was done; :mod:`hpbandster_lite.slurm` does it.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from hpbandster_lite.cli.app import paragraphs
from hpbandster_lite.cli.commands.status import REFRESH_S, read_status
from hpbandster_lite.cli.options import (
    JOBS,
    AsJson,
    KeepCheckpoints,
    Problem,
    RetryFailed,
    Run,
    RunDir,
    takes_search_options,
    typed_search_options,
)
from hpbandster_lite.cli.problem_options import PASSES_ON
from hpbandster_lite.cli.view.live import introduce_plan, status_view
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.errors import UnknownOption, UsageError
from hpbandster_lite.journal import holds_anything
from hpbandster_lite.master import wall_clock
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory, default_run_directory
from hpbandster_lite.settings.prepare import Prepared, SearchOptions, prepare
from hpbandster_lite.settings.search_file import is_search_file, read_search_file
from hpbandster_lite.slurm import FOLDER, Request, Slurm, Submission, busy_jobs, recorded, submissions
from hpbandster_lite.slurm import cancel as cancel_jobs
from hpbandster_lite.slurm import scale as scale_jobs
from hpbandster_lite.slurm import submit as submit_jobs
from hpbandster_lite.slurm.parsing import WAITING, why_it_waits
from hpbandster_lite.slurm.scripts import ALL_IN_ONE, MASTER
from hpbandster_lite.slurm.scripts import WORKERS as WORKER_JOBS

BEHIND = "sbatch"
"""Where what stands behind ``--`` is kept."""
COMMAND = "hpbandster-lite"

app = typer.Typer(
    help="Search on a Slurm cluster: submit, look, scale, cancel.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class WithOptionsOfSbatch(TyperCommand):
    """A command that leaves what stands behind ``--`` alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As any command, but for ``--`` and what follows."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[BEHIND] = args[:at], tuple(args[at + 1 :])
        return super().parse_args(ctx, args)


def _option(name: str, text: str, metavar: str = "OPTIONS") -> Any:
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel=JOBS, show_default=False)


@takes_search_options
def submit(
    problem: Problem,
    options: SearchOptions,
    ctx: typer.Context,
    workers: Annotated[
        int, typer.Option("--workers", "-w", metavar="N", help="Number of workers.", rich_help_panel=JOBS)
    ] = 1,
    gpus_per_worker: Annotated[
        int,
        typer.Option(metavar="N", help="GPUs of each worker; 0 works on the CPU.", rich_help_panel=JOBS),
    ] = 1,
    cpus_per_worker: Annotated[
        int | None, _option("--cpus-per-worker", "Cores of each worker. [dim]\\[default: 4][/]", "N")
    ] = None,
    time_limit: Annotated[
        str | None,
        _option("--time", "Time limit of each job, as sbatch has it: 12:00:00, 1-12. Each goes on after it.", "TIME"),
    ] = None,
    partition: Annotated[str | None, _option("--partition", "Partition of all jobs.", "NAME")] = None,
    account: Annotated[str | None, _option("--account", "Account of all jobs.", "NAME")] = None,
    array_throttle: Annotated[
        int | None, _option("--array-throttle", "Most workers that Slurm runs at one time.", "N")
    ] = None,
    nodes: Annotated[
        int | None,
        _option("--nodes", "One job of so many nodes for the master and all workers, instead of one for each.", "N"),
    ] = None,
    master_sbatch: Annotated[
        str | None,
        _option("--master-sbatch", "Options of sbatch for the master's job alone: '--partition=cpu --time=7-0'."),
    ] = None,
    worker_sbatch: Annotated[
        str | None, _option("--worker-sbatch", "Options of sbatch for the workers' jobs alone.")
    ] = None,
    master_options: Annotated[
        str | None,
        _option("--master-options", "Further options of [b]hpbandster-lite master[/]: '--interface ib0'."),
    ] = None,
    worker_options: Annotated[
        str | None,
        _option("--worker-options", "Options of [b]hpbandster-lite worker[/]: '--idle-timeout 10m --timeout 2h'."),
    ] = None,
    run_dir: RunDir = None,
    venv: Annotated[
        Path,
        typer.Option(
            "--venv",
            metavar="DIR",
            help="Environment of the jobs. [dim]\\[default: the one that this command is in][/]",
            rich_help_panel=JOBS,
            show_default=False,
        ),
    ] = Path(sys.prefix),
    keep_checkpoints: KeepCheckpoints = "needed",
    retry_failed: RetryFailed = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the scripts and commands, and submit nothing.")
    ] = False,
) -> None:
    """Submit a search: a job for its master, and an array of jobs for its workers.

    Everything behind [b]--[/] goes to sbatch, for all jobs: [b]slurm submit digits --workers 10 -- --qos=high[/].

    The problem is read first, so that what is wrong with it costs nothing. The same command goes on with a search whose
    jobs have ended.
    """
    directory = RunDirectory((run_dir or default_run_directory(problem)).absolute())
    prepared = _prepared(options, directory)
    switches = {"--keep-checkpoints": "" if keep_checkpoints == "needed" else keep_checkpoints}
    request = Request(
        problem=str(ctx.params["problem"]),
        run_dir=directory.path,
        venv=_environment(venv),
        cwd=Path.cwd(),
        workers=workers,
        gpus_per_worker=gpus_per_worker,
        cpus_per_worker=cpus_per_worker,
        nodes=nodes,
        throttle=array_throttle,
        time=time_limit,
        partition=partition,
        account=account,
        for_all=ctx.meta.get(BEHIND, ()),
        for_master=_split("--master-sbatch", master_sbatch),
        for_workers=_split("--worker-sbatch", worker_sbatch),
        master_arguments=(
            *typed_search_options(ctx),
            *_drawn_seed(prepared),
            *_told_address(str(ctx.params["problem"])),
            *(f"{name}={value}" for name, value in switches.items() if value),
            *(["--retry-failed"] if retry_failed else []),
            *_split("--master-options", master_options),
        ),
        worker_arguments=(*ctx.args, *_split("--worker-options", worker_options)),
    )
    introduce_plan(console(stderr=dry_run), prepared)
    asked = submissions(request)
    if dry_run:
        _print_dry(asked, directory)
        return
    slurm = Slurm()
    slurm.require()
    directory.create()
    jobs = submit_jobs(slurm, directory, asked, at=wall_clock())
    for job in jobs.jobs[-1 if nodes is not None else -2 :]:
        typer.echo(f"{job.kind.replace('_', ' ')}: job {job.job}{_of_tasks(job.kind, job.tasks)}")
    where = _shown(directory.path)
    typer.echo(
        f"look: {COMMAND} slurm status {where}; other numbers of workers: {COMMAND} slurm scale {where} N; "
        f"end: {COMMAND} slurm cancel {where}"
    )


def _prepared(options: SearchOptions, directory: RunDirectory) -> Prepared:
    """What will be searched; the problem is read here, before anything is submitted."""
    try:
        return prepare(options, directory)
    except UnknownOption as error:
        raise UnknownOption(f"{error}; an option of sbatch stands at the end, behind --", error.option) from error


def _environment(venv: Path) -> Path:
    command = venv.absolute() / "bin" / COMMAND
    if not command.exists():
        raise UsageError(f"--venv {venv}: there is no {command}; give the environment that {COMMAND} is installed in")
    return venv.absolute()


def _drawn_seed(prepared: Prepared) -> list[str]:
    """The seed that was shown with the plan, so that the master does not draw another one."""
    settings = prepared.settings
    return [] if prepared.resumed or settings.seed_was_given else [f"--seed={settings.seed}"]


def _told_address(problem: str) -> list[str]:
    """Where a search file has the master listen: the script would not see that it does."""
    told = read_search_file(Path(problem)).command if is_search_file(problem) else {}
    return [f"--{name}={told[name]}" for name in ("host", "interface") if name in told]


def _split(option: str, text: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text or ""))
    except ValueError as error:
        raise UsageError(f"{option} {text!r}: {error}; quote it as a shell would read it") from error


def _of_tasks(kind: str, tasks: int) -> str:
    return f" ({tasks} of them)" if kind == WORKER_JOBS else ""


def _shown(path: Path) -> Path:
    """A path as short as it can be said here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _print_dry(asked: Mapping[str, Submission], directory: RunDirectory) -> None:
    """Each script under the name that it would get, and the commands that would submit them."""
    folder = directory.path / FOLDER
    told = [asked[ALL_IN_ONE]] if ALL_IN_ONE in asked else [asked[MASTER], asked[WORKER_JOBS]]
    for each in told:
        typer.echo(f"##### {each.file(folder)}\n{each.text}")
    typer.echo("##### commands; the dependency is left out where the master begins at once")
    for each in told:
        after = "JOB_OF_MASTER" if each.kind == WORKER_JOBS else None
        typer.echo(shlex.join(each.command(folder, after=after)))


# ------------------------------------------------------------------------------------------------------------ looking


def status(
    run: Run,
    watch: Annotated[bool, typer.Option("--watch", help="Renew the picture every second until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the jobs of a search as Slurm has them, and how the search stands."""
    directory, slurm, out = RunDirectory(run), Slurm(), console()
    while True:
        told = _status(slurm, directory)
        if as_json:
            typer.echo(json.dumps(told, indent=None if watch else 2))
        else:
            if watch and out.is_terminal:
                out.clear()
            _print_status(out, told)
        if not watch:
            return
        time.sleep(REFRESH_S)


def _status(slurm: Slurm, directory: RunDirectory) -> dict[str, Plain]:
    """Jobs, newest last, those of the queue and those that have left it; and the status of the search."""
    jobs = recorded(directory)
    living = slurm.queue(jobs.of())
    rows: list[dict[str, Plain]] = []
    for submitted in jobs.jobs:
        # One that is queued again has left squeue for no moment; what ended is told by scontrol for some minutes.
        found = {job.name: job for job in slurm.ended(submitted.job) if not job.is_living}
        found.update((job.name, job) for job in living if job.array == submitted.job)
        rows += [{"kind": submitted.kind, **asdict(job)} for _, job in sorted(found.items(), key=_in_order)]
        if not found:
            gone = {
                "name": submitted.job,
                "number": submitted.job,
                "state": "ENDED",
                "used": "",
                "left": "",
                "where": "",
            }
            rows.append({"kind": submitted.kind, **gone})
    search = read_status(directory) if holds_anything(directory.journal) else None
    return {"jobs": rows, "search": search}


def _in_order(item: tuple[str, Any]) -> tuple[int, str]:
    return len(item[0]), item[0]


def _print_status(out: Console, told: Mapping[str, Plain]) -> None:
    table: Table = plain_table()
    for heading in ("job", "does", "state", "ran", "left", "where or why"):
        table.add_column(heading)
    for row in told["jobs"]:
        state = row["state"].lower().replace("_", " ")
        table.add_row(row["name"], row["kind"].replace("_", " "), state, row["used"], row["left"], row["where"])
    out.print(table)
    reasons = {row["where"]: why_it_waits(row["where"]) for row in told["jobs"] if row["state"] in WAITING}
    for reason, words in reasons.items():
        if words is not None:
            out.print(f"{reason}: {words}", markup=False, soft_wrap=True)
    out.print()
    if told["search"] is None:
        out.print("the search has not begun: its master has not run yet")
    else:
        out.print(status_view(told["search"]))


# ----------------------------------------------------------------------------------------------------------- steering


def scale(
    run: Run,
    workers: Annotated[int, typer.Argument(metavar="N", help="How many workers there are to be.", show_default=False)],
) -> None:
    """Change the number of workers of a search that runs: submit more, or let some go.

    Those that wait in the queue go first, then idle ones, then the youngest: they hand back what they evaluate.
    """
    directory = RunDirectory(run)

    def busy() -> set[str]:
        return busy_jobs(read_status(directory)) if holds_anything(directory.journal) else set()

    typer.echo(scale_jobs(Slurm(), directory, workers, busy=busy, at=wall_clock()))


def cancel(run: Run) -> None:
    """End all jobs of a search: workers hand back what they evaluate, then the master closes the journal.

    Nothing is lost: slurm submit with the same command goes on with it.
    """
    directory = RunDirectory(run)
    cancel_jobs(Slurm(), directory, typer.echo)


app.command("submit", help=paragraphs(submit), cls=WithOptionsOfSbatch, context_settings=dict(PASSES_ON))(submit)
for command in (status, scale, cancel):
    app.command(command.__name__, help=paragraphs(command))(command)
