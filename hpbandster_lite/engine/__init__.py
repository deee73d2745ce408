"""The whole search as a pure state machine: requests in, decisions and journal entries out."""

from hpbandster_lite.engine.answers import (
    Done,
    Effect,
    Exchanged,
    Grant,
    Granted,
    Keep,
    Retried,
    Stop,
    Turn,
    Wait,
    Waiting,
)
from hpbandster_lite.engine.core import Engine

__all__ = [
    "Done",
    "Effect",
    "Engine",
    "Exchanged",
    "Grant",
    "Granted",
    "Keep",
    "Retried",
    "Stop",
    "Turn",
    "Wait",
    "Waiting",
]
