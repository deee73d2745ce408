"""A journal that the engine wrote is verified; for a journal with a different decision, verify names its place."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pytest
from ConfigSpace import Categorical, Float

from hpbandster_lite import wire
from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.verify import MOST_DIFFERENCES, Verification
from hpbandster_lite.records import (
    BracketOpened,
    Entry,
    EvaluationId,
    FailureKind,
    HandBackKind,
    Leased,
    Limits,
    ModelFitted,
    Outcome,
    Plain,
    PutBack,
    Recorded,
    Released,
    RungFilled,
    RungShrunk,
    Sampled,
    Started,
)
from hpbandster_lite.space import SearchSpace
from tests.engine_room import (
    engine_for,
    failed,
    loss,
    settings_for,
    space_of,
    verified,
)

HERE: Mapping[str, Plain] = {"numpy": "2.0", "threads": None}
ELSEWHERE: Mapping[str, Plain] = {"numpy": "1.0", "threads": None}
ALGORITHMS = ["bohb", "mfbo", "bo", "hyperband", "sh", "random"]
E = TypeVar("E")


@dataclass
class Run:
    """A search by three agents that lose, fail and hand back evaluations, and its journal."""

    algorithm: str = "bohb"
    space: SearchSpace = field(default_factory=space_of)
    limits: Limits = field(default_factory=lambda: Limits(evaluations=70))
    seed: int = 0
    bad: float = 0.3
    initial: tuple[Any, ...] = ()
    settings: Any = None
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        # By default a third of the proposals is random; here fewer, so that the model makes more of them.
        sampler = {"random_fraction": 0.1} if self.algorithm in ("bohb", "bo") else {}
        first = self.space.to_values(self.space.sample(np.random.default_rng(1), 1))
        given = self.initial or tuple(first)
        self.settings = settings_for(self.space, algorithm=self.algorithm, initial=given, sampler=sampler)
        self.settings = replace(self.settings, keeps_given_values=bool(self.initial))
        self.random = random.Random(self.seed)
        engine = engine_for(self.settings, self.space)
        self.entries += engine.start(1, self.limits, now=0.0, fingerprint=HERE).entries
        for step in range(2_000):
            if engine.finished is not None:
                break
            self.step(engine, f"a{step % 3}", step, float(step))
        assert engine.finished is not None
        self.entries += engine.start(2, self.limits, now=0.0, fingerprint=HERE, retry_failed=True).entries

    def step(self, engine: Engine, agent: str, request: int, now: float) -> None:
        turn = engine.lease(agent, request, now=now)
        self.entries += turn.entries
        if not isinstance(turn.answer, Granted):
            return
        grant, dice = turn.answer.grant, self.random.random()
        if dice < 0.6 or dice > 0.6 + self.bad:
            value = math.sin(5 * float(grant.values.get("x", 0.5)))  # type: ignore[arg-type]  # x is a number
            self.entries += engine.report(agent, loss(grant, value), now=now).entries
        elif dice < 0.6 + self.bad / 3:
            kind = self.random.choice([FailureKind.CODE, FailureKind.MEMORY, FailureKind.INFRASTRUCTURE])
            self.entries += engine.report(agent, failed(grant, kind, f"{request:b}".replace("1", "x")), now=now).entries
        elif dice < 0.6 + self.bad / 2:
            self.entries += engine.cancel(grant.evaluation).entries
        elif dice < 0.6 + self.bad / 1.5:
            released = engine.release(
                agent, grant.evaluation, grant.attempt, "x", None, now=now, kind=self.random.choice(list(HandBackKind))
            )
            self.entries += released.entries
        # Otherwise it is lost: its agent requests new work.

    def verified(self, entries: list[Entry] | None = None, fingerprint: Mapping[str, Plain] = HERE) -> Verification:
        entries = self.entries if entries is None else entries
        return verified(self.settings, entries, space=self.space, fingerprint=fingerprint)

    def position(self, cls: type, which: Callable[[Any], bool] = lambda entry: True, number: int = 0) -> int:
        """Index of an entry."""
        found = [at for at, entry in enumerate(self.entries) if isinstance(entry, cls) and which(entry)]
        return found[number]

    def changed(self, at: int, **fields: Any) -> list[Entry]:
        entries = list(self.entries)
        entries[at] = replace(entries[at], **fields)
        return entries


@pytest.fixture(scope="module")
def run() -> Run:
    return Run()


def first_story(verification: Verification, at: int | None = None) -> str:
    """The first difference, at the entry with this index."""
    assert not verification.holds
    first = verification.differences[0]
    assert at is None or first.position == at + 1
    return first.description


# --------------------------------------------------------------------------------------------------------------- law


def test_given_values_are_verified_to_the_last_bit_and_tuples_as_lists() -> None:
    space = space_of(Categorical("k", [(3, 3), (5, (1, 1))]), Float("x", (0.0, 1.0)))
    run = Run(space=space, initial=({"k": [5, [1, 1]], "x": 0.12345678901234566}, {"k": [3, 3], "x": 0.1234567890123}))
    entries = [wire.from_message(wire.decode(wire.encode(wire.to_message(entry)))) for entry in run.entries]
    assert run.verified(entries).holds
    at = run.position(Sampled, number=1)
    # It has a proposal.
    assert run.entries[at].proposal.values == {"k": [5, [1, 1]], "x": 0.12345678901234566}  # type: ignore[union-attr]
    # It has a proposal.
    rounded = replace(run.entries[at].proposal, values={"k": [5, [1, 1]], "x": 0.1234567890123})  # type: ignore[union-attr]
    assert "x = 0.1234567890123 in the journal" in first_story(run.verified(run.changed(at, proposal=rounded)), at)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("seed", range(3))
def test_what_the_engine_decided_is_verified_bit_for_bit(algorithm: str, seed: int) -> None:
    run = Run(algorithm=algorithm, seed=seed)
    verification = run.verified()
    assert verification.holds, verification.summary
    assert verification.is_bitwise
    assert verification.entries == len(run.entries)
    assert verification.proposals == sum(isinstance(entry, Sampled) for entry in run.entries) > 20
    decided = (Sampled, Leased, BracketOpened, RungShrunk, RungFilled, ModelFitted, PutBack)
    assert verification.decisions == sum(isinstance(entry, decided) for entry in run.entries)
    assert verification.outcomes == sum(isinstance(entry, Recorded) for entry in run.entries)
    assert verification.summary == (
        f"verified: {verification.entries} entries, {verification.decisions} decisions exactly, "
        f"{verification.proposals} proposals bit for bit"
    )


@pytest.mark.parametrize("algorithm", ["bohb", "mfbo", "hyperband"])
def test_a_small_space_that_was_exhausted_is_verified(algorithm: str) -> None:
    from ConfigSpace import Categorical

    run = Run(algorithm=algorithm, space=space_of(Categorical("c", list("abcdefgh"))), limits=Limits())
    assert any(isinstance(entry, RungShrunk) for entry in run.entries)
    assert run.verified().holds, run.verified().summary


def test_the_run_that_is_tampered_with_has_everything_in_it(run: Run) -> None:
    assert {type(entry).__name__ for entry in run.entries} >= {
        *("Started", "BracketOpened", "Sampled", "Leased", "Recorded", "Released", "Expired", "PutBack", "Finished"),
    }
    origins = {entry.proposal.origin.value for entry in run.entries if isinstance(entry, Sampled)}
    assert origins == {"default", "initial", "random", "model"}


def test_a_proposal_that_was_computed_ahead_is_verified_on_its_own_basis(run: Run) -> None:
    """A basis may be earlier than its entry: then the sampler has only the data up to the basis."""
    at = run.position(Sampled, lambda entry: entry.proposal.origin.value == "random", -1)
    entry = run.entries[at]
    assert isinstance(entry, Sampled)
    earlier = max(other.basis for other in run.entries[:at] if isinstance(other, Sampled) and other.basis < entry.basis)
    assert run.verified(run.changed(at, basis=earlier)).holds


# ------------------------------------------------------------------------------------------------------- fingerprints


def test_on_another_machine_the_last_bits_may_differ_and_it_says_which_machine(run: Run) -> None:
    verification = run.verified(fingerprint=ELSEWHERE)
    assert verification.holds
    assert (verification.is_bitwise, verification.bitwise) == (False, 0)
    assert "because of numpy 2.0 there and 1.0 here" in verification.summary


def test_without_a_recorded_fingerprint_nothing_is_compared_bit_for_bit(run: Run) -> None:
    verification = run.verified(run.changed(0, fingerprint={}))
    assert verification.holds
    assert not verification.is_bitwise
    assert "a master without a fingerprint" in verification.summary
    # Two machines without a known fingerprint do not count as the same machine.
    assert run.verified(run.changed(0, fingerprint={}), fingerprint={}).bitwise == 0


def moved(entry: Sampled, shift: Callable[[float], float]) -> Any:
    vector = list(entry.proposal.vector)
    index = next(i for i, u in enumerate(vector) if u is not None and 0.1 < u < 0.9)
    vector[index] = shift(vector[index] or 0.0)
    return replace(entry.proposal, vector=tuple(vector))


def test_a_last_bit_counts_here_and_not_elsewhere_but_a_millionth_counts_everywhere(run: Run) -> None:
    at = run.position(Sampled, lambda entry: entry.proposal.origin.value == "random", -1)
    # It has a proposal.
    last_bit = run.changed(at, proposal=moved(run.entries[at], lambda u: math.nextafter(u, 1.0)))  # type: ignore[arg-type]
    assert "coordinate of " in first_story(run.verified(last_bit), at)
    assert run.verified(last_bit, ELSEWHERE).holds
    # It has a proposal.
    millionth = run.changed(at, proposal=moved(run.entries[at], lambda u: u + 1e-6))  # type: ignore[arg-type]
    assert "coordinate of " in first_story(run.verified(millionth, ELSEWHERE), at)


# ---------------------------------------------------------------------------------------------------------- tampering


def test_a_discrete_value_is_exact_everywhere(run: Run) -> None:
    at = run.position(Sampled, number=5)
    entry = run.entries[at]
    assert isinstance(entry, Sampled)
    # n is a number.
    values = {**entry.proposal.values, "n": entry.proposal.values["n"] % 9 + 1}  # type: ignore[operator]
    tampered = run.changed(at, proposal=replace(entry.proposal, values=values))
    assert "n = " in first_story(run.verified(tampered, ELSEWHERE), at)


def test_an_origin_is_exact(run: Run) -> None:
    at = run.position(Sampled, lambda entry: entry.proposal.origin.value == "model")
    entry = run.entries[at]
    assert isinstance(entry, Sampled)
    tampered = run.changed(at, proposal=replace(entry.proposal, model_budget=27.0))
    assert "origin model (27.0) in the journal" in first_story(run.verified(tampered), at)


def test_a_changed_loss_shows_in_what_was_promoted_or_proposed(run: Run) -> None:
    promoted = run.entries[run.position(Leased, lambda entry: entry.evaluation.rung > entry.evaluation.config_id.rung)]
    assert isinstance(promoted, Leased)
    below = EvaluationId(promoted.evaluation.config_id, promoted.evaluation.rung - 1)
    at = run.position(Recorded, lambda entry: entry.evaluation == below)
    verification = run.verified(run.changed(at, outcome=Outcome(loss=1e6)))
    assert not verification.holds
    assert verification.differences[0].position > at + 1


def test_a_basis_that_is_no_outcome_before_it_is_named(run: Run) -> None:
    at = run.position(Sampled, number=10)
    story = first_story(run.verified(run.changed(at, basis=2)), at)
    assert "on the basis of entry 2, which is not an earlier outcome" in story
    later = run.changed(at, basis=at + 5)
    assert f"on the basis of entry {at + 5}" in first_story(run.verified(later), at)


def test_another_basis_shows_in_what_the_model_proposes(run: Run) -> None:
    at = run.position(Sampled, lambda entry: entry.proposal.origin.value == "model", -1)
    verification = run.verified(run.changed(at, basis=0))
    assert "proposed differently" in first_story(verification, at)
    # The sampler is rebuilt for this entry, and the following ones are verified with their own basis again.
    assert verification.n_differences == 1


def test_work_in_another_order_is_named(run: Run) -> None:
    at = run.position(Leased, lambda entry: entry.evaluation.rung == 1)
    entry = run.entries[at]
    assert isinstance(entry, Leased)
    following = run.position(Leased, lambda other: other.evaluation.rung == 1 and other.evaluation != entry.evaluation)
    other = run.entries[following]
    assert isinstance(other, Leased)
    assert "was leased, but the next decision was Promote" in first_story(
        run.verified(run.changed(at, evaluation=other.evaluation)), at
    )


def test_a_bracket_opened_early_is_named(run: Run) -> None:
    at = run.position(BracketOpened) + 1
    entries = [*run.entries[:at], BracketOpened(bracket=1), *run.entries[at:]]
    assert "bracket 1 was opened, but the next decision was Sample" in first_story(run.verified(entries), at)


def test_a_rung_that_was_shrunk_without_need_is_named(run: Run) -> None:
    at = run.position(Sampled, number=3)
    entries = [*run.entries[:at], RungShrunk(bracket=0, rung=0, places=3), *run.entries[at:]]
    assert "although the space is not exhausted" in first_story(run.verified(entries), at)


def test_an_entry_that_is_missing_or_doubled_is_named(run: Run) -> None:
    at = run.position(Leased, number=4)
    assert not run.verified([*run.entries[:at], *run.entries[at + 1 :]]).holds
    assert not run.verified([*run.entries[: at + 1], *run.entries[at:]]).holds


def test_an_evaluation_given_up_too_early_and_one_that_was_not_are_named() -> None:
    space = space_of()
    engine = engine_for(settings_for(space, max_attempts=2), space)
    entries = [*engine.start(1, Limits(), now=0.0).entries]
    for agent in "ab":
        turn = engine.lease(agent, 1, now=0.0)
        assert isinstance(turn.answer, Granted)
        entries += turn.entries
        entries += engine.report(agent, failed(turn.answer.grant, FailureKind.INFRASTRUCTURE), now=0.0).entries
    assert isinstance(entries[-1], Recorded)
    lenient, strict = (settings_for(space, max_attempts=most) for most in (3, 2))
    judged = partial(verified, space=space)
    assert judged(strict, entries).holds
    assert "although it had attempts left" in first_story(judged(lenient, entries), len(entries) - 1)
    assert "the journal ends although 0-0-0@0 had no attempts left" in first_story(judged(strict, entries[:-1]))
    instead = [*entries[:-1], Started(epoch=2, limits=Limits())]
    assert "Started came next although 0-0-0@0 had no attempts left" in first_story(judged(strict, instead))


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        (HandBackKind.UNORDERED, True),
        (HandBackKind.REFUSED, False),
        (HandBackKind.UNEXPLAINED, False),
        (None, False),
    ],
)
def test_the_kind_of_a_hand_back_decides_whether_an_evaluation_is_to_be_given_up(
    kind: HandBackKind | None, ends: bool
) -> None:
    """None is the rule of entries that were written before hand-backs had a kind."""
    space = space_of()
    settings = settings_for(space, max_attempts=1)
    engine = engine_for(settings, space)
    entries = [*engine.start(1, Limits(), now=0.0).entries]
    turn = engine.lease("a", 1, now=0.0)
    assert isinstance(turn.answer, Granted)
    released = Released(evaluation=turn.answer.grant.evaluation, attempt=1, agent="a", reason="x", kind=kind)
    verification = verified(settings, [*entries, *turn.entries, released], space=space)
    assert verification.holds == (not ends)
    if ends:
        assert "the journal ends although 0-0-0@0 had no attempts left" in first_story(verification)


def test_the_third_unexplained_hand_back_requires_that_the_evaluation_is_given_up() -> None:
    space = space_of()
    settings = settings_for(space, max_attempts=1)
    engine = engine_for(settings, space)
    entries = [*engine.start(1, Limits(), now=0.0).entries]
    for attempt in range(1, 4):
        assert verified(settings, entries, space=space).holds
        turn = engine.lease("a", attempt, now=0.0)
        assert isinstance(turn.answer, Granted)
        what = turn.answer.grant.evaluation
        kind = HandBackKind.UNEXPLAINED
        entries += [*turn.entries, *engine.release("a", what, attempt, "x", None, now=0.0, kind=kind).entries]
    assert verified(settings, entries, space=space).holds
    assert isinstance(entries[-1], Recorded)
    verification = verified(settings, entries[:-1], space=space)
    assert "the journal ends although 0-0-0@0 had no attempts left" in first_story(verification)


def test_the_first_differences_are_listed_and_all_are_counted(run: Run) -> None:
    entries = [
        replace(entry, proposal=replace(entry.proposal, model_budget=81.0)) if isinstance(entry, Sampled) else entry
        for entry in run.entries
    ]
    verification = run.verified(entries)
    assert len(verification.differences) == MOST_DIFFERENCES
    assert verification.n_differences == verification.proposals
    assert verification.summary.startswith(f"NOT verified, {verification.n_differences} differences: ")
    assert verification.summary.count("\nentry ") == MOST_DIFFERENCES
