"""The environment variables of the processes of a search.

Law of this file: names and pure functions, and almost no imports, because every process needs it first.
"""

from __future__ import annotations

from collections.abc import Mapping

KEY_VARIABLE = "HPBANDSTER_LITE_KEY"
"""The key, instead of the run's key file."""
NAMESERVER_KEY_VARIABLE = "HPBANDSTER_LITE_NAMESERVER_KEY"
"""The key, instead of the name server's key file."""
TLS_VARIABLE = "HPBANDSTER_LITE_TLS"
"""The folder with the certificates, if no option gives one."""
LOG_FORMAT_VARIABLE = "HPBANDSTER_LITE_LOG_FORMAT"
"""The format of logs, if no option gives one."""
RUN_DIRECTORY_VARIABLE = "HPBANDSTER_LITE_RUN_DIR"
"""The run directory of a trainer's search, where shipped problems keep what its trainers share."""
_OURS = (KEY_VARIABLE, NAMESERVER_KEY_VARIABLE, TLS_VARIABLE, RUN_DIRECTORY_VARIABLE)
JOB_ENDS_VARIABLE = "SLURM_JOB_END_TIME"
"""When Slurm ends this job, as a Unix time."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def job_left_s(environment: Mapping[str, str], unix_time: float) -> float | None:
    """Seconds until the batch system ends this job; None if it does not give the time, or the time has passed.

    Parameters
    ----------
    environment
        The environment variables of this process.
    unix_time
        The current time. A time past the end of the job means that this host's clock is wrong, because the job runs.
    """
    value = environment.get(JOB_ENDS_VARIABLE, "")
    left_s = float(value) - unix_time if value.isascii() and value.isdecimal() else 0.0
    return left_s if left_s > 0 else None


def trainer_environment(
    environment: Mapping[str, str], device: str | None, threads: int | None, run_directory: str | None = None
) -> dict[str, str]:
    """The environment of a trainer, which is set before the trainer imports anything.

    Parameters
    ----------
    environment
        The agent's environment; the keys and the path of the certificates are removed from it.
    device
        Value of CUDA_VISIBLE_DEVICES; empty for the CPU only; None leaves the variable unchanged.
    threads
        Threads of numerical libraries; None leaves the variables unchanged.
    run_directory
        The run directory of the search. Default: None, where this host does not see it.
    """
    variables = {name: value for name, value in environment.items() if name not in _OURS}
    if run_directory is not None:
        variables[RUN_DIRECTORY_VARIABLE] = run_directory
    if device is not None:
        variables[VISIBLE] = device
    if threads is not None:
        variables.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # Threads that busy-wait on loaded cores take time: passive waiting reduced 36 s to 15 s.
    variables.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return variables
