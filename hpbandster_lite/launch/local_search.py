"""Start a whole search on this machine and see it through: name server, master, and one agent per worker.

Law of this file: it starts processes (:mod:`~hpbandster_lite.launch.children`) and decides nothing about the search.
They are started while the problem is being read, and told what to do when that is known: what they import takes a
second.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hpbandster_lite import wire
from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.agent import AgentOptions
from hpbandster_lite.errors import PeerError, ProblemError, RunDirectoryError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.launch.children import (
    POLL_S,
    AgentThread,
    Child,
    Processes,
    ended_in_words,
    one_per_worker,
    signal_name,
)
from hpbandster_lite.master import MasterOptions, connect
from hpbandster_lite.problems import Problem
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.protocol.status import Status, status_from_plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import (
    CheckpointOptions,
    NameServerOptions,
    SearchOptions,
    WorkerOptions,
    check_values,
    in_common,
)
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.settings.search_file import file_values
from hpbandster_lite.standalone.test_incumbent import save_tested_incumbent
from hpbandster_lite.trainer.rendezvous import reserve_port

STATUS_EVERY_S = 0.5


@dataclass(frozen=True, kw_only=True)
class LaunchOptions(WorkerOptions, NameServerOptions, CheckpointOptions):
    """How to run a search on this machine; without ``nameserver`` one is started.

    Raises
    ------
    UsageError
        If a value is not accepted, or a device does not exist.
    """

    def __post_init__(self) -> None:
        check_values(self)
        # What an agent would refuse is refused now.
        AgentOptions(problem="", run_dir="", **in_common(AgentOptions, self))
        self.devices()

    def devices(self) -> list[tuple[str | None, int | None]]:
        """Devices and threads of each worker."""
        return worker_devices(self.workers, self.threads, gpus=self.gpus, gpus_per_worker=self.gpus_per_worker)


class Watcher(Protocol):
    """Who shows the progress of a search."""

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """What is about to run; called before any process is started."""

    def status(self, status: Status) -> None:
        """The living master's status."""

    def note(self, text: str) -> None:
        """One line about a process that died, was restarted, or is being stopped."""


def search_here(
    options: SearchOptions,
    directory: RunDirectory,
    launch: LaunchOptions,
    watcher: Watcher,
    *,
    problem: Problem | None = None,
) -> int:
    """Begin a search or go on with it, to its end; save the incumbent, tested where the problem can.

    Parameters
    ----------
    options, directory, launch
        What to search, where to keep it, how to run it.
    watcher
        Who shows the progress.
    problem
        The problem itself, where no other process can import it: the workers are then threads of this process.

    Returns
    -------
    int
        0 when the search is over or was stopped, 130 when it was interrupted, 75 when its allocation ends and it goes
        on in the next one, else the master's exit code.

    Raises
    ------
    UsageError
        For input that cannot be, before anything is written or served.
    ProblemError
        If no worker can import the problem.
    RunDirectoryError
        If a process died again and again, or no worker is left.
    """
    with LocalSearch(directory, launch, watcher, problem) as search:
        prepared = prepare(options, directory, meanwhile=search.warm_up)
        watcher.begin(prepared, directory)
        if not _is_over(prepared, directory):
            directory.create()
            code = search.run(prepared)
            if code != 0:
                return code
    finished = JournalReader(directory.journal).finished()
    if finished is not None and finished.kind.was_stopped:
        # It may go on, and the test split is looked at once a search.
        return 0
    save_tested_incumbent(directory, prepared.settings.problem, watcher.note, problem)
    return 0


def _is_over(prepared: Prepared, directory: RunDirectory) -> bool:
    """Whether the run directory holds this very search, ended under these very limits, and nothing is asked of it."""
    if not prepared.resumed or prepared.retry_failed_after is not None:
        return False
    reader = JournalReader(directory.journal)
    finished = reader.finished()
    return finished is not None and not finished.kind.was_stopped and reader.limits() == prepared.limits


class LocalSearch(Processes):
    """The processes of one search on this machine: name server, master, agents."""

    def __init__(
        self, directory: RunDirectory, options: LaunchOptions, watcher: Watcher, problem: Problem | None = None
    ) -> None:
        super().__init__(watcher.note)
        self._directory = directory
        self._options = options
        self._watcher = watcher
        self._problem = problem

    def warm_up(self) -> None:
        """Start all processes, which do nothing yet; what they need takes them a second to import."""
        self._others = [self._begin("master", "hpbandster_lite.master")]
        if self._problem is None:
            count = len(self._options.devices())
            self._agents = [self._begin_agent(index) for index in range(count)]
        if self._options.nameserver is None:
            self._others.append(self._begin("name server", "hpbandster_lite.nameserver"))

    def run(self, prepared: Prepared) -> int:
        """Run the search to its end; the exit code is the master's, or that of the signal that ended it."""
        self._count_signals()
        if not self._others:
            self.warm_up()
        master, *names = self._others
        self._tell(prepared, master, names)
        next_status = 0.0
        while True:
            if self._is_told_to_end:
                return self._stop()
            code = master.returncode
            if code is not None and code >= 0:
                # Over, or refused in words of its own: starting it again would change nothing.
                return self._wind_down(master, code)
            if code is not None:
                self._revive(master, f"the master died of {signal_name(code)}")
            for child in names:
                if not child.alive:
                    self._revive(child, f"the {child.name} died")
            self._tend_agents()
            self._refuse_to_wait_for_nobody()
            if time.monotonic() >= next_status:
                self._show()
                next_status = time.monotonic() + STATUS_EVERY_S
            time.sleep(POLL_S)

    def _stop(self) -> int:
        if self._stops:
            self._note("stopping: running evaluations are handed back; Ctrl-C again ends at once")
        else:
            self._note("the allocation ends: running evaluations are handed back; the same command goes on with them")
        self._end_all()
        return INTERRUPTED if self._stops else REQUEUE

    def _tell(self, prepared: Prepared, master: Child, names: Sequence[Child]) -> None:
        directory = self._directory
        nameserver, key_file = self._options.nameserver, self._options.nameserver_key
        for child in names:
            directory.ensure_nameserver_key()
            key_file = str(directory.nameserver_key_file)
            nameserver = ("127.0.0.1", self._held.enter_context(_reserved_port()))
            told = {"host": nameserver[0], "port": nameserver[1], "key_file": key_file, "lifeline": self._lifeline}
            certificates = certificates_for(directory)
            if certificates is not None:
                # Who speaks TLS speaks it with everybody.
                told["tls"] = str(certificates.path)
            child.tell(told, directory.log("nameserver"))
        named = {"nameserver": nameserver, "nameserver_key": key_file}
        options = MasterOptions(
            run_directory=str(directory.path),
            prepared=prepared,
            **(in_common(MasterOptions, self._options) | named),
            lifeline=self._lifeline,
            command_options=file_values(self._options),
        )
        master.tell(wire.to_message(options), directory.log("master"))
        # Workers of this machine find the master through the run directory, and ask no name server.
        unnamed = dict.fromkeys(named)
        shared = AgentOptions(
            problem=prepared.settings.problem.reference,
            run_dir=str(directory.path),
            **(in_common(AgentOptions, self._options) | unnamed),
        )
        told_agents = one_per_worker(shared, self._options.workers, self._options.threads, self._options.gpus)
        if self._problem is not None:
            self._agents = [AgentThread(options, self._problem) for options in told_agents]
        self._tell_agents(told_agents, directory)

    def _wind_down(self, master: Child, code: int) -> int:
        if code != 0:
            self._note(f"the master ended:\n{master.last_words()}")
        # Nobody listens any more, so nobody has to end before another.
        self._end((*self._agents, *self._others))
        self._kill()
        return code

    def _refuse_to_wait_for_nobody(self) -> None:
        """End a search whose last worker has gone, though not because it is over.

        Raises
        ------
        ProblemError, RunDirectoryError
            With what the worker said.
        """
        codes = [agent.returncode for agent in self._agents]
        if all(code == REQUEUE for code in codes):
            # Each was told so by itself, and this process is in the same allocation.
            self._allocation_ends = True
            return
        if not all(code is not None and code > 0 for code in codes):
            return
        agent, code = self._agents[0], codes[0] or 0
        error = ProblemError if code == ProblemError.exit_code else RunDirectoryError
        raise error(f"no worker is left: {ended_in_words(agent, code)}\nNothing is lost: run the same command again")

    def _show(self) -> None:
        # The master may be starting, or restarting: then there is nothing to show this time.
        with contextlib.suppress(PeerError, RunDirectoryError), connect(self._directory, timeout_s=1.0) as client:
            self._watcher.status(status_from_plain(client.call("status", {})))


@contextlib.contextmanager
def _reserved_port() -> Iterator[int]:
    """A free port of loopback that nobody else is given meanwhile, though a server of ours may listen there.

    So the name server finds it free, and again when it is started anew.
    """
    with reserve_port() as holder:
        port: int = holder.getsockname()[1]
        yield port
