"""A run directory on a network file system: a search there, its readers, and masters that are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hpbandster_lite.journal import filesystems
from hpbandster_lite.records import Leased, Recorded, Started
from tests.service.served_search import ServedSearch, served_search

pytestmark = pytest.mark.timeout(150)

PATIENT = {"lease_s": 60.0, "heartbeat_s": 0.5}
MOUNTS = """
from pathlib import Path

from hpbandster_lite.journal import filesystems

filesystems.MOUNTS = Path({!r})
"""
COMMANDS = ("status", "best", "list", "verify")


def network_at(path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make this directory appear on a network file system, here and in processes with the returned environment."""
    mounts = place / "mountinfo"
    mounts.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda rw\n30 22 0:40 / {path} rw - nfs4 filer:/x rw,vers=4.2\n")
    modules = place / "modules"
    modules.mkdir()
    (modules / "sitecustomize.py").write_text(MOUNTS.format(str(mounts)))
    monkeypatch.setattr(filesystems, "MOUNTS", mounts)
    return {"PYTHONPATH": str(modules)}


def ask(search: ServedSearch, environment: Mapping[str, str], commands: Sequence[str] = COMMANDS) -> None:
    """Run commands that read; each must succeed."""
    for command in commands:
        asked = subprocess.run(
            [sys.executable, "-m", "hpbandster_lite", command, str(search.directory.path), "--json"],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert asked.returncode == 0, f"{command}: {asked.stdout}{asked.stderr}"
        assert json.loads(asked.stdout), command
        assert logs(search) == []


def logs(search: ServedSearch) -> list[str]:
    """The files beside the journal that only a write-ahead log has."""
    return [each.name for each in search.directory.path.iterdir() if each.name.endswith(("-wal", "-shm"))]


def test_a_search_on_a_network_file_system_is_read_while_it_runs_and_survives_its_masters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        network = network_at(search.directory.path, tmp_path, monkeypatch)
        master = search.start_master(environment=network)
        workers = [search.start_worker(index, environment=network) for index in range(2)]
        acknowledged = {}
        for count in (2, 4, 6):
            search.wait_recorded(count)
            acknowledged = search.results()
            master.kill()
            assert master.output().count("is on a network file system (nfs4)") == 1
            master = search.start_master(environment=network)
        search.hold()
        for worker in workers:
            search.wait_working(worker)
        ask(search, network)
        master.kill()
        # It asks the master if one serves.
        ask(search, network, ["status"])
        master = search.start_master(environment=network)
        search.hold(False)
        for process in (*workers, master):
            process.ends(0)
        assert len(search.of(Started)) == 5
        assert {entry.attempt for entry in search.of(Leased)} == {1}
        assert len(search.of(Recorded)) == len(search.of(Leased))
        search.check(acknowledged)


def test_a_search_that_is_moved_to_a_network_file_system_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served_search(tmp_path, **PATIENT) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_worker()
        search.wait_working(worker)
        search.hold(False)
        search.wait_recorded(4)
        master.kill()
        assert "journal.sqlite-wal" in logs(search)
        acknowledged = search.results()
        network = network_at(search.directory.path, tmp_path, monkeypatch)
        master = search.start_master(environment=network)
        assert "journal.sqlite-wal" not in logs(search)
        for process in (worker, master):
            process.ends(0)
        search.check(acknowledged)
