"""The trainer process: import the problem once, then evaluate one order after the other.

Law of this file: one thread (a problem may fork), no stdout, no pickle. The trainer never outlives its agent: when the
agent's end of the lifeline closes, the kernel ends the trainer's process group, even while user code runs.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import faulthandler
import fcntl
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

from hpbandster_lite.errors import SearchError
from hpbandster_lite.problems import Problem, load_here
from hpbandster_lite.problems.description import answer_for, prepare_to_describe, progress_line, refusal_for
from hpbandster_lite.problems.script_arguments import script_arguments
from hpbandster_lite.problems.shipped_data import require_data
from hpbandster_lite.process.forks import handle_here
from hpbandster_lite.process.shutdown import ALLOCATION_ENDS, unblock_allocation_signal
from hpbandster_lite.records import FailureKind, Plain
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.frames import FrameReader, frames_of, write_frames, write_line
from hpbandster_lite.trainer.full_disk import full_disk_at_import
from hpbandster_lite.trainer.leftovers import Leftovers
from hpbandster_lite.trainer.library_state import LibraryState, global_seed
from hpbandster_lite.trainer.messages import (
    TrainerArguments,
    TrainerEnded,
    TrainerFetches,
    TrainerInterrupted,
    TrainerOrder,
    TrainerRefused,
    TrainerStop,
)
from hpbandster_lite.trainer.own_worker import refuse_signals_to
from hpbandster_lite.trainer.process_state import recorded
from hpbandster_lite.trainer.readiness import readiness
from hpbandster_lite.trainer.reporting import PointSender, is_abandoned, is_readable

PR_SET_PDEATHSIG = 1
F_SETSIG = 10
READ_BYTES = 65_536


def main(arguments: Sequence[str]) -> int:
    """Describe the problem that standard input names (``--describe FD``), or serve an agent (``--serve JSON``)."""
    for stream in (sys.stdout, sys.stderr):
        # Logs are UTF-8, and no evaluation fails because of a character that it prints.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]  # real files
    match arguments:
        case ["--describe", descriptor]:
            return _describe(int(descriptor))
        case ["--serve", briefing]:
            return _serve(json.loads(briefing))
        case _:
            sys.stderr.write("an agent starts hpbandster_lite.trainer; start a worker with: hpbandster-lite worker\n")
            return 2


def _describe(descriptor: int) -> int:
    if descriptor > 2:
        os.set_inheritable(descriptor, False)
    # Import the libraries that every space needs, before the problem is known.
    prepare_to_describe()
    line_in = sys.stdin.buffer.readline()
    if not line_in.endswith(b"\n"):
        return 0
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        line = answer_for(
            json.loads(line_in), lambda words: write_line(descriptor, progress_line(words).encode("ascii") + b"\n")
        )
    except SearchError as error:
        line = refusal_for(error)
    write_line(descriptor, line.encode("ascii") + b"\n")
    return 0


def _serve(briefing: dict[str, Plain]) -> int:
    _end_with_parent(briefing["parent"], briefing["lifeline"])
    refuse_signals_to(briefing["parent"])
    agent = _Agent(briefing["orders"], briefing["answers"])
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        # A crash loses at most one line.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # the agent opened them as real files
    try:
        with script_arguments(briefing["problem"], agent.arguments()) as arguments:
            problem, reference = load_here(briefing["problem"])
        require_data(problem, lambda: agent.send(TrainerFetches()))
    except SearchError as error:
        agent.send(TrainerRefused(message=str(error), no_room_in=full_disk_at_import(error)))
        return error.exit_code
    agent.send(readiness(problem, reference, arguments.source))
    warm = _Warmth(problem)
    while (order := agent.next_order()) is not None:
        _evaluate(agent, problem, order, warm)
    return 0


class _Warmth:
    """The state of this process in which each evaluation begins; see :mod:`.process_state`.

    It is restored after each evaluation, which shows whether a new process is needed. If there are threads, it is
    restored again before the next evaluation, because threads may have changed it in between.
    """

    def __init__(self, problem: Problem) -> None:
        self._libraries = LibraryState()
        self._libraries.watch()
        self._process = recorded()
        self._leftovers = Leftovers(problem)

    def begin(self, order: TrainerOrder) -> None:
        """Restore what threads have changed since the last evaluation, and seed the global random generators."""
        if threading.active_count() > 1:
            self._restore()
        self._libraries.seed(global_seed(order.seed, order.evaluation.rung))

    def end(self, ended: TrainerEnded | TrainerInterrupted) -> str | None:
        """Restore everything; return why this process must not evaluate again, or None."""
        if isinstance(ended, TrainerInterrupted) or (ended.failure is not None and ended.failure.traceback):
            # Free the objects, and mainly the memory, that only the exception's frames held. This takes 0.1 s with
            # torch loaded, so configurations that the problem refuses skip it.
            gc.collect()
        failed = self._restore()
        reasons = [f"the objective changed what cannot be restored: {'; '.join(failed)}"] if failed else []
        is_completed = isinstance(ended, TrainerEnded) and ended.failure is None
        reasons += self._leftovers.found(is_completed=is_completed)
        return "; ".join(filter(None, (ended.renewal, *reasons))) or None

    def _restore(self) -> list[str]:
        # First the modules and their functions, which the others call.
        self._process.restore_modules()
        return [*self._libraries.restore_functions(), *self._process.restore(), *self._libraries.restore()]


def _evaluate(agent: _Agent, problem: Problem, order: TrainerOrder, warm: _Warmth) -> None:
    warm.begin(order)
    # Context variables that the objective sets are lost with the copy.
    sender = agent.point_sender()
    ended = contextvars.copy_context().run(
        run_objective, problem, order, on_report=sender, must_stop=sender.must_stop
    )
    for stream in (sys.stdout, sys.stderr):
        # The output belongs to this evaluation's log. The objective may have closed or replaced the streams.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()
    renewal = warm.end(ended)
    if isinstance(ended, TrainerEnded) and _may_be_interrupted(ended) and agent.is_to_stop():
        # A batch system signals every process of a job. If that ended processes of the objective, it did not fail.
        sys.stderr.write(f"asked to stop, and then:\n{ended.failure.traceback if ended.failure else None}")
        ended = TrainerInterrupted(was_cut_off=True)
    agent.send(replace(ended, renewal=renewal, has_children=_has_children()))


def _may_be_interrupted(ended: TrainerEnded) -> bool:
    """Whether the failure may result from the end of processes of the objective."""
    return ended.failure is not None and ended.failure.kind is FailureKind.CODE


class _Agent:
    """The connection to the agent: receives orders and requests to stop, sends messages."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._reader = FrameReader()
        self._waiting: list[object] = []
        self._order = 0
        self._is_stopping = False
        for descriptor in (orders, answers):
            # Programs that the objective starts must not keep the pipes open; forks do, which the agent handles.
            os.set_inheritable(descriptor, False)
        # A batch system signals every process of a job, so this request to stop may arrive before the agent's.
        handle_here({signal.SIGTERM: self._request_stop, signal.SIGINT: self._request_stop})
        # The agent reacts to the end of the allocation. Child processes inherit an ignored signal, but not a handler:
        # the default action would end the processes of the objective.
        signal.signal(ALLOCATION_ENDS, signal.SIG_IGN)
        unblock_allocation_signal()

    def send(self, record: object) -> None:
        """Send one record; an objective may report from its own threads and children."""
        try:
            write_frames(self._answers, frames_of(record))
        except BrokenPipeError:
            _end_group()

    def arguments(self) -> tuple[str, ...]:
        """The arguments of the script, which come before all orders."""
        record = self._next_record()
        while record is not None and not isinstance(record, TrainerArguments):
            record = self._next_record()
        return () if record is None else record.arguments

    def next_order(self) -> TrainerOrder | None:
        """The next order; None when the agent has closed the pipe."""
        record = self._next_record()
        while record is not None and not isinstance(record, TrainerOrder):
            record = self._next_record()
        if record is not None:
            self._is_stopping = False
            self._order += 1
        return record

    def _next_record(self) -> object | None:
        while not self._waiting:
            data = os.read(self._orders, READ_BYTES)
            if not data:
                return None
            self._waiting.extend(self._reader.records(data))
        return self._waiting.pop(0)

    def point_sender(self) -> PointSender:
        """The function that receives the reports of the current order's trial."""
        return PointSender(self._order, self.send, self.is_to_stop, self._answers, self._orders)

    def is_to_stop(self) -> bool:
        """Whether the objective must stop.

        While an order runs, the agent writes only the request to stop. The request stays in the pipe until the next
        order is read, so that children of the objective also see it.
        """
        if not self._is_stopping:
            has_request = any(isinstance(record, TrainerStop) for record in self._waiting)
            self._is_stopping = has_request or is_readable(self._orders)
            if not self._is_stopping and is_abandoned(self._orders):
                _end_group()
        return self._is_stopping

    def _request_stop(self, *_: object) -> None:
        self._is_stopping = True


def _end_with_parent(parent: int, lifeline: int) -> None:
    """Let the kernel end this process group with the agent, even while the objective holds the interpreter lock."""
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":
        # The pipe signals its owner, here the process group, when its last writer closes. A process that ends closes
        # its files before the kernel sends PDEATHSIG, so this signal arrives before the one below, which ends only one
        # process.
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # The agent died before these calls.
        _end_group()


def _end_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
