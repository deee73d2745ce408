"""Slots: how an agent holds several leases at a time, for evaluations of milliseconds.

Law of this file: to the engine and the journal each slot is a separate agent with at most one lease. Only the agent,
the master's calls and the displayed tables know which slots belong together. Why: docs/decisions/0008-slots.md.
"""

from __future__ import annotations

MOST_SLOTS = 4
"""Leases of one agent at a time; slot 0 is the agent itself."""


def slot_name(agent: str, slot: int) -> str:
    """The engine's name for a slot of an agent; slot 0 has the agent's name."""
    return f"{agent}+{slot}" if slot else agent


def slot_names(agent: str) -> list[str]:
    """The names of all slots of an agent, the agent's name first."""
    return [slot_name(agent, slot) for slot in range(MOST_SLOTS)]


def agent_of(slot: str) -> str:
    """The agent that a slot belongs to."""
    return slot.partition("+")[0]
