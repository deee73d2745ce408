"""The messages that the master has not acknowledged yet.

Law of this file: a message that was begun is sent again, unchanged and under the same number, until it is acknowledged;
only then is the next one made. So a lost answer can neither lease twice nor lose a result.
"""

from __future__ import annotations

from collections import deque

from hpbandster_lite.protocol.messages import ExchangeRequest, ReleaseRequest, SlotRequest
from hpbandster_lite.protocol.slots import slot_names
from hpbandster_lite.records import Report


class Outbox:
    """Holds the reports and releases of an agent and its slots, and numbers the requests.

    Parameters
    ----------
    agent
        Id of this incarnation of the agent.
    label
        The worker's display name.
    """

    def __init__(self, agent: str, label: str) -> None:
        self._agent = agent
        self._label = label
        self._slots = slot_names(agent)
        self._request = 0
        self._begun: ExchangeRequest | ReleaseRequest | None = None
        self._reported: list[str] = []
        self.reports: dict[str, Report] = {}
        """The reports that have not been acknowledged, by the agent or slot that held the lease."""
        self.releases: deque[ReleaseRequest] = deque()
        """The releases that have not been acknowledged."""

    def __bool__(self) -> bool:
        return bool(self.reports or self.releases or self._begun)

    @property
    def owes(self) -> bool:
        """Whether a report or a release has not been acknowledged; a mere question for work does not count."""
        return bool(self.reports or self.releases)

    def next(
        self, *, asks: int, time_left_s: float | None = None, hindrance: str | None = None
    ) -> ExchangeRequest | ReleaseRequest | None:
        """The message to send now, or None; it asks for ``asks`` leases unless a message must be repeated.

        ``time_left_s`` is how long this agent has left (None: no limit), ``hindrance`` why it takes no work now.
        """
        if self._begun is None:
            if self.releases:
                self._begun = self.releases[0]
            elif self.reports or asks:
                self._request += 1
                self._reported = list(self.reports)
                self._begun = self._exchange(asks, time_left_s, hindrance)
        return self._begun

    def acknowledge(self) -> None:
        """The message that :meth:`next` gave has been answered."""
        if isinstance(self._begun, ReleaseRequest):
            self.releases.popleft()
        else:
            for slot in self._reported:
                del self.reports[slot]
            self._reported = []
        self._begun = None

    def _exchange(self, asks: int, time_left_s: float | None, hindrance: str | None) -> ExchangeRequest:
        slots = tuple(
            [
                SlotRequest(slot=number, wants_lease=number < asks, report=self.reports.get(name))
                for number, name in enumerate(self._slots)
                if number == 0 or number < asks or name in self.reports
            ]
        )
        return ExchangeRequest(
            agent=self._agent,
            request=self._request,
            worker=self._label,
            slots=slots,
            time_left_s=time_left_s if asks else None,
            hindrance=hindrance if asks else None,
        )
