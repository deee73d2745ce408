"""When a launcher starts a worker again, when it ends, and what it does while another master has the run directory."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpbandster_lite import api
from hpbandster_lite.agent.master_link import FIRST_CONTACT_S, Link, MasterFinder
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import Held, PeerError, ProblemError, RunDirectoryError, SearchError, SourceDiffers
from hpbandster_lite.launch import local_search, supervisor
from hpbandster_lite.launch.children import AgentThread, Child, wait_for_end
from hpbandster_lite.launch.local_search import LaunchOptions, LocalSearch
from hpbandster_lite.master.news import HAS_DIRECTORY, WAITS
from hpbandster_lite.master.serving import hold_run_directory
from hpbandster_lite.protocol.messages import Hello, SourceRequest
from hpbandster_lite.protocol.status import Status, status_to_plain
from hpbandster_lite.rundir import RunDirectory
from tests.statuses import a_status

MASTER_PID = 4_242


class Worker:
    """A worker that has ended, or runs."""

    log = Path("logs/worker.log")

    def __init__(self, returncode: int | None, index: int = 0) -> None:
        self.name = f"worker-{index}"
        self.returncode = returncode
        self.started_at: list[float] = []

    def start(self) -> None:
        self.started_at.append(time.monotonic())
        self.returncode = None

    def log_tail(self) -> str:
        return "the end of its log"


class Master:
    """The process of a master, without the process."""

    name = "master"
    pid = MASTER_PID

    def __init__(self, returncode: int | None = None) -> None:
        self.returncode = returncode
        self.waits: str | None = None
        self.has_directory = False
        self.notes: list[str] = []
        self.news: list[str] = []

    def read_news(self) -> None:
        for line in self.news:
            self.has_directory |= line == HAS_DIRECTORY
            self.waits = line if line.startswith(WAITS) else None
        self.news = []

    def log_tail(self) -> str:
        return "the end of its log"


@pytest.fixture
def search(tmp_path: Path) -> Iterator[LocalSearch]:
    search = LocalSearch(RunDirectory(tmp_path), LaunchOptions(workers=2), api._Lines())
    yield search
    os.close(search._lifeline)
    os.close(search._write_end)


class Answers:
    """The client of a master that answers with one status."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        """It is no connection."""

    def call(self, method: str, message: Any) -> Any:
        assert (method, message) == ("status", {})
        return status_to_plain(self._status)


def look(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch, *, pid: int = MASTER_PID, state: Any = "running"
) -> None:
    """Let the launcher ask for the status, while a master with this pid serves."""
    endpoint = {"protocol": 1, "run_id": "r", "epoch": 1, "host": "127.0.0.1", "port": 1, "object": "m", "pid": pid}
    search._directory.write_endpoint(endpoint)
    monkeypatch.setattr(local_search, "connect", lambda *_, **__: Answers(a_status(state=state)))
    search._look_at_status(Master())  # type: ignore[arg-type]  # a stand-in of it


class Saves(Worker):
    """A worker that is saving and never ends."""

    alive = True
    is_stopped = False
    stopped_trainer: int | None = None

    def __init__(self) -> None:
        super().__init__(None)

    def end(self, _request: bytes) -> None:
        """It has begun to save."""


def test_a_launcher_notices_the_end_of_a_child_and_news_at_once_and_leaves_no_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    child = Child("child", "any", lifeline=0)
    child._command = ("sleep", "60")  # type: ignore[assignment]  # in the place of Python
    began = time.monotonic()
    for _ in range(2):
        child.start()
        if not child.is_briefed:
            child.brief({}, None)
        child.end(b"")
        wait_for_end([child], 30.0)
        assert time.monotonic() - began < 25.0
        assert (child.returncode, child.end_descriptor) == (-signal.SIGTERM, None)
    news, sends = os.pipe()
    os.write(sends, b"news")
    wait_for_end([child], 30.0, news)
    assert time.monotonic() - began < 25.0
    for descriptor in (news, sends):
        os.close(descriptor)
    child.kill()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_launcher_notices_a_child_that_ended_before_it_waits_and_only_once() -> None:
    child = Child("child", "any", lifeline=0)
    child._command = ("true",)  # type: ignore[assignment]  # in the place of Python
    child.start()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    began = time.monotonic()
    wait_for_end([child], 30.0)
    assert time.monotonic() - began < 25.0
    began = time.monotonic()
    wait_for_end([child], 0.05)
    assert time.monotonic() - began >= 0.04
    child.kill()


@pytest.mark.parametrize("grace_s", [None, 300.0])
def test_workers_have_the_grace_of_their_evaluations_and_ten_seconds_more(
    grace_s: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = LaunchOptions(workers=1)
    if grace_s is not None:
        options = replace(options, grace_s=grace_s)
    search = LocalSearch(RunDirectory(tmp_path), options, api._Lines())
    now = 0.0

    def wait(_children: object, _limit_s: float) -> None:
        nonlocal now
        now += 1.0

    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(supervisor, "wait_for_end", wait)
    search._end([Saves()])  # type: ignore[list-item]  # a stand-in of it
    assert now == (grace_s or 20.0) + 10.0
    os.close(search._lifeline)
    os.close(search._write_end)


def test_no_launcher_waits_for_the_end_of_a_process_that_is_stopped(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr(supervisor, "wait_for_end", lambda _, limit_s: waits.append(limit_s))
    stopped = Saves()
    stopped.is_stopped = True
    search._end([stopped])  # type: ignore[list-item]  # a stand-in of it
    assert not waits


def test_a_trainer_that_is_stopped_is_named_once_with_the_command_that_continues_it(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "STOPPED_EVERY_S", 0.0)
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: 0.0))
    worker = Saves()
    search._agents = [worker]  # type: ignore[list-item]  # a stand-in of it
    for worker.stopped_trainer in (None, 77, 77, None, 77):
        search._note_stopped()
    line = "hpbandster_lite: the trainer of worker-0 is stopped; to continue it: kill -CONT 77\n"
    assert capsys.readouterr().err == 2 * line


# ------------------------------------------------------------------------------------------ a worker that ended with 0


def test_a_worker_that_ended_while_its_own_master_has_work_is_started_again(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker, other = Worker(0), Worker(None, 1)
    search._agents = [worker, other]  # type: ignore[list-item]  # a stand-in of it
    look(search, monkeypatch)
    search._restart_agents_that_died()
    assert not worker.started_at, "that status is older than its end"
    look(search, monkeypatch)
    search._restart_agents_that_died()
    assert (len(worker.started_at), len(other.started_at)) == (1, 0)
    assert capsys.readouterr().err == "hpbandster_lite: worker-0 has ended, and the search is not over; started again\n"


def test_a_worker_that_ended_with_its_search_is_not_started_again(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(0)
    search._agents = [worker]  # type: ignore[list-item]  # a stand-in of it
    for _ in range(3):
        look(search, monkeypatch, state="finished")
        search._restart_agents_that_died()
    assert not worker.started_at


def test_what_another_master_answers_starts_no_worker(search: LocalSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(0)
    search._agents = [worker]  # type: ignore[list-item]  # a stand-in of it
    for _ in range(3):
        look(search, monkeypatch, pid=MASTER_PID + 1)
        search._restart_agents_that_died()
    assert not worker.started_at


def test_a_worker_that_ends_again_and_again_ends_the_search(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(0)
    search._agents = [worker]  # type: ignore[list-item]  # a stand-in of it

    def end() -> None:
        worker.returncode = 0
        search._restart_agents_that_died()
        look(search, monkeypatch)
        search._restart_agents_that_died()

    for _ in range(5):
        end()
    with pytest.raises(RunDirectoryError, match=r"worker-0 has ended, .*, 5 times within a minute"):
        end()
    assert len(worker.started_at) == 5


@pytest.mark.parametrize("code", [-9, -15], ids=["killed", "terminated"])
def test_a_worker_that_a_signal_killed_is_started_again(code: int, search: LocalSearch) -> None:
    worker = Worker(code)
    search._agents = [worker]  # type: ignore[list-item]  # a stand-in of it
    search._restart_agents_that_died()
    assert len(worker.started_at) == 1


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 70, 130])
def test_a_worker_that_gave_up_is_not_started_again_and_the_last_one_s_code_is_that_of_the_search(
    code: int, search: LocalSearch
) -> None:
    kinds: dict[int, type[SearchError]] = {2: ProblemError, 3: PeerError, 5: SourceDiffers}
    workers = [Worker(code), Worker(None, 1)]
    search._agents = workers  # type: ignore[assignment]  # a stand-in of it
    search._restart_agents_that_died()
    search._check_that_agents_are_left()
    workers[1].returncode = 130
    search._restart_agents_that_died()
    with pytest.raises(SearchError, match=f"no worker is left: worker-0 ended with exit code {code};") as ended:
        search._check_that_agents_are_left()
    assert ended.value.exit_code == code
    assert type(ended.value) is kinds.get(code, RunDirectoryError)
    assert type(ended.value).exit_code == kinds.get(code, RunDirectoryError).exit_code
    assert not any(worker.started_at for worker in workers)


def test_a_worker_that_is_a_thread_can_be_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    released, calls = threading.Semaphore(0), []

    def run_agent(options: AgentOptions, **_: object) -> int:
        calls.append(options.lifeline)
        assert released.acquire(timeout=5.0)
        return 0

    monkeypatch.setattr("hpbandster_lite.agent.loop.run_agent", run_agent)
    # No supervisor is needed.
    thread = AgentThread(AgentOptions(problem="counting_ones", run_dir=str(tmp_path)), None)  # type: ignore[arg-type]
    for _ in range(2):
        released.release()
        thread._thread.join(timeout=5.0)
        assert (thread.returncode, thread.alive) == (0, False)
        thread.start()
        assert (thread.returncode, thread.alive) == (None, True)
    released.release()
    thread._thread.join(timeout=5.0)
    thread.kill()
    assert len(calls) == len(thread.started_at) == 3


# ------------------------------------------------------------------------------------------- another master is there


def test_a_launcher_whose_master_waits_names_at_once_who_serves_and_how_long_it_waits(
    search: LocalSearch, capsys: pytest.CaptureFixture[str]
) -> None:
    master = Master()
    master.news = [f"{WAITS}up to 10 s for the end of its master (pid 7 on host far)"]
    for _ in range(2):
        search._read_news(master)  # type: ignore[arg-type]  # a stand-in of it
    words = "waiting up to 10 s for the end of its master (pid 7 on host far)"
    assert capsys.readouterr().err == f"hpbandster_lite: {search._directory.path} is served already: {words}\n"


def test_a_launcher_whose_master_waited_in_vain_ends_with_the_words_and_the_code_of_that(search: LocalSearch) -> None:
    master = Master(Held.exit_code)
    master.waits = f"{WAITS}up to 10 s"
    with hold_run_directory(search._directory):
        with pytest.raises(Held) as refused:
            search._wind_down(master, Held.exit_code)  # type: ignore[arg-type]  # a stand-in of it
        here = f"pid {os.getpid()} on host {socket.gethostname()}"
        assert f"is served by another master ({here}); stop it on host {socket.gethostname()}" in str(refused.value)
    assert refused.value.exit_code == 4
    assert not search._directory.holder_file.exists()


def test_no_worker_is_started_while_another_master_has_the_directory(
    search: LocalSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def start_agent(index: int) -> Worker:
        started.append(index)
        return Worker(None, index)

    monkeypatch.setattr(search, "_start_master", Master)
    monkeypatch.setattr(search, "_start", lambda *_: Worker(None))
    monkeypatch.setattr(search, "_start_agent", start_agent)
    with hold_run_directory(search._directory):
        search.warm_up()
        assert started == []
    search.warm_up()
    assert started == [0, 1]


# -------------------------------------------------------------------------------------------------- what an agent logs


@pytest.mark.parametrize(("has_own_master", "logged"), [(True, ""), (False, "no master serves")])
def test_an_agent_whose_launcher_starts_the_master_does_not_ask_the_user_to_start_one(
    has_own_master: bool, logged: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = AgentOptions(problem="counting_ones", run_dir=str(tmp_path), has_own_master=has_own_master)
    hello = Hello(agent="a", worker="w", host="h", pid=1, problem="p", source_hash="")
    link = Link(MasterFinder(options), hello, 0.0, has_own_master=has_own_master)
    while link.next_try_at < FIRST_CONTACT_S:
        assert link.call(SourceRequest(), clock=lambda: link.next_try_at) is None
    assert logged in caplog.text
    assert bool(caplog.text) == bool(logged)
    assert link.call(SourceRequest(), clock=lambda: link.next_try_at) is None
    assert "trying again" in caplog.text
    assert ("start one" in caplog.text) == (not has_own_master)
