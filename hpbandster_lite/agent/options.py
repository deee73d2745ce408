"""The options of one agent.

Law of this file: plain values that fit on a command line; impossible ones are refused when the record is made. User
options among them are declared in :mod:`hpbandster_lite.settings.options`, which an agent does not import, because that
would take a tenth of its start; a test compares both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpbandster_lite import wire
from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.records.decorator import record
from hpbandster_lite.trainer.attempt_log import MAX_LOG_BYTES

ISOLATIONS = ("trainer", "none")


@wire.register("AgentOptions")
@record(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """One worker.

    Parameters
    ----------
    problem
        Reference of the problem; it names the code that runs; a master never sends code.
    run_dir
        The run directory, where this host can read it: it has the endpoint, the key, and the checkpoints.
    nameserver, nameserver_key, run_id
        Address and key file of a name server, and the run to look up there, for a host without the run directory.
    key
        File with the run's key; default: the run directory's, or the environment variable HPBANDSTER_LITE_KEY.
    tls
        Folder with the certificates; default: see :func:`hpbandster_lite.access.certificates.certificates_for`.
    scratch
        Where attempts write if there is no run directory; default: a folder of this user in the system's temporary one.
    index
        Number of this worker on its machine.
    device
        Tokens for CUDA_VISIBLE_DEVICES, with commas between; empty for the CPU alone; None leaves the environment as it
        is.
    gpus_per_worker
        How many devices an evaluation trains on, with one process for each; without GPUs, as many processes on the CPU.
    threads
        Threads of the trainer's numerical libraries; None leaves the environment as it is.
    isolation
        ``trainer`` runs the objective in a separate process, ``none`` inside the agent.
    fresh_process
        Whether each evaluation gets a trainer of its own.
    timeout_s
        Time limit of one evaluation; None for no limit.
    master_timeout_s
        How long to run without a master before the result is left in the run directory. A worker ends sooner if the
        journal in the run directory says that the search is over.
    idle_timeout_s
        End after this long without work; None waits for as long as the search lasts.
    max_evaluations
        End after this many evaluations (those that the problem refused as infeasible do not count); None for no limit.
    time_ends_at
        When the allocation of this worker ends, in seconds of this host's monotonic clock: it takes no evaluation that
        would end later, and ends at that time. None for no limit.
    grace_s
        Time that an objective has to save and to stop, before its trainer is killed.
    order_within_s
        How long after a signal to the trainer an order to the agent counts as its cause.
    load_timeout_s
        Time that importing the problem may take.
    max_log_bytes
        Most bytes in the log file of one evaluation.
    arguments
        ``sys.argv`` while the problem is imported: that of the script that calls ``minimize``; empty for the problem's
        file alone.
    lifeline
        File descriptor; its end of file means that the parent process is gone.
    has_own_master
        Whether the launcher of this agent starts the master, too, and ends both: until the agent has reached that
        master, it waits, although the journal says that the search is over.

    Raises
    ------
    UsageError
        If a value is not allowed, or nothing says how to find the master.
    """

    problem: str
    run_dir: str | None = None
    nameserver: tuple[str, int] | None = None
    nameserver_key: str | None = None
    run_id: str | None = None
    key: str | None = None
    tls: str | None = None
    scratch: str | None = None
    index: int = 0
    device: str | None = None
    gpus_per_worker: int = 1
    threads: int | None = None
    isolation: str = "trainer"
    fresh_process: bool = False
    timeout_s: float | None = None
    master_timeout_s: float = 1_800.0
    idle_timeout_s: float | None = None
    max_evaluations: int | None = None
    time_ends_at: float | None = None
    grace_s: float = 20.0
    order_within_s: float = 5.0
    load_timeout_s: float = 300.0
    max_log_bytes: int = MAX_LOG_BYTES
    arguments: tuple[str, ...] = ()
    lifeline: int | None = None
    has_own_master: bool = False

    def __post_init__(self) -> None:
        if self.run_dir is None and (self.nameserver is None or self.run_id is None):
            raise UsageError("a worker needs a way to find the master: give --run-dir, or --nameserver and --run-id")
        if self.run_id is not None and (Path(self.run_id).name != self.run_id or self.run_id == ".."):
            # It is part of a path where there is no run directory.
            raise UsageError(f"invalid --run-id {self.run_id!r}: give it as hpbandster-lite status prints it")
        if self.isolation not in ISOLATIONS:
            raise UsageError(f"isolation must be one of {', '.join(ISOLATIONS)}, got {self.isolation!r}")
        if self.isolation == "none" and self.gpus_per_worker > 1:
            raise UsageError("several GPUs for an evaluation need isolation='trainer', which ends all processes of it")
        if self.isolation == "none" and self.timeout_s is not None:
            raise UsageError("a time limit needs isolation='trainer': a function inside the agent cannot be ended")
        if self.isolation == "none" and self.fresh_process:
            raise UsageError("a fresh process for each evaluation needs isolation='trainer'")
        for name in ("timeout_s", "master_timeout_s", "idle_timeout_s", "grace_s", "order_within_s", "load_timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be above 0 seconds, got {value!r}")
        for name in ("threads", "max_evaluations", "gpus_per_worker"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise UsageError(f"{name} must be at least 1, got {count}")
        if self.max_log_bytes < 0:
            raise UsageError(f"max_log_bytes must be at least 0, got {self.max_log_bytes}")


def one_per_worker(
    shared: AgentOptions, workers: int | None, threads: int | None, gpus: str | None = None
) -> list[AgentOptions]:
    """Options of each worker of this machine: its devices and its share of the cores."""
    devices = worker_devices(workers, threads, gpus=gpus, gpus_per_worker=shared.gpus_per_worker)
    return [replace(shared, index=index, device=device, threads=each) for index, (device, each) in enumerate(devices)]
