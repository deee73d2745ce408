"""Twenty CPU-minutes of joint search on 5,000 images: beside random search, and beside a wide ResNet as published.

For each seed it runs BOHB on Fashion-MNIST in the space ``small`` with the published budgets times 0.01, 4 to 108
seconds of training steps, until 1,200 seconds are started; random search at 108 seconds, until as many are; and
WRN-16-1 with its authors' hyperparameters and a schedule of 108 seconds. Neither search begins with the default
configuration, because textbook values would help both. The searches use the whole service with two workers of one
thread each. The program compares the validation error, which selects the incumbent, and the test error, which is
measured once. Seconds are seconds of processor time, so that other processes on the machine change little.

Usage, on a machine with two cores and the images (Debian's ``dataset-fashion-mnist``, or ``--data``). Five seeds take
two hours; rows that the output file already has are not repeated::

    python tests/benchmarks/image_search.py --out trained.jsonl [--seeds 5] [--data DIR]
"""

from __future__ import annotations

import argparse
import itertools
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

WAYS = ("bohb", "random", "wrn_16_1")
WORKERS = 2
TOTAL_S = 1_200.0
SCALE = 0.01
LARGEST_S = 108.0
"""The highest budget at that scale."""
IMAGES = {"train_images": 5_000, "valid_images": 2_500, "scale": SCALE, "clock": "processor"}
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


def searched(seed: int, data: Path | None, folder: Path, **options: Any) -> dict[str, Any]:
    """Run one search; return the incumbent's validation and test error, and the seconds trained."""
    result = hpb.minimize(
        "fashion_mnist",
        problem_options={"space": "small", "data": data, **IMAGES},
        seed=seed,
        workers=WORKERS,
        run_dir=folder,
        total_budget=TOTAL_S,
        skip_default=True,
        **options,
    )
    incumbent = json.loads((RunDirectory(folder).path / "incumbent.json").read_text("utf-8"))
    infos = [info for info in result.evaluations["info"] if info]
    return {
        "validation": incumbent["info"]["validation_error_percent"],
        "test": incumbent["test"]["test_error_percent"],
        "budget": incumbent["budget"],
        "configuration": incumbent["values"],
        "parameters": incumbent["info"]["parameters"],
        "training_s": round(sum(info["training_s"] - info.get("continued_from", 0.0) for info in infos), 1),
        "evaluations": len(infos),
    }


def baseline(seed: int, data: str | None) -> None:
    """Train WRN-16-1 in a separate process with one thread, like the workers; print its errors."""
    from hpbandster_lite.problems import load, with_options

    given = {"space": "wide_resnet", "schedule": "step", "data": data, **IMAGES}
    problem: Any = load(with_options("fashion_mnist", given))
    with tempfile.TemporaryDirectory() as folder:
        trial = hpb.Trial(budget=LARGEST_S, unit="seconds", seed=seed, directory=folder)
        trained = problem.evaluate(WRN_16_1, LARGEST_S, trial)
        judged = hpb.Trial(budget=LARGEST_S, unit="seconds", seed=seed, previous_directory=folder)
        tested = problem.test(WRN_16_1, LARGEST_S, judged)
    print(json.dumps({"validation": trained["validation_error_percent"], "test": tested["test_error_percent"],
                      "parameters": trained["parameters"], "epochs": trained["epochs"]}))  # fmt: skip


def measured(seed: int, way: str, data: Path | None, out: Path) -> dict[str, Any]:
    """Run one of the three with one seed; an interrupted search continues in its directory beside the output."""
    if way == "wrn_16_1":
        options = json.dumps({"seed": seed, "data": None if data is None else str(data)})
        done = subprocess.run([sys.executable, __file__, "--baseline", options], stdout=subprocess.PIPE, check=True)
        return dict(json.loads(done.stdout))
    return searched(seed, data, out.with_suffix(".runs") / f"{way}-{seed}", algorithm=way)


def table(rows: list[dict[str, Any]]) -> str:
    """Every seed that has all three results, and the medians, as a Markdown table of errors in percent."""
    by_seed: dict[int, dict[str, Any]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], {"seed": row["seed"]})[row["way"]] = row
    pairs = [by_seed[seed] for seed in sorted(by_seed) if len(by_seed[seed]) == 1 + len(WAYS)]
    lines = [
        "| seed | BOHB: validation, test | random search | WRN-16-1 | seconds trained (BOHB, random) |",
        "|---|---|---|---|---|",
    ]
    for row in pairs:
        errors = (f"{row[name]['validation']:.2f}, {row[name]['test']:.2f}" for name in WAYS)
        seconds = f"{row['bohb']['training_s']:.0f}, {row['random']['training_s']:.0f}"
        lines.append(f"| {row['seed']} | {' | '.join(errors)} | {seconds} |")
    medians = (
        ", ".join(f"{statistics.median(row[name][kind] for row in pairs):.2f}" for kind in ("validation", "test"))
        for name in WAYS
    )
    return "\n".join([*lines, f"| median | {' | '.join(medians)} | |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--baseline", help=argparse.SUPPRESS)
    options = parser.parse_args()
    # Also for the baseline; the launcher gives each worker its share of the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.baseline:
        baseline(**json.loads(options.baseline))
        return
    if options.out is None:
        parser.error("--out is needed: what was measured is kept there")
    done = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    for seed, way in itertools.product(range(options.seeds), WAYS):
        if (seed, way) not in {(row["seed"], row["way"]) for row in done}:
            done.append({"seed": seed, "way": way, **measured(seed, way, options.data, options.out)})
            with options.out.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            sys.stderr.write(f"{done[-1]}\n")
    print(table(done))


if __name__ == "__main__":
    main()
