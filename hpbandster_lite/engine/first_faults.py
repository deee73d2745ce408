"""Whether a search has met nothing but one fault, for which it stops.

Law of this file: outcomes in, a verdict out; only :meth:`~hpbandster_lite.engine.state.State.apply` feeds it. A search
in which one evaluation has a loss never stops for its faults. Each start says in the journal by which rule it judges,
so that a journal keeps the rule under which it was written:

======== =============================================================================================
rule 1   The first three evaluations, and all since, failed with one fault of the code.
rule 2   The first three evaluations all missed the same thing, with any configurations; or ten
         configurations failed with one fault of the code; or twenty evaluations were ``invalid`` alike.
======== =============================================================================================
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from hpbandster_lite.engine.same_fault import fault_of
from hpbandster_lite.records import FIRST_FAULTS_RULE, ConfigId, Failure, FailureKind, Outcome
from hpbandster_lite.records.decorator import record

MISSES = 3
"""The first evaluations that must all miss the same thing."""
CONFIGURATIONS = 10
"""Configurations that must fail with one fault of the code."""
INVALID_RESULTS = 20
"""Evaluations that must be ``invalid`` alike."""

_NOT_RUN_TO_THE_END = frozenset({FailureKind.INFEASIBLE, FailureKind.INFRASTRUCTURE, FailureKind.CANCELLED})
"""Failures of evaluations that did not run to their end: they prove nothing about the code."""


@record(frozen=True, slots=True)
class OneFault:
    """Why a search stops, as a sentence; ``depends`` is whether other configurations may avoid the fault."""

    sentence: str
    depends: bool


@dataclass
class _Rule1:
    """Of journals of version 0.1.0."""

    fault: str | None = None
    count: int = 0
    is_cleared: bool = False

    def add(self, _config_id: ConfigId, failure: Failure | None) -> None:
        if self.is_cleared:
            return
        fault = fault_of(failure) if failure is not None and failure.kind is FailureKind.CODE else None
        self.is_cleared = fault is None or self.fault not in (None, fault)
        self.fault = fault
        self.count += 1

    def begin_again(self) -> None:
        if self.verdict is not None:
            self.fault, self.count = None, 0

    @property
    def verdict(self) -> OneFault | None:
        if self.is_cleared or self.count < MISSES:
            return None
        return OneFault(f"the first {MISSES} evaluations all failed with the same fault", depends=True)


@dataclass
class _Rule2:
    """Of journals from now on. A fault is kept as its digest: a search in which all fail has many tracebacks."""

    is_cleared: bool = False
    ended: int = 0
    missed: Counter[str] = field(default_factory=Counter)
    configurations: dict[bytes, set[ConfigId]] = field(default_factory=dict)
    invalid: Counter[bytes] = field(default_factory=Counter)
    verdict: OneFault | None = None

    def add(self, config_id: ConfigId, failure: Failure | None) -> None:
        if failure is None:
            self._forget()
            self.is_cleared = True
        elif not self.is_cleared and self.verdict is None:
            self.verdict = self._judge(config_id, failure)

    def _judge(self, config_id: ConfigId, failure: Failure) -> OneFault | None:
        self.ended += 1
        missed = failure.misses
        if missed is not None:
            self.missed[missed] += 1
            if self.missed[missed] == self.ended >= MISSES:
                sentence = f"the first {MISSES} evaluations all failed with the same fault: they miss {missed}"
                return OneFault(sentence, depends=False)
        if failure.kind is FailureKind.CODE:
            failed = self.configurations.setdefault(_digest(failure), set())
            failed.add(config_id)
            if len(failed) >= CONFIGURATIONS:
                sentence = f"{CONFIGURATIONS} configurations failed with the same fault and no evaluation succeeded"
                return OneFault(sentence, depends=True)
        if failure.kind is FailureKind.INVALID:
            self.invalid[_digest(failure)] += 1
            if self.invalid[_digest(failure)] >= INVALID_RESULTS:
                sentence = f"{INVALID_RESULTS} evaluations had the same invalid result and none succeeded"
                return OneFault(sentence, depends=True)
        return None

    def begin_again(self) -> None:
        if self.verdict is not None:
            self._forget()

    def _forget(self) -> None:
        self.ended, self.verdict = 0, None
        self.missed.clear()
        self.configurations.clear()
        self.invalid.clear()


def _digest(failure: Failure) -> bytes:
    return hashlib.blake2b(fault_of(failure).encode("utf-8", "surrogatepass"), digest_size=16).digest()


class FirstFaults:
    """The outcomes of a search until its first loss."""

    def __init__(self) -> None:
        self._rules: dict[int, _Rule1 | _Rule2] = {1: _Rule1(), FIRST_FAULTS_RULE: _Rule2()}
        self._rule = 1
        self._keeps_going = False
        self._has_loss = False

    def add(self, config_id: ConfigId, outcome: Outcome) -> None:
        """Add the outcome of the next evaluation that ended."""
        failure = outcome.failure
        if self._has_loss or (failure is not None and failure.kind in _NOT_RUN_TO_THE_END):
            return
        for rule in self._rules.values():
            rule.add(config_id, failure)
        self._has_loss = failure is None

    def begin(self, rule: int, *, keep_going: bool) -> None:
        """A master starts: a rule by which the search stopped, or would have, counts from the beginning."""
        for each in self._rules.values():
            each.begin_again()
        self._rule, self._keeps_going = rule, keep_going

    @property
    def verdict(self) -> OneFault | None:
        """Why the search must stop; None if it goes on."""
        return None if self._keeps_going else self._rules[self._rule].verdict
