"""What an objective misses for every configuration is named; what another configuration may find is not."""

from __future__ import annotations

import errno
import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.problems import FunctionProblem
from hpbandster_lite.records import ConfigId, EvaluationId, FailureKind, Values
from hpbandster_lite.trainer.evaluation import run_objective
from hpbandster_lite.trainer.messages import TrainerEnded, TrainerOrder

VALUES: Values = {"lr": 0.1, "net": "resnet", "n": 2, "flag": True, "c": "a", "none": None}


def missed(evaluate: Callable[..., Any], values: Values = VALUES, kind: FailureKind = FailureKind.CODE) -> str | None:
    """What is named when an objective fails."""
    order = TrainerOrder(
        evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, values=values, budget=1.0, max_budget=9.0,
        budgets=(1.0, 9.0), unit="epochs", seed=1, directory="/nowhere",
    )  # fmt: skip
    ended = run_objective(FunctionProblem(evaluate), order, on_report=lambda point: False)
    assert isinstance(ended, TrainerEnded)
    assert ended.failure is not None
    assert ended.failure.kind is kind
    return ended.failure.misses


def missed_in(error: BaseException, cause: BaseException | None = None) -> str | None:
    def evaluate(config: dict[str, Any], budget: float, trial: object) -> float:
        raise error from cause

    return missed(evaluate)


# ------------------------------------------------------------------------------------------------------------- modules


def imports(name: str) -> Callable[..., Any]:
    def evaluate(config: dict[str, Any], budget: float, trial: object) -> float:
        importlib.import_module(name.format(**config))
        return 1.0

    return evaluate


def test_a_module_that_is_not_there() -> None:
    assert missed(imports("pandass")) == "the module 'pandass'"
    assert missed(imports("json.pandass")) == "the module 'json.pandass'"


def test_a_module_that_the_configuration_chooses_may_be_there_for_another() -> None:
    assert missed(imports("nets_of.{net}")) == "the module 'nets_of'"
    assert missed(imports("json.{net}")) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import numpy\nnumpy.no_such_thing", "AttributeError: module 'numpy' has no attribute 'no_such_thing'"),
        ("raise RuntimeError('built for another CUDA')", "RuntimeError: built for another CUDA"),
        ("from json import no_such_thing", "ImportError: cannot import name 'no_such_thing' from 'json'"),
    ],
    ids=["attribute", "runtime", "name"],
)
def test_a_module_whose_own_code_fails(text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_helper.py").write_text(text)
    found = missed(imports("broken_helper")) or ""
    assert found.startswith(f"the module 'broken_helper' (its import fails: {name}")
    assert "broken_helper" not in sys.modules


def test_a_module_with_a_syntax_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "unwritten_helper.py").write_text("def f(:\n")
    assert missed(imports("unwritten_helper")) == "a module (SyntaxError: invalid syntax)"


def test_text_that_the_objective_evaluates_is_no_module() -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: object) -> float:
        exec(compile("1 +", "<of the configuration>", "exec"))  # noqa: S102 (what the test is about)
        return 1.0

    def runs(config: dict[str, Any], budget: float, trial: object) -> float:
        exec(compile("1 / 0", "file.py", "exec"), {"__name__": "script"})  # noqa: S102 (what the test is about)
        return 1.0

    assert missed(evaluate) is None
    assert missed(runs) is None


# --------------------------------------------------------------------------------------------------------------- files


def opens(name: str) -> Callable[..., Any]:
    def evaluate(config: dict[str, Any], budget: float, trial: object) -> float:
        return float(Path(name.format(**config)).read_text())

    return evaluate


def test_a_file_that_is_not_there_or_cannot_be_opened() -> None:
    assert missed(opens("/nowhere/train.csv")) == "the file '/nowhere/train.csv'"
    assert missed(opens("/dev")) == "the file '/dev'"
    denied = PermissionError(errno.EACCES, "Permission denied", "/data/train.csv")
    assert missed_in(denied) == "the file '/data/train.csv'"


def test_a_file_that_the_configuration_chooses_may_be_there_for_another() -> None:
    assert missed(opens("/nowhere/{net}.csv")) is None
    assert missed(opens("/nowhere/{net}-weights/1.pt")) is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("/nowhere/net-{n}.pt", {"n": 3}),
        ("/nowhere/net{n}/weights.pt", {"n": 3}),
        ("/nowhere/net-{n:03d}.pt", {"n": 3}),
        ("/nowhere/{n}/train.csv", {"n": "a"}),
        ("/nowhere/net-{n}.pt", {"n": 0.1}),
        ("/nowhere/net-{n}.pt", {"n": 1e-05}),
        ("/nowhere/net-{n:.2f}.pt", {"n": 0.123456}),
        ("/nowhere/net-{n:.1e}.pt", {"n": 0.00123456}),
        ("/nowhere/net-{n:g}.pt", {"n": 8.0}),
        ("/nowhere/net-{n}.pt", {"n": True}),
        ("/nowhere/net-{n[0]}x{n[1]}.pt", {"n": (3, 64)}),
    ],
    ids=str,
)
def test_a_file_that_a_number_of_the_configuration_chooses_may_be_there_for_another(
    name: str, values: dict[str, Any]
) -> None:
    assert missed(opens(name), values) is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("/nowhere/resnets-12.csv", {"net": "resnet", "n": 2}),
        ("/nowhere/train-0.csv", {"rate": 0.3}),
        ("/nowhere/train-0.1.csv", {"rate": 0.3, "n": 0}),
        ("/nowhere/train.csv", {"empty": "", "none": None, "large": 1e300}),
    ],
    ids=str,
)
def test_other_values_of_the_configuration_change_nothing(name: str, values: dict[str, Any]) -> None:
    assert missed(opens(name), values) is not None


@pytest.mark.parametrize(
    "words",
    [
        "Dataset not found. You can use download=True to download it",
        "Data not found and `download_if_missing` is False",
        "Dataset 'x' doesn't exist on the Hub or cannot be accessed.",
        "libcudart.so.12: cannot open shared object file: No such file or directory",
        "could not find the data set in /data",
        "the data are missing",
        "folder /data/train does not exist",
    ],
    ids=["torchvision", "sklearn", "hub", "library", "could not find", "missing", "folder"],
)
def test_data_that_a_library_does_not_find(words: str) -> None:
    assert missed_in(RuntimeError(words)) == f"data (RuntimeError: {words})"
    assert missed_in(OSError(words)) == f"data (OSError: {words})"


def test_an_exception_with_an_explicit_cause() -> None:
    gone = FileNotFoundError(errno.ENOENT, "No such file or directory", "train.csv")
    assert missed_in(ValueError("no data"), gone) == "the file 'train.csv'"
    looped = ValueError("x")
    looped.__cause__ = looped
    assert missed_in(looped) is None


# ----------------------------------------------------------------------------------------------------------- arguments


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    del wrapper.__wrapped__  # else the signature is refused before a search begins
    return wrapper


def test_an_objective_that_a_wrapper_calls_with_arguments_that_it_does_not_have() -> None:
    @logged
    def evaluate(config: dict[str, Any], budget: float) -> float:
        return 1.0

    @logged
    def other(config: dict[str, Any], budget: float, trial: object, more: int) -> float:
        return 1.0

    assert (missed(evaluate) or "").endswith("evaluate() takes 2 positional arguments but 3 were given)")
    assert (missed(other) or "").endswith("other() missing 1 required positional argument: 'more')")


def test_a_function_below_the_objective_may_depend_on_what_the_configuration_has() -> None:
    def train(momentum: float, **others: object) -> float:
        return momentum

    any_call: Callable[..., float] = train

    def evaluate(config: dict[str, Any], budget: float, trial: object) -> float:
        return any_call(**config)

    assert missed(evaluate) is None


# ------------------------------------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize(
    "error",
    [
        ValueError("kernel size 7 is larger than the input"),
        KeyError("data"),
        TypeError("unsupported operand type(s) for +: 'int' and 'str'"),
        OSError(errno.EIO, "Input/output error", "train.csv"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)"),
        SystemExit(2),
        AssertionError(),
    ],
    ids=["value", "key", "type", "io", "shapes", "exit", "assertion"],
)
def test_any_other_exception_may_depend_on_the_configuration(error: BaseException) -> None:
    assert missed_in(error) is None


def test_an_exception_that_cannot_be_read_misses_nothing() -> None:
    class Unreadable(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert missed_in(Unreadable()) is None
