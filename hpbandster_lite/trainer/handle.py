"""The agent's handle on a trainer process.

Law of this file: nothing here waits for the trainer, except its end after it was killed. All that comes from it is
bounded, and all that it started is ended with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.process.shutdown import allocation_signal_blocked
from hpbandster_lite.records import Failure, FailureKind
from hpbandster_lite.trainer.attempt_log import MAX_LOG_BYTES, AttemptLog
from hpbandster_lite.trainer.exit_status import failure_of_death
from hpbandster_lite.trainer.messages import (
    LineReader,
    TrainerDied,
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
    TrainerStop,
    line_of,
    write_line,
)
from hpbandster_lite.trainer.out_of_memory import MemoryWatch
from hpbandster_lite.trainer.process_tree import MARK, MARK_PREFIX, ProcessTree
from hpbandster_lite.trainer.rendezvous import RendezvousPort

READ_BYTES = 2**18
"""One turn reads at most this much of each pipe, so that a flood does not keep the agent from its heartbeats."""
LAST_READS = 16
"""Reads of the log once an evaluation has ended: 4 MiB, more than a pipe holds."""
CLOSE_GRACE_S = 2.0
"""Time for what the problem registered with atexit; then the trainer is killed."""
EOF_GRACE_S = 1.0
"""A trainer whose pipe has closed is dying, or its objective closed the pipe; then it is killed."""
SAMPLE_S = 1.0
"""How often memory is looked at while the trainer evaluates."""
POLL_S = 0.1
_MESSAGES = (TrainerReady, TrainerRefused, TrainerPoint, TrainerEnded, TrainerInterrupted)


class TrainerHandle:
    """A running trainer; started when the object is made.

    Parameters
    ----------
    problem
        Reference of the problem.
    environment
        Its whole environment; see :func:`hpbandster_lite.process.devices.trainer_environment`.
    max_log_bytes
        Most bytes in the log file of one evaluation.
    processes
        How many processes its objective may train with, one for each device; above 1 they have a place to meet.
    """

    def __init__(
        self,
        problem: str,
        environment: Mapping[str, str],
        *,
        max_log_bytes: int = MAX_LOG_BYTES,
        processes: int = 1,
    ) -> None:
        self._max_log_bytes = max_log_bytes
        self._rendezvous = RendezvousPort(processes) if processes > 1 else None
        meeting = {} if self._rendezvous is None else self._rendezvous.environment
        mark = f"{MARK_PREFIX}-{secrets.token_hex(4)}"
        theirs_orders, self._orders = os.pipe()
        self._answers, theirs_answers = os.pipe()
        self._output, theirs_output = os.pipe()
        theirs_lifeline, self._lifeline = os.pipe()
        theirs = (theirs_orders, theirs_answers, theirs_lifeline)
        told = {
            "problem": problem,
            "orders": theirs_orders,
            "answers": theirs_answers,
            "lifeline": theirs_lifeline,
            "parent": os.getpid(),
        }
        try:
            with allocation_signal_blocked():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "hpbandster_lite.trainer", "--serve", json.dumps(told)],
                    stdin=subprocess.DEVNULL,
                    stdout=theirs_output,
                    stderr=theirs_output,
                    pass_fds=theirs,
                    env={**environment, **meeting, MARK: mark},
                    start_new_session=True,
                )
        except BaseException:
            self._close_pipes()
            raise
        finally:
            for descriptor in (*theirs, theirs_output):
                os.close(descriptor)
        os.set_blocking(self._answers, False)
        os.set_blocking(self._output, False)
        self._death = _pidfd(self._process.pid)
        self._reader = LineReader()
        self._log = AttemptLog()
        self._memory = MemoryWatch(self._process.pid)
        self._tree = ProcessTree(self._process.pid, mark)
        self._closed_since: float | None = None
        self._has_output = True
        self._sample_at = 0.0
        self._is_over = False
        self.is_ready = False

    @property
    def pid(self) -> int:
        """Process id; also of its group and its session."""
        return self._process.pid

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when :meth:`receive` has something to do."""
        if self._is_over:
            return ()
        watched = (
            self._answers if self._closed_since is None else None,
            self._output if self._has_output else None,
            self._death,
        )
        return tuple(descriptor for descriptor in watched if descriptor is not None)

    @property
    def poll_every_s(self) -> float:
        """How often to call :meth:`receive` though nothing is readable: a death may not be told, nor a closed pipe."""
        return POLL_S if self._death is None or self._closed_since is not None else SAMPLE_S

    # ------------------------------------------------------------------------------------------------------- orders

    def evaluate(self, order: TrainerOrder, log: str | Path | None) -> None:
        """Have an order carried out; its output goes to the file ``log``. The trainer must be ready and idle."""
        self._log.close()
        self._log = AttemptLog(None if log is None else Path(log), self._max_log_bytes)
        self._memory.begin()
        self._write(line_of(order))

    def ask_to_stop(self) -> None:
        """Begin grace: the objective is interrupted at its next report."""
        self._write(line_of(TrainerStop()))

    def terminate(self) -> None:
        """Begin grace in the trainer and all of its group, by SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    def sample_memory(self) -> None:
        """Take the resident size, once a second at most, for the verdict on a later death."""
        now = time.monotonic()
        if now >= self._sample_at:
            self._sample_at = now + SAMPLE_S
            self._memory.sample()

    def log_tail(self) -> tuple[str, ...]:
        """The last lines that were printed."""
        return self._log.tail()

    def _write(self, line: bytes) -> None:
        # A trainer that has died is heard of by its death, not here.
        with contextlib.suppress(BrokenPipeError):
            write_line(self._orders, line)

    # ------------------------------------------------------------------------------------------------------ hearing

    def receive(self) -> list[TrainerMessage]:
        """What the trainer has said since, without waiting; its death comes last."""
        if self._is_over:
            return []
        self._read_output(1)
        try:
            heard, has_closed = self._read_answers()
        except ProtocolMismatch as error:
            reason = f"the objective wrote to the pipe between trainer and agent ({error}); only 0, 1 and 2 are its own"
            return self._broken([], reason)
        if self._has_exited():
            return [*heard, *self._dead()]
        if has_closed:
            now = time.monotonic()
            if self._closed_since is None:
                self._closed_since = now
            if now - self._closed_since > EOF_GRACE_S:
                return self._broken(heard, "the objective closed the pipe between trainer and agent (os.closerange?)")
        return heard

    def _read_answers(self) -> tuple[list[TrainerMessage], bool]:
        heard: list[TrainerMessage] = []
        data = _read(self._answers)
        for record in self._reader.records(data or b""):
            if not isinstance(record, _MESSAGES):
                raise ProtocolMismatch(f"{type(record).__name__} is nothing that a trainer says")
            self.is_ready = self.is_ready or isinstance(record, TrainerReady)
            if isinstance(record, TrainerEnded | TrainerInterrupted):
                # What was printed before the end belongs to this evaluation, and is in the pipe by now.
                self._read_output(LAST_READS)
                self._log.close()
            heard.append(record)
        return heard, data == b""

    def _read_output(self, reads: int) -> None:
        for _ in range(reads):
            data = _read(self._output) if self._has_output else None
            if not data:
                # Closed by the objective and all that it started; readable for ever, and nothing to read.
                self._has_output = self._has_output and data is None
                return
            self._log.write(data)

    def _has_exited(self) -> bool:
        # Without taking leave of it: as long as it is a zombie its number, which is its group's, is its own.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _dead(self) -> list[TrainerMessage]:
        heard: list[TrainerMessage] = []
        with contextlib.suppress(ProtocolMismatch):
            # It may have finished its evaluation before it died; half a line at the end is nothing.
            while (more := self._read_answers()[0]) != []:
                heard += more
        self._read_output(LAST_READS)
        memory = self._memory.evidence()
        returncode = self._end()
        return [*heard, TrainerDied(failure=failure_of_death(returncode, memory, self._log.tail()))]

    def _broken(self, heard: list[TrainerMessage], reason: str) -> list[TrainerMessage]:
        self._end()
        failure = Failure(kind=FailureKind.CODE, reason=reason, log_tail=self._log.tail())
        return [*heard, TrainerDied(failure=failure)]

    # ------------------------------------------------------------------------------------------------------- ending

    def leftover_processes(self, has_children: bool) -> list[str]:
        """What the objective left running, as command lines; looked for only where there is a sign of it."""
        return self._tree.leftover_processes() if has_children or self._tree.has_orphans() else []

    def had_oom_kill(self) -> bool:
        """Whether a process was killed for want of memory during this evaluation, the trainer or another one."""
        return self._memory.has_killed()

    def kill(self) -> None:
        """End it and all that it started, now."""
        if not self._is_over:
            self._end()

    def close(self) -> None:
        """Let an idle trainer end by itself, then make sure."""
        if self._is_over:
            return
        os.close(self._orders)
        self._orders = -1
        ends_at = time.monotonic() + CLOSE_GRACE_S
        while not self._has_exited() and time.monotonic() < ends_at:
            self._read_output(LAST_READS)
            time.sleep(0.002)
        self._end()

    def _end(self) -> int:
        self._tree.end()
        returncode = self._process.wait()
        self._is_over = True
        self._log.close()
        self._close_pipes()
        return returncode

    def _close_pipes(self) -> None:
        if self._rendezvous is not None:
            self._rendezvous.close()
        for descriptor in (self._orders, self._answers, self._output, self._lifeline, getattr(self, "_death", None)):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)


def _read(descriptor: int) -> bytes | None:
    """Bytes; empty at the end of the file; None where there is nothing at present."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # No Linux, or one before 5.3: a death is then seen at the next turn of the agent's loop.
        return None
