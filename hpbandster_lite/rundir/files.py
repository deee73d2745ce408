"""Small files of a run directory: written atomically, and readable by their owner alone.

Law of this file: a file that other processes read is written under a temporary name, synced and renamed, so that a
reader sees the old content or the new one. A secret that other users can open is refused, with the command that closes
it.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpbandster_lite.errors import RunDirectoryError, UsageError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
PARTIAL_SUFFIX = ".partial"
"""Ending, after a dot in front, of the name of a checkpoint that is being written, or that a kill cut off."""


def write_atomically(path: Path, text: str) -> None:
    """Replace the content of a file by ``text``; readers see the old or the new content, even after a power cut.

    Raises
    ------
    RunDirectoryError
        If it cannot be written; the old content stays.
    """
    with os_errors_as_ours(path, "write the file"):
        with _temporary_beside(path, text) as temporary:
            temporary.replace(path)
        sync(path.parent)


def write_once(path: Path, text: str) -> None:
    """Write a file unless it exists: if two processes write at the same time, the first one determines the content.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with _temporary_beside(path, text) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return
        except OSError:
            # The file system has no hard links: then only the master's lock prevents two writers.
            temporary.replace(path)
    sync(path.parent)


def refuse_to_replace(
    path: Path, *, force: bool, is_ours: Callable[[], bool], remedy: str = "give another name"
) -> None:
    """Refuse to overwrite a file that this command did not make, unless the user agrees.

    Parameters
    ----------
    path
        The file to write.
    force
        Whether the user agreed to replace it.
    is_ours
        Returns whether this command made the existing file.
    remedy
        What the user can do without replacing it.

    Raises
    ------
    UsageError
        If the file must not be replaced; the message has the remedy. A directory or a device is always refused.
    """
    if not os.path.lexists(path):
        return
    if not path.is_symlink() and not path.is_file():
        raise UsageError(f"{path} exists and is not a plain file; give another name")
    if not force and not is_ours():
        raise UsageError(f"{path} exists and was not made by this command; {remedy}, or replace it with --force")


def replace_whole(path: Path, content: bytes | memoryview) -> None:
    """Replace a file that any process may read, atomically, even if the power fails.

    Raises
    ------
    OSError
        If it cannot be written; the old content is still there.
    """
    with _temporary_beside(path, content, ending=PARTIAL_SUFFIX, mode=0o666) as temporary:
        temporary.replace(path)
    try:
        sync(path.parent)
    except OSError as error:
        # Some file systems cannot sync a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


@contextmanager
def _temporary_beside(
    path: Path, content: str | bytes | memoryview, *, ending: str = "", mode: int = 0o600
) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ending}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file, or the names in a directory, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refuse_if_open_to_others(path: Path, mode: str) -> None:
    """Refuse a secret that other users can read, as ssh does.

    This does not close it silently, because other users may have read it, and the owner may want a new one.

    Raises
    ------
    RunDirectoryError
        If it is open to other users; the message has the command that closes it.
    OSError
        If it does not exist.
    """
    _refuse_bits(path, 0o077, "", f"chmod {mode}")


def refuse_given_if_open(path: Path, mode: str) -> None:
    """Like :func:`refuse_if_open_to_others`, but accept a file of another owner if only that owner can write it.

    ssh does the same. The secrets of a container belong to root, and this user cannot close them.
    """
    status = path.stat()
    if status.st_uid == os.geteuid() or status.st_mode & 0o022:
        refuse_if_open_to_others(path, mode)


def refuse_if_writable_by_others(path: Path, mode: str = "go-w") -> None:
    """Refuse a directory in which other users can replace files; they may list it, because each secret is closed.

    The mode is left as it is: other users may have replaced a file already, and the directory may have another purpose.

    Raises
    ------
    RunDirectoryError
        If the group or all users can write it; the message has the command that closes it.
    OSError
        If it does not exist.
    """
    _refuse_bits(path, 0o022, " for writing", f"chmod {mode}")


def refuse_given_if_writable(path: Path) -> None:
    """Like :func:`refuse_if_writable_by_others`, but accept another owner's directory that has the sticky bit.

    The folder with the secrets of a container belongs to root and is writable for all, but no other user can replace a
    file in it.
    """
    status = path.stat()
    if status.st_uid == os.geteuid() or not status.st_mode & stat.S_ISVTX:
        refuse_if_writable_by_others(path)


@contextmanager
def os_errors_as_ours(path: Path, purpose: str) -> Iterator[None]:
    """Convert an error of the operating system to one that names the path and the operation."""
    try:
        yield
    except RunDirectoryError:
        raise
    except OSError as error:
        remedy = "; free space on its disk" if error.errno in _NO_ROOM else ""
        if error.errno == errno.EISDIR:
            remedy = " in the place of a file; move it away"
        raise RunDirectoryError(f"cannot {purpose}: {path}: {error.strerror or error}{remedy}") from error


def _refuse_bits(path: Path, bits: int, purpose: str, remedy: str) -> None:
    current = stat.S_IMODE(path.stat().st_mode)
    if current & bits:
        raise RunDirectoryError(
            f"{path} is open to other users{purpose} (mode {current:o}), who could take over the search; "
            f"run: {remedy} {path}"
        )
