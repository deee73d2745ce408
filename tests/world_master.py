"""The master of a simulated world: the real one, with a server that takes its requests from an inbox.

Law of this file: a turn has the order of the real server: all input, one commit, then the answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hpbandster_lite import wire
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.errors import SearchError
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.calls import Master
from hpbandster_lite.master.turns import Turns
from hpbandster_lite.protocol.messages import REQUESTS, ExchangeRequest, ReleaseRequest, RenewRequest, Request
from hpbandster_lite.protocol.slots import slot_name
from hpbandster_lite.transport import Busy, Call


def request_of(call: Call) -> Request[Any]:
    """The request in a call."""
    return _request(call.method, call.text)


@lru_cache(maxsize=64)
def _request(method: str, text: str) -> Request[Any]:
    """Read once, because several functions need it."""
    return wire.from_message(wire.decode(text), REQUESTS[method])


@dataclass
class Box:
    """The place of the answer to one request."""

    call: Call
    text: str | None = None
    error: SearchError | None = None
    is_sent: bool = False
    is_copy: bool = False
    """The request arrives long after its agent gave it up, and does not show that the agent is alive."""


class FakeServer:
    """A server with the turn of the real one: all input, one commit, then the answers."""

    def __init__(self) -> None:
        self.master: Master | None = None
        self.inbox: list[Box] = []
        self.closed: list[str] = []
        self.callers: set[str] = set()
        self._held: list[Box] = []
        self._is_behind = False

    def turn(self, timeout_s: float, *, commit: Callable[[], bool]) -> int:
        del timeout_s
        assert self.master is not None
        boxes, self.inbox = self.inbox, []
        handled = []
        for box in boxes:
            if self._is_behind:
                box.error, box.is_sent = Busy("the journal cannot be written at present", 1.0), True
                continue
            handled.append(box)
            if not box.is_copy:
                self._note_caller(box.call)
            try:
                box.text = self.master.handle(box.call)
            except SearchError as error:
                box.error = error
        if self._is_behind or handled:
            self._is_behind = not commit()
        self._held += handled
        if not self._is_behind:
            for box in self._held:
                box.is_sent = True
            self._held = []
        return len(handled)

    def _note_caller(self, call: Call) -> None:
        """A message about a lapsed attempt does not count for a lease that a late copy of a request has opened."""
        assert self.master is not None
        match request_of(call):
            case ExchangeRequest(agent=agent, slots=slots):
                self.callers.update(slot_name(agent, each.slot) for each in slots)
            case RenewRequest(agent=agent, attempt=attempt) | ReleaseRequest(agent=agent, attempt=attempt):
                lease = self.master.engine._leases.get(agent)
                if lease is None or attempt == lease.attempt:
                    self.callers.add(agent)
            case _:
                pass

    def closed_peers(self) -> list[str]:
        closed, self.closed = self.closed, []
        return closed


@dataclass(eq=False)
class Process:
    """A running master."""

    journal: Journal
    master: Master
    server: FakeServer
    turns: Turns
    epoch: int
    next_at: float
    stopped_until: float = 0.0
    turned_at: float = 0.0
    listened_s: float = 0.0
    """Time for which it has read its input, against which silence is measured."""
    is_replaced: bool = False
    """Whether another master has begun its epoch."""
    called_at: dict[str, float] = field(default_factory=dict)
    """Time of the last call of each agent, in ``listened_s``."""

    @property
    def engine(self) -> Engine:
        return self.master.engine

    def note_callers(self) -> None:
        """Record the agents whose calls were handled in this turn."""
        self.called_at.update(dict.fromkeys(self.server.callers, self.listened_s))
        self.server.callers.clear()

    @property
    def has_answered_all(self) -> bool:
        return not self.master._pending
