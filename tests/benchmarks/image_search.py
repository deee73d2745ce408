"""Twenty CPU-minutes of joint search on 5,000 images: beside random search, and beside a wide ResNet as published.

For each seed: BOHB on Fashion-MNIST in the space ``small`` with budgets of 1.3, 4 and 12 seconds of training steps,
until 1,200 of them are given out (a hundred times the largest budget, where the published run had 120 times); random
search at 12 seconds, until as many are; and WRN-16-1 with its authors' hyperparameters, whose schedule is shrunk to 12
seconds. Neither search begins with the default configuration, which is that of textbooks for such networks: what they
find is found. The searches go through the product with two workers of one thread each. Compared are the validation
error, by which an incumbent is chosen, and the test error, which is looked at once. Seconds are those of processor
time, so that a neighbour on the machine changes little.

Usage, on a machine with two cores and the images (Debian's ``dataset-fashion-mnist``, or ``--data``); two hours for
five seeds, and what the output file has is not run again::

    python tests/benchmarks/image_search.py --out pairs.jsonl [--seeds 5] [--data DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import hpbandster_lite as hpb
from hpbandster_lite.rundir import RunDirectory

WORKERS = 2
TOTAL_S = 1_200.0
LARGEST_S = 12.0
SMALLEST_S = LARGEST_S / 9
IMAGES = {"train_images": 5_000, "valid_images": 2_500, "scale": LARGEST_S / 10_800, "clock": "processor"}
"""At that scale the problem's own highest budget, on which the baseline's schedule depends, is the largest one here."""
WRN_16_1 = {
    "depth": 16,
    "widen_factor": 1,
    "block": "3,3",
    "deepening": 2,
    "dropout": 0.0,
    "learning_rate": 0.1,
    "batch_size": 128,
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "alpha": 0.0,
    "length": 0,
}


def searched(seed: int, data: Path | None, folder: Path, **told: Any) -> dict[str, Any]:
    """One search to its end: the incumbent's validation and test error, and what was trained for it."""
    result = hpb.minimize(
        "fashion_mnist",
        problem_options={"space": "small", "data": data, **IMAGES},
        seed=seed,
        workers=WORKERS,
        run_dir=folder,
        min_budget=SMALLEST_S,
        max_budget=LARGEST_S,
        total_budget=TOTAL_S,
        skip_default=True,
        **told,
    )
    incumbent = json.loads((RunDirectory(folder).path / "incumbent.json").read_text("utf-8"))
    infos = [info for info in result.evaluations["info"] if info]
    return {
        "validation": incumbent["loss"],
        "test": incumbent["test"]["test_error_percent"],
        "budget": incumbent["budget"],
        "configuration": incumbent["values"],
        "parameters": incumbent["info"]["parameters"],
        "training_s": round(sum(info["training_s"] - info.get("continued_from", 0.0) for info in infos), 1),
        "evaluations": len(infos),
    }


def baseline(seed: int, data: str | None) -> None:
    """Train WRN-16-1 and print its errors; in a process of its own, with one thread as the workers have."""
    from hpbandster_lite.problems import load, with_options

    given = {"space": "wide_resnet", "schedule": "step", "data": data, **IMAGES}
    problem: Any = load(with_options("fashion_mnist", given))
    with tempfile.TemporaryDirectory() as folder:
        trial = hpb.Trial(budget=LARGEST_S, unit="seconds", seed=seed, directory=folder)
        trained = problem.evaluate(WRN_16_1, LARGEST_S, trial)
        judged = hpb.Trial(budget=LARGEST_S, unit="seconds", seed=seed, previous_directory=folder)
        tested = problem.test(WRN_16_1, LARGEST_S, judged)
    print(json.dumps({"validation": trained["loss"], "test": tested["test_error_percent"],
                      "parameters": trained["parameters"], "epochs": trained["epochs"]}))  # fmt: skip


def pair(seed: int, data: Path | None) -> dict[str, Any]:
    """The three with one seed."""
    with tempfile.TemporaryDirectory() as folder:
        bohb = searched(seed, data, Path(folder) / "bohb")
        random = searched(seed, data, Path(folder) / "random", algorithm="random")
    told = json.dumps({"seed": seed, "data": None if data is None else str(data)})
    trained = subprocess.run([sys.executable, __file__, "--baseline", told], stdout=subprocess.PIPE, check=True)
    return {"seed": seed, "bohb": bohb, "random": random, "wrn_16_1": json.loads(trained.stdout)}


def table(pairs: list[dict[str, Any]]) -> str:
    """Every seed and the medians, as a Markdown table of errors in percent."""
    names = ("bohb", "random", "wrn_16_1")
    lines = [
        "| seed | BOHB: validation, test | random search | WRN-16-1 | seconds trained (BOHB, random) |",
        "|---|---|---|---|---|",
    ]
    for row in pairs:
        errors = (f"{row[name]['validation']:.2f}, {row[name]['test']:.2f}" for name in names)
        trained = f"{row['bohb']['training_s']:.0f}, {row['random']['training_s']:.0f}"
        lines.append(f"| {row['seed']} | {' | '.join(errors)} | {trained} |")
    medians = (
        ", ".join(f"{statistics.median(row[name][kind] for row in pairs):.2f}" for kind in ("validation", "test"))
        for name in names
    )
    return "\n".join([*lines, f"| median | {' | '.join(medians)} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--baseline", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Of the baseline too; the launcher gives each worker its share of the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.baseline:
        baseline(**json.loads(options.baseline))
        return
    if options.out is None:
        parser.error("--out is needed: what was measured is kept there")
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for seed in range(options.seeds):
        if seed not in {row["seed"] for row in done}:
            done.append(pair(seed, options.data))
            with options.out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            sys.stderr.write(f"{done[-1]}\n")
    print(table(sorted(done, key=lambda row: row["seed"])))


if __name__ == "__main__":
    main()
