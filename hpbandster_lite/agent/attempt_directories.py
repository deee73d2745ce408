"""Where the attempts of a worker write, and how these directories are named in messages.

Law of this file: a directory is sent relative to the run directory where this worker can see that, and as a path of
this host otherwise. A directory from another process counts as a checkpoint only if one can be read there.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Container
from pathlib import Path

from hpbandster_lite import wire
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.protocol.messages import LeftReport, ReleaseRequest
from hpbandster_lite.records import EvaluationId, Report
from hpbandster_lite.rundir import (
    RunDirectory,
    delete_checkpoint,
    holds_anything_kept,
    holds_checkpoint,
    write_atomically,
)

log = logging.getLogger(__name__)


class AttemptDirectories:
    """The directories of one worker's attempts: in the run directory, else in a scratch folder of this worker alone.

    Parameters
    ----------
    options
        The agent's: the run directory, or the run id and the scratch folder.

    Attributes
    ----------
    directory : RunDirectory
        Names the directories.
    """

    def __init__(self, options: AgentOptions) -> None:
        self._run = None if options.run_dir is None else Path(options.run_dir).resolve()
        if self._run is not None:
            base = self._run
        else:
            # Two searches may have the same run id, if users choose it, and then the same names of attempts: the token
            # tells them apart, here and on other hosts.
            name = f"{options.run_id}-{secrets.token_hex(4)}"
            scratch = None if options.scratch is None else Path(options.scratch).resolve()
            base = scratch / name if scratch else Path(tempfile.gettempdir()) / f"hpbandster_lite-{os.getuid()}-{name}"
        self.directory = RunDirectory(base)
        self._has_warned = False
        self._made: list[str] = []
        if self._run is None:
            # The temporary folder belongs to all users: refuse a directory in which others may write.
            self.directory.create()

    def new(self, evaluation: EvaluationId, attempt: int, timeline: int = 0) -> str:
        """The directory of a new attempt; the objective makes it when it needs it."""
        place = self.directory.attempt_path(evaluation, attempt, timeline)
        if self._run is None:
            self._made.append(place)
        return place

    def tidy(self, kept: Container[str] | None = None) -> None:
        """Remove this agent's attempts that have no checkpoint, and the folders that are then empty.

        Nothing is removed from a run directory, where users look for logs, and nothing from ``trial.keep_directory``.

        Parameters
        ----------
        kept
            The configurations that keep their checkpoints at the end of the search; ``None``: all of them.
        """
        if self._run is not None:
            return
        base = self.directory.path
        for attempt in map(Path, filter(os.path.isdir, self._made)):
            is_needed = kept is None or attempt.parents[1].name in kept
            if is_needed and holds_checkpoint(attempt):
                continue
            if holds_anything_kept(attempt):
                delete_checkpoint(attempt)
            else:
                shutil.rmtree(attempt, ignore_errors=True)
            for folder in attempt.parents:
                if not folder.is_relative_to(base) or not _removed(folder):
                    break
        for folder in (self.directory.log("any").parent, self.directory.evaluations, base):
            _removed(folder)

    def to_send(self, place: str) -> str | None:
        """An attempt's directory as the master gets it; None unless it holds a checkpoint."""
        if not holds_checkpoint(place):
            return None
        return str(Path(place).relative_to(self._run)) if self._run is not None else place

    def received(self, sent: str | None) -> str | None:
        """The directory of another attempt as an absolute path; None if no checkpoint can be read there from here."""
        if sent is None or (self._run is None and not sent.startswith("/")):
            return None
        path = self.directory.readable_directory(sent)
        return path if path is not None and holds_checkpoint(path) else None

    def received_previous(self, sent: str | None) -> str | None:
        """Like :meth:`received`, for the rung below, which saved a checkpoint; warns once if that is out of reach."""
        found = self.received(sent)
        if sent is not None and found is None and not self._has_warned:
            self._has_warned = True
            log.warning(
                "a checkpoint of the rung below lies where this worker cannot see it (%s): such evaluations train from "
                "the start here, which is logged once; workers that share a run directory continue each other's "
                "checkpoints",
                sent,
            )
        return found

    def leave_report(self, report: Report, agent: str) -> Path:
        """Write a report that no master acknowledged where the next master looks for it.

        Raises
        ------
        RunDirectoryError
            If it cannot be written.
        """
        return self._leave(f"{report.evaluation}-{report.attempt}.json", LeftReport(agent=agent, report=report))

    def leave_release(self, release: ReleaseRequest) -> Path | None:
        """Write a release that no master acknowledged where the next master looks for it; None without a run directory.

        Raises
        ------
        RunDirectoryError
            If it cannot be written.
        """
        if self._run is None:
            return None
        return self._leave(f"{release.evaluation}-{release.attempt}.release", release)

    def _leave(self, name: str, record: LeftReport | ReleaseRequest) -> Path:
        reports = self.directory.path / "reports"
        # A run directory that was deleted is made again for its owner alone: with parents=True only the last one is.
        reports.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        reports.mkdir(mode=0o700, exist_ok=True)
        path = reports / name
        write_atomically(path, wire.encode(wire.to_message(record)) + "\n")
        return path


def _removed(folder: Path) -> bool:
    """Remove a folder that is empty; whether it is gone."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
