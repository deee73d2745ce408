"""Occupancy of workers: share of the time in which they evaluate.

Claim: 32 workers whose evaluations sleep a lognormal time (mean 1 s, sigma 1), 300 agents with evaluations of 5 s, and
1,000 with evaluations of 10 s, evaluate at least 98 % of the time, from the moment when all have begun to the first
``Wait`` for want of brackets. The last thousand evaluations of that window end at 90 % of the first's rate or more.

Usage, on an idle machine::

    python tests/benchmarks/occupancy.py --workers 32 --sigma 1 --seconds 1 --evaluations 1300 --algorithm bohb
    python tests/benchmarks/occupancy.py --workers 300 --processes 12 --sigma 0 --seconds 5 --evaluations 3900
    python tests/benchmarks/occupancy.py --workers 1000 --processes 20 --sigma 0.3 --seconds 10 --evaluations 13000
    python tests/benchmarks/occupancy.py --workers 200 --processes 8 --seconds 0 --evaluations 9945 \
        --algorithm hyperband

The search uses real processes, Pyro4 with keys and the durable journal. ``--processes`` puts several agents into one
process, each with a separate connection. The number of evaluations is rounded to whole cycles of four brackets (65
evaluations).
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks import impl_hpbandster_lite as adapter

PARAMS = [{"name": f"x{i}", "type": "float", "lower": 0.0, "upper": 1.0} for i in range(4)]
PER_CYCLE = 65
WANT_OF_BRACKETS = "no other bracket may be opened"


class Sleeper:
    """Evaluates by sleeping; records when each evaluation of its agent began and ended, and when it first waited."""

    def __init__(self, index: int, seconds: float, sigma: float) -> None:
        self.index = index
        self._random = random.Random(index)
        # A lognormal time of this mean has the median mean * exp(-sigma**2 / 2).
        self._median_s, self._sigma = seconds * math.exp(-(sigma**2) / 2), sigma
        self.spans: list[tuple[float, float]] = []

    def __call__(self, config: Mapping[str, Any], budget: float) -> float:
        del budget
        began = time.monotonic()
        time.sleep(self._median_s * self._random.lognormvariate(0.0, self._sigma))
        self.spans.append((began, time.monotonic()))
        return float(sum((value - 0.3) ** 2 for value in config.values()))


class FirstWait(logging.Handler):
    """Records when an agent of this process first received that no brackets are left."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.at: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.at is None and WANT_OF_BRACKETS in record.getMessage():
            self.at = time.monotonic()


def work(port: int, indices: list[int], seconds: float, sigma: float) -> None:
    """Run agents in threads of this process; print what happened as one line of JSON."""
    first_wait = FirstWait()
    log = logging.getLogger("hpbandster_lite.agent")
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(first_wait)
    sleepers = [Sleeper(index, seconds, sigma) for index in indices]
    threads = [
        threading.Thread(
            target=adapter.run_worker,
            kwargs={"run_id": "bench", "host": "127.0.0.1", "port": port, "compute": sleeper, "index": sleeper.index},
        )
        for sleeper in sleepers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"spans": [sleeper.spans for sleeper in sleepers], "first_wait": first_wait.at}), flush=True)


def serve(port: int, algorithm: str, evaluations: int) -> None:
    """Serve the search; print the processor time that it took and the time that passed."""
    import hpbandster_lite.master.serving  # noqa: F401 (loads it)

    began = time.process_time()
    given = adapter.run_master(
        run_id="bench", host="127.0.0.1", port=port, params=PARAMS, optimizer=algorithm, eta=3, min_budget=1,
        max_budget=27, n_iterations=4 * max(1, round(evaluations / PER_CYCLE)),
    )  # fmt: skip
    print(json.dumps({"cpu_s": time.process_time() - began, "wall_s": given["wall"], "n": len(given["runs"])}))


def busy_share(spans: list[list[tuple[float, float]]], begin: float, end: float) -> float:
    """Share of the window in which the workers evaluated."""
    busy = sum(max(0.0, min(ended, end) - max(began, begin)) for each in spans for began, ended in each)
    return busy / (len(spans) * (end - begin))


def rates(spans: list[list[tuple[float, float]]], begin: float, end: float) -> tuple[float, float]:
    """Evaluations a second that ended in the window: of the first thousand (a tenth, if they are few), and the last."""
    ended = sorted(at for each in spans for _, at in each if begin <= at <= end)
    some = max(2, min(1_000, len(ended) // 10))
    return (some - 1) / (ended[some - 1] - ended[0]), (some - 1) / (ended[-1] - ended[-some])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=32)
    parser.add_argument("--processes", type=int, help="default: one for each worker")
    parser.add_argument("--seconds", type=float, default=1.0, help="mean time of an evaluation")
    parser.add_argument("--sigma", type=float, default=1.0, help="of its lognormal distribution")
    parser.add_argument("--evaluations", type=int, default=1300)
    parser.add_argument("--algorithm", default="bohb", help="bohb, or hyperband for random samples")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "JSON"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        part = work if given.part[0] == "work" else serve
        part(**json.loads(given.part[1]))
        return
    # The launcher does the same for the processes of a search.
    os.environ["OMP_NUM_THREADS"] = "1"
    server = adapter.NameServer("bench", "127.0.0.1")
    command = [sys.executable, __file__, "--part"]
    try:
        asked = json.dumps({"port": server.port, "algorithm": given.algorithm, "evaluations": given.evaluations})
        master = subprocess.Popen([*command, "serve", asked], stdout=subprocess.PIPE, text=True)
        n_processes = given.processes or given.workers
        shares = [list(range(given.workers))[first::n_processes] for first in range(n_processes)]
        workers = [
            subprocess.Popen(
                [*command, "work", json.dumps({"port": server.port, "indices": share, "seconds": given.seconds,
                                               "sigma": given.sigma})],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
            for share in shares
        ]  # fmt: skip
        reports = [json.loads(worker.communicate()[0]) for worker in workers]
        served = json.loads(master.communicate()[0])
    finally:
        server.stop()
    spans = [each for one in reports for each in one["spans"]]
    begin = max(each[0][0] for each in spans)
    waits = [one["first_wait"] for one in reports if one["first_wait"] is not None]
    end = min(waits) if waits else max(each[-1][0] for each in spans)
    first, last = rates(spans, begin, end)
    print(
        f"{given.algorithm}, {given.workers} workers in {n_processes} processes, {served['n']} evaluations: "
        f"busy {100 * busy_share(spans, begin, end):.2f} % of a window of {end - begin:.1f} s; "
        f"first {first:.1f}, last {last:.1f} evaluations a second ({100 * last / first:.0f} %); "
        f"master {1e3 * served['cpu_s'] / served['n']:.2f} ms of processor time an evaluation, "
        f"{100 * served['cpu_s'] / served['wall_s']:.0f} % of a core",
        flush=True,
    )


if __name__ == "__main__":
    main()
