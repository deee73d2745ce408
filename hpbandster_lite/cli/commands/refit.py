"""``refit``: from the best configuration to a trained model in a file."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.cli.options import AsJson, Force, any_number, find_run, path, whole_number
from hpbandster_lite.cli.problem_options import explain_unknown_options, typed_options
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.cli.typed_ids import read_configuration_id
from hpbandster_lite.cli.view.refit_report import CurveLines, conclude_refit, introduce_refit
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.engine.same_fault import shown
from hpbandster_lite.records import Failure
from hpbandster_lite.standalone.refit import RefitOptions, prepare_refit, run_refit

REFIT_FAILED = 1
"""Exit code of a refit whose training or export failed."""
Source = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        parser=path,
        callback=find_run,
        help="The run directory: [b]runs/digits[/], or its name, [b]digits[/]; or a file with the output of "
        "[b]best --json[/].",
        show_default=False,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        metavar="BUDGET",
        help="How long to train. [dim]\\[default: the largest budget of the search][/]",
        parser=any_number,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="A seed other than the one that the search trained this configuration with.",
        parser=whole_number,
    ),
]


def refit(
    ctx: typer.Context,
    run: Source,
    budget: Budget = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="ID", help="A configuration, as list prints it: 0-0-3. [dim]\\[default: the best one][/]"),
    ] = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to train and save. [dim]\\[default: RUN/refit/ID-BUDGET][/]"),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Export the model to this file, too; checked to give the same outputs. A file that is there is "
            "replaced only if this refit exported it, or with --force.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train the best configuration once more, with all the data, and save the model with its test figures.

    You may give another configuration. The same command continues a refit that was killed, and shows a refit that is
    complete. Options of the problem that describe this host may follow.

    Exit codes: 0 the model is saved; 1 the training or the export failed; 2 wrong input, or a problem that cannot be
    refit; 130 interrupted.
    """
    options = RefitOptions(
        problem_options=tuple(typed_options(ctx.args, ctx).items()),
        config_id=None if config is None else read_configuration_id(config),
        budget=budget,
        seed=seed,
        directory=out,
        export=export,
        force=force,
    )
    # Standard output is for the program that reads the JSON.
    output = console(stderr=as_json)
    with explain_unknown_options(ctx):
        prepared = prepare_refit(run if run.is_file() else directory_of_a_search(run), options)
    introduce_refit(output, prepared)
    lines = CurveLines.of(prepared, lambda text: output.print(text, markup=False, soft_wrap=True))
    try:
        done = run_refit(prepared, lines.take)
    except KeyboardInterrupt:
        lines.end()
        way_on = f"hpbandster-lite {shlex.join(sys.argv[1:])}"
        text = f"\ninterrupted; to go on, from a checkpoint if there is one: {way_on}"
        output.print(text, markup=False, highlight=False, soft_wrap=True)
        raise
    lines.end()
    if isinstance(done, Failure):
        output.print(f"\n{shown(done)}", markup=False, style="red", soft_wrap=True)
        remedy = "once the cause is corrected, the same command continues it"
        output.print(f"\nits output is in {prepared.directory}; {remedy}", markup=False, soft_wrap=True)
        sys.exit(REFIT_FAILED)
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    else:
        conclude_refit(output, prepared, done)
