"""Workers that leave before their search is over: idle, after their number of evaluations, or out of time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpbandster_lite.records import Expired, Leased, Released
from tests.service.served_search import served_search

pytestmark = pytest.mark.timeout(150)

PATIENT = {"lease_s": 60.0, "heartbeat_s": 0.5}


def test_workers_of_one_command_leave_one_by_one_after_their_number_of_evaluations(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.start_command("worker", "--workers", "2", "--max-evaluations", "2").ends(0)
        assert len(search.results()) == 4
        assert len({entry.agent for entry in search.of(Leased)}) == 2
        search.start_command("worker").ends(0)
        master.ends(0)
        search.check()


def test_one_worker_is_started_for_each_gpu_and_keeps_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,8,9")
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.start_command("worker", "--gpus", "2", "--max-evaluations", "1").ends(0)
        assert sorted(entry.worker.partition(" gpu ")[2][:1] for entry in search.of(Leased)) == ["7", "8"]
        search.start_command("worker", "--gpus", "7,8", "--gpus-per-worker", "2", "--max-evaluations", "1").ends(0)
        assert search.of(Leased)[-1].worker.partition(" gpu ")[2][:3] == "7,8"
        output = search.start_command("worker", "--gpus", "all", "--gpus-per-worker", "2").ends(2)
        assert "--gpus-per-worker 2 does not divide the 3 GPUs here (7, 8, 9)" in output
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert "0 GPUs are visible here" in search.start_command("worker", "--gpus", "all").ends(2)
        search.start_command("worker").ends(0)
        master.ends(0)
        search.check()


def test_a_worker_without_work_leaves_and_the_one_at_work_beside_it_stays(tmp_path: Path) -> None:
    with served_search(tmp_path, **PATIENT, limits={"brackets": 1, "max_concurrent": 1}) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_command("worker", "--workers", "2", "--idle-timeout", "1")
        worker.says("nothing to do for 1 s")
        search.hold(False)
        worker.ends(0)
        master.ends(0)
        assert not [*search.of(Released), *search.of(Expired)]
        assert len({entry.agent for entry in search.of(Leased)}) == 1
        search.check()


def test_a_worker_takes_nothing_that_will_not_end_in_its_time_and_the_next_one_with_more_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        # A step takes half a second: nine evaluations of one step fit; one of nine steps is not started.
        monkeypatch.setenv("STEP_S", "0.5")
        master = search.start_master()
        began = time.monotonic()
        output = search.start_command("worker", "--allocation-time", "10").ends(75)
        assert "its time is too short for what is left to do" in output
        assert time.monotonic() - began < 10 + 5
        rungs = {entry.evaluation.rung for entry in search.of(Leased)}
        assert 0 in rungs
        assert 2 not in rungs
        assert all(entry.time_left_s is not None for entry in search.of(Leased))
        monkeypatch.delenv("STEP_S")
        search.start_command("worker").ends(0)
        master.ends(0)
        assert not [*search.of(Released), *search.of(Expired)]
        search.check()


def test_a_worker_in_a_job_asks_for_no_more_than_that_has_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        end = int(time.clock_gettime(time.CLOCK_REALTIME)) + 500
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(end))
        search.start_command("worker", "--max-evaluations", "1").ends(0)
        monkeypatch.setenv("SLURM_JOB_END_TIME", "0")
        search.start_command("worker").ends(0)
        master.ends(0)
        first, second, *_ = (entry.time_left_s for entry in search.of(Leased))
        assert first is not None
        assert 300 < first < 500
        assert second is None
        search.check()
