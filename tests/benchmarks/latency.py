"""Time that a user waits at either end of a search: call of ``run`` to the first evaluation, last result to the exit.

Claim: at most 2.5 s and 0.3 s for a problem without torch. Run as ``python tests/benchmarks/latency.py [REPEATS]`` on
an idle machine; it prints each repetition and the medians, with the processor time that the whole search took.
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
    """Seconds to the first lease, from the last result to the exit, and of processor time."""
    cpu_before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_at = time.time()  # noqa: TID251 (compared with the journal's, which is wall-clock time)
    subprocess.run(command, cwd=directory, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    ended_at = time.time()  # noqa: TID251
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN)
    entries = list(JournalReader(directory / run / "journal.sqlite").entries())
    first = next(at for _, at, entry in entries if isinstance(entry, Leased))
    last = max(at for _, at, entry in entries if isinstance(entry, Recorded))
    used = cpu.ru_utime + cpu.ru_stime - cpu_before.ru_utime - cpu_before.ru_stime
    return first - began_at, ended_at - last, used


def main(repeats: int) -> None:
    """Print the figures of the command and of ``minimize``."""
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
        medians = [statistics.median(column) for column in zip(*figures, strict=True)]
        print(f"{name}, medians of {repeats}: {medians[0]:.2f} s, {medians[1]:.2f} s, CPU {medians[2]:.1f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
