"""Statistics of batch normalisation that are estimated before a judgement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from hpbandster_lite.workers.networks.branches import Branches, Layout
from hpbandster_lite.workers.training.clock import HostStopwatch
from hpbandster_lite.workers.training.loop import Run
from hpbandster_lite.workers.training.norm_statistics import estimate, kept
from hpbandster_lite.workers.training.points import Point
from hpbandster_lite.workers.training.recipe import NormStatistics, Recipe
from hpbandster_lite.workers.training.schedule import Budget
from tests.bits import assert_equal_bit_for_bit
from tests.unit.test_training_loop import RECIPE, Rows, table


def inputs(batches: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [3 + 2 * torch.randn(shape, generator=generator) for _ in range(batches)]


def normalised_rows() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))


def test_the_statistics_become_the_means_of_those_of_the_batches() -> None:
    network, batches = normalised_rows(), inputs(7, 8, 3)
    network[0].running_mean.fill_(1e6)  # type: ignore[index] # a Sequential of layers
    estimate(network, batches)
    layer = network[0]  # type: ignore[index]  # a sequence of layers
    assert torch.allclose(layer.running_mean, torch.stack([batch.mean(dim=0) for batch in batches]).mean(dim=0))
    assert torch.allclose(layer.running_var, torch.stack([batch.var(dim=0) for batch in batches]).mean(dim=0))


@pytest.mark.parametrize("layout", ["separate", "wide", "grouped"])
def test_branches_have_the_same_statistics_in_every_layout(layout: Layout) -> None:
    branches, batches = Branches(4, 6, 1, 3, layout=layout), inputs(5, 8, 4, 5, 5)
    estimate(branches, batches)
    with torch.no_grad():
        first = [branches.first(batch) for batch in batches]
    expected = torch.stack([x.mean(dim=(0, 2, 3)) for x in first]).mean(dim=0)
    assert torch.allclose(branches.first_norm.running_mean, expected, atol=1e-5)  # type: ignore[arg-type] # not None


def test_the_estimate_is_not_random_and_restores_the_layers() -> None:
    network = normalised_rows().train()
    before = torch.get_rng_state()
    estimate(network, inputs(2, 8, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(layer.training for layer in network.modules())
    assert network[0].momentum == 0.1  # type: ignore[index]  # a sequence of layers


def test_the_layers_are_restored_if_a_pass_fails() -> None:
    network = normalised_rows()
    former = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(RuntimeError), kept(network):
        estimate(network, [*inputs(1, 8, 3), torch.zeros(2, 2)])
    assert network[0].momentum == 0.1  # type: ignore[index]  # a sequence of layers
    assert_equal_bit_for_bit(dict(network.state_dict()), former)


# ------------------------------------------------------------------------------------------------------- in a training


class Counted(Rows):
    """A table that counts the batches of each pass."""

    asked: ClassVar[list[int]] = []

    def inputs(self, seed: int, most: int) -> Iterator[torch.Tensor]:
        self.asked.append(most)
        yield from super().inputs(seed, most)


def run_of(statistics: NormStatistics, *, epochs: int = 2) -> Run:
    Counted.asked.clear()
    recipe: Recipe = replace(RECIPE, norm_statistics=statistics)
    rows = Counted(table(64, 1).x)
    return Run(normalised_rows, recipe, Budget(amount=epochs), "cpu", rows, 5, HostStopwatch())


def outputs(run: Run) -> torch.Tensor:
    with torch.no_grad():
        outputs: torch.Tensor = run.network(table(20, 2).x)
    return outputs


def test_a_judgement_changes_nothing_in_the_training() -> None:
    run = run_of("estimated")
    run.train_one_epoch()
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    generator = torch.get_rng_state()
    run.judged_by(outputs)
    assert_equal_bit_for_bit(dict(run.network.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_judgement_does_not_depend_on_the_running_statistics_unless_the_recipe_keeps_them() -> None:
    for statistics, differs in (("estimated", False), ("running", True)):
        run = run_of(statistics)  # type: ignore[arg-type] # one of the two
        run.train_one_epoch()
        run.network.eval()
        one = run.judged_by(outputs)
        run.network[0].running_mean.add_(1.0)  # type: ignore[index]  # a sequence of layers
        assert torch.equal(run.judged_by(outputs), one) is not differs


def test_the_judgement_that_ends_the_rung_takes_more_batches_than_the_others() -> None:
    run = run_of("estimated", epochs=2)
    for point in (Point(1, 10), Point(2)):
        assert run.train_to_next([point]) == point
        run.judged_by(outputs, point)
        run.end_point()
    assert Counted.asked == [10, 100]


def test_a_recipe_that_keeps_the_running_statistics_makes_no_pass() -> None:
    run = run_of("running")
    run.train_one_epoch()
    run.judged_by(outputs)
    assert Counted.asked == []
