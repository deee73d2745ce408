"""Replays a journal and recomputes every decision in it, to prove that each was decided by the rules.

Law of this file: it trusts the requests (with the time that an agent had left), reports and times in the journal, and
nothing else. Each bracket that was opened, each sample, promotion, rerun, retry, shrunk or filled rung must be exactly
the decision of :func:`~hpbandster_lite.engine.decisions.decide` at that point. A proposal must be what the sampler
proposes from its generator, the configurations sampled before it, and the outcomes up to its basis: bit for bit under
a master with the fingerprint of this process, otherwise the values of discrete dimensions exactly and vectors within
:data:`TOLERANCE`; the fits of a model are then those of the journal, and its numbers must agree within
:data:`MODEL_TOLERANCE`. Whether a search ended in time by the clock is not recomputed, because the journal has no
clock.

The effort is linear in the journal, plus one proposal for each configuration. (A basis that goes back, which no master
writes, makes a new sampler.)
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import cast

from hpbandster_lite.engine.decision_types import Decision, FillRung, OpenBracket, Promote, Rerun, Sample
from hpbandster_lite.engine.decisions import decide
from hpbandster_lite.engine.initial_proposals import first_proposals, vector_of
from hpbandster_lite.engine.invariants import validate
from hpbandster_lite.engine.limits import immediate_end
from hpbandster_lite.engine.pool import follow, ranked, vector_and_budget
from hpbandster_lite.engine.state import is_shown_to_model, state_for
from hpbandster_lite.engine.status import edits_of
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.hyperband.ranking import pool_survivors
from hpbandster_lite.randomness import Purpose, generator_for
from hpbandster_lite.records import (
    BracketOpened,
    ConfigId,
    Entry,
    EvaluationId,
    Expired,
    FailureKind,
    Finished,
    FinishKind,
    Leased,
    ModelFitted,
    Plain,
    Proposal,
    PutBack,
    Recorded,
    Released,
    RungFilled,
    RungShrunk,
    Sampled,
    SearchSettings,
    SetAside,
    Started,
)
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers import Ranking, Sampler
from hpbandster_lite.space import Array, SearchSpace

TOLERANCE = 1e-9
"""Tolerance of a coordinate on the unit cube, between machines whose libraries round differently."""
MODEL_TOLERANCE = 1e-6
"""Tolerance of a posterior mean and of a log improvement, between such machines."""
MOST_DIFFERENCES = 20
"""Differences that are listed: one wrong outcome makes all later proposals differ, and the first one matters."""


@record(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference between the journal and what was recomputed, at the entry with number ``position``."""

    position: int
    description: str


@record(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was recomputed and how it compares.

    Parameters
    ----------
    entries, decisions, outcomes
        How many entries were read, decisions recomputed, outcomes recorded.
    proposals, bitwise
        How many proposals were recomputed, and how many of them were compared bit for bit.
    differences, n_differences
        The first :data:`MOST_DIFFERENCES` of them, and how many there are.
    other_fingerprints
        How this process differs from masters whose proposals could not be compared bit for bit, as sentences.
    source_edits
        Where the user accepted an edited source of the problem; the losses after it are of another one.
    """

    entries: int
    decisions: int
    outcomes: int
    proposals: int
    bitwise: int
    differences: tuple[Difference, ...] = ()
    n_differences: int = 0
    other_fingerprints: tuple[str, ...] = ()
    source_edits: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing differs."""
        return not self.n_differences

    @property
    def is_bitwise(self) -> bool:
        """Whether every proposal was compared bit for bit."""
        return self.bitwise == self.proposals

    @property
    def summary(self) -> str:
        """The result for users: one sentence, and one line for each listed difference."""
        how = "bit for bit"
        if not self.is_bitwise:
            why = "; ".join(self.other_fingerprints)
            how = f"({self.bitwise} bit for bit, the others to {TOLERANCE:g}, because of {why})"
        seen = f"{self.entries} entries, {self.decisions} decisions exactly, {self.proposals} proposals {how}"
        seen = "\n".join((seen, *(f"the problem's source was {edit}" for edit in self.source_edits)))
        if self.holds:
            return f"verified: {seen}"
        listed = "\n".join(f"entry {each.position}: {each.description}" for each in self.differences)
        return f"NOT verified, {self.n_differences} differences: {seen}\n{listed}"


def verify(
    settings: SearchSettings,
    space: SearchSpace,
    make: Callable[[], Sampler],
    entries: Iterable[Entry],
    *,
    fingerprint: Mapping[str, Plain],
) -> Verification:
    """Recompute every decision of a journal.

    Parameters
    ----------
    settings
        Settings of the search.
    space
        Its compiled space.
    make
        Makes the sampler of the search, before any observation.
    entries
        The journal, from its first entry.
    fingerprint
        What the last bits of a proposal depend on in this process, made as the master made its own.
    """
    return _Verifier(settings, space, make, fingerprint).read(entries)


@dataclass(slots=True)
class _Knowledge:
    """A sampler that knows all configurations sampled so far, and the outcomes up to a basis."""

    make: Callable[[], Sampler]
    sampled: list[Array] = field(default_factory=list)
    learned: list[tuple[int, Callable[[Sampler], None]]] = field(default_factory=list)
    shown: list[tuple[int, Callable[[Ranking], None]]] = field(default_factory=list)
    """After how many outcomes the sampler was shown what is running, and how."""
    taught: int = 0
    sampler: Sampler = field(init=False)

    def __post_init__(self) -> None:
        self.sampler = self.make()

    @property
    def follows(self) -> bool:
        """Whether the sampler is shown what is running."""
        return isinstance(self.sampler, Ranking)

    def add(self, vector: Array) -> None:
        self.sampled.append(vector)
        self.sampler.add(vector)

    def show(self, position: int, follow: Callable[[Ranking], None]) -> None:
        """Show the sampler, which knows all outcomes before this position, what is running."""
        sampler = self.at(position)
        if isinstance(sampler, Ranking):
            follow(sampler)
            self.shown.append((len(self.learned), follow))

    def at(self, basis: int) -> Sampler:
        """The sampler as it was at a basis."""
        if self.taught and self.learned[self.taught - 1][0] > basis:
            self.sampler, self.taught = self.make(), 0
            for vector in self.sampled:
                self.sampler.add(vector)
            for after, follow in self.shown:
                self._teach(min(after, self._known_at(basis)))
                follow(cast(Ranking, self.sampler))
        self._teach(self._known_at(basis))
        return self.sampler

    def _known_at(self, basis: int) -> int:
        """How many of the outcomes came up to a basis."""
        return bisect_right(self.learned, basis, key=itemgetter(0))

    def _teach(self, count: int) -> None:
        for _, learn in self.learned[self.taught : count]:
            learn(self.sampler)
        self.taught = max(self.taught, count)

    def is_basis(self, basis: int) -> bool:
        """Whether something has been learned at exactly this position, or it is the beginning."""
        found = bisect_left(self.learned, basis, key=itemgetter(0))
        return basis == 0 or (found < len(self.learned) and self.learned[found][0] == basis)


class _Verifier:
    """One pass over a journal."""

    def __init__(
        self,
        settings: SearchSettings,
        space: SearchSpace,
        make: Callable[[], Sampler],
        fingerprint: Mapping[str, Plain],
    ) -> None:
        self._settings = settings
        self._space = space
        self._fingerprint = dict(fingerprint)
        self._state = state_for(settings)
        self._first = first_proposals(space, settings)
        self._knowledge = _Knowledge(make)
        self._is_same_machine = False
        self._required: tuple[type, EvaluationId | None, str] | None = None
        self._counts: Counter[str] = Counter()
        self._differences: list[Difference] = []
        self._others: dict[str, None] = {}

    def read(self, entries: Iterable[Entry]) -> Verification:
        """Check each entry before it is applied; one that cannot be applied ends the pass."""
        try:
            for entry in entries:
                self._counts["entries"] += 1
                self._judge(entry)
                self._state.apply(entry)
                self._learn(entry)
            if self._required is not None:
                self._differ(f"the journal ends although {self._required[2]}")
            validate(self._state)
        except InvariantBroken as error:
            self._differ(f"the journal cannot be replayed any further: {error}")
        return Verification(
            entries=self._counts["entries"],
            decisions=self._counts["decisions"],
            outcomes=self._counts["outcomes"],
            proposals=self._counts["proposals"],
            bitwise=self._counts["bitwise"],
            differences=tuple(self._differences),
            n_differences=self._counts["differences"],
            other_fingerprints=tuple(self._others),
            source_edits=tuple(edit.sentence for edit in edits_of(self._state)),
        )

    def _differ(self, description: str) -> None:
        self._counts["differences"] += 1
        if len(self._differences) < MOST_DIFFERENCES:
            self._differences.append(Difference(position=self._counts["entries"], description=description))

    # ------------------------------------------------------------------------------------------------- before it

    def _judge(self, entry: Entry) -> None:
        was_required = self._check_required(entry)
        match entry:
            case BracketOpened(bracket=bracket):
                self._check_decision(OpenBracket(bracket), f"bracket {bracket} was opened", entry.time_left_s)
            case Sampled(config_id=config_id):
                self._check_decision(Sample(config_id), f"{config_id} was sampled", entry.time_left_s)
                self._check_proposal(entry)
            case RungShrunk():
                self._check_shrinking(entry)
            case RungFilled():
                self._check_filling(entry)
            case ModelFitted():
                self._check_fit(entry)
            case Leased():
                self._check_lease(entry)
            case Recorded(evaluation=identity, outcome=outcome):
                failure = outcome.failure
                if failure is not None and failure.kind is FailureKind.INFRASTRUCTURE and not was_required:
                    self._differ(f"{identity} was given up as infrastructure although it had attempts left")
                if self._state.is_doubtful(identity, entry.attempt, entry.resumed_from, outcome):
                    self._differ(f"the failure of {identity} counts although attempt {entry.resumed_from} was cut off")
            case PutBack() | SetAside():
                # State.apply refuses one that may not be put back or set aside.
                self._counts["decisions"] += 1
            case Finished(kind=FinishKind.SAME_FAULT) if not was_required:
                self._differ("the search was stopped for one fault although its evaluations had not met only one")
            case _:
                pass

    def _check_lease(self, entry: Leased) -> None:
        identity = entry.evaluation
        if not self._state.is_given_back(entry):
            decision = Rerun(identity) if identity in self._state.evaluations else Promote(identity)
            self._check_decision(decision, f"{identity} was leased", entry.time_left_s)
            return
        # Not in the order of work; State.apply refuses it where another agent has the evaluation.
        self._counts["decisions"] += 1
        ended = immediate_end(self._state, self._settings, served_s=0.0)
        if ended is not None:
            self._differ(f"{identity} was given back to its agent although the search was over: {ended.reason}")

    def _check_decision(self, recorded: Decision, what: str, time_left_s: float | None) -> None:
        self._counts["decisions"] += 1
        # At the first instant of its master: a wall time that is over then was over when this was decided.
        computed = decide(self._state, self._settings, served_s=0.0, time_left_s=time_left_s)
        if computed != recorded:
            self._differ(f"{what}, but the next decision was {computed}")

    def _check_shrinking(self, entry: RungShrunk) -> None:
        config_id = self._state.next_config_id(entry.bracket, entry.rung)
        what = f"rung {entry.rung} of bracket {entry.bracket} was shrunk to {entry.places}"
        self._check_decision(Sample(config_id), what, entry.time_left_s)
        if self._proposed(config_id, self._state.observed_at) is not None:
            self._differ(f"{what} although the space is not exhausted")

    def _check_filling(self, entry: RungFilled) -> None:
        where = f"rung {entry.rung} of bracket {entry.bracket}"
        self._check_decision(FillRung(entry.bracket, entry.rung), f"{where} was filled", entry.time_left_s)
        sampler = self._knowledge.at(entry.basis)
        if entry.basis != self._state.observed_at or not isinstance(sampler, Ranking):
            self._differ(f"{where} was filled on the basis of entry {entry.basis}, which is not the newest outcome")
            return
        computed = ranked(self._state, sampler, entry.bracket, entry.rung)
        if not self._are_same(entry.means, computed.means) or entry.fit != computed.fit:
            self._differ(f"{where} was filled by the means {entry.means} of fit {entry.fit}, recomputed: "
                         f"{computed.means} of fit {computed.fit}")
        # Elsewhere the means may differ in the last bits, and the journal's ones decide.
        places = self._state.brackets[entry.bracket].rungs[entry.rung].places
        pool = self._state.candidates(entry.bracket, entry.rung)
        means = entry.means if len(entry.means) == len(pool) else ()
        promoted = tuple(pool_survivors(pool, means, places))
        if entry.promoted != promoted:
            self._differ(f"{where} was filled with {entry.promoted}, recomputed: {promoted}")

    def _check_fit(self, entry: ModelFitted) -> None:
        """On the same machine the fit is computed again; elsewhere the journal's parameters are used."""
        self._counts["decisions"] += 1
        sampler = self._knowledge.at(self._state.observed_at)
        if not isinstance(sampler, Ranking):
            self._differ(f"fit {entry.number} was recorded, but this algorithm has no fits")
            return
        try:
            if not self._is_same_machine:
                sampler.adopt(entry)
            elif sampler.fit(entry.number) != entry:
                self._differ(f"fit {entry.number} was computed differently: {sampler.fit(entry.number)}")
        except InvariantBroken as error:
            self._differ(f"fit {entry.number} was recorded, but {error}")

    def _are_same(self, recorded: Sequence[float | None], computed: Sequence[float | None]) -> bool:
        """Whether the model's numbers agree: bit for bit on the same machine, else to :data:`MODEL_TOLERANCE`."""
        if self._is_same_machine or len(recorded) != len(computed):
            return list(map(repr, recorded)) == list(map(repr, computed))
        pairs = zip(recorded, computed, strict=True)
        return all(one is other or (one is not None and other is not None and abs(one - other) <= MODEL_TOLERANCE)
                   for one, other in pairs)

    def _check_required(self, entry: Entry) -> bool:
        """Check this entry if the one before requires a certain next one in the same turn; return whether it did."""
        if self._required is None:
            return False
        (cls, identity, why), self._required = self._required, None
        if type(entry) is cls and getattr(entry, "evaluation", None) == identity:
            return True
        self._differ(f"{type(entry).__name__} came next although {why}")
        return False

    # ------------------------------------------------------------------------------------------------- proposals

    def _check_proposal(self, entry: Sampled) -> None:
        config_id, basis = entry.config_id, entry.basis
        if not self._knowledge.is_basis(basis):
            self._differ(f"{config_id} was proposed on the basis of entry {basis}, which is not an earlier outcome")
            return
        self._counts["proposals"] += 1
        self._counts["bitwise"] += self._is_same_machine
        computed = self._proposed(config_id, basis)
        sampler = self._knowledge.at(basis)
        if computed is not None and entry.proposal.fit is not None and not self._is_same_machine:
            # The search of another machine may take another way; what it found is judged by the model's own number.
            improvement = sampler.log_improvement(entry.proposal.vector) if isinstance(sampler, Ranking) else None
            computed = replace(entry.proposal, fit=computed.fit, log_improvement=improvement)
        if computed is None:
            self._differ(f"{config_id} was sampled although the space is exhausted")
            return
        difference = self._difference(entry.proposal, computed)
        if difference is not None:
            self._differ(f"{config_id} was proposed differently: {difference}")

    def _proposed(self, config_id: ConfigId, basis: int) -> Proposal | None:
        order = len(self._state.proposals)
        if order < len(self._first):
            return self._first[order]
        sampler = self._knowledge.at(basis)
        return sampler.propose(generator_for(self._settings.seed, Purpose.PROPOSAL, config_id))

    def _difference(self, recorded: Proposal, computed: Proposal) -> str | None:
        """First difference between two proposals, as a sentence."""
        if recorded.fit != computed.fit:
            return f"from fit {recorded.fit} in the journal, from fit {computed.fit} recomputed"
        if not self._are_same((recorded.log_improvement,), (computed.log_improvement,)):
            return (
                f"log improvement {recorded.log_improvement!r} in the journal, {computed.log_improvement!r} recomputed"
            )
        if (recorded.origin, recorded.model_budget) != (computed.origin, computed.model_budget):
            return (
                f"origin {recorded.origin.value} ({recorded.model_budget}) in the journal, "
                f"{computed.origin.value} ({computed.model_budget}) recomputed"
            )
        if len(recorded.vector) != len(computed.vector) or recorded.values.keys() != computed.values.keys():
            return f"{dict(recorded.values)} in the journal, {dict(computed.values)} recomputed"
        for dimension, one, other in zip(self._space.dimensions, recorded.vector, computed.vector, strict=True):
            name = dimension.name
            values = recorded.values.get(name), computed.values.get(name)
            exact = self._is_same_machine or dimension.is_discrete
            if exact and (type(values[0]), repr(values[0])) != (type(values[1]), repr(values[1])):
                return f"{name} = {values[0]!r} in the journal, {values[1]!r} recomputed"
            if not self._are_equal(one, other):
                return f"coordinate of {name}: {one!r} in the journal, {other!r} recomputed"
        return None

    def _are_equal(self, one: float | None, other: float | None) -> bool:
        if one is None or other is None:
            return one is other
        # repr distinguishes every float from every other, and minus zero from zero.
        return repr(float(one)) == repr(float(other)) if self._is_same_machine else abs(one - other) <= TOLERANCE

    # ------------------------------------------------------------------------------------------------ after it

    def _learn(self, entry: Entry) -> None:
        state, position = self._state, self._state.position
        match entry:
            case Started(fingerprint=fingerprint):
                self._compare_machines(fingerprint)
            case Sampled(proposal=proposal):
                self._knowledge.add(vector_of(proposal))
            case Expired(evaluation=identity) | Released(evaluation=identity):
                evaluation = state.evaluations[identity]
                costs = not isinstance(entry, Released) or evaluation.loses_by(entry.kind)
                if costs and evaluation.lost >= self._settings.max_attempts:
                    self._required = (Recorded, identity, f"{identity} had no attempts left")
            case Recorded(evaluation=identity, outcome=outcome):
                self._counts["outcomes"] += 1
                if is_shown_to_model(outcome):
                    vector, budget = vector_and_budget(state, identity)
                    loss = outcome.loss
                    self._knowledge.learned.append((position, lambda sampler: sampler.observe(vector, budget, loss)))
                if state.one_fault is not None:
                    self._required = (Finished, None, state.one_fault.sentence)
            case PutBack(evaluation=identity):
                vector, budget = vector_and_budget(state, identity)
                self._knowledge.learned.append((position, lambda sampler: sampler.forget(vector, budget)))
            case _:
                pass
        if self._knowledge.follows and isinstance(entry, (Sampled, Leased, Recorded, PutBack)):
            self._knowledge.show(position, lambda ranking: follow(ranking, entry, state))

    def _compare_machines(self, recorded: Mapping[str, Plain]) -> None:
        mine = self._fingerprint
        differing = [key for key in {**recorded, **mine} if recorded.get(key) != mine.get(key)]
        self._is_same_machine = not differing and bool(recorded)
        if not recorded:
            self._others["a master without a fingerprint"] = None
        for key in differing if recorded else ():
            self._others[f"{key} {recorded.get(key)} there and {mine.get(key)} here"] = None
