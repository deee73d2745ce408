"""What the engine decides and answers, as values.

Law of this file: values only; the code that decides does not act on the decision. Answers that reach an agent
unchanged (``Wait``, ``Leave``, ``Keep``, ``Stop``) are records of :mod:`hpbandster_lite.protocol.messages`. For the
others the master makes a message that has more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Generic, TypeAlias, TypeVar

from hpbandster_lite.protocol.messages import Leave, ReportIs, Wait
from hpbandster_lite.records import ConfigId, Entry, EvaluationId, FailureKind, Finished, Values
from hpbandster_lite.records.decorator import record

A = TypeVar("A")
MOST_NAMED = 5
"""Evaluations that a sentence names; it counts all of them."""


@record(frozen=True, slots=True, kw_only=True)
class Grant:
    """The right of one agent to one attempt of one evaluation.

    The message of the same name has paths, which only the master knows, and the settings that the objective needs.
    ``previous_directory`` is where the rung below left its checkpoint; ``earlier`` lists the earlier attempts of this
    evaluation, the newest first, each with the directory that it handed back. That is ``None`` for a lost attempt,
    whose own directory may still hold a checkpoint. ``note`` is for the log of the attempt. ``timelines`` lists the
    attempts with an epoch in the name of their directory, which were leased after a journal had been restored.
    """

    evaluation: EvaluationId
    attempt: int
    values: Values
    budget: float
    seed: int
    lease_s: float
    heartbeat_s: float
    previous_directory: str | None = None
    earlier: tuple[tuple[int, str | None], ...] = ()
    note: str = ""
    timelines: tuple[tuple[int, int], ...] = ()


@record(frozen=True, slots=True)
class Granted:
    """Evaluate this."""

    grant: Grant


@record(frozen=True, slots=True, kw_only=True)
class Effect:
    """The effect of a user's command; the message, ``CommandAnswer``, has the master's epoch, too."""

    is_change: bool
    sentence: str


@record(frozen=True, slots=True, kw_only=True)
class Retried:
    """Which failures a start put back.

    ``put_back`` are run again. ``decided`` failed for the same reasons, but their rungs have promoted or sampled
    because of that; ``others`` counts, by kind, the failures that no change of the code undoes.
    """

    put_back: tuple[EvaluationId, ...] = ()
    decided: tuple[EvaluationId, ...] = ()
    others: Mapping[FailureKind, int] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What was put back and what was not, as a sentence for users."""
        parts = [f"{_counted(len(self.put_back), 'failed evaluation is', 'failed evaluations are')} run again"]
        if self.decided:
            some = ", ".join(map(str, self.decided[:MOST_NAMED]))
            named = some if len(self.decided) <= MOST_NAMED else f"{some}, ..."
            parts.append(f"{_counted(len(self.decided), 'is', 'are')} not ({named}): promotions were decided with that")
        for kind, count in self.others.items():
            parts.append(f"{_counted(count, 'is', 'are')} not, because {kind.value} is no fault of the code")
        return "; ".join(parts)


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


@record(frozen=True, slots=True)
class Done:
    """The search is over; the message of the same name has the words and the configurations that keep checkpoints."""

    finished: Finished


@record(frozen=True, slots=True)
class Sample:
    """A fresh configuration of this id takes a place."""

    config_id: ConfigId


@record(frozen=True, slots=True)
class Promote:
    """A configuration is promoted to this rung."""

    evaluation: EvaluationId


@record(frozen=True, slots=True)
class Rerun:
    """An evaluation that was lost or handed back is run again."""

    evaluation: EvaluationId


@record(frozen=True, slots=True)
class OpenBracket:
    """The next bracket of the plan is opened."""

    bracket: int


@record(frozen=True, slots=True)
class FillRung:
    """A rung opens, and the pool of its budget is ranked to fill it."""

    bracket: int
    rung: int


Decision: TypeAlias = Sample | Promote | Rerun | OpenBracket | FillRung | Wait | Leave | Done


@record(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """The answer to a report and a request for work; the message, ``SlotAnswer``, has the slot's number too."""

    report_is: ReportIs | None = None
    answer: Granted | Wait | Leave | Done | None = None


@record(frozen=True, slots=True)
class Turn(Generic[A]):
    """An answer and the entries that must be durable before it is sent; they are applied already."""

    answer: A
    entries: tuple[Entry, ...] = field(default=())
