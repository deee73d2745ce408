"""When a training saves its checkpoint: by the clock, at its end, and when it must stop.

Law of this file: saves change nothing in the training. They take a small share of the time, and a killed worker loses
little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hpbandster_lite.problems.trial import Interrupted

EVERY_S = 10.0
"""Seconds between two saves, at least: what a killed worker loses."""
SHARE = 0.02
"""Largest share of the time for these saves."""


class Saves:
    """The saves of one training.

    Parameters
    ----------
    save
        Saves the training as it is.
    """

    def __init__(self, save: Callable[[], object]) -> None:
        self._save = save
        self._next_at = time.monotonic() + EVERY_S

    def save_if_due(self) -> None:
        """Save if the last save was long enough ago."""
        if time.monotonic() >= self._next_at:
            self.save()

    def save(self) -> None:
        """Save now."""
        began = time.monotonic()
        self._save()
        now = time.monotonic()
        self._next_at = now + max(EVERY_S, (now - began) / SHARE)

    @contextmanager
    def saved_if_interrupted(self) -> Iterator[None]:
        """Save if the context ends because the evaluation must stop."""
        try:
            yield
        except Interrupted:
            self.save()
            raise
