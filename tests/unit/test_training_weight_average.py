"""The exponential average of weights, and clipped gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from hpbandster_lite.workers.training.clock import HostStopwatch
from hpbandster_lite.workers.training.loop import Run
from hpbandster_lite.workers.training.schedule import Budget
from hpbandster_lite.workers.training.weight_average import WeightAverage
from tests.unit.test_training_loop import RECIPE, Rows, table


def test_the_average_moves_towards_the_weights_by_more_in_the_first_steps() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 0.0)
    average = WeightAverage(layer, 0.5)
    expected = 0.0
    for step, value in enumerate((4.0, 2.0, 8.0, -1.0, 3.0, 5.0, 7.0, 1.0, 2.0, 9.0), start=1):
        nn.init.constant_(layer.weight, value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.values[0].item() == pytest.approx(expected, rel=1e-6)


def test_running_statistics_are_averaged_with_the_weights() -> None:
    network = nn.BatchNorm1d(1)
    average = WeightAverage(network, 0.9)
    network.running_mean.fill_(11.0)  # type: ignore[union-attr]  # it has one
    average.update(1)
    with average.taken():
        assert network.running_mean.item() == pytest.approx(9.0)  # type: ignore[union-attr]  # it has one
    assert network.running_mean.item() == 11  # type: ignore[union-attr]  # it has one


class Layer(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight)


def weight_of(run: Run) -> torch.Tensor:
    return next(run.network.parameters()).detach().clone()


def run_of(**changed: float) -> Run:
    recipe = replace(RECIPE, weight_decay=0.0, momentum=0.0, **changed)  # type: ignore[arg-type]  # numbers alone
    rows = Rows(table(64, 1).x)
    return Run(Layer, recipe, Budget(amount=1), "cpu", rows, 5, HostStopwatch())


def test_a_judge_sees_the_average_and_the_training_goes_on_with_its_own_weights() -> None:
    run, plain = run_of(average_decay=0.99), run_of()
    for each in (run, plain):
        each.train_one_epoch()
    own = weight_of(run)
    assert torch.equal(own, weight_of(plain))
    seen = run.judged_by(weight_of)
    assert torch.equal(seen, run.state()["average"][0])
    assert not torch.equal(seen, own)
    assert torch.equal(weight_of(run), own)


def test_the_weights_are_restored_if_a_judge_fails() -> None:
    run = run_of(average_decay=0.9)
    run.train_one_epoch()
    own = weight_of(run)
    with pytest.raises(ZeroDivisionError):
        run.judged_by(lambda run: 1 / 0)
    assert torch.equal(weight_of(run), own)


def test_a_step_is_at_most_as_long_as_the_clipped_gradient_allows() -> None:
    lengths = []
    for clip_norm in (0.0, 1e-3):
        run = run_of(clip_norm=clip_norm, learning_rate=1.0)
        before = [each.detach().clone() for each in run.network.parameters()]
        steps = run.steps_per_epoch
        run.train_one_epoch()
        moved = [after.detach() - was for after, was in zip(run.network.parameters(), before, strict=True)]
        lengths.append(sum(float(each.square().sum()) for each in moved) ** 0.5 / steps)
    assert lengths[0] > 1e-2
    assert lengths[1] <= 1e-3 * 1.001
