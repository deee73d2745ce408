"""The only place that runs Slurm's commands: sbatch, squeue, scontrol, scancel.

Law of this file: a command is run, its complaints become errors of ours with what to do; what it prints is read
elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from hpbandster_lite.errors import PeerError, UsageError
from hpbandster_lite.slurm import parsing
from hpbandster_lite.slurm.parsing import QUEUE_FORMAT, QueuedJob

LIMIT_S = 60.0
"""A controller that is busy answers within this time, or is as good as gone."""


class Slurm:
    """Slurm's commands.

    Parameters
    ----------
    environment
        Of the commands; default: this process's own.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        # Both change what is printed, and are some users' habit.
        for name in ("SQUEUE_FORMAT", "SLURM_TIME_FORMAT"):
            self._environment.pop(name, None)

    def require(self) -> None:
        """See that there is a Slurm here.

        Raises
        ------
        UsageError
            If there is none.
        """
        if shutil.which("sbatch", path=self._environment.get("PATH")) is None:
            raise UsageError(
                "there is no sbatch on PATH, so no Slurm to submit to; log in to the cluster's head node, or load its "
                "module (module load slurm). --dry-run shows the scripts and commands without one"
            )

    def submit(self, command: Sequence[str]) -> str:
        """Submit a job; gives its number.

        Raises
        ------
        UsageError
            If sbatch refuses it: with its words, and what to change.
        PeerError
            If the controller does not answer.
        """
        done = self._run(command)
        if done.returncode != 0:
            words = parsing.own_words(done.stderr)
            raise UsageError(f"sbatch refused the job: {words}. What to change: {parsing.remedy(words)}")
        return parsing.submitted(done.stdout)

    def queue(self, jobs: Iterable[str]) -> list[QueuedJob]:
        """What is in the queue of these jobs, task by task.

        Raises
        ------
        PeerError
            If the controller does not answer.
        """
        asked = ",".join(jobs)
        if not asked:
            return []
        done = self._run(["squeue", "--noheader", "--array", f"--format={QUEUE_FORMAT}", f"--jobs={asked}"])
        # A single number that Slurm has forgotten is an error to it, and no job to us.
        if done.returncode != 0 and "invalid job id" not in done.stderr.lower():
            raise PeerError(f"squeue does not tell of the jobs: {parsing.own_words(done.stderr)}")
        return parsing.queued(done.stdout)

    def ended(self, job: str) -> list[QueuedJob]:
        """What became of a job that has left the queue; empty once Slurm has forgotten it (MinJobAge, 5 minutes)."""
        return parsing.shown(self._run(["scontrol", "--oneliner", "show", "job", job]).stdout)

    def cancel(self, jobs: Sequence[str], *, signal: str | None = None) -> None:
        """Cancel jobs, or send a signal to what they run; those that have ended meanwhile are no fault.

        Raises
        ------
        PeerError
            If the controller does not answer, or refuses.
        """
        if not jobs:
            return
        told = [] if signal is None else [f"--signal={signal}"]
        done = self._run(["scancel", *told, *jobs])
        words = parsing.own_words(done.stderr)
        is_gone = any(said in words.lower() for said in ("invalid job id", "already completing", "already completed"))
        if done.returncode != 0 and not is_gone:
            raise PeerError(f"scancel did not cancel {', '.join(jobs)}: {words}")

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise UsageError(
                f"there is no {command[0]} on PATH; use a machine of the cluster, or load its module: module load slurm"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise PeerError(
                f"{command[0]} did not answer within {LIMIT_S:g} s; try again when the cluster is less busy"
            ) from error
        if done.returncode != 0 and parsing.UNREACHABLE.search(done.stderr):
            raise PeerError(f"Slurm's controller does not answer: {parsing.own_words(done.stderr)}; try again later")
        return done
