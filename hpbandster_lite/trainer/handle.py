"""The agent's handle on a trainer process.

Law of this file: it never waits for the trainer, except for its exit after a kill. It limits all input from the
trainer, and ends all processes that the trainer started together with the trainer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpbandster_lite.process.identity import is_stopped
from hpbandster_lite.process.shutdown import allocation_signal_blocked
from hpbandster_lite.process.utf8 import python_command
from hpbandster_lite.records import Failure, FailureKind
from hpbandster_lite.trainer.attempt_log import MAX_LOG_BYTES, AttemptLog
from hpbandster_lite.trainer.control_group import ControlGroup, own_group
from hpbandster_lite.trainer.exit_status import failure_of_death
from hpbandster_lite.trainer.frames import FrameReader, frames_of, write_frames
from hpbandster_lite.trainer.messages import (
    TrainerArguments,
    TrainerDied,
    TrainerEnded,
    TrainerFetches,
    TrainerInterrupted,
    TrainerMessage,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
    TrainerStop,
    TrainerStopSeen,
)
from hpbandster_lite.trainer.out_of_memory import MemoryWatch
from hpbandster_lite.trainer.process_tree import MARK, MARK_PREFIX, ProcessTree
from hpbandster_lite.trainer.rendezvous import RendezvousPort
from hpbandster_lite.trainer.reporting import CurrentOrder

log = logging.getLogger(__name__)

READ_BYTES = 2**18
"""Most bytes read from each pipe in a turn, so that a flood of output does not delay the agent's heartbeats."""
LAST_READS = 16
"""Reads of the output after the end of an evaluation: 4 MiB, more than a pipe holds."""
CLOSE_GRACE_S = 2.0
"""Time in seconds for the atexit handlers of the problem; then the trainer is killed."""
EOF_GRACE_S = 1.0
"""A trainer with a closed pipe is ending, or its objective has closed the pipe; after this time it is killed."""
SAMPLE_S = 1.0
"""Seconds between two samples of the memory during an evaluation."""
POLL_S = 0.1
"""Seconds between two checks for a death that makes no descriptor readable."""
_MESSAGES = (
    TrainerReady,
    TrainerFetches,
    TrainerRefused,
    TrainerPoint,
    TrainerStopSeen,
    TrainerEnded,
    TrainerInterrupted,
)


class TrainerHandle:
    """Starts a trainer process and controls it.

    Parameters
    ----------
    problem
        Reference of the problem.
    environment
        The trainer's complete environment; see :func:`hpbandster_lite.process.environment.trainer_environment`.
    max_log_bytes
        Most bytes in the log file of one evaluation. Default: 1 MiB.
    processes
        Number of processes of a training, one per device; more than one get a rendezvous port. Default: 1.
    arguments
        ``sys.argv`` while the problem is imported; empty for its file alone. Default: empty.
    within
        The control group in which that of the trainer is made. Default: that of this process.
    is_alone
        Whether this process starts no other processes; see :class:`ProcessTree`. Default: False.
    """

    def __init__(
        self,
        problem: str,
        environment: Mapping[str, str],
        *,
        max_log_bytes: int = MAX_LOG_BYTES,
        processes: int = 1,
        arguments: Sequence[str] = (),
        within: ControlGroup | None = None,
        is_alone: bool = False,
    ) -> None:
        self._max_log_bytes = max_log_bytes
        self._rendezvous = RendezvousPort(processes) if processes > 1 else None
        variables = {} if self._rendezvous is None else self._rendezvous.environment
        mark = f"{MARK_PREFIX}-{secrets.token_hex(4)}"
        self._pipes = _Pipes()
        self._death: int | None = None
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(self._close_descriptors)
            self._process = _start(problem, {**environment, **variables, MARK: mark}, self._pipes)
            on_failure.pop_all()
        self._death = _pidfd(self._process.pid)
        self._reader = FrameReader()
        self._order = CurrentOrder()
        self._has_stray = False
        self._log = AttemptLog()
        self._memory = MemoryWatch(self._process.pid)
        self._tree = ProcessTree(self._process.pid, mark, group=_grouped(self._process.pid, within), is_alone=is_alone)
        self._closed_since: float | None = None
        self._has_output = True
        self._sample_at = 0.0
        self._is_stopped = False
        self._is_asked_to_stop = False
        self._is_over = False
        self.is_ready = False
        self._write(TrainerArguments(arguments=tuple(arguments)))

    @property
    def pid(self) -> int:
        """Process id of the trainer, which is also the id of its group and its session."""
        return self._process.pid

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that become readable when :meth:`receive` has something to do."""
        if self._is_over:
            return ()
        watched = (
            self._pipes.answers if self._closed_since is None else None,
            self._pipes.output if self._has_output else None,
            self._death,
        )
        return tuple(descriptor for descriptor in watched if descriptor is not None)

    @property
    def poll_every_s(self) -> float:
        """Seconds between calls of :meth:`receive`: some deaths and closed pipes make no descriptor readable."""
        return POLL_S if self._death is None or self._closed_since is not None else SAMPLE_S

    # ------------------------------------------------------------------------------------------------------- orders

    def evaluate(self, order: TrainerOrder, log: str | Path | None) -> None:
        """Start an evaluation, with its output in the file ``log``. The trainer must be ready and idle."""
        self._log.close()
        self._log = AttemptLog(None if log is None else Path(log), self._max_log_bytes)
        self._memory.begin()
        self._order.begin()
        self._has_stray = False
        self._is_asked_to_stop = False
        self._write(order)

    def ask_to_stop(self) -> None:
        """Ask the objective to stop: ``trial.should_stop`` is True, and its next report interrupts it.

        A trainer that is stopped by SIGSTOP continues for that.
        """
        self._write(TrainerStop())
        self._is_asked_to_stop = True
        self._sample_at = 0.0
        self.sample()

    def terminate(self) -> None:
        """Send SIGTERM to the trainer's process group, which asks it to stop."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)

    def sample(self) -> None:
        """Sample the resident size, at most once a second, as evidence for a later death; notice that it is stopped."""
        now = time.monotonic()
        if now < self._sample_at:
            return
        self._sample_at = now + SAMPLE_S
        self._memory.sample()
        was_stopped, self._is_stopped = self._is_stopped, is_stopped(self.pid)
        if self._is_stopped and self._is_asked_to_stop:
            log.warning("the trainer is stopped, and continues so that its evaluation can save")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGCONT)
        elif self._is_stopped and not was_stopped:
            log.warning("the trainer is stopped; to continue it: kill -CONT %d", self.pid)

    def log_tail(self) -> tuple[str, ...]:
        """The last printed lines."""
        return self._log.tail()

    def _write(self, record: TrainerArguments | TrainerOrder | TrainerStop) -> None:
        # A dead trainer is reported by receive, not here.
        with contextlib.suppress(BrokenPipeError):
            write_frames(self._pipes.orders, frames_of(record))

    # ---------------------------------------------------------------------------------------------------- receiving

    def receive(self) -> list[TrainerMessage]:
        """The trainer's messages since the last call, without waiting; its death is the last message."""
        if self._is_over:
            return []
        self._read_output(1)
        received, has_closed = self._read_answers()
        if self._has_exited():
            return [*received, *self._dead()]
        if has_closed:
            now = time.monotonic()
            if self._closed_since is None:
                self._closed_since = now
            if now - self._closed_since > EOF_GRACE_S:
                return self._broken(received, "the objective closed the pipe to the agent (os.closerange?)")
        return received

    def _read_answers(self) -> tuple[list[TrainerMessage], bool]:
        data = _read(self._pipes.answers)
        return self._messages_in(data or b""), data == b""

    def _messages_in(self, data: bytes) -> list[TrainerMessage]:
        received: list[TrainerMessage] = []
        for sent in self._reader.records(data):
            record = self._order.admitted(sent) if isinstance(sent, _MESSAGES) else None
            if record is None:
                continue
            self.is_ready = self.is_ready or isinstance(record, TrainerReady)
            if isinstance(record, TrainerEnded | TrainerInterrupted):
                # The output before this message belongs to the evaluation, and is already in the pipe.
                self._read_output(LAST_READS)
                self._log.close()
                self._reader.end_of_order()
            received.append(record)
        self._note_stray()
        return received

    def _note_stray(self) -> None:
        stray = self._reader.take_stray()
        if stray is not None and not self._has_stray:
            self._has_stray = True
            log.warning(
                "the objective, or a process that it started, wrote to the pipe between trainer and agent: %s; they "
                "are ignored. It may use only descriptors 0, 1 and 2, and those that it opens",
                stray,
            )

    def _read_output(self, reads: int) -> None:
        for _ in range(reads):
            data = _read(self._pipes.output) if self._has_output else None
            if not data:
                # The objective and its processes have closed it; the descriptor would stay readable without data.
                self._has_output = self._has_output and data is None
                return
            self._log.write(data)

    def _has_exited(self) -> bool:
        # WNOWAIT keeps the zombie: until it is reaped, its id, which is also the group's id, cannot be reused.
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _dead(self) -> list[TrainerMessage]:
        received: list[TrainerMessage] = []
        # The trainer may have finished its evaluation before it died; an incomplete last record is ignored.
        while data := _read(self._pipes.answers):
            received += self._messages_in(data)
        self._read_output(LAST_READS)
        memory = self._memory.evidence()
        returncode = self._end()
        return [*received, TrainerDied(failure=failure_of_death(returncode, memory, self._log.tail()))]

    def _broken(self, received: list[TrainerMessage], reason: str) -> list[TrainerMessage]:
        self._end()
        failure = Failure(kind=FailureKind.CODE, reason=reason, log_tail=self._log.tail())
        return [*received, TrainerDied(failure=failure)]

    # ------------------------------------------------------------------------------------------------------- ending

    def leftover_processes(self, has_children: bool) -> list[str]:
        """Command lines of processes that the objective left running; it searches only if there is a sign of them."""
        return self._tree.leftover_processes() if has_children or self._tree.has_orphans() else []

    def had_oom_kill(self) -> bool:
        """Whether the kernel killed the trainer or another process for lack of memory during this evaluation."""
        return self._memory.has_killed()

    def kill(self) -> None:
        """End the trainer and all processes that it started, at once."""
        if not self._is_over:
            self._end()

    def close(self) -> None:
        """Let an idle trainer exit, then end the processes that are left."""
        if self._is_over:
            return
        self._pipes.close_orders()
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
        self._close_descriptors()
        return returncode

    def _close_descriptors(self) -> None:
        if self._rendezvous is not None:
            self._rendezvous.close()
        self._pipes.close()
        if self._death is not None:
            os.close(self._death)


class _Pipes:
    """The four pipes of a trainer: this process's ends, and the trainer's ends until the trainer is started."""

    def __init__(self) -> None:
        self.trainers_orders, self.orders = os.pipe()
        self.answers, self.trainers_answers = os.pipe()
        self.output, self.trainers_output = os.pipe()
        self.trainers_lifeline, self.lifeline = os.pipe()
        os.set_blocking(self.answers, False)
        os.set_blocking(self.output, False)

    @property
    def inherited(self) -> tuple[int, ...]:
        """Descriptors that keep their numbers in the trainer; the output pipe becomes standard output and error."""
        return self.trainers_orders, self.trainers_answers, self.trainers_lifeline

    def close_trainers_ends(self) -> None:
        for descriptor in (*self.inherited, self.trainers_output):
            os.close(descriptor)

    def close_orders(self) -> None:
        os.close(self.orders)
        self.orders = -1

    def close(self) -> None:
        for descriptor in (self.orders, self.answers, self.output, self.lifeline):
            if descriptor >= 0:
                os.close(descriptor)


def _grouped(pid: int, within: ControlGroup | None) -> ControlGroup | None:
    """A control group with a trainer that has just been started and has imported nothing yet; None if there is none."""
    group = own_group(within)
    if group is None or group.add(pid):
        return group
    group.remove()
    return None


def _start(problem: str, environment: dict[str, str], pipes: _Pipes) -> subprocess.Popen[bytes]:
    briefing = {
        "problem": problem,
        "orders": pipes.trainers_orders,
        "answers": pipes.trainers_answers,
        "lifeline": pipes.trainers_lifeline,
        "parent": os.getpid(),
    }
    try:
        with allocation_signal_blocked():
            return subprocess.Popen(
                python_command("-m", "hpbandster_lite.trainer", "--serve", json.dumps(briefing)),
                stdin=subprocess.DEVNULL,
                stdout=pipes.trainers_output,
                stderr=pipes.trainers_output,
                pass_fds=pipes.inherited,
                env=environment,
                start_new_session=True,
            )
    finally:
        pipes.close_trainers_ends()


def _read(descriptor: int) -> bytes | None:
    """The available bytes; empty at end of file; None if there are none at present."""
    try:
        return os.read(descriptor, READ_BYTES)
    except BlockingIOError:
        return None


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        # Not Linux, or older than 5.3: then the agent's loop detects a death in its next turn.
        return None
