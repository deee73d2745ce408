"""A search with an algorithm that another package publishes: every process finds it by its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpbandster_lite import Result

CODE = """
from hpbandster_lite.samplers import Algorithm
from hpbandster_lite.samplers.random import Random

toy = Algorithm(plan="full_budget", sampler=lambda space, budgets, parameters: Random(space), parameters={"pace": 2})
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of processes that have the package on their path, as if it were installed."""
    root = tmp_path / "site"
    about = root / "toys-1.0.dist-info"
    about.mkdir(parents=True)
    (root / "toys.py").write_text(CODE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[hpbandster_lite.samplers]\ntoy = toys:toy\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpbandster_lite", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.timeout(120)
def test_a_search_with_an_installed_algorithm_runs_and_verifies(tmp_path: Path, environment: dict[str, str]) -> None:
    run_dir = tmp_path / "run"
    options = ("--run-dir", str(run_dir), "--seed", "3", "--workers", "1", "--brackets", "1")
    ran = command(environment, "run", "counting_ones", "--algorithm", "toy", "--set", "pace=3", *options)
    assert ran.returncode == 0, ran.stderr
    result = Result(run_dir)
    assert (result.settings.algorithm, dict(result.settings.sampler)) == ("toy", {"pace": 3})
    budgets = set(result.evaluations["budget"])
    assert budgets == {result.settings.budgets[-1]}
    assert command(environment, "verify", str(run_dir)).stdout.startswith("verified: ")

    without = command({**environment, "PYTHONPATH": ""}, "verify", str(run_dir))
    assert without.returncode == 2
    assert "unknown algorithm 'toy'" in without.stderr
