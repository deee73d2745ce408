"""The trial that an objective receives with its configuration and budget: seed, device, directories, report(), stop.

Law of this file: a trial knows one evaluation and not the search. A directory is made, and torch is imported, only when
the objective first reads the directory or the device.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib.util
import math
import numbers
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic as clock  # not time.monotonic, which an objective may replace
from typing import Any, SupportsFloat, overload

from hpbandster_lite.errors import UsageError
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.problems.plain_forms import plain_forms
from hpbandster_lite.records import ConfigId, CurvePoint
from hpbandster_lite.rundir import RunDirectory

MAX_METRICS_BYTES = 65_536
"""Largest size of the metrics of one report, because the agent keeps whole curves in memory and sends them."""

FIRST = ConfigId(0, 0, 0)

noted: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("noted", default=None)
"""Receives the notes about the evaluation that runs."""

OnReport = Callable[[CurvePoint], bool]
"""Receives one point of the learning curve; returns True if the objective must stop."""
MustStop = Callable[[], bool]
"""Whether the objective must stop."""

ASK_EVERY_S = 0.05
"""Seconds between two looks for a request to stop: a look is a system call, which a training step of microseconds would
notice."""


class Interrupted(BaseException):
    """Raised by :meth:`Trial.report` if the worker must give the evaluation back; another worker continues it.

    An objective raises it itself after :meth:`Trial.should_stop` was True. It is a BaseException, so that an ``except
    Exception`` of the objective does not catch it.
    """


_USUAL = {(kind, int, int, int, str, bool) for kind in (int, float)}
"""Types of the arguments of a trial, which need no further check: an objective may take microseconds."""
_PATHS = {str, type(None)}


def _check(name: str, value: object, kind: Any, wanted: str, example: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, str) and kind is Sequence):
        raise UsageError(f"{name} must be {wanted}, got {value!r:.100}; give for example {name}={example}")


def _number_of(name: str, value: Any) -> Any:
    """A finite number; an int stays one."""
    if type(value) is int:
        return value
    try:
        found = number(value, name)
    except TypeError as error:
        raise UsageError(f"{error}; give for example {name}=3") from error
    if not math.isfinite(found):
        raise UsageError(f"{name} must be finite, got {value!r:.100}; give for example {name}=3")
    return found


def _whole_of(name: str, value: Any) -> int:
    """A whole number, which may be a float without a fraction."""
    found = _number_of(name, value)
    if not float(found).is_integer():
        raise UsageError(f"{name} must be a whole number, got {value!r:.100}; give for example {name}=1")
    return int(found)


class Trial:
    """One attempt to evaluate one configuration at one budget.

    An objective may ignore it. A long training saves a checkpoint and then calls :meth:`report`, after each epoch, so
    that its progress is not lost with the worker.

    Parameters
    ----------
    budget
        The budget of this evaluation, in ``unit``. Default: 1.
    max_budget
        The highest budget of the search. Default: ``budget``.
    budgets
        All budgets of the search, increasing. Default: empty, if they are unknown.
    unit
        What the budget counts, for example ``"epochs"``. Default: ``"budget"``.
    seed
        An integer in [0, 2**31); the same at every rung of a configuration, and another for each configuration.
        Default: 0.
    config_id
        HpBandSter's triple: bracket, rung at which the configuration was sampled, index. Default: (0, 0, 0).
    rung
        Rung of the bracket; 0, the default, is the lowest.
    attempt
        Number of this attempt, from 1. Default: 1.
    maximize
        Whether the objective returns and reports values to maximize. Default: False.
    directory
        Where this attempt may write. Default: None, for objectives that write nothing.
    previous_directory, resume_directory
        See the properties. Default: None.
    on_report
        Receives each reported point. Default: None, which discards them, as in a test of an objective.
    must_stop
        Answers :meth:`should_stop`. Default: None, for an evaluation that is never to stop.
    """

    def __init__(
        self,
        *,
        budget: float = 1.0,
        max_budget: float | None = None,
        budgets: Sequence[float] = (),
        unit: str = "budget",
        seed: int = 0,
        config_id: ConfigId = FIRST,
        rung: int = 0,
        attempt: int = 1,
        maximize: bool = False,
        directory: str | os.PathLike[str] | None = None,
        previous_directory: str | os.PathLike[str] | None = None,
        resume_directory: str | os.PathLike[str] | None = None,
        on_report: OnReport | None = None,
        must_stop: MustStop | None = None,
    ) -> None:
        usual = (type(budget), type(seed), type(rung), type(attempt), type(unit), type(maximize))
        if usual not in _USUAL or budget != budget:
            budget, seed = _number_of("budget", budget), _whole_of("seed", seed)
            rung, attempt = _whole_of("rung", rung), _whole_of("attempt", attempt)
            _check("unit", unit, str, "text", "'epochs'")
            _check("maximize", maximize, bool, "true or false", "True")
        if max_budget is not None and type(max_budget) is not float:
            max_budget = _number_of("max_budget", max_budget)
        if type(budgets) is not tuple:
            _check("budgets", budgets, Sequence, "a list of numbers", "[1, 3, 9]")
            budgets = [_number_of("budgets", each) for each in budgets]
        places = (directory, previous_directory, resume_directory)
        if not {type(place) for place in places} <= _PATHS:
            for name, place in zip(("directory", "previous_directory", "resume_directory"), places, strict=True):
                _check(name, place, str | os.PathLike | None, "the path of a directory", "'attempt'")
        if on_report is not None and not callable(on_report):
            raise UsageError(f"on_report must be a function of a point, got {on_report!r:.100}; leave it out")
        if must_stop is not None and not callable(must_stop):
            raise UsageError(f"must_stop must be a function without arguments, got {must_stop!r:.100}; leave it out")
        self.budget = budget
        self.max_budget = budget if max_budget is None else max_budget
        self.budgets = tuple(budgets)
        self.unit = unit
        self.seed = seed
        self.config_id = config_id
        self.rung = rung
        self.attempt = attempt
        self.maximize = maximize
        # Path objects are made when they are read: an objective of microseconds reads none of them.
        self._directory = directory
        self._previous_directory = previous_directory
        self._resume_directory = resume_directory
        self._on_report = on_report
        self._must_stop = must_stop
        self._ask_at = 0.0
        self._is_to_stop = False
        self._device: str | None = None
        self._has_ended = False
        self._noted: set[str] = set()
        self.saved_checkpoints: set[str] = set()

    @property
    def directory(self) -> Path:
        """Directory of this attempt; reading the property makes it. The next rung finds the files that you save in it.

        Raises
        ------
        RuntimeError
            If the trial has no directory.
        """
        if self._directory is None:
            raise RuntimeError("this trial has no directory; make it with Trial(directory=...)")
        directory = Path(self._directory)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def keep_directory(self) -> Path:
        """Directory for what is to stay, such as TensorBoard's files; this call creates it.

        The master deletes everything else in :attr:`directory`, except the log, once the search needs it no more. What
        is here is no checkpoint: no other attempt continues from it, and it does not count towards a quota.

        Raises
        ------
        RuntimeError
            If the trial has no directory.
        """
        directory = self.directory / RunDirectory.KEEP_NAME
        directory.mkdir(exist_ok=True)
        return directory

    @property
    def own_directory(self) -> Path | None:
        """:attr:`directory`, not made; ``None`` if the trial has none."""
        return None if self._directory is None else Path(self._directory)

    @property
    def previous_directory(self) -> Path | None:
        """Directory of this configuration at the rung below; ``None`` if there is none on this machine."""
        return None if self._previous_directory is None else Path(self._previous_directory)

    @property
    def resume_directory(self) -> Path | None:
        """Directory of an earlier attempt of this evaluation; ``None`` if there is none on this machine.

        Its training is further than the one in :attr:`previous_directory`: look here first, and check that your file
        exists. An attempt that was killed during its first save leaves an incomplete directory.
        """
        return None if self._resume_directory is None else Path(self._resume_directory)

    @property
    def device(self) -> str:
        """``"cuda"`` if the worker has a GPU and torch finds it, else ``"cpu"``."""
        if self._device is None:
            self._device = _device()
        return self._device

    @property
    def devices(self) -> tuple[str, ...]:
        """One device for each process of a training: ``("cuda:0", "cuda:1")``, or on the CPU ``("cpu", "cpu")``.

        Their number is the worker's ``--gpus-per-worker``. With the default of one, this is ``(device,)``.
        """
        count = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        if count == 1:
            return (self.device,)
        return tuple(f"cuda:{index}" if self.device == "cuda" else "cpu" for index in range(count))

    @overload
    def report(self, step: SupportsFloat, loss: SupportsFloat, /, **metrics: Any) -> None: ...
    @overload
    def report(self, step: SupportsFloat, /, *, loss: SupportsFloat, **metrics: Any) -> None: ...
    @overload
    def report(self, step: SupportsFloat, /, *, value: SupportsFloat, **metrics: Any) -> None: ...
    @overload
    def report(self, /, *, step: SupportsFloat, loss: SupportsFloat, **metrics: Any) -> None: ...
    @overload
    def report(self, /, *, step: SupportsFloat, value: SupportsFloat, **metrics: Any) -> None: ...
    def report(self, /, *step_and_loss: SupportsFloat, **metrics: Any) -> None:
        """Add a point to the learning curve; save first, because this call may interrupt the evaluation.

        Parameters
        ----------
        step
            Budget used so far.
        loss
            The loss so far; NaN is allowed. If the search maximizes: the value so far, which may be named ``value``.
        metrics
            Other values of this step, under any names: ``trial.report(epoch, logs["val_loss"], **logs)`` works even if
            ``logs`` has a key ``loss``. A note replaces a value that has no plain form or is too large.

        Raises
        ------
        Interrupted
            If the worker must give the evaluation back. Do not catch it.
        TypeError
            If step or loss is missing, or is not a number.
        """
        if self.is_too_late("trial.report", "such points are dropped"):
            return
        word = word_for(maximize=self.maximize)
        step, loss = _step_and_result(step_and_loss, metrics, word)
        point = CurvePoint(
            number(step, "the step of trial.report"),
            number(loss, f"the {word} of trial.report"),
            plain_forms(metrics, "metrics", MAX_METRICS_BYTES) if metrics else {},
        )
        if self._on_report is not None and self._on_report(point):
            raise Interrupted(f"the evaluation of {self.config_id} is handed back at step {point.step:g}")

    def should_stop(self) -> bool:
        """Whether this evaluation must stop: save, then raise :class:`Interrupted`, or call :meth:`report`.

        It is True once the evaluation is cancelled, exceeds its time limit, or its worker leaves, and stays True. A
        call takes well below a microsecond, so ask in each training step; an objective that does not ask is interrupted
        in :meth:`report`. What an objective returns after an answer of True does not count, because its training may be
        incomplete: the evaluation is handed back as after :class:`Interrupted`.
        """
        if not self._is_to_stop and self._must_stop is not None:
            now = clock()
            if now >= self._ask_at:
                self._ask_at = now + ASK_EVERY_S
                self._is_to_stop = self._must_stop()
        return self._is_to_stop or self._has_ended

    @property
    def was_to_stop(self) -> bool:
        """Whether :meth:`should_stop` has answered True while the evaluation ran."""
        return self._is_to_stop

    @property
    def has_ended(self) -> bool:
        """Whether the evaluation has ended; then :meth:`report` has no effect."""
        return self._has_ended

    def end(self) -> None:
        """Ignore further reports. The trainer calls this when the objective has returned."""
        self._has_ended = True

    def is_too_late(self, call: str, effect: str) -> bool:
        """Whether the evaluation has ended; if so, the first call with this name writes a note with its effect."""
        if self._has_ended and call not in self._noted:
            self._noted.add(call)
            text = (
                f"{call} was called for {self.config_id} at rung {self.rung}, which has ended; {effect} (does a "
                "callback of a cached model keep an old trial?)"
            )
            recorded_note(text)
        return self._has_ended


def note(text: str) -> None:
    """Print a line to standard error, which is in the attempt's log; the objective may have closed the stream."""
    with contextlib.suppress(ValueError, OSError, AttributeError):
        sys.stderr.write(f"hpbandster_lite: {text}\n")


def recorded_note(text: str) -> None:
    """Print a line as :func:`note` does, and record it in the information of the evaluation that runs."""
    note(text)
    current = noted.get()
    if current is not None:
        current.append(text)


def _step_and_result(given: tuple[SupportsFloat, ...], metrics: dict[str, Any], word: str) -> tuple[Any, Any]:
    """Step and loss of a report; if they are not positional arguments, they are removed from ``metrics``.

    Raises
    ------
    TypeError
        If one is missing, or if there are more than two positional arguments.
    """
    names = ("step", word if word in metrics or "loss" not in metrics else "loss")
    if len(given) > len(names):
        raise TypeError(
            f"trial.report takes two positional arguments, the step and the {word}, got {len(given)}; name the metrics"
        )
    missing = [name for name in names[len(given) :] if name not in metrics]
    if missing:
        raise TypeError(f"trial.report requires the {missing[0]}: trial.report(epoch, {word})")
    values = [*given, *(metrics.pop(name) for name in names[len(given) :])]
    return values[0], values[1]


def number(value: Any, what: str) -> float:
    """A real number of any library as a float: Python's, numpy's, a 0-d array, a 0-d tensor.

    Parameters
    ----------
    value
        A value of any type.
    what
        The name of the value in an error.

    Raises
    ------
    TypeError
        For all other values: text, bools, arrays with an axis, complex numbers, dates and durations, objects.
    """
    shape = getattr(value, "shape", None)
    single = value
    # numpy converts some durations and dates to their stored int, which loses the unit.
    is_time = getattr(getattr(value, "dtype", None), "kind", None) in ("m", "M")
    if shape == () and callable(getattr(value, "item", None)):
        # In numpy, item() of a masked mean over no values is 0.0, which would be a perfect loss.
        single = float("nan") if getattr(value, "mask", False) else value.item()
        shape = None
    has_number = isinstance(single, numbers.Real) or (hasattr(single, "__float__") and shape is None)
    if not has_number or is_time or isinstance(single, bool):
        name = type(value).__qualname__
        named = f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
        of_shape = "" if shape is None else f" of shape {tuple(shape)}"
        raise TypeError(f"{what} is {_shown(value)}, {named}{of_shape}; it must be one number")
    try:
        return float(single)
    except OverflowError:
        # An int outside the range of floats: only its sign is kept.
        return float("inf") if single > 0 else float("-inf")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _device() -> str:
    # Without a GPU torch is not imported, so that a problem without torch starts quickly.
    if not os.environ.get("CUDA_VISIBLE_DEVICES") or importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
