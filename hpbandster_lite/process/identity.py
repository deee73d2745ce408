"""Which process this is, and whether another process of the same machine is dead, stopped or a descendant.

Law of this file: only what is proven counts. A process is dead if its boot and its pid namespace are those of this
process, and its pid is gone, is a zombie, or belongs to a process with another start time. What this process cannot
read (another machine, another namespace, ``hidepid``) proves nothing. The start time is in clock ticks since the boot,
so that it does not move with the wall clock.
"""

from __future__ import annotations

import os
import socket
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from hpbandster_lite.records import ProcessIdentity

_STATE, _PARENT, _START = 0, 1, 19
"""Fields of ``/proc/PID/stat`` after the name: the third, the fourth and the twenty-second of all."""


class Condition(Enum):
    """What is proven about a process."""

    RUNS = "runs"
    STOPPED = "stopped"
    """By SIGSTOP or SIGTSTP; it may continue."""
    DEAD = "dead"
    UNKNOWN = "unknown"


def own_process() -> ProcessIdentity:
    """The identity of this process; without a readable ``/proc`` of its own namespace, only host and pid."""
    host, pid = socket.gethostname(), os.getpid()
    try:
        if Path("/proc/self").readlink().name != str(pid):
            # The /proc of another pid namespace, where our pid is that of another process.
            return ProcessIdentity(host=host, pid=pid)
        fields = _fields_of(pid)
        return ProcessIdentity(
            host=host,
            pid=pid,
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip(),
            pid_namespace=str(Path("/proc/self/ns/pid").readlink()),
            started_ticks=int(fields[_START]),
        )
    except (OSError, ValueError, IndexError):
        return ProcessIdentity(host=host, pid=pid)


def condition_of(process: ProcessIdentity, own: ProcessIdentity) -> Condition:
    """What the process ``own`` can prove about a process."""
    is_near = own.boot_id and own.pid_namespace and process.boot_id == own.boot_id
    if not is_near or process.pid_namespace != own.pid_namespace or process.pid <= 0:
        return Condition.UNKNOWN
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return Condition.DEAD
    except OSError:
        # It belongs to another user.
        pass
    try:
        fields = _fields_of(process.pid)
        state, started_ticks = fields[_STATE], int(fields[_START])
    except (OSError, ValueError, IndexError):
        return Condition.UNKNOWN
    if state in "ZX" or (process.started_ticks and started_ticks != process.started_ticks):
        return Condition.DEAD
    return Condition.STOPPED if state == "T" else Condition.RUNS


def is_stopped(pid: int) -> bool:
    """Whether a process of this machine is stopped; False if its state is not readable."""
    try:
        return _fields_of(pid)[_STATE] == "T"
    except (OSError, IndexError):
        return False


def stopped_child(pid: int) -> int | None:
    """A child of the process ``pid`` that is stopped; None if there is none, or the kernel does not list them."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except OSError:
        return None
    return next((int(child) for child in children if is_stopped(int(child))), None)


class Descent(NamedTuple):
    """Whether a process descends from another one, and words for it; None if it has ended, which proves nothing."""

    is_descendant: bool | None
    words: str


def descent(pid: int, ancestor: int) -> Descent:
    """Whether a process descends from another one. A zombie counts as well."""
    words = f"process {pid}"
    if pid <= 0 or pid == ancestor:
        # 0: the kernel (Ctrl-C in a terminal), or a process of another namespace.
        return Descent(False, words)
    try:
        # Its own entry first: a program that has sent a signal may end at once.
        name, fields = _stat_of(pid)
        words += f" ({_command_of(pid) or name})"
        parent = int(fields[_PARENT])
        while parent > 1 and parent != ancestor:
            parent = int(_fields_of(parent)[_PARENT])
    except (OSError, ValueError, IndexError):
        # It has ended, or a process on the way.
        return Descent(None, words)
    return Descent(parent == ancestor, words)


def _command_of(pid: int) -> str:
    """The command line of a process; empty once it has ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return ""
    return " ".join(command.decode("utf-8", errors="replace").split())[:100]


def _fields_of(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the name."""
    return _stat_of(pid)[1]


def _stat_of(pid: int) -> tuple[str, list[str]]:
    """The name of a process, which may contain blanks and parentheses, and the fields after it."""
    before, _, after = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
    return before.partition(b"(")[2].decode("utf-8", errors="replace"), after.decode("ascii").split()
