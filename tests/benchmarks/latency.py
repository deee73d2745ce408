"""Time that a user waits at the start and at the end of a search: ``run`` to first evaluation, last result to exit.

Claim: at most 2.5 s and 0.3 s for a problem without torch, and at most 1 s from the start of a worker that joins a
search to its first lease. Run as ``python tests/benchmarks/latency.py [REPEATS]`` on an idle machine; it prints each
repetition and the medians, with the processor time that the whole search, or the worker, took.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Leased, Recorded

OPTIONS = ("--max-budget", "27", "--seed", "1", "--workers", "2", "--no-progress")
SCRIPT = """
import hpbandster_lite as hpb
if __name__ == "__main__":
    hpb.minimize("counting_ones", max_budget=27, seed=1, workers=2)
"""


def measure(command: list[str], directory: Path, run: str) -> tuple[float, float, float]:
    """Seconds from the start to the first lease, from the last result to the exit, and of processor time."""
    cpu_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_at = time.time()  # noqa: TID251 (compared with the journal's, which is wall-clock time)
    subprocess.run(command, cwd=directory, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ended_at = time.time()  # noqa: TID251 (the journal has this clock)
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    entries = list(JournalReader(directory / run / "journal.sqlite").entries())
    first = next(at for _, at, entry in entries if isinstance(entry, Leased))
    last = max(at for _, at, entry in entries if isinstance(entry, Recorded))
    used = cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime
    return first - began_at, ended_at - last, used


def measure_late_worker(directory: Path) -> tuple[float, float, float]:
    """Like :func:`measure`, for a worker that joins a waiting master."""
    command = [sys.executable, "-m", "hpbandster_lite"]
    run = directory / "run"
    with (directory / "log").open("w") as log:
        master = subprocess.Popen(
            [*command, "master", "counting_ones", "--max-budget", "27", "--seed", "1", "--run-dir", run],
            stdout=log,
            stderr=log,
        )
        try:
            while not (run / "endpoint.json").exists():
                if master.poll() is not None:
                    raise RuntimeError((directory / "log").read_text())
                time.sleep(0.05)
            worker = [*command, "worker", "counting_ones", "--run-dir", "run", "--workers", "1"]
            figures = measure(worker, directory, "run")
            master.wait(30)
        finally:
            master.kill()
            master.wait()
    return figures


def main(repeats: int) -> None:
    """Print the figures of the command, of ``minimize``, and of a worker that joins."""
    ways = {
        "run": [sys.executable, "-m", "hpbandster_lite", "run", "counting_ones", *OPTIONS],
        "minimize": [sys.executable, "script.py"],
    }
    for name, command in ways.items():
        figures = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as made:
                (Path(made) / "script.py").write_text(SCRIPT)
                figures.append(measure(command, Path(made), "runs/counting_ones"))
            first_s, exit_s, cpu_s = figures[-1]
            print(f"{name}: first lease {first_s:.2f} s, exit {exit_s:.2f} s, CPU {cpu_s:.1f} s")
        print_medians(name, figures)
    late = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as made:
            late.append(measure_late_worker(Path(made)))
        print(f"late worker: first lease {late[-1][0]:.2f} s, exit {late[-1][1]:.2f} s, CPU {late[-1][2]:.1f} s")
    print_medians("late worker", late)


def print_medians(name: str, figures: list[tuple[float, float, float]]) -> None:
    """One line."""
    medians = [statistics.median(column) for column in zip(*figures, strict=True)]
    print(f"{name}, medians of {len(figures)}: {medians[0]:.2f} s, {medians[1]:.2f} s, CPU {medians[2]:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
