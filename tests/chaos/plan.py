"""The plan of faults: a list that follows from a seed and exists before the run starts.

Law of this file: arithmetic and one generator. The counts of any two kinds differ by at most one, so that a short plan
covers the same kinds as a long one. A victim is a number in [0, 1), from which the driver selects a process or a host.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

PROCESSES = (
    *("agent_killed", "trainer_killed", "master_killed", "nameserver_killed", "machine_lost"),
    *("agent_stopped", "trainer_stopped", "master_stopped"),
    *("agent_asked_to_end", "agent_preempted", "master_preempted"),
    *("worker_doubled", "master_doubled"),
)
"""Faults that need only permission to send signals."""
LINKS = (
    *("worker_silent", "worker_requests_lost", "worker_answers_lost", "worker_unplugged", "worker_lossy"),
    *("worker_throttled", "worker_dropped", "worker_reset", "master_silent", "master_lossy", "half_partitioned"),
)
"""Faults that need network namespaces."""
DISKS = ("disk_full",)
"""Faults that need a separate file system."""
CLOCKS = ("master_clock_jumps", "worker_clock_jumps")
"""Faults that need libfaketime."""
KINDS = (*PROCESSES, *LINKS, *DISKS, *CLOCKS)

SHORT_S, LONG_S = (0.3, 1.5, 3.0), (6.0, 9.0, 14.0)
"""A lasting fault is shorter than a lease of 4 s, or longer than a lease and than the 5 s of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault: seconds after the previous one, victim, duration, and strength (percent, kbit/s or days)."""

    number: int
    kind: str
    after_s: float
    victim: float
    lasts_s: float
    strength: int


def plan(seed: int, count: int, kinds: Collection[str] = KINDS, *, every_s: float = 1.5) -> list[Fault]:
    """The faults of a run.

    Parameters
    ----------
    seed
        Everything follows from it.
    count
        Number of faults.
    kinds
        A selection of :data:`KINDS`, in any order.
    every_s
        Mean time between two faults, in seconds.

    Raises
    ------
    ValueError
        If a kind is unknown.
    """
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown or not kinds:
        given = ", ".join(unknown) or "none at all"
        raise ValueError(f"unknown kinds of faults: {given}; choose of {', '.join(KINDS)}")
    draw = random.Random(seed)
    deck: list[str] = []
    faults = []
    for number in range(1, count + 1):
        if not deck:
            deck = sorted(kinds)
            draw.shuffle(deck)
        kind = deck.pop()
        faults.append(
            Fault(
                number=number,
                kind=kind,
                after_s=draw.expovariate(1 / every_s),
                victim=draw.random(),
                lasts_s=draw.choice(draw.choice((SHORT_S, LONG_S))),
                strength=_strength(kind, draw),
            )
        )
    return faults


def _strength(kind: str, draw: random.Random) -> int:
    if kind.endswith("lossy"):
        return draw.choice((20, 25, 30))
    if kind.endswith("throttled"):
        return draw.choice((32, 100, 500))
    return draw.choice((-1, 1))
