"""The submitted scripts are the shipped ones with only their variables filled in."""

from __future__ import annotations

import difflib
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import InvariantBroken, UsageError
from hpbandster_lite.slurm.scripts import (
    ALL_IN_ONE,
    KINDS,
    MASTER,
    VARIABLES,
    WARNING,
    WORKERS,
    SubmitRequest,
    fill_variables,
    grace_in,
    plan_submissions,
    shipped_script,
    with_array_size,
)

DEPLOY = Path(__file__).parents[2] / "deploy" / "slurm"
ANY_TEXT = st.text(st.characters(blacklist_characters="\n\r\0", blacklist_categories=["Cs"]), min_size=1)


def request(**changed: Any) -> SubmitRequest:
    default = {
        "problem": "digits",
        "run_dir": Path("/runs/d"),
        "venv": Path("/venv"),
        "cwd": Path("/here"),
        "workers": 4,
    }
    return SubmitRequest(**{**default, **changed})


@pytest.mark.parametrize("kind", KINDS)
def test_the_package_contains_the_scripts_of_deploy(kind: str) -> None:
    assert shipped_script(kind) == (DEPLOY / f"{kind}.sbatch").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_that_is_submitted_differs_from_the_shipped_one_in_its_variables_alone(kind: str) -> None:
    planned = {**plan_submissions(request()), **plan_submissions(request(nodes=2))}[kind]
    changed = [
        line
        for line in difflib.ndiff(shipped_script(kind).splitlines(), planned.text.splitlines())
        if line.startswith(("- ", "+ "))
    ]
    assert {line[2:].partition("=")[0] for line in changed} <= {*VARIABLES, WARNING}
    assert "RUN_DIR=/runs/d" in planned.text.splitlines()


@given(value=ANY_TEXT)
def test_the_shell_reads_any_value_of_a_variable_back(value: str) -> None:
    text = fill_variables("#!/bin/bash\nA=old\necho $A\n", {"A": value})
    (line,) = [line for line in text.split("\n") if line.startswith("A=")]
    assert shlex.split(line) == [f"A={value}"]


@pytest.mark.parametrize("text", ["", "A=1\nA=2\n"])
def test_a_script_must_assign_a_variable_exactly_once(text: str) -> None:
    with pytest.raises(InvariantBroken, match="assigns A"):
        fill_variables(text, {"A": "x"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_is_short_and_requests_what_it_needs(kind: str) -> None:
    text = shipped_script(kind)
    assert len(text.splitlines()) <= 70
    for needed in ("--signal=B:USR2@120", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {needed}" in text.splitlines()
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_ends_of_the_scripts_of_one_process_are_the_same() -> None:
    def end(kind: str) -> str:
        tail = shipped_script(kind).partition("work=$!\n")[2]
        return re.sub(r'"\$(job|SLURM_JOB_ID)"', "JOB", tail)

    assert end(MASTER) == end(WORKERS) != ""


@pytest.mark.parametrize("kind", [MASTER, ALL_IN_ONE])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["--host", "0.0.0.0"]),  # noqa: S104 (nothing listens here)
        (["--seed", "1"], ["--host", "0.0.0.0", "--seed", "1"]),  # noqa: S104 (the address is tested)
        (["--interface", "ib0"], ["--interface", "ib0"]),
        (["--seed=1", "--host=node1"], ["--seed=1", "--host=node1"]),
    ],
)
def test_a_master_listens_on_its_whole_node_unless_an_option_names_an_address(
    kind: str, arguments: list[str], expected: list[str]
) -> None:
    (line,) = [line for line in shipped_script(kind).splitlines() if "set -- --host" in line]
    done = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\n" "$@"', "script", *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected


def test_options_are_in_the_order_in_which_the_last_one_counts() -> None:
    planned = plan_submissions(
        request(partition="gpu", for_all=("--partition=a",), for_workers=("--partition=b",), throttle=2)
    )
    workers = planned[WORKERS].options
    assert [option for option in workers if "partition" in option] == [
        "--partition=gpu",
        "--partition=a",
        "--partition=b",
    ]
    assert "--array=0-3%2" in workers
    assert "--partition=b" not in planned[MASTER].options


def test_a_command_holds_the_dependency_and_all_options_and_arguments() -> None:
    planned = plan_submissions(request(worker_arguments=("--timeout", "2h"), time="1-0", gpus_per_worker=2))
    command = planned[WORKERS].command(Path("/runs/d/slurm"), after="7")
    assert command[:3] == ["sbatch", "--parsable", "--dependency=after:7"]
    assert {"--time=1-0", "--gres=gpu:2", "--chdir=/here", "--output=/runs/d/logs/%x-%A_%a.log"} <= set(command)
    assert command[-5:] == ["/runs/d/slurm/workers.sbatch", "--gpus-per-worker", "2", "--timeout", "2h"]


@pytest.mark.parametrize(("grace_s", "warning_s"), [(20.0, 120), (5.0, 120), (20.5, 121), (300.0, 400), (7200, 7300)])
@pytest.mark.parametrize("kind", [WORKERS, ALL_IN_ONE])
def test_slurm_warns_a_job_as_early_as_its_evaluations_need(kind: str, grace_s: float, warning_s: int) -> None:
    planned = plan_submissions(request(grace_s=grace_s, nodes=2 if kind == ALL_IN_ONE else None))[kind]
    assert f"\nWARNING={warning_s}\n" in planned.text
    signals = [option for option in planned.options if option.startswith("--signal")]
    assert signals == ([] if warning_s == 120 else [f"--signal=B:USR2@{warning_s}"])
    in_script = planned.text.partition("WORKER_OPTIONS=(")[2].partition(")")[0].split()
    words = planned.arguments if kind == WORKERS else in_script
    assert [word for word in words if "grace" in word] == ([] if grace_s == 20.0 else [f"--grace={grace_s:g}"])
    assert grace_in(words) == grace_s


def test_the_time_for_evaluations_that_fit_ends_at_the_warning() -> None:
    (line,) = [line for line in shipped_script(WORKERS).splitlines() if line.startswith("left=")]
    script = f"end=$(($(date +%s) + 1000)); WARNING=400; {line}; echo $left"
    left = int(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout)
    assert 595 <= left <= 600


def test_a_time_limit_that_the_warning_uses_up_is_refused_with_both_remedies() -> None:
    with pytest.raises(UsageError, match=r"--time 5 is not longer than the 400 seconds .* a longer --time"):
        request(time="5", grace_s=300.0)
    request(time="7", grace_s=300.0)
    request(time="UNLIMITED", grace_s=300.0)
    with pytest.raises(UsageError, match="--grace must be at most 65435 seconds in a Slurm job, got 65436"):
        request(grace_s=65_436.0)


def test_workers_without_a_gpu_request_none() -> None:
    assert "--gres=none" in plan_submissions(request(gpus_per_worker=0))[WORKERS].options


def test_all_in_one_job_spreads_the_workers_over_its_nodes() -> None:
    planned = plan_submissions(request(workers=8, nodes=2, gpus_per_worker=2, cpus_per_worker=3))[ALL_IN_ONE]
    assert {"--nodes=2", "--gres=gpu:8", "--cpus-per-task=12"} <= set(planned.options)
    assert "WORKER_OPTIONS=(--gpus all --gpus-per-worker 2)" in planned.text


def test_an_uneven_number_of_workers_is_refused_with_the_even_ones_near_it() -> None:
    with pytest.raises(UsageError, match=r"--workers 7 .* --nodes 2.* give 6 or 8 workers"):
        request(workers=7, nodes=2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"gpus_per_worker": -1}, "--gpus-per-worker must be at least 0"),
        ({"throttle": 0}, "--array-throttle must be at least 1"),
        ({"nodes": 0}, "--nodes must be at least 1"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_option(changed: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(**changed)


def test_a_further_array_keeps_the_throttle_and_everything_else() -> None:
    assert with_array_size(("--a", "--array=0-9%4", "--b=0-1"), 3) == ("--a", "--array=0-2%4", "--b=0-1")
