"""Ends the processes that an objective started, including detached ones.

Law of this file: it ends a process only if the process certainly comes from this trainer: it is in the trainer's
control group, process group or session, is a descendant, or has the trainer's mark in its environment; or it became a
child of this process, which starts nothing but trainers. psutil is imported only if there may be a process to end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from hpbandster_lite.trainer.control_group import ControlGroup

if TYPE_CHECKING:
    import psutil

PR_SET_CHILD_SUBREAPER = 36
MARK = "HPBANDSTER_LITE_TRAINER"
"""Environment variable that identifies the descendants of a trainer."""
MARK_PREFIX = secrets.token_hex(8)
"""Common prefix of the marks of all trainers of this process."""
ROUNDS = 20
"""Most rounds of kills: each round finds processes that forked in the meantime. A fork bomb may survive them."""
ROUND_S = 0.1
DIES_S = 0.05
"""A killed process is dead after some milliseconds; to look for its descendants before that takes longer."""
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Python's helper processes, which live as long as the trainer."""


def become_subreaper(on: bool = True) -> None:
    """Make orphaned descendants children of this process, so that it can find and end them; False undoes this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


class ProcessTree:
    """A trainer and its descendants.

    Parameters
    ----------
    trainer
        Process id of the trainer, which leads its group and session. Do not reap it while this object is used, because
        the id could then be reused.
    mark
        Value of the environment variable :data:`MARK` in the trainer.
    group
        A control group, which has the trainer and so all its descendants; it is removed at their end. Default: None.
    is_alone
        Whether this process starts no other processes while the trainer lives: then each later child of it is an
        orphan of the trainer. Default: False.
    """

    def __init__(
        self, trainer: int, mark: str, *, group: ControlGroup | None = None, is_alone: bool = False
    ) -> None:
        self._trainer = trainer
        self._mark = mark
        self._group = group
        # None: later children may be of any kind.
        self._others_before = set(_children() or ()) if is_alone else None
        self._adopted: set[int] = set()

    def has_orphans(self) -> bool:
        """Whether this process has a child other than the trainer, possibly a detached one; takes 20 us."""
        children = _children()
        # The kernel has no such file: search for orphans.
        return children is None or any(child != self._trainer for child in children)

    def leftover_processes(self) -> list[str]:
        """Command lines of the living descendants, without Python's helper processes."""
        import psutil

        commands = []
        for process in self._others():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline()) or process.name()
                if _is_alive(process) and not any(helper in command for helper in HELPERS):
                    commands.append(command)
        return commands

    def end(self) -> None:
        """Kill the trainer and its descendants, and reap the orphans."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._trainer, signal.SIGKILL)
        self._end_others()
        if self._group is not None:
            # Processes that are not found as descendants, because this process is no reaper of orphans.
            self._group.kill()
            self._group.remove()

    def _end_others(self) -> None:
        ends_at = time.monotonic() + DIES_S
        while not self._has_ended() and time.monotonic() < ends_at:
            time.sleep(0.001)
        if self._has_ended() and not self.has_orphans():
            # There are no descendants left: orphans would be children of this process.
            return
        import psutil

        for _ in range(ROUNDS):
            others = self._others()
            for process in others:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            # Children of the dead trainer become children of this process; the next round finds them.
            living = psutil.wait_procs([process for process in others if _is_alive(process)], timeout=ROUND_S)[1]
            self._reap_orphans()
            if not living and not others:
                return

    def _has_ended(self) -> bool:
        return os.waitid(os.P_PID, self._trainer, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _others(self) -> list[psutil.Process]:
        import psutil

        found: dict[int, psutil.Process] = {}
        members = set() if self._group is None else set(self._group.processes())
        for pid in members - {self._trainer}:
            with contextlib.suppress(psutil.Error):
                found[pid] = psutil.Process(pid)
        with contextlib.suppress(psutil.Error):
            found.update((process.pid, process) for process in psutil.Process(self._trainer).children(recursive=True))
        for child in psutil.Process().children():
            if child.pid != self._trainer and (child.pid in self._adopted | members or self._is_ours(child)):
                self._adopted.add(child.pid)
                found[child.pid] = child
                with contextlib.suppress(psutil.Error):
                    found.update((process.pid, process) for process in child.children(recursive=True))
        return list(found.values())

    def _is_ours(self, process: psutil.Process) -> bool:
        import psutil

        if self._others_before is not None and process.pid not in self._others_before:
            # Its session and its environment may have nothing of the trainer any more.
            return True
        try:
            return os.getsid(process.pid) == self._trainer or process.environ().get(MARK) == self._mark
        except (psutil.Error, OSError):
            return False

    def _reap_orphans(self) -> None:
        for orphan in list(self._adopted):
            # psutil may have reaped it already.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, os.WNOHANG)


def _children() -> list[int] | None:
    """The children of this process; None if the kernel does not list them."""
    try:
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:
        return None


def _is_alive(process: psutil.Process) -> bool:
    import psutil

    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
