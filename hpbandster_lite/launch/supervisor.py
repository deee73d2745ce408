"""Supervise the children of a launcher: restart those that die, and end all of them in order.

Law of this file: agents end first, so that the master receives what they hand back. This process leaves no child
behind, even after an error. SIGINT, SIGTERM and SIGUSR2 (the allocation ends) are requests to end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from hpbandster_lite import wire
from hpbandster_lite.agent.interrupts import END, END_OF_ALLOCATION
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.launch.children import AgentChild, AgentThread, Child, exit_report, signal_name, wait_for_end
from hpbandster_lite.process.forks import handle_here
from hpbandster_lite.process.shutdown import (
    ALLOCATION_ENDS,
    REQUEUE,
    DuplicateTerminations,
    unblock_allocation_signal,
)
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import OPTIONS

_SupervisorT = TypeVar("_SupervisorT", bound="Supervisor")
POLL_S = 0.02
"""Time between two looks at the children; the end of one is noticed at once, where the kernel reports it."""
BEYOND_GRACE_S = 10.0
"""Time beyond the grace of an evaluation for its agent to hand it back; then the agent is killed."""
SAME_COMMAND = "run the same command again"
STOPPED_EVERY_S = 0.5
RESTARTS_A_MINUTE = 5
"""A child that ends more often than this is not started again: its fault is permanent."""


class Supervisor:
    """Children that are started again when they die, and ended in order; a base class.

    Use it as a context manager: when the block ends, so do all children.

    Parameters
    ----------
    note
        Receives lines about children that died, were restarted or are being ended.
    way_on
        What the user does to continue, for messages.
    """

    def __init__(self, note: Callable[[str], None], way_on: str = SAME_COMMAND) -> None:
        self._note = note
        self._grace_s: float = OPTIONS["grace_s"].default
        self._way_on = way_on
        self._interrupts = 0
        self._duplicates = DuplicateTerminations(os.environ)
        self._allocation_ends = False
        self._lifeline, self._write_end = os.pipe()
        self._agents: list[AgentChild | AgentThread] = []
        self._others: list[Child] = []
        self._reported: set[str] = set()
        """Names of agents whose end was noted."""
        self._stopped: set[str] = set()
        """Names of children and trainers that are stopped, which was noted."""
        self._looks_for_stopped_at = 0.0
        self._resources = contextlib.ExitStack()

    def __enter__(self: _SupervisorT) -> _SupervisorT:
        return self

    def __exit__(self, *_: object) -> None:
        with self._resources:
            self._end_all()
        os.close(self._lifeline)
        os.close(self._write_end)

    def _start(self, name: str, module: str) -> Child:
        child = Child(name, module, self._lifeline)
        child.start()
        return child

    def _start_agent(self, index: int) -> AgentChild:
        agent = AgentChild(index)
        agent.start()
        return agent

    def _brief_agents(self, options_of_agents: Iterable[AgentOptions], directory: RunDirectory | None) -> None:
        for agent, options in zip(self._agents, options_of_agents, strict=True):
            log = None if directory is None else directory.log(agent.name)
            if isinstance(agent, AgentChild):
                agent.brief(wire.to_message(replace(options, lifeline=agent.lifeline)), log)

    # ----------------------------------------------------------------------------------------------------- restarting

    def _has_work_for(self, _agent: AgentChild | AgentThread) -> bool:
        """Whether an agent that ended with exit code 0 is needed: the search of this launcher's master is not over."""
        return False

    def _restart_agents_that_died(self) -> None:
        for agent in self._agents:
            code = agent.returncode
            if code is None or agent.name in self._reported:
                continue
            if code == 0:
                if self._has_work_for(agent):
                    self._restart(agent, f"{agent.name} has ended, and the search is not over")
            elif code < 0:
                self._restart(agent, f"{agent.name} died of {signal_name(code)}")
            else:
                # It gave up for a reason that is in its log: a restart would change nothing.
                self._reported.add(agent.name)
                self._note(f"{agent.name}: its time is over" if code == REQUEUE else exit_report(agent, code))

    def _restart(self, child: Child | AgentThread, what: str) -> None:
        recent = [at for at in child.started_at if time.monotonic() - at < 60.0]
        if len(recent) >= RESTARTS_A_MINUTE:
            raise RunDirectoryError(
                f"{what}, {len(recent)} times within a minute; the end of {child.log}:\n{child.log_tail()}\n"
                f"Nothing is lost: remove the cause, then {self._way_on}"
            )
        self._note(f"{what}; started again")
        child.start()

    def _note_stopped(self) -> None:
        """Say once of each child and each trainer that it is stopped, and how it continues: others wait for it."""
        if time.monotonic() < self._looks_for_stopped_at:
            return
        self._looks_for_stopped_at = time.monotonic() + STOPPED_EVERY_S
        stopped = {f"the {child.name}": child.pid for child in self._others if child.is_stopped}
        stopped |= {agent.name: agent.pid for agent in self._agents if agent.is_stopped}
        trainers = {f"the trainer of {agent.name}": agent.stopped_trainer for agent in self._agents}
        stopped |= {name: pid for name, pid in trainers.items() if pid is not None}
        for name, pid in stopped.items():
            if name not in self._stopped:
                self._note(f"{name} is stopped; to continue it: kill -CONT {pid}")
        self._stopped = set(stopped)

    # --------------------------------------------------------------------------------------------------------- ending

    def _handle_signals(self) -> None:
        """From now on, until all children have ended, a signal is a request to end and does not end this process."""
        self._resources.enter_context(_signals_handled(self._take_signal))

    def _take_signal(self, number: int) -> None:
        if number == ALLOCATION_ENDS:
            self._allocation_ends = True
        elif not self._duplicates.is_duplicate(number, now=time.monotonic()):
            self._interrupts += 1

    @property
    def _is_end_requested(self) -> bool:
        return self._interrupts > 0 or self._allocation_ends

    def _end_all(self) -> None:
        """End the agents first, so that the master receives what they hand back; then the others, in their order."""
        groups: list[Sequence[Child | AgentThread]] = [self._agents, *([child] for child in self._others)]
        for group in groups:
            self._end(group)
        self._kill_all()

    def _end(self, group: Sequence[Child | AgentThread]) -> None:
        deadline = time.monotonic() + self._grace_s + BEYOND_GRACE_S
        request = END_OF_ALLOCATION if self._allocation_ends and not self._interrupts else END
        for child in group:
            if child.alive:
                child.end(request)
        # A stopped one cannot end in order, and is killed.
        while (
            any(child.alive and not child.is_stopped for child in group)
            and time.monotonic() < deadline
            and self._interrupts < 2
        ):
            wait_for_end(group, POLL_S)

    def _kill_all(self) -> None:
        for child in (*self._agents, *self._others):
            child.kill()


@contextlib.contextmanager
def _signals_handled(take: Callable[[int], None]) -> Iterator[None]:
    """Hand signals that ask for the end to ``take``; Python allows this in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM, ALLOCATION_ENDS)
    before = handle_here(dict.fromkeys(numbers, lambda number, _: take(number)))
    try:
        unblock_allocation_signal()
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
