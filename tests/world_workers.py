"""The workers of a simulated world: real agents on a virtual clock, with a trainer and a connection of the world.

Law of this file: the agent is the real one; only its clock, its signals, its trainer and its connection are
simulated. The network in :mod:`tests.world` decides the fate of a call.
"""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpbandster_lite import wire
from hpbandster_lite.agent.loop import Agent
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.own_disk import OwnDisk, Room
from hpbandster_lite.errors import SourceDiffers, UsageError
from hpbandster_lite.process.identity import Condition
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.protocol.messages import (
    Hello,
)
from hpbandster_lite.records import (
    Plain,
    ProcessIdentity,
)
from hpbandster_lite.transport import Call
from tests.world_trainer import OBJECTIVE, FakeTrainer

if TYPE_CHECKING:
    from tests.world import World


@dataclass
class EndRequest:
    """The reason for which an agent must end, in place of its signals."""

    given: str | None = None
    exit_code: int = INTERRUPTED
    descriptors: tuple[int, ...] = ()
    is_unexplained: bool = False
    own: list[str] = field(default_factory=list)
    """What the objective sent to its own worker."""

    def reason(self, readable: set[int]) -> str | None:
        del readable
        return self.given

    def own_signals(self) -> list[str]:
        own, self.own = self.own, []
        return own


@dataclass(eq=False)
class Worker:
    """One agent in the view of the scheduler: busy while it waits for an answer, stopped, cut off, or ended."""

    world: World
    name: str
    index: int
    end_request: EndRequest = field(default_factory=EndRequest)
    busy_until: float = 0.0
    stopped_until: float = 0.0
    requests_lost_until: float = 0.0
    """Whether its requests are lost."""
    answers_lost_until: float = 0.0
    """Whether the answers to it are lost."""
    sees: str = ""
    """Which of two masters it reaches: the ``older``, the ``newer``, or both."""
    ends_by: float = math.inf
    """Time at which its allocation ends and it is killed."""
    zero_s: float = 0.0
    rate: float = 1.0
    """Its clock: its value at time 0 of the world, and its rate."""
    disk_is_full_until: float = 0.0
    trainers: list[FakeTrainer] = field(default_factory=list)
    connections: int = 0
    is_gone: bool = False
    wakes_at: float = 0.0
    due_at: float = 0.0
    """Time of its next turn; stored, because each step searches a thousand workers for the next one."""
    changed: dict[str, Any] = field(default_factory=dict)
    """Options that differ from those of its world."""

    def __post_init__(self) -> None:
        # After this time without a master an agent leaves its report in the run directory, and ends.
        timeout_s = self.world.random.choice([40.0, 1_800.0])
        options: dict[str, Any] = {
            "problem": OBJECTIVE,
            "run_dir": str(self.world.directory.path),
            "master_timeout_s": timeout_s,
            "grace_s": 5.0,
            "index": self.index,
            "isolation": "none" if self.world.is_quick else "trainer",
        }
        self.options = AgentOptions(**{**options, **self.changed})
        self.agent = Agent(
            self.options,
            self.connect,
            self.start_trainer,  # type: ignore[arg-type]  # a stand-in of it
            self.end_request,  # type: ignore[arg-type]  # a stand-in of it
            clock=self.clock,
            name=self.name,
            jitter=random.Random(self.world.random.random()),
            disk=OwnDisk(str(self.world.directory.path), room_of=self.room_of),
        )

    def clock(self) -> float:
        return self.zero_s + self.rate * max(self.world.now, self.busy_until)

    @property
    def process(self) -> ProcessIdentity:
        """Three of four workers are on the master's machine."""
        pid = int(self.name[1:] or 1)
        return ProcessIdentity(
            host="near" if pid % 4 else "far", pid=pid, boot_id="1", pid_namespace="pid:[1]", started_ticks=pid
        )

    @property
    def condition(self) -> Condition:
        """What the master can find out about its process."""
        if self.process.host == "far":
            return Condition.UNKNOWN
        if self.is_gone:
            return Condition.DEAD
        return Condition.STOPPED if self.world.now < self.stopped_until else Condition.RUNS

    def world_time(self, at: float) -> float:
        """World time at which its clock shows ``at``; a little later, because the conversion may round down."""
        return (at - self.zero_s) / self.rate + 1e-6

    @property
    def has_room(self) -> bool:
        return self.world.now >= self.disk_is_full_until

    def room_of(self, folder: str, _writes: bool) -> Room:
        return Room(1e9, "") if self.has_room else Room(0.0, f"no room on the disk of {folder}")

    def start_trainer(self) -> FakeTrainer:
        self.trainers = [FakeTrainer(self)]
        return self.trainers[0]

    def connect(self, _hello: Hello, _epoch: int) -> Connection:
        self.connections += 1
        return Connection(self, f"{self.name}#{self.connections}")

    def update_next_at(self) -> None:
        """Compute the time of its next turn; to be called after every change that affects it."""
        self.due_at = min(max(self.wakes_at, self.busy_until, self.stopped_until), self.ends_by)

    @property
    def next_at(self) -> float:
        return max(self.due_at, self.world.now)

    def turn(self) -> None:
        if self.world.now >= self.ends_by:
            self.world.note(f"{self.name} ends with its allocation")
            self.world.cut(f"{self.name}#{self.connections}")
            self.is_gone = True
            return
        try:
            self.agent.turn(set())
            message_at = self.trainers[0].next_at if self.trainers else math.inf
            self.world.counts["in slots"] += len(self.agent.held.waiting)
            self.wakes_at = self.world_time(min(self.agent.next_due(), message_at))
            self.update_next_at()
        except UsageError as error:
            raise AssertionError(f"agent {self.name} was refused: {error}") from error
        code = self.agent.exit_code
        if code is not None:
            if math.isfinite(self.ends_by):
                expected = (0, REQUEUE, SourceDiffers.exit_code)
                assert code in expected, f"{self.name} had to end with its allocation, and ended with {code}"
                self.world.counts["pre-empted in time"] += code == REQUEUE
            self.world.note(f"{self.name} ends with {code}")
            self.agent.close()
            self.is_gone = True


class Connection:
    """The connection that an agent's link calls; the network decides the fate of each call."""

    def __init__(self, worker: Worker, peer: str) -> None:
        self._worker = worker
        self._peer = peer

    def call(self, method: str, message: Plain) -> Plain:
        link = self._worker.agent.conversation.link
        # It outlives a master in this world; in ours, the next master is greeted with what the agent knows by then.
        hello = None if link is None else wire.to_message(replace(link._hello, **asdict(self._worker.process)))
        return self._worker.world.carry(self._worker, Call(method, wire.encode(message), self._peer, hello))

    def close(self) -> None:
        self._worker.world.cut(self._peer)
