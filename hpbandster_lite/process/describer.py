"""A process that describes a problem, started before the problem is known.

Law of this file: to describe a problem, the process imports ConfigSpace, which takes a second and should start before
all other imports; so this file imports almost nothing. The process waits for a line with the problem's reference on its
standard input, and ends silently if there is none.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from hpbandster_lite.process.environment import trainer_environment
from hpbandster_lite.process.utf8 import python_command

if TYPE_CHECKING:
    from hpbandster_lite.records import Plain

DESCRIBE = "--describe"
END_S = 0.5
"""Time in seconds for the process to end by itself after its answer, so that its exit code tells how it ended."""


class Describer:
    """One such process; ``answers`` is the descriptor for its answer, ``output`` the file with its printed output."""

    def __init__(self) -> None:
        self.answers, writing = os.pipe()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        with ExitStack() as on_failure:
            on_failure.callback(self.close)
            try:
                self._process = subprocess.Popen(
                    python_command("-m", "hpbandster_lite.trainer", DESCRIBE, str(writing)),
                    stdin=subprocess.PIPE,
                    stdout=self.output,
                    stderr=self.output,
                    pass_fds=(writing,),
                    env=trainer_environment(os.environ, None, None),
                    start_new_session=True,
                )
            finally:
                os.close(writing)
            on_failure.pop_all()

    def ask(self, question: Plain) -> None:
        """Send what to describe."""
        stdin = self._process.stdin
        if stdin is not None:
            # If the process is dead already, its exit code says why.
            with suppress(BrokenPipeError), stdin:
                stdin.write(json.dumps(question).encode("ascii") + b"\n")

    def end(self) -> int:
        """End the process and its child processes; return its exit code."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.returncode

    def close(self) -> None:
        """Close the pipe and the output file; call :meth:`end` first."""
        os.close(self.answers)
        self.output.close()


_started_early: list[Describer] = []


def start_early() -> None:
    """Start a process now for a later :func:`take`."""
    _started_early.append(Describer())


def take() -> Describer:
    """The process that was started early, else a new one."""
    return _started_early.pop() if _started_early else Describer()
