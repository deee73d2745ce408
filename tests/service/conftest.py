"""Tests with real processes and sockets on loopback: each leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hpbandster_lite.problems import describe, load
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.trainer.process_tree import PR_SET_CHILD_SUBREAPER
from tests.engine_room import space_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test here a second attempt, which the last line counts: a busy machine may miss a deadline.

    A test that needs it on an idle machine has found a race: investigate it.
    """
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    """A small search space."""
    return space_of()


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """A new run directory."""
    made = RunDirectory(tmp_path / "run")
    made.create()
    return made


@pytest.fixture
def described_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe problems in this process, for tests of later refusals: a separate process takes a second."""
    monkeypatch.setattr("hpbandster_lite.process.describer.start_early", lambda: None)
    monkeypatch.setattr(
        "hpbandster_lite.settings.prepare.describe_in_child",
        lambda reference, **_: describe(load(reference), reference),
    )


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    # An agent of an earlier test may have made this process a reaper of orphans, also of those of other processes.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    me = psutil.Process()

    def held() -> set[str]:
        return (
            {f"thread {thread.name}" for thread in threading.enumerate()}
            | {f"child {child.pid} ({child.name()})" for child in me.children(recursive=True)}
            | {f"socket {sock.laddr} {sock.raddr}" for sock in me.net_connections("inet")}
            | {f"file {file.path}" for file in me.open_files()}
        )

    before = held()
    yield
    deadline = time.monotonic() + 5
    while (left := held() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"left behind: {sorted(left)}"


@pytest.fixture
def lifeline() -> Iterator[tuple[int, Callable[[], None]]]:
    """The end of the pipe that an agent watches, and a function that closes the other end."""
    reading, writing = os.pipe()
    open_ends = [writing]

    def cut() -> None:
        os.close(open_ends.pop())

    yield reading, cut
    for descriptor in (reading, *open_ends):
        os.close(descriptor)
