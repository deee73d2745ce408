"""What each entry means for the tables that readers query.

Law of this file: the tables follow from the entries alone, each entry changes them once, in the transaction that stores
it. Wall-clock times are those of the commits, so a duration is as exact as a turn of the master is short.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import cast

from hpbandster_lite import wire
from hpbandster_lite.brackets import Rule, plan_bracket
from hpbandster_lite.records import (
    BracketOpened,
    Entry,
    EvaluationId,
    Expired,
    Finished,
    LateReport,
    Leased,
    Paused,
    PutBack,
    Recorded,
    Released,
    Resumed,
    RungShrunk,
    Sampled,
    SearchSettings,
    Started,
)

_SAMPLED = """
INSERT INTO configurations (bracket, sampled_rung, number, hyperparameters, origin, model_budget, sampled_at, sampled)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_QUEUED = """
INSERT INTO evaluations (bracket, sampled_rung, number, rung, budget, state, queued_at)
VALUES (?, ?, ?, ?, ?, 'queued', ?)
"""
_RUNG_ENDED = "SELECT max(finished_at) FROM evaluations WHERE bracket = ? AND rung = ?"
_LEASED = """
UPDATE evaluations SET state = 'running', attempt = :attempt, agent = :agent, worker = :worker, leased_at = :at
WHERE bracket = :bracket AND sampled_rung = :sampled_rung AND number = :number AND rung = :rung
"""
# Only the attempt that runs is handed back: an older one's end changes nothing.
_HANDED_BACK = """
UPDATE evaluations SET state = 'queued', agent = NULL, worker = NULL, queued_at = ?, leased_at = NULL
WHERE bracket = ? AND sampled_rung = ? AND number = ? AND rung = ? AND attempt = ? AND state = 'running'
"""
# Its outcome no longer counts; the entry that holds it stays.
_PUT_BACK = """
UPDATE evaluations SET
    state = 'queued', agent = NULL, worker = NULL, queued_at = ?, leased_at = NULL, started_at = NULL,
    finished_at = NULL, loss = NULL, failure = NULL, reason = NULL, directory = NULL, outcome = NULL
WHERE bracket = ? AND sampled_rung = ? AND number = ? AND rung = ?
"""
# The outcome may be that of an earlier attempt, whose lease had expired: then the lease in the row is not its own.
_RECORDED = """
UPDATE evaluations SET
    leased_at = CASE WHEN attempt = :attempt THEN leased_at END,
    worker = CASE WHEN attempt = :attempt THEN worker END,
    started_at = coalesce(:at - :duration_s, CASE WHEN attempt = :attempt THEN leased_at END),
    finished_at = :at, attempt = :attempt, agent = :agent, state = :state, loss = :loss, failure = :failure,
    reason = :reason, directory = :directory, outcome = :position
WHERE bracket = :bracket AND sampled_rung = :sampled_rung AND number = :number AND rung = :rung
"""


class Tables:
    """Keeps the tables of one journal.

    Parameters
    ----------
    connection
        A connection within a transaction whenever :meth:`follow` is called.
    settings
        Of the search; they tell the budgets of the rungs.
    """

    def __init__(self, connection: sqlite3.Connection, settings: SearchSettings) -> None:
        self._execute = connection.execute
        self._settings = settings
        self._budgets: dict[int, tuple[float, ...]] = {}

    def follow(self, entry: Entry, position: int, at: float) -> None:
        """Change the tables as an entry at this position says, committed at this wall-clock time."""
        match entry:
            case Recorded():
                self._recorded(entry, position, at)
            case Leased():
                self._leased(entry, at)
            case Sampled():
                self._sampled(entry, position, at)
            case Released() | Expired():
                self._execute(_HANDED_BACK, (at, *_key(entry.evaluation), entry.attempt))
            case PutBack():
                self._execute(_PUT_BACK, (at, *_key(entry.evaluation)))
            case Started():
                limits = wire.encode(wire.to_message(entry.limits))
                self._execute("UPDATE search SET limits = ?, finished = NULL", (limits,))
            case Finished():
                self._execute("UPDATE search SET finished = ?", (_text(entry.reason),))
            case Paused():
                self._execute("UPDATE search SET paused = ?, paused_at = ?", (_text(entry.reason), at))
            case Resumed():
                self._execute("UPDATE search SET paused = NULL, paused_at = NULL")
            case BracketOpened() | RungShrunk() | LateReport():
                pass

    def _sampled(self, entry: Sampled, position: int, at: float) -> None:
        proposal = entry.proposal
        self._execute(
            _SAMPLED,
            (
                *entry.config_id,
                wire.encode(proposal.values, limit_bytes=None),
                proposal.origin.value,
                proposal.model_budget,
                at,
                position,
            ),
        )
        evaluation = EvaluationId(entry.config_id, entry.config_id.rung)
        self._execute(_QUEUED, (*_key(evaluation), self._budget(evaluation), at))

    def _update(self, statement: str, row: Mapping[str, object], evaluation: EvaluationId, at: float) -> None:
        """Change the row of an evaluation; one first heard of is a promotion, waiting since the rung below ended."""
        bracket, sampled_rung, number, rung = key = _key(evaluation)
        row = {**row, "at": at, "bracket": bracket, "sampled_rung": sampled_rung, "number": number, "rung": rung}
        if self._execute(statement, row).rowcount == 0:
            (ended,) = self._execute(_RUNG_ENDED, (bracket, rung - 1)).fetchone()
            self._execute(_QUEUED, (*key, self._budget(evaluation), at if ended is None else ended))
            self._execute(statement, row)

    def _leased(self, entry: Leased, at: float) -> None:
        row = {
            "attempt": entry.attempt,
            "agent": _text(entry.agent),
            "worker": _text(entry.worker or entry.agent),
        }
        self._update(_LEASED, row, entry.evaluation, at)

    def _recorded(self, entry: Recorded, position: int, at: float) -> None:
        outcome, failure = entry.outcome, entry.outcome.failure
        row = {
            "attempt": entry.attempt,
            "agent": _text(entry.agent),
            "position": position,
            "state": "done" if failure is None else "failed",
            # As floats: an integer beyond 64 bits is a fine loss, but no number of SQLite's.
            "loss": None if outcome.loss is None else float(outcome.loss),
            "duration_s": None if outcome.duration_s is None else float(outcome.duration_s),
            "failure": None if failure is None else failure.kind.value,
            "reason": None if failure is None else _text(failure.reason),
            "directory": None if outcome.directory is None else _text(outcome.directory),
        }
        self._update(_RECORDED, row, entry.evaluation, at)

    def _budget(self, evaluation: EvaluationId) -> float:
        bracket = evaluation.config_id.bracket
        if bracket not in self._budgets:
            settings = self._settings
            plan = plan_bracket(
                bracket,
                settings.budgets,
                settings.eta,
                rule=cast(Rule, settings.bracket_rule),
                algorithm=settings.algorithm,
            )
            self._budgets[bracket] = tuple(rung.budget for rung in plan.rungs)
        return self._budgets[bracket][evaluation.rung]


def _key(evaluation: EvaluationId) -> tuple[int, int, int, int]:
    return (*evaluation.config_id, evaluation.rung)


def _text(text: str) -> str:
    # SQLite's text is UTF-8, which has no lone surrogates; file names that are not UTF-8 come as such.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
