"""The agent's loop: wait for the next event or deadline, then let each part of the agent act.

Law of this file: it decides nothing. Each part says when it is next due and does what is due; only one call of the
master can hold the loop up, for :data:`~hpbandster_lite.agent.master_link.CALL_TIMEOUT_S` at most.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path

from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.conversation import Conversation
from hpbandster_lite.agent.departure import Departure
from hpbandster_lite.agent.held_evaluations import HeldEvaluations
from hpbandster_lite.agent.interrupts import Interrupts, KilledAtOnce
from hpbandster_lite.agent.master_link import Connect, MasterFinder
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.own_disk import OwnDisk
from hpbandster_lite.agent.trainer_keeper import StartTrainer, Trainer, TrainerKeeper
from hpbandster_lite.errors import SearchError
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.devices import worker_label
from hpbandster_lite.process.environment import trainer_environment
from hpbandster_lite.process.shutdown import INTERRUPTED
from hpbandster_lite.records import HandBackKind
from hpbandster_lite.trainer.control_group import own_group
from hpbandster_lite.trainer.handle import TrainerHandle
from hpbandster_lite.trainer.messages import TrainerFetches, TrainerMessage, TrainerReady, TrainerRefused
from hpbandster_lite.trainer.orphan_guard import OrphanGuard
from hpbandster_lite.trainer.process_tree import become_subreaper

log = logging.getLogger(__name__)

LONGEST_TURN_S = 60.0


def run_agent(
    options: AgentOptions,
    *,
    connect: Connect | None = None,
    problem: Problem | None = None,
    is_alone: bool = False,
) -> int:
    """Work for a search until it is over, or until asked to end.

    Parameters
    ----------
    options
        See :class:`AgentOptions`.
    connect
        How to reach the master; default: by the run directory and the name server that the options name.
    problem
        The problem itself, where ``isolation`` is ``none`` and it cannot be imported by a name.
    is_alone
        Whether this process does nothing else: then each child that is not a trainer is an orphan of one.

    Returns
    -------
    int
        0 when the search is over, there was nothing to do for ``idle_timeout_s``, or ``max_evaluations`` were made;
        130 after a signal to end; 75 when its allocation ends or has no time for another evaluation: to be started
        again in the next one; 2 if the problem cannot be imported here; 3 without a master, or with a master of another
        protocol version; 5 if the problem's source here is not that of the search.
    """
    group, orphan_guard = None, None
    if options.isolation == "trainer":
        group = own_group()
        orphan_guard = OrphanGuard(group)
        become_subreaper()

    def start_trainer() -> Trainer:
        if options.isolation == "none":
            # Imported here: an agent with a trainer process does not evaluate.
            from hpbandster_lite.trainer.in_thread import InlineTrainer

            return InlineTrainer(options.problem, problem, options.arguments)
        run_directory = None if options.run_dir is None else str(Path(options.run_dir).resolve())
        environment = trainer_environment(os.environ, options.device, options.threads, run_directory)
        return TrainerHandle(
            options.problem,
            environment,
            max_log_bytes=options.max_log_bytes,
            processes=options.gpus_per_worker,
            arguments=options.arguments,
            within=group,
            is_alone=is_alone,
        )

    try:
        return _run(options, connect or MasterFinder(options), start_trainer, is_alone=is_alone)
    finally:
        if orphan_guard is not None:
            orphan_guard.dismiss()


def _run(options: AgentOptions, connect: Connect, start_trainer: StartTrainer, *, is_alone: bool) -> int:
    agent: Agent | None = None
    try:
        # Without a trainer process, it is this process that starts what the objective starts.
        with Interrupts(options.lifeline, is_alone=is_alone and options.isolation == "trainer") as interrupts:
            agent = Agent(options, connect, start_trainer, interrupts)
            try:
                return agent.run()
            except KilledAtOnce:
                raise
            except SearchError as error:
                log.error("%s", error)
                agent.departure.leave_behind()
                return error.exit_code
            except BaseException:
                # A fault of the machine (no process can be started, no memory) or ours: a result is not lost with it.
                agent.departure.leave_behind()
                raise
            finally:
                agent.close()
    except KilledAtOnce:
        # It may arrive at any moment, also while the agent closes: finish closing.
        log.warning("ended at once; the lease of its evaluation will expire")
        if agent is not None:
            agent.departure.leave_behind()
            agent.close(at_once=True)
        return INTERRUPTED


class Agent:
    """One worker, made of its parts; see :func:`run_agent`.

    A caller with another clock and trainer drives it by :meth:`turn`, at :meth:`next_due` at the latest.

    Parameters
    ----------
    options, connect
        As for :func:`run_agent`.
    start_trainer
        Makes a trainer.
    interrupts
        Signals and the lifeline.
    clock
        Monotonic clock, in seconds.
    name
        Id of this incarnation; default: a new one.
    jitter
        Spreads the tries to find a lost master; default: at random.
    disk
        Whether it can write; default: looks at the disk of its attempts.

    Attributes
    ----------
    id : str
        Id of this incarnation.
    keeper, held, outbox, conversation, departure, directories
        Its parts: the trainer, the leases, what is not acknowledged, the master, the end, where attempts write.
    """

    def __init__(
        self,
        options: AgentOptions,
        connect: Connect,
        start_trainer: StartTrainer,
        interrupts: Interrupts,
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str | None = None,
        jitter: random.Random | None = None,
        disk: OwnDisk | None = None,
    ) -> None:
        host = socket.gethostname()
        label = worker_label(host, options.index, options.device)
        self.id = name or f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._interrupts = interrupts
        self._clock = clock
        self.directories = AttemptDirectories(options)
        self.outbox = Outbox(self.id, label)
        self.keeper = TrainerKeeper(options, start_trainer)
        disk = disk or OwnDisk(str(self.directories.directory.path))
        self.held = HeldEvaluations(options, self.keeper, self.directories, self.outbox, clock, disk)
        self.conversation = Conversation(options, connect, self.id, label, self.held, self.outbox, clock, jitter=jitter)
        self.departure = Departure(
            options, self.keeper, self.held, self.outbox, self.conversation, self.directories, clock
        )

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process, once it is known."""
        return self.departure.exit_code

    def run(self) -> int:
        """Turn until there is an exit code."""
        while (code := self.exit_code) is None:
            self.turn(self._wait())
        return code

    def turn(self, readable: set[int]) -> None:
        """Do what is due, once; ``readable`` are the descriptors that were found so."""
        for own in self._interrupts.own_signals():
            self.held.was_signalled(own)
        reason = self._interrupts.reason(readable)
        if reason is not None:
            kind = HandBackKind.UNEXPLAINED if self._interrupts.is_unexplained else HandBackKind.ORDERED
            self.departure.begin(reason, self._interrupts.exit_code, kind)
        for event in self.keeper.receive():
            self._receive(event)
        for act in (self.keeper.act, self.held.act, self.conversation.act, self.departure.act):
            act(self._clock())

    def next_due(self) -> float:
        """When the next thing is due that no descriptor announces."""
        now = self._clock()
        return min(
            now + LONGEST_TURN_S,
            self.keeper.next_due(now),
            self.held.next_due(),
            self.conversation.next_due(),
            self.departure.next_due(),
        )

    def close(self, *, at_once: bool = False) -> None:
        """End the trainer, an idle one in its own time unless ``at_once``, and the connection."""
        if self.held.current is None and not at_once:
            self.keeper.close()
        else:
            self.keeper.kill()
        self.conversation.close()
        if self.exit_code == 0:
            # Nothing continues from these attempts; other agents of this host have directories of their own.
            self.directories.tidy(self.conversation.kept)

    def _receive(self, event: TrainerMessage) -> None:
        match event:
            case TrainerReady():
                self.conversation.introduce(event)
                self.departure.act_on_source()
                self.held.trainer_is_ready()
            case TrainerFetches():
                self.keeper.wait_for_data()
            case TrainerRefused(message=message, no_room_in=folder) if folder is not None:
                self.held.trainer_found_no_room(folder, message)
                self.conversation.introduce_hindered()
            case TrainerRefused(message=message):
                self.keeper.refuse(message)
            case _:
                self.held.receive(event)

    def _wait(self) -> set[int]:
        poll = select.poll()
        for descriptor in (*self._interrupts.descriptors, *self.keeper.descriptors):
            poll.register(descriptor, select.POLLIN)
        wait_s = max(0.0, self.next_due() - self._clock())
        # Rounded up: a turn that wakes a millisecond early finds nothing due, and turns again.
        return {descriptor for descriptor, _ in poll.poll(int(wait_s * 1_000) + (wait_s > 0))}
