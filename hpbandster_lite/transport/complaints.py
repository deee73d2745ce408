"""Log lines about strangers, bounded: a peer that misbehaves ten thousand times a second fills no disk.

Law of this file: at most one line per kind and interval; what was left out is counted in the next line.
"""

from __future__ import annotations

import logging


class Complaints:
    """Writes warnings, each ``kind`` at most once in ``every_s`` seconds."""

    def __init__(self, log: logging.Logger, every_s: float = 10.0) -> None:
        self._log = log
        self._every_s = every_s
        self._next_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def about(self, kind: str, what: str, *, now: float) -> None:
        """Say ``what``, or count it if its kind had its line; ``now`` in seconds on the caller's clock."""
        if now < self._next_at.get(kind, now):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next_at[kind] = now + self._every_s
        left_out = self._left_out.pop(kind, 0)
        self._log.warning("%s%s", what, f" (and {left_out} more like this before)" if left_out else "")
