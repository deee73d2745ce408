"""How many evaluations an agent leases at a time.

Law of this file: decided from the durations of the last evaluations, and from nothing else.
"""

from __future__ import annotations


class Pace:
    """Decides how many evaluations to lease at a time, from the durations of the last ones.

    Parameters
    ----------
    most
        Most slots to use; 1 for an agent that holds one lease, however short its evaluations are.
    """

    QUICK_S = 0.005
    """A round trip costs a quick evaluation more than the evaluation itself."""
    CERTAIN = 4
    """Quick evaluations in a row after which the next ones are expected to be quick, too."""
    PATIENCE_S = 0.05
    """An evaluation that takes longer is not quick: those that wait behind it are handed back, finished ones reported.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._quick = 0

    def note(self, duration_s: float | None) -> None:
        """Take the duration of an evaluation that ended; None if it failed."""
        self._quick = self._quick + 1 if duration_s is not None and duration_s < self.QUICK_S else 0

    @property
    def slots(self) -> int:
        """How many evaluations to ask for at a time."""
        return self._most if self._quick >= self.CERTAIN else 1
