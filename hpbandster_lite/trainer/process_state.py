"""The state of a trainer's process that one evaluation may change and the next one relies on.

Law of this file: :func:`recorded` records each part of the state once, after the import of the problem, and each
evaluation begins with it. Modules and their contents are not restored: a loaded data set stays loaded. This file
imports no library for it: a library that is not loaded has no state. If a part cannot be restored, it is named, and the
trainer is renewed before the next evaluation.
"""

from __future__ import annotations

import builtins
import ctypes
import faulthandler
import fcntl
import functools
import gc
import itertools
import locale
import logging
import operator
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

Restore: TypeAlias = Callable[[], object]
Part: TypeAlias = Callable[[], Restore]

COPIES_FROM = 512
"""Lowest number for copies of the standard descriptors, above the ranges that programs close."""

TEXT_MODES = ("encoding", "errors", "line_buffering", "write_through")
"""What ``reconfigure`` of a text stream changes."""


def recorded() -> ProcessState:
    """The state of this process now."""
    return ProcessState({name: part() for name, part in PARTS.items()})


class ProcessState:
    """A recorded state.

    Parameters
    ----------
    parts
        For each part, by its name, the function that restores it.
    """

    def __init__(self, parts: Mapping[str, Restore]) -> None:
        self._parts = parts
        self._warnings = _warnings()

    def restore_modules(self) -> None:
        """Restore the imported modules, without which nothing else can be restored."""
        restore = self._parts.get(MODULES)
        if restore is not None:
            restore()

    def restore(self) -> list[str]:
        """Restore every part; return the names of those that cannot be restored, each with its error."""
        self._warnings()
        with warnings.catch_warnings(module=warnings):
            # Warnings of libraries about old names do not concern the evaluation.
            warnings.simplefilter("ignore")
            return [failed for name, part in self._parts.items() if (failed := failure_of_part(name, part))]


def failure_of_part(name: str, restore: Restore) -> str | None:
    """Restore one part; return its name and its error if that fails, else None."""
    try:
        restore()
    except Exception as error:  # noqa: BLE001 (the objective may have replaced any part: the trainer is renewed)
        return f"{name} ({type(error).__name__}: {error})"
    return None


def attributes(owner: Any, *names: str) -> Restore:
    """Record the given attributes of a module or an object that exist."""
    before = {name: getattr(owner, name) for name in names if hasattr(owner, name)}

    def restore() -> None:
        for name, value in before.items():
            if getattr(owner, name, None) is not value:
                setattr(owner, name, value)

    return restore


def setting(get: Callable[[], Any], put: Callable[[Any], object]) -> Restore:
    """Record the result of ``get``; to restore it, ``put`` must change the result of ``get``."""
    before = get()

    def restore() -> None:
        if get() != before:
            put(before)
            if get() != before:
                raise RuntimeError(f"it is {get()!r} and was {before!r}")

    return restore


def all_of(*restores: Restore) -> Restore:
    """Several restorations as one."""

    def restore() -> None:
        for each in restores:
            each()

    return restore


# ---------------------------------------------------------------------------------------- streams and descriptors


class _Stream:
    """One of the standard streams: the object in ``sys`` and the descriptor below it."""

    def __init__(self, number: int, name: str) -> None:
        self._number, self._name = number, name
        self._object = getattr(sys, name)
        lowest = min(COPIES_FROM, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        self._copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, lowest)
        self._file = _file_of(self._copy)
        self._attributes = dict(getattr(self._object, "__dict__", {}))
        self._modes = {name: getattr(self._object, name) for name in TEXT_MODES if hasattr(self._object, name)}

    def restore(self) -> None:
        # Replace the objective's stream first: dropping it may close the descriptor, which is compared next.
        setattr(sys, self._name, self._object)
        if _file_of(self._number) != self._file:
            os.dup2(self._copy, self._number)
        if not os.get_blocking(self._number):
            os.set_blocking(self._number, True)
        if _is_closed(self._object):
            mode, number = ("r" if self._number == 0 else "w"), self._number
            # Line-buffered, so that a crash loses at most one line.
            self._object = os.fdopen(number, mode, 1, "utf-8", "backslashreplace", closefd=False)
            setattr(sys, self._name, self._object)
            setattr(sys, f"__{self._name}__", self._object)
            return
        self._restore_object()

    def _restore_object(self) -> None:
        """Restore what ``reconfigure``, or a function in the place of ``write``, has changed."""
        own = getattr(self._object, "__dict__", {})
        if own != self._attributes:
            own.clear()
            own.update(self._attributes)
        if any(getattr(self._object, name) != value for name, value in self._modes.items()):
            self._object.reconfigure(**self._modes)


def _file_of(descriptor: int) -> tuple[int, int] | None:
    """Device and number of an open file; None if it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_closed(stream: Any) -> bool:
    try:
        return bool(getattr(stream, "closed", False))
    except ValueError:
        # Its buffer was detached.
        return True


def _streams() -> Restore:
    return all_of(*(_Stream(number, name).restore for number, name in enumerate(("stdin", "stdout", "stderr"))))


# ------------------------------------------------------------------------------------------------- signals and timers


def _timers() -> Restore:
    own = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    # Timers that run since the import, for example a profiler's, are left alone.
    idle = [timer for timer in own if signal.getitimer(timer) == (0.0, 0.0)]

    def restore() -> None:
        for timer in idle:
            signal.setitimer(timer, 0.0)
        faulthandler.cancel_dump_traceback_later()

    return restore


def _signals() -> Restore:
    # Without real-time signals, which are half of all signals and hardly used.
    usual = [number for number in signal.valid_signals() if number < signal.SIGRTMIN]
    before = {number: signal.getsignal(number) for number in usual}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    has_faulthandler = faulthandler.is_enabled()

    def restore() -> None:
        for number, handler in before.items():
            # None means that Python did not set the handler and cannot set it again.
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.set_wakeup_fd(wakeup)
        if has_faulthandler:
            # Its handlers are not Python's, so Python cannot see whether they have changed.
            faulthandler.disable()
            faulthandler.enable(sys.__stderr__ or 2)

    return restore


# ----------------------------------------------------------------------------------------------- the operating system


def _working_directory() -> Restore:
    try:
        path = os.getcwd()  # noqa: PTH109 (Path.cwd costs five times as much)
    except FileNotFoundError:
        return lambda: None

    def restore() -> None:
        # If the directory no longer exists, a new process would not have it either.
        with suppress(FileNotFoundError):
            os.chdir(path)

    return restore


def _umask() -> Restore:
    mask = os.umask(0o077)
    os.umask(mask)
    return lambda: os.umask(mask)


def _environment() -> Restore:
    before = dict(os.environ)
    # Compare the encoded bytes, which have no public name: decoding all of them takes ten times as long.
    data: Mapping[Any, Any] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    encoded = dict(data)
    of_module = attributes(os, "environ", "environb")
    of_c = _environment_of_c()
    zone = time.tzname, time.timezone

    def restore() -> None:
        of_module()
        if data != encoded:
            has_other_zone = os.environ.get("TZ") != before.get("TZ")
            os.environ.clear()
            os.environ.update(before)
            if has_other_zone:
                time.tzset()
        of_c()
        if (time.tzname, time.timezone) != zone:
            # The variable was set, read and removed again.
            time.tzset()

    return restore


def _environment_of_c() -> Restore:
    """The variables that C libraries and new programs read, which ``os.putenv`` changes without ``os.environ``."""
    try:
        # The C library moves the array when a variable is added.
        pointers: Any = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    except (ValueError, OSError):
        # Another C library.
        return lambda: None

    def read() -> list[bytes]:
        return list(itertools.takewhile(bool, pointers)) if pointers else []

    def variables(entries: list[bytes]) -> dict[bytes, bytes]:
        return {name: value for name, mark, value in (each.partition(b"=") for each in entries) if mark}

    before = variables(read())
    seen = read()

    def restore() -> None:
        nonlocal seen
        entries = read()
        if entries == seen:
            return
        now = variables(entries)
        for name in now.keys() - before.keys():
            os.unsetenv(name)
        for name, value in before.items():
            if now.get(name) != value:
                os.putenv(name, value)
        if now.get(b"TZ") != before.get(b"TZ"):
            time.tzset()
        seen = read()

    return restore


def _limits() -> Restore:
    names = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]

    def put(before: dict[int, tuple[int, int]]) -> None:
        for name, limits in before.items():
            if resource.getrlimit(name) != limits:
                resource.setrlimit(name, limits)

    return setting(lambda: {name: resource.getrlimit(name) for name in names}, put)


def _scheduling() -> Restore:
    itself = (os.PRIO_PROCESS, 0)
    niceness = setting(lambda: os.getpriority(*itself), lambda value: os.setpriority(*itself, value))
    if not hasattr(os, "sched_getaffinity"):
        return niceness
    return all_of(niceness, setting(lambda: os.sched_getaffinity(0), lambda cores: os.sched_setaffinity(0, cores)))


def _user() -> Restore:
    return setting(
        lambda: (os.getresuid(), os.getresgid(), os.getgroups(), os.getpgrp(), os.getsid(0)), lambda _: None
    )


# ----------------------------------------------------------------------------------------------------- the interpreter


def _warnings() -> Restore:
    before = list(warnings.filters)
    functions = attributes(warnings, "showwarning", "formatwarning", "_showwarnmsg_impl")

    def restore() -> None:
        functions()
        if list(warnings.filters) != before:
            # resetwarnings also makes the interpreter read the list again.
            warnings.resetwarnings()
            warnings.filters[:] = before  # type: ignore[index]  # a list, although typeshed has another type

    return restore


def _list(owner: Any, name: str) -> Restore:
    """Record a list and its items."""
    the_list, items = getattr(owner, name), list(getattr(owner, name))

    def restore() -> None:
        if the_list != items:
            the_list[:] = items
        if getattr(owner, name, None) is not the_list:
            setattr(owner, name, the_list)

    return restore


def _interpreter() -> Restore:
    hooks = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")
    values = ("dont_write_bytecode", "executable", "ps1", "tracebacklimit")
    limit = getattr(sys, "tracebacklimit", None)

    def forget_limit() -> None:
        if limit is None and hasattr(sys, "tracebacklimit"):
            del sys.tracebacklimit

    settings = [
        setting(sys.getrecursionlimit, sys.setrecursionlimit),
        setting(sys.getswitchinterval, sys.setswitchinterval),
        setting(sys.gettrace, sys.settrace),
        setting(sys.getprofile, sys.setprofile),
        setting(sys.get_asyncgen_hooks, lambda value: sys.set_asyncgen_hooks(*value)),
        # A thread that a left tracer or profiler fails in never starts, and its creator waits for it without end.
        setting(threading.gettrace, threading.settrace),
        setting(threading.getprofile, threading.setprofile),
        setting(threading.stack_size, threading.stack_size),
        setting(gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
        setting(gc.get_threshold, lambda value: gc.set_threshold(*value)),
        setting(gc.get_debug, gc.set_debug),
        setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
        setting(sys.getdlopenflags, sys.setdlopenflags),
        setting(sys.get_coroutine_origin_tracking_depth, sys.set_coroutine_origin_tracking_depth),
    ]
    if hasattr(sys, "get_int_max_str_digits"):
        settings.append(setting(sys.get_int_max_str_digits, sys.set_int_max_str_digits))
    thread_hook = attributes(threading, "excepthook")
    collector = _list(gc, "callbacks")
    of_sys = attributes(sys, *hooks, *values)
    return all_of(of_sys, forget_limit, thread_hook, collector, *settings)


def _audit_hooks() -> Restore:
    """Python cannot remove an audit hook, nor list them: additions are noticed."""
    add = sys.addaudithook
    added: list[object] = []

    @functools.wraps(add)
    def noticed(hook: Callable[..., object]) -> None:
        add(hook)
        added.append(hook)

    sys.addaudithook = noticed

    def restore() -> None:
        if added:
            raise RuntimeError(f"{len(added)} were added, which Python cannot remove")

    return restore


def _builtins() -> Restore:
    before = dict(vars(builtins))

    def restore() -> None:
        # Compare the whole dict: 160 single comparisons take ten times as long. New names stay.
        if not before.items() <= vars(builtins).items():
            vars(builtins).update(before)

    return restore


def _modules() -> Restore:
    """The modules that were imported; those that are imported later stay."""
    before = dict(sys.modules)
    # One read of all: single reads take five times as long.
    read = operator.itemgetter(*before)
    modules = tuple(before.values())
    of_sys = attributes(sys, "modules")

    def restore() -> None:
        of_sys()
        with suppress(KeyError):
            if all(map(operator.is_, read(sys.modules), modules)):
                return
        sys.modules.update(before)

    return restore


def _import_path() -> Restore:
    return all_of(*(_list(sys, name) for name in ("path", "meta_path", "path_hooks", "argv")))


def _locale() -> Restore:
    return setting(lambda: locale.setlocale(locale.LC_ALL), lambda value: locale.setlocale(locale.LC_ALL, value))


# ------------------------------------------------------------------------------------------------------------- logging


class _Logger:
    """The settings of one logger."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._handlers, self._filters = list(logger.handlers), list(logger.filters)
        self._level = logger.level
        self._flags = attributes(logger, "disabled", "propagate")

    def restore(self) -> None:
        if self._logger.handlers != self._handlers:
            self._logger.handlers[:] = self._handlers
        if self._logger.filters != self._filters:
            self._logger.filters[:] = self._filters
        if self._logger.level != self._level:
            self._logger.setLevel(self._level)
        self._flags()
        for handler in self._handlers:
            stream = getattr(handler, "stream", None)
            is_of_a_file = isinstance(handler, logging.FileHandler)
            if isinstance(handler, logging.StreamHandler) and not is_of_a_file and stream and _is_closed(stream):
                # Not setStream, which would flush the closed stream.
                handler.stream = sys.stderr


def _loggers() -> list[logging.Logger]:
    # The dict has placeholders for names without a logger.
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(each for each in named if isinstance(each, logging.Logger))]


def _logging() -> Restore:
    before = {logger: _Logger(logger) for logger in _loggers()}
    disabled = setting(lambda: logging.root.manager.disable, logging.disable)
    of_module = attributes(logging, "lastResort", "raiseExceptions", "_warnings_showwarning")
    logger_class = setting(logging.getLoggerClass, logging.setLoggerClass)
    factory = setting(logging.getLogRecordFactory, logging.setLogRecordFactory)

    def restore() -> None:
        disabled()
        logger_class()
        factory()
        of_module()
        for logger in _loggers():
            if logger in before:
                before[logger].restore()
            elif logger.handlers:
                # The evaluation made this logger, or a library that it imported.
                logger.handlers[:] = [each for each in logger.handlers if isinstance(each, logging.NullHandler)]

    return restore


# ----------------------------------------------------------------------------- parts of the standard library, if loaded


def _loaded(name: str) -> Any:
    return sys.modules.get(name)


def _start_method() -> Restore:
    """A program can set multiprocessing's start method only once, so the next evaluation could not set it."""
    loaded = _loaded("multiprocessing")
    before = None if loaded is None else loaded.get_start_method(allow_none=True)

    def restore() -> None:
        module = _loaded("multiprocessing")
        if module is not None and module.get_start_method(allow_none=True) != before:
            module.set_start_method(before, force=True)

    return restore


def _event_loop() -> Restore:
    """An evaluation that closes its event loop leaves the closed loop as the loop of the thread."""
    loaded = _loaded("asyncio")
    before = None if loaded is None else loaded.get_event_loop_policy()
    is_usual = before is None or type(before) is loaded.DefaultEventLoopPolicy

    def restore() -> None:
        module = _loaded("asyncio")
        if module is not None:
            module.set_event_loop_policy(None if is_usual else before)

    return restore


def _decimal() -> Restore:
    loaded = _loaded("decimal")
    before = None if loaded is None else loaded.getcontext().copy()

    def restore() -> None:
        module = _loaded("decimal")
        if module is not None:
            module.setcontext((before or module.DefaultContext).copy())

    return restore


def _memory_tracing() -> Restore:
    """Tracing of memory makes everything that follows slow and large."""
    loaded = _loaded("tracemalloc")
    is_on = loaded is not None and loaded.is_tracing()

    def restore() -> None:
        module = _loaded("tracemalloc")
        if module is not None and module.is_tracing() and not is_on:
            module.stop()

    return restore


def _temporary_directory() -> Restore:
    loaded = _loaded("tempfile")
    before = None if loaded is None else loaded.tempdir

    def restore() -> None:
        module = _loaded("tempfile")
        if module is not None:
            module.tempdir = before

    return restore


MODULES = "imported modules"
PARTS: Mapping[str, Part] = {
    "timers": _timers,
    MODULES: _modules,
    "builtins": _builtins,
    "the standard streams": _streams,
    "signal handlers": _signals,
    "the working directory": _working_directory,
    "the umask": _umask,
    "environment variables": _environment,
    "resource limits": _limits,
    "niceness and cores": _scheduling,
    "the user or the session": _user,
    "the interpreter's settings": _interpreter,
    "sys.path": _import_path,
    "audit hooks": _audit_hooks,
    "the locale": _locale,
    "logging": _logging,
    "multiprocessing's start method": _start_method,
    "asyncio's event loop": _event_loop,
    "the decimal context": _decimal,
    "the tracing of memory": _memory_tracing,
    "the temporary directory": _temporary_directory,
}
"""The timers come first, so that an alarm does not interrupt the restoration of the rest, which imports modules."""
