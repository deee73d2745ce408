"""Values that commands read from their arguments: durations, addresses, assignments, and all options of a search."""

from __future__ import annotations

import inspect
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hpbandster_lite.cli.app import COMMANDS, in_words_of_the_command_line, make_app
from hpbandster_lite.cli.options import PANELS, Problem, takes_options
from hpbandster_lite.errors import SpaceError, UsageError
from hpbandster_lite.records import Limits
from hpbandster_lite.settings.kinds import seconds
from hpbandster_lite.settings.options import (
    LeaveOptions,
    ListenOptions,
    NameServerOptions,
    PlaceOptions,
    SearchOptions,
    WorkerOptions,
)

received: list[tuple[str, SearchOptions, bool]] = []


@takes_options
def command(problem: Problem, options: SearchOptions, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
    """Store the options."""
    received.append((problem, options, loud))


def options_of(*arguments: str, problem: str = "digits") -> SearchOptions:
    """The options that a command gets from these arguments."""
    received.clear()
    one = typer.Typer()
    one.command()(command)
    result = CliRunner().invoke(one, [problem, *arguments])
    if result.exception is not None:
        raise result.exception
    return received[0][1]


# ---------------------------------------------------------------------------------------------------------- options


def refusal_of(*arguments: str) -> str:
    """The error of a command that refuses these arguments, in one line."""
    one = typer.Typer()
    one.command()(command)
    result = CliRunner().invoke(one, ["digits", *arguments])
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


def test_without_options_nothing_is_asked_for() -> None:
    assert options_of() == SearchOptions(problem="digits")


def test_every_option_arrives_where_it_belongs(tmp_path: Path) -> None:
    initial = tmp_path / "initial.json"
    initial.write_text('[{"lr": 0.1}]')
    assert options_of(
        *("--min-budget", "1", "--max-budget", "27", "--eta", "2.5", "--unit", "epochs", "--bracket-rule", "ceil"),
        *("--algorithm", "bo", "--seed", "7", "--initial", str(initial)),
        *("--sampler", "random_fraction=0.2", "--sampler", "density=reference"),
        *("--brackets", "2", "--evaluations", "50", "--total-budget", "99.5", "--wall-time", "30m"),
        *("--target-loss", "-0.5", "--max-concurrent", "3"),
    ) == SearchOptions(
        problem="digits",
        min_budget=1.0,
        max_budget=27.0,
        eta=2.5,
        unit="epochs",
        bracket_rule="ceil",
        algorithm="bo",
        seed=7,
        initial=({"lr": 0.1},),
        sampler={"random_fraction": 0.2, "density": "reference"},
        limits=Limits(
            brackets=2, evaluations=50, total_budget=99.5, wall_time_s=1800.0, target_loss=-0.5, max_concurrent=3
        ),
    )


def test_a_search_file_is_read_and_the_command_line_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text(
        'problem = "net.py"\n[budgets]\nmax_budget = 27\neta = 2\n[search]\nseed = 7\n'
        "[sampler]\nnum_samples = 8\nrandom_fraction = 0.5\n[limits]\nwall_time = '1h'\nbrackets = 2\n"
    )
    options = options_of("--seed", "9", "--sampler", "num_samples=4", "--brackets", "5", problem=str(file))
    assert options == SearchOptions(
        problem=f"{tmp_path}/net.py",
        max_budget=27,
        eta=2,
        seed=9,
        sampler={"num_samples": 4, "random_fraction": 0.5},
        limits=Limits(brackets=5, wall_time_s=3600.0),
    )
    assert received[0][0] == f"{tmp_path}/net.py"


own: list[tuple[Any, ...]] = []


@takes_options
def command_with_places(
    problem: Problem, place: PlaceOptions, listen: ListenOptions, names: NameServerOptions, nodes: int = 1
) -> None:
    """Store the command's own options."""
    assert problem
    own.append((place.run_dir, listen.host, names.nameserver, place.new, nodes))


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, ("{}/net", "10.0.0.1", ("there", 1), False)),
        (("--run-dir", "else", "--host", "127.0.0.1"), {}, ("else", "127.0.0.1", ("there", 1), False)),
        ((), {"HPBANDSTER_LITE_NAMESERVER": "here:2"}, ("{}/net", "10.0.0.1", ("here", 2), False)),
        (("--new",), {}, ("{}/net-2", "10.0.0.1", ("there", 1), False)),
        (("--new", "--run-dir", "else"), {}, ("else", "10.0.0.1", ("there", 1), True)),
    ],
)
def test_a_command_s_own_options_come_from_the_file_unless_the_user_gives_them(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], expected: tuple[Any, ...]
) -> None:
    (tmp_path / "net").mkdir()
    file = tmp_path / "search.toml"
    file.write_text(
        'problem = "digits"\nrun_dir = "net"\n[service]\nhost = "10.0.0.1"\nnameserver = "there:1"\nport = 3\n'
    )
    own.clear()
    one = typer.Typer()
    one.command()(command_with_places)
    result = CliRunner().invoke(one, [str(file), *arguments], env=environment)
    assert result.exception is None, result.output
    assert own[0] == (expected[0].format(tmp_path), *expected[1:], 1)


def test_budgets_are_a_list() -> None:
    assert options_of("--budgets", "1,3,9.5").budgets == (1.0, 3.0, 9.5)


def test_a_command_keeps_its_own_options() -> None:
    options_of("--loud")
    assert received[0][2] is True


@pytest.mark.parametrize(
    ("text", "value"),
    [("a=1", 1), ("a=0.5", 0.5), ("a=true", True), ("a=null", None), ("a=word", "word"), ('a="1"', "1"), ("a=", "")],
)
def test_an_assignment_is_read_as_json_or_as_a_word(text: str, value: Any) -> None:
    (read,) = options_of("--sampler", text).sampler.values()
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("flag", "name"),
    [("--evaluations", "evaluations"), ("--brackets", "brackets"), ("--max-concurrent", "max_concurrent")],
)
@pytest.mark.parametrize("text", ["10", "1e1", "10.0", " 10"])
def test_a_whole_number_may_be_typed_as_a_float(flag: str, name: str, text: str) -> None:
    assert repr(getattr(options_of(flag, text).limits, name)) == "10"


@pytest.mark.parametrize("text", ["1.5", "ten", "inf", "nan", "", "1e-1"])
def test_what_is_no_whole_number_is_refused_with_flag_and_value(text: str) -> None:
    refusal = f"Invalid value for '--seed': {text!r} is not a whole number; write one such as 10 or 1e1"
    assert refusal in refusal_of("--seed", text)


@pytest.mark.parametrize("text", ["three", "1,5", "", "0x1"])
def test_what_is_no_number_is_refused_with_flag_and_value(text: str) -> None:
    refusal = f"Invalid value for '--eta': {text!r} is not a number; write one such as 27 or 0.5"
    assert refusal in refusal_of("--eta", text)


def test_every_number_of_every_command_is_parsed_with_a_remedy() -> None:
    waiting, strict = [make_app()], []
    while waiting:
        app = waiting.pop()
        waiting += [group.typer_instance for group in app.registered_groups if group.typer_instance is not None]
        for command in app.registered_commands:
            assert command.callback is not None
            for each in inspect.signature(command.callback, eval_str=True).parameters.values():
                kind, *about = get_args(each.annotation) or (None,)
                parses = any(getattr(info, "parser", None) is not None for info in about)
                if kind in (int, int | None, float, float | None) and not parses:
                    strict.append((command.callback.__name__, each.name))
    assert strict == []


@pytest.mark.parametrize(("text", "value"), [("2", "2"), ("2.0", "2"), ("all", "all"), ("0,1", "0,1"), ("1e", "1e")])
def test_a_number_of_devices_may_be_typed_as_a_float(text: str, value: str) -> None:
    one = typer.Typer()
    one.command()(command_of_workers)
    CliRunner().invoke(one, ["digits", "--gpus", text])
    assert workers.pop()[0].gpus == value


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-time", "3x"), ("--max-time '3x'", "30m")),
        (("--set", "a=1", "--sampler", "b=2"), ("--set is the old name of --sampler", "leave --set out")),
        (("--sampler", "foo"), ("--sampler 'foo'", "NAME=VALUE")),
        (("--sampler", "a=[1]"), ("--sampler 'a=[1]'", "one number or string")),
        (("--sampler", "a={}"), ("--sampler 'a={}'", "one number or string")),
        (("--budgets", "1,a"), ("--budgets '1,a'", "such as 1,3,9")),
        (("--wall-time", "3x"), ("--wall-time '3x'", "30m")),
        (("--initial", "/nowhere/initial.json"), ("--initial /nowhere/initial.json", "list of configurations")),
        (("--brackets", "0"), ("brackets", "0", "above zero")),
        (("--evaluations", "+0"), ("evaluations", "+0", "above zero")),
        (("--evaluations", "-5"), ("evaluations", "-5", "above zero")),
        (("--evaluations", "+2.5"), ("--evaluations", "2.5", "whole number", "+50")),
        (("--evaluations", "many"), ("--evaluations", "many", "whole number", "+50")),
        (("--total-budget", "+x"), ("--total-budget", "not a number")),
        (("--wall-time", "+2y"), ("--wall-time", "2y", "not a duration")),
    ],
)
def test_an_option_that_cannot_be_read_is_refused_with_its_value_and_the_remedy(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        options_of(*arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("content", ["no json", "1", "[1, 2]"])
def test_a_file_of_initial_configurations_that_holds_anything_else_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "initial.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"initial\.json"):
        options_of("--initial", str(file))


# ---------------------------------------------------------------------------------------------------------- old names


def old_flags() -> list[tuple[str, str, str, str]]:
    """Each old flag with a value, and the current flag with the same value."""
    return [
        ("--set", "a=1", "--sampler", "a=1"),
        ("--max-time", "2h", "--wall-time", "2h"),
    ]


@pytest.mark.parametrize(("old", "value", "new", "same"), old_flags())
def test_an_old_flag_works_with_a_note(
    old: str, value: str, new: str, same: str
) -> None:
    one = typer.Typer()
    one.command()(command)
    result = CliRunner().invoke(one, ["digits", old, value])
    assert f"note: {old} is now {new}; the old name works for one more release" in result.stderr
    assert received.pop()[1] == options_of(new, same)


workers: list[tuple[WorkerOptions, LeaveOptions]] = []


@takes_options
def command_of_workers(problem: Problem, some: WorkerOptions, leave: LeaveOptions) -> None:
    """Store the options of workers."""
    assert problem
    workers.append((some, leave))


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (("--in-agent",), (WorkerOptions(isolation="none"), LeaveOptions()), "--in-agent is now --isolation none"),
        (("--max-time", "90"), (WorkerOptions(), LeaveOptions(allocation_time_s=90.0)), "is now --allocation-time"),
    ],
)
def test_an_old_flag_of_workers_works_with_a_note(
    arguments: tuple[str, ...], expected: tuple[WorkerOptions, LeaveOptions], words: str
) -> None:
    one = typer.Typer()
    one.command()(command_of_workers)
    result = CliRunner().invoke(one, ["digits", *arguments])
    assert words in result.stderr
    assert workers.pop() == expected


def test_help_shows_no_old_flag() -> None:
    for name in ("run", "worker"):
        output = CliRunner().invoke(make_app(), [name, "--help"]).output
        assert not any(flag in output for flag in ("--set ", "--max-time", "--in-agent"))


def test_limits_may_be_so_many_more_than_the_search_has() -> None:
    options = options_of("--brackets", "+2", "--evaluations=+1e1", "--total-budget", "+ 2.5", "--wall-time", "+2h")
    assert options.limits == Limits()
    assert repr(options.more) == "{'brackets': 2, 'evaluations': 10, 'total_budget': 2.5, 'wall_time_s': 7200.0}"
    assert options_of("--evaluations", "1e1").limits == Limits(evaluations=10)


# ------------------------------------------------------------------------------------------------ durations, addresses


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("90", 90.0), ("0.5", 0.5), ("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0), (" 2 d ", 172_800.0)),
        *(("0", 0.0), ("1e3", 1000.0)),
    ],
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, value: float) -> None:
    assert seconds("--timeout", text) == value


@given(number=st.integers(0, 10**6), unit=st.sampled_from("smhd"))
def test_units_of_time_are_multiples_of_a_second(number: int, unit: str) -> None:
    assert seconds("--timeout", f"{number}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]


@pytest.mark.parametrize("text", ["", "h", "-1", "1e", "e3", "1e999", "3x", "30m1h", "1,5h", "inf", "nan", "½h"])
def test_anything_else_is_not_a_duration(text: str) -> None:
    with pytest.raises(UsageError, match=r"--timeout .* is not a duration; write 90"):
        seconds("--timeout", text)


# -------------------------------------------------------------------------------------------------------------- help


def test_options_stand_in_the_order_of_their_groups() -> None:
    parameters = inspect.signature(command).parameters.values()
    panels = [
        PANELS.index(about.rich_help_panel)
        for parameter in parameters
        for about in get_args(parameter.annotation)
        if isinstance(about, typer.models.OptionInfo)
    ]
    assert panels == sorted(panels)
    assert set(panels) >= {0, 1, 2, 3, 4}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_every_option_has_its_help(name: str) -> None:
    (info,) = [each for each in make_app().registered_commands if each.name == name]
    assert info.help
    assert "\n" not in info.help.replace("\n\n", "")
    assert info.callback is not None
    for parameter in inspect.signature(info.callback, eval_str=True).parameters.values():
        if parameter.annotation is typer.Context:
            continue
        about = [each for each in get_args(parameter.annotation) if hasattr(each, "help")]
        assert about, parameter
        assert about[0].help, parameter


@pytest.mark.parametrize("command", [("run",), ("master",), ("slurm", "submit")], ids="-".join)
@pytest.mark.parametrize("wrong", ["--keep-checkpoints=best:0", "--checkpoint-quota=5XB"])
def test_a_wrong_rule_for_checkpoints_is_refused_before_anything_begins(
    command: tuple[str, ...], wrong: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(make_app(), [*command, "counting_ones", "--run-dir", str(tmp_path / "run"), wrong])
    assert isinstance(result.exception, UsageError)
    assert re.search("keep_checkpoints must be one of needed, all, best:N|'5XB' is not a size", str(result.exception))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_on_eighty_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    result = CliRunner().invoke(make_app(), [name, "--help"])
    assert result.exit_code == 0
    assert "…" not in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_the_commands_are_all_listed() -> None:
    result = CliRunner().invoke(make_app(), ["--help"])
    assert all(f" {name} " in result.output for name in COMMANDS)


def test_plan_prints_json_for_programs() -> None:
    result = CliRunner().invoke(make_app(), ["plan", "counting_ones", "--json", "--brackets", "1"])
    assert json.loads(result.output)["evaluations_per_budget"] == [81, 27, 9, 3, 1]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("--wall-time", "0"), "--wall-time must be above zero, got 0.0; leave it out for no limit"),
        (("--evaluations", "0"), "--evaluations must be above zero"),
        (("--brackets", "+0"), "--brackets '+0' must be above zero"),
        (("--timeout", "0"), "--timeout must be above 0 seconds"),
        (("--target-loss", "nan"), "--target-loss must be finite"),
        (("--keep-checkpoints", "best"), "--keep-checkpoints must be one of needed, all, best:N, got 'best'"),
        (("--min-budget", "100"), "--min-budget 100 is above --max-budget 27; swap them"),
        (("--eta", "1"), "--eta must be above 1"),
        (("--budgets", "3,1"), "--budgets must increase, got budgets[0]=3 before budgets[1]=1"),
        (("--budgets", "1,3", "--max-budget", "3"), "give either --budgets or --min-budget and --max-budget, not both"),
        (("--fresh-process", "--isolation", "none"), "a fresh process for each evaluation needs --isolation trainer"),
        (("--unit", ""), "--unit '' is empty; give a value, or leave it out"),
        (("--run-dir", " "), "--run-dir ' ' is empty"),
        (("--initial", ""), "--initial '' is empty"),
        (("--initial", os.devnull), "--initial /dev/null is empty"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_a_wrong_value_is_refused_in_the_words_of_the_command_line(
    typed: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "counting_ones", "--workers", "1", "--max-budget", "27", *typed]
    result = CliRunner().invoke(make_app(), command)
    assert isinstance(result.exception, UsageError)
    assert words in in_words_of_the_command_line(result.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("run counting_ones --nameserver 127.0.0.1:1 --nameserver-key none", "--nameserver-key"),
        ("master counting_ones --nameserver 127.0.0.1:1 --nameserver-key none", "--nameserver-key"),
        ("master counting_ones --key none", "--key"),
        ("worker counting_ones --nameserver 127.0.0.1:1 --run-id r --key none", "--key"),
        ("worker counting_ones --run-dir r --nameserver 127.0.0.1:1 --nameserver-key none", "--nameserver-key"),
    ],
    ids=["run", "master", "key", "worker", "worker of a name server"],
)
def test_a_file_of_a_key_that_is_missing_is_refused_before_any_process(
    words: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = words.split()
    error = CliRunner().invoke(make_app(command[0]), command).exception
    assert isinstance(error, UsageError)
    assert in_words_of_the_command_line(error).startswith(f"{flag} 'none': there is no such file; give one that exists")
    assert not list(tmp_path.iterdir())


def test_an_error_about_a_search_file_names_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    for text, words in (
        ("run_dir = ''", 'run_dir = "" is text'),
        ("[search]\ntarget_loss = 1", "[search] target_loss is in the wrong place"),
        ("[search]\ninitial = 'missing.csv'", f"initial {tmp_path / 'missing.csv'}: "),
    ):
        file.write_text(f"problem = 'counting_ones'\n{text}\n")
        result = CliRunner().invoke(make_app(), ["plan", str(file)])
        assert isinstance(result.exception, UsageError)
        assert in_words_of_the_command_line(result.exception).startswith(f"{file}: {words}")


@pytest.mark.parametrize(
    ("command", "text", "typed", "words"),
    [
        ("run", "[workers]\nworkers = 0", "", "[workers] workers must be at least 1, got 0"),
        ("run", "[workers]\ngpus = 64", "", "[workers] gpus = 64, but 0 GPUs are visible here"),
        ("plan", "[budgets]\nmin_budget = 9\nmax_budget = 3", "", "[budgets] min_budget = 9 is above [budgets] max_b"),
        ("plan", "[budgets]\nmin_budget = 9", "--max-budget 3", "[budgets] min_budget = 9 is above --max-budget 3"),
        ("plan", "[service]\nheartbeat = 40", "", "[service] heartbeat must be above 0 and at most half of lease"),
        ("plan", "[limits]\nwall_time = nan", "", "[limits] wall_time must be above zero, got nan"),
        ("plan", "[limits]\nbrackets = '+0'", "", "[limits] brackets '+0' must be above zero"),
        ("plan", "[search]\ninitial = {y = 3}", "", "[search] initial: unknown hyperparameter y=3"),
        ("master", "[service]\ninterface = 'xx0'", "", "[service] interface xx0: this machine has no such"),
        ("plan", "[budgets]\nmin_budget = 9", "--min-budget 9 --max-budget 3", None),
    ],
)  # fmt: skip
def test_a_value_of_a_search_file_that_is_refused_later_is_named_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, text: str, typed: str, words: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    Path("search.toml").write_text(f"problem = 'counting_ones'\n{text}\n")
    error = CliRunner().invoke(make_app(), [command, "search.toml", *typed.split()]).exception
    assert isinstance(error, UsageError)
    shown = in_words_of_the_command_line(error)
    assert shown.startswith(f"search.toml: {words}" if words else "--min-budget 9 is above --max-budget 3"), shown


@pytest.mark.parametrize(
    "text",
    [
        "the folder /data/max_budget is missing", "'min_budget' of a user", "workers wait for the seed", "unit",
        "x_max_budget must be above 0",
    ],
)  # fmt: skip
def test_words_of_users_stay_in_an_error(text: str) -> None:
    assert in_words_of_the_command_line(UsageError(text)) == text
    assert in_words_of_the_command_line(SpaceError("initial: seed=3 is wrong")) == "--initial: seed=3 is wrong"
    assert in_words_of_the_command_line(SpaceError("seed=3 is out of range")) == "seed=3 is out of range"
