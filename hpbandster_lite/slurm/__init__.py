"""A search as jobs of Slurm: what is submitted, what became of it, more workers and fewer.

Law of this folder: the scripts in ``deploy/slurm`` are what is submitted, with their variables filled in; all else is
said to sbatch on its command line and to the scripts as arguments, as a user would by hand. :mod:`.scripts`,
:mod:`.answers` and :mod:`.leaving` are values in, values out; :mod:`.door` alone runs Slurm's commands; :mod:`.jobs`
keeps what was submitted.
"""

from __future__ import annotations

from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.slurm.lifecycle import cancel, recorded, scale, submit
from hpbandster_lite.slurm.parsing import QueuedJob
from hpbandster_lite.slurm.scale_down import busy_jobs
from hpbandster_lite.slurm.scripts import FOLDER, Request, Submission, submissions
from hpbandster_lite.slurm.submitted_jobs import JobsOfRun, SubmittedJob

__all__ = [
    "FOLDER",
    "JobsOfRun",
    "QueuedJob",
    "Request",
    "Slurm",
    "Submission",
    "SubmittedJob",
    "busy_jobs",
    "cancel",
    "recorded",
    "scale",
    "submissions",
    "submit",
]
