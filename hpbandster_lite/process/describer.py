"""A process that is to read a problem, started before it is known which one.

Law of this file: reading a problem takes ConfigSpace's second, which it is best to begin before everything else is
imported; so this file imports next to nothing itself. The process waits for its problem's name on a line of its
standard input, and ends without a word if none comes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress

from hpbandster_lite.process.environment import trainer_environment

DESCRIBE = "--describe"
END_S = 0.5
"""Time for the process to end by itself once it has answered, so that its exit code tells how it ended."""


class Describer:
    """One such process; ``answers`` is the descriptor of what it writes, ``output`` the file of what it prints."""

    def __init__(self) -> None:
        self.answers, writing = os.pipe()
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpbandster_lite.trainer", DESCRIBE, str(writing)],
                stdin=subprocess.PIPE,
                stdout=self.output,
                stderr=self.output,
                pass_fds=(writing,),
                env=trainer_environment(os.environ, None, None),
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise
        finally:
            os.close(writing)

    def ask(self, reference: str) -> None:
        """Say which problem it is to read."""
        told = self._process.stdin
        if told is not None:
            # If it has died already, its exit code tells more.
            with suppress(BrokenPipeError), told:
                told.write(reference.encode("utf-8", "surrogateescape") + b"\n")

    def end(self) -> int:
        """End it and all that it has left running; its exit code."""
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
        """Let go of its answers and its output; it was ended before."""
        os.close(self.answers)
        self.output.close()

_begun: list[Describer] = []


def begin() -> None:
    """Start a process for :func:`describer` to give."""
    _begun.append(Describer())


def describer() -> Describer:
    """The process that was begun early, else a new one."""
    return _begun.pop() if _begun else Describer()
