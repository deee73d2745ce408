"""One call of the objective: unless it ends the process, its outcome is a value of the right class."""

from __future__ import annotations

import errno
import math
import os
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from hpbandster_lite import wire
from hpbandster_lite.problems import FunctionProblem
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, FailureKind
from hpbandster_lite.trainer import evaluation as evaluating
from hpbandster_lite.trainer.evaluation import failure_of, is_out_of_memory, run_objective
from hpbandster_lite.trainer.full_disk import full_disk
from hpbandster_lite.trainer.messages import TrainerEnded, TrainerInterrupted, TrainerOrder
from tests.unit.test_problems_trial import KINDS

ORDER = TrainerOrder(
    evaluation=EvaluationId(ConfigId(2, 0, 5), 1),
    attempt=3,
    values={"lr": 0.1},
    budget=3.0,
    max_budget=9.0,
    budgets=(1.0, 3.0, 9.0),
    unit="epochs",
    seed=11,
    directory="/nowhere/attempt3",
    previous_directory="/nowhere/rung0",
    resume_directory="/nowhere/attempt2",
)


def ended(evaluate: Callable[..., Any], order: TrainerOrder = ORDER, **hooks: Any) -> TrainerEnded:
    end = run_objective(FunctionProblem(evaluate, **hooks), order, on_report=lambda point: False)
    assert isinstance(end, TrainerEnded)
    assert (end.loss is None) or (end.failure is None)
    return end


@pytest.mark.parametrize("way", ["returns", "returns nothing", "raises", "diverges", "is interrupted"])
def test_what_an_objective_that_was_to_stop_returns_is_no_result(way: str) -> None:
    def evaluate(_config: object, _budget: float, trial: Trial) -> float | None:
        assert trial.should_stop()
        if way == "raises":
            raise RuntimeError("a process of the training has ended")
        if way == "diverges":
            raise FloatingPointError
        if way == "is interrupted":
            raise Interrupted
        return 0.5 if way == "returns" else None

    end = run_objective(FunctionProblem(evaluate), ORDER, on_report=lambda point: True, must_stop=lambda: True)
    # Only an exception may have come in the middle of a save.
    was_cut_off = way not in ("returns", "is interrupted")
    assert end == TrainerInterrupted(was_cut_off=was_cut_off)


def test_a_result_counts_if_the_objective_did_not_know_that_it_was_to_stop() -> None:
    end = run_objective(FunctionProblem(lambda *_: 0.5), ORDER, on_report=lambda point: True, must_stop=lambda: True)
    assert isinstance(end, TrainerEnded)
    assert end.loss == 0.5


def test_running_out_of_memory_is_the_outcome_of_an_objective_that_was_to_stop_too() -> None:
    def evaluate(_config: object, _budget: float, trial: Trial) -> float:
        trial.should_stop()
        raise MemoryError

    end = run_objective(FunctionProblem(evaluate), ORDER, on_report=lambda point: True, must_stop=lambda: True)
    assert isinstance(end, TrainerEnded)
    assert end.failure is not None
    assert end.failure.kind is FailureKind.MEMORY


@pytest.mark.parametrize("call", ["evaluate", "test"])
def test_whole_budgets_arrive_as_int(call: Literal["evaluate", "test"]) -> None:
    def seen(_config: object, budget: float, trial: Trial) -> dict[str, Any]:
        return {"loss": 0.0, "seen": repr((budget, trial.budget, trial.max_budget, trial.budgets))}

    hooks = {} if call == "evaluate" else {call: seen}
    order = replace(ORDER, call=call, integer_budgets=True)
    assert ended(seen, order, **hooks).info["seen"] == "(3, 3, 9, (1, 3, 9))"
    fractions = replace(order, budget=0.5, budgets=(0.5, 3.0, 9.0))
    assert ended(seen, fractions, **hooks).info["seen"] == "(0.5, 0.5, 9, (0.5, 3, 9))"
    others = replace(order, integer_budgets=False)
    assert ended(seen, others, **hooks).info["seen"] == "(3.0, 3.0, 9.0, (1.0, 3.0, 9.0))"


@pytest.mark.parametrize("call", ["evaluate", "test", "feasible"])
def test_a_list_in_the_journal_is_a_tuple_for_the_objective(call: Literal["evaluate", "test", "feasible"]) -> None:
    seen: list[Any] = []

    def look(config: Mapping[str, Any], *_: object) -> dict[str, Any]:
        seen.append(config)
        return {"loss": 0.0}

    hooks = {} if call == "evaluate" else {call: look}
    order = replace(ORDER, call="test" if call == "test" else "evaluate", values={"k": [3, [1, "a"]], "n": 3})
    ended(look, order, **hooks)
    assert seen[0] == {"k": (3, (1, "a")), "n": 3}


def of(result: Any) -> TrainerEnded:
    """The outcome of an evaluation that returns this."""
    return ended(lambda config, budget, trial: result)


def refused(result: Any) -> str:
    """The reason why a result is refused."""
    end = of(result)
    assert end.failure is not None
    assert (end.failure.kind, end.failure.traceback, end.info) == (FailureKind.INVALID, None, {})
    return end.failure.reason


def raising(error: BaseException) -> Callable[..., Any]:
    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        raise error

    return evaluate


# ------------------------------------------------------------------------------------------------------ good results


@pytest.mark.parametrize("kind", KINDS)
def test_a_bare_number_of_every_numpy_kind_is_a_loss(kind: str) -> None:
    for value in (np.dtype(kind).type(2), np.array(2, dtype=kind)):
        for result in (value, {"loss": value}):
            end = of(result)
            assert (end.loss, type(end.loss), end.failure) == (2.0, float, None)


@pytest.mark.parametrize("mapping", [dict, OrderedDict, MappingProxyType])
def test_the_other_keys_of_a_mapping_are_information_and_so_is_its_info(mapping: Callable[..., Any]) -> None:
    result = mapping({"loss": 0.5, "accuracy": np.float32(0.25), "info": {"sizes": np.arange(2), "name": "small"}})
    end = of(result)
    assert (end.loss, end.info) == (0.5, {"accuracy": 0.25, "sizes": [0, 1], "name": "small"})


def test_an_info_that_is_no_mapping_is_kept_under_its_name() -> None:
    assert of({"loss": 0.5, "info": "fine"}).info == {"info": "fine"}
    assert of({"loss": 0.5, "info": None}).info == {}


def test_an_outcome_travels_with_its_information_as_it_is() -> None:
    end = of({"loss": 0.5, "info": {1: "one", "nan": float("nan"), "name": "café \ud83d"}})
    read = wire.from_message(wire.decode(wire.encode(wire.to_message(end))), TrainerEnded)
    assert read.info.keys() == {"1", "nan", "name"}
    assert math.isnan(read.info["nan"])


def test_an_objective_is_given_its_configuration_its_budget_and_its_trial() -> None:
    seen: dict[str, Any] = {}

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        seen.update(config=config, budget=budget, trial=trial)
        return 0.5

    end = ended(evaluate)
    trial = seen["trial"]
    assert (seen["config"], seen["budget"]) == ({"lr": 0.1}, 3.0)
    assert (trial.budget, trial.max_budget, trial.unit, trial.seed) == (3.0, 9.0, "epochs", 11)
    assert trial.budgets == (1.0, 3.0, 9.0)
    assert (trial.config_id, trial.rung, trial.attempt) == (ConfigId(2, 0, 5), 1, 3)
    assert (trial.previous_directory, trial.resume_directory) == (Path("/nowhere/rung0"), Path("/nowhere/attempt2"))
    assert end.duration_s >= 0


def test_an_objective_may_change_its_configuration_without_changing_the_order() -> None:
    ended(lambda config, budget, trial: config.pop("lr"))
    assert ORDER.values == {"lr": 0.1}


# ------------------------------------------------------------------------------------------------------- bad results


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "evaluate returned None; return the loss, a number (does a branch lack its return statement?)"),
        ("0.5", "what evaluate returned is '0.5', a str; it must be one number, or a mapping with 'loss'"),
        (True, "what evaluate returned is True, a bool; it must be one number"),
        (np.array([0.5]), "a ndarray of shape (1,); it must be one number"),
        ([0.5], "what evaluate returned is [0.5], a list"),
        (0.5j, "a complex"),
        (object, "<class 'object'>, a type"),
        ({}, "evaluate returned a mapping without 'loss' (it has nothing); return {'loss': ..., ...}"),
        ({"Loss": 1.0, "info": 2}, "without 'loss' (it has 'Loss', 'info')"),
        ({"loss": None}, "the loss that evaluate returned is None, a NoneType"),
        ({"loss": "low"}, "the loss that evaluate returned is 'low', a str"),
        (float("nan"), "what evaluate returned is nan; return a finite number, or raise an error with the reason"),
        ({"loss": np.float32("inf")}, "the loss that evaluate returned is inf; return a finite number"),
        (-(10**400), "what evaluate returned is -inf"),
        (np.ma.masked, "what evaluate returned is nan"),
    ],
)
def test_a_result_that_is_none_is_refused_by_name(result: Any, reason: str) -> None:
    assert reason in refused(result)


@pytest.mark.parametrize(
    ("result", "info"),
    [
        ({"loss": 1.0, "seen": {2, 1}}, {"seen": [1, 2]}),
        ({"loss": 1.0, "file": Path("a/b")}, {"file": "a/b"}),
        ({"loss": 1.0, (1, 2): "pair"}, {"(1, 2)": "pair"}),
        ({"loss": 1.0, 1: "a", "1": "b"}, {"1": "a", "1 (2)": "b"}),
    ],
)
def test_a_good_loss_is_kept_whatever_its_information(result: Any, info: Any) -> None:
    assert (of(result).loss, of(result).info) == (1.0, info)


@pytest.mark.parametrize(
    ("info", "note"),
    [
        ({"deep": [{"model": object()}]}, "not kept: info['deep'][0]['model'] is an object"),
        ({"weights": "x" * 20_000_000}, "not kept: info['weights'] is 20,000,002 bytes long; the limit is"),
    ],
)
def test_information_without_a_plain_form_leaves_a_note(info: Any, note: str) -> None:
    end = of({"loss": 1.0, "info": info, "beside": 1})
    assert (end.loss, end.info["beside"]) == (1.0, 1)
    assert note in str(end.info)


# -------------------------------------------------------------------------------------------------------- exceptions


def test_an_exception_is_a_failure_with_its_message_and_only_the_user_s_frames() -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        return 1 / (budget - 3.0)

    failure = ended(evaluate).failure
    assert failure is not None
    assert (failure.kind, failure.reason[:18]) == (FailureKind.CODE, "ZeroDivisionError:")
    assert failure.traceback is not None
    assert failure.traceback.startswith("Traceback (most recent call last):")
    assert "return 1 / (budget - 3.0)" in failure.traceback
    assert "trainer/evaluating.py" not in failure.traceback


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(3), "the objective called sys.exit(3)"),
        (SystemExit("bad data"), "the objective called sys.exit('bad data')"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (ValueError("learning rate\ntoo high"), "ValueError: learning rate"),
    ],
)
def test_whatever_is_raised_is_the_failure_of_the_evaluation(error: BaseException, reason: str) -> None:
    failure = ended(raising(error)).failure
    assert failure is not None
    assert (failure.kind, failure.reason.startswith(reason)) == (FailureKind.CODE, True)


def test_an_exception_that_cannot_say_what_it_is_is_survived() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    failure = ended(raising(Mute())).failure
    assert failure is not None
    assert "Mute" in failure.reason


def test_a_result_that_cannot_be_looked_at_is_survived() -> None:
    class Sulky(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise LookupError("not today")

        def __iter__(self) -> Iterator[str]:
            return iter(["loss"])

        def __len__(self) -> int:
            return 1

        def __contains__(self, key: object) -> bool:
            return True

    failure = of(Sulky()).failure
    assert failure is not None
    assert (failure.kind, failure.reason) == (FailureKind.CODE, "LookupError: not today")


def test_reason_and_traceback_are_bounded_and_keep_how_they_end() -> None:
    failure = ended(raising(ValueError("x" * 100_000 + " the end"))).failure
    assert failure is not None
    assert failure.traceback is not None
    for text, limit in (
        (failure.reason, evaluating.MAX_REASON_CHARACTERS),
        (failure.traceback, evaluating.MAX_TRACEBACK_CHARACTERS),
    ):
        assert limit < len(text) < limit + 100
        assert "characters omitted" in text
        assert text.rstrip().endswith("the end")


def test_an_endless_recursion_is_a_failure_of_code() -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> Any:
        return evaluate(config, budget, trial)

    failure = ended(evaluate).failure
    assert failure is not None
    assert (failure.kind, failure.reason[:15]) == (FailureKind.CODE, "RecursionError:")
    assert len(failure.traceback or "") < evaluating.MAX_TRACEBACK_CHARACTERS + 100


def test_a_training_that_reports_its_divergence_is_an_invalid_result_with_its_reason() -> None:
    class Diverged(FloatingPointError):
        """A class of the user's own."""

    failure = ended(raising(Diverged("the loss is nan in epoch 3"))).failure
    assert failure is not None
    assert (failure.kind, failure.reason.endswith("the loss is nan in epoch 3")) == (FailureKind.INVALID, True)


# ------------------------------------------------------------------------------------------------------------ memory


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's error."""


def caused_by(error: BaseException) -> BaseException:
    outer = ValueError("the training failed")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes."),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4 bytes"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        caused_by(MemoryError()),
        caused_by(caused_by(OutOfMemoryError())),
    ],
)
def test_memory_that_ran_out_is_a_class_of_its_own(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert failure_of(error, full_disk(error, "/attempt")).kind is FailureKind.MEMORY


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory is the name of my album"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.EACCES, "Permission denied"),
        KeyError("x"),
    ],
)
def test_other_errors_are_not_put_down_to_memory(error: BaseException) -> None:
    assert failure_of(error, full_disk(error, "/attempt")).kind is FailureKind.CODE


def while_handling(error: BaseException) -> BaseException:
    """The error of an objective that fails while it cleans up after an error."""
    try:
        try:
            raise error
        except type(error):
            raise KeyError("x")  # noqa: B904 (that is the test)
    except KeyError as raised:
        return raised


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "/attempt"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "/attempt"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/cache.npy"), "/data/cache.npy"),
        (OSError(errno.ENOSPC, "No space left on device", b"/data/cache.npy"), "/data/cache.npy"),
        (RuntimeError("write failed: No space left on device"), "/attempt"),
        (RuntimeError("RESOURCE_EXHAUSTED: /cache/x; No space left on device"), "/attempt"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"), "/attempt"),
        (caused_by(OSError(errno.ENOSPC, "No space left on device")), "/attempt"),
        (while_handling(OSError(errno.ENOSPC, "No space left on device", "/x/y")), "/x/y"),
    ],
)
def test_a_disk_without_room_is_the_machine_s_fault_and_is_named(
    error: BaseException, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A disk of this machine may be full.
    monkeypatch.setattr("hpbandster_lite.trainer.full_disk.MOUNTS", Path("/nowhere"))
    failure = failure_of(error, full_disk(error, "/attempt"))
    assert failure.kind is FailureKind.INFRASTRUCTURE
    assert failure.reason.startswith(f"no room on the disk of {place}: ")
    assert failure.traceback is not None


def test_an_evaluation_that_found_no_room_says_where_the_disk_is_to_be_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A disk of this machine may be full.
    monkeypatch.setattr("hpbandster_lite.trainer.full_disk.MOUNTS", Path("/nowhere"))
    end = ended(raising(OSError(errno.ENOSPC, "No space left on device", "/data/cache.npy")))
    assert end.no_room_in == "/data"
    assert ended(raising(OSError(errno.ENOSPC, "No space left on device"))).no_room_in == ORDER.directory
    assert ended(raising(OSError(errno.EACCES, "Permission denied", "/data/cache.npy"))).no_room_in is None


@pytest.mark.parametrize(
    ("error", "is_own"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/attempt/state.pt"), True),
        (OSError(errno.EROFS, "Read-only file system", "/run/rung0"), True),
        (OSError(errno.EROFS, "Read-only file system", "/data/cache.npy"), False),
        (OSError(errno.EROFS, "Read-only file system"), False),
    ],
    ids=["in the attempt's directory", "above it", "elsewhere", "no file"],
)
def test_a_disk_that_can_only_be_read_is_the_machine_s_fault_where_attempts_write(error: OSError, is_own: bool) -> None:
    directory = "/run/rung0/attempt1" if error.filename == "/run/rung0" else "/attempt"
    found = full_disk(error, directory)
    assert (found is not None) == is_own
    if found is not None:
        assert found.reason == f"cannot write to the disk of {error.filename}: Read-only file system"


def test_an_error_without_a_file_names_the_local_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a write names no file. The trainer does not call a server that does not answer."""
    asked: list[str] = []

    def statvfs(path: Path) -> SimpleNamespace:
        asked.append(str(path))
        free = 0 if str(path) in (f"{tmp_path}/a disk", f"{tmp_path}/read only") else 10**9
        flag = os.ST_RDONLY if path.name == "read only" else 0
        return SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=10**9, f_flag=flag)

    mounts = tmp_path / "mounts"
    lines = (
        "server:/x {0}/far nfs4 rw 0 0",
        "/dev/b {0}/read\\040only ext4 ro 0 0",
        "/dev/a {0}/a\\040disk ext4 rw 0 0",
    )
    mounts.write_text("".join(f"{line.format(tmp_path)}\n" for line in lines))
    for name in ("far", "read only", "a disk"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("hpbandster_lite.trainer.full_disk.MOUNTS", mounts)
    monkeypatch.setattr("os.statvfs", statvfs)
    found = full_disk(OSError(errno.ENOSPC, "No space left on device"), "/attempt")
    assert found == (f"{tmp_path}/a disk", f"no room on the disk of {tmp_path}/a disk: No space left on device")
    assert f"{tmp_path}/far" not in asked


def test_an_error_without_a_file_names_shared_memory_where_that_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Workers of a data loader share memory through a separate file system, which is small in containers."""

    shared = "/dev/shm"  # noqa: S108 (nothing is written there)

    def statvfs(path: Path) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=0 if str(path) == shared else 10**9, f_frsize=1, f_blocks=10**9, f_flag=0)

    monkeypatch.setattr("os.statvfs", statvfs)
    found = full_disk(RuntimeError("unable to write to file </torch_12_34>: No space left on device (28)"), "/attempt")
    assert found is not None
    assert found.folder == shared
    assert found.reason.startswith("no room on the disk of /dev/shm: RuntimeError: unable to write")


@pytest.mark.parametrize(("free", "kind"), [(0, FailureKind.INFRASTRUCTURE), (10**9, FailureKind.CODE)])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"),
        OSError("1000 requested and 0 written"),
        sqlite3.OperationalError("disk I/O error"),
    ],
    ids=["torch", "numpy", "sqlite"],
)
def test_what_a_library_cannot_write_is_the_disk_s_fault_where_that_is_full(
    error: Exception, free: int, kind: FailureKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.statvfs", lambda path: SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=10**9, f_flag=0))
    assert failure_of(error, full_disk(error, "/attempt")).kind is kind


def test_errors_that_were_raised_from_each_other_in_a_ring_have_an_end() -> None:
    one, other = ValueError(), KeyError()
    one.__context__, other.__context__ = other, one
    assert failure_of(one, full_disk(one, "/attempt")).kind is FailureKind.CODE


# -------------------------------------------------------------------------------------------- feasible, interruptions


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (False, "refused by feasible(config)"),
        (np.False_, "refused by feasible(config)"),
        (0, "refused by feasible(config)"),
        ("", "refused by feasible(config)"),
        ("needs 90 GiB", "needs 90 GiB"),
    ],
)
def test_an_infeasible_configuration_is_not_evaluated(answer: Any, reason: str) -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        pytest.fail("evaluated")

    failure = ended(evaluate, feasible=lambda config: answer).failure
    assert failure is not None
    assert (failure.kind, failure.reason, failure.traceback) == (FailureKind.INFEASIBLE, reason, None)


@pytest.mark.parametrize("answer", [True, np.True_, None, 1])
def test_a_feasible_configuration_is_evaluated(answer: Any) -> None:
    assert ended(lambda config, budget, trial: 0.5, feasible=lambda config: answer).loss == 0.5


def test_feasible_may_not_change_what_is_evaluated() -> None:
    assert ended(lambda config, budget, trial: config["lr"], feasible=lambda config: config.clear()).loss == 0.1


def test_an_error_in_feasible_is_a_failure_of_code() -> None:
    failure = ended(lambda config, budget, trial: 0.5, feasible=lambda config: config["depth"] > 3).failure
    assert failure is not None
    assert (failure.kind, failure.reason) == (FailureKind.CODE, "KeyError: 'depth'")


def test_an_interruption_is_no_outcome() -> None:
    points: list[CurvePoint] = []

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        try:
            trial.report(1, 0.5)
        except Exception:  # noqa: BLE001 (what an unpolite objective does)
            return 0.0
        return 1.0

    def take(point: CurvePoint) -> bool:
        points.append(point)
        return True

    assert run_objective(FunctionProblem(evaluate), ORDER, on_report=take) == TrainerInterrupted()
    assert points == [CurvePoint(1.0, 0.5)]


# -------------------------------------------------------------------------------------------------------------- test


def figures_of(test: Callable[..., Any]) -> TrainerEnded:
    order = TrainerOrder(**{name: getattr(ORDER, name) for name in ORDER.__slots__} | {"call": "test"})
    return ended(lambda config, budget, trial: pytest.fail("evaluated"), order, test=test)


def test_test_figures_are_information_without_a_loss() -> None:
    end = figures_of(lambda config, budget, trial: {"error": np.float64(budget), "from": str(trial.previous_directory)})
    assert (end.loss, end.failure, end.info) == (None, None, {"error": 3.0, "from": "/nowhere/rung0"})


def test_a_test_figure_without_a_plain_form_leaves_a_note_and_the_others_stay() -> None:
    end = figures_of(lambda config, budget, trial: {"error": 0.5, "model": object(), "file": Path("a")})
    assert (end.failure, end.info["error"], end.info["file"]) == (None, 0.5, "a")
    assert "not kept: test['model'] is an object" in str(end.info["model"])


@pytest.mark.parametrize(
    ("figures", "reason"),
    [(0.5, "test returned a float; return a mapping such as"), (None, "test returned a NoneType")],
)
def test_test_figures_that_are_none_are_refused(figures: Any, reason: str) -> None:
    failure = figures_of(lambda config, budget, trial: figures).failure
    assert failure is not None
    assert failure.kind is FailureKind.INVALID
    assert reason in failure.reason


# ----------------------------------------------------------------------------------------------------------- maximize


def maximized(evaluate: Callable[..., Any]) -> tuple[TrainerEnded, list[CurvePoint]]:
    """The end and the points of an evaluation in a search that maximizes."""
    points: list[CurvePoint] = []

    def take(point: CurvePoint) -> bool:
        points.append(point)
        return False

    end = run_objective(FunctionProblem(evaluate), replace(ORDER, maximize=True), on_report=take)
    assert isinstance(end, TrainerEnded)
    return end, points


@pytest.mark.parametrize(
    ("result", "loss", "info"),
    [
        (0.75, -0.75, {}),
        (-2, 2.0, {}),
        ({"value": 0.75, "epochs": 3}, -0.75, {"epochs": 3}),
        ({"loss": 0.75, "epochs": 3}, -0.75, {"epochs": 3}),
        ({"value": 0.75, "loss": 0.1}, -0.75, {"loss": 0.1}),
        ({"value": 0.75, "info": {"loss": 0.1}}, -0.75, {"loss": 0.1}),
    ],
)
def test_what_is_to_be_large_is_a_loss_with_the_other_sign(result: Any, loss: float, info: dict[str, Any]) -> None:
    end, _ = maximized(lambda config, budget, trial: result)
    assert (end.loss, end.info) == (loss, info)


def test_points_of_what_is_to_be_large_have_the_other_sign() -> None:
    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        trial.report(1, 0.25, loss=3.0)
        trial.report(2, value=0.5)
        trial.report(step=3, loss=0.75)
        trial.report(4, math.nan)
        return 1.0

    _, points = maximized(evaluate)
    assert points[:3] == [(1.0, -0.25, {"loss": 3.0}), (2.0, -0.5, {}), (3.0, -0.75, {})]
    assert math.isnan(points[3].loss)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "evaluate returned None; return the value, a number"),
        (math.inf, "what evaluate returned is inf; return a finite number"),
        ({"accuracy": 1.0}, "evaluate returned a mapping without 'value' (it has 'accuracy'); return {'value': ...,"),
        ({"value": "high"}, "the value that evaluate returned is 'high', a str; it must be one number"),
    ],
    ids=["none", "infinite", "no value", "text"],
)
def test_an_invalid_value_is_refused_as_a_value(result: Any, reason: str) -> None:
    end, _ = maximized(lambda config, budget, trial: result)
    assert end.failure is not None
    assert end.failure.reason.startswith(reason)


def test_a_report_without_a_value_is_refused_as_a_value() -> None:
    end, _ = maximized(lambda config, budget, trial: trial.report(1))
    assert end.failure is not None
    assert "trial.report requires the value: trial.report(epoch, value)" in end.failure.reason


def test_a_late_report_of_another_trial_is_noted_beside_the_loss() -> None:
    trials: list[Trial] = []

    def evaluate(_config: object, _budget: float, trial: Trial) -> float:
        trials.append(trial)
        for each in trials:
            each.report(1, 0.5)
            each.report(2, 0.5)
        return 0.5

    assert ended(evaluate).info == {}
    (note,) = ended(evaluate).info["notes"]
    assert "which has ended; such points are dropped" in str(note)
