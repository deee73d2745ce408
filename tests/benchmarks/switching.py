"""Time of a warm trainer between two configurations: from the end of an evaluation to the next one's first step.

Claim: at most 0.3 s on a CPU.

Evidence: docs/benchmarks.md. Usage::

    OMP_NUM_THREADS=1 python tests/benchmarks/switching.py [--evaluations 12] [--device cpu]

This process evaluates different configurations of the joint network one after the other, as a trainer does, each for a
few steps on 5,000 images that stay on the device. The program measures the time between the return of one evaluation
and the moment in which the clock of the next one starts: it covers the creation of the network and its optimizer, the
random draws of an epoch, and its first batch. The first evaluation of the process does not count, because it includes
the initialisation of torch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.workers.images.augmentation import Augmentation
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.training import ImageRecipe, train
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.networks.joint_network import JointNetwork
from hpbandster_lite.workers.training.clock import BudgetClock
from hpbandster_lite.workers.training.schedule import Budget

IMAGES = 5_000


def architecture_of(rng: np.random.Generator) -> JointArchitecture:
    """An architecture from a part of the paper's space that a CPU can train."""
    return JointArchitecture(
        blocks=tuple(int(n) for n in rng.integers(1, 5, 3)),
        initial_filters=int(rng.integers(8, 17)),
        widen_factors=tuple(float(w) for w in rng.uniform(0.5, 2, 3)),
        branches=tuple(int(n) for n in rng.integers(1, 6, 3)),
        death_rate=0.3,
    )


def images_on(device: str, n: int) -> DeviceImages:
    """Images of noise: the content of the pixels does not change the time."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8))
    return DeviceImages(
        x=pixels.to(device).permute(0, 3, 1, 2),
        y=(torch.arange(n) % 10).to(device),
        mean=torch.full((3,), 127.5, device=device),
        std=torch.full((3,), 74.0, device=device),
        class_names=tuple("0123456789"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=12)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    first_steps: list[float] = []
    begin = BudgetClock.begin

    def noted(clock: BudgetClock) -> None:
        if clock.steps == 0:
            if options.device == "cuda":
                torch.cuda.synchronize()
            first_steps.append(time.perf_counter())
        begin(clock)

    BudgetClock.begin = noted  # type: ignore[method-assign, assignment] # to see when it is called, from outside
    rng = np.random.default_rng(0)
    images, validation = images_on(options.device, IMAGES), images_on(options.device, 100)
    recipe = ImageRecipe(batch_size=64, augmentation=Augmentation(cutout=8, mixup=0.2))
    gaps: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        ended = None
        for number in range(options.evaluations + 1):
            architecture = architecture_of(rng)
            # Two steps of an epoch's 78.
            budget, trial = Budget(amount=2 / 78), Trial(directory=Path(folder) / str(number), seed=number)
            result = train(partial(JointNetwork, architecture), recipe, budget, trial, images, validation)
            if ended is not None:
                gaps.append(first_steps[-1] - ended)
                print(f"{result['parameters']:>12,} parameters  {1_000 * gaps[-1]:6.0f} ms", flush=True)
            ended = time.perf_counter()
    print(f"{len(gaps)} switches on {options.device}, torch {torch.__version__}: median "
          f"{1_000 * statistics.median(gaps):.0f} ms, longest {1_000 * max(gaps):.0f} ms (bar: 300 ms)")  # fmt: skip


if __name__ == "__main__":
    main()
