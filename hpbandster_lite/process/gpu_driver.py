"""What the driver of the GPUs answers, by its library NVML.

Law of this file: nothing waits without end: a driver in a bad state may never answer, and holds the thread that asks. A
machine without a driver costs no import. The driver is asked for no GPU that a variable or a command names.
"""

from __future__ import annotations

import contextlib
import functools
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.environment import VISIBLE
from hpbandster_lite.process.log_format import write_line
from hpbandster_lite.records import Plain

LIBRARY = "libnvidia-ml.so.1"
"""The driver's library that NVML loads."""
LIMIT_S = 60.0
"""Longest wait for the list of GPUs. A driver that is not kept loaded takes some seconds for each GPU."""
NOTE_AFTER_S = 5.0
"""When a wait for the driver is shown."""
MODEL_S = 10.0
"""Longest wait for the model of a GPU, which is only shown."""
_REMEDY = f"see nvidia-smi. It is not asked where {VISIBLE} names the GPUs to use, or is empty, for the CPU"
Answer = TypeVar("Answer")


def uuids() -> tuple[str, ...]:
    """UUIDs of all GPUs (or of the MIG instances of partitioned GPUs); empty without a working driver.

    Raises
    ------
    UsageError
        If the driver does not answer.
    """

    def found() -> tuple[str, ...]:
        with _driver() as nvml:
            if nvml is not None:
                with contextlib.suppress(nvml.NVMLError):
                    return tuple(_each_uuid(nvml))
        return ()

    answer = _within(LIMIT_S, found)
    if not answer:
        _note_fault()
    return answer


def model_of(token: str) -> str:
    """Model and memory of a GPU as text; empty if the driver does not report them."""

    def found() -> str:
        words: list[str] = []
        with _driver() as nvml:
            if nvml is not None:
                with contextlib.suppress(nvml.NVMLError):
                    by_index, by_uuid = nvml.nvmlDeviceGetHandleByIndex, nvml.nvmlDeviceGetHandleByUUID
                    gpu = by_index(int(token)) if token.isdecimal() else by_uuid(token)
                    words.append(nvml.nvmlDeviceGetName(gpu).removeprefix("NVIDIA "))
                    words.append(f"{nvml.nvmlDeviceGetMemoryInfo(gpu).total / 2**30:.0f} GiB")
        return ", ".join(words)

    try:
        return _within(MODEL_S, found)
    except UsageError:
        return ""


def gpus_of_driver() -> dict[str, Plain]:
    """The version of the driver, None without a working one, and what it says of each GPU, with memory in bytes."""
    with _driver() as nvml:
        if nvml is None:
            return {"driver": None, "CUDA of the driver": None, "GPUs": [], "fault": driver_fault()}
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        return {
            "driver": nvml.nvmlSystemGetDriverVersion(),
            "CUDA of the driver": f"{cuda // 1000}.{cuda % 1000 // 10}",
            "GPUs": [_about_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())],
        }


def driver_fault() -> str | None:
    """Why a driver that is installed does not work; None where it works, or where there is none."""
    if "pynvml" not in sys.modules and not _has_library():
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        # A head node has the driver's files without a GPU.
        is_none = error.value in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        return None if is_none else str(error).rstrip(".")
    return None


@functools.cache
def _note_fault() -> None:
    """Write, once, that GPUs are not used because their driver does not work."""
    fault = _within(LIMIT_S, driver_fault)
    if fault is not None:
        write_line(f"note: no GPU is used, because the driver of the GPUs does not work ({fault}); see nvidia-smi")


def _within(limit_s: float, question: Callable[[], Answer]) -> Answer:
    answers: queue.SimpleQueue[list[Answer]] = queue.SimpleQueue()

    def ask() -> None:
        answer: list[Answer] = []
        try:
            answer.append(question())
        finally:
            answers.put(answer)

    threading.Thread(target=ask, daemon=True, name="driver of the GPUs").start()
    with contextlib.suppress(queue.Empty):
        return _only(answers.get(timeout=min(NOTE_AFTER_S, limit_s)))
    write_line(f"waiting for the driver of the GPUs, at most {limit_s:g} s; nvidia-smi asks it, too")
    with contextlib.suppress(queue.Empty):
        return _only(answers.get(timeout=max(0.0, limit_s - NOTE_AFTER_S)))
    raise UsageError(f"the driver of the GPUs does not answer within {limit_s:g} s; {_REMEDY}")


def _only(answer: list[Answer]) -> Answer:
    if not answer:
        # Its thread has printed the traceback.
        raise UsageError(f"the library of the GPUs' driver failed; {_REMEDY}")
    return answer[0]


@contextlib.contextmanager
def _driver() -> Iterator[Any]:
    """NVML, initialised while the context is open; None without a working driver."""
    if "pynvml" not in sys.modules and not _has_library():
        yield None
        return
    # Imported here: it takes as long to import as the rest of this package, and only a machine with GPUs needs it.
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


def _has_library() -> bool:
    """Whether the driver's library is installed, as NVML looks for it; takes 0.3 ms."""
    # Imported here: an agent that is given its device does not ask the driver.
    import ctypes

    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _about_gpu(nvml: Any, index: int) -> dict[str, Plain]:
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        space = nvml.nvmlDeviceGetMemoryInfo(gpu)
        return {
            "name": nvml.nvmlDeviceGetName(gpu),
            "uuid": nvml.nvmlDeviceGetUUID(gpu),
            "memory": int(space.total),
            "memory used": int(space.used),
        }
    except nvml.NVMLError as error:
        return {"error": str(error)}


def _each_uuid(nvml: Any) -> Iterator[str]:
    for index in range(nvml.nvmlDeviceGetCount()):
        # A GPU that has fallen off the bus has no handle and no UUID, and cannot be used.
        with contextlib.suppress(nvml.NVMLError):
            for device in _instances(nvml, nvml.nvmlDeviceGetHandleByIndex(index)):
                yield nvml.nvmlDeviceGetUUID(device)


def _instances(nvml: Any, gpu: Any) -> list[Any]:
    """The MIG instances of a partitioned GPU; otherwise the GPU itself."""
    try:
        is_partitioned, _ = nvml.nvmlDeviceGetMigMode(gpu)
    except nvml.NVMLError:
        # Most models cannot be partitioned.
        return [gpu]
    if not is_partitioned:
        return [gpu]
    instances = []
    for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with contextlib.suppress(nvml.NVMLError):
            instances.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number))
    return instances
