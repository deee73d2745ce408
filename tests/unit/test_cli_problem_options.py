"""An option that a command does not know is one of the problem, or an error that suggests the nearest name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import typer
from typer.main import get_command

from hpbandster_lite.cli.app import TAKES_PROBLEM_OPTIONS, make_app
from hpbandster_lite.cli.problem_options import PASSES_ON, explain_unknown_options, typed_options, with_typed_options
from hpbandster_lite.cli.view.plan import options_line
from hpbandster_lite.errors import ProblemError, UnknownOption, UsageError
from hpbandster_lite.records import ProblemOption


def context(words: Sequence[str], command: str = "run") -> Any:
    """The context of a command that typer makes from these words."""
    message: Any = get_command(make_app())
    return message.commands[command].make_context(command, list(words), **PASSES_ON)


def typed(*words: str) -> dict[str, str]:
    ctx = context(["net.py", *words])
    return typed_options(ctx.args, ctx)


@pytest.mark.parametrize("command", TAKES_PROBLEM_OPTIONS)
def test_a_command_passes_on_what_it_does_not_know(command: str) -> None:
    ctx = context(["net.py", "--data-set", "mnist", "--flag"], command)
    # The argument of refit is a run directory.
    first = str(ctx.params["run" if command == "refit" else "problem"])
    assert with_typed_options(first, ctx) == "net.py?data_set=mnist&flag="


def test_options_of_the_problem_stand_anywhere_behind_it_among_those_of_the_command() -> None:
    ctx = context(["net.py", "--data-set", "mnist", "--seed", "3", "--scale=0.1", "-w", "2", "--flag"])
    assert with_typed_options("net.py", ctx) == "net.py?data_set=mnist&scale=0.1&flag="
    assert (ctx.params["seed"], ctx.params["workers"]) == (3, 2)


def test_a_negative_number_is_a_value_and_an_option_is_none() -> None:
    assert typed("--shift", "-1.5", "--flag", "--other", "x") == {"shift": "-1.5", "flag": "", "other": "x"}


def test_a_value_may_have_an_equals_sign_and_be_empty() -> None:
    assert typed("--where=a=b", "--label=") == {"where": "a=b", "label": ""}


def test_the_last_of_two_counts_and_comes_last() -> None:
    assert list(typed("--a", "1", "--no-a", "--a", "2").items()) == [("no-a", ""), ("a", "2")]


def test_nothing_typed_leaves_the_reference_as_it_is() -> None:
    assert with_typed_options("net.py?x=1", context(["net.py"])) == "net.py?x=1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.py", "mnist"], "unexpected argument 'mnist'; give one problem"),
        (["net.py", "--data-set", "a", "b"], "unexpected argument 'b'; give one problem"),
        (["net.py", "-z"], "there is no option -z"),
        (["net.py", "--2x", "3"], "there is no option --2x"),
        (["--worker", "2"], r"--worker is not a problem \(did you mean --workers\?\)"),
    ],
)
def test_what_cannot_be_an_option_of_the_problem_is_refused(words: list[str], message: str) -> None:
    ctx = context(words)
    with pytest.raises(UsageError, match=message):
        with_typed_options(ctx.params["problem"], ctx)


def test_an_unknown_option_is_refused_with_the_nearest_of_both() -> None:
    error = UnknownOption("the problem 'net' has no option 'worker'; did you mean 'works'?", "worker")
    with pytest.raises(UsageError) as caught, explain_unknown_options(context(["net.py", "--worker", "2"])):
        raise error
    assert str(caught.value) == f"there is no option --worker (did you mean --workers?): {error}"


def test_an_option_that_is_near_to_none_of_the_command_s_is_answered_by_the_problem_alone() -> None:
    refused = r"^there is no option --data-set: the pro"
    with pytest.raises(UsageError, match=refused), explain_unknown_options(context(["net"])):
        raise UnknownOption("the problem 'net' takes no options, so it has no 'data_set'", "data_set")


@pytest.mark.parametrize(("code", "is_printed"), [(ProblemError.exit_code, True), (0, False), (3, False)])
def test_a_worker_whose_problem_refused_an_option_hears_the_nearest_of_the_command(
    code: int, is_printed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = context(["net.py", "--worker=2", "--data-set", "x"], "worker")
    with pytest.raises(SystemExit), explain_unknown_options(ctx):
        raise SystemExit(code)
    words = "this command has no option --worker (did you mean --workers?)\n"
    assert capsys.readouterr().err == (words if is_printed else "")


def test_the_plan_names_the_options_that_are_not_the_defaults() -> None:
    def option(name: str, value: Any) -> ProblemOption:
        return ProblemOption(name=name, value=value, default=1, kind="a whole number or none")

    assert options_line([option("a", 1), option("b", 2), option("c", None)]) == "options: b=2, c=none"
    assert options_line([option("a", 1)]) == ""


def test_other_commands_refuse_what_they_do_not_know() -> None:
    with pytest.raises(Exception, match="No such option") as caught:
        # A group of commands.
        get_command(make_app()).commands["status"].make_context("status", ["runs/x", "--watc"])  # type: ignore[attr-defined]
    assert not isinstance(caught.value, typer.Exit)


@pytest.mark.parametrize(
    ("command", "option", "words"),
    [
        ("plan", "workers", "--workers (the command run has it, plan has not): "),
        ("master", "gpus_per_worker", "--gpus-per-worker (the command run has it, master has not): "),
        ("run", "lease", "--lease (it is the key lease of a search file, under [service]): "),
        ("run", "max_attempts", "--max-attempts (it is the key max_attempts of a search file, under [service]): "),
    ],
)
def test_an_option_of_another_command_or_of_a_search_file_is_named_as_such(
    command: str, option: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught, explain_unknown_options(context(["net.py"], command)):
        raise UnknownOption("the problem 'net' takes no options", option)
    assert str(caught.value).startswith(f"there is no option {words}")


def test_an_old_name_of_an_option_is_not_suggested() -> None:
    with pytest.raises(UsageError) as caught, explain_unknown_options(context(["net.py"])):
        raise UnknownOption("the problem 'net' has no option 'max_times'", "max_times")
    assert "--max-time " not in str(caught.value).replace(")", " ")
