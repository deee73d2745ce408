"""What must hold after every step.

Law of this file: it recomputes sums and promotions from the evaluations, by other code than the state's own, so that a
mistake in either shows. It takes time linear in the search and is for tests and ``verify``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from hpbandster_lite.engine.state import Bracket, State
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.hyperband.ranking import survivors
from hpbandster_lite.records import ConfigId, EvaluationId, FailureKind


def validate(state: State) -> None:
    """Raise :class:`InvariantBroken` unless all invariants hold."""
    _check_leases(state)
    _check_sums(state)
    held: dict[tuple[int, int], int] = defaultdict(int)
    promoted: dict[tuple[int, int], set[ConfigId]] = defaultdict(set)
    for identity, evaluation in state.evaluations.items():
        where = state.place_of(identity)
        if identity.config_id.rung < identity.rung:
            promoted[where].add(identity.config_id)
        failure = evaluation.outcome.failure if evaluation.outcome is not None else None
        held[where] += failure is None or failure.kind is not FailureKind.INFEASIBLE
    for bracket in state.brackets:
        _check_places(bracket, held)
        if state.promotion == "rung":
            _check_promotions(bracket, promoted)
    if state.promotion == "pool":
        _check_pool(state)


def _check_leases(state: State) -> None:
    leased = {identity: evaluation.agent for identity, evaluation in state.evaluations.items() if evaluation.agent}
    _require(
        leased == {identity: agent for agent, identity in state.held_by.items()},
        f"leases by evaluation {leased} and by agent {state.held_by} differ",
    )
    waiting = list(state.to_rerun)
    _require(len(set(waiting)) == len(waiting), f"an evaluation waits twice to be run: {waiting}")
    again = set(waiting)
    for identity, evaluation in state.evaluations.items():
        states = (evaluation.agent is not None) + (evaluation.outcome is not None) + (identity in again)
        _require(states == 1, f"{identity} is in {states} states at once: it is lost or doubled")


def _check_sums(state: State) -> None:
    recorded = sum(evaluation.outcome is not None for evaluation in state.evaluations.values())
    _require(recorded == state.recorded, f"{recorded} outcomes are held, {state.recorded} were counted")
    _require(state.started == len(state.evaluations), f"{state.started} were started, {len(state.evaluations)} known")
    parts = state.recorded + len(state.held_by) + len(state.to_rerun)
    _require(parts == state.started, f"{state.started} evaluations were decided, {parts} are accounted for")


def _check_places(bracket: Bracket, held: Mapping[tuple[int, int], int]) -> None:
    """Check the places held at each rung of a bracket; an infeasible evaluation holds none."""
    number = bracket.plan.bracket
    for index, rung in enumerate(bracket.rungs):
        taken = held[number, index] + len(rung.promoted)
        _require(taken == rung.taken <= rung.places, f"rung {index} of bracket {number} holds {taken} of {rung.places}")
        is_early = index > 0 and rung.is_open and not bracket.rungs[index - 1].is_complete
        _require(not is_early, f"rung {index} of bracket {number} is open before the one below is complete")


def _check_promotions(bracket: Bracket, promoted_to: Mapping[tuple[int, int], set[ConfigId]]) -> None:
    """Check that each rung of a bracket promoted its best."""
    number = bracket.plan.bracket
    for index, rung in enumerate(bracket.rungs):
        if index == 0 or not rung.is_open:
            continue
        below = bracket.rungs[index - 1]
        best = set(survivors(below.done, bracket.plan.rungs[index].places))
        promoted = promoted_to[number, index] | set(rung.promoted)
        _require(promoted == best, f"rung {index} of bracket {number}: promoted {promoted}, the best are {best}")


def _check_pool(state: State) -> None:
    """Check that a pool has every configuration with a loss at its budget that was not promoted, and no other."""
    waiting = {
        state.promotion_of(config_id, bracket.plan.bracket, index)
        for bracket in state.brackets
        for index, rung in enumerate(bracket.rungs)
        for config_id in rung.promoted
    }
    expected: dict[float, dict[ConfigId, float]] = defaultdict(dict)
    for identity, evaluation in state.evaluations.items():
        above = EvaluationId(identity.config_id, identity.rung + 1)
        loss = None if evaluation.outcome is None else evaluation.outcome.loss
        if loss is not None and above not in state.evaluations and above not in waiting:
            expected[evaluation.budget][identity.config_id] = loss
    pools = {budget: pool for budget, pool in state.pool.items() if pool}
    _require(pools == expected, f"the pools are {pools}, the configurations that were not promoted {dict(expected)}")


def _require(holds: bool, story: str) -> None:
    if not holds:
        raise InvariantBroken(story)
