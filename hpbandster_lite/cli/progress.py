"""What a person sees while a search runs: a live view on a terminal, plain log lines elsewhere.

Law of this file: it shows a status as the master tells it; :func:`status_view` is a pure function of that status, and
``hpbandster-lite status`` prints the same picture.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hpbandster_lite.cli.tables import duration, number, plan_summary, plan_table
from hpbandster_lite.launch import Watcher
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings import Prepared

LINE_EVERY_S = 10.0
MOST_BRACKETS = 8
"""Brackets shown at once, the newest ones: the view must fit on a screen."""
MOST_WORKERS = 16


def status_view(status: Mapping[str, Plain]) -> RenderableType:
    """Brackets and rungs, workers and what each does, the incumbent and the totals."""
    parts: list[RenderableType] = [Text(headline(status), style="bold"), _rungs(status)]
    if status["agents"]:
        parts.append(_workers(status["agents"], status["unit"]))
    parts.append(Text(incumbent_line(status)))
    return Group(*parts)


def headline(status: Mapping[str, Plain]) -> str:
    """Totals in one line."""
    evaluations = status["evaluations"]
    parts = [
        f"{status['problem']} ({status['algorithm']})",
        f"{evaluations['recorded']} evaluations done, {evaluations['running']} running",
    ]
    if status["occupancy"] is not None:
        busy = sum(agent["evaluation"] is not None for agent in status["agents"])
        parts.append(f"{busy} of {len(status['agents'])} workers busy")
    if status["failures"]:
        parts.append("failed: " + ", ".join(f"{count} {kind}" for kind, count in status["failures"].items()))
    if status.get("uptime_s"):
        per_hour = 3600 * evaluations["recorded_here"] / status["uptime_s"]
        parts.append(f"up {duration(status['uptime_s'])}, {number(per_hour, 3)} evaluations/h")
    if status.get("time_left_s") is not None:
        parts.append(f"about {duration(status['time_left_s'])} left")
    if status.get("journal_stalled_s") is not None:
        parts.append(f"JOURNAL NOT WRITABLE for {duration(status['journal_stalled_s'])}")
    if status["state"] == "finished":
        parts.append(f"finished: {status['reason']}")
    return " · ".join(parts)


def incumbent_line(status: Mapping[str, Plain]) -> str:
    """The incumbent in one line."""
    best = status["incumbent"]
    if best is None:
        return "no incumbent yet"
    values = ", ".join(
        f"{name}={number(value) if isinstance(value, float) else value}" for name, value in best["values"].items()
    )
    config_id = "-".join(str(part) for part in best["config_id"])
    return f"incumbent {config_id}: loss {number(best['loss'])} at {number(best['budget'])} {status['unit']}: {values}"


def _rungs(status: Mapping[str, Plain]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("bracket", justify="right")
    budgets = sorted({rung["budget"] for bracket in status["brackets"] for rung in bracket["rungs"]})
    for budget in budgets:
        table.add_column(f"{number(budget)} {status['unit']}", justify="right")
    table.add_column("best loss", justify="right")
    for bracket in status["brackets"][-MOST_BRACKETS:]:
        cells = {rung["budget"]: _rung_cell(rung) for rung in bracket["rungs"]}
        losses = [rung["best"] for rung in bracket["rungs"] if rung["best"] is not None]
        best = number(losses[-1]) if losses else "-"
        table.add_row(str(bracket["bracket"]), *(cells.get(budget, "") for budget in budgets), best)
    return table


def _rung_cell(rung: Mapping[str, Plain]) -> str:
    text = f"{rung['done']}/{rung['places']}"
    if rung["running"]:
        text += f" [cyan]+{rung['running']}[/]"
    if rung["failed"]:
        text += f" [red]{rung['failed']} failed[/]"
    return text if rung["is_open"] else f"[dim]{text}[/]"


def _workers(agents: Sequence[Mapping[str, Plain]], unit: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("worker", "does", "for", "learning curve", "heard"):
        table.add_column(heading)
    for agent in agents[:MOST_WORKERS]:
        curve = "" if agent["step"] is None else f"{number(agent['step'])}: {number(agent['loss'])}"
        does = "idle"
        if agent["evaluation"] is not None:
            attempt = f", attempt {agent['attempt']}" if agent["attempt"] > 1 else ""
            does = f"{agent['evaluation']} for {number(agent['budget'])} {unit}{attempt}"
        heard = "never" if agent["silent_s"] is None else f"{duration(agent['silent_s'])} ago"
        table.add_row(escape(agent["worker"] or agent["agent"]), does, duration(agent["since_s"]), curve, heard)
    if len(agents) > MOST_WORKERS:
        table.add_row(f"and {len(agents) - MOST_WORKERS} more")
    return table


class LiveWatcher:
    """The picture, renewed in place."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """The plan, before anything runs."""
        introduce(self._console, prepared, directory)

    def status(self, status: Mapping[str, Plain]) -> None:
        """Renew the picture."""
        self._live.update(status_view(status), refresh=True)

    def note(self, text: str) -> None:
        """One line above the picture."""
        self._console.print(text, markup=False)


class LineWatcher:
    """A line now and then, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_line = 0.0
        self._last = ""

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """The plan, before anything runs."""
        introduce(self._console, prepared, directory)

    def status(self, status: Mapping[str, Plain]) -> None:
        """Totals and the incumbent, at most every ten seconds and when the incumbent changed."""
        line = incumbent_line(status)
        if time.monotonic() >= self._next_line or line != self._last:
            self._next_line = time.monotonic() + LINE_EVERY_S
            self._last = line
            self._console.print(f"{headline(status)} · {line}", markup=False)

    def note(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False)


def introduce(console: Console, prepared: Prepared, directory: RunDirectory) -> None:
    """Say what will run and where it is kept."""
    verb = "going on with the search" if prepared.resumed else "new search"
    console.print(f"{verb} in [b]{escape(str(directory.path))}[/], seed {prepared.settings.seed}", highlight=False)
    console.print(plan_table(prepared))
    console.print(plan_summary(prepared))
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)


@contextlib.contextmanager
def watcher_for(console: Console, *, live: bool) -> Iterator[Watcher]:
    """The live view on a terminal, lines elsewhere."""
    if not live:
        yield LineWatcher(console)
        return
    with Live(console=console, auto_refresh=False, transient=False) as view:
        yield LiveWatcher(console, view)
