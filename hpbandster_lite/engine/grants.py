"""What an agent receives with a lease: the configuration, and where earlier attempts may have left checkpoints.

Law of this file: a grant is a function of the state after its lease was applied, so that the same request gets the same
grant again.
"""

from __future__ import annotations

from hpbandster_lite.engine.decision_types import Grant
from hpbandster_lite.engine.state import Evaluation, State
from hpbandster_lite.randomness import training_seed
from hpbandster_lite.records import EvaluationId, SearchSettings


def grant_of(state: State, settings: SearchSettings, identity: EvaluationId) -> Grant:
    """The grant of the lease that an evaluation has."""
    evaluation = state.evaluations[identity]
    below = state.evaluations.get(EvaluationId(identity.config_id, identity.rung - 1))
    return Grant(
        evaluation=identity,
        attempt=evaluation.attempts,
        values=state.proposals[identity.config_id].values,
        budget=evaluation.budget,
        seed=training_seed(settings.seed, identity.config_id),
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        previous_directory=below.outcome.directory if below is not None and below.outcome is not None else None,
        earlier=tuple(
            (n, evaluation.directories.get(n)) for n in range(evaluation.attempts - 1, evaluation.dropped, -1)
        ),
        note=_why_from_below(evaluation),
        timelines=evaluation.timelines,
    )


def _why_from_below(evaluation: Evaluation) -> str:
    """Why the attempt that is leased does not continue from the attempt before it; empty if it may."""
    if not evaluation.dropped or evaluation.dropped != evaluation.attempts - 1:
        return ""
    return (
        f"attempt {evaluation.dropped} failed after it had continued from an attempt that was cut off, so this attempt "
        "continues from the rung below"
    )
