"""What is proven about another process of this machine, and what proves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.process.identity import Condition, condition_of, descent, is_stopped, own_process, stopped_child
from hpbandster_lite.records import ProcessIdentity

OWN = own_process()
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A child with a name that is hard to read."""
    code = "import os; open('/proc/self/comm', 'w').write('a) T 1 ('); os.write(1, b'x'); os.read(0, 1)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        yield process
        process.kill()


def test_a_process_descends_from_another_only_if_that_is_proven(child: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sh", "-c", "sh -c 'echo $$; read line'; true"], **PIPES) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        found = descent(grandchild, os.getpid())
        assert found.is_descendant
        assert found.words.startswith(f"process {grandchild} (sh -c ")
        assert descent(parent.pid, grandchild).is_descendant is False
        assert descent(child.pid, parent.pid).is_descendant is False
        parent.kill()
    assert descent(parent.pid, os.getpid()) == (None, f"process {parent.pid}")
    assert [descent(pid, os.getpid()).is_descendant for pid in (0, 1, os.getpid(), os.getppid())] == [False] * 4


def test_a_child_that_nobody_has_waited_for_is_a_descendant(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    until_state(child.pid, "Z")
    assert descent(child.pid, os.getpid()) == (True, f"process {child.pid} (a) T 1 ()")


def identity_of(pid: int) -> ProcessIdentity:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return replace(OWN, pid=pid, started_ticks=int(fields[19]))


def until_state(pid: int, state: str) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        pass


def test_this_process_knows_its_boot_its_namespace_and_when_it_started() -> None:
    assert OWN.pid == os.getpid()
    assert OWN.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert OWN.pid_namespace.startswith("pid:[")
    assert identity_of(os.getpid()) == OWN
    assert condition_of(OWN, OWN) is Condition.RUNS


def test_a_process_runs_is_stopped_continues_is_a_zombie_and_is_gone(child: subprocess.Popen[bytes]) -> None:
    process = identity_of(child.pid)
    assert condition_of(process, OWN) is Condition.RUNS
    assert not is_stopped(child.pid)
    child.send_signal(signal.SIGSTOP)
    until_state(child.pid, "T")
    assert condition_of(process, OWN) is Condition.STOPPED
    assert is_stopped(child.pid)
    assert stopped_child(os.getpid()) == child.pid
    child.send_signal(signal.SIGCONT)
    until_state(child.pid, "S")
    assert condition_of(process, OWN) is Condition.RUNS
    assert stopped_child(os.getpid()) is None
    child.kill()
    until_state(child.pid, "Z")
    assert condition_of(process, OWN) is Condition.DEAD
    child.wait()
    assert condition_of(process, OWN) is Condition.DEAD
    assert stopped_child(child.pid) is None


def test_a_pid_that_another_process_has_now_proves_the_death_of_the_first(child: subprocess.Popen[bytes]) -> None:
    process = identity_of(child.pid)
    assert condition_of(replace(process, started_ticks=process.started_ticks - 1), OWN) is Condition.DEAD
    # An agent that could not read its start time.
    assert condition_of(replace(process, started_ticks=0), OWN) is Condition.RUNS


@pytest.mark.parametrize(
    "changed",
    [{"boot_id": "other"}, {"pid_namespace": "pid:[1]"}, {"boot_id": "", "pid_namespace": ""}, {"pid": 0}, {"pid": -1}],
    ids=["another boot", "another namespace", "unknown", "the group", "all"],
)
def test_a_process_elsewhere_proves_nothing(changed: dict[str, Any], child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    process = replace(OWN, pid=child.pid, started_ticks=1)
    assert condition_of(process, OWN) is Condition.DEAD
    assert condition_of(replace(process, **changed), OWN) is Condition.UNKNOWN
    if "pid" not in changed:
        assert condition_of(process, replace(OWN, **changed)) is Condition.UNKNOWN


def test_a_process_that_cannot_be_read_proves_nothing(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = identity_of(child.pid)

    def refuse(*_: object) -> None:
        raise PermissionError

    # Of another user, and /proc mounted with hidepid.
    monkeypatch.setattr(os, "kill", refuse)
    assert condition_of(process, OWN) is Condition.RUNS
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert condition_of(process, OWN) is Condition.UNKNOWN
    assert not is_stopped(child.pid)
    assert own_process() == ProcessIdentity(host=OWN.host, pid=OWN.pid)


def test_a_pid_of_another_namespace_than_that_of_proc_is_not_taken_for_a_process_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert own_process() == ProcessIdentity(host=OWN.host, pid=1)


@pytest.mark.parametrize("field", ["host", "boot_id", "pid", "started_ticks"])
def test_two_processes_differ_in_one_field(field: str) -> None:
    changed: dict[str, Any] = {field: 7 if field in ("pid", "started_ticks") else "other"}
    other = replace(OWN, **changed)
    assert other.is_another_than(OWN)
    assert not OWN.is_another_than(replace(OWN, pid_namespace=""))
