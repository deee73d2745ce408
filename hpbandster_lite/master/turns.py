"""The turns of a master: the order in which it reads, ends leases, looks for left reports, commits, and deletes.

Law of this file: leases end only after all input was read, and checkpoints are deleted only after the commit. No lease
ends for time in which the master did not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from hpbandster_lite.master.calls import Master

GAP_S = 1.0
"""A turn that took longer by this lengthens all leases: no lease expires for time in which the master did not read."""
TURN_S = 0.25
LEFT_REPORTS_EVERY_S = 5.0
PROCESSES_EVERY_S = 1.0
"""How often the master looks whether agents of its machine are dead or stopped; a look takes 20 µs for each."""


class Serves(Protocol):
    """What turns need of :class:`hpbandster_lite.transport.Server`."""

    def turn(self, timeout_s: float, *, commit: Callable[[], bool]) -> int:
        """Handle all pending requests, commit, answer."""

    def closed_peers(self) -> list[str]:
        """Connections that have ended since."""


class Turns:
    """The turns of a master: read and answer all input, then end leases, look for what was left, commit, and delete.

    Parameters
    ----------
    server, master
        The server reads and answers, the master decides.
    clock
        The master's.
    """

    def __init__(self, server: Serves, master: Master, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._master = master
        self._clock = clock
        self._last = self._next_look = self._next_process_look = clock()
        self._leaves_at: float | None = None

    def take(self) -> bool:
        """One turn; True once the search is over and every connected agent knows it, or one lease length has passed."""
        master = self._master
        was_stalled = master.is_stalled
        self._server.turn(TURN_S, commit=master.commit)
        now = self._clock()
        passed_s, self._last = now - self._last, now
        if was_stalled or master.is_stalled:
            # No heartbeat was handled: a full disk must not cost a lease.
            master.engine.lengthen(passed_s)
        elif passed_s - TURN_S > GAP_S:
            master.engine.lengthen(passed_s - TURN_S)
        master.expire(self._server.closed_peers(), now)
        if now >= self._next_look:
            master.take_left_reports()
            self._next_look = now + LEFT_REPORTS_EVERY_S
        if now >= self._next_process_look and not master.is_stalled:
            master.look_at_processes(now)
            self._next_process_look = now + PROCESSES_EVERY_S
        is_durable = master.commit()
        if is_durable:
            master.sweep(now)
        if not is_durable or master.engine.finished is None:
            self._leaves_at = None
            return False
        self._leaves_at = now + master.engine.settings.lease_s if self._leaves_at is None else self._leaves_at
        return not master.waits_for_agents or now >= self._leaves_at
