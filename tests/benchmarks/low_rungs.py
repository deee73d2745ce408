"""What the lowest rungs say about the highest one, with running and with estimated statistics of batch normalisation.

Random configurations of a space are trained on a part of Fashion-MNIST for each number of epochs, from the same seeds.
Each network is judged twice on the validation images: with the running statistics of its training, and with those that
:mod:`~hpbandster_lite.workers.training.norm_statistics` estimates. The program prints Spearman's rank correlation of
the errors after few epochs and after many, over the configurations, with a 95 % interval (bootstrap over the
configurations), the same for the difference of the two ways, and the mean error after many epochs.

Usage, on a machine with the images (Debian's ``dataset-fashion-mnist``, or ``--data``); 14 configurations take a
minute on one core. A configuration that the file of ``--out`` already has is not trained again::

    python tests/benchmarks/low_rungs.py [--space small] [--images 500 --epochs 1 3 27] [--configurations 14]
        [--max-parameters N] [--seed 0] [--data DIR] [--out rows.jsonl]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from hpbandster_lite.workers.images.device_images import training_and_validation
from hpbandster_lite.workers.images.options import ImageOptions
from hpbandster_lite.workers.images.problem import ImageProblem
from hpbandster_lite.workers.images.read_images import ImageSource
from hpbandster_lite.workers.images.training import ImageTrainingSet, judged
from hpbandster_lite.workers.training.clock import HostStopwatch
from hpbandster_lite.workers.training.faults import Diverged
from hpbandster_lite.workers.training.loop import Run
from hpbandster_lite.workers.training.schedule import Budget

VALIDATION_IMAGES = 2_500
WORST_PERCENT = 100.0
"""The error of a network that diverged."""
RESAMPLES = 4_000
WAYS = ("running", "estimated")


def errors(problem: ImageProblem, config: dict[str, Any], epochs: int, images: int, seed: int) -> tuple[float, float]:
    """Validation errors in percent, with running and with estimated statistics."""
    source = ImageSource("fashion_mnist", problem.options.data, None)
    training, validation = training_and_validation("cpu", source, train_images=images, valid_images=VALIDATION_IMAGES)
    recipe = problem._recipe_for(config, training)
    build = problem._builder(config, training.shape)
    examples = ImageTrainingSet(training, recipe)
    run = Run(build, recipe, Budget(amount=epochs), "cpu", examples, seed, HostStopwatch())
    try:
        run.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stub
        while not run.clock.is_spent():
            run.train_one_epoch()
        return judged(run, validation).error.percent, run.judged_by(lambda run: judged(run, validation)).error.percent
    except Diverged:
        return WORST_PERCENT, WORST_PERCENT


def rows(problem: ImageProblem, given: argparse.Namespace) -> np.ndarray[Any, Any]:
    """Errors of shape (configurations, epochs, ways)."""
    space = problem.space()
    space.seed(given.seed)
    key = [given.space, given.images, given.epochs, given.max_parameters, given.seed]
    known = [] if given.out is None or not given.out.exists() else given.out.read_text("utf-8").splitlines()
    found = {row["number"]: row["errors"] for row in map(json.loads, known) if row["of"] == key}
    number = 0
    while number < given.configurations:
        config = dict(space.sample_configuration())
        if problem.feasible(config) is not True:
            continue
        if number not in found:
            found[number] = [errors(problem, config, epochs, given.images, number) for epochs in given.epochs]
            if given.out is not None:
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"of": key, "number": number, "errors": found[number]}) + "\n")
        number += 1
    return np.array([found[each] for each in range(given.configurations)])


def correlation(low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> float:
    """Spearman's; 0 where a resample has one value only."""
    return float(spearmanr(low, high).statistic) if np.ptp(low) and np.ptp(high) else 0.0


def interval(drawn: np.ndarray[Any, Any]) -> str:
    """The 95 % interval of resampled values."""
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{low:.2f} to {high:.2f}"


def table(found: np.ndarray[Any, Any], epochs: list[int]) -> str:
    """Lines with the correlations, their intervals, and the errors."""
    n, rng = len(found), np.random.default_rng(0)
    lines = []
    for rung, low in enumerate(epochs[:-1]):
        drawn = np.array(
            [
                [correlation(found[chosen, rung, way], found[chosen, -1, way]) for way in range(len(WAYS))]
                for chosen in (rng.integers(0, n, n) for _ in range(RESAMPLES))
            ]
        )
        for way, name in enumerate(WAYS):
            value = correlation(found[:, rung, way], found[:, -1, way])
            lines.append(f"{low} and {epochs[-1]} epochs, {name} statistics: {value:.2f}, {interval(drawn[:, way])}")
        lines.append(f"{low} and {epochs[-1]} epochs, difference: {interval(drawn[:, 1] - drawn[:, 0])}")
    for way, name in enumerate(WAYS):
        high = found[:, -1, way]
        lines.append(f"error after {epochs[-1]} epochs, {name}: mean {high.mean():.1f} %, lowest {high.min():.1f} %")
    return "\n".join(lines)


def main() -> None:
    """Train, judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="small")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 27], help="the last is the highest rung")
    parser.add_argument("--configurations", type=int, default=14)
    parser.add_argument("--max-parameters", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = ImageOptions(
        data_set="fashion_mnist",
        data=given.data,
        space=given.space,
        budget_unit="epochs",
        max_parameters=given.max_parameters,
    )
    found = rows(ImageProblem(options), given)
    print(f"space {given.space}, {given.images} images, {given.configurations} configurations, seed {given.seed}")
    print(table(found, given.epochs))


if __name__ == "__main__":
    main()
