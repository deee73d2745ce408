"""The process of a master: it locks the run directory, replays the journal, serves, and ends.

Law of this file: one process holds a run directory and its journal at a time. It serves only after the entry of its
start is durable, and removes its endpoint when it ends.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import filelock

from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.access.listening import listen_settings
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.errors import Held, ResumeError, RunDirectoryError
from hpbandster_lite.journal import Journal, settings_difference
from hpbandster_lite.master.calls import SOONEST_QUESTION_S, Master, wall_clock
from hpbandster_lite.master.checkpoint_quota import CheckpointQuota
from hpbandster_lite.master.news import HAS_DIRECTORY, WAITS, send_news, served_by_another
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.own_endpoint import OwnEndpoint
from hpbandster_lite.master.registration import Registration
from hpbandster_lite.master.turns import Turns
from hpbandster_lite.process.fingerprint import fingerprint
from hpbandster_lite.process.identity import Condition
from hpbandster_lite.process.shutdown import REQUEUE, ShutdownRequest, shutdown_requests
from hpbandster_lite.records import Entry, Paused, Plain, ProcessIdentity, Resumed
from hpbandster_lite.results.incumbent import refresh_incumbent
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory, holder_noted, in_words, read_given_key, read_holder
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.settings.kinds import byte_count
from hpbandster_lite.settings.options import kept_configurations
from hpbandster_lite.settings.prepare import RESTORED_ALONE
from hpbandster_lite.settings.search_file import keep_search_file
from hpbandster_lite.settings.source_check import check_source
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.transport import PROTOCOL, NameServerClient, run_name
from hpbandster_lite.transport.server import Server

log = logging.getLogger(__package__)

OBJECT_ID = "hpbandster_lite.master"
LOCK_WAIT_S = 10.0
"""A new master waits this long for the lock of the old one, then refuses to start."""
BEYOND_GRACE_S = 10.0
"""A master whose launcher was killed waits this much longer than the grace of evaluations for their workers."""


def run_master(options: MasterOptions) -> int:
    """Serve a search until it is over or a signal arrives; return the exit code of the process.

    Returns
    -------
    int
        0 when the search is over, 130 after SIGINT or SIGTERM, or when the launcher has gone, 75 after SIGUSR2: to be
        started again in the next allocation.

    Raises
    ------
    RunDirectoryError
        If another master has the run directory, or the run's name at the name server, or if the directory cannot be
        used; if its journal was deleted or replaced while this master served it.
    UsageError
        If the address cannot be used, or the run directory holds another search.
    """
    directory = RunDirectory(options.run_directory)
    directory.create()
    waits = options.prepared.restored_after is None
    with hold_run_directory(directory, options.news, waits=waits), shutdown_requests(options.lifeline) as ending:
        # After a master that was killed, the file may be older than the journal.
        refresh_incumbent(directory)
        code = _served(options, directory, ending)
        refresh_incumbent(directory, create=True)
        return code


def _served(options: MasterOptions, directory: RunDirectory, ending: ShutdownRequest) -> int:
    """Open the journal, or make it, and serve; return the exit code."""
    settings = options.prepared.settings
    with Journal.open(directory.journal, create=settings, clock=time.monotonic) as journal:
        difference = settings_difference(journal.settings, settings)
        if difference is not None:
            raise ResumeError(
                f"{directory.path} holds another search: {difference.sentence}; give another run directory"
            )
        if journal.network is not None:
            log.info(
                "%s is on a network file system (%s): the journal is kept with SQLite's rollback journal, which needs "
                "no shared memory",
                directory.path,
                journal.network,
            )
        try:
            # Here, because this process has the lock of the directory now.
            keep_search_file(directory, options.prepared, options.command_options)
        except OSError as error:
            log.warning("the search file in the run directory is not written: %s", error)
        with contextlib.ExitStack() as at_end:
            return _serve(options, directory, journal, ending, at_end)


def _serve(
    options: MasterOptions,
    directory: RunDirectory,
    journal: Journal,
    ending: ShutdownRequest,
    at_end: contextlib.ExitStack,
) -> int:
    """Serve; ``at_end`` waits for what may go on until the journal is complete."""
    master, epoch = resume_master(options, directory, journal)
    run_id = journal.settings.run_id
    where = listen_settings(options.host, options.interface, certificates_for(directory, options.tls))
    with Server(
        where.hosts,
        options.port,
        directory.ensure_key() if options.key is None else directory.adopt_key(Path(options.key)),
        object_id=OBJECT_ID,
        handle=master.handle,
        welcome={"epoch": epoch, "run_id": run_id},
        wakeup_fd=ending.wakeup_fd,
        tls=where.tls,
        reads=("status",),
    ) as server:
        port = server.endpoint[1]
        host, *others = where.offered(server.addresses)
        endpoint = {
            "protocol": PROTOCOL,
            "run_id": run_id,
            "epoch": epoch,
            "host": host,
            "port": port,
            "object": OBJECT_ID,
            "pid": os.getpid(),
            **({"addresses": [host, *others]} if others else {}),
        }
        if where.certificates is not None:
            where.certificates.install(directory)
        own_endpoint = OwnEndpoint(directory, endpoint)
        registration = _registration(options, run_id, endpoint)
        log.info("serving run %s of %s on %s, epoch %d", run_id, directory.path, where.describe(server), epoch)
        # Imports and replayed state are never garbage: the garbage collector need not search them again.
        gc.freeze()
        try:
            _loop(server, master, ending, registration, own_endpoint, grace_s=options.grace_s)
        finally:
            gc.unfreeze()
            if registration is not None:
                # The name server answers while this process removes its endpoint and completes the journal.
                registration.stop()
                at_end.callback(registration.withdraw)
            _withdraw(directory, epoch)
    # Once more after the last commit: nothing later would notice that the journal is gone.
    journal.look(wall_clock())
    if master.engine.finished is None:
        if ending.exit_code == REQUEUE:
            log.info("the allocation ends: the search continues when the master is started again")
        return ending.exit_code
    journal.seal()
    return 0


def _withdraw(directory: RunDirectory, epoch: int) -> None:
    """Remove this master's endpoint; what else has its name does not change how the search ended."""
    try:
        directory.remove_endpoint(epoch, os.getpid())
    except RunDirectoryError as error:
        log.warning("the file with this master's address is not removed: %s", error)


def resume_master(
    options: MasterOptions,
    directory: RunDirectory,
    journal: Journal,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = wall_clock,
    soonest_question_s: float = SOONEST_QUESTION_S,
    condition_of: Callable[[ProcessIdentity], Condition] | None = None,
) -> tuple[Master, int]:
    """The master of this search as the journal left it, with a new epoch; the last arguments are :class:`Master`'s.

    Raises
    ------
    ResumeError, SourceDiffers
        If the problem is another one, or its source was edited and the user did not accept the edit.
    """
    # The lease times are those of this start; everything else is the journal's.
    settings = replace(options.prepared.settings, run_id=journal.settings.run_id)
    space = SearchSpace.from_json(settings.problem.space_tables)
    engine = Engine(settings, space, make_sampler(settings.algorithm, space, settings.budgets, settings.sampler))
    unread = _UnreadEntries(journal)
    engine.replay(unread)
    accepted = engine.state.source or journal.settings.problem.source
    check_source(accepted, settings.problem.source, options.prepared.edited, directory.path)
    is_restored = _is_first_after(options.prepared.restored_after, engine)
    epoch = _begun_epoch(journal, directory, is_restored=is_restored)
    # Entries that an older master has committed meanwhile; from now on it cannot commit.
    engine.replay(unread)
    # Only the first master of this start puts failures back: its successor may find that they have failed again.
    retry_failed = _is_first_after(options.prepared.retry_failed_after, engine)
    turn = engine.start(
        epoch,
        options.prepared.limits,
        now=clock(),
        spent_s=journal.spent_s(),
        fingerprint=fingerprint(),
        retry_failed=retry_failed,
        keep_going=options.prepared.keep_going,
        edited=options.prepared.edited,
        restored=is_restored,
    )
    if retry_failed:
        log.info("%s", turn.answer.sentence)
    journal.commit(turn.entries, at=wall_clock())
    keep_best = kept_configurations(options.keep_checkpoints)
    keeper = CheckpointKeeper(directory, keep_best=keep_best, delay_s=settings.lease_s)
    quota = options.checkpoint_quota
    master = Master(
        journal,
        engine,
        directory,
        keeper,
        clock=clock,
        wall_clock=wall_clock,
        paused_at=unread.paused_at,
        quota=None if quota is None else CheckpointQuota(directory, byte_count("checkpoint_quota", quota)),
        soonest_question_s=soonest_question_s,
        condition_of=condition_of,
    )
    return master, epoch


def _is_first_after(epoch: int | None, engine: Engine) -> bool:
    """Whether the journal has no master after that of an epoch; False without an epoch."""
    return epoch is not None and engine.state.epoch <= epoch


class _UnreadEntries:
    """The entries of a journal that were not read before; ``paused_at`` is the Unix time of a pause that lasts."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._position = 0
        self.paused_at: float | None = None

    def __iter__(self) -> Iterator[Entry]:
        for position, at, entry in self._journal.entries(after=self._position):
            self._position = position
            if isinstance(entry, Paused | Resumed):
                self.paused_at = at if isinstance(entry, Paused) else None
            yield entry


def _begun_epoch(journal: Journal, directory: RunDirectory, *, is_restored: bool) -> int:
    """Become the newest master, of a journal that may have been restored from a copy."""
    endpoint = None
    with contextlib.suppress(RunDirectoryError):
        endpoint = directory.read_endpoint()
    last = 0 if endpoint is None else int(endpoint["epoch"])
    epoch = journal.begin_epoch(restored_above=last if is_restored else None)
    if is_restored:
        log.warning("the journal was restored from a copy: this master begins with epoch %d", epoch)
    elif last >= epoch:
        log.warning(
            "the last master here had epoch %d, and the journal knows none after %d: if it was restored from a copy, "
            "end this master and start it again with --restored; until then, workers that have seen later masters "
            "refuse it",
            *(last, epoch - 1),
        )
    return epoch


def _loop(
    server: Server,
    master: Master,
    ending: ShutdownRequest,
    registration: Registration | None,
    own_endpoint: OwnEndpoint,
    *,
    grace_s: float,
) -> None:
    """Serve until the search is over and every connected agent knows it, or until the process is to end.

    Raises
    ------
    Held
        If another living master has the run's name at the name server.
    """
    turns = Turns(server, master)
    alone_until = None
    while not ending.signals:
        if turns.take():
            finished = master.engine.finished
            log.info("the search is over: %s", "" if finished is None else finished.reason)
            master.sweep_at_end()
            return
        own_endpoint.look()
        if registration is not None and registration.refusal is not None:
            raise Held(f"this run is served already: {registration.refusal}") from registration.refusal
        if ending.is_requested:
            # The launcher is gone, and its workers end with it: they hand back what they hold first.
            alone_until = time.monotonic() + grace_s + BEYOND_GRACE_S if alone_until is None else alone_until
            if not master.has_agents or time.monotonic() >= alone_until:
                return


@contextlib.contextmanager
def hold_run_directory(directory: RunDirectory, news: int | None = None, *, waits: bool = True) -> Iterator[None]:
    """Lock the run directory against a second master; ``news`` is for the launcher.

    ``waits``: whether the master that has it may be about to end.

    Raises
    ------
    Held
        If another process has it for :data:`LOCK_WAIT_S`; the log and the launcher know at once who has it.
    RunDirectoryError
        If it cannot be locked.
    """
    lock = filelock.FileLock(directory.lock_file, mode=0o600)
    try:
        _acquire(lock, directory, news, waits=waits)
    except Held:
        raise
    except OSError as error:
        how = error.strerror or error
        if directory.lock_file.is_symlink() or directory.lock_file.is_dir():
            how = "it is not a file; move it away, and the master makes one"
        raise RunDirectoryError(f"cannot lock {directory.lock_file}: {how}") from error
    try:
        with holder_noted(directory.holder_file):
            send_news(news, HAS_DIRECTORY)
            yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, directory: RunDirectory, news: int | None, *, waits: bool) -> None:
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=0)
        return
    if not waits:
        raise Held(f"{served_by_another(directory)}; {RESTORED_ALONE}")
    holder = read_holder(directory.holder_file)
    server = "another process" if holder is None else in_words(holder)
    pending = f"{WAITS}up to {LOCK_WAIT_S:g} s for the end of its master ({server})"
    log.warning("%s is served already: %s", directory.path, pending)
    send_news(news, pending)
    try:
        lock.acquire(timeout=LOCK_WAIT_S, poll_interval=0.1)
    except filelock.Timeout as error:
        raise Held(served_by_another(directory)) from error


def _registration(options: MasterOptions, run_id: str, endpoint: dict[str, Plain]) -> Registration | None:
    if options.nameserver is None:
        return None
    key = None if options.nameserver_key is None else read_given_key(Path(options.nameserver_key))
    certificates = certificates_for(RunDirectory(options.run_directory), options.tls)
    tls = None if certificates is None else certificates.client_context()
    client = NameServerClient(*options.nameserver, key, timeout_s=3.0, tls=tls)
    return Registration(client, run_name(run_id), endpoint, partial(send_news, options.news))
