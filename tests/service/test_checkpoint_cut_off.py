"""A worker that is killed while its objective saves, by real processes: the half file costs one attempt, no result."""

from __future__ import annotations

from pathlib import Path

from hpbandster_lite.records import Recorded, SetAside
from tests.service.local_search import until
from tests.service.served_search import ServedSearch

PROBLEM = '''
import json
import os
import signal
import subprocess

min_budget, max_budget, unit = 1, 1, "steps"


def space():
    from ConfigSpace import ConfigurationSpace, Float

    return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])


def evaluate(config, budget, trial):
    if trial.resume_directory is not None:
        json.loads((trial.resume_directory / "state.json").read_text())
    elif trial.attempt == 1:
        (trial.directory / "state.json").write_text('{"step": ')
        # A program kills the worker; to a function of Python a trainer refuses it.
        subprocess.run(["kill", "-KILL", str(os.getppid())])
        signal.pause()
    return config["x"]
'''


class Saving(ServedSearch):
    text = PROBLEM


def test_a_worker_that_is_killed_within_a_save_costs_no_result(tmp_path: Path) -> None:
    with Saving(tmp_path, lease_s=60.0, limits={"evaluations": 1}) as search:
        master = search.start_master()
        killed, other = search.start_worker(0), search.start_worker(1)
        until(lambda: search.of(SetAside), "the failure on half a file is set aside")
        other.ends(0) if killed.process.poll() is not None else killed.ends(0)
        output = master.ends(0)
        (aside,) = search.of(SetAside)
        assert (aside.attempt, aside.resumed_from) == (2, 1)
        (recorded,) = search.of(Recorded)
        assert (recorded.attempt, recorded.outcome.loss is None, recorded.resumed_from) == (3, False, None)
        assert search.verified()
        assert f"evaluation {aside.evaluation} is run once more from the rung below: attempt 2 failed after" in output
        log = search.directory.attempt_directory(recorded.evaluation, 3) / "log.txt"
        assert "attempt 2 failed after it had continued from an attempt that was cut off" in log.read_text()
