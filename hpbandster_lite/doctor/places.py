"""Probes of directories: the run directory, temporary files, shared memory; and of the modes of keys.

Law of this file: a probe writes one small file into the directory, to see whether it can and what the clock of the file
system says, and deletes it. It reads no key, only the modes of its file.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path

from hpbandster_lite.journal import is_network, mounted_type
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory

_VERSION_AT = 60
"""Where the header of an SQLite file has the number of the schema."""


def place(path: Path) -> dict[str, Plain]:
    """The file system of a directory, its free space, and its clock against that of this machine."""
    if not path.is_dir():
        return {"path": str(path.absolute()), "exists": path.exists(), "is a directory": False}
    kind, space, status = mounted_type(path), os.statvfs(path), path.stat()
    return {
        "path": str(path.absolute()),
        "exists": True,
        "is a directory": True,
        "file system": kind,
        "may be shared": None if kind is None else is_network(kind),
        "mode": _mode(status),
        "owner": status.st_uid,
        "owner is this user": status.st_uid == os.geteuid(),
        "size": space.f_blocks * space.f_frsize,
        "free": space.f_bavail * space.f_frsize,
        # Some file systems have no fixed number.
        "free files": space.f_favail if space.f_files else None,
        **_written(path),
    }


def _written(path: Path) -> dict[str, Plain]:
    """Whether a file can be written, locked and deleted, and how far its time is from this machine's clock."""
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".hpbandster-lite-doctor-") as file:
            before = _unix_time()
            file.write(b"1")
            file.flush()
            os.fsync(file.fileno())
            after = _unix_time()
            offset = os.fstat(file.fileno()).st_mtime - (before + after) / 2
            return {
                "writable": True,
                "locks": _locks(file.fileno()),
                "seconds for a write": round(after - before, 4),
                # A kernel stamps files with the time of its last tick.
                "clock ahead of this machine, seconds": round(offset, 2),
            }
    except OSError as error:
        return {"writable": False, "why": str(error)}


def _unix_time() -> float:
    return datetime.now(timezone.utc).timestamp()


def _locks(descriptor: int) -> Plain:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"no: {error}"
    return True


def run(path: Path) -> dict[str, Plain]:
    """The journal of a run directory, and whether a master serves it."""
    directory = RunDirectory(path)
    try:
        with directory.journal.open("rb") as journal:
            header = journal.read(100)
    except OSError as error:
        return {"journal": None, "why": str(error)}
    endpoint: Mapping[str, Plain] | None = directory.read_endpoint()
    return {
        "journal": os.stat(directory.journal).st_size,  # noqa: PTH116 (follows the line above)
        "schema": int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4], "big") if len(header) == 100 else None,
        "served": directory.is_served(),
        "endpoint": None if endpoint is None else {name: endpoint[name] for name in ("host", "port", "pid", "epoch")},
    }


def keys(files: Sequence[Path]) -> dict[str, Plain]:
    """Which users can read the files that hold secrets; files that do not exist are left out."""
    found: dict[str, Plain] = {}
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        found[str(file)] = {
            "mode": _mode(status),
            "owner": status.st_uid,
            "owner is this user": status.st_uid == os.geteuid(),
            "size": status.st_size,
        }
    return found


def secrets_of(path: Path) -> list[Path]:
    """The files in a run directory that hold secrets."""
    directory = RunDirectory(path)
    return [directory.key_file, directory.nameserver_key_file, *sorted(directory.tls.glob("*.key"))]


def _mode(status: os.stat_result) -> str:
    return f"{stat.S_IMODE(status.st_mode):03o}"
