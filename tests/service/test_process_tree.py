"""A daemon in a new session with an emptied environment ends with its trainer, and with an agent that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpbandster_lite.trainer.control_group import own_group
from tests.service.local_search import until
from tests.service.worker_master import wait_for_the_end_of

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from hpbandster_lite.trainer.control_group import own_group
from hpbandster_lite.trainer.orphan_guard import OrphanGuard
from hpbandster_lite.trainer.process_tree import ProcessTree, become_subreaper

WAYS = set(sys.argv[1].split())
own = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
group = own_group() if "group" in WAYS else None
guard = OrphanGuard(group) if "killed" in WAYS else None
if "group" not in WAYS:
    become_subreaper()
# The trainer waits for a line, until it is in its group.
daemon = "read line; env -i setsid sh -c 'sleep 600 >/dev/null 2>&1 & echo $!'; exec sleep 600"
trainer = subprocess.Popen(
    ["sh", "-c", daemon], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
)
below = None if group is None else own_group(group)
if below is not None:
    assert below.add(trainer.pid)
tree = ProcessTree(trainer.pid, "no such mark", group=below, is_alone="alone" in WAYS)
trainer.stdin.write("begin\\n")
trainer.stdin.flush()
pid = int(trainer.stdout.readline())
assert os.getsid(pid) != trainer.pid
if "group" not in WAYS:
    until = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().split()[3] != str(os.getpid()):
        assert time.monotonic() < until, "the daemon becomes a child of its agent"
        time.sleep(0.005)
print(pid, own.pid, "" if group is None else group.path, flush=True)
if "killed" in WAYS:
    os.killpg(trainer.pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
tree.end()
if group is not None:
    group.remove()
assert own.poll() is None, "a child that was there before is no orphan"
own.kill()
"""


def run(ways: str) -> tuple[int, int, Path | None]:
    """Run it; the pids of the daemon and of a child of the agent's own, and the control group."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, ways], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == (-9 if "killed" in ways else 0)
    daemon, own, *group = done.stdout.split()
    return int(daemon), int(own), Path(group[0]) if group else None


@pytest.fixture
def can_group() -> None:
    group = own_group()
    if group is None:
        pytest.skip("NOT TESTED, no control group can be made here")
    group.remove()


def test_a_daemon_without_session_and_environment_is_found_as_a_child_of_its_agent() -> None:
    daemon, _, _ = run("alone")
    wait_for_the_end_of(daemon)


@pytest.mark.usefixtures("can_group")
def test_a_daemon_without_session_and_environment_ends_with_the_control_group_of_its_trainer() -> None:
    daemon, _, group = run("group")
    wait_for_the_end_of(daemon)
    assert group is not None
    assert not group.exists()


@pytest.mark.usefixtures("can_group")
def test_a_daemon_without_session_and_environment_ends_with_an_agent_that_is_killed() -> None:
    daemon, own, group = run("group killed")
    os.kill(own, 9)
    wait_for_the_end_of(daemon)
    assert group is not None
    until(lambda: not group.exists(), "the control group is removed")
