"""Options of a problem on the command line: stored with the search, equal in all its workers, refused with a reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpbandster_lite.api import minimize
from hpbandster_lite.errors import ResumeError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import given_in, with_options
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.settings.search_file import read_search_file
from tests.service import optional_problem

pytestmark = pytest.mark.timeout(120)
PROBLEM = optional_problem.__file__ or ""
LONGEST_S = 60.0


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "hpbandster_lite", *map(str, arguments)]


def typed(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=cwd, capture_output=True, text=True, timeout=LONGEST_S, check=False,
        stdin=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "1000"},
    )  # fmt: skip


def seen(directory: Path) -> list[dict[str, object]]:
    """The options that the evaluations reported."""
    outcomes = JournalReader(RunDirectory(directory).journal).outcomes().values()
    return [{name: outcome.info[name] for name in ("kind", "data")} for outcome in outcomes]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run directory of a search with options of its problem, after two evaluations."""
    place = tmp_path_factory.mktemp("searched")
    ran = typed("run", PROBLEM, "--kind", "steep", "--data=here", "--scale", "1", "--run-dir", "run", "--seed", "1",
                "--evaluations", "2", "-w", "1", cwd=place)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"options: data={place}/here, kind=steep\n" in ran.stdout
    return place / "run"


def test_evaluations_have_the_options_and_a_path_counts_from_where_the_command_was_typed(searched: Path) -> None:
    assert seen(searched)[:2] == [{"kind": "steep", "data": str(searched.parent / "here")}] * 2
    kept = JournalReader(RunDirectory(searched).journal).settings().problem.reference
    assert kept == f"{PROBLEM}?data={searched.parent}/here&kind=steep&scale=1"


def test_a_search_goes_on_with_the_options_that_it_has_and_with_data_elsewhere(searched: Path) -> None:
    ran = typed("run", PROBLEM, "--run-dir", searched, "--evaluations", "3", "-w", "1", "--data", "/elsewhere")
    assert ran.returncode == 0, ran.stderr
    assert seen(searched)[-1] == {"kind": "steep", "data": "/elsewhere"}


def test_a_search_refuses_other_options_with_both_values(searched: Path) -> None:
    same = SearchOptions(problem=with_options(PROBLEM, {"kind": "steep"}))
    assert prepare(same, RunDirectory(searched)).settings.problem.reference.endswith("/here&kind=steep&scale=1")
    other = SearchOptions(problem=with_options(PROBLEM, {"kind": "flat"}))
    with pytest.raises(ResumeError, match="option kind of the problem: steep in the journal, flat requested"):
        prepare(other, RunDirectory(searched))


def test_the_search_file_in_the_run_directory_has_the_options(searched: Path) -> None:
    text = (searched / "search.toml").read_text()
    assert '[options]\ndata = "' in text
    assert 'kind = "steep"\n# scale = 1.0\n# noisy = false\n' in text
    assert given_in(read_search_file(searched / "search.toml").problem)["kind"] == "steep"


def test_options_in_a_search_file_go_behind_those_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text(f'problem = "{PROBLEM}"\n[options]\nkind = "steep"\nscale = 2\nnoisy = true\ndata = "sub/data"\n')
    planned = typed("plan", file, "--json", "--scale", "3", "--no-noisy", cwd=tmp_path.parent)
    assert json.loads(planned.stdout)["options"] == {
        "data": str(tmp_path / "sub" / "data"), "kind": "steep", "scale": 3.0, "noisy": False,
    }  # fmt: skip


def test_options_are_listed_with_types_defaults_and_help() -> None:
    listed = typed("options", PROBLEM)
    rows = [" ".join(line.split()) for line in listed.stdout.splitlines()]
    assert "--data * a path or none none the folder with the data" in rows
    assert "--kind one of flat, steep flat the shape of the loss" in rows
    assert "--noisy/--no-noisy true or false false" in rows


def test_a_slip_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    ran = typed("run", "counting_ones", "--worker", "2", cwd=tmp_path)
    assert ran.returncode == 2
    assert "no option --worker (did you mean --workers?): the problem 'counting_ones' takes no options" in ran.stderr
    assert not (tmp_path / "runs").exists()
    ran = typed("plan", PROBLEM, "--knd", "flat")
    assert ran.returncode == 2
    assert f"no option --knd: the problem '{PROBLEM}' has no option 'knd'; did you mean 'kind'?" in ran.stderr


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """Run directory of a master that serves a search of steep losses; its log is beside it."""
    run, log = tmp_path / "run", tmp_path / "master.log"
    with log.open("w") as output, subprocess.Popen(
        command("master", PROBLEM, "--kind", "steep", "--run-dir", run, "--seed", "1", "--brackets", "1"),
        stdin=subprocess.DEVNULL, stdout=output, stderr=output,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + LONGEST_S
        while not (run / "endpoint.json").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        yield run
        process.terminate()


def test_a_worker_with_other_options_is_refused_on_both_sides_and_one_with_other_data_works(served: Path) -> None:
    refused = typed("worker", PROBLEM, "--run-dir", served)
    assert refused.returncode == 2
    assert "its option kind of the problem 'optional_problem' is flat, the search has steep" in refused.stderr
    assert "start it with --kind steep" in refused.stderr
    log = (served.parent / "master.log").read_text()
    assert "is refused: its option kind is flat, this search has steep" in log
    worked = typed("worker", PROBLEM, "--run-dir", served, "--kind", "steep", "--data", "/mine")
    assert worked.returncode == 0, worked.stderr
    assert {row["data"] for row in seen(served)} == {"/mine"}


def test_a_worker_s_slip_is_answered_by_its_problem_and_by_the_command(served: Path) -> None:
    ran = typed("worker", PROBLEM, "--run-dir", served, "--worker", "2")
    assert ran.returncode == 2
    assert "has no option 'worker'" in ran.stderr
    assert "this command has no option --worker (did you mean --workers?)" in ran.stderr


def test_python_takes_options_by_name_and_behind_the_problem(tmp_path: Path) -> None:
    options = {"scale": 1 / 9, "data": tmp_path}
    result = minimize(f"{PROBLEM}?kind=steep", problem_options=options, run_dir=tmp_path / "run", workers=1, seed=1,
                      evaluations=1)  # fmt: skip
    assert result.incumbent is not None
    assert seen(tmp_path / "run") == [{"kind": "steep", "data": str(tmp_path)}]
    assert JournalReader(RunDirectory(tmp_path / "run").journal).settings().budgets == (1.0,)


def test_python_configures_an_object(tmp_path: Path) -> None:
    minimize(optional_problem.problem, problem_options={"kind": "steep"}, isolation="none", run_dir=tmp_path / "run",
             workers=1, seed=1, evaluations=1)  # fmt: skip
    assert seen(tmp_path / "run") == [{"kind": "steep", "data": None}]
