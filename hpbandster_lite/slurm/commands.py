"""Runs Slurm's commands: sbatch, squeue, scontrol, scancel. No other file runs them.

Law of this file: it runs a command and converts its failure to an error that names the remedy. :mod:`.parsing` reads
the output.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence

from hpbandster_lite.errors import PeerError, UsageError
from hpbandster_lite.slurm import parsing
from hpbandster_lite.slurm.parsing import QUEUE_FORMAT, QueuedJob

TIMEOUT_S = 60.0
"""Time limit of one command in seconds, within which a busy controller answers."""


class Slurm:
    """Slurm's commands.

    Parameters
    ----------
    environment
        Environment variables of the commands. Default: those of this process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = dict(os.environ if environment is None else environment)
        # Some users set these; both change the output.
        for name in ("SQUEUE_FORMAT", "SLURM_TIME_FORMAT"):
            self._environment.pop(name, None)

    def require(self) -> None:
        """Check that Slurm is installed.

        Raises
        ------
        UsageError
            If sbatch is not on PATH.
        """
        if shutil.which("sbatch", path=self._environment.get("PATH")) is None:
            raise UsageError(
                "sbatch is not on PATH, so there is no Slurm to submit to; log in to the cluster's head node, or load "
                "its module (module load slurm). --dry-run shows the scripts and commands without Slurm"
            )

    def version(self, *, timeout_s: float | None = None) -> str:
        """The version of Slurm's commands.

        Raises
        ------
        UsageError
            If there is no scontrol.
        PeerError
            If it does not answer.
        """
        done = self._run(["scontrol", "--version"], timeout_s)
        return done.stdout.strip() or parsing.error_text(done.stderr)

    def controllers(self, *, timeout_s: float | None = None) -> str:
        """Which controllers answer, in scontrol's words, or why none does.

        Raises
        ------
        UsageError
            If there is no scontrol.
        PeerError
            If it does not answer.
        """
        done = self._run(["scontrol", "ping"], timeout_s)
        # Below a controller that is down it prints a banner of asterisks.
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip("* ") and not line.startswith("*")]
        return "; ".join(lines) or parsing.error_text(done.stderr)

    def submit(self, command: Sequence[str]) -> str:
        """Submit a job and return its number.

        Raises
        ------
        UsageError
            If sbatch refuses the job; the message has sbatch's message and the remedy.
        PeerError
            If the controller does not answer.
        """
        done = self._run(command)
        if done.returncode != 0:
            message = parsing.error_text(done.stderr)
            raise UsageError(f"sbatch refused the job: {message}. What to change: {parsing.remedy(message)}")
        return parsing.parse_job_number(done.stdout)

    def queue(self, jobs: Iterable[str]) -> list[QueuedJob]:
        """State of these jobs in the queue, one entry for each task of an array.

        Raises
        ------
        PeerError
            If the controller does not answer.
        """
        numbers = ",".join(jobs)
        if not numbers:
            return []
        done = self._run(["squeue", "--noheader", "--array", f"--format={QUEUE_FORMAT}", f"--jobs={numbers}"])
        # squeue fails for a single number that Slurm has forgotten, which means that the job is not in the queue.
        if done.returncode != 0 and "invalid job id" not in done.stderr.lower():
            raise PeerError(f"squeue could not list the jobs: {parsing.error_text(done.stderr)}")
        return parsing.parse_squeue(done.stdout)

    def recently_ended(self, job: str) -> list[QueuedJob]:
        """Final state of a job that left the queue; empty after Slurm has forgotten it (MinJobAge, 5 minutes)."""
        return parsing.parse_scontrol(self._run(["scontrol", "--oneliner", "show", "job", job]).stdout)

    def cancel(self, jobs: Sequence[str], *, signal: str | None = None) -> None:
        """Cancel jobs, or send a signal to their steps; jobs that have already ended are ignored.

        Raises
        ------
        PeerError
            If the controller does not answer, or refuses.
        """
        if not jobs:
            return
        options = [] if signal is None else [f"--signal={signal}"]
        done = self._run(["scancel", *options, *jobs])
        message = parsing.error_text(done.stderr)
        has_ended = any(
            text in message.lower() for text in ("invalid job id", "already completing", "already completed")
        )
        if done.returncode != 0 and not has_ended:
            raise PeerError(f"scancel did not cancel {', '.join(jobs)}: {message}")

    def _run(self, command: Sequence[str], timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
        limit_s = TIMEOUT_S if timeout_s is None else timeout_s
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise UsageError(
                f"{command[0]} is not on PATH; use a machine of the cluster, or load its module: module load slurm"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise PeerError(
                f"{command[0]} did not answer within {limit_s:.3g} s; try again when the cluster is less busy"
            ) from error
        if done.returncode != 0 and parsing.UNREACHABLE.search(done.stderr):
            raise PeerError(f"Slurm's controller does not answer: {parsing.error_text(done.stderr)}; try again later")
        return done
