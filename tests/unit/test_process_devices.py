"""GPUs and cores of a worker, and the environment that passes them to its trainer."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process import devices, gpu_driver
from hpbandster_lite.process.devices import chosen_devices, usable_cores, visible_devices, worker_devices, worker_label
from hpbandster_lite.process.environment import job_left_s, trainer_environment

# ----------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize(
    ("variable", "tokens"),
    [
        ("0", ("0",)),
        ("0,2", ("0", "2")),
        (" 3 , 1 ", ("3", "1")),
        ("GPU-1a2b,GPU-3c4d", ("GPU-1a2b", "GPU-3c4d")),
        ("MIG-GPU-1a2b/3/0", ("MIG-GPU-1a2b/3/0",)),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0,-1,1", ("0",)),
        ("0,,1", ("0",)),
    ],
)
def test_tokens_are_passed_on_as_they_are_up_to_the_first_that_names_no_device(
    variable: str, tokens: tuple[str, ...]
) -> None:
    assert visible_devices({"CUDA_VISIBLE_DEVICES": variable}) == tokens


def test_the_process_s_own_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    assert visible_devices() == ("5", "6")
    assert [device for device, _ in worker_devices()] == ["5", "6"]


# ------------------------------------------------------------------------------------------------ the driver's library


class Nvml:
    """The used part of NVML: GPUs by UUID, those with MIG parts by the parts' UUIDs. A handle is its UUID."""

    def __init__(self, *gpus: str | list[str], init: int = 0, broken: tuple[str, ...] = ()) -> None:
        self.gpus, self.init, self.broken = gpus, init, broken
        self.shutdowns = 0

    def _unbroken(self, gpu: str | list[str]) -> Any:
        if gpu in self.broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return gpu

    def nvmlInit(self) -> None:  # noqa: N802 (the library's names)
        if self.init:
            raise pynvml.NVMLError(self.init)

    def nvmlShutdown(self) -> None:  # noqa: N802 (named by NVML)
        self.shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 (named by NVML)
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802 (named by NVML)
        return self._unbroken(self.gpus[index])

    def nvmlDeviceGetMigMode(self, gpu: str | list[str]) -> list[int]:  # noqa: N802 (named by NVML)
        if gpu == "GPU-whole":
            return [0, 0]
        if isinstance(gpu, str):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: list[str]) -> int:  # noqa: N802 (named by NVML)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: list[str], number: int) -> str:  # noqa: N802 (named by NVML)
        if number >= len(gpu):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu[number]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802 (named by NVML)
        if not any(uuid == gpu or uuid in gpu for gpu in self.gpus):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetName(self, gpu: str) -> str:  # noqa: N802 (named by NVML)
        self._unbroken(gpu)
        return "NVIDIA H100 80GB HBM3"

    def nvmlDeviceGetMemoryInfo(self, gpu: str) -> SimpleNamespace:  # noqa: N802 (named by NVML)
        self._unbroken(gpu)
        return SimpleNamespace(total=79 * 2**30 + 2**28)

    def nvmlDeviceGetUUID(self, gpu: str) -> str:  # noqa: N802 (named by NVML)
        return gpu


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Nvml]:
    def install(*gpus: str | list[str], **how: Any) -> Nvml:
        library = Nvml(*gpus, **how)
        for name in vars(Nvml):
            if name.startswith("nvml"):
                monkeypatch.setattr(pynvml, name, getattr(library, name))
        return library

    return install


def test_without_the_variable_the_driver_gives_uuids(nvml: Callable[..., Nvml]) -> None:
    library = nvml("GPU-1a2b", "GPU-3c4d")
    assert visible_devices({}) == ("GPU-1a2b", "GPU-3c4d")
    assert library.shutdowns == 1


def test_a_divided_gpu_is_its_parts(nvml: Callable[..., Nvml]) -> None:
    nvml("GPU-1a2b", ["MIG-1", "MIG-2"])
    assert visible_devices({}) == ("GPU-1a2b", "MIG-1", "MIG-2")


def test_a_gpu_that_has_fallen_off_the_bus_is_left_out(nvml: Callable[..., Nvml]) -> None:
    nvml("GPU-whole", "GPU-lost", "GPU-1a2b", broken=("GPU-lost",))
    assert visible_devices({}) == ("GPU-whole", "GPU-1a2b")


def test_a_driver_that_does_not_start_has_no_gpus(nvml: Callable[..., Nvml]) -> None:
    nvml("GPU-1a2b", init=pynvml.NVML_ERROR_UNKNOWN)
    assert visible_devices({}) == ()


def test_without_the_driver_s_library_nvml_is_not_imported() -> None:
    script = (
        "import sys, hpbandster_lite.process.devices as devices, hpbandster_lite.process.gpu_driver as driver; "
        "driver.LIBRARY = 'libnone.so'; "
        "print(devices.visible_devices({}), 'pynvml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "() False"


@pytest.mark.parametrize(
    ("init", "fault"),
    [
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "RM has detected an NVML/RM version mismatch"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, None),
        (0, None),
    ],
)
def test_a_driver_that_is_installed_and_does_not_work_is_named_once(
    nvml: Callable[..., Nvml], capsys: pytest.CaptureFixture[str], init: int, fault: str | None
) -> None:
    gpu_driver._note_fault.cache_clear()
    nvml(init=init)
    assert visible_devices({}) == visible_devices({}) == ()
    assert gpu_driver.driver_fault() == fault
    note = f"note: no GPU is used, because the driver of the GPUs does not work ({fault}); see nvidia-smi\n"
    assert capsys.readouterr().err == ("" if fault is None else note)
    gpu_driver._note_fault.cache_clear()


def test_a_driver_that_never_answers_is_waited_for_with_an_end_and_a_word(
    nvml: Callable[..., Nvml], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    goes_on = threading.Event()

    def hang() -> None:
        goes_on.wait()
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    nvml("GPU-1a2b")
    monkeypatch.setattr(pynvml, "nvmlInit", hang)
    for name, limit_s in (("NOTE_AFTER_S", 0.05), ("LIMIT_S", 0.1), ("MODEL_S", 0.05)):
        monkeypatch.setattr(gpu_driver, name, limit_s)
    try:
        with pytest.raises(UsageError, match=r"does not answer within 0\.1 s; see nvidia-smi.* CUDA_VISIBLE_DEVICES"):
            visible_devices({})
        assert "waiting for the driver of the GPUs, at most 0.1 s" in capsys.readouterr().err
        # A model is only shown.
        assert worker_label("n", 0, "GPU-1a2b", {}) == "n-0 gpu GPU-1a2b"
    finally:
        goes_on.set()
        for thread in threading.enumerate():
            if thread.name == "driver of the GPUs":
                thread.join()


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", missing)


@pytest.mark.usefixtures("no_driver")
def test_a_machine_without_a_driver_has_no_gpus() -> None:
    assert visible_devices({}) == ()


# ---------------------------------------------------------------------------------------------------- choice of GPUs

FOUR = {"CUDA_VISIBLE_DEVICES": "4,5,GPU-1a2b,MIG-GPU-1a2b/3/0"}


@pytest.mark.parametrize(
    ("gpus", "tokens"),
    [
        (None, ("4", "5", "GPU-1a2b", "MIG-GPU-1a2b/3/0")),
        ("all", ("4", "5", "GPU-1a2b", "MIG-GPU-1a2b/3/0")),
        ("1", ("4",)),
        ("4", ("4", "5", "GPU-1a2b", "MIG-GPU-1a2b/3/0")),
        ("5,4", ("5", "4")),
        (" MIG-GPU-1a2b/3/0 ", ("MIG-GPU-1a2b/3/0",)),
        ("GPU-1a2b , 4", ("GPU-1a2b", "4")),
    ],
)
def test_gpus_are_all_the_first_so_many_or_those_that_are_named(gpus: str | None, tokens: tuple[str, ...]) -> None:
    assert chosen_devices(gpus, FOUR) == tokens


@pytest.mark.parametrize(
    ("gpus", "environment", "words"),
    [
        ("all", {"CUDA_VISIBLE_DEVICES": ""}, "gpus=all, but 0 GPUs are visible here (CUDA_VISIBLE_DEVICES is '')"),
        ("5", FOUR, "gpus=5, but 4 GPUs are visible here"),
        ("0", FOUR, "gpus=0, but 4 GPUs are visible here"),
        ("4,6", FOUR, "6 is not visible here"),
        ("GPU-3c4d", FOUR, "GPU-3c4d is not visible here"),
        ("4,4", FOUR, "each once"),
        ("4,,5", FOUR, "tokens separated by commas"),
        ("", FOUR, "write all, a number, or tokens"),
    ],
)
def test_gpus_that_are_not_there_are_refused_with_those_that_are(
    gpus: str, environment: dict[str, str], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        chosen_devices(gpus, environment)
    assert words in str(caught.value)


def test_without_the_variable_any_token_may_be_given(nvml: Callable[..., Nvml]) -> None:
    nvml("GPU-1a2b", "GPU-3c4d")
    assert chosen_devices("0,1", {}) == ("0", "1")
    assert chosen_devices("1", {}) == ("GPU-1a2b",)
    with pytest.raises(UsageError, match=r"the driver lists GPU-1a2b, GPU-3c4d"):
        chosen_devices("3", {})


@pytest.mark.parametrize("gpus", ["foo", "-1", "0,cuda:1"])
def test_a_token_that_names_no_gpu_is_refused_even_if_the_driver_lists_none(
    gpus: str, nvml: Callable[..., Nvml]
) -> None:
    nvml()
    with pytest.raises(UsageError, match=r"names no GPU \(the driver lists none\); write indices such as 0,1"):
        chosen_devices(gpus, {})


# ------------------------------------------------------------------------------------------------------------ cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, math.inf),
    ],
)
def test_a_container_s_share_is_read_from_either_version_of_control_groups(
    files: dict[str, str], cores: float, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert devices._container_cores(tmp_path) == cores


@pytest.mark.parametrize(("affinity", "share", "cores"), [(8, math.inf, 8), (8, 1.5, 2), (2, 16.0, 2), (8, 0.2, 1)])
def test_a_process_may_use_the_smaller_of_its_affinity_and_its_container_s_share(
    affinity: int, share: float, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(affinity)))
    monkeypatch.setattr(devices, "_container_cores", lambda path: share)
    assert usable_cores() == cores


# ---------------------------------------------------------------------------------------------------------- workers


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: 8)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("workers", "threads", "environment", "expected"),
    [
        (None, None, {"CUDA_VISIBLE_DEVICES": "0,1"}, [("0", 4), ("1", 4)]),
        (3, None, {"CUDA_VISIBLE_DEVICES": "0,1"}, [("0", 2), ("1", 2), ("0", 2)]),
        (1, None, {"CUDA_VISIBLE_DEVICES": "0,1"}, [("0", 8)]),
        (None, None, {"CUDA_VISIBLE_DEVICES": ""}, [(None, 2)] * 4),
        (2, None, {"CUDA_VISIBLE_DEVICES": ""}, [(None, 4)] * 2),
        (16, None, {"CUDA_VISIBLE_DEVICES": ""}, [(None, 1)] * 16),
        (2, 3, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "6"}, [(None, 3)] * 2),
        (2, None, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "6"}, [(None, None)] * 2),
    ],
)
def test_workers_share_gpus_and_cores(
    workers: int | None, threads: int | None, environment: dict[str, str], expected: list[tuple[str | None, int | None]]
) -> None:
    assert worker_devices(workers, threads, environment=environment) == expected


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("workers", "visible", "expected"),
    [
        (None, "0,1,2,3", [("0,1", 2), ("2,3", 2)]),
        (1, "0,1,2,3", [("0,1", 4)]),
        (3, "0,1,2,3", [("0,1", 1), ("2,3", 1), ("0,1", 1)]),
        (None, "GPU-a,GPU-b", [("GPU-a,GPU-b", 4)]),
        (2, "", [(None, 2), (None, 2)]),
        (None, "", [(None, 1)] * 4),
    ],
)
def test_workers_of_several_gpus_have_neighbours_and_their_processes_share_the_cores(
    workers: int | None, visible: str, expected: list[tuple[str | None, int | None]]
) -> None:
    assert worker_devices(workers, gpus_per_worker=2, environment={"CUDA_VISIBLE_DEVICES": visible}) == expected


def test_gpus_that_cannot_be_divided_are_refused_with_what_helps() -> None:
    with pytest.raises(UsageError, match=r"gpus_per_worker=2 does not divide the 3 GPUs here \(0, 1, 2\); use fewer"):
        worker_devices(gpus_per_worker=2, environment={"CUDA_VISIBLE_DEVICES": "0,1,2"})
    assert worker_devices(1, 1, gpus="2", gpus_per_worker=2, environment={"CUDA_VISIBLE_DEVICES": "0,1,2"}) == [
        ("0,1", 1)
    ]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"workers": 0}, "workers"), ({"threads": -1}, "threads"), ({"gpus_per_worker": 0}, "gpus_per_worker")],
)
def test_no_worker_and_no_thread_are_refused(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be at least 1, got {arguments[name]}"):
        worker_devices(**arguments, environment={"CUDA_VISIBLE_DEVICES": ""})


# ------------------------------------------------------------------------------------------------------ environment


def test_a_trainer_s_environment_has_its_device_and_its_threads() -> None:
    environment = trainer_environment({"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "9"}, "1", 2)
    assert environment == {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def test_variables_without_a_value_stay_unchanged() -> None:
    own = {"CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "9", "OMP_WAIT_POLICY": "ACTIVE"}
    assert trainer_environment(own, None, None) == own


def test_an_empty_device_is_the_cpu_alone() -> None:
    assert trainer_environment({"CUDA_VISIBLE_DEVICES": "0"}, "", None)["CUDA_VISIBLE_DEVICES"] == ""


def test_a_trainer_is_not_given_the_keys() -> None:
    own = {"HPBANDSTER_LITE_KEY": "k" * 32, "HPBANDSTER_LITE_NAMESERVER_KEY": "n" * 32}
    assert trainer_environment(own, None, None) == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize(
    ("variable", "left_s"),
    [("1600", 600.0), ("1000", None), ("900", None), ("0", None), ("", None), ("NONE", None), ("²", None)],
)
def test_the_time_left_of_a_job_comes_from_its_batch_system(variable: str, left_s: float | None) -> None:
    environment = {"SLURM_JOB_END_TIME": variable} if variable else {}
    assert job_left_s(environment, 1_000.0) == left_s


# ------------------------------------------------------------------------------------------------------------ label


@pytest.mark.usefixtures("no_driver")
@pytest.mark.parametrize(
    ("device", "environment", "label"),
    [
        (None, {}, "node7-2"),
        ("", {}, "node7-2"),
        ("1", {}, "node7-2 gpu 1"),
        ("GPU-1a2b3c4d-5e6f", {}, "node7-2 gpu GPU-1a2b3c4d"),
        ("0", {"SLURM_JOB_ID": "815", "SLURM_PROCID": "3"}, "node7-2 job 815.3 gpu 0"),
        (None, {"SLURM_JOB_ID": "815"}, "node7-2 job 815.0"),
        ("0,1", {}, "node7-2 gpu 0,1"),
        ("1", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "4,6"}, "node7-2 gpu 6"),
        ("0,1", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_JOB_GPUS": "4,6"}, "node7-2 gpu 4,6"),
        ("0", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "2", "SLURM_JOB_GPUS": "4,6"}, "node7-2 gpu 4"),
        ("0", {"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_STEP_GPUS": "2"}, "node7-2 gpu 0"),
    ],
)
def test_a_worker_is_called_by_host_number_job_and_device(
    device: str | None, environment: dict[str, str], label: str
) -> None:
    assert worker_label("node7", 2, device, environment) == label


def test_a_worker_s_label_has_the_model_and_the_memory_of_its_gpu(nvml: Callable[..., Nvml]) -> None:
    library = nvml("GPU-1a2b", ["MIG-1", "MIG-2"], "GPU-mute", broken=("GPU-mute",))
    assert worker_label("node7", 0, "GPU-1a2b", {}) == "node7-0 gpu GPU-1a2b H100 80GB HBM3, 79 GiB"
    assert worker_label("node7", 0, "MIG-2", {}) == "node7-0 gpu MIG-2 H100 80GB HBM3, 79 GiB"
    assert worker_label("node7", 0, "0,1", {"CUDA_VISIBLE_DEVICES": "0,1"}).endswith("gpu 0,1 H100 80GB HBM3, 79 GiB")
    assert worker_label("node7", 0, "GPU-mute", {}) == "node7-0 gpu GPU-mute"
    assert worker_label("node7", 0, "GPU-unknown", {}) == "node7-0 gpu GPU-unknown"
    # Each use of the library also ends it.
    assert library.shutdowns == 5


def test_a_trainer_knows_the_run_directory_of_its_own_search_alone() -> None:
    outer = {"HPBANDSTER_LITE_RUN_DIR": "/outer", "PATH": "/bin"}
    assert trainer_environment(outer, None, None, "/run")["HPBANDSTER_LITE_RUN_DIR"] == "/run"
    assert "HPBANDSTER_LITE_RUN_DIR" not in trainer_environment(outer, None, None)
