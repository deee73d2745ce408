"""What is submitted is the shipped scripts, changed at their variables alone."""

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
    WORKERS,
    Request,
    filled,
    shipped,
    submissions,
    with_tasks,
)

DEPLOY = Path(__file__).parents[2] / "deploy" / "slurm"
ANY_TEXT = st.text(st.characters(blacklist_characters="\n\r\0", blacklist_categories=["Cs"]), min_size=1)


def request(**changed: Any) -> Request:
    told = {"problem": "digits", "run_dir": Path("/runs/d"), "venv": Path("/venv"), "cwd": Path("/here"), "workers": 4}
    return Request(**{**told, **changed})


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_package_carries_is_what_lies_in_deploy(kind: str) -> None:
    assert shipped(kind) == (DEPLOY / f"{kind}.sbatch").read_text("utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_that_is_submitted_differs_from_the_shipped_one_in_its_three_variables_alone(kind: str) -> None:
    asked = {**submissions(request()), **submissions(request(nodes=2))}[kind]
    changed = [
        line
        for line in difflib.ndiff(shipped(kind).splitlines(), asked.text.splitlines())
        if line.startswith(("- ", "+ "))
    ]
    assert {line[2:].partition("=")[0] for line in changed} <= set(VARIABLES)
    assert "RUN_DIR=/runs/d" in asked.text.splitlines()


@given(value=ANY_TEXT)
def test_whatever_a_variable_is_the_shell_reads_it_back(value: str) -> None:
    text = filled("#!/bin/bash\nA=old\necho $A\n", {"A": value})
    (line,) = [line for line in text.split("\n") if line.startswith("A=")]
    assert shlex.split(line) == [f"A={value}"]


@pytest.mark.parametrize("text", ["", "A=1\nA=2\n"])
def test_a_script_without_its_variable_is_no_script_of_ours(text: str) -> None:
    with pytest.raises(InvariantBroken, match="assigns A"):
        filled(text, {"A": "x"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_script_is_read_in_a_minute_and_asks_for_what_it_needs(kind: str) -> None:
    text = shipped(kind)
    assert len(text.splitlines()) <= 70
    for needed in ("--signal=B:USR2@120", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {needed}" in text.splitlines()
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_ends_of_the_scripts_of_one_process_are_the_same() -> None:
    def end(kind: str) -> str:
        tail = shipped(kind).partition("work=$!\n")[2]
        return re.sub(r'"\$(job|SLURM_JOB_ID)"', "JOB", tail)

    assert end(MASTER) == end(WORKERS) != ""


@pytest.mark.parametrize("kind", [MASTER, ALL_IN_ONE])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["--host", "0.0.0.0"]),  # noqa: S104 (nothing listens here)
        (["--seed", "1"], ["--host", "0.0.0.0", "--seed", "1"]),  # noqa: S104
        (["--interface", "ib0"], ["--interface", "ib0"]),
        (["--seed=1", "--host=node1"], ["--seed=1", "--host=node1"]),
    ],
)
def test_a_master_listens_on_its_whole_node_unless_it_is_told_otherwise(
    kind: str, arguments: list[str], expected: list[str]
) -> None:
    (line,) = [line for line in shipped(kind).splitlines() if "set -- --host" in line]
    told = subprocess.run(
        ["bash", "-c", f'{line}; printf "%s\\n" "$@"', "script", *arguments], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == expected


def test_the_order_of_options_lets_what_is_told_last_win() -> None:
    asked = submissions(
        request(partition="gpu", for_all=("--partition=a",), for_workers=("--partition=b",), throttle=2)
    )
    workers = asked[WORKERS].options
    assert [option for option in workers if "partition" in option] == [
        "--partition=gpu",
        "--partition=a",
        "--partition=b",
    ]
    assert "--array=0-3%2" in workers
    assert "--partition=b" not in asked[MASTER].options


def test_a_command_says_everything_after_the_master_has_begun() -> None:
    asked = submissions(request(worker_arguments=("--timeout", "2h"), time="1-0", gpus_per_worker=2))
    command = asked[WORKERS].command(Path("/runs/d/slurm"), after="7")
    assert command[:3] == ["sbatch", "--parsable", "--dependency=after:7"]
    assert {"--time=1-0", "--gres=gpu:2", "--chdir=/here", "--output=/runs/d/logs/%x-%A_%a.log"} <= set(command)
    assert command[-5:] == ["/runs/d/slurm/workers.sbatch", "--gpus-per-worker", "2", "--timeout", "2h"]


def test_workers_without_a_gpu_ask_for_none() -> None:
    assert "--gres=none" in submissions(request(gpus_per_worker=0))[WORKERS].options


def test_all_in_one_job_spreads_the_workers_over_its_nodes() -> None:
    asked = submissions(request(workers=8, nodes=2, gpus_per_worker=2, cpus_per_worker=3))[ALL_IN_ONE]
    assert {"--nodes=2", "--gres=gpu:8", "--cpus-per-task=12"} <= set(asked.options)
    assert "WORKER_OPTIONS=(--gpus all --gpus-per-worker 2)" in asked.text


def test_an_uneven_number_of_workers_is_refused_with_the_even_ones_near_it() -> None:
    with pytest.raises(UsageError, match=r"--workers 7 .* --nodes 2.* ask for 6 or 8 workers"):
        request(workers=7, nodes=2)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        ({"gpus_per_worker": -1}, "--gpus-per-worker must be at least 0"),
        ({"throttle": 0}, "--array-throttle must be at least 1"),
        ({"nodes": 0}, "--nodes must be at least 1"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_its_option(changed: dict[str, int], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        request(**changed)


def test_a_further_array_keeps_the_throttle_and_everything_else() -> None:
    assert with_tasks(("--a", "--array=0-9%4", "--b=0-1"), 3) == ("--a", "--array=0-2%4", "--b=0-1")
