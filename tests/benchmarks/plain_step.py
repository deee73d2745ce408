"""One training step of our networks on one core, beside a careful plain implementation.

Claim: a step of the joint network (arXiv:1807.06906; 1, 2 or 3 branches, the paper's shortcut) takes at most 0.9 of the
CPU time of the plain step, and a step of WRN-16-1 and WRN-28-2 at most the same time, in float32 and in bfloat16.

Evidence: docs/benchmarks.md. Usage::

    python tests/benchmarks/plain_step.py [joint-1 joint-2 joint-3 wrn-16-1 wrn-28-2] [--precision fp32 bf16]
        [--rounds 15] [--batch-size 64] [--shortcut slices]

The plain side is what a user of torch writes who knows its advice: channels_last, a fused optimizer, each branch
evaluated once, one ReLU for all branches of a block, in-place ReLUs, and Shake-Shake as an autograd function. By
default its shortcut shifts images by a negative padding, whose gradient keeps the memory format; ``--shortcut slices``
shifts them by slices, as the released code does, which takes longer. Both sides train on one batch that is in memory,
with the same precision, and read the loss after each step. Each side has a process of its own, on one core, and the two
run in turn; the figure is the median of the ratios of their turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

CASES = ("joint-1", "joint-2", "joint-3", "wrn-16-1", "wrn-28-2")
PRECISIONS = ("fp32", "bf16")
WARM_UP = 3
DEATH_RATE = 0.5


# ----------------------------------------------------------------------------------------------------------- the sides


def plain_epoch(case: str, options: argparse.Namespace) -> Callable[[], int]:
    """The plain side: some steps."""
    import torch
    from torch.nn import functional

    from tests.benchmarks.plain_networks import plain_joint, plain_wide

    torch.manual_seed(0)
    kind, *numbers = case.split("-")
    if kind == "joint":
        network = plain_joint(_architecture(int(numbers[0])), shortcut=options.shortcut, death_rate=DEATH_RATE)
    else:
        network = plain_wide(*map(int, numbers))
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's stub
    optimizer = torch.optim.SGD(
        network.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    x, y = _batch(options.batch_size)

    def epoch() -> int:
        for _ in range(options.steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision[0] == "bf16"):
                loss = functional.cross_entropy(network(x), y)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            optimizer.step()
            loss.item()
        steps: int = options.steps
        return steps

    return epoch


def our_epoch(case: str, options: argparse.Namespace) -> Callable[[], int]:
    """Our side: some steps of the training loop."""
    import torch

    from hpbandster_lite.workers.networks.joint_network import JointNetwork
    from hpbandster_lite.workers.networks.wide_resnet import WideResNet
    from hpbandster_lite.workers.training.clock import stopwatch_for
    from hpbandster_lite.workers.training.loop import Run
    from hpbandster_lite.workers.training.recipe import Recipe
    from hpbandster_lite.workers.training.schedule import Budget
    from hpbandster_lite.workers.training.torch_switches import process_settings

    kind, *numbers = case.split("-")

    def build() -> Any:
        if kind == "joint":
            network: Any = JointNetwork(_architecture(int(numbers[0])))
        else:
            network = WideResNet(*map(int, numbers))
        return network.to(memory_format=torch.channels_last)

    process_settings("cpu", deterministic=False, tf32=True).__enter__()
    recipe = Recipe(learning_rate=0.05, batch_size=options.batch_size, precision=options.precision[0])
    training_set = OneBatch(*_batch(options.batch_size), steps=options.steps)
    run = Run(build, recipe, Budget(amount=1e9), "cpu", training_set, 0, stopwatch_for("cpu"))

    def epoch() -> int:
        before = run.clock.steps
        run.train_one_epoch()
        return run.clock.steps - before

    return epoch


class OneBatch:
    """A training set whose batches are all the same."""

    noun = "images"

    def __init__(self, x: Any, y: Any, *, steps: int) -> None:
        self._x, self._y, self._steps = x, y, steps

    def __len__(self) -> int:
        return len(self._y) * self._steps

    def batches(self, seed: int, epoch: int, first_step: int) -> Iterator[Callable[[Any], Any]]:
        for _ in range(first_step, self._steps):
            yield partial(_loss, self._x, self._y)

    def inputs(self, seed: int, most: int) -> Iterator[Any]:
        yield self._x


def _loss(x: Any, y: Any, forward: Callable[[Any], Any]) -> Any:
    from torch.nn import functional

    return functional.cross_entropy(forward(x), y)


def _batch(size: int) -> tuple[Any, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(10, (size,), generator=generator)


def _architecture(branches: int) -> Any:
    from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture

    return JointArchitecture(
        blocks=(1, 1, 1), initial_filters=16, widen_factors=(1.0, 2.0, 2.0), branches=(branches,) * 3,
        death_rate=DEATH_RATE,
    )  # fmt: skip


SIDES = {"plain": plain_epoch, "ours": our_epoch}


# ------------------------------------------------------------------------------------------------------ the comparison


def serve(side: str, case: str, options: argparse.Namespace) -> None:
    """Run some steps for each line of the standard input, and print the CPU milliseconds of one."""
    import torch

    torch.set_num_threads(1)
    epoch = SIDES[side](case, options)
    for _ in range(WARM_UP):
        epoch()
    for _ in sys.stdin:
        began = time.process_time()
        steps = epoch()
        print(1_000 * (time.process_time() - began) / steps, flush=True)


def compared(case: str, precision: str, arguments: list[str], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds of a step of each side, turn by turn."""
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    processes = {
        side: subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.plain_step", case, "--precision", precision, "--side", side,
             *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for side in SIDES
    }  # fmt: skip
    for number in range(rounds):
        for side in list(SIDES)[:: 1 if number % 2 else -1]:
            ask, answers = processes[side].stdin, processes[side].stdout
            assert ask is not None
            assert answers is not None
            print("go", file=ask, flush=True)
            taken[side].append(float(answers.readline()))
    for process in processes.values():
        process.communicate()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=2, help="of a turn")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shortcut", choices=("padding", "slices"), default="padding", help="of the plain side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.side:
        serve(options.side, options.cases[0], options)
        return
    arguments = ["--steps", str(options.steps), "--batch-size", str(options.batch_size)]
    arguments += ["--shortcut", options.shortcut]
    for case in options.cases:
        for precision in options.precision:
            taken = compared(case, precision, arguments, options.rounds)
            ratios = [ours / plain for plain, ours in zip(taken["plain"], taken["ours"], strict=True)]
            lowest = min(taken["ours"]) / min(taken["plain"])
            print(
                f"{case:9} {precision}  plain {statistics.median(taken['plain']):7.1f} ms  "
                f"ours {statistics.median(taken['ours']):7.1f} ms  ours / plain: median {statistics.median(ratios):.2f}"
                f", of the lowest times {lowest:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
