"""Which jobs were submitted for a run, in a small file of its run directory.

Law of this file: it tells what was submitted, never what became of it; that is asked of Slurm each time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.rundir import RunDirectory, write_atomically

FILE_NAME = "slurm.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedJob:
    """A call of sbatch that was taken: number of the job, which script, tasks of its array, Unix time, the command."""

    job: str
    kind: str
    tasks: int
    at: float
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsOfRun:
    """All of a run, in the order of their submission.

    Attributes
    ----------
    jobs
        What was submitted.
    worker_options, worker_arguments
        How further workers are submitted: options of sbatch, arguments of the script.
    """

    jobs: tuple[SubmittedJob, ...] = ()
    worker_options: tuple[str, ...] = ()
    worker_arguments: tuple[str, ...] = ()

    def of(self, *kinds: str) -> list[str]:
        """Numbers of the jobs of some scripts; of all without a name."""
        return [each.job for each in self.jobs if not kinds or each.kind in kinds]

    def kind_of(self, job: str) -> str:
        """Which script a job runs."""
        return next((each.kind for each in self.jobs if each.job == job), "")

    def and_job(self, job: SubmittedJob) -> JobsOfRun:
        """These and one more."""
        return replace(self, jobs=(*self.jobs, job))

    def keep(self, directory: RunDirectory) -> None:
        """Write them down.

        Raises
        ------
        RunDirectoryError
            If they cannot be written.
        """
        write_atomically(place(directory), json.dumps(asdict(self), indent=1) + "\n")


def place(directory: RunDirectory) -> Path:
    """Where the jobs of a run are written down."""
    return directory.path / FILE_NAME


def jobs_of(directory: RunDirectory) -> JobsOfRun:
    """The jobs of a run; none where nothing was submitted.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read, or is none of ours.
    """
    file = place(directory)
    try:
        told = json.loads(file.read_text("utf-8"))
        return JobsOfRun(
            jobs=tuple(SubmittedJob(**{**each, "command": tuple(each["command"])}) for each in told["jobs"]),
            worker_options=tuple(told["worker_options"]),
            worker_arguments=tuple(told["worker_arguments"]),
        )
    except FileNotFoundError:
        return JobsOfRun()
    except OSError as error:
        raise RunDirectoryError(f"cannot read which jobs were submitted: {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{file} does not tell which jobs were submitted ({error!r}); squeue --me lists yours. Delete it to submit "
            "anew"
        ) from error
