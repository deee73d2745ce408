"""The table of options is the only declaration: everything derived from it has every option, and agrees with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import UsageError
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.samplers import registry
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.kinds import SIZES, byte_count, seconds
from hpbandster_lite.settings.options import (
    OPTIONS,
    TABLE,
    CheckpointOptions,
    ListenOptions,
    Option,
    RunOptions,
    WorkerOptions,
    check_value,
    check_values,
    in_common,
    keys_by_table,
    options_of,
    split_limits,
)

REPOSITORY = Path(__file__).parents[2]
NEW_OPTION = '''
    colour: str | None = option(
        kind=kinds.TEXT, group=Group.WORKERS, metavar="WORD", example='"red"', choices=("red", "blue"), in_api=True,
        help="Colour of the workers.", old=(OldName(flag="--color", key="color"),),
    )
'''


def bounds(option: Option) -> list[Any]:
    """A value that the option refuses; empty for an option without bounds."""
    if option.choices:
        return ["neither"]
    least = option.at_least
    return [least - 1] if least is not None else [] if option.above is None else [option.above]


# ------------------------------------------------------------------------------------------------------- the table


def test_no_name_flag_or_key_is_declared_twice() -> None:
    names = [name for record in TABLE for name in options_of(record) if name in record.__annotations__]
    assert len(names) == len(set(names))
    flags = [each.flag for each in OPTIONS.values()] + [old.flag for each in OPTIONS.values() for old in each.old]
    assert sorted(flag for flag in flags if flags.count(flag) > 1 and flag) == ["--max-time", "--max-time"]


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.name)
def test_an_option_says_what_it_is_for_and_how_its_value_is_written(option: Option) -> None:
    assert option.help.endswith(".")
    assert option.example or not option.has_key
    assert option.metavar or option.choices or option.kind is kinds.FLAG or not option.has_flag
    assert option.name.endswith("_s") == (option.kind in kinds.DURATIONS)


# -------------------------------------------------------------------------------------------------------- briefings


@pytest.mark.parametrize("briefing", [AgentOptions, MasterOptions])
def test_a_briefing_agrees_with_the_table(briefing: type) -> None:
    declared = {name: hint for record in TABLE for name, hint in get_type_hints(record).items() if name in OPTIONS}
    checked = [each for each in fields(briefing) if each.name in OPTIONS]
    assert checked
    for each in checked:
        option = OPTIONS[each.name]
        # The command fills in the port of a master.
        expected = (int, 0) if each.name == "port" else (declared[each.name], option.default)
        default = None if each.default is MISSING else each.default
        assert (get_type_hints(briefing)[each.name], default) == expected, each.name


def test_what_records_have_in_common_is_handed_on() -> None:
    run = RunOptions(nameserver=("there", 1), tls="certs", run_id="x", key="k")
    handed_on = in_common(MasterOptions, run, ListenOptions(host="h"), CheckpointOptions(keep_checkpoints="all"))
    assert handed_on == {
        "nameserver": ("there", 1), "nameserver_key": None, "tls": "certs", "key": "k", "host": "h", "interface": None,
        "port": None, "keep_checkpoints": "all", "checkpoint_quota": None,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- values


KEEP_ERROR = "keep_checkpoints must be one of needed, all, best:N"


@pytest.mark.parametrize(
    ("size", "count"),
    [
        *(("50GB", 50 * 10**9), ("1.5 TB", 1_500 * 10**9), ("512MiB", 512 * 2**20), ("3k", 3_000), ("7", 7), (8, 8)),
        *(("2gb", 2 * 10**9), ("9B", 9), ("5e10", 5 * 10**10), ("1_000", 1_000), (".5GB", 5 * 10**8)),
    ],
)
def test_a_size_is_read_as_bytes(size: int | str, count: int) -> None:
    assert byte_count("checkpoint_quota", size) == count
    check_values(CheckpointOptions(checkpoint_quota=size))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *(("90", 90), (" 90 ", 90), ("1e3", 1_000), ("1_000", 1_000), ("2H", 7_200), ("2 hours", 7_200)),
        *((".5h", 1_800), ("1h30m", 5_400), ("1h 30 min", 5_400), ("2d 3h 4m 5s", 183_845)),
        *(("1:30:00", 5_400), ("1-12:00:00", 129_600)),
    ],
)
def test_a_duration_is_read_in_the_forms_that_people_type(text: str, wanted: float) -> None:
    assert seconds("--timeout", text) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "h", "-1", "inf", "nan", "1e400", "1x", "1,5h", "30m1h", "1h1h", "1h30", "30:00", "1:90:00", "1 0", "_1"],
)
def test_what_is_no_duration_or_may_be_two_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--timeout .* is not a duration; write 90 \(seconds\), 30m, 1h30m,"):
        seconds("--timeout", text)


@pytest.mark.parametrize(
    ("name", "given"), [("brackets", "+1.5"), ("evaluations", "+x"), ("total_budget", "+"), ("wall_time_s", "+soon")]
)
def test_an_amount_to_add_that_is_refused_is_shown_as_it_was_given(name: str, given: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} {re.escape(repr(given))} is not a "):
        split_limits({name: given})
    with pytest.raises(UsageError, match=f"^--x {re.escape(repr(given))} is not a "):
        OPTIONS[name].kind.read("--x", given)


@pytest.mark.parametrize("kept", ["needed", "all", "best:1", "best:25"])
def test_checkpoints_of_any_number_of_configurations_can_be_kept(kept: str) -> None:
    check_values(CheckpointOptions(keep_checkpoints=kept))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (WorkerOptions(workers=0), "workers must be at least 1, got 0"),
        (WorkerOptions(timeout_s=0.0), "timeout_s must be above 0 seconds, got 0.0"),
        (WorkerOptions(timeout_s=float("nan")), "timeout_s must be finite, got nan; give a number, or leave it out"),
        (WorkerOptions(isolation="process"), "isolation must be one of trainer, none, got 'process'"),
        (CheckpointOptions(keep_checkpoints="best:0"), f"{KEEP_ERROR}, got 'best:0'"),
        (CheckpointOptions(keep_checkpoints="best:N"), f"{KEEP_ERROR}, got 'best:N'"),
        (CheckpointOptions(checkpoint_quota="50XB"), f"checkpoint_quota '50XB' is not a size; write {SIZES}"),
        (CheckpointOptions(checkpoint_quota="1e400"), f"checkpoint_quota '1e400' is not a size; write {SIZES}"),
        (CheckpointOptions(checkpoint_quota=0), f"checkpoint_quota 0 is not a size; write {SIZES}"),
        (CheckpointOptions(keep_checkpoints="some"), f"{KEEP_ERROR}, got 'some'"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_what_is_accepted(record: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_values(record)
    assert str(caught.value) == message


BOUNDED = [each.name for each in fields(AgentOptions) if each.name in OPTIONS and bounds(OPTIONS[each.name])]


@pytest.mark.parametrize("name", BOUNDED)
def test_an_agent_refuses_what_the_table_refuses(name: str) -> None:
    (wrong,) = bounds(OPTIONS[name])
    with pytest.raises(UsageError) as by_table:
        check_value(OPTIONS[name], wrong)
    with pytest.raises(UsageError) as by_agent:
        AgentOptions(problem="digits", run_dir="runs/digits", **{name: wrong})
    assert str(by_agent.value) == str(by_table.value)


# ------------------------------------------------------------------------------------------------------ a new option


@pytest.fixture(scope="module")
def with_new_option(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package whose only change is one more option in the table."""
    root = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "hpbandster_lite", root / "hpbandster_lite", ignore=ignored)
    table = root / "hpbandster_lite" / "settings" / "options.py"
    marker = "\n\n@record(frozen=True, kw_only=True)\nclass LeaveOptions"
    before, _, after = table.read_text("utf-8").partition(marker)
    table.write_text(f"{before.rstrip()}{NEW_OPTION}\n{marker}{after}", "utf-8")
    return root


def run_with(root: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{root}:{REPOSITORY}", "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, cwd=root
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", ["run", "worker"])
def test_a_new_option_is_on_the_command_line(with_new_option: Path, command: str) -> None:
    text = run_with(with_new_option, "-m", "hpbandster_lite", command, "--help")
    assert "--colour" in text
    assert "Colour of the workers." in text


SHOW = """
from pathlib import Path
from hpbandster_lite.launch.local_search import LaunchOptions
from hpbandster_lite.settings.search_file import file_values, read_search_file
print(read_search_file(Path("search.toml")).values["colour"], file_values(LaunchOptions(colour="blue"))["colour"])
try:
    LaunchOptions(colour="green")
except ValueError as error:
    print(error)
"""


def test_a_new_option_is_in_the_search_file_and_checked(with_new_option: Path) -> None:
    (with_new_option / "search.toml").write_text('problem = "digits"\n[workers]\ncolor = "red"\n')
    lines = run_with(with_new_option, "-c", SHOW).splitlines()
    assert lines == ["red blue", "colour must be one of red, blue, got 'green'"]


def test_a_new_option_is_in_the_schema(with_new_option: Path) -> None:
    schema: dict[str, Any] = json.loads(run_with(with_new_option, "-m", "hpbandster_lite", "options", "--schema"))
    assert schema["$defs"]["workers"]["properties"]["colour"]["enum"] == ["red", "blue"]
    ours = {table: list(keys) for table, keys in keys_by_table().items() if table}
    ours["workers"].insert(ours["workers"].index("grace") + 1, "colour")
    assert {name: list(schema["$defs"][name]["properties"]) for name in ours} == ours


CHECK = """
import inspect
from hpbandster_lite.api import minimize
from tests.unit.test_api_options import missing_parameters
print(missing_parameters(inspect.signature(minimize).parameters))
"""


def test_a_new_option_is_missed_in_the_python_interface(with_new_option: Path) -> None:
    assert run_with(with_new_option, "-c", CHECK).strip() == "['colour']"


# --------------------------------------------------------------------------------------------------------- quick starts

QUICK = ("status", "best", "list", "pause", "stop", "ping")


@pytest.mark.parametrize(
    "module",
    [
        *("hpbandster_lite.agent.loop", "hpbandster_lite.trainer.process", "hpbandster_lite.nameserver"),
        *("hpbandster_lite.master.serving", "hpbandster_lite.launch.local_search"),
        *(f"hpbandster_lite.cli.commands.{name}" for name in ("worker", "run", "status", "master")),
        *("hpbandster_lite.api", "hpbandster_lite.cli.app", "hpbandster_lite.cli.start"),
    ],
)
def test_no_process_imports_pydantic_to_start(module: str) -> None:
    assert not is_imported("pydantic", by=module)


@pytest.mark.parametrize("module", ["hpbandster_lite.agent.loop", "hpbandster_lite.trainer.process"])
def test_an_agent_and_its_trainer_start_without_the_table(module: str) -> None:
    assert not is_imported("hpbandster_lite.settings.options", by=module)


def test_a_worker_starts_without_what_only_the_master_and_its_readers_need() -> None:
    rooms = ("engine", "journal", "master", "results", "space", "standalone")
    modules = {"numpy", "ConfigSpace", "sqlite3", "psutil", *(f"hpbandster_lite.{room}" for room in rooms)}
    script = f"import sys, hpbandster_lite.cli.commands.worker; print(sorted({modules!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["api", "launch.local_search", *(f"cli.commands.{name}" for name in QUICK)])
def test_what_only_starts_or_asks_other_processes_starts_without_them(module: str) -> None:
    modules = {"numpy", "ConfigSpace", "hpbandster_lite.engine.engine", "hpbandster_lite.agent.loop"}
    script = f"import sys, hpbandster_lite.{module}; print(sorted({modules!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_installed_packages_are_asked_only_for_an_algorithm_that_is_not_built_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def installed() -> dict[str, object]:
        asked.append(1)
        return {"toy": None}

    monkeypatch.setattr(registry, "_installed", installed)
    for name in registry.BUILT_IN:
        check_value(OPTIONS["algorithm"], name)
    assert not asked
    check_value(OPTIONS["algorithm"], "toy")
    with pytest.raises(UsageError, match=r"algorithm must be one of bohb, .*random, toy, got 'toi'"):
        check_value(OPTIONS["algorithm"], "toi")


def test_what_describes_a_problem_is_started_before_the_slow_imports() -> None:
    # Each of these takes as long to import as all that the start needs.
    modules = {"dataclasses", "inspect", "typer", "hpbandster_lite.records", "hpbandster_lite.errors"}
    script = f"import sys, hpbandster_lite.cli.start; print(sorted({modules!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def is_imported(library: str, *, by: str) -> bool:
    script = f"import sys, {by}; print({library!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"
