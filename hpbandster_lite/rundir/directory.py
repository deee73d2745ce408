"""Where everything of one run lies: the journal, the keys, the endpoint, logs and the directories of attempts.

Law of this file: names of files and directories, and the check that a directory is its owner's alone; the contents of
the small files are read and written in :mod:`~hpbandster_lite.rundir.keys` and
:mod:`~hpbandster_lite.rundir.endpoint`. A directory that another process reports is used only if it lies in the run
directory, or belongs to this user.
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
from hpbandster_lite.rundir.files import os_errors_as_ours, refuse_if_open_to_others

LONGEST_PATH = 4_096
"""Characters of a directory that another process may report: the kernel takes no more."""


class RunDirectory:
    """Paths of one run, and its small files.

    Parameters
    ----------
    path
        The directory; :meth:`create` makes it.
    """

    LOG_NAME = "log.txt"
    """Log of one attempt, in the attempt's directory; it stays when the checkpoints beside it are deleted."""
    CURVE_NAME = "learning_curve.jsonl"
    """Points that one attempt reported, for the attempt that continues from its checkpoint; it is none itself."""

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
        """Key that master and agents share."""
        return self.path / "key"

    @property
    def nameserver_key_file(self) -> Path:
        """Key of a name server that was started for this run."""
        return self.path / "nameserver.key"

    @property
    def tls(self) -> Path:
        """Certificates of the run; where this folder is, every connection uses TLS."""
        return self.path / "tls"

    @property
    def endpoint_file(self) -> Path:
        """Where the master listens."""
        return self.path / "endpoint.json"

    @property
    def lock_file(self) -> Path:
        """Locked by the running master, to refuse a second one early; the journal's epoch is the fence."""
        return self.path / "lock"

    def is_served(self) -> bool:
        """Whether a master holds the directory, or is starting; False where that cannot be seen."""
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
        """Log of a process; ``name`` has no slashes."""
        return self.path / "logs" / f"{name}.log"

    def configuration_directory(self, config_id: ConfigId) -> Path:
        """Holds the attempts of all evaluations of a configuration."""
        return self.path.joinpath("evaluations", str(config_id))

    def attempt_directory(self, evaluation: EvaluationId, attempt: int) -> Path:
        """Directory of one attempt, separate even while an earlier attempt still writes; made by its first user."""
        return Path(self.attempt_path(evaluation, attempt))

    def attempt_path(self, evaluation: EvaluationId, attempt: int) -> str:
        """:meth:`attempt_directory` as text: ten times as fast, for callers that may never touch it."""
        config_id, rung = evaluation
        return f"{self.path}/evaluations/{config_id}/rung{rung}/attempt{attempt}"

    def relative_attempt_path(self, evaluation: EvaluationId, attempt: int) -> str:
        """:meth:`attempt_directory` relative to the run directory, as processes report it to each other."""
        return str(self.attempt_directory(evaluation, attempt).relative_to(self.path))

    def readable_directory(self, reported: str) -> str | None:
        """A directory that another process reported, as a path here; None if nothing there may be read.

        A relative one lies in this run directory, however it is written. An absolute one comes from a worker that sees
        no run directory: on this machine it may belong to any user, and is used only if it is this user's, because a
        checkpoint is loaded, and some kinds of checkpoint are code.
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
        """Where an agent leaves a report that no master has confirmed."""
        return self.path / "reports"

    def left_reports(self) -> list[Path]:
        """Reports that no master has confirmed, the oldest name first."""
        return sorted(self.reports.glob("*.json"))

    def left_releases(self) -> list[Path]:
        """Evaluations that were released while no master answered."""
        return sorted(self.reports.glob("*.release"))

    # -------------------------------------------------------------------------------------------------- creation

    def create(self) -> None:
        """Make the directory, for its owner alone, or check the one that is there; its logs' directory, too.

        An empty directory is used, and closed if its mode was open.

        Raises
        ------
        RunDirectoryError
            If it cannot be made, is not a directory, or is open to others.
        """
        with os_errors_as_ours(self.path, "make the run directory"):
            if not self.path.exists():
                # Workers of one host may make the same one at the same time.
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            elif self.path.is_dir() and not any(self.path.iterdir()):
                self.path.chmod(0o700)
            self.check()
            self.log("any").parent.mkdir(mode=0o700, exist_ok=True)

    def check(self) -> None:
        """Refuse a directory that other users may enter: a user who can write into it can take the search over.

        Raises
        ------
        RunDirectoryError
            With the command that closes it.
        """
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is not a directory; give another --run-dir")
        refuse_if_open_to_others(self.path, "700")

    # ------------------------------------------------------------------------------------------------------ keys

    def ensure_key(self) -> bytes:
        """The run's key: from the environment, else from its file, which is made if there is none.

        Raises
        ------
        RunDirectoryError
            If the directory or the file is open to others, or cannot be used.
        UsageError
            If the environment holds a key that is too short.
        """
        return self._ensure(self.key_file, KEY_VARIABLE)

    def adopt_key(self, file: Path) -> bytes:
        """The key in a file that the user gives; it is the run's from now on, for all processes.

        Raises
        ------
        RunDirectoryError
            As :func:`~hpbandster_lite.rundir.keys.adopt_key`, or if the directory is open to others.
        """
        self.check()
        return keys.adopt_key(file, self.key_file)

    def read_key(self) -> bytes:
        """The run's key: from the environment, else from its file; errors as for :meth:`ensure_key`."""
        return keys.read_key(self.key_file, KEY_VARIABLE)

    def ensure_nameserver_key(self) -> bytes:
        """Like :meth:`ensure_key`, for the name server of this run."""
        return self._ensure(self.nameserver_key_file, NAMESERVER_KEY_VARIABLE)

    def read_nameserver_key(self) -> bytes:
        """Like :meth:`read_key`, for the name server of this run."""
        return keys.read_key(self.nameserver_key_file, NAMESERVER_KEY_VARIABLE)

    def _ensure(self, file: Path, variable: str) -> bytes:
        given = keys.key_in_environment(variable)
        if given is not None:
            return given
        self.check()
        return keys.ensure_key_file(file)

    # -------------------------------------------------------------------------------------------------- endpoint

    def write_endpoint(self, endpoint: Mapping[str, Plain]) -> None:
        """Write where the master listens: :func:`~hpbandster_lite.rundir.endpoint.write_endpoint`."""
        endpoints.write_endpoint(self.endpoint_file, endpoint)

    def read_endpoint(self) -> dict[str, Plain] | None:
        """What the last master wrote: :func:`~hpbandster_lite.rundir.endpoint.read_endpoint`."""
        return endpoints.read_endpoint(self.endpoint_file)

    def remove_endpoint(self, epoch: int, pid: int | None = None) -> None:
        """Remove a master's endpoint: :func:`~hpbandster_lite.rundir.endpoint.remove_endpoint`."""
        endpoints.remove_endpoint(self.endpoint_file, epoch, pid)


def is_valid_directory(reported: str) -> bool:
    """Whether another process may have reported a directory in these characters: not too long, no NUL, no ``..``."""
    return 0 < len(reported) <= LONGEST_PATH and "\0" not in reported and ".." not in reported.split("/")


def default_run_directory(reference: str, base: str | os.PathLike[str] = "runs", *, new: bool = False) -> Path:
    """Run directory of a problem where the user names none.

    Parameters
    ----------
    reference
        The problem as the user wrote it: ``digits`` has ``runs/digits``, ``path/to/file.py:problem`` has
        ``runs/file-problem``; options behind it do not matter.
    base
        Directory of all runs.
    new
        The first free one of ``runs/digits``, ``runs/digits-2``, ``runs/digits-3``, ...
    """
    target = reference.partition("?")[0].replace("\\", "/").rstrip("/")
    last = target.rpartition("/")[2].replace(".py:", ":").removesuffix(".py")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.") or "search"
    path = Path(base) / name
    return free_directory_like(path) if new else path


def free_directory_like(path: Path) -> Path:
    """The first of ``path``, ``path-2``, ``path-3``, ... that is not there yet."""
    path = path if path.name else path.resolve()
    free, number = path, 2
    while free.exists():
        free = path.with_name(f"{path.name}-{number}")
        number += 1
    return free
