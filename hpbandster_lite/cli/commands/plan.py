"""``plan``: what a search would do."""

from __future__ import annotations

import json
from dataclasses import replace

import typer

from hpbandster_lite.cli.options import AsJson, Problem, note, takes_options
from hpbandster_lite.cli.view.plan import introduce_plan, plan_plain
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.problems.shipped_data import MissingData
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare


@takes_options
def plan(problem: Problem, search: SearchOptions, as_json: AsJson = False) -> None:
    """Show the plan of a search: its brackets, the number of evaluations and the total budget. Runs nothing.

    Each row of the table is a bracket, each column a budget. A cell shows how many configurations the bracket evaluates
    at this budget; it promotes the best of them to the next budget.
    """
    lacks: list[MissingData] = []
    prepared = prepare(search, on_missing=lacks.append, on_progress=note)
    # A plan needs no data, and may be made on another host than those of the workers.
    prepared = replace(prepared, notes=(*prepared.notes, *(each.text for each in lacks)))
    if as_json:
        typer.echo(json.dumps(plan_plain(prepared), indent=2))
        return
    introduce_plan(console(), prepared)
