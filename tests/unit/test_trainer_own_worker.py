"""An objective does not end its own worker with Python's functions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hpbandster_lite.trainer.own_worker import refuse_signals_to


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A process in a group of its own, which stands for the worker."""
    for name in ("kill", "killpg"):
        monkeypatch.setattr(os, name, getattr(os, name))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as process:
        refuse_signals_to(process.pid)
        yield process.pid
        assert process.poll() is None
        monkeypatch.undo()
        process.kill()


def test_signals_to_the_worker_are_refused_in_every_way(worker: int) -> None:
    for send, number in ((os.kill, worker), (os.kill, -worker), (os.killpg, worker), (os.kill, -1)):
        with pytest.raises(PermissionError, match=rf"sent SIGTERM to its own worker \(process {worker}\)"):
            send(number, signal.SIGTERM)


def test_other_signals_are_sent(worker: int) -> None:
    os.kill(worker, 0)
    os.killpg(worker, 0)
    with subprocess.Popen(["/bin/sleep", "60"], start_new_session=True) as other:
        os.kill(other.pid, signal.SIGTERM)
    assert other.returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(other.pid, signal.SIGTERM)
