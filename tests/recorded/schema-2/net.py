"""A small problem with checkpoints, a test and a refit: it takes SLOW_S seconds, and fails where FAIL is set."""

import os
import time
from pathlib import Path
from typing import Any

min_budget, max_budget, eta, unit = 1, 9, 3, "steps"


def space() -> Any:
    from ConfigSpace import Categorical, ConfigurationSpace, Float

    space = ConfigurationSpace()
    space.add([Float("x", (0.0, 1.0)), Categorical("kind", ["a", "b"])])
    return space


def evaluate(config: dict[str, Any], budget: float, trial: Any) -> dict[str, Any]:
    time.sleep(float(os.environ.get("SLOW_S", "0.02")))
    if config["x"] > float(os.environ.get("BELOW", "2")):
        raise ValueError(f"x is {config['x']}")
    loss = (config["x"] - 0.4) ** 2 + (config["kind"] == "b") + 1 / budget
    (Path(trial.directory) / "model.txt").write_text(f"{loss}")
    trial.report(budget, loss=loss)
    return {"loss": loss, "info": {"twice": 2 * loss}}


def test(config: dict[str, Any], budget: float, trial: Any) -> dict[str, Any]:
    return {"error": 0.5}


def refit(config: dict[str, Any], budget: float, trial: Any) -> dict[str, Any]:
    (Path(trial.directory) / "model.txt").write_text("refitted")
    return {"model": "model.txt", "error": 0.25}
