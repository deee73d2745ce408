"""What users read from a journal: if its search maximizes, with the sign of what the objective returns.

Law of this file: a journal has losses, the lower the better (:mod:`hpbandster_lite.hyperband.direction`). Everything
that a user reads from it, except the status, passes through here; comparisons use the journal's own losses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from hpbandster_lite.hyperband.direction import turned, turned_limits
from hpbandster_lite.journal import EvaluationRow, JournalReader
from hpbandster_lite.records import EvaluationId, Limits, Outcome


def evaluation_rows(reader: JournalReader, states: Collection[str] = ()) -> list[EvaluationRow]:
    """The rows of :meth:`~hpbandster_lite.journal.JournalReader.evaluations`."""
    maximize = reader.settings().maximize
    return [{**row, "loss": turned(row["loss"], maximize=maximize)} for row in reader.evaluations(states)]


def best_row(reader: JournalReader) -> EvaluationRow | None:
    """The row of the incumbent."""
    best = reader.best()
    return None if best is None else {**best, "loss": turned(best["loss"], maximize=reader.settings().maximize)}


def outcomes(reader: JournalReader) -> Mapping[EvaluationId, Outcome]:
    """The outcomes with their curves."""
    maximize, found = reader.settings().maximize, reader.outcomes()
    return {each: users_outcome(outcome, maximize=maximize) for each, outcome in found.items()} if maximize else found


def users_outcome(outcome: Outcome, *, maximize: bool) -> Outcome:
    """One outcome with its curve."""
    if not maximize:
        return outcome
    curve = tuple(point._replace(loss=turned(point.loss, maximize=True)) for point in outcome.curve)
    return replace(outcome, loss=turned(outcome.loss, maximize=True), curve=curve)


def limits_of(reader: JournalReader) -> Limits:
    """The limits of the newest start."""
    return turned_limits(reader.limits(), maximize=reader.settings().maximize)
