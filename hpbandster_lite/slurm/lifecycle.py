"""Submit a search, change the number of its workers, and end its jobs politely.

Law of this file: what was submitted is written down before the next step is taken, and what is to end is asked to hand
back first; only what does not go is cancelled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError, SearchError, UsageError
from hpbandster_lite.rundir import RunDirectory, write_atomically
from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.slurm.parsing import ENDING, QueuedJob
from hpbandster_lite.slurm.scale_down import leavers
from hpbandster_lite.slurm.scripts import ALL_IN_ONE, FOLDER, MASTER, WORKERS, Submission, file_name, with_tasks
from hpbandster_lite.slurm.submitted_jobs import JobsOfRun, SubmittedJob, jobs_of

PATIENCE_S = 60.0
"""Time to hand back what is being evaluated: an objective has 20 s to save, and its worker 5 s to say so."""
BEGIN_S = 8.0
"""A job that finds room has begun by then: Slurm lets submissions gather for some seconds before it looks at them."""
LOOK_EVERY_S = 0.5
NEW_S = 5
"""A job that has run for less may have started nothing yet that hears a signal, and has nothing to hand back."""
END = "TERM"
"""What a worker hands its evaluation back at, and is not queued again after."""


def submit(
    slurm: Slurm,
    directory: RunDirectory,
    asked: dict[str, Submission],
    *,
    at: float,
    begin_s: float = BEGIN_S,
) -> JobsOfRun:
    """Submit the jobs of a search: all in one, or the master, and the workers for the time after it has begun.

    A master that begins within seconds is waited for here. Its workers then need no dependency, which Slurm may look at
    only once a minute; those of one that has to queue have one, and hold no GPU meanwhile.

    Parameters
    ----------
    slurm
        Where to.
    directory
        Of the search; it exists.
    asked
        What :func:`~hpbandster_lite.slurm.scripts.submissions` gave.
    at
        Unix time.
    begin_s
        How long the master's job is waited for.

    Returns
    -------
    JobsOfRun
        All jobs of the run, those of earlier submissions first.

    Raises
    ------
    UsageError
        If jobs of this run are still in the queue, or sbatch refuses one; then none of this call is left there.
    """
    slurm.require()
    jobs = jobs_of(directory)
    living = [job.name for job in slurm.queue(jobs.of()) if job.is_living]
    if living:
        raise UsageError(
            f"the search in {directory.path} has jobs in the queue: {', '.join(living)}; hpbandster-lite slurm scale "
            f"{directory.path} N changes the number of its workers, slurm cancel {directory.path} ends them all"
        )
    workers = asked[WORKERS]
    jobs = replace(jobs, worker_options=workers.options, worker_arguments=workers.arguments)
    folder = directory.path / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    for submission in asked.values():
        write_atomically(submission.file(folder), submission.text)
    if ALL_IN_ONE in asked:
        return _and_submitted(slurm, directory, jobs, asked[ALL_IN_ONE], folder, at=at)
    jobs = _and_submitted(slurm, directory, jobs, asked[MASTER], folder, at=at)
    master = jobs.jobs[-1].job
    try:
        after = None if _has_begun(slurm, master, begin_s) else master
        return _and_submitted(slurm, directory, jobs, workers, folder, at=at, after=after)
    except SearchError:
        # A master without workers would wait for the whole of its time.
        slurm.cancel([master])
        replace(jobs, jobs=jobs.jobs[:-1]).keep(directory)
        raise


def _has_begun(slurm: Slurm, job: str, within_s: float) -> bool:
    """Whether a job begins within some time; one that has left the queue has begun."""
    deadline = time.monotonic() + within_s
    while any(each.is_waiting for each in slurm.queue([job])):
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _and_submitted(
    slurm: Slurm,
    directory: RunDirectory,
    jobs: JobsOfRun,
    submission: Submission,
    folder: Path,
    *,
    at: float,
    after: str | None = None,
) -> JobsOfRun:
    """The jobs with one more, which was submitted and written down."""
    command = submission.command(folder, after=after)
    job = slurm.submit(command)
    told = SubmittedJob(job=job, kind=submission.kind, tasks=submission.tasks, at=at, command=tuple(command))
    jobs = jobs.and_job(told)
    jobs.keep(directory)
    return jobs


def scale(slurm: Slurm, directory: RunDirectory, count: int, *, busy: Callable[[], Collection[str]], at: float) -> str:
    """Have ``count`` workers: submit a further array, or let some go; what was done, in words.

    Parameters
    ----------
    slurm, directory, at
        As for :func:`submit`.
    count
        Workers in arrays, running or queued; those inside a job that holds everything do not count.
    busy
        Gives the numbers of the jobs that evaluate something; asked where some are to go.

    Raises
    ------
    UsageError
        If nothing was submitted for this run, or the number cannot be.
    """
    if count < 0:
        raise UsageError(f"there cannot be {count} workers; give 0 or more")
    jobs = recorded(directory)
    workers = [job for job in slurm.queue(jobs.of(WORKERS)) if job.is_living]
    missing = count - len(workers)
    if missing > 0:
        script = directory.path / FOLDER / file_name(WORKERS)
        if not script.is_file():
            raise RunDirectoryError(
                f"{script} is gone, which further workers are submitted with; submit the search again"
            )
        more = Submission(
            kind=WORKERS,
            text="",
            options=with_tasks(jobs.worker_options, missing),
            arguments=jobs.worker_arguments,
            tasks=missing,
        )
        job = _and_submitted(slurm, directory, jobs, more, script.parent, at=at).jobs[-1].job
        return f"{len(workers)} workers, {missing} more submitted as job {job}"
    if missing == 0:
        return f"{len(workers)} workers, as there are to be"
    going = leavers(workers, -missing, busy())
    let_go(slurm, going)
    waiting = sum(job.is_waiting for job in going)
    told = [f"{waiting} cancelled in the queue" if waiting else "", _told(len(going) - waiting)]
    return f"{len(workers)} workers, {', '.join(filter(None, told))}: {', '.join(job.name for job in going)}"


def _told(running: int) -> str:
    return f"{running} told to hand back what they evaluate and to end" if running else ""


def let_go(slurm: Slurm, jobs: Iterable[QueuedJob]) -> None:
    """Cancel those that wait or have only just begun; have the others hand back what they evaluate, and end."""
    jobs = list(jobs)
    new = [job.name for job in jobs if job.is_waiting or job.used_s < NEW_S]
    slurm.cancel(new)
    # A signal goes to what the job has started with srun, and a job whose work has ended ends by itself.
    slurm.cancel([job.name for job in jobs if job.name not in new], signal=END)


def recorded(directory: RunDirectory) -> JobsOfRun:
    """The jobs of a run that has some.

    Raises
    ------
    RunDirectoryError
        If there is no such run directory.
    UsageError
        If nothing was submitted for it.
    """
    if not directory.path.is_dir():
        raise RunDirectoryError(f"the run directory {directory.path} does not exist; slurm submit told which one it is")
    jobs = jobs_of(directory)
    if not jobs.jobs:
        raise UsageError(
            f"nothing was submitted for {directory.path}; begin with: hpbandster-lite slurm submit PROBLEM --run-dir "
            f"{directory.path}"
        )
    return jobs


def cancel(
    slurm: Slurm, directory: RunDirectory, say: Callable[[str], object], *, patience_s: float = PATIENCE_S
) -> None:
    """End all jobs of a run: workers hand back first, then the master closes the journal.

    Parameters
    ----------
    slurm, directory
        As for :func:`submit`.
    say
        Told each step in words.
    patience_s
        How long each step may take before what is left is cancelled.
    """
    jobs = recorded(directory)
    steps = (
        ((WORKERS,), "workers hand back what they evaluate"),
        ((MASTER, ALL_IN_ONE), "the master closes the journal"),
    )
    ended = 0
    for kinds, words in steps:
        living = [job for job in slurm.queue(jobs.of(*kinds)) if job.is_living]
        if not living:
            continue
        ended += len(living)
        say(f"{', '.join(job.name for job in living)}: {words}")
        let_go(slurm, living)
        left = _left_after(slurm, jobs.of(*kinds), patience_s)
        if left:
            say(f"{', '.join(left)}: not gone after {patience_s:g} s, and cancelled now")
            slurm.cancel(left)
    say("all jobs have ended" if ended else "no job of this run is in the queue")


def _left_after(slurm: Slurm, jobs: list[str], patience_s: float) -> list[str]:
    """Which of these jobs are still there after some time; those that Slurm clears away are not."""
    deadline = time.monotonic() + patience_s
    while True:
        left = [job.name for job in slurm.queue(jobs) if job.state != ENDING]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(LOOK_EVERY_S)
