"""The published search with small budgets, from the command line to a model of pixels: real files, two workers."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import given_in
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.workers.images.catalogue import CATALOGUE
from tests.docs.blocks import blocks
from tests.service import image_problem

LONGEST_S = 240.0
pytestmark = pytest.mark.timeout(2 * LONGEST_S)
PROBLEM = f"{image_problem.__file__}:problem"
TRAIN, TEST = 400, 60
SIDE = 28
SHRUNK = ("--preset", "paper", "--scale", "0.0001", "--brackets", "1", "--workers", "2", "--seed", "1",
          "--max-parameters", "60000")  # fmt: skip
"""Budgets of 0.04 to 1.08 seconds, for networks whose step takes less."""
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
DOCUMENT = Path(__file__).parents[2] / "docs" / "images.md"


def typed(
    *arguments: str | Path, folder: Path | None = None, module: tuple[str, ...] = ("-m", "hpbandster_lite")
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "1000"}
    if folder is not None:
        environment[image_problem.FOLDER] = str(folder)
    return subprocess.run(
        [sys.executable, *module, *map(str, arguments)], capture_output=True, text=True, timeout=LONGEST_S,
        check=False, stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


def written(folder: Path, rng: np.random.Generator) -> None:
    """Write a data set in the IDX format, packed like Debian's: a class is a bright row of a noisy image."""
    folder.mkdir()
    names = iter(CATALOGUE["fashion_mnist"].content_md5)
    for n in (TRAIN, TEST):
        y = (np.arange(n) % 10).astype(np.uint8)
        x = rng.integers(0, 120, (n, SIDE, SIDE), dtype=np.uint8)
        x[np.arange(n), 2 * y + 4] += 120
        for array in (x, y):
            shape = np.array(array.shape, ">i4").tobytes()
            content = bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()
            (folder / f"{next(names)}.gz").write_bytes(gzip.compress(content))


def test_the_published_search_shrunk_ends_with_a_model_that_classifies_a_picture(tmp_path: Path) -> None:
    images, run, kept = tmp_path / "fashion", tmp_path / "run", tmp_path / "kept"
    written(images, np.random.default_rng(0))
    ran = typed("run", PROBLEM, "--data", images, *SHRUNK, "--run-dir", run, folder=images)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "27 configurations, 40 evaluations, 4.32 seconds in all (4 times the full budget)" in ran.stdout
    check_evaluations(JournalReader(RunDirectory(run).journal))
    check_interval(json.loads((run / "incumbent.json").read_text())["test"])

    ran = typed("refit", run, "--out", kept, "--export", tmp_path / "model.pt2", folder=images)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((kept / "refit.json").read_text())
    check_interval(found["figures"])
    assert found["figures"]["budget_used"] >= 1.08
    (checked,) = found["exports"].values()
    assert checked["largest_difference"] <= checked["tolerance"]
    check_snippet(kept / "model.pt", tmp_path)


def check_evaluations(reader: JournalReader) -> None:
    """Check one bracket of the paper: every rung from scratch, all networks within the bound of parameters."""
    settings = reader.settings()
    assert settings.budgets == pytest.approx((0.04, 0.12, 0.36, 1.08))
    assert given_in(settings.problem.reference)["preset"] == "paper"
    assert [(row["done"], row["rung"]) for row in reader.rungs()] == [(27, 0), (9, 1), (3, 2), (1, 3)]
    outcomes = reader.outcomes().values()
    done = [outcome.info for outcome in outcomes if outcome.failure is None]
    assert len(done) == 40
    assert all(info["parameters"] <= 60_000 for info in done)
    assert {info["continued_from"] for info in done} == {0.0}
    assert all(info["budget_used"] >= 0.04 for info in done)
    refused = [outcome.failure.reason for outcome in outcomes if outcome.failure is not None]
    assert refused
    words = r"[\d,]+ parameters are more than --max-parameters 60,000|main block .* would have 1 channels.*"
    assert all(re.fullmatch(words, reason) for reason in refused)


def check_interval(figures: dict[str, Plain]) -> None:
    """Check the test error with its interval, on all test images."""
    low, high = figures["test_error_interval_percent"]
    assert figures["test_images"] == TEST
    assert 0 <= low <= figures["test_error_percent"] <= high <= 100


def check_snippet(model: Path, directory: Path) -> None:
    """Check that the snippet of the documentation prints the class of a picture and its probability."""
    (snippet,) = (
        block for block in blocks(DOCUMENT.read_text("utf-8"), name="images.md") if "load_model(" in block.text
    )
    pixels = np.random.default_rng(1).integers(0, 120, (40, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(directory / "picture.png")
    text = snippet.text
    for old, new in ((r'"[^"]*model\.pt"', model), (r'"[^"]*\.png"', directory / "picture.png")):
        text, replaced = re.subn(old, f'"{new}"', text)
        assert replaced == 1
    assert len(text.strip().splitlines()) <= 12
    file = directory / "apply.py"
    file.write_text(text)
    ran = typed(file, module=())
    assert ran.returncode == 0, ran.stderr
    name, share = ran.stdout.split("  ")
    assert name in ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                    "Ankle boot")  # fmt: skip
    assert 10 <= float(share.rstrip(" %\n")) <= 100


def test_missing_images_are_a_note_of_a_plan_and_refused_by_a_search(tmp_path: Path) -> None:
    absent, run = tmp_path / "absent", tmp_path / "run"
    planned = typed("plan", "images", "--data", absent)
    searched = typed("run", "images", "--data", absent, "--run-dir", run)

    assert planned.returncode == 0
    assert f"note: the images are missing: {absent} does not exist" in planned.stdout
    assert searched.returncode == 2
    assert f"error: the images are missing: {absent} does not exist" in searched.stderr
    assert not run.exists()


def test_own_pictures_are_searched_in_epochs_with_rungs_that_continue(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    y = np.arange(150) % 3
    x = rng.integers(0, 90, (150, 16, 16, 3))
    for row, kind in enumerate(y):
        x[row, 5 * kind : 5 * kind + 5] += 120
    np.savez(tmp_path / "own.npz", x=x.astype(np.uint8), y=y)
    ran = typed("run", "images", "--data", tmp_path / "own.npz", "--space", "small", "--budget-unit", "epochs",
                "--schedule", "nested", "--budgets", "1,3", "--brackets", "1", "--workers", "2", "--seed", "3",
                "--max-parameters", "8000", "--run-dir", tmp_path / "run")  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    outcomes = JournalReader(RunDirectory(tmp_path / "run").journal).outcomes().values()
    top = [outcome.info for outcome in outcomes if outcome.info.get("epochs") == 3]
    assert top
    assert {info["continued_from"] for info in top} == {1.0}


@pytest.mark.skipif(not INSTALLED.is_dir(), reason="needs the package dataset-fashion-mnist")
def test_the_published_search_shrunk_on_real_images(tmp_path: Path) -> None:
    # The whole bracket is evaluated above.
    ran = typed("run", "fashion_mnist", *SHRUNK, "--evaluations", "2", "--train-images", "600", "--valid-images", "200",
                "--run-dir", tmp_path / "run")  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads((tmp_path / "run" / "incumbent.json").read_text())["test"]
    assert found["test_images"] == 10_000
