"""A process that is told to end notes it, wakes its loop, and is left as it was found."""

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

from hpbandster_lite.ending import Ending, endings

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def is_asked(ending: Ending) -> bool:
    return ending.is_asked


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture
def lifeline() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, of which a test may close the second."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_for_the_end_and_wakes_who_waits(number: signal.Signals) -> None:
    with endings() as ending:
        assert not is_asked(ending)
        assert not is_readable(ending.wakeup_fd)
        signal.raise_signal(number)
        assert is_asked(ending)
        assert is_readable(ending.wakeup_fd)


def test_signals_are_counted() -> None:
    with endings() as ending:
        for number in (*SIGNALS, signal.SIGTERM):
            signal.raise_signal(number)
        assert ending.signals == 3


def test_the_end_of_the_lifeline_asks_for_the_end(lifeline: tuple[int, int]) -> None:
    reading, writing = lifeline
    with endings(reading) as ending:
        assert not is_asked(ending)
        os.close(writing)
        assert is_asked(ending)
        # It stays asked for: who looks twice is told twice.
        assert is_asked(ending)
        assert ending.signals == 0


def test_a_lifeline_that_is_written_to_is_not_cut(lifeline: tuple[int, int]) -> None:
    reading, writing = lifeline
    with endings(reading) as ending:
        os.write(writing, b"x")
        assert not is_asked(ending)
        os.close(writing)
        assert is_asked(ending)


def test_handlers_and_descriptors_are_given_back_even_after_an_error() -> None:
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    woken = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(woken)
    found: list[int] = []

    def fail() -> None:
        with endings() as ending:
            found.append(ending.wakeup_fd)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers
    assert signal.set_wakeup_fd(woken) == woken
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(found[0])


def test_one_may_stand_inside_another() -> None:
    with endings() as outer:
        with endings() as inner:
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert (inner.signals, outer.signals) == (1, 1)


def test_a_thread_that_is_not_the_main_one_is_told_so() -> None:
    caught: list[Exception] = []

    def run() -> None:
        try:
            with endings():
                pass
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    before = descriptors()
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert descriptors() == before


def test_a_process_that_leaves_says_all_that_it_had_to_say_and_runs_nothing_more() -> None:
    code = (
        "import atexit, logging, sys\nfrom hpbandster_lite.ending import leave\n"
        "atexit.register(print, 'never')\nlogging.basicConfig()\nlogging.error('logged')\n"
        "sys.stdout.write('said')\nleave(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said", "ERROR:root:logged\n")


def test_a_process_leaves_though_nobody_reads_it_any_more() -> None:
    code = "import sys\nfrom hpbandster_lite.ending import leave\nsys.stderr.close()\nprint('x')\nleave(3)\n"
    reading, writing = os.pipe()
    os.close(reading)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with os.fdopen(writing, "wb") as unread:
        done = subprocess.run([sys.executable, "-c", code], stdout=unread, env=buffered, check=False)
    assert done.returncode == 3


PARTING = """
import atexit, sys, threading
from hpbandster_lite.ending import exit_by

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
    script = PARTING.replace("DO", do) + "exit_by(main)\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == code
    assert done.stdout == "thread\nexit handler\n"
    assert ("words" in done.stderr) == ("words" in do)
