"""The loop trains on any kind of examples: here on rows of a table, with a squared error."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems.checkpoints import load_checkpoint
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.records import CurvePoint
from hpbandster_lite.workers.training import loop
from hpbandster_lite.workers.training.clock import HostStopwatch
from hpbandster_lite.workers.training.loop import BatchLoss, Forward, Judgement, Run, refit, train
from hpbandster_lite.workers.training.recipe import Recipe
from hpbandster_lite.workers.training.schedule import Budget
from tests.bits import assert_equal_bit_for_bit

TRAINING = Path(__file__).parents[2] / "workers" / "training"
RECIPE = Recipe(learning_rate=0.05, batch_size=8, schedule="cosine", weight_decay=0.0, fills_last_batch=False)


@dataclass(frozen=True)
class Rows:
    """A table whose last column is the sum of the others."""

    x: torch.Tensor
    noun = "rows"

    def __len__(self) -> int:
        return len(self.x)

    def batches(self, seed: int, epoch: int, first_step: int) -> Iterator[BatchLoss]:
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(self.x)))
        for step in range(first_step, len(self.x) // RECIPE.batch_size):
            rows = self.x[order[step * RECIPE.batch_size : (step + 1) * RECIPE.batch_size]]
            yield partial(squared_error, rows)

    def inputs(self, seed: int, most: int) -> Iterator[torch.Tensor]:
        for step in range(min(most, len(self.x) // RECIPE.batch_size)):
            yield self.x[step * RECIPE.batch_size : (step + 1) * RECIPE.batch_size]


def squared_error(rows: torch.Tensor, forward: Forward) -> torch.Tensor:
    return functional.mse_loss(forward(rows), rows.sum(dim=1, keepdim=True))


def table(n: int, seed: int) -> Rows:
    return Rows(torch.randn((n, 3), generator=torch.Generator().manual_seed(seed)))


def network() -> nn.Module:
    return nn.Linear(3, 1)


def ticking() -> HostStopwatch:
    """A clock on which each step takes a second."""
    return HostStopwatch(partial(next, count(0.0, 1.0)))


@torch.inference_mode()
def judge(run: Run) -> Judgement:
    loss = float(squared_error(table(50, 2).x, run.network))
    return Judgement(loss, {"root": loss**0.5})


def trained(directory: Path, budget: float, **given: Any) -> dict[str, Any]:
    trial = Trial(budget=budget, directory=directory, seed=4, **given)
    return train(network, RECIPE, Budget(amount=budget), trial, table(64, 1), judge, new_stopwatch=ticking)


def noting(points: list[CurvePoint]) -> Callable[[CurvePoint], bool]:
    def note(point: CurvePoint) -> bool:
        points.append(point)
        return False

    return note


def test_a_network_learns_from_a_table(tmp_path: Path) -> None:
    points: list[CurvePoint] = []
    result = trained(tmp_path, 10, on_report=noting(points))
    assert result["loss"] < 1e-2 < points[0].loss
    assert result["root"] == points[-1].metrics["root"] == result["loss"] ** 0.5
    assert result["rows_per_s"] > 0


def test_an_interrupted_training_ends_bit_for_bit_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 5)
    with pytest.raises(Interrupted):
        trained(tmp_path / "first", 5, on_report=lambda point: point.step == 2)
    again = trained(tmp_path / "second", 5, resume_directory=tmp_path / "first")
    assert (again["loss"], again["continued_from"]) == (whole["loss"], 2.0)
    second, straight = (Trial(resume_directory=tmp_path / name) for name in ("second", "whole"))
    assert_equal_bit_for_bit(load_checkpoint(second), load_checkpoint(straight))


def test_the_checkpoint_is_judged_again_without_training(tmp_path: Path) -> None:
    loss = trained(tmp_path, 3)["loss"]
    kept = Trial(previous_directory=tmp_path, seed=4)
    assert loop.test(network, RECIPE, Budget(amount=3), kept, table(64, 1), judge).loss == loss


def test_a_refit_returns_the_network_and_the_judge_s_result(tmp_path: Path) -> None:
    trial = Trial(directory=tmp_path, seed=4)
    done = refit(network, RECIPE, Budget(amount=3), trial, table(64, 1), judge)
    assert done.judged.loss == pytest.approx(squared_error(table(50, 2).x, done.network).item())


def test_too_few_examples_are_refused_with_their_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"7 training rows do not fill a batch of batch_size=8; use a smaller"):
        train(network, RECIPE, Budget(amount=1), Trial(directory=tmp_path), table(7, 1), judge)


def test_training_imports_neither_images_nor_networks() -> None:
    for file in TRAINING.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                assert not module.startswith("hpbandster_lite.workers") or ".workers.training" in module, file
