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
from hpbandster_lite.records import ConfigId, FailureKind


def validate(state: State) -> None:
    """Raise :class:`InvariantBroken` unless all invariants hold."""
    _check_leases(state)
    _check_sums(state)
    held: dict[tuple[int, int], int] = defaultdict(int)
    promoted: dict[tuple[int, int], set[ConfigId]] = defaultdict(set)
    for identity, evaluation in state.evaluations.items():
        where = identity.config_id.bracket, identity.rung
        if identity.config_id.rung < identity.rung:
            promoted[where].add(identity.config_id)
        failure = evaluation.outcome.failure if evaluation.outcome is not None else None
        held[where] += failure is None or failure.kind is not FailureKind.INFEASIBLE
    for bracket in state.brackets:
        _check_bracket(bracket, held, promoted)


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


def _check_bracket(
    bracket: Bracket,
    held: Mapping[tuple[int, int], int],
    promoted_to: Mapping[tuple[int, int], set[ConfigId]],
) -> None:
    """Check one bracket against the places held and the promotions of each rung; an infeasible one holds no place."""
    number = bracket.plan.bracket
    for index, rung in enumerate(bracket.rungs):
        taken = held[number, index] + len(rung.promoted)
        _require(taken == rung.taken <= rung.places, f"rung {index} of bracket {number} holds {taken} of {rung.places}")
        if index == 0 or not rung.is_open:
            continue
        below = bracket.rungs[index - 1]
        _require(below.is_complete, f"rung {index} of bracket {number} is open before the one below is complete")
        best = set(survivors(below.done, bracket.plan.rungs[index].places))
        promoted = promoted_to[number, index] | set(rung.promoted)
        _require(promoted == best, f"rung {index} of bracket {number}: promoted {promoted}, the best are {best}")


def _require(holds: bool, story: str) -> None:
    if not holds:
        raise InvariantBroken(story)
