"""One training step of the joint network, compared with a plain implementation in the released code's style.

Claim: our step takes less than 1 / 1.6 of the CPU time of the plain step at widths 16, 32, 64, which are the widths for
a CPU. The advantage falls with the width, because convolutions then dominate the cost, and the plain side computes 4
parts of them where ours computes 3.

Evidence: docs/benchmarks.md; no GPU was measured. Usage::

    OMP_NUM_THREADS=1 python tests/benchmarks/joint_step.py [--rounds 5] [--batch-size 64] [--blocks 1] [--noise]
    python tests/benchmarks/joint_step.py --device cuda --blocks 4 --filters 32 --batch-size 128 --workers 8

Both sides train the same network (three branches in each block, Shake-Shake, two-path shortcuts) on the same images
with the same recipe: crop, mirror, CutOut, MixUp, SGD with Nesterov momentum. A step includes everything from the
images in memory to the changed weights. The plain side follows the style of the released code and was written for this
comparison: torchvision's transforms of single images in a DataLoader; blocks that first add up their branches and then
compute them a second time for Shake-Shake; torch's default memory format and optimizer; the loss is read after each
step. On a CPU the process is pinned to one core and the program measures CPU time. On a GPU it measures wall time, the
plain side may load with ``--workers``, and our side computes in bfloat16 if the device has it.
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
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from hpbandster_lite.workers.images.augmentation import Augmentation
from hpbandster_lite.workers.images.catalogue import CIFAR10_MEAN, CIFAR10_STD
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.read_images import read_images
from hpbandster_lite.workers.images.training import ImageRecipe, ImageTrainingSet
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.networks.joint_network import JointNetwork
from hpbandster_lite.workers.training.clock import stopwatch_for
from hpbandster_lite.workers.training.loop import Run
from hpbandster_lite.workers.training.memory import parameter_count
from hpbandster_lite.workers.training.schedule import Budget

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.benchmarks.one_by_one import OneByOne

AUGMENTATION = Augmentation(pad=4, mirror=True, cutout=16, mixup=0.2)
BRANCHES = 3


# ---------------------------------------------------------------------------------------------------- the plain network


class PlainShake(torch.autograd.Function):
    """A weighted sum of branches with separate weights for their gradients."""

    @staticmethod
    def forward(ctx: Any, alpha: torch.Tensor, beta: torch.Tensor, *branches: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(beta)
        return sum(alpha[i] * branch for i, branch in enumerate(branches))  # type: ignore[return-value] # never empty

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (beta,) = ctx.saved_tensors
        return (None, None, *(beta[i] * gradients[0] for i in range(len(beta))))


class PlainShortcut(nn.Module):
    """Two paths, the second one shifted by a pixel; ReLU acts only on the first."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv2d(before, width // 2, 1, bias=False)
        self.second = nn.Conv2d(before, width - width // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> Any:
        one = self.first(functional.avg_pool2d(functional.relu(x), 1, self.stride))
        other = self.second(functional.avg_pool2d(functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1)), 1, self.stride))
        return self.norm(torch.cat([one, other], dim=1))


class PlainBlock(nn.Module):
    """A block that computes its branches twice, as the released code does, and discards the first sum."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width),
                nn.ReLU(), nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
            )
            for _ in range(BRANCHES)
        )  # fmt: skip
        self.shortcut = PlainShortcut(before, width, stride) if before != width or stride != 1 else nn.Identity()

    def forward(self, x: torch.Tensor) -> Any:
        out = sum(branch(x) for branch in self.branches)
        outputs = [branch(x) for branch in self.branches]
        alpha, beta = (torch.rand(BRANCHES, len(x), 1, 1, 1, device=x.device).softmax(dim=0) for _ in range(2))
        out = PlainShake.apply(alpha, beta, *outputs)  # type: ignore[no-untyped-call]  # torch has no type for it
        return out + self.shortcut(x)


def plain_network(architecture: JointArchitecture) -> nn.Module:
    """The network of an architecture, block by block."""
    filters = architecture.initial_filters
    layers: list[nn.Module] = [nn.Conv2d(3, filters, 3, 1, 1, bias=False), nn.BatchNorm2d(filters)]
    for main in architecture.plan:
        layers += [PlainBlock(block.before, block.width, block.stride) for block in main]
    return nn.Sequential(*layers, nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(architecture.widths[-1], 10))


# ------------------------------------------------------------------------------------------------------- the plain loop


def plain(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], architecture: JointArchitecture, options: argparse.Namespace
) -> Callable[[], int]:
    """The plain side: an epoch, returning its number of steps."""
    device = options.device
    workers = options.workers if device == "cuda" else 0
    loader = DataLoader(
        OneByOne(pixels, AUGMENTATION), options.batch_size, shuffle=True, drop_last=True, num_workers=workers,
        persistent_workers=workers > 0, pin_memory=device == "cuda",
    )  # fmt: skip
    network = plain_network(architecture).to(device)
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    rng = np.random.default_rng(0)

    def epoch() -> int:
        network.train()
        steps = 0
        for images, classes in loader:
            x, y = images.to(device), classes.to(device)
            share = rng.beta(AUGMENTATION.mixup, AUGMENTATION.mixup)
            partner = torch.randperm(len(x), device=device)
            logits = network(share * x + (1 - share) * x[partner])
            loss = share * functional.cross_entropy(logits, y)
            loss = loss + (1 - share) * functional.cross_entropy(logits, y[partner])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            optimizer.step()
            loss.item()
            steps += 1
        return steps

    return epoch


# --------------------------------------------------------------------------------------------------------------- ours


def ours(
    pixels: np.ndarray[Any, np.dtype[np.uint8]], architecture: JointArchitecture, options: argparse.Namespace
) -> Callable[[], int]:
    """Our side: an epoch, returning its number of steps."""
    device = options.device
    images = DeviceImages(
        x=torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2),
        y=(torch.arange(len(pixels)) % 10).to(device),
        mean=torch.tensor(CIFAR10_MEAN, device=device),
        std=torch.tensor(CIFAR10_STD, device=device),
        class_names=tuple("0123456789"),
    )
    recipe = ImageRecipe(learning_rate=0.05, batch_size=options.batch_size, augmentation=AUGMENTATION)
    budget = Budget(amount=1e6)
    run = Run(
        # Missing in torch's stub.
        lambda: JointNetwork(architecture).to(memory_format=recipe.memory_format),  # type: ignore[call-overload]
        recipe, budget, device, ImageTrainingSet(images, recipe), 0, stopwatch_for(device),
    )  # fmt: skip

    def epoch() -> int:
        before = run.clock.steps
        run.train_one_epoch()
        return run.clock.steps - before

    return epoch


# ------------------------------------------------------------------------------------------------------ the comparison


def ms_a_step(epoch: Callable[[], int], device: str) -> tuple[float, float]:
    """CPU and wall milliseconds of a step."""
    cpu, wall = time.process_time(), time.perf_counter()
    steps = epoch()
    if device == "cuda":
        torch.cuda.synchronize()
    return 1_000 * (time.process_time() - cpu) / steps, 1_000 * (time.perf_counter() - wall) / steps


def pixels_of(images: int, *, noise: bool) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8, shape (n, 32, 32, 3): Fashion-MNIST padded and repeated, or noise."""
    if noise:
        return np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    grey = read_images("fashion_mnist").train_x[:images, 0]
    return np.ascontiguousarray(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=-1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="of an epoch, which is what a round measures")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=1, help="in each of three main blocks")
    parser.add_argument("--filters", type=int, default=16, help="of the first convolution and the first main block")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="of the plain side's DataLoader, for a GPU")
    parser.add_argument("--noise", action="store_true", help="noise instead of Fashion-MNIST")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    architecture = JointArchitecture(
        blocks=(options.blocks,) * 3, initial_filters=options.filters, widen_factors=(1.0, 2.0, 2.0),
        branches=(BRANCHES,) * 3,
    )  # fmt: skip
    pixels = pixels_of(options.steps * options.batch_size, noise=options.noise)
    counts = {parameter_count(network) for network in (JointNetwork(architecture), plain_network(architecture))}
    if len(counts) != 1:
        raise SystemExit(f"the two networks differ in size: {counts}")
    print(f"{counts.pop():,} parameters, batch {options.batch_size}, {options.device}, torch {torch.__version__}")
    sides = {"plain": plain(pixels, architecture, options), "ours": ours(pixels, architecture, options)}
    for epoch in sides.values():
        epoch()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, epoch in sides.items():
            taken[name].append(ms_a_step(epoch, options.device))
    for name, times in taken.items():
        cpu, wall = (statistics.median(each) for each in zip(*times, strict=True))
        rate = 1_000 * options.batch_size / wall
        print(f"{name:6} {cpu:8.1f} ms CPU  {wall:8.1f} ms wall a step  {rate:8.0f} images/s")
    kind = 0 if options.device == "cpu" else 1
    ratios = [p[kind] / o[kind] for p, o in zip(taken["plain"], taken["ours"], strict=True)]
    print(f"plain / ours ({('CPU', 'wall')[kind]} time): median {statistics.median(ratios):.2f}, "
          f"pairs {', '.join(f'{ratio:.2f}' for ratio in sorted(ratios))}")  # fmt: skip


if __name__ == "__main__":
    main()
