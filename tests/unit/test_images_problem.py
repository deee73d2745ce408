"""Image problems: the effect of options on budgets, spaces and recipes, and configurations refused before training."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hpbandster_lite
from hpbandster_lite import wire
from hpbandster_lite.errors import ProblemError, UsageError
from hpbandster_lite.journal import Journal
from hpbandster_lite.problems import describe, given_in, load, source_hash
from hpbandster_lite.problems.description import answer_for
from hpbandster_lite.problems.shipped_data import missing_data, notes_of
from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.problems.trial import noted as recorded_notes
from hpbandster_lite.records import CurvePoint, ProblemDescription, Started
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.workers.images import problem as room
from hpbandster_lite.workers.images import read_images as read_module
from hpbandster_lite.workers.images import same_pictures
from hpbandster_lite.workers.images.catalogue import CATALOGUE
from hpbandster_lite.workers.images.device_images import all_for_refit, training_and_validation
from hpbandster_lite.workers.images.image_data import ImageData
from hpbandster_lite.workers.images.options import ImageOptions
from hpbandster_lite.workers.images.problem import SLOW_BFLOAT16, ImageProblem
from hpbandster_lite.workers.images.read_images import ImageSource, read_images
from hpbandster_lite.workers.images.search_spaces import SPACES
from hpbandster_lite.workers.images.trained_classifier import export_model, load_model, save_model
from hpbandster_lite.workers.training.faults import Diverged
from hpbandster_lite.workers.training.schedule import factor

RECORDED = Path(__file__).parents[1] / "recorded"
SMALL: dict[str, Any] = {
    "initial_filters": 4, "widen_factor": 1.5, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1,
    "nr_residual_blocks_3": 1, "res_branches": 2, "learning_rate": 0.1, "batch_size": 32, "weight_decay": 1e-4,
    "momentum": 0.9, "alpha": 0.2, "length": 3,
}  # fmt: skip
"""A network of the space ``small`` that trains quickly."""
AVERAGED: dict[str, Any] = {**SMALL, "average_decay": 0.9, "clip_norm": 5.0}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140 training images of noise, 12 x 10 pixels, whose bright half is the class; 40 test images."""
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for part, n in (("train", 140), ("test", 40)):
        y = np.arange(n) % 2
        x = rng.integers(0, 100, (n, 12, 10, 3))
        for row, side in enumerate(y):
            x[row, :, 5 * side : 5 * side + 5] += 120
        parts |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    file = tmp_path_factory.mktemp("pictures") / "pictures.npz"
    np.savez(file, **parts, class_names=np.array(["left", "right"]))
    return file


def own(pictures: Path, **options: Any) -> ImageProblem:
    # The classes are each other's mirror images.
    always: dict[str, Any] = {"data_set": "images", "space": "small", "budget_unit": "epochs", "unusual": "refuse"}
    return ImageProblem(ImageOptions(data=pictures, mirror=False, pad=1, **{**always, **options}))


def budgets_of(**options: Any) -> tuple[float, ...]:
    reference = "cifar10" + "".join(f"{'&' if i else '?'}{k}={v}" for i, (k, v) in enumerate(options.items()))
    return prepare(SearchOptions(problem=reference, description=describe(load(reference), reference))).settings.budgets


# ------------------------------------------------------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("options", "budgets"),
    [
        ({}, (400, 1200, 3600, 10800)),
        ({"scale": 0.001}, (0.4, 1.2, 3.6, 10.8)),
        ({"schedule": "nested"}, (400, 1200, 2800, 6000)),
        ({"schedule": "nested", "scale": 0.5}, (200, 600, 1400, 3000)),
        ({"budget_unit": "epochs"}, (1, 3, 9, 27)),
        ({"budget_unit": "epochs", "schedule": "nested"}, (1, 3, 7, 15)),
    ],
)
def test_budgets_follow_from_unit_scale_and_schedule(options: dict[str, Any], budgets: tuple[float, ...]) -> None:
    assert budgets_of(**options) == pytest.approx(budgets, rel=1e-12)


def test_the_preset_of_the_paper_plans_its_520_evaluations_and_360_hours() -> None:
    reference = "cifar10?preset=paper"
    prepared = prepare(SearchOptions(problem=reference, description=describe(load(reference), reference)))
    totals = [0] * 4
    for plan in prepared.plans:
        for rung in plan.rungs:
            totals[prepared.settings.budgets.index(rung.budget)] += rung.places
    assert (len(prepared.plans), totals, prepared.settings.eta) == (32, [216, 144, 96, 64], 3.0)
    assert sum(plan.total_budget for plan in prepared.plans) == 1_296_000 == 360 * 3600


@pytest.mark.parametrize(("rung", "first_cycle"), [(0, 400.0), (1, 400.0), (2, 3600 / 7), (3, 720.0)])
def test_rung_k_of_the_paper_has_k_cycles_that_end_at_zero(rung: int, first_cycle: float) -> None:
    problem = ImageProblem(ImageOptions(preset="paper"))
    amount = (400.0, 1200.0, 3600.0, 10800.0)[rung]
    budget = problem._budget(amount, Trial(budget=amount))
    assert (budget.unit, budget.rung) == ("seconds", rung + 1)
    assert budget.first_cycle == pytest.approx(first_cycle)
    assert factor("restarts", amount, budget) == pytest.approx(0.0)


def test_cycles_follow_the_budgets_of_the_search_where_these_are_others() -> None:
    problem = ImageProblem(ImageOptions())
    assert problem._budget(900.0, Trial(budgets=(100, 300, 900))).rung == 3
    assert problem._budget(900.0, Trial(budgets=(100, 300, 900))).restarts_at == (100, 300)
    # With a search and without one.
    assert problem._budget(900.0, Trial()).rung == 1


def test_repeats_are_for_the_highest_budget_alone(pictures: Path, tmp_path: Path) -> None:
    problem = own(pictures, repeats=2)
    low = problem.evaluate(SMALL, 1, Trial(budget=1, max_budget=3, directory=tmp_path / "low"))
    high = problem.evaluate(SMALL, 3, Trial(budget=3, max_budget=3, directory=tmp_path / "high"))
    assert "repeats" not in low
    assert len(high["repeats"]) == 2
    # A refit trains one network, with the tenth that validated, too.
    assert low["refit_factor"] == pytest.approx(1 / 0.9, rel=0.02)
    assert high["refit_factor"] == low["refit_factor"] / 2


# ------------------------------------------------------------------------------------------------------------- options


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist", "images"])
def test_every_name_is_the_problem_of_its_data_set_and_describes_it(name: str) -> None:
    about = describe(load(name), name)
    (data_set,) = (each for each in about.options if each.name == "data_set")
    assert (data_set.value, data_set.default) == (name, name)
    assert about.has_feasible
    assert about.has_test
    assert about.has_refit
    assert about.has_export
    assert about.reference == name


def test_options_say_what_they_are_for_and_which_belong_to_a_host() -> None:
    about = describe(load("cifar10"), "cifar10")
    assert all(each.help for each in about.options)
    assert [each.name for each in about.options if each.is_local] == ["data", "cache", "compile"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("scale=0", "scale=0.0; it must be positive"),
        ("scale=0.1&budget_unit=epochs", "scale=0.1 requires budgets in seconds, got epochs; give --max-budget"),
        ("train_images=0", "train_images=0; it must be at least 1"),
        ("repeats=0", "repeats=0; it must be at least 1"),
        ("pad=-1", "pad=-1; it must be at least 0"),
        ("max_parameters=0", "max_parameters=0; it must be at least 1, or none for no bound"),
        ("image_size=32", "image_size=32 is only for the data set images, not for cifar10"),
        ("aspect=crop", "aspect=crop is only for the data set images, not for cifar10"),
        ("unusual=skip", "unusual=skip is only for the data set images, not for cifar10"),
        ("data_set=images&aspect=pad", "aspect=pad requires image_size, the size that pictures get; give both"),
        ("preset=paper&space=small", "--preset paper requires space=paper, got small"),
        ("preset=paper&budget_unit=epochs", "--preset paper requires budget_unit=seconds, got epochs"),
        ("valid_share=0", "valid_share=0; it must be above 0 and below 1, for example 0.2"),
        ("valid_share=1", "valid_share=1; it must be above 0 and below 1, for example 0.2"),
        ("folds=0", "folds=0; it must be at least 1"),
        ("folds=5&valid_share=0.2", "folds=5 determines the validation images, so valid_share=0.2 has no effect"),
        ("group=patient", "group=patient is only for the data set images, not for cifar10; leave it out"),
        ("preset=paper&folds=5", "--preset paper requires folds=1, got 5"),
        ("preset=paper&metric=auroc", "--preset paper requires metric=error, got auroc; leave one of them out"),
        ("preset=paper&class_weights=balanced", "--preset paper requires class_weights=none, got balanced"),
        ("metric=accuracy", "one of error, balanced_error, macro_f1, auroc"),
        ("preset=paper&schedule=nested", "--preset paper requires schedule=restarts, got nested"),
    ],
)
def test_impossible_options_are_refused_by_name(options: str, words: str) -> None:
    with pytest.raises((ProblemError, UsageError)) as caught:
        load(f"cifar10?{options}")
    assert words in str(caught.value)


def test_a_change_of_networks_images_training_or_saving_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = load("cifar10")
    assert len(source_hash(problem)) == 64
    root = Path(room.__file__).parents[1]
    counted = {root / "networks", root / "images", root / "training"}
    named = {root / name.removeprefix("hpbandster_lite.workers.") for name in ImageProblem.source_modules}
    assert {path if path.exists() else path.with_suffix(".py") for path in named} == counted


@pytest.mark.parametrize(
    ("options", "mirror"), [({}, True), ({"data_set": "mnist"}, False), ({"data_set": "mnist", "mirror": True}, True)]
)
def test_digits_are_not_mirrored(options: dict[str, Any], mirror: bool) -> None:
    problem = ImageProblem(ImageOptions(space="small", **options))
    assert problem._recipe(SMALL).augmentation.mirror == mirror


@pytest.mark.parametrize(
    ("options", "softmax"),
    [({}, False), ({"preset": "paper"}, True), ({"preset": "paper", "shake_softmax": False}, False)],
)
def test_the_preset_draws_shake_shake_as_the_released_code_does(options: dict[str, Any], softmax: bool) -> None:
    assert ImageProblem(ImageOptions(**options))._shake_softmax == softmax


def test_options_reach_the_recipe() -> None:
    options = ImageOptions(
        space="small", precision="bf16", deterministic=True, decay_norm_and_bias=False, pad=2, compile=True,
        schedule="step",
    )  # fmt: skip
    recipe = ImageProblem(options)._recipe(SMALL)
    assert (recipe.precision, recipe.deterministic, recipe.decay_norm_and_bias) == ("bf16", True, False)
    assert (recipe.augmentation.pad, recipe.compile, recipe.schedule) == (2, True, "step")


# --------------------------------------------------------------------------------------------------------- feasibility


@pytest.mark.parametrize(("most", "refused"), [("auto", False), (None, False), (1_000, True)])
def test_the_bound_is_the_user_s_or_the_space_s(most: Any, refused: bool) -> None:
    problem = ImageProblem(ImageOptions(space="small", max_parameters=most))
    answer = problem.feasible(SMALL)
    assert (answer is not True) == refused
    if refused:
        assert str(answer).endswith(" parameters are more than --max-parameters 1,000")


def test_large_networks_of_the_small_space_are_refused_by_its_own_bound_and_trained_without_one() -> None:
    large = {**SMALL, "initial_filters": 16, "widen_factor": 2.5, "nr_residual_blocks_3": 2}
    answer = ImageProblem(ImageOptions(space="small")).feasible(large)
    assert str(answer).endswith(" parameters are more than --max-parameters 100,000")
    assert ImageProblem(ImageOptions(space="small", max_parameters=None)).feasible(large) is True


def test_a_batch_has_at_most_a_quarter_of_the_images_and_a_square_three_quarters_of_a_side(
    pictures: Path, tmp_path: Path
) -> None:
    # 126 training images of 12 x 10 pixels.
    large = {**SMALL, "batch_size": 64, "length": 8}
    problem = own(pictures)
    assert problem.feasible(large) is True
    result = problem.evaluate(large, 1, Trial(budget=1, max_budget=3, directory=tmp_path))
    assert result["lowered"] == {"batch_size": 31, "length": 7}
    images, _ = training_and_validation("cpu", ImageSource("images", pictures))
    recipe = problem._recipe_for(large, images)
    assert (recipe.batch_size, recipe.augmentation.cutout) == (31, 7)
    fitting = problem.evaluate({**SMALL, "batch_size": 31}, 1, Trial(budget=1, max_budget=3, directory=tmp_path))
    assert "lowered" not in fitting


@pytest.mark.parametrize(
    ("given", "fast", "chosen"),
    [
        ("", True, "bf16"),
        ("", False, None),
        ("?precision=fp32", True, None),
        ("?cpu_precision=fp32", True, "fp32"),
    ],
)
def test_the_host_that_begins_a_search_chooses_the_precision_of_all_cpus(
    given: str, fast: bool, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "has_fast_bfloat16", lambda: fast)
    assert given_in(described_here(f"cifar10{given}", begins=True).reference).get("cpu_precision") == chosen
    # A search that continues has the journal's choice; one that began before there was a choice has none.
    assert described_here(f"cifar10{given}", begins=False).reference == f"cifar10{given}"


def described_here(reference: str, *, begins: bool, **_: Any) -> ProblemDescription:
    question = {"reference": reference, "arguments": [], "is_source_alone": False, "looks_for_data": False}
    return wire.from_message(wire.decode(answer_for(question | {"begins": begins}, lambda _: None)), ProblemDescription)


def test_a_search_continues_in_its_precision_on_a_host_that_would_choose_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpbandster_lite.settings.prepare.describe_in_child", described_here)
    directory = RunDirectory(tmp_path / "run")
    directory.create()

    def prepared(*, fast: bool) -> Prepared:
        monkeypatch.setattr(room, "has_fast_bfloat16", lambda: fast)
        return prepare(SearchOptions(problem="cifar10?space=small", seed=1), directory)

    begun = prepared(fast=True)
    assert begun.settings.problem.reference == "cifar10?space=small&cpu_precision=bf16"
    with Journal.open(directory.journal, create=begun.settings) as journal:
        epoch = journal.begin_epoch()
        journal.commit([Started(epoch=epoch, limits=begun.limits)], at=1.0)
    continued = prepared(fast=False)
    assert continued.resumed
    assert continued.settings.problem.reference == begun.settings.problem.reference


def own_folder(folder: Path) -> Path:
    """Two classes of eight pictures; each class has a copy of one, and one picture is transparent."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (folder / name).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (8, 6, 3), np.uint8)).save(folder / name / f"{i}.png")
        shutil.copy(folder / name / "0.png", folder / name / "copy.png")
    Image.fromarray(rng.integers(0, 256, (8, 6, 4), np.uint8)).save(folder / "left/alpha.png")
    return folder


def test_a_search_that_began_before_unusual_and_aspect_continues_with_copies_and_transparent_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HPBANDSTER_LITE_RUN_DIR", raising=False)
    monkeypatch.setattr("hpbandster_lite.settings.prepare.describe_in_child", described_here)
    directory, folder = RunDirectory(tmp_path / "run"), own_folder(tmp_path / "data")
    directory.create()
    asked = SearchOptions(problem=f"images?data={folder}&space=small&budget_unit=epochs&image_size=8", seed=1)
    begun = prepare(asked, directory)
    assert given_in(begun.settings.problem.reference)["unusual"] == "refuse"
    # As the journal of an earlier version.
    about = describe(load(asked.problem), asked.problem)
    options = tuple(each for each in about.options if each.name not in ("unusual", "aspect"))
    before = replace(begun.settings, problem=replace(about, options=options))
    with Journal.open(directory.journal, create=before) as journal:
        epoch = journal.begin_epoch()
        journal.commit([Started(epoch=epoch, limits=begun.limits)], at=1.0)
    continued = prepare(asked, directory).settings.problem.reference
    assert continued == asked.problem
    problem = load(continued)
    assert missing_data(problem) is None
    notes = notes_of(problem)
    assert notes[0] == f"{folder}: 19 pictures: left 10, right 9"
    copies = "left/0.png = left/copy.png, right/0.png = right/copy.png"
    what = "pictures with copies, which a split may put on two sides (2)"
    assert f"{what}; used, as when this search began: {copies}" in notes
    assert "pictures with transparent parts (1), put on white: left/alpha.png" in notes
    found = problem.evaluate(SMALL, 1.0, Trial(directory=tmp_path, max_budget=9.0))
    assert math.isfinite(found["loss"])
    # A search of today refuses them.
    refused = missing_data(load(begun.settings.problem.reference))
    assert refused is not None
    assert what in refused.text


def test_an_evaluation_notes_that_the_pictures_are_not_those_with_which_its_search_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HPBANDSTER_LITE_RUN_DIR", str(tmp_path / "run"))
    folder = own_folder(tmp_path / "data")
    notes: list[str] = []

    def evaluated() -> list[str]:
        """In a process of its own."""
        read_module._read.cache_clear()
        same_pictures._fingerprint.cache_clear()
        notes.clear()
        before = recorded_notes.set(notes)
        try:
            own(folder, unusual="skip").evaluate(SMALL, 1.0, Trial(directory=tmp_path, max_budget=9.0))
        finally:
            recorded_notes.reset(before)
        return [each for each in notes if "began" in each]

    assert evaluated() == evaluated() == []
    file = folder / "left/3.png"
    kept = file.read_bytes()
    Image.new("RGB", (6, 8)).save(file)
    (note,) = evaluated()
    assert note.startswith(
        "the pictures are not those with which this search began (then 14 for training and validation and 3 for test, "
        "now 14 and 3), so losses of before and after cannot be compared"
    )
    file.write_bytes(kept)
    assert evaluated() == []
    (tmp_path / "run" / same_pictures.FILE).write_text("{")
    assert evaluated() == []


def test_a_shipped_problem_that_a_program_gives_has_the_options_of_its_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "has_fast_bfloat16", lambda: True)
    reference = "hpbandster_lite.workers.images.problem:images?space=small"
    asked = SearchOptions(problem=reference, description=describe(load(reference), reference), seed=1)
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    begun = prepare(asked, directory)
    chosen = given_in(begun.settings.problem.reference)
    assert (chosen["unusual"], chosen["cpu_precision"]) == ("refuse", "bf16")
    with Journal.open(directory.journal, create=begun.settings) as journal:
        epoch = journal.begin_epoch()
        journal.commit([Started(epoch=epoch, limits=begun.limits)], at=1.0)
    continued = prepare(asked, directory)
    assert continued.resumed
    assert continued.settings.problem.reference == begun.settings.problem.reference


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "slow"])
def test_a_host_that_computes_the_bfloat16_of_the_search_slowly_notes_it(
    fast: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "has_fast_bfloat16", lambda: fast)
    notes: list[str] = []
    before = recorded_notes.set(notes)
    try:
        result = own(pictures, cpu_precision="bf16").evaluate(SMALL, 1.0, Trial(directory=tmp_path, max_budget=9.0))
    finally:
        recorded_notes.reset(before)
    assert result["precision"] == "bf16"
    assert [each for each in notes if "neither AMX nor AVX512-BF16" in each] == ([] if fast else [SLOW_BFLOAT16])


def test_a_search_that_began_without_a_choice_computes_in_float32(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "has_fast_bfloat16", lambda: True)
    result = own(pictures).evaluate(SMALL, 1.0, Trial(directory=tmp_path, max_budget=9.0))
    assert result["precision"] == "fp32"


def test_a_set_of_28_images_is_trained(pictures: Path, tmp_path: Path) -> None:
    few = own(pictures, train_images=28)
    result = few.evaluate({**SMALL, "batch_size": 128}, 1, Trial(budget=1, max_budget=3, directory=tmp_path))
    assert result["lowered"] == {"batch_size": 7}


def test_shapes_that_are_known_beforehand_are_those_of_the_data() -> None:
    assert {name: tuple(known.shape) for name, known in CATALOGUE.items()} == {
        "cifar10": (3, 32, 32, 10), "cifar100": (3, 32, 32, 100), "mnist": (1, 28, 28, 10),
        "fashion_mnist": (1, 28, 28, 10),
    }  # fmt: skip


def test_a_problem_is_described_and_its_configurations_judged_without_torch() -> None:
    script = (
        "import sys\n"
        "from hpbandster_lite.problems import describe, load\n"
        "for reference in ('cifar10?preset=paper', 'fashion_mnist?space=small', 'mnist?space=extended'):\n"
        "    problem = load(reference)\n"
        "    space = problem.space()\n"
        "    space.seed(0)\n"
        "    describe(problem, reference)\n"
        "    print(problem.feasible(dict(space.sample_configuration())))\n"
        "for name in ('wide_resnet', 'shake_shake', 'resnet'):\n"
        "    describe(load(f'cifar10?space={name}'), name)\n"
        "assert 'torch' not in sys.modules\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.splitlines()) == 3


# --------------------------------------------------------------------------------------- evaluate, test, checkpoints


def test_an_evaluation_learns_and_its_checkpoint_is_tested_with_an_interval(pictures: Path, tmp_path: Path) -> None:
    problem = own(pictures)
    found = problem.evaluate(SMALL, 9, Trial(budget=9, max_budget=9, directory=tmp_path, seed=1))
    assert found["loss"] < 20
    assert found["epochs"] == 9
    assert found["parameters"] == SPACES["small"].parameter_count(SMALL, problem._shape())
    figures = problem.test(SMALL, 9, Trial(budget=9, previous_directory=tmp_path, seed=1))
    low, high = figures["test_error_interval_percent"]
    assert low <= figures["test_error_percent"] <= high
    assert (figures["test_images"], figures["test_error_percent"] < 20) == (40, True)


@pytest.mark.parametrize(
    ("metric", "name", "interval"),
    [
        ("balanced_error", "balanced_error_percent", "balanced_error_interval_percent"),
        ("macro_f1", "macro_f1", "macro_f1_interval"),
        ("auroc", "auroc", "auroc_interval"),
    ],
)
def test_the_metric_is_the_loss_and_is_tested_with_its_interval_beside_the_error(
    metric: str, name: str, interval: str, pictures: Path, tmp_path: Path
) -> None:
    problem = own(pictures, metric=metric, class_weights="balanced")
    found = problem.evaluate(SMALL, 3, Trial(budget=3, max_budget=9, directory=tmp_path, seed=1))
    value = found[f"validation_{name}"]
    expected = value if name.endswith("percent") else 100 * (1 - value)
    assert 0 <= found["loss"] - expected < 100 / 14
    assert 0 <= found["validation_error_percent"] <= 100
    figures = problem.test(SMALL, 3, Trial(budget=3, previous_directory=tmp_path, seed=1))
    low, high = figures[f"test_{interval}"]
    assert low <= figures[f"test_{name}"] <= high
    assert {"test_error_percent", "test_error_interval_percent", "test_images"} < set(figures)


def test_folds_are_evaluated_continued_tested_and_refitted(pictures: Path, tmp_path: Path) -> None:
    problem = own(pictures, folds=3, schedule="nested", repeats=2)
    low = problem.evaluate(SMALL, 1, Trial(budget=1, max_budget=3, directory=tmp_path / "low", seed=1))
    assert [info["continued_from"] for info in low["folds"]] == [0, 0, 0]
    trial = Trial(
        budget=3, max_budget=3, directory=tmp_path / "high", previous_directory=tmp_path / "low", seed=1
    )  # fmt: skip
    high = problem.evaluate(SMALL, 3, trial)
    assert [[info["continued_from"] for info in each["folds"]] for each in high["repeats"]] == [[1, 1, 1], [0, 0, 0]]
    figures = problem.test(SMALL, 3, Trial(budget=3, previous_directory=tmp_path / "high", seed=1))
    assert len(figures["test_error_percent_of_folds"]) == 3
    kept = problem.refit(SMALL, 3, Trial(budget=3, directory=tmp_path / "refit", seed=1))
    assert kept["training_images"] == 140
    assert load_model(tmp_path / "refit" / "model.pt").class_names == ("left", "right")
    assert room.cost_notes(problem.options) == [
        "an evaluation trains 3 networks, one for each fold (--folds 3), each for the whole budget, so it takes 3 "
        "times its budget",
        "an evaluation at the highest budget trains 6 networks (--repeats 2 of 3 folds), so it takes 6 times its "
        "budget",
    ]


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 images of 30 patients."""
    rng, patient = np.random.default_rng(1), np.arange(90) // 3
    x, y = rng.integers(0, 100, (90, 12, 10)), patient % 2
    for row, side in enumerate(y):
        x[row, :, 5 * side : 5 * side + 5] += 120
    file = tmp_path_factory.mktemp("patients") / "patients.npz"
    np.savez(file, x=x.astype(np.uint8), y=y, patient=patient)
    return file


@pytest.mark.parametrize("folds", [1, 3])
def test_groups_train_or_validate_or_are_tested_together(folds: int, patients: Path, tmp_path: Path) -> None:
    problem = own(patients, group="patient", folds=folds, metric="balanced_error")
    sides = problem._divided("cpu")
    assert len(sides) == folds
    every = read_images("images", patients, group="patient")
    assert every.train_groups is not None
    assert every.test_groups is not None
    groups = every.train_groups.numbers
    of_image = {image.tobytes(): number for image, number in zip(every.train_x, groups, strict=True)}
    for side in sides:
        train, valid = ({of_image[image.numpy().tobytes()] for image in part.x} for part in side)
        assert not train & valid
        assert not (train | valid) & set(every.test_groups.numbers)
    problem.evaluate(SMALL, 1, Trial(budget=1, max_budget=3, directory=tmp_path, seed=1))
    figures = problem.test(SMALL, 1, Trial(budget=1, previous_directory=tmp_path, seed=1))
    low, high = figures["test_error_interval_percent"]
    assert low <= figures["test_error_percent"] <= high
    kept = problem.refit(SMALL, 1, Trial(budget=1, directory=tmp_path / "refit", seed=1))
    assert kept["training_images"] + kept["test_images"] == 90


def test_a_set_that_cannot_be_judged_is_refused_before_the_start_and_by_each_evaluation(
    patients: Path, tmp_path: Path
) -> None:
    problem = own(patients, valid_images=1, metric="auroc")
    refusal = problem.refused_data
    assert refusal is not None
    words = "1 of 2 classes ("
    assert str(refusal(None)).startswith(words)
    with pytest.raises(UsageError, match=r"1 of 2 classes \('.'\) has no validation image"):
        problem.evaluate(SMALL, 1, Trial(budget=1, max_budget=3, directory=tmp_path))
    assert own(patients, valid_images=1).refused_data(None) is None  # type: ignore[misc] # it is no None
    assert "do not make 100 folds" in str(own(patients, folds=100).refused_data(None))  # type: ignore[misc] # as above


def test_a_limit_that_leaves_a_class_of_the_catalogue_out_is_refused_before_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, pixels = np.arange(2_000) % 10, np.zeros((2_000, 1, 28, 28), np.uint8)
    made = ImageData(
        source="made up", train_x=pixels, train_y=labels, test_x=pixels, test_y=labels, class_names=tuple("0123456789")
    )
    monkeypatch.setattr(room, "read_images", lambda *_: made)
    for metric, valid_images, is_refused in (("auroc", 7, True), ("auroc", 190, False), ("error", 7, False)):
        given: dict[str, Any] = {"valid_images": valid_images, "metric": metric}
        options = ImageOptions(data_set="mnist", data=Path("/absent"), **given)
        refusal = ImageProblem(options).refused_data
        found = None if refusal is None else refusal(None)
        assert (found is not None) == is_refused
        assert found is None or "no validation image" in found


def test_a_plan_notes_that_few_validation_images_tell_no_point_apart(patients: Path) -> None:
    notes = own(patients).notes()
    assert any("8 validation images cannot tell a point of difference apart" in note for note in notes)
    assert "78 images for training and validation are of 26 groups" in own(patients, group="patient").notes()
    assert ImageProblem(ImageOptions()).notes() == []
    (note,) = ImageProblem(ImageOptions(data_set="mnist", valid_images=500)).notes()
    assert note.startswith("500 validation images cannot tell a point of difference apart: an error of 10 % has a 95 %")


def test_a_batch_of_folds_is_lowered_to_a_quarter_of_the_smallest_fold(pictures: Path, tmp_path: Path) -> None:
    found = own(pictures, folds=3).evaluate(
        {**SMALL, "batch_size": 128}, 1, Trial(budget=1, max_budget=3, directory=tmp_path)
    )
    assert found["lowered"] == {"batch_size": 23}


def test_a_share_of_the_cross_entropy_breaks_ties_except_with_the_preset_of_the_paper(
    pictures: Path, tmp_path: Path
) -> None:
    found = own(pictures).evaluate(SMALL, 1, Trial(budget=1, max_budget=9, directory=tmp_path, seed=1))
    assert 0 < found["loss"] - found["validation_error_percent"] < 100 / 14
    assert not ImageProblem(ImageOptions(preset="paper"))._scoring.breaks_ties
    config = dict(ImageProblem(ImageOptions()).space().get_default_configuration())
    assert not ImageProblem(ImageOptions(preset="paper"))._recipe(config).fills_last_batch
    assert ImageProblem(ImageOptions())._recipe(config).fills_last_batch


def test_nested_rungs_go_on_from_the_one_below_and_the_others_begin_anew(pictures: Path, tmp_path: Path) -> None:
    for schedule, continued in (("nested", 1.0), ("restarts", 0.0)):
        problem, below = own(pictures, schedule=schedule), tmp_path / schedule
        problem.evaluate(SMALL, 1, Trial(budget=1, max_budget=3, directory=below, seed=1))
        trial = Trial(budget=3, max_budget=3, directory=tmp_path / "above", previous_directory=below, seed=1)
        assert problem.evaluate(SMALL, 3, trial)["continued_from"] == continued


@pytest.fixture(scope="module")
def kept(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[CurvePoint]]:
    """Directory, figures and learning curve of a refit."""
    directory, curve = tmp_path_factory.mktemp("refit"), list[CurvePoint]()

    def note(point: CurvePoint) -> bool:
        curve.append(point)
        return False

    trial = Trial(budget=6, max_budget=9, directory=directory, seed=2, on_report=note)
    return directory, own(pictures, train_images=50).refit(AVERAGED, 6, trial), curve


Kept = tuple[Path, dict[str, Any], list[CurvePoint]]


def test_a_refit_trains_on_all_images_but_those_for_test(kept: Kept, pictures: Path) -> None:
    _, figures, curve = kept
    # 140 images in batches of 32 are 5 steps an epoch; the search's 50 images would be two.
    assert len(curve) == 6
    assert figures["epochs"] == 6
    assert figures["images_per_s"] > 0
    assert len(all_for_refit("cpu", ImageSource("images", pictures))) == 140
    assert figures["model"] == "model.pt"
    assert figures["test_images"] == 40


def test_the_model_in_the_file_classifies_pixels_by_itself_as_it_was_tested(kept: Kept, pictures: Path) -> None:
    directory, figures, _ = kept
    model = load_model(directory / "model.pt")
    assert model.class_names == ("left", "right")
    assert tuple(model.shape) == (3, 12, 10, 2)
    assert model.about["configuration"] == AVERAGED
    assert model.about["figures"]["test_error_percent"] == figures["test_error_percent"]
    test = np.load(pictures)
    names, probabilities = model.classify(test["x_test"].transpose(0, 3, 1, 2).copy())
    wrong = sum(name != model.class_names[y] for name, y in zip(names, test["y_test"], strict=True))
    assert 100 * wrong / 40 == pytest.approx(figures["test_error_percent"])
    assert probabilities.sum(dim=1).numpy() == pytest.approx(np.ones(40), abs=1e-5)
    single = model.classify(test["x_test"][0].transpose(2, 0, 1).copy())
    assert single.names == names[:1]


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((1, 3, 12, 12), np.uint8), r"shape \(n, 3, 12, 10\), or .* got torch.uint8 .* \(1, 3, 12, 12\)"),
        (np.zeros((1, 3, 12, 10), np.float32), r"requires uint8 images .* got torch.float32"),
        (np.zeros((10, 3), np.int64), r"requires uint8 images .* got torch.int64 of the shape \(10, 3\)"),
        ([], "images is empty; give at least one image"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(pixels: Any, words: str, kept: Kept) -> None:
    with pytest.raises(UsageError, match=words):
        load_model(kept[0] / "model.pt").classify(pixels)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": {}}, tmp_path / "other.pt")
    with pytest.raises(UsageError, match="is not a model of a refit"):
        load_model(tmp_path / "other.pt")


def test_an_export_gives_the_same_outputs_in_a_process_without_this_package(kept: Kept, tmp_path: Path) -> None:
    directory, file = kept[0], tmp_path / "model.pt2"
    found = ImageProblem(ImageOptions()).export(directory, file)
    assert found["largest_difference"] <= found["tolerance"]
    extra = {"pictures.json": ""}
    torch.export.load(file, extra_files=extra)
    assert json.loads(extra["pictures.json"]) == {
        "class_names": ["left", "right"], "shape": [3, 12, 10], "aspect": "squeeze", "scales_deep": False,
    }  # fmt: skip
    pixels = torch.randint(0, 256, (5, 3, 12, 10), dtype=torch.uint8)
    torch.save(pixels, tmp_path / "pixels.pt")
    script = (
        "import sys, torch; sys.modules['hpbandster_lite'] = None\n"
        f"module = torch.export.load({str(file)!r}).module()\n"
        f"torch.save(module(torch.load({str(tmp_path / 'pixels.pt')!r})), {str(tmp_path / 'logits.pt')!r})\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    with torch.inference_mode():
        ours = load_model(directory / "model.pt")(pixels)
    assert torch.load(tmp_path / "logits.pt").detach().numpy() == pytest.approx(ours.numpy(), abs=1e-4)


def test_an_export_with_other_outputs_is_refused_and_removed(
    kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, file = load_model(kept[0] / "model.pt"), tmp_path / "model.pt2"
    load: Callable[..., Any] = torch.export.load

    def altered(path: Any) -> Any:
        program = load(path)
        with torch.no_grad():
            next(iter(program.state_dict.values())).add_(1.0)
        return program

    monkeypatch.setattr(torch.export, "load", altered)
    with pytest.raises(ArithmeticError, match="outputs of the exported model differ"):
        export_model(model, file)
    assert not file.exists()


def test_an_export_of_a_model_of_nans_is_refused_and_removed(kept: Kept, tmp_path: Path) -> None:
    model, file = load_model(kept[0] / "model.pt"), tmp_path / "model.pt2"
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(Diverged, match="outputs of the model are not finite"):
        export_model(model, file)
    assert not file.exists()


def test_an_export_under_another_name_is_refused_with_the_right_one(kept: Kept, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.pt2; give --export .*model\.pt2"):
        export_model(load_model(kept[0] / "model.pt"), tmp_path / "model.onnx")


def test_a_model_that_cannot_be_written_leaves_the_earlier_one(
    kept: Kept, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    model, images = load_model(kept[0] / "model.pt"), all_for_refit("cpu", ImageSource("images", pictures))
    about: dict[str, Any] = {"space": "small", "configuration": SMALL, "figures": {}}
    save_model(tmp_path / "model.pt", model.network, replace(images, class_names=("a", "b")), **about)
    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(OSError, match="No space left"):
        save_model(tmp_path / "model.pt", model.network, images, **about)
    assert load_model(tmp_path / "model.pt").class_names == ("a", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_default_configurations_of_all_spaces_can_be_tried(pictures: Path) -> None:
    for name in SPACES:
        problem = ImageProblem(ImageOptions(data_set="images", data=pictures, space=name))
        compiled = SearchSpace.from_configspace(problem.space())
        (config,) = compiled.to_values(compiled.default()[None])
        assert problem.feasible({**config, "batch_size": 64}) is True


# --------------------------------------------------------------------------------------------- public and former names


def test_a_model_that_version_0_1_0_saved_still_gives_its_logits() -> None:
    model = hpbandster_lite.load_model(RECORDED / "model-0.1.0.pt")
    assert (model.shape, model.class_names, model.about["space"]) == ((1, 8, 8, 2), ("bottom", "top"), "small")
    pixels = torch.arange(128, dtype=torch.uint8).reshape(2, 1, 8, 8)
    expected = torch.tensor([[0.02389, -0.092561], [0.037494, -0.032691]])
    torch.testing.assert_close(model(pixels), expected, atol=1e-4, rtol=0, check_stride=False)


def test_the_former_path_of_load_model_works_and_warns_with_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"workers\.vision\.models\.load_model has moved: .*lite\.load_model"):
        from hpbandster_lite.workers.vision.models import load_model as former

    assert former is hpbandster_lite.load_model


def test_the_former_entry_points_lead_to_the_same_problems() -> None:
    with pytest.warns(DeprecationWarning, match=r"use hpbandster_lite\.workers\.images\.problem"):
        former = load("hpbandster_lite.workers.vision.problem:cifar10")
    assert isinstance(former, ImageProblem)
    assert former.options == room.cifar10.options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3,), "file must be the path of a model, got 3; give the model.pt of a refit"),
        (("model.pt", "gpu"), "device must be a device of torch, got 'gpu'; give for example 'cpu'"),
        (("model.pt", None), "device must be a device of torch, got None; give for example 'cpu'"),
        (("model.pt",), "model.pt is not a model of a refit: "),
    ],
    ids=["file", "device", "no device", "content"],
)
def test_what_is_no_model_is_refused_with_the_argument(
    arguments: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_text("no model")
    with pytest.raises(UsageError) as caught:
        load_model(*arguments)
    assert str(caught.value).startswith(message)


# --------------------------------------------------------------------------------------------- the cost of judgements


def noted(**options: Any) -> list[str]:
    return ImageProblem(ImageOptions(data_set="fashion_mnist", space="small", **options)).notes()


def test_a_note_has_the_share_of_judging_where_it_is_large() -> None:
    assert noted(budget_unit="epochs", train_images=5_000) == [
        "judging 6,000 validation images at the end of a rung takes 36% at 1, 16% at 3 epochs, of the time of an "
        "evaluation with 5,000 training images; a lower --valid-images makes it shorter"
    ]
    # A rung of a nested schedule trains only what the rung below has not.
    (nested,) = noted(budget_unit="epochs", train_images=5_000, schedule="nested")
    assert "36% at 1, 22% at 3, 12% at 7 epochs" in nested
    assert "of the time of an evaluation with 100 training images" in ImageProblem(
        ImageOptions(data_set="images", budget_unit="epochs", train_images=100, valid_images=500)
    ).notes()[0]  # fmt: skip


def test_a_search_whose_judgements_are_cheap_or_whose_images_are_unknown_has_no_note() -> None:
    assert noted(budget_unit="epochs") == []
    assert noted(budget_unit="seconds", train_images=5_000) == []
    assert ImageProblem(ImageOptions(data_set="images", budget_unit="epochs", train_images=100)).notes() == []
