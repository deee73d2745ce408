"""Whether the kernel killed a process because of its memory, tested with artificial files of the kernel."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpbandster_lite.trainer.out_of_memory import MemoryWatch

PID = 4_711
PAGE = os.sysconf("SC_PAGE_SIZE")


class Machine:
    """Files of the kernel below a directory."""

    def __init__(self, root: Path) -> None:
        self.proc, self.cgroups = root / "proc", root / "cgroup"
        self.write("proc/meminfo", "MemTotal:       1024 kB\nMemFree: 9 kB\n")
        self.write("proc/vmstat", "nr_free_pages 1\noom_kill 3\n")
        self.write(f"proc/{PID}/cgroup", "0::/\n")

    def write(self, name: str, text: str) -> None:
        path = self.proc.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def holds(self, size_bytes: int) -> None:
        self.write(f"proc/{PID}/statm", f"99999 {-(-size_bytes // PAGE)} 1 1 0 1 0\n")

    def watch(self) -> MemoryWatch:
        return MemoryWatch(PID, proc=self.proc, cgroups=self.cgroups)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


COUNTERS = [
    ("0::/job\n", "cgroup/job/memory.events", "low 0\noom 1\noom_kill {}\noom_group_kill 0\n"),
    ("0::/job\n", "cgroup/memory.events", "oom_kill {}\n"),
    ("4:cpu:/\n7:memory:/job\n", "cgroup/memory/job/memory.oom_control", "oom_kill_disable 0\noom_kill {}\n"),
    ("0::/seen/from/the/host\n", "cgroup/memory.events", "oom_kill {}\n"),
    ("", "proc/vmstat", "oom_kill {}\n"),
]


@pytest.mark.parametrize(("membership", "file", "text"), COUNTERS)
def test_a_count_of_kills_that_has_risen_is_evidence(machine: Machine, membership: str, file: str, text: str) -> None:
    machine.write(f"proc/{PID}/cgroup", membership)
    machine.write(file, text.format(5))
    watch = machine.watch()
    assert (watch.has_killed(), watch.evidence()) == (False, None)
    machine.write(file, text.format(6))
    assert watch.has_killed()
    assert watch.evidence() == "the kernel's count of processes killed for lack of memory has risen"
    watch.begin()
    assert (watch.has_killed(), watch.evidence()) == (False, None)


def test_the_machine_s_count_does_not_count_where_a_container_has_its_own(machine: Machine) -> None:
    machine.write("cgroup/memory.events", "oom_kill 0\n")
    watch = machine.watch()
    machine.write("proc/vmstat", "oom_kill 99\n")
    assert not watch.has_killed()


LIMITS = [
    ("0::/\n", {}, 1024 * 1024),
    ("0::/job\n", {"cgroup/job/memory.max": "500000\n", "cgroup/memory.max": "max\n"}, 500_000),
    ("0::/job\n", {"cgroup/job/memory.max": "max\n", "cgroup/memory.max": "400000\n"}, 400_000),
    ("7:memory:/job\n", {"cgroup/memory/job/memory.limit_in_bytes": "300000\n"}, 300_000),
    ("7:memory:/\n", {"cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 1024 * 1024),
    ("7:memory:/\n", {"cgroup/memory/memory.limit_in_bytes": "10000000\n"}, 1024 * 1024),
]


@pytest.mark.parametrize(("membership", "files", "limit"), LIMITS)
def test_a_size_near_the_smallest_limit_is_evidence(
    machine: Machine, membership: str, files: dict[str, str], limit: int
) -> None:
    machine.write(f"proc/{PID}/cgroup", membership)
    for name, text in files.items():
        machine.write(name, text)
    watch = machine.watch()
    machine.holds(int(0.9 * limit) - 2 * PAGE)
    watch.sample()
    assert watch.evidence() is None
    machine.holds(int(0.9 * limit) + 1)
    watch.sample()
    held_mib, limit_mib = 0.9 * limit / 2**20, limit / 2**20
    assert watch.evidence() == f"it used {held_mib:,.0f} MiB of its limit of {limit_mib:,.0f} MiB"


def test_what_an_earlier_evaluation_held_does_not_count(machine: Machine) -> None:
    watch = machine.watch()
    machine.holds(1024 * 1024)
    watch.sample()
    watch.begin()
    assert watch.evidence() is None


def test_the_last_sample_stays_when_the_process_has_gone(machine: Machine) -> None:
    watch = machine.watch()
    machine.holds(1024 * 1024)
    watch.sample()
    (machine.proc / str(PID) / "statm").unlink()
    watch.sample()
    assert watch.evidence() is not None


def test_a_machine_that_tells_nothing_gives_no_evidence(tmp_path: Path) -> None:
    watch = MemoryWatch(PID, proc=tmp_path / "none", cgroups=tmp_path / "nothing")
    watch.sample()
    assert watch.evidence() is None
    assert not watch.has_killed()


def test_this_very_process_can_be_watched() -> None:
    watch = MemoryWatch(os.getpid())
    watch.sample()
    assert not watch.has_killed()
