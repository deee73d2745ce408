"""A request to end is recorded, wakes the loop, and leaves the process's signal handlers as they were."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite.process.shutdown import ShutdownRequest, allocation_signal_blocked, shutdown_requests

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
TERM, INT, USR2 = SIGNALS


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def is_requested(ending: ShutdownRequest) -> bool:
    return ending.is_requested


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def lifeline() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe; a test may close the second."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_requests_the_end_and_wakes_the_loop(number: signal.Signals) -> None:
    with shutdown_requests() as ending:
        assert not is_requested(ending)
        assert not is_readable(ending.wakeup_fd)
        signal.raise_signal(number)
        assert is_requested(ending)
        assert is_readable(ending.wakeup_fd)


def test_signals_are_counted() -> None:
    with shutdown_requests() as ending:
        for number in (*SIGNALS, signal.SIGTERM):
            signal.raise_signal(number)
        assert ending.signals == 4


@pytest.mark.parametrize(
    ("numbers", "code"),
    [((TERM,), 130), ((INT,), 130), ((USR2,), 75), ((USR2, USR2), 75), ((USR2, TERM), 130), ((TERM, USR2), 130)],
)
def test_a_process_is_to_be_started_again_only_where_nothing_but_its_allocation_ends(
    numbers: tuple[signal.Signals, ...], code: int
) -> None:
    with shutdown_requests() as ending:
        for number in numbers:
            signal.raise_signal(number)
        assert ending.exit_code == code


def test_a_process_with_a_lifeline_ignores_the_end_of_its_allocation(lifeline: tuple[int, int]) -> None:
    with shutdown_requests(lifeline[0]) as ending:
        signal.raise_signal(USR2)
        assert not is_requested(ending)
        signal.raise_signal(TERM)
        assert (ending.signals, ending.exit_code) == (1, 130)


WAITS = """
import sys
print("begins", flush=True)
sys.stdin.readline()
from hpbandster_lite.process.shutdown import shutdown_requests
with shutdown_requests() as ending:
    print(ending.exit_code, flush=True)
"""


def test_a_process_that_has_just_been_started_hears_the_end_of_its_allocation_once_it_can() -> None:
    with allocation_signal_blocked():
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    process.send_signal(USR2)
    output, _ = process.communicate("\n", timeout=20)
    assert (output, process.returncode) == ("75\n", 0)


def test_the_parent_gets_its_own_blocked_signal_afterwards() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with allocation_signal_blocked():
        assert USR2 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_the_end_of_the_lifeline_asks_for_the_end(lifeline: tuple[int, int]) -> None:
    reading, writing = lifeline
    with shutdown_requests(reading) as ending:
        assert not is_requested(ending)
        os.close(writing)
        assert is_requested(ending)
        # The request stays: a second check finds it again.
        assert is_requested(ending)
        assert ending.signals == 0


def test_a_lifeline_that_is_written_to_is_not_cut(lifeline: tuple[int, int]) -> None:
    reading, writing = lifeline
    with shutdown_requests(reading) as ending:
        os.write(writing, b"x")
        assert not is_requested(ending)
        os.close(writing)
        assert is_requested(ending)


def test_handlers_and_descriptors_are_given_back_even_after_an_error() -> None:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    found: list[int] = []

    def fail() -> None:
        with shutdown_requests() as ending:
            found.append(ending.wakeup_fd)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers
    assert signal.set_wakeup_fd(woken) == woken
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(found[0])


def test_one_may_stand_inside_another() -> None:
    with shutdown_requests() as outer:
        with shutdown_requests() as inner:
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (inner.signals, outer.signals) == (1, 1)


def test_a_thread_other_than_the_main_one_is_refused() -> None:
    caught: list[Exception] = []

    def run() -> None:
        try:
            with shutdown_requests():
                pass
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    before = descriptors()
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert descriptors() == before


def test_exit_now_flushes_the_output_and_runs_no_exit_handler() -> None:
    code = (
        "import atexit, logging, sys\nfrom hpbandster_lite.process.shutdown import exit_now\n"
        "atexit.register(print, 'never')\nlogging.basicConfig()\nlogging.error('logged')\n"
        "sys.stdout.write('said')\nexit_now(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said", "ERROR:root:logged\n")


def test_exit_now_works_with_closed_streams_and_readers() -> None:
    code = (
        "import sys\nfrom hpbandster_lite.process.shutdown import exit_now\n"
        "sys.stderr.close()\nprint('x')\nexit_now(3)\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with os.fdopen(writing, "wb") as unread:
        done = subprocess.run([sys.executable, "-c", code], stdout=unread, env=buffered, check=False)
    assert done.returncode == 3


PARTING = """
import atexit, sys, threading
from hpbandster_lite.process.shutdown import exit_with

class Kept:
    def __del__(self):
        print("taken apart")

kept = Kept()

def main():
    atexit.register(print, "exit handler")
    threading.Timer(0.05, print, ["thread"]).start()
    DO
"""


@pytest.mark.parametrize(
    ("do", "code"),
    [
        ("return 7", 7),
        ("sys.exit()", 0),
        ("sys.exit(3)", 3),
        ("sys.exit('words')", 1),
        ("raise ValueError('words')", 1),
    ],
)
def test_a_process_that_exits_waits_for_threads_and_exit_handlers_but_is_not_taken_apart(do: str, code: int) -> None:
    script = PARTING.replace("DO", do) + "exit_with(main)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert done.stdout == "thread\nexit handler\n"
    assert ("words" in done.stderr) == ("words" in do)
