"""The picture of a search: totals, the incumbent, brackets and rungs, workers and what each does.

Law of this file: a pure function of a :class:`~hpbandster_lite.protocol.status.Status`; the live view, ``status`` and
``slurm status`` show the same picture.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hpbandster_lite.cli.view.formats import amount, duration, number, rate, value_text
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.engine.same_fault import first_line
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.hyperband.ranking import best_loss
from hpbandster_lite.protocol.status import Agent, Bracket, Rung, SourceEdit, Status
from hpbandster_lite.records import users_values

MOST_FIGURES = 4
"""Figures of the incumbent beside its loss that fit on a line."""
MOST_WAITS = 3
STYLES = {"incumbent": "bold", "failed": "red", "waits": "yellow", "hints": "yellow", "fault": "red"}
MOST_BRACKETS = 20
"""With more, a view that has no screen to fit on lists the open ones and the best; the row ``all`` sums up."""
MOST_WORKERS = 100
"""The same for workers: those with a remark come first."""
MOST_EDITS = 3
"""Edits of the source that are listed, the newest ones."""
FEWEST = 3
"""Brackets and workers that are shown even on the smallest screen."""


def status_view(status: Status, *, height: int | None = None) -> RenderableType:
    """The whole picture.

    Parameters
    ----------
    status
        Of the search.
    height
        Lines of the screen that it should fit on; default: show all, but of many brackets the open ones and the best,
        and of many workers those with a remark first.
    """
    parts: list[RenderableType] = [_facts_table(facts(status))]
    best = status.incumbent
    if best is not None:
        shown = users_values(best.values).items()
        values = [Text(f"{name}={value_text(value)}", overflow="ellipsis") for name, value in shown]
        parts.append(Columns(values, padding=(0, 3), equal=True))
    brackets, agents = status.brackets, status.agents
    most_brackets, most_workers = _room(height, len(brackets), 0 if best is None else len(best.values))
    if height is None and len(brackets) > MOST_BRACKETS:
        parts += ["", *_summed_rungs(status)]
    elif brackets:
        parts += ["", _rungs(brackets[-most_brackets:], status)]
        if len(brackets) > most_brackets:
            parts.append(Text(f"and {len(brackets) - most_brackets} brackets before these", style="dim"))
    if agents:
        parts += ["", *_workers(agents, status.unit, most_workers)]
    return Group(*parts)


def facts(status: Status) -> dict[str, str]:
    """The status in a few named sentences."""
    how = f"{status.algorithm}, maximize" if status.maximize else status.algorithm
    named = {
        "search": f"{status.problem} ({how}), run {status.run_id}, seed {status.seed}",
        "state": state_line(status),
        "done": progress_line(status),
    }
    if status.source_edits:
        named["source"] = "\n".join(_edits(status.source_edits))
    if status.failures:
        named["failed"] = ", ".join(f"{count} {kind}" for kind, count in status.failures.items())
    if status.agents:
        named["workers"] = f"{status.busy} of {len(status.agents)} busy"
    elif status.state == "running":
        named["workers"] = "none yet"
    waits = _waits_to_show(status)
    if waits:
        named["waits"] = "\n".join(waits)
    if status.model is not None:
        named["model"] = status.model
    if status.hints:
        named["hints"] = "\n".join(status.hints)
    fault = (status.reason or "").partition("\n")[2]
    if fault:
        named["fault"] = fault
    named["incumbent"] = incumbent_line(status)
    return named


def _edits(edits: Sequence[SourceEdit]) -> Iterator[str]:
    earlier = len(edits) - MOST_EDITS
    if earlier > 0:
        yield f"{earlier} earlier edits, which status --json lists"
    for edit in edits[-MOST_EDITS:]:
        yield edit.sentence


def _waits_to_show(status: Status) -> list[str]:
    """Why the search waits; that a rung waits for its last evaluations matters only while workers are idle."""
    idle = status.busy < len(status.agents)
    shown = [wait.reason for wait in status.waits if wait.kind != "rung" or wait.ends_in_s is not None or idle]
    return shown[:MOST_WAITS]


def state_line(status: Status) -> str:
    """Whether the search runs, for how long it has run, and how long it will."""
    if status.journal_stalled_s is not None:
        why = status.journal_stalled_by or "is the disk full?"
        return f"waiting for {duration(status.journal_stalled_s)} to write the journal, no work is given out: {why}"
    if status.state != "running":
        text = f"{status.state}: {first_line(status.reason or '')}"
        return text if status.paused is None or status.state == "finished" else f"{text}; {_paused(status)}"
    if status.paused is not None:
        return _paused(status)
    text = "running" if status.uptime_s is None else f"running for {duration(status.uptime_s)}"
    left = None if status.forecast is None else status.forecast.time_left_s
    long = next((agent for agent in status.agents if agent.runs_long), None)
    if long is None:
        return text if left is None else f"{text}, about {duration(left)} left"
    end = "the end is unknown" if left is None else f"at most {duration(left)} left"
    return f"{text}, {end}, because {long.evaluation} is {long.how_long}"


def _paused(status: Status) -> str:
    """Since when, in the reader's local time, and why."""
    at = status.paused_at
    since = "" if at is None else f" since {datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"
    return f"paused{since}" + (f": {status.paused}" if status.paused else "")


def progress_line(status: Status) -> str:
    """How many evaluations are done, of how many, and how fast."""
    evaluations, outlook = status.evaluations, status.forecast
    text = f"{evaluations.recorded} evaluations"
    if outlook is not None and outlook.evaluations is not None and status.state != "finished":
        text = f"{evaluations.recorded} of {outlook.evaluations} evaluations"
        if outlook.share is not None:
            text += f" ({math.floor(100 * outlook.share)} % of the budget)"
    if evaluations.running:
        text += f", {evaluations.running} {'running' if status.state == 'running' else 'were running'}"
    if status.uptime_s and evaluations.recorded_here:
        text += f", {rate(evaluations.recorded_here, status.uptime_s)}"
    return text


def incumbent_line(status: Status) -> str:
    """The incumbent in one line, without its hyperparameters."""
    best = status.incumbent
    if best is None:
        return "none yet"
    text = f"{best.config_id}, {_word(status)} {number(best.loss)} at {amount(best.budget, status.unit)}"
    plain = {name: value for name, value in best.info.items() if isinstance(value, bool | int | float | str)}
    figures = [f"{name}={value_text(value)}" for name, value in list(plain.items())[:MOST_FIGURES]]
    return f"{text} ({', '.join(figures)})" if figures else text


def _word(status: Status) -> str:
    return word_for(maximize=status.maximize)


def headline(status: Status) -> str:
    """The status in one line, for a log."""
    named = facts(status)
    parts = [named["state"], named["done"]]
    parts += [f"failed: {named['failed']}"] if "failed" in named else []
    parts += [f"workers: {named['workers']}"] if "workers" in named else []
    parts += [named[name].replace("\n", "; ") for name in ("waits", "hints") if name in named]
    return " · ".join([*parts, f"incumbent: {named['incumbent']}"])


def _facts_table(named: Mapping[str, str]) -> Table:
    table = plain_table()
    table.show_header = False
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in named.items():
        table.add_row(name, Text(text, style=STYLES.get(name, "")))
    return table


def _room(height: int | None, brackets: int, values: int) -> tuple[int, int]:
    """How many brackets and how many workers fit on a screen."""
    if height is None:
        return max(1, brackets), MOST_WORKERS
    # The sentences take about 8 lines; headings, blank lines and the lines that count the rest 7 more; the columns of
    # the incumbent's hyperparameters hold at least 3 in a line.
    free = height - 15 - math.ceil(values / 3)
    shown = max(FEWEST, min(brackets, free // 2))
    return shown, max(FEWEST, free - shown)


def _summed_rungs(status: Status) -> Iterator[RenderableType]:
    """The open brackets and that of the incumbent, and the sum of all."""
    brackets = status.brackets
    best = _bracket_of_the_incumbent(status)
    is_open = [bracket for bracket in brackets if not bracket.complete and bracket.bracket != best]
    listed = [bracket for bracket in brackets if bracket.bracket == best] + is_open[-MOST_BRACKETS:]
    yield _rungs(sorted(listed, key=lambda bracket: bracket.bracket), status, summed=brackets)
    rest = len(brackets) - len(listed)
    what = "complete brackets" if len(is_open) <= MOST_BRACKETS else "other brackets"
    yield Text(f"and {rest} {what}, which status --json lists", style="dim")


def _bracket_of_the_incumbent(status: Status) -> int | None:
    """The bracket in whose rung the incumbent has its place, which need not be that of its configuration."""
    best = status.incumbent
    if best is None:
        return None
    has_it = [
        bracket.bracket
        for bracket in status.brackets
        if any((rung.budget, rung.best) == (best.budget, best.loss) for rung in bracket.rungs)
    ]
    own = best.config_id.bracket
    return own if own in has_it or not has_it else has_it[0]


def _sums(brackets: Sequence[Bracket], *, maximize: bool) -> dict[float, Rung]:
    """All rungs of a budget as one."""
    of_budget: dict[float, list[Rung]] = {}
    for bracket in brackets:
        for rung in bracket.rungs:
            of_budget.setdefault(rung.budget, []).append(rung)
    return {
        budget: Rung(
            budget=budget,
            places=sum(rung.places for rung in rungs),
            is_open=True,
            done=sum(rung.done for rung in rungs),
            running=sum(rung.running for rung in rungs),
            failed=sum(rung.failed for rung in rungs),
            best=best_loss([rung.best for rung in rungs if rung.best is not None], maximize=maximize),
        )
        for budget, rungs in of_budget.items()
    }


def _rungs(brackets: Sequence[Bracket], status: Status, summed: Sequence[Bracket] = ()) -> Table:
    """One row for each bracket, and one for the sum of those in ``summed``, if there are any."""
    table = plain_table()
    table.add_column("bracket", justify="right")
    budgets = sorted({rung.budget for bracket in (*brackets, *summed) for rung in bracket.rungs})
    for budget in budgets:
        table.add_column(amount(budget, status.unit), justify="right", no_wrap=True)
    table.add_column(f"best {_word(status)}", justify="right", no_wrap=True)
    for bracket in brackets:
        cells = {rung.budget: _rung_cell(rung) for rung in bracket.rungs}
        losses = [rung.best for rung in bracket.rungs if rung.best is not None]
        table.add_row(
            str(bracket.bracket),
            *(cells.get(budget, "") for budget in budgets),
            number(losses[-1] if losses else None),
        )
    if summed:
        sums = _sums(summed, maximize=status.maximize)
        best = [sums[budget].best for budget in budgets if sums[budget].best is not None]
        texts = [_rung_cell(sums[budget]) for budget in budgets]
        table.add_row("all", *texts, number(best[-1] if best else None), style="bold")
    return table


def _rung_cell(rung: Rung) -> str:
    text = f"{rung.done}/{rung.places}"
    if rung.running:
        text += f" [cyan]+{rung.running}[/]"
    if rung.failed:
        text += f" [red]({rung.failed} failed)[/]"
    return text if rung.is_open else f"[dim]{text}[/]"


def _workers(agents: Sequence[Agent], unit: str, most: int) -> Iterator[RenderableType]:
    """Workers with a remark first, then by name; numbers in names count as numbers."""
    ordered = sorted(agents, key=lambda agent: (not _remark(agent), _by_number(agent.name)))
    table = plain_table()
    for heading in ("worker", "evaluation", "budget", "for", "learning curve", ""):
        table.add_column(heading, no_wrap=heading != "")
    for agent in ordered[:most]:
        curve = "" if agent.step is None else f"{number(agent.loss)} at {number(agent.step)}"
        table.add_row(
            escape(agent.name),
            agent.evaluation or "[dim]idle[/]",
            "" if agent.budget is None else amount(agent.budget, unit),
            "" if agent.since_s is None else duration(agent.since_s),
            curve,
            Text(_remark(agent), style="yellow"),
        )
    yield table
    rest = ordered[most:]
    if rest:
        yield Text(f"and {len(rest)} more, {sum(agent.is_busy for agent in rest)} of them busy", style="dim")


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _remark(agent: Agent) -> str:
    remarks = []
    if agent.runs_long:
        remarks.append(agent.how_long)
    if (agent.attempt or 1) > 1:
        remarks.append(f"attempt {agent.attempt}")
    if agent.is_silent:
        remarks.append(_silence(agent))
        if agent.lease_ends_in_s is not None:
            remarks.append(f"its lease ends in {duration(max(0.0, agent.lease_ends_in_s))}")
    if agent.hindrance is not None:
        remarks.append(f"takes no work: {agent.hindrance}")
    return ", ".join(remarks)


def _silence(agent: Agent) -> str:
    if agent.silent_s is None:
        return "not connected to this master yet"
    return f"silent for {duration(agent.silent_s)}" if agent.is_connected else "has lost its connection"
