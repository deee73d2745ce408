"""The trainer process: import the problem once, then evaluate, one order after the other.

Law of this file: one thread (a problem may fork), no stdout, no pickle. It never outlives its agent: the kernel ends
its whole process group when the agent's end of the lifeline closes, whatever the user's code is doing at that moment.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import json
import os
import select
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

from hpbandster_lite.errors import SearchError
from hpbandster_lite.problems import Problem, described_options, load, name_of, shared_values, source_hash
from hpbandster_lite.problems.description import answer_for, prepare_to_describe, refusal_for
from hpbandster_lite.process.shutdown import ALLOCATION_ENDS, unblock_allocation_signal
from hpbandster_lite.records import CurvePoint, FailureKind, Plain
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.messages import (
    LineReader,
    TrainerEnded,
    TrainerInterrupted,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
    TrainerStop,
    line_of,
    write_line,
)

PR_SET_PDEATHSIG = 1
F_SETSIG = 10
READ_BYTES = 65_536


def main(arguments: Sequence[str]) -> int:
    """Describe the problem that standard input names (``--describe FD``) or serve an agent (``--serve JSON``)."""
    match arguments:
        case ["--describe", descriptor]:
            return _describe(int(descriptor))
        case ["--serve", told]:
            return _serve(json.loads(told))
        case _:
            sys.stderr.write("hpbandster_lite.trainer is started by an agent; start one with: hpbandster-lite worker\n")
            return 2


def _describe(descriptor: int) -> int:
    if descriptor > 2:
        os.set_inheritable(descriptor, False)
    # What every space needs, before it is known which problem is meant.
    prepare_to_describe()
    told = sys.stdin.buffer.readline()
    if not told.endswith(b"\n"):
        return 0
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    reference = told[:-1].decode("utf-8", "surrogateescape")
    try:
        line = answer_for(reference, load(reference))
    except SearchError as error:
        line = refusal_for(error)
    write_line(descriptor, line.encode("ascii") + b"\n")
    return 0


def _serve(told: dict[str, Plain]) -> int:
    _end_with_parent(told["parent"], told["lifeline"])
    agent = _Agent(told["orders"], told["answers"])
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        # What a crash leaves unwritten is at most one line.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # real files, as the agent opened them
    try:
        problem = load(told["problem"])
    except SearchError as error:
        agent.say(TrainerRefused(message=str(error)))
        return error.exit_code
    options = shared_values(described_options(problem, told["problem"]))
    agent.say(TrainerReady(problem=name_of(told["problem"]), source_hash=source_hash(problem), options=options))
    while (order := agent.next_order()) is not None:
        _evaluate(agent, problem, order)
    return 0


def _evaluate(agent: _Agent, problem: Problem, order: TrainerOrder) -> None:
    me = os.getpid()
    ended = run_objective(problem, order, on_report=agent.take_point)
    if os.getpid() != me:
        # The objective forked by hand and its child came back here, too: only one of them is the trainer.
        os._exit(0)
    if isinstance(ended, TrainerEnded) and _fell_with_others(ended) and agent.is_to_stop():
        # A batch system tells every process of a job, those of the objective, too: that they died is no fault of it.
        sys.stderr.write(f"told to stop, and then:\n{ended.failure.traceback if ended.failure else None}")
        ended = TrainerInterrupted()
    for stream in (sys.stdout, sys.stderr):
        # The objective may have closed or replaced them; their content belongs to this evaluation's log.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()
    agent.say(replace(ended, has_children=_has_children()))


def _fell_with_others(ended: TrainerEnded) -> bool:
    """Whether an evaluation ended in a way in which it may have ended because processes of its own were ended."""
    return ended.failure is not None and ended.failure.kind is FailureKind.CODE


class _Agent:
    """The agent as the trainer sees it: orders come, answers go, grace begins."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders, self._answers = orders, answers
        self._lock = threading.Lock()
        self._reader = LineReader()
        self._waiting: list[object] = []
        self._grace = False
        for descriptor in (orders, answers):
            # Programs that the objective starts must not hold the pipes open; forks do, which the agent allows for.
            os.set_inheritable(descriptor, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            # A batch system signals every process of a job, so grace may begin here before the agent says so.
            signal.signal(number, self._begin_grace)
        # That the allocation ends in a while is for the agent, which says what is to be done about it. Ignored, not
        # handled: so it is ignored by all processes that the objective starts, too, which would die of it.
        signal.signal(ALLOCATION_ENDS, signal.SIG_IGN)
        unblock_allocation_signal()

    def say(self, record: object) -> None:
        """Write one record."""
        line = line_of(record)
        try:
            # An objective may report from threads of its own.
            with self._lock:
                write_line(self._answers, line)
        except BrokenPipeError:
            _end_group()

    def next_order(self) -> TrainerOrder | None:
        """The next order; None when the agent has closed the pipe."""
        while True:
            while self._waiting:
                record = self._waiting.pop(0)
                if isinstance(record, TrainerOrder):
                    self._grace = False
                    return record
            data = os.read(self._orders, READ_BYTES)
            if not data:
                return None
            self._waiting.extend(self._reader.records(data))

    def take_point(self, point: CurvePoint) -> bool:
        """Pass a point on; whether grace has begun."""
        self.say(TrainerPoint(point=point))
        return self.is_to_stop()

    def is_to_stop(self) -> bool:
        """Whether grace has begun."""
        if select.select([self._orders], [], [], 0)[0]:
            data = os.read(self._orders, READ_BYTES)
            if not data:
                _end_group()
            self._waiting.extend(self._reader.records(data))
        self._grace = self._grace or any(isinstance(record, TrainerStop) for record in self._waiting)
        return self._grace

    def _begin_grace(self, *_: object) -> None:
        self._grace = True


def _end_with_parent(parent: int, lifeline: int) -> None:
    """Have the kernel end this process group when the agent ends, even while the objective holds the interpreter."""
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":
        # The pipe signals its owner, here the group, when its last writer closes: descendants go, too. Files are closed
        # before children are told of a death, so this comes before the signal below, which would reach one process.
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # It died before the kernel had been asked.
        _end_group()


def _end_group() -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
