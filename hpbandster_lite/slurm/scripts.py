"""What is submitted for a search: the shipped scripts with their variables filled in, and their command lines.

Law of this file: text in, text out; nothing is run, and nothing is written. A script is changed where a user would
change it, at its variables, and nowhere else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from hpbandster_lite.errors import InvariantBroken, UsageError

MASTER, WORKERS, ALL_IN_ONE = "master", "workers", "all_in_one"
KINDS = (MASTER, WORKERS, ALL_IN_ONE)
VARIABLES = ("PROBLEM", "RUN_DIR", "VENV")
FOLDER = "slurm"
"""In the run directory: the scripts as they were submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks for.

    Parameters
    ----------
    problem
        As it is typed, with options of its own among the arguments.
    run_dir, venv, cwd
        Absolute paths: where the search is kept, the environment of the jobs, and where they begin.
    workers, gpus_per_worker
        How many, and how many GPUs each of them has; without a GPU they work on the CPU.
    cpus_per_worker
        Cores of each worker; None leaves it to the script.
    nodes
        One job of so many whole nodes for the master and all workers, instead of a job for each; None for those.
    throttle
        Most workers of the array that Slurm runs at one time.
    time, partition, account
        As sbatch has them, for all jobs.
    for_all, for_master, for_workers
        Further options of sbatch.
    master_arguments, worker_arguments
        Options of ``hpbandster-lite master`` and of ``hpbandster-lite worker``.

    Raises
    ------
    UsageError
        If a number cannot be.
    """

    problem: str
    run_dir: Path
    venv: Path
    cwd: Path
    workers: int
    gpus_per_worker: int = 1
    cpus_per_worker: int | None = None
    nodes: int | None = None
    throttle: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    for_all: tuple[str, ...] = ()
    for_master: tuple[str, ...] = ()
    for_workers: tuple[str, ...] = ()
    master_arguments: tuple[str, ...] = ()
    worker_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        least = {"workers": 1, "gpus_per_worker": 0, "cpus_per_worker": 1, "nodes": 1, "throttle": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                option = "array-throttle" if name == "throttle" else name.replace("_", "-")
                raise UsageError(f"--{option} must be at least {lowest}, got {value}")
        if self.nodes is not None and self.workers % self.nodes:
            raise UsageError(
                f"--workers {self.workers} cannot be spread evenly over --nodes {self.nodes}, and each node of a job "
                f"gets the same; ask for {self.workers // self.nodes * self.nodes or self.nodes} or "
                f"{(self.workers // self.nodes + 1) * self.nodes} workers"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One call of sbatch.

    Attributes
    ----------
    kind
        Name of the script.
    text
        The script, filled in.
    options
        Of sbatch.
    arguments
        Of the script.
    tasks
        Number of jobs in its array; 1 for a single job.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    tasks: int = 1

    def command(self, folder: Path, *, after: str | None = None) -> list[str]:
        """The call, for the script in a folder; ``after`` is a job that must have begun."""
        dependency = [] if after is None else [f"--dependency=after:{after}"]
        return ["sbatch", "--parsable", *dependency, *self.options, str(self.file(folder)), *self.arguments]

    def file(self, folder: Path) -> Path:
        """Where the script lies."""
        return folder / file_name(self.kind)


def file_name(kind: str) -> str:
    """Name of a script's file."""
    return f"{kind}.sbatch"


def shipped(kind: str) -> str:
    """A script as it is shipped."""
    return resources.files("hpbandster_lite.slurm.batch").joinpath(file_name(kind)).read_text("utf-8")


def filled(text: str, variables: Mapping[str, str]) -> str:
    """A script with other values for its variables, quoted for the shell.

    Raises
    ------
    InvariantBroken
        If the script does not assign each of them exactly once.
    """
    for name, value in variables.items():
        assignment = f"{name}={shlex.quote(value)}"
        # Backslashes mean something in a replacement.
        text, count = re.subn(rf"^{name}=.*$", assignment.replace("\\", r"\\"), text, flags=re.MULTILINE)
        if count != 1:
            raise InvariantBroken(f"a script assigns {name} {count} times; it must be once")
    return text


def submissions(request: Request) -> dict[str, Submission]:
    """What is to be submitted, by its kind: master and workers, or all in one; workers always, for later ones."""
    variables = dict(zip(VARIABLES, (request.problem, str(request.run_dir), str(request.venv)), strict=True))
    found = {WORKERS: _workers(request, variables)}
    if request.nodes is None:
        return {MASTER: _master(request, variables), **found}
    return {ALL_IN_ONE: _all_in_one(request, request.nodes, variables), **found}


def with_tasks(options: Sequence[str], tasks: int) -> tuple[str, ...]:
    """Options of an array with another number of tasks; its throttle stays."""
    return tuple(re.sub(r"^--array=0-\d+", f"--array=0-{tasks - 1}", option) for option in options)


def _master(request: Request, variables: Mapping[str, str]) -> Submission:
    return Submission(
        kind=MASTER,
        text=filled(shipped(MASTER), variables),
        options=(*_common(request, "%x-%j"), *request.for_all, *request.for_master),
        arguments=request.master_arguments,
    )


def _workers(request: Request, variables: Mapping[str, str]) -> Submission:
    throttle = "" if request.throttle is None else f"%{request.throttle}"
    options = [
        *_common(request, "%x-%A_%a"),
        f"--array=0-{request.workers - 1}{throttle}",
        f"--gres={_gres(request.gpus_per_worker)}",
        *([] if request.cpus_per_worker is None else [f"--cpus-per-task={request.cpus_per_worker}"]),
    ]
    return Submission(
        kind=WORKERS,
        text=filled(shipped(WORKERS), variables),
        options=(*options, *request.for_all, *request.for_workers),
        arguments=(*_gpu_arguments(request), *request.worker_arguments),
        tasks=request.workers,
    )


def _all_in_one(request: Request, nodes: int, variables: Mapping[str, str]) -> Submission:
    here = request.workers // nodes
    told = ("--gpus", "all") if request.gpus_per_worker else ("--workers", str(here))
    words = shlex.join((*told, *_gpu_arguments(request), *request.worker_arguments))
    text = filled(shipped(ALL_IN_ONE), variables).replace("WORKER_OPTIONS=(--gpus all)", f"WORKER_OPTIONS=({words})")
    options = [
        *_common(request, "%x-%j"),
        f"--nodes={nodes}",
        f"--gres={_gres(here * request.gpus_per_worker)}",
        *([] if request.cpus_per_worker is None else [f"--cpus-per-task={here * request.cpus_per_worker}"]),
    ]
    return Submission(
        kind=ALL_IN_ONE,
        text=text,
        options=(*options, *request.for_all, *request.for_workers),
        arguments=request.master_arguments,
    )


def _common(request: Request, log: str) -> list[str]:
    given = {"time": request.time, "partition": request.partition, "account": request.account}
    return [
        f"--chdir={request.cwd}",
        f"--output={request.run_dir / 'logs' / log}.log",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
    ]


def _gres(gpus: int) -> str:
    return f"gpu:{gpus}" if gpus else "none"


def _gpu_arguments(request: Request) -> tuple[str, ...]:
    return ("--gpus-per-worker", str(request.gpus_per_worker)) if request.gpus_per_worker > 1 else ()
