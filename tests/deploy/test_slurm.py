"""A search on a real Slurm: how its jobs react to signals and faults; no result is lost or counted twice.

Each test ends with the whole search: it is over, every job has ended by itself, the journal has every evaluation once
and every decision in it is verified.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import psutil
import pytest

from hpbandster_lite.records import Expired, Leased, Released
from hpbandster_lite.slurm.parsing import QueuedJob
from hpbandster_lite.slurm.submitted_jobs import load_jobs
from tests.deploy.slurm_cluster import COMMAND, Cluster, SlurmSearch, search_on, until_slow
from tests.service.local_search import until
from tests.service.served_search import continued, stopped, until_passed

SCRIPTS = Path(__file__).parents[2] / "deploy" / "slurm"
pytestmark = pytest.mark.timeout(300)


def warn(cluster: Cluster, job: str) -> None:
    """Send the signal that ``--signal=B:USR2@120`` sends two minutes before the time limit."""
    cluster("scancel", "--batch", "--signal=USR2", job)


def in_the_middle(search: SlurmSearch, *arguments: str, workers: int = 2) -> tuple[str, str, QueuedJob]:
    """Submit a search and wait until all workers evaluate; return its jobs, and the task of one worker."""
    search.hold()
    master, job = search.submit(*arguments, workers=workers)
    search.wait_inside(workers)
    return master, job, search.tasks(job)[0]


def wait_handed_back(search: SlurmSearch, count: int = 1) -> list[Released]:
    """Wait until ``count`` evaluations were handed back."""
    until(lambda: len(search.handed_back()) >= count, f"{count} evaluations are handed back")
    return search.handed_back()


def assert_continued(search: SlurmSearch, released: list[Released]) -> None:
    """Check that evaluations that were handed back continued from their checkpoints."""
    results = search.results()
    for each in released:
        assert results[each.evaluation].info["began"] >= 1, f"{each.evaluation} began from the start"


# ------------------------------------------------------------------------------------------------------- submitting


def test_a_search_that_is_submitted_runs_to_its_end_with_no_more_workers_at_a_time_than_the_throttle_allows(
    cluster: Cluster, tmp_path: Path
) -> None:
    with search_on(cluster, tmp_path) as search:
        search.hold()
        master, workers = search.submit("--array-throttle", "2", "--time", "10", "--grace", "3m", workers=3)
        search.wait_inside(2)
        status = json.loads(search.slurm("status", str(search.run_dir), "--json"))
        assert {row["name"]: row["state"] for row in status["jobs"]} == {
            master: "RUNNING",
            f"{workers}_0": "RUNNING",
            f"{workers}_1": "RUNNING",
            f"{workers}_2": "PENDING",
        }
        assert status["search"]["evaluations"]["running"] == 2
        assert "(JobArrayTaskLimit): the array's throttle is reached" in search.slurm("status", str(search.run_dir))
        search.ends()
        status = json.loads(search.slurm("status", str(search.run_dir), "--json"))
        assert {row["state"] for row in status["jobs"]} == {"COMPLETED"}


@pytest.mark.slow
def test_each_worker_has_a_gpu_of_its_own(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        in_the_middle(search, "--worker-sbatch", "--nodes=1 --nodelist=node1", workers=3)
        seen = {trainer.environ()["CUDA_VISIBLE_DEVICES"] for trainer in search.processes("trainer")}
        assert len(seen) == 3
        search.ends()


def test_a_refusal_by_sbatch_shows_its_message_and_leaves_no_job(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        for option, words in (
            (
                "--master-sbatch",
                "Invalid partition name specified. What to change: --partition names a partition that does not exist",
            ),
            ("--worker-sbatch", "invalid partition specified: nope"),
        ):
            done = cluster.run(
                COMMAND,
                "slurm",
                "submit",
                str(search.file),
                "--run-dir",
                str(search.run_dir),
                option,
                "--partition=nope",
            )
            assert done.returncode == 2
            assert words in done.stderr
        cluster.wait_empty()
        assert load_jobs(search.directory).jobs == ()


def test_a_problem_that_cannot_be_read_costs_no_job(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text("min_budget = 1\n")
    done = cluster.run(COMMAND, "slurm", "submit", "wrong.py", "--run-dir", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "wrong.py" in done.stderr
    assert not (tmp_path / "run").exists()
    assert cluster.jobs() == []


# ----------------------------------------------------------------------------------------------------- as shipped


def shipped(search: SlurmSearch, name: str) -> str:
    """A shipped script with its three variables set as a user sets them."""
    text = (SCRIPTS / name).read_text("utf-8")
    for variable, value in (
        ("PROBLEM", search.file),
        ("RUN_DIR", search.run_dir),
        ("VENV", Path(COMMAND).parents[1]),
    ):
        text, count = re.subn(rf"^{variable}=.*$", f"{variable}={value}", text, flags=re.MULTILINE)
        assert count == 1
    (search.place / name).write_text(text)
    return name


def test_the_scripts_as_shipped_need_three_variables_to_be_set(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        search.sbatch(shipped(search, "workers.sbatch"))
        search.sbatch(shipped(search, "master.sbatch"))
        cluster.wait_empty()
        assert len(list(tmp_path.glob("hpb-workers-*.log"))) == 10
        search.ends()


def test_the_script_for_all_in_one_as_shipped_needs_three_variables_to_be_set(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        search.hold()
        search.sbatch(shipped(search, "all_in_one.sbatch"))
        search.wait_inside(8)
        trainers = search.processes("trainer")
        seen = {(each.environ()["SLURMD_NODENAME"], each.environ()["CUDA_VISIBLE_DEVICES"]) for each in trainers}
        assert len(seen) == 8
        search.ends()


# --------------------------------------------------------------------------------------------------------- faults


def test_a_worker_near_its_time_limit_hands_back_and_is_queued_again(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        _, _, victim = in_the_middle(search)
        warn(cluster, victim.name)
        released = wait_handed_back(search)
        until(lambda: cluster.restarts(victim.name) == 1, "the worker is queued again")
        search.ends()
        assert_continued(search, released)


def test_a_master_near_its_time_limit_is_queued_again_while_its_workers_go_on(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        master, workers, _ = in_the_middle(search)
        warn(cluster, master)
        until(lambda: cluster.restarts(master) == 1, "the master is queued again")
        search.hold(False)
        until(lambda: (search.directory.read_endpoint() or {"epoch": 0})["epoch"] == 2, "the second master serves")
        assert len(search.tasks(workers)) == 2
        search.ends()
        assert search.handed_back() == []


def test_a_worker_that_is_cancelled_hands_back_and_stays_away(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        _, workers, victim = in_the_middle(search)
        cluster("scancel", victim.name)
        released = wait_handed_back(search)
        until(lambda: cluster.job(victim.name) is None, "the worker has gone")
        assert len(search.tasks(workers)) == 1
        search.ends()
        assert_continued(search, released)


def test_a_search_gets_more_workers_and_fewer_while_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        _, _, first = in_the_middle(search, workers=1)
        summary = search.slurm("scale", str(search.run_dir), "3")
        assert re.fullmatch(r"1 workers, 2 more submitted as job \d+", summary)
        search.wait_inside(3)
        assert "2 asked to hand back" in search.slurm("scale", str(search.run_dir), "1")
        released = wait_handed_back(search, 2)
        until(lambda: len(cluster.jobs()) == 2, "a worker and the master are left")
        assert cluster.runs(first.name)
        search.ends()
        assert_continued(search, released)


def test_a_search_that_is_cancelled_hands_everything_back_and_goes_on_when_it_is_submitted_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    with search_on(cluster, tmp_path) as search:
        in_the_middle(search)
        summary = search.slurm("cancel", str(search.run_dir))
        assert summary.endswith("all jobs have ended")
        cluster.wait_empty()
        released = search.handed_back()
        assert len(released) == 2
        assert search.directory.read_endpoint() is None
        search.hold(False)
        search.submit()
        search.ends()
        assert_continued(search, released)


@pytest.mark.slow
def test_a_worker_that_is_queued_again_by_hand_hands_back(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        _, _, victim = in_the_middle(search)
        cluster("scontrol", "requeue", victim.name)
        released = wait_handed_back(search)
        until(lambda: cluster.restarts(victim.name) == 1 and cluster.runs(victim.name), "its second life runs")
        search.ends()
        assert_continued(search, released)


@pytest.mark.slow
def test_a_master_that_is_queued_again_by_hand_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        master, _, _ = in_the_middle(search)
        cluster("scontrol", "requeue", master)
        until(lambda: cluster.restarts(master) == 1 and cluster.runs(master), "its second life runs")
        search.ends()


@pytest.mark.slow
@pytest.mark.parametrize("grace_s", [0, 40], ids=["at once", "with time to leave"])
def test_workers_that_are_pre_empted_hand_back_and_come_again(grace_s: int, cluster: Cluster, tmp_path: Path) -> None:
    cluster("scontrol", "update", "partitionname=scavenge", f"GraceTime={grace_s}")
    with search_on(cluster, tmp_path) as search:
        _, workers, _ = in_the_middle(
            search, "--worker-sbatch", "--partition=scavenge", "--master-sbatch", "--nodelist=node0 --cpus-per-task=1"
        )
        nodes = sorted({task.where for task in search.tasks(workers)})
        urgent = cluster(
            "sbatch", "--parsable", "--partition=gpu", "--gres=gpu:4", f"--nodes={len(nodes)}",
            f"--nodelist={','.join(nodes)}", f"--output={tmp_path}/urgent", "--wrap", "sleep 3",
        )  # fmt: skip
        released = wait_handed_back(search, 2)
        until(lambda: cluster.job(urgent) is None, "the urgent job has ended")
        search.hold(False)
        until(lambda: [cluster.restarts(f"{workers}_{task}") for task in (0, 1)] == [1, 1], "both come again")
        search.ends()
        assert "ended at once" not in search.logs()
        assert_continued(search, released)


@pytest.mark.slow
def test_a_node_that_is_lost_leaves_two_lives_of_a_worker_and_no_evaluation_is_counted_twice(
    cluster: Cluster, tmp_path: Path
) -> None:
    with search_on(cluster, tmp_path, lease_s=20.0, heartbeat_s=1.0) as search:
        _, _, victim = in_the_middle(
            search, "--master-sbatch", "--nodelist=node0", "--worker-sbatch", "--exclude=node0 --mem=2500"
        )
        pid = int((cluster.state / "run" / f"slurmd.{victim.where}.pid").read_text())
        psutil.Process(pid).kill()
        # The processes there get no notice and are out of Slurm's reach; they are stopped, as if behind a broken
        # switch.
        first_life = [each for each in search.processes() if each.environ().get("SLURM_JOB_ID") == victim.number]
        stopped(*first_life)
        try:
            lives = len(search.processes("trainer"))
            until_slow(lambda: cluster.restarts(victim.name) == 1 and cluster.runs(victim.name), 150, "a second life")
            until_slow(lambda: len(search.processes("trainer")) == lives + 1, 60, "both lives are there")
            search.wait_inside(lives + 1)
            (lost,) = {entry.evaluation for entry in search.of(Expired)}
            continued(*first_life)
            search.hold(False)
            until(lambda: search.directory.read_endpoint() is None, "the search is over")
            until(lambda: not search.processes(), "all of its processes have ended, those out of Slurm's reach as well")
        finally:
            cluster("slurmd", "-N", victim.where, "-f", str(cluster.state / "slurm.conf"))
        search.ends()
        attempts = [
            search.directory.relative_attempt_path(lost, each.attempt)
            for each in search.of(Leased)
            if each.evaluation == lost
        ]
        assert len(attempts) == len(set(attempts)) >= 2


@pytest.mark.slow
def test_a_time_limit_is_no_end_of_the_search(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        master, workers, _ = in_the_middle(search, "--time", "3")
        names = [master, f"{workers}_0", f"{workers}_1"]
        until_slow(lambda: all(cluster.restarts(name) == 1 for name in names), 150, "everything is queued again")
        released = wait_handed_back(search, 2)
        search.ends()
        assert_continued(search, released)


@pytest.mark.slow
def test_an_evaluation_that_is_longer_than_a_job_is_taken_by_one_that_was_queued_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    with search_on(cluster, tmp_path) as search:
        _, workers, _ = in_the_middle(search, "--time", "4")
        # According to the durations of these, an evaluation at the next budget needs more than the two minutes left.
        until_passed(45)
        search.hold(False)
        until_slow(lambda: cluster.restarts(f"{workers}_0") == 1, 60, "a worker has left and is queued again")
        search.ends()
        assert search.handed_back() == []


@pytest.mark.slow
def test_all_in_one_near_its_time_limit_is_queued_again(cluster: Cluster, tmp_path: Path) -> None:
    with search_on(cluster, tmp_path) as search:
        search.hold()
        summary = search.slurm(
            "submit", str(search.file), "--run-dir", str(search.run_dir), "--workers", "4", "--nodes", "2",
            "--cpus-per-worker", "1",
        )  # fmt: skip
        (job,) = re.findall(r"all in one: job (\d+)", summary)
        search.wait_inside(4)
        warn(cluster, job)
        released = wait_handed_back(search, 4)
        until(lambda: cluster.restarts(job) == 1, "it is queued again")
        search.ends()
        assert_continued(search, released)
