"""``slurm submit`` passes on what is typed: to sbatch, to the master, to the workers, each to whom it is for."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpbandster_lite.cli.app import make_app
from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import describe_in_child
from hpbandster_lite.records import ProblemDescription

ENDS_WITH_A_SEED = "--seed="


@functools.cache
def described(reference: str) -> ProblemDescription:
    return describe_in_child(reference)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Each child would import ConfigSpace anew, which takes a second.
    monkeypatch.setattr(
        "hpbandster_lite.settings.prepare.describe_in_child", lambda reference, **_: described(reference)
    )
    return tmp_path


def typed(*words: str) -> str:
    """What is printed on standard output."""
    result = CliRunner().invoke(make_app("slurm"), ["slurm", "submit", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def commands(*words: str) -> list[list[str]]:
    """The commands of a dry run, as a shell would read them."""
    told = typed("counting_ones", "--dry-run", *words)
    return [shlex.split(line) for line in told.partition("##### commands")[2].splitlines()[1:]]


def test_a_dry_run_prints_scripts_and_commands_and_makes_nothing(here: Path) -> None:
    told = typed("counting_ones", "--workers", "3", "--dry-run")
    assert f"##### {here}/runs/counting_ones/slurm/master.sbatch\n#!/usr/bin/env bash\n" in told
    assert f"\nRUN_DIR={here}/runs/counting_ones\n" in told
    assert list(here.iterdir()) == []


def test_options_of_a_search_go_to_its_master_with_the_seed_that_was_shown() -> None:
    master, workers = commands("--max-budget", "81", "--set", "random_fraction=0.5", "--set=num_samples=32")
    at = master.index(next(word for word in master if word.endswith("master.sbatch")))
    *given, seed = master[at + 1 :]
    assert given == ["--max-budget=81", "--set=random_fraction=0.5", "--set=num_samples=32"]
    assert seed.startswith(ENDS_WITH_A_SEED)
    assert workers[-1].endswith("workers.sbatch")


def test_what_stands_behind_two_dashes_is_sbatch_s_for_all_jobs() -> None:
    both = commands(
        "--master-sbatch", "--mem=4G --qos=low", "--worker-sbatch=--mem=32G", "--", "--qos=high", "-C", "a b"
    )
    for command, own in zip(both, ("--mem=4G", "--mem=32G"), strict=True):
        at = command.index("--qos=high")
        assert command[at : at + 4] == ["--qos=high", "-C", "a b", own]


def test_options_for_the_workers_and_the_master_s_own_are_told_apart() -> None:
    master, workers = commands("--master-options", "--interface ib0", "--worker-options", "--timeout 2h", "--seed", "3")
    assert master[-3:] == ["--seed=3", "--interface", "ib0"]
    assert workers[-2:] == ["--timeout", "2h"]


def test_options_of_the_problem_go_to_master_and_workers() -> None:
    told = typed("hartmann6", "--dry-run")
    assert "PROBLEM=hartmann6" in told
    (here := Path("optional.py")).write_text(OPTIONAL)
    told = typed(str(here), "--width", "7", "--dry-run", "--seed", "1")
    lines = told.partition("##### commands")[2].splitlines()[1:]
    assert all("--width 7" in line for line in lines)
    assert len(lines) == 2


def test_an_interface_that_a_search_file_names_is_said_to_the_script(here: Path) -> None:
    (here / "s.toml").write_text('problem = "counting_ones"\n[search]\nseed = 1\n[service]\ninterface = "ib0"\n')
    told = typed("s.toml", "--dry-run")
    assert "\nPROBLEM=s.toml\n" in told
    (master,) = [line for line in told.splitlines() if line.startswith("sbatch") and "master.sbatch" in line]
    assert master.endswith("master.sbatch --interface=ib0")


def test_a_number_of_nodes_makes_one_job_of_everything() -> None:
    (command,) = commands("--workers", "4", "--nodes", "2", "--seed", "1")
    assert "--nodes=2" in command
    assert command[-2].endswith("all_in_one.sbatch")


def test_an_option_that_nobody_knows_is_answered_with_where_sbatch_s_stand() -> None:
    with pytest.raises(UsageError, match=r"no option --qos.*an option of sbatch stands at the end, behind --"):
        typed("counting_ones", "--qos=high", "--dry-run")


def test_an_environment_without_the_command_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match=r"--venv .*there is no .*bin/hpbandster-lite"):
        typed("counting_ones", "--dry-run", "--venv", str(here))


def test_options_that_no_shell_can_read_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"--worker-options .*No closing quotation"):
        typed("counting_ones", "--dry-run", "--worker-options", "'")


def test_without_slurm_there_is_nothing_to_submit_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(UsageError, match=r"no sbatch on PATH.*module load slurm.*--dry-run"):
        typed("counting_ones", "--seed", "1")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("name", ["submit", "status", "scale", "cancel"])
def test_help_fits_on_eighty_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    result = CliRunner().invoke(make_app("slurm"), ["slurm", name, "--help"])
    assert result.exit_code == 0
    assert "…" not in result.output
    assert max(map(len, result.output.splitlines())) <= 80


OPTIONAL = '''
from dataclasses import dataclass

min_budget, max_budget = 1, 9


@dataclass
class Options:
    """Options."""

    width: int = 3


options = Options()


def configured(options):
    return Sized(options)


class Sized:
    min_budget, max_budget = 1, 9

    def __init__(self, options):
        self.options = options

    def space(self):
        from ConfigSpace import ConfigurationSpace

        return ConfigurationSpace(space={"x": (0.0, 1.0)})

    def evaluate(self, config, budget, trial):
        return config["x"]


def space():
    return Sized(options).space()


def evaluate(config, budget, trial):
    return config["x"]
'''
