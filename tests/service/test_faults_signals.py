"""SIGINT and SIGTERM at each process of a search, once and twice: it ends or goes on, and leaves no orphan."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path

import psutil
import pytest

from hpbandster_lite.records import Expired, Released
from tests.service.local_search import LocalSearchProcess, until
from tests.service.served_search import served_search

pytestmark = pytest.mark.timeout(150)

PATIENT = {"lease_s": 60.0, "heartbeat_s": 0.5}
SHORT = {"lease_s": 2.0, "heartbeat_s": 0.2}
INT, TERM = signal.SIGINT, signal.SIGTERM


def send(process: psutil.Process, numbers: tuple[signal.Signals, ...]) -> None:
    """Send signals one after the other; the next one when the process has taken the last one, or has ended.

    Taken by the kernel's account: what Python makes of it comes a moment later, and the second finds it in the middle.
    """
    for number in numbers:
        # It may have ended of the first one before the second comes.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            until(lambda: not is_pending(process, number), "the signal was taken")  # noqa: B023 (waits here)


def is_pending(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether the kernel still keeps a signal for a process."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    pending = [line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd")]
    return any(int(mask, 16) & 1 << (number - 1) for mask in pending)


# ------------------------------------------------------------------------------------- while a launcher watches over it


@pytest.mark.parametrize("numbers", [(TERM,), (INT, INT)], ids=["once", "twice"])
def test_a_search_whose_master_is_told_to_end_ends_and_goes_on_with_the_same_command(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, lease_s=2.0, heartbeat_s=0.2)
    with search.running() as process:
        search.wait_recorded(2)
        search.hold()
        search.wait_inside()
        acknowledged = search.results()
        send(search.processes("master")[0], numbers)
        search.end_of(process, 130)
    search.hold(False)
    search.run()
    search.check(acknowledged)


@pytest.mark.parametrize("numbers", [(TERM,), (INT, INT)], ids=["once", "twice"])
def test_a_search_one_of_whose_workers_is_told_to_end_goes_on_with_the_other(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.running() as process:
        search.hold()
        search.wait_inside()
        send(search.processes("agent")[0], numbers)
        until(lambda: search.of(Released) or search.of(Expired), "its evaluation is to be run again")
        until(lambda: len(search.processes("trainer")) == 1, "its trainer has ended with it")
        search.hold(False)
        said = search.end_of(process, 0)
    assert "ended with exit code 130" in said
    if len(numbers) == 1:
        assert [entry.directory is not None for entry in search.of(Released)] == [True]
        assert not search.of(Expired)
    search.check()


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_name_server_that_is_told_to_end_is_started_again_while_the_search_needs_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.running() as process:
        search.hold()
        search.wait_inside()
        (told,) = search.processes("nameserver")
        send(told, (number, number))
        until(lambda: [each for each in search.processes("nameserver") if each.pid != told.pid], "there is a new one")
        search.hold(False)
        said = search.end_of(process, 0)
    assert "the name server died; started again" in said
    assert not search.of(Expired)
    search.check()


ALL = [(INT,), (INT, INT), (TERM,), (TERM, TERM)]
NAMES = ["INT", "INT INT", "TERM", "TERM TERM"]


@pytest.mark.parametrize("numbers", ALL, ids=NAMES)
def test_a_search_that_is_told_to_end_leaves_no_orphan_and_goes_on_with_the_same_command(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    # Short where nothing is handed back: the next master waits a lease for workers that may live.
    search = LocalSearchProcess(tmp_path, **(PATIENT if len(numbers) == 1 else SHORT))
    with search.running() as process:
        search.wait_recorded(2)
        search.hold()
        search.wait_inside()
        acknowledged = search.results()
        send(psutil.Process(process.pid), numbers)
        # Everybody who carries the search's mark has ended.
        search.end_of(process, 130)
    if len(numbers) == 1:
        assert [entry.directory is not None for entry in search.of(Released)] == [True, True]
    search.hold(False)
    search.run()
    search.check(acknowledged)


@pytest.mark.parametrize("numbers", ALL, ids=NAMES)
def test_an_evaluation_whose_trainer_is_told_to_end_is_run_again_and_its_worker_goes_on(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.running() as process:
        search.hold()
        search.wait_inside()
        agents = {each.pid for each in search.processes("agent")}
        send(search.processes("trainer")[0], numbers)
        until(lambda: search.of(Released), "its evaluation is handed back")
        search.hold(False)
        until(lambda: len(search.results()) > 4, "the search goes on")
        assert {each.pid for each in search.processes("agent")} <= agents
        said = search.end_of(process, 0)
    assert "worker-" not in said
    (released,) = search.of(Released)
    assert released.directory is not None
    assert not search.of(Expired)
    search.check()


def test_a_second_sigterm_to_the_launcher_ends_everything_at_once(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, lease_s=2.0, heartbeat_s=0.2)
    with search.running() as process:
        search.deafen()
        search.wait_inside()
        process.send_signal(TERM)
        assert process.stdout is not None
        until(lambda: "stopping" in process.stdout.readline(), "the first signal was heard")  # type: ignore[union-attr]
        process.send_signal(TERM)
        # Deaf objectives would take their grace of 20 s, and the agents that wait for them would be ended after it.
        search.end_of(process, 130)
    assert not search.of(Released)
    search.deafen(False)
    search.run()
    search.check()


# ----------------------------------------------------------------------------------------------- each process by itself


@pytest.mark.parametrize("numbers", ALL, ids=NAMES)
def test_the_worker_command_hands_back_once_and_ends_at_once_when_it_is_told_twice(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_command("worker")
        lease = search.wait_working(worker)
        (trainer,) = worker.trainers()
        if len(numbers) == 2:
            # An objective that hears nothing any more, as one that takes long to save: its grace would be 20 s.
            search.deafen()
            search.hold(False)
        send(psutil.Process(worker.pid), numbers)
        worker.ends(130)
        until(lambda: search.of(Released) or search.of(Expired), "its evaluation is to be run again")
        assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE
        if len(numbers) == 1:
            assert [entry.evaluation for entry in search.of(Released)] == [lease.evaluation]
        else:
            assert [entry.evaluation for entry in search.of(Expired)] == [lease.evaluation]
            assert "ended at once" in worker.said()
        search.deafen(False)
        search.hold(False)
        search.start_command("worker").ends(0)
        master.ends(0)
        until(lambda: not search.processes(), "nothing of the search is left")
        search.check()


@pytest.mark.parametrize("numbers", [(INT,), (INT, TERM), (TERM,), (TERM, TERM)])
def test_a_master_that_is_told_to_end_ends_once_and_its_workers_go_on_with_the_next(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_worker()
        lease = search.wait_working(worker)
        (trainer,) = worker.trainers()
        send(psutil.Process(master.pid), numbers)
        master.ends(130)
        assert search.directory.read_endpoint() is None
        master = search.start_master()
        search.hold(False)
        worker.ends(0)
        master.ends(0)
        assert search.leased(lease.evaluation) == [lease]
        assert not trainer.is_running() or trainer.status() == psutil.STATUS_ZOMBIE
        search.check()


@pytest.mark.parametrize("number", [INT, TERM])
def test_a_name_server_ends_at_its_first_signal_and_the_search_does_without(
    number: signal.Signals, tmp_path: Path
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        names, port = search.start_nameserver()
        master = search.start_master(nameserver=("127.0.0.1", port))
        search.wait_registered(port)
        send(psutil.Process(names.pid), (number, number))
        names.ends(0)
        search.start_worker(nameserver=("127.0.0.1", port)).ends(0)
        master.ends(0)
        search.check()
