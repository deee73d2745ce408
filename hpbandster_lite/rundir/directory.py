"""Where everything of one run lies: the journal, the keys, the endpoint, logs and the directories of attempts.

Law of this file: names and small files only. A key is readable by its owner alone, or it is refused; a file that others
read is written under another name, synced and renamed, so that nobody ever sees half of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.environment import KEY_VARIABLE, NAMESERVER_KEY_VARIABLE
from hpbandster_lite.records import ConfigId, EvaluationId, Plain

KEY_BYTES = 32
"""Random bytes of a new key: as many as SHA-256 gives, more adds nothing to an HMAC."""
LONGEST_PATH = 4_096
"""Characters of a directory that another process may tell: the kernel takes no more."""
SHORTEST_KEY = 16
"""Characters of the shortest key that is accepted from the environment: 64 bits even if they are hexadecimal."""

_ENDPOINT_FIELDS: Mapping[str, type] = {
    "protocol": int,
    "run_id": str,
    "epoch": int,
    "host": str,
    "port": int,
    "object": str,
    "pid": int,
}


class RunDirectory:
    """Paths of one run, and its small files.

    Parameters
    ----------
    path
        The directory; :meth:`create` makes it.
    """

    LOG_NAME = "log.txt"
    """Log of one attempt, in the attempt's directory; it stays when the checkpoints beside it are deleted."""

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
        """Certificates of the run; where this folder is, everybody speaks TLS."""
        return self.path / "tls"

    @property
    def endpoint_file(self) -> Path:
        """Where the master listens."""
        return self.path / "endpoint.json"

    @property
    def lock_file(self) -> Path:
        """Held by the living master: a courtesy, the journal's epoch is the fence."""
        return self.path / "lock"

    def is_served(self) -> bool:
        """Whether a master, one that is just beginning too, holds the directory; False where that cannot be seen."""
        try:
            with self.lock_file.open("rb") as file:
                # Given back at once: a master that begins at this very moment tries again.
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
        """Directory of one attempt, its own even while an earlier attempt still writes; made by who needs it first."""
        return Path(self.attempt_place(evaluation, attempt))

    def attempt_place(self, evaluation: EvaluationId, attempt: int) -> str:
        """:meth:`attempt_directory` as text, for who may never touch it: a path takes ten times as long to make."""
        config_id, rung = evaluation
        return f"{self.path}/evaluations/{config_id}/rung{rung}/attempt{attempt}"

    def told_directory(self, evaluation: EvaluationId, attempt: int) -> str:
        """:meth:`attempt_directory` as processes tell it to each other: relative to the run directory."""
        return str(self.attempt_directory(evaluation, attempt).relative_to(self.path))

    def seen(self, told: str) -> str | None:
        """A directory that another process told, as a path here; None if nothing there may be read.

        A relative one lies in this run directory, and nowhere else however it is written. An absolute one is of a
        worker that sees no run directory: on this machine it may be anybody's, and is taken where it is this user's
        own, because a checkpoint is loaded, and some kinds of checkpoint are code.
        """
        if not is_told_well(told):
            return None
        if not told.startswith("/"):
            return f"{self.path}/{told}"
        try:
            return told if os.stat(told).st_uid == os.geteuid() else None  # noqa: PTH116 (once for each evaluation)
        except (OSError, ValueError):
            return None

    @property
    def reports(self) -> Path:
        """Where an agent whose master stayed away leaves its report."""
        return self.path / "reports"

    def left_reports(self) -> list[Path]:
        """Reports that wait to be taken in, the oldest name first."""
        return sorted(self.reports.glob("*.json"))

    def left_releases(self) -> list[Path]:
        """Evaluations that were handed back while no master answered."""
        return sorted(self.reports.glob("*.release"))

    # -------------------------------------------------------------------------------------------------- creation

    def create(self) -> None:
        """Make the directory, for its owner alone, or check the one that is there; its logs' directory, too.

        An empty directory is taken over, whatever its mode was.

        Raises
        ------
        RunDirectoryError
            If it cannot be made, is no directory, or is open to others.
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
        """Refuse a directory that others may enter: who can write into it can take the search over.

        Raises
        ------
        RunDirectoryError
            With the command that closes it.
        """
        if not self.path.is_dir():
            raise RunDirectoryError(f"{self.path} is no directory; give another --run-dir")
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
        """The key of a file that the user gives; it is the run's from now on, for all who see this directory.

        Raises
        ------
        RunDirectoryError
            As :func:`read_given_key`, or if it is no text or cannot be kept.
        """
        key = read_given_key(file)
        if not key.isascii():
            raise RunDirectoryError(f"{file} holds a key that is no text; make one with: openssl rand -hex 32 > {file}")
        self.check()
        try:
            is_known = key == _key_from_file(self.key_file, KEY_VARIABLE)
        except RunDirectoryError:
            is_known = False
        if not is_known:
            write_atomically(self.key_file, key.decode("ascii") + "\n")
        return key

    def read_key(self) -> bytes:
        """The run's key: from the environment, else from its file; errors as for :meth:`ensure_key`."""
        return _key_from_environment(KEY_VARIABLE) or _key_from_file(self.key_file, KEY_VARIABLE)

    def ensure_nameserver_key(self) -> bytes:
        """Like :meth:`ensure_key`, for the name server of this run."""
        return self._ensure(self.nameserver_key_file, NAMESERVER_KEY_VARIABLE)

    def read_nameserver_key(self) -> bytes:
        """Like :meth:`read_key`, for the name server of this run."""
        return _key_from_environment(NAMESERVER_KEY_VARIABLE) or _key_from_file(
            self.nameserver_key_file, NAMESERVER_KEY_VARIABLE
        )

    def _ensure(self, file: Path, variable: str) -> bytes:
        given = _key_from_environment(variable)
        if given is not None:
            return given
        self.check()
        return ensure_key_file(file)

    # -------------------------------------------------------------------------------------------------- endpoint

    def write_endpoint(self, endpoint: Mapping[str, Plain]) -> None:
        """Say where the master listens, atomically.

        Parameters
        ----------
        endpoint
            ``protocol``, ``run_id``, ``epoch``, ``host``, ``port``, ``object``, ``pid`` and, where the master has
            more than ``host``, all its ``addresses``; see :func:`hosts_of`.

        Raises
        ------
        RunDirectoryError
            If the file cannot be written.
        """
        write_atomically(self.endpoint_file, json.dumps(endpoint, indent=1) + "\n")

    def read_endpoint(self) -> dict[str, Plain] | None:
        """What the last master wrote, living or not; ``None`` if none has.

        Raises
        ------
        RunDirectoryError
            If the file cannot be read, or holds something else.
        """
        endpoint: dict[str, Plain] | None
        with os_errors_as_ours(self.endpoint_file, "read the endpoint"):
            try:
                endpoint = json.loads(self.endpoint_file.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError:
                endpoint = None
        if not _is_endpoint(endpoint):
            raise RunDirectoryError(
                f"{self.endpoint_file} is no endpoint of a master; delete it and start the master again"
            )
        return endpoint

    def remove_endpoint(self, epoch: int) -> None:
        """Withdraw the endpoint of the master with this epoch; that of a newer master stays.

        Raises
        ------
        RunDirectoryError
            If the file cannot be read or deleted.
        """
        endpoint = self.read_endpoint()
        if endpoint is not None and endpoint["epoch"] == epoch:
            with os_errors_as_ours(self.endpoint_file, "delete the endpoint"):
                self.endpoint_file.unlink(missing_ok=True)


def _is_endpoint(told: Plain) -> bool:
    if not isinstance(told, dict):
        return False
    if not all(isinstance(told.get(name), kind) for name, kind in _ENDPOINT_FIELDS.items()):
        return False
    # Masters of earlier versions had one host and said no more.
    addresses = told.get("addresses", [])
    return isinstance(addresses, list) and all(isinstance(each, str) for each in addresses)


def hosts_of(endpoint: Mapping[str, Plain]) -> list[str]:
    """The hosts by which to call the master of an endpoint, the likeliest first."""
    return list(endpoint.get("addresses") or [endpoint["host"]])


def is_told_well(told: str) -> bool:
    """Whether a directory is written as :meth:`RunDirectory.told_directory` and workers elsewhere write theirs."""
    return 0 < len(told) <= LONGEST_PATH and "\0" not in told and ".." not in told.split("/")


def read_key_file(file: Path) -> bytes:
    """A key from a file that its owner alone may read.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read, is open to others, or holds no key.
    """
    return _key_from_file(file, KEY_VARIABLE)


def read_given_key(file: Path) -> bytes:
    """A key from a file that the user names; like :func:`read_key_file` where it is this user's own.

    A file of somebody else is that one's to protect, as it is for ssh: an orchestrator mounts the secrets of a
    container as root's, readable by the group or by all in that container. What others may write is nobody's secret.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read, is open to others, or holds no key.
    """
    with os_errors_as_ours(file, f"read the key (or set {KEY_VARIABLE})"):
        status = file.stat()
        if status.st_uid == os.geteuid() or status.st_mode & 0o022:
            return read_key_file(file)
        return _key_in(file)


def ensure_key_file(file: Path) -> bytes:
    """Like :func:`read_given_key`; a file that is not there is made, with its directory, for its owner alone.

    Raises
    ------
    RunDirectoryError
        As :func:`read_given_key`, or if it cannot be made.
    """
    if not file.exists():
        with os_errors_as_ours(file, "write the key"):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_once(file, secrets.token_hex(KEY_BYTES))
    return read_given_key(file)


def default_run_directory(reference: str, base: str | os.PathLike[str] = "runs", *, new: bool = False) -> Path:
    """Run directory of a problem where the user names none.

    Parameters
    ----------
    reference
        The problem as the user wrote it: ``digits`` has ``runs/digits``, ``path/to/file.py:problem`` has
        ``runs/file-problem``, whatever the options behind it.
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


def write_atomically(path: Path, text: str) -> None:
    """Replace a file by ``text``: readers see the old content or the new, after a power cut too.

    Raises
    ------
    RunDirectoryError
        If it cannot be written; the old content is still there.
    """
    with os_errors_as_ours(path, "write the file"):
        with _temporary_beside(path, text) as temporary:
            temporary.replace(path)
        _sync_directory(path.parent)


def _write_once(path: Path, text: str) -> None:
    """Like :func:`write_atomically`, but the first of two that write at once wins, and both go on with its content."""
    with _temporary_beside(path, text) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
        except OSError:
            # A file system without hard links: the lock of the master is what is left against two writers.
            temporary.replace(path)
    _sync_directory(path.parent)


@contextmanager
def _temporary_beside(path: Path, text: str) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key_from_environment(variable: str) -> bytes | None:
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if len(key) < SHORTEST_KEY:
        raise UsageError(
            f"{variable} has {len(key)} characters, a key has at least {SHORTEST_KEY}; "
            'make one with: python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return key.encode()


def _key_from_file(file: Path, variable: str) -> bytes:
    with os_errors_as_ours(file, f"read the key (or set {variable})"):
        refuse_if_open_to_others(file, "600")
        return _key_in(file)


def _key_in(file: Path) -> bytes:
    key = file.read_bytes().strip()
    if len(key) < SHORTEST_KEY:
        raise RunDirectoryError(
            f"{file} holds no key; delete it and start the master again, which makes a new one, or make one with: "
            f"openssl rand -hex 32 > {file}"
        )
    return key


def refuse_if_open_to_others(path: Path, mode: str) -> None:
    """Refuse a secret that others may read, as ssh does.

    It is not closed in silence: whoever has read it keeps it, and the owner may want a new one.

    Raises
    ------
    RunDirectoryError
        With the command that closes it.
    OSError
        If there is nothing.
    """
    current = stat.S_IMODE(path.stat().st_mode)
    if current & 0o077:
        raise RunDirectoryError(
            f"{path} is open to other users (mode {current:o}), who could take the search over; "
            f"run: chmod {mode} {path}"
        )


def refuse_given_if_open(path: Path, mode: str) -> None:
    """Like :func:`refuse_if_open_to_others`; what another owner has closed to writers is that one's to protect.

    So it is for ssh: a container's secrets are mounted as root's, and nobody else can close them. In a folder with the
    sticky bit, which they lie in, nobody else can replace them either.
    """
    status = path.stat()
    is_writable = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
    if status.st_uid == os.geteuid() or is_writable:
        refuse_if_open_to_others(path, mode)


@contextmanager
def os_errors_as_ours(path: Path, purpose: str) -> Iterator[None]:
    """Turn what the operating system refuses into an error that names the path and what was wanted of it."""
    try:
        yield
    except RunDirectoryError:
        raise
    except OSError as error:
        raise RunDirectoryError(f"cannot {purpose}: {path}: {error.strerror or error}") from error
