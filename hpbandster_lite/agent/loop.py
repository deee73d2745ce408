"""The agent's loop: hear the trainer, keep its deadlines, talk to the master, one step at a time.

Law of this file: each turn waits for whatever comes first and then does what is due; the only thing that can hold it up
is one call of the master, for :data:`~hpbandster_lite.agent.master_link.CALL_TIMEOUT_S` at most. What the master has
not acknowledged is said again, word for word, under the same number. One evaluation runs at a time; of those of
milliseconds several are leased at once, and what waits is handed back as soon as one of them takes longer.
"""

from __future__ import annotations

import logging
import math
import os
import random
import secrets
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from hpbandster_lite.agent.assignment import Assignment, Places, read_grant
from hpbandster_lite.agent.departure import leave_behind, over_by_journal
from hpbandster_lite.agent.interrupts import Interrupts, KilledAtOnce
from hpbandster_lite.agent.master_link import Connect, Link, Rendezvous
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.errors import MasterUnreachable, ProblemError, ProtocolMismatch, SearchError
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.devices import worker_label
from hpbandster_lite.process.environment import trainer_environment
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.protocol.slots import MOST_LANES, Pace, lane_name
from hpbandster_lite.records import Failure, FailureKind, Outcome, Plain, Report
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.trainer.handle import TrainerHandle
from hpbandster_lite.trainer.in_thread import InlineTrainer
from hpbandster_lite.trainer.messages import (
    TrainerDied,
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
)
from hpbandster_lite.trainer.orphan_guard import OrphanGuard
from hpbandster_lite.trainer.process_tree import become_subreaper

log = logging.getLogger(__name__)

LONGEST_TURN_S = 60.0
KILL_AFTER_S = 2.0
"""Time between SIGTERM and SIGKILL for an evaluation over its time limit."""
GOODBYE_S = 5.0
"""An agent that is to end gives the master this long to take what it hands back, once its trainer has let go."""
MOST_FRUITLESS = 5
"""Trainers that died in a row before they could evaluate anything."""
OVER_AFTER_S = 15.0
"""A master that is silent for so long may have ended with its search, which the journal then says. Not at once: workers
are started beside a master that takes up a search which had ended, and it imports and replays first."""
OVER_AT_FIRST_S = 2.0
"""The same for an agent that has never met a master, where none holds the run directory: one that takes the search up
again does so in its first second, and a worker that came too late is not to sit there."""
LOOK_EVERY_S = 5.0
FULL_DISK_S = 10.0
"""A worker whose disk was full asks for work after so long: others are to run again what it could not."""

Trainer = TrainerHandle | InlineTrainer
StartTrainer = Callable[[], Trainer]


def run_agent(options: AgentOptions, *, connect: Connect | None = None, problem: Problem | None = None) -> int:
    """Work for a search until it is over, or until told to end.

    Parameters
    ----------
    options
        See :class:`AgentOptions`.
    connect
        How to reach the master; default: by the run directory and the name server that the options name.
    problem
        The problem itself, where ``isolation`` is ``none`` and it cannot be imported by a name.

    Returns
    -------
    int
        0 when the search is over, there was nothing to do for ``idle_timeout_s``, or ``max_evaluations`` were made;
        130 when told to end; 75 when its allocation ends or has no time for another evaluation: to be started again in
        the next one; 2 if the problem cannot be imported here; 3 without a master.
    """
    orphan_guard = OrphanGuard() if options.isolation == "trainer" else None
    if options.isolation == "trainer":
        become_subreaper()

    def start_trainer() -> Trainer:
        if options.isolation == "none":
            return InlineTrainer(options.problem, problem)
        environment = trainer_environment(os.environ, options.device, options.threads)
        return TrainerHandle(
            options.problem,
            environment,
            max_log_bytes=options.max_log_bytes,
            processes=options.gpus_per_worker,
        )

    try:
        return _run(options, connect or Rendezvous(options), start_trainer)
    finally:
        if orphan_guard is not None:
            orphan_guard.dismiss()


def _run(options: AgentOptions, connect: Connect, start_trainer: StartTrainer) -> int:
    agent: Agent | None = None
    try:
        with Interrupts(options.lifeline) as interrupts:
            agent = Agent(options, connect, start_trainer, interrupts)
            try:
                return agent.run()
            except KilledAtOnce:
                raise
            except SearchError as error:
                log.error("%s", error)
                agent.leave_behind()
                return error.exit_code
            except BaseException:
                # A fault of the machine (no process can be started, no memory) or ours: a result is not lost with it.
                agent.leave_behind()
                raise
            finally:
                agent.close()
    except KilledAtOnce:
        # It may have come at any moment, while the agent was being closed as well: the rest of that is done now.
        log.warning("ended at once; the lease of its evaluation will expire")
        if agent is not None:
            agent.leave_behind()
            agent.close(at_once=True)
        return INTERRUPTED


class Agent:
    """One worker's state between two turns of the loop; see :func:`run_agent`.

    Whoever has a clock and a trainer of his own drives it by :meth:`turn`, at :meth:`due_at` at the latest.

    Parameters
    ----------
    options, connect
        As for :func:`run_agent`.
    start_trainer
        Makes a trainer.
    interrupts
        What tells this agent to end.
    clock
        Seconds, never going back.
    name
        Id of this incarnation; default: a new one.
    jitter
        Spreads the tries to find a lost master; default: at random.
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
    ) -> None:
        host = socket.gethostname()
        self.id = name or f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        self._options = options
        self._label = worker_label(host, options.index, options.device)
        self._connect = connect
        self._start_trainer = start_trainer
        self._interrupts = interrupts
        self._places = Places(options)
        self._attempts: list[str] = []
        self._evaluated = 0
        self._clock = clock
        self._jitter = jitter
        self._trainer: Trainer | None = None
        self._load_by = 0.0
        self._fruitless = 0
        self._link: Link | None = None
        self._assignment: Assignment | None = None
        self._waiting: deque[Assignment] = deque()
        """Leases of other lanes, not begun yet."""
        # A trainer's process takes longer than a round trip.
        self._pace = Pace(MOST_LANES if options.isolation == "none" else 1)
        self._keeps_until = 0.0
        """Until when reports may wait for those of the evaluations behind them."""
        self._outbox = Outbox(self.id, self._label)
        self._ask_at = self._idle_since = self._clock()
        self._looked_at = -LOOK_EVERY_S
        self._leaving: str | None = None
        self._leave_by = 0.0
        self._leave_code = 0
        self.exit_code: int | None = None
        """What the process is to end with, as soon as that is known."""

    def run(self) -> int:
        """Turn until there is an exit code."""
        while self.exit_code is None:
            self.turn(self._wait())
        return self.exit_code

    def turn(self, readable: set[int]) -> None:
        """Do what is due, once; ``readable`` are the descriptors that were found so."""
        reason = self._interrupts.reason(readable)
        if reason is not None:
            self._leave(reason, self._interrupts.exit_code)
        for heard in self._trainer.receive() if self._trainer is not None else ():
            self._take(heard)
        self._supervise(self._clock())
        self._go_on(self._clock())
        self._converse(self._clock())
        self._perhaps_end(self._clock())

    def close(self, *, at_once: bool = False) -> None:
        """End the trainer, an idle one in its own time unless ``at_once``, and the connection."""
        if self._trainer is not None:
            if self._assignment is None and self._trainer.is_ready and not at_once:
                self._trainer.close()
            else:
                self._trainer.kill()
            self._trainer = None
        if self._link is not None:
            self._link.close()
        if self.exit_code == 0:
            # Nobody goes on with anything; other agents of this host have their own attempts.
            self._places.tidy(self._attempts)

    # -------------------------------------------------------------------------------------------------- one turn

    def _wait(self) -> set[int]:
        poll = select.poll()
        for descriptor in (*self._interrupts.descriptors, *(self._trainer.descriptors if self._trainer else ())):
            poll.register(descriptor, select.POLLIN)
        wait_s = max(0.0, self.due_at() - self._clock())
        # Rounded up: a turn that wakes a millisecond early finds nothing due, and turns again.
        return {descriptor for descriptor, _ in poll.poll(int(wait_s * 1_000) + (wait_s > 0))}

    def due_at(self) -> float:
        """When the next thing is due that no descriptor tells of."""
        now, due = self._clock(), [self._clock() + LONGEST_TURN_S]
        if self._trainer is None:
            # None is started any more by an agent that is to end: then this must not keep the loop turning.
            due += [now] if self._leaving is None else []
        else:
            due.append(now + self._trainer.poll_every_s)
            if not self._trainer.is_ready:
                due.append(self._load_by)
        if self._link is not None:
            due.append(max(self._link.next_try_at, self._speaks_at()))
        if self._assignment is not None:
            due += [at for at in (self._assignment.ends_at, self._assignment.stop_by) if at is not None]
            if self._waiting:
                due.append(self._keeps_until)
        # Each only where :meth:`_perhaps_end` acts on it: a time that has passed would have the loop turn in vain.
        if self._leaving is None and self._assignment is None and self._options.time_ends_at is not None:
            due.append(self._options.time_ends_at)
        if self._leaving is not None:
            due.append(self._leave_by)
        elif self._assignment is None and self._link is not None:
            due += [self._link.answered_at + self._options.master_timeout_s, self._looks_at(self._link)]
            if self._options.idle_timeout_s is not None and not self._outbox:
                due.append(self._idle_since + self._options.idle_timeout_s)
        return min(due)

    def _speaks_at(self) -> float:
        """When there is something to say to the master."""
        if self._outbox:
            return self._keeps_until if self._assignment is not None else 0.0
        if self._assignment is not None:
            return self._assignment.renew_at
        return self._ask_at if self._wants_work else self._clock() + LONGEST_TURN_S

    @property
    def _wants_work(self) -> bool:
        is_free = self._assignment is None and self._leaving is None and not self._has_done_its_share
        return is_free and self._trainer is not None and self._trainer.is_ready

    @property
    def _has_done_its_share(self) -> bool:
        most = self._options.max_evaluations
        return most is not None and self._evaluated >= most

    # ------------------------------------------------------------------------------------------------ the trainer

    def _take(self, heard: TrainerMessage) -> None:
        """Act on what the trainer says."""
        match heard:
            case TrainerReady():
                self._introduce(heard)
                if self._assignment is None:
                    # What an import takes (torch from a network file system: a minute) is no time without work.
                    self._idle_since = self._clock()
                elif self._assignment.began_at is None:
                    # Without a process a trainer is ready before it says so, and may have begun already.
                    self._begin(self._assignment)
            case TrainerRefused(message=message):
                self._give_up_problem(message)
            case TrainerPoint(point=point):
                if self._assignment is not None:
                    self._assignment.curve.add(point)
            case TrainerEnded():
                self._ended(heard)
            case TrainerInterrupted(has_children=has_children):
                self._interrupted(has_children)
            case TrainerDied(failure=failure):
                self._died(failure)

    def _introduce(self, ready: TrainerReady) -> None:
        if self._link is None:
            hello = {
                "role": "agent",
                "agent": self.id,
                "worker": self._label,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "problem": ready.problem,
                "source_hash": ready.source_hash,
                "options": dict(ready.options),
            }
            self._link = Link(self._connect, hello, self._clock(), jitter=self._jitter)

    def _begin(self, assignment: Assignment) -> None:
        if self._trainer is None or not self._trainer.is_ready:
            return
        self._fruitless = 0
        assignment.began_at = self._clock()
        if self._options.timeout_s is not None:
            assignment.ends_at = assignment.began_at + self._options.timeout_s
        self._trainer.evaluate(assignment.order, f"{assignment.place}/{RunDirectory.LOG_NAME}")

    def _ended(self, ended: TrainerEnded) -> None:
        assignment, trainer = self._assignment, self._trainer
        if assignment is None or trainer is None:
            return
        failure = ended.failure
        if assignment.has_timed_out:
            failure = self._over_time()
        elif failure is not None:
            if failure.kind is FailureKind.CODE and trainer.had_oom_kill():
                # A data loader's process, for example: the objective only saw that it was gone.
                failure = replace(failure, kind=FailureKind.MEMORY)
            failure = replace(failure, log_tail=trainer.log_tail())
        loss = ended.loss if failure is None else None
        self._finish(assignment, loss=loss, failure=failure, info=ended.info, duration_s=ended.duration_s)
        if failure is not None and failure.kind is FailureKind.INFRASTRUCTURE:
            log.error("evaluation %s is to be run elsewhere: %s", assignment.evaluation, failure.reason)
            self._ask_at = self._clock() + FULL_DISK_S
        # What an exception has left behind (memory of a GPU, a broken context) is gone with the process.
        spoilt = failure is not None and failure.kind not in (FailureKind.INVALID, FailureKind.INFEASIBLE)
        self._renew_trainer(ended.has_children, spoilt)

    def _interrupted(self, has_children: bool) -> None:
        assignment = self._assignment
        if assignment is None:
            return
        if assignment.has_timed_out:
            self._finish(assignment, failure=self._over_time())
        else:
            self._hand_back(assignment, assignment.stop_reason or "its trainer was told to end")
        self._renew_trainer(has_children, assignment.has_timed_out)

    def _died(self, failure: Failure) -> None:
        assignment, was_ready = self._assignment, self._trainer is not None and self._trainer.is_ready
        tail = self._trainer.log_tail() if self._trainer is not None else ()
        self._trainer = None
        if assignment is None or assignment.began_at is None:
            self._died_fruitless(failure, was_ready, tail)
        elif assignment.has_timed_out:
            self._finish(assignment, failure=replace(self._over_time(), log_tail=failure.log_tail))
        elif assignment.stop_by is not None and failure.kind is FailureKind.INFRASTRUCTURE:
            self._hand_back(assignment, assignment.stop_reason or failure.reason)
        else:
            log.warning("evaluation %s: %s", assignment.evaluation, failure.reason)
            self._finish(assignment, failure=failure)

    def _died_fruitless(self, failure: Failure, was_ready: bool, tail: tuple[str, ...]) -> None:
        self._fruitless += 1
        if (was_ready or failure.kind is FailureKind.INFRASTRUCTURE) and self._fruitless < MOST_FRUITLESS:
            log.warning("%s while it had no evaluation; started again", failure.reason)
            return
        words = "\n".join((f"the problem {self._options.problem!r} cannot be run here: {failure.reason}", *tail[-20:]))
        self._give_up_problem(words)

    def _give_up_problem(self, message: str) -> None:
        log.error("%s", message)
        if self._trainer is not None:
            self._trainer.kill()
            self._trainer = None
        self._leave("its worker cannot run the problem", ProblemError.exit_code)

    def _renew_trainer(self, has_children: bool, spoilt: bool) -> None:
        """Have a fresh trainer started if this one is spoilt, or if the objective left processes running."""
        trainer = self._trainer
        if trainer is None:
            return
        left = trainer.leftover_processes(has_children)
        if left:
            log.warning("the objective left processes running, which end with its trainer: %s", "; ".join(left)[:500])
        if left or spoilt:
            trainer.kill()
            self._trainer = None

    def _supervise(self, now: float) -> None:
        """Start a trainer where there is none, and hold the one that runs to its deadlines."""
        if self._trainer is None:
            if self._leaving is None:
                self._trainer = self._start_trainer()
                self._load_by = now + self._options.load_timeout_s
            return
        if not self._trainer.is_ready and now >= self._load_by:
            self._give_up_problem(
                f"the problem {self._options.problem!r} was not imported within {self._options.load_timeout_s:g} s"
            )
            return
        assignment = self._assignment
        if assignment is None or assignment.began_at is None:
            return
        self._trainer.sample_memory()
        if assignment.stop_by is not None and now >= assignment.stop_by:
            self._kill_trainer()
            self._hand_back(assignment, f"{assignment.stop_reason}; it did not stop within {self._options.grace_s:g} s")
        elif assignment.ends_at is not None and now >= assignment.ends_at:
            if assignment.has_timed_out:
                self._finish(assignment, failure=self._over_time())
                self._kill_trainer()
            else:
                assignment.has_timed_out = True
                assignment.ends_at = now + KILL_AFTER_S
                self._trainer.terminate()

    def _kill_trainer(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
            self._trainer = None

    # -------------------------------------------------------------------------------------- how an assignment ends

    def _over_time(self) -> Failure:
        tail = self._trainer.log_tail() if self._trainer is not None else ()
        reason = f"not done within the time limit of {self._options.timeout_s:g} s"
        return Failure(kind=FailureKind.TIME_LIMIT, reason=reason, log_tail=tail)

    def _finish(
        self,
        assignment: Assignment,
        *,
        loss: float | None = None,
        failure: Failure | None = None,
        info: Plain = None,
        duration_s: float | None = None,
    ) -> None:
        if duration_s is None and assignment.began_at is not None:
            duration_s = self._clock() - assignment.began_at
        outcome = Outcome(
            loss=loss,
            failure=failure,
            info=info or {},
            curve=assignment.curve.points(),
            duration_s=duration_s,
            directory=self._places.told(assignment.place),
        )
        self._evaluated += failure is None or failure.kind is not FailureKind.INFEASIBLE
        report = Report(evaluation=assignment.evaluation, attempt=assignment.attempt, outcome=outcome)
        self._outbox.reports[assignment.agent] = report
        self._pace.note(duration_s if failure is None else None)
        self._become_idle()

    def _hand_back(self, assignment: Assignment, reason: str) -> None:
        log.info("evaluation %s is handed back: %s", assignment.evaluation, reason)
        self._outbox.hand_back(assignment.key, reason, self._places.told(assignment.place))
        self._become_idle()

    def _hand_back_waiting(self, reason: str) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            self._outbox.hand_back(waiting.key, reason, self._places.told(waiting.place))

    def _become_idle(self) -> None:
        self._assignment = None
        # Of an agent that is to end: its trainer's grace is over when its trainer has let go.
        self._leave_by = min(self._leave_by, self._clock() + GOODBYE_S)
        self._idle_since = self._ask_at = self._clock()

    def _stop_assignment(self, reason: str) -> None:
        assignment = self._assignment
        if assignment is None or assignment.stop_by is not None:
            return
        if assignment.began_at is None or self._trainer is None:
            self._hand_back(assignment, reason)
            return
        log.info("evaluation %s is to stop: %s", assignment.evaluation, reason)
        assignment.stop_reason = reason
        assignment.stop_by = self._clock() + self._options.grace_s
        self._trainer.ask_to_stop()

    def _go_on(self, now: float) -> None:
        """Begin what waits behind a quick evaluation, or hand it back behind one that is not."""
        if not self._waiting:
            return
        if self._assignment is not None:
            if now >= self._keeps_until:
                self._hand_back_waiting("the evaluation before it takes its time")
        elif self._pace.lanes > 1 and self._leaving is None and self._trainer is not None and self._trainer.is_ready:
            self._assignment = self._waiting.popleft()
            self._keeps_until = now + Pace.PATIENCE_S
            self._begin(self._assignment)
        else:
            self._hand_back_waiting("the evaluation before it was none of milliseconds")

    # ------------------------------------------------------------------------------------------------- the master

    def _converse(self, now: float) -> None:
        """Say one thing to the master, if there is one to say and it is time."""
        if self._link is None or now < self._link.next_try_at or self._keeps(now):
            return
        ends_at = self._options.time_ends_at
        time_left_s = None if ends_at is None else max(0.0, ends_at - now)
        message = self._outbox.next(asks=self._asks(now), time_left_s=time_left_s)
        if message is not None:
            answer = self._link.call(message.method, message.content, clock=self._clock)
            if answer is not None:
                _check_lanes(message.content.get("lanes", []), answer.get("lanes", []))
                self._outbox.acknowledge()
                if message.method == "exchange":
                    self._answered(answer)
        elif self._assignment is not None and now >= self._assignment.renew_at:
            self._renew(self._link, self._assignment)

    def _keeps(self, now: float) -> bool:
        """Whether reports wait for the evaluation that runs."""
        return self._assignment is not None and bool(self._outbox) and now < self._keeps_until

    def _asks(self, now: float) -> int:
        """How many leases to ask for."""
        if not self._wants_work or now < self._ask_at:
            return 0
        most = self._options.max_evaluations
        return self._pace.lanes if most is None else min(self._pace.lanes, most - self._evaluated)

    def _answered(self, answer: dict[str, Plain]) -> None:
        for agent, grant in self._grants(answer):
            self._waiting.append(read_grant(grant, self._places, self._clock(), agent))
            self._attempts.append(self._waiting[-1].place)
        if self._waiting:
            if self._leaving is not None:
                self._hand_back_waiting(self._leaving)
                return
            self._assignment = self._waiting.popleft()
            self._keeps_until = self._clock() + Pace.PATIENCE_S if self._waiting else 0.0
            self._begin(self._assignment)
            return
        match answer.get("answer"):
            case {"kind": "wait", "seconds": seconds, "reason": reason}:
                self._ask_at = self._clock() + float(seconds)
                log.debug("waiting: %s", reason)
            case {"kind": "leave", "reason": reason}:
                log.info("its time is too short for what is left to do: %s", reason)
                self.exit_code = REQUEUE
            case {"kind": "done", "reason": reason}:
                log.info("the search is over: %s", reason)
                self.exit_code = 0
            case {"kind": "none"}:
                # It was not asked for any: the time to ask for it is as it was.
                pass
            case _:
                self._ask_at = self._clock()

    def _grants(self, answer: dict[str, Plain]) -> Iterator[tuple[str, Plain]]:
        """What was granted, and to the agent or which lane of it."""
        for each in ({"lane": 0, **answer}, *answer.get("lanes", ())):
            if each.get("report_is") == "late":
                log.info("the evaluation had another outcome before; this one is kept as late")
            match each.get("answer"):
                case {"kind": "grant", "grant": grant}:
                    yield lane_name(self.id, each["lane"]), grant
                case _:
                    pass

    def _renew(self, link: Link, assignment: Assignment) -> None:
        points = [list(point) for point in assignment.curve.unsent()]
        answer = link.call("renew", {**assignment.key, "curve": points}, clock=self._clock)
        if answer is None:
            return
        assignment.curve.acknowledge()
        assignment.renew_at = self._clock() + assignment.heartbeat_s
        verdict = answer.get("answer")
        if isinstance(verdict, dict) and verdict.get("kind") == "stop":
            self._stop_assignment(str(verdict.get("reason")))

    # ---------------------------------------------------------------------------------------------------- the end

    def _leave(self, reason: str, exit_code: int) -> None:
        """Stop what runs, hand it back, and end; the first reason counts, and the last word of whoever ends it."""
        if self._leaving is not None:
            self._leave_code = exit_code if reason == self._leaving else self._leave_code
        else:
            if self._assignment is None:
                log.info("ending: %s", reason)
            self._leaving, self._leave_code = reason, exit_code
            grace_s = self._options.grace_s if self._assignment is not None else 0.0
            self._leave_by = self._clock() + grace_s + GOODBYE_S
            self._hand_back_waiting(reason)
            self._stop_assignment(reason)

    def _perhaps_end(self, now: float) -> None:
        if self.exit_code is None and self._leaving is None and self._assignment is None:
            ends_at = self._options.time_ends_at
            if ends_at is not None and now >= ends_at:
                self._leave("its time is over", REQUEUE)
            elif self._link is not None:
                self._end_if_in_vain(self._link, now)
        owes = self._assignment is not None or self._outbox.owes
        # A question that was never answered may have leased something; its lease ends with our connection.
        if self.exit_code is None and self._leaving is not None and (not owes or now >= self._leave_by):
            self.leave_behind()
            self.exit_code = self._leave_code

    def _end_if_in_vain(self, link: Link, now: float) -> None:
        """End where no master is to be expected any more, or there was nothing to do for too long."""
        # By sums, as in :meth:`due_at`: a difference may round to just below, and the loop would turn in vain.
        limit_s = self._options.idle_timeout_s
        if now >= link.answered_at + self._options.master_timeout_s:
            silent_s = now - link.answered_at
            log.error("no master for %.0f s; start a worker again when there is one", silent_s)
            self.leave_behind()
            self.exit_code = MasterUnreachable.exit_code
        elif self._has_done_its_share and not self._outbox:
            self._leave(f"it has made {self._evaluated} evaluations", 0)
        elif now >= self._looks_at(link) and (reason := self._over_by_journal(now)) is not None:
            log.info("no master answers, and the search is over: %s", reason)
            self.leave_behind()
            self.exit_code = 0
        elif not self._outbox and limit_s is not None and now >= self._idle_since + limit_s:
            self._leave(f"nothing to do for {limit_s:g} s", 0)

    def _looks_at(self, link: Link) -> float:
        """When to look whether the search has ended; its journal can be seen in a run directory alone."""
        if self._options.run_dir is None:
            return math.inf
        first_s = OVER_AFTER_S if link.epoch else OVER_AT_FIRST_S
        return max(link.answered_at + first_s, self._looked_at + LOOK_EVERY_S)

    def _over_by_journal(self, now: float) -> str | None:
        self._looked_at = now
        return over_by_journal(self._options.run_dir or "")

    def leave_behind(self) -> None:
        """Write what the master has not acknowledged into the run directory, where the next one finds it."""
        leave_behind(self._outbox, self._places)


def _check_lanes(told: list[dict[str, Plain]], answered: Plain) -> None:
    """Every lane that was spoken of is answered; what is not was not heard, and its report is not acknowledged.

    Raises
    ------
    ProtocolMismatch
        If the master answers for others.
    """
    if [each["lane"] for each in told] != [each.get("lane") for each in answered]:
        raise ProtocolMismatch(f"the master does not answer for the lanes that it was told of: {answered!r:.300}")
