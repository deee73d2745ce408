"""Which devices and how many cores a worker gets, and the environment that tells its trainer.

Law of this file: the tokens of CUDA_VISIBLE_DEVICES (indices, UUIDs, MIG identifiers) are passed on as they are; where
it is unset, NVML is asked for UUIDs, which mean the same in every process. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.environment import VISIBLE

MOST_CPU_WORKERS = 4
"""Without a GPU more workers than this are started only when asked for: each one holds a copy of the data."""


def visible_devices(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Tokens of the GPUs that this process may use; empty without one.

    Parameters
    ----------
    environment
        Default: this process's own.
    """
    told = (os.environ if environment is None else environment).get(VISIBLE)
    if told is None:
        return _uuids()
    tokens: list[str] = []
    for token in (part.strip() for part in told.split(",")):
        # CUDA, too, sees only what stands before the first token that names no device.
        if not token or token.startswith("-") or token == "NoDevFiles":  # noqa: S105 (no password: SLURM's word for none)
            break
        tokens.append(token)
    return tuple(tokens)


def chosen_devices(gpus: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Tokens of the GPUs that a user means.

    Parameters
    ----------
    gpus
        ``all`` for those that are visible, at least one; a number for the first so many of them; or some of their
        tokens, with commas between. None: all that are visible, perhaps none.
    environment
        Where CUDA_VISIBLE_DEVICES may say which are visible; then no other one can be meant.

    Raises
    ------
    UsageError
        If there are not so many, or not these.
    """
    visible, told = visible_devices(environment), environment.get(VISIBLE)
    if gpus is None:
        return visible
    here = f"the driver knows of {', '.join(visible) or 'none'}" if told is None else f"{VISIBLE} is {told!r}"
    wanted = gpus.strip()
    if wanted == "all" or wanted.isdecimal():
        count = len(visible) if wanted == "all" else int(wanted)
        if not 1 <= count <= len(visible):
            raise UsageError(
                f"gpus={wanted}, and {len(visible)} GPUs are visible here ({here}); ask for as many as there are, or "
                "leave it out to work with those, or on the CPU"
            )
        return visible[:count]
    tokens = tuple(token.strip() for token in wanted.split(","))
    if "" in tokens or len(set(tokens)) < len(tokens):
        raise UsageError(f"gpus={gpus!r}: write all, a number, or tokens with commas between, each once; {here}")
    for token in tokens:
        if told is not None and token not in visible:
            raise UsageError(f"gpus={gpus!r}: {token} is not visible here ({here}); write tokens as they stand there")
    return tokens


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or the share that its container is given."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(affinity, _container_cores(Path("/sys/fs/cgroup")))))


def worker_devices(
    workers: int | None = None,
    threads: int | None = None,
    *,
    gpus: str | None = None,
    gpus_per_worker: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[tuple[str | None, int | None]]:
    """Device tokens (as one text for CUDA_VISIBLE_DEVICES) and number of threads of each worker of this machine.

    Parameters
    ----------
    workers
        Default: one for each GPU (or group of GPUs), else one for each core, at most four. Workers beyond the number of
        GPUs share them in turn.
    threads
        Of each process of a worker. Default: its share of the cores, at least 1; None (leave it alone) where
        OMP_NUM_THREADS is set.
    gpus
        See :func:`chosen_devices`.
    gpus_per_worker
        GPUs of each worker, neighbours in their order. Without a GPU: processes on the CPU that share its cores.
    environment
        Default: this process's own.

    Raises
    ------
    UsageError
        If a number is below 1, or the GPUs cannot be had or not be divided.
    """
    for name, value in (("workers", workers), ("threads", threads), ("gpus_per_worker", gpus_per_worker)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    environment = os.environ if environment is None else environment
    tokens = chosen_devices(gpus, environment)
    if len(tokens) % gpus_per_worker:
        raise UsageError(
            f"gpus_per_worker={gpus_per_worker} does not divide the {len(tokens)} GPUs here ({', '.join(tokens)}); "
            "use fewer of them with --gpus, or another number"
        )
    groups = [",".join(tokens[at : at + gpus_per_worker]) for at in range(0, len(tokens), gpus_per_worker)]
    cores = usable_cores()
    count = workers or len(groups) or min(max(1, cores // gpus_per_worker), MOST_CPU_WORKERS)
    if threads is None and "OMP_NUM_THREADS" not in environment:
        threads = max(1, cores // (count * gpus_per_worker))
    return [(groups[index % len(groups)] if groups else None, threads) for index in range(count)]


def worker_label(host: str, index: int, device: str | None, environment: Mapping[str, str] | None = None) -> str:
    """What people call a worker: host and number, the batch job it runs in, its devices with what they are."""
    environment = os.environ if environment is None else environment
    job = environment.get("SLURM_JOB_ID")
    task = f" job {job}.{environment.get('SLURM_PROCID', '0')}" if job else ""
    if not device:
        return f"{host}-{index}{task}"
    tokens = device.split(",")
    places = _places_in_host(environment)
    names = ",".join(places.get(token, token[:12]) for token in tokens)
    # All of a worker's are of one kind, nearly always.
    kind = _kind(tokens[0])
    return f"{host}-{index}{task} gpu {names}{f' {kind}' if kind else ''}"


def _places_in_host(environment: Mapping[str, str]) -> dict[str, str]:
    """Numbers that the GPUs of a job have on their host, where Slurm tells: within a job the first one is mostly 0."""
    tokens = visible_devices(environment) if VISIBLE in environment else ()
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        told = [part for part in environment.get(name, "").split(",") if part]
        if tokens and len(told) == len(tokens):
            return dict(zip(tokens, told, strict=True))
    return {}


def _container_cores(cgroups: Path) -> float:
    """The share of processor time that control groups allow, in cores; infinity where they do not limit it."""
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


# ------------------------------------------------------------------------------------------------ the driver's library


@contextlib.contextmanager
def _driver() -> Iterator[Any]:
    """NVML while inside; None without a driver that works."""
    # Here: it takes as long as the rest of this package, and is needed where the environment does not tell alone.
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _uuids() -> tuple[str, ...]:
    """UUIDs of all GPUs (of their MIG parts, where they are divided) by NVML; empty without a driver."""
    with _driver() as nvml:
        return () if nvml is None else tuple(_each_uuid(nvml))


def _each_uuid(nvml: Any) -> Iterator[str]:
    for index in range(nvml.nvmlDeviceGetCount()):
        # One that has fallen off the bus has neither handle nor UUID, and nobody can work on it.
        with contextlib.suppress(nvml.NVMLError):
            for device in _parts(nvml, nvml.nvmlDeviceGetHandleByIndex(index)):
                yield nvml.nvmlDeviceGetUUID(device)


def _parts(nvml: Any, gpu: Any) -> list[Any]:
    """The MIG parts of a GPU that is divided; itself otherwise."""
    try:
        is_divided, _ = nvml.nvmlDeviceGetMigMode(gpu)
    except nvml.NVMLError:
        # Most kinds cannot be.
        return [gpu]
    if not is_divided:
        return [gpu]
    parts = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with contextlib.suppress(nvml.NVMLError):
            parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number))
    return parts


def _kind(token: str) -> str:
    """Model and memory of a GPU in words; empty where the driver does not tell."""
    with _driver() as nvml:
        words: list[str] = []
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):
                by_index, by_uuid = nvml.nvmlDeviceGetHandleByIndex, nvml.nvmlDeviceGetHandleByUUID
                gpu = by_index(int(token)) if token.isdecimal() else by_uuid(token)
                words.append(nvml.nvmlDeviceGetName(gpu).removeprefix("NVIDIA "))
                words.append(f"{nvml.nvmlDeviceGetMemoryInfo(gpu).total / 2**30:.0f} GiB")
        return ", ".join(words)
