"""Promotions from the pool of all brackets: by losses, by a model's means, and what verify finds in their journal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.verify import Verification
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.hyperband.ranking import pool_survivors
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    FailureKind,
    Leased,
    Limits,
    ModelFitted,
    Recorded,
    RungFilled,
    Sampled,
)
from tests.engine_room import (
    engine_for,
    failed,
    finish,
    granted,
    loss,
    replayed,
    settings_for,
    snapshot,
    space_of,
    verified,
)

HERE = {"numpy": "2.0"}
ELSEWHERE = {"numpy": "1.0"}
EARLY = {"full_results": 1, "random_fraction": 0.1}


def ids(*numbers: int) -> list[ConfigId]:
    return [ConfigId(0, 0, number) for number in numbers]


# ------------------------------------------------------------------------------------------------ the ranking


def test_without_a_model_the_lowest_losses_are_promoted() -> None:
    pool = list(zip(ids(0, 1, 2), (0.1, 0.2, 0.3), strict=True))
    assert pool_survivors(pool, (), 2) == ids(0, 1)


def test_a_model_decides_half_of_the_rank_and_a_tie_goes_to_the_lower_loss() -> None:
    pool = list(zip(ids(0, 1, 2, 3), (0.1, 0.2, 0.3, 0.4), strict=True))
    # Ranks by mean: 3, 0, 2, 1; sums: 3, 1, 4, 4.
    assert pool_survivors(pool, (9.0, 1.0, 3.0, 2.0), 4) == ids(1, 0, 2, 3)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12), st.integers(1, 12))
def test_the_best_of_both_is_always_promoted(means: list[float], places: int) -> None:
    pool = list(zip(ids(*range(len(means))), range(len(means)), strict=True))
    promoted = pool_survivors([(config_id, float(rank)) for config_id, rank in pool], means, places)
    assert len(promoted) == len(set(promoted)) == min(places, len(means))
    if means[0] == min(means):
        assert promoted[0] == ids(0)[0]


# ------------------------------------------------------------------------------------------------ a search


class Search:
    """A search of ``mfbo`` by three agents, and its journal."""

    def __init__(self, *, lose: Callable[[int], bool] = lambda step: False) -> None:
        self.space = space_of()
        self.settings = settings_for(self.space, algorithm="mfbo", sampler=EARLY)
        self.engine = engine_for(self.settings, self.space)
        limits = Limits(evaluations=90)
        self.entries: list[Entry] = [*self.engine.start(1, limits, now=0.0, fingerprint=HERE).entries]
        for step in range(1_000):
            if self.engine.finished is not None:
                break
            turn = self.engine.lease(f"a{step % 3}", step, now=0.0)
            self.entries += turn.entries
            if isinstance(turn.answer, Granted):
                grant = turn.answer.grant
                value = (float(grant.values["x"]) - 0.3) ** 2 + 0.1 / grant.budget  # type: ignore[arg-type]  # a number
                kind = FailureKind.CODE if step % 2 else FailureKind.MEMORY
                report = failed(grant, kind, f"{step:b}".replace("1", "x")) if lose(step) else loss(grant, value)
                self.entries += self.engine.report(f"a{step % 3}", report, now=0.0).entries
            self.engine.validate()
        assert self.engine.finished is not None

    def of(self, cls: type) -> list[Any]:
        return [entry for entry in self.entries if isinstance(entry, cls)]

    def changed(self, entry: Entry, **fields: Any) -> list[Entry]:
        return [replace(each, **fields) if each is entry else each for each in self.entries]

    def verified(self, entries: list[Entry] | None = None, fingerprint: Any = HERE) -> Verification:
        return verified(self.settings, entries or self.entries, space=self.space, fingerprint=fingerprint)


@pytest.fixture(scope="module")
def search() -> Search:
    return Search()


def test_a_rung_takes_the_best_of_all_brackets_and_each_configuration_climbs_once(search: Search) -> None:
    foreign = [
        (entry.bracket, config_id)
        for entry in search.of(RungFilled)
        for config_id in entry.promoted
        if config_id.bracket != entry.bracket
    ]
    assert foreign, "no rung took a configuration of another bracket"
    evaluations = search.engine.state.evaluations
    for identity, evaluation in evaluations.items():
        if identity.rung > identity.config_id.rung:
            below = evaluations[EvaluationId(identity.config_id, identity.rung - 1)]
            assert below.outcome is not None
            assert below.outcome.loss is not None
            assert evaluation.budget == 3 * below.budget


def test_the_model_takes_part_in_promotions_and_proposals_and_its_fits_are_recorded_before(search: Search) -> None:
    known = set()
    for entry in search.entries:
        if isinstance(entry, ModelFitted):
            known.add(entry.number)
        if isinstance(entry, RungFilled) and entry.fit is not None:
            assert entry.fit in known
            assert len(entry.means) > 1
        if isinstance(entry, Sampled) and entry.proposal.fit is not None:
            assert entry.proposal.fit in known
            assert entry.proposal.log_improvement is not None
            assert entry.proposal.model_budget == 9.0
    assert len(known) >= 2
    assert any(isinstance(entry, Sampled) and entry.proposal.fit is not None for entry in search.entries)
    assert any(isinstance(entry, RungFilled) and entry.fit is not None for entry in search.entries)


def test_a_rung_shrinks_to_what_the_pool_has_and_failures_are_never_promoted() -> None:
    search = Search(lose=lambda step: step % 5 != 0)
    for entry in search.of(RungFilled):
        rung = search.engine.state.brackets[entry.bracket].rungs[entry.rung]
        assert rung.places == len(entry.promoted) or not entry.promoted
    assert any(len(entry.promoted) < 3 for entry in search.of(RungFilled) if entry.rung == 1 and entry.bracket == 0)
    assert search.verified().holds, search.verified().summary


def test_a_rung_without_candidates_is_filled_with_new_configurations() -> None:
    search = Search(lose=lambda step: step < 12)
    first = search.of(RungFilled)[0]
    assert first.promoted == ()
    sampled = [entry.config_id for entry in search.of(Sampled)]
    assert ConfigId(0, 1, 0) in sampled
    assert search.verified().holds, search.verified().summary


def test_a_replayed_search_is_the_same_and_goes_on_the_same_way(search: Search) -> None:
    again = replayed(search.settings, search.entries, space=search.space)
    assert snapshot(again) == snapshot(search.engine)
    assert again.state.pool == search.engine.state.pool
    for engine in (again, search.engine):
        engine.start(2, Limits(evaluations=110), now=0.0)
    assert [grant.values for grant in finish(again)] == [grant.values for grant in finish(search.engine)]


def test_a_failure_that_is_put_back_takes_back_that_its_rung_waits_to_be_filled() -> None:
    space = space_of()
    settings = settings_for(space, algorithm="mfbo")
    engine = engine_for(settings, space)
    entries = [*engine.start(1, Limits(brackets=1), now=0.0).entries]
    for number in range(9):
        turn = engine.lease("a", number, now=0.0)
        assert isinstance(turn.answer, Granted)
        report = failed(turn.answer.grant, FailureKind.CODE) if number == 4 else loss(turn.answer.grant, float(number))
        entries += [*turn.entries, *engine.report("a", report, now=0.0).entries]
    assert list(engine.state.to_fill) == [(0, 1)]
    entries += engine.start(2, Limits(brackets=1), now=0.0, retry_failed=True).entries
    assert not engine.state.to_fill
    grant = granted(engine, "a", 20)
    assert str(grant.evaluation) == "0-0-4@0"
    engine.report("a", loss(grant, -1.0), now=0.0)
    assert granted(engine, "a", 21).evaluation == EvaluationId(ConfigId(0, 0, 4), 1)


def test_a_rung_that_cannot_be_filled_is_refused() -> None:
    engine = engine_for(settings_for(space_of(), algorithm="mfbo"), space_of())
    engine.start(1, Limits(), now=0.0)
    granted(engine, "a")
    with pytest.raises(InvariantBroken, match="rung 1 of bracket 0 cannot be filled"):
        engine.apply(RungFilled(bracket=0, rung=1, promoted=(), basis=0))


def test_a_candidate_of_the_pool_keeps_its_checkpoint_and_one_that_climbed_does_not(search: Search) -> None:
    engine: Engine = search.engine
    climbed = [identity for identity in engine.state.evaluations if identity.rung > identity.config_id.rung]
    unneeded = engine.unneeded(engine.state.evaluations)
    assert EvaluationId(climbed[0].config_id, climbed[0].rung - 1) in unneeded
    best = min(engine.state.pool[1.0].items(), key=lambda each: each[1])[0]
    assert EvaluationId(best, 0) not in unneeded


# ------------------------------------------------------------------------------------------------ verify


def stories(verification: Verification) -> str:
    assert not verification.holds
    return "\n".join(difference.description for difference in verification.differences)


def test_what_was_decided_is_verified_bit_for_bit_here_and_to_a_tolerance_elsewhere(search: Search) -> None:
    here, elsewhere = search.verified(), search.verified(fingerprint=ELSEWHERE)
    assert here.holds, here.summary
    assert here.is_bitwise
    decided = (*(Sampled, Leased, RungFilled, ModelFitted), type(search.entries[1]))
    assert here.decisions == sum(isinstance(entry, decided) for entry in search.entries)
    assert elsewhere.holds, elsewhere.summary
    assert not elsewhere.bitwise


def test_other_promotions_than_the_means_give_are_named(search: Search) -> None:
    entry = next(entry for entry in search.of(RungFilled) if len(entry.promoted) > 1)
    for fingerprint in (HERE, ELSEWHERE):
        turned = search.changed(entry, promoted=entry.promoted[::-1])
        assert f"rung {entry.rung} of bracket {entry.bracket} was filled with" in stories(
            search.verified(turned, fingerprint)
        )


def test_other_means_are_named(search: Search) -> None:
    entry = next(entry for entry in search.of(RungFilled) if entry.means)
    last_bit = search.changed(entry, means=(math.nextafter(entry.means[0], 9.0), *entry.means[1:]))
    assert "was filled by the means" in stories(search.verified(last_bit))
    assert search.verified(last_bit, ELSEWHERE).holds
    shifted = search.changed(entry, means=(entry.means[0] + 1e-4, *entry.means[1:]))
    assert "was filled by the means" in stories(search.verified(shifted, ELSEWHERE))


def test_another_log_improvement_is_named(search: Search) -> None:
    entry = next(entry for entry in search.of(Sampled) if entry.proposal.fit is not None)
    for fingerprint in (HERE, ELSEWHERE):
        proposal = replace(entry.proposal, log_improvement=entry.proposal.log_improvement + 1e-4)
        story = stories(search.verified(search.changed(entry, proposal=proposal), fingerprint))
        assert f"{entry.config_id} was proposed differently: log improvement" in story


def test_other_parameters_of_a_fit_are_named(search: Search) -> None:
    entry = search.of(ModelFitted)[0]
    changed = search.changed(entry, parameters=(entry.parameters[0] + 1e-9, *entry.parameters[1:]))
    assert "fit 0 was computed differently" in stories(search.verified(changed))
    more = search.changed(entry, results=entry.results + 1)
    assert "fit 0 was recorded, but fit 0 of" in stories(search.verified(more, ELSEWHERE))


def test_a_rung_that_was_filled_on_an_old_basis_is_named(search: Search) -> None:
    entry = search.of(RungFilled)[-1]
    earlier = search.of(RungFilled)[-2].basis
    assert "which is not the newest outcome" in stories(search.verified(search.changed(entry, basis=earlier)))


def test_a_proposal_on_an_old_basis_knows_what_ran_then(search: Search) -> None:
    """No master writes such a basis; the sampler is made again for it, and the later entries are verified as before."""
    entry = [entry for entry in search.of(Sampled) if entry.proposal.origin.value == "random"][-1]
    earlier = max(other.basis for other in search.of(Sampled) if other.basis < entry.basis)
    assert search.verified(search.changed(entry, basis=earlier)).holds


def test_a_fit_in_a_search_without_a_model_is_named() -> None:
    space = space_of()
    settings = settings_for(space, algorithm="bohb")
    engine = engine_for(settings, space)
    entries: list[Entry] = [*engine.start(1, Limits(evaluations=1), now=0.0).entries]
    entries.append(ModelFitted(number=0, results=1, exponent=1.0, parameters=()))
    assert "this algorithm has no fits" in stories(verified(settings, entries, space=space))


def test_a_late_outcome_of_a_cancelled_evaluation_ends_what_the_sampler_thinks_runs(search: Search) -> None:
    engine = engine_for(search.settings, search.space)
    engine.start(1, Limits(), now=0.0)
    grant = granted(engine, "a")
    sampler: Any = engine._sampler
    assert len(sampler._history.running()) == 1
    engine.cancel(grant.evaluation)
    assert not len(sampler._history.running())
    assert not len(sampler._history)
    assert Recorded in {type(entry) for entry in search.entries}
