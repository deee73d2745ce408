"""The environment variables that processes of a search are started with.

Law of this file: names and one mapping, and next to no imports: it is needed before anything else is there.
"""

from __future__ import annotations

from collections.abc import Mapping

KEY_VARIABLE = "HPBANDSTER_LITE_KEY"
"""Takes the place of the run's key file."""
NAMESERVER_KEY_VARIABLE = "HPBANDSTER_LITE_NAMESERVER_KEY"
"""Takes the place of the name server's key file."""
TLS_VARIABLE = "HPBANDSTER_LITE_TLS"
"""Names the folder with the certificates, where no option does."""
_OURS = (KEY_VARIABLE, NAMESERVER_KEY_VARIABLE, TLS_VARIABLE)
JOB_ENDS_VARIABLE = "SLURM_JOB_END_TIME"
"""When Slurm ends this job, as a Unix time."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def job_left_s(environment: Mapping[str, str], unix_time: float) -> float | None:
    """Seconds until the batch system ends this job; None where it does not say, or names a time that has passed.

    Parameters
    ----------
    environment
        This process's own.
    unix_time
        Now. Where the clock of this host is wrong, so is what is left: a job whose time had passed would not run.
    """
    told = environment.get(JOB_ENDS_VARIABLE, "")
    left_s = float(told) - unix_time if told.isascii() and told.isdecimal() else 0.0
    return left_s if left_s > 0 else None


def trainer_environment(environment: Mapping[str, str], device: str | None, threads: int | None) -> dict[str, str]:
    """Environment of a trainer, set before it imports anything.

    Parameters
    ----------
    environment
        The agent's own; keys of ours, and where they lie, are taken out of it.
    device
        Token for CUDA_VISIBLE_DEVICES; empty for the CPU alone; None leaves the variable as it is.
    threads
        Threads of numerical libraries; None leaves them as they are.
    """
    told = {name: value for name, value in environment.items() if name not in _OURS}
    if device is not None:
        told[VISIBLE] = device
    if threads is not None:
        told.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    # Threads that spin for each other on busy cores cost more than they give (36 s became 15 s without).
    told.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return told
