"""What Slurm's commands print is read as they printed it (recorded from Slurm 22.05), and refusals are answered."""

from __future__ import annotations

import re

import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.slurm.parsing import (
    QueuedJob,
    own_words,
    queued,
    remedy,
    seconds_of,
    shown,
    submitted,
    why_it_waits,
)

SQUEUE = """\
12|12|RUNNING|0:09|23:59:51|node0
13_4|13|PENDING|0:00|12:00:00|(Resources)
13_0|14|RUNNING|1-02:03:04|UNLIMITED|node1
13_1|15|COMPLETING|0:05|1:00:00|node[2-3]
13_2|16|PENDING|0:00|1:00:00|(BeginTime)
"""
SHOWN = (
    "JobId=13 ArrayJobId=13 ArrayTaskId=3 JobName=hpb-workers UserId=root(0) JobState=COMPLETED Reason=None "
    "Restarts=0 ExitCode=0:0 RunTime=00:00:05 TimeLimit=UNLIMITED Command=/home/me/a b/workers.sbatch\n"
    "JobId=14 ArrayJobId=13 ArrayTaskId=0 JobName=hpb-workers JobState=FAILED ExitCode=2:0 RunTime=00:00:06\n"
    "JobId=12 JobName=hpb-master JobState=CANCELLED Reason=None ExitCode=0:15 RunTime=01:00:00\n"
)
FAILED = "sbatch: error: Batch job submission failed"
REFUSED = {
    f"sbatch: error: invalid partition specified: nope\n{FAILED}: Invalid partition name specified\n": "--partition",
    f"{FAILED}: Requested node configuration is not available\n": "sinfo",
    "sbatch: error: Memory specification can not be satisfied\n"
    f"{FAILED}: Requested node configuration is not available\n": "sinfo",
    "sbatch: error: Invalid generic resource (gres) specification\n": "--gres=gpu:a100:1",
    "sbatch: error: Invalid --time specification\n": "12:00:00",
    f"{FAILED}: Invalid job array specification\n": "MaxArraySize",
    "sbatch: unrecognized option '--nonsense=1'\nTry \"sbatch --help\" for more information\n": "man sbatch",
    f"{FAILED}: Invalid feature specification\n": "--constraint",
    f"{FAILED}: Invalid account or account/partition combination specified\n": "--account",
    f"{FAILED}: Invalid qos specification\n": "--qos",
    f"{FAILED}: Requested time limit is invalid (missing or exceeds some limit)\n": "--time",
    f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}: Job violates accounting/QOS policy (job submit limit, "
    "user's size and/or time limits)\n": "fewer --workers",
    f"{FAILED}: User's group not permitted to use this partition\n": "sinfo -s",
}


def test_a_task_of_an_array_has_the_array_s_number_and_one_of_its_own() -> None:
    running = queued(SQUEUE)[2]
    assert running == QueuedJob(
        name="13_0", number="14", state="RUNNING", used="1-02:03:04", left="UNLIMITED", where="node1"
    )
    assert running.array == "13"
    assert running.used_s == 93_784


def test_what_waits_or_runs_lives_and_what_is_cleared_away_does_not() -> None:
    jobs = queued(SQUEUE)
    assert [job.is_living for job in jobs] == [True, True, True, False, True]
    assert [job.name for job in jobs if job.is_waiting] == ["13_4", "13_2"]


def test_lines_that_are_no_jobs_are_passed_over() -> None:
    assert queued("slurm_load_jobs: a word of the site\n\n") == []


def test_what_ended_is_told_with_the_code_or_the_signal_that_ended_it() -> None:
    told = [(job.name, job.number, job.state, job.where) for job in shown(SHOWN)]
    assert told == [
        ("13_3", "13", "COMPLETED", ""),
        ("13_0", "14", "FAILED", "exit code 2"),
        ("12", "12", "CANCELLED", "signal 15"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:05", 5),
        ("12:00", 720),
        ("1:00:00", 3600),
        ("2-00:00:01", 172_801),
        ("UNLIMITED", 0),
        ("INVALID", 0),
        ("", 0),
    ],
)
def test_times_are_read_as_slurm_writes_them(text: str, expected: int) -> None:
    assert seconds_of(text) == expected


@pytest.mark.parametrize("text", ["123\n", "123;cluster\n", "a greeting of the site\n123\n"])
def test_the_number_of_a_submitted_job_is_found(text: str) -> None:
    assert submitted(text) == "123"


@pytest.mark.parametrize("text", ["", "Submitted batch job 12\n", "12_3\n"])
def test_what_is_no_number_of_a_job_is_refused_with_what_was_printed(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text.strip()))):
        submitted(text)


@pytest.mark.parametrize(("stderr", "expected"), REFUSED.items(), ids=lambda text: text[:60].strip())
def test_each_refusal_is_answered_with_what_to_change(stderr: str, expected: str) -> None:
    assert expected in remedy(own_words(stderr))


def test_sbatch_s_own_words_are_kept_without_what_stands_before_each() -> None:
    words = own_words("sbatch: error: invalid partition specified: nope\nsbatch: fatal: no\n\n")
    assert words == "invalid partition specified: nope; no"


def test_an_unknown_refusal_still_gets_an_answer() -> None:
    assert "behind --" in remedy("the moon is in the wrong house")


@pytest.mark.parametrize(
    "reason", ["PartitionTimeLimit", "PartitionConfig", "QOSMaxGRESPerUser", "DependencyNeverSatisfied"]
)
def test_a_reason_that_will_not_pass_by_itself_is_explained(reason: str) -> None:
    assert why_it_waits(f"({reason})")


@pytest.mark.parametrize("reason", ["Resources", "Priority", "Dependency", "None"])
def test_a_reason_that_passes_by_itself_is_left_alone(reason: str) -> None:
    assert why_it_waits(f"({reason})") is None
