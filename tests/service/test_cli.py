"""The commands as a user types them: real processes and searches, their output and exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hpbandster_lite.cli.app import main, make_app
from hpbandster_lite.cli.run_directory import read_status
from hpbandster_lite.errors import JournalError, SearchError, UsageError
from hpbandster_lite.journal import EvaluationRow, JournalReader
from hpbandster_lite.results.result import Result
from hpbandster_lite.rundir import RunDirectory
from tests.service import cli_problem

pytestmark = pytest.mark.timeout(180)
PROBLEM = cli_problem.__file__ or ""
LONGEST_S = 80.0
Process = subprocess.Popen[str]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "hpbandster_lite", *map(str, arguments)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, without variables that change the output or the search of the commands."""
    dropped = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "HPBANDSTER_LITE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)} | dict(more or {})


def typed(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(env), capture_output=True, text=True, timeout=LONGEST_S,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def here(*arguments: str | Path) -> tuple[SearchError | None, str]:
    """Run a command in this process, which is faster; return the error that ended it, and its output."""
    ran = CliRunner().invoke(make_app(), list(map(str, arguments)), env={"COLUMNS": "1000"})
    if ran.exception is not None and not isinstance(ran.exception, SearchError | SystemExit):
        raise ran.exception
    return (ran.exception if isinstance(ran.exception, SearchError) else None), ran.output


@contextlib.contextmanager
def started(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """A command that runs during the context; it is killed if the test did not end it."""
    process = subprocess.Popen(
        command(*arguments), cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: Process) -> tuple[int, str]:
    """Exit code and output of a command that ends by itself."""
    output, _ = process.communicate(timeout=LONGEST_S)
    return process.returncode, output


def until(condition: Callable[[], Any], process: Process | None = None) -> Any:
    """Wait until a condition is true; return its value."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        with contextlib.suppress(JournalError):
            found = condition()
            if found:
                return found
        if process is not None and process.poll() is not None:
            pytest.fail(f"it ended with {process.returncode}: {process.stdout.read() if process.stdout else ''}")
        time.sleep(0.02)
    return pytest.fail("it did not happen")


def line_with(pattern: str, process: Process) -> str:
    """The first group of the first line of the output that matches."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        found = re.search(pattern, line)
        if found:
            return found[1]
    return pytest.fail(f"no line matches {pattern!r}: {''.join(read)}")


def evaluations(directory: Path) -> list[EvaluationRow]:
    return JournalReader(RunDirectory(directory).journal).evaluations()


@pytest.fixture(autouse=True)
def ctrl_c_is_received() -> Iterator[None]:
    """A shell makes its background processes ignore SIGINT, and their children inherit this."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run directory of a search that is over (one bracket, 13 evaluations), and the output of its command."""
    directory = tmp_path_factory.mktemp("runs") / "cli_problem"
    ran = typed("run", PROBLEM, "--run-dir", directory, "--brackets", "1", "--seed", "1", "-w", "2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return directory, ran.stdout


@pytest.fixture
def copied(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of that search, for a test that changes it."""
    copy = tmp_path / "runs" / "cli_problem"
    copy.parent.mkdir()
    shutil.copytree(finished[0], copy)
    return copy


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, Path, Process]]:
    """A search whose evaluations wait: its run directory, the file whose deletion they wait for, its process."""
    directory, hold = tmp_path / "search", tmp_path / "hold"
    hold.touch()
    arguments = ("run", PROBLEM, "--run-dir", directory, "--brackets", "1", "--seed", "1", "-w", "2")
    with started(*arguments, env={cli_problem.HOLD: str(hold)}) as process:
        until(lambda: directory.exists() and two_are_held(directory), process)
        yield directory, hold, process
        process.send_signal(signal.SIGINT)
        process.wait(LONGEST_S)


def two_are_held(directory: Path) -> bool:
    evaluations = read_status(RunDirectory(directory)).evaluations
    return (evaluations.recorded, evaluations.running) == (3, 2)


# --------------------------------------------------------------------------------------------------------------- run


def test_a_search_says_what_it_will_do_how_it_went_and_what_it_found(finished: tuple[Path, str]) -> None:
    directory, output = finished
    lines = output.splitlines()
    assert lines[0] == f"new search in {directory}, seed 1"
    assert "bracket  1 step  3 steps  9 steps  steps in all" in (line.rstrip() for line in lines)
    assert "13 configurations" not in output
    assert "9 configurations, 13 evaluations, 27 steps in all (3 times the full budget)" in lines
    (last,) = [line for line in lines if "finished: " in line]
    assert re.match(r"\d\d:\d\d:\d\d finished: the one bracket is complete · 13 evaluations · incumbent: 0-0-", last)
    assert lines[-1] == f"saved in {directory}/incumbent.json; all evaluations: hpbandster-lite list {directory}"
    assert re.search(r"\n {15}validation +test *\nloss +0\.\d+ +- *\nerror_percent +\d+\.\d+ +4\.25 *\n", output)
    assert "\x1b" not in output


def test_what_is_saved_is_what_best_prints(finished: tuple[Path, str]) -> None:
    directory, output = finished
    saved = json.loads((directory / "incumbent.json").read_text())
    assert saved["test"] == {"error_percent": 4.25}
    shown = json.loads(here("best", directory, "--json")[1])
    assert {name: shown[name] for name in saved} == saved
    printed = typed("best", directory).stdout
    assert printed.startswith(f"best configuration {'-'.join(map(str, saved['config_id']))}, evaluated for 9 steps\n")
    assert printed in output


def test_the_same_command_after_the_end_says_so_and_runs_nothing(copied: Path) -> None:
    before = evaluations(copied)
    ran = typed("run", PROBLEM, "--run-dir", copied, "--brackets", "1")
    assert ran.returncode == 0
    assert f"continuing the search in {copied}, seed 1: 13 evaluations are recorded" in ran.stdout
    assert "it is over: the one bracket is complete. Give a higher limit" in ran.stdout
    assert "best configuration" in ran.stdout
    assert evaluations(copied) == before


def test_a_higher_limit_extends_a_search_that_is_over(copied: Path) -> None:
    before = evaluations(copied)
    ran = typed("run", PROBLEM, "--run-dir", copied, "--brackets", "2", "--isolation", "none", "-w", "1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "it is over" not in ran.stdout
    after = evaluations(copied)
    assert len(after) == 17
    assert [row for row in after if row["config_id"].bracket == 0] == before


def test_new_begins_another_search_beside_the_first(copied: Path) -> None:
    place = copied.parent.parent
    ran = typed("run", PROBLEM, "--new", "--evaluations", "2", "--isolation", "none", "-w", "1", cwd=place)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("new search in runs/cli_problem-2, seed ")
    assert len(evaluations(place / "runs" / "cli_problem-2")) == 2
    assert len(evaluations(copied)) == 13


def test_a_search_is_stopped_by_ctrl_c_and_goes_on_with_the_same_command(held: tuple[Path, Path, Process]) -> None:
    directory, hold, process = held
    process.send_signal(signal.SIGINT)
    code, output = ended(process)
    assert code == 130
    assert "stopping: running evaluations are handed back; a second Ctrl-C or SIGTERM ends at once" in output
    assert "stopped: to continue, run the same command again" in output.splitlines()[-1]
    output = typed("status", directory).stdout
    assert "state      stopped: no master answers; to continue, run the command that began it again" in output
    assert json.loads(here("status", directory, "--json")[1])["answered_by"] == "journal"
    hold.unlink()
    ran = typed("run", PROBLEM, "--run-dir", directory)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"continuing the search in {directory}, seed 1: 3 evaluations are recorded" in ran.stdout
    assert "13 evaluations" in ran.stdout


# -------------------------------------------------------------------------------------------- status, best and list


def test_a_living_master_is_asked_and_the_results_are_there_while_it_serves(held: tuple[Path, Path, Process]) -> None:
    directory, _, _ = held
    text = here("status", directory)[1]
    assert re.search(r"\nstate +running for [\d.]+ s, about .* left *\n", text)
    assert re.search(r"\ndone +3 of 13 evaluations \(11 % of the budget\), 2 running, .* a (second|minute) *\n", text)
    assert re.search(r"\nworkers +2 of 2 busy *\n", text)
    assert re.search(r"\n +0 +3/9 \+2 +0/3 +0/1 ", text)
    output = json.loads(here("status", directory, "--json")[1])
    assert output["answered_by"] == "master"
    assert output["forecast"]["evaluations"] == 13
    assert {agent["evaluation"] for agent in output["agents"]} == {"0-0-3@0", "0-0-4@0"}
    result = Result(directory)
    assert result.incumbent is not None
    assert [step.config_id for step in result.trajectory][-1] == result.incumbent.config_id
    assert list(result.evaluations["state"]) == ["done"] * 3 + ["running"] * 2
    assert "not tested: run and minimize make the test when the search is over" in here("best", directory)[1]


def test_a_search_whose_every_process_was_killed_can_be_read(held: tuple[Path, Path, Process]) -> None:
    directory, hold, process = held
    pid = read_status(RunDirectory(directory)).pid
    assert pid is not None
    process.kill()
    os.kill(pid, signal.SIGKILL)
    hold.unlink()
    until(lambda: read_status(RunDirectory(directory)).answered_by == "journal")
    assert "stopped: no master answers" in here("status", directory)[1]
    result = Result(directory)
    assert result.incumbent is not None
    assert len(result.trajectory) >= 1
    assert (result.evaluations["state"] == "done").sum() == 3
    assert set(result.learning_curves.columns) >= {"config_id", "rung", "budget", "step", "loss"}
    until(lambda: not processes_on(directory))


def processes_on(directory: Path) -> list[int]:
    """Processes whose command line names a run directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if str(directory).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_the_status_of_a_search_that_is_over(finished: tuple[Path, str]) -> None:
    directory, _ = finished
    text = here("status", directory)[1]
    assert "state      finished: the one bracket is complete" in text
    assert re.search(r"\n +0 +9/9 +3/3 +1/1 ", text)
    output = json.loads(here("status", directory, "--json")[1])
    assert (output["state"], output["answered_by"]) == ("finished", "journal")
    assert output["evaluations"] == {
        "started": 13,
        "recorded": 13,
        "running": 0,
        "to_run_again": 0,
        "late": None,
        "recorded_here": None,
    }


def test_a_list_has_every_evaluation_on_a_line_of_its_own(finished: tuple[Path, str]) -> None:
    directory, _ = finished
    lines = typed("list", directory).stdout.splitlines()
    assert lines[0].split() == ["evaluation", "budget", "state", "loss", "time", "worker"]
    assert len(lines) == 1 + 13
    assert all(
        re.match(r"0-0-\d+@[012] +\d steps? +done +[\d.]+ +[\d.]+ s +\S+-[01]$", line.rstrip()) for line in lines[1:]
    )
    assert here("list", directory, "--failed")[1] == "no evaluation has failed\n"


def test_a_loss_that_is_a_text_is_an_invalid_result_with_its_reason(tmp_path: Path) -> None:
    ran = typed(
        *("run", PROBLEM, "--run-dir", tmp_path / "search", "--evaluations", "2", "-w", "1", "--isolation", "none"),
        env={cli_problem.RETURNS: "good"},
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "nothing was found, the search is over: 2 evaluations were started, which is the limit; " in ran.stdout
    assert "none of its 2 evaluations has a loss: 2 invalid" in ran.stdout
    lines = here("list", tmp_path / "search", "--failed")[1].splitlines()
    assert len(lines) == 1 + 2
    assert all("failed: invalid" in line and "'good'" in line for line in lines[1:])
    assert here("best", tmp_path / "search")[1] == "no evaluation has a loss\n"
    assert here("best", tmp_path / "search", "--json")[1] == "null\n"


# ------------------------------------------------------------------------------------------------------ on a terminal


@contextlib.contextmanager
def on_a_terminal(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A command on a separate terminal; yields the process and the other end of the terminal."""
    ours, theirs = pty.openpty()
    env = environment({"TERM": "xterm-256color"})
    process = subprocess.Popen(command(*arguments), env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        with process:
            try:
                yield process, ours
            finally:
                process.kill()
    finally:
        os.close(ours)


def shown(terminal: int, text: str | None = None) -> str:
    """The output of the terminal up to a text, or up to the end of the command."""
    read = b""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1.0)[0]:
            try:
                read += os.read(terminal, 65_536)
            except OSError:
                # Linux raises this error when the last process at the other end has ended.
                break
            if text is not None and text in read.decode(errors="replace"):
                break
    else:
        pytest.fail(f"{text!r} is not shown: {read!r}")
    return read.decode(errors="replace")


def test_watching_on_a_terminal_renews_one_picture_until_ctrl_c(finished: tuple[Path, str]) -> None:
    with on_a_terminal("status", finished[0], "--watch") as (process, terminal):
        text = shown(terminal, "9/9")
        process.send_signal(signal.SIGINT)
        text += shown(terminal)
        process.wait(LONGEST_S)
        assert process.returncode == 130
    # The cursor is hidden meanwhile and visible afterwards.
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_run_on_a_terminal_ends_with_the_last_picture_and_the_incumbent(copied: Path) -> None:
    with on_a_terminal("run", PROBLEM, "--run-dir", copied) as (process, terminal):
        text = shown(terminal)
        process.wait(LONGEST_S)
        assert process.returncode == 0
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    assert re.search(r"state +finished: the one bracket is complete", plain)
    assert plain.index("state ") < plain.index("best configuration") < plain.index("saved in")


def test_watching_through_a_pipe_prints_a_document_a_second(finished: tuple[Path, str]) -> None:
    with started("status", finished[0], "--watch", "--json") as process:
        assert process.stdout is not None
        for _ in range(2):
            assert json.loads(process.stdout.readline())["state"] == "finished"
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130


# --------------------------------------------------------------------------------------- master, worker, nameserver


def test_a_master_and_two_workers_meet_through_the_run_directory(tmp_path: Path) -> None:
    directory, hold = tmp_path / "search", tmp_path / "hold"
    hold.touch()
    there, held_up = ("--run-dir", directory), {cli_problem.HOLD: str(hold)}
    with (
        started("worker", PROBLEM, *there, env=held_up) as early,
        started("master", PROBLEM, *there, "--brackets", "1", "--seed", "1") as master,
        started("worker", PROBLEM, *there, env=held_up) as other,
    ):
        # Both join before the search can end: a worker that starts after its end would wait for another master.
        until(lambda: directory.exists() and two_are_held(directory), master)
        hold.unlink()
        assert [ended(process)[0] for process in (master, early, other)] == [0, 0, 0]
    rows = evaluations(directory)
    assert len(rows) == 13
    assert {row["state"] for row in rows} == {"done"}
    assert len({row["agent"] for row in rows}) == 2


def test_a_master_and_a_worker_meet_through_a_name_server_and_their_keys(tmp_path: Path) -> None:
    names_key, elsewhere = tmp_path / "names.key", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with started("nameserver", "--port", "0", "--key", names_key) as names:
        address = line_with(r"listens on (127\.0\.0\.1:\d+)", names)
        names_options = ("--nameserver", address, "--nameserver-key", names_key)
        search = tmp_path / "search"
        with started("master", PROBLEM, "--run-dir", search, "--brackets", "1", *names_options) as master:
            run_id = line_with(r"serving run (\S+) of", master)
            shutil.copy(search / "key", tmp_path / "run.key")
            worker = typed(
                *("worker", PROBLEM, "--run-id", run_id, "--key", tmp_path / "run.key", *names_options),
                *("--isolation", "none"),
                cwd=elsewhere,
            )
            assert worker.returncode == 0, worker.stdout + worker.stderr
            assert ended(master)[0] == 0
        names.send_signal(signal.SIGTERM)
        names.wait(LONGEST_S)
    assert len(evaluations(search)) == 13
    assert not (elsewhere / "runs").exists()


def test_a_worker_without_a_master_ends_with_the_code_of_a_peer(tmp_path: Path) -> None:
    ran = typed("worker", PROBLEM, "--run-dir", tmp_path / "search", "--master-timeout", "0.2", "--isolation", "none")
    assert ran.returncode == 3
    assert "no master" in ran.stderr


def test_a_master_that_is_terminated_ends_with_130_and_removes_its_endpoint(tmp_path: Path) -> None:
    with started("master", PROBLEM, "--run-dir", tmp_path / "search") as master:
        line_with(r"(serving run)", master)
        master.send_signal(signal.SIGTERM)
        assert ended(master)[0] == 130
    assert not RunDirectory(tmp_path / "search").endpoint_file.exists()


# -------------------------------------------------------------------------------------------------- what is refused


SPACE_REFUSED = """
from ConfigSpace import ConfigurationSpace
def space(): return ConfigurationSpace(space={"x": (1.0, 0.0)})
min_budget, max_budget = 1, 9
def evaluate(config, budget, trial): return 0.0
"""
SIGNATURE_REFUSED = """
from ConfigSpace import ConfigurationSpace
def space(): return ConfigurationSpace(space={"x": (0.0, 1.0)})
min_budget, max_budget = 1, 9
def evaluate(config): return 0.0
"""


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command in an empty directory; return its exit code and its one line on standard error."""
    monkeypatch.chdir(tmp_path)
    for name in environment().keys() ^ os.environ.keys():
        monkeypatch.delenv(name)

    def refuse(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hpbandster-lite", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capsys.readouterr()
        assert output.err.startswith("error: ")
        assert output.err.count("\n") == 1
        assert isinstance(caught.value.code, int)
        return caught.value.code, output.err.rstrip()

    return refuse


@pytest.mark.usefixtures("described_here")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(
            ("--min-budget", "9", "--max-budget", "3"), ("--min-budget 9", "--max-budget 3", "swap"), id="budgets"
        ),
        pytest.param(("--eta", "1"), ("eta", "1", "above 1"), id="eta"),
        pytest.param(("-w", "0"), ("workers", "0", "at least 1"), id="no workers"),
        pytest.param(("--threads", "0"), ("threads", "0", "at least 1"), id="no threads"),
        pytest.param(("--timeout", "0"), ("timeout", "0", "above 0"), id="no time"),
        pytest.param(
            ("--algorithm", "tpe"), ("algorithm", "'tpe'", "bohb, mfbo, hyperband, sh, bo, random"), id="algorithm"
        ),
        pytest.param(("--bracket-rule", "round"), ("--bracket-rule", "'round'", "floor, ceil"), id="rule"),
        pytest.param(("--sampler", "foo=3"), ("foo=3", "random_fraction"), id="unknown parameter of the sampler"),
        pytest.param(("--initial", "none.json"), ("--initial none.json", "list of configurations"), id="no file"),
        pytest.param(("--keep-checkpoints", "some"), ("'some'", "needed, all"), id="checkpoints"),
        pytest.param(("--nameserver", "localhost"), ("'localhost'", "HOST:PORT"), id="address"),
        pytest.param(("--new", "--run-dir", "here"), ("--new", "--run-dir", "not both"), id="new here"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_anything_is_made(
    refused: Callable[..., tuple[int, str]], tmp_path: Path, options: Sequence[str], words: Sequence[str]
) -> None:
    code, output = refused("run", PROBLEM, *options)
    assert code == 2
    assert all(word in output for word in words), output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nosuch", "", ("'nosuch'", "counting_ones, digits, fashion_mnist, hartmann6", "path/to/file.py")),
        ("space.py", SPACE_REFUSED, ("space", "'x'", "space.py:3", "hpbandster-lite plan space.py")),
        ("signature.py", SIGNATURE_REFUSED, ("evaluate", "(config)", "(config, budget, trial)")),
    ],
)
def test_a_problem_that_cannot_be_is_refused_before_anything_is_made(
    refused: Callable[..., tuple[int, str]], tmp_path: Path, name: str, content: str, words: Sequence[str]
) -> None:
    if content:
        (tmp_path / name).write_text(content)
    code, output = refused("run", name)
    assert code == 2
    assert all(word in output for word in words), output
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("described_here")
def test_an_initial_configuration_outside_the_space_is_refused(
    refused: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "initial.json").write_text('[{"x": 0.5, "width": 3}]')
    code, output = refused("run", PROBLEM, "--initial", "initial.json")
    assert code == 2
    assert "width=3" in output
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("described_here")
def test_the_run_directory_of_another_problem_is_refused(
    refused: Callable[..., tuple[int, str]], finished: tuple[Path, str]
) -> None:
    code, output = refused("run", "counting_ones", "--run-dir", finished[0])
    assert code == 2
    assert all(word in output for word in (str(finished[0]), "'cli_problem'", "'counting_ones'", "--run-dir"))


@pytest.mark.usefixtures("described_here")
def test_settings_that_differ_from_those_of_the_search_are_refused_by_name(
    refused: Callable[..., tuple[int, str]], finished: tuple[Path, str]
) -> None:
    code, output = refused("run", PROBLEM, "--run-dir", finished[0], "--seed", "2")
    assert code == 2
    assert all(word in output for word in ("seed: 1 in the journal, 2 requested", "--new"))


def test_a_run_directory_that_is_a_file_is_refused(refused: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for arguments in (("run", PROBLEM, "--run-dir"), ("status",), ("best",), ("list",)):
        code, output = refused(*arguments, "file")
        assert code == 4
        assert "file is not a directory; give" in output


@pytest.mark.usefixtures("described_here")
def test_a_run_directory_that_cannot_be_made_is_refused(refused: Callable[..., tuple[int, str]]) -> None:
    # No user may create a directory there, not even root.
    code, output = refused("run", PROBLEM, "--run-dir", "/proc/search")
    assert code == 4
    assert "/proc/search" in output


@pytest.mark.parametrize("name", ["status", "best", "list"])
def test_a_search_that_is_not_there_is_refused_naming_those_that_are(
    refused: Callable[..., tuple[int, str]], copied: Path, tmp_path: Path, name: str
) -> None:
    code, output = refused(name, "runs/digits")
    assert code == 4
    assert output == "error: the run directory runs/digits does not exist; there is runs/cli_problem"
    code, output = refused(name, "runs")
    assert output == "error: the run directory runs holds no search; there is runs/cli_problem"
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    code, output = refused(name, "empty/inner")
    assert output.endswith("holds no search; there is runs/cli_problem")
    (tmp_path / "runs").rename(tmp_path / "others")
    code, output = refused(name, "empty/inner")
    assert output.endswith("holds no search; give the one that the search printed when it began")


@pytest.mark.parametrize(
    "arguments",
    [
        ("worker", PROBLEM, "--run-id", "digits-1", "--log-format", "json"),
        ("nameserver", "--key", "key", "--port", "0", "--log-format", "json"),
    ],
    ids=["a worker's error", "a name server"],
)
def test_every_line_of_a_json_log_is_one_object(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with started(*arguments, cwd=tmp_path) as process:
        lines = []
        for line in process.stdout or ():
            lines.append(json.loads(line))
            if "name server listens" in lines[-1]["message"]:
                process.send_signal(signal.SIGTERM)
    assert lines
    assert all({"time", "level", "logger", "message", "pid"} <= line.keys() for line in lines)
    if arguments[0] == "worker":
        assert (process.returncode, lines[-1]["level"], lines[-1]["exit_code"]) == (2, "ERROR", 2)
        assert "--nameserver HOST:PORT" in lines[-1]["message"]
    else:
        assert lines[-1]["message"] == "name server ended"


@pytest.mark.parametrize("arguments", [("master", PROBLEM, "--run-dir", "search"), ("nameserver", "--key", "key")])
def test_a_port_in_use_is_refused(refused: Callable[..., tuple[int, str]], arguments: Sequence[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        monitored = typed(*arguments, "--port", str(port), cwd=Path.cwd())
    assert monitored.returncode == 2
    last = monitored.stderr.splitlines()[-1]
    assert all(
        word in last for word in (f"127.0.0.1:{port}", "another program uses this port", "0 for any free port")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("master", PROBLEM, "--port", "65536"), ("--port", "65536", "65535")),
        (("nameserver", "--port", "-1"), ("--port", "-1", "65535")),
        (("worker", PROBLEM, "-w", "0"), ("workers", "0", "at least 1")),
        (("worker", PROBLEM, "--run-id", "digits-1"), ("--run-id digits-1", "--nameserver HOST:PORT")),
        (
            ("worker", PROBLEM, "--run-id", "digits-1", "--nameserver", "127.0.0.1:1"),
            ("--run-id digits-1", "--key", "HPBANDSTER_LITE_KEY"),
        ),
        (("worker", PROBLEM, "--master-timeout", "soon"), ("--master-timeout 'soon'", "30m")),
    ],
)
def test_wrong_options_of_the_processes_are_refused(
    refused: Callable[..., tuple[int, str]], arguments: Sequence[str], words: Sequence[str]
) -> None:
    code, output = refused(*arguments)
    assert code == 2
    assert all(word in output for word in words), output


def test_an_option_that_does_not_exist_is_refused_with_the_code_of_wrong_usage() -> None:
    ran = typed("run", PROBLEM, "--worker", "2")
    assert ran.returncode == 2
    assert "--workers" in ran.stderr


def test_the_installed_command_is_the_module() -> None:
    script = Path(sys.executable).parent / "hpbandster-lite"
    if not script.exists():
        pytest.skip("the package is not installed here")
    ran = subprocess.run([script, "--help"], capture_output=True, text=True, check=True, env=environment())
    assert "hpbandster-lite run digits" in ran.stdout
    assert "hpbandster-lite run digits" in typed("--help").stdout


# ------------------------------------------------------------------------------------- pause, resume, cancel and stop


def test_a_running_search_is_paused_resumed_robbed_of_an_evaluation_and_stopped(
    held: tuple[Path, Path, Process],
) -> None:
    directory, hold, process = held
    assert typed("pause", directory, "--reason", "maintenance").stdout == (
        "the search is paused; 2 evaluations still run\n"
    )
    assert re.search(r"\nstate +paused since [\d-]+ [\d:]+: maintenance *\n", here("status", directory)[1])
    assert here("pause", directory) == (None, "the search was paused before\n")
    assert here("resume", directory) == (None, "the search continues\n")
    error, output = here("cancel", directory, "0-0-3@0", "--reason", "too dear")
    assert error is None
    assert output.startswith("evaluation 0-0-3@0 is cancelled; worker ")
    (row,) = [row for row in evaluations(directory) if row["failure"] == "cancelled"]
    assert (str(row["config_id"]), row["rung"], row["reason"]) == ("0-0-3", 0, "too dear")
    assert "failed: cancelled" in here("list", directory, "--failed")[1]
    for evaluation, words in (("0-0-0@0", "has ended already, with the loss"), ("9-0-0@0", "no evaluation 9-0-0@0")):
        error, _ = here("cancel", directory, evaluation)
        assert isinstance(error, UsageError)
        assert words in str(error)
    assert here("verify", directory)[1].startswith("verified: ")
    error, output = here("stop", directory, "--reason", "enough")
    assert output.startswith("the search is stopped; ")
    code, output = ended(process)
    assert code == 0
    assert "the search was stopped by its user: enough; the same command continues it" in output
    assert "not tested: run and minimize make the test when the search is over" in output
    assert "state      finished: stopped by its user: enough" in here("status", directory)[1]
    hold.unlink()
    again = typed("run", PROBLEM, "--run-dir", directory, "--brackets", "1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "note: the search was stopped by its user: enough; a new start continues it" in again.stdout
    assert "the one bracket is complete" in again.stdout
    assert json.loads((directory / "incumbent.json").read_text())["test"] == {"error_percent": 4.25}
    output = json.loads(here("verify", directory, "--json")[1])
    assert (output["holds"], output["is_bitwise"], output["outcomes"]) == (True, True, 13)


@pytest.mark.parametrize("name", ["pause", "resume", "stop", "cancel"])
def test_a_search_that_does_not_run_accepts_no_command(
    refused: Callable[..., tuple[int, str]], copied: Path, name: str
) -> None:
    more = ("0-0-3@1",) if name == "cancel" else ()
    code, output = refused(name, copied, *more)
    assert code == 3
    over = f"the search in {copied} is over (the one bracket is complete): nothing was changed"
    assert f"{over}, and there is nothing to {name}" in output


def test_a_master_that_was_killed_is_distinguished_from_one_that_never_ran(
    refused: Callable[..., tuple[int, str]], copied: Path
) -> None:
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    endpoint = {"protocol": 1, "run_id": "x", "epoch": 1, "host": "127.0.0.1", "port": port, "object": "o", "pid": 1}
    RunDirectory(copied).write_endpoint(endpoint)
    code, output = refused("pause", copied)
    assert code == 3
    words = ("pause was not done", f"127.0.0.1:{port}", "if it was killed, to continue the search", "repeat")
    assert all(word in output for word in words)


@pytest.mark.parametrize("text", ["0-0-3", "3", "0-0-3@", "a-b-c@d", "0-0--3@1", "٣-0-0@0"])
def test_what_is_no_evaluation_is_refused_with_an_example(
    refused: Callable[..., tuple[int, str]], copied: Path, text: str
) -> None:
    code, output = refused("cancel", copied, text)
    assert code == 2
    assert f"{text!r} is not an evaluation" in output
    assert "0-0-3@1" in output


# -------------------------------------------------------------------------------------------------------------- verify


def test_a_journal_in_which_something_was_decided_otherwise_is_not_verified(copied: Path) -> None:
    error, good = here("verify", copied)
    assert error is None
    assert re.fullmatch(r"verified: \d+ entries, \d+ decisions exactly, 9 proposals bit for bit\n", good)
    with contextlib.closing(sqlite3.connect(copied / "journal.sqlite")) as connection, connection:
        position, text = connection.execute(
            "SELECT position, entry FROM entries WHERE entry LIKE '%Sampled%' ORDER BY position LIMIT 1 OFFSET 5"
        ).fetchone()
        entry = json.loads(text)
        entry["proposal"]["vector"][1] = 1.0 - entry["proposal"]["vector"][1]
        connection.execute("UPDATE entries SET entry = ? WHERE position = ?", (json.dumps(entry), position))
    bad = typed("verify", copied)
    assert bad.returncode == 70
    assert bad.stdout.startswith("NOT verified, ")
    assert f"\nentry {position}: 0-0-5 was proposed differently: coordinate of x: " in bad.stdout
    output = json.loads(here("verify", copied, "--json")[1])
    assert output["holds"] is False
    assert output["differences"][0]["position"] == position


def test_a_master_elsewhere_is_compared_to_nine_digits_and_differences_are_named(copied: Path) -> None:
    other = typed("verify", copied, env={"OMP_NUM_THREADS": "77"})
    assert other.returncode == 0
    assert "9 proposals (0 bit for bit, the others to 1e-09, because of threads as many as cores: " in other.stdout
    assert "there and OMP_NUM_THREADS=77 here)" in other.stdout


# --------------------------------------------------------------------------------------------------- same fault, retry


FAULTY = """
min_budget, max_budget = 1, 9
def space():
    from ConfigSpace import ConfigurationSpace
    return ConfigurationSpace(space={"x": (0.0, 1.0)})
def evaluate(config, budget, trial): raise ValueError("the data are missing")
"""


def test_a_search_that_only_meets_one_fault_stops_shows_it_and_goes_on_once_it_is_mended(tmp_path: Path) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY)
    arguments = ("run", file, "--run-dir", tmp_path / "search", "--brackets", "1", "-w", "1", "--isolation", "none")
    ran = typed(*arguments)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    end = ran.stdout[ran.stdout.index("nothing was found") :]
    assert "stopped, because the first 3 evaluations all failed with the same fault" in end
    assert "continue the search with --retry-failed" in end
    assert f'File "{file}", line 6, in evaluate' in end
    assert "ValueError: the data are missing" in end
    assert f"hpbandster-lite list {tmp_path / 'search'} --failed" in end
    assert "ValueError: the data are missing" in here("status", tmp_path / "search")[1]
    file.write_text(FAULTY.replace("raise ValueError", "return len"))
    mended = typed(*arguments, "--retry-failed")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    words = " ".join(mended.stdout.split())
    assert "note: the problem's source was edited (faulty.py is another one); earlier results are kept" in words
    assert "status shows from which evaluation on the source is another one" in words
    assert "note: 3 failed evaluations are run again" in mended.stdout
    rows = evaluations(tmp_path / "search")
    assert {row["state"] for row in rows} == {"done"}
    assert [row["attempt"] for row in rows if row["rung"] == 0][:4] == [2, 2, 2, 1]
    assert here("verify", tmp_path / "search")[1].startswith("verified: ")


def test_the_fault_that_stopped_a_search_stands_on_a_terminal_once(tmp_path: Path) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY)
    command = ("run", file, "--run-dir", tmp_path / "search", "--brackets", "1", "-w", "1", "--isolation", "none")
    with on_a_terminal(*command) as (process, terminal):
        picture, _, end = shown(terminal).partition("nothing was found")
        assert process.wait(LONGEST_S) == 1
    # The last view has the traceback; the text below it has only the remedy.
    assert "in evaluate" in picture
    assert "all failed with the same fault" in end
    assert "they miss data (ValueError: the data are missing)" in end
    assert "in evaluate" not in end


def test_without_retrying_a_search_that_was_stopped_for_its_fault_keeps_what_failed(tmp_path: Path) -> None:
    file = tmp_path / "faulty.py"
    file.write_text(FAULTY)
    arguments = ("run", file, "--run-dir", tmp_path / "search", "--evaluations", "4", "-w", "1", "--isolation", "none")
    assert typed(*arguments).returncode == 1
    file.write_text(FAULTY.replace("raise ValueError", "return len"))
    error, _ = here(*arguments)
    assert "with --retry-failed, which also runs again what failed, or with --accept-edited-source" in str(error)
    mended = typed(*arguments, "--accept-edited-source")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "note: what failed stays as it is; --retry-failed runs it again" in mended.stdout
    assert [row["state"] for row in evaluations(tmp_path / "search")] == ["failed"] * 3 + ["done"]


# ------------------------------------------------------------------------------------------------------ a search file


def test_a_whole_search_in_a_file_runs_and_the_file_that_it_leaves_goes_on_with_it(tmp_path: Path) -> None:
    shutil.copy(PROBLEM, tmp_path / "net.py")
    (tmp_path / "search.toml").write_text(
        'problem = "net.py"\nrun_dir = "kept/net"\n[search]\nseed = 3\n[sampler]\nrandom_fraction = 0.5\n'
        "[limits]\nevaluations = 99\n[workers]\nworkers = 1\nisolation = 'none'\ntimeout = '30s'\n"
    )
    error, _ = here("run", tmp_path / "search.toml")
    assert 'a time limit needs [workers] isolation = "trainer"' in str(error)
    text = (tmp_path / "search.toml").read_text().replace("timeout = '30s'\n", "")
    (tmp_path / "search.toml").write_text(text)
    assert json.loads(here("plan", tmp_path / "search.toml", "--json")[1])["problem"] == "net"
    ran = typed("run", tmp_path / "search.toml", "--evaluations", "2")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    directory = tmp_path / "kept" / "net"
    assert ran.stdout.startswith(f"new search in {directory}, seed 3\n")
    left = (directory / "search.toml").read_text()
    assert f'problem = "{tmp_path / "net.py"}"' in left
    assert all(line in left.splitlines() for line in ("random_fraction = 0.5", "evaluations = 2", 'isolation = "none"'))
    again = typed("run", directory / "search.toml", "--evaluations", "3")
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith(f"continuing the search in {directory}, seed 3: 2 evaluations are recorded\n")
    assert len(evaluations(directory)) == 3
    assert "evaluations = 3" in (directory / "search.toml").read_text()


def test_a_search_file_with_an_unknown_key_is_refused_before_anything_is_made(
    refused: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "search.toml").write_text('problem = "counting_ones"\n[limits]\nbracket = 1\n')
    for name in ("run", "plan", "master"):
        code, output = refused(name, "search.toml")
        assert code == 2
        assert output == "error: search.toml: [limits] has no key 'bracket'; did you mean 'brackets'?"
    assert [path.name for path in tmp_path.iterdir()] == ["search.toml"]


def test_a_master_and_its_workers_take_the_same_search_file(tmp_path: Path) -> None:
    (tmp_path / "search.toml").write_text(
        f"problem = {json.dumps(PROBLEM)}\nrun_dir = 'search'\n[limits]\nevaluations = 2\n"
        "[workers]\nworkers = 2\nisolation = 'none'\n"
    )
    with started("master", tmp_path / "search.toml") as master:
        line_with(r"(serving run)", master)
        worked = typed("worker", tmp_path / "search.toml", "--workers", "1")
        assert worked.returncode == 0, worked.stdout + worked.stderr
        assert ended(master)[0] == 0
    rows = evaluations(tmp_path / "search")
    assert (len(rows), len({row["agent"] for row in rows})) == (2, 1)
    left = (tmp_path / "search" / "search.toml").read_text()
    assert all(line in left.splitlines() for line in ("evaluations = 2", 'host = "127.0.0.1"', "port = 0"))


def test_a_master_says_what_it_puts_back_and_serves_although_its_settings_cannot_be_written_down(copied: Path) -> None:
    (copied / "search.toml").unlink()
    (copied / "search.toml").mkdir()
    ran = typed("master", PROBLEM, "--run-dir", copied, "--brackets", "1", "--retry-failed")
    assert ran.returncode == 0, ran.stderr
    assert "note: 0 failed evaluations are run again" in ran.stderr
    assert "the search file in the run directory is not written" in ran.stderr
    assert "the search is over: the one bracket is complete" in ran.stderr
