"""Searches whose standard streams are closed, or whose encoding has few characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.rundir import RunDirectory

PROBLEM = '''
min_budget, max_budget = 1, 3

def space():
    from ConfigSpace import ConfigurationSpace
    return ConfigurationSpace({"x": (0.0, 1.0)})

def evaluate(config, budget, trial):
    print("gr\\u00f6\\u00dfe \\u2713", flush=True)
    return config["x"]
'''
FEW_CHARACTERS = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}


def directory_of(folder: Path) -> RunDirectory:
    return RunDirectory(folder / "läufe")


@pytest.mark.parametrize(
    "streams", ["<&- > out 2>&1", "<&- >&- 2>&-", "<&- > /dev/full 2>&-"], ids=["ascii", "closed", "full"]
)
def test_a_search_runs_whatever_its_streams_are(streams: str, tmp_path: Path) -> None:
    (tmp_path / "stück.py").write_text(PROBLEM)
    options = '"$0" -m hpbandster_lite run stück.py --brackets 1 --seed 1 -w 1 --run-dir läufe'
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}

    done = subprocess.run(
        ["bash", "-c", f"{options} {streams}", sys.executable],
        cwd=tmp_path, env=environment | FEW_CHARACTERS, timeout=50, check=False,
    )  # fmt: skip

    printed = (tmp_path / "out").read_text("ascii") if "out" in streams else ""
    assert done.returncode == 0, printed
    # Names of files are stored as UTF-8, so that the search goes on, and its workers find its files, under any locale.
    assert JournalReader(directory_of(tmp_path).journal).settings().problem.reference == str(tmp_path / "stück.py")
    directory = directory_of(tmp_path)
    assert [row["state"] for row in JournalReader(directory.journal).evaluations()] == ["done"] * 4
    assert next(directory.path.rglob(RunDirectory.LOG_NAME)).read_text("utf-8") == "größe ✓\n"
    if printed:
        assert "finished: the one bracket is complete - 4 evaluations - incumbent" in printed
