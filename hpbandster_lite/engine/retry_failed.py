"""Which failures may be run again because the code was corrected.

Law of this file: it reads the state and changes nothing. A start and the note that announces it call one function.
"""

from __future__ import annotations

from collections import Counter

from hpbandster_lite.engine.decision_types import Retried
from hpbandster_lite.engine.state import MENDABLE, State
from hpbandster_lite.records import FailureKind


def retriable(state: State) -> Retried:
    """What a start with ``retry_failed`` puts back, and what it leaves (:meth:`Engine.start` explains why)."""
    put_back, decided, others = [], [], Counter[FailureKind]()
    for identity, evaluation in state.evaluations.items():
        failure = evaluation.outcome.failure if evaluation.outcome is not None else None
        if failure is None:
            continue
        if state.may_retry(identity):
            put_back.append(identity)
        elif failure.kind in MENDABLE:
            decided.append(identity)
        else:
            others[failure.kind] += 1
    return Retried(put_back=tuple(put_back), decided=tuple(decided), others=others)
