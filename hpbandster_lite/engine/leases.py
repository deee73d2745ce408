"""Deadlines of leases and the last message of each agent: kept in memory only, on the caller's monotonic clock.

Law of this file: nothing here is journalled. A deadline moves for four reasons: a heartbeat (or the repeated request
for the lease itself), a lost connection, a gap in which the master did not listen, and the start of a master, which
gives every open lease its full length again. A lease that lapsed is remembered until its agent sends anything but a
heartbeat. That an agent is dead or stopped is proven by the master, from outside.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from hpbandster_lite.protocol.learning_curves import joined
from hpbandster_lite.records import CurvePoint, EvaluationId


@dataclass(slots=True)
class Lease:
    """One open lease; ``curve`` holds the learning curve that its heartbeats reported so far."""

    evaluation: EvaluationId
    attempt: int
    deadline: float
    since: float
    last_message_at: float
    is_connected: bool = True
    is_stopped: bool = False
    """Whether its agent was found to be stopped since its last message."""
    curve: tuple[CurvePoint, ...] = ()


@dataclass(slots=True)
class Agent:
    """The name of an agent's worker, when its last message arrived, and why it takes no work, if so."""

    worker: str
    last_message_at: float
    hindrance: str | None = None


class Leases:
    """All open leases, by agent.

    Parameters
    ----------
    lease_s, heartbeat_s
        Length of a lease, and the time between two heartbeats.
    """

    def __init__(self, lease_s: float, heartbeat_s: float) -> None:
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._open: dict[str, Lease] = {}
        self._agents: dict[str, Agent] = {}
        self._lapsed: dict[str, tuple[EvaluationId, int]] = {}
        self.last_message_at: float | None = None
        """When the last message of any agent arrived."""
        # Earlier deadlines, too: an entry whose lease has a later deadline now is put back when its time comes.
        self._due: list[tuple[float, str]] = []

    def __iter__(self) -> Iterator[tuple[str, Lease]]:
        """Agents and their open leases."""
        return iter(self._open.items())

    def get(self, agent: str) -> Lease | None:
        """The open lease of an agent."""
        return self._open.get(agent)

    def living(self, now: float) -> dict[str, Agent]:
        """Agents with a message within one lease length."""
        return {name: agent for name, agent in self._agents.items() if now - agent.last_message_at <= self._lease_s}

    def silent_s(self, agent: str, now: float) -> float | None:
        """Seconds since the last message of a connected agent; None if there was none."""
        known = self._agents.get(agent)
        return None if known is None else now - known.last_message_at

    def note_message(self, agent: str, worker: str, now: float) -> None:
        """A message of an agent arrived; ``worker`` may be empty."""
        self.last_message_at = now
        lease = self._open.get(agent)
        if lease is not None:
            lease.last_message_at, lease.is_connected, lease.is_stopped = now, True, False
        known = self._agents.get(agent)
        if known is None:
            self._agents[agent] = Agent(worker, now)
            return
        known.last_message_at = now
        known.worker = worker or known.worker

    def note_stopped(self, agent: str) -> None:
        """The process of an agent was found to be stopped."""
        lease = self._open.get(agent)
        if lease is not None:
            lease.is_stopped = True

    def note_hindrance(self, agent: str, hindrance: str | None) -> None:
        """An agent that asks for work says why it takes none, or that it takes some."""
        known = self._agents.get(agent)
        if known is not None:
            known.hindrance = hindrance

    def open(self, agent: str, evaluation: EvaluationId, attempt: int, now: float) -> None:
        """Begin a lease."""
        self._lapsed.pop(agent, None)
        self._open[agent] = Lease(evaluation, attempt, now + self._lease_s, since=now, last_message_at=now)
        heapq.heappush(self._due, (now + self._lease_s, agent))

    def close(self, agent: str) -> None:
        """End a lease."""
        self._open.pop(agent, None)

    def lapse(self, agent: str, evaluation: EvaluationId, attempt: int) -> None:
        """End the lease of a silent agent, which may still be at work and come back."""
        self._open.pop(agent, None)
        self._lapsed[agent] = evaluation, attempt

    def forget_lapsed(self, agent: str) -> None:
        """An agent no longer works under a lease that lapsed."""
        self._lapsed.pop(agent, None)

    def has_lapsed(self, agent: str, evaluation: EvaluationId, attempt: int) -> bool:
        """Whether this lease lapsed, and its agent has sent nothing but heartbeats since."""
        return self._lapsed.get(agent) == (evaluation, attempt)

    def renew(self, agent: str, now: float, curve: tuple[CurvePoint, ...]) -> None:
        """Give a lease its full length again."""
        lease = self._open[agent]
        lease.deadline = now + self._lease_s
        # A new master gets all points again, of which it may have some.
        lease.curve = joined(lease.curve, curve)

    def shorten(self, agent: str, now: float) -> None:
        """A connection was lost, which does not prove that its agent died: it has two heartbeats to connect again."""
        self._agents.pop(agent, None)
        lease = self._open.get(agent)
        if lease is not None:
            lease.is_connected = False
        if lease is not None and lease.deadline > now + 2 * self._heartbeat_s:
            lease.deadline = now + 2 * self._heartbeat_s
            heapq.heappush(self._due, (lease.deadline, agent))

    def lengthen(self, gap_s: float) -> None:
        """Move every deadline."""
        for lease in self._open.values():
            lease.deadline += gap_s

    def expired(self, now: float) -> list[tuple[str, float]]:
        """Agents whose lease expired, with the seconds since their last message; oldest deadline first."""
        over = []
        while self._due and self._due[0][0] <= now:
            _, agent = heapq.heappop(self._due)
            lease = self._open.get(agent)
            if lease is None:
                continue
            if lease.deadline > now:
                heapq.heappush(self._due, (lease.deadline, agent))
                continue
            over.append((agent, now - lease.last_message_at))
        return list(dict(over).items())
