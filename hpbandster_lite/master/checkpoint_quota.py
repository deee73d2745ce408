"""Holds the checkpoints of a run within a quota.

Law of this file: the worst-ranked finished evaluations go first, and nothing that a lease or a promotion needs goes.
What was deleted is logged, with its size.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.hyperband.direction import result_text
from hpbandster_lite.records import ConfigId, Entry, EvaluationId
from hpbandster_lite.rundir import CheckpointSizes, RunDirectory, delete_attempts, size_text

log = logging.getLogger(__package__)

LOOK_EVERY_S = 5.0
"""Running evaluations are measured this often."""
MOST_NAMED = 20
"""Evaluations that a line of the log names."""


class CheckpointQuota:
    """Deletes checkpoints when all of them together take more than a limit.

    Parameters
    ----------
    directory
        The run directory.
    limit_bytes
        The quota.
    """

    def __init__(self, directory: RunDirectory, limit_bytes: int) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._sizes: CheckpointSizes | None = None
        self._changed: set[EvaluationId] = set()
        self._next_look = 0.0
        self._has_warned = False

    def note(self, entries: Iterable[Entry]) -> None:
        """Note the evaluations to which something has happened: what they saved is measured at the next look."""
        self._changed |= {entry.evaluation for entry in entries if hasattr(entry, "evaluation")}

    def note_swept(self, configurations: Iterable[ConfigId]) -> None:
        """Note configurations whose checkpoints were deleted because they are out of the search."""
        swept = set(configurations)
        if self._sizes is not None:
            self._changed |= {each for each in self._sizes.evaluations if each.config_id in swept}

    def look(self, engine: Engine, now: float, *, at_once: bool = False) -> None:
        """Measure what may have changed, and delete what is too much; called when all decisions are durable."""
        if now < self._next_look and not at_once:
            return
        self._next_look = now + LOOK_EVERY_S
        if self._sizes is None:
            self._sizes = CheckpointSizes(self._directory)
            self._changed |= engine.state.evaluations.keys()
        self._sizes.measure(self._changed | set(engine.state.held_by.values()))
        self._changed.clear()
        if self._sizes.total_bytes > self._limit_bytes:
            self._delete(engine, self._sizes)

    def _delete(self, engine: Engine, sizes: CheckpointSizes) -> None:
        before = sizes.total_bytes
        deleted = []
        for identity in engine.unneeded(sizes.evaluations):
            if sizes.total_bytes <= self._limit_bytes:
                break
            delete_attempts(self._directory.evaluation_directory(identity))
            deleted.append(f"{identity} ({_result(engine, identity)}, {size_text(sizes[identity])})")
            sizes.measure([identity])
        if deleted:
            more = f" and {len(deleted) - MOST_NAMED} others" if len(deleted) > MOST_NAMED else ""
            log.warning(
                "the checkpoints took %s, more than the quota of %s: deleted those of %s%s; %s are left",
                *(size_text(before), size_text(self._limit_bytes), ", ".join(deleted[:MOST_NAMED]), more),
                size_text(sizes.total_bytes),
            )
        is_over = sizes.total_bytes > self._limit_bytes
        if is_over and not self._has_warned:
            log.warning(
                "the checkpoints take %s, more than the quota of %s: the incumbent, running evaluations and promotions "
                "need the rest",
                *(size_text(sizes.total_bytes), size_text(self._limit_bytes)),
            )
        self._has_warned = is_over


def _result(engine: Engine, identity: EvaluationId) -> str:
    outcome = engine.state.evaluations[identity].outcome
    if outcome is None or outcome.loss is None:
        return "failed"
    return result_text(outcome.loss, maximize=engine.settings.maximize)
