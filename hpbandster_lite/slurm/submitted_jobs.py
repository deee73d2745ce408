"""The file ``slurm.json`` of a run directory: the jobs that were submitted for the run.

Law of this file: it records submissions, not the state of a job, which Slurm reports on each request. The names of the
fields are the keys of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field, replace
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory, write_atomically

FILE_NAME = "slurm.json"


@record(frozen=True, slots=True, kw_only=True)
class SubmittedJob:
    """A successful call of sbatch: job number, script, number of array tasks, Unix time, command."""

    job: str
    kind: str
    tasks: int
    at: float
    command: tuple[str, ...]


@record(frozen=True, slots=True, kw_only=True)
class JobsOfRun:
    """All jobs of a run, in the order of submission.

    Attributes
    ----------
    jobs
        The submitted jobs.
    worker_options, worker_arguments
        Options of sbatch and arguments of the script for the submission of further workers.
    scripts
        SHA-256 of each script that was written, by the name of its file: a script that differs was edited.
    """

    jobs: tuple[SubmittedJob, ...] = ()
    worker_options: tuple[str, ...] = ()
    worker_arguments: tuple[str, ...] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)

    def of(self, *kinds: str) -> list[str]:
        """Numbers of the jobs of these scripts; of all jobs if no script is given."""
        return [each.job for each in self.jobs if not kinds or each.kind in kinds]

    def with_job(self, job: SubmittedJob) -> JobsOfRun:
        """These jobs and one more."""
        return replace(self, jobs=(*self.jobs, job))

    def save(self, directory: RunDirectory) -> None:
        """Write the file.

        Raises
        ------
        RunDirectoryError
            If the file cannot be written.
        """
        write_atomically(jobs_file(directory), json.dumps(asdict(self), indent=1) + "\n")


def jobs_file(directory: RunDirectory) -> Path:
    """Path of the file in a run directory."""
    return directory.path / FILE_NAME


def load_jobs(directory: RunDirectory) -> JobsOfRun:
    """Jobs of a run; empty if no job was submitted.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read or parsed.
    """
    file = jobs_file(directory)
    try:
        content = json.loads(file.read_text("utf-8"))
        return JobsOfRun(
            jobs=tuple(SubmittedJob(**{**each, "command": tuple(each["command"])}) for each in content["jobs"]),
            worker_options=tuple(content["worker_options"]),
            worker_arguments=tuple(content["worker_arguments"]),
            scripts=dict(content.get("scripts", {})),
        )
    except FileNotFoundError:
        return JobsOfRun()
    except OSError as error:
        raise RunDirectoryError(f"cannot read the submitted jobs from {file}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{file} is not a list of submitted jobs ({error!r}); squeue --me lists your jobs. Delete the file to "
            "submit the search again"
        ) from error
