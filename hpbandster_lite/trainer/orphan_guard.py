"""Ends what trainers leave behind whose agent was killed: processes that have left the trainer's group and session.

Law of this file: the kernel ends a trainer's group with its agent, and reaches nobody who has left it; an agent that is
killed can do no more. So a shell waits beside it, on a pipe that only the agent holds open. A word on it means that the
agent has ended what it had started; its end without one means that nobody has, and then every process that carries the
mark of the agent's trainers is killed. The shell is nobody's child, holds no key and takes 1 MB.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys

from hpbandster_lite.trainer.process_tree import MARK, MARK_PREFIX, become_subreaper

log = logging.getLogger(__name__)

# In the background, where signals to the agent's terminal and job do not reach it; then standard input is closed, so
# that the pipe has to come as another descriptor. A process that forks meanwhile is met again in the next round.
_SCRIPT = """
exec 3<&0
(
    trap '' HUP INT TERM USR1 USR2
    read -r word <&3 && exit 0
    for round in 1 2 3 4 5 6 7 8 9 10; do
        found=
        for file in $(grep -ls -e "$1" /proc/[0-9]*/environ 2>/dev/null); do
            found=yes
            pid=${file#/proc/}
            kill -9 "${pid%/environ}" 2>/dev/null
        done
        [ -n "$found" ] || exit 0
        sleep 0.1
    done
) &
"""


class OrphanGuard:
    """Waits for the death of this process; :meth:`dismiss` it when all trainers have ended.

    To be made before the process becomes the one that buries orphans.
    """

    def __init__(self) -> None:
        self._word: int | None = None
        if sys.platform != "linux":
            return
        # The shell becomes an orphan at once, and is to be none of ours.
        become_subreaper(False)
        theirs, self._word = os.pipe()
        try:
            subprocess.run(
                ["/bin/sh", "-c", _SCRIPT, "orphan_guard", f"{MARK}={MARK_PREFIX}-"],
                stdin=theirs,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Nothing of the agent's own: it is found by nobody's mark, and knows no key.
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd="/",
                start_new_session=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            log.debug("if this agent is killed, what its trainers detached goes on: %s", error)
            self.dismiss()
        finally:
            os.close(theirs)

    def dismiss(self) -> None:
        """Let it go: nothing is left to be ended."""
        word, self._word = self._word, None
        if word is None:
            return
        try:
            os.write(word, b"over\n")
        except BrokenPipeError:
            log.debug("somebody has ended the shell that waits beside this agent")
        os.close(word)
