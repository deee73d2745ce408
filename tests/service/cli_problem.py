"""A problem for the command line: cheap, with a test; environment variables make it slow or wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.problems.trial import Trial

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

min_budget, max_budget, unit, integer_budgets = 1, 9, "steps", True
HOLD = "CLI_PROBLEM_HOLD"
"""Environment variable that names a file: evaluations after the first three wait until it is deleted."""
RETURNS = "CLI_PROBLEM_RETURNS"
"""Environment variable with the value that evaluate returns instead of a loss."""


def space() -> ConfigurationSpace:
    # Imported here, so that trainers start without it.
    from ConfigSpace import ConfigurationSpace

    return ConfigurationSpace(space={"x": (0.0, 1.0), "depth": (1, 3)})


def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    held = os.environ.get(HOLD)
    if held is not None and int(str(trial.config_id).rpartition("-")[2]) >= 3:
        deadline = time.monotonic() + 50
        while Path(held).exists() and time.monotonic() < deadline:
            trial.report(time.monotonic(), loss=0.5)
            time.sleep(0.01)
    loss = (config["x"] - 0.3) ** 2 + config["depth"] / budget
    return os.environ.get(RETURNS) or {"loss": loss, "info": {"error_percent": 100 * loss}}


def test(config: dict[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
    return {"error_percent": 4.25}
