"""State that one evaluation leaves in the trainer's process, and how it is restored before the next one."""

from __future__ import annotations

import ctypes
import functools
import io
import itertools
import json
import logging
import os
import random
import sys
import threading
import time
import types
import unittest.mock
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hpbandster_lite.trainer.library_state import LibraryState
from hpbandster_lite.trainer.process_state import PARTS


def fails(*_: object, **__: object) -> Any:
    """What an evaluation left, and the next one runs into."""
    raise RuntimeError("left by an evaluation")


class OtherLogger(logging.Logger):
    """A class that an evaluation set."""


def _enter_saved_tensors_hooks() -> None:
    torch.autograd.graph.saved_tensors_hooks(fails, fails).__enter__()


def _train() -> None:
    net = torch.nn.Linear(2, 1)
    net.register_parameter("extra", torch.nn.Parameter(torch.ones(1)))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net(torch.ones(4, 2, requires_grad=True)).square().sum().backward()
    optimizer.step()


CHANGES_OF_TORCH: dict[str, Callable[[], object]] = {
    "saved tensors": _enter_saved_tensors_hooks,
    "forward": lambda: torch.nn.modules.module.register_module_forward_hook(fails),
    "forward, first": lambda: torch.nn.modules.module.register_module_forward_pre_hook(fails),
    "backward": lambda: torch.nn.modules.module.register_module_full_backward_hook(fails),
    "parameters": lambda: torch.nn.modules.module.register_module_parameter_registration_hook(fails),
    "optimizer": lambda: register_optimizer_step_pre_hook(fails),
}


@pytest.mark.parametrize("change", CHANGES_OF_TORCH.values(), ids=CHANGES_OF_TORCH)
def test_hooks_for_everything_in_torch_are_removed(change: Callable[[], object]) -> None:
    libraries = LibraryState()
    change()
    with pytest.raises(RuntimeError, match="left by an evaluation"):
        _train()
    assert libraries.restore() == []
    _train()


def test_the_global_generator_of_numpy_is_the_same_one_after_each_evaluation() -> None:
    libraries = LibraryState()
    libraries.seed(3)
    drawn = np.random.rand()  # noqa: NPY002 (the global generator is what is restored)
    np.random.set_bit_generator(np.random.PCG64(1))  # type: ignore[attr-defined] # numpy's stubs lack it
    assert libraries.restore() == []
    libraries.seed(3)
    assert np.random.rand() == drawn  # noqa: NPY002 (the global generator is tested)


def test_a_replaced_function_that_seeds_does_not_end_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = LibraryState()
    for module, name in ((random, "seed"), (np.random, "seed"), (torch, "manual_seed")):
        monkeypatch.setattr(module, name, fails)
    assert libraries.restore() == []
    libraries.seed(1)
    first = random.random(), torch.rand(1).item()
    libraries.seed(1)
    assert (random.random(), torch.rand(1).item()) == first


def test_a_tracer_for_new_threads_does_not_stop_the_threads_of_the_next_evaluation() -> None:
    restore = PARTS["the interpreter's settings"]()
    threading.settrace(fails)
    threading.setprofile(fails)
    threading.stack_size(2**20)
    restore()
    assert (threading.gettrace(), threading.getprofile(), threading.stack_size()) == (None, None, 0)


def test_the_executable_and_the_hooks_of_generators_are_restored() -> None:
    executable, hooks = sys.executable, sys.get_asyncgen_hooks()
    restore = PARTS["the interpreter's settings"]()
    sys.executable = "/nowhere"
    sys.set_asyncgen_hooks(fails)
    restore()
    assert (sys.executable, sys.get_asyncgen_hooks()) == (executable, hooks)


def test_the_class_of_loggers_and_their_records_are_restored() -> None:
    factory = logging.getLogRecordFactory()
    restore = PARTS["logging"]()
    logging.setLoggerClass(OtherLogger)
    logging.setLogRecordFactory(fails)  # an evaluation's mistake
    logging.captureWarnings(True)
    restore()
    assert (logging.getLoggerClass(), logging.getLogRecordFactory()) == (logging.Logger, factory)
    assert logging._warnings_showwarning is None  # type: ignore[attr-defined]  # of the standard library


def test_a_stream_keeps_its_encoding_and_its_own_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8", "backslashreplace", line_buffering=True))
    restore = PARTS["the standard streams"]()
    # A real file.
    sys.stdout.reconfigure(encoding="ascii", errors="strict", line_buffering=False)  # type: ignore[union-attr]
    sys.stdout.write = fails  # type: ignore[method-assign] # as an evaluation may do
    restore()
    print("über", flush=True)
    assert written.getvalue() == "über\n".encode()
    assert (sys.stdout.encoding, sys.stdout.line_buffering) == ("utf-8", True)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (time, "sleep"),
        (random, "random"),
        (os, "getcwd"),
        (np, "sum"),
        (np.random, "rand"),
        (np.linalg, "norm"),
        (torch, "rand"),
        (torch.Tensor, "backward"),
        (torch.nn.functional, "relu"),
        (torch.nn.Linear, "forward"),
        (torch.nn.Module, "__call__"),
        (torch.optim.SGD, "step"),
        (logging.Logger, "warning"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_functions_and_methods_that_were_replaced_are_put_back(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = vars(owner)[name]
    libraries = LibraryState()
    for other in (fails, unittest.mock.Mock(), functools.partial(fails, 1), len):
        monkeypatch.setattr(owner, name, other)
        assert libraries.restore_functions() == []
        assert vars(owner)[name] is before
    monkeypatch.delattr(owner, name)
    assert libraries.restore_functions() == []
    assert vars(owner)[name] is before
    monkeypatch.undo()


def test_a_function_that_an_installed_library_replaces_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = LibraryState()
    monkeypatch.setattr(time, "sleep", torch.manual_seed)
    monkeypatch.setattr(time, "monotonic", fails)
    for _ in range(2):
        assert libraries.restore_functions() == []
        assert vars(time)["sleep"] is torch.manual_seed
    assert time.monotonic is not fails


def test_an_audit_hook_needs_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "addaudithook", added := unittest.mock.Mock(__name__="addaudithook"))
    restore = PARTS["audit hooks"]()
    restore()
    sys.addaudithook(fails)
    added.assert_called_once_with(fails)
    with pytest.raises(RuntimeError, match="1 were added, which Python cannot remove"):
        restore()


def test_modules_that_are_gone_or_replaced_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    restore = PARTS["imported modules"]()
    monkeypatch.delitem(sys.modules, "json")
    monkeypatch.setitem(sys.modules, "random", np.random)
    restore()
    assert (sys.modules["json"], sys.modules["random"]) == (json, random)


def test_what_putenv_changes_past_the_environment_of_python_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANGED", "before")
    monkeypatch.setenv("REMOVED", "before")
    restore = PARTS["environment variables"]()
    os.putenv("ADDED", "1")
    os.putenv("CHANGED", "1")
    os.unsetenv("REMOVED")
    assert of_c() == {b"ADDED": b"1", b"CHANGED": b"1"}
    restore()
    assert of_c() == {b"CHANGED": b"before", b"REMOVED": b"before"}


def of_c() -> dict[bytes, bytes]:
    pointers: Any = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    entries = (each.partition(b"=") for each in itertools.takewhile(bool, pointers) if each)
    return {name: value for name, _, value in entries if name in (b"ADDED", b"CHANGED", b"REMOVED")}


def test_a_time_zone_that_was_set_and_removed_again_is_restored() -> None:
    restore = PARTS["environment variables"]()
    before = time.tzname
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    del os.environ["TZ"]
    assert time.tzname == ("JST", "JST")
    restore()
    assert time.tzname == before


def test_settings_of_other_libraries_are_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    class Parameters(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise AssertionError("reading chooses a backend")

    plots, jax = types.ModuleType("matplotlib"), types.ModuleType("jax")
    plots.rcParams = Parameters(backend="auto")  # type: ignore[attr-defined]  # a stand-in of it
    values = {"jax_enable_x64": False}
    # A stand-in of it.
    jax.config = types.SimpleNamespace(values=values, update=values.__setitem__)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "matplotlib", plots)
    monkeypatch.setitem(sys.modules, "jax", jax)
    libraries = LibraryState()
    dict.update(plots.rcParams, backend="agg")
    values["jax_enable_x64"] = True
    pd.set_option("display.max_rows", 3)
    np.setbufsize(1600)
    sharing: Any = torch.multiprocessing
    sharing.set_sharing_strategy("file_system")
    assert libraries.restore() == []
    assert (dict.get(plots.rcParams, "backend"), values["jax_enable_x64"]) == ("auto", False)
    assert (pd.get_option("display.max_rows"), np.getbufsize()) != (3, 1600)
    assert sharing.get_sharing_strategy() == "file_descriptor"


def test_settings_that_make_another_library_fail_or_compute_otherwise_are_restored() -> None:
    import calendar
    import csv

    from scipy import special

    future, distribution = torch.__future__, torch.distributions.Distribution
    deterministic: Any = torch.utils.deterministic
    reads: dict[str, Callable[[], Any]] = {
        "scipy.special": special.geterr,
        "csv": csv.field_size_limit,
        "calendar": calendar.firstweekday,
        "torch.distributions": lambda: distribution._validate_args,
        "torch.__future__": lambda: (
            future.get_swap_module_params_on_conversion(),
            future.get_overwrite_module_params_on_conversion(),
        ),
        "torch.hub": torch.hub.get_dir,
        "fill": lambda: deterministic.fill_uninitialized_memory,
        "autocast": lambda: (torch.get_autocast_dtype("cpu"), torch.is_autocast_cache_enabled()),
    }
    before = {name: read() for name, read in reads.items()}
    libraries = LibraryState()
    special.seterr(all="raise")
    csv.field_size_limit(10)
    calendar.setfirstweekday(3)
    distribution.set_default_validate_args(not before["torch.distributions"])
    future.set_swap_module_params_on_conversion(True)
    future.set_overwrite_module_params_on_conversion(True)
    torch.hub.set_dir("/nonexistent")
    deterministic.fill_uninitialized_memory = False
    torch.set_autocast_dtype("cpu", torch.float16)
    torch.set_autocast_cache_enabled(False)
    assert [name for name, read in reads.items() if read() == before[name]] == []
    assert libraries.restore() == []
    assert {name: read() for name, read in reads.items()} == before


def test_a_mode_of_torch_that_is_not_left_needs_a_new_process() -> None:
    libraries = LibraryState()
    mode: Any = torch.overrides.BaseTorchFunctionMode()
    mode.__enter__()
    try:
        assert [each.partition(" (")[0] for each in libraries.restore()] == ["torch"]
    finally:
        mode.__exit__(None, None, None)
    assert libraries.restore() == []
