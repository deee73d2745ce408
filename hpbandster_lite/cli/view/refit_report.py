"""The output of ``refit``: what is trained, its learning curve, and the result."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from hpbandster_lite.cli.view.formats import amount, duration, number, value_text
from hpbandster_lite.cli.view.tables import figures_table, values_table
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.records import CurvePoint, Plain, users_values
from hpbandster_lite.standalone.refit import Refit
from hpbandster_lite.standalone.trained import Took

LINE_EVERY_S = 1.0
WORTH_A_LINE_S = 1.0
"""A shorter refit is over before anybody has read how long it takes."""


class CurveLines:
    """The learning curve as lines: at most one a second, and always the last one.

    Parameters
    ----------
    print_line
        Prints one line.
    budget, unit
        Of the training.
    word
        What a point is called: ``loss``, or ``value``.
    clock
        Monotonic clock, in seconds.
    """

    def __init__(
        self,
        print_line: Callable[[str], None],
        budget: float,
        unit: str,
        word: str = "loss",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._print_line = print_line
        self._of = amount(budget, unit)
        self._word = word
        self._clock = clock
        self._next_at = clock()
        self._kept: CurvePoint | None = None

    @classmethod
    def of(cls, refit: Refit, print_line: Callable[[str], None]) -> CurveLines:
        """The lines of a refit."""
        return cls(print_line, refit.budget, refit.unit, word_for(maximize=refit.problem.maximize))

    def take(self, point: CurvePoint) -> None:
        """Print a point, or keep it until the next one."""
        self._kept = point
        if self._clock() >= self._next_at:
            self.end()
            self._next_at = self._clock() + LINE_EVERY_S

    def end(self) -> None:
        """Print the point that is kept."""
        if self._kept is None:
            return
        step, loss, metrics = self._kept
        self._kept = None
        figures = [f"{self._word} {number(loss)}", *(f"{name}={value_text(value)}" for name, value in metrics.items())]
        self._print_line(f"{number(step)} of {self._of}: {', '.join(figures)}")


def introduce_refit(out: Console, refit: Refit) -> None:
    """What is trained, and where."""
    config_id = refit.evaluation.config_id
    what = f"configuration {config_id} for {amount(refit.budget, refit.unit)}, seed {refit.seed}"
    how = "continuing the refit of" if refit.is_resumed else "refit of"
    if refit.figures is not None:
        how = "done before: refit of"
    out.print(f"{how} {what}, in {refit.directory}\n", markup=False, soft_wrap=True)
    out.print(values_table("hyperparameter", users_values(refit.values)))
    if refit.figures is None and refit.took is not None and refit.took.refit_s(refit.budget) >= WORTH_A_LINE_S:
        out.print(f"\n{_expected(refit, refit.took)}", markup=False, soft_wrap=True)
    out.print()


def _expected(refit: Refit, took: Took) -> str:
    """How long the refit is expected to take, and from which measurement."""
    less = ", less what was trained before" if refit.is_resumed else ""
    measured = f"the search took {duration(took.seconds)} for {amount(took.budget, refit.unit)}"
    if took.factor is None:
        more = "more data takes longer"
    else:
        more = f"all the data takes {number(took.factor, 3)} times as long"
    return f"it takes about {duration(took.refit_s(refit.budget))}{less}: {measured}, and {more}"


def conclude_refit(out: Console, refit: Refit, done: dict[str, Plain]) -> None:
    """The figures, and where the model is."""
    figures = {name: value for name, value in done["figures"].items() if name != "model"}
    if figures:
        out.print()
        out.print(figures_table({"refit": figures}))
    model = refit.directory / done["figures"]["model"]
    time_taken = f"trained in {duration(done['duration_s'])}; " if refit.figures is None else ""
    out.print(f"\n{time_taken}the model: {model}; its figures: {refit.file}", markup=False, soft_wrap=True)
    if refit.export is not None:
        found = ", ".join(f"{name}={value_text(value)}" for name, value in done["exports"][str(refit.export)].items())
        out.print(f"exported to {refit.export}" + (f": {found}" if found else ""), markup=False, soft_wrap=True)
