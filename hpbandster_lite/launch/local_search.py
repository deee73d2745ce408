"""Run a whole search on this machine to its end: name server, master, and one agent per worker.

Law of this file: it starts and supervises processes and decides nothing about the search. They are started while the
problem is being read, because their imports take a second, and get their options when the problem is known.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from hpbandster_lite import wire
from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.agent.options import AgentOptions, one_per_worker
from hpbandster_lite.errors import (
    Held,
    InvariantBroken,
    PeerError,
    ProblemError,
    RunDirectoryError,
    SearchError,
    SourceDiffers,
    UsageError,
)
from hpbandster_lite.journal import JournalReader, is_full
from hpbandster_lite.launch.children import (
    AgentChild,
    AgentThread,
    Child,
    MasterChild,
    exit_report,
    signal_name,
    wait_for_end,
)
from hpbandster_lite.launch.left_checkpoints import delete_left_checkpoints
from hpbandster_lite.launch.supervisor import POLL_S, SAME_COMMAND, Supervisor
from hpbandster_lite.master.connection import connect
from hpbandster_lite.master.news import served_by_another
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.problems import Problem
from hpbandster_lite.problems.shipped_data import MissingData, refuse_missing
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.protocol.status import Status, status_from_plain
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import (
    CheckpointOptions,
    GraceOptions,
    NameServerOptions,
    SearchOptions,
    WorkerOptions,
    check_files,
    check_values,
    in_common,
    kept_configurations,
)
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.settings.search_file import file_values
from hpbandster_lite.standalone.test_incumbent import save_tested_incumbent
from hpbandster_lite.trainer.rendezvous import reserve_port

STATUS_EVERY_S = 0.5


@record(frozen=True, kw_only=True)
class LaunchOptions(WorkerOptions, GraceOptions, NameServerOptions, CheckpointOptions):
    """How to run a search on this machine; without ``nameserver`` one is started.

    Raises
    ------
    UsageError
        If a value is not accepted, or a device does not exist.
    """

    def __post_init__(self) -> None:
        check_values(self)
        check_files(self)
        # Refuse now what an agent would refuse later.
        AgentOptions(problem="", run_dir="", **in_common(AgentOptions, self))
        self.devices()

    def devices(self) -> list[tuple[str | None, int | None]]:
        """Devices and threads of each worker."""
        return worker_devices(self.workers, self.threads, gpus=self.gpus, gpus_per_worker=self.gpus_per_worker)


class Watcher(Protocol):
    """Shows the progress of a search."""

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """Show what is about to run; called before any process has its options."""

    def status(self, status: Status) -> None:
        """Show a status of the running master."""

    def note(self, text: str) -> None:
        """Show one line about a process that died, was restarted, or is being stopped."""


def search_here(
    options: SearchOptions,
    directory: RunDirectory,
    launch: LaunchOptions,
    watcher: Watcher,
    *,
    problem: Problem | None = None,
    way_on: str = SAME_COMMAND,
) -> int:
    """Begin or continue a search, and run it to its end; save the incumbent, tested where the problem has a test.

    Parameters
    ----------
    options, directory, launch
        What to search, where to keep it, how to run it.
    watcher
        Shows the progress.
    problem
        The problem itself, where no other process can import it: the workers are then threads of this process.
    way_on
        What the user does to continue the search, for messages.

    Returns
    -------
    int
        0 when the search is over or was stopped, 130 when it was interrupted, 75 when its allocation ends and it
        continues in the next one, else the master's exit code.

    Raises
    ------
    UsageError
        For invalid input, before anything is written or served.
    ProblemError
        If no worker can import the problem.
    RunDirectoryError
        If a process died again and again, or no worker is left.
    """
    arguments = options.arguments or ()
    with LocalSearch(directory, launch, watcher, problem, arguments, way_on) as search:
        lacks: list[MissingData] = []
        prepared = prepare(
            options, directory, meanwhile=search.warm_up, on_missing=lacks.append, on_progress=watcher.note
        )
        has_ended = is_over(prepared, directory)
        if not has_ended:
            refuse_missing(lacks)
            prepared = replace(prepared, notes=(*prepared.notes, *(each.text for each in lacks)))
        watcher.begin(prepared, directory)
        if not has_ended:
            directory.create()
            code = search.run(prepared)
            if code != 0:
                return code
        else:
            delete_left_checkpoints(directory, kept_configurations(launch.keep_checkpoints))
    finished = JournalReader(directory.journal).finished()
    if finished is not None and finished.kind.was_stopped:
        # It may be continued, and the test split is used once a search.
        return 0
    save_tested_incumbent(directory, prepared.settings.problem, watcher.note, problem, arguments)
    return 0


def is_over(prepared: Prepared, directory: RunDirectory) -> bool:
    """Whether a run directory contains this search, complete under the same limits, with nothing else to do."""
    is_begun_anew = prepared.retry_failed_after is not None or prepared.restored_after is not None
    if not prepared.resumed or is_begun_anew:
        return False
    reader = JournalReader(directory.journal)
    finished = reader.finished()
    return finished is not None and not finished.kind.was_stopped and reader.limits() == prepared.limits


class LocalSearch(Supervisor):
    """The processes of one search on this machine: name server, master, agents.

    Parameters
    ----------
    directory, options, watcher, problem, way_on
        As for :func:`search_here`; ``options`` is its ``launch``.
    arguments
        ``sys.argv`` while trainers import the problem; empty for its file alone.
    """

    def __init__(
        self,
        directory: RunDirectory,
        options: LaunchOptions,
        watcher: Watcher,
        problem: Problem | None = None,
        arguments: Sequence[str] = (),
        way_on: str = SAME_COMMAND,
    ) -> None:
        super().__init__(watcher.note, way_on)
        self._grace_s = options.grace_s
        self._directory = directory
        self._options = options
        self._watcher = watcher
        self._problem = problem
        self._arguments = tuple(arguments)
        self._master: MasterChild | None = None
        self._has_workers = False
        """Until its master has the run directory, a launcher starts no worker: it would find another master there."""
        self._ended_at: dict[str, float] = {}
        """When agents were first seen to have ended with exit code 0."""
        self._had_work_at = -math.inf
        """When the newest status of this launcher's master was requested that was not over."""

    def warm_up(self) -> None:
        """Start all processes, which wait for their briefing; their imports take a second."""
        self._start_master()
        if not self._directory.is_served():
            self._start_agents()
        if self._options.nameserver is None:
            self._others.append(self._start("name server", "hpbandster_lite.nameserver"))

    def _start_master(self) -> MasterChild:
        self._master = MasterChild(self._lifeline)
        self._others = [self._master]
        self._master.start()
        return self._master

    def _start_agents(self) -> None:
        if self._problem is None and not self._agents:
            self._agents = [self._start_agent(index) for index in range(len(self._options.devices()))]

    def run(self, prepared: Prepared) -> int:
        """Run the search to its end; the exit code is the master's, or that of the signal that ended it.

        Raises
        ------
        Held
            If another master has the run directory.
        """
        self._handle_signals()
        if self._master is None:
            self.warm_up()
        master, names = self._own_master, self._others[1:]
        self._brief_services(prepared, master, names)
        next_status = 0.0
        while not self._is_end_requested:
            code = master.returncode
            self._read_news(master)
            if code is not None and code >= 0:
                # The search is over, or the master refused it for a reason in its log: a restart changes nothing.
                return self._wind_down(master, code)
            if not self._has_workers and master.has_directory:
                self._brief_workers(prepared)
            self._restart_what_died(master, code, names)
            self._note_stopped()
            if time.monotonic() >= next_status:
                self._look_at_status(master)
                next_status = time.monotonic() + STATUS_EVERY_S
            wait_for_end((*self._agents, *self._others), POLL_S, master.news_descriptor)
        return self._stop()

    @property
    def _own_master(self) -> MasterChild:
        if self._master is None:
            raise InvariantBroken("the master was not started")
        return self._master

    def _read_news(self, master: MasterChild) -> None:
        before = master.waits
        master.read_news()
        if master.waits not in (None, before):
            self._note(f"{self._directory.path} is served already: {master.waits}")
        while master.notes:
            self._note(master.notes.pop(0))

    def _restart_what_died(self, master: Child, code: int | None, names: Sequence[Child]) -> None:
        if code is not None:
            self._restart(master, f"the master died of {signal_name(code)}")
        for child in names:
            if not child.alive:
                self._restart(child, f"the {child.name} died")
        if self._has_workers:
            self._restart_agents_that_died()
            self._check_that_agents_are_left()

    def _has_work_for(self, agent: AgentChild | AgentThread) -> bool:
        # A worker of a search that is over ends before its master does.
        ended_at = self._ended_at.setdefault(agent.name, time.monotonic())
        if self._had_work_at <= ended_at:
            return False
        del self._ended_at[agent.name]
        return True

    def _stop(self) -> int:
        if self._interrupts:
            self._note("stopping: running evaluations are handed back; a second Ctrl-C or SIGTERM ends at once")
        else:
            self._note(f"the allocation ends: running evaluations are handed back; to continue them, {self._way_on}")
        self._end_all()
        return INTERRUPTED if self._interrupts else REQUEUE

    def _brief_services(self, prepared: Prepared, master: MasterChild, names: Sequence[Child]) -> None:
        directory, launch = self._directory, self._options
        named = {"nameserver": launch.nameserver, "nameserver_key": launch.nameserver_key}
        for child in names:
            named = self._brief_nameserver(child)
        options = MasterOptions(
            run_directory=str(directory.path),
            prepared=prepared,
            **(in_common(MasterOptions, launch) | named),
            lifeline=self._lifeline,
            news=master.news_end,
            command_options=file_values(launch),
        )
        master.brief(wire.to_message(options), directory.log("master"))

    def _brief_workers(self, prepared: Prepared) -> None:
        directory, launch = self._directory, self._options
        # Workers of this machine find the master through the run directory, and ask no name server.
        unnamed = dict.fromkeys(("nameserver", "nameserver_key"))
        shared = AgentOptions(
            problem=prepared.settings.problem.reference,
            run_dir=str(directory.path),
            arguments=self._arguments,
            **(in_common(AgentOptions, launch) | unnamed),
            has_own_master=True,
        )
        of_agents = one_per_worker(shared, launch.workers, launch.threads, launch.gpus)
        self._has_workers = True
        self._start_agents()
        if self._problem is not None:
            self._agents = [AgentThread(options, self._problem) for options in of_agents]
        self._brief_agents(of_agents, directory)

    def _brief_nameserver(self, child: Child) -> dict[str, Any]:
        """Brief the name server; the options with which the master registers there."""
        directory = self._directory
        directory.ensure_nameserver_key()
        key_file = str(directory.nameserver_key_file)
        host, port = "127.0.0.1", self._resources.enter_context(_reserved_port())
        options = {"host": host, "port": port, "key_file": key_file, "lifeline": self._lifeline}
        certificates = certificates_for(directory)
        if certificates is not None:
            # A master that uses TLS uses it with its name server, too.
            options["tls"] = str(certificates.path)
        child.brief(options, directory.log("nameserver"))
        return {"nameserver": (host, port), "nameserver_key": key_file}

    def _wind_down(self, master: MasterChild, code: int) -> int:
        if code == Held.exit_code and master.waits is not None:
            raise Held(served_by_another(self._directory))
        if code != 0:
            self._note(f"the master ended:\n{master.log_tail()}")
            if is_full(self._directory.path):
                # Its log may lack the last lines.
                self._note(f"the disk of {self._directory.path} is full: free space on it, then {self._way_on}")
        # No master is left to receive anything, so all end at once.
        self._end((*self._agents, *self._others))
        self._kill_all()
        return code

    def _check_that_agents_are_left(self) -> None:
        """End a search whose last worker has ended before the search.

        Raises
        ------
        ProblemError, SourceDiffers, PeerError, RunDirectoryError
            With the end of the worker's log, and with its exit code.
        """
        codes = [agent.returncode for agent in self._agents]
        if all(code == REQUEUE for code in codes):
            # Each received the signal itself, and this process is in the same allocation.
            self._allocation_ends = True
            return
        if not all(code is not None and code > 0 for code in codes):
            return
        # Of several codes, one that names a fault.
        agent = min(self._agents, key=lambda each: (each.returncode == REQUEUE, each.returncode == INTERRUPTED))
        code = agent.returncode or 0
        raise _workers_ended(f"no worker is left: {exit_report(agent, code)}\n{remedy(code, self._way_on)}", code)

    def _look_at_status(self, master: MasterChild) -> None:
        asked_at = time.monotonic()
        # While the master starts or restarts, there is nothing to show.
        with contextlib.suppress(PeerError, RunDirectoryError):
            endpoint = self._directory.read_endpoint()
            if endpoint is None or endpoint["pid"] != master.pid:
                # It waits for the run directory, which a master of another command has.
                return
            with connect(self._directory, timeout_s=1.0) as client:
                status = status_from_plain(client.call("status", {}))
            if status.state == "running":
                self._had_work_at = asked_at
            self._watcher.status(status)


def _workers_ended(text: str, code: int) -> SearchError:
    """The error that ends a search after its last worker ended with this exit code."""
    kinds: dict[int, type[SearchError]] = {
        kind.exit_code: kind for kind in (ProblemError, SourceDiffers, PeerError, RunDirectoryError)
    }
    error = kinds.get(code, RunDirectoryError)(text)
    error.exit_code = code
    return error


def remedy(code: int, way_on: str) -> str:
    """What the user does after the last worker has ended with this exit code."""
    if code == UsageError.exit_code:
        return f"It would refuse the same input again: correct what it names, then {way_on}"
    if code == SourceDiffers.exit_code:
        accept = "accept the edit (--accept-edited-source, accept_edited_source=True)"
        return f"The recorded results are kept: restore the source or {accept}, then {way_on}"
    if code == INTERRUPTED:
        return (
            f"Nothing is lost: {way_on}. Each worker received a signal, and this command none: if the objective of the "
            "evaluation above signals its worker, correct it first"
        )
    if code == PeerError.exit_code:
        return f"Nothing is lost: {way_on}"
    return f"Nothing is lost: remove the cause, then {way_on}"


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A free loopback port that the system gives to no other process, while our server can listen there.

    So the name server finds it free, also when it is started again.
    """
    with reserve_port() as holder:
        port: int = holder.getsockname()[1]
        yield port
