"""What the command line offers before any command: its version, the completion of shells, and names of runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shellingham  # type: ignore[import-untyped]  # it has no types
from typer.main import get_command
from typer.testing import CliRunner, Result

from hpbandster_lite import __version__
from hpbandster_lite.cli import app, completion
from hpbandster_lite.cli.app import NAME, make_app
from hpbandster_lite.cli.options import find_run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.rundir import RunDirectory, named_run_directory

SHELLS = {
    "bash": Path(".bash_completions", f"{NAME}.sh"),
    "zsh": Path(".zfunc", f"_{NAME}"),
    "fish": Path(".config", "fish", "completions", f"{NAME}.fish"),
}
"""The file from which each shell loads the completion of this command."""
COMPLETE = "_HPBANDSTER_LITE_COMPLETE"


def invoked(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(make_app(), arguments, prog_name=NAME, env=environment)


def test_the_version_is_printed_without_a_command() -> None:
    result = invoked("--version")
    assert (result.exit_code, result.output) == (0, f"{NAME} {__version__}\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_is_installed_for_the_shell_that_is_used(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(shellingham, "detect_shell", lambda *_: (shell, f"/bin/{shell}"))
    result = invoked("--install-completion")
    assert result.exit_code == 0, result.output
    script = (tmp_path / SHELLS[shell]).read_text()
    assert f"complete_{shell}" in script
    assert COMPLETE in script


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "number", "completed"),
    [("sta", 1, "status"), ("run --retry-f", 2, "--retry-failed"), ("slurm sub", 2, "submit")],
    ids=["a command", "an option", "a command of a group"],
)
def test_a_shell_completes_commands_and_options(shell: str, typed: str, number: int, completed: str) -> None:
    of_bash = {"COMP_WORDS": f"{NAME} {typed}", "COMP_CWORD": str(number)}
    of_others = {"_TYPER_COMPLETE_ARGS": f"{NAME} {typed}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    result = invoked(**{COMPLETE: f"complete_{shell}"}, **(of_bash if shell == "bash" else of_others))
    assert completed in result.output


def test_a_completion_has_one_short_line_of_plain_words() -> None:
    assert completion.brief("Limit: [b]N[/] of them. More.") == "Limit N of them"
    assert completion.brief("The user's `file` (a; b) [dim]\\[default: x][/]") == "The user file a b"
    assert completion.brief("word " * 30) == "word " * 10 + "word..."
    command: Any = get_command(make_app())
    completion.shorten(command)
    run, submit = command.commands["run"], command.commands["slurm"].commands["submit"]
    texts = [each.short_help for each in command.commands.values()]
    texts += [each.help for one in (run, submit) for each in one.params if getattr(each, "help", None)]
    assert len(texts) > 80
    assert [each for each in texts if not re.fullmatch(r"[\w ,.=+/-]{1,60}", each)] == []


def test_the_name_of_a_shell_is_refused_where_completion_is_for_the_shell_that_is_used() -> None:
    completion.refuse_a_shell(["--install-completion"])
    completion.refuse_a_shell(["run", "digits"])
    with pytest.raises(UsageError, match=r"--install-completion takes no value, got 'zsh'.* type it in that shell"):
        completion.refuse_a_shell(["--install-completion", "zsh"])


def test_a_shell_that_asks_gets_the_short_lines() -> None:
    variables = {
        COMPLETE: "complete_fish",
        "_TYPER_COMPLETE_ARGS": f"{NAME} run --keep-",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    program = [sys.executable, "-m", "hpbandster_lite"]
    done = subprocess.run(program, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    names = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert names == ["--keep-checkpoints", "--keep-going"]


# ------------------------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys
from hpbandster_lite.cli import start
from importlib.abc import MetaPathFinder

class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "hpbandster_lite.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["--version"]
{before}
start.main()
"""


@pytest.mark.parametrize(
    ("before", "code", "output"),
    [
        # Set explicitly: what a shell starts in the background inherits an ignored signal.
        ("signal.signal(signal.SIGINT, signal.default_int_handler)", 130, ""),
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", 0, f"{NAME} {__version__}\n"),
    ],
    ids=["as usual", "ignored"],
)
def test_ctrl_c_ends_a_command_that_still_imports_in_silence(before: str, code: int, output: str) -> None:
    program = [sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING.format(before=before)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, output, "")


@pytest.mark.parametrize("cause", [KeyboardInterrupt(), RuntimeError("of the program")], ids=["Ctrl-C", "another"])
def test_ctrl_c_that_python_replaces_by_another_error_is_still_one(
    cause: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(prog_name: str) -> None:
        raise RuntimeError("Error calling __set_name__") from cause

    monkeypatch.setattr(app, "make_app", lambda _: replaced)
    monkeypatch.setattr(sys, "argv", [NAME, "status"])
    is_ctrl_c = isinstance(cause, KeyboardInterrupt)
    with pytest.raises(SystemExit if is_ctrl_c else RuntimeError) as caught:
        app.main()
    assert getattr(caught.value, "code", None) == (130 if is_ctrl_c else None)


# ----------------------------------------------------------------------------------------------------- names of runs


@pytest.mark.parametrize(
    "words",
    [*([name, ""] for name in ("status", "refit", "doctor", "ping", "certs", "stop")), ["backup", "digits", " "]],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_directory(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    searched("runs/digits")
    result = CliRunner().invoke(make_app(words[0]), words, env={"COLUMNS": "200"})
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [tmp_path / "runs"])
    assert "it is empty; give a path, such as . for the current directory" in result.output


def searched(*paths: str) -> None:
    for path in paths:
        Path(path).mkdir(parents=True)
        RunDirectory(path).journal.touch()


def test_the_name_of_a_run_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    searched("runs/digits", "runs/nets/small")
    Path("runs/begun").mkdir()
    assert find_run(Path("digits")) == Path("runs/digits")
    assert named_run_directory(Path("begun")) == Path("runs/begun")
    for given in ("runs/digits", "other", "nets/small", str(tmp_path / "digits"), ".", "..", "../digits"):
        assert named_run_directory(Path(given)) == Path(given)
    assert find_run(None) is None


def test_a_directory_that_has_a_search_comes_before_a_run_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    searched("digits", "runs/digits", "runs/net")
    for folder in ("net", "data", "runs/data"):
        Path(folder).mkdir()
    assert named_run_directory(Path("digits")) == Path("digits")
    assert named_run_directory(Path("net")) == Path("runs/net"), "a folder of the project without a search"
    assert named_run_directory(Path("data")) == Path("data")


COMMANDS_OF_A_RUN = [
    ["status"], ["best"], ["list"], ["backup"], ["verify"], ["ping"], ["refit"], ["pause"], ["resume"], ["stop"],
    ["cancel"], ["slurm", "status"], ["slurm", "scale"], ["slurm", "cancel"],
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS_OF_A_RUN, ids="-".join)
def test_every_command_that_takes_a_run_directory_takes_its_name(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    searched("runs/digits")
    found = get_command(make_app(command[0]))
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]  # a group of commands
    rest = {"backup": ["copy.sqlite"], "cancel": ["0-0-0@0"], "slurm scale": ["2"]}.get(" ".join(command), [])
    context = found.make_context(command[-1], ["digits", *rest])
    assert context.params["run"] == Path("runs/digits")


def test_the_error_about_a_missing_run_names_those_under_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    searched("runs/digits")
    with pytest.raises(RunDirectoryError, match=r"the run directory digit does not exist; there is runs/digits$"):
        directory_of_a_search(Path("digit"))
