"""Tables for the terminal and the same content as plain values for ``--json``.

Law of this file: values in, renderables out; nothing is read, printed or decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from hpbandster_lite.brackets import BracketPlan, plan_totals
from hpbandster_lite.records import Plain
from hpbandster_lite.settings import Prepared


def number(value: float | None, digits: int = 6) -> str:
    """A number as briefly as it can be said; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``8.2 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def plan_table(prepared: Prepared) -> Table:
    """One row a bracket: how many evaluations at each budget."""
    settings = prepared.settings
    table = Table(
        title=f"{settings.problem.name}: {settings.algorithm}, eta {number(settings.eta)}", title_justify="left"
    )
    table.add_column("bracket", justify="right")
    for budget in settings.budgets:
        table.add_column(f"{number(budget)} {settings.unit}", justify="right")
    table.add_column("total", justify="right")
    plans = prepared.plans
    for plan in plans:
        places = {rung.budget: rung.places for rung in plan.rungs}
        cells = [str(places.get(budget, "")) for budget in settings.budgets]
        table.add_row(str(plan.bracket), *cells, number(plan_totals([plan]).total_budget))
    totals = plan_totals(plans)
    table.add_section()
    per_budget = [str(totals.per_budget.get(budget, 0)) for budget in settings.budgets]
    table.add_row("all", *per_budget, number(totals.total_budget))
    return table


def plan_summary(prepared: Prepared) -> str:
    """The plan in one sentence."""
    settings, totals = prepared.settings, plan_totals(prepared.plans)
    return (
        f"{totals.configurations} configurations, {totals.evaluations} evaluations, "
        f"{number(totals.total_budget, 10)} {settings.unit} in all "
        f"({number(totals.total_budget / settings.budgets[-1])} times the full budget)"
    )


def plan_plain(prepared: Prepared) -> dict[str, Plain]:
    """The plan as plain values."""
    settings, totals = prepared.settings, plan_totals(prepared.plans)
    return {
        "problem": settings.problem.name,
        "algorithm": settings.algorithm,
        "eta": settings.eta,
        "unit": settings.unit,
        "budgets": list(settings.budgets),
        "brackets": [_bracket_plain(plan) for plan in prepared.plans],
        "configurations": totals.configurations,
        "evaluations": totals.evaluations,
        "evaluations_per_budget": [totals.per_budget.get(budget, 0) for budget in settings.budgets],
        "total_budget": totals.total_budget,
        "notes": list(prepared.notes),
    }


def _bracket_plain(plan: BracketPlan) -> dict[str, Plain]:
    return {
        "bracket": plan.bracket,
        "rungs": [{"budget": rung.budget, "places": rung.places} for rung in plan.rungs],
    }


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, title: str = "") -> Table:
    """A table of records; ``columns`` maps a record's key to its heading."""
    table = Table(title=title or None, title_justify="left")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(key)) for key in columns))
    return table


def _cell(value: object) -> str:
    if isinstance(value, bool | str | int):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_cell(entry)}" for name, entry in value.items())
    return "-" if value is None else str(value)
