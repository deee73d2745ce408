"""The report of ``doctor``: every probe has a time limit, no secret is shown, and what looks wrong has a remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpbandster_lite.cli.app import make_app
from hpbandster_lite.doctor import machine, places
from hpbandster_lite.doctor.bounded import answers_of
from hpbandster_lite.doctor.report import examine, findings
from tests.recorded.runs import recorded_run

SECRET = "a secret of twenty letters"  # noqa: S105 (made up)
PROBES = {
    *("software", "processors", "memory", "GPUs", "Slurm", "network", "limits", "environment", "directory", "keys"),
    *("temporary files", "shared memory"),
}


def test_a_probe_that_hangs_or_fails_costs_its_own_answer_only() -> None:
    goes_on = threading.Event()

    def hang() -> dict[str, Any]:
        goes_on.wait()
        return {}

    began_at = time.monotonic()
    answers = answers_of({"hang": hang, "fail": lambda: {"x": 1 // 0}, "work": lambda: {"x": 1}}, limit_s=0.2)
    goes_on.set()
    assert time.monotonic() - began_at < 5
    assert answers == {
        "hang": {"error": "no answer within 0.2 s"},
        "fail": {"error": "ZeroDivisionError: integer division or modulo by zero"},
        "work": {"x": 1},
    }
    assert list(findings(answers)) == ["hang: no answer within 0.2 s", f"fail: {answers['fail']['error']}"]


PLACE = {
    "path": "/runs", "exists": True, "is a directory": True, "writable": True, "locks": True, "mode": "700",
    "clock ahead of this machine, seconds": 0.5, "free": 2**40, "free files": None,
}  # fmt: skip
KEY = {"mode": "600", "owner is this user": True}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"directory": PLACE, "keys": {"/runs/key": KEY}, "run": {}}, None),
        ({"directory": {**PLACE, "clock ahead of this machine, seconds": -7.5}}, "7.5 s behind that of this machine"),
        ({"directory": {**PLACE, "clock ahead of this machine, seconds": 3.0}}, "3 s ahead of that of this machine"),
        ({"directory": {**PLACE, "free": 2**20}}, "/runs has 1 MiB free; make room"),
        ({"directory": {**PLACE, "free files": 3}}, "/runs has room for 3 more files; delete some"),
        ({"directory": {**PLACE, "writable": False, "why": "read-only"}}, "/runs cannot be written: read-only"),
        ({"directory": {**PLACE, "locks": "no: ENOLCK"}}, "files in /runs cannot be locked (no: ENOLCK)"),
        ({"directory": {**PLACE, "mode": "770"}, "run": {}}, "other users can write in /runs (mode 770): chmod go-w"),
        ({"directory": {**PLACE, "mode": "770"}}, None),
        ({"directory": {"path": "/runs", "exists": False, "is a directory": False}}, "/runs does not exist"),
        ({"keys": {"/runs/key": {**KEY, "mode": "640"}}}, "other users can open /runs/key (mode 640): chmod 600"),
        ({"keys": {"/runs/key": {"mode": "644", "owner is this user": False}}}, None),
        ({"network": {"host": "node1", "resolves to": []}}, "the name of this machine, node1, does not resolve"),
        ({"limits": {"open files": 256}}, "at most 256 files may be open at a time; raise the limit: ulimit -n"),
        ({"Slurm": {"installed": True, "controller": "x is DOWN"}}, "does not answer (x is DOWN); see scontrol ping"),
        ({"Slurm": {"installed": True, "controller": None, "version": None}}, "answer (scontrol prints nothing)"),
        ({"GPUs": {"fault": "version mismatch", "GPUs": []}}, "their driver does not work (version mismatch); see nv"),
        (
            {"GPUs": {"GPUs": [{}], "CUDA of the driver": "12.4"}, "software": {"torch": "2.13.0"}},
            "torch 2.13.0 is a build for the CPU and uses none; install one for CUDA 12.4 or older",
        ),
        ({"GPUs": {"GPUs": [{}]}, "software": {"torch": "2.13.0", "CUDA of torch": "12.4"}}, None),
        ({"GPUs": {"GPUs": [{}]}, "software": {"torch": None}}, None),
        ({"Slurm": {"installed": True, "controller": "Slurmctld(primary) at head is UP"}}, None),
        ({"Slurm": {"installed": False}}, None),
    ],
)
def test_what_looks_wrong_is_named_with_its_value_and_a_remedy(answers: dict[str, Any], words: str | None) -> None:
    found = list(findings(answers))
    assert len(found) == (words is not None)
    assert all(words is not None and words in each for each in found)


@pytest.mark.parametrize(
    ("script", "version", "controller"),
    [
        ("case $1 in ping) echo 'Slurmctld(primary) at vm is UP' ;; *) echo slurm-wlm 22.05 ;; esac", "slurm-wlm 22.05",
         "Slurmctld(primary) at vm is UP"),
        ("echo 'Slurmctld(primary) at vm is DOWN'; echo '****'; echo '** RESTORE **'; exit 1",
         None, "Slurmctld(primary) at vm is DOWN"),
        ("echo 'scontrol: fatal: Unable to process configuration file' >&2; exit 1",
         "Unable to process configuration file", "Unable to process configuration file"),
        ("exec sleep 60", "scontrol did not answer within 0.2 s; try again when the cluster is less busy", None),
        ("exit 3", "no error message", "no error message"),
    ],
    ids=["up", "down", "no configuration", "hangs", "silent"],
)  # fmt: skip
def test_what_scontrol_prints_is_in_the_report(
    script: str, version: str | None, controller: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "LIMIT_S", 0.6)
    answer = machine.batch_system()
    assert answer["installed"]
    assert version is None or answer["version"] == version
    assert controller is None or answer["controller"] == controller
    assert any("controller does not answer" in each for each in findings({"Slurm": answer})) == (" UP" not in script)


def test_a_directory_is_examined_and_nothing_is_left_there(tmp_path: Path) -> None:
    answer = places.place(tmp_path)
    assert (answer["writable"], answer["locks"], answer["is a directory"]) == (True, True, True)
    assert abs(answer["clock ahead of this machine, seconds"]) < 2
    assert answer["file system"]
    assert 0 < answer["free"] <= answer["size"]
    assert list(tmp_path.iterdir()) == []
    assert places.place(tmp_path / "none")["exists"] is False


def test_a_run_is_examined_with_its_journal_and_the_modes_of_its_keys(tmp_path: Path) -> None:
    run = recorded_run(2, "edited", tmp_path).path
    (run / "key").write_text(SECRET)
    (run / "key").chmod(0o644)
    report = examine(run)
    assert (report["run"]["schema"], report["run"]["served"]) == (2, False)
    assert report["run"]["journal"] == (run / "journal.sqlite").stat().st_size
    assert report["keys"][str(run / "key")]["mode"] == "644"
    assert any(f"chmod 600 {run / 'key'}" in finding for finding in report["findings"])
    assert SECRET not in json.dumps(report)


def test_a_file_system_that_hangs_is_named_and_the_rest_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def hang(path: Path) -> Any:
        goes_on.wait()

    for name in ("report.named_run_directory", "places.place", "places.run", "places.secrets_of"):
        monkeypatch.setattr(f"hpbandster_lite.doctor.{name}", hang)
    try:
        report = examine(Path("/hangs"), limit_s=1.0)
    finally:
        goes_on.set()
    for name in ("directory", "run", "keys"):
        assert f"{name}: no answer within 1 s" in report["findings"]
    assert report["limits"]["open files now"] > 0


def test_a_run_directory_that_is_none_is_examined_too(tmp_path: Path) -> None:
    report = examine(tmp_path / "none")
    assert report["run"]["journal"] is None
    assert f"directory: {tmp_path / 'none'} does not exist" in report["findings"]


def test_the_report_as_text_has_what_the_json_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPBANDSTER_LITE_KEY", SECRET)
    monkeypatch.chdir(tmp_path)
    report = json.loads(CliRunner().invoke(make_app("doctor"), ["doctor", "--json"]).stdout)
    assert report.keys() == {"version", "findings"} | PROBES
    assert report["environment"]["HPBANDSTER_LITE_KEY"] == "set"
    text = CliRunner().invoke(make_app("doctor"), ["doctor"], env={"COLUMNS": "300"}).output
    assert SECRET not in text
    assert all(f"\n{name}\n" in text for name in PROBES)
    assert f"python {report['software']['python']}" in " ".join(text.split())


def test_no_slow_library_is_imported_and_one_that_is_not_installed_is_none() -> None:
    program = (
        "import sys\nfrom hpbandster_lite.doctor.machine import software\nfound = software()\n"
        "assert not {'torch', 'sklearn', 'statsmodels', 'ConfigSpace'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert machine._version("no-such-library-is-installed") is None
