"""The problem ``digits``: BOHB compared with random search of the same cost.

For each seed the program runs BOHB with the problem's budgets and brackets, and then random search at the full budget
until it has used as many epochs as BOHB trained (``epochs_trained``: a continued evaluation counts its added epochs).
Both use the whole service: master, name server, worker processes. The program compares the validation loss of the
incumbent, also with that of the default configuration at the full budget, which both evaluate first.

Evidence, 2026-11: see docs/benchmarks.md. Usage (an hour on two cores; pairs in the output file are not repeated)::

    python tests/benchmarks/main_job.py --out pairs.jsonl [--seeds 10] [--workers 2]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import hpbandster_lite as hpb
from hpbandster_lite.results.result import Incumbent

PROBLEM = "digits"


def epochs_trained(result: hpb.Result) -> int:
    """Epochs that the evaluations of a search trained, without those of their checkpoints."""
    infos = result.evaluations["info"]
    return int(sum(info.get("epochs_trained", 0) for info in infos if info is not None))


def searched(seed: int, workers: int, folder: str, **options: Any) -> tuple[Incumbent, hpb.Result, float]:
    """Run one search; return incumbent, result, seconds."""
    began = time.monotonic()
    result = hpb.minimize(PROBLEM, seed=seed, workers=workers, run_dir=folder, **options)
    incumbent = result.incumbent
    if incumbent is None:
        raise RuntimeError(f"no evaluation of seed {seed} has a loss: {result.failures}")
    return incumbent, result, time.monotonic() - began


def pair(seed: int, workers: int) -> dict[str, Any]:
    """BOHB and random search with one seed."""
    with tempfile.TemporaryDirectory() as folder:
        bohb, bohb_result, bohb_s = searched(seed, workers, f"{folder}/bohb")
        epochs = epochs_trained(bohb_result)
        random, random_result, random_s = searched(
            seed, workers, f"{folder}/random", algorithm="random", total_budget=float(epochs)
        )
        evaluations = random_result.evaluations
        default = evaluations[(evaluations["origin"] == "default")]["loss"].iloc[0]
        return {
            "seed": seed,
            "bohb": bohb.loss,
            "random": random.loss,
            "default": float(default),
            "bohb_epochs": epochs,
            "random_epochs": epochs_trained(random_result),
            "bohb_evaluations": len(bohb_result.evaluations),
            "random_evaluations": len(evaluations),
            "bohb_s": round(bohb_s, 1),
            "random_s": round(random_s, 1),
            "incumbent_came_from": bohb.origin,
        }


def table(pairs: list[dict[str, Any]]) -> str:
    """Every pair and the median, as a Markdown table of losses in thousandths."""
    lines = ["| seed | BOHB | random search | default | epochs trained (BOHB, random) |", "|---|---|---|---|---|"]
    for row in pairs:
        losses = (f"{1e3 * row[name]:.2f}" for name in ("bohb", "random", "default"))
        lines.append(f"| {row['seed']} | {' | '.join(losses)} | {row['bohb_epochs']}, {row['random_epochs']} |")
    medians = (f"{1e3 * statistics.median(row[name] for row in pairs):.2f}" for name in ("bohb", "random", "default"))
    wins = sum(row["bohb"] < row["random"] for row in pairs)
    lines.append(f"| median | {' | '.join(medians)} | BOHB is better in {wins} of {len(pairs)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for seed in range(options.seeds):
        if seed not in {row["seed"] for row in done}:
            done.append(pair(seed, options.workers))
            with options.out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            sys.stderr.write(f"{done[-1]}\n")
    print(table(sorted(done, key=lambda row: row["seed"])))


if __name__ == "__main__":
    main()
