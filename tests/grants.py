"""Grants of a master for tests of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpbandster_lite.protocol.messages import Grant
from hpbandster_lite.records import ConfigId, EvaluationId

HEARTBEAT_S = 0.02


def grant(values: Mapping[str, Any], number: int = 0, **changed: Any) -> Grant:
    """A grant of these values; all other fields have values that a test can recognise."""
    fields: dict[str, Any] = {
        "evaluation": EvaluationId(ConfigId(2, 0, number), 1),
        "attempt": 1,
        "values": dict(values),
        "budget": 3.0,
        "max_budget": 9.0,
        "budgets": (1.0, 3.0, 9.0),
        "unit": "steps",
        "seed": 11,
        "heartbeat_s": HEARTBEAT_S,
    }
    return Grant(**{**fields, **changed})
