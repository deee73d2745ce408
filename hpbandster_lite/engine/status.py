"""A picture of the search for people and programs: plain values, made when somebody asks.

Law of this file: it reads the state and changes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hpbandster_lite.engine.decision_types import Waiting
from hpbandster_lite.engine.hints import failures_in_words
from hpbandster_lite.engine.leases import Leases
from hpbandster_lite.engine.state import Best, Bracket, Rung, State
from hpbandster_lite.protocol.slots import agent_of, lanes_of
from hpbandster_lite.records import EvaluationId, Plain

ENOUGH_FAILURES = 3
"""Before so many evaluations have ended, that all of them failed is told by their count alone."""


def status_of(state: State, leases: Leases, *, now: float, waits: Sequence[Waiting], unit: str) -> dict[str, Plain]:
    """The whole status; seconds are counted from ``now``."""
    agents = _agents(state, leases, now)
    busy = sum(agent["evaluation"] is not None for agent in agents)
    return {
        "state": "running" if state.finished is None else "finished",
        "reason": None if state.finished is None else state.finished.reason,
        "paused": state.paused,
        "waits": [dataclasses.asdict(waiting) for waiting in waits],
        "hints": hints_of(state, unit),
        "epoch": state.epoch,
        "brackets": [_bracket(bracket) for bracket in state.brackets],
        "agents": agents,
        "occupancy": busy / len(agents) if agents else None,
        "evaluations": {
            "started": state.started,
            "recorded": state.recorded,
            "running": len(state.held_by),
            "to_run_again": len(state.again),
            "late": state.late,
        },
        "configurations": len(state.proposals),
        "budget_started": state.budget_started,
        "failures": {kind.value: count for kind, count in sorted(state.failures.items())},
        "limits": dataclasses.asdict(state.limits),
        "incumbent": None if state.best is None else incumbent_of(state, state.best),
    }


def hints_of(state: State, unit: str) -> list[str]:
    """What looks wrong with the problem, one plain sentence each."""
    hints = state.growth.hints(unit)
    if state.best is None and state.recorded >= ENOUGH_FAILURES:
        failed = failures_in_words(state.failures)
        hints.insert(0, f"none of the {state.recorded} evaluations so far has a loss: {failed}")
    return hints


def incumbent_of(state: State, best: Best) -> dict[str, Plain]:
    """The incumbent as plain values."""
    evaluation = state.evaluations[EvaluationId(best.config_id, best.rung)]
    outcome = evaluation.outcome
    return {
        "config_id": list(best.config_id),
        "rung": best.rung,
        "budget": evaluation.budget,
        "loss": best.loss,
        "values": dict(state.proposals[best.config_id].values),
        "info": dict(outcome.info) if outcome is not None else {},
        "directory": outcome.directory if outcome is not None else None,
    }


def _bracket(bracket: Bracket) -> dict[str, Plain]:
    return {
        "bracket": bracket.plan.bracket,
        "complete": bracket.is_complete,
        "rungs": [_rung(rung) for rung in bracket.rungs],
    }


def _rung(rung: Rung) -> dict[str, Plain]:
    losses = [loss for _, loss in rung.done if loss is not None]
    return {
        "budget": rung.budget,
        "places": rung.places,
        "is_open": rung.is_open,
        "done": len(rung.done),
        "running": rung.running,
        "failed": len(rung.done) - len(losses),
        "best": min(losses, default=None),
    }


def _agents(state: State, leases: Leases, now: float) -> list[dict[str, Plain]]:
    rows = []
    living = leases.living(now)
    for name in sorted({agent_of(each) for each in (*living, *state.held_by)}):
        # One evaluation of an agent runs at a time, whatever its lanes hold.
        lease = next(filter(None, map(leases.get, lanes_of(name))), None)
        known = living.get(name)
        point = lease.curve[-1] if lease is not None and lease.curve else None
        rows.append(
            {
                "agent": name,
                "worker": known.worker if known is not None else "",
                "silent_s": now - known.heard_at if known is not None else None,
                "evaluation": None if lease is None else str(lease.evaluation),
                "budget": None if lease is None else state.evaluations[lease.evaluation].budget,
                "attempt": None if lease is None else lease.attempt,
                "since_s": None if lease is None else now - lease.since,
                "lease_ends_in_s": None if lease is None else lease.deadline - now,
                "step": None if point is None else point.step,
                "loss": None if point is None else point.loss,
            }
        )
    return rows
