"""Cold start on Slurm: from sbatch to running evaluations on eight workers, compared with Slurm's own start time.

Claim: at most 15 s more than an array of eight jobs that only record the time. Run as
``python tests/benchmarks/slurm_start.py [REPEATS]`` from the top of the repository, as root, with Debian's slurmctld,
slurmd, slurm-client and munge installed: it starts a private cluster (``tests/deploy/slurm_up.sh``) and prints each
repetition and the medians.

Seconds count from the call of sbatch to the first and to the last of the eight starts of a job, or leases in the
journal. Slurm has its default scheduling; all nodes share the cores of this machine.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from hpbandster_lite.journal import JournalReader, holds_anything
from hpbandster_lite.records import Leased
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.slurm.submitted_jobs import load_jobs
from tests.deploy.slurm_cluster import COMMAND, Cluster, start_cluster, stop_cluster

WORKERS = 8
PROBLEM = """
import time
min_budget, max_budget, unit = 1, 9, "naps"

def space():
    from ConfigSpace import ConfigurationSpace
    return ConfigurationSpace(space={"x": (0.0, 1.0)})

def evaluate(config, budget, trial):
    for step in range(300):
        trial.report(step, 1.0)
        time.sleep(0.2)
    return config["x"]
"""


def slurm_alone(cluster: Cluster, place: Path) -> tuple[float, float]:
    """Seconds from sbatch to the first and the last start of the jobs of an array."""
    began_at = time.time()  # noqa: TID251 (compared with what the jobs write)
    cluster(
        "sbatch", f"--array=0-{WORKERS - 1}", "--gres=gpu:1", "--output=/dev/null",
        "--wrap", f"date +%s.%N > {place}/$SLURM_ARRAY_TASK_ID",
    )  # fmt: skip
    cluster.wait_empty()
    starts = sorted(float(file.read_text()) - began_at for file in place.iterdir())
    return starts[0], starts[-1]


def search(cluster: Cluster, place: Path) -> tuple[float, float]:
    """Seconds from sbatch to the first lease, and to the lease of the last worker."""
    (place / "naps.py").write_text(PROBLEM)
    directory = RunDirectory(place / "run")
    cluster(
        COMMAND, "slurm", "submit", "naps.py", "--run-dir", str(directory.path), "--workers", str(WORKERS),
        "--cpus-per-worker", "1", "--seed", "1", cwd=place,
    )  # fmt: skip
    began_at = load_jobs(directory).jobs[0].at
    leases: dict[str, float] = {}
    while len(leases) < WORKERS:
        time.sleep(0.5)
        if holds_anything(directory.journal):
            for _, at, entry in JournalReader(directory.journal).entries():
                if isinstance(entry, Leased):
                    leases.setdefault(entry.agent, at - began_at)
    cluster.clear()
    return min(leases.values()), max(leases.values())


def main(repeats: int) -> None:
    """Print the figures of both, in turn."""
    figures: dict[str, list[tuple[float, float]]] = {"slurm alone": [], "search": []}
    with tempfile.TemporaryDirectory() as made:
        cluster = start_cluster(Path(made) / "slurm", SCHEDULING="sched_interval=60")
        try:
            for repeat in range(repeats):
                for name, measure in (("slurm alone", slurm_alone), ("search", search)):
                    place = Path(made) / f"{name[:6].strip()}{repeat}"
                    place.mkdir()
                    figures[name].append(measure(cluster, place))
                    first_s, all_s = figures[name][-1]
                    print(f"{name}: first {first_s:.1f} s, all {WORKERS} {all_s:.1f} s", flush=True)
        finally:
            stop_cluster(cluster)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    for name, (first_s, all_s) in medians.items():
        print(f"{name}, medians of {repeats}: first {first_s:.1f} s, all {WORKERS} {all_s:.1f} s")
    print(f"beyond Slurm: {medians['search'][1] - medians['slurm alone'][1]:.1f} s until all {WORKERS} evaluate")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
