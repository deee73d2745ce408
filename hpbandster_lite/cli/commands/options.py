"""``options``: the options of a problem, as the problem describes them; the JSON schema of search files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hpbandster_lite.cli.options import AsJson
from hpbandster_lite.cli.problem_options import explain_unknown_options, with_typed_options
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import describe_in_child, target_of, text_of
from hpbandster_lite.records import ProblemOption


def options(
    ctx: typer.Context,
    problem: Annotated[
        str | None,
        typer.Argument(
            metavar="PROBLEM", help="A problem, as for [b]run[/], but not a search file.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON schema of search files, with which editors complete them."),
    ] = False,
) -> None:
    """List the options of a problem, with the values each accepts, its default, and what it is for.

    The options follow the problem in run, plan, master, worker and slurm submit: hpbandster-lite run PROBLEM --option
    VALUE. All workers of a search must have the same values, except for options that describe a host.
    """
    if schema:
        # Here: it imports pydantic.
        from hpbandster_lite.settings.schema import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return
    if problem is None:
        raise UsageError("give a problem, such as: hpbandster-lite options digits; or --schema")
    reference = with_typed_options(problem, ctx)
    with explain_unknown_options(ctx):
        about = describe_in_child(reference)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in about.options], indent=2))
        return
    out = console()
    if not about.options:
        out.print(f"{target_of(problem)} has no options", markup=False, soft_wrap=True)
        return
    out.print(_table(about.options))
    if any(each.is_local for each in about.options):
        out.print("\n* of a host: each worker may have its own", markup=False)


def _table(listed: Sequence[ProblemOption]) -> Table:
    """One option a line; with the values that were given, where some were."""
    any_given = any(each.value != each.default for each in listed)
    table = plain_table()
    for heading in ("option", "may be", "default", *(["here"] if any_given else []), "for"):
        table.add_column(heading, overflow="fold")
    for each in listed:
        here = [text_of(each.value)] if any_given else []
        cells = [_typed(each), each.kind, text_of(each.default), *here, each.help]
        table.add_row(*map(escape, cells))
    return table


def _typed(option: ProblemOption) -> str:
    """The option as it is typed."""
    name = option.name.replace("_", "-")
    text = f"--{name}/--no-{name}" if isinstance(option.default, bool) else f"--{name}"
    return f"{text} *" if option.is_local else text
