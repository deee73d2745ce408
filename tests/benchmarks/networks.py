"""Time of training steps on one CPU thread: layouts of branches, branches once or twice, block types of wide ResNets.

Law of this file: the compared variants run in turn, and the figure is the ratio of their lowest CPU times, so that
other processes of the machine disturb all variants alike.

Evidence: docs/benchmarks.md and, for block types, docs/images.md. Usage::

    OMP_NUM_THREADS=1 python tests/benchmarks/networks.py [layouts] [joint] [blocks] [--repeat 5] [--batch 32]

``layouts``: forward and backward pass of one block, by channels and branches, in each layout relative to ``separate``.
``joint``: a step of the joint network relative to a plain network with the same parameters that evaluates its branches
twice, as the released code of arXiv:1807.06906 does, and stacks them before it mixes them, in torch's default memory
format.
``blocks``: a step of wide ResNets with the block types of arXiv:1605.07146's Table 2, relative to B(3,3)-28.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.workers.networks.branches import Branches, Factors, MixedBlock, MixedStage
from hpbandster_lite.workers.networks.joint_architecture import JointArchitecture
from hpbandster_lite.workers.networks.joint_network import JointNetwork
from hpbandster_lite.workers.networks.shake_shake import ShakeShake
from hpbandster_lite.workers.networks.wide_resnet import WideResNet

LAYOUTS = ("separate", "wide", "grouped")
WIDTHS = ((8, 32), (16, 32), (32, 32), (64, 16), (128, 8))
"""Channels, and the side of the feature maps at this width."""
BLOCK_TYPES = {"B(3,3)-28": (28, "3,3"), "B(3,1,3)-22": (22, "3,1,3"), "B(3,1,1)-40": (40, "3,1,1"),
               "B(1,3,1)-40": (40, "1,3,1"), "B(3,1)-40": (40, "3,1"), "B(1,3)-40": (40, "1,3")}  # fmt: skip


class TwiceEvaluatedBlock(MixedBlock):
    """A block of the released code: an unused sum of all branches, their second evaluation, and a mixed stack."""

    def forward(self, x: torch.Tensor, factors: Factors | float) -> torch.Tensor:
        activated = functional.relu(x)
        shortcut = x if self.two_paths is None else self.two_paths(x, activated)
        sum(self.branches(activated))
        if isinstance(factors, float):
            return shortcut + factors * torch.stack(tuple(self.branches(activated))).sum(0)
        branches = torch.stack(tuple(self.branches(activated)))
        forward, backward = factors
        return shortcut + (branches * backward + (branches * (forward - backward)).detach()).sum(0)


def plain(network: JointNetwork) -> JointNetwork:
    """The same network with blocks that evaluate their branches twice."""
    for module in network.modules():
        if isinstance(module, MixedBlock):
            module.__class__ = TwiceEvaluatedBlock
        if isinstance(module, Branches):
            module._layout = "separate"
    return network


def step(network: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """A function that runs a training step without the optimiser."""

    def run() -> None:
        network.zero_grad(set_to_none=True)
        network(x).square().mean().backward()

    return run


def lowest_ms(calls: Mapping[str, Callable[[], None]], repeat: int) -> dict[str, float]:
    """Lowest CPU milliseconds of each call; they take turns, and the first turn warms up."""
    lowest = dict.fromkeys(calls, float("inf"))
    for turn in range(repeat + 1):
        for name, call in calls.items():
            began = time.process_time()
            call()
            took = 1_000 * (time.process_time() - began)
            if turn:
                lowest[name] = min(lowest[name], took)
    return lowest


def print_ratios(title: str, lowest: Mapping[str, float], *, to: str) -> None:
    """Print all times relative to one of them."""
    given = "  ".join(f"{name} {ms / lowest[to]:.2f}" for name, ms in lowest.items())
    print(f"{title:24} {lowest[to]:8.1f} ms  {given}", flush=True)


def channels_last(thing: Any) -> Any:
    return thing.to(memory_format=torch.channels_last)


def layouts(batch: int, repeat: int) -> None:
    for width, side in WIDTHS:
        for branches in (2, 3, 5):
            x = channels_last(torch.randn(batch, width, side, side))
            calls = {}
            for layout in LAYOUTS:
                # Read from a table.
                block = MixedBlock(width, width, 1, branches, layout=layout)  # type: ignore[arg-type]
                calls[layout] = step(channels_last(MixedStage([block], ShakeShake(branches))), x)
            print_ratios(f"{branches} branches of {width} at {side}", lowest_ms(calls, repeat), to="separate")


def joint(batch: int, repeat: int) -> None:
    for blocks, filters, branches in (((1, 1, 1), 16, 3), ((2, 2, 2), 16, 2), ((2, 2, 2), 8, 5), ((3, 3, 3), 16, 1)):
        architecture = JointArchitecture(
            blocks=blocks, initial_filters=filters, widen_factors=(1, 2, 2), branches=(branches,) * 3, death_rate=0.5
        )
        x = torch.randn(batch, 3, 32, 32)
        calls = {
            "joint": step(channels_last(JointNetwork(architecture)), channels_last(x)),
            "plain": step(plain(JointNetwork(architecture)), x),
        }
        print_ratios(f"{blocks} from {filters} x {branches}", lowest_ms(calls, repeat), to="joint")


def block_types(batch: int, repeat: int) -> None:
    x = channels_last(torch.randn(batch, 3, 32, 32))
    calls = {
        name: step(channels_last(WideResNet(depth, 2, block=block)), x) for name, (depth, block) in BLOCK_TYPES.items()
    }
    print_ratios("wide ResNets, k = 2", lowest_ms(calls, repeat), to="B(3,3)-28")


def main() -> None:
    parts: dict[str, Callable[[int, int], None]] = {"layouts": layouts, "joint": joint, "blocks": block_types}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; all if none is named")
    parser.add_argument("--repeat", type=int, default=5, help="turns that count (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images of a step (default: %(default)s)")
    given = parser.parse_args()
    if not set(given.parts) <= set(parts):
        parser.error(f"parts are {', '.join(parts)}, got {' '.join(given.parts)}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name in given.parts or parts:
        parts[name](given.batch, given.repeat)


if __name__ == "__main__":
    main()
