"""Which devices and how many cores each worker gets.

Law of this file: the tokens of CUDA_VISIBLE_DEVICES (indices, UUIDs, MIG identifiers) are passed on unchanged. If it is
unset, NVML provides UUIDs, which mean the same in every process. Nothing here imports torch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.environment import VISIBLE
from hpbandster_lite.process.gpu_driver import model_of, uuids

MOST_CPU_WORKERS = 4
"""Default limit of workers without a GPU, because each one has a copy of the data."""


def visible_devices(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Tokens of the GPUs that this process may use; empty if there are none.

    Parameters
    ----------
    environment
        Environment variables. Default: those of this process.
    """
    value = (os.environ if environment is None else environment).get(VISIBLE)
    if value is None:
        return uuids()
    tokens: list[str] = []
    for token in (part.strip() for part in value.split(",")):
        # Like CUDA, ignore everything from the first token that names no device.
        if not token or token.startswith("-") or token == "NoDevFiles":  # noqa: S105 (no password: Slurm's value for no device)
            break
        tokens.append(token)
    return tuple(tokens)


def chosen_devices(gpus: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Tokens of the GPUs that the user selects.

    Parameters
    ----------
    gpus
        ``all`` for all visible GPUs, at least one; a number for the first N of them; or tokens separated by commas.
        None for all visible GPUs, if there are any.
    environment
        Environment variables; if CUDA_VISIBLE_DEVICES is set, it limits the selection.

    Raises
    ------
    UsageError
        If a selected GPU is not visible, or the selection is invalid.
    """
    visible, value = visible_devices(environment), environment.get(VISIBLE)
    if gpus is None:
        return visible
    here = f"the driver lists {', '.join(visible) or 'none'}" if value is None else f"{VISIBLE} is {value!r}"
    wanted = gpus.strip()
    if wanted == "all" or wanted.isdecimal():
        count = len(visible) if wanted == "all" else int(wanted)
        if not 1 <= count <= len(visible):
            raise UsageError(
                f"gpus={wanted}, but {len(visible)} GPUs are visible here ({here}); give at most this number, or "
                "leave gpus out to use all of them, or the CPU"
            )
        return visible[:count]
    tokens = tuple(token.strip() for token in wanted.split(","))
    if "" in tokens or len(set(tokens)) < len(tokens):
        raise UsageError(f"gpus={gpus!r}: write all, a number, or tokens separated by commas, each once; {here}")
    for token in tokens:
        if value is not None and token not in visible:
            raise UsageError(f"gpus={gpus!r}: {token} is not visible here ({here}); write tokens as listed")
        if not token.isdecimal() and not token.startswith(("GPU-", "MIG-")):
            raise UsageError(
                f"gpus={gpus!r}: {token} names no GPU ({here}); write indices such as 0,1, or UUIDs, as nvidia-smi -L "
                "lists them"
            )
    return tokens


def usable_cores() -> int:
    """Number of cores that this process may use, by its affinity and the limit of its container."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(affinity, _container_cores(Path("/sys/fs/cgroup")))))


def cores_of_container() -> float | None:
    """The CPU limit of this process's container, in cores; None without one."""
    cores = _container_cores(Path("/sys/fs/cgroup"))
    return None if math.isinf(cores) else cores


def worker_devices(
    workers: int | None = None,
    threads: int | None = None,
    *,
    gpus: str | None = None,
    gpus_per_worker: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[tuple[str | None, int | None]]:
    """Device tokens (as one text for CUDA_VISIBLE_DEVICES) and number of threads of each worker on this machine.

    Parameters
    ----------
    workers
        Number of workers. Default: one per GPU (or group of GPUs); without a GPU one per core, at most four. If there
        are more workers than GPUs, they are distributed over the GPUs in turn.
    threads
        Threads of each process of a worker. Default: its share of the cores, at least 1; None (unchanged) if
        OMP_NUM_THREADS is set.
    gpus
        See :func:`chosen_devices`.
    gpus_per_worker
        GPUs of each worker, adjacent in the list. Without a GPU: number of processes on the CPU. Default: 1.
    environment
        Environment variables. Default: those of this process.

    Raises
    ------
    UsageError
        If a number is below 1, a GPU is not visible, or ``gpus_per_worker`` does not divide the number of GPUs.
    """
    for name, value in (("workers", workers), ("threads", threads), ("gpus_per_worker", gpus_per_worker)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    environment = os.environ if environment is None else environment
    tokens = chosen_devices(gpus, environment)
    if len(tokens) % gpus_per_worker:
        raise UsageError(
            f"gpus_per_worker={gpus_per_worker} does not divide the {len(tokens)} GPUs here ({', '.join(tokens)}); "
            "use fewer of them with gpus, or another number"
        )
    groups = [",".join(tokens[at : at + gpus_per_worker]) for at in range(0, len(tokens), gpus_per_worker)]
    cores = usable_cores()
    count = workers or len(groups) or min(max(1, cores // gpus_per_worker), MOST_CPU_WORKERS)
    if threads is None and "OMP_NUM_THREADS" not in environment:
        threads = max(1, cores // (count * gpus_per_worker))
    return [(groups[index % len(groups)] if groups else None, threads) for index in range(count)]


def worker_label(host: str, index: int, device: str | None, environment: Mapping[str, str] | None = None) -> str:
    """The label of a worker for users: host and number, its batch job, its devices and their model."""
    environment = os.environ if environment is None else environment
    job = environment.get("SLURM_JOB_ID")
    task = f" job {job}.{environment.get('SLURM_PROCID', '0')}" if job else ""
    if not device:
        return f"{host}-{index}{task}"
    tokens = device.split(",")
    places = _places_in_host(environment)
    names = ",".join(places.get(token, token[:12]) for token in tokens)
    # The GPUs of a worker are nearly always the same model.
    model = model_of(tokens[0])
    return f"{host}-{index}{task} gpu {names}{f' {model}' if model else ''}"


def _places_in_host(environment: Mapping[str, str]) -> dict[str, str]:
    """Numbers of the job's GPUs on the host, if Slurm gives them; within a job the first one is usually 0."""
    tokens = visible_devices(environment) if VISIBLE in environment else ()
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        numbers = [part for part in environment.get(name, "").split(",") if part]
        if tokens and len(numbers) == len(tokens):
            return dict(zip(tokens, numbers, strict=True))
    return {}


def _container_cores(cgroups: Path) -> float:
    """The CPU limit of the control groups, in cores; infinity without a limit."""
    for quota_file, period_file in (
        (cgroups / "cpu.max", None),
        (cgroups / "cpu" / "cpu.cfs_quota_us", cgroups / "cpu" / "cpu.cfs_period_us"),
    ):
        try:
            fields = quota_file.read_text("ascii").split()
            if period_file is not None:
                fields += period_file.read_text("ascii").split()
        except OSError:
            continue
        if len(fields) == 2 and fields[0].isdigit() and int(fields[1]) > 0:
            return int(fields[0]) / int(fields[1])
    return math.inf
