"""A search as Slurm jobs: submit them, show them, scale the workers, cancel.

Law of this folder: the scripts in ``deploy/slurm`` are submitted with only their variables filled in; everything else
goes to sbatch on its command line and to the scripts as arguments, as you would write by hand. :mod:`.scripts`,
:mod:`.parsing` and :mod:`.scale_down` are pure functions; only :mod:`.commands` runs Slurm's commands;
:mod:`.submitted_jobs` records which jobs were submitted.
"""

from __future__ import annotations

from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.slurm.lifecycle import cancel, jobs_of_run, scale, submit
from hpbandster_lite.slurm.parsing import QueuedJob
from hpbandster_lite.slurm.scale_down import busy_jobs
from hpbandster_lite.slurm.scripts import SCRIPTS_FOLDER, Submission, SubmitRequest, plan_submissions
from hpbandster_lite.slurm.submitted_jobs import JobsOfRun, SubmittedJob

__all__ = [
    "SCRIPTS_FOLDER",
    "JobsOfRun",
    "QueuedJob",
    "Slurm",
    "Submission",
    "SubmitRequest",
    "SubmittedJob",
    "busy_jobs",
    "cancel",
    "jobs_of_run",
    "plan_submissions",
    "scale",
    "submit",
]
