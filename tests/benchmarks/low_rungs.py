"""What the lowest rungs say about the highest one, with running and with estimated statistics of batch normalisation.

Random configurations of the space ``small`` are trained on a part of Fashion-MNIST for each number of epochs, from the
same seeds. Each network is judged twice on the validation images: with the running statistics of its training, and with
those that :mod:`~hpbandster_lite.workers.training.norm_statistics` estimates. The program prints Spearman's rank
correlation of the errors after few epochs and after many, over the configurations, and the mean error after many.

Usage, on a machine with the images (Debian's ``dataset-fashion-mnist``, or ``--data``); the defaults take a minute on
one core::

    python tests/benchmarks/low_rungs.py [--images 500 --epochs 1 3 27] [--configurations 14] [--data DIR]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

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


def errors(config: dict[str, Any], epochs: int, images: int, data: Path | None, seed: int) -> tuple[float, float]:
    """Validation errors in percent, with running and with estimated statistics."""
    options = ImageOptions(data_set="fashion_mnist", data=data, space="small", budget_unit="epochs")
    problem = ImageProblem(options)
    source = ImageSource("fashion_mnist", data, None)
    training, validation = training_and_validation("cpu", source, train_images=images, valid_images=VALIDATION_IMAGES)
    recipe = problem._recipe(config)
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


def main() -> None:
    """Train, judge and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 3, 27], help="the last is the highest rung")
    parser.add_argument("--configurations", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = ImageProblem(ImageOptions(data_set="fashion_mnist", space="small", budget_unit="epochs")).space()
    space.seed(arguments.seed)
    configs = [dict(each) for each in space.sample_configuration(arguments.configurations)]
    found = {
        epochs: [errors(config, epochs, arguments.images, arguments.data, seed) for seed, config in enumerate(configs)]
        for epochs in arguments.epochs
    }
    top = arguments.epochs[-1]
    print(f"{arguments.images} images, {len(configs)} configurations, seed {arguments.seed}")
    for index, name in enumerate(("running", "estimated")):
        high = [each[index] for each in found[top]]
        correlations = [
            f"{epochs} and {top} epochs {spearmanr([each[index] for each in found[epochs]], high).statistic:.2f}"
            for epochs in arguments.epochs[:-1]
        ]
        print(
            f"{name} statistics: Spearman of {', '.join(correlations)}; error after {top} epochs: mean "
            f"{statistics.fmean(high):.1f} %, lowest {min(high):.1f} %"
        )


if __name__ == "__main__":
    main()
