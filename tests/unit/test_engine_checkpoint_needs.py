"""Which checkpoints a search can do without: by the state of its rungs, the worst result first."""

from __future__ import annotations

import pytest

from hpbandster_lite.engine.decision_types import Grant
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.records import ConfigId, EvaluationId, FailureKind, Limits
from tests.engine_room import (
    ONE_BRACKET,
    failed,
    finish,
    granted,
    loss,
    started,
)

N_LOWEST = 9
"""Places of the lowest rung of the first bracket; three of them are promoted."""


def lowest(engine: Engine, losses: list[float | None]) -> list[Grant]:
    """Evaluate configurations at the lowest rung of the first bracket; ``None`` fails."""
    grants = []
    for number, value in enumerate(losses):
        grant = granted(engine, "a", number)
        engine.report("a", failed(grant, FailureKind.CODE) if value is None else loss(grant, value), now=0.0)
        grants.append(grant)
    return grants


def unneeded(engine: Engine) -> list[str]:
    return [str(identity) for identity in engine.unneeded(engine.state.evaluations)]


def at(index: int, rung: int = 0) -> str:
    return str(EvaluationId(ConfigId(0, 0, index), rung))


def test_what_may_still_be_promoted_is_needed_and_what_cannot_be_is_not() -> None:
    engine = started(ONE_BRACKET)
    lowest(engine, [0.5, 0.1, 0.9, 0.3, None, 0.7])
    # The three best may be promoted; of the others the failure is the worst.
    assert unneeded(engine) == [at(4), at(2), at(5)]


def test_a_promotion_needs_the_rung_below_until_it_has_an_outcome_and_the_incumbent_is_never_given_up() -> None:
    engine = started(ONE_BRACKET)
    lowest(engine, [0.1 * number for number in range(1, N_LOWEST + 1)])
    losers = [at(index) for index in range(N_LOWEST - 1, 2, -1)]
    assert unneeded(engine) == losers
    grant = granted(engine, "b")
    assert unneeded(engine) == losers
    engine.report("b", loss(grant, 0.4), now=0.0)
    # The result at the rung above is the incumbent; what it was promoted from is needed no more.
    assert str(grant.evaluation) == at(0, 1)
    assert unneeded(engine) == [*losers, at(0)]
    second = granted(engine, "b", 1)
    engine.report("b", loss(second, 0.6), now=0.0)
    # One of three is promoted further, which cannot be the second any more.
    assert unneeded(engine) == [*losers, at(1), at(0), at(1, 1)]


def test_what_is_leased_or_waits_to_be_run_again_is_needed() -> None:
    engine = started(ONE_BRACKET)
    lowest(engine, [0.5])
    grant = granted(engine, "b")
    engine.release("b", grant.evaluation, 1, "stop", "d", now=0.0)
    assert unneeded(engine) == []


def test_when_a_search_is_complete_only_the_incumbent_is_needed() -> None:
    engine = started(Limits(brackets=2))
    finish(engine)
    assert len(engine.unneeded(engine.state.evaluations)) == len(engine.state.evaluations) - 1
    best = engine.best()
    assert best is not None
    assert {each.config_id for each in engine.state.evaluations} - {
        each.config_id for each in engine.unneeded(engine.state.evaluations) if each.rung == 2
    } >= {best.config_id}


@pytest.mark.parametrize("count", [1, 2, 5, 1_000])
def test_the_best_configurations_are_ranked_by_their_best_result(count: int) -> None:
    engine = started(ONE_BRACKET)
    assert engine.best_configurations(count) == frozenset()
    lowest(engine, [0.5, 0.1, None, 0.3, 0.2, 0.6, 0.7, 0.8, 0.9])
    grant = granted(engine, "b")
    engine.report("b", loss(grant, 5.0), now=0.0)
    # A result at a higher budget comes first, with any loss; then those of the lowest rung.
    order = [grant.evaluation.config_id.index, *(index for index in (1, 4, 3, 0, 5, 6, 7, 8))]
    expected = list(dict.fromkeys(order))[:count]
    assert engine.best_configurations(count) == {ConfigId(0, 0, index) for index in expected}
