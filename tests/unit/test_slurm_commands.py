"""Slurm's commands run with their arguments unchanged, and their failures become errors with a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpbandster_lite.errors import PeerError, UsageError
from hpbandster_lite.slurm import commands
from hpbandster_lite.slurm.commands import Slurm

GONE = "slurm_load_jobs error: Invalid job id specified"
DOWN = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The only folder on PATH."""
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


@pytest.fixture
def slurm(place: Path) -> Slurm:
    return Slurm({"PATH": f"{place}:/usr/bin:/bin", "SQUEUE_FORMAT": "%j", "SLURM_TIME_FORMAT": "relative"})


def command(place: Path, name: str, *, out: str = "", err: str = "", code: int = 0, script: str = "") -> None:
    """Write a Slurm command with this output."""
    text = f"#!/bin/sh\n{script}\ncat <<'END'\n{out}\nEND\ncat >&2 <<'END'\n{err}\nEND\nexit {code}\n"
    (place / name).write_text(text)
    (place / name).chmod(0o755)


def test_a_submission_gives_the_number_of_its_job(slurm: Slurm, place: Path) -> None:
    command(place, "sbatch", out="12;cluster")
    assert slurm.submit(["sbatch", "--parsable", "x"]) == "12"


def test_a_refusal_keeps_sbatch_s_message_and_names_the_remedy(slurm: Slurm, place: Path) -> None:
    command(place, "sbatch", err="sbatch: error: Batch job submission failed: Invalid qos specification", code=1)
    with pytest.raises(UsageError, match=r"failed: Invalid qos specification\. What to change: .*--qos=NAME"):
        slurm.submit(["sbatch"])


@pytest.mark.parametrize("name", ["sbatch", "squeue", "scancel"])
def test_a_controller_that_does_not_answer_is_a_peer_error_that_says_to_try_again(
    name: str, slurm: Slurm, place: Path
) -> None:
    command(place, name, err=DOWN, code=1)
    asks: dict[str, Callable[[], object]] = {
        "sbatch": lambda: slurm.submit(["sbatch"]),
        "squeue": lambda: slurm.queue(["1"]),
        "scancel": lambda: slurm.cancel(["1"]),
    }
    with pytest.raises(PeerError, match=r"controller does not answer: .*try again later"):
        asks[name]()


def test_a_command_that_hangs_is_given_up(slurm: Slurm, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TIMEOUT_S", 0.2)
    command(place, "squeue", script="exec sleep 30")
    with pytest.raises(PeerError, match=r"squeue did not answer within 0\.2 s"):
        slurm.queue(["1"])


def test_a_job_that_slurm_has_forgotten_is_not_in_the_queue(slurm: Slurm, place: Path) -> None:
    command(place, "squeue", err=GONE, code=1)
    assert slurm.queue(["1"]) == []


def test_another_complaint_of_squeue_is_passed_on(slurm: Slurm, place: Path) -> None:
    command(place, "squeue", err="squeue: error: no", code=1)
    with pytest.raises(PeerError, match="squeue could not list the jobs: no"):
        slurm.queue(["1"])


def test_a_user_s_format_variables_do_not_change_the_output_that_is_parsed(slurm: Slurm, place: Path) -> None:
    command(
        place, "squeue", out="1|1|RUNNING|0:01|1:00|node0", script='[ -z "$SQUEUE_FORMAT$SLURM_TIME_FORMAT" ] || exit 9'
    )
    assert [job.where for job in slurm.queue(["1"])] == ["node0"]


def test_an_empty_list_of_jobs_runs_no_command(slurm: Slurm) -> None:
    assert slurm.queue([]) == []
    slurm.cancel([])


def test_cancelling_ignores_a_job_that_has_already_ended(slurm: Slurm, place: Path) -> None:
    command(place, "scancel", err="scancel: error: Kill job error on job id 12: Invalid job id specified", code=1)
    slurm.cancel(["12"])
    command(place, "scancel", err="scancel: error: Kill job error on job id 12: Access/permission denied", code=1)
    with pytest.raises(PeerError, match=r"scancel did not cancel 12: .*permission denied"):
        slurm.cancel(["12"])


def test_a_machine_without_slurm_is_refused_with_the_remedy(place: Path) -> None:
    bare = Slurm({"PATH": str(place)})
    for asks in (bare.require, lambda: bare.queue(["1"])):
        with pytest.raises(UsageError, match=r"(sbatch|squeue) is not on PATH.*module load slurm"):
            asks()
