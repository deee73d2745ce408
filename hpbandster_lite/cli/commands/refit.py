"""``refit``: from the best configuration to a trained model in a file."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hpbandster_lite.cli.commands.status import directory_of_a_search
from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.problem_options import slips_answered, typed_options
from hpbandster_lite.cli.view.formats import amount, duration, number, value_text
from hpbandster_lite.cli.view.tables import figures_table, values_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.engine.same_fault import shown
from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import ConfigId, CurvePoint, Failure, Plain
from hpbandster_lite.standalone.refit import Refit, RefitOptions, carry_out_refit, prepare_refit

REFIT_FAILED = 1
"""Exit code of a refit whose training or export failed."""
LINE_EVERY_S = 1.0


def refit(
    ctx: typer.Context,
    run: Run,
    budget: Annotated[
        float | None,
        typer.Option(metavar="BUDGET", help="How long to train. [dim]\\[default: the largest budget of the search][/]"),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A configuration, as list prints it: 0-0-3. [dim]\\[default: the best one][/]"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Another seed than the one that the search trained this configuration with."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to train and save. [dim]\\[default: RUN/refit/ID-BUDGET][/]"),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Export the model to this file, too; checked to give the same outputs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the best configuration once more, with all the data, and save the model with its test figures.

    Any other configuration will do as well. The same command goes on with a refit that was killed, and shows one that
    is done. Options of the problem that say something of this host may follow.

    Exit codes: 0 the model is there; 1 the training or the export failed; 2 wrong input, or a problem that cannot be
    refit; 130 interrupted.
    """
    options = RefitOptions(
        problem_options=tuple(typed_options(ctx.args, ctx).items()),
        config_id=None if config is None else configuration_id(config),
        budget=budget,
        seed=seed,
        directory=out,
        export=export,
    )
    # What a program reads is on standard output alone.
    words = console(stderr=as_json)
    with slips_answered(ctx):
        told = prepare_refit(directory_of_a_search(run), options)
    introduce(words, told)
    lines = CurveLines(lambda text: words.print(text, markup=False, soft_wrap=True), told.budget, told.unit)
    try:
        done = carry_out_refit(told, lines.take)
    except KeyboardInterrupt:
        lines.end()
        words.print("interrupted; the same command goes on from its last checkpoint", soft_wrap=True)
        raise
    lines.end()
    if isinstance(done, Failure):
        words.print(f"\n{shown(done)}", markup=False, style="red", soft_wrap=True)
        words.print(f"\nits output is in {told.directory}; once the cause is mended, the same command goes on",
                    markup=False, soft_wrap=True)  # fmt: skip
        sys.exit(REFIT_FAILED)
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        conclude(words, told, done)


def configuration_id(text: str) -> ConfigId:
    """Read a configuration as ``list`` prints it; what stands behind an @ is left out.

    Raises
    ------
    UsageError
        If it is none.
    """
    match = re.fullmatch(r"(\d+)-(\d+)-(\d+)(?:@\d+)?", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(
            f"--config {text!r} is no configuration; give one as list prints it: BRACKET-RUNG-INDEX, say 0-0-3"
        )
    bracket, sampled_at, index = map(int, match.groups())
    return ConfigId(bracket, sampled_at, index)


class CurveLines:
    """The learning curve as lines: at most one a second, and always the last one.

    Parameters
    ----------
    say
        Prints one line.
    budget, unit
        Of the training.
    clock
        Seconds, never going back.
    """

    def __init__(
        self, say: Callable[[str], None], budget: float, unit: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._of = amount(budget, unit)
        self._clock = clock
        self._next_at = clock()
        self._waits: CurvePoint | None = None

    def take(self, point: CurvePoint) -> None:
        """Say a point, or keep it until the next one."""
        self._waits = point
        if self._clock() >= self._next_at:
            self.end()
            self._next_at = self._clock() + LINE_EVERY_S

    def end(self) -> None:
        """Say what waits."""
        if self._waits is None:
            return
        step, loss, metrics = self._waits
        self._waits = None
        figures = [f"loss {number(loss)}", *(f"{name}={value_text(value)}" for name, value in metrics.items())]
        self._say(f"{number(step)} of {self._of}: {', '.join(figures)}")


def introduce(out: Console, told: Refit) -> None:
    """What is trained, and where."""
    config_id = told.evaluation.config_id
    what = f"configuration {config_id} for {amount(told.budget, told.unit)}, seed {told.seed}"
    how = "going on with the refit of" if told.is_resumed else "refit of"
    if told.figures is not None:
        how = "done before: refit of"
    out.print(f"{how} {what}, in {told.directory}\n", markup=False, soft_wrap=True)
    out.print(values_table("hyperparameter", told.values))
    out.print()


def conclude(out: Console, told: Refit, done: dict[str, Plain]) -> None:
    """The figures, and where the model is."""
    figures = {name: value for name, value in done["figures"].items() if name != "model"}
    if figures:
        out.print()
        out.print(figures_table({"refit": figures}))
    model = told.directory / done["figures"]["model"]
    time_taken = f"trained in {duration(done['duration_s'])}; " if told.figures is None else ""
    out.print(f"\n{time_taken}the model: {model}; its figures: {told.file}", markup=False, soft_wrap=True)
    if told.export is not None:
        found = ", ".join(f"{name}={value_text(value)}" for name, value in done["exports"][str(told.export)].items())
        out.print(f"exported to {told.export}" + (f": {found}" if found else ""), markup=False, soft_wrap=True)
