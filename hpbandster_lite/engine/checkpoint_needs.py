"""Which checkpoints a search still needs, and in which order it can do without the others.

Law of this file: it reads the state and changes nothing. A finished evaluation's checkpoint is needed while the
configuration is, or may be, promoted, and until its next evaluation has an outcome.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from hpbandster_lite.engine.state import State
from hpbandster_lite.hyperband.ranking import IncumbentKey, incumbent_key, result_key, survivors
from hpbandster_lite.records import ConfigId, EvaluationId


def best_configurations(state: State, count: int) -> frozenset[ConfigId]:
    """The best configurations, each by its best result; the incumbent is the first."""
    if count == 1:
        return frozenset() if state.best is None else frozenset({state.best.config_id})
    best: dict[ConfigId, IncumbentKey] = {}
    for identity, evaluation in state.evaluations.items():
        loss = None if evaluation.outcome is None else evaluation.outcome.loss
        if loss is not None:
            key = incumbent_key(evaluation.budget, loss, identity.config_id)
            best[identity.config_id] = min(key, best.get(identity.config_id, key))
    return frozenset(config_id for _, _, config_id in heapq.nsmallest(count, best.values()))


def unneeded(state: State, evaluations: Iterable[EvaluationId]) -> list[EvaluationId]:
    """Those of the evaluations that neither a lease nor a promotion needs, the worst first; never the incumbent's."""
    contenders: dict[tuple[int, int], frozenset[ConfigId]] = {}
    found = []
    for identity in evaluations:
        known = state.evaluations.get(identity)
        if known is None or known.outcome is None or _is_incumbent(state, identity):
            continue
        if not _is_needed_above(state, identity, contenders):
            found.append((result_key(known.budget, known.outcome.loss, identity.config_id), identity))
    return [identity for _, identity in sorted(found, reverse=True)]


def _is_incumbent(state: State, identity: EvaluationId) -> bool:
    best = state.best
    return best is not None and (best.config_id, best.rung) == identity


def _is_needed_above(
    state: State, identity: EvaluationId, contenders: dict[tuple[int, int], frozenset[ConfigId]]
) -> bool:
    above = state.evaluations.get(EvaluationId(identity.config_id, identity.rung + 1))
    if above is not None:
        return above.outcome is None
    where = state.place_of(identity)
    if where not in contenders:
        contenders[where] = _contenders(state, *where)
    return identity.config_id in contenders[where]


def _contenders(state: State, number: int, index: int) -> frozenset[ConfigId]:
    """The configurations of a rung that are promoted, or would be if no better result came."""
    rungs = state.brackets[number].rungs
    if index + 1 == len(rungs):
        return frozenset()
    above = rungs[index + 1]
    if state.promotion == "pool":
        return _of_the_pool(state, rungs[index].budget, above.budget)
    if above.is_open:
        return frozenset(above.promoted)
    return frozenset(survivors(rungs[index].done, above.places))


def _of_the_pool(state: State, budget: float, budget_above: float) -> frozenset[ConfigId]:
    """The configurations with a loss at a budget that are promoted, or may be: as many as a rung above has places."""
    rungs = [rung for bracket in state.brackets for rung in bracket.rungs if rung.budget == budget_above]
    promoted = [config_id for rung in rungs for config_id in rung.promoted]
    ranked = survivors(state.pool[budget].items(), max(rung.places for rung in rungs))
    return frozenset(promoted + ranked)
