"""Promotions from the pool of all brackets, and what a sampler with a model for them is shown.

Law of this file: functions of the state, an entry and the sampler. The living engine and ``verify`` call the same ones.
"""

from __future__ import annotations

import numpy as np

from hpbandster_lite.engine.initial_proposals import vector_of
from hpbandster_lite.engine.state import State, is_shown_to_model
from hpbandster_lite.hyperband.ranking import pool_survivors
from hpbandster_lite.records import Entry, EvaluationId, Leased, ModelFitted, PutBack, Recorded, RungFilled, Sampled
from hpbandster_lite.samplers import Ranking
from hpbandster_lite.space import Array


def ranked(state: State, ranking: Ranking, bracket: int, rung: int) -> RungFilled:
    """The entry that fills a rung: the pool of the budget below, ranked by the losses and the model's means."""
    pool = state.candidates(bracket, rung)
    means = None
    # With one candidate there is nothing to rank, and the model may not be needed otherwise.
    if len(pool) > 1:
        means = ranking.full_budget_means(np.array([vector_of(state.proposals[config_id]) for config_id, _ in pool]))
    known = () if means is None else tuple(means.tolist())
    return RungFilled(
        bracket=bracket,
        rung=rung,
        promoted=tuple(pool_survivors(pool, known, state.brackets[bracket].rungs[rung].places)),
        basis=state.observed_at,
        fit=None if means is None else ranking.known_fits - 1,
        means=known,
    )


def follow(ranking: Ranking, entry: Entry, state: State) -> None:
    """Show the sampler what an applied entry says about running evaluations and fits."""
    match entry:
        case Sampled(config_id=config_id):
            ranking.begin(*vector_and_budget(state, EvaluationId(config_id, config_id.rung)))
        case Leased(evaluation=identity, attempt=1) | PutBack(evaluation=identity):
            ranking.begin(*vector_and_budget(state, identity))
        case Recorded(evaluation=identity, outcome=outcome) if not is_shown_to_model(outcome):
            ranking.end(*vector_and_budget(state, identity))
        case ModelFitted():
            ranking.adopt(entry)
        case _:
            pass


def vector_and_budget(state: State, identity: EvaluationId) -> tuple[Array, float]:
    """The names that the sampler has for an evaluation."""
    return vector_of(state.proposals[identity.config_id]), state.evaluations[identity].budget
