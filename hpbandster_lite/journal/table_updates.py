"""How each entry changes the tables that readers query.

Law of this file: the tables follow from the entries alone; each entry changes them once, in the transaction that stores
it. Wall-clock times are the times of commits, so a duration is exact to one turn of the master.

Nearly every turn samples configurations and leases them at once. So new rows wait until the end of the transaction and
are written in their latest state. If an entry changes a waiting row in another way, the waiting rows are written first.
"""

from __future__ import annotations

import sqlite3
from typing import TypeAlias

from hpbandster_lite import wire
from hpbandster_lite.records import (
    AgentJoined,
    BracketOpened,
    Entry,
    EvaluationId,
    Expired,
    Finished,
    LateReport,
    Leased,
    ModelFitted,
    Paused,
    PutBack,
    Recorded,
    Released,
    Resumed,
    RungFilled,
    RungShrunk,
    Sampled,
    SearchSettings,
    SetAside,
    SourceChanged,
    Started,
)
from hpbandster_lite.samplers import bracket_plan

_SAMPLED = """
INSERT INTO configurations (bracket, sampled_rung, number, hyperparameters, origin, model_budget, sampled_at, sampled)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_NEW = """
INSERT INTO evaluations
    (bracket, sampled_rung, number, rung, budget, state, attempt, agent, worker, queued_at, leased_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_STARTED = "UPDATE search SET limits = ?, finished_kind = NULL, finished_reason = NULL"
_FINISHED = "UPDATE search SET finished_kind = ?, finished_reason = ?"
# The table is made with its first row, so that it needs no schema of its own; position is the position of the entry.
_SOURCE_CHANGES = "CREATE TABLE IF NOT EXISTS source_changes (position INTEGER PRIMARY KEY, at REAL NOT NULL)"
# As above. The rungs that were filled from the pool of all brackets, and when.
_FILLED = """
CREATE TABLE IF NOT EXISTS filled_rungs (
    bracket INTEGER NOT NULL, rung INTEGER NOT NULL, places INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (bracket, rung)
) WITHOUT ROWID
"""
# As above. The evaluations whose place is in another bracket than that of their configuration.
_GUESTS = """
CREATE TABLE IF NOT EXISTS guests (
    bracket INTEGER NOT NULL, sampled_rung INTEGER NOT NULL, number INTEGER NOT NULL, rung INTEGER NOT NULL,
    place_bracket INTEGER NOT NULL, place_rung INTEGER NOT NULL,
    PRIMARY KEY (bracket, sampled_rung, number, rung)
) WITHOUT ROWID
"""
_PLACE = """
SELECT place_bracket, place_rung FROM guests WHERE bracket = ? AND sampled_rung = ? AND number = ? AND rung = ?
"""
_FILLED_AT = "SELECT at FROM filled_rungs WHERE bracket = ? AND rung = ?"
_RUNG_ENDED = "SELECT max(finished_at) FROM evaluations WHERE bracket = ? AND rung = ?"
_LEASED = """
UPDATE evaluations SET state = 'running', attempt = ?, agent = ?, worker = ?, leased_at = ?
WHERE bracket = ? AND sampled_rung = ? AND number = ? AND rung = ?
"""
# Only the running attempt can be released: the end of an older attempt changes nothing.
_RELEASED = """
UPDATE evaluations SET state = 'queued', agent = NULL, worker = NULL, queued_at = ?, leased_at = NULL
WHERE bracket = ? AND sampled_rung = ? AND number = ? AND rung = ? AND attempt = ? AND state = 'running'
"""
# The outcome no longer counts; its entry stays.
_PUT_BACK = """
UPDATE evaluations SET
    state = 'queued', agent = NULL, worker = NULL, queued_at = ?, leased_at = NULL, started_at = NULL,
    finished_at = NULL, loss = NULL, failure = NULL, reason = NULL, directory = NULL, outcome = NULL
WHERE bracket = ? AND sampled_rung = ? AND number = ? AND rung = ?
"""
# The outcome may come from an earlier attempt whose lease had expired: then the lease in the row is another one.
_RECORDED = """
UPDATE evaluations SET
    leased_at = CASE WHEN attempt = :attempt THEN leased_at END,
    worker = CASE WHEN attempt = :attempt THEN worker END,
    started_at = coalesce(:at - :duration_s, CASE WHEN attempt = :attempt THEN leased_at END),
    finished_at = :at, attempt = :attempt, agent = :agent, state = :state, loss = :loss, failure = :failure,
    reason = :reason, directory = :directory, outcome = :position
WHERE bracket = :bracket AND sampled_rung = :sampled_rung AND number = :number AND rung = :rung
"""


_Key: TypeAlias = tuple[int, int, int, int]
_Lease: TypeAlias = tuple[str, int, str | None, str | None, float | None]
_UNLEASED: _Lease = ("queued", 0, None, None, None)
"""State, attempt, agent, worker and lease time of an evaluation without a lease."""


class Tables:
    """Keeps the tables of one journal.

    Parameters
    ----------
    connection
        A connection; :meth:`follow` and :meth:`write` require an open transaction.
    settings
        Settings of the search, which determine the budgets of the rungs.
    """

    def __init__(self, connection: sqlite3.Connection, settings: SearchSettings) -> None:
        self._execute = connection.execute
        self._write = connection.executemany
        self._settings = settings
        self._budgets: dict[int, tuple[float, ...]] = {}
        self._configurations: list[tuple[object, ...]] = []
        self._new: dict[_Key, tuple[float, _Lease]] = {}

    def begin(self) -> None:
        """Drop the waiting rows that a failed transaction has left."""
        self._configurations.clear()
        self._new.clear()

    def follow(self, entry: Entry, position: int, at: float) -> None:
        """Change the tables by an entry at this position, committed at this wall-clock time."""
        match entry:
            case Recorded():
                self._recorded(entry, position, at)
            case Leased():
                self._leased(entry, at)
            case Sampled():
                self._sampled(entry, position, at)
            case Released() | Expired() | SetAside():
                self.write()
                self._execute(_RELEASED, (at, *_key(entry.evaluation), entry.attempt))
            case PutBack():
                self.write()
                self._execute(_PUT_BACK, (at, *_key(entry.evaluation)))
            case Started() | Finished() | Paused() | Resumed() | SourceChanged():
                self._govern(entry, position, at)
            case RungFilled():
                self._filled(entry, at)
            case AgentJoined() | BracketOpened() | RungShrunk() | ModelFitted() | LateReport():
                pass

    def _govern(self, entry: Started | Finished | Paused | Resumed | SourceChanged, position: int, at: float) -> None:
        """Entries about the search as a whole."""
        match entry:
            case Started():
                limits = wire.encode(wire.to_message(entry.limits))
                self._execute(_STARTED, (limits,))
            case Finished():
                self._execute(_FINISHED, (entry.kind.value, _text(entry.reason)))
            case Paused():
                self._execute("UPDATE search SET paused = ?, paused_at = ?", (_text(entry.reason), at))
            case Resumed():
                self._execute("UPDATE search SET paused = NULL, paused_at = NULL")
            case SourceChanged():
                self._execute(_SOURCE_CHANGES)
                self._execute("INSERT INTO source_changes VALUES (?, ?)", (position, at))

    def write(self) -> None:
        """Write the waiting rows."""
        if self._configurations:
            self._write(_SAMPLED, self._configurations)
        if self._new:
            self._write(
                _NEW,
                [
                    (*key, self._budget(key), state, attempt, agent, worker, queued_at, leased_at)
                    for key, (queued_at, (state, attempt, agent, worker, leased_at)) in self._new.items()
                ],
            )
        self.begin()

    def _sampled(self, entry: Sampled, position: int, at: float) -> None:
        proposal = entry.proposal
        self._configurations.append(
            (
                *entry.config_id,
                wire.encode(proposal.values, limit_bytes=None),
                proposal.origin.value,
                proposal.model_budget,
                at,
                position,
            )
        )
        self._new[_key(EvaluationId(entry.config_id, entry.config_id.rung))] = (at, _UNLEASED)

    def _filled(self, entry: RungFilled, at: float) -> None:
        """Keep the places of a rung, and those of configurations that it takes in from another bracket."""
        if entry.promoted:
            self._execute(_FILLED)
            row = (entry.bracket, entry.rung, len(entry.promoted), at)
            self._execute("INSERT INTO filled_rungs VALUES (?, ?, ?, ?)", row)
        for config_id in entry.promoted:
            rung = entry.rung + len(self._budgets_of(config_id.bracket)) - len(self._budgets_of(entry.bracket))
            if (config_id.bracket, rung) != (entry.bracket, entry.rung):
                self._execute(_GUESTS)
                guest = (*config_id, rung, entry.bracket, entry.rung)
                self._execute("INSERT INTO guests VALUES (?, ?, ?, ?, ?, ?)", guest)

    def _leased(self, entry: Leased, at: float) -> None:
        key = _key(entry.evaluation)
        lease: _Lease = ("running", entry.attempt, _text(entry.agent), _text(entry.worker or entry.agent), at)
        waiting = self._new.get(key)
        if waiting is None and self._execute(_LEASED, (*lease[1:], *key)).rowcount == 0:
            waiting = (self._promoted_at(key, at), _UNLEASED)
        if waiting is not None:
            self._new[key] = (waiting[0], lease)

    def _promoted_at(self, key: _Key, at: float) -> float:
        """When a new promotion was queued: as its rung was filled from the pool, else at the end of the rung below."""
        bracket, _, _, rung = key
        if self._has("filled_rungs"):
            place = self._execute(_PLACE, key).fetchone() if self._has("guests") else None
            filled = self._execute(_FILLED_AT, place or (bracket, rung)).fetchone()
            return at if filled is None else float(filled[0])
        (ended,) = self._execute(_RUNG_ENDED, (bracket, rung - 1)).fetchone()
        return at if ended is None else float(ended)

    def _has(self, table: str) -> bool:
        """Whether a table that is made with its first row is there."""
        return self._execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone() is not None

    def _recorded(self, entry: Recorded, position: int, at: float) -> None:
        outcome, failure = entry.outcome, entry.outcome.failure
        row: dict[str, object] = {
            "at": at,
            "attempt": entry.attempt,
            "agent": _text(entry.agent),
            "position": position,
            "state": "done" if failure is None else "failed",
            # As floats: a loss may be an integer of more than 64 bits, which SQLite does not have.
            "loss": None if outcome.loss is None else float(outcome.loss),
            "duration_s": None if outcome.duration_s is None else float(outcome.duration_s),
            "failure": None if failure is None else failure.kind.value,
            "reason": None if failure is None else _text(failure.reason),
            "directory": None if outcome.directory is None else _text(outcome.directory),
        }
        key = _key(entry.evaluation)
        if key in self._new:
            self.write()
        row |= dict(zip(("bracket", "sampled_rung", "number", "rung"), key, strict=True))
        if self._execute(_RECORDED, row).rowcount == 0:
            # A promotion that was cancelled before it was leased.
            self._new[key] = (self._promoted_at(key, at), _UNLEASED)
            self.write()
            self._execute(_RECORDED, row)

    def _budget(self, key: _Key) -> float:
        bracket, _, _, rung = key
        return self._budgets_of(bracket)[rung]

    def _budgets_of(self, bracket: int) -> tuple[float, ...]:
        if bracket not in self._budgets:
            self._budgets[bracket] = tuple(rung.budget for rung in bracket_plan(self._settings, bracket).rungs)
        return self._budgets[bracket]


def _key(evaluation: EvaluationId) -> _Key:
    return (*evaluation.config_id, evaluation.rung)


def _text(text: str) -> str:
    # Python has lone surrogates in file names that are not UTF-8; SQLite's text is UTF-8, which has none.
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
