"""Chaos on a real Slurm: jobs are requeued, preempted and lose their nodes at seeded random times.

By hand: ``CHAOS_SEED=3 CHAOS_FAULTS=40 pytest -m slow -s tests/chaos/test_chaos_slurm.py``.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.slurm.parsing import QueuedJob
from tests.chaos import problem
from tests.chaos.laws import Durable, broken_laws
from tests.deploy.slurm_cluster import Cluster, SlurmSearch, search_on
from tests.service.local_search import until

WORKERS = 4
KINDS = ("requeue_worker", "requeue_master", "warn_worker", "warn_master", "lose_node", "kill_trainer")
EVERY_S = 6.0
STEP_S = 0.5
ENDS_WITHIN_S = 600.0


class SlurmChaos:
    """Injects seeded faults into the jobs of a search.

    Parameters
    ----------
    search
        The submitted search.
    master, workers
        Numbers of its jobs.
    seed
        Seed of the time and the victim of each fault.
    """

    def __init__(self, search: SlurmSearch, master: str, workers: str, seed: int) -> None:
        self._search, self._cluster = search, search.cluster
        self._master, self._workers = master, workers
        self._random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.silenced: set[int] = set()
        self.durable = Durable(search.directory.journal)

    def live(self, faults: int) -> None:
        """Inject this number of faults; the counts of two kinds differ by at most one."""
        deck: list[str] = []
        while self.faults.total() < faults:
            deck = deck or self._random.sample(KINDS, len(KINDS))
            self._wait(self._random.expovariate(1 / EVERY_S))
            kind = deck.pop()
            # The loop's value is bound.
            until(lambda kind=kind: getattr(self, f"_{kind}")(), f"{kind} finds a victim")  # type: ignore[misc]
            self.faults[kind] += 1
            print(f"{self.faults.total()}: {kind}", flush=True)

    def _wait(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.tend()
            time.sleep(0.5)

    def tend(self) -> None:
        """Act as an administrator: resume nodes that Slurm marked as down, and release the jobs that it held."""
        self.durable.look()
        for node in self._cluster("sinfo", "-h", "-N", "-p", "gpu", "-t", "drained", "-o", "%N").split():
            self._cluster.run("scontrol", "update", f"nodename={node}", "state=resume")
        for job in self._cluster("squeue", "-h", "-a", "-r", "-t", "PENDING", "-o", "%i %r").splitlines():
            name, _, reason = job.partition(" ")
            if "held" in reason:
                self._cluster.run("scontrol", "release", name)

    def _a_task(self) -> QueuedJob | None:
        tasks = self._search.tasks(self._workers)
        return self._random.choice(tasks) if tasks else None

    def _silence(self, job: QueuedJob) -> None:
        """Record that a process of this job may be killed before it writes its last line."""
        for process in (*self._search.processes("agent"), *self._search.processes("trainer"), *self._commands()):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("SLURM_JOB_ID") == job.number:
                    self.silenced.add(process.pid)

    def _commands(self) -> list[psutil.Process]:
        """Processes that the worker command started."""
        return [each for each in self._search.processes() if "worker" in " ".join(each.cmdline())]

    # ---------------------------------------------------------------------------------------------------- the faults

    def _requeue_worker(self) -> bool:
        task = self._a_task()
        if task is None:
            return False
        self._silence(task)
        return self._cluster.run("scontrol", "requeue", task.name).returncode == 0

    def _requeue_master(self) -> bool:
        if not self._cluster.runs(self._master):
            return False
        return self._cluster.run("scontrol", "requeue", self._master).returncode == 0

    def _warn_worker(self) -> bool:
        task = self._a_task()
        return task is not None and self._warned(task.name)

    def _warn_master(self) -> bool:
        return self._cluster.runs(self._master) and self._warned(self._master)

    def _warned(self, job: str) -> bool:
        """Send the warning that Slurm sends before the time limit."""
        return self._cluster.run("scancel", "--batch", "--signal=USR2", job).returncode == 0

    def _lose_node(self) -> bool:
        """Take down the node of a worker with all its processes; it returns by itself."""
        task = self._a_task()
        if task is None:
            return False
        for each in self._search.tasks(self._workers):
            if each.where == task.where:
                self._silence(each)
        command = ("scontrol", "update", f"nodename={task.where}", "state=down", "reason=chaos")
        return self._cluster.run(*command).returncode == 0

    def _kill_trainer(self) -> bool:
        trainers = self._search.processes("trainer")
        if not trainers:
            return False
        victim = self._random.choice(trainers)
        self.silenced.add(victim.pid)
        with contextlib.suppress(psutil.Error):
            victim.kill()
        return True


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_search_under_chaos_on_slurm_keeps_every_result_and_ends_by_itself(cluster: Cluster, tmp_path: Path) -> None:
    seed, faults = int(os.environ.get("CHAOS_SEED", "1")), int(os.environ.get("CHAOS_FAULTS", "12"))
    logs = tmp_path / "objective"
    logs.mkdir()
    with search_on(cluster, tmp_path, lease_s=6.0, heartbeat_s=0.5) as search:
        # The loss of a node is no failure of its evaluation, however often it happens.
        search.file.write_text(
            f'problem = "{problem.__file__}"\n[search]\nseed = {seed}\n[limits]\nbrackets = {6 * faults}\n'
            "[service]\nlease_s = 6.0\nheartbeat_s = 0.5\nmax_attempts = 1000\n"
        )
        cluster.environment |= {problem.LOGS: str(logs), problem.STEP: str(STEP_S)}
        began = time.monotonic()
        master, workers = search.submit("--time", "60", workers=WORKERS)
        search.wait_recorded(2)
        chaos = SlurmChaos(search, master, workers, seed)
        chaos.live(faults)
        assert JournalReader(search.directory.journal).finished() is None, "the search ended before its faults did"
        deadline = time.monotonic() + ENDS_WITHIN_S
        while cluster.jobs():
            assert time.monotonic() < deadline, f"it does not end:\n{search.logs()}"
            chaos.tend()
            time.sleep(0.5)
        counts: Counter[str] = Counter()
        broken = broken_laws(search.directory, logs, search.logs(), chaos.silenced, chaos.durable, counts)
        figures = f"{dict(chaos.faults)} in {time.monotonic() - began:.0f} s: {dict(sorted(counts.items()))}"
        print(figures)
        assert not broken, "\n".join([*broken[:20], figures, f"again: CHAOS_SEED={seed} CHAOS_FAULTS={faults}"])
