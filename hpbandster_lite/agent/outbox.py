"""What the master has yet to acknowledge.

Law of this file: a message that was begun is said again, word for word and under the same number, until it is
acknowledged; only then is the next one made. So a lost answer can neither lease twice nor lose a result.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hpbandster_lite import wire
from hpbandster_lite.protocol.slots import lanes_of
from hpbandster_lite.records import Plain, Report


class Message(NamedTuple):
    """One call of the master."""

    method: str
    content: dict[str, Plain]


class Outbox:
    """Holds the reports and releases of an agent and its lanes, and numbers the requests.

    Parameters
    ----------
    agent
        Id of this incarnation of the agent.
    label
        What people call the worker.
    """

    def __init__(self, agent: str, label: str) -> None:
        self._agent = agent
        self._label = label
        self._lanes = lanes_of(agent)
        self._request = 0
        self._begun: Message | None = None
        self._said: list[str] = []
        self.reports: dict[str, Report] = {}
        """The reports that have not been acknowledged, by the agent or lane that held the lease."""
        self.releases: deque[dict[str, Plain]] = deque()
        """The releases that have not been acknowledged."""

    def __bool__(self) -> bool:
        return bool(self.reports or self.releases or self._begun)

    @property
    def owes(self) -> bool:
        """Whether there is a report or a release that the master has not acknowledged; a question is no debt."""
        return bool(self.reports or self.releases)

    def hand_back(self, lease: dict[str, Plain], reason: str, directory: str | None) -> None:
        """Put in the release of a lease, given by holder, evaluation and attempt."""
        self.releases.append({**lease, "reason": reason, "directory": directory})

    def next(self, *, asks: int, time_left_s: float | None = None) -> Message | None:
        """What to say now, or None; ``asks`` for so many leases, unless there is something to say again.

        ``time_left_s`` is how long this agent has left; None for no limit.
        """
        if self._begun is None:
            if self.releases:
                self._begun = Message("release", self.releases[0])
            elif self.reports or asks:
                self._request += 1
                self._said = list(self.reports)
                self._begun = Message("exchange", self._exchange(asks, time_left_s))
        return self._begun

    def acknowledge(self) -> None:
        """What :meth:`next` gave has been answered."""
        if self._begun is not None and self._begun.method == "release":
            self.releases.popleft()
        else:
            for lane in self._said:
                del self.reports[lane]
            self._said = []
        self._begun = None

    def _told(self, lane: str) -> dict[str, Plain] | None:
        report = self.reports.get(lane)
        return None if report is None else wire.to_message(report)

    def _exchange(self, asks: int, time_left_s: float | None) -> dict[str, Plain]:
        limit = {} if time_left_s is None or not asks else {"time_left_s": time_left_s}
        report, *others = map(self._told, self._lanes)
        lanes = [
            {"lane": lane, "want_lease": lane < asks, "report": told}
            for lane, told in enumerate(others, 1)
            if lane < asks or told is not None
        ]
        return {
            "agent": self._agent,
            "request": self._request,
            "worker": self._label,
            "want_lease": asks > 0,
            "report": report,
            **({"lanes": lanes} if lanes else {}),
            **limit,
        }
