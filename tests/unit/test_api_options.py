"""``minimize`` agrees with the table of options: its parameters, their defaults and types, and its documentation.

If a test here fails after a change of the table, change ``minimize`` in the same way;
``python -m tests.unit.test_api_options`` prints the entries of its docstring.
"""

from __future__ import annotations

import datetime
import inspect
import math
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import ConfigurationSpace

from hpbandster_lite import api
from hpbandster_lite.errors import UsageError
from hpbandster_lite.launch.local_search import LaunchOptions
from hpbandster_lite.records import ConfigId, Limits
from hpbandster_lite.results.result import Incumbent
from hpbandster_lite.samplers.kde.parameters import BohbParameters
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.options import (
    OPTIONS,
    TABLE,
    GraceOptions,
    LimitOptions,
    Option,
    PlaceOptions,
    SearchOptions,
    WorkerOptions,
    options_of,
)
from hpbandster_lite.settings.python_values import is_plainly_right, typed_values
from hpbandster_lite.settings.schema import refuse_wrong_types
from hpbandster_lite.space import SearchSpace, completed

OWN = {"problem", "space", "problem_options", "watcher"}
"""Parameters of ``minimize`` that are not options."""
WIDER: Mapping[str, Any] = {
    "budgets": Sequence[float], "gpus": int, "run_dir": Path, "initial": Sequence[Mapping[str, Any]],
}  # fmt: skip
"""Parameters that accept another type in addition to that of the table."""


def in_api() -> dict[str, Option]:
    return {name: option for name, option in OPTIONS.items() if option.in_api}


def missing_parameters(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Options of the table that ``minimize`` does not have; parameters that are not in the table."""
    return sorted(in_api().keys() ^ (parameters.keys() - OWN))


def documentation(option: Option) -> str:
    """The entry of an option in a NumPy docstring."""
    otherwise = option.otherwise or ("" if option.default in (None, False) else str(option.default))
    text = " ".join(
        [
            option.help,
            *(["In seconds."] if option.kind in kinds.DURATIONS else []),
            *([f"Default: {otherwise}."] if otherwise else []),
        ]
    )
    flags = {each.flag: each.name for each in OPTIONS.values()}
    text = re.sub(r"`([^`]+)`", lambda match: f"``{flags.get(match[1], match[1])}``", text)
    return option.name + "\n" + textwrap.fill(text, 112, initial_indent="    ", subsequent_indent="    ")


def entries(docstring: str) -> dict[str, str]:
    """The entries of the section on parameters by name, unchanged."""
    section = re.search(r"Parameters\n-+\n(.*?)\n\n\w+\n-+", docstring, re.DOTALL)
    assert section is not None
    found = re.findall(r"^(\w+)\n((?:    .*\n?)+)", section[1] + "\n", re.MULTILINE)
    return {name: f"{name}\n{text.rstrip()}" for name, text in found}


def test_minimize_has_every_option_of_the_table() -> None:
    assert missing_parameters(inspect.signature(api.minimize).parameters) == []


@pytest.mark.parametrize("name", in_api())
def test_a_parameter_has_default_and_documentation_of_the_table(name: str) -> None:
    option, parameter = OPTIONS[name], inspect.signature(api.minimize).parameters[name]
    assert parameter.default == option.default
    assert entries(inspect.getdoc(api.minimize) or "")[name] == documentation(option)


@pytest.mark.parametrize("name", in_api())
def test_a_parameter_accepts_the_type_of_the_table(name: str) -> None:
    accepted, declared = alternatives(hints()[name]), declared_type(name)
    if name in WIDER:
        assert any(kind is WIDER[name] or "Sequence" in str(kind) for kind in accepted), accepted
    else:
        assert accepted == declared


def hints() -> dict[str, Any]:
    return get_type_hints(api.minimize, localns={"ConfigurationSpace": ConfigurationSpace, "DataFrame": pd.DataFrame})


def declared_type(name: str) -> set[Any]:
    found = [get_type_hints(record)[name] for record in TABLE if name in get_type_hints(record)]
    types = alternatives(found[0])
    # ``None`` stands for no parameters.
    return types | {type(None)} if name == "sampler" else types


def alternatives(kind: Any) -> set[Any]:
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


VALUES: Mapping[str, Any] = {
    "min_budget": 2.0, "max_budget": 8.0, "eta": 2.0, "budgets": [1.0, 2.0], "unit": "steps", "bracket_rule": "ceil",
    "integer_budgets": True, "algorithm": "random", "seed": 3, "initial": [{"x": 0.5}], "skip_default": True,
    "sampler": {"random_fraction": 0.5}, "retry_failed": True, "accept_edited_source": True,
    "restored": True, "keep_going": True,
    "brackets": 4, "evaluations": 5, "total_budget": 6.0, "wall_time_s": 7.0, "target_loss": 0.5, "max_concurrent": 9,
    "maximize": True, "workers": 2, "threads": 3, "gpus": "0,1", "gpus_per_worker": 2, "timeout_s": 8.0,
    "isolation": "none", "fresh_process": True, "grace_s": 60.0,
    "keep_checkpoints": "best:5", "checkpoint_quota": "50GB", "run_dir": "here", "new": True,
}  # fmt: skip


@pytest.mark.parametrize("name", in_api())
def test_a_parameter_reaches_its_record(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LaunchOptions, "devices", lambda _: [(None, None)])
    received: list[Any] = []

    def search_here(search: SearchOptions, directory: Any, launch: LaunchOptions, *_: object, **__: object) -> int:
        received.extend([search, launch, directory])
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "search_here", search_here)
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        api.minimize("digits", **{name: VALUES[name]})
    search, launch, directory = received
    if name in ("run_dir", "new"):
        assert directory.path == Path("here" if name == "run_dir" else "runs/digits-2")
        return
    (holder,) = [each for each in (search, search.limits, launch) if hasattr(each, name)]
    value = getattr(holder, name)
    assert (list(value) if isinstance(value, tuple) else value) == VALUES[name]
    assert holder != type(holder)(**({"problem": "digits"} if holder is search else {}))


# --------------------------------------------------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("record_type", "name", "value", "message"),
    [
        (SearchOptions, "min_budget", "1", "a number, got '1'; give for example min_budget=1"),
        (SearchOptions, "seed", 1.5, "a whole number, got 1.5; give for example seed=7"),
        (SearchOptions, "unit", 3, "text, got 3; give for example unit='epochs'"),
        (SearchOptions, "skip_default", 1, "true or false, got 1; give for example skip_default=True"),
        (WorkerOptions, "timeout_s", "2h", "a number of seconds, got '2h'; give for example timeout_s=1800"),
        (GraceOptions, "grace_s", "5m", "a number of seconds, got '5m'; give for example grace_s=300"),
        (
            LimitOptions, "wall_time_s", "60",
            'a number of seconds, or text such as "+3600" for so many more, got \'60\'; give for example '
            "wall_time_s=43200",
        ),
        (
            LimitOptions, "brackets", True,
            'a whole number, or text such as "+50" for so many more than before, got True; give for example brackets=5',
        ),
        (WorkerOptions, "gpus_per_worker", None, "a whole number, got None; give for example gpus_per_worker=2"),
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_what_is_accepted(
    record_type: type, name: str, value: Any, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        typed_values(record_type, {name: value})
    assert str(caught.value) == f"{name} must be {message}"


def handed_on(problem: Any = "digits", **arguments: Any) -> tuple[SearchOptions, LaunchOptions]:
    """What ``minimize`` hands to the launcher; nothing is started."""
    received: list[Any] = []

    def search_here(search: SearchOptions, _directory: Any, launch: LaunchOptions, *_: object, **__: object) -> int:
        received.extend([search, launch])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LaunchOptions, "devices", lambda _: [(None, None)])
        patch.setattr(api, "search_here", search_here)
        with pytest.raises(KeyboardInterrupt):
            api.minimize(problem, **arguments)
    search, launch = received
    return search, launch


WHOLE = [name for name, option in in_api().items() if option.kind in (kinds.WHOLE, kinds.WHOLE_OR_MORE)]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [3e0, np.float32(3), np.int8(3)], ids=["float", "float32", "int8"])
def test_a_float_without_a_fraction_is_a_whole_number(name: str, value: Any) -> None:
    search, launch = handed_on(**{name: value})
    (found,) = [getattr(each, name) for each in (search, search.limits, launch) if hasattr(each, name)]
    assert (found, type(found)) == (3, int)


def test_a_sampler_s_whole_number_may_be_a_float_without_a_fraction() -> None:
    # Whole numbers as floats.
    parameters = BohbParameters(num_samples=8.0, max_points_in_model=2e2)  # type: ignore[arg-type]
    assert repr((parameters.num_samples, parameters.max_points_in_model)) == "(8, 200)"


def test_one_configuration_stands_for_a_list_of_one() -> None:
    for initial in ({"x": 0.5}, [{"x": np.float64(0.5)}], ({"x": 0.5},)):
        search, _ = handed_on(initial=initial)
        assert repr(search.initial) == "({'x': 0.5},)"


def test_limits_may_be_so_many_more_than_the_search_has() -> None:
    search, _ = handed_on(brackets="+10", evaluations="+1e2", total_budget="+2.5", wall_time_s="+90", target_loss=0.5)
    assert search.limits == Limits(target_loss=0.5)
    assert repr(search.more) == "{'brackets': 10, 'evaluations': 100, 'total_budget': 2.5, 'wall_time_s': 90.0}"


def tables() -> dict[str, Any]:
    """The same two configurations in the forms that pandas has for them."""
    typed = pd.DataFrame({"config.n": pd.array([3, pd.NA], "Int64"), "config.x": [0.5, np.nan], "origin": ["a", "b"]})
    plain = pd.DataFrame({"n": [3, np.nan], "x": [0.5, np.nan]})
    return {
        "a table of ours": typed, "rows of it": [row for _, row in typed.iterrows()],
        "dicts of it": typed.to_dict("records"), "a table": plain, "rows": [row for _, row in plain.iterrows()],
        "an iterator": (row for _, row in plain.iterrows()),
    }  # fmt: skip


@pytest.mark.parametrize("form", tables())
def test_rows_of_tables_are_configurations(form: str) -> None:
    search, _ = handed_on(initial=tables()[form])
    space = SearchSpace.from_configspace(ConfigurationSpace({"n": (1, 9), "x": (0.0, 1.0)}))
    found = completed(space, search.initial or (), np.random.default_rng)
    assert [repr(each.values) for each in found] == ["{'n': 3, 'x': 0.5}", "{'n': 5, 'x': 0.5}"]


def test_one_row_of_a_table_is_a_configuration_and_a_file_may_be_named(tmp_path: Path) -> None:
    row = pd.DataFrame({"config.n": [3], "config.x": [0.5]}).iloc[0]
    assert handed_on(initial=row)[0].initial == ({"config.n": 3, "config.x": 0.5},)
    (tmp_path / "first.csv").write_text("n\n3\n")
    for path in (tmp_path / "first.csv", str(tmp_path / "first.csv")):
        assert handed_on(initial=path)[0].initial == ({"n": "3"},)


def test_an_incumbent_and_choices_that_are_arrays_are_accepted() -> None:
    incumbent = Incumbent(
        config_id=ConfigId(0, 0, 0), values={"n": 3}, loss=0.5, budget=1.0, info={}, directory=None, origin="random",
        finished_at=0.0, elapsed_s=0.0, total_budget=1.0,
    )  # fmt: skip
    assert handed_on(initial=incumbent)[0].initial == ({"n": 3},)
    assert handed_on(initial=[incumbent, {"n": 4}])[0].initial == ({"n": 3}, {"n": 4})
    assert handed_on(initial={"kernel": np.array([3, 3]), "n": np.int64(3)})[0].initial == ({"kernel": [3, 3], "n": 3},)


def test_a_problem_may_be_the_path_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from ConfigSpace import ConfigurationSpace\nmin_budget, max_budget = 1, 3\n"
        "space = ConfigurationSpace({'x': (0.0, 1.0)})\n\n\ndef evaluate(config, budget, trial):\n    return 0.0\n"
    )
    assert handed_on(problem=file)[0].problem == str(file)


def test_devices_and_sizes_may_be_floats_without_a_fraction() -> None:
    _, launch = handed_on(gpus=2.0, checkpoint_quota=5e10)
    assert (launch.gpus, repr(launch.checkpoint_quota)) == ("2", "50000000000")


WRONG: list[tuple[str, Any, str]] = [
    *((name, 1.5, "must be a whole number") for name in WHOLE),
    *((name, float("inf"), "must be a whole number") for name in WHOLE),
    *((name, value, name) for name, each in in_api().items() if each.kind.amount is not None
      for value in ("5", "+", "+x", "+nan", "+inf", "+0", "+5x", "+-5", "-5", "five")),
    *((name, float("nan"), "must be finite, got nan") for name, each in in_api().items()
      if each.kind in (kinds.NUMBER, kinds.NUMBER_OR_MORE, *kinds.DURATIONS)),
    *((name, "60", "must be a number") for name, each in in_api().items()
      if each.kind in (kinds.NUMBER, kinds.NUMBER_OR_MORE, *kinds.DURATIONS)),
    *((name, "yes", "must be true or false, got 'yes'") for name, each in in_api().items() if each.kind is kinds.FLAG),
    *((name, object, "got <class 'object'>") for name in in_api()),
    ("total_budget", -np.inf, "must be finite, got -inf"), ("workers", "4", "must be a whole number, got '4'"),
    ("evaluations", 0.0, "must be above zero, got 0"), ("isolation", None, "must be text, got None"),
    ("budgets", 5, "must be a list of numbers, got 5; give for example budgets=[1, 3, 9]"),
    ("budgets", "1,3", "must be a list of numbers, got '1,3'"), ("budgets", [1, None], "must be a list of numbers"),
    ("budgets", [3, 1], "budgets must increase"), ("seed", -1, "seed must be in [0, 2**63), got -1"),
    ("wall_time_s", np.timedelta64(3, "s"), "must be a number of seconds"), ("run_dir", "a\0b", "a null character"),
    ("sampler", [("a", 1)], "must be a table of numbers and strings"), ("run_dir", 5, "the path of a directory, got 5"),
    ("run_dir", "", "must be the path of a directory, got ''"), ("initial", 3, "must be a configuration, a list of"),
    ("initial", [3], "must be a configuration, a list of"), ("algorithm", "tpe", "must be one of bohb"),
    ("problem_options", ["depth"], "must be a mapping from names to values"),
    ("problem_options", {1: 2}, "must be a mapping from names to values"), ("watcher", 3, "begin, status and note"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(WRONG)])
def test_a_wrong_argument_is_refused_before_any_process_starts(
    name: str, value: Any, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_process(*_: object, **__: object) -> None:
        pytest.fail("a process was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.Popen.__init__", no_process)
    with pytest.raises(UsageError) as caught:
        api.minimize("digits", **{name: value})
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def objective(config: Mapping[str, Any], budget: float, trial: Any) -> float:
    return float(config["x"] * budget)


class Called:
    """A class of which an instance is the objective."""

    def __call__(self, config: Mapping[str, Any], budget: float, trial: Any) -> float:
        return objective(config, budget, trial)


class WithoutSpace:
    """A problem with defaults and without a space."""

    max_budget = 9

    def evaluate(self, config: Mapping[str, Any], budget: float, trial: Any) -> float:
        return objective(config, budget, trial)


without_space = WithoutSpace()


@pytest.mark.parametrize("name", ["objective", "Called", "WithoutSpace", "without_space", "without_space.evaluate"])
def test_a_function_a_class_and_an_object_go_with_a_space(name: str) -> None:
    received: list[SearchOptions] = []

    def search_here(search: SearchOptions, *_: object, **__: object) -> int:
        received.append(search)
        raise KeyboardInterrupt

    space = ConfigurationSpace({"x": (0.0, 1.0)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "search_here", search_here)
        with pytest.raises(KeyboardInterrupt):
            api.minimize(eval(name), space, min_budget=1)  # noqa: S307 (a name of this file)
    (search,) = received
    about = search.description
    assert about is not None
    assert (search.problem, search.only_minimize) == (f"{__name__}:{name}", True)
    assert about.max_budget == (9.0 if name in ("WithoutSpace", "without_space") else None)
    assert [each["name"] for each in about.space_json["hyperparameters"]] == ["x"]


@pytest.mark.parametrize("problem", [3, None, 0.5, {"a": 1}, ["f"]], ids=repr)
def test_what_is_no_problem_is_refused(problem: Any) -> None:
    with pytest.raises(UsageError) as caught:
        api.minimize(problem, ConfigurationSpace({"x": (0.0, 1.0)}))
    assert str(caught.value).startswith("problem must be a function, an object with evaluate(config, budget, trial)")
    assert f"got {problem!r:.100}" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"initial": [{"x": 5.0}]}, "x=5.0 is out of range"),
        ({"sampler": {"num_sample": 3}}, "did you mean 'num_samples'?"),
        ({"min_budget": 30}, "min_budget=30 is above max_budget=9"),
    ],
    ids=["initial", "sampler", "min_budget"],
)
def test_what_does_not_fit_a_function_is_refused_before_any_process_starts(
    arguments: Mapping[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.Popen.__init__", lambda *_, **__: pytest.fail("a process was started"))
    space = ConfigurationSpace({"x": (0.0, 1.0)})
    with pytest.raises(UsageError) as caught:
        api.minimize(objective, space, **{"min_budget": 1, "max_budget": 9, **arguments})
    assert words in str(caught.value)


RECORDS = (LimitOptions, SearchOptions, LaunchOptions, PlaceOptions)


@pytest.mark.parametrize("record_type", RECORDS, ids=lambda each: each.__name__)
def test_what_is_right_at_a_glance_is_right(record_type: type) -> None:
    numbers = (False, True, 0, 1, -1, 2**70, 1.0, 0.5, math.nan)
    values: tuple[Any, ...] = (None, *numbers, "", "a", "+1", "\udcff", {}, {"a": 1}, {1: {}}, (), [])
    for name, option in options_of(record_type).items():
        for value in (*values, option.default):
            if is_plainly_right(option, value):
                refuse_wrong_types(record_type, {name: value}, {name: value})


def test_a_call_with_right_types_needs_no_pydantic() -> None:
    given = {
        "min_budget": 1, "max_budget": 27.0, "algorithm": "bohb", "seed": 3, "sampler": {"top_fraction": 0.2},
        "brackets": 4, "wall_time_s": 60, "workers": 2, "run_dir": Path("runs"), "new": False, "gpus": None,
    }  # fmt: skip
    script = (
        "import sys; from pathlib import Path, PosixPath; from hpbandster_lite import api; "
        f"print([api._typed(each, {given!r}) for each in api._RECORDS] and 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_difference_of_times_is_a_number_of_seconds() -> None:
    minutes = datetime.timedelta(minutes=5)
    assert typed_values(GraceOptions, {"grace_s": minutes}) == {"grace_s": 300.0}
    assert typed_values(LimitOptions, {"wall_time_s": minutes}) == {"wall_time_s": 300.0}
    with pytest.raises(UsageError, match="brackets must be a whole number"):
        typed_values(LimitOptions, {"brackets": minutes})


def test_numbers_of_numpy_become_python_s() -> None:
    values = {"brackets": np.int64(3), "total_budget": np.float32(0.5), "target_loss": 1}
    record = LimitOptions(**typed_values(LimitOptions, values))
    assert [type(each) for each in (record.brackets, record.total_budget, record.target_loss)] == [int, float, int]
    assert record == LimitOptions(brackets=3, total_budget=0.5, target_loss=1)
    assert typed_values(SearchOptions, {"skip_default": np.True_})["skip_default"] is True
    assert typed_values(SearchOptions, {"budgets": np.array([1, 3])}) == {"budgets": (1.0, 3.0)}
    others = {"brackets": np.array(3), "total_budget": Decimal("0.5"), "target_loss": Fraction(1, 2)}
    assert repr(typed_values(LimitOptions, others)) == "{'brackets': 3, 'total_budget': 0.5, 'target_loss': 0.5}"


def test_the_limits_of_the_table_are_those_of_a_search() -> None:
    # An option also takes a text such as "+50".
    types = {name: alternatives(kind) - {str} for name, kind in get_type_hints(LimitOptions).items()}
    assert types == {name: alternatives(kind) for name, kind in get_type_hints(Limits).items()}


if __name__ == "__main__":
    print(textwrap.indent("\n".join(documentation(option) for option in in_api().values()), "    "))
