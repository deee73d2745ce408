"""Crop, mirror, normalise, CutOut and MixUp on one core: whole batches against torchvision, image by image.

Claim: augmentation of whole batches costs less than a tenth of torchvision's transforms of single images in a
DataLoader, with worker processes (``num_workers=1``) or without, in CPU time and in wall time.

Evidence: docs/benchmarks.md. Usage::

    OMP_NUM_THREADS=1 python tests/benchmarks/augmentation.py [--rounds 7] [--images 5000] [--batch-size 128]

Both sides use the same images, Fashion-MNIST padded and repeated to 3x32x32 (an image has the cost of one of CIFAR-10),
or noise where this data set is missing (``--noise``); both produce the same float32 batches on the CPU. The process and
its children are pinned to one core, the sides take turns, and CPU time is that of the process and its children. The
other side is the recipe of the CutOut and MixUp papers' code: RandomCrop, RandomHorizontalFlip, ToTensor, Normalize and
CutOut for each image, MixUp for each batch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from hpbandster_lite.workers.images.augmentation import Augmentation, EpochDraws, augmented, mixed
from hpbandster_lite.workers.images.catalogue import CIFAR10_MEAN, CIFAR10_STD
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.read_images import read_images

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.one_by_one import OneByOne

AUGMENTATION = Augmentation(pad=4, mirror=True, cutout=16, mixup=0.2)


def pixels_of(n_images: int, *, noise: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8, shape (n, 32, 32, 3)."""
    if noise:
        return np.random.default_rng(0).integers(0, 256, (n_images, 32, 32, 3), dtype=np.uint8)
    grey = read_images("fashion_mnist").train_x[:n_images, 0]
    return np.ascontiguousarray(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=-1))


def one_by_one(pixels: np.ndarray[Any, np.dtype[np.uint8]], batch_size: int, workers: int) -> Callable[[int], int]:
    """torchvision's side: an epoch, returning the number of images."""
    loader = DataLoader(OneByOne(pixels, AUGMENTATION), batch_size, shuffle=True, drop_last=True, num_workers=workers)

    def epoch(number: int) -> int:
        rng = np.random.default_rng(number)
        seen = 0
        for x, _ in loader:
            share = rng.beta(AUGMENTATION.mixup, AUGMENTATION.mixup)
            seen += len(share * x + (1 - share) * x[torch.randperm(len(x))])
        return seen

    return epoch


def whole_batches(pixels: np.ndarray[Any, np.dtype[np.uint8]], batch_size: int) -> Callable[[int], int]:
    """Our side: an epoch, which includes its random draws, returning the number of images."""
    images = DeviceImages(
        x=torch.from_numpy(pixels).permute(0, 3, 1, 2),
        y=torch.arange(len(pixels)) % 10,
        mean=torch.tensor(CIFAR10_MEAN),
        std=torch.tensor(CIFAR10_STD),
        class_names=tuple("0123456789"),
    )

    def epoch(number: int) -> int:
        draws = EpochDraws.of(0, number, len(images), batch_size, images.shape, AUGMENTATION)
        seen = 0
        for batch in draws.from_step():
            x, _ = images.batch(batch.rows)
            seen += len(mixed(augmented(x, batch, images.mean, images.std, AUGMENTATION), batch))
        return seen

    return epoch


def cpu_s() -> float:
    """CPU seconds of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def us_an_image(epoch: Callable[[int], int], number: int, at_least_s: float) -> tuple[float, float]:
    """CPU and wall microseconds of an image; epochs repeat until the clock's resolution of 10 ms is negligible."""
    cpu, wall, images = cpu_s(), time.perf_counter(), 0
    while time.perf_counter() - wall < at_least_s:
        images += epoch(number)
    return 1e6 * (cpu_s() - cpu) / images, 1e6 * (time.perf_counter() - wall) / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--noise", action="store_true", help="noise instead of Fashion-MNIST")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pixels = pixels_of(options.images, noise=options.noise)
    sides = {
        "whole batches": whole_batches(pixels, options.batch_size),
        "torchvision, num_workers=0": one_by_one(pixels, options.batch_size, 0),
        "torchvision, num_workers=1": one_by_one(pixels, options.batch_size, 1),
    }
    for epoch in sides.values():  # the first epoch of a process pays for imports and memory
        epoch(0)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name, epoch in sides.items():
            measured[name].append(us_an_image(epoch, number, at_least_s=1.0))
        columns = "   ".join(f"{pairs[-1][0]:7.1f} {pairs[-1][1]:7.1f}" for pairs in measured.values())
        print(f"round {number}: CPU and wall us an image   {columns}", flush=True)
    medians = {name: tuple(map(statistics.median, zip(*pairs, strict=True))) for name, pairs in measured.items()}
    ours_cpu, ours_wall = medians["whole batches"]
    print(f"\n{'':28}  CPU us  wall us   images/s   CPU ratio  wall ratio")
    for name, (cpu, wall) in medians.items():
        ratios = f"{cpu / ours_cpu:9.1f}  {wall / ours_wall:10.1f}"
        print(f"{name:28} {cpu:7.1f}  {wall:7.1f}  {1e6 / wall:9,.0f}   {ratios}")


if __name__ == "__main__":
    main()
