"""A private Slurm cluster on this machine, and searches that run on it.

It needs root and Debian's packages slurmctld, slurmd, slurm-client and munge. Without them its tests are skipped with
the reason; with REQUIRE_SLURM=1 they fail.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.slurm.parsing import QUEUE_FORMAT, QueuedJob, parse_squeue
from tests.service.local_search import MARK, LocalSearchProcess, until

HERE = Path(__file__).parent
NODES, CORES, GPUS = 4, 16, 4
"""As the shipped scripts request them; Slurm accepts a node that claims more than the machine has."""
CANNOT_RUN = 77
PORTS = NODES + 1
LEFT_ALONE = ("SLURM", "SBATCH", "SQUEUE", "SCANCEL", "HPBANDSTER_LITE")
COMMAND = str(Path(sys.prefix) / "bin" / "hpbandster-lite")


class Cluster:
    """Slurm's commands, bound to one private cluster."""

    def __init__(self, state: Path) -> None:
        self.state = state
        # This test run may be a job itself; the variables of that job must not reach the cluster.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_ALONE)}
        self.environment = {**kept, "SLURM_CONF": str(state / "slurm.conf"), "OMP_NUM_THREADS": "1"}

    def __call__(self, *command: str, cwd: Path | None = None, **environment: str) -> str:
        """Run a command, which must succeed; return its output."""
        done = self.run(*command, cwd=cwd, **environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def run(self, *command: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment | environment, cwd=cwd, capture_output=True, text=True, check=False
        )

    def jobs(self) -> list[QueuedJob]:
        """Everything in the queue."""
        return parse_squeue(self("squeue", "--noheader", "--array", f"--format={QUEUE_FORMAT}"))

    def job(self, name: str) -> QueuedJob | None:
        """A job in the queue by its name, which names one task of an array."""
        return next((job for job in self.jobs() if job.name == name), None)

    def runs(self, name: str) -> bool:
        job = self.job(name)
        return job is not None and job.state == "RUNNING"

    def restarts(self, name: str) -> int:
        """How often a job was restarted."""
        found = re.search(r"Restarts=(\d+)", self("scontrol", "show", "job", name))
        return int(found[1]) if found else 0

    def wait_empty(self) -> None:
        """Wait until the queue is empty."""
        until(lambda: not self.jobs(), "the queue is empty")

    def clear(self) -> None:
        """End all jobs at once."""
        self("scancel", "--full", "--signal=KILL", "--user=root")
        self("scancel", "--user=root")
        self.wait_empty()
        self("scontrol", "update", "partitionname=scavenge", "GraceTime=0")
        for node in self("sinfo", "-h", "-N", "-p", "gpu", "-t", "down,drain,fail", "-o", "%N").split():
            self("scontrol", "update", f"nodename={node}", "state=resume")


def start_cluster(state: Path, **settings: str) -> Cluster:
    """Start a cluster, with settings for the script; skip the test if this machine cannot run one."""
    environment = os.environ | {
        "BASE_PORT": str(free_ports(PORTS)), "NODES": str(NODES), "CPUS": str(CORES), "GPUS": str(GPUS),
        "MEM_MB": str(250 * CORES), **settings,
    }  # fmt: skip
    up = subprocess.run([HERE / "slurm_up.sh", state], env=environment, capture_output=True, text=True, check=False)
    if up.returncode == CANNOT_RUN:
        words = f"NO SLURM TESTS RUN: {up.stderr.strip()}"
        if os.environ.get("REQUIRE_SLURM"):
            pytest.fail(words)
        pytest.skip(words)
    cluster = Cluster(state)
    if up.returncode != 0:
        # End the part that has started.
        stop_cluster(cluster)
        pytest.fail(f"the cluster does not start: {up.stderr}")
    return cluster


def stop_cluster(cluster: Cluster) -> None:
    subprocess.run([HERE / "slurm_down.sh", cluster.state], check=True)


def free_ports(count: int) -> int:
    """The first of ``count`` consecutive free ports; each process starts its search at a different port."""
    for first in range(20_000 + os.getpid() % 1_000 * 8, 30_000, 8):
        with contextlib.suppress(OSError), contextlib.ExitStack() as bound:
            for port in range(first, first + count):
                bound.enter_context(contextlib.closing(socket.socket())).bind(("127.0.0.1", port))
            return first
    raise AssertionError("no free ports below 30000")


class SlurmSearch(LocalSearchProcess):
    """The search of :class:`LocalSearchProcess` as jobs of a cluster."""

    def __init__(self, cluster: Cluster, place: Path, **options: Any) -> None:
        super().__init__(place, **options)
        self.cluster = cluster
        self.file = place / "search.toml"
        self.file.write_text(
            f'problem = "{self.problem}"\n[search]\nseed = 1\n[limits]\nbrackets = 1\n'
            f"[service]\nlease = {self._options['lease_s']}\nheartbeat = {self._options['heartbeat_s']}\n"
        )

    @property
    def run_dir(self) -> Path:
        return self.directory.path

    def slurm(self, command: str, *arguments: str) -> str:
        """The output of ``hpbandster-lite slurm COMMAND``."""
        return self.cluster(COMMAND, "slurm", command, *arguments, cwd=self.place, **{MARK: self.mark})

    def submit(self, *arguments: str, workers: int = 2) -> tuple[str, str]:
        """Submit it; return the numbers of the master's job and of the workers' array."""
        output = self.slurm(
            "submit", str(self.file), "--run-dir", str(self.run_dir), "--workers", str(workers),
            "--cpus-per-worker", "1", *arguments,
        )  # fmt: skip
        master, workers_job = re.findall(r": job (\d+)", output)
        return master, workers_job

    def sbatch(self, *arguments: str) -> str:
        """Submit a script by hand; return the number of its job."""
        return self.cluster("sbatch", "--parsable", *arguments, cwd=self.place, **{MARK: self.mark})

    def tasks(self, job: str) -> list[QueuedJob]:
        """The running tasks of a job."""
        return [each for each in self.cluster.jobs() if each.array == job and each.state == "RUNNING"]

    def logs(self) -> str:
        """Logs of all jobs."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text('utf-8')}" for log in sorted((self.run_dir / "logs").glob("hpb*.log"))
        )

    def ends(self) -> None:
        """Wait for its end; check that the search is over, all jobs have ended, each evaluation is recorded once."""
        self.hold(False)
        self.cluster.wait_empty()
        try:
            self.check()
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error


@contextlib.contextmanager
def search_on(cluster: Cluster, place: Path, **options: Any) -> Iterator[SlurmSearch]:
    """A search whose jobs end with the test."""
    search = SlurmSearch(cluster, place, **options)
    try:
        yield search
    finally:
        search.hold(False)
        search.deafen(False)
        cluster.clear()


def until_slow(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Like ``until``, for slow actions of Slurm: time limits in whole minutes, nodes that it marks as down."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.2)
