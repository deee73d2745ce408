"""Which file system a path lies on, and whether several machines may see it.

Law of this file: a pure function of the kernel's list of mounts, and the one place that reads this list; and whether a
disk is full. SQLite's write-ahead log requires memory that all its users share, which no network file system has; its
rollback journal requires only locks. So an unknown FUSE file system counts as a network: a wrong guess then costs some
milliseconds for each commit; the opposite mistake could cost the journal.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""The mounts that this process sees, one per line: proc(5)."""
NETWORK_TYPES = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "coda", "9p", "virtiofs", "vboxsf", "vmhgfs"),
        *("lustre", "lustre_tgt", "beegfs", "gpfs", "ceph", "glusterfs", "panfs", "pvfs2", "orangefs", "wekafs"),
        # Disks that several machines mount at the same time.
        *("gfs2", "ocfs2", "fhgfs", "cvfs", "acfs", "exafs"),
    }
)
LOCAL_FUSE = frozenset(
    {
        *("fuse.bindfs", "fuse.encfs", "fuse.exfat", "fuse.ext4", "fuse.fuse-overlayfs", "fuse.gocryptfs"),
        *("fuse.mergerfs", "fuse.ntfs", "fuse.ntfs-3g", "fuse.unionfs", "fuse.zfs"),
    }
)
"""FUSE programs that serve files of this machine; others (sshfs, s3fs, rclone, ...) may serve files of another one."""

_ROOM_BYTES = 65_536
_ESCAPED = re.compile(r"\\([0-7]{3})")


def is_full(path: Path) -> bool:
    """Whether the disk of an existing path has no room for another file; False if it cannot be read."""
    try:
        state = os.statvfs(path)
    except OSError:
        return False
    return state.f_bavail * state.f_frsize < _ROOM_BYTES or (state.f_files > 0 and state.f_favail == 0)


def network_type(path: Path) -> str | None:
    """The type of the network file system of a path; None on a local file system, or if the list cannot be read.

    Parameters
    ----------
    path
        A path, which need not exist; links are followed.
    """
    kind = mounted_type(path)
    return kind if kind is not None and is_network(kind) else None


def mounted_type(path: Path) -> str | None:
    """The type of the file system of a path, as :func:`type_of`; None if the list cannot be read."""
    try:
        mounts = MOUNTS.read_text("utf-8", errors="surrogateescape")
        return type_of(mounts, str(path.resolve()))
    except OSError:
        return None


def is_network(kind: str) -> bool:
    """Whether several machines may see a file system of this type."""
    return kind in NETWORK_TYPES or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)


def type_of(mounts: str, path: str) -> str | None:
    """The type of the file system with the longest mount point above a path.

    Parameters
    ----------
    mounts
        The text of ``/proc/self/mountinfo``.
    path
        Absolute, without links.

    Returns
    -------
    str or None
        For example ``ext4``, ``nfs4`` or ``fuse.sshfs``; None if no mount point is above the path.
    """
    longest, kind = -1, None
    for line in mounts.splitlines():
        # The fields of the mount, some of them optional, come before the dash; those of the file system after it.
        before, dash, after = line.partition(" - ")
        fields, system = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or not system[0]:
            continue
        point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
        # If two mounts have the same mount point, the later one hides the earlier one.
        if len(point) >= longest and _is_above(point, path):
            longest, kind = len(point), system[0]
    return kind


def _is_above(point: str, path: str) -> bool:
    return path == point or path.startswith(point if point.endswith("/") else f"{point}/")
