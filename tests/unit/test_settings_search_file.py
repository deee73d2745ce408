"""A search file gives the same search as options, errors name key and type, and a written file reads back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.cli.options import overridden
from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.records import Limits, ProblemDescription, SearchSettings
from hpbandster_lite.rundir import RunDirectory, free_directory_like
from hpbandster_lite.samplers import algorithm_names
from hpbandster_lite.settings.options import SAMPLER, NameServerOptions, WorkerOptions, keys_by_table
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.settings.schema import json_schema
from hpbandster_lite.settings.search_file import (
    SearchFile,
    file_values,
    is_search_file,
    keep_search_file,
    read_search_file,
    search_text,
)
from tests.recorded.runs import recorded_run

RECORDED = Path(__file__).parents[1] / "recorded"
KEYS = keys_by_table()
WHOLE = """
problem = "net.py:problem"
run_dir = "runs/net"
keep_checkpoints = "all"
checkpoint_quota = "50GB"

[budgets]
min_budget = 1
max_budget = 27.5
eta = 2.5
integer_budgets = true
unit = "epochs"
bracket_rule = "ceil"

[search]
maximize = true
algorithm = "bo"
seed = 7
initial = [{lr = 0.1, depth = 3}, {lr = 0.2, depth = 1}]
skip_default = true

[sampler]
random_fraction = 0.2
density = "statsmodels"

[limits]
brackets = 2
evaluations = 50
total_budget = 99.5
wall_time = "1.5h"
target_loss = -0.5
keep_going = true

[workers]
workers = 4
threads = 2
timeout = "30m"
isolation = "trainer"
fresh_process = true
grace = "5m"
gpus = 2
gpus_per_worker = 2
idle_timeout = 90
master_timeout = "5m"
max_evaluations = 20
max_concurrent = 3

[service]
host = "0.0.0.0"
interface = "eth0"
port = 9091
tls = "certificates"
nameserver = "login:9090"
nameserver_key = "names.key"
max_attempts = 5
lease = 30
heartbeat = "2.5s"
"""


def read(place: Path, text: str) -> SearchFile:
    file = place / "search.toml"
    file.write_text(text)
    return read_search_file(file)


def refusal(place: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(place, text)
    assert str(place / "search.toml") in str(caught.value)
    return str(caught.value)


# ----------------------------------------------------------------------------------------------------------- reading


def test_a_float_without_a_fraction_is_a_whole_number(tmp_path: Path) -> None:
    text = (
        'problem = "net"\n[limits]\nbrackets = 2.0\nevaluations = 1e1\n[search]\nseed = 1.0\n'
        "[workers]\nworkers = 2.0\ngpus = 2.0\n[service]\nport = 9091.0\n"
    )
    values = dict(read(tmp_path, text).values)
    wanted = {"sampler": {}, "brackets": 2, "evaluations": 10, "seed": 1, "workers": 2, "gpus": "2", "port": 9091}
    assert repr(sorted(values.items())) == repr(sorted(wanted.items()))


def test_every_key_arrives_under_the_name_of_its_option(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE) == SearchFile(
        problem=f"{tmp_path}/net.py:problem",
        values={
            "min_budget": 1,
            "max_budget": 27.5,
            "eta": 2.5,
            "integer_budgets": True,
            "unit": "epochs",
            "bracket_rule": "ceil",
            "maximize": True,
            "algorithm": "bo",
            "seed": 7,
            "initial": ({"lr": 0.1, "depth": 3}, {"lr": 0.2, "depth": 1}),
            "skip_default": True,
            "sampler": {"random_fraction": 0.2, "density": "statsmodels"},
            "brackets": 2,
            "evaluations": 50,
            "total_budget": 99.5,
            "wall_time_s": 5400.0,
            "target_loss": -0.5,
            "keep_going": True,
            "max_concurrent": 3,
            "max_attempts": 5,
            "lease_s": 30,
            "heartbeat_s": 2.5,
            "run_dir": f"{tmp_path}/runs/net",
            "keep_checkpoints": "all",
            "checkpoint_quota": "50GB",
            "workers": 4,
            "threads": 2,
            "timeout_s": 1800.0,
            "isolation": "trainer",
            "fresh_process": True,
            "grace_s": 300.0,
            "gpus": "2",
            "gpus_per_worker": 2,
            "idle_timeout_s": 90.0,
            "master_timeout_s": 300.0,
            "max_evaluations": 20,
            "host": "0.0.0.0",  # noqa: S104 (nothing listens)
            "interface": "eth0",
            "port": 9091,
            "tls": f"{tmp_path}/certificates",
            "nameserver": ("login", 9090),
            "nameserver_key": f"{tmp_path}/names.key",
        },
    )


def test_every_key_is_in_the_file_that_the_test_above_reads() -> None:
    lines = {line.partition(" = ")[0] for line in WHOLE.splitlines()}
    assert lines >= {key for keys in KEYS.values() for key in keys} - {"budgets"}
    assert {f"[{table}]" for table in [*KEYS, SAMPLER] if table} <= lines


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("digits", "digits"),
        ("my_module:problem", "my_module:problem"),
        ("net.py", "{}/net.py"),
        ("../net.py:problem", "{}/../net.py:problem"),
        ("nets/big:problem", "{}/nets/big:problem"),
        ("/there/net.py", "/there/net.py"),
    ],
)
def test_a_problem_in_a_file_is_looked_for_beside_the_search_file(tmp_path: Path, written: str, problem: str) -> None:
    assert read(tmp_path, f'problem = "{written}"').problem == problem.format(tmp_path)


def test_initial_configurations_may_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "first.json").write_text('[{"lr": null}]')
    assert read(tmp_path, 'problem = "digits"\n[search]\ninitial = "first.json"').values["initial"] == ({"lr": None},)
    (tmp_path / "one.json").write_text('{"lr": 1}')
    for one in ('"one.json"', "{lr = 1}"):
        found = read(tmp_path, f'problem = "digits"\n[search]\ninitial = {one}').values["initial"]
        assert found == ({"lr": 1},)
    assert "absent: there is no such file; give a JSON file" in refusal(
        tmp_path, 'problem = "digits"\n[search]\ninitial = "absent"'
    )
    near = refusal(tmp_path, 'problem = "digits"\n[search]\ninitial = "frist.json"')
    assert "frist.json: there is no such file; did you mean 'first.json'?" in near
    assert "Is a directory; give a JSON file" in refusal(tmp_path, 'problem = "digits"\n[search]\ninitial = "."')


@pytest.mark.parametrize(("written", "seconds"), [("90", 90.0), ("0.5", 0.5), ('"90"', 90.0), ('"2d"', 172_800.0)])
def test_a_time_is_a_number_of_seconds_or_a_duration(tmp_path: Path, written: str, seconds: float) -> None:
    text = f'problem = "digits"\n[limits]\nwall_time = {written}\n[workers]\ntimeout = {written}'
    found = read(tmp_path, text)
    assert found.values["wall_time_s"] == seconds
    assert found.values["timeout_s"] == seconds


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_bytes(b'\xef\xbb\xbfproblem = "digits"\r\n')
    assert read_search_file(file).problem == "digits"


def test_a_problem_that_ends_in_toml_is_a_search_file() -> None:
    assert is_search_file("here/search.toml")
    assert not is_search_file("digits")
    assert not is_search_file("net.py:toml")


# ------------------------------------------------------------------------------------------------------------ refusing


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[budgets]\nmax_budgte = 3", ("[budgets] has no key 'max_budgte'", "did you mean 'max_budget' or")),
        ("[budget]\nmax_budget = 3", ("no key or table 'budget'", "did you mean 'budgets'?")),
        ("worker = 3", ("no key or table 'worker'", "did you mean 'workers'?")),
        ("[limits]\nworkers = 3", ("[limits] workers is in the wrong place", "under [workers]")),
        ("max_budget = 3", ("max_budget is in the wrong place", "under [budgets]")),
        ("[limits]\nrun_dir = 'x'", ("[limits] run_dir is in the wrong place", "at the top of the file")),
        ("budgets = [1, 3]", ("budgets = [1, 3] must be a table", "write [budgets]")),
        ("[limits]\nzzz = 1", ("[limits] has no key 'zzz'", "there is keep_going, brackets, evaluations")),
        ("[sampler]\nx = [1]", ("[sampler] x = [1] is a list", "one number or string")),
        ("[budgets\n", ("cannot be read", "line")),
        ("[search]\nseed = 1\nseed = 2", ("cannot be read", "overwrite a value")),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    message = refusal(tmp_path, text)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("table", "key"), [(table, key) for table, keys in KEYS.items() for key in keys])
def test_a_value_of_a_wrong_type_is_refused_with_key_value_and_what_is_right(
    tmp_path: Path, table: str, key: str
) -> None:
    entry = KEYS[table][key]
    wrong = {"2026-11-25": "a date or time", "{a = 1}": "a table"}
    if key == "initial":
        # A table is one configuration.
        del wrong["{a = 1}"]
    for value, kind in wrong.items():
        message = refusal(tmp_path, f"[{table}]\n{key} = {value}" if table else f"{key} = {value}")
        assert f"{key} = " in message
        assert f" is {kind}; it must be {entry.kind.wanted}, for example {key} = {entry.example}" in message
    first = "problem = 'digits'\n"
    read(tmp_path, f"{first}[{table}]\n{key} = {entry.example}" if table else f"{first}{key} = {entry.example}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\nbrackets = 2.5", ("brackets = 2.5 is a number", "a whole number")),
        ("[limits]\nbrackets = '5'", ("brackets = \"5\" is text", "a whole number", 'such as "+50"')),
        ("[limits]\nbrackets = '+5x'", ("brackets = \"+5x\" is not such a limit", "a whole number", 'such as "+50"')),
        ("[limits]\nwall_time = '+5y'", ("wall_time = \"+5y\" is not a duration", "30m")),
        ("[limits]\nbrackets = true", ("brackets = true is a truth value", "a whole number")),
        ("[budgets]\nmax_budget = '27'", ('max_budget = "27" is text', "a number", "max_budget = 27")),
        ("[budgets]\nmax_budget = true", ("max_budget = true is a truth value", "a number")),
        ("[budgets]\nbudgets = [1, '3']", ("budgets", "a list of numbers", "[1, 3, 9]")),
        ("[workers]\nin_agent = 1", ("in_agent = 1 is a number", "true or false")),
        ("[search]\nskip_default = 1", ("skip_default = 1 is a number", "true or false")),
        ("[limits]\nwall_time = 'soon'", ('[limits] wall_time = "soon" is not a duration', "30m")),
        ("[workers]\ntimeout = 'soon'", ('[workers] timeout = "soon" is not a duration', "30m")),
        ("problem = ''", ('problem = "" is text', "the name of a problem")),
        ("[search]\ninitial = [1]", ("initial = [1] is a list", "a configuration, a list of configurations")),
    ],
)
def test_a_value_that_only_looks_right_is_refused(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    message = refusal(tmp_path, text)
    assert all(word in message for word in words), message


def test_a_file_without_a_problem_is_refused(tmp_path: Path) -> None:
    assert 'write one at the top, for example problem = "digits"' in refusal(tmp_path, "")


def test_a_file_that_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "search.toml").touch()
    with pytest.raises(UsageError, match=r"no search file .*serach\.toml; did you mean 'search\.toml'\?"):
        read_search_file(tmp_path / "serach.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        read_search_file(tmp_path / "folder.toml")
    (tmp_path / "latin.toml").write_bytes(b"problem = '\xe4'")
    with pytest.raises(UsageError, match="cannot be read"):
        read_search_file(tmp_path / "latin.toml")


# ---------------------------------------------------------------------------------------------- the command line beside


@pytest.mark.parametrize(
    ("in_file", "given", "expected"),
    [
        ({"seed": 1, "eta": 2}, {"seed": 3}, {"seed": 3, "eta": 2}),
        ({"budgets": (1.0, 3.0)}, {"max_budget": 9.0}, {"max_budget": 9.0}),
        ({"min_budget": 1, "max_budget": 9}, {"budgets": (2.0,)}, {"budgets": (2.0,)}),
        ({"min_budget": 1, "max_budget": 9}, {"max_budget": 27.0}, {"min_budget": 1, "max_budget": 27.0}),
    ],
)
def test_the_command_line_goes_before_the_file(
    in_file: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert overridden(in_file, given) == {**expected, "sampler": {}}


def test_parameters_of_the_sampler_are_overridden_one_by_one() -> None:
    found = overridden({"sampler": {"a": 1, "b": 2}}, {"sampler": {"b": 3}})
    assert found == {"sampler": {"a": 1, "b": 3}}


def test_a_free_directory_is_the_next_number(tmp_path: Path) -> None:
    assert free_directory_like(tmp_path / "net") == tmp_path / "net"
    for name in ("net", "net-2"):
        (tmp_path / name).mkdir()
    assert free_directory_like(tmp_path / "net") == tmp_path / "net-3"
    assert free_directory_like(Path()) == Path.cwd().with_name(f"{Path.cwd().name}-2")


# ------------------------------------------------------------------------------------------------------------- writing


def prepared(limits: Limits | None = None, **changed: Any) -> Prepared:
    facts: dict[str, Any] = {
        "run_id": "net-1",
        "problem": ProblemDescription(reference="/here/net.py", name="net", space_json={}, space_tables={}),
        "budgets": (1.0, 3.0, 9.0),
        "eta": 3.0,
        "unit": "epochs",
        "algorithm": "bohb",
        "bracket_rule": "floor",
        "seed": 7,
        "seed_was_given": False,
    }
    settings = SearchSettings(**(facts | changed))
    return Prepared(settings=settings, limits=limits or Limits(brackets=3), resumed=False)


def definition_of(settings: SearchSettings) -> dict[str, Any]:
    names = ("budgets", "eta", "unit", "bracket_rule", "algorithm", "seed", "skip_default", "max_attempts", "lease_s")
    return {name: getattr(settings, name) for name in (*names, "heartbeat_s")}


reals = st.floats(allow_nan=False, allow_infinity=False, min_value=1e-300)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    budgets=st.lists(reals, min_size=1, max_size=4).map(tuple),
    eta=reals,
    unit=texts,
    seed=st.integers(0, 2**63 - 1),
    limits=st.builds(
        Limits, brackets=st.integers(1, 10**9), wall_time_s=reals, target_loss=st.none() | st.floats(-9, 9)
    ),
    fraction=st.floats(0, 1),
    name=texts,
)
def test_what_is_written_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    budgets: tuple[float, ...],
    eta: float,
    unit: str,
    seed: int,
    limits: Limits,
    fraction: float,
    name: str,
) -> None:
    place = tmp_path_factory.mktemp("written")
    search = prepared(limits, budgets=budgets, eta=eta, unit=unit, seed=seed, sampler={"random_fraction": fraction})
    found = read(place, search_text(search, {"workers": 3, "interface": name}))
    assert found.problem == "/here/net.py"
    stops = {field: getattr(limits, field) for field in ("brackets", "wall_time_s", "target_loss")}
    assert found.values == {
        **definition_of(search.settings),
        **{field: value for field, value in stops.items() if value is not None},
        "sampler": {"random_fraction": fraction},
        "run_dir": str(place), "workers": 3, "interface": name,
    }
    assert found.notes == ()


def test_the_file_in_a_run_directory_leads_back_to_it_with_its_initial_configurations(tmp_path: Path) -> None:
    initial = ({"lr": 0.1, "kind": None}, {"lr": 1e-05, "kind": "a"})
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    options = file_values(WorkerOptions(timeout_s=90.0, gpus_per_worker=2))
    keep_search_file(directory, prepared(initial=initial, skip_default=True), options)
    found = read_search_file(directory.path / "search.toml")
    assert (found.values["initial"], found.values["skip_default"]) == (initial, True)
    given = {name: found.values[name] for name in ("run_dir", "timeout_s", "gpus_per_worker", "isolation")}
    assert given == {"run_dir": str(directory.path), "timeout_s": 90.0, "gpus_per_worker": 2, "isolation": "trainer"}
    assert not {"threads", "gpus"} & found.values.keys()
    assert json.loads((directory.path / "initial.json").read_text())[0] == {"lr": 0.1, "kind": None}


@pytest.mark.parametrize("name", ["search.toml", "initial.json"])
def test_a_file_that_no_search_wrote_stays(name: str, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    (directory.path / name).write_text("mine")
    with pytest.raises(RunDirectoryError, match=rf"{name} was not written by a search; move it away"):
        keep_search_file(directory, prepared(initial=({"lr": 0.1, "kind": None},)), {})
    assert {each.name: each.read_text() for each in directory.path.iterdir() if each.is_file()} == {name: "mine"}


def test_a_file_of_an_earlier_version_is_written_anew(tmp_path: Path) -> None:
    run = recorded_run(1, "complete", tmp_path)
    keep_search_file(run, prepared(), {})
    assert (run.path / "search.toml").read_text() == search_text(prepared(), {})


def test_the_file_of_a_function_says_that_only_minimize_continues_it() -> None:
    of_command, of_minimize = prepared(), replace(prepared(), only_minimize=True)
    assert "# hpbandster-lite run with the path of this file continues the search" in search_text(of_command, {})
    heading, second, *_ = search_text(of_minimize, {}).splitlines()
    assert heading == search_text(of_command, {}).splitlines()[0]
    assert second.startswith("# Only minimize continues it, called again with this run directory")
    assert "continues the search" not in search_text(of_minimize, {})


def test_the_file_shows_the_defaults_of_the_parameters_that_were_left_alone() -> None:
    text = search_text(prepared(sampler={"num_samples": 8}), {})
    assert "\nnum_samples = 8\n" in text
    assert "\n# top_n_percent = 15.0\n" in text
    assert "num_samples" not in search_text(prepared(algorithm="random"), {})


@pytest.mark.parametrize("text", ["\x7f", "\x00\x1f", 'a"b\\c', "\n\t", "é 😀"])
def test_every_character_is_written_as_toml_wants_it(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, search_text(prepared(unit=text), {})).values["unit"] == text


def test_a_path_that_toml_cannot_express_is_shown_to_people() -> None:
    about = ProblemDescription(reference="/\udcff/net.py", name="net", space_json={}, space_tables={})
    assert "net.py" in search_text(prepared(problem=about), {})


@pytest.mark.parametrize(("host", "text"), [("login", "login:90"), ("::1", "[::1]:90")])
def test_an_address_is_written_as_it_is_typed(host: str, text: str) -> None:
    assert file_values(NameServerOptions(nameserver=(host, 90), nameserver_key="/k"))["nameserver"] == text


# ----------------------------------------------------------------------------------------------------------- old names

OLD = """
problem = "digits"

[search]
seed = 7

[parameters]
random_fraction = 0.2

[limits]
max_time = "1h"

[workers]
in_agent = true

[service]
lease_s = 30.0
heartbeat_s = 2.5
"""


def test_a_file_with_old_names_is_read_with_a_note_for_each(tmp_path: Path) -> None:
    found = read(tmp_path, OLD)
    assert found.values == {
        "seed": 7,
        "sampler": {"random_fraction": 0.2},
        "wall_time_s": 3600.0,
        "isolation": "none",
        "lease_s": 30.0,
        "heartbeat_s": 2.5,
    }
    assert sorted(note.partition(";")[0] for note in found.notes) == [
        "[limits] max_time is now [limits] wall_time",
        "[parameters] is now [sampler]",
        "[service] heartbeat_s is now [service] heartbeat",
        "[service] lease_s is now [service] lease",
        "[workers] in_agent is now [workers] isolation",
    ]


def test_an_old_name_beside_the_new_one_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, "problem = 'digits'\n[limits]\nmax_time = 1\nwall_time = 2")
    assert "[limits] max_time is the old name of [limits] wall_time, and both are given" in text


def test_the_file_of_an_earlier_version_in_a_run_directory_continues_its_search(tmp_path: Path) -> None:
    found = read_search_file(RECORDED / "search_before_sampler_table.toml")
    assert found.values["sampler"] == {"random_fraction": 0.5}
    assert (found.values["isolation"], found.values["wall_time_s"]) == ("none", 7200.0)
    assert Path(found.values["run_dir"]) == RECORDED


# -------------------------------------------------------------------------------------------------------------- schema


def test_the_schema_for_editors_has_every_key_with_its_help() -> None:
    schema = json_schema()
    tables = {name: schema["$defs"][name]["properties"] if name else schema["properties"] for name in KEYS}
    for table, keys in KEYS.items():
        for key, option in keys.items():
            assert tables[table][key]["description"].startswith(option.help)
    assert set(schema["properties"]) == {*KEYS[""], *filter(None, KEYS), SAMPLER, "options", "problem"}
    assert tables["search"]["algorithm"]["enum"] == list(algorithm_names())
    assert tables["limits"]["wall_time"]["anyOf"] == [{"type": "number"}, {"type": "string"}]
    assert tables["limits"]["wall_time"]["examples"] == ["12h"]
    assert tables["budgets"]["budgets"]["examples"] == [[1, 3, 9]]
    assert schema["additionalProperties"] is False
