"""When two failures are the same fault, and whether a search began with nothing else.

Law of this file: text in, text out. A fault is the traceback (the reason where there is none) without addresses and
numbers, which differ from run to run. Places in the code (file, line, function) are kept.
"""

from __future__ import annotations

import re

from hpbandster_lite.records import Failure, FailureKind, Outcome

SAME_FAULTS = 3
"""Evaluations that must end before the search is judged by their faults."""
SHOWN_LINES = 40
"""Lines shown of a traceback or log: its end, where the error is."""

_PLACE = re.compile(r'\s*File ".*", line \d+, in ')
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_NOT_RUN_TO_THE_END = frozenset({FailureKind.INFEASIBLE, FailureKind.INFRASTRUCTURE, FailureKind.CANCELLED})
"""Failures of evaluations that did not run to their end: they prove nothing about the code."""


def fault_of(failure: Failure) -> str:
    """A text that two failures share exactly if they have the same fault.

    Parameters
    ----------
    failure
        Of kind ``code``; others are not the code's fault.
    """
    lines = (failure.traceback or failure.reason).splitlines()
    return "\n".join(line if _PLACE.match(line) else _without_noise(line) for line in lines)


def _without_noise(line: str) -> str:
    return _NUMBER.sub("#", _ADDRESS.sub("0x", line))


def shown(failure: Failure) -> str:
    """The failure as users see it: the end of its traceback; without one its reason and the end of its log."""
    if failure.traceback is not None:
        return "\n".join(failure.traceback.rstrip().splitlines()[-SHOWN_LINES:])
    return "\n".join((failure.reason, *failure.log_tail[-SHOWN_LINES:]))


class FirstFaults:
    """The outcomes of the first evaluations that ran to their end."""

    def __init__(self) -> None:
        self._fault: str | None = None
        self._count = 0
        self._is_cleared = False

    def add(self, outcome: Outcome) -> None:
        """Add the outcome of the next evaluation that ended."""
        failure = outcome.failure
        if self._is_cleared or (failure is not None and failure.kind in _NOT_RUN_TO_THE_END):
            return
        fault = fault_of(failure) if failure is not None and failure.kind is FailureKind.CODE else None
        self._is_cleared = fault is None or self._fault not in (None, fault)
        self._fault = fault
        self._count += 1

    def begin_again(self) -> None:
        """Forget the fault when a search that was stopped for it is started again."""
        if self.are_the_same:
            self._fault, self._count = None, 0

    @property
    def are_the_same(self) -> bool:
        """Whether the first :data:`SAME_FAULTS` evaluations, and all since, ended with one fault of the code."""
        return not self._is_cleared and self._count >= SAME_FAULTS
