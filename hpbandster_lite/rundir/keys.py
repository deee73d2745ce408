"""Keys: the secrets that the processes of a run share.

Law of this file: a key comes from the environment, else from a file that only its owner can read; other files are
refused. A new key is random and written once.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.environment import KEY_VARIABLE
from hpbandster_lite.rundir.files import os_errors_as_ours, refuse_if_open_to_others, write_atomically, write_once

KEY_BYTES = 32
"""Random bytes of a new key: the size of SHA-256; a longer key does not improve an HMAC."""
_WRITTEN_HERE = re.compile(rb"[0-9a-f]{%d}" % (2 * KEY_BYTES))
"""A key file as a master writes it: without the newline that editors and commands of a shell add."""
SHORTEST_KEY = 16
"""Characters of the shortest accepted key: 64 bits if they are hexadecimal."""


def read_key(file: Path, variable: str) -> bytes:
    """A key: from the environment, else from its file.

    Raises
    ------
    RunDirectoryError
        If the file is open to other users, or cannot be used.
    UsageError
        If the key in the environment is too short.
    """
    return key_in_environment(variable) or _key_from_file(file, variable)


def adopt_key(given: Path, file: Path) -> bytes:
    """The key in a file that the user gives; it is also written to the run's key file.

    Raises
    ------
    RunDirectoryError
        As :func:`read_given_key`, or if the key is not ASCII text or cannot be written.
    UsageError
        If the run's own key file has another key, which a user may have put there.
    """
    key = read_given_key(given)
    if not key.isascii():
        raise RunDirectoryError(f"the key in {given} is not text; make one with: openssl rand -hex 32 > {given}")
    current = file.read_bytes() if file.exists() else b""
    if current.strip() not in (b"", key) and not _WRITTEN_HERE.fullmatch(current):
        raise UsageError(
            f"{file} has another key than {given}, and a user may have put it there; move it away to use {given}, or "
            "leave --key out"
        )
    if current.strip() != key or file.stat().st_mode & 0o077:
        write_atomically(file, key.decode("ascii"))
    return key


def read_given_key(file: Path) -> bytes:
    """A key from a file that the user gives; if the file belongs to this user, it must be closed to other users.

    As with ssh, another owner is responsible for the own file: an orchestrator mounts the secrets of a container as
    files of root, which the group or all users in that container can read. A file that other users can write is
    refused.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read, is open to other users, or has no key.
    """
    with os_errors_as_ours(file, f"read the key (or set {KEY_VARIABLE})"):
        _refuse_directory(file)
        status = file.stat()
        if status.st_uid == os.geteuid() or status.st_mode & 0o022:
            return _key_from_file(file, KEY_VARIABLE)
        return _key_in(file)


def ensure_key_file(file: Path) -> bytes:
    """The key in a file; if the file does not exist, make it and its directory, for their owner alone.

    Raises
    ------
    RunDirectoryError
        As :func:`read_given_key`, or if the file cannot be made.
    """
    if not file.exists():
        with os_errors_as_ours(file, "write the key"):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_once(file, secrets.token_hex(KEY_BYTES))
    return read_given_key(file)


def key_in_environment(variable: str) -> bytes | None:
    """The key in an environment variable; None if the variable is not set.

    Raises
    ------
    UsageError
        If it is too short.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return None
    if len(key) < SHORTEST_KEY:
        raise UsageError(
            f"{variable} has {len(key)} characters; a key must have at least {SHORTEST_KEY}; "
            'make one with: python -c "import secrets; print(secrets.token_hex(32))"'
        )
    return key.encode()


def _key_from_file(file: Path, variable: str) -> bytes:
    with os_errors_as_ours(file, f"read the key (or set {variable})"):
        _refuse_directory(file)
        refuse_if_open_to_others(file, "600")
        return _key_in(file)


def _refuse_directory(file: Path) -> None:
    # Before its mode is looked at: another mode would not help. A pipe is a legitimate source of a key.
    if file.is_dir():
        raise RunDirectoryError(f"{file} is a directory and has no key; give a file, or move the directory away")


def _key_in(file: Path) -> bytes:
    key = file.read_bytes().strip()
    if len(key) < SHORTEST_KEY:
        raise RunDirectoryError(
            f"{file} has no key; delete it and start the master again, which makes a new one, or make one with: "
            f"openssl rand -hex 32 > {file}"
        )
    return key
