"""Builds the submissions of a search: the shipped scripts with their variables filled in, and the sbatch commands.

Law of this file: pure functions, which run and write nothing. Only the variables of a script change, as if you changed
them by hand.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from hpbandster_lite.errors import InvariantBroken, UsageError
from hpbandster_lite.records.decorator import record
from hpbandster_lite.settings.options import OPTIONS
from hpbandster_lite.slurm.parsing import limit_seconds

MASTER, WORKERS, ALL_IN_ONE = "master", "workers", "all_in_one"
KINDS = (MASTER, WORKERS, ALL_IN_ONE)
VARIABLES = ("PROBLEM", "RUN_DIR", "VENV")
WARNING = "WARNING"
"""A further variable of the scripts of workers: seconds from the warning to the time limit."""
SHORTEST_WARNING_S = 120
BEYOND_GRACE_S = 100
"""The warning comes this much earlier than the grace of evaluations needs; Slurm may send it up to a minute earlier."""
LONGEST_WARNING_S = 65_535
"""Slurm accepts no more."""
SCRIPTS_FOLDER = "slurm"
"""Folder of the submitted scripts in the run directory."""


@record(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """Arguments of ``slurm submit``.

    Parameters
    ----------
    problem
        Reference of the problem; its options are among the arguments.
    run_dir, venv, cwd
        Absolute paths of the run directory, the virtual environment of the jobs, and their working directory.
    workers, gpus_per_worker
        Number of workers, and of GPUs for each worker; 0 GPUs means the CPU. Default: one GPU.
    cpus_per_worker
        Cores of each worker. Default: the script's value.
    nodes
        Number of nodes of a single job for the master and all workers. Default: a job for each of them.
    throttle
        Largest number of array tasks that Slurm runs at a time. Default: no limit.
    time, partition, account
        Values of sbatch's options with these names, for all jobs. Default: the script's or the cluster's values.
    grace_s
        Time in which an interrupted evaluation saves its state: the warning before the time limit comes earlier.
    for_all, for_master, for_workers
        Further options of sbatch. Default: none.
    master_arguments, worker_arguments
        Options of ``hpbandster-lite master`` and of ``hpbandster-lite worker``. Default: none.

    Raises
    ------
    UsageError
        If a number is out of range.
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
    grace_s: float = OPTIONS["grace_s"].default
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
        if self.warning_s > LONGEST_WARNING_S:
            longest = LONGEST_WARNING_S - BEYOND_GRACE_S
            raise UsageError(f"--grace must be at most {longest} seconds in a Slurm job, got {self.grace_s:g}")
        limit_s = 0 if self.time is None else limit_seconds(self.time)
        if 0 < limit_s <= self.warning_s:
            raise UsageError(
                f"--time {self.time} is not longer than the {self.warning_s} seconds before its end at which a job is "
                "warned (with --grace, 100 seconds more than that); give a longer --time, or a shorter --grace"
            )
        if self.nodes is not None and self.workers % self.nodes:
            raise UsageError(
                f"--workers {self.workers} must be a multiple of --nodes {self.nodes}, because each node of a job gets "
                f"the same number; give {self.workers // self.nodes * self.nodes or self.nodes} or "
                f"{(self.workers // self.nodes + 1) * self.nodes} workers"
            )

    @property
    def warning_s(self) -> int:
        """Seconds before the time limit at which Slurm warns the jobs of workers."""
        return max(SHORTEST_WARNING_S, math.ceil(self.grace_s) + BEYOND_GRACE_S)


@record(frozen=True, slots=True, kw_only=True)
class Submission:
    """One call of sbatch.

    Attributes
    ----------
    kind
        The script: one of :data:`KINDS`.
    text
        The script with its variables filled in.
    options
        Options of sbatch.
    arguments
        Arguments of the script.
    tasks
        Number of jobs in its array; 1 for a single job.
    """

    kind: str
    text: str
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    tasks: int = 1

    def command(self, folder: Path, *, after: str | None = None) -> list[str]:
        """The sbatch command for the script in a folder; ``after`` is a job that must start before."""
        dependency = [] if after is None else [f"--dependency=after:{after}"]
        return ["sbatch", "--parsable", *dependency, *self.options, str(self.file(folder)), *self.arguments]

    def file(self, folder: Path) -> Path:
        """Path of the script."""
        return folder / file_name(self.kind)


def file_name(kind: str) -> str:
    """File name of a script."""
    return f"{kind}.sbatch"


def shipped_script(kind: str) -> str:
    """Text of a script in the package."""
    return resources.files("hpbandster_lite.slurm.batch").joinpath(file_name(kind)).read_text("utf-8")


def fill_variables(text: str, variables: Mapping[str, str]) -> str:
    """A script with these values of its variables, which are quoted for the shell.

    Raises
    ------
    InvariantBroken
        If the script does not assign each variable exactly once.
    """
    for name, value in variables.items():
        assignment = f"{name}={shlex.quote(value)}"
        # A backslash is an escape in a replacement.
        text, count = re.subn(rf"^{name}=.*$", assignment.replace("\\", r"\\"), text, flags=re.MULTILINE)
        if count != 1:
            raise InvariantBroken(f"a script assigns {name} {count} times instead of once")
    return text


def plan_submissions(request: SubmitRequest) -> dict[str, Submission]:
    """Submissions by kind: master and workers, or all in one and the workers, for scaling up later."""
    variables = dict(zip(VARIABLES, (request.problem, str(request.run_dir), str(request.venv)), strict=True))
    found = {WORKERS: _workers(request, variables)}
    if request.nodes is None:
        return {MASTER: _master(request, variables), **found}
    return {ALL_IN_ONE: _all_in_one(request, request.nodes, variables), **found}


def with_array_size(options: Sequence[str], tasks: int) -> tuple[str, ...]:
    """Options of an array with another number of tasks; the throttle stays."""
    return tuple(re.sub(r"^--array=0-\d+", f"--array=0-{tasks - 1}", option) for option in options)


def _master(request: SubmitRequest, variables: Mapping[str, str]) -> Submission:
    return Submission(
        kind=MASTER,
        text=fill_variables(shipped_script(MASTER), variables),
        options=(*_common(request, "%x-%j"), *request.for_all, *request.for_master),
        arguments=request.master_arguments,
    )


def _workers(request: SubmitRequest, variables: Mapping[str, str]) -> Submission:
    throttle = "" if request.throttle is None else f"%{request.throttle}"
    options = [
        *_common(request, "%x-%A_%a"),
        f"--array=0-{request.workers - 1}{throttle}",
        f"--gres={_gres(request.gpus_per_worker)}",
        *([] if request.cpus_per_worker is None else [f"--cpus-per-task={request.cpus_per_worker}"]),
        *_signal(request),
    ]
    return Submission(
        kind=WORKERS,
        text=fill_variables(shipped_script(WORKERS), {**variables, WARNING: str(request.warning_s)}),
        options=(*options, *request.for_all, *request.for_workers),
        arguments=(*_gpu_arguments(request), *_grace_arguments(request), *request.worker_arguments),
        tasks=request.workers,
    )


def _all_in_one(request: SubmitRequest, nodes: int, variables: Mapping[str, str]) -> Submission:
    on_each_node = request.workers // nodes
    count = ("--gpus", "all") if request.gpus_per_worker else ("--workers", str(on_each_node))
    more = (*_gpu_arguments(request), *_grace_arguments(request), *request.worker_arguments)
    worker_options = shlex.join((*count, *more))
    text = fill_variables(shipped_script(ALL_IN_ONE), {**variables, WARNING: str(request.warning_s)})
    text = text.replace("WORKER_OPTIONS=(--gpus all)", f"WORKER_OPTIONS=({worker_options})")
    options = [
        *_common(request, "%x-%j"),
        f"--nodes={nodes}",
        f"--gres={_gres(on_each_node * request.gpus_per_worker)}",
        *([] if request.cpus_per_worker is None else [f"--cpus-per-task={on_each_node * request.cpus_per_worker}"]),
        *_signal(request),
    ]
    return Submission(
        kind=ALL_IN_ONE,
        text=text,
        options=(*options, *request.for_all, *request.for_workers),
        arguments=request.master_arguments,
    )


def _common(request: SubmitRequest, log: str) -> list[str]:
    given = {"time": request.time, "partition": request.partition, "account": request.account}
    return [
        f"--chdir={request.cwd}",
        f"--output={request.run_dir / 'logs' / log}.log",
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
    ]


def _signal(request: SubmitRequest) -> list[str]:
    """The time of the warning, where it is not the one in the script."""
    return [] if request.warning_s == SHORTEST_WARNING_S else [f"--signal=B:USR2@{request.warning_s}"]


def _gres(gpus: int) -> str:
    return f"gpu:{gpus}" if gpus else "none"


def _gpu_arguments(request: SubmitRequest) -> tuple[str, ...]:
    return ("--gpus-per-worker", str(request.gpus_per_worker)) if request.gpus_per_worker > 1 else ()


def _grace_arguments(request: SubmitRequest) -> tuple[str, ...]:
    return () if request.grace_s == OPTIONS["grace_s"].default else (f"{OPTIONS['grace_s'].flag}={request.grace_s:g}",)


def grace_in(arguments: Sequence[str]) -> float:
    """The grace among the arguments of workers that were submitted."""
    flag = f"{OPTIONS['grace_s'].flag}="
    given = [float(each.removeprefix(flag)) for each in arguments if each.startswith(flag)]
    return given[-1] if given else float(OPTIONS["grace_s"].default)
