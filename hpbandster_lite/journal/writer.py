"""The one writer of a journal.

Law of this file: when :meth:`Journal.commit` returns, all entries of a turn are on the disk, in order; if it raises,
none is, and the same call may be made again. Only the newest master can commit: each start takes the next epoch, and
each transaction checks that it is still the newest.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from hpbandster_lite import wire
from hpbandster_lite.errors import InvariantBroken, JournalError
from hpbandster_lite.journal.evaluation_tables import Tables
from hpbandster_lite.journal.filesystems import network_type
from hpbandster_lite.journal.migrations import migrate, schema_of
from hpbandster_lite.journal.schema import (
    APPLICATION_ID,
    SCHEMA,
    TABLES,
    check_file,
    check_schema,
    sqlite_errors_as_ours,
)
from hpbandster_lite.journal.stored_entries import SETTINGS, read_entries, settings_of
from hpbandster_lite.records import Entry, SearchSettings

BUSY_S = 2.0
"""How long a commit waits for another process's lock. In WAL mode only a second master can hold one; with a rollback
journal a reader can, too, as long as its question takes."""

_EPOCH_AND_POSITION = "SELECT epoch, (SELECT coalesce(max(position), 0) FROM entries) FROM search"
_SERVED = """
UPDATE masters SET
    started_at = coalesce(started_at, :at), last_at = :at, served_s = served_s + :passed_s
WHERE epoch = :epoch
"""


class Fenced(JournalError):
    """A newer master has taken the journal over: this one must end, and nothing of its turn was stored."""


class Journal:
    """A journal open for writing; made by :meth:`open`, closed by :meth:`close` or ``with``.

    Attributes
    ----------
    path : Path
        The journal's file.
    settings : SearchSettings
        The settings with which the search began.
    epoch : int or None
        This master's number; ``None`` before :meth:`begin_epoch`.
    network : str or None
        Type of the network file system that it lies on, where SQLite's rollback journal takes the place of its
        write-ahead log; ``None`` on a local one.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        clock: Callable[[], float] | None = None,
        network: str | None = None,
    ) -> None:
        self.path = path
        self.network = network
        with sqlite_errors_as_ours(path, "read the journal"):
            self.settings = settings_of(connection.execute(SETTINGS).fetchall(), path)
        self.epoch: int | None = None
        self._connection = connection
        self._clock = clock
        self._committed_at: float | None = None
        self._tables = Tables(connection, self.settings)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: SearchSettings | None = None,
        clock: Callable[[], float] | None = None,
        network_of: Callable[[Path], str | None] = network_type,
    ) -> Journal:
        """Open a journal, or make one; an older one is migrated (:mod:`hpbandster_lite.journal.migrations`).

        Parameters
        ----------
        path
            The file.
        create
            Settings of the search if there is no journal yet. An existing journal keeps its own; compare them by
            :func:`~hpbandster_lite.journal.settings_difference`.
        clock
            Clock in seconds that measures the time between two commits: a monotonic one, because a wall clock that is
            set forward by a day would use up a search's wall time. Default: the wall-clock times of the commits.
        network_of
            Says the type of the network file system that a path lies on; see :func:`network_type`.

        Raises
        ------
        JournalError
            If there is none and none is to be made; if the file is something else, newer or damaged, or cannot be
            written or migrated; if a process reads one in WAL mode that was moved to a network file system. The file
            stays as it is.
        """
        path = Path(path)
        network = network_of(path)
        is_new = create is not None and not holds_anything(path)
        if not is_new:
            check_file(path)
        if is_new:
            with contextlib.suppress(OSError):
                # SQLite would let others read it, and gives its logs the same mode. Errors come from SQLite below.
                path.touch(mode=0o600)
        with sqlite_errors_as_ours(path, "open the journal"), contextlib.ExitStack() as on_failure:
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            on_failure.callback(connection.close)
            if network is not None:
                # Before the file is read: then SQLite makes no shared memory for a log that it finds.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            if is_new and create is not None:
                _create(connection, create)
            check_schema(schema_of(connection), path)
            if network is None:
                _log_ahead(connection)
            else:
                _roll_back(connection)
            migrate(connection, path)
            on_failure.pop_all()
            return cls(path, connection, clock, network)

    def begin_epoch(self) -> int:
        """Become the newest master; from now on every older one is fenced.

        Returns
        -------
        int
            The epoch, from 1.

        Raises
        ------
        JournalError
            If it cannot be written.
        """
        with sqlite_errors_as_ours(self.path, "begin to serve"), self._transaction():
            epoch = int(self._connection.execute(_EPOCH_AND_POSITION).fetchone()[0]) + 1
            self._connection.execute("UPDATE search SET epoch = ?", (epoch,))
            self._connection.execute("INSERT INTO masters (epoch) VALUES (?)", (epoch,))
        self.epoch, self._committed_at = epoch, None
        return epoch

    def commit(self, entries: Sequence[Entry], *, at: float) -> int:
        """Make the entries of one turn durable, all or none, in one transaction.

        Parameters
        ----------
        entries
            In the order in which the engine applied them; without any, only this master's time is noted.
        at
            Wall-clock Unix time, in seconds; for tables and people.

        Returns
        -------
        int
            Position of the last entry in the journal.

        Raises
        ------
        Fenced
            If another master has begun since.
        JournalError
            If the disk is full, or fails; nothing was stored, and the same entries may be committed again.
        """
        texts = [wire.encode(wire.to_message(entry), limit_bytes=None) for entry in entries]
        with sqlite_errors_as_ours(self.path, "write the journal"), self._transaction():
            before = self._last_position()
            position = before + len(entries)
            numbered = zip(range(before + 1, position + 1), itertools.repeat(at), texts, strict=False)
            self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?)", numbered)
            self._tables.begin()
            for number, entry in enumerate(entries, before + 1):
                self._tables.follow(entry, number, at)
            self._tables.write()
            now = at if self._clock is None else self._clock()
            passed_s = 0.0 if self._committed_at is None else max(0.0, now - self._committed_at)
            self._connection.execute(_SERVED, {"at": at, "passed_s": passed_s, "epoch": self.epoch})
        self._committed_at = now
        return position

    def entries(self, after: int = 0) -> Iterator[tuple[int, float, Entry]]:
        """Position, wall-clock time and entry of all entries ``after`` a position, in order.

        Raises
        ------
        JournalError
            If the file is damaged, or an entry of it cannot be understood.
        """
        return read_entries(self._connection, self.path, after)

    def spent_s(self) -> float:
        """Seconds that all earlier masters served: for each, the sum of the times between its commits.

        Time after a master's last commit is unknown and not counted; a clock that was set back counts as no time.
        """
        with sqlite_errors_as_ours(self.path, "read the journal"):
            row = self._connection.execute(
                "SELECT coalesce(sum(served_s), 0.0) FROM masters WHERE epoch IS NOT ?", (self.epoch,)
            ).fetchone()
        return float(row[0])

    def seal(self) -> None:
        """Move the write-ahead log into the file: the journal of a finished search is one file, easy to copy.

        While a process reads it, it stays as it is, which is as durable.
        """
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE").fetchone()

    def close(self) -> None:
        """Close the file; an open transaction is lost, committed entries stay."""
        self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a deferred transaction that turns from reading to writing gets SQLITE_BUSY without waiting.
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            # SQLite has rolled back by itself after some errors, and not after others.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _last_position(self) -> int:
        """Position of the last entry, for the master that is still the newest."""
        if self.epoch is None:
            raise InvariantBroken("a master begins its epoch before it commits")
        newest, position = self._connection.execute(_EPOCH_AND_POSITION).fetchone()
        if newest != self.epoch:
            raise Fenced(
                f"the journal {self.path} was taken over by a newer master (epoch {newest}, this one is "
                f"{self.epoch}); this master ends, the newer one has everything that was acknowledged"
            )
        return int(position)


def holds_anything(path: Path) -> bool:
    """Whether there is a journal to keep; the empty file of a start that was killed early is none.

    SQLite deletes a write-ahead log beside an empty database.
    """
    wal = path.with_name(f"{path.name}-wal")
    return any(file.exists() and file.stat().st_size > 0 for file in (path, wal))


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Use a write-ahead log, with which readers and the writer do not wait for each other.

    The rollback journal, which is as durable, stays on a file system that supports no log, and while a process reads
    the file with it.
    """
    connection.execute("PRAGMA synchronous = EXTRA")
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        return
    if mode == "wal":
        connection.execute("PRAGMA synchronous = FULL")


def _roll_back(connection: sqlite3.Connection) -> None:
    """Use a rollback journal, which needs only locks of a file system; the content of a log goes into the file."""
    connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    # EXTRA syncs the directory, too: a commit is the deletion of a file there, which a power cut must not undo.
    connection.execute("PRAGMA synchronous = EXTRA")
    # Unlock the file after the next transaction: readers come between two commits.
    connection.execute("PRAGMA locking_mode = NORMAL").fetchone()


def _create(connection: sqlite3.Connection, settings: SearchSettings) -> None:
    # One transaction: a start that is killed here leaves an empty file, and the next start makes the journal again.
    connection.executescript(
        f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; {TABLES}"
    )
    text = wire.encode(wire.to_message(settings), limit_bytes=None)
    connection.execute("INSERT INTO search (one, settings, epoch) VALUES (1, ?, 0)", (text,))
    connection.execute("COMMIT")
