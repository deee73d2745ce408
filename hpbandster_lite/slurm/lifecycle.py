"""Submits the jobs of a search, changes the number of its workers, and ends its jobs.

Law of this file: each submission is recorded before the next step. To end a job, this file first asks its worker to
hand the evaluation back; it cancels a job that does not end.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError, SearchError, UsageError
from hpbandster_lite.rundir import RunDirectory, refuse_to_replace, write_atomically
from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.slurm.parsing import ENDING, QueuedJob
from hpbandster_lite.slurm.scale_down import cheapest_to_end
from hpbandster_lite.slurm.scripts import (
    ALL_IN_ONE,
    MASTER,
    SCRIPTS_FOLDER,
    WORKERS,
    Submission,
    file_name,
    grace_in,
    with_array_size,
)
from hpbandster_lite.slurm.submitted_jobs import JobsOfRun, SubmittedJob, load_jobs

BEYOND_GRACE_S = 40.0
"""Time in seconds beyond the grace of evaluations for handing them back: a worker has 5 s of it to report."""
START_WAIT_S = 8.0
"""Time in seconds within which a job starts if resources are free: Slurm collects submissions for some seconds before
it schedules them."""
POLL_S = 0.5
JUST_STARTED_S = 5
"""A job that has run for less than this time may have no signal handlers yet, and has nothing to hand back."""
END_SIGNAL = "TERM"
"""On this signal a worker hands its evaluation back, and its script does not requeue the job."""


def submit(
    slurm: Slurm,
    directory: RunDirectory,
    planned: dict[str, Submission],
    *,
    at: float,
    start_wait_s: float = START_WAIT_S,
    force: bool = False,
) -> JobsOfRun:
    """Submit the jobs of a search: one job for everything, or the master and then its workers.

    This function waits some seconds for the master's job to start. Its workers then need no dependency, which Slurm may
    check only once a minute. If the master stays in the queue, its workers depend on it, so that they hold no GPU
    meanwhile.

    Parameters
    ----------
    slurm
        Slurm's commands.
    directory
        Run directory of the search, which must exist.
    planned
        Result of :func:`~hpbandster_lite.slurm.scripts.plan_submissions`.
    at
        The current Unix time.
    start_wait_s
        Longest wait in seconds for the start of the master's job. Default: 8.
    force
        Whether to replace scripts that the user wrote or edited.

    Returns
    -------
    JobsOfRun
        All jobs of the run, earlier submissions first.

    Raises
    ------
    UsageError
        If jobs of this run are still in the queue, a script that the user wrote or edited would be replaced, or sbatch
        refuses a job. No job of this call then stays in the queue.
    """
    slurm.require()
    jobs = load_jobs(directory)
    active = [job.name for job in slurm.queue(jobs.of()) if job.is_active]
    if active:
        raise UsageError(
            f"the search in {directory.path} has jobs in the queue: {', '.join(active)}; hpbandster-lite slurm scale "
            f"{directory.path} N changes the number of its workers, slurm cancel {directory.path} ends all its jobs"
        )
    workers = planned[WORKERS]
    jobs = replace(jobs, worker_options=workers.options, worker_arguments=workers.arguments)
    folder = directory.path / SCRIPTS_FOLDER
    jobs = _write_scripts(directory, jobs, planned.values(), folder, force=force)
    if ALL_IN_ONE in planned:
        return _submit_and_record(slurm, directory, jobs, planned[ALL_IN_ONE], folder, at=at)
    jobs = _submit_and_record(slurm, directory, jobs, planned[MASTER], folder, at=at)
    master = jobs.jobs[-1].job
    try:
        after = None if _starts_within(slurm, master, start_wait_s) else master
        return _submit_and_record(slurm, directory, jobs, workers, folder, at=at, after=after)
    except SearchError:
        # Without workers the master would wait until its time limit.
        slurm.cancel([master])
        replace(jobs, jobs=jobs.jobs[:-1]).save(directory)
        raise


def _write_scripts(
    directory: RunDirectory, jobs: JobsOfRun, submissions: Collection[Submission], folder: Path, *, force: bool
) -> JobsOfRun:
    """Write all scripts or none, and record what was written."""
    folder.mkdir(mode=0o700, exist_ok=True)
    remedy = "it may be one that was edited since: move it away"
    for each in submissions:
        is_ours = partial(_is_ours, each, folder, jobs.scripts)
        refuse_to_replace(each.file(folder), force=force, is_ours=is_ours, remedy=remedy)
    for each in submissions:
        write_atomically(each.file(folder), each.text)
    written = {each.file(folder).name: _hash(each.text.encode("utf-8")) for each in submissions}
    jobs = replace(jobs, scripts={**jobs.scripts, **written})
    jobs.save(directory)
    return jobs


def _is_ours(submission: Submission, folder: Path, written: Mapping[str, str]) -> bool:
    """Whether the script that is there is one that was written here, and has not been edited since."""
    file = submission.file(folder)
    content = file.read_bytes()
    if file.name in written:
        return _hash(content) == written[file.name]
    # An earlier version recorded no hashes: it begins as ours does.
    return content.splitlines()[:2] == submission.text.encode("utf-8").splitlines()[:2]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _starts_within(slurm: Slurm, job: str, limit_s: float) -> bool:
    """Whether a job starts within this time; a job that has left the queue has started."""
    deadline = time.monotonic() + limit_s
    while any(each.is_waiting for each in slurm.queue([job])):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _submit_and_record(
    slurm: Slurm,
    directory: RunDirectory,
    jobs: JobsOfRun,
    submission: Submission,
    folder: Path,
    *,
    at: float,
    after: str | None = None,
) -> JobsOfRun:
    """Submit one more job and record it; return all jobs."""
    command = submission.command(folder, after=after)
    job = slurm.submit(command)
    submitted = SubmittedJob(job=job, kind=submission.kind, tasks=submission.tasks, at=at, command=tuple(command))
    jobs = jobs.with_job(submitted)
    jobs.save(directory)
    return jobs


def scale(slurm: Slurm, directory: RunDirectory, count: int, *, busy: Callable[[], Collection[str]], at: float) -> str:
    """Change the number of workers to ``count``: submit a further array, or end some workers; return a summary.

    Parameters
    ----------
    slurm, directory, at
        As for :func:`submit`.
    count
        Number of workers in arrays, running or queued; workers inside an all-in-one job are not counted.
    busy
        Returns the numbers of the jobs that are evaluating a configuration; called only to reduce the number of
        workers.

    Raises
    ------
    UsageError
        If no job was submitted for this run, or ``count`` is negative.
    """
    if count < 0:
        raise UsageError(f"the number of workers must be at least 0, got {count}")
    jobs = jobs_of_run(directory)
    workers = [job for job in slurm.queue(jobs.of(WORKERS)) if job.is_active]
    missing = count - len(workers)
    if missing > 0:
        job = _submit_more(slurm, directory, jobs, missing, at=at)
        return f"{len(workers)} workers, {missing} more submitted as job {job}"
    if missing == 0:
        return f"{len(workers)} workers already; nothing to do"
    ending = cheapest_to_end(workers, -missing, busy())
    end_jobs(slurm, ending)
    waiting = sum(job.is_waiting for job in ending)
    steps = [
        f"{waiting} cancelled in the queue" if waiting else "",
        f"{len(ending) - waiting} asked to hand back their evaluation and end" if len(ending) > waiting else "",
    ]
    return f"{len(workers)} workers, {', '.join(filter(None, steps))}: {', '.join(job.name for job in ending)}"


def _submit_more(slurm: Slurm, directory: RunDirectory, jobs: JobsOfRun, count: int, *, at: float) -> str:
    """Submit a further array of workers; return its number."""
    script = directory.path / SCRIPTS_FOLDER / file_name(WORKERS)
    if not script.is_file():
        raise RunDirectoryError(
            f"the workers' script {script} is missing; submit the search again when its jobs have ended"
        )
    more = Submission(
        kind=WORKERS,
        text="",
        options=with_array_size(jobs.worker_options, count),
        arguments=jobs.worker_arguments,
        tasks=count,
    )
    return _submit_and_record(slurm, directory, jobs, more, script.parent, at=at).jobs[-1].job


def end_jobs(slurm: Slurm, jobs: Iterable[QueuedJob]) -> None:
    """Cancel jobs that wait or have just started; send other jobs the signal to hand back and end."""
    jobs = list(jobs)
    new = [job.name for job in jobs if job.is_waiting or job.used_s < JUST_STARTED_S]
    slurm.cancel(new)
    # The signal goes to the steps that srun started; a job ends when its step has ended.
    slurm.cancel([job.name for job in jobs if job.name not in new], signal=END_SIGNAL)


def jobs_of_run(directory: RunDirectory) -> JobsOfRun:
    """The jobs of a run, at least one.

    Raises
    ------
    RunDirectoryError
        If the run directory does not exist.
    UsageError
        If no job was submitted for this run.
    """
    if not directory.path.is_dir():
        raise RunDirectoryError(f"the run directory {directory.path} does not exist; slurm submit prints its path")
    jobs = load_jobs(directory)
    if not jobs.jobs:
        raise UsageError(
            f"no job was submitted for {directory.path}; submit with: hpbandster-lite slurm submit PROBLEM --run-dir "
            f"{directory.path}"
        )
    return jobs


def cancel(
    slurm: Slurm,
    directory: RunDirectory,
    show_progress: Callable[[str], object],
    *,
    hand_back_limit_s: float | None = None,
) -> None:
    """End all jobs of a run: workers hand back first, then the master closes the journal.

    Parameters
    ----------
    slurm, directory
        As for :func:`submit`.
    show_progress
        Called with a line of text for each step.
    hand_back_limit_s
        Time limit of each step in seconds; jobs that remain are then cancelled. Default: 40 more than the grace of
        the workers that were submitted.
    """
    jobs = jobs_of_run(directory)
    limit_s = grace_in(jobs.worker_arguments) + BEYOND_GRACE_S if hand_back_limit_s is None else hand_back_limit_s
    steps = (
        ((WORKERS,), "workers hand back their evaluations"),
        ((MASTER, ALL_IN_ONE), "the master closes the journal"),
    )
    ended = 0
    for kinds, description in steps:
        active = [job for job in slurm.queue(jobs.of(*kinds)) if job.is_active]
        if not active:
            continue
        ended += len(active)
        show_progress(f"{', '.join(job.name for job in active)}: {description}")
        end_jobs(slurm, active)
        left = _left_after(slurm, jobs.of(*kinds), limit_s)
        if left:
            show_progress(f"{', '.join(left)}: still running after {limit_s:g} s, cancelled")
            slurm.cancel(left)
    show_progress("all jobs have ended" if ended else "no job of this run is in the queue")


def _left_after(slurm: Slurm, jobs: list[str], limit_s: float) -> list[str]:
    """Jobs that are still in the queue after this time; jobs that Slurm is completing do not count."""
    deadline = time.monotonic() + limit_s
    while True:
        left = [job.name for job in slurm.queue(jobs) if job.state != ENDING]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(POLL_S)
