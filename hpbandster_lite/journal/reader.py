"""Reads a journal, while a master writes it or after the end of its search.

Law of this file: a reader changes nothing and does not wait for the writer. Each query, or group of queries, opens the
file with ``mode=ro``, not ``immutable`` (which would ignore the write-ahead log), and closes it again, so a reader that
exists for hours holds no lock. Sometimes SQLite cannot open the file this way (after a kill, without permission to
write beside it), or must not (a write-ahead log on a network file system, whose machines share no memory). Then the
reader copies the database and the log to a temporary directory and reads the copy. Queries read the tables; only
``entries`` reads all entries. An older journal is read as one of the newest schema:
:mod:`~hpbandster_lite.journal.migrations`.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

from hpbandster_lite.errors import JournalError
from hpbandster_lite.hyperband.ranking import BEST_LOSS_SQL, INCUMBENT_FIRST_SQL
from hpbandster_lite.journal.copies import copy_database
from hpbandster_lite.journal.filesystems import network_type
from hpbandster_lite.journal.migrations import schema_of, show_as_newest
from hpbandster_lite.journal.schema import (
    SCHEMA,
    check_file,
    check_schema,
    directory_in_place_of_a_file,
    logs_ahead,
    sqlite_errors_as_ours,
)
from hpbandster_lite.journal.stored_entries import (
    MARKS,
    SETTINGS,
    Marks,
    read_entries,
    read_entry,
    read_record,
    read_values,
    settings_of,
)
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Finished,
    FinishKind,
    LateReport,
    Leased,
    Limits,
    Outcome,
    ProblemSource,
    Proposal,
    Recorded,
    RungShrunk,
    Sampled,
    SearchSettings,
    SourceChanged,
    Value,
)

BUSY_S = 5.0
"""How long a query waits for a lock; readers wait only with a rollback journal (network file systems)."""
MEMORY = "/dev/shm"  # noqa: S108 (a folder of our own is made there)
"""A folder in memory, for copies where the disk for temporary files is full."""
_NEEDS_COPY = ("readonly", "unable to open", "disk I/O error", "is full")
COPY_TRIES = 20
"""Most attempts at a copy; an attempt fails if the writer changes the files meanwhile."""


class ConfigurationRow(TypedDict):
    """One configuration; ``sampled_at`` is a Unix time, ``sampled`` the position of the entry with its vector."""

    config_id: ConfigId
    values: dict[str, Value]
    origin: str
    model_budget: float | None
    sampled_at: float
    sampled: int


class EvaluationRow(TypedDict):
    """One evaluation: ``state`` is queued, running, done (with a ``loss``) or failed (with the kind of ``failure``).

    Times are Unix times of the master's commits: when its last attempt was queued and leased, when the objective
    started (the end minus the duration that the worker measured) and when the outcome was recorded. ``outcome`` is the
    position of the outcome in the journal, for :meth:`JournalReader.outcome`.
    """

    config_id: ConfigId
    rung: int
    budget: float
    state: str
    attempt: int
    agent: str | None
    worker: str | None
    queued_at: float | None
    leased_at: float | None
    started_at: float | None
    finished_at: float | None
    loss: float | None
    failure: str | None
    reason: str | None
    directory: str | None
    outcome: int | None


class Ending(NamedTuple):
    """Summary of one evaluation that ended; ``position`` is the position of its outcome in the journal."""

    position: int
    evaluation: EvaluationId
    budget: float
    loss: float | None
    failure: str | None
    finished_at: float


class Promotion(NamedTuple):
    """One configuration at two neighbouring rungs; ``has_checkpoint``: whether the lower evaluation left files."""

    lower_budget: float
    upper_budget: float
    lower_loss: float
    upper_loss: float
    lower_s: float | None
    upper_s: float | None
    has_checkpoint: bool


class SourceEdit(NamedTuple):
    """An edited source that the user accepted, and the first evaluation that was leased after it, if there is one.

    ``position`` and ``at`` are the position and time of its entry; ``recorded`` counts the outcomes before it.
    """

    position: int
    at: float
    recorded: int
    first: EvaluationId | None
    change: SourceChanged


def source_of_row(row: EvaluationRow, edits: Sequence[SourceEdit]) -> int:
    """Number of the source with which an evaluation was leased: 1 for the source at the beginning of the search."""
    at = row["leased_at"] if row["leased_at"] is not None else row["started_at"]
    return 1 + sum(at is not None and at >= edit.at for edit in edits)


class RungRow(TypedDict):
    """The number of evaluations of a rung in each state, and its lowest loss.

    ``infeasible`` counts the failed evaluations that the problem refused: their places are free again.
    """

    bracket: int
    rung: int
    budget: float
    queued: int
    running: int
    done: int
    failed: int
    infeasible: int
    best: float | None


class MasterRow(TypedDict):
    """One master: its first and last commit, and the sum of the times between its commits."""

    epoch: int
    started_at: float | None
    last_at: float | None
    served_s: float


_CONFIGURATIONS = """
SELECT bracket, sampled_rung, number, hyperparameters, origin, model_budget, sampled_at, sampled FROM configurations
"""
_EVALUATIONS = """
SELECT bracket, sampled_rung, number, rung, budget, state, attempt, agent, worker,
       queued_at, leased_at, started_at, finished_at, loss, failure, reason, directory, outcome
FROM evaluations
"""
_IN_ORDER = " ORDER BY bracket, sampled_rung, number, rung"
_BEST = f" WHERE loss IS NOT NULL ORDER BY {INCUMBENT_FIRST_SQL} LIMIT 1"
_SUMS = f"""
budget, sum(state = 'queued') AS queued, sum(state = 'running') AS running, sum(state = 'done') AS done,
sum(state = 'failed') AS failed, sum(failure IS 'infeasible') AS infeasible, {BEST_LOSS_SQL} AS best
"""
_RUNGS = f"SELECT bracket, rung, {_SUMS} FROM evaluations GROUP BY bracket, rung, budget ORDER BY bracket, rung"  # noqa: S608  # a constant of ours
_RUNGS_WITH_GUESTS = f"""
SELECT coalesce(place_bracket, bracket) AS in_bracket, coalesce(place_rung, rung) AS in_rung, {_SUMS}
FROM evaluations LEFT JOIN guests USING (bracket, sampled_rung, number, rung)
GROUP BY in_bracket, in_rung, budget ORDER BY in_bracket, in_rung
"""  # noqa: S608  # a constant of ours
_HAS_TABLE = "SELECT name FROM sqlite_master WHERE name = ?"
# Early masters of schema 1 wrote a space after each colon: the tag begins at character 10 or 11.
_SHRUNK = """
SELECT position, entry FROM entries
WHERE position > coalesce((SELECT min(sampled) FROM configurations WHERE bracket = ?), 0)
      AND substr(ltrim(substr(entry, 9, 14)), 1, 12) = '"RungShrunk"' ORDER BY position
"""
# Infeasible configurations cost nothing, and evaluations that were cancelled before their first lease cost nothing.
_BUDGET_STARTED = """
SELECT coalesce(sum(budget), 0.0) FROM evaluations
WHERE failure IS NOT 'infeasible' AND NOT (failure IS 'cancelled' AND attempt = 0)
"""
# The plus keeps SQLite from the index of losses: to look each of its rows up in the table takes three times as long.
_PROMOTIONS = """
SELECT lower.budget, upper.budget, lower.loss, upper.loss, lower.finished_at - lower.started_at,
       upper.finished_at - upper.started_at, lower.directory IS NOT NULL
FROM (SELECT bracket, sampled_rung, number, rung, budget, loss, started_at, finished_at, outcome
      FROM evaluations WHERE rung > 0 AND +loss IS NOT NULL ORDER BY outcome LIMIT ?) AS upper
JOIN evaluations AS lower USING (bracket, sampled_rung, number)
WHERE lower.rung = upper.rung - 1 AND lower.loss IS NOT NULL ORDER BY upper.outcome
"""
_SOURCE_CHANGES = (
    "SELECT source_changes.position, source_changes.at, entry FROM source_changes JOIN entries USING (position) "
    "ORDER BY source_changes.position"
)
_FIRST_LEASE_AFTER = (
    """SELECT position, entry FROM entries WHERE position > ? AND entry LIKE '%"type":"Leased"%' """
    "ORDER BY position LIMIT 1"
)
_RECORDED_BEFORE = "SELECT count(*) FROM evaluations WHERE outcome < ?"
_SAMPLED = "SELECT sampled, entry FROM configurations JOIN entries ON position = sampled ORDER BY sampled"
_OUTCOMES = "SELECT outcome, entry FROM evaluations JOIN entries ON position = outcome ORDER BY outcome"
_OUTCOMES_WITH = """
SELECT outcome, entry FROM (SELECT outcome FROM evaluations WHERE outcome IS NOT NULL ORDER BY outcome LIMIT ?)
JOIN entries ON position = outcome WHERE instr(entry, ?) ORDER BY outcome
"""


class JournalReader:
    """Queries a journal.

    Parameters
    ----------
    path
        The journal's file.

    Raises
    ------
    JournalError
        If there is no journal, or if the file is not a journal, is newer or damaged, or cannot be read; methods raise
        it too.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._group: sqlite3.Connection | None = None
        self._settings: SearchSettings | None = None
        check_file(self.path)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Let the queries of this context share one connection: to open one takes longer than most queries."""
        if self._group is not None:
            yield
            return
        with self._own_connection() as connection:
            self._group = connection
            try:
                yield
            finally:
                self._group = self._settings = None

    def settings(self) -> SearchSettings:
        """The settings with which the search began."""
        if self._settings is not None:
            return self._settings
        settings = settings_of(self._all(SETTINGS), self.path)
        if self._group is not None:
            self._settings = settings
        return settings

    def limits(self) -> Limits:
        """Limits of the newest master; no limits before the first master."""
        text = self._one("SELECT limits FROM search")[0]
        return Limits() if text is None else read_record(text, Limits, self.path, "its limits")

    def finished(self) -> Finished | None:
        """Why the search ended; ``None`` while it continues, and after a later start has continued it."""
        kind, reason = self._one("SELECT finished_kind, finished_reason FROM search")
        if kind is None:
            return None
        try:
            return Finished(kind=FinishKind(kind), reason=reason)
        except ValueError as error:
            raise JournalError(f"the journal {self.path} has an unknown kind of end: {error}; it is damaged") from error

    def paused(self) -> tuple[str, float] | None:
        """Why (empty without a reason) and since when, as a Unix time, the search is paused; ``None`` if it is not."""
        reason, at = self._one("SELECT paused, paused_at FROM search")
        return None if reason is None else (reason, at)

    def marks(self) -> Marks:
        """The random id (None in a journal of schema 1), the newest epoch and the last position."""
        return Marks(*self._one(MARKS))

    def contains(self, path: Path) -> bool:
        """Whether a file holds an earlier state of this journal, so that to replace it by a copy loses nothing.

        False for a copy that another search has continued, because this journal does not have that search's master.
        """
        try:
            other = JournalReader(path)
            theirs, ours = other.marks(), self.marks()
            last = "SELECT at, entry FROM entries WHERE position = ?", (theirs.position,)
            is_same = other.settings().run_id == self.settings().run_id and theirs.journal_id in (None, ours.journal_id)
            return is_same and other._all(*last) == self._all(*last) and self._has_masters_of(other)
        except JournalError:
            return False

    def _has_masters_of(self, other: JournalReader) -> bool:
        ours = {row["epoch"]: row for row in self.masters()}
        return all(
            row["epoch"] in ours
            and row["started_at"] in (None, ours[row["epoch"]]["started_at"])
            and row["served_s"] <= ours[row["epoch"]]["served_s"]
            for row in other.masters()
        )

    def source(self) -> ProblemSource | None:
        """The source with which the search continues: the last accepted edit, else the source at its beginning."""
        edits = self.source_edits()
        return edits[-1].change.source if edits else self.settings().problem.source

    def source_edits(self) -> list[SourceEdit]:
        """The accepted edits of the problem's source, oldest first."""
        if not self._has_table("source_changes"):
            return []
        return [self._source_edit(*row) for row in self._all(_SOURCE_CHANGES)]

    def _source_edit(self, position: int, at: float, text: str) -> SourceEdit:
        change = read_entry(text, position, self.path)
        if not isinstance(change, SourceChanged):
            raise JournalError(f"the journal {self.path} has no edit of the source as entry {position}; it is damaged")
        leases = self._all(_FIRST_LEASE_AFTER, (position,))
        lease = read_entry(leases[0][1], leases[0][0], self.path) if leases else None
        recorded = self._one(_RECORDED_BEFORE, (position,))[0]
        return SourceEdit(position, at, recorded, lease.evaluation if isinstance(lease, Leased) else None, change)

    def masters(self) -> list[MasterRow]:
        """All masters, oldest first."""
        rows = self._all("SELECT epoch, started_at, last_at, served_s FROM masters ORDER BY epoch")
        return [
            MasterRow(epoch=epoch, started_at=started_at, last_at=last_at, served_s=served_s)
            for epoch, started_at, last_at, served_s in rows
        ]

    def configurations(self) -> list[ConfigurationRow]:
        """All configurations, by config id."""
        rows = self._all(_CONFIGURATIONS + " ORDER BY bracket, sampled_rung, number")
        return [_configuration(row, self.path) for row in rows]

    def configuration(self, config_id: ConfigId) -> ConfigurationRow:
        """One configuration.

        Raises
        ------
        JournalError
            If no configuration has this id.
        """
        rows = self._all(_CONFIGURATIONS + " WHERE bracket = ? AND sampled_rung = ? AND number = ?", config_id)
        if not rows:
            raise JournalError(f"the journal {self.path} has no configuration {config_id}")
        return _configuration(rows[0], self.path)

    def proposals(self) -> dict[ConfigId, Proposal]:
        """How each configuration was proposed, in the order of sampling."""
        entries = [read_entry(text, position, self.path) for position, text in self._all(_SAMPLED)]
        return {entry.config_id: entry.proposal for entry in entries if isinstance(entry, Sampled)}

    def evaluations(self, states: Collection[str] = ()) -> list[EvaluationRow]:
        """All evaluations, or those in the given states, by config id and rung."""
        where = f" WHERE state IN ({', '.join('?' * len(states))})" if states else ""
        return [_evaluation(row) for row in self._all(_EVALUATIONS + where + _IN_ORDER, tuple(states))]

    def rungs(self) -> list[RungRow]:
        """Progress of each rung with evaluations, by bracket and rung."""
        return [
            RungRow(
                bracket=bracket,
                rung=rung,
                budget=budget,
                queued=queued,
                running=running,
                done=done,
                failed=failed,
                infeasible=infeasible,
                best=best,
            )
            for bracket, rung, budget, queued, running, done, failed, infeasible, best in self._all(
                _RUNGS_WITH_GUESTS if self._has_table("guests") else _RUNGS
            )
        ]

    def failures(self) -> Mapping[str, int]:
        """Number of failed evaluations of each kind."""
        return dict(
            self._all("SELECT failure, count(*) FROM evaluations WHERE state = 'failed' GROUP BY failure ORDER BY 1")
        )

    def seconds_taken(self) -> dict[float, float]:
        """Mean time in seconds from lease to outcome of an evaluation at each budget, without infeasible ones."""
        return dict(
            self._all(
                "SELECT budget, avg(finished_at - leased_at) FROM evaluations WHERE leased_at IS NOT NULL "
                "AND finished_at > leased_at AND failure IS NOT 'infeasible' GROUP BY budget"
            )
        )

    def configuration_count(self) -> int:
        """Number of configurations."""
        count: int = self._one("SELECT count(*) FROM configurations")[0]
        return count

    def configurations_of_model(self) -> int:
        """Number of configurations that the model proposed."""
        count: int = self._one("SELECT count(model_budget) FROM configurations")[0]
        return count

    def budget_started(self) -> float:
        """Sum of the budgets of all evaluations, without those that cost nothing."""
        return float(self._one(_BUDGET_STARTED)[0])

    def shrunk_rungs(self, bracket: int = 0) -> dict[tuple[int, int], int]:
        """Places of the rungs that shrank because the space was exhausted, by bracket and rung.

        Parameters
        ----------
        bracket
            The first bracket to read; entries before it are skipped.
        """
        rows = self._all(_SHRUNK, (bracket,))
        entries = [read_entry(text, position, self.path) for position, text in rows]
        return {(entry.bracket, entry.rung): entry.places for entry in entries if isinstance(entry, RungShrunk)}

    def filled_rungs(self) -> dict[tuple[int, int], int]:
        """Places of the rungs that were filled from the pool of all brackets, by bracket and rung."""
        if not self._has_table("filled_rungs"):
            return {}
        rows = self._all("SELECT bracket, rung, places FROM filled_rungs")
        return {(bracket, rung): places for bracket, rung, places in rows}

    def _has_table(self, name: str) -> bool:
        """Whether the journal has a table that is made with its first row."""
        return bool(self._all(_HAS_TABLE, (name,)))

    def promotions(self, most: int | None = None) -> list[Promotion]:
        """Configurations with a loss at two neighbouring rungs, in the order of the upper outcome.

        Parameters
        ----------
        most
            Most evaluations above a lowest rung to consider, the oldest first; None for all, which takes longer.
        """
        return [Promotion(*row) for row in self._all(_PROMOTIONS, (-1 if most is None else most,))]

    def best(self) -> EvaluationRow | None:
        """The incumbent: the evaluation with the lowest loss at the highest budget evaluated so far."""
        rows = self._all(_EVALUATIONS + _BEST)
        return _evaluation(rows[0]) if rows else None

    def endings(self) -> list[Ending]:
        """All evaluations that ended, in the order of the journal."""
        rows = self._all(
            "SELECT outcome, bracket, sampled_rung, number, rung, budget, loss, failure, finished_at "
            "FROM evaluations WHERE outcome IS NOT NULL ORDER BY outcome"
        )
        return [
            Ending(position, EvaluationId(ConfigId(bracket, sampled_rung, number), rung), *rest)
            for position, bracket, sampled_rung, number, rung, *rest in rows
        ]

    def outcome(self, position: int) -> Outcome:
        """The outcome at a position (the ``outcome`` of an evaluation), with info, curve, traceback and log."""
        text = self._one("SELECT entry FROM entries WHERE position = ?", (position,))[0]
        return self._ended(text, position).outcome

    def outcomes(self) -> dict[EvaluationId, Outcome]:
        """Outcomes of all evaluations that ended, in the order of the journal."""
        entries = (self._ended(text, position) for position, text in self._all(_OUTCOMES))
        return {entry.evaluation: entry.outcome for entry in entries}

    def outcomes_with(self, text: str, most: int) -> list[Outcome]:
        """The outcomes whose entries contain a text, among the first ``most``."""
        return [self._ended(entry, position).outcome for position, entry in self._all(_OUTCOMES_WITH, (most, text))]

    def _ended(self, text: str, position: int) -> Recorded | LateReport:
        entry = read_entry(text, position, self.path)
        if not isinstance(entry, Recorded | LateReport):
            raise JournalError(
                f"the journal {self.path} has a {type(entry).__name__} as entry {position}, where its tables have an "
                "outcome; it is damaged, restore it from a copy"
            )
        return entry

    def entries(self) -> Generator[tuple[int, float, Entry], None, None]:
        """Position, wall-clock time and entry of all entries, in order; close the generator unless you exhaust it."""
        with self._connection() as connection:
            yield from read_entries(connection, self.path)

    # ------------------------------------------------------------------------------------------------- connections

    def _one(self, question: str, arguments: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        rows = self._all(question, arguments)
        if not rows:
            raise JournalError(f"the journal {self.path} lacks a row that every journal has; it is damaged")
        return rows[0]

    def _all(self, question: str, arguments: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        with sqlite_errors_as_ours(self.path, "read the journal"):
            try:
                with self._connection() as connection:
                    return connection.execute(question, arguments).fetchall()
            except sqlite3.OperationalError as error:
                # A master has migrated the journal since this connection read the schema number.
                if "no such column" not in str(error):
                    raise
            with self._own_connection() as connection:
                return connection.execute(question, arguments).fetchall()

    def copy_to(self, target: Path) -> int:
        """Write a copy of the journal at one moment into one file; its master may continue meanwhile.

        Parameters, result and errors are those of :func:`~hpbandster_lite.journal.copies.copy_database`.
        """
        with self._connection() as connection:
            return copy_database(connection, target, "give another FILE")

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The connection of the group, else one for one query."""
        if self._group is not None:
            yield self._group
            return
        with self._own_connection() as connection:
            yield connection

    @contextmanager
    def _own_connection(self) -> Iterator[sqlite3.Connection]:
        """A new connection to the file, or to a copy of it."""
        with ExitStack() as stack:
            with sqlite_errors_as_ours(self.path, "read the journal"):
                connection = self._entered(stack)
            yield connection

    def _entered(self, stack: ExitStack) -> sqlite3.Connection:
        if not (logs_ahead(self.path) and network_type(self.path) is not None):
            try:
                return stack.enter_context(_opened(f"{self.path.absolute().as_uri()}?mode=ro", self.path))
            except sqlite3.OperationalError as error:
                # SQLite must write beside the file to share it, and to recover a log after a kill. On a full disk it
                # reports an error of the disk.
                if not any(words in str(error) for words in _NEEDS_COPY):
                    raise
        copy = stack.enter_context(_copied(self.path))
        return stack.enter_context(_opened(copy.as_uri(), self.path))


def marks_of(path: Path, *, alone: bool) -> Marks:
    """The marks that identify a master's journal, read from the file at a path.

    Parameters
    ----------
    path
        The file.
    alone
        Ignore the write-ahead log beside the file, because it belongs to another file.

    Raises
    ------
    JournalError
        If the file is not a journal.
    """
    if not alone:
        return JournalReader(path).marks()
    check_file(path)
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    with sqlite_errors_as_ours(path, "read the journal"), _opened(uri, path) as connection:
        return Marks(*connection.execute(MARKS).fetchone())


@contextmanager
def _opened(uri: str, path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)) as connection:
        # Sorted rows need no disk, which may be full.
        connection.execute("PRAGMA temp_store = MEMORY")
        # The first query opens the file. The schema number may be newer in the log than in the file's header.
        schema = schema_of(connection)
        check_schema(schema, path)
        if schema < SCHEMA:
            show_as_newest(connection, schema)
        yield connection


@contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A consistent copy of the database and of its logs, which exists while the context is open."""
    folder = _folder_with_room(path)
    for _ in range(COPY_TRIES):
        with tempfile.TemporaryDirectory(prefix="hpbandster_lite-", dir=folder) as directory:
            if _copy_if_still(path, Path(directory)):
                yield Path(directory) / path.name
                return
    raise JournalError(f"the journal {path} changed faster than it could be copied; try again")


def _folder_with_room(path: Path) -> str:
    """A folder for a copy of the journal: the one for temporary files, or one in memory if its disk is full too.

    Raises
    ------
    JournalError
        If neither has room.
    """
    folders = [MEMORY] if Path(MEMORY).is_dir() else []
    with suppress(OSError):
        # Raises an error if it can write no file anywhere.
        folders.insert(0, tempfile.gettempdir())
    # The copy of a log is written into the copy of the database; the rest is for SQLite's shared memory.
    needed = 2 * sum(file.stat().st_size for file in (path, *_beside(path))) + 2**20
    for folder in folders:
        with suppress(OSError):
            if shutil.disk_usage(folder).free >= needed:
                return folder
    raise JournalError(
        f"cannot read the journal {path}: it can be read only from a copy, and {' and '.join(folders) or 'no disk'} "
        f"has no room for {needed:,} bytes; free space, or set TMPDIR to a folder with room"
    )


def _copy_if_still(path: Path, directory: Path) -> bool:
    """Copy the files; False if they changed meanwhile, so that the copies may be inconsistent."""
    try:
        before = _fingerprint(path)
        for file in (path, *_beside(path)):
            shutil.copyfile(file, directory / file.name)
        return _fingerprint(path) == before
    except FileNotFoundError:
        return False
    except OSError as error:
        why = directory_in_place_of_a_file(path) or error
        raise JournalError(f"cannot copy the journal {path} to read it: {why}") from error


def _beside(path: Path) -> list[Path]:
    return [file for suffix in ("-wal", "-journal") if (file := path.with_name(path.name + suffix)).exists()]


def _fingerprint(path: Path) -> tuple[object, ...]:
    """A value that changes when the database changes or its log restarts, but not when the log only grows."""
    state = path.stat()
    heads = []
    for file in _beside(path):
        with file.open("rb") as opened:
            heads.append((file.name, os.fstat(opened.fileno()).st_ino, opened.read(32)))
    return (state.st_ino, state.st_size, state.st_mtime_ns, *heads)


def _configuration(row: tuple[Any, ...], path: Path) -> ConfigurationRow:
    bracket, sampled_rung, number, values, origin, model_budget, sampled_at, sampled = row
    return ConfigurationRow(
        config_id=ConfigId(bracket, sampled_rung, number),
        values=read_values(values, path, f"the values of configuration {number}"),
        origin=origin,
        model_budget=model_budget,
        sampled_at=sampled_at,
        sampled=sampled,
    )


_NAMES = tuple(EvaluationRow.__annotations__)


def _evaluation(row: tuple[Any, ...]) -> EvaluationRow:
    # The columns of _EVALUATIONS are the row's fields in their order; the first three are the config id.
    return cast(EvaluationRow, dict(zip(_NAMES, (ConfigId(*row[:3]), *row[3:]), strict=True)))
