"""The shipped problem ``digits``: its space, its data, its network, and a training that may be interrupted anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpbandster_lite.problems.checkpoints import load_checkpoint
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.records import CurvePoint
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.workers import digits
from hpbandster_lite.workers.digits.architecture import Architecture
from hpbandster_lite.workers.digits.data import (
    Images,
    images_for_test,
    pixels_for_test,
    training_and_validation,
)
from hpbandster_lite.workers.digits.network import build_network
from hpbandster_lite.workers.digits.training import cosine_with_restarts, shifted, train, validation_loss
from hpbandster_lite.workers.images.trained_classifier import load_model
from hpbandster_lite.workers.training.faults import Diverged
from tests.bits import assert_equal_bit_for_bit

SMALL: dict[str, Any] = {
    "stages": 2, "blocks_1": 1, "blocks_2": 1, "filters": 4, "widening": 1.5, "kernel_size": 3, "residual": True,
    "activation": "relu", "optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 1e-4,
    "batch_size": 128, "dropout": 0.2, "shift": 1,
}  # fmt: skip
ADAMW = {name: value for name, value in SMALL.items() if name != "momentum"} | {"optimizer": "adamw"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For so small a network two threads mostly wait for each other, and a sum in another order has other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def default_configuration() -> Mapping[str, Any]:
    compiled = SearchSpace.from_configspace(digits.space())
    return compiled.to_values(compiled.default()[None])[0]


def trained(directory: Path, epochs: int, config: Mapping[str, Any] = SMALL, **given: Any) -> dict[str, Any]:
    directory.mkdir()
    train(config, epochs, Trial(directory=directory, seed=5, **given))
    state: dict[str, Any] = load_checkpoint(Trial(resume_directory=directory))
    assert state is not None
    return state


# -------------------------------------------------------------------------------------------------------------- space


def test_what_acts_only_in_a_deeper_network_exists_only_there() -> None:
    compiled = SearchSpace.from_configspace(digits.space())
    for values in compiled.to_values(compiled.sample(np.random.default_rng(3), 200)):
        stages = values["stages"]
        assert isinstance(stages, int)
        assert ("blocks_2" in values, "widening" in values) == (stages > 1, stages > 1)
        assert ("blocks_3" in values) == (stages > 2)
        assert ("momentum" in values) == (values["optimizer"] == "sgd")


def test_the_default_configuration_is_feasible_and_learns(tmp_path: Path) -> None:
    config = dict(default_configuration())
    assert digits.feasible(config) is True
    before = digits.evaluate(config, 1, Trial(directory=tmp_path / "1"))
    after = digits.evaluate(config, 3, Trial(directory=tmp_path / "3", previous_directory=tmp_path / "1"))
    assert after["loss"] < before["loss"] < 0.9


def test_a_network_that_is_too_large_is_refused_with_its_size() -> None:
    config = {**SMALL, "stages": 3, "blocks_3": 2, "filters": 24, "widening": 2.0, "kernel_size": 5}
    assert digits.feasible(config) == f"{Architecture.of(config).parameter_count:,} parameters are more than 50,000"


@given(seed=st.integers(0, 2**32 - 1))
def test_the_parameters_are_counted_as_the_network_has_them(seed: int) -> None:
    space = digits.space()
    space.seed(seed)
    architecture = Architecture.of({name: getattr(value, "item", lambda v=value: v)() for name, value in
                                    dict(space.sample_configuration()).items()})  # fmt: skip
    assert architecture.parameter_count == sum(weights.numel() for weights in build_network(architecture).parameters())


# --------------------------------------------------------------------------------------------------------------- data


def test_the_three_parts_share_no_image_and_leave_none_out() -> None:
    parts = (*training_and_validation("cpu"), images_for_test("cpu"))
    assert [len(part.y) for part in parts] == [898, 449, 450]
    rows = torch.cat([part.x.flatten(1) for part in parts])
    # 1,797 images without duplicates.
    assert len(torch.unique(rows, dim=0)) == 1_797


def test_every_class_has_the_same_share_of_each_part() -> None:
    for part in (*training_and_validation("cpu"), images_for_test("cpu")):
        shares = torch.bincount(part.y, minlength=10) / len(part.y)
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def test_training_images_are_of_mean_0_and_deviation_1() -> None:
    images, _ = training_and_validation("cpu")
    assert images.x.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert images.x.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


@given(most=st.integers(0, 2), seed=st.integers(0, 99))
def test_a_shifted_image_is_the_image_moved_with_its_border_repeated(most: int, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.rand(6, 1, 8, 8)
    for before, after in zip(x[:, 0], shifted(x, most)[:, 0], strict=True):
        clamped = [torch.clamp(torch.arange(8) + move, 0, 7) for move in range(-most, most + 1)]
        assert any(torch.equal(after, before[rows][:, columns]) for rows in clamped for columns in clamped)


def test_every_shift_comes_up_equally_often() -> None:
    torch.manual_seed(0)
    image = torch.arange(64.0).reshape(1, 1, 8, 8).expand(9_000, 1, 8, 8)
    corners = shifted(image, 1)[:, 0, 3, 3]
    counts = torch.unique(corners, return_counts=True)[1]
    assert len(counts) == 9
    # The expected count of each is 1,000, with a deviation of 30.
    assert (counts - 1_000).abs().max() < 150


# ----------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("config", [SMALL, ADAMW], ids=["sgd", "adamw"])
def test_training_in_pieces_ends_bit_for_bit_where_training_in_one_go_ends(
    tmp_path: Path, config: Mapping[str, Any]
) -> None:
    straight = trained(tmp_path / "straight", 9, config)
    trained(tmp_path / "1", 1, config)
    trained(tmp_path / "3", 3, config, previous_directory=tmp_path / "1")
    pieces = trained(tmp_path / "9", 9, config, previous_directory=tmp_path / "3")
    assert_equal_bit_for_bit(pieces, straight)


def test_an_interrupted_attempt_is_continued_from_its_last_report(tmp_path: Path) -> None:
    trained(tmp_path / "below", 1)
    below, first, second = tmp_path / "below", tmp_path / "first", tmp_path / "second"
    stopped = Trial(directory=first, seed=5, previous_directory=below, on_report=lambda point: point.step == 3)
    with pytest.raises(Interrupted):
        train(SMALL, 5, stopped)
    result = train(SMALL, 5, Trial(directory=second, seed=5, previous_directory=below, resume_directory=first))
    assert result["epochs_trained"] == 2
    assert_equal_bit_for_bit(load_checkpoint(Trial(resume_directory=second)), trained(tmp_path / "straight", 5))


def test_the_same_seed_gives_the_same_loss_and_another_one_another(tmp_path: Path) -> None:
    losses = [train(SMALL, 1, Trial(directory=tmp_path, seed=seed))["loss"] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(("config", "loss"), [(SMALL, 0.8610838652536416), (ADAMW, 0.8432639503248248)])
def test_a_training_has_the_loss_that_version_0_1_0_recorded(
    config: Mapping[str, Any], loss: float, tmp_path: Path
) -> None:
    # Bit for bit on one machine; on another machine one or two of 449 images may get another class.
    assert train(config, 1, Trial(directory=tmp_path, seed=5))["loss"] == pytest.approx(loss, abs=0.01)


def test_a_learning_curve_has_a_point_for_the_end_of_each_rung(tmp_path: Path) -> None:
    points: list[tuple[float, float]] = []

    def take(point: CurvePoint) -> bool:
        points.append((point.step, point.loss))
        return False

    result = train(SMALL, 3, Trial(directory=tmp_path, on_report=take))
    assert [step for step, _ in points] == [1, 3]
    assert points[-1][1] == result["loss"]


def test_an_attempt_that_must_stop_saves_between_two_epochs_and_is_continued_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpbandster_lite.problems.trial.ASK_EVERY_S", 0.0)
    answers = iter([False, False, False, False, True])
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(Interrupted):
        train(SMALL, 9, Trial(directory=first, seed=5, must_stop=lambda: next(answers)))
    assert load_checkpoint(Trial(resume_directory=first))["epoch"] == 4
    train(SMALL, 9, Trial(directory=second, seed=5, resume_directory=first))
    assert_equal_bit_for_bit(load_checkpoint(Trial(resume_directory=second)), trained(tmp_path / "straight", 9))


def test_the_test_figures_come_from_the_checkpoint_or_from_training_again(tmp_path: Path) -> None:
    trained(tmp_path / "kept", 2)
    kept = digits.test(SMALL, 2, Trial(previous_directory=tmp_path / "kept", seed=5))
    assert kept == digits.test(SMALL, 2, Trial(seed=5))
    assert 0 < kept["test_error_percent"] < 90


def test_the_learning_rate_starts_anew_at_each_rung_and_is_spent_before_it() -> None:
    for rung in (1, 3, 9, 27):
        assert cosine_with_restarts(rung) == 1.0
        assert cosine_with_restarts(rung - 1e-6) == pytest.approx(0.0, abs=1e-9)
    assert cosine_with_restarts(0) == 1.0
    assert cosine_with_restarts(18) == pytest.approx(0.5)


class Answers(nn.Module):
    """A network with given logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits


def test_one_error_less_wins_whatever_the_cross_entropy() -> None:
    n = 449
    images = Images(torch.zeros(n, 1, 8, 8), torch.zeros(n, dtype=torch.int64))
    unsure = torch.zeros(n, 10)
    unsure[:, 0] = 1e-3
    sure = torch.zeros(n, 10)
    sure[:, 0] = 50.0
    sure[0] = torch.eye(10)[1]
    assert validation_loss(Answers(unsure), images)[0] < validation_loss(Answers(sure), images)[0]


def test_a_diverged_network_has_no_loss_although_its_outputs_name_a_class() -> None:
    images = Images(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(Diverged, match="cross-entropy of the network on 4 images is nan"):
        validation_loss(Answers(torch.full((4, 10), math.nan)), images)


# ------------------------------------------------------------------------------------------------------ a model to keep


def test_a_refit_keeps_a_model_that_is_tested_as_it_is_deployed(tmp_path: Path) -> None:
    points: list[CurvePoint] = []

    def note(point: CurvePoint) -> bool:
        points.append(point)
        return False

    figures = digits.refit(SMALL, 2, Trial(budget=2, directory=tmp_path, seed=3, on_report=note))
    model = load_model(tmp_path / figures["model"])
    pixels = pixels_for_test()
    wrong = sum(name != str(int(y)) for name, y in zip(model.classify(pixels.x).names, pixels.y, strict=True))
    assert 100 * wrong / figures["test_images"] == pytest.approx(figures["test_error_percent"])
    low, high = figures["test_error_interval_percent"]
    assert low <= figures["test_error_percent"] <= high
    assert [point.step for point in points] == [1, 2]
    assert points[1].loss < points[0].loss


def test_a_refit_that_was_interrupted_continues_bit_for_bit(tmp_path: Path) -> None:
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    digits.refit(SMALL, 3, Trial(budget=3, directory=whole, seed=3))
    with pytest.raises(Interrupted):
        digits.refit(SMALL, 3, Trial(budget=3, directory=first, seed=3, on_report=lambda point: point.step == 2))
    digits.refit(SMALL, 3, Trial(budget=3, directory=second, seed=3, resume_directory=first))
    one, other = (load_model(folder / "model.pt").state_dict() for folder in (whole, second))
    assert_equal_bit_for_bit(dict(one), dict(other))


def test_the_model_of_a_refit_is_exported(tmp_path: Path) -> None:
    digits.refit(SMALL, 1, Trial(budget=1, directory=tmp_path, seed=3))
    found = digits.export(tmp_path, tmp_path / "digits.pt2")
    assert found["largest_difference"] <= found["tolerance"]


def test_pixels_of_a_picture_are_scaled_as_the_search_scaled_them() -> None:
    pixels, images = pixels_for_test(), images_for_test("cpu")
    scaled = (pixels.x.float() - pixels.mean) / pixels.std
    # A pixel from 0 to 255 is rounded: at most half a unit, in standard deviations.
    assert float((scaled - images.x).abs().max()) <= 0.51 / float(pixels.std)
