"""A control group of the kernel for the processes of a trainer: a process cannot leave it by a new session.

Law of this file: it makes, ends and removes only groups of its own, below that of this process, and only where the
kernel allows it: control groups of version 2 that this user may write, Linux 5.14 or newer. Elsewhere it makes no
group.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path

REMOVE_WITHIN_S = 1.0
"""A group can be removed when its processes have ended, a moment after they were killed."""


class ControlGroup:
    """A group; made by :func:`own_group`. ``path`` is its directory in the control group file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pid: int) -> bool:
        """Put a process, and so all processes that it starts, into the group; return whether that was possible."""
        return _written(self.path / "cgroup.procs", str(pid))

    def processes(self) -> list[int]:
        """The processes of the group that have not ended."""
        try:
            return [int(line) for line in (self.path / "cgroup.procs").read_text("ascii").split()]
        except OSError:
            return []

    def kill(self) -> None:
        """Kill all processes of the group, also of the groups below it."""
        _written(self.path / "cgroup.kill", "1")

    def remove(self) -> None:
        """Remove the group, which must have no processes, or only processes that are about to end."""
        ends_at = time.monotonic() + REMOVE_WITHIN_S
        while not _removed(self.path) and time.monotonic() < ends_at:
            time.sleep(0.001)


def own_group(
    within: ControlGroup | None = None, *, proc: Path = Path("/proc/self"), name: str | None = None
) -> ControlGroup | None:
    """A new group in another one, by default in that of this process; None where none can be made.

    Parameters
    ----------
    within
        The group to make it in.
    proc
        The directory of this process in the kernel's file system.
    name
        Name of the group. Default: one that is free.
    """
    parent = _group_of(proc) if within is None else within.path
    if parent is None:
        return None
    path = parent / (name or f"hpbandster_lite-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        path.mkdir()
    except OSError:
        return None
    # Older kernels cannot end a group at once.
    if not (path / "cgroup.kill").exists():
        _removed(path)
        return None
    return ControlGroup(path)


def _group_of(proc: Path) -> Path | None:
    """The directory of the control group of this process; None without version 2."""
    try:
        lines = (proc / "cgroup").read_text("utf-8").splitlines()
        mounts = (proc / "mountinfo").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return None
    own = next((line[len("0::") :] for line in lines if line.startswith("0::")), None)
    for mount in mounts:
        fields, _, rest = mount.partition(" - ")
        if own is not None and rest.startswith("cgroup2 "):
            _, _, _, root, place, *_ = fields.split(" ")
            below = os.path.relpath(own, root)
            path = Path(os.path.normpath(Path(place) / below))
            return path if path.is_relative_to(place) and path.is_dir() else None
    return None


def _written(file: Path, text: str) -> bool:
    try:
        # The kernel takes each write as a whole. Do not create a missing file.
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()
