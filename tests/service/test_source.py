"""Two problems never share a journal, and an edited source is accepted, or refused: by a start and by a worker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpbandster_lite.errors import ResumeError, SourceDiffers
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import HandBackKind, Released
from hpbandster_lite.results.result import Result
from tests.service.test_cli import ended, here, started, typed, until

pytestmark = pytest.mark.timeout(180)
QUICK = ("--evaluations", "4", "--workers", "1", "--seed", "3")
TEXT = """
import os, time
min_budget, max_budget = 1, 1
def space():
    from ConfigSpace import ConfigurationSpace
    return ConfigurationSpace({{"x": (0.0, 1.0)}})
def evaluate(config, budget, trial):
    {deed}
    return {loss}
"""


def problem(path: Path, loss: str = "1.0", deed: str = "pass") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEXT.format(loss=loss, deed=deed))
    return path


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in JournalReader(run / "journal.sqlite").evaluations() if row["loss"] is not None]


def test_two_problems_of_one_name_in_one_folder_are_two_searches(tmp_path: Path) -> None:
    problem(tmp_path / "a/net.py", loss="1.0")
    problem(tmp_path / "b/net.py", loss="2.0")
    one = typed("run", "a/net.py", *QUICK, cwd=tmp_path)
    other = typed("run", "b/net.py", *QUICK, cwd=tmp_path)
    assert (one.returncode, other.returncode) == (0, 0), other.stderr
    assert "runs/net belongs to the problem in" in other.stderr
    assert "this search is kept in runs/net-2" in other.stderr
    assert losses(tmp_path / "runs/net") == [1.0] * 4
    assert losses(tmp_path / "runs/net-2") == [2.0] * 4
    forced, _ = here("run", tmp_path / "b/net.py", *QUICK, "--run-dir", tmp_path / "runs/net")
    assert isinstance(forced, ResumeError)
    assert f"belongs to the problem in {(tmp_path / 'a/net.py').resolve()}" in str(forced)


def test_an_edit_is_refused_or_accepted_and_shown_from_where_it_counts(tmp_path: Path) -> None:
    file = problem(tmp_path / "net.py", loss="1.0")
    run = tmp_path / "runs/net"
    assert typed("run", "net.py", *QUICK, cwd=tmp_path).returncode == 0
    file.write_text(file.read_text() + "\n# a comment\nif __name__ == '__main__':\n    print(1)\n")
    assert "it is over" in here("run", file, *QUICK, "--run-dir", run)[1]
    problem(file, loss="2.0")
    refused = typed("run", "net.py", "--evaluations", "6", "--workers", "1", cwd=tmp_path)
    words = " ".join(refused.stderr.split())
    assert refused.returncode == 2
    assert "net.py is another one" in words
    assert "--accept-edited-source" in words
    assert losses(run) == [1.0] * 4
    accepted = typed("run", "net.py", "--evaluations", "6", "--workers", "1", "--accept-edited-source", cwd=tmp_path)
    assert accepted.returncode == 0, accepted.stderr
    assert losses(run) == [1.0] * 4 + [2.0] * 2
    status = json.loads(here("status", run, "--json")[1])
    (edit,) = status["source_edits"]
    assert (edit["recorded"], edit["differences"]) == (4, ["net.py is another one"])
    row = next(row for row in json.loads(here("list", run, "--json")[1]) if row["evaluation"] == edit["first"])
    assert (row["loss"], row["source"]) == (2.0, 2)
    assert "edited after 4 outcomes" in here("status", run)[1]
    error, verified = here("verify", run)
    assert error is None
    assert f"edited after 4 outcomes, another one from evaluation {edit['first']} on" in verified
    assert sorted(Result(run).evaluations["source"]) == [1, 1, 1, 1, 2, 2]
    # Once accepted, it is the source of the search.
    assert "it is over" in here("run", file, "--evaluations", "6", "--run-dir", run)[1]


def test_a_settings_file_that_is_read_at_import_counts(tmp_path: Path) -> None:
    file = problem(tmp_path / "net.py", loss="LOSS")
    file.write_text(file.read_text() + "\nLOSS = float(open(__file__.replace('net.py', 'loss.txt')).read())\n")
    (tmp_path / "loss.txt").write_text("1")
    assert typed("run", "net.py", *QUICK, "--isolation", "none", cwd=tmp_path).returncode == 0
    (tmp_path / "loss.txt").write_text("2")
    refused, _ = here("run", file, "--evaluations", "6", "--run-dir", tmp_path / "runs/net")
    assert isinstance(refused, ResumeError)
    assert "loss.txt is another one" in str(refused)


def test_a_worker_with_another_source_does_no_work_and_says_what_differs(tmp_path: Path) -> None:
    mine = problem(tmp_path / "a/net.py", loss="1.0")
    other = problem(tmp_path / "b/net.py", loss="2.0")
    moved = problem(tmp_path / "c/net.py", loss="1.0  # the same")
    run = tmp_path / "run"
    with started("master", mine, "--run-dir", run, "--evaluations", "3", "--seed", "1") as master:
        until((run / "endpoint.json").exists, master)
        refused = typed("worker", other, "--run-dir", run)
        assert refused.returncode == SourceDiffers.exit_code == 5, refused.stderr
        assert "net.py is another one" in refused.stderr
        done = typed("worker", moved, "--run-dir", run)
        assert done.returncode == 0, done.stderr
        assert ended(master)[0] == 0
    assert losses(run) == [1.0] * 3


def test_a_trainer_that_is_started_anew_after_an_edit_hands_its_evaluation_back(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    deed = f"open({str(mark)!r}, 'w').close(); time.sleep(1.5); os._exit(3) if trial.attempt == 1 else None"
    file = problem(tmp_path / "net.py", deed=deed)
    run = tmp_path / "run"
    arguments = ("run", file, "--run-dir", run, "--evaluations", "3", "--workers", "1", "--seed", "1")
    with started(*arguments) as process:
        until(mark.exists, process)
        problem(file, loss="2.0")
        code, output = ended(process)
    assert code == SourceDiffers.exit_code, output
    assert "net.py is another one" in output
    assert "--accept-edited-source" in output
    entries = [entry for _, _, entry in JournalReader(run / "journal.sqlite").entries()]
    released = [entry for entry in entries if isinstance(entry, Released)]
    assert all("net.py is another one" in entry.reason for entry in released)
    assert {entry.kind for entry in released} <= {HandBackKind.REFUSED}
    assert losses(run) == []
    accepted = typed(*arguments, "--accept-edited-source")
    assert accepted.returncode == 0, accepted.stderr
    assert 2.0 in losses(run)


def test_a_search_from_a_script_is_compared_too(tmp_path: Path) -> None:
    text = (
        "import sys\nfrom pathlib import Path\n"
        "from ConfigSpace import ConfigurationSpace\nfrom hpbandster_lite import minimize\n"
        "def evaluate(config, budget, trial):\n    return LOSS\n"
        "LOSS = 1.0\n"
        "if __name__ == '__main__':\n"
        "    minimize(evaluate, ConfigurationSpace({'x': (0.0, 1.0)}), min_budget=1, max_budget=1, evaluations=COUNT,\n"
        "             workers=1, seed=1, accept_edited_source='accept' in sys.argv)\n"
    )
    script = tmp_path / "search.py"

    def run(count: int, loss: float, *arguments: str) -> tuple[int, str]:
        script.write_text(text.replace("COUNT", str(count)).replace("LOSS = 1.0", f"LOSS = {loss}"))
        with started_script(script, *arguments) as process:
            return ended(process)

    assert run(3, 1.0)[0] == 0
    code, output = run(4, 2.0)
    assert code != 0
    assert "search.py is another one" in output
    assert run(4, 2.0, "accept")[0] == 0
    assert losses(tmp_path / "runs" / "search-evaluate") == [1.0] * 3 + [2.0]


def started_script(script: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, script.name, *arguments],
        cwd=script.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_arguments_of_a_script_reach_its_trainers_and_count_where_its_import_reads_them(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(
        "import argparse\n"
        "from ConfigSpace import ConfigurationSpace\nfrom hpbandster_lite import minimize\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--loss', type=float, default=1.0)\n"
        "LOSS = parser.parse_args().loss\n"
        "def evaluate(config, budget, trial):\n    return LOSS\n"
        "if __name__ == '__main__':\n"
        "    minimize(evaluate, ConfigurationSpace({'x': (0.0, 1.0)}), min_budget=1, max_budget=1, evaluations=2,\n"
        "             workers=1, seed=1)\n"
    )

    def run(*arguments: str) -> tuple[int, str]:
        with started_script(script, *arguments) as process:
            return ended(process)

    code, output = run("--loss=2.125")
    assert code == 0, output
    path = tmp_path / "runs" / "search-evaluate"
    assert losses(path) == [2.125] * 2
    assert "--loss" not in str([entry for _, _, entry in JournalReader(path / "journal.sqlite").entries()])
    assert "--loss" not in str(JournalReader(path / "journal.sqlite").settings())
    code, output = run("--loss=3")
    assert code != 0
    assert "the script's arguments (sys.argv), which it reads when it is imported, are others" in output
    assert "declare them as options of the problem" in output
