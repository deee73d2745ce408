"""A problem whose objective misbehaves according to its configuration: what a worker must survive."""

from __future__ import annotations

import contextlib
import ctypes
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.problems.trial import Interrupted, Trial

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

min_budget, max_budget, unit = 1, 9, "steps"
_evaluated: list[str] = []


def space() -> ConfigurationSpace:
    # Imported here: the start of a new trainer after each deed takes 0.2 s instead of 1.2 s.
    from ConfigSpace import Categorical, ConfigurationSpace

    return ConfigurationSpace(space=[Categorical("do", sorted(DEEDS))])


def feasible(config: dict[str, Any]) -> bool | str:
    return "never mind" if config["do"] == "infeasible" else True


def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    _evaluated.append(config["do"])
    print(f"begin {config['do']}")
    return DEEDS[config["do"]](config, budget, trial)


def test(config: dict[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
    return {"tested": config["do"], "budget": budget, "previous": str(trial.previous_directory)}


def _ok(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    return {"loss": budget, "pid": os.getpid(), "info": {"evaluated": list(_evaluated)}}


def _environment(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "HPBANDSTER_LITE_KEY")
    modules = [name for name in ("ConfigSpace", "numpy", "pandas", "psutil", "scipy", "torch") if name in sys.modules]
    return {"loss": 0, "environment": {name: os.environ.get(name) for name in names}, "modules": modules,
            "group": os.getpgrp(), "session": os.getsid(0), "pid": os.getpid(), "device": trial.device}


def _trial(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    (trial.directory / "checkpoint.json").write_text(json.dumps({"seed": trial.seed}))
    return {"loss": 0, "budget": trial.budget, "max_budget": trial.max_budget, "unit": trial.unit, "seed": trial.seed,
            "config_id": list(trial.config_id), "rung": trial.rung, "attempt": trial.attempt,
            "directory": str(trial.directory),
            "previous": trial.previous_directory and str(trial.previous_directory),
            "resume": trial.resume_directory and str(trial.resume_directory)}


def _curve(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    for step in range(5):
        trial.report(step, 1 / (step + 1), accuracy=step / 5)
    return 0.25


def _saves_until_interrupted(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    start = 0
    if trial.resume_directory is not None:
        start = int((trial.resume_directory / "step").read_text())
    for step in range(start, 10_000):
        # A kill within a plain write would leave an empty file.
        (trial.directory / "next").write_text(str(step))
        (trial.directory / "next").rename(trial.directory / "step")
        trial.report(step, 1.0)
        time.sleep(0.005)
    return 1.0


def _asks_until_it_must_stop(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    trial.report(0, 1.0)
    # A stop that arrives within the report raises there.
    (trial.directory / "asks").write_text("from now on")
    while not trial.should_stop():
        time.sleep(0.001)
    (trial.directory / "saved").write_text("after it was asked to stop")
    raise Interrupted


def _deaf(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # Reports its start, and then ignores interrupts.
    trial.report(0, 1.0)
    while True:
        time.sleep(60)


def _spins(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # In C, with the interpreter's lock held: no signal handler and no Python thread runs.
    subprocess.Popen(["sleep", "600"])
    trial.report(0, 1.0, group=os.getpgrp())
    ctypes.PyDLL(None).sleep(600)


def _raises(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    def deeper() -> None:
        raise ValueError("learning rate too high")

    deeper()


def _swallows(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # An objective may catch every Exception; Interrupted is not a subclass of it.
    while True:
        try:
            trial.report(0, 1.0)
            time.sleep(0.005)
        except Exception:  # noqa: BLE001, PERF203, S112 (this is the behaviour to be survived)
            continue


def _floods(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    for number in range(200_000):
        print(f"line {number} {'x' * 60}")
    return 0.5


def _children(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    plain = subprocess.Popen(["sleep", "600"])
    detached = subprocess.run(
        ["setsid", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $!"], stdout=subprocess.PIPE, text=True, check=True
    )
    trial.report(-1, 0.0, pids=[plain.pid, int(detached.stdout)])
    return {"loss": 0, "pids": [plain.pid, int(detached.stdout)]}


def _process_then_wait(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # Like a training on several GPUs: it waits for its other process.
    other = subprocess.Popen(["sleep", "600"])
    for step in range(10_000):
        (trial.directory / "step").write_text(str(step))
        trial.report(step, 1.0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise RuntimeError(f"the other process ended with {other.wait(0.2)}")


def _children_then_wait(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    _children(config, budget, trial)
    _saves_until_interrupted(config, budget, trial)


def _children_then_crash(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    _children(config, budget, trial)
    os.kill(os.getpid(), signal.SIGSEGV)


def _forks(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    return {"loss": 0, "child": os.fork()}


def _forks_and_waits(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    codes = {}
    for deed in ("returns", "sys.exit", "raises", "SIGTERM"):
        child = os.fork()
        if child == 0:
            if deed == "sys.exit":
                sys.exit(3)
            if deed == "raises":
                raise RuntimeError("in a child")
            if deed == "SIGTERM":
                time.sleep(600)
            return 0.5
        if deed == "SIGTERM":
            os.kill(child, signal.SIGTERM)
        codes[deed] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"loss": 0, "codes": codes}


def _garbage(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # Writes to every descriptor that may be the trainer's pipe.
    for descriptor in range(3, 1024):
        try:
            os.write(descriptor, b"garbage\n" * 1_000)
        except OSError:  # noqa: PERF203 (most of them are not open)
            continue
    trial.report(1, 0.5)
    return 0.5


def _closes(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    os.closerange(3, 1024)
    time.sleep(60)


def _out_of_memory(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    class OutOfMemoryError(RuntimeError):
        pass

    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _memory_limit(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    return len(bytearray(2**32))


def _kills_itself(number: int) -> Callable[..., Any]:
    def deed(config: dict[str, Any], budget: float, trial: Trial) -> Any:
        if number == signal.SIGTERM:
            # The trainer's handler requests a grace period; the default action ends a process before it sets its
            # handler.
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        time.sleep(60)

    return deed


def _signals_its_group(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    os.killpg(0, signal.SIGTERM)
    trial.report(0, 1.0)


def _signals_its_worker(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # The worker is the parent of the trainer; sh is a child of the trainer.
    # It lives for a moment after the signals: the sender of a signal is looked up in /proc.
    command = f"kill {os.getppid()}; sleep 0.05; kill -INT {os.getppid()}; sleep 0.2"
    subprocess.run(["sh", "-c", command], check=True)
    _saves_until_interrupted(config, budget, trial)


def _exits(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    os._exit(7)


def _sys_exits(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    sys.exit(3)


def _finishes_and_dies(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # Dies between its result and the next order.
    subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -9 {os.getpid()}"])
    return 0.125


def _reports_from_forks(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    children = [os.fork() for _ in range(3)]
    # Each child forks the later ones again: eight processes report at once.
    for step in range(20):
        # Steps of their own: a step counts once, whichever process reports it.
        trial.report(100 * os.getpid() + step, 0.5, pid=os.getpid(), text="x" * 20_000)
    if 0 in children:
        for child in filter(None, children):
            os.waitpid(child, 0)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    return 0.5


def _reports_in_a_child(trial: Trial) -> None:
    trial.report(1, 0.25, text="x" * 20_000)


def _reports_from_a_spawned_child(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    child = multiprocessing.get_context("spawn").Process(target=_reports_in_a_child, args=(trial,))
    child.start()
    child.join()
    trial.report(2, 0.5)
    return float(child.exitcode or 0)


_kept: list[Trial] = []


def _reports_on_kept_trials(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    # Like a callback that stays on a cached model.
    _kept.append(trial)
    for step in range(3):
        for each in _kept:
            each.report(step, float(len(_kept)))
    return 0.5


def _leaves_a_child_that_reports(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    if os.fork() == 0:
        with contextlib.suppress(BaseException):
            while True:
                trial.report(99, 99.0)
                time.sleep(0.01)
        os._exit(0)
    return 0.5


class Own:
    pass


DEEDS: dict[str, Callable[..., Any]] = {
    "ok": _ok,
    "environment": _environment,
    "trial": _trial,
    "curve": _curve,
    "saves until interrupted": _saves_until_interrupted,
    "asks until it must stop": _asks_until_it_must_stop,
    "deaf": _deaf,
    "spins": _spins,
    "raises": _raises,
    "swallows": _swallows,
    "floods": _floods,
    "children": _children,
    "children then crash": _children_then_crash,
    "children then wait": _children_then_wait,
    "a second process, then waits": _process_then_wait,
    "forks": _forks,
    "forks and waits": _forks_and_waits,
    "garbage": _garbage,
    "reports from forks": _reports_from_forks,
    "reports from a spawned child": _reports_from_a_spawned_child,
    "reports on kept trials": _reports_on_kept_trials,
    "leaves a child that reports": _leaves_a_child_that_reports,
    "closes": _closes,
    "out of memory": _out_of_memory,
    "memory limit": _memory_limit,
    "exits": _exits,
    "signals its group": _signals_its_group,
    "signals its worker": _signals_its_worker,
    "sys.exits": _sys_exits,
    "finishes and dies": _finishes_and_dies,
    "infeasible": _ok,
    "nan": lambda *_: float("nan"),
    "text": lambda *_: "0.5",
    "own object": lambda *_: Own(),
    "own object inside": lambda *_: {"loss": 1.0, "model": Own()},
    "20 MB": lambda *_: {"loss": 1.0, "weights": "x" * 20_000_000},
    **{
        number.name: _kills_itself(number)
        for number in (
            signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL
        )
    },
}
"""Deeds by name."""
REFERENCE = str(Path(__file__).resolve())
