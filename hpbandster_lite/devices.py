"""Which devices and how many cores a worker gets, and the environment that tells its trainer.

Law of this file: the tokens of CUDA_VISIBLE_DEVICES (indices, UUIDs, MIG identifiers) are passed on as they are; where
it is unset, the driver's library is asked for UUIDs, which mean the same in every process. Nothing here imports torch.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Mapping
from pathlib import Path

from hpbandster_lite.environment import VISIBLE
from hpbandster_lite.errors import UsageError

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


def usable_cores() -> int:
    """Cores that this process may use: its affinity, or the share that its container is given."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(affinity, _container_cores(Path("/sys/fs/cgroup")))))


def worker_devices(
    workers: int | None = None, threads: int | None = None, *, environment: Mapping[str, str] | None = None
) -> list[tuple[str | None, int | None]]:
    """Device token and number of threads of each worker of this machine.

    Parameters
    ----------
    workers
        Default: one for each visible GPU, else one for each core, at most four. Workers beyond the number of GPUs
        share them in turn.
    threads
        Default: each worker's share of the cores, at least 1; None (leave it alone) where OMP_NUM_THREADS is set.
    environment
        Default: this process's own.

    Raises
    ------
    UsageError
        If either is below 1.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    environment = os.environ if environment is None else environment
    tokens = visible_devices(environment)
    cores = usable_cores()
    count = workers or len(tokens) or min(cores, MOST_CPU_WORKERS)
    if threads is None and "OMP_NUM_THREADS" not in environment:
        threads = max(1, cores // count)
    return [(tokens[index % len(tokens)] if tokens else None, threads) for index in range(count)]


def worker_label(host: str, index: int, device: str | None, environment: Mapping[str, str] | None = None) -> str:
    """What people call a worker: host and number, the batch job it runs in, its device."""
    environment = os.environ if environment is None else environment
    job = environment.get("SLURM_JOB_ID")
    task = f" job {job}.{environment.get('SLURM_PROCID', '0')}" if job else ""
    gpu = f" gpu {device if len(device) <= 12 else device[:12]}" if device else ""
    return f"{host}-{index}{task}{gpu}"


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


def _uuids() -> tuple[str, ...]:
    """UUIDs of all GPUs (of their MIG parts, where they are divided) by NVML; empty without a driver."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return ()
    if nvml.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        return tuple(uuid for index in range(count.value) for uuid in _parts(nvml, index))
    finally:
        nvml.nvmlShutdown()


def _parts(nvml: ctypes.CDLL, index: int) -> list[str]:
    device = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
        return []
    current, pending, most = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
    if nvml.nvmlDeviceGetMigMode(device, ctypes.byref(current), ctypes.byref(pending)) != 0 or not current.value:
        return _uuid(nvml, device)
    nvml.nvmlDeviceGetMaxMigDeviceCount(device, ctypes.byref(most))
    parts: list[str] = []
    for number in range(most.value):
        part = ctypes.c_void_p()
        if nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, number, ctypes.byref(part)) == 0:
            parts += _uuid(nvml, part)
    return parts


def _uuid(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> list[str]:
    text = ctypes.create_string_buffer(96)
    return [text.value.decode("ascii")] if nvml.nvmlDeviceGetUUID(device, text, len(text)) == 0 else []
