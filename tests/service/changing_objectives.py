"""A problem whose objective changes its process according to its configuration, or checks that a change is undone.

``do`` names a change, or ``check`` and a change; a check that finds the change raises an error.
"""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import decimal
import faulthandler
import json
import locale
import logging
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from hpbandster_lite.problems.trial import Trial

Step: TypeAlias = Callable[[Trial], object]
_variable = contextvars.ContextVar("variable", default="as imported")
_at_import = {
    "directory": str(Path.cwd()),
    "path": list(sys.path),
    "print": builtins.print,
    "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    "cores": os.sched_getaffinity(0),
    "locale": locale.setlocale(locale.LC_ALL),
}
_kept: list[Any] = []
_own_handler = logging.StreamHandler(sys.stderr)
logging.getLogger("own").addHandler(_own_handler)


def space() -> Any:
    from ConfigSpace import Categorical, ConfigurationSpace

    return ConfigurationSpace(space=[Categorical("do", ["a", "b"])])


def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    do: str = config["do"]
    change, check = CHANGES[do.removeprefix("check ")]
    (check if do.startswith("check ") else change)(trial)
    return {"loss": 1.0, "pid": os.getpid()}


def equal(found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"found {found!r}, not {wanted!r}")


def many(*steps: Callable[[], object]) -> Step:
    def step(trial: Trial) -> None:
        for each in steps:
            each()

    return step


def _deleted_directory(trial: Trial) -> None:
    os.chdir(tempfile.mkdtemp())
    shutil.rmtree(Path.cwd())


def _replace_stream(trial: Trial) -> None:
    # Its finalizer closes the descriptor.
    sys.stdout = os.fdopen(1, "w")


def _detach(trial: Trial) -> None:
    stream: Any = sys.stdout
    stream.detach()


def _print(trial: Trial) -> None:
    print("visible")
    print("visible", file=sys.stderr)
    os.write(1, b"visible")


def _own_loop(trial: Trial) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.close()


def _run_in_the_loop(trial: Trial) -> None:
    async def nothing() -> None:
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.get_event_loop().run_until_complete(nothing())
    asyncio.set_event_loop(None)


def _close_standard_error(trial: Trial) -> None:
    sys.stderr.close()


def _log_to_own_handler(trial: Trial) -> None:
    equal(logging.getLogger("own").handlers, [_own_handler])
    equal(_own_handler.stream.closed, False)


def _handlers(trial: Trial) -> None:
    for name in (None, "own", "made here"):
        logger = logging.getLogger(name)
        logger.addHandler(logging.FileHandler(trial.directory / "own.log"))
        logger.setLevel(1)
    logging.disable(logging.CRITICAL)
    logging.getLogger("own").propagate = False


def _check_handlers(trial: Trial) -> None:
    equal([len(logging.getLogger(name).handlers) for name in (None, "own", "made here")], [0, 1, 0])
    equal((logging.root.level, logging.root.manager.disable), (logging.WARNING, 0))
    equal((logging.getLogger("own").level, logging.getLogger("own").propagate), (0, True))


def _wait_for_children(trial: Trial) -> None:
    child = os.fork()
    if child == 0:
        os._exit(3)
    equal(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 3)


def _set_start_method(trial: Trial) -> None:
    multiprocessing.set_start_method("spawn")


def _raise(trial: Trial) -> None:
    raise ValueError("a wrong learning rate")


def _return(trial: Trial) -> None:
    pass


def _limit(trial: Trial) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _open_many(trial: Trial) -> None:
    for each in [os.dup(1) for _ in range(60)]:
        os.close(each)


def _replace_functions(trial: Trial) -> None:
    for module, name in ((time, "sleep"), (random, "random"), (os, "dup"), (json, "dumps"), (np.random, "rand")):
        setattr(module, name, _fails)
    Path.mkdir = _fails  # type: ignore[method-assign]  # a fault of the objective
    sys.modules.clear()


def _fails(*_: object, **__: object) -> Any:
    raise ValueError("left by another evaluation")


def _use_functions(trial: Trial) -> None:
    time.sleep(0.001)
    os.close(os.dup(1))
    equal(0 <= random.random() + float(np.random.rand()) <= 2, True)  # noqa: NPY002 (the global generator)
    (trial.directory / "new").mkdir()
    equal((json.dumps(1), sys.modules["json"] is json), ("1", True))


def _environment_of_programs() -> tuple[str, ...]:
    shown = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(each for each in shown if each.startswith(("PUT=", "LANG=")))


_at_import["programs"] = _environment_of_programs()


def _patch_print(trial: Trial) -> None:
    builtins.print = lambda *_, **__: None


CHANGES: dict[str, tuple[Step, Step]] = {
    "chdir": (lambda _: os.chdir("/"), lambda _: equal(str(Path.cwd()), _at_import["directory"])),
    "deleted directory": (_deleted_directory, lambda _: equal(str(Path.cwd()), _at_import["directory"])),
    "closed stdout": (lambda _: sys.stdout.close(), _print),
    "closed stderr": (_close_standard_error, _log_to_own_handler),
    "closed descriptors": (lambda _: os.closerange(0, 3), _print),
    "replaced stdout": (_replace_stream, _print),
    "detached stdout": (_detach, _print),
    "redirected stdout": (lambda trial: os.dup2(os.open("/dev/null", os.O_WRONLY), 1), _print),
    "alarm": (lambda _: signal.alarm(1), lambda _: time.sleep(1.2)),
    "timer": (lambda _: signal.setitimer(signal.ITIMER_REAL, 0.3), lambda _: time.sleep(0.4)),
    "watchdog": (lambda _: faulthandler.dump_traceback_later(0.3, exit=True), lambda _: time.sleep(0.5)),
    "umask": (lambda _: os.umask(0o777), lambda trial: (trial.directory / "new").mkdir()),
    "handler": (
        lambda _: signal.signal(signal.SIGTERM, signal.SIG_DFL),
        lambda _: equal(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, False),
    ),
    "signal mask": (
        lambda _: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}),
        lambda _: equal(signal.pthread_sigmask(signal.SIG_BLOCK, ()), set()),
    ),
    "ignored SIGCHLD": (lambda _: signal.signal(signal.SIGCHLD, signal.SIG_IGN), _wait_for_children),
    "warnings": (lambda _: warnings.simplefilter("error"), lambda _: warnings.warn("a word", stacklevel=2)),
    "captured warnings": (
        lambda _: logging.captureWarnings(True),
        lambda _: equal(warnings.showwarning.__module__, "warnings"),
    ),
    "sys.path": (lambda _: sys.path.clear(), lambda _: equal(sys.path, _at_import["path"])),
    "replaced sys.path": (lambda _: setattr(sys, "path", []), lambda _: equal(sys.path, _at_import["path"])),
    "environment": (
        many(lambda: os.environ.update(CHANGED="1"), lambda: os.environ.pop("PATH")),
        lambda _: equal(("CHANGED" in os.environ, "PATH" in os.environ), (False, True)),
    ),
    "replaced environment": (
        lambda _: setattr(os, "environ", {}),
        lambda _: equal("PATH" in os.environ, True),
    ),
    "environment of C": (
        many(lambda: os.putenv("PUT", "1"), lambda: os.putenv("LANG", "none"), lambda: os.unsetenv("PATH")),
        lambda _: equal((_environment_of_programs(), bool(shutil.which("env"))), (_at_import["programs"], True)),
    ),
    "functions": (_replace_functions, _use_functions),
    "time zone": (
        many(lambda: os.environ.update(TZ="Asia/Tokyo"), time.tzset),
        lambda _: equal(time.timezone == -9 * 3600, False),
    ),
    "random": (lambda _: random.seed(3), lambda _: random.random()),
    "locale": (
        lambda _: locale.setlocale(locale.LC_ALL, "C"),
        lambda _: equal(locale.setlocale(locale.LC_ALL), _at_import["locale"]),
    ),
    "handlers": (_handlers, _check_handlers),
    "print": (_patch_print, lambda _: equal(builtins.print is _at_import["print"], True)),
    "recursion": (lambda _: sys.setrecursionlimit(80), lambda _: equal(sys.getrecursionlimit(), 1000)),
    "sockets": (lambda _: socket.setdefaulttimeout(0.001), lambda _: equal(socket.getdefaulttimeout(), None)),
    "open files": (_limit, _open_many),
    "cores": (
        lambda _: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
        lambda _: equal(os.sched_getaffinity(0), _at_import["cores"]),
    ),
    "decimals": (
        lambda _: setattr(decimal.getcontext(), "prec", 2),
        lambda _: equal(decimal.getcontext().prec, 28),
    ),
    "context variable": (lambda _: _variable.set("changed"), lambda _: equal(_variable.get(), "as imported")),
    "start method": (_set_start_method, _set_start_method),
    "closed loop": (_own_loop, _run_in_the_loop),
    "loop": (_run_in_the_loop, _run_in_the_loop),
    "temporary directory": (
        lambda _: setattr(tempfile, "tempdir", "/no/such/directory"),
        lambda _: equal(tempfile.gettempdir() == "/no/such/directory", False),
    ),
    "exception": (_raise, _return),
}
"""The change of an evaluation, and the action or check of the next one; both succeed in a new process."""


def _thread(target: Callable[[], object], **about: Any) -> Step:
    return lambda _: threading.Thread(target=target, **about).start()


def _spins() -> None:
    while True:
        time.sleep(0.01)


def _leak_files(trial: Trial) -> None:
    _kept.extend(os.dup(1) for _ in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 2 // 3))


def _lose_the_loggers(trial: Trial) -> None:
    setattr(logging.root, "manager", None)  # noqa: B010 (as an evaluation may do; nothing restores it)


RENEWED: dict[str, tuple[Step, str]] = {
    "thread": (_thread(threading.Event().wait, name="waits"), "the objective left threads running: waits"),
    "own daemon": (_thread(_spins, name="spins", daemon=True), "the objective left threads running: spins"),
    "own timer": (lambda _: _daemon_timer().start(), "the objective left threads running: "),
    "CUDA": (lambda _: _cuda_error(), "the objective ended with an error of the GPU's libraries"),
    "open file leak": (_leak_files, "open files; its limit is"),
    "loggers": (_lose_the_loggers, "the objective changed what cannot be restored: logging (AttributeError"),
    "child": (lambda _: os.posix_spawn("/bin/sleep", ["sleep", "600"], os.environ), "left processes running"),
}
"""Changes that end the trainer before another evaluation, and words of the reason."""
STAYS: dict[str, Step] = {
    "daemon of a library": _thread(threading.Event().wait, daemon=True),
    "short thread": _thread(lambda: time.sleep(0.02)),
}


def _daemon_timer() -> threading.Timer:
    timer = threading.Timer(600, _spins)
    timer.daemon = True
    return timer


def _cuda_error() -> None:
    try:
        raise RuntimeError("CUDA error: device-side assert triggered")
    except RuntimeError as error:
        raise ValueError("the training failed") from error


for _name, (_step, _) in RENEWED.items():
    CHANGES[_name] = (_step, _return)
for _name, _step in STAYS.items():
    CHANGES[_name] = (_step, _return)
REFERENCE = str(Path(__file__).resolve())
