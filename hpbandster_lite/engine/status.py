"""The status of a search from the state of a living engine.

Law of this file: it reads the state and the leases and changes nothing; the record is
:class:`hpbandster_lite.protocol.status.Status`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeGuard

from hpbandster_lite.engine.hints import Growth, failure_counts
from hpbandster_lite.engine.leases import Lease, Leases
from hpbandster_lite.engine.state import Best, State
from hpbandster_lite.engine.state import Bracket as BracketState
from hpbandster_lite.engine.state import Rung as RungState
from hpbandster_lite.engine.waits import waits_of
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.hyperband.ranking import best_loss
from hpbandster_lite.protocol.slots import agent_of, slot_names
from hpbandster_lite.protocol.status import (
    Agent,
    Bracket,
    Evaluations,
    Incumbent,
    Rung,
    Serving,
    SourceEdit,
    Status,
    in_users_sign,
    is_silent,
)
from hpbandster_lite.records import EvaluationId, FailureKind, SearchSettings
from hpbandster_lite.samplers.model_start import results_for_model

MANY_RETURNS = 3
"""Hand-backs of an evaluation from which on the status names it."""
ENOUGH_FAILURES = 3
"""With fewer outcomes, the counts alone show that every evaluation failed."""


def status_of(state: State, leases: Leases, settings: SearchSettings, *, now: float, serving: Serving) -> Status:
    """The whole status.

    Parameters
    ----------
    state, leases, settings
        Of the search.
    now
        Seconds on the clock of the leases.
    serving
        Facts about the process that serves the search.
    """
    agents = _agents(state, leases, now, settings)
    busy = sum(agent.is_busy for agent in agents)
    # A bracket that an exhausted space left empty has nothing to show.
    begun = (bracket for bracket in state.brackets if any(rung.started for rung in bracket.rungs))
    brackets = tuple(_bracket(bracket) for bracket in begun)
    status = Status(
        answered_by="master",
        state="running" if state.finished is None else "finished",
        finish_kind=None if state.finished is None else state.finished.kind,
        reason=None if state.finished is None else state.finished.reason,
        paused=state.paused,
        paused_at=None if state.paused is None else serving.paused_at,
        run_id=settings.run_id,
        problem=settings.problem.name,
        algorithm=settings.algorithm,
        unit=settings.unit,
        seed=settings.seed,
        maximize=settings.maximize,
        epoch=state.epoch,
        limits=state.limits,
        # A master that cannot write handles no message, so it does not know which workers are there.
        waits=waits_of(state, leases, now=now, heartbeat_s=settings.heartbeat_s)
        if serving.journal_stalled_s is None
        else (),
        hints=(
            *_about_long(agents, state),
            *_about_handed_back(state),
            *state.noted.hints(),
            *hints_of(
                state.growth, state.failures, settings, recorded=state.recorded, has_loss=state.best is not None
            ),
        ),
        model=about_model(settings, brackets, from_model=state.from_model, configurations=len(state.proposals)),
        brackets=brackets,
        agents=agents,
        occupancy=busy / len(agents) if agents else None,
        evaluations=Evaluations(
            started=state.started,
            recorded=state.recorded,
            running=len(state.held_by),
            to_run_again=len(state.to_rerun),
            late=state.late,
            recorded_here=serving.recorded_here,
        ),
        configurations=len(state.proposals),
        budget_started=state.budget_started,
        failures={kind.value: count for kind, count in sorted(state.failures.items())},
        incumbent=None if state.best is None else incumbent_of(state, state.best),
        source_edits=edits_of(state),
        pid=serving.pid,
        host=serving.host,
        uptime_s=serving.uptime_s,
        journal_stalled_s=serving.journal_stalled_s,
        journal_stalled_by=serving.journal_stalled_by,
    )
    return in_users_sign(status)


def about_model(
    settings: SearchSettings, brackets: Sequence[Bracket], *, from_model: int, configurations: int
) -> str | None:
    """How many configurations came from the model, or what it needs to begin; None for a search without a model."""
    results = results_for_model(settings)
    if results is None:
        return None
    if from_model:
        return f"{from_model} of {configurations} configurations came from it"
    counts: Counter[float] = Counter()
    for bracket in brackets:
        for rung in bracket.rungs:
            counts[rung.budget] += rung.done
    budget, most = max(counts.items(), key=lambda each: each[1], default=(settings.budgets[0], 0))
    needs = f"no configuration came from it: it needs {results} results at one budget"
    return needs if most >= results else f"{needs}, and there are {most} at {budget:g} {settings.unit}"


def edits_of(state: State) -> tuple[SourceEdit, ...]:
    """The edits of the problem's source that were accepted."""
    return tuple(
        SourceEdit(
            recorded=each.recorded,
            first=None if each.first is None else str(each.first),
            differences=each.differences,
        )
        for each in state.source_changes
    )


def hints_of(
    growth: Growth, failures: Mapping[FailureKind, int], settings: SearchSettings, *, recorded: int, has_loss: bool
) -> tuple[str, ...]:
    """What looks wrong with the problem, one sentence each.

    Parameters
    ----------
    growth
        Losses and costs of the promoted configurations.
    failures
        How many evaluations failed, by kind.
    settings
        Of the search.
    recorded, has_loss
        How many evaluations have an outcome, and whether any has a loss.
    """
    word = word_for(maximize=settings.maximize)
    hints = growth.hints(settings.unit, word)
    if not has_loss and recorded >= ENOUGH_FAILURES:
        hints.insert(0, f"none of the {recorded} evaluations so far has a {word}: {failure_counts(failures)}")
    return tuple(hints)


def _about_long(agents: Sequence[Agent], state: State) -> tuple[str, ...]:
    """That evaluations may hang, and what ends them; a silent worker has words of its own."""
    long = sorted(
        (agent for agent in agents if agent.runs_long and not agent.is_silent),
        key=lambda agent: -agent.times_usual,
    )
    if not long or state.finished is not None:
        return ()
    worst = long[0]
    others = f", and {len(long) - 1} more run too long" if len(long) > 1 else ""
    how_long = f"is {worst.how_long}"
    return (
        f"evaluation {worst.evaluation} {how_long}{others}; if it hangs, `hpbandster-lite cancel RUN "
        f"{worst.evaluation}` drops it, and with a time limit (--timeout, timeout_s; not with isolation none) workers "
        "end such evaluations",
    )


def _about_handed_back(state: State) -> tuple[str, ...]:
    """That an evaluation comes back again and again, at no cost: it fits on no disk, or ends its own workers."""
    if state.finished is not None:
        return ()
    open_ones = [state.evaluations[each] for each in (*state.held_by.values(), *state.to_rerun)]
    worst = max(open_ones, key=lambda each: each.returned, default=None)
    if worst is None or worst.returned < MANY_RETURNS:
        return ()
    return (
        f"evaluation {worst.id} was handed back {worst.returned} times (the last time: {worst.why_returned}), which "
        "costs no attempt; if no worker has what it needs, or if it ends its own workers, "
        f"`hpbandster-lite cancel RUN {worst.id}` drops it",
    )


def incumbent_of(state: State, best: Best) -> Incumbent:
    """The incumbent with its values and what its objective returned."""
    evaluation = state.evaluations[EvaluationId(best.config_id, best.rung)]
    outcome = evaluation.outcome
    return Incumbent(
        config_id=best.config_id,
        rung=best.rung,
        budget=evaluation.budget,
        loss=best.loss,
        values=dict(state.proposals[best.config_id].values),
        info=dict(outcome.info) if outcome is not None else {},
        directory=outcome.directory if outcome is not None else None,
    )


def _bracket(bracket: BracketState) -> Bracket:
    below = (None, *bracket.rungs[:-1])
    rungs = tuple(_rung(rung, below) for rung, below in zip(bracket.rungs, below, strict=True))
    return Bracket(bracket=bracket.plan.bracket, complete=bracket.is_complete, rungs=rungs)


def _rung(rung: RungState, below: RungState | None) -> Rung:
    # One that will be filled from the pool with the next request is as open as any after a complete rung.
    is_open = rung.is_open or (below is not None and below.is_complete)
    losses = [loss for _, loss in rung.done if loss is not None]
    return Rung(
        budget=rung.budget,
        places=rung.places,
        is_open=is_open,
        done=len(rung.done),
        running=rung.running,
        failed=len(rung.done) - len(losses),
        best=best_loss(losses),
    )


def _agents(state: State, leases: Leases, now: float, settings: SearchSettings) -> tuple[Agent, ...]:
    living = leases.living(now)
    rows = []
    medians_s = {budget: state.durations.median_s(budget) for budget in settings.budgets}
    is_known = state.durations.is_known()
    expected_s = {budget: state.durations.expected_s(budget) if is_known else None for budget in settings.budgets}
    for name in sorted({agent_of(each) for each in (*living, *state.held_by)}):
        # One evaluation of an agent runs at a time, even if several slots hold leases.
        lease = next(filter(None, map(leases.get, slot_names(name))), None)
        known = living.get(name)
        # A lost connection ends what the leases know of an agent, but not its lease.
        last_at = known.last_message_at if known is not None else lease.last_message_at if _is_lost(lease) else None
        agent = Agent(
            agent=name,
            worker=known.worker if known is not None else state.worker_of.get(name, ""),
            is_connected=known is not None,
            silent_s=None if last_at is None else now - last_at,
            is_silent=known is None or is_silent(now - known.last_message_at, settings.heartbeat_s),
            hindrance=None if known is None else known.hindrance,
        )
        rows.append(agent if lease is None else replace(agent, **_work(state, lease, medians_s, expected_s, now)))
    return tuple(rows)


def _is_lost(lease: Lease | None) -> TypeGuard[Lease]:
    return lease is not None and not lease.is_connected


def _work(
    state: State,
    lease: Lease,
    medians_s: Mapping[float, float | None],
    all_expected_s: Mapping[float, float | None],
    now: float,
) -> dict[str, Any]:
    """The fields of an :class:`Agent` that holds a lease."""
    point = lease.curve[-1] if lease.curve else None
    budget = state.evaluations[lease.evaluation].budget
    median_s = medians_s[budget]
    expected_s = None if median_s else all_expected_s[budget]
    bracket, rung = state.place_of(lease.evaluation)
    return {
        "evaluation": str(lease.evaluation),
        "bracket": bracket,
        "rung": rung,
        "budget": budget,
        "attempt": lease.attempt,
        "since_s": now - lease.since,
        "times_median": (now - lease.since) / median_s if median_s else None,
        "times_expected": (now - lease.since) / expected_s if expected_s else None,
        "lease_ends_in_s": lease.deadline - now,
        "step": None if point is None else point.step,
        "loss": None if point is None else point.loss,
    }
