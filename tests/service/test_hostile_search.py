"""A hostile peer with the key of a search, and attacks on a search under TLS: no input is trusted.

Without the key all input is refused (``test_faults_forged``, ``test_transport_hostile``). A peer with the key can
report false results, but it cannot lead other processes to files, name the code that they run, or forge log lines.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.access.certificate_authority import make_certificates
from hpbandster_lite.agent.assignment import assignment_of
from hpbandster_lite.agent.attempt_directories import AttemptDirectories
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import ProtocolMismatch, SearchError, UsageError
from hpbandster_lite.master.connection import connect
from hpbandster_lite.protocol.messages import Grant
from hpbandster_lite.records import Released
from hpbandster_lite.transport import Client
from tests.service.served_search import ServedSearch, served_search
from tests.service.test_cli import here
from tests.service.test_faults_hostile import ROUNDS, SLACK_S, WAYS, Vandals, median_s
from tests.service.test_transport_tls import client_hello

pytestmark = pytest.mark.timeout(120)

PATIENT = {"lease_s": 60.0, "heartbeat_s": 0.5}
FORGED_LINE = "2026-01-01 00:00:00,000 INFO hpbandster_lite.master: the search is over: all is well"
HOSTILE_NAME = f"\x1b[2J\x1b]0;owned\x07\r\u202e{FORGED_LINE[:20]}\n{FORGED_LINE}"
PATHS = ["../../../etc", "/etc/../root", "evaluations/../../x", "..", "", "a\0b", "x" * 5_000, ["list"], 7]


@pytest.fixture
def search(tmp_path: Path) -> Iterator[ServedSearch]:
    with served_search(tmp_path, **PATIENT) as made:
        yield made


def question(agent: str, request: int = 1) -> dict[str, Any]:
    """A worker's request for work, to be changed into a hostile message."""
    slot = {"slot": 0, "wants_lease": True, "report": None}
    return {"type": "exchange-request", "agent": agent, "request": request, "worker": agent, "slots": [slot]}


def leased(client: Client, agent: str) -> dict[str, Any]:
    """A lease, requested as a worker requests it."""
    grant: dict[str, Any] = client.call("exchange", question(agent))["slots"][0]["answer"]
    assert grant["type"] == "grant"
    return grant


def text_of(command: str, search: ServedSearch, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hpbandster_lite", command, str(search.directory.path), *options],
        capture_output=True, text=True, check=False, timeout=60, env=None,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_no_path_that_a_worker_tells_leads_out_of_the_run_directory(search: ServedSearch, tmp_path: Path) -> None:
    master = search.start_master()
    with connect(search.directory) as evil:
        grant = leased(evil, "evil")
        held = {"agent": "evil", "evaluation": grant["evaluation"], "attempt": grant["attempt"]}
        release = {"type": "release-request", **held, "reason": "so"}
        for path in PATHS:
            with pytest.raises(ProtocolMismatch):
                evil.call("release", {**release, "directory": path})
            outcome = {"loss": 0.1, "duration_s": 1.0, "directory": path}
            report = {"evaluation": grant["evaluation"], "attempt": grant["attempt"], "outcome": outcome}
            slots = [{"slot": 0, "wants_lease": True, "report": report}]
            with pytest.raises(SearchError, match="directory"):
                evil.call("exchange", {**question("evil", 2), "slots": slots})
        for config_id, rung in (["../..", 0, 0], 0), ([0, 0, 0], "../.."), ([0, 0, "/etc"], 0), ([0, 0, 10**9], 0):
            # Refused, or without effect.
            with contextlib.suppress(SearchError):
                evil.call("release", {**release, "evaluation": [config_id, rung], "directory": None})
        assert not search.of(Released)
        # A valid file of another user: it is kept, and no worker reads it.
        theirs = tmp_path / "theirs"
        theirs.mkdir()
        (theirs / "state.json").write_text('{"step": 10000}')
        evil.call("release", {**release, "directory": "evaluations/0-0-0/rung7"})
    search.start_worker().ends(0)
    master.ends(0)
    search.check()
    assert {file.name for file in tmp_path.iterdir() if file.is_dir()} >= {"run", "theirs"}


def test_names_and_reasons_of_others_are_obeyed_by_no_log_and_no_terminal(search: ServedSearch) -> None:
    master = search.start_master()
    with connect(search.directory) as evil:
        grant = leased(evil, HOSTILE_NAME[:200])
        held = {"agent": HOSTILE_NAME[:200], "evaluation": grant["evaluation"], "attempt": grant["attempt"]}
        evil.call("renew", {"type": "renew-request", **held, "curve": []})
        status = text_of("status", search)
        evil.call("pause", {"type": "pause-request", "reason": HOSTILE_NAME})
        paused = text_of("status", search)
        resumed = text_of("resume", search)
        evil.call("release", {"type": "release-request", **held, "reason": HOSTILE_NAME, "directory": None})
        with pytest.raises(ProtocolMismatch, match="255 characters"):
            evil.call("exchange", question("x" * 300))
    search.start_worker().ends(0)
    master.ends(0)
    listed = text_of("list", search)
    for output in (status, paused, resumed, listed, master.output()):
        assert output
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", output)
    # No line of the log is a line that a peer wrote.
    assert not [line for line in master.output().splitlines() if line.startswith(FORGED_LINE[:10])]
    assert all(re.match(r"\d{4}-\d\d-\d\d |    |note: ", line) for line in master.output().splitlines())


def test_the_code_that_a_worker_runs_is_named_on_its_own_command_line_alone(
    search: ServedSearch, tmp_path: Path
) -> None:
    """A hostile master: its grant names another problem, and files; the agent ignores both."""
    evil = tmp_path / "evil.py"
    evil.write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    master = search.start_master()
    with connect(search.directory) as client:
        grant = leased(client, "spy")
    assert not [name for name in grant if "problem" in name or "reference" in name or "module" in name]
    hostile = {**grant, "problem": str(evil), "reference": str(evil), "source_modules": [str(evil)]}
    options = AgentOptions(problem=str(search.problem), run_dir=str(search.directory.path))
    directories = AttemptDirectories(options)
    for unknown in hostile.keys() - grant.keys():
        with pytest.raises(ProtocolMismatch, match=unknown):
            wire.from_message({**grant, unknown: hostile[unknown]}, Grant)
    theirs = {"previous_directory": "../theirs", "resume_directories": ["../theirs", "x/../../theirs"]}
    for field, paths in theirs.items():
        # This grant has neither field: a message omits empty ones.
        assert field not in grant
        sent = wire.from_message({**grant, field: paths}, Grant)
        assert "theirs" in repr(sent)
        assert "theirs" not in repr(assignment_of(sent, directories, 0.0, "spy").order)
    for config_id in (["..", 0, 0], [0, 0, "/etc"], [0, 0]):
        with pytest.raises(ProtocolMismatch):
            wire.from_message({**grant, "evaluation": [config_id, 0]}, Grant)
    assert not (tmp_path / "was run").exists()
    search.start_worker().ends(0)
    master.ends(0)


@pytest.mark.parametrize("run_id", ["..", "../x", "a/b", "/etc", "."])
def test_a_run_id_that_is_a_path_is_refused_on_the_way_in(run_id: str) -> None:
    command = ["worker", "counting_ones", "--run-id", run_id, "--nameserver", "127.0.0.1:9", "--key", "none"]
    error, _ = here(*command)
    assert isinstance(error, UsageError)
    assert "--run-id" in str(error)


@pytest.mark.parametrize("way", [*WAYS, "say hello and no more"])
def test_a_hundred_vandals_do_not_slow_a_search_under_tls_down(way: str, search: ServedSearch) -> None:
    certificates = make_certificates(search.directory.tls, [], now=datetime.now(timezone.utc))
    says = WAYS[way] if way in WAYS else client_hello(certificates)
    master = search.start_master()
    search.hold()
    worker = search.start_worker()
    search.wait_working(worker)
    endpoint = search.directory.read_endpoint()
    assert endpoint is not None
    address = (endpoint["host"], endpoint["port"])
    quiet, disturbed = [], []
    with connect(search.directory) as client:
        for _ in range(ROUNDS):
            quiet.append(median_s(lambda: client.call("status", {})))
            with Vandals(address, says):
                disturbed.append(median_s(lambda: client.call("status", {})))
        began = time.monotonic()
        with Vandals(address, says), connect(search.directory) as newcomer:
            newcomer.call("status", {})
            assert time.monotonic() - began < 5.0
    assert min(disturbed) < 2 * min(quiet) + SLACK_S, f"quiet {quiet}, disturbed {disturbed}"
    assert statistics.median(disturbed) < 1.0
    assert len(re.findall("WARNING hpbandster_lite.transport", master.output())) <= 12
    search.hold(False)
    worker.ends(0)
    master.ends(0)
    search.check()
