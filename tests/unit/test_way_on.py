"""What a user is asked to do to continue a search, in the words of the interface that began it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace
from rich.console import Console
from typer.testing import CliRunner

from hpbandster_lite import api
from hpbandster_lite.cli import ask_master
from hpbandster_lite.cli.app import make_app
from hpbandster_lite.cli.commands import ping as ping_command
from hpbandster_lite.cli.commands import run as run_command
from hpbandster_lite.cli.view import incumbent, plan
from hpbandster_lite.errors import MasterUnreachable, ProblemError, RunDirectoryError, SearchError, SourceDiffers
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.launch.local_search import LaunchOptions, LocalSearch
from hpbandster_lite.launch.supervisor import SAME_COMMAND
from hpbandster_lite.master.serving import hold_run_directory
from hpbandster_lite.process.environment import KEY_VARIABLE
from hpbandster_lite.process.identity import Condition
from hpbandster_lite.protocol.messages import PauseRequest
from hpbandster_lite.records import Finished, FinishKind, Limits
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.rundir import RunDirectory, default_run_directory, holder
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.settings.search_file import how_to_continue
from tests.engine_room import settings_for, space_of
from tests.recorded.runs import recorded_run
from tests.statuses import a_status

SAME = "run the same command again"
CORRECTED = "once the code is corrected"
RESTORE = "restore the source or accept the edit (--accept-edited-source, accept_edited_source=True)"
BEGAN = "run the command that began it again, but without --new"


def objective(config: dict[str, Any], budget: float, trial: object) -> float:
    return float(config["x"])


SIGNALLED = (
    "Each worker received a signal, and this command none: if the objective of the evaluation above signals its "
    "worker, correct it first"
)


# ------------------------------------------------------------------------------------------------ when a worker is gone


class Ended:
    """A worker that has ended."""

    name = "worker-0"
    log = Path("runs/net/logs/worker-0.log")

    def __init__(self, returncode: int) -> None:
        self.returncode = returncode

    def log_tail(self) -> str:
        return "error: net.py has no space"


SIGNALLED = (
    "Each worker received a signal, and this command none: if the objective of the evaluation above signals its "
    "worker, correct it first"
)


@pytest.mark.parametrize(
    ("code", "kind", "remedy"),
    [
        (2, ProblemError, f"It would refuse the same input again: correct what it names, then {SAME}"),
        (4, RunDirectoryError, f"Nothing is lost: remove the cause, then {SAME}"),
        (5, SourceDiffers, f"The recorded results are kept: {RESTORE}, then {SAME}"),
        (130, RunDirectoryError, f"Nothing is lost: {SAME}. {SIGNALLED}"),
    ],
)
def test_the_remedy_after_the_last_worker_fits_its_exit_code(
    code: int, kind: type[SearchError], remedy: str, tmp_path: Path
) -> None:
    options = LaunchOptions(workers=1)
    search = LocalSearch(RunDirectory(tmp_path), options, api._Lines(), way_on=SAME)
    search._agents = [Ended(code)]  # type: ignore[list-item]  # a stand-in of it
    with pytest.raises(SearchError) as refused:
        search._check_that_agents_are_left()
    assert type(refused.value) is kind
    assert str(refused.value).splitlines() == [
        f"no worker is left: worker-0 ended with exit code {code}; the end of runs/net/logs/worker-0.log:",
        "error: net.py has no space",
        remedy,
    ]


# --------------------------------------------------------------------------------------------------------- after --new


def interrupted(monkeypatch: pytest.MonkeyPatch, *arguments: str, code: int = 130) -> str:
    """The output of a ``run`` that is interrupted, or ends with another code."""
    monkeypatch.setattr(run_command, "search_here", lambda *_, **__: code)
    monkeypatch.setattr(sys, "argv", ["hpbandster-lite", "run", *arguments])
    result = CliRunner().invoke(make_app("run"), ["run", *arguments])
    assert result.exit_code == code
    return result.output


def test_after_new_the_command_that_continues_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/digits").mkdir(parents=True)
    output = interrupted(monkeypatch, "digits", "--new", "--sampler", "bandwidth_factor=2", "-w", "1")
    words = "run digits --run-dir runs/digits-2 --sampler bandwidth_factor=2 -w 1"
    assert output == f"\nto go on, run: hpbandster-lite {words}\n"
    assert interrupted(monkeypatch, "digits") == ""
    # A master that refuses its input would refuse it again.
    assert interrupted(monkeypatch, "digits", "--new", code=2) == (
        "\nonce the cause is removed, run: hpbandster-lite run digits --run-dir runs/digits-2\n"
    )


class Failures:
    """A reader of a journal with failures of these kinds."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds

    def failures(self) -> dict[str, int]:
        return dict.fromkeys(self._kinds, 2)


@pytest.mark.parametrize(
    ("code", "words"), [(130, "to continue"), (75, "to continue"), (2, "once the cause is removed")]
)
def test_a_run_that_was_interrupted_ends_with_what_was_typed(code: int, words: str) -> None:
    unserved = a_status(state="stopped", answered_by="journal", reason="no master answers; to continue, run another")
    shown = run_command._ended(unserved, code, SAME_COMMAND)
    assert shown.reason == f"{words}, run the same command again"
    assert run_command._ended(unserved, code, "run: x") == unserved
    for reason in ("no master answers; a copy of a lost journal; then run another", "no answer: it is stopped", None):
        other = a_status(state="stopped", answered_by="journal", reason=reason)
        assert run_command._ended(other, code, SAME_COMMAND) == other


@pytest.mark.parametrize(
    ("kinds", "way_on", "words"),
    [
        (("code", "memory"), SAME, f"; {CORRECTED}, the same command with --retry-failed runs them again"),
        (("invalid",), "run: it", f"; {CORRECTED}, to run them again, run: it --retry-failed"),
        (
            ("time_limit", "memory"),
            SAME,
            "; no command repeats evaluations that failed with memory, time limit; a higher limit evaluates others",
        ),
    ],
    ids=["code", "new", "others"],
)
def test_only_failures_of_the_code_are_run_again(
    kinds: tuple[str, ...], way_on: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A command that is copied must work.
    directory = RunDirectory(tmp_path / "my runs")
    # A stand-in of it.
    run_command._print_where_failures_are(Console(), Failures(*kinds), directory, way_on)  # type: ignore[arg-type]
    assert capsys.readouterr().out == f"\nall failures: hpbandster-lite list '{tmp_path}/my runs' --failed{words}\n"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (FinishKind.LIMIT, "Give a higher limit (such as --brackets) to go on, or --new for another one"),
        (FinishKind.TARGET, "Give a lower --target-loss, or none and another limit, to go on, or --new for another"),
        (FinishKind.EXHAUSTED, "No limit extends it; --new begins another one"),
        (FinishKind.INFEASIBLE, "No limit extends it: correct feasible() or the space, then begin another one with"),
    ],
)
def test_what_goes_on_after_the_end_of_a_search_depends_on_its_kind(kind: FinishKind, words: str) -> None:
    prepared = Prepared(settings=settings_for(space_of()), limits=Limits(brackets=1), resumed=True)
    assert plan._how_to_go_on(prepared, Finished(kind=kind, reason="it is")).startswith(words)


@pytest.mark.parametrize(
    ("second_line", "words"),
    [
        ("# hpbandster-lite run", "hpbandster-lite run {}/search.toml makes the test"),
        ("# Only minimize continues it", "the same command or call makes the test"),
        (None, "the same command or call makes the test"),
    ],
    ids=["run", "minimize", "no search file"],
)
def test_what_makes_the_test_is_named_for_a_search_that_is_over(
    second_line: str | None, words: str, tmp_path: Path
) -> None:
    directory = killed_run(tmp_path, "net", second_line)
    assert incumbent._when_tested(directory) == "run and minimize make the test when the search is over"
    with Journal.open(directory.journal) as journal:
        journal.begin_epoch()
        journal.commit([Finished(kind=FinishKind.COMPLETE, reason="all is done")], at=1.0)
    assert incumbent._when_tested(directory) == words.format(directory.path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"new": True}, "call minimize again with run_dir='runs/{}-2' instead of new=True"),
        ({}, "call minimize again"),
    ],
    ids=["new", "the first"],
)
def test_minimize_asks_for_another_call(
    given: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "test_way_on-objective"
    Path("runs", name).mkdir(parents=True)
    seen: dict[str, Any] = {}

    def search(options: Any, *_: object, **others: Any) -> int:
        seen.update(others, options=options)
        return 130

    monkeypatch.setattr(api, "search_here", search)
    with pytest.raises(KeyboardInterrupt):
        api.minimize(objective, ConfigurationSpace({"x": (0.0, 1.0)}), min_budget=1, max_budget=3, workers=1, **given)
    assert seen["way_on"] == words.format(name)
    assert seen["options"].only_minimize


class Local:
    """A problem that has everything, and that no other process can import where it is made in a function."""

    def space(self) -> ConfigurationSpace:
        return ConfigurationSpace({"x": (0.0, 1.0)})

    def evaluate(self, config: dict[str, Any], budget: float, trial: object) -> float:
        return float(config["x"])


def test_a_problem_that_only_this_process_has_is_continued_by_a_call_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[str, bool]] = []

    def search(options: Any, *_: object, way_on: str, **__: object) -> int:
        seen.append((way_on, options.only_minimize))
        return 130

    monkeypatch.setattr(api, "search_here", search)
    lock = threading.Lock()
    here: dict[str, Any] = {"min_budget": 1, "max_budget": 3, "workers": 1, "isolation": "none"}
    with pytest.raises(KeyboardInterrupt):
        api.minimize(Local(), **here)
    with pytest.raises(KeyboardInterrupt):
        # What it reads cannot be compared with what it read before, so each call begins another search.
        api.minimize(lambda config, *_: config["x"] * lock.locked(), ConfigurationSpace({"x": (0.0, 1.0)}), **here)
    assert seen[0][1:] == (True,)
    assert re.fullmatch(r"call minimize again with run_dir='runs/.*lambda'", seen[1][0])
    assert seen[1][1:] == (True,)


def test_a_search_of_a_problem_by_its_name_is_continued_by_commands_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def search(options: Any, *_: object, **__: object) -> int:
        seen.append(options.only_minimize)
        return 130

    monkeypatch.setattr(api, "search_here", search)
    with pytest.raises(KeyboardInterrupt):
        api.minimize("counting_ones", workers=1, run_dir=tmp_path)
    assert seen == [False]


# ------------------------------------------------------------------------------------------------------------- status


def killed_run(place: Path, name: str, second_line: str | None = None) -> RunDirectory:
    """A search that was killed, kept under this name, with this second line in its search file."""
    copied = recorded_run(1, "killed", place)
    path = copied.path.with_name(name)
    if path != copied.path:
        shutil.move(copied.path, path)
    heading = "# The settings of the search in this directory, as they are in effect; each start writes them anew."
    (path / "search.toml").unlink(missing_ok=True)
    if second_line is not None:
        (path / "search.toml").write_text(f"{heading}\n{second_line}\n")
    return RunDirectory(path)


@pytest.mark.parametrize(
    ("number", "second_line", "words"),
    [
        ("", "# hpbandster-lite run", BEGAN),
        ("-2", None, "run the command that began it again, with --run-dir {} and without --new"),
        ("-2", "# hpbandster-lite run", "run: hpbandster-lite run {}/search.toml"),
        ("", "# Only minimize continues it, called", "call minimize again with run_dir='{}' and without new"),
        ("-12", "# Only minimize continues it", "call minimize again with run_dir='{}' and without new"),
    ],
    ids=["the first", "no search file", "new", "of minimize", "new of minimize"],
)
def test_the_status_without_a_master_names_what_continues_the_search(
    number: str, second_line: str | None, words: str, tmp_path: Path
) -> None:
    reference = JournalReader(recorded_run(1, "killed", tmp_path / "first").journal).settings().problem.reference
    directory = killed_run(tmp_path, f"{default_run_directory(reference).name}{number}", second_line)
    status = status_from_journal(JournalReader(directory.journal))
    assert status.reason == f"no master answers; to continue, {words.format(directory.path)}"
    assert status.reason.endswith(how_to_continue(directory, reference))
    assert ask_master._not_served(directory, "cancel") == (
        f"the search in {directory.path} does not run: no master serves it, and nothing was changed; to continue the "
        f"search, {words.format(directory.path)}; to cancel it, repeat this command while it runs"
    )


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_master_that_does_not_answer_is_named_and_no_other_start_is_proposed(
    is_stopped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = killed_run(tmp_path, "run")
    condition = Condition.STOPPED if is_stopped else Condition.RUNS
    monkeypatch.setattr(holder, "condition_of", lambda *_: condition)
    which = f"no answer: its master (pid {os.getpid()} on host {socket.gethostname()}) is "
    how = "starting, or is stopped, or cannot be reached from here"
    if is_stopped:
        how = f"stopped; to continue it: kill -CONT {os.getpid()}"
    with hold_run_directory(directory):
        status = status_from_journal(JournalReader(directory.journal))
        assert status.reason == which + how
        directory.holder_file.unlink()
        status = status_from_journal(JournalReader(directory.journal))
        assert (status.reason or "").startswith("no answer: its master is starting")


@pytest.mark.parametrize("command", ["pause", "ping"])
def test_a_command_to_a_master_that_is_stopped_names_it_and_what_continues_it(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = killed_run(tmp_path, "run")
    monkeypatch.setenv(KEY_VARIABLE, "k" * 64)
    monkeypatch.setattr(holder, "condition_of", lambda *_: Condition.STOPPED)
    with socket.create_server(("127.0.0.1", 0)) as silent, hold_run_directory(directory):
        directory.write_endpoint(
            {"protocol": 1, "run_id": "r", "epoch": 1, "host": "127.0.0.1", "port": silent.getsockname()[1]}
            | {"object": "m", "pid": os.getpid()}
        )
        monkeypatch.setattr(ask_master, "TIMEOUT_S", 0.2)
        asks: dict[str, Callable[[], None]] = {
            "pause": lambda: ask_master.ask_master(directory, PauseRequest()),
            "ping": lambda: ping_command.ping_run(directory, 0.2),
        }
        with pytest.raises(MasterUnreachable) as refused:
            asks[command]()
    which = f"no answer: its master (pid {os.getpid()} on host {socket.gethostname()}) is stopped; to continue it: "
    assert f"{which}kill -CONT {os.getpid()}" in str(refused.value)


def test_a_command_while_a_master_starts_does_not_say_that_none_serves(tmp_path: Path) -> None:
    directory = killed_run(tmp_path, "run")
    directory.endpoint_file.unlink(missing_ok=True)
    which = f"no answer: its master (pid {os.getpid()} on host {socket.gethostname()}) is starting, or is stopped, or "
    with hold_run_directory(directory):
        with pytest.raises(MasterUnreachable, match=f"^pause was not done: {re.escape(which)}.*; repeat the command$"):
            ask_master.ask_master(directory, PauseRequest())
        with pytest.raises(RunDirectoryError, match=f"^{re.escape(which)}.*; repeat the command$"):
            ping_command.ping_run(directory, 0.2)
