"""The output of Slurm's commands (recorded from Slurm 22.05) is parsed, and refusals get a remedy."""

from __future__ import annotations

import re

import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.slurm.parsing import (
    QueuedJob,
    error_text,
    explain_reason,
    limit_seconds,
    parse_job_number,
    parse_scontrol,
    parse_squeue,
    remedy,
    seconds_of,
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


def test_a_task_of_an_array_has_the_array_s_number_and_its_own() -> None:
    running = parse_squeue(SQUEUE)[2]
    assert running == QueuedJob(
        name="13_0", number="14", state="RUNNING", used="1-02:03:04", left="UNLIMITED", where="node1"
    )
    assert running.array == "13"
    assert running.used_s == 93_784


def test_a_job_that_waits_or_runs_is_active_and_a_completing_job_is_not() -> None:
    jobs = parse_squeue(SQUEUE)
    assert [job.is_active for job in jobs] == [True, True, True, False, True]
    assert [job.name for job in jobs if job.is_waiting] == ["13_4", "13_2"]


def test_lines_without_a_job_are_ignored() -> None:
    assert parse_squeue("slurm_load_jobs: a message of the site\n\n") == []


def test_an_ended_job_shows_its_exit_code_or_signal() -> None:
    ended = [(job.name, job.number, job.state, job.where) for job in parse_scontrol(SHOWN)]
    assert ended == [
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
def test_times_in_slurm_s_format_are_parsed(text: str, expected: int) -> None:
    assert seconds_of(text) == expected


@pytest.mark.parametrize("text", ["123\n", "123;cluster\n", "a greeting of the site\n123\n"])
def test_the_number_of_a_submitted_job_is_found(text: str) -> None:
    assert parse_job_number(text) == "123"


@pytest.mark.parametrize("text", ["", "Submitted batch job 12\n", "12_3\n"])
def test_output_without_a_job_number_is_refused_and_shown(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text.strip()))):
        parse_job_number(text)


@pytest.mark.parametrize(("stderr", "expected"), REFUSED.items(), ids=lambda text: text[:60].strip())
def test_each_refusal_has_its_remedy(stderr: str, expected: str) -> None:
    assert expected in remedy(error_text(stderr))


def test_sbatch_s_message_is_kept_without_the_prefix_of_each_line() -> None:
    words = error_text("sbatch: error: invalid partition specified: nope\nsbatch: fatal: no\n\n")
    assert words == "invalid partition specified: nope; no"


def test_an_unknown_refusal_still_has_a_remedy() -> None:
    assert "after --" in remedy("an unknown message")


@pytest.mark.parametrize(
    "reason", ["PartitionTimeLimit", "PartitionConfig", "QOSMaxGRESPerUser", "DependencyNeverSatisfied"]
)
def test_a_reason_that_you_must_act_on_is_explained(reason: str) -> None:
    assert explain_reason(f"({reason})")


@pytest.mark.parametrize("reason", ["Resources", "Priority", "Dependency", "None"])
def test_an_ordinary_reason_is_not_explained(reason: str) -> None:
    assert explain_reason(f"({reason})") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("3", 180), ("3:30", 210), ("1:00:00", 3_600), ("1-12", 129_600), ("1-12:30", 131_400)),
        *(("1-0:0:5", 86_405), ("infinite", 0), ("", 0), ("1-", 0), ("a:b", 0), ("1:2:3:4", 0)),
    ],
)
def test_a_time_limit_is_read_in_every_form_of_sbatch(text: str, seconds: int) -> None:
    assert limit_seconds(text) == seconds
