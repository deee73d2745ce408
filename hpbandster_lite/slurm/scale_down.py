"""Chooses the workers to end when a search scales down, so that the least work is lost.

Law of this file: pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from hpbandster_lite.protocol.status import Status
from hpbandster_lite.slurm.parsing import QueuedJob


def cheapest_to_end(workers: Sequence[QueuedJob], count: int, busy: Collection[str]) -> list[QueuedJob]:
    """The ``count`` workers to end: first those in the queue, then idle ones, then the most recently started.

    Parameters
    ----------
    workers
        Workers that run or wait in the queue.
    count
        How many to end.
    busy
        Numbers of the jobs that are evaluating a configuration.
    """

    def cost(index: int) -> tuple[bool, bool, int, int]:
        # At equal cost the last worker of the list ends first.
        worker = workers[index]
        return not worker.is_waiting, worker.number in busy, worker.used_s, -index

    return [workers[index] for index in sorted(range(len(workers)), key=cost)[:count]]


def busy_jobs(status: Status) -> set[str]:
    """Numbers of the jobs whose workers are evaluating a configuration, from the status of the search."""
    names = (agent.worker for agent in status.agents if agent.is_busy)
    return {match[1] for match in (re.search(r"\bjob (\d+)", name) for name in names) if match}
