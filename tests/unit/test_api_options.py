"""``minimize`` agrees with the table of options: its parameters, their defaults and types, and its documentation.

If a test here fails after a change of the table, change ``minimize`` in the same way;
``python -m tests.unit.test_api_options`` prints the entries of its docstring.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

from hpbandster_lite import api
from hpbandster_lite.errors import UsageError
from hpbandster_lite.launch.local_search import LaunchOptions
from hpbandster_lite.records import Limits
from hpbandster_lite.settings import kinds
from hpbandster_lite.settings.options import OPTIONS, TABLE, LimitOptions, Option, SearchOptions, WorkerOptions
from hpbandster_lite.settings.schema import typed

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
            *(["In seconds."] if option.kind is kinds.DURATION else []),
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
    from ConfigSpace import ConfigurationSpace

    return get_type_hints(api.minimize, localns={"ConfigurationSpace": ConfigurationSpace})


def declared_type(name: str) -> set[Any]:
    found = [get_type_hints(record)[name] for record in TABLE if name in get_type_hints(record)]
    types = alternatives(found[0])
    # ``None`` stands for no parameters.
    return types | {type(None)} if name == "sampler" else types


def alternatives(kind: Any) -> set[Any]:
    return set(get_args(kind)) if get_origin(kind) in (Union, UnionType) else {kind}


VALUES: Mapping[str, Any] = {
    "min_budget": 2.0, "max_budget": 8.0, "eta": 2.0, "budgets": [1.0, 2.0], "unit": "steps", "bracket_rule": "ceil",
    "algorithm": "random", "seed": 3, "initial": [{"x": 0.5}], "skip_default": True,
    "sampler": {"random_fraction": 0.5}, "retry_failed": True, "accept_edited_source": True, "keep_going": True,
    "brackets": 4, "evaluations": 5, "total_budget": 6.0, "wall_time_s": 7.0, "target_loss": 0.5, "max_concurrent": 9,
    "workers": 2, "threads": 3, "gpus": "0,1", "gpus_per_worker": 2, "timeout_s": 8.0, "isolation": "none",
    "fresh_process": True, "keep_checkpoints": "best:5", "checkpoint_quota": "50GB", "run_dir": "here", "new": True,
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
    ("record", "message"),
    [
        (SearchOptions(problem="x", min_budget="1"), "min_budget must be a number, got '1'"),  # type: ignore[arg-type]
        (SearchOptions(problem="x", seed=1.5), "seed must be a whole number, got 1.5"),  # type: ignore[arg-type]
        (SearchOptions(problem="x", unit=3), "unit must be text, got 3"),  # type: ignore[arg-type]
        (SearchOptions(problem="x", skip_default=1), "skip_default must be true or false, got 1"),  # type: ignore[arg-type]
        (LimitOptions(wall_time_s="2h"), "wall_time_s must be a number of seconds, got '2h'"),  # type: ignore[arg-type]
        (LimitOptions(brackets=True), "brackets must be a whole number, got True"),
        (WorkerOptions(gpus_per_worker=None), "gpus_per_worker must be a whole number, got None"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_a_wrong_type_is_refused_with_what_is_accepted(record: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        typed(record)
    assert str(caught.value) == message


def test_numbers_of_numpy_become_python_s() -> None:
    record = typed(LimitOptions(brackets=np.int64(3), total_budget=np.float32(0.5), target_loss=1))  # type: ignore[arg-type]
    assert [type(each) for each in (record.brackets, record.total_budget, record.target_loss)] == [int, float, int]
    assert record == LimitOptions(brackets=3, total_budget=0.5, target_loss=1)


def test_the_limits_of_the_table_are_those_of_a_search() -> None:
    assert get_type_hints(LimitOptions) == get_type_hints(Limits)


if __name__ == "__main__":
    print(textwrap.indent("\n".join(documentation(option) for option in in_api().values()), "    "))
