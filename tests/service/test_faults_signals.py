"""Signals to each process of a search, once and twice, and to all of them at the same time, like a batch system's.

Each process ends or continues, and leaves no orphan: SIGINT and SIGTERM, SIGUSR2 before the end of an allocation, and
SIGCONT.
"""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest

from hpbandster_lite import wire
from hpbandster_lite.records import Expired, ExpiryKind, HandBackKind, Released
from tests.service.local_search import LocalSearchProcess, until
from tests.service.served_search import served_search

pytestmark = pytest.mark.timeout(150)

PATIENT = {"lease_s": 60.0, "heartbeat_s": 0.5}
SHORT = {"lease_s": 2.0, "heartbeat_s": 0.2}
INT, TERM, USR2, CONT = signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGCONT
SLOW = pytest.mark.slow
"""For signals that take the same way as others of a test: SIGINT and SIGTERM have one handler (process.shutdown)."""


def send(process: psutil.Process, numbers: tuple[signal.Signals, ...]) -> None:
    """Send signals one after the other; the next one when the kernel has delivered the last, or the process has ended.

    Python handles a signal a moment after its delivery, so the second one arrives in the middle.
    """
    for number in numbers:
        # The first signal may have ended it before the second.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            until(lambda: not is_pending(process, number), "the signal was taken")  # noqa: B023 (waits here)


def is_pending(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a signal for a process is still pending in the kernel."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    pending = [line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd")]
    return any(int(mask, 16) & 1 << (number - 1) for mask in pending)


# ----------------------------------------------------------------------------------------------------- under a launcher


@pytest.mark.parametrize("numbers", [(TERM,), pytest.param((INT, INT), marks=SLOW)], ids=["once", "twice"])
def test_a_search_whose_master_is_signalled_ends_and_continues_with_the_same_command(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, lease_s=2.0, heartbeat_s=0.2)
    with search.held(recorded=2) as process:
        acknowledged = search.results()
        send(search.processes("master")[0], numbers)
        search.end_of(process, 130)
    search.hold(False)
    search.run()
    search.check(acknowledged)


@pytest.mark.parametrize("numbers", [(TERM,), pytest.param((INT, INT), marks=SLOW)], ids=["once", "twice"])
def test_a_search_one_of_whose_workers_is_signalled_continues_with_the_other(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        send(search.processes("agent")[0], numbers)
        until(lambda: search.of(Released) or search.of(Expired), "its evaluation is to be run again")
        until(lambda: len(search.processes("trainer")) == 1, "its trainer has ended with it")
        search.hold(False)
        output = search.end_of(process, 0)
    assert "ended with exit code 130" in output
    if len(numbers) == 1:
        assert [entry.directory is not None for entry in search.of(Released)] == [True]
        assert not search.of(Expired)
    search.check()


def test_a_search_whose_worker_and_name_server_are_stopped_goes_on_and_ends_without_them(tmp_path: Path) -> None:
    # As long as a lease, or as the 30 s in which a launcher waits for its children, no test may take.
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        (names,) = search.processes("nameserver")
        worker = search.processes("agent")[0]
        for each in (names, worker):
            each.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        search.hold(False)
        output = search.end_of(process, 0)
        assert time.monotonic() - began < 20.0
    assert f"the name server is stopped; to continue it: kill -CONT {names.pid}" in output
    assert f"is stopped; to continue it: kill -CONT {worker.pid}" in output
    assert [entry.kind for entry in search.of(Expired)] == [ExpiryKind.STOPPED]
    search.check()


@pytest.mark.parametrize("number", [INT, pytest.param(TERM, marks=SLOW)])
def test_a_name_server_that_is_signalled_is_started_again_while_the_search_needs_it(
    number: signal.Signals, tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        (receiver,) = search.processes("nameserver")
        send(receiver, (number, number))
        until(lambda: any(each.pid != receiver.pid for each in search.processes("nameserver")), "there is a new one")
        search.hold(False)
        output = search.end_of(process, 0)
    assert "the name server died; started again" in output
    assert not search.of(Expired)
    search.check()


ALL = [pytest.param((INT,), marks=SLOW), (INT, INT), (TERM,), pytest.param((TERM, TERM), marks=SLOW)]
NAMES = ["INT", "INT INT", "TERM", "TERM TERM"]


@pytest.mark.parametrize("numbers", [ALL[0], ALL[1], pytest.param((TERM,), marks=SLOW), ALL[3]], ids=NAMES)
def test_a_search_that_is_signalled_leaves_no_orphan_and_continues_with_the_same_command(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    # A short lease if nothing is handed back: the next master waits for a lease, because the workers may be alive.
    search = LocalSearchProcess(tmp_path, **(PATIENT if len(numbers) == 1 else SHORT))
    with search.held(recorded=2) as process:
        acknowledged = search.results()
        send(psutil.Process(process.pid), numbers)
        # Every process with the search's mark has ended.
        search.end_of(process, 130)
    if len(numbers) == 1:
        assert [entry.directory is not None for entry in search.of(Released)] == [True, True]
    search.hold(False)
    search.run()
    search.check(acknowledged)


@pytest.mark.parametrize("numbers", [(TERM,), pytest.param((INT, INT), marks=SLOW)], ids=["TERM", "INT INT"])
def test_an_evaluation_whose_trainer_is_signalled_is_run_again_and_its_worker_continues(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        agents = {each.pid for each in search.processes("agent")}
        send(search.processes("trainer")[0], numbers)
        until(lambda: search.of(Released), "its evaluation is handed back")
        search.hold(False)
        until(lambda: len(search.results()) > 4, "the search goes on")
        assert {each.pid for each in search.processes("agent")} <= agents
        output = search.end_of(process, 0)
    assert "worker-" not in output
    (released,) = search.of(Released)
    assert released.directory is not None
    assert released.kind is HandBackKind.UNORDERED
    assert not search.of(Expired)
    search.check()


def send_to_all(search: LocalSearchProcess, *numbers: signal.Signals) -> None:
    """Signal every process of a search, in any group and session, like a batch system that ends a job."""
    for number in numbers:
        for process in search.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)


def check_handed_back(search: LocalSearchProcess) -> None:
    """Check that both evaluations were handed back with their checkpoints, in the journal or in a file for a master."""
    left = [wire.decode(file.read_text()) for file in search.directory.left_releases()]
    directories = [*(entry.directory for entry in search.of(Released)), *(each["directory"] for each in left)]
    assert len(directories) == 2
    assert None not in directories
    kinds = {*(entry.kind for entry in search.of(Released)), *(each.get("kind", "ordered") for each in left)}
    assert kinds == {HandBackKind.ORDERED}


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ((USR2,), 75),
        pytest.param((USR2, USR2), 75, marks=SLOW),
        pytest.param((USR2, TERM), 130, marks=SLOW),
    ],
    ids=["USR2", "USR2 USR2", "USR2 TERM"],
)
def test_a_search_whose_allocation_ends_hands_everything_back_and_goes_on_in_the_next_one(
    numbers: tuple[signal.Signals, ...], code: int, tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held(recorded=2) as process:
        acknowledged = search.results()
        send(psutil.Process(process.pid), numbers)
        output = search.end_of(process, code)
    if TERM not in numbers:
        assert "the allocation ends: running evaluations are handed back" in output
    assert [entry.directory is not None for entry in search.of(Released)] == [True, True]
    search.hold(False)
    search.run()
    search.check(acknowledged)


@pytest.mark.parametrize(("numbers", "code"), [((USR2,), 75), ((CONT, TERM), 130)], ids=["USR2", "CONT TERM"])
def test_a_search_all_of_whose_processes_are_signalled_hands_everything_back_just_the_same(
    numbers: tuple[signal.Signals, ...], code: int, tmp_path: Path
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held(recorded=2) as process:
        acknowledged = search.results()
        send_to_all(search, *numbers)
        search.end_of(process, code)
    check_handed_back(search)
    search.hold(False)
    search.run()
    assert not search.directory.left_releases()
    assert not search.of(Expired)
    search.check(acknowledged)


@pytest.mark.slow
def test_a_search_continues_when_its_processes_are_continued(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        send_to_all(search, CONT)
        search.hold(False)
        search.end_of(process, 0)
    assert not search.of(Released)
    search.check()


@pytest.mark.slow
def test_a_search_whose_workers_have_all_left_because_their_time_was_over_is_to_be_started_again(
    tmp_path: Path,
) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        for agent in search.processes("agent"):
            agent.send_signal(USR2)
        output = search.end_of(process, 75)
    assert "worker-0: its time is over" in output
    check_handed_back(search)
    search.hold(False)
    search.run()
    search.check()


@SLOW
def test_a_second_sigterm_to_the_launcher_ends_everything_at_once(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, lease_s=2.0, heartbeat_s=0.2)
    with search.running() as process:
        search.deafen()
        search.wait_inside()
        process.send_signal(TERM)
        assert process.stdout is not None
        # A pipe is open.
        until(lambda: "stopping" in process.stdout.readline(), "the launcher has received the first signal")  # type: ignore[union-attr]
        process.send_signal(TERM)
        # Objectives that ignore interrupts would use their grace period of 20 s, after which their agents end them.
        search.end_of(process, 130)
    assert not search.of(Released)
    search.deafen(False)
    search.run()
    search.check()


# --------------------------------------------------------------------------------------------------- each process alone


@pytest.mark.parametrize("numbers", ALL, ids=NAMES)
def test_the_worker_command_hands_back_at_one_signal_and_ends_at_once_at_the_second(
    numbers: tuple[signal.Signals, ...], tmp_path: Path
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_command("worker")
        lease = search.wait_working(worker)
        (trainer,) = worker.trainers()
        if len(numbers) == 2:
            # An objective that ignores interrupts, like one that saves for long: its grace period would be 20 s.
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
            assert "ended at once" in worker.output()
        search.deafen(False)
        search.hold(False)
        search.start_command("worker").ends(0)
        master.ends(0)
        until(lambda: not search.processes(), "nothing of the search is left")
        search.check()


@pytest.mark.parametrize(
    ("to_all", "number", "code"),
    [
        (False, USR2, 75),
        (True, TERM, 130),
        pytest.param(True, USR2, 75, marks=SLOW),
        pytest.param(False, TERM, 130, marks=SLOW),
    ],
    ids=["USR2 to the command", "TERM to all", "USR2 to all", "TERM to the command"],
)
def test_workers_of_one_command_are_ordered_to_end_by_it_and_perhaps_signalled_by_the_batch_system(
    to_all: bool, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_command("worker", "--workers", "2")
        search.wait_inside()
        command = psutil.Process(worker.pid)
        for each in command.children(recursive=True) if to_all else []:
            each.send_signal(number)
        command.send_signal(number)
        worker.ends(code)
        assert [entry.directory is not None for entry in search.of(Released)] == [True, True]
        search.hold(False)
        search.start_command("worker").ends(0)
        master.ends(0)
        assert not search.of(Expired)
        search.check()


def test_a_worker_whose_allocation_ends_is_followed_by_one_that_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_command("worker")
        lease = search.wait_working(worker)
        worker.send(USR2)
        assert "the allocation of its worker ends" in worker.ends(75)
        search.hold(False)
        search.start_command("worker").ends(0)
        master.ends(0)
        first, again = search.leased(lease.evaluation)
        assert first.agent != again.agent
        assert search.results()[lease.evaluation].info["began"] > 0
        search.check()


def test_a_worker_that_has_just_been_started_takes_the_end_of_its_allocation_as_any_other(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        worker = search.start_command("worker")
        # Its first lines handle signals; before them Python itself is starting, and no code of ours runs.
        until(lambda: blocks_usr2(worker.pid), "it has begun")
        worker.send(USR2)
        worker.ends(75)


def blocks_usr2(pid: int) -> bool:
    """Whether a process blocks SIGUSR2."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return bool(int(mask, 16) & 1 << (USR2 - 1))


def test_a_master_whose_allocation_ends_is_to_be_started_again_and_its_workers_wait_for_it(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_command("master", "--seed", "1")
        master.says("serving run")
        search.hold()
        worker = search.start_worker()
        lease = search.wait_working(worker)
        master.send(USR2)
        assert "the search continues when the master is started again" in master.ends(75)
        master = search.start_master()
        search.hold(False)
        worker.ends(0)
        master.ends(0)
        assert search.leased(lease.evaluation) == [lease]
        search.check()


@pytest.mark.parametrize("numbers", [*ALL[:1], (INT, TERM), pytest.param((TERM,), marks=SLOW), ALL[-1]])
def test_a_master_that_is_signalled_ends_once_and_its_workers_continue_with_the_next(
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


@pytest.mark.parametrize("number", [pytest.param(INT, marks=SLOW), TERM])
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
