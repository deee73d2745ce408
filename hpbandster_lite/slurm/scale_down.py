"""Which workers leave when there are to be fewer: those whose going costs least.

Law of this file: values in, values out; it asks nobody.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from hpbandster_lite.records import Plain
from hpbandster_lite.slurm.parsing import QueuedJob


def leavers(workers: Sequence[QueuedJob], count: int, busy: Collection[str]) -> list[QueuedJob]:
    """The ``count`` workers to leave: first those that wait in the queue, then idle ones, then the youngest.

    Parameters
    ----------
    workers
        Those that live.
    count
        How many are to leave.
    busy
        Numbers of the jobs that evaluate something now.
    """

    def cost(index: int) -> tuple[bool, bool, int, int]:
        # Of those that cost the same, the one that came last leaves.
        worker = workers[index]
        return not worker.is_waiting, worker.number in busy, worker.used_s, -index

    return [workers[index] for index in sorted(range(len(workers)), key=cost)[:count]]


def busy_jobs(status: Mapping[str, Plain]) -> set[str]:
    """Numbers of the jobs whose workers evaluate something, by the status of the search."""
    names = (str(agent.get("worker", "")) for agent in status.get("agents", ()) if agent.get("evaluation") is not None)
    return {match[1] for match in (re.search(r"\bjob (\d+)", name) for name in names) if match}
