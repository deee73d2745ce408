"""The plan of a search: a table, a sentence, and the same as plain values for ``--json``.

Law of this file: it shows a :class:`~hpbandster_lite.settings.prepare.Prepared` and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hpbandster_lite.cli.view.formats import DEFAULT_UNIT, amount, duration, number
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.engine.same_fault import first_line
from hpbandster_lite.hyperband.brackets import BracketPlan, plan_totals
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import text_of
from hpbandster_lite.records import Finished, FinishKind, Plain, ProblemOption
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.samplers.model_start import ModelStart
from hpbandster_lite.settings.prepare import Prepared

SECONDS = "seconds"
"""The unit of budgets that are shown in hours, too."""
MOST_ROWS = 30
"""Brackets that a plan lists: after a few cycles they only repeat."""


def introduce(console: Console, prepared: Prepared, directory: RunDirectory) -> None:
    """Print the run directory, the seed and the plan."""
    path = escape(str(directory.path))
    seed = f"seed {prepared.settings.seed}"
    if prepared.resumed:
        reader = JournalReader(directory.journal)
        recorded = sum(row["done"] + row["failed"] for row in reader.rungs())
        finished = reader.finished()
        console.print(f"continuing the search in [b]{path}[/], {seed}: {recorded} evaluations are recorded")
        is_asked_for_more = prepared.retry_failed_after is not None or reader.limits() != prepared.limits
        if finished is not None and not is_asked_for_more and not finished.kind.was_stopped:
            how = _how_to_go_on(prepared, finished)
            console.print(f"it is over: {first_line(finished.reason)}. {how}", markup=False)
    else:
        console.print(f"new search in [b]{path}[/], {seed}")
    introduce_plan(console, prepared)


def _how_to_go_on(prepared: Prepared, finished: Finished) -> str:
    """What evaluates more after the end of a search, by its kind."""
    if finished.kind is FinishKind.EXHAUSTED:
        return "No limit extends it; --new begins another one"
    if finished.kind is FinishKind.INFEASIBLE:
        return "No limit extends it: correct feasible() or the space, then begin another one with --new"
    if finished.kind is FinishKind.TARGET:
        better = "higher" if prepared.settings.maximize else "lower"
        return f"Give a {better} --target-loss, or none and another limit, to go on, or --new for another one"
    return "Give a higher limit (such as --brackets) to go on, or --new for another one"


def introduce_plan(console: Console, prepared: Prepared) -> None:
    """Print the plan as a table and a sentence, with notes for the user."""
    console.print()
    console.print(plan_table(prepared))
    console.print()
    console.print(plan_summary(prepared), markup=False)
    start = prepared.model_start
    if start is not None and start.is_used:
        console.print(_model_line(start, prepared.settings.unit), markup=False)
    options = options_line(prepared.settings.problem.options)
    if options:
        console.print(options, markup=False, soft_wrap=True)
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)
    console.print()


def plan_table(prepared: Prepared) -> Table:
    """One row per bracket: how many evaluations at each budget, and the sum of their budgets."""
    settings = prepared.settings
    direction = ", maximize" if settings.maximize else ""
    table = plain_table(f"{settings.problem.name}: {settings.algorithm}{direction}, eta {number(settings.eta)}")
    table.add_column("bracket", justify="right")
    for budget in settings.budgets:
        table.add_column(amount(budget, settings.unit), justify="right")
    table.add_column(f"{settings.unit} in all", justify="right")
    plans = prepared.plans
    for plan in plans[:MOST_ROWS]:
        places = {rung.budget: rung.places for rung in plan.rungs}
        cells = [str(places.get(budget, "")) for budget in settings.budgets]
        table.add_row(str(plan.bracket), *cells, number(plan.total_budget, 10))
    if len(plans) > MOST_ROWS:
        table.add_row(f"... {plans[-1].bracket}", style="dim")
    totals = plan_totals(plans)
    per_budget = [str(totals.per_budget.get(budget, 0)) for budget in settings.budgets]
    table.add_row("all", *per_budget, number(totals.total_budget, 10), style="bold")
    return table


def plan_summary(prepared: Prepared) -> str:
    """The plan in one sentence, with the limits that may end the search sooner or later."""
    settings, totals, limits = prepared.settings, plan_totals(prepared.plans), prepared.users_limits
    total, word = number(totals.total_budget, 10), word_for(maximize=settings.maximize)
    full = f"{number(totals.total_budget / settings.budgets[-1])} times the full budget"
    if settings.unit == SECONDS and totals.total_budget >= 3600:
        full = f"{number(totals.total_budget / 3600)} hours; {full}"
    text = (
        f"{totals.configurations} configurations, {totals.evaluations} evaluations, "
        f"{f'budget {total}' if settings.unit == DEFAULT_UNIT else f'{total} {settings.unit}'} in all "
        f"({full})"
    )
    if limits.brackets is None:
        text += "; one cycle of brackets, begun again until a limit ends the search"
    ends = [
        f"{limits.evaluations} evaluations" if limits.evaluations is not None else "",
        f"a total budget of {number(limits.total_budget, 10)}" if limits.total_budget is not None else "",
        duration(limits.wall_time_s) if limits.wall_time_s is not None else "",
        f"a {word} of {number(limits.target_loss)}" if limits.target_loss is not None else "",
    ]
    named = ", ".join(filter(None, ends))
    return f"{text}; it ends at {named}" if named else text


def _model_line(start: ModelStart, unit: str) -> str:
    """When the model begins; that it never does is a note."""
    return (
        f"the model begins with {start.results} results at {amount(start.budget, unit)}, with one worker after "
        f"evaluation {start.evaluations}; until then configurations are random"
    )


def options_line(options: Iterable[ProblemOption]) -> str:
    """The options that differ from the problem's defaults, in one line; empty if none does."""
    changed = [f"{each.name}={text_of(each.value)}" for each in options if each.value != each.default]
    return f"options: {', '.join(changed)}" if changed else ""


def plan_plain(prepared: Prepared) -> dict[str, Plain]:
    """The plan as plain values."""
    settings, totals, start = prepared.settings, plan_totals(prepared.plans), prepared.model_start
    return {
        "problem": settings.problem.name,
        "options": {each.name: each.value for each in settings.problem.options},
        "algorithm": settings.algorithm,
        "maximize": settings.maximize,
        "eta": settings.eta,
        "unit": settings.unit,
        "budgets": list(settings.budgets),
        "brackets": [_bracket_plain(plan) for plan in prepared.plans],
        "configurations": totals.configurations,
        "evaluations": totals.evaluations,
        "evaluations_per_budget": [totals.per_budget.get(budget, 0) for budget in settings.budgets],
        "total_budget": totals.total_budget,
        "model": None if start is None else asdict(start),
        "notes": list(prepared.notes),
    }


def _bracket_plain(plan: BracketPlan) -> dict[str, Plain]:
    return {
        "bracket": plan.bracket,
        "rungs": [{"budget": rung.budget, "places": rung.places} for rung in plan.rungs],
    }
