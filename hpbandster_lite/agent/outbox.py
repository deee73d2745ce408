"""What the master has yet to acknowledge.

Law of this file: a message that was begun is said again, word for word and under the same number, until it is
acknowledged; only then is the next one made. So a lost answer can neither lease twice nor lose a result.
"""

from __future__ import annotations

from typing import NamedTuple

from hpbandster_lite import wire
from hpbandster_lite.records import Plain, Report


class Message(NamedTuple):
    """One call of the master."""

    method: str
    content: dict[str, Plain]


class Outbox:
    """Holds at most one report or one release, and numbers the requests.

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
        self._request = 0
        self._release: dict[str, Plain] | None = None
        self._begun: Message | None = None
        self.report: Report | None = None
        """The report that has not been acknowledged."""

    def __bool__(self) -> bool:
        return bool(self.report or self._release or self._begun)

    @property
    def release(self) -> dict[str, Plain] | None:
        """The release that has not been acknowledged."""
        return self._release

    @property
    def owes(self) -> bool:
        """Whether there is a report or a release that the master has not acknowledged; a question is no debt."""
        return bool(self.report or self._release)

    def hand_back(self, lease: dict[str, Plain], reason: str, directory: str | None) -> None:
        """Put in the release of a lease, given by evaluation and attempt."""
        self._release = {"agent": self._agent, **lease, "reason": reason, "directory": directory}

    def next(self, *, asks: bool, time_left_s: float | None = None) -> Message | None:
        """What to say now, or None; ``asks`` for a lease, unless there is something to say again.

        ``time_left_s`` is how long this agent has left; None for no limit.
        """
        if self._begun is None:
            if self._release is not None:
                self._begun = Message("release", self._release)
            elif self.report is not None or asks:
                self._request += 1
                self._begun = Message("exchange", self._exchange(asks, time_left_s))
        return self._begun

    def acknowledge(self) -> None:
        """What :meth:`next` gave has been answered."""
        if self._begun is not None and self._begun.method == "release":
            self._release = None
        else:
            self.report = None
        self._begun = None

    def _exchange(self, asks: bool, time_left_s: float | None) -> dict[str, Plain]:
        limit = {} if time_left_s is None or not asks else {"time_left_s": time_left_s}
        return {
            "agent": self._agent,
            "request": self._request,
            "worker": self._label,
            "want_lease": asks,
            "report": None if self.report is None else wire.to_message(self.report),
            **limit,
        }
