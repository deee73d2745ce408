"""Jobs are written down as they are submitted, let go politely, and only those whose going costs least."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.slurm import lifecycle as steering
from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.slurm.parsing import QueuedJob
from hpbandster_lite.slurm.scale_down import busy_jobs, leavers
from hpbandster_lite.slurm.scripts import Request, Submission, submissions
from hpbandster_lite.slurm.submitted_jobs import FILE_NAME, jobs_of


class Cluster(Slurm):
    """A Slurm that takes everything down: what it was told, and what its queue shows."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, ...]] = []
        self.jobs: list[QueuedJob] = []
        self.refuses = ""
        self.goes_at_once = True
        self.begins = True

    def require(self) -> None:
        """It is there."""

    def submit(self, command: Sequence[str]) -> str:
        self.told.append(("sbatch", *command[2:]))
        if self.refuses and any(self.refuses in word for word in command):
            raise UsageError("sbatch refused the job")
        job = str(100 + len(self.told))
        if not self.begins:
            self.add(job, "PENDING")
        return job

    def queue(self, jobs: object) -> list[QueuedJob]:
        asked = set(jobs)  # type: ignore[call-overload]
        return [job for job in self.jobs if job.array in asked]

    def cancel(self, jobs: Sequence[str], *, signal: str | None = None) -> None:
        if jobs:
            self.told.append(("scancel", str(signal), *jobs))
        if self.goes_at_once:
            self.jobs = [job for job in self.jobs if job.name not in jobs]

    def add(self, name: str, state: str = "RUNNING", used: str = "1:00") -> None:
        self.jobs.append(QueuedJob(name=name, number=f"9{name.replace('_', '')}", state=state, used=used))


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "run")
    made.create()
    return made


def asked(directory: RunDirectory, nodes: int | None = None) -> dict[str, Submission]:
    here = directory.path
    return submissions(Request(problem="digits", run_dir=here, venv=here, cwd=here, workers=4, nodes=nodes))


def nobody() -> set[str]:
    return set()


def test_what_is_submitted_is_written_down_with_its_scripts(directory: RunDirectory) -> None:
    cluster = Cluster()
    jobs = steering.submit(cluster, directory, asked(directory), at=5.0)
    assert jobs == jobs_of(directory)
    assert [(job.kind, job.job, job.tasks, job.at) for job in jobs.jobs] == [
        ("master", "101", 1, 5.0),
        ("workers", "102", 4, 5.0),
    ]
    assert not any("dependency" in word for word in jobs.jobs[1].command)
    assert (directory.path / "slurm" / "workers.sbatch").read_text("utf-8").startswith("#!/usr/bin/env bash")


def test_workers_of_a_master_that_has_to_queue_wait_for_it_without_holding_a_gpu(directory: RunDirectory) -> None:
    cluster = Cluster()
    cluster.begins = False
    jobs = steering.submit(cluster, directory, asked(directory), at=0.0, begin_s=0.0)
    assert "--dependency=after:101" in jobs.jobs[1].command


def test_workers_that_are_refused_leave_no_master_behind(directory: RunDirectory) -> None:
    cluster = Cluster()
    cluster.refuses = "--array"
    with pytest.raises(UsageError):
        steering.submit(cluster, directory, asked(directory), at=0.0)
    assert cluster.told[-1] == ("scancel", "None", "101")
    assert jobs_of(directory).jobs == ()


def test_a_search_is_not_submitted_twice(directory: RunDirectory) -> None:
    cluster = Cluster()
    steering.submit(cluster, directory, asked(directory), at=0.0)
    cluster.add("102_3", "PENDING")
    with pytest.raises(UsageError, match=r"jobs in the queue: 102_3; .*slurm scale .*slurm cancel"):
        steering.submit(cluster, directory, asked(directory), at=0.0)
    cluster.jobs.clear()
    jobs = steering.submit(cluster, directory, asked(directory), at=1.0)
    assert [job.at for job in jobs.jobs] == [0.0, 0.0, 1.0, 1.0]


def test_more_workers_are_a_further_array_like_the_first(directory: RunDirectory) -> None:
    cluster = Cluster()
    first = steering.submit(cluster, directory, asked(directory), at=0.0).jobs[-1]
    cluster.add("102_0")
    cluster.add("102_1", "COMPLETING")
    words = steering.scale(cluster, directory, 6, busy=nobody, at=1.0)
    assert words == "1 workers, 5 more submitted as job 103"
    more = jobs_of(directory).jobs[-1]
    expected = [word.replace("--array=0-3", "--array=0-4") for word in first.command if "dependency" not in word]
    assert list(more.command) == expected


def test_a_job_that_holds_everything_can_have_more_workers_beside_it(directory: RunDirectory) -> None:
    cluster = Cluster()
    steering.submit(cluster, directory, asked(directory, nodes=2), at=0.0)
    steering.scale(cluster, directory, 2, busy=nobody, at=1.0)
    assert [job.kind for job in jobs_of(directory).jobs] == ["all_in_one", "workers"]


def test_fewer_workers_cancels_those_that_wait_and_signals_the_others(directory: RunDirectory) -> None:
    cluster = Cluster()
    steering.submit(cluster, directory, asked(directory), at=0.0)
    for task, (state, used) in enumerate(
        [("RUNNING", "9:00"), ("RUNNING", "8:00"), ("RUNNING", "7:00"), ("PENDING", "0:00")]
    ):
        cluster.add(f"102_{task}", state, used)
    words = steering.scale(cluster, directory, 1, busy=lambda: {"91020", "91022"}, at=1.0)
    assert cluster.told[-2:] == [("scancel", "None", "102_3"), ("scancel", "TERM", "102_1", "102_2")]
    assert "1 cancelled in the queue, 2 told to hand back" in words
    assert steering.scale(cluster, directory, 1, busy=nobody, at=1.0) == "1 workers, as there are to be"


def test_a_job_that_has_only_just_begun_is_cancelled_because_nobody_hears_there_yet(directory: RunDirectory) -> None:
    cluster = Cluster()
    cluster.add("102_0", used="0:04")
    cluster.add("102_1", used="0:05")
    steering.let_go(cluster, cluster.jobs)
    assert cluster.told == [("scancel", "None", "102_0"), ("scancel", "TERM", "102_1")]


def test_a_cancelled_search_ends_its_workers_before_its_master(directory: RunDirectory) -> None:
    cluster = Cluster()
    steering.submit(cluster, directory, asked(directory), at=0.0)
    cluster.add("101")
    cluster.add("102_0")
    cluster.add("102_1", "PENDING")
    said: list[str] = []
    steering.cancel(cluster, directory, said.append)
    assert cluster.told[-3:] == [
        ("scancel", "None", "102_1"),
        ("scancel", "TERM", "102_0"),
        ("scancel", "TERM", "101"),
    ]
    assert said[-1] == "all jobs have ended"


def test_a_job_that_does_not_go_politely_is_cancelled(directory: RunDirectory) -> None:
    cluster = Cluster()
    steering.submit(cluster, directory, asked(directory), at=0.0)
    cluster.add("102_0")
    cluster.goes_at_once = False
    said: list[str] = []
    steering.cancel(cluster, directory, said.append, patience_s=0.0)
    assert cluster.told[-2:] == [("scancel", "TERM", "102_0"), ("scancel", "None", "102_0")]
    assert any("not gone after 0 s" in words for words in said)


def test_without_jobs_there_is_nothing_to_scale_or_cancel(directory: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing was submitted for .*slurm submit PROBLEM --run-dir"):
        steering.scale(Cluster(), directory, 3, busy=nobody, at=0.0)
    with pytest.raises(RunDirectoryError, match="does not exist"):
        steering.cancel(Cluster(), RunDirectory(tmp_path / "other"), print)


def test_a_file_that_tells_of_no_jobs_is_refused_with_what_to_do(directory: RunDirectory) -> None:
    (directory.path / FILE_NAME).write_text('{"jobs": 1}')
    with pytest.raises(RunDirectoryError, match=r"slurm\.json does not tell .*squeue --me"):
        jobs_of(directory)


# ---------------------------------------------------------------------------------------------------------- leaving


workers_of_some_kind = st.lists(
    st.tuples(st.sampled_from(["PENDING", "RUNNING"]), st.integers(0, 59), st.booleans()), max_size=12
)


@given(kinds=workers_of_some_kind, count=st.integers(0, 12))
def test_nobody_leaves_who_would_cost_more_than_one_who_stays(kinds: list[tuple[str, int, bool]], count: int) -> None:
    workers = [
        QueuedJob(name=f"1_{task}", number=str(task), state=state, used=f"0:{seconds:02d}")
        for task, (state, seconds, _) in enumerate(kinds)
    ]
    busy = {str(task) for task, (_, _, works) in enumerate(kinds) if works}
    going = leavers(workers, count, busy)
    staying = [worker for worker in workers if worker not in going]
    assert len(going) == min(count, len(workers))

    def cost(worker: QueuedJob) -> tuple[bool, bool, int]:
        return worker.state == "RUNNING", worker.number in busy, worker.used_s

    assert all(cost(gone) <= cost(kept) for gone in going for kept in staying)


def test_a_job_is_busy_if_one_of_its_workers_evaluates_something() -> None:
    agents = [
        {"worker": "node1-0 job 14.0 gpu 0", "evaluation": "0-0-1@0"},
        {"worker": "node2-0 job 15.0 gpu 1", "evaluation": None},
        {"worker": "laptop-0", "evaluation": "0-0-2@0"},
    ]
    assert busy_jobs({"agents": agents}) == {"14"}
    assert busy_jobs({}) == set()
