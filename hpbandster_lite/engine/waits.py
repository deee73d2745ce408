"""What the search waits for, in part or as a whole, and until when at the latest.

Law of this file: it reads and changes nothing. While no worker runs anything, or a worker asks and gets no work, there
is at least one wait here. Time is linear in the open leases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from hpbandster_lite.engine.leases import Agent, Lease, Leases
from hpbandster_lite.engine.limits import (
    is_affordable,
    missing_results,
    why_nothing_new,
    why_on_hold,
    why_unaffordable,
)
from hpbandster_lite.engine.state import State
from hpbandster_lite.protocol.slots import agent_of
from hpbandster_lite.protocol.status import Waiting, is_silent

_Held: TypeAlias = tuple[str, Lease]


def waits_of(state: State, leases: Leases, *, now: float, heartbeat_s: float) -> tuple[Waiting, ...]:
    """Every wait, the most general first; none for a search that is over."""
    if state.finished is not None:
        return ()
    found = [_for_workers(state, leases, now), _for_limits(state)]
    return (*filter(None, found), *_for_rungs(state, leases, now, heartbeat_s))


def _for_workers(state: State, leases: Leases, now: float) -> Waiting | None:
    living = leases.living(now)
    if living:
        return _for_hindered(living)
    if leases.last_message_at is not None:
        ago_s = now - leases.last_message_at
        return Waiting(kind="worker", reason=f"no worker is left: the last message arrived {ago_s:.0f} s ago")
    if state.request_of:
        count = len({agent_of(name) for name in state.request_of})
        which = "the one earlier worker has not" if count == 1 else f"none of the {count} earlier workers has"
        return Waiting(kind="worker", reason=f"{which} found this master yet")
    return Waiting(kind="worker", reason="no worker has joined yet")


def _for_hindered(living: Mapping[str, Agent]) -> Waiting | None:
    """Workers that take no work; one of them is named with its reason."""
    hindered = sorted((agent.worker or name, agent.hindrance) for name, agent in living.items() if agent.hindrance)
    if not hindered:
        return None
    all_of_them = len({agent_of(name) for name in living})
    worker, hindrance = hindered[0]
    if all_of_them == 1:
        return Waiting(kind="worker", reason=f"worker {worker} takes no work: {hindrance}")
    which = f"{len(hindered)} of {all_of_them} workers {'takes' if len(hindered) == 1 else 'take'} no work"
    return Waiting(kind="worker", reason=f"{which}, {worker} because: {hindrance}")


def _for_limits(state: State) -> Waiting | None:
    if state.paused is not None:
        return Waiting(kind="paused", reason=why_on_hold(state) or "paused")
    reason = why_nothing_new(state) or why_on_hold(state)
    where = state.rung_with_work()
    if reason is None and not state.to_rerun and where is not None:
        budget = state.brackets[where[0]].rungs[where[1]].budget
        reason = None if is_affordable(state, budget) else why_unaffordable(state, budget)
    return None if reason is None else Waiting(kind="limit", reason=reason)


def _for_rungs(state: State, leases: Leases, now: float, heartbeat_s: float) -> list[Waiting]:
    """Rungs in which all places are taken, and rungs with a silent worker."""
    running: dict[tuple[int, int], list[_Held]] = defaultdict(list)
    for agent, lease in leases:
        running[state.place_of(lease.evaluation)].append((agent, lease))
    found = []
    for where, held in sorted(running.items()):
        silent = [
            (agent, lease)
            for agent, lease in held
            if not lease.is_connected or is_silent(now - lease.last_message_at, heartbeat_s)
        ]
        if silent:
            found.append(_for_silent(state, where, silent, now))
        elif not state.brackets[where[0]].rungs[where[1]].has_work:
            agent, lease = min(held, key=lambda each: (each[1].since, each[0]))
            runs = f"{len(held)} running, the longest for {now - lease.since:.0f} s by worker {_name(state, agent)}"
            found.append(Waiting(kind="rung", reason=f"{missing_results(state, where)}, {runs}"))
    return found


def _for_silent(state: State, where: tuple[int, int], silent: Sequence[_Held], now: float) -> Waiting:
    # The rung waits for all of them, so for the one whose lease ends last.
    agent, lease = max(silent, key=lambda each: (each[1].deadline, each[0]))
    others = {1: "", 2: ", another one is silent"}.get(len(silent), f", {len(silent) - 1} more are silent")
    how = f"silent for {now - lease.last_message_at:.0f} s" if lease.is_connected else "has lost its connection"
    if lease.is_stopped:
        how = f"is stopped (SIGCONT continues it), {how}"
    ends_in_s = max(0.0, lease.deadline - now)
    reason = f"worker {_name(state, agent)} {how}, its lease ends in {ends_in_s:.0f} s{others}"
    return Waiting(kind="rung", reason=f"{missing_results(state, where)}, {reason}", ends_in_s=ends_in_s)


def _name(state: State, agent: str) -> str:
    return state.worker_of.get(agent) or agent
