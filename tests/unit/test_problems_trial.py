"""The trial that an objective gets: reports, interruption, directories, the device, and accepted numbers."""

from __future__ import annotations

import importlib.machinery
import math
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems.trial import ASK_EVERY_S, MAX_METRICS_BYTES, Interrupted, Trial, number
from hpbandster_lite.records import ConfigId, CurvePoint
from hpbandster_lite.rundir import holds_checkpoint


class Listener:
    """Stores the points, and requests the end at the point with this number."""

    def __init__(self, ends_with: int | None = None) -> None:
        self.points: list[CurvePoint] = []
        self._ends_with = ends_with

    def __call__(self, point: CurvePoint) -> bool:
        self.points.append(point)
        return len(self.points) == self._ends_with


# ---------------------------------------------------------------------------------------------------------- reports


def test_a_report_becomes_a_plain_point_of_the_curve() -> None:
    listener = Listener()
    Trial(on_report=listener).report(np.int64(3), np.float32(0.5), accuracy=np.float64(0.25), sizes=(1, 2))
    assert listener.points == [CurvePoint(3.0, 0.5, {"accuracy": 0.25, "sizes": [1, 2]})]
    assert [type(value) for value in listener.points[0][:2]] == [float, float]


def test_a_report_interrupts_once_grace_has_begun_and_the_point_is_kept() -> None:
    listener = Listener(ends_with=2)
    trial = Trial(config_id=ConfigId(1, 0, 4), on_report=listener)
    trial.report(1, 1.0)
    with pytest.raises(Interrupted, match="of 1-0-4 is handed back at step 2"):
        trial.report(2, 0.5)
    assert [point.step for point in listener.points] == [1.0, 2.0]


def test_an_except_exception_of_the_objective_does_not_swallow_the_interruption() -> None:
    assert not issubclass(Interrupted, Exception)


def test_an_evaluation_is_never_to_stop_unless_somebody_asks_for_it() -> None:
    assert Trial().should_stop() is False


def test_a_request_to_stop_is_seen_at_the_next_look_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    now, answers = [100.0], iter([False, True])
    monkeypatch.setattr("hpbandster_lite.problems.trial.clock", lambda: now[0])
    trial = Trial(must_stop=lambda: next(answers))
    assert not trial.should_stop()
    # The clock stands still, so it does not look again.
    assert not trial.should_stop()
    now[0] += ASK_EVERY_S
    assert trial.should_stop()
    now[0] += ASK_EVERY_S
    assert trial.should_stop()


def test_a_look_is_made_many_times_a_second() -> None:
    assert ASK_EVERY_S <= 0.2


def test_a_trial_that_has_ended_tells_a_thread_that_still_asks_to_stop() -> None:
    trial = Trial()
    trial.end()
    assert trial.should_stop()
    assert not trial.was_to_stop


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": "3"}, "budget is '3', a str; it must be one number; give for example budget=3"),
        ({"budget": True}, "budget is True, a bool; it must be one number; give for example budget=3"),
        ({"budget": math.nan}, "budget must be finite, got nan; give for example budget=3"),
        ({"max_budget": "9"}, "max_budget is '9', a str; it must be one number; give for example max_budget=3"),
        ({"budgets": 3}, "budgets must be a list of numbers, got 3; give for example budgets=[1, 3, 9]"),
        ({"budgets": "1,3"}, "budgets must be a list of numbers, got '1,3'; give for example budgets=[1, 3, 9]"),
        ({"budgets": [1, "3"]}, "budgets is '3', a str; it must be one number; give for example budgets=3"),
        ({"unit": 3}, "unit must be text, got 3; give for example unit='epochs'"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5; give for example seed=1"),
        ({"rung": None}, "rung is None, a NoneType; it must be one number; give for example rung=3"),
        ({"maximize": 1}, "maximize must be true or false, got 1; give for example maximize=True"),
        ({"directory": 3}, "directory must be the path of a directory, got 3; give for example directory='attempt'"),
        ({"on_report": 3}, "on_report must be a function of a point, got 3; leave it out"),
        ({"must_stop": True}, "must_stop must be a function without arguments, got True; leave it out"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_name_value_and_remedy(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Trial(**arguments)
    assert str(caught.value) == message


def test_whole_floats_and_numbers_of_numpy_are_numbers_of_a_trial() -> None:
    given: dict[str, Any] = {"budget": np.float32(3), "max_budget": np.int64(9), "budgets": [1, np.int64(3)]}
    trial = Trial(**given, seed=1e1, attempt=np.int8(2))  # type: ignore[arg-type]  # numbers of other types
    found = (trial.budget, trial.max_budget, trial.budgets, trial.seed, trial.attempt)
    assert repr(found) == "(3.0, 9.0, (1, 3.0), 10, 2)"


def test_a_trial_without_on_report_discards_its_reports() -> None:
    Trial().report(1, 0.5)


def test_a_curve_may_have_a_loss_that_is_not_finite() -> None:
    listener = Listener()
    Trial(on_report=listener).report(1, float("nan"))
    assert math.isnan(listener.points[0].loss)


@pytest.mark.parametrize(
    ("arguments", "metrics", "message"),
    [
        (("1", 0.5), {}, "the step of trial.report is '1', a str; it must be one number"),
        ((1, None), {}, "the loss of trial.report is None, a NoneType; it must be one number"),
        ((1, [0.5]), {}, r"the loss of trial.report is \[0.5\], a list"),
        ((1,), {}, r"trial.report requires the loss: trial.report\(epoch, loss\)"),
        ((), {"loss": 1}, "trial.report requires the step"),
        ((1, 2, 3), {}, "two positional arguments.* got 3"),
    ],
)
def test_a_report_that_cannot_travel_is_refused_by_name(arguments: Any, metrics: Any, message: str) -> None:
    listener = Listener()
    with pytest.raises(TypeError, match=message):
        Trial(on_report=listener).report(*arguments, **metrics)
    assert listener.points == []


# ------------------------------------------------------------------------------------------------------ directories


def test_the_directory_is_made_when_it_is_first_asked_for(tmp_path: Path) -> None:
    trial = Trial(directory=tmp_path / "evaluations" / "attempt1")
    assert not (tmp_path / "evaluations").exists()
    assert trial.directory.is_dir()
    (trial.directory / "weights").write_text("1")
    assert (trial.directory / "weights").read_text() == "1"


def test_what_is_to_stay_has_a_directory_that_is_no_checkpoint(tmp_path: Path) -> None:
    trial = Trial(directory=tmp_path / "attempt1")
    (trial.keep_directory / "events").write_text("a curve")
    assert trial.keep_directory == tmp_path / "attempt1" / "keep"
    assert not holds_checkpoint(trial.directory)
    with pytest.raises(RuntimeError, match="this trial has no directory"):
        _ = Trial().keep_directory


def test_the_error_for_a_trial_without_a_directory_says_how_to_give_it_one() -> None:
    with pytest.raises(RuntimeError, match=r"make it with Trial\(directory=...\)"):
        _ = Trial().directory


def test_directories_of_other_attempts_are_paths_or_none(tmp_path: Path) -> None:
    trial = Trial(previous_directory=str(tmp_path / "rung0"), resume_directory=tmp_path / "attempt1")
    assert trial.previous_directory == tmp_path / "rung0"
    assert trial.resume_directory == tmp_path / "attempt1"
    assert (Trial().previous_directory, Trial().resume_directory) == (None, None)


def test_the_highest_budget_is_the_budget_unless_it_is_given() -> None:
    assert Trial(budget=3.0).max_budget == 3.0
    assert Trial(budget=3.0, max_budget=9.0).max_budget == 9.0


def test_the_budgets_of_the_search_are_given_or_empty() -> None:
    assert Trial(budgets=[1, 3, 9]).budgets == (1, 3, 9)
    assert Trial().budgets == ()


# ----------------------------------------------------------------------------------------------------------- device


def torch_that_sees(monkeypatch: pytest.MonkeyPatch, *, a_gpu: bool) -> None:
    torch = ModuleType("torch")
    torch.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    torch.cuda = SimpleNamespace(is_available=lambda: a_gpu)  # type: ignore[attr-defined]  # a stand-in of it
    monkeypatch.setitem(sys.modules, "torch", torch)


@pytest.mark.parametrize(
    ("tokens", "a_gpu", "device"),
    [("0", True, "cuda"), ("GPU-1a2b", False, "cpu"), ("", True, "cpu"), (None, True, "cpu")],
)
def test_the_device_is_a_gpu_where_a_token_was_given_and_torch_sees_one(
    tokens: str | None, a_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_that_sees(monkeypatch, a_gpu=a_gpu)
    if tokens is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", tokens)
    assert Trial().device == device


def test_without_torch_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert Trial().device == "cpu"


def test_the_device_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    first = trial.device
    torch_that_sees(monkeypatch, a_gpu=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert (first, trial.device) == ("cpu", "cpu")


# ----------------------------------------------------------------------------------------------------------- number

KINDS = (*("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
         *("float16", "float32", "float64", "longdouble"))


class Tensor:
    """The part of torch's tensor that ``number`` uses."""

    def __init__(self, value: Any, shape: tuple[int, ...] = ()) -> None:
        self.value, self.shape = value, shape

    def item(self) -> Any:
        return self.value

    def __float__(self) -> float:
        return float(self.value)


@pytest.mark.parametrize("kind", KINDS)
def test_every_numeric_scalar_and_0d_array_of_numpy_is_a_number(kind: str) -> None:
    for value in (np.dtype(kind).type(3), np.array(3, dtype=kind)):
        assert (number(value, "it"), type(number(value, "it"))) == (3.0, float)


@pytest.mark.parametrize("value", [3, 3.0, Fraction(3), Tensor(3.0), np.array(3.0, dtype=object)])
def test_numbers_of_other_libraries_are_numbers(value: Any) -> None:
    assert number(value, "it") == 3.0


@pytest.mark.parametrize(
    ("value", "expected"),
    [(10**400, math.inf), (-(10**400), -math.inf), (Fraction(10**400), math.inf), (np.longdouble("1e400"), math.inf)],
)
def test_a_number_beyond_every_float_is_an_infinity(value: Any, expected: float) -> None:
    assert number(value, "it") == expected


def test_a_masked_value_is_no_loss() -> None:
    assert math.isnan(number(np.ma.masked_array([1.0, 2.0], mask=True).mean(), "it"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", "it is '0.5', a str; it must be one number"),
        (b"0.5", "it is b'0.5', a bytes"),
        (None, "it is None, a NoneType"),
        (True, "it is True, a bool"),
        (np.True_, "it is (np.)?True_?, a bool"),
        (np.array(True), r"it is array\(True\), a ndarray"),
        (np.array([0.5]), r"a ndarray of shape \(1,\)"),
        (np.zeros((2, 3)), r"a ndarray of shape \(2, 3\)"),
        (Tensor(0.5, (1,)), r"a Tensor of shape \(1,\)"),
        (1j, "a complex"),
        (np.complex64(1), "a complex64"),
        (np.str_("0.5"), "a str_"),
        (np.array("0.5"), "a ndarray"),
        (np.timedelta64(5, "ns"), "a timedelta64"),
        (np.datetime64(5, "ns"), "a datetime64"),
        ([0.5], "a list"),
        ({0.5}, "a set"),
        (object(), "an object"),
    ],
)
def test_anything_else_is_refused_with_its_type(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        number(value, "it")


def test_a_long_value_is_shown_by_its_beginning() -> None:
    with pytest.raises(TypeError) as caught:
        number("x" * 10_000, "the loss")
    assert len(str(caught.value)) < 150


def test_metrics_without_a_plain_form_leave_a_note_and_the_point_stays() -> None:
    listener = Listener()
    trial = Trial(on_report=listener)
    trial.report(1, 0.5, seen={2, 1}, model=object(), accuracy=Tensor(0.25), text="x" * MAX_METRICS_BYTES)
    (point,) = listener.points
    assert (point.step, point.loss) == (1.0, 0.5)
    assert (point.metrics["seen"], point.metrics["accuracy"]) == ([1, 2], 0.25)
    assert point.metrics["model"] == "not kept: metrics['model'] is an object: return plain numbers, strings, " \
        "lists or dicts"
    assert "metrics['text'] is 65,538 bytes long" in str(point.metrics["text"])


@pytest.mark.parametrize(
    ("values", "named", "expected"),
    [
        ((1, 0.5), {"loss": 0.75, "val_loss": 0.5}, (1.0, 0.5, {"loss": 0.75, "val_loss": 0.5})),
        ((1, 0.5), {"step": 8, "self": 2, "trial": 3}, (1.0, 0.5, {"step": 8, "self": 2, "trial": 3})),
        ((1,), {"loss": 0.5, "accuracy": 1}, (1.0, 0.5, {"accuracy": 1})),
        ((1,), {"loss": 0.5, "step": 3}, (1.0, 0.5, {"step": 3})),
        ((), {"loss": 0.5, "step": 1}, (1.0, 0.5, {})),
    ],
)
def test_logs_with_keys_like_loss_and_step_are_metrics(values: Any, named: Any, expected: Any) -> None:
    listener = Listener()
    Trial(on_report=listener).report(*values, **named)
    assert [tuple(point) for point in listener.points] == [expected]


def test_a_trial_that_has_ended_drops_its_reports_with_one_note(capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener()
    trial = Trial(on_report=listener)
    trial.report(1, 0.5)
    trial.end()
    for step in (2, 3):
        trial.report(step, 0.5)
    assert ([point.step for point in listener.points], trial.has_ended) == ([1.0], True)
    assert capsys.readouterr().err.count("which has ended; such points are dropped") == 1


@pytest.mark.parametrize(
    ("count", "device", "devices"),
    [
        (None, "cpu", ("cpu",)),
        (None, "cuda", ("cuda",)),
        ("1", "cuda", ("cuda",)),
        ("2", "cpu", ("cpu", "cpu")),
        ("3", "cuda", ("cuda:0", "cuda:1", "cuda:2")),
    ],
)
def test_a_trial_has_a_device_for_each_process_of_its_training(
    count: str | None, device: str, devices: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if count is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", count)
    trial = Trial()
    trial._device = device
    assert trial.devices == devices
