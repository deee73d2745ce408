"""Submitted jobs are recorded; jobs hand back before they end, and those end first that lose the least work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.slurm import lifecycle
from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.slurm.parsing import QueuedJob
from hpbandster_lite.slurm.scale_down import busy_jobs, cheapest_to_end
from hpbandster_lite.slurm.scripts import Submission, SubmitRequest, plan_submissions
from hpbandster_lite.slurm.submitted_jobs import FILE_NAME, load_jobs
from tests.statuses import a_status, a_worker


class Cluster(Slurm):
    """A fake Slurm: it records the commands that it receives, and its queue is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: list[tuple[str, ...]] = []
        self.jobs: list[QueuedJob] = []
        self.refuses = ""
        self.ends_at_once = True
        self.begins = True

    def require(self) -> None:
        """Do nothing: Slurm is installed."""

    def submit(self, command: Sequence[str]) -> str:
        self.commands.append(("sbatch", *command[2:]))
        if self.refuses and any(self.refuses in word for word in command):
            raise UsageError("sbatch refused the job")
        job = str(100 + len(self.commands))
        if not self.begins:
            self.add(job, "PENDING")
        return job

    def queue(self, jobs: object) -> list[QueuedJob]:
        asked = set(jobs)  # type: ignore[call-overload]  # it is not None
        return [job for job in self.jobs if job.array in asked]

    def cancel(self, jobs: Sequence[str], *, signal: str | None = None) -> None:
        if jobs:
            self.commands.append(("scancel", str(signal), *jobs))
        if self.ends_at_once:
            self.jobs = [job for job in self.jobs if job.name not in jobs]

    def add(self, name: str, state: str = "RUNNING", used: str = "1:00") -> None:
        self.jobs.append(QueuedJob(name=name, number=f"9{name.replace('_', '')}", state=state, used=used))


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "run")
    made.create()
    return made


def planned(directory: RunDirectory, nodes: int | None = None) -> dict[str, Submission]:
    here = directory.path
    return plan_submissions(SubmitRequest(problem="digits", run_dir=here, venv=here, cwd=here, workers=4, nodes=nodes))


def none_busy() -> set[str]:
    return set()


def test_submitted_jobs_are_recorded_with_their_scripts(directory: RunDirectory) -> None:
    cluster = Cluster()
    jobs = lifecycle.submit(cluster, directory, planned(directory), at=5.0)
    assert jobs == load_jobs(directory)
    assert [(job.kind, job.job, job.tasks, job.at) for job in jobs.jobs] == [
        ("master", "101", 1, 5.0),
        ("workers", "102", 4, 5.0),
    ]
    assert not any("dependency" in word for word in jobs.jobs[1].command)
    assert (directory.path / "slurm" / "workers.sbatch").read_text("utf-8").startswith("#!/usr/bin/env bash")


def test_a_script_of_the_user_s_is_not_replaced_and_nothing_is_submitted(directory: RunDirectory) -> None:
    mine = directory.path / "slurm" / "workers.sbatch"
    mine.parent.mkdir()
    mine.write_text("#!/bin/bash\n# mine\n")
    cluster = Cluster()
    with pytest.raises(UsageError, match=r"workers\.sbatch exists and was not made by this command"):
        lifecycle.submit(cluster, directory, planned(directory), at=5.0)
    assert mine.read_text() == "#!/bin/bash\n# mine\n"
    assert cluster.commands == []


def test_a_script_that_was_edited_since_is_replaced_with_force_alone(directory: RunDirectory) -> None:
    cluster = Cluster()
    cluster.refuses = "--array"
    with pytest.raises(UsageError):
        lifecycle.submit(cluster, directory, planned(directory), at=5.0)
    # Nothing was submitted, but the scripts are there, and their text is known.
    cluster.refuses = ""
    edited = directory.path / "slurm" / "master.sbatch"
    ours = edited.read_text()
    edited.write_text(f"{ours}\n#SBATCH --qos=high\n")
    commands = len(cluster.commands)
    with pytest.raises(UsageError, match=r"master\.sbatch exists .* edited since: move it away, or .*--force"):
        lifecycle.submit(cluster, directory, planned(directory), at=5.0)
    assert edited.read_text().endswith("--qos=high\n")
    assert len(cluster.commands) == commands
    lifecycle.submit(cluster, directory, planned(directory), at=5.0, force=True)
    assert edited.read_text() == ours
    # What an earlier version submitted has no hashes.
    replace(load_jobs(directory), scripts={}).save(directory)
    edited.write_text(f"{ours}\n")
    lifecycle.submit(cluster, directory, planned(directory), at=6.0)
    assert edited.read_text() == ours


def test_workers_depend_on_a_master_that_stays_in_the_queue(directory: RunDirectory) -> None:
    cluster = Cluster()
    cluster.begins = False
    jobs = lifecycle.submit(cluster, directory, planned(directory), at=0.0, start_wait_s=0.0)
    assert "--dependency=after:101" in jobs.jobs[1].command


def test_workers_that_are_refused_leave_no_master_behind(directory: RunDirectory) -> None:
    cluster = Cluster()
    cluster.refuses = "--array"
    with pytest.raises(UsageError):
        lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    assert cluster.commands[-1] == ("scancel", "None", "101")
    assert load_jobs(directory).jobs == ()


def test_a_search_is_not_submitted_twice(directory: RunDirectory) -> None:
    cluster = Cluster()
    lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    cluster.add("102_3", "PENDING")
    with pytest.raises(UsageError, match=r"jobs in the queue: 102_3; .*slurm scale .*slurm cancel"):
        lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    cluster.jobs.clear()
    jobs = lifecycle.submit(cluster, directory, planned(directory), at=1.0)
    assert [job.at for job in jobs.jobs] == [0.0, 0.0, 1.0, 1.0]


def test_more_workers_are_a_further_array_like_the_first(directory: RunDirectory) -> None:
    cluster = Cluster()
    first = lifecycle.submit(cluster, directory, planned(directory), at=0.0).jobs[-1]
    cluster.add("102_0")
    cluster.add("102_1", "COMPLETING")
    words = lifecycle.scale(cluster, directory, 6, busy=none_busy, at=1.0)
    assert words == "1 workers, 5 more submitted as job 103"
    more = load_jobs(directory).jobs[-1]
    expected = [word.replace("--array=0-3", "--array=0-4") for word in first.command if "dependency" not in word]
    assert list(more.command) == expected


def test_a_job_that_holds_everything_can_have_more_workers_beside_it(directory: RunDirectory) -> None:
    cluster = Cluster()
    lifecycle.submit(cluster, directory, planned(directory, nodes=2), at=0.0)
    lifecycle.scale(cluster, directory, 2, busy=none_busy, at=1.0)
    assert [job.kind for job in load_jobs(directory).jobs] == ["all_in_one", "workers"]


def test_fewer_workers_cancels_those_that_wait_and_signals_the_others(directory: RunDirectory) -> None:
    cluster = Cluster()
    lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    for task, (state, used) in enumerate(
        [("RUNNING", "9:00"), ("RUNNING", "8:00"), ("RUNNING", "7:00"), ("PENDING", "0:00")]
    ):
        cluster.add(f"102_{task}", state, used)
    words = lifecycle.scale(cluster, directory, 1, busy=lambda: {"91020", "91022"}, at=1.0)
    assert cluster.commands[-2:] == [("scancel", "None", "102_3"), ("scancel", "TERM", "102_1", "102_2")]
    assert "1 cancelled in the queue, 2 asked to hand back" in words
    assert lifecycle.scale(cluster, directory, 1, busy=none_busy, at=1.0) == "1 workers already; nothing to do"


def test_a_job_that_has_just_started_is_cancelled_because_it_may_not_handle_signals(
    directory: RunDirectory,
) -> None:
    cluster = Cluster()
    cluster.add("102_0", used="0:04")
    cluster.add("102_1", used="0:05")
    lifecycle.end_jobs(cluster, cluster.jobs)
    assert cluster.commands == [("scancel", "None", "102_0"), ("scancel", "TERM", "102_1")]


def test_a_cancelled_search_ends_its_workers_before_its_master(directory: RunDirectory) -> None:
    cluster = Cluster()
    lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    cluster.add("101")
    cluster.add("102_0")
    cluster.add("102_1", "PENDING")
    shown: list[str] = []
    lifecycle.cancel(cluster, directory, shown.append)
    assert cluster.commands[-3:] == [
        ("scancel", "None", "102_1"),
        ("scancel", "TERM", "102_0"),
        ("scancel", "TERM", "101"),
    ]
    assert shown[-1] == "all jobs have ended"


def test_a_job_that_does_not_end_on_the_signal_is_cancelled(directory: RunDirectory) -> None:
    cluster = Cluster()
    lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    cluster.add("102_0")
    cluster.ends_at_once = False
    shown: list[str] = []
    lifecycle.cancel(cluster, directory, shown.append, hand_back_limit_s=0.0)
    assert cluster.commands[-2:] == [("scancel", "TERM", "102_0"), ("scancel", "None", "102_0")]
    assert any("still running after 0 s" in words for words in shown)


@pytest.mark.parametrize(("arguments", "limit_s"), [((), 60.0), (("--grace=300", "--timeout", "2h"), 340.0)])
def test_cancel_gives_the_workers_their_grace(
    arguments: tuple[str, ...], limit_s: float, directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster()
    jobs = lifecycle.submit(cluster, directory, planned(directory), at=0.0)
    replace(jobs, worker_arguments=arguments).save(directory)
    cluster.add("102_0")
    limits: list[float] = []

    def left_after(_slurm: Slurm, _jobs: list[str], limit_s: float) -> list[str]:
        limits.append(limit_s)
        return []

    monkeypatch.setattr(lifecycle, "_left_after", left_after)
    lifecycle.cancel(cluster, directory, print)
    assert limits == [limit_s]


def test_without_jobs_there_is_nothing_to_scale_or_cancel(directory: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no job was submitted for .*slurm submit PROBLEM --run-dir"):
        lifecycle.scale(Cluster(), directory, 3, busy=none_busy, at=0.0)
    with pytest.raises(RunDirectoryError, match="does not exist"):
        lifecycle.cancel(Cluster(), RunDirectory(tmp_path / "other"), print)


def test_a_file_without_a_list_of_jobs_is_refused_with_the_remedy(directory: RunDirectory) -> None:
    (directory.path / FILE_NAME).write_text('{"jobs": 1}')
    with pytest.raises(RunDirectoryError, match=r"slurm\.json is not a list of submitted jobs .*squeue --me"):
        load_jobs(directory)


# -------------------------------------------------------------------------------------------------------- departure


workers_of_some_kind = st.lists(
    st.tuples(st.sampled_from(["PENDING", "RUNNING"]), st.integers(0, 59), st.booleans()), max_size=12
)


@given(kinds=workers_of_some_kind, count=st.integers(0, 12))
def test_no_worker_ends_that_costs_more_than_one_that_stays(kinds: list[tuple[str, int, bool]], count: int) -> None:
    workers = [
        QueuedJob(name=f"1_{task}", number=str(task), state=state, used=f"0:{seconds:02d}")
        for task, (state, seconds, _) in enumerate(kinds)
    ]
    busy = {str(task) for task, (_, _, works) in enumerate(kinds) if works}
    ending = cheapest_to_end(workers, count, busy)
    staying = [worker for worker in workers if worker not in ending]
    assert len(ending) == min(count, len(workers))

    def cost(worker: QueuedJob) -> tuple[bool, bool, int]:
        return worker.state == "RUNNING", worker.number in busy, worker.used_s

    assert all(cost(ended) <= cost(kept) for ended in ending for kept in staying)


def test_a_job_is_busy_if_one_of_its_workers_evaluates_something() -> None:
    agents = (
        a_worker("node1-0 job 14.0 gpu 0", "0-0-1@0"),
        a_worker("node2-0 job 15.0 gpu 1"),
        a_worker("laptop-0", "0-0-2@0"),
    )
    assert busy_jobs(a_status(agents=agents)) == {"14"}
    assert busy_jobs(a_status(agents=())) == set()
