"""The only writer of a journal.

Law of this file: when :meth:`Journal.commit` returns, all entries of a turn are on the disk, in order; if it raises, no
entry is, and the caller may repeat the call. Only the newest master can commit: each start takes the next epoch, and
each transaction checks that no later epoch exists.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from hpbandster_lite import wire
from hpbandster_lite.errors import InvariantBroken, JournalError
from hpbandster_lite.journal.filesystems import network_type
from hpbandster_lite.journal.lost import JournalLost, free_name, keep_lost
from hpbandster_lite.journal.migrations import migrate, schema_of
from hpbandster_lite.journal.own_file import OwnFile, Place
from hpbandster_lite.journal.reader import marks_of
from hpbandster_lite.journal.schema import (
    APPLICATION_ID,
    SCHEMA,
    TABLES,
    check_file,
    check_schema,
    sqlite_errors_as_ours,
)
from hpbandster_lite.journal.stored_entries import MARKS, SETTINGS, Marks, read_entries, settings_of
from hpbandster_lite.journal.table_updates import Tables
from hpbandster_lite.records import Entry, SearchSettings

log = logging.getLogger(__name__)

BUSY_S = 2.0
"""How long a commit waits for another process's lock. In WAL mode only a second master can hold one; with a rollback
journal a reader also holds one during its query."""

RESTORED_STEP = 1_000_000
"""A master of a restored journal begins so far above all known epochs: no run has had so many masters, so every worker
and every name server takes it for the newest."""

_SERVED = """
UPDATE masters SET
    started_at = coalesce(started_at, :at), last_at = :at, served_s = served_s + :passed_s
WHERE epoch = :epoch
"""


class Fenced(JournalError):
    """A newer master has taken over the journal: this master must end, and nothing of its turn was stored."""


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
        Type of the network file system that holds the journal, where SQLite uses its rollback journal instead of its
        write-ahead log; ``None`` on a local file system.
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
        self._id: str | None = None
        self._position = 0
        self._is_lost = False
        self._file = _file_of(connection, path)
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
        """Open or create a journal; an older journal is migrated (:mod:`hpbandster_lite.journal.migrations`).

        Parameters
        ----------
        path
            The file.
        create
            Settings of a new search, if there is no journal yet. An existing journal keeps its settings; compare them
            with :func:`~hpbandster_lite.journal.settings_difference`. Default: do not create a journal.
        clock
            Clock in seconds that measures the time between two commits: a monotonic one, because a wall clock that is
            set forward by a day would use up a search's wall time. Default: the wall-clock times of the commits.
        network_of
            Returns the type of the network file system of a path. Default: :func:`network_type`.

        Raises
        ------
        JournalError
            If there is no journal and ``create`` is None; if the file is not a journal, is newer or damaged, or cannot
            be written or migrated; if a journal in WAL mode was moved to a network file system and a process reads it.
            The file does not change.
        """
        path = Path(path)
        network = network_of(path)
        is_new = create is not None and not holds_anything(path)
        if not is_new:
            check_file(path)
        if is_new:
            with contextlib.suppress(OSError):
                # SQLite would let other users read the file; its logs get the same mode. SQLite reports errors below.
                path.touch(mode=0o600)
        connection = _connected(path, network, create if is_new else None)
        return cls(path, connection, clock, network)

    def begin_epoch(self, *, restored_above: int | None = None) -> int:
        """Become the newest master; from now on older masters cannot commit.

        Parameters
        ----------
        restored_above
            The highest epoch that is known from elsewhere, if this journal was restored from a copy and lacks the
            masters since then: the epoch is :data:`RESTORED_STEP` above it and above those of the journal. Default:
            the journal was not restored.

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
            self._id, newest, self._position = Marks(*self._connection.execute(MARKS).fetchone())
            epoch = newest + 1 if restored_above is None else max(newest, restored_above) + RESTORED_STEP
            self._connection.execute("UPDATE search SET epoch = ?", (epoch,))
            self._connection.execute("INSERT INTO masters (epoch) VALUES (?)", (epoch,))
        self.epoch, self._committed_at = epoch, None
        self._file.note()
        return epoch

    def commit(self, entries: Sequence[Entry], *, at: float) -> int:
        """Make the entries of one turn durable, all or none, in one transaction.

        Parameters
        ----------
        entries
            The entries in the order in which the engine applied them. If empty, the commit records only that this
            master is serving.
        at
            Wall-clock Unix time in seconds, for tables and users.

        Returns
        -------
        int
            Position of the last entry in the journal.

        Raises
        ------
        Fenced
            If another master has begun since.
        JournalLost
            As in :meth:`look`; the copy also has the entries of this turn, if they could be stored.
        JournalError
            If the disk is full or fails; nothing was stored, and the caller may commit the same entries again.
        """
        # No context manager: every turn comes here.
        try:
            self._look()
            return self._stored(entries, at)
        except _NotOwn as error:
            raise self._lost(error, entries, at) from error

    def look(self, at: float) -> None:
        """Check that the file at the path is this journal. Each commit checks it; call this after the last commit.

        Raises
        ------
        JournalLost
            If the file was deleted or replaced; the message names the copy of what this master could still read.
        JournalError
            If the file system does not answer.
        """
        if self.epoch is not None:
            try:
                self._look()
            except _NotOwn as error:
                raise self._lost(error, (), at) from error

    def _stored(self, entries: Sequence[Entry], at: float) -> int:
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
        self._committed_at, self._position = now, position
        self._file.note()
        return position

    def entries(self, after: int = 0) -> Iterator[tuple[int, float, Entry]]:
        """Position, wall-clock time and entry of all entries ``after`` a position, in order.

        Raises
        ------
        JournalError
            If the file is damaged, or an entry cannot be decoded.
        """
        return read_entries(self._connection, self.path, after)

    def spent_s(self) -> float:
        """Seconds that all earlier masters served: for each, the sum of the times between its commits.

        The time after a master's last commit is unknown and does not count. If a clock was set back, no time counts.
        """
        with sqlite_errors_as_ours(self.path, "read the journal"):
            row = self._connection.execute(
                "SELECT coalesce(sum(served_s), 0.0) FROM masters WHERE epoch IS NOT ?", (self.epoch,)
            ).fetchone()
        return float(row[0])

    def seal(self) -> None:
        """Move the write-ahead log into the file: the journal of a finished search is one file, which is easy to copy.

        While another process reads the journal, this does nothing; the log is equally durable.
        """
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        self._file.note()

    def close(self) -> None:
        """Close the file; an open transaction is lost, committed entries stay."""
        if self._is_lost:
            # SQLite would move its log into the lost file and delete the log at the path, even that of another journal.
            _leave_open(self._connection)
            return
        self._connection.close()
        self._file.close()

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
            # SQLite rolls back after some errors but not after others.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _last_position(self) -> int:
        """Position of the last entry; raises if this master is not the newest, or if the file is not its journal."""
        if self.epoch is None:
            raise InvariantBroken("call begin_epoch before commit")
        try:
            found = Marks(*self._connection.execute(MARKS).fetchone())
        except (TypeError, sqlite3.DatabaseError) as error:
            # TypeError: the table is empty.
            if isinstance(error, TypeError) or any(words in str(error) for words in _NO_JOURNAL):
                raise _NotOwn("was overwritten or is damaged") from error
            raise
        if found.journal_id == self._id and found.epoch > self.epoch:
            raise Fenced(
                f"a newer master (epoch {found.epoch}) has taken over the journal {self.path}; this master (epoch "
                f"{self.epoch}) ends, and the newer one has every acknowledged result"
            )
        if found != (self._id, self.epoch, self._position):
            raise _NotOwn("was overwritten")
        return self._position

    # ------------------------------------------------------------------------------------- whether the file is its own

    def _look(self) -> None:
        """Check the file at the path; open it again if it is another file with this journal's content.

        Raises
        ------
        _NotOwn
            If the file does not exist or is not this journal.
        """
        match self._file.place():
            case Place.OWN:
                pass
            case Place.GONE:
                raise _NotOwn("was deleted or moved away")
            case Place.OTHER:
                self._open_again()
            case Place.CHANGED:
                self._check_content()
            case Place.WITHOUT_LOG:
                log.warning("the log %s-wal was deleted; its content is written to the journal", self.path)
                with sqlite_errors_as_ours(self.path, "restore the journal's log"):
                    self._connection.execute("PRAGMA journal_mode = DELETE").fetchone()
                    _log_ahead(self._connection)
                self._file.forget_log()
                self._file.note()

    def _open_again(self) -> None:
        """Continue with the file at the path if it has everything that was committed, for example after a remount."""
        has_own_log = self._file.has_own_log()
        try:
            found = marks_of(self.path, alone=has_own_log)
        except JournalError as error:
            raise _NotOwn("was replaced by another file") from error
        if found != (self._id, self.epoch, self._position):
            raise _NotOwn("was replaced by another file")
        if has_own_log:
            self._file.remove_own_log()
        _leave_open(self._connection)
        self._connection = _connected(self.path, self.network, None)
        self._file = _file_of(self._connection, self.path)
        self._tables = Tables(self._connection, self.settings)
        log.warning("the journal %s is now another file with the same content; the master continues with it", self.path)

    def _check_content(self) -> None:
        """Accept a file that another process has written if it is still the whole journal, as after a checkpoint."""
        try:
            self._connection.execute("BEGIN")
            found = Marks(*self._connection.execute(MARKS).fetchone())
            if found.journal_id == self._id and found.epoch > (self.epoch or 0):
                # A newer master began: the commit raises Fenced.
                return
            count, pages, check = (self._connection.execute(each).fetchone()[0] for each in _CONTENT)
        except (TypeError, sqlite3.DatabaseError) as error:
            raise _NotOwn("was overwritten") from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        is_whole = check == "ok" and count == self._position and pages == self._file.pages()
        if found != (self._id, self.epoch, self._position) or not is_whole:
            raise _NotOwn("was overwritten")
        self._file.note()

    def _lost(self, error: _NotOwn, entries: Sequence[Entry], at: float) -> JournalLost:
        """Copy what this master can still read, and this turn; return the error that names the copy."""
        self._is_lost = True
        try:
            copy, count = keep_lost(self._connection, self.path, self.epoch or 0)
        except JournalError as fault:
            where = f"its {self._position} entries cannot be saved: {fault}"
            aside = free_name(self.path.with_name(f"{self.path.stem}.lost-{self.epoch}{self.path.suffix}-wal"))
            if self._file.set_own_log_aside(aside):
                where += f"; its log with the newest entries is {aside}"
        else:
            where = f"{count} of its {self._position} entries could be read and saved to {copy}"
            if count == self._position:
                self._file.remove_own_log()
                with suppress(JournalError):
                    self._add_to(copy, entries, at)
                where = f"all of its {count} entries are saved to {copy}"
            where += f"; to continue from there, move that file to {self.path} and start the search there again"
        return JournalLost(
            f"the journal {self.path} {error} while this master (epoch {self.epoch}) served it; the master ends and "
            f"answers no request of this turn; {where}"
        )

    def _add_to(self, copy: Path, entries: Sequence[Entry], at: float) -> None:
        """Store the entries of the unanswered turn in the copy too, so that results need not be sent again."""
        # With a rollback journal, so that the copy stays one file.
        with Journal(copy, _connected(copy, "none", None)) as kept:
            kept.epoch, kept._id, kept._position = self.epoch, self._id, self._position
            kept._stored(entries, at)


class _NotOwn(Exception):
    """The file at the path is not this journal; the message says what happened to it."""


_NO_JOURNAL = ("no such table", "no such column", "malformed", "not a database")
_CONTENT = ("SELECT count(*) FROM entries", "PRAGMA page_count", "PRAGMA quick_check(1)")


def _leave_open(connection: sqlite3.Connection) -> None:
    """Keep a connection, whose file is no longer at its path, open until the process ends.

    Closing it would change the files that are now at its paths. So this adds a reference that even the shutdown of the
    interpreter does not drop.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _file_of(connection: sqlite3.Connection, path: Path) -> OwnFile:
    with sqlite_errors_as_ours(path, "open the journal"):
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    try:
        return OwnFile(path, is_logged_ahead=mode == "wal")
    except OSError as error:
        raise JournalError(f"cannot open the journal {path}: {error.strerror or error}") from error


def _connected(path: Path, network: str | None, create: SearchSettings | None) -> sqlite3.Connection:
    """Open the file for writing; create it if ``create`` is given, and migrate an older journal."""
    with sqlite_errors_as_ours(path, "open the journal"), contextlib.ExitStack() as on_failure:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        on_failure.callback(connection.close)
        if network is not None:
            # Set before the first read, so that SQLite makes no shared memory for an existing log.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
        if create is not None:
            _create(connection, create)
        check_schema(schema_of(connection), path)
        if network is None:
            _log_ahead(connection)
        else:
            _roll_back(connection)
        migrate(connection, path)
        on_failure.pop_all()
        return connection


def holds_anything(path: Path) -> bool:
    """Whether there is a journal to keep; an empty file, which a start that was killed leaves, does not count.

    SQLite deletes a write-ahead log beside an empty database.
    """
    wal = path.with_name(f"{path.name}-wal")
    return any(file.exists() and file.stat().st_size > 0 for file in (path, wal))


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Use a write-ahead log, so that readers and the writer do not wait for each other.

    The rollback journal, which is equally durable, stays if the file system supports no log, or while another process
    reads the file with a rollback journal.
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
    """Use a rollback journal, which requires only locks of the file system; move the content of a log into the file."""
    connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    # EXTRA also syncs the directory: a commit deletes a file there, and a power cut must not undo this.
    connection.execute("PRAGMA synchronous = EXTRA")
    # Unlock the file after the next transaction, so that readers can read between two commits.
    connection.execute("PRAGMA locking_mode = NORMAL").fetchone()


def _create(connection: sqlite3.Connection, settings: SearchSettings) -> None:
    # One transaction: if a start is killed here, it leaves an empty file, and the next start creates the journal.
    connection.executescript(
        f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; {TABLES}"
    )
    text = wire.encode(wire.to_message(settings), limit_bytes=None)
    connection.execute(
        "INSERT INTO search (one, settings, epoch, journal_id) VALUES (1, ?, 0, lower(hex(randomblob(16))))", (text,)
    )
    connection.execute("COMMIT")
