"""The whole search as a pure state machine: requests in, decisions and journal entries out.

Law of this room: no clock, no files, no threads; the same entries give the same state, and the same state the same next
decision.

:mod:`~hpbandster_lite.engine.engine` answers requests and commands, :mod:`~hpbandster_lite.engine.decisions` says what
comes next, :mod:`~hpbandster_lite.engine.state` is what the journal's entries add up to, and
:mod:`~hpbandster_lite.engine.leases` what only a living master knows. :mod:`~hpbandster_lite.engine.waits`,
:mod:`~hpbandster_lite.engine.hints`, :mod:`~hpbandster_lite.engine.same_fault` and
:mod:`~hpbandster_lite.engine.status` tell people how it stands; :mod:`~hpbandster_lite.engine.invariants` and
:mod:`~hpbandster_lite.engine.verify` prove that all of it is so.
"""

from hpbandster_lite.engine.decision_types import (
    Done,
    Effect,
    Exchanged,
    Grant,
    Granted,
    Keep,
    Leave,
    Retried,
    Stop,
    Turn,
    Wait,
)
from hpbandster_lite.engine.engine import Engine, state_for
from hpbandster_lite.engine.retry_failed import retriable

__all__ = [
    "Done",
    "Effect",
    "Engine",
    "Exchanged",
    "Grant",
    "Granted",
    "Keep",
    "Leave",
    "Retried",
    "Stop",
    "Turn",
    "Wait",
    "retriable",
    "state_for",
]
