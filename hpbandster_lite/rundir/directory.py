"""The paths of one run: the journal, the keys, the endpoint, logs and the directories of attempts.

Law of this file: names of files and directories, and the check that only the owner can write in a directory. The files
:mod:`~hpbandster_lite.rundir.keys` and :mod:`~hpbandster_lite.rundir.endpoint` read and write the small files. A
directory that another process reports is used only if it is in the run directory or belongs to this user.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.process.environment import KEY_VARIABLE, NAMESERVER_KEY_VARIABLE
from hpbandster_lite.records import ConfigId, EvaluationId, Plain
from hpbandster_lite.rundir import endpoint as endpoints
from hpbandster_lite.rundir import keys
from hpbandster_lite.rundir.files import os_errors_as_ours, refuse_if_writable_by_others

LONGEST_PATH = 4_096
"""Largest length of a reported directory, which is the kernel's limit."""


class RunDirectory:
    """Paths and small files of one run.

    Parameters
    ----------
    path
        The directory; :meth:`create` makes it.
    """

    LOG_NAME = "log.txt"
    """Log of one attempt, in the attempt's directory; it stays when the checkpoints beside it are deleted."""
    KEEP_NAME = "keep"
    """Folder in the directory of an attempt for what stays when its checkpoints are deleted."""
    CURVE_NAME = "learning_curve.jsonl"
    """Points that one attempt reported, for the attempt that continues from its checkpoint; no part of a checkpoint."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    # ----------------------------------------------------------------------------------------------------- paths

    @property
    def journal(self) -> Path:
        """The durable record of the search."""
        return self.path / "journal.sqlite"

    @property
    def key_file(self) -> Path:
        """The key that master and agents share."""
        return self.path / "key"

    @property
    def nameserver_key_file(self) -> Path:
        """The key of a name server for this run."""
        return self.path / "nameserver.key"

    @property
    def tls(self) -> Path:
        """Certificates of the run; if this folder exists, every connection uses TLS."""
        return self.path / "tls"

    @property
    def endpoint_file(self) -> Path:
        """Where the master listens."""
        return self.path / "endpoint.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the running master, which refuses a second master early; the journal's epoch is decisive."""
        return self.path / "lock"

    @property
    def holder_file(self) -> Path:
        """Which process holds the lock; see :mod:`hpbandster_lite.rundir.holder`."""
        return self.path / "holder.json"

    def is_served(self) -> bool:
        """Whether a master holds the directory or is starting; False if the lock cannot be checked."""
        try:
            with self.lock_file.open("rb") as file:
                # Released at once: a master that starts at this moment tries again.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def log(self, name: str) -> Path:
        """Log of a process; ``name`` must have no slashes."""
        return self.path / "logs" / f"{name}.log"

    @property
    def evaluations(self) -> Path:
        """The directories of all attempts."""
        return self.path / "evaluations"

    def configuration_directory(self, config_id: ConfigId) -> Path:
        """The directory with the attempts of all evaluations of a configuration."""
        return self.evaluations / str(config_id)

    def evaluation_directory(self, evaluation: EvaluationId) -> Path:
        """Holds the attempts of an evaluation."""
        return self.configuration_directory(evaluation.config_id) / f"rung{evaluation.rung}"

    def attempt_directory(self, evaluation: EvaluationId, attempt: int, timeline: int = 0) -> Path:
        """The directory of one attempt, which no other attempt shares; its first user makes it.

        ``timeline`` is the epoch that began with a journal that was restored from a copy: attempts of one number that
        were leased before and after have separate directories. 0: no epoch in the name.
        """
        return Path(self.attempt_path(evaluation, attempt, timeline))

    def attempt_path(self, evaluation: EvaluationId, attempt: int, timeline: int = 0) -> str:
        """:meth:`attempt_directory` as text: ten times as fast, for callers that may not access the directory."""
        config_id, rung = evaluation
        place = f"{self.path}/evaluations/{config_id}/rung{rung}/attempt{attempt}"
        return f"{place}-epoch{timeline}" if timeline else place

    def relative_attempt_path(self, evaluation: EvaluationId, attempt: int, timeline: int = 0) -> str:
        """:meth:`attempt_directory` relative to the run directory, for reports to other processes."""
        return str(self.attempt_directory(evaluation, attempt, timeline).relative_to(self.path))

    def has_attempt_logs(self) -> bool:
        """Whether any attempt has a log here: one that prints nothing has none."""
        return any(self.path.glob(f"evaluations/*/*/*/{self.LOG_NAME}"))

    def readable_directory(self, reported: str) -> str | None:
        """The local path of a directory that another process reported; None if it must not be read.

        A relative path is in this run directory. An absolute path comes from a worker without access to the run
        directory. On this machine that directory may belong to any user. It is used only if it belongs to this user,
        because a checkpoint is loaded, and some kinds of checkpoints contain code.
        """
        if not is_valid_directory(reported):
            return None
        if not reported.startswith("/"):
            return f"{self.path}/{reported}"
        try:
            is_ours = os.stat(reported).st_uid == os.geteuid()  # noqa: PTH116 (once for each evaluation)
        except (OSError, ValueError):
            return None
        return reported if is_ours else None

    @property
    def reports(self) -> Path:
        """The directory for reports that no master has confirmed."""
        return self.path / "reports"

    def left_reports(self) -> list[Path]:
        """Reports that no master has confirmed, the oldest name first."""
        return sorted(self.reports.glob("*.json"))

    def left_releases(self) -> list[Path]:
        """Releases of evaluations that no master has confirmed."""
        return sorted(self.reports.glob("*.release"))

    # -------------------------------------------------------------------------------------------------- creation

    def create(self) -> None:
        """Make the directory for its owner alone, or check an existing one; make those of logs and evaluations too.

        The mode of an existing directory stays. What is made in it is for its owner alone, because an objective writes
        there with the user's umask.

        Raises
        ------
        RunDirectoryError
            If it cannot be made, is not a directory, or other users can write in it.
        """
        with os_errors_as_ours(self.path, "make the run directory"):
            if not self.path.exists():
                # Workers on the same host may make it at the same time.
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.check()
        for folder in (self.log("any").parent, self.evaluations):
            if folder.exists() and not folder.is_dir():
                raise RunDirectoryError(f"{folder} is not a directory; move it away, and the search makes one")
            with os_errors_as_ours(folder, "make the directory"):
                folder.mkdir(mode=0o700, exist_ok=True)

    def check(self) -> None:
        """Refuse a directory in which other users can write, because they could take over the search.

        In a directory that they can enter, this includes the folders with checkpoints and reports.

        Raises
        ------
        RunDirectoryError
            If it is not a directory, or other users can write in it; the message has the command that closes it.
        """
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is not a directory; give another run directory")
        with os_errors_as_ours(self.path, "use the run directory"):
            refuse_if_writable_by_others(self.path)
            if self.path.stat().st_mode & 0o011:
                for folder in (self.evaluations, self.reports, self.log("any").parent):
                    if folder.exists():
                        # Those below were made with the same umask.
                        refuse_if_writable_by_others(folder, "700")

    # ------------------------------------------------------------------------------------------------------ keys

    def ensure_key(self) -> bytes:
        """The run's key: from the environment, else from its file, which is made if it does not exist.

        Raises
        ------
        RunDirectoryError
            If other users can write in the directory or open the file, or it cannot be used.
        UsageError
            If the key in the environment is too short.
        """
        return self._ensure(self.key_file, KEY_VARIABLE)

    def adopt_key(self, file: Path) -> bytes:
        """The key in a file that the user gives, which becomes the key of the run for all its processes.

        Raises
        ------
        RunDirectoryError
            As :func:`~hpbandster_lite.rundir.keys.adopt_key`, or if other users can write in the directory.
        """
        self.check()
        return keys.adopt_key(file, self.key_file)

    def read_key(self) -> bytes:
        """The run's key: from the environment, else from its file; errors as for :meth:`ensure_key`."""
        return keys.read_key(self.key_file, KEY_VARIABLE)

    def ensure_nameserver_key(self) -> bytes:
        """Like :meth:`ensure_key`, for the name server of this run."""
        return self._ensure(self.nameserver_key_file, NAMESERVER_KEY_VARIABLE)

    def _ensure(self, file: Path, variable: str) -> bytes:
        given = keys.key_in_environment(variable)
        if given is not None:
            return given
        self.check()
        return keys.ensure_key_file(file)

    # -------------------------------------------------------------------------------------------------- endpoint

    def write_endpoint(self, endpoint: Mapping[str, Plain]) -> None:
        """Write the master's endpoint: :func:`~hpbandster_lite.rundir.endpoint.write_endpoint`."""
        endpoints.write_endpoint(self.endpoint_file, endpoint)

    def read_endpoint(self) -> endpoints.EndpointFile | None:
        """The endpoint of the last master: :func:`~hpbandster_lite.rundir.endpoint.read_endpoint`."""
        return endpoints.read_endpoint(self.endpoint_file)

    def remove_endpoint(self, epoch: int, pid: int | None = None) -> None:
        """Remove a master's endpoint: :func:`~hpbandster_lite.rundir.endpoint.remove_endpoint`."""
        endpoints.remove_endpoint(self.endpoint_file, epoch, pid)


def is_valid_directory(reported: str) -> bool:
    """Whether the text of a reported directory is valid: not empty, not too long, no NUL, no ``..``."""
    return 0 < len(reported) <= LONGEST_PATH and "\0" not in reported and ".." not in reported.split("/")


def default_run_directory(reference: str, base: str | os.PathLike[str] = "runs", *, new: bool = False) -> Path:
    """Run directory of a problem if the user gives none.

    Parameters
    ----------
    reference
        The problem as the user wrote it: ``digits`` has ``runs/digits``, ``path/to/file.py:problem`` has
        ``runs/file-problem``; its options do not matter.
    base
        Directory of all runs. Default: ``runs``.
    new
        Return the first path of ``runs/digits``, ``runs/digits-2``, ``runs/digits-3``, ... that does not exist.
        Default: False.
    """
    target = reference.partition("?")[0].replace("\\", "/").rstrip("/")
    last = target.rpartition("/")[2].replace(".py:", ":").removesuffix(".py")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "search"
    path = Path(base) / name
    return free_directory_like(path) if new else path


def free_directory_like(path: Path) -> Path:
    """The first of ``path``, ``path-2``, ``path-3``, ... that does not exist."""
    path = path if path.name else path.resolve()
    free, number = path, 2
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free


def named_run_directory(given: Path, base: str | os.PathLike[str] = "runs") -> Path:
    """The run directory that a user names: ``digits`` also stands for ``runs/digits``.

    Parameters
    ----------
    given
        A path, or the name of a run.
    base
        Directory of all runs. Default: ``runs``.

    Returns
    -------
    Path
        The given path if it has a search or is more than a name; else that of ``base``, if it has a search, or if it
        exists and the given one does not.
    """
    if given.is_absolute() or len(given.parts) != 1 or given.name in ("", ".."):
        return given
    ours, other = RunDirectory(given), RunDirectory(Path(base) / given)
    if ours.journal.exists():
        return given
    is_meant = other.journal.exists() or (other.path.is_dir() and not given.exists())
    return other.path if is_meant else given
