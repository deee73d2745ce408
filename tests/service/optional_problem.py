"""A problem with options, a refit and an export, in plain Python: its model is a list of numbers in a file.

Training saves a checkpoint after each step, so that a killed training continues; its result says where it began.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpbandster_lite.problems.trial import Interrupted, Trial

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

HOLD = "OPTIONAL_PROBLEM_HOLD"
"""Environment variable that names a file: a refit stays at its second step while the file exists."""
FAILS = "OPTIONAL_PROBLEM_FAILS"
"""Environment variable with the failure of a refit or an export."""


@dataclass(frozen=True)
class Options:
    data: Path | None = field(default=None, metadata={"local": True, "help": "the folder with the data"})
    kind: Literal["flat", "steep"] = field(default="flat", metadata={"help": "the shape of the loss"})
    scale: float = 1.0
    noisy: bool = False


class Optional:
    """The problem with given options."""

    min_budget, unit, integer_budgets = 1, "steps", True

    def __init__(self, options: Options) -> None:
        self.options = options
        self.max_budget = 9 * options.scale

    def configured(self, options: Options) -> Optional:
        return Optional(options)

    def space(self) -> ConfigurationSpace:
        # Imported here, so that trainers start without it.
        from ConfigSpace import ConfigurationSpace

        return ConfigurationSpace(space={"x": (0.0, 1.0)})

    def evaluate(self, config: dict[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        slope = 2.0 if self.options.kind == "steep" else 1.0
        data = None if self.options.data is None else str(self.options.data)
        return {"loss": slope * config["x"] + 1 / budget, "kind": self.options.kind, "data": data}

    def refit(self, config: dict[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
        if os.environ.get(FAILS) == "refit":
            raise RuntimeError("the training data is missing")
        checkpoint = trial.directory / "checkpoint.json"
        resumed = trial.resume_directory is not None
        weights = json.loads(checkpoint.read_text()) if resumed else []
        began = len(weights)
        for step in range(began, int(budget)):
            weights.append(config["x"] + step)
            written = checkpoint.with_suffix(".tmp")
            written.write_text(json.dumps(weights))
            written.replace(checkpoint)
            print("step", step)
            trial.report(step + 1, 1 / (step + 1), kind=self.options.kind)
            if step == 1:
                _held(trial)
        (trial.directory / "model.json").write_text(json.dumps(weights))
        return {"model": "model.json", "test_error_percent": 4.5, "test_error_interval": [4.0, 5.0], "began": began,
                "seed": trial.seed, "kind": self.options.kind, "data": str(self.options.data)}  # fmt: skip

    def export(self, directory: Path, file: Path) -> dict[str, Any]:
        if os.environ.get(FAILS) == "export":
            raise RuntimeError("the outputs of the exported model differ by 0.5")
        weights = json.loads((directory / "model.json").read_text())
        file.write_text(" ".join(map(str, weights)))
        return {"largest_difference": 0.0}


def _held(trial: Trial) -> None:
    held = os.environ.get(HOLD)
    deadline = time.monotonic() + 50
    while held is not None and Path(held).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
        if trial.should_stop():
            print("asked to stop")
            raise Interrupted


problem = Optional(Options())
options, configured = Options, problem.configured
