"""Tables and phrases for people, and the same content as plain values for ``--json``.

Law of this file: values in, renderables and words out; nothing is read, printed or decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from hpbandster_lite.hyperband.brackets import BracketPlan, plan_totals
from hpbandster_lite.problems import text_of
from hpbandster_lite.records import Plain, ProblemOption
from hpbandster_lite.settings.prepare import Prepared

DEFAULT_UNIT = "budget"
"""The unit of a problem that names none: it reads before the number, not after it."""

SECONDS = "seconds"
"""The unit of budgets that are also told in hours."""
MOST_ROWS = 30
"""Brackets that a plan lists: after a few cycles they only repeat."""


def number(value: float | None, digits: int = 6) -> str:
    """A number as briefly as it can be said; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def amount(budget: float, unit: str) -> str:
    """A budget with its unit: ``9 epochs``, ``1 epoch``, ``budget 9`` where the unit has no name."""
    if unit == DEFAULT_UNIT:
        return f"{unit} {number(budget, 10)}"
    one_of_many = budget == 1 and len(unit) > 2 and unit.endswith("s")
    return f"{number(budget, 10)} {unit[:-1] if one_of_many else unit}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: ``8.2 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds is None:
        return "-"
    # Rounded before it is cut into parts, or 119.7 s would be 1 min 60 s.
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def first_line(reason: str) -> str:
    """A reason without the traceback that may follow it."""
    return reason.partition("\n")[0].rstrip(":")


def rate(count: int, seconds: float) -> str:
    """How often something happens, in a unit that gives at least one: ``2.5 a second``, ``12 a minute``."""
    if seconds <= 0:
        return "-"
    each_second = count / seconds
    if each_second >= 1:
        return f"{number(each_second, 2 if each_second < 100 else 3)} a second"
    if each_second * 60 >= 1:
        return f"{number(each_second * 60, 2)} a minute"
    return f"{number(each_second * 3600, 2)} an hour"


def plain_table(title: str = "") -> Table:
    """A table without rules, as every command prints it: it reads as well in a log and through a pipe."""
    return Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
                 padding=(0, 2, 0, 0), header_style="dim")  # fmt: skip


def plan_table(prepared: Prepared) -> Table:
    """One row a bracket: how many evaluations at each budget, and the budget that they take together."""
    settings = prepared.settings
    table = plain_table(f"{settings.problem.name}: {settings.algorithm}, eta {number(settings.eta)}")
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
    """The plan in one sentence, and where other limits will end it sooner or later."""
    settings, totals, limits = prepared.settings, plan_totals(prepared.plans), prepared.limits
    total = number(totals.total_budget, 10)
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
        f"a loss of {number(limits.target_loss)}" if limits.target_loss is not None else "",
    ]
    named = ", ".join(filter(None, ends))
    return f"{text}; it ends at {named}" if named else text


def options_line(options: Iterable[ProblemOption]) -> str:
    """The options that are not the problem's defaults, in one line; empty if all are."""
    told = [f"{each.name}={text_of(each.value)}" for each in options if each.value != each.default]
    return f"options: {', '.join(told)}" if told else ""


def plan_plain(prepared: Prepared) -> dict[str, Plain]:
    """The plan as plain values."""
    settings, totals = prepared.settings, plan_totals(prepared.plans)
    return {
        "problem": settings.problem.name,
        "options": {each.name: each.value for each in settings.problem.options},
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


def evaluations_table(rows: Sequence[Mapping[str, Any]], unit: str) -> Table:
    """One line an evaluation: what, how long, how it ended, and why it failed."""
    table = plain_table()
    again = any(row["attempt"] > 1 for row in rows)
    failed = any(row["failure"] is not None for row in rows)
    for heading in ("evaluation", "budget", "state", "loss", "time", "worker"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("budget", "loss", "time") else "left")
    if again:
        table.add_column("attempt", justify="right")
    if failed:
        table.add_column("reason", overflow="fold", ratio=1)
    for row in rows:
        taken = row["finished_at"] - row["leased_at"] if row["finished_at"] and row["leased_at"] else None
        cells = [
            f"{row['config_id']}@{row['rung']}",
            amount(row["budget"], unit),
            row["state"] if row["failure"] is None else f"failed: {row['failure']}",
            number(row["loss"]),
            duration(taken),
            row["worker"] or "-",
        ]
        cells += [str(row["attempt"])] if again else []
        cells += [row["reason"] or ""] if failed else []
        table.add_row(*(escape(cell) for cell in cells))
    return table


def values_table(heading: str, values: Mapping[str, Plain]) -> Table:
    """Names and values, one a line."""
    table = plain_table()
    table.add_column(heading)
    table.add_column("value", overflow="fold")
    for name, value in values.items():
        table.add_row(escape(name), escape(said(value)))
    return table


def figures_table(columns: Mapping[str, Mapping[str, Plain]]) -> Table:
    """Figures by name, validation beside test; a dash where one of them has no such figure."""
    table = plain_table()
    table.add_column("")
    for heading in columns:
        table.add_column(heading, overflow="fold")
    for name in dict.fromkeys(name for figures in columns.values() for name in figures):
        table.add_row(escape(name), *(escape(said(figures.get(name))) for figures in columns.values()))
    return table


def said(value: Plain) -> str:
    """A plain value in a few characters."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={said(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(said(entry) for entry in value)
    return "-" if value is None else str(value)
