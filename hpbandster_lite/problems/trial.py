"""What an objective is handed beside configuration and budget: seed, device, directories, and a way to report.

Law of this file: it knows one evaluation and nothing of the search. Directories are made when they are first asked for,
torch is imported when the device is first asked for.
"""

from __future__ import annotations

import importlib.util
import numbers
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, SupportsFloat

from hpbandster_lite import wire
from hpbandster_lite.records import ConfigId, CurvePoint

MAX_METRICS_BYTES = 65_536
"""Largest set of metrics of one report; the agent keeps whole curves in memory and sends them."""

FIRST = ConfigId(0, 0, 0)

OnReport = Callable[[CurvePoint], bool]
"""Takes one point of the learning curve; True once the objective is to stop."""


class Interrupted(BaseException):
    """Raised by :meth:`Trial.report` when the evaluation is to be handed back; another worker will go on with it.

    A BaseException, so that an ``except Exception`` of the objective does not swallow it.
    """


class Trial:
    """One attempt to evaluate one configuration at one budget.

    An objective needs none of it; one that trains for long reports after each epoch, and saves a checkpoint before it
    reports, so that what it has learned outlives the worker.

    Parameters
    ----------
    budget
        The budget of this evaluation, in ``unit``.
    max_budget
        The highest budget of the search; ``budget`` if left out.
    budgets
        All budgets of the search, increasing; empty where nobody knows them.
    unit
        What the budget counts, for example ``"epochs"``.
    seed
        In [0, 2**31); the same at every rung of a configuration, another for each configuration.
    config_id
        HpBandSter's triple: bracket, rung at which the configuration was sampled, index.
    rung
        Rung of the bracket; 0 is the lowest.
    attempt
        Number of this try, from 1.
    directory
        Where this attempt may write; needed only by an objective that asks for it.
    previous_directory, resume_directory
        See the properties.
    on_report
        Takes each reported point; ``None`` forgets them, as in a test of an objective.
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
        directory: str | os.PathLike[str] | None = None,
        previous_directory: str | os.PathLike[str] | None = None,
        resume_directory: str | os.PathLike[str] | None = None,
        on_report: OnReport | None = None,
    ) -> None:
        self.budget = budget
        self.max_budget = budget if max_budget is None else max_budget
        self.budgets = tuple(budgets)
        self.unit = unit
        self.seed = seed
        self.config_id = config_id
        self.rung = rung
        self.attempt = attempt
        # Paths are made when they are asked for: an objective of microseconds asks for none.
        self._directory = directory
        self._previous_directory = previous_directory
        self._resume_directory = resume_directory
        self._on_report = on_report
        self._device: str | None = None

    @property
    def directory(self) -> Path:
        """Directory of this attempt alone, which exists from now on; what is saved here continues at the next rung.

        Raises
        ------
        RuntimeError
            If the trial was made without one.
        """
        if self._directory is None:
            raise RuntimeError("this trial was made without a directory; give Trial(directory=...) one")
        directory = Path(self._directory)
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @property
    def previous_directory(self) -> Path | None:
        """Where this configuration was saved at the rung below; ``None`` if it was not, or cannot be seen from here."""
        return None if self._previous_directory is None else Path(self._previous_directory)

    @property
    def resume_directory(self) -> Path | None:
        """Where an earlier attempt of this very evaluation left a checkpoint; ``None`` if there is none to be seen.

        It holds more of this evaluation than :attr:`previous_directory`: look here first, and whether your file is
        there. An attempt that was cut off as it saved for the first time leaves whatever it had written by then.
        """
        return None if self._resume_directory is None else Path(self._resume_directory)

    @property
    def device(self) -> str:
        """``"cuda"`` where the worker was given a GPU and torch sees it, else ``"cpu"``."""
        if self._device is None:
            self._device = _device()
        return self._device

    @property
    def devices(self) -> tuple[str, ...]:
        """A device for each process of a training on several: ``("cuda:0", "cuda:1")``; on the CPU ``("cpu", "cpu")``.

        As many as the worker was started with by ``--gpus-per-worker``; one, which is :attr:`device`, by default.
        """
        count = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
        if count == 1:
            return (self.device,)
        return tuple(f"cuda:{index}" if self.device == "cuda" else "cpu" for index in range(count))

    def report(self, step: SupportsFloat, loss: SupportsFloat, **metrics: Any) -> None:
        """Add a point to the learning curve; save before, because this is where an evaluation is interrupted.

        Parameters
        ----------
        step
            How much of the budget has been used.
        loss
            The loss so far; NaN is allowed here.
        metrics
            Other plain values of this step.

        Raises
        ------
        Interrupted
            Once the worker is to hand the evaluation back. Let it pass.
        TypeError
            If step or loss is no number, or a metric is not plain.
        """
        point = CurvePoint(
            number(step, "the step of trial.report"),
            number(loss, "the loss of trial.report"),
            wire.plain_within(metrics, "metrics", MAX_METRICS_BYTES) if metrics else {},
        )
        if self._on_report is not None and self._on_report(point):
            raise Interrupted(f"the evaluation of {self.config_id} is handed back at step {point.step:g}")


def number(value: Any, what: str) -> float:
    """A single real number of any library as a float: Python's, numpy's, a 0-d array, a 0-d tensor.

    Parameters
    ----------
    value
        Anything.
    what
        What it is called in the error.

    Raises
    ------
    TypeError
        For anything else: text, truth values, arrays with an axis, complex numbers, dates and durations, objects.
    """
    shape = getattr(value, "shape", None)
    single = value
    # numpy hands some durations and dates out as the int that they are kept as; their unit would be lost.
    is_time = getattr(getattr(value, "dtype", None), "kind", None) in ("m", "M")
    if shape == () and callable(getattr(value, "item", None)):
        # numpy's masked mean over nothing: its item() is 0.0, which would be a splendid loss.
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
        # An int beyond float's range, of which only the sign is left.
        return float("inf") if single > 0 else float("-inf")


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _device() -> str:
    # Without a token torch is not even imported: a problem that needs none pays nothing for asking.
    if not os.environ.get("CUDA_VISIBLE_DEVICES") or importlib.util.find_spec("torch") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
