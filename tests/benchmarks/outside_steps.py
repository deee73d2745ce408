"""The share of an evaluation's time outside its training steps: reading batches, augmentation, judging, saving.

Claim: below 8 % for budgets above a minute in the search of docs/images.md, ``run fashion_mnist --space small
--budget-unit epochs --train-images 5000``, with its 6,000 validation images. Random configurations of the space are
evaluated at one budget, each from its seed, one after the other. Seconds are processor time, so other processes change
little. The program prints one line for each configuration, and the median.

Usage, on a machine with the images (Debian's ``dataset-fashion-mnist``, or ``--data``); a configuration takes about two
minutes at 27 epochs::

    python tests/benchmarks/outside_steps.py [--epochs 27] [--configurations 3] [--valid-images 6000] [--data DIR]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.records import CurvePoint
from hpbandster_lite.workers.images.options import ImageOptions
from hpbandster_lite.workers.images.problem import ImageProblem

LADDER = (1, 3, 9, 27)


def measured(problem: ImageProblem, config: dict[str, Any], epochs: int) -> tuple[float, float, int]:
    """Seconds of an evaluation, those of its training steps, and the number of points of its curve."""
    points: list[CurvePoint] = []

    def note(point: CurvePoint) -> bool:
        points.append(point)
        return False

    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(
            budget=epochs, max_budget=LADDER[-1], budgets=LADDER, seed=1, directory=folder, on_report=note
        )  # fmt: skip
        began = time.process_time()
        training_s = problem.evaluate(config, epochs, trial)["training_s"]
        return time.process_time() - began, training_s, len(points)


def main() -> None:
    """Evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=27, choices=LADDER)
    parser.add_argument("--configurations", type=int, default=3)
    parser.add_argument("--valid-images", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    problem = ImageProblem(
        ImageOptions(
            data_set="fashion_mnist", data=given.data, space="small", budget_unit="epochs", clock="processor",
            train_images=5_000, valid_images=given.valid_images,
        )
    )  # fmt: skip
    space = problem.space()
    space.seed(given.seed)
    shares: list[float] = []
    while len(shares) < given.configurations:
        config = dict(space.sample_configuration())
        if problem.feasible(config) is not True:
            continue
        if not shares:
            # Read the images.
            with tempfile.TemporaryDirectory() as folder:
                problem.evaluate(config, 0.1, Trial(budget=0.1, budgets=LADDER, directory=folder))
        total_s, training_s, points = measured(problem, config, given.epochs)
        shares.append(1 - training_s / total_s)
        print(f"{total_s:6.1f} s, {points} points, {100 * shares[-1]:5.1f} % outside the steps", flush=True)
    print(f"{given.epochs} epochs, median: {100 * statistics.median(shares):.1f} % outside the steps")


if __name__ == "__main__":
    main()
