"""Evidence that a process was killed for lack of memory.

Law of this file: it reads counters of the kernel and decides nothing. It uses the container's counter; only outside
containers it uses the machine's counter, which counts all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

NEAR = 0.9
"""Memory explains a SIGKILL above this share of the limit, because the last growth happens between two samples."""
UNLIMITED = 2**60
"""A larger limit is no limit: cgroup v1 writes 2^63, rounded to a page."""


class MemoryWatch:
    """Samples the memory of one process.

    Parameters
    ----------
    pid
        The process.
    proc, cgroups
        The directories of the kernel's files.
    """

    def __init__(self, pid: int, *, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> None:
        self._proc = proc
        self._statm = proc / str(pid) / "statm"
        self._groups = tuple(_groups(proc / str(pid) / "cgroup", cgroups))
        self._limit_bytes = self._limit()
        self._kills_before = self._kills()
        self._resident_bytes = 0

    def begin(self) -> None:
        """Begin an evaluation; earlier events do not count for it."""
        self._kills_before = self._kills()
        self._resident_bytes = 0

    def sample(self) -> None:
        """Sample the resident size."""
        fields = _read(self._statm).split()
        if len(fields) > 1:
            self._resident_bytes = int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    def has_killed(self) -> bool:
        """Whether the kernel has killed a process of this group for lack of memory since :meth:`begin`."""
        return self._kills() > self._kills_before

    def evidence(self) -> str | None:
        """The evidence that memory explains a death since :meth:`begin`, as text, or None."""
        if self.has_killed():
            return "the kernel's count of processes killed for lack of memory has risen"
        if self._limit_bytes is not None and self._resident_bytes >= NEAR * self._limit_bytes:
            used_mib, limit_mib = self._resident_bytes / 2**20, self._limit_bytes / 2**20
            return f"it used {used_mib:,.0f} MiB of its limit of {limit_mib:,.0f} MiB"
        return None

    def _kills(self) -> int:
        for group in self._groups:
            for name in ("memory.events", "memory.oom_control"):
                count = _field(group / name, "oom_kill")
                if count is not None:
                    return count
        return _field(self._proc / "vmstat", "oom_kill") or 0

    def _limit(self) -> int | None:
        limits = []
        for group in self._groups:
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = _read(group / name).strip()
                if text.isdigit() and int(text) < UNLIMITED:
                    limits.append(int(text))
        total_kib = _field(self._proc / "meminfo", "MemTotal:")
        if total_kib is not None:
            limits.append(total_kib * 1024)
        return min(limits, default=None)


def _groups(membership: Path, cgroups: Path) -> Iterator[Path]:
    """Directories of the process's control groups for memory, the innermost first."""
    for line in _read(membership).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root = cgroups / "memory" if controllers else cgroups
        # In a container, the own group may be the root although the path is the host's.
        group = root / path.lstrip("/")
        yield group if group.is_dir() else root
        yield from (parent for parent in group.parents if parent.is_relative_to(root) and parent.is_dir())


def _field(file: Path, name: str) -> int | None:
    for line in _read(file).splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[0] == name and fields[1].isdigit():
            return int(fields[1])
    return None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError:
        # Another version of control groups, no permission, or the process has ended.
        return ""
