"""Helpers of the tests of the engine: a small space, settings, and an engine with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpbandster_lite.engine.decision_types import Grant, Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.verify import Verification, verify
from hpbandster_lite.records import (
    Entry,
    Failure,
    FailureKind,
    Limits,
    Outcome,
    Plain,
    ProblemDescription,
    Report,
    SearchSettings,
    Values,
)
from hpbandster_lite.samplers import Sampler, make_sampler
from hpbandster_lite.space import SearchSpace

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

LADDER = (1.0, 3.0, 9.0)
ONE_BRACKET = Limits(brackets=1)


def space_of(*hyperparameters: Any) -> SearchSpace:
    from ConfigSpace import ConfigurationSpace, Float, Integer

    return SearchSpace.from_configspace(
        ConfigurationSpace(space=list(hyperparameters or (Float("x", (0.0, 1.0)), Integer("n", (1, 9)))))
    )


def space_that_forbids_its_default() -> ConfigurationSpace:
    """A space whose default was changed after the clause: ConfigSpace checks it only when it adds a clause."""
    from ConfigSpace import ConfigurationSpace, Float, ForbiddenEqualsClause, Integer

    space = ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Integer("n", (1, 9), default=4)])
    space.add(ForbiddenEqualsClause(space["n"], 5))
    space["n"].default_value = 5
    return space


def settings_for(
    space: SearchSpace,
    *,
    budgets: tuple[float, ...] = LADDER,
    algorithm: str = "hyperband",
    seed: int = 7,
    initial: tuple[Values, ...] = (),
    skip_default: bool = False,
    replaces_forbidden_default: bool = True,
    max_attempts: int = 3,
    sampler: Mapping[str, Any] | None = None,
    maximize: bool = False,
) -> SearchSettings:
    return SearchSettings(
        run_id="test",
        problem=ProblemDescription(reference="t", name="t", space_json=None, space_tables=space.to_json()),
        budgets=budgets,
        eta=3.0,
        unit="epochs",
        algorithm=algorithm,
        bracket_rule="floor",
        seed=seed,
        seed_was_given=True,
        sampler=sampler or {},
        initial=initial,
        skip_default=skip_default,
        replaces_forbidden_default=replaces_forbidden_default,
        max_attempts=max_attempts,
        maximize=maximize,
    )


def engine_for(settings: SearchSettings, space: SearchSpace) -> Engine:
    return Engine(settings, space, make_sampler(settings.algorithm, space, settings.budgets, settings.sampler))


def started(limits: Limits | None = None, *, space: SearchSpace | None = None, **settings: Any) -> Engine:
    """An engine that has served since time 0."""
    space = space or space_of()
    engine = engine_for(settings_for(space, **settings), space)
    engine.start(1, limits or Limits(), now=0.0)
    return engine


def replayed(settings: SearchSettings, entries: Iterable[Entry], *, space: SearchSpace | None = None) -> Engine:
    """An engine as the journal's entries leave it; it has not started."""
    engine = engine_for(settings, space or space_of())
    engine.replay(entries)
    return engine


def verified(
    settings: SearchSettings,
    entries: Sequence[Entry],
    *,
    space: SearchSpace | None = None,
    fingerprint: Mapping[str, Plain] | None = None,
) -> Verification:
    """The verification of a journal with these entries."""
    space = space or space_of()

    def make() -> Sampler:
        return make_sampler(settings.algorithm, space, settings.budgets, settings.sampler)

    return verify(settings, space, make, entries, fingerprint=fingerprint or {})


def is_over(engine: Engine) -> bool:
    return engine.finished is not None


def granted(engine: Engine, agent: str, request: int = 0, now: float = 0.0) -> Grant:
    answer = engine.lease(agent, request, now=now).answer
    assert isinstance(answer, Granted), answer
    return answer.grant


def loss(grant: Grant, value: float) -> Report:
    return Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=Outcome(loss=value))


def failed(
    grant: Grant,
    kind: FailureKind,
    traceback: str | None = None,
    misses: str | None = None,
    printed: tuple[str, ...] = (),
) -> Report:
    reason = f"made up: {kind.value}"
    failure = Failure(kind=kind, reason=reason, traceback=traceback, misses=misses, log_tail=printed)
    return Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=Outcome(failure=failure))


def traceback(line: int = 3, message: str = "boom") -> str:
    return f'Traceback (most recent call last):\n  File "own.py", line {line}, in evaluate\nValueError: {message}\n'


def fail(
    engine: Engine,
    *tracebacks: str | None,
    kind: FailureKind = FailureKind.CODE,
    first: int = 0,
    misses: str | None = None,
    printed: tuple[str, ...] = (),
) -> None:
    """One agent fails an evaluation for each traceback; its requests have numbers from ``first`` on."""
    for index, text in enumerate(tracebacks, first):
        engine.report("a", failed(granted(engine, "a", index), kind, text, misses, printed), now=0.0)


def finish(engine: Engine, losses: Mapping[str, float] | None = None, *, now: float = 0.0) -> list[Grant]:
    """One agent works until the engine grants nothing more; without an entry in ``losses`` the loss is x."""
    grants = []
    request = engine.state.request_of.get("finisher", 0) + 1
    while isinstance(answer := engine.lease("finisher", request, now=now).answer, Granted):
        grant = answer.grant
        grants.append(grant)
        # The value is a number.
        value = (losses or {}).get(str(grant.evaluation.config_id), float(grant.values.get("x", 0.5)))  # type: ignore[arg-type]
        engine.report("finisher", loss(grant, value), now=now)
        engine.validate()
        request += 1
    return grants


def snapshot(engine: Engine) -> dict[str, Any]:
    """Everything that replay must rebuild, as comparable values, which change when the engine continues."""
    state = engine.state
    return {
        "evaluations": {str(name): evaluation for name, evaluation in state.evaluations.items()},
        "brackets": list(state.brackets),
        "proposals": {str(name): proposal for name, proposal in state.proposals.items()},
        "again": list(state.to_rerun),
        "held_by": dict(state.held_by),
        "requests": dict(state.request_of),
        "counts": (state.recorded, state.started, state.late, state.budget_started, state.position, state.observed_at),
        "best": state.best,
        "out": list(state.discontinued),
        "over": (state.finished, state.paused, state.exhausted, state.infeasible_in_a_row),
        "failures": dict(state.failures),
        "first_faults": dict(vars(state.first_faults)),
        "hints": state.growth.hints("epochs"),
        "durations": {budget: state.durations.expected_s(budget) for budget in (*LADDER, 27.0)},
    }
