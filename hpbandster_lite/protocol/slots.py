"""Lanes: how an agent holds several leases at a time, for evaluations of milliseconds.

Law of this file: to the engine and the journal a lane is an agent of its own, with one lease at most; only the agent,
the master's door and what people are shown know that lanes belong together. Why: docs/decisions/0008-lanes.md.
"""

from __future__ import annotations

MOST_LANES = 4
"""Leases of one agent at a time; the first lane is the agent itself."""


def lane_name(agent: str, lane: int) -> str:
    """What the engine calls a lane of an agent, from 0; the first has the agent's own name."""
    return f"{agent}+{lane}" if lane else agent


def lanes_of(agent: str) -> list[str]:
    """All names that the leases of an agent may be under, its own first."""
    return [lane_name(agent, lane) for lane in range(MOST_LANES)]


def agent_of(lane: str) -> str:
    """The agent that a lane belongs to."""
    return lane.partition("+")[0]


class Pace:
    """Says how many evaluations to take at a time, from how long the last ones took.

    Parameters
    ----------
    most
        Lanes at most; 1 for an agent that is to hold one lease, however short its evaluations are.
    """

    QUICK_S = 0.005
    """A round trip costs a quick evaluation more than the evaluation itself."""
    CERTAIN = 4
    """Quick ones in a row after which the next ones are taken to be quick as well."""
    PATIENCE_S = 0.05
    """One that lasts longer is not quick after all: what waits behind it is handed back, what was done is reported."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._quick = 0

    def note(self, duration_s: float | None) -> None:
        """An evaluation ended, without a duration if it did not end well."""
        self._quick = self._quick + 1 if duration_s is not None and duration_s < self.QUICK_S else 0

    @property
    def lanes(self) -> int:
        """How many evaluations to ask for at a time."""
        return self._most if self._quick >= self.CERTAIN else 1
