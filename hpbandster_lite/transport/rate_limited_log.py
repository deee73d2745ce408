"""Warnings about peers at a limited rate, so that a peer with ten thousand faults a second does not fill the disk.

Law of this file: at most one line per kind and interval; the next line counts the omitted ones.
"""

from __future__ import annotations

import logging


class RateLimitedLog:
    """Writes warnings to ``log``, each ``kind`` at most once in ``every_s`` seconds."""

    def __init__(self, log: logging.Logger, every_s: float = 10.0) -> None:
        self._log = log
        self._every_s = every_s
        self._next_at: dict[str, float] = {}
        self._omitted: dict[str, int] = {}

    def warn(self, kind: str, text: str, *, now: float) -> None:
        """Log ``text``, or count it if its kind was logged recently; ``now`` in seconds on the caller's clock."""
        if now < self._next_at.get(kind, now):
            self._omitted[kind] = self._omitted.get(kind, 0) + 1
            return
        self._next_at[kind] = now + self._every_s
        omitted = self._omitted.pop(kind, 0)
        self._log.warning("%s%s", text, f" (and {omitted} more like this before)" if omitted else "")
