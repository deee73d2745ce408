"""``slurm submit`` passes each option on to sbatch, to the master or to the workers."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpbandster_lite.cli.app import make_app
from hpbandster_lite.cli.commands.slurm.status import _summed
from hpbandster_lite.errors import UsageError
from hpbandster_lite.journal import Journal
from hpbandster_lite.problems import describe_in_child
from hpbandster_lite.records import ProblemDescription
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare

ENDS_WITH_A_SEED = "--seed="


@functools.cache
def described(reference: str) -> ProblemDescription:
    return describe_in_child(reference)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    # Each child would import ConfigSpace again, which takes a second.
    monkeypatch.setattr(
        "hpbandster_lite.settings.prepare.describe_in_child", lambda reference, **_: described(reference)
    )
    return tmp_path


def typed(*words: str) -> str:
    """Standard output of the command."""
    result = CliRunner().invoke(make_app("slurm"), ["slurm", "submit", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def commands(*words: str) -> list[list[str]]:
    """The commands of a dry run, split like a shell does."""
    output = typed("counting_ones", "--dry-run", *words)
    return [shlex.split(line) for line in output.partition("##### commands")[2].splitlines()[1:]]


def test_a_dry_run_prints_scripts_and_commands_and_makes_nothing(here: Path) -> None:
    output = typed("counting_ones", "--workers", "3", "--dry-run")
    assert f"##### {here}/runs/counting_ones/slurm/master.sbatch\n#!/usr/bin/env bash\n" in output
    assert f"\nRUN_DIR={here}/runs/counting_ones\n" in output
    assert list(here.iterdir()) == []


def test_options_of_a_search_go_to_its_master_with_the_seed_that_was_shown() -> None:
    master, workers = commands("--max-budget", "81", "--sampler", "random_fraction=0.5", "--sampler=num_samples=32")
    at = master.index(next(word for word in master if word.endswith("master.sbatch")))
    *given, seed = master[at + 1 :]
    assert given == ["--max-budget=81", "--sampler=random_fraction=0.5", "--sampler=num_samples=32"]
    assert seed.startswith(ENDS_WITH_A_SEED)
    assert workers[-1].endswith("workers.sbatch")


def test_so_many_more_goes_to_the_master_as_it_was_typed() -> None:
    # A requeued master finds the limit that its first start has journalled.
    master, _ = commands("--evaluations", "+5", "--wall-time", "+2h", "--seed", "3")
    assert sorted(master[-3:]) == ["--evaluations=+5", "--seed=3", "--wall-time=+2h"]


def test_restored_goes_to_the_master_alone_and_needs_a_journal() -> None:
    with pytest.raises(UsageError, match=r"there is no journal .* that was restored; put the copy there"):
        typed("counting_ones", "--dry-run", "--restored")
    directory = RunDirectory("runs/counting_ones")
    directory.create()
    prepared = prepare(SearchOptions(problem="counting_ones", seed=1), directory)
    Journal.open(directory.journal, create=prepared.settings).close()
    master, workers = commands("--restored")
    assert master[-1] == "--restored"
    assert "--restored" not in workers


def test_an_old_name_of_an_option_goes_to_the_master_as_its_new_one() -> None:
    master, _ = commands("--set", "random_fraction=0.5", "--max-time", "2h", "--seed", "3")
    assert sorted(master[-3:]) == ["--sampler=random_fraction=0.5", "--seed=3", "--wall-time=2h"]


def test_options_after_two_dashes_go_to_sbatch_for_all_jobs() -> None:
    both = commands(
        "--master-sbatch", "--mem=4G --qos=low", "--worker-sbatch=--mem=32G", "--", "--qos=high", "-C", "a b"
    )
    for command, own in zip(both, ("--mem=4G", "--mem=32G"), strict=True):
        at = command.index("--qos=high")
        assert command[at : at + 4] == ["--qos=high", "-C", "a b", own]


def test_grace_goes_to_the_workers_and_the_warning_and_from_a_search_file_too(here: Path) -> None:
    (here / "search.toml").write_text('problem = "counting_ones"\n[workers]\ngrace = "10m"\n')
    from_file = typed("search.toml", "--dry-run", "--time", "1-0")
    for output in (from_file, typed("counting_ones", "--dry-run", "--grace", "10m")):
        lines = output.partition("##### commands")[2].splitlines()[1:]
        master, workers = map(shlex.split, lines)
        assert not any(word.startswith(("--grace", "--signal")) for word in master)
        assert workers[-1] == "--grace=600"
        assert "--signal=B:USR2@700" in workers
        assert "\nWARNING=700\n" in output
    with pytest.raises(UsageError, match="give --grace to slurm submit itself"):
        typed("counting_ones", "--dry-run", "--worker-options", "--grace 5m")


def test_worker_options_and_master_options_go_to_their_own_script() -> None:
    master, workers = commands("--master-options", "--interface ib0", "--worker-options", "--timeout 2h", "--seed", "3")
    assert master[-3:] == ["--seed=3", "--interface", "ib0"]
    assert workers[-2:] == ["--timeout", "2h"]


def test_options_of_the_problem_go_to_master_and_workers() -> None:
    output = typed("hartmann6", "--dry-run")
    assert "PROBLEM=hartmann6" in output
    (here := Path("optional.py")).write_text(OPTIONAL)
    output = typed(str(here), "--width", "7", "--dry-run", "--seed", "1")
    lines = output.partition("##### commands")[2].splitlines()[1:]
    assert all("--width 7" in line for line in lines)
    assert len(lines) == 2


def test_an_interface_in_a_search_file_is_passed_to_the_script(here: Path) -> None:
    (here / "s.toml").write_text('problem = "counting_ones"\n[search]\nseed = 1\n[service]\ninterface = "ib0"\n')
    output = typed("s.toml", "--dry-run")
    assert "\nPROBLEM=s.toml\n" in output
    (master,) = [line for line in output.splitlines() if line.startswith("sbatch") and "master.sbatch" in line]
    assert master.endswith("master.sbatch --interface=ib0")


def test_a_number_of_nodes_makes_one_job_of_everything() -> None:
    (command,) = commands("--workers", "4", "--nodes", "2", "--seed", "1")
    assert "--nodes=2" in command
    assert command[-2].endswith("all_in_one.sbatch")


def test_the_error_for_an_unknown_option_says_where_options_of_sbatch_stand() -> None:
    with pytest.raises(UsageError, match=r"no option --qos.*options of sbatch stand at the end, after --"):
        typed("counting_ones", "--qos=high", "--dry-run")


def test_an_environment_without_the_command_is_refused(here: Path) -> None:
    with pytest.raises(UsageError, match=r"--venv .*.*bin/hpbandster-lite does not exist"):
        typed("counting_ones", "--dry-run", "--venv", str(here))


def test_options_with_an_unclosed_quote_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"--worker-options .*No closing quotation"):
        typed("counting_ones", "--dry-run", "--worker-options", "'")


def test_without_slurm_there_is_nothing_to_submit_to(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    with pytest.raises(UsageError, match=r"sbatch is not on PATH.*module load slurm.*--dry-run"):
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


def test_of_thousands_of_jobs_those_of_one_array_in_one_state_share_a_row() -> None:
    def job(name: str, state: str, where: str) -> dict[str, str]:
        return {"name": name, "kind": "workers", "state": state, "used": "1:00", "left": "9:00", "where": where}

    few = [job(f"7_{each}", "RUNNING", f"node{each}") for each in range(50)]
    assert _summed(few) == few
    waiting = [job(f"7_{each}", "PENDING", "(Priority)") for each in range(50, 3_000)]
    master = {**job("6", "RUNNING", "node9"), "kind": "master"}
    rows = [(row["name"], row["state"], row["where"]) for row in _summed([master, *few, *waiting])]
    assert rows == [
        ("6", "RUNNING", "node9"),
        ("7 (50 jobs)", "RUNNING", ""),
        ("7 (2950 jobs)", "PENDING", "(Priority)"),
    ]
