"""The whole search as a pure state machine: requests in, decisions and journal entries out."""

from hpbandster_lite.engine.answers import Done, Exchanged, Grant, Granted, Keep, Stop, Turn, Wait
from hpbandster_lite.engine.core import Engine

__all__ = ["Done", "Engine", "Exchanged", "Grant", "Granted", "Keep", "Stop", "Turn", "Wait"]
