"""Evaluations that train with several processes: they find each other, and none outlives its evaluation."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.agent.loop import run_agent
from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import Failure, FailureKind, Outcome
from hpbandster_lite.trainer.rendezvous import RendezvousPort
from tests.grants import grant
from tests.service.worker_master import ScriptedMaster, options, wait_for_the_end_of

pytestmark = pytest.mark.timeout(120)

PROBLEM = str(Path(__file__).with_name("ranks_problem.py"))


def outcomes_of(run_dir: Path, *deeds: str, **changed: Any) -> list[Outcome]:
    master = ScriptedMaster([grant({"deed": deed}, number) for number, deed in enumerate(deeds)])
    assert run_agent(options(run_dir, problem=PROBLEM, **changed), connect=master.connect) == 0
    return master.outcomes


def test_processes_of_one_evaluation_find_each_other_and_a_killed_one_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    killed, trained = outcomes_of(tmp_path, "is killed", "trains", gpus_per_worker=2, threads=1)
    # Rank 0 adds 1, rank 1 adds 10; both must connect, on the port of the processes that were killed.
    assert trained.loss == 11.0
    assert isinstance(killed.failure, Failure)
    assert killed.failure.kind is FailureKind.CODE
    assert "ended with [" in killed.failure.reason
    assert "-9" in killed.failure.reason
    (pids,) = (point.metrics["pids"] for point in killed.curve if "pids" in point.metrics)
    wait_for_the_end_of(*pids)


def test_an_interrupted_evaluation_leaves_none_of_its_processes(tmp_path: Path) -> None:
    def hook(method: str, message: Any, number: int) -> None:
        for point in message.curve if method == "renew" else ():
            if "pids" in point[2] and not pids:
                pids.extend(point[2]["pids"])
                os.kill(os.getpid(), signal.SIGUSR2)

    pids: list[int] = []
    master = ScriptedMaster([grant({"deed": "waits"})], after=hook)
    agent_options = options(tmp_path, problem=PROBLEM, gpus_per_worker=2, threads=1)
    assert run_agent(agent_options, connect=master.connect) == 75
    assert len(master.releases) == 1
    assert len(pids) == 2
    wait_for_the_end_of(*pids)


def test_an_objective_gets_a_rendezvous_and_the_devices_of_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (outcome,) = outcomes_of(tmp_path, "tells", gpus_per_worker=3, threads=2, device="")
    port = int(outcome.info["variables"].pop("MASTER_PORT"))
    assert port > 0
    assert outcome.info["variables"] == {
        "MASTER_ADDR": "127.0.0.1",
        "WORLD_SIZE": "3",
        "LOCAL_WORLD_SIZE": "3",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    assert outcome.info["devices"] == ["cpu"] * 3


def test_an_objective_of_one_device_gets_no_rendezvous(tmp_path: Path) -> None:
    (outcome,) = outcomes_of(tmp_path, "tells", threads=2)
    variables = {name: outcome.info["variables"][name] for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")}
    assert variables == dict.fromkeys(variables)
    assert outcome.info["devices"] == ["cpu"]


def test_trainers_beside_each_other_have_ports_of_their_own_for_as_long_as_they_live() -> None:
    points = [RendezvousPort(2) for _ in range(20)]
    ports = {point.environment["MASTER_PORT"] for point in points}
    assert len(ports) == 20
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", int(min(ports))))
    for point in points:
        point.close()
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", int(min(ports))))


def test_several_devices_inside_the_agent_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="several GPUs for an evaluation need isolation='trainer'"):
        options(tmp_path, isolation="none", gpus_per_worker=2)
