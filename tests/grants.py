"""Grants of a master, made up for tests of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpbandster_lite.records import Plain

HEARTBEAT_S = 0.02


def grant(values: Mapping[str, Any], number: int = 0, **changed: Any) -> dict[str, Plain]:
    """A grant of these values; everything else has a value that a test can recognise."""
    return {
        "evaluation": [[2, 0, number], 1],
        "attempt": 1,
        "values": dict(values),
        "budget": 3.0,
        "max_budget": 9.0,
        "budgets": [1.0, 3.0, 9.0],
        "unit": "steps",
        "seed": 11,
        "lease_s": 1.0,
        "heartbeat_s": HEARTBEAT_S,
        "previous_directory": None,
        "resume_directories": [],
        "keep_checkpoints": "needed",
        **changed,
    }
