"""Ends the processes that have left the process group and session of a trainer, if the trainer's agent was killed.

Law of this file: when an agent dies, the kernel ends the process groups of its trainers, but not processes that have
left these groups. So a shell reads from a pipe that only the agent holds open. A line in the pipe means that the agent
has ended its processes. End of file without a line means that the agent was killed; then the shell kills every process
in the control group of the agent's trainers, if there is one, and every process that has their mark in its environment.
Without a control group, a process with a new session and without the mark stays. The shell is detached, has no key and
takes 1 MB.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from hpbandster_lite.trainer.control_group import ControlGroup
from hpbandster_lite.trainer.process_tree import MARK, MARK_PREFIX, become_subreaper

log = logging.getLogger(__name__)

# It runs in the background, so that signals to the agent's terminal and job do not reach it. A background shell has no
# standard input, so the pipe is moved to descriptor 3. The next round finds processes that forked in the meantime.
_SCRIPT = """
exec 3<&0
(
    trap '' HUP INT TERM USR1 USR2
    read -r line <&3 && exit 0
    [ -n "$2" ] && echo 1 > "$2/cgroup.kill"
    for round in 1 2 3 4 5 6 7 8 9 10; do
        found=
        for file in $(grep -ls -e "$1" /proc/[0-9]*/environ 2>/dev/null); do
            found=yes
            pid=${file#/proc/}
            kill -9 "${pid%/environ}" 2>/dev/null
        done
        [ -n "$found" ] || break
        sleep 0.1
    done
    for round in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$2" ] && [ -d "$2" ] || exit 0
        rmdir "$2"/*/ "$2"
        sleep 0.1
    done
) &
"""


class OrphanGuard:
    """A shell that waits for the death of this process; call :meth:`dismiss` when all trainers have ended.

    Make it before this process becomes a subreaper.

    Parameters
    ----------
    group
        The control group that has those of the trainers; None where none can be made.
    """

    def __init__(self, group: ControlGroup | None = None) -> None:
        self._group = group
        self._pipe: int | None = None
        if sys.platform != "linux":
            return
        # The shell becomes an orphan at once, and must not then become a child of this process.
        become_subreaper(False)
        theirs, self._pipe = os.pipe()
        try:
            subprocess.run(
                ["/bin/sh", "-c", _SCRIPT, "orphan_guard", f"{MARK}={MARK_PREFIX}-", str(group.path) if group else ""],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A minimal environment: without the mark, and without keys.
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                start_new_session=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            log.debug("if this agent is killed, detached processes of its trainers continue: %s", error)
            self.dismiss()
        finally:
            os.close(theirs)

    def dismiss(self) -> None:
        """End the shell and remove the group, because no processes of trainers are left."""
        if self._group is not None:
            self._group.remove()
        pipe, self._pipe = self._pipe, None
        if pipe is None:
            return
        try:
            os.write(pipe, b"over\n")
        except BrokenPipeError:
            log.debug("the shell that guards against orphans was ended from outside")
        os.close(pipe)
