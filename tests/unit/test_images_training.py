"""Training of image classifiers: the contents of a checkpoint, the budget, the reports, and failures."""

from __future__ import annotations

import errno
import gc
import math
import os
import stat
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import FunctionProblem, checkpoints
from hpbandster_lite.problems.checkpoints import load_checkpoint
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, Failure, FailureKind
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.messages import TrainerEnded, TrainerOrder
from hpbandster_lite.workers.images import training
from hpbandster_lite.workers.images.augmentation import Augmentation
from hpbandster_lite.workers.images.device_images import DeviceImages, Sides
from hpbandster_lite.workers.images.error_interval import ErrorRate
from hpbandster_lite.workers.images.figures import figures_of
from hpbandster_lite.workers.images.metrics import Scoring
from hpbandster_lite.workers.images.training import (
    ImageRecipe,
    ImageTrainingSet,
    Judged,
    balanced_weights,
    judged,
    refit,
    train,
    train_folds,
)
from hpbandster_lite.workers.training import loop, saves
from hpbandster_lite.workers.training.clock import HostStopwatch
from hpbandster_lite.workers.training.faults import Diverged, OutOfMemory
from hpbandster_lite.workers.training.loop import Run, pays_to_compile
from hpbandster_lite.workers.training.recipe import Precision
from hpbandster_lite.workers.training.schedule import Budget
from tests.bits import assert_equal_bit_for_bit


def images_of(n: int, seed: int) -> DeviceImages:
    """Images of noise whose brightest quarter is their class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (n,), generator=generator)
    x = torch.randint(0, 100, (n, 3, 8, 8), generator=generator)
    for row, quarter in enumerate(y.tolist()):
        down, right = 4 * (quarter // 2), 4 * (quarter % 2)
        x[row, :, down : down + 4, right : right + 4] += 100
    pixels = x.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    return DeviceImages(
        x=pixels, y=y, mean=torch.full((3,), 75.0), std=torch.full((3,), 50.0), class_names=("nw", "ne", "sw", "se")
    )


TRAIN, VALIDATION = images_of(70, 1), images_of(40, 2)
"""Four batches of 16 an epoch; each epoch omits six images."""
RECIPE = ImageRecipe(
    learning_rate=0.1, batch_size=16, schedule="nested", fills_last_batch=False,
    augmentation=Augmentation(pad=1, mirror=False, cutout=3, mixup=0.3), label_smoothing=0.05,
)  # fmt: skip


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout2d(0.2),
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip


class Ticks:
    """A clock on which each step takes a quarter of a second, and everything else no time."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 0.25
        return self._now


def ticking() -> HostStopwatch:
    return HostStopwatch(Ticks())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For so small a network two threads mostly wait for each other, and a sum in another order has other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def evaluated(
    directory: Path,
    budget: Budget,
    recipe: ImageRecipe = RECIPE,
    *,
    build: Callable[[], nn.Module] = network,
    **given: Any,
) -> dict[str, Any]:
    how = {name: given.pop(name) for name in ("repeats", "scoring") if name in given}
    trial = Trial(budget=budget.amount, directory=directory, seed=5, **given)
    return train(build, recipe, budget, trial, TRAIN, VALIDATION, new_stopwatch=ticking, **how)


def untrained(recipe: ImageRecipe = RECIPE, state: dict[str, Any] | None = None) -> Run:
    return Run(network, recipe, Budget(amount=1), "cpu", ImageTrainingSet(TRAIN, recipe), 5, ticking(), state)


def noting(points: list[CurvePoint]) -> Callable[[CurvePoint], bool]:
    """A listener that stores the points and lets the training continue."""

    def note(point: CurvePoint) -> bool:
        points.append(point)
        return False

    return note


def parameters_in_memory() -> int:
    gc.collect()
    return sum(type(thing) is nn.Parameter for thing in gc.get_objects())


def failure_by(error: BaseException) -> Failure:
    """The trainer's class of an error."""

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        raise error

    order = TrainerOrder(
        evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, values={}, budget=1.0, max_budget=1.0, unit="epochs",
        seed=0, directory="/nowhere", previous_directory=None, resume_directory=None,
    )  # fmt: skip
    end = run_objective(FunctionProblem(evaluate), order, on_report=lambda point: False)
    assert isinstance(end, TrainerEnded)
    assert end.failure is not None
    return end.failure


def saved(directory: Path) -> dict[str, Any]:
    state: dict[str, Any] = load_checkpoint(Trial(resume_directory=directory))
    assert state is not None
    return state


# -------------------------------------------------------------------------------------------------------- continuation


STEADIED: dict[str, Any] = {"clip_norm": 0.5, "average_decay": 0.9, "norm_statistics": "running"}


@pytest.mark.parametrize(
    "changed",
    [{}, {"channels_last": False}, {"optimizer": "adamw"}, STEADIED, {**STEADIED, "norm_statistics": "estimated"}],
    ids=["sgd", "channels_first", "adamw", "averaged_with_running_statistics", "averaged"],
)
def test_rungs_that_continue_end_bit_for_bit_where_one_training_ends(changed: dict[str, Any], tmp_path: Path) -> None:
    recipe = replace(RECIPE, learning_rate=0.01, **changed)
    ladder = [Budget.on((1, 3, 7), amount, "epochs") for amount in (1, 3, 7)]
    whole = evaluated(tmp_path / "whole", ladder[-1], recipe)
    below: Path | None = None
    last: dict[str, Any] = {}
    for budget in ladder:
        here = tmp_path / f"{budget.amount}"
        last = evaluated(here, budget, recipe, previous_directory=below)
        below = here
    assert_equal_bit_for_bit(saved(tmp_path / "7"), saved(tmp_path / "whole"))
    assert (last["loss"], last["continued_from"], whole["continued_from"]) == (whole["loss"], 3.0, 0.0)


def test_with_a_given_clock_rungs_of_seconds_continue_bit_for_bit_within_an_epoch(tmp_path: Path) -> None:
    # An epoch is a second: the lower rung ends after one and a half.
    low, high = (Budget.on((1.5, 4.5), amount, "seconds") for amount in (1.5, 4.5))
    evaluated(tmp_path / "low", low)
    assert saved(tmp_path / "low")["steps"] == 6
    evaluated(tmp_path / "high", high, previous_directory=tmp_path / "low")
    evaluated(tmp_path / "whole", high)
    assert_equal_bit_for_bit(saved(tmp_path / "high"), saved(tmp_path / "whole"))


def stopping_after(looks: int) -> Callable[[], bool]:
    """Answers whether to stop: from the look with this number on."""
    counted = count(1)
    return lambda: next(counted) >= looks


@pytest.fixture
def always_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of trial.should_stop looks for a request."""
    monkeypatch.setattr("hpbandster_lite.problems.trial.ASK_EVERY_S", 0.0)


@pytest.mark.parametrize("schedule", ["restarts", "nested", "cosine", "step"])
@pytest.mark.parametrize("looks", [1, 3, 4, 5, 7, 16, 17, 22, 24])
@pytest.mark.usefixtures("always_looks")
def test_an_evaluation_interrupted_at_any_step_or_judgement_ends_bit_for_bit_as_without(
    looks: int, schedule: Any, tmp_path: Path
) -> None:
    recipe, budget = replace(RECIPE, schedule=schedule, warmup=0.1), Budget(amount=4, rung=2, restarts_at=(1,))
    recipe = replace(recipe, average_decay=0.9 if looks % 2 else 0.0)
    whole_points: list[CurvePoint] = []
    whole = evaluated(tmp_path / "whole", budget, recipe, on_report=noting(whole_points))
    points: list[CurvePoint] = []
    with pytest.raises(Interrupted):
        evaluated(
            tmp_path / "first", budget, recipe, must_stop=stopping_after(looks), on_report=noting(points)
        )  # fmt: skip
    again = evaluated(
        tmp_path / "second", budget, recipe, resume_directory=tmp_path / "first", on_report=noting(points)
    )
    assert_equal_bit_for_bit(saved(tmp_path / "second"), saved(tmp_path / "whole"))
    assert again["loss"] == whole["loss"]
    # The curve of both attempts is that of one, with the mean training loss since the point before.
    assert points == whole_points
    assert [point.step for point in points] == [1.0, 4.0]


@pytest.mark.usefixtures("always_looks")
def test_every_step_and_every_batch_of_a_judgement_looks_for_a_request_to_stop(tmp_path: Path) -> None:
    looks = []
    evaluated(tmp_path / "one", Budget(amount=1), must_stop=lambda: looks.append(True))
    # Four steps, and at the end four batches for the statistics and one of validation images.
    assert len(looks) == 4 + 4 + 1


def test_an_interruption_by_a_report_saves_what_was_trained(tmp_path: Path) -> None:
    budget = Budget.on((1, 2), 2, "epochs")
    with pytest.raises(Interrupted):
        evaluated(tmp_path / "first", budget, on_report=lambda point: True)
    assert saved(tmp_path / "first")["steps"] == 4


def test_a_checkpoint_of_an_earlier_version_is_continued_after_its_point(tmp_path: Path) -> None:
    budget = Budget.on((1, 2), 2, "epochs")
    with pytest.raises(Interrupted):
        evaluated(tmp_path / "first", budget, on_report=lambda point: True)
    state = saved(tmp_path / "first")
    del state["judged"], state["losses"]
    checkpoints.save_checkpoint(Trial(directory=tmp_path / "earlier"), state)
    points: list[CurvePoint] = []
    evaluated(tmp_path / "second", budget, resume_directory=tmp_path / "earlier", on_report=noting(points))
    assert [point.step for point in points] == [2.0]


def test_saves_go_by_the_clock_and_take_a_small_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, steps = [0.0], list[int]()

    class Clock:
        monotonic = staticmethod(lambda: now[0])

    def save(trial: Trial, state: dict[str, Any], name: str) -> None:
        steps.append(state["steps"])
        now[0] += 0.5

    def tick(point: Any = None) -> bool:
        now[0] += 4.0
        return False

    monkeypatch.setattr(saves, "time", Clock)
    monkeypatch.setattr(loop, "save_checkpoint", save)
    monkeypatch.setattr("hpbandster_lite.problems.trial.clock", lambda: now[0])
    evaluated(tmp_path / "one", Budget(amount=6), must_stop=tick)
    # After ten seconds; then half a second of saving may come every 25 seconds; and at the end.
    assert steps == [3, 10, 17, 24, 24]


def test_every_rung_trains_from_its_seed_unless_the_schedule_is_nested(tmp_path: Path) -> None:
    recipe = replace(RECIPE, schedule="restarts")
    evaluated(tmp_path / "low", Budget(amount=1), recipe)
    high = evaluated(tmp_path / "high", Budget(amount=3, rung=2), recipe, previous_directory=tmp_path / "low")
    assert high["continued_from"] == 0.0


def test_the_global_generator_and_the_switches_are_left_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    evaluated(tmp_path / "one", Budget(amount=1), replace(RECIPE, deterministic=True))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_algorithms_are_on_while_it_trains(tmp_path: Path) -> None:
    seen = []

    def build() -> nn.Module:
        seen.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
        return network()

    for is_on in (True, False):
        evaluated(tmp_path / str(is_on), Budget(amount=1), replace(RECIPE, deterministic=is_on), build=build)
    assert seen == [(True, False), (False, True)]


@pytest.mark.parametrize(("optimizer", "cross_entropy"), [("sgd", 1.3392937660217286), ("adamw", 1.092908763885498)])
def test_a_training_has_the_loss_that_version_0_1_0_recorded(
    optimizer: Any, cross_entropy: float, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, optimizer=optimizer, learning_rate=0.01, norm_statistics="running")
    result = evaluated(tmp_path / "one", Budget(amount=2), recipe)
    # Bit for bit on one machine; another processor sums in another order.
    assert result["validation_cross_entropy"] == pytest.approx(cross_entropy, rel=1e-3)


def test_with_a_last_batch_that_is_filled_up_rungs_still_continue_bit_for_bit_within_an_epoch(tmp_path: Path) -> None:
    # Five batches an epoch: the lower rung ends within the second one.
    recipe = replace(RECIPE, fills_last_batch=True)
    low, high = (Budget.on((2.25, 4.5), amount, "seconds") for amount in (2.25, 4.5))
    evaluated(tmp_path / "low", low, recipe)
    assert saved(tmp_path / "low")["steps"] == 9
    continued = evaluated(tmp_path / "high", high, recipe, previous_directory=tmp_path / "low")
    evaluated(tmp_path / "whole", high, recipe)
    assert_equal_bit_for_bit(saved(tmp_path / "high"), saved(tmp_path / "whole"))
    assert continued["epochs"] == 18 / 5


# --------------------------------------------------------------------------------------------------- budgets and curve


def test_a_budget_of_seconds_stops_within_an_epoch_and_records_what_it_used(tmp_path: Path) -> None:
    points: list[CurvePoint] = []
    budget = Budget(amount=1.6, unit="seconds", restarts_at=(0.9,))
    result = evaluated(tmp_path / "one", budget, on_report=noting(points))
    assert [point.step for point in points] == [1.0, 1.75]
    assert (result["budget_used"], result["overshoot"], result["epochs"]) == (1.75, pytest.approx(0.15), 1.75)
    assert (result["training_s"], result["images_per_s"]) == (1.75, 64.0)
    assert points[-1].loss == result["loss"]


def test_the_loss_is_the_error_at_the_last_epoch_and_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors, answers = iter([10.0, 30.0]), judged(untrained(), VALIDATION).answers
    monkeypatch.setattr(training, "judged", lambda *_: Judged(ErrorRate(next(errors), 0.0, 100.0, 40), 1.0, answers))
    assert evaluated(tmp_path / "one", Budget.on((1, 2), 2, "epochs"))["loss"] == 30.0


def test_a_network_learns_to_tell_the_quarters_apart(tmp_path: Path) -> None:
    points: list[CurvePoint] = []
    recipe = replace(RECIPE, learning_rate=0.05)
    result = evaluated(tmp_path / "one", Budget.on((1, 15), 15, "epochs"), recipe, on_report=noting(points))
    assert result["loss"] < 5 < 15 < points[0].loss
    assert [point.step for point in points] == [1, 15]
    assert set(points[0].metrics) >= {"training_loss", "validation_cross_entropy", "learning_rate", "epoch"}
    assert result["parameters"] == 274


def test_the_learning_rate_of_each_step_follows_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def noted(optimizer: torch.optim.SGD, *arguments: Any) -> Any:
        rates.extend(group["lr"] for group in optimizer.param_groups)
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    evaluated(tmp_path / "one", Budget(amount=3, rung=2), replace(RECIPE, schedule="restarts"))
    expected = [math.cos(math.pi * i / 8) ** 2 for i in range(4)] + [math.cos(math.pi * i / 16) ** 2 for i in range(8)]
    assert rates == [pytest.approx(0.1 * share) for share in expected]


def test_repeats_are_different_trainings_and_their_mean_is_the_loss(tmp_path: Path) -> None:
    budget = Budget(amount=2)
    result = evaluated(tmp_path / "three", budget, repeats=3)
    assert [info["seed"] for info in result["repeats"]] == [5, 5 + 1_000_003, 5 + 2_000_006]
    assert result["loss"] == pytest.approx(sum(info["loss"] for info in result["repeats"]) / 3)
    assert evaluated(tmp_path / "one", budget)["loss"] == result["repeats"][0]["loss"]
    first, second = (saved(tmp_path / "three" / name)["network"]["6.bias"] for name in ("", "repeat1"))
    assert not torch.equal(first, second)


def test_an_interrupted_repeat_is_continued_and_the_ones_before_are_not_trained_again(tmp_path: Path) -> None:
    budget = Budget.on((1, 2), 2, "epochs")
    whole = evaluated(tmp_path / "whole", budget, repeats=2)
    with pytest.raises(Interrupted):
        evaluated(
            tmp_path / "first", budget, repeats=2, on_report=lambda at: (at.step, at.metrics["repeat"]) == (1, 1)
        )
    again = evaluated(tmp_path / "second", budget, repeats=2, resume_directory=tmp_path / "first")
    assert [info["continued_from"] for info in again["repeats"]] == [2.0, 1.0]
    assert again["loss"] == whole["loss"]
    # An attempt that continues from this one also finds the first repeat's network.
    assert_equal_bit_for_bit(saved(tmp_path / "second"), saved(tmp_path / "whole"))


class Gone(DeviceImages):
    """Images on which a network cannot be judged."""

    def __init__(self) -> None: ...

    def __len__(self) -> int:
        return 40

    def part(self, first: int, last: int | None) -> DeviceImages:
        raise OSError("the images are gone")


# ------------------------------------------------------------------------------------------------------------- folds


FOLDS = [Sides(TRAIN, VALIDATION), Sides(images_of(64, 3), images_of(39, 4)), Sides(images_of(64, 5), images_of(41, 6))]


def in_folds(directory: Path, budget: Budget, recipe: ImageRecipe = RECIPE, **given: Any) -> dict[str, Any]:
    how = {name: given.pop(name) for name in ("repeats", "scoring") if name in given}
    trial = Trial(budget=budget.amount, directory=directory, seed=5, **given)
    return train_folds(network, recipe, budget, trial, FOLDS, new_stopwatch=ticking, **how)


def test_each_fold_trains_for_the_whole_budget_and_the_means_are_the_loss_and_the_metrics(tmp_path: Path) -> None:
    points: list[CurvePoint] = []
    budget, scoring = Budget.on((1, 2), 2, "epochs"), Scoring("auroc")
    result = in_folds(tmp_path / "three", budget, scoring=scoring, on_report=noting(points))
    assert [info["epochs"] for info in result["folds"]] == [2, 2, 2]
    assert len({info["seed"] for info in result["folds"]}) == 3
    for name in ("loss", "validation_error_percent", "validation_cross_entropy", "validation_auroc"):
        assert result[name] == pytest.approx(sum(info[name] for info in result["folds"]) / 3)
    assert result["training_s"] == pytest.approx(sum(info["training_s"] for info in result["folds"]))
    assert [point.metrics["fold"] for point in points] == [0, 0, 1, 1, 2, 2]
    one = train(
        network, RECIPE, budget, Trial(directory=tmp_path / "one", seed=5), *FOLDS[0],
        scoring=scoring, new_stopwatch=ticking,
    )  # fmt: skip
    assert one["loss"] == result["folds"][0]["loss"]


def test_the_rungs_of_every_fold_continue_bit_for_bit(tmp_path: Path) -> None:
    low, high = (Budget.on((1, 3), amount, "epochs") for amount in (1, 3))
    in_folds(tmp_path / "low", low)
    continued = in_folds(tmp_path / "high", high, previous_directory=tmp_path / "low")
    whole = in_folds(tmp_path / "whole", high)
    assert [info["continued_from"] for info in continued["folds"]] == [1.0, 1.0, 1.0]
    assert continued["loss"] == whole["loss"]
    for fold in range(3):
        assert_equal_bit_for_bit(saved(tmp_path / f"high/fold{fold}"), saved(tmp_path / f"whole/fold{fold}"))


def test_an_evaluation_that_is_cut_off_again_and_again_loses_no_fold(tmp_path: Path) -> None:
    budget = Budget.on((1, 2), 2, "epochs")
    whole = in_folds(tmp_path / "whole", budget)
    with pytest.raises(Interrupted):
        in_folds(tmp_path / "1", budget, on_report=lambda at: (at.step, at.metrics["fold"]) == (1, 2))
    # The second attempt ends in its first fold.
    with pytest.raises(OSError, match="gone"):
        train_folds(
            network, RECIPE, budget, Trial(directory=tmp_path / "2", resume_directory=tmp_path / "1", seed=5),
            [Sides(TRAIN, Gone()), *FOLDS[1:]], new_stopwatch=ticking,
        )  # fmt: skip
    again = in_folds(tmp_path / "3", budget, resume_directory=tmp_path / "2")
    assert [info["continued_from"] for info in again["folds"]] == [2.0, 2.0, 1.0]
    assert again["loss"] == whole["loss"]


def test_repeats_of_folds_are_trainings_of_their_own(tmp_path: Path) -> None:
    points: list[CurvePoint] = []
    scoring = Scoring("error", breaks_ties=True)
    result = in_folds(tmp_path, Budget(amount=1), repeats=2, scoring=scoring, on_report=noting(points))
    assert [len(repeat["folds"]) for repeat in result["repeats"]] == [3, 3]
    every = [info for repeat in result["repeats"] for info in repeat["folds"]]
    assert len({info["seed"] for info in every}) == 6
    assert result["validation_error_percent"] == pytest.approx(sum(i["validation_error_percent"] for i in every) / 6)
    assert 0 < result["loss"] - result["validation_error_percent"] < 100 / 39 / 6
    assert [(point.metrics["repeat"], point.metrics["fold"]) for point in points] == [
        (repeat, fold) for repeat in (0, 1) for fold in (0, 1, 2)
    ]
    assert (tmp_path / "repeat1" / "fold2" / "checkpoint.pt").exists()


def test_every_fold_is_tested_with_its_own_network(tmp_path: Path) -> None:
    budget, test_images = Budget(amount=2), images_of(50, 9)
    in_folds(tmp_path, budget)
    sides = [Sides(training, test_images) for training, _ in FOLDS]
    found = training.test(network, RECIPE, budget, Trial(seed=5, previous_directory=tmp_path), sides)
    anew = training.test(network, RECIPE, budget, Trial(seed=5), sides)
    assert found == anew
    assert len({each.cross_entropy for each in found}) == 3
    figures = figures_of(found, "auroc")
    assert figures["test_error_percent"] == pytest.approx(sum(each.error.percent for each in found) / 3)
    low, high = figures["test_auroc_interval"]
    assert low <= figures["test_auroc"] <= high
    assert len(figures["test_error_percent_of_folds"]) == 3


def test_validation_images_are_clean_and_change_nothing(tmp_path: Path) -> None:
    run = untrained()
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    assert judged(run, VALIDATION) == judged(run, VALIDATION)
    assert_equal_bit_for_bit(before, dict(run.network.state_dict()))


def test_large_sets_are_judged_in_pieces_that_leave_no_image_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = untrained()
    whole = judged(run, VALIDATION)
    sizes: list[int] = []
    run.network.register_forward_hook(lambda _, given, __: sizes.append(len(given[0])))
    monkeypatch.setitem(training.EVALUATION_PIXELS, "cpu", 17 * 8 * 8)
    pieces = judged(run, VALIDATION)
    assert sizes == [17, 17, 6]
    assert pieces.error == whole.error
    assert pieces.cross_entropy == pytest.approx(whole.cross_entropy)


def test_the_loss_is_the_metric_with_a_share_of_the_cross_entropy_and_the_error_stays_beside_it(tmp_path: Path) -> None:
    budget = Budget(amount=2)
    for metric, name in (("error", None), ("balanced_error", "validation_balanced_error_percent"),
                         ("macro_f1", "validation_macro_f1"), ("auroc", "validation_auroc")):  # fmt: skip
        points: list[CurvePoint] = []
        scoring = Scoring(metric, breaks_ties=True)  # type: ignore[arg-type] # a name of the tuple
        result = evaluated(tmp_path / metric, budget, scoring=scoring, on_report=noting(points))
        error, entropy = result["validation_error_percent"], result["validation_cross_entropy"]
        value = error / 100 if name is None else result[name] / (100 if name.endswith("percent") else 1)
        counts = judged(untrained(), VALIDATION).answers.class_counts
        assert result["loss"] == pytest.approx(scoring.loss_percent(value, entropy, counts))
        assert 0 < result["loss"] - 100 * (1 - value if metric in ("macro_f1", "auroc") else value) < 2.5
        assert points[-1].loss == result["loss"]
        assert points[-1].metrics["validation_error_percent"] == error


def test_balanced_weights_give_every_class_the_same_sum_and_an_image_the_mean_of_one() -> None:
    skewed = images_of(70, 1)
    rows = torch.cat([torch.where(skewed.y == 0)[0], torch.where(skewed.y == 2)[0][:5]])
    part = replace(skewed, x=skewed.x[rows], y=skewed.y[rows])
    weights = balanced_weights(part)[part.y]
    assert float(weights.mean()) == pytest.approx(1)
    assert float(weights[part.y == 0].sum()) == pytest.approx(float(weights[part.y == 2].sum()))
    assert balanced_weights(part)[1] == 0


def test_balanced_weights_change_the_training_of_a_skewed_set(tmp_path: Path) -> None:
    kept = torch.where((TRAIN.y > 0) | (torch.arange(70) < 12))[0]
    skewed = replace(TRAIN, x=TRAIN.x[kept], y=TRAIN.y[kept])
    states = []
    for weights in (None, "balanced"):
        recipe = replace(RECIPE, class_weights=weights)
        trial = Trial(directory=tmp_path / str(weights), seed=5)
        train(network, recipe, Budget(amount=2), trial, skewed, VALIDATION, new_stopwatch=ticking)
        states.append(saved(tmp_path / str(weights))["network"]["6.bias"])
    assert not torch.equal(*states)
    with pytest.raises(UsageError, match="class_weights is 'even'; it must be None or balanced"):
        replace(RECIPE, class_weights="even")  # type: ignore[arg-type] # a wrong value


# -------------------------------------------------------------------------------------------------------------- recipe


def test_weight_decay_spares_batch_norm_and_biases_only_if_configured() -> None:
    for spared, numbers in ((True, [186 - 24 + 96, 16]), (False, [274])):
        run = untrained(replace(RECIPE, decay_norm_and_bias=not spared))
        groups = run.state()["optimizer"]["param_groups"]
        assert [group["weight_decay"] for group in groups] == [5e-4, 0.0][: len(numbers)]
        counted = [sum(w.numel() for w in group["params"]) for group in run._optimizer.param_groups]
        assert counted == numbers


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0; it must be finite and not negative"),
        ({"average_decay": 1.0}, r"average_decay is 1.0; it must be in \[0, 1\)"),
        ({"warmup": 1.0}, "warmup is 1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"optimizer": "lamb"}, "'lamb'; it must be one of sgd, adamw"),
        ({"schedule": "linear"}, "one of restarts, nested, cosine, step"),
        ({"norm_statistics": "exact"}, "one of estimated, running"),
        ({"precision": "fp8"}, "one of auto, fp32, bf16, fp16"),
    ],
)
def test_an_invalid_recipe_is_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(RECIPE, **wrong)


def test_a_batch_larger_than_the_training_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smaller batch_size or more images"):
        evaluated(tmp_path / "one", Budget(amount=1), replace(RECIPE, batch_size=71))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_trains_float32_weights(precision: Any, tmp_path: Path) -> None:
    result = evaluated(tmp_path / "one", Budget(amount=2), replace(RECIPE, precision=precision))
    assert result["precision"] == precision
    assert {value.dtype for value in saved(tmp_path / "one")["network"].values()} == {torch.float32, torch.int64}
    assert math.isfinite(result["loss"])


def test_a_checkpoint_of_another_precision_is_continued(tmp_path: Path) -> None:
    pairs: list[tuple[Precision, Precision]] = [("fp32", "fp16"), ("fp16", "fp32")]
    budget = Budget.on((1, 2), 2, "epochs")
    for one, other in pairs:
        here = tmp_path / one
        with pytest.raises(Interrupted):
            evaluated(here, budget, replace(RECIPE, precision=one), on_report=lambda point: True)
        done = evaluated(here / "2", budget, replace(RECIPE, precision=other), resume_directory=here)
        assert (done["continued_from"], done["epochs"], done["precision"]) == (1.0, 2.0, other)


def test_only_budgets_that_repay_it_are_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def compile_at_once(module: nn.Module) -> nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compile_at_once)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)  # in place of the real one, whose import takes seconds
    recipe = replace(RECIPE, compile=True)
    assert not pays_to_compile(499)
    assert pays_to_compile(501)
    # A step takes a quarter of a second, so 100 epochs take 100 s.
    assert not evaluated(tmp_path / "short", Budget(amount=3), recipe)["compiled"]
    assert not compiled
    monkeypatch.setattr(loop, "COMPILATION_S", 0.15)
    assert evaluated(tmp_path / "long", Budget(amount=3), recipe)["compiled"]
    assert evaluated(tmp_path / "seconds", Budget(amount=2, unit="seconds"), recipe)["compiled"]
    assert len(compiled) == 2
    # The checkpoint has the names of the network itself.
    assert list(saved(tmp_path / "long")["network"]) == list(network().state_dict())


# -------------------------------------------------------------------------------------------------------------- faults


def test_a_training_that_diverges_stops_at_that_step_and_is_an_invalid_result(tmp_path: Path) -> None:
    points: list[CurvePoint] = []

    class Explodes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.calls = 0

        def forward(self, x: torch.Tensor) -> Any:
            self.calls += self.training
            return self.inner(x) * (math.nan if self.calls == 6 else 1)

    with pytest.raises(Diverged) as caught:
        evaluated(tmp_path / "one", Budget.on((1, 4), 4, "epochs"), build=Explodes, on_report=noting(points))
    assert "nan after 1.5 epochs (step 6), at the learning rate" in str(caught.value)
    assert failure_by(caught.value).kind is FailureKind.INVALID
    assert len(points) == 1


class NotANumber(nn.Module):
    """Answers NaN, whose largest index is class 0, in evaluation only."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner(x) * (1 if self.training else math.nan)


def test_a_network_of_nans_is_diverged_wherever_it_is_judged(tmp_path: Path) -> None:
    budget, trial = Budget(amount=1), Trial(directory=tmp_path, seed=5)
    words = "cross-entropy of the network on 40 images is nan after 1 epochs"
    with pytest.raises(Diverged, match=words) as caught:
        evaluated(tmp_path, budget, build=NotANumber)
    assert failure_by(caught.value).kind is FailureKind.INVALID
    with pytest.raises(Diverged, match=words):
        training.test(NotANumber, RECIPE, budget, trial, [Sides(TRAIN, VALIDATION)])
    with pytest.raises(Diverged, match=words):
        refit(NotANumber, RECIPE, budget, trial, TRAIN, VALIDATION)


class TooLarge(nn.Module):
    """Runs out of memory at its third step, with the message of torch's CPU allocator."""

    built: ClassVar[list[weakref.ref[nn.Module]]] = []

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()
        self.calls = 0
        if self.inner[0].weight.device.type != "meta":  # type: ignore[index] # a Sequential of layers
            self.built.append(weakref.ref(self))

    def forward(self, x: torch.Tensor) -> Any:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory")
        return self.inner(x)


def test_out_of_memory_is_reported_with_its_size_and_leaves_nothing_behind(tmp_path: Path) -> None:
    TooLarge.built.clear()
    before = parameters_in_memory()
    pattern = r"out of memory with 274 parameters and batches of 16 images; the process has held up to [\d,]+ MiB"
    with pytest.raises(OutOfMemory, match=pattern) as caught:
        evaluated(tmp_path / "one", Budget(amount=1), build=TooLarge)
    assert failure_by(caught.value).kind is FailureKind.MEMORY
    assert "alloc_cpu.cpp" in (failure_by(caught.value).traceback or "")
    # While the error object still exists.
    assert [network() for network in TooLarge.built] == [None]
    assert parameters_in_memory() == before
    # The next evaluation of the same trainer has as much memory as in a new trainer.
    after = evaluated(tmp_path / "two", Budget(amount=1))
    assert after["loss"] == evaluated(tmp_path / "three", Budget(amount=1))["loss"]


def test_a_network_too_large_to_be_built_is_reported_with_its_size(tmp_path: Path) -> None:
    # Four exabytes: the allocator refuses by itself.
    with pytest.raises(OutOfMemory, match="1,000,000,000,000,000,000 parameters"):
        evaluated(tmp_path / "one", Budget(amount=1), build=lambda: nn.Linear(10**9, 10**9, bias=False))


def test_another_error_leaves_as_it_is_and_leaves_nothing_behind(tmp_path: Path) -> None:
    built: list[weakref.ref[nn.Module]] = []

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            built.append(weakref.ref(self))

        def forward(self, x: torch.Tensor) -> Any:
            raise LookupError("no such branch")

    with pytest.raises(LookupError, match="no such branch") as caught:
        evaluated(tmp_path / "one", Budget(amount=1), build=Broken)
    gc.collect()
    assert [network() for network in built] == [None]
    assert failure_by(caught.value).kind is FailureKind.CODE


def test_a_full_disk_is_an_error_of_the_disk_and_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, honest = [], os.fsync

    def full_at_the_second(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_the_second)
    monkeypatch.setattr(saves, "EVERY_S", 0.0)
    monkeypatch.setattr(saves, "SHARE", math.inf)
    with pytest.raises(OSError, match="No space left") as caught:
        evaluated(tmp_path / "one", Budget(amount=3))
    assert failure_by(caught.value).kind is FailureKind.INFRASTRUCTURE
    assert saved(tmp_path / "one")["steps"] == 1
    assert [file.name for file in (tmp_path / "one").iterdir()] == ["checkpoint.pt"]


# ------------------------------------------------------------------------------------------------- after the training


def test_the_checkpoint_of_a_spent_budget_is_tested_as_it_is(tmp_path: Path) -> None:
    budget = Budget(amount=2)
    evaluated(tmp_path / "one", budget)
    below = Trial(seed=5, previous_directory=tmp_path / "one")
    (found,) = training.test(network, RECIPE, budget, below, [Sides(TRAIN, VALIDATION)])
    run = untrained(state=saved(tmp_path / "one"))
    assert found == run.judged_by(lambda run: judged(run, VALIDATION))


def test_without_a_checkpoint_of_this_budget_the_network_is_trained_again(tmp_path: Path) -> None:
    recipe = replace(RECIPE, schedule="cosine")
    evaluated(tmp_path / "low", Budget(amount=1), recipe)
    high = evaluated(tmp_path / "high", Budget(amount=4), recipe)
    for given in ({}, {"previous_directory": tmp_path / "low"}):
        trial = Trial(seed=5, **given)  # type: ignore[arg-type] # one argument
        (tested,) = training.test(network, recipe, Budget(amount=4), trial, [Sides(TRAIN, VALIDATION)])
        assert tested.error.percent == high["loss"]


def test_a_refit_keeps_and_judges_the_average_of_the_weights_with_its_own_statistics(tmp_path: Path) -> None:
    recipe, budget = replace(RECIPE, average_decay=0.9), Budget(amount=3)
    trial = Trial(directory=tmp_path / "refit", seed=5)
    done = refit(network, recipe, budget, trial, TRAIN, VALIDATION, new_stopwatch=ticking)
    evaluated(tmp_path / "search", budget, recipe)
    state = saved(tmp_path / "search")
    run = Run(network, recipe, budget, "cpu", ImageTrainingSet(TRAIN, recipe), 5, ticking(), state)
    parameters = list(done.network.parameters())
    assert_equal_bit_for_bit([each.detach() for each in parameters], state["average"][: len(parameters)])
    assert not torch.equal(parameters[0], next(run.network.parameters()))
    # The statistics are those of the averaged weights, not an average of statistics.
    norm = done.network[1]  # type: ignore[index]  # a sequence of layers
    with torch.no_grad():
        pixels = torch.cat(list(ImageTrainingSet(TRAIN, recipe).inputs(5, 100)))
        means = done.network[0](pixels).mean(dim=(0, 2, 3))  # type: ignore[index]  # a sequence of layers
    torch.testing.assert_close(norm.running_mean, means, atol=0.05, rtol=0.05)
    assert done.judged.error == run.judged_by(partial(judged, images=VALIDATION)).error


def test_a_refit_is_a_training_whose_error_has_an_interval(tmp_path: Path) -> None:
    budget, test_images = Budget(amount=6, rung=2), images_of(50, 9)
    points: list[CurvePoint] = []
    trial = Trial(directory=tmp_path / "refit", seed=5, on_report=noting(points))
    done = refit(network, RECIPE, budget, trial, TRAIN, test_images, new_stopwatch=ticking)
    evaluated(tmp_path / "search", budget)
    run = Run(
        network, RECIPE, budget, "cpu", ImageTrainingSet(TRAIN, RECIPE), 5, ticking(), saved(tmp_path / "search")
    )
    run.finish()
    assert_equal_bit_for_bit(dict(done.network.state_dict()), dict(run.network.state_dict()))
    error = done.judged.error
    assert error.images == 50
    assert error.low_percent < error.percent < error.high_percent or error.percent == 0
    assert points[-1].loss < points[0].loss
    assert done.info["epochs"] == 6
