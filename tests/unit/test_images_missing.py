"""Data that is missing on this host: reported before anything is evaluated, by looking at files alone."""

from __future__ import annotations

import math
import select
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.trainer_keeper import TrainerKeeper
from hpbandster_lite.errors import ProblemError, UsageError
from hpbandster_lite.problems.shipped_data import MissingData, missing_data, notes_of, refuse_missing, require_data
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.trainer.in_thread import InlineTrainer
from hpbandster_lite.trainer.messages import TrainerMessage, TrainerReady, TrainerRefused
from hpbandster_lite.workers import counting_ones, digits
from hpbandster_lite.workers.images.catalogue import CATALOGUE
from hpbandster_lite.workers.images.missing_images import missing_images
from hpbandster_lite.workers.images.options import ImageOptions
from hpbandster_lite.workers.images.problem import ImageProblem


def places() -> dict[str, list[str]]:
    """Files that make a data set complete, by its name."""
    idx = list(CATALOGUE["mnist"].content_md5)
    return {
        "cifar10": [f"cifar-10-batches-py/{name}" for name in CATALOGUE["cifar10"].files],
        "cifar100": ["cifar-100-python.tar.gz"],
        "mnist": [f"MNIST/raw/{name}" for name in idx],
        "fashion_mnist": [f"{name}.gz" for name in idx],
    }


def write_pictures(folder: Path) -> None:
    """Eight pictures of two classes."""
    for number, name in enumerate("aaaabbbb"):
        (folder / name).mkdir(exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(folder / name / f"{number}.png")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))


@pytest.fixture(autouse=True)
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HPBANDSTER_LITE_DATA", raising=False)
    for name, known in CATALOGUE.items():
        if known.system_folder is not None:
            absent = {each: getattr(known, each) for each in known.__slots__} | {"system_folder": Path("/absent")}
            monkeypatch.setitem(CATALOGUE, name, type(known)(**absent))


@pytest.mark.parametrize("data_set", list(CATALOGUE))
def test_a_data_set_is_missing_until_all_its_files_are_there(data_set: str, tmp_path: Path) -> None:
    files = [tmp_path / name for name in places()[data_set]]
    for file in files:
        missing = missing_images(data_set, tmp_path)
        assert missing is not None
        assert missing.startswith(f"{data_set} is missing: looked for ")
        assert str(tmp_path) in missing
        assert "--data DIR" in missing
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    assert missing_images(data_set, tmp_path) is None


def test_the_places_that_were_searched_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    missing = missing_images("fashion_mnist", None)

    assert missing is not None
    for place in (tmp_path / "hpbandster_lite/data/FashionMNIST/raw", tmp_path / "hpbandster_lite/data", "/absent"):
        assert f"{place}" in missing
    assert "apt-get install dataset-fashion-mnist" in missing


def test_own_images_need_a_place_that_exists(tmp_path: Path) -> None:
    assert missing_images("images", tmp_path) is None
    assert f"{tmp_path}/none does not exist" in str(missing_images("images", tmp_path / "none"))
    assert "requires --data DIR" in str(missing_images("images", None))


def test_libraries_are_looked_for_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpbandster_lite.workers.digits.find_spec", lambda name: None)

    assert str(digits.missing_data()).startswith("scikit-learn, which has the images, and torch cannot be imported")


def test_only_shipped_problems_are_asked() -> None:
    assert missing_data(SimpleNamespace(missing_data=lambda: "everything", fetch_data=list)) is None
    assert missing_data(counting_ones) is None
    own = missing_data(ImageProblem(ImageOptions(data_set="images")))
    assert own is not None
    assert not own.is_fetched


def test_a_plan_has_the_notes_of_a_shipped_problem_unless_its_data_is_missing(tmp_path: Path) -> None:
    missing: list[MissingData] = []
    write_pictures(tmp_path)
    there, absent = (f"images?repeats=3&data={tmp_path}{name}" for name in ("", "/none"))

    notes = prepare(SearchOptions(problem=there, seed=1), on_missing=missing.append).notes

    assert notes == (
        "an evaluation at the highest budget trains 3 networks (--repeats 3), so it takes 3 times its budget",
        f"{tmp_path}: 8 pictures: a 4, b 4",
        "sizes: 8x8 (8); modes: L (8)",
        "2 validation images cannot tell a point of difference apart: an error of 10 % has a 95 % interval of ±41.6 "
        "points; what helps is more images or --folds 5, which validates with all 6 or a larger --valid-share",
    )
    assert missing == []
    assert prepare(SearchOptions(problem=absent, seed=1), on_missing=missing.append).notes == ()
    assert len(missing) == 1
    assert notes_of(SimpleNamespace(notes=lambda: ["something"])) == ()


def test_what_can_be_downloaded_is_refused_by_no_launcher_and_fetched_by_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = ImageProblem(ImageOptions(data_set="mnist", data=tmp_path))
    missing = missing_data(problem)
    assert missing is not None
    assert missing.is_fetched
    refuse_missing([missing])
    calls: list[str] = []
    monkeypatch.setattr("hpbandster_lite.workers.images.problem.read_images", lambda name, *_: calls.append(name))

    require_data(problem, lambda: calls.append("before"))

    assert calls == ["before", "mnist"]


def test_what_cannot_be_downloaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing here"):
        refuse_missing([MissingData("nothing here", is_fetched=False)])
    with pytest.raises(ProblemError, match="does not exist"):
        require_data(ImageProblem(ImageOptions(data_set="images", data=tmp_path / "none")), lambda: None)


@pytest.mark.parametrize(("data", "kind"), [("none", TrainerRefused), (".", TrainerReady)], ids=["missing", "there"])
def test_a_trainer_without_data_refuses_before_its_first_evaluation(
    data: str, kind: type[TrainerMessage], tmp_path: Path
) -> None:
    write_pictures(tmp_path)
    problem = ImageProblem(ImageOptions(data_set="images", data=tmp_path / data))
    trainer = InlineTrainer("images", problem)
    select.select(trainer.descriptors, [], [], 10)

    assert [type(message) for message in trainer.receive()] == [kind]
    trainer.close()


def test_a_download_has_no_time_limit() -> None:
    class Silent:
        is_ready, descriptors, poll_every_s = False, (), 60.0

        def sample(self) -> None: ...

    # A stand-in of it.
    keeper = TrainerKeeper(AgentOptions(problem="mnist", run_dir="x"), Silent)  # type: ignore[arg-type]
    keeper.act(0.0)
    assert keeper.next_due(290.0) == 300.0
    keeper.wait_for_data()
    keeper.act(1e6)

    assert keeper.refusal is None
    assert not math.isinf(keeper.next_due(1e6))
