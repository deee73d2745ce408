"""What must hold after every step, checked against everything that was decided.

Law of this file: it reads the state from outside, by other ways than those that keep it, so that a slip in one of
them shows. It costs time linear in the search and is for tests and ``verify``.
"""

from __future__ import annotations

from hpbandster_lite.brackets import survivors
from hpbandster_lite.engine.state import Bracket, State
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.records import FailureKind


def validate(state: State) -> None:
    """Raise :class:`InvariantBroken` unless all invariants hold."""
    _check_leases(state)
    _check_sums(state)
    for bracket in state.brackets:
        _check_bracket(state, bracket)


def _check_leases(state: State) -> None:
    leased = {identity: evaluation.agent for identity, evaluation in state.evaluations.items() if evaluation.agent}
    _require(
        leased == {identity: agent for agent, identity in state.held_by.items()},
        f"leases by evaluation {leased} and by agent {state.held_by} differ",
    )
    waiting = list(state.again)
    _require(len(set(waiting)) == len(waiting), f"an evaluation waits twice to be run: {waiting}")
    for identity, evaluation in state.evaluations.items():
        states = (evaluation.agent is not None) + (evaluation.outcome is not None) + (identity in state.again)
        _require(states == 1, f"{identity} is in {states} states at once: it is lost or doubled")


def _check_sums(state: State) -> None:
    recorded = sum(evaluation.outcome is not None for evaluation in state.evaluations.values())
    _require(recorded == state.recorded, f"{recorded} outcomes are held, {state.recorded} were counted")
    _require(state.started == len(state.evaluations), f"{state.started} were started, {len(state.evaluations)} known")
    parts = state.recorded + len(state.held_by) + len(state.again)
    _require(parts == state.started, f"{state.started} evaluations were decided, {parts} are accounted for")


def _check_bracket(state: State, bracket: Bracket) -> None:
    number = bracket.plan.bracket
    for index, rung in enumerate(bracket.rungs):
        mine = {
            identity: evaluation
            for identity, evaluation in state.evaluations.items()
            if identity.rung == index and identity.config_id.bracket == number
        }
        held = [
            identity
            for identity, evaluation in mine.items()
            if evaluation.outcome is None
            or evaluation.outcome.failure is None
            or evaluation.outcome.failure.kind is not FailureKind.INFEASIBLE
        ]
        taken = len(held) + len(rung.promoted)
        _require(taken == rung.taken <= rung.places, f"rung {index} of bracket {number} holds {taken} of {rung.places}")
        if index == 0 or not rung.is_open:
            continue
        below = bracket.rungs[index - 1]
        _require(below.is_complete, f"rung {index} of bracket {number} is open before the one below is complete")
        best = set(survivors(below.done, bracket.plan.rungs[index].places))
        promoted = {identity.config_id for identity in held if identity.config_id.rung < index} | set(rung.promoted)
        _require(promoted == best, f"rung {index} of bracket {number}: promoted {promoted}, the best are {best}")


def _require(holds: bool, story: str) -> None:
    if not holds:
        raise InvariantBroken(story)
