"""A whole search in one process: the real engine, journal, master and agents on a virtual clock and a bad network.

One seed gives one history. The scheduler turns the part that is due next; what happens to a message, a process or
the disk is drawn from the seed's own generator, and nothing else is random: no wall clock decides, no thread runs. Only
the edges are simulated: the transport (requests and replies lost, delayed, doubled and overtaken, connections cut), the
trainer (a deterministic objective that takes its time, fails, hangs or dies), the clock (with gaps), and the disk
(full, read-only, and torn inside a commit that was never acknowledged; the journal is the real one on a real file).
:mod:`tests.world_trainer`, :mod:`tests.world_workers` and :mod:`tests.world_master` simulate them. What may happen, and
which kinds of it there are, is in :mod:`tests.world_faults`; a world has one kind alone, or all.

After each step in which the master changed anything its invariants are checked. Whenever a master has died, what its
successor replays must be what it had. A report that was acknowledged must stay in the journal for ever. When all
faults are healed the search must end, and ``verify`` must find every decision in its journal again.

>>> World(seed=7).run()     # raises Broken with the seed and the last events; the same seed raises the same again
>>> World(seed=7, kind="partitions").run()
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from hpbandster_lite import wire
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.verify import Verification, verify
from hpbandster_lite.errors import JournalError, MasterUnreachable, UsageError
from hpbandster_lite.journal import Fenced, Journal, JournalLost, JournalReader
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.serving import resume_master
from hpbandster_lite.master.turns import GAP_S, TURN_S, Turns
from hpbandster_lite.process.fingerprint import fingerprint
from hpbandster_lite.protocol.messages import Command, ExchangeRequest, LeftReport, ResumeRequest
from hpbandster_lite.protocol.slots import agent_of, slot_name
from hpbandster_lite.records import (
    Entry,
    EvaluationId,
    Expired,
    ExpiryKind,
    FailureKind,
    FinishKind,
    HandBackKind,
    LateReport,
    Leased,
    Limits,
    Plain,
    PutBack,
    Recorded,
    Released,
    Report,
    SearchSettings,
    SetAside,
    SourceChanged,
)
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.trainer.messages import TrainerOrder
from hpbandster_lite.transport import Busy, Call
from tests.engine_room import engine_for, settings_for, snapshot, space_of
from tests.world_faults import ALONE, WorldFault, faults_of, worker_joins
from tests.world_master import Box, FakeServer, Process, request_of
from tests.world_trainer import CHECKPOINT, EDIT, HALF, loss_of, source_of
from tests.world_workers import Worker

CALL_TIMEOUT_S = 5.0
"""The same value as in the agent's link."""
QUIET_TURN_S = 1.2
"""Time between turns of a master: long, so that histories are short, but below what the master counts as a gap."""
ASK_EVERY_S = 3.0
"""Time between requests of an idle agent; a master with few agents makes them ask sooner."""
STORY_LINES = 40
"""Number of lines of the history in the message of a failure."""
FAULTY_STEPS = 200
LONGEST_S = 86_400.0
MOST_STEPS = 400_000
"""Six idle agents together ask twice a second during the last evaluation."""
MOST_AT_FIRST = 6
"""A world with more workers counts as large, and is checked less often."""
PREFIX = f"hpbandster_lite-world-{os.getpid()}-"
MEMORY = Path("/dev/shm")  # noqa: S108  # a private directory is made in it; on a disk each commit would wait for it


class Broken(AssertionError):
    """A law did not hold; the message has the seed and the end of the history."""


@cache
def small_space() -> SearchSpace:
    return space_of()


@cache
def tiny_space() -> SearchSpace:
    """Six configurations, which one bracket exhausts."""
    from ConfigSpace import Categorical

    return space_of(Categorical("a", ["p", "q", "r"]), Categorical("b", ["s", "t"]))


def no_network(_path: Path) -> None:
    """The file system of every world is local; a call of the system takes longer than most steps."""


class World:
    """One history.

    Parameters
    ----------
    seed
        Determines the whole history.
    kind
        The only kind of faults, of :data:`tests.world_faults.KINDS`. Default: all of them, mixed.
    n_workers
        Number of workers at the start. Default: one to four, by the seed.
    clocks_obey
        Faults do not change wall clocks: all decisions must be the same as in the world whose clocks they change.
    """

    def __init__(
        self, seed: int, kind: str | None = None, *, n_workers: int | None = None, clocks_obey: bool = False
    ) -> None:
        self.seed = seed
        self.kind = kind
        self.random = random.Random(seed)
        self.faults: tuple[WorldFault, ...] = faults_of(kind)
        self.clocks_obey = clocks_obey
        self.wall_offset_s = 0.0
        self.returns: list[tuple[float, int]] = []
        """Times at which workers return whose allocation ended, with their numbers."""
        self.now = 1_000.0
        self.story: deque[str] = deque(maxlen=STORY_LINES)
        self.workers: list[Worker] = []
        self.all_workers: dict[str, Worker] = {}
        """The ended ones, too."""
        self.process: Process | None = None
        self.starts_at = self.now
        self.older: Process | None = None
        self.delayed: list[tuple[float, int, Call]] = []
        self.acknowledged: dict[tuple[EvaluationId, int, str], FailureKind | None] = {}
        self.counts: Counter[str] = Counter()
        self.is_faulty = True
        self.disk_is_full_until: float | None = None
        self.tears_next = False
        self.journal_is_lost = False
        self.source_version = self.accepted_version = 0
        self.epoch = 0
        self.retry_after: int | None = None
        self.has_ended = False
        self._names = 0
        self._checked_at = (0, 0)
        self._parent = MEMORY if MEMORY.is_dir() else None
        self._choose(n_workers)

    def _choose(self, n_workers: int | None) -> None:
        """Draw the search and the quality of the network."""
        draw = self.random
        self.code_is_broken = self.has("users") and draw.random() < 0.15
        algorithm = draw.choice(["hyperband", "random", "bohb", "mfbo"])
        self.space = tiny_space() if draw.random() < 0.15 else small_space()
        lease_s, heartbeat_s = draw.choice([(60.0, 5.0), (20.0, 4.0)])
        self.settings: SearchSettings = replace(
            settings_for(
                self.space,
                algorithm=algorithm,
                budgets=draw.choice([(1.0, 3.0), (1.0, 3.0, 9.0)]),
                seed=self.seed,
                # Searches are short here, and its model must take part in some.
                sampler={"full_results": 1} if algorithm == "mfbo" else {},
            ),
            lease_s=lease_s,
            heartbeat_s=heartbeat_s,
        )
        self.has_source = self.has("edited sources")
        self.settings = self._with_source(self.settings)
        # Agents take several evaluations of milliseconds at a time, with a slow one among them.
        self.is_quick = draw.random() < 0.2
        brackets = draw.choice([1, 2]) * (4 if self.is_quick else 1)
        self.limits = Limits(brackets=brackets, max_concurrent=draw.choice([None, None, 2]))
        self.loses = draw.choice([0.0, 0.02, 0.1] if self.kind is None else [0.1, 0.3]) * self.has("messages")
        self.latency_s = draw.choice([0.5, 4.0])
        self.fault_every_s = draw.choice([4.0, 15.0, 60.0])
        self.next_fault_at = self.now + draw.expovariate(1 / self.fault_every_s)
        self.n_workers = n_workers or draw.randint(1, 4)
        self.is_large = self.n_workers > MOST_AT_FIRST
        if self.is_large:
            # Enough for all workers, so that some evaluations wait.
            self.space, self.limits = small_space(), Limits(brackets=self.n_workers // 4)
            self.settings = replace(self.settings, budgets=(1.0, 3.0, 9.0), problem=settings_for(self.space).problem)
            self.settings = self._with_source(self.settings)
            self.fault_every_s = 0.5
            # Repeated stops of a search with so many workers would leave nothing to check.
            users = set(faults_of("users")) - {worker_joins}
            self.faults = tuple(each for each in self.faults if each not in users)
        self.most_workers = self.n_workers + 50 if self.is_large else 6

    def _with_source(self, settings: SearchSettings) -> SearchSettings:
        """Settings with the source that the search accepts, where it may be edited."""
        source = source_of(self.accepted_version) if self.has_source else None
        return replace(settings, problem=replace(settings.problem, source=source))

    def has(self, kind: str) -> bool:
        """Whether this world has faults of a kind."""
        return self.kind == kind or (self.kind is None and kind not in ALONE)

    def run(self) -> World:
        """Simulate the faults, heal, end and verify; raises :class:`Broken` if a law does not hold."""
        try:
            with tempfile.TemporaryDirectory(prefix=PREFIX, dir=self._parent) as path:
                self.directory = RunDirectory(Path(path) / "run")
                self.directory.create()
                try:
                    self._live()
                finally:
                    self._close_journals()
        except Exception as error:
            history = "\n".join(self.story)
            raise Broken(
                f"{self.name}.run() broke: {error!r}\nthe history ends with:\n{history}\n"
                f"again: python -c 'from tests.world import World; {self.name}.run()'"
            ) from error
        return self

    @property
    def name(self) -> str:
        """The expression that makes this world."""
        kind = "" if self.kind is None else f', kind="{self.kind}"'
        return f"World(seed={self.seed}{kind}{f', n_workers={self.n_workers}' if self.is_large else ''})"

    def _live(self) -> None:
        for _ in range(self.n_workers):
            self.add_worker()
        for _ in range(FAULTY_STEPS * (self.n_workers // 5 if self.is_large else 1)):
            if self.has_ended:
                break
            self.step()
        self.heal()
        self.run_until_over()
        self.check_the_end()

    def _close_journals(self) -> None:
        for process in (self.process, self.older):
            if process is not None:
                process.journal.close()

    def note(self, line: str) -> None:
        """Add a line to the history."""
        self.story.append(f"{self.now:9.2f}  {line.replace(str(self.directory.path), 'RUN')}")

    def fingerprint(self) -> str:
        """Digest of all decisions and events."""
        everything = (self.entries, sorted(self.counts.items()), list(self.story))
        # Some reasons name the run directory.
        text = repr(everything).replace(str(self.directory.path), "RUN")
        return hashlib.sha256(text.encode()).hexdigest()

    # ----------------------------------------------------------------------------------------------------- scheduler

    def step(self) -> None:
        """Advance to the next event, and simulate it."""
        worker = min(self.workers, key=attrgetter("due_at"), default=None)
        # Of several events at one moment the first in this list comes first.
        moments: list[tuple[float, Callable[[], None]]] = [(self.starts_at, self.start_master)]
        if self.process is not None:
            moments[0] = (max(self.process.next_at, self.process.stopped_until, self.now), self.turn_master)
        if self.older is not None:
            older = self.older
            moments.append((max(older.next_at, older.stopped_until), partial(self._take_turn, older)))
        if worker is not None:
            moments.append((worker.next_at, partial(self._turn_worker, worker)))
        if self.returns:
            moments.append((self.returns[0][0], self._return_worker))
        if self.delayed:
            moments.append((self.delayed[0][0], self.deliver_late))
        if self.is_faulty:
            moments.append((self.next_fault_at, self.inject_fault))
        at, what = min(moments, key=itemgetter(0))
        if not math.isfinite(at):
            raise Broken("nothing will ever happen again")
        self.now = max(self.now, at)
        self.counts["steps"] += 1
        what()
        self.check()

    def _turn_worker(self, worker: Worker) -> None:
        worker.turn()
        if worker.is_gone:
            self.workers.remove(worker)
            if math.isfinite(worker.ends_by):
                self.returns.append((self.now + self.random.choice([1.0, 20.0, 200.0]), worker.index))
                self.returns.sort()

    def _return_worker(self) -> None:
        _, index = self.returns.pop(0)
        if not self.has_ended:
            self.counts["back"] += 1
            self.add_worker(index)

    def add_worker(self, index: int | None = None) -> None:
        """Add a worker with a separate clock; with ``index`` it is another instance of an earlier worker."""
        self._names += 1
        number = self._names if index is None else index
        rates = [1.0, 1.0, 0.97, 1.03] if self.has("wrong clocks") else [1.0]
        draw = self.random
        self.workers.append(
            Worker(self, f"w{self._names}", number, zero_s=draw.choice([0.0, 1e5, 3e6]), rate=draw.choice(rates))
        )
        self.all_workers[self.workers[-1].name] = self.workers[-1]
        self.note(f"w{self._names} joins as worker {number}")

    # -------------------------------------------------------------------------------------------------------- network

    def carry(self, worker: Worker, call: Call) -> Plain:
        """Simulate one call of an agent: it returns the answer, or raises an error after the time to detect it."""
        draw = self.random
        self.counts["calls"] += 1
        target = self._master_reached_by(worker)
        if target is None:
            worker.busy_until = self.now + 0.01
            raise MasterUnreachable("connection refused")
        fate = draw.random() / self.loses if self.loses and self.is_faulty else math.inf
        if self.now < worker.requests_lost_until or fate < 0.3:
            return self._give_no_answer(worker, f"{call.method} of {worker.name} is lost")
        if fate < 0.6:
            self._deliver_later(call)
            return self._give_no_answer(worker, f"{call.method} of {worker.name} is delayed")
        if self.now < target.stopped_until:
            # It stays in the kernel's buffer until the master reads it.
            target.server.inbox.append(Box(call))
            return self._give_no_answer(worker, f"{call.method} of {worker.name} waits for a stopped master")
        if fate < 0.8:
            self._deliver_later(call)
        box = Box(call)
        target.server.inbox.append(box)
        if self.tears_next and target is self.process and self.older is None:
            synced = self._log_bytes()
            self._take_turn(target)
            self.kill_master(synced)
            return self._give_no_answer(worker, f"no master answers {call.method} of {worker.name}")
        self._take_turn(target)
        is_lost = fate < 1.0 or self.now < worker.answers_lost_until
        if is_lost or not box.is_sent or target not in (self.process, self.older):
            return self._give_no_answer(worker, f"the answer to {call.method} of {worker.name} is lost")
        worker.busy_until = self.now + draw.uniform(0.0, self.latency_s)
        if box.error is not None:
            raise box.error
        return self._arrived(worker, call, wire.decode(box.text or ""))

    def command(self, request: Command) -> None:
        """Send a user's command to the newest master; it is not repeated if the master cannot read or write."""
        process = self.process
        if process is None or self.now < process.stopped_until:
            return
        box = Box(Call(request.method, wire.encode(wire.to_message(request)), "user"), is_copy=True)
        process.server.inbox.append(box)
        self._take_turn(process)
        # Refused: the evaluation has ended in the same turn.
        if box.error is not None and not isinstance(box.error, Busy | UsageError):
            raise box.error
        self.counts["commands"] += box.error is None

    def _master_reached_by(self, worker: Worker) -> Process | None:
        """The master that a worker reaches: mostly the newest; of two, sometimes the older one, or only this one."""
        if self.older is None or worker.sees == "newer":
            return self.process
        return self.older if worker.sees == "older" or self.random.random() < 0.3 else self.process

    def _give_no_answer(self, worker: Worker, line: str) -> Plain:
        self.note(line)
        self.counts["silences"] += 1
        worker.busy_until = self.now + CALL_TIMEOUT_S
        raise MasterUnreachable(line)

    def _deliver_later(self, call: Call) -> None:
        """Deliver a copy of a call out of order: a real connection keeps the order, two connections do not."""
        self.delayed.append((self.now + self.random.uniform(0.0, 90.0), len(self.delayed), call))
        self.delayed.sort(key=lambda each: each[:2])

    def deliver_late(self) -> None:
        _, _, call = self.delayed.pop(0)
        if self.process is not None:
            self.counts["late copies"] += 1
            self.note(f"a late copy of {call.method} on {call.peer} arrives")
            self.process.server.inbox.append(Box(call, is_copy=True))
            self.cut(call.peer)

    def cut(self, peer: str) -> None:
        """End a connection; every running master is notified, with a delay."""
        for process in (self.process, self.older):
            if process is not None:
                process.server.closed.append(peer)

    def _arrived(self, worker: Worker, call: Call, answer: dict[str, Plain]) -> Plain:
        request, link = request_of(call), worker.agent.conversation.link
        # An agent ignores the answer of a master that was replaced.
        is_believed = link is not None and answer["epoch"] >= link.epoch
        if is_believed and isinstance(request, ExchangeRequest):
            for each in request.slots:
                if each.report is not None:
                    self._acknowledge(each.report, slot_name(request.agent, each.slot))
        return answer

    def _acknowledge(self, report: Report, agent: str) -> None:
        failure = report.outcome.failure
        self.acknowledged[report.evaluation, report.attempt, agent] = None if failure is None else failure.kind
        self.counts["acknowledged"] += 1

    # --------------------------------------------------------------------------------------------------------- master

    def start_master(self) -> None:
        """Start a master like the launcher, repeatedly until one serves."""
        self.starts_at = math.inf
        journal, version = None, self.source_version
        if self.code_is_broken and self.counts["masters"] and self.random.random() < 0.7:
            self.note("the code is corrected, and its failures are to be run again")
            self.code_is_broken, self.retry_after = False, self.epoch
        try:
            journal = Journal.open(
                self.directory.journal, create=self.settings, clock=lambda: self.now, network_of=no_network
            )
            self._limit_disk(journal)
            self._check_replay_agrees(journal)
            self._let_older_continue(journal)
            options = MasterOptions(
                run_directory=str(self.directory.path),
                prepared=self._prepared(),
            )
            master, epoch = resume_master(
                options,
                self.directory,
                journal,
                clock=lambda: self.now,
                # It dates the tables, and determines how long earlier masters served.
                wall_clock=lambda: self.now + self.wall_offset_s,
                # Otherwise nearly all events are requests of idle agents.
                soonest_question_s=ASK_EVERY_S,
                condition_of=lambda process: self.all_workers[f"w{process.pid}"].condition,
            )
        except JournalError as error:
            self.note(f"no master can start: {error}")
            if journal is not None:
                journal.close()
            self.starts_at = self.now + 10.0
            return
        server = FakeServer()
        server.master = master
        turns = Turns(server, master, clock=lambda: self.now)
        self.process = Process(journal, master, server, turns, epoch, self.now + TURN_S, turned_at=self.now)
        if self.older is not None:
            self.older.is_replaced = True
        self._watch(self.process)
        self._before = None
        self.counts["masters"] += 1
        self.counts["accepted edits"] += version != self.accepted_version
        self.accepted_version = version
        self.epoch = epoch
        self.note(f"master {epoch} starts at position {master.engine.state.position}")

    def _prepared(self) -> Prepared:
        """What the user's command makes of the journal, with the source as it is now, which it accepts."""
        accepted, now = source_of(self.accepted_version), source_of(self.source_version)
        return Prepared(
            settings=self._with_source(self.settings),
            limits=self.limits,
            resumed=False,
            retry_failed_after=self.retry_after,
            edited=None if now == accepted else SourceChanged(source=now, differences=("its version is another one",)),
        )

    def _let_older_continue(self, journal: Journal) -> None:
        """Let an older master serve while the next one reads, until the next one begins its epoch."""
        begin = journal.begin_epoch

        def after_a_while(*, restored_above: int | None = None) -> int:
            if self.older is not None and self.is_faulty:
                for _ in range(self.random.randint(0, 20)):
                    self.step()
            return begin(restored_above=restored_above)

        journal.begin_epoch = after_a_while  # type: ignore[method-assign]  # a fake for this call

    def turn_master(self) -> None:
        process = self.process
        assert process is not None
        self._take_turn(process)

    def _take_turn(self, process: Process) -> None:
        """Run a turn of a master, and end it if its search is over."""
        if self.disk_is_full_until is not None and self.now >= self.disk_is_full_until:
            self.disk_is_full_until = None
            self._free_disk()
        process.next_at = self.now + QUIET_TURN_S
        if process.master._stalled_since is None:
            process.listened_s += min(self.now - process.turned_at, TURN_S + GAP_S)
        process.turned_at = self.now
        before = self._last_position(process) if process is self.older and process.is_replaced else None
        try:
            is_over = process.turns.take()
            process.note_callers()
            assert before is None or before == self._last_position(process), "a replaced master has committed"
            if is_over and process is self.process:
                process.journal.look(self.now)
        except JournalLost:
            assert self.journal_is_lost, "its journal was where it is"
            self._restore_journal(process)
            return
        except Fenced:
            if process is self.process:
                raise
            self.note(f"master {process.epoch} finds that it was replaced, and ends")
            self.counts["fenced"] += 1
            self._end_older()
            return
        if process is self.older and self.now > process.next_at + 60.0:
            self._end_older()
        if is_over and process is self.process:
            self._end(process)

    @staticmethod
    def _last_position(process: Process) -> int:
        return int(process.journal._connection.execute("SELECT max(position) FROM entries").fetchone()[0])

    def lose_journal(self) -> None:
        """Delete the journal under its master, or move an older copy over it; the first time, make that copy."""
        journal, backup = self.directory.journal, self.directory.path / "backup.sqlite"
        if self.process is None or self.older is not None or self.journal_is_lost:
            return
        if not backup.exists():
            JournalReader(journal).copy_to(backup)
            return
        beside = [journal.with_name(f"{journal.name}{suffix}") for suffix in ("-wal", "-shm")]
        is_deleted, alone = self.random.random() < 0.5, self.random.random() < 0.5
        self.note(f"the journal is {'deleted' if is_deleted else 'replaced by an older copy'}")
        for file in beside if is_deleted or not alone else ():
            file.unlink(missing_ok=True)
        if is_deleted:
            journal.unlink()
        else:
            shutil.copyfile(backup, journal.with_name("moved"))
            journal.with_name("moved").replace(journal)
        self.journal_is_lost = True

    def _restore_journal(self, process: Process) -> None:
        """The user moves what the master kept to where the journal was, and starts it again."""
        self.note(f"master {process.epoch} finds its journal lost, and ends")
        self.counts["lost and restored"] += 1
        journal = self.directory.journal
        process.journal.close()
        for suffix in ("", "-wal", "-shm"):
            journal.with_name(f"{journal.name}{suffix}").unlink(missing_ok=True)
        (kept,) = self.directory.path.glob("journal.lost-*.sqlite")
        kept.replace(journal)
        self.journal_is_lost, self.process, self._before = False, None, None
        self.starts_at = self.now + self.random.choice([0.5, 20.0])

    def _end(self, process: Process) -> None:
        finished = process.engine.finished
        self.note(f"the search is over: {'' if finished is None else finished.reason.splitlines()[0]}")
        self._before = snapshot(process.engine)
        process.journal.close()
        self.process = None
        self.has_ended = self.is_complete(process.engine)
        if not self.has_ended:
            self.counts["stopped"] += 1
            self.starts_at = self.now + self.random.uniform(1.0, 100.0)

    @staticmethod
    def is_complete(engine: Engine) -> bool:
        """Whether the search ended because it is complete."""
        return engine.finished is not None and engine.finished.kind in (FinishKind.COMPLETE, FinishKind.EXHAUSTED)

    def _log_bytes(self) -> int:
        """Length of the journal's write-ahead log, which contains everything that was committed."""
        log = self.directory.journal.with_name("journal.sqlite-wal")
        return log.stat().st_size if log.exists() else 0

    def kill_master(self, synced: int | None = None) -> None:
        """Kill the master between two turns, or inside the commit of a turn whose answers are never sent.

        In the second case ``synced`` is the length of the log before; any part of the later bytes may be on the disk.
        """
        process = self.process
        # What a master holds that is killed before it finds its journal lost is lost with it.
        if process is None or self.journal_is_lost:
            return
        self.tears_next = False
        self.note(f"master {process.epoch} is killed" + (" while it commits" if synced is not None else ""))
        files = [self.directory.journal.with_name(f"journal.sqlite{suffix}") for suffix in ("", "-wal")]
        self._before = None if synced is not None or not process.has_answered_all else snapshot(process.engine)
        self.process = None
        self.starts_at = self.now + self.random.choice([0.5, 20.0, 200.0])
        if self.older is not None:
            # Another process has the file open, so no bytes can be lost.
            process.journal.close()
            return
        images = [file.read_bytes() if file.exists() else b"" for file in files]
        # Closing merges the log into the file, which a killed process does not do: the files are restored.
        process.journal.close()
        if synced is not None and synced < len(images[1]):
            self.counts["torn"] += 1
            images[1] = images[1][: self.random.randint(synced, len(images[1]))]
        for file, image in zip(files, images, strict=True):
            file.write_bytes(image)
        self.directory.journal.with_name("journal.sqlite-shm").unlink(missing_ok=True)

    def double_master(self) -> None:
        """Start the master's job a second time: the older master continues, without notice of the newer one."""
        if self.process is not None and self.older is None and not self.journal_is_lost:
            self.note(f"master {self.process.epoch} gets a double")
            self.older, self.process = self.process, None
            for worker in self.workers:
                worker.sees = self.random.choice(["older", "newer", "", ""])
            self.older.stopped_until = max(self.older.stopped_until, self.now + self.random.choice([0.0, 5.0, 60.0]))
            # Data that only the older one has in memory was never acknowledged.
            self._before = None
            self.starts_at = self.now

    def _end_older(self) -> None:
        if self.older is not None:
            self.older.journal.close()
            self.older = None

    def _limit_disk(self, journal: Journal) -> None:
        if self.disk_is_full_until is not None and self.now < self.disk_is_full_until:
            journal._connection.execute("PRAGMA query_only = 1")

    def _free_disk(self) -> None:
        for process in filter(None, (self.process, self.older)):
            process.journal._connection.execute("PRAGMA query_only = 0")
            process.journal._connection.execute("PRAGMA max_page_count = 1000000")

    def _watch(self, process: Process) -> None:
        """Check each entry when the engine of a master applies it."""
        engine, apply = process.engine, process.engine.apply

        def watched(entry: Entry) -> None:
            self._check_decision(process, entry)
            apply(entry)

        engine.apply = watched  # type: ignore[method-assign]  # a wrapper of it

    def _check_decision(self, process: Process, entry: Entry) -> None:
        """Check that the decision in an entry is permitted, under any faults."""
        state = process.engine.state
        match entry:
            case Leased(agent=agent) if state.is_given_back(entry):
                self.counts["given back"] += 1
                assert state.evaluations[entry.evaluation].agent_of[entry.attempt] == agent, "another agent's lease"
                assert state.finished is None, "a finished search gave a lease back"
                most = state.limits.max_concurrent
                assert most is None or len(state.held_by) < most, "more run than max_concurrent"
            case Leased():
                assert state.paused is None, "a paused search granted work"
                assert state.finished is None, "a finished search granted work"
                most = state.limits.max_concurrent
                assert most is None or len(state.held_by) < most, "more run than max_concurrent"
            case Expired(agent=agent, kind=ExpiryKind.SILENT) if not process.is_replaced:
                process.note_callers()
                silent_s = process.listened_s - process.called_at.get(agent, 0.0)
                # A lost connection leaves two heartbeats; the master may detect a deadline one turn late.
                least_s = 2 * self.settings.heartbeat_s - QUIET_TURN_S
                assert silent_s >= least_s, f"{agent} lost its lease after only {silent_s:.1f} s of silence"
            case Expired(agent=agent, kind=ExpiryKind.DEAD):
                self.counts["proven dead"] += 1
                assert self.all_workers[agent_of(agent)].is_gone, f"{agent} lost its lease as dead and lives"
            case Expired(agent=agent, kind=ExpiryKind.STOPPED):
                self.counts["proven stopped"] += 1
                assert self.now < self.all_workers[agent_of(agent)].stopped_until, f"{agent} is not stopped"
            case _:
                pass

    # --------------------------------------------------------------------------------------------------------- faults

    def inject_fault(self) -> None:
        """Inject one fault, or one command of the user."""
        draw = self.random
        self.next_fault_at = self.now + draw.expovariate(1 / self.fault_every_s)
        fault = draw.choice(self.faults)
        self.counts[fault.__name__] += 1
        fault(self)
        self._update_next_times()

    def _update_next_times(self) -> None:
        for worker in self.workers:
            worker.update_next_at()

    def a_worker(self) -> Worker | None:
        return self.random.choice(self.workers) if self.workers else None

    def heal(self) -> None:
        """End all faults: lost processes are replaced, stopped ones continue."""
        self.note("everything is healed")
        self.is_faulty = self.tears_next = False
        self.delayed.clear()
        self.disk_is_full_until = None
        self._free_disk()
        self._end_older()
        for worker in self.workers:
            worker.stopped_until = worker.requests_lost_until = worker.answers_lost_until = self.now
            worker.disk_is_full_until = self.now
        self._update_next_times()
        if self.source_version != self.accepted_version:
            # Otherwise all workers that are started from now on are refused.
            self.kill_master()
        if self.process is not None:
            self.process.stopped_until = self.now
        elif not self.has_ended:
            self.starts_at = min(self.starts_at, self.now)

    def run_until_over(self) -> None:
        """Liveness: after the faults have stopped the search must end, from any state."""
        until = self.now + LONGEST_S
        for _ in range(MOST_STEPS * (self.n_workers // 5 if self.is_large else 1)):
            if self.has_ended:
                return
            if self.now > until:
                break
            if self.process is not None and self.process.engine.state.paused is not None:
                self.command(ResumeRequest())
            if not self.workers:
                self.add_worker()
            self.step()
        waits = self.process.engine.waits(self.now) if self.process is not None else "there is no master"
        raise Broken(f"the search did not end within {LONGEST_S:g} s after it was healed: {waits}")

    # --------------------------------------------------------------------------------------------------------- checks

    def check(self) -> None:
        """Check the laws that must hold after every step."""
        process = self.process
        if process is None:
            return
        engine = process.engine
        at = (process.epoch, engine.state.position)
        # Rarely in a large world, because the check reads everything.
        if at != self._checked_at and (not self.is_large or self.counts["steps"] % 500 == 0):
            self._checked_at = at
            engine.validate()
        if engine.finished is None and self.counts["steps"] % (500 if self.is_large else 8) == 0:
            self._check_reasons(engine)
            self._check_attempts()

    def _check_attempts(self) -> None:
        """Check that no two agents work on the same attempt, so that no two write into one directory."""
        held = [held for each in self.workers for held in (each.agent.held.current, *each.agent.held.waiting)]
        attempts = [(each.evaluation, each.attempt) for each in held if each is not None]
        assert len(set(attempts)) == len(attempts), f"an attempt is held twice: {attempts}"

    def check_checkpoints(self, order: TrainerOrder) -> None:
        """Check that an attempt continues from its own evaluation's checkpoint, and loses none that was handed back."""
        saved = order.resume_directory
        if saved is not None:
            self.counts["continued"] += 1
            owner = (Path(saved) / CHECKPOINT).read_text()
            is_own = owner in (HALF, str(order.evaluation))
            assert is_own, f"{order.evaluation} is to continue from a checkpoint of {owner}"
        if self.process is not None:
            evaluation = self.process.engine.state.evaluations.get(order.evaluation)
            directories = {} if evaluation is None else evaluation.directories
            handed_back = [each for n, each in directories.items() if each and n > getattr(evaluation, "dropped", 0)]
            assert saved is not None or not handed_back, f"{order.evaluation} does not continue from {handed_back}"

    def _check_reasons(self, engine: Engine) -> None:
        """Check that the engine gives a reason if no agent works, or a rung waits for a silent agent."""
        waits = engine.waits(self.now)
        if not engine.state.held_by and not engine._leases.living(self.now):
            assert waits, "no agent works, and there is no reason"
        assert all(waiting.reason and (waiting.ends_in_s or 0.0) >= 0.0 for waiting in waits)

    def _check_replay_agrees(self, journal: Journal) -> None:
        """Check that a new master has the state of the old one, and everything that was acknowledged."""
        entries = [entry for _, _, entry in journal.entries()]
        if not entries:
            assert not self.acknowledged, "the journal is empty"
            return
        engine = engine_for(self.settings, self.space)
        engine.replay(entries)
        engine.validate()
        if self._before is not None and snapshot(engine) != self._before:
            raise Broken("replay gives another state than the one that was lived")
        self.check_acknowledged(entries)

    _before: dict[str, Any] | None = None

    def check_acknowledged(self, entries: list[Entry]) -> None:
        """Check that every acknowledged report is in the journal, as the outcome or as a late report."""
        kept = {
            (entry.evaluation, entry.attempt, entry.agent)
            for entry in entries
            if isinstance(entry, Recorded | SetAside | LateReport)
        }
        lost = [key for key, kind in self.acknowledged.items() if key not in kept and kind is not INFRASTRUCTURE]
        assert not lost, f"acknowledged and lost: {lost}"

    def check_the_end(self) -> None:
        """Check the journal of a whole search: complete, each evaluation once, verified."""
        with Journal.open(self.directory.journal, network_of=no_network) as journal:
            entries = [entry for _, _, entry in journal.entries()]
        self.check_acknowledged(entries)
        outcomes: Counter[EvaluationId] = Counter()
        retried: set[int] = set()
        engine = engine_for(self.settings, self.space)
        self._check_losses(entries)
        versions: dict[tuple[EvaluationId, int], int] = {}
        for entry in entries:
            engine.apply(entry)
            if isinstance(entry, Leased):
                source = engine.state.source or source_of(0)
                versions[entry.evaluation, entry.attempt] = source.version or 0
            if isinstance(entry, Recorded):
                self._check_source(entry, engine, versions)
                outcomes[entry.evaluation] += 1
            elif isinstance(entry, PutBack):
                outcomes[entry.evaluation] -= 1
                self.counts["put back"] += 1
                retried.add(engine.state.epoch)
            assert not outcomes or max(outcomes.values()) <= 1, f"counted twice: {outcomes}"
        for identity, evaluation in engine.state.evaluations.items():
            assert outcomes[identity] == 1, f"{identity} has no outcome"
            assert evaluation.outcome is not None
        assert len(retried) <= 1, f"failures were put back by more than one master: {retried}"
        for file in self.directory.left_reports():
            # No master served after it; then its report is recorded, or another attempt was first.
            left = wire.from_message(wire.decode(file.read_text()), LeftReport).report
            assert outcomes[left.evaluation] == 1, f"the report of {left.evaluation} was not recorded"
        self.entries = entries
        verification = self.verified(entries)
        assert verification.holds, verification.summary
        assert verification.is_bitwise, verification.summary

    @staticmethod
    def _check_source(entry: Recorded, engine: Engine, versions: Mapping[tuple[EvaluationId, int], int]) -> None:
        """A loss is that of its evaluation, with the source that was accepted when its attempt was leased."""
        identity, loss = entry.evaluation, entry.outcome.loss
        values, budget = engine.state.proposals[identity.config_id].values, engine.state.evaluations[identity].budget
        if loss is not None:
            expected = loss_of(values, budget) + EDIT * versions[identity, entry.attempt]
            assert loss == expected, f"{identity} has the loss of another evaluation, or source: {loss}"

    def _check_losses(self, entries: list[Entry]) -> None:
        """Lost attempts alone use an evaluation up: those that expired, and hand-backs without an order."""
        lost: Counter[EvaluationId] = Counter()
        unexplained: Counter[EvaluationId] = Counter()
        last: dict[EvaluationId, Entry] = {}
        for entry in entries:
            match entry:
                case Leased(evaluation=identity, attempt=attempt):
                    before = last.get(identity)
                    # The same attempt again: it was handed back.
                    if isinstance(before, Expired) and before.kind is not ExpiryKind.STOPPED:
                        lost[identity] -= before.attempt == attempt
                case Released(evaluation=identity, kind=kind):
                    self.counts[f"handed back {kind and kind.value}"] += 1
                    unexplained[identity] += kind is HandBackKind.UNEXPLAINED
                    lost[identity] += kind is HandBackKind.UNORDERED or (
                        kind is HandBackKind.UNEXPLAINED and unexplained[identity] > 2
                    )
                case Expired(evaluation=identity, kind=kind):
                    # A stopped worker has not used the attempt.
                    lost[identity] += kind is not ExpiryKind.STOPPED
                case Recorded(evaluation=identity, outcome=outcome):
                    is_lost = outcome.failure is not None and outcome.failure.kind is INFRASTRUCTURE
                    assert is_lost == (lost[identity] >= self.settings.max_attempts), (entry, lost[identity])
                    assert outcome.failure is None or outcome.failure.reason != HALF, f"half a file counts: {entry}"
                case SetAside():
                    self.counts["set aside"] += 1
                case _:
                    continue
            last[entry.evaluation] = entry

    def verified(self, entries: list[Entry]) -> Verification:
        settings = self.settings
        return verify(
            settings,
            self.space,
            lambda: make_sampler(settings.algorithm, self.space, settings.budgets, settings.sampler),
            entries,
            fingerprint=fingerprint(),
        )


INFRASTRUCTURE = FailureKind.INFRASTRUCTURE


@contextlib.contextmanager
def left_worlds() -> Iterator[list[Path]]:
    """Remove the directories that worlds of this process left behind within the context; yields their names."""
    parent = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    before = set(parent.glob(f"{PREFIX}*"))
    left: list[Path] = []
    yield left
    left += sorted(set(parent.glob(f"{PREFIX}*")) - before)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
