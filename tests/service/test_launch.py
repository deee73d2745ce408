"""The resources that the launcher reserves for its children, and how it sends them their options."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.launch.local_search import LaunchOptions, LocalSearch, _reserved_port
from hpbandster_lite.master.serving import hold_run_directory
from hpbandster_lite.process.startup import briefing_line, read_briefing
from hpbandster_lite.records import Limits
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.transport.server import Server
from tests.engine_room import settings_for, space_of
from tests.service.local_search import LocalSearchProcess, Notes, until

pytestmark = pytest.mark.timeout(60)


# ---------------------------------------------------------------------------------------------------- a reserved port


def test_a_server_of_ours_may_listen_on_a_reserved_port_again_and_again() -> None:
    with _reserved_port() as port:
        for _ in range(2):
            with Server("127.0.0.1", port, None, object_id="names", handle=lambda call: call.text) as server:
                assert server.endpoint == ("127.0.0.1", port)
                socket.create_connection(server.endpoint).close()


def test_no_other_process_gets_a_reserved_port() -> None:
    with _reserved_port() as port, socket.socket() as stranger:
        with pytest.raises(OSError, match="in use") as caught:
            stranger.bind(("127.0.0.1", port))
        assert caught.value.errno == errno.EADDRINUSE
        with contextlib.ExitStack() as stack:
            given = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(200)]
            assert port not in {each.getsockname()[1] for each in given}


def test_a_port_is_reserved_for_as_long_as_it_is_needed() -> None:
    with _reserved_port() as port:
        pass
    with socket.create_server(("127.0.0.1", port)):
        pass


# --------------------------------------------------------------------------------------------------------- a briefing


def briefed(line: bytes, tmp_path: Path) -> tuple[str, str]:
    """Start a process with a briefing; return its output and the contents of its log."""
    code = (
        "import sys\nfrom hpbandster_lite.process.startup import read_briefing\n"
        "print('before', flush=True)\noptions = read_briefing()\nprint(options, flush=True)\n"
        "print('oh', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=line, capture_output=True, check=True)
    log = tmp_path / "log"
    return done.stdout.decode() + done.stderr.decode(), log.read_text() if log.exists() else ""


def test_a_process_takes_its_options_from_a_line_and_writes_to_its_log_from_then_on(tmp_path: Path) -> None:
    options = {"size": "x" * 200_000}
    output, logged = briefed(briefing_line(options, tmp_path / "log"), tmp_path)
    assert output == "before\n"
    assert logged == f"{options}\noh\n"
    briefed(briefing_line(options, tmp_path / "log"), tmp_path)
    assert (tmp_path / "log").read_text() == logged * 2


def test_a_process_without_a_log_keeps_its_streams(tmp_path: Path) -> None:
    output, _ = briefed(briefing_line([1], None), tmp_path)
    assert output == "before\n[1]\noh\n"


@pytest.mark.parametrize("line", [b"", b'{"options": 1'])
def test_a_process_whose_launcher_is_gone_gets_no_briefing(line: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line)))
    assert read_briefing() is None


@pytest.mark.parametrize("module", ["master", "agent", "nameserver"])
def test_every_process_of_a_search_ends_silently_without_a_briefing(module: str) -> None:
    command = [sys.executable, "-m", f"hpbandster_lite.{module}", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


# -------------------------------------------------------------------------------------------------- what goes wrong


def search(directory: RunDirectory, **options: Any) -> LocalSearch:
    return LocalSearch(directory, LaunchOptions(workers=1, **options), Notes())


def prepared() -> Prepared:
    settings = settings_for(space_of())
    settings = replace(settings, problem=replace(settings.problem, reference="counting_ones"))
    return Prepared(settings=settings, limits=Limits(brackets=1), resumed=False)


def test_whatever_happens_before_the_search_no_process_is_left(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")

    def refuse() -> None:
        with search(directory) as running:
            running.warm_up()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refuse()
    assert not directory.path.exists()


def test_a_master_that_refuses_ends_the_search_with_its_code_and_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.lock_file.mkdir()
    with search(directory) as running:
        assert running.run(prepared()) == 4
    assert "the master ended:" in capsys.readouterr().out
    assert "cannot lock" in directory.log("master").read_text()


def test_no_other_user_may_read_what_the_processes_log(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    line = briefing_line(wire.to_message(Limits()), directory.log("master"))
    assert json.loads(line)["log"] == str(directory.log("master"))
    code = "from hpbandster_lite.process.startup import read_briefing; read_briefing()"
    subprocess.run([sys.executable, "-c", code], input=line, check=True)
    assert directory.log("master").stat().st_mode & 0o077 == 0


def test_a_run_beside_another_master_says_so_at_once_and_starts_its_workers_when_that_one_has_ended(
    tmp_path: Path,
) -> None:
    searching = LocalSearchProcess(tmp_path)
    searching.directory.create()
    with contextlib.ExitStack() as other:
        other.enter_context(hold_run_directory(searching.directory))
        with searching.running() as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "new\n"
            here = f"pid {os.getpid()} on host {socket.gethostname()}"
            words = f"served already: waiting up to 10 s for the end of its master ({here})"
            assert words in process.stdout.readline()
            assert searching.processes("master")
            assert not searching.processes("agent")
            other.close()
            until(lambda: len(searching.processes("agent")) == 2, "its workers are started")


# ------------------------------------------------------------------------------------- workers of a master elsewhere


WORKERS = """
import sys
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.launch.local_workers import LocalWorkers
with LocalWorkers(print) as here:
    print("code", here.run([AgentOptions(problem=sys.argv[1], run_dir=sys.argv[2], index=n) for n in range(2)]))
"""


def test_workers_that_found_no_master_end_at_once_at_a_signal(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    process = subprocess.Popen(
        [sys.executable, "-c", WORKERS, "counting_ones", str(directory.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = ""
        while lines.count("no master serves") < 2:
            line = process.stdout.readline()
            assert line, lines
            lines += line
        process.send_signal(signal.SIGTERM)
        # A worker that has a report for the master would wait for it for 25 s.
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert "code 130" in output


def test_workers_that_cannot_import_the_problem_say_so_and_end_with_its_code(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    done = subprocess.run(
        [sys.executable, "-c", WORKERS, str(tmp_path / "gone.py"), str(directory.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "code 2"
    assert "worker-0 ended with exit code 2" in done.stdout
    assert "there is no file" in done.stderr
