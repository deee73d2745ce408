"""A change that one evaluation makes in its process does not affect the next one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hpbandster_lite.records import Outcome
from tests.service.changing_objectives import CHANGES, REFERENCE, RENEWED, STAYS
from tests.service.worker_master import outcomes_of

RESTORED = [name for name in CHANGES if name not in RENEWED]
LATE = """
import random
def evaluate(config, budget, trial):
    import numpy as np
    drawn = [random.random(), float(np.random.rand())]
    if config["do"] == "torch":
        import torch
        drawn.append(float(torch.rand(1)))
    return {"loss": 1.0, "drawn": drawn}
"""
COLLECTS = """
import gc
gc.disable()
def feasible(config):
    return config["do"] != "infeasible"
def evaluate(config, budget, trial):
    if config["do"] == "raise":
        raise ValueError
    return {"loss": 1.0, "collections": gc.get_stats()[2]["collections"]}
"""
TORCH = """
import os
import numpy as np
import torch

def evaluate(config, budget, trial):
    if config["do"] == "change":
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_grad_enabled(False)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = True
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.autograd.set_detect_anomaly(True)
        torch.set_float32_matmul_precision("medium")
        torch.set_flush_denormal(True)
        np.seterr(all="raise")
        np.set_printoptions(precision=2)
    if config["do"] == "threads":
        torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)
    state = [torch.empty(1).dtype, torch.empty(1).device, torch.is_grad_enabled(),
             torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, torch.get_num_threads(),
             torch.is_anomaly_enabled(), torch.get_float32_matmul_precision(), 2.0**-1022 * (config["do"] != "") * 0.5,
             np.geterr(), np.get_printoptions()["precision"]]
    return {"loss": 1.0, "state": list(map(str, state)), "pid": os.getpid()}
"""


def pids(outcomes: list[Outcome]) -> list[object]:
    return [outcome.info["pid"] for outcome in outcomes if outcome.failure is None]


def test_the_next_evaluation_finds_the_process_as_it_was(tmp_path: Path) -> None:
    """All evaluations run in one warm process."""
    deeds = [deed for name in RESTORED for deed in (name, f"check {name}")]
    outcomes = dict(zip(deeds, outcomes_of(tmp_path, *deeds, problem=REFERENCE), strict=True))
    failed = {deed: outcome.failure.reason for deed, outcome in outcomes.items() if outcome.failure is not None}
    assert failed == {"exception": "ValueError: a wrong learning rate"}
    assert len(set(pids(list(outcomes.values())))) == 1


@pytest.mark.parametrize("name", RENEWED)
def test_what_cannot_be_restored_renews_the_trainer_with_a_reason(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first, second, changed, last = outcomes_of(
            tmp_path, "chdir", "check chdir", name, "check chdir", problem=REFERENCE
        )
    assert pids([first]) == pids([second]) != pids([last])
    assert pids([changed]) in ([], pids([first]))
    assert RENEWED[name][1] in caplog.text


def test_a_fresh_process_for_each_evaluation(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, "chdir", "check chdir", "chdir", problem=REFERENCE, fresh_process=True)
    assert len(set(pids(outcomes))) == 3


def test_global_random_generators_depend_on_the_evaluation_alone(tmp_path: Path) -> None:
    """Also the settings of libraries that the evaluation itself imports."""
    problem = tmp_path / "late.py"
    problem.write_text(LATE)
    warm = [outcome.info["drawn"] for outcome in outcomes_of(tmp_path / "warm", "torch", "torch", problem=str(problem))]
    fresh = outcomes_of(tmp_path / "fresh", "torch", problem=str(problem))
    assert warm == [fresh[0].info["drawn"]] * 2


def test_torch_and_numpy_are_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(TORCH)
    before, changed, after, threads, renewed = (
        outcome.info
        for outcome in outcomes_of(
            tmp_path, "look", "change", "look", "threads", "look", problem=str(tmp_path / "nets.py")
        )
    )
    assert all(one != other for one, other in zip(before["state"], changed["state"], strict=True))
    assert after["state"] == before["state"] == renewed["state"]
    assert before["pid"] == after["pid"] == threads["pid"] != renewed["pid"]


def test_only_an_exception_costs_a_collection_of_garbage(tmp_path: Path) -> None:
    (tmp_path / "collects.py").write_text(COLLECTS)
    deeds = ("count", "infeasible", "infeasible", "count", "raise", "count")
    outcomes = outcomes_of(tmp_path, *deeds, problem=str(tmp_path / "collects.py"))
    before, after_refusals, after_exception = (
        outcome.info["collections"] for outcome in outcomes if outcome.failure is None
    )
    assert (after_refusals - before, after_exception - after_refusals) == (0, 1)


def test_a_library_s_daemon_thread_keeps_the_trainer() -> None:
    assert set(STAYS) <= set(RESTORED)
