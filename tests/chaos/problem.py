"""The problem of a chaos run: a sum of steps with a checkpoint after each, and a log of all its actions.

Law of this file: the loss is a function of configuration and budget, bit for bit, also if an evaluation was interrupted
and continued elsewhere; a checkpoint of another configuration is an error. Each line of the log is in the kernel before
the evaluation continues, in a file of this process alone, on a disk that no fault fills.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpbandster_lite import Trial

LOGS = "CHAOS_LOGS"
"""Environment variable with the directory of the logs."""
STEP = "CHAOS_STEP_S"
"""Environment variable with the seconds of a step."""

min_budget, max_budget, unit = 1, 9, "steps"


def space() -> Any:
    from ConfigSpace import ConfigurationSpace, Float, Integer

    return ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Integer("n", (1, 9))])


def added_by(config: Mapping[str, Any], step: int) -> float:
    """The part of the loss that one step adds."""
    return math.sin(config["x"] * step) + float(config["n"] / step)


def loss_of(config: Mapping[str, Any], budget: float) -> float:
    """The loss after ``budget`` steps, added in the order of an evaluation."""
    total = 0.0
    for step in range(1, int(budget) + 1):
        total += added_by(config, step)
    return total / budget


def evaluate(config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
    log = Path(os.environ[LOGS]) / f"objective-{os.getpid()}.jsonl"
    state: dict[str, Any] = {"step": 0, "total": 0.0, "config": dict(config)}
    # An attempt that was killed during its first save leaves half of a file under another name.
    kept = (each for each in (trial.resume_directory, trial.previous_directory) if each is not None)
    saved = next((each for each in kept if (each / "state.json").exists()), None)
    if saved is not None:
        state = json.loads((saved / "state.json").read_text())
        if state["config"] != dict(config):
            raise ValueError(f"{saved} is a checkpoint of {state['config']}, not of {dict(config)}")
    note(log, "begun", trial, began=state["step"], resumed=saved is not None and saved == trial.resume_directory)
    total: float = state["total"]
    for step in range(state["step"] + 1, int(budget) + 1):
        time.sleep(float(os.environ[STEP]))
        total += added_by(config, step)
        # Written beside it and renamed, as every checkpoint should be: a kill must not leave half a checkpoint.
        half = trial.directory / "half"
        half.write_text(json.dumps({"step": step, "total": total, "config": dict(config)}))
        half.rename(trial.directory / "state.json")
        trial.report(step, total / step)
    note(log, "ended", trial, loss=total / budget)
    return {"loss": total / budget, "began": state["step"]}


def note(log: Path, what: str, trial: Trial, **more: Any) -> None:
    """Log one line with one write: a process that is killed leaves whole lines."""
    line = {
        "what": what,
        "evaluation": [list(trial.config_id), trial.rung],
        "attempt": trial.attempt,
        "trainer": os.getpid(),
        "agent": os.getppid(),
        "at": time.monotonic(),
        **more,
    }
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)
