"""What a person sees while a search runs: a live view on a terminal, plain log lines elsewhere.

Law of this file: it shows a status as it is told; :func:`status_view` is a pure function of that status, and
``hpbandster-lite status`` prints the same picture.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hpbandster_lite.cli.view.tables import (
    amount,
    duration,
    first_line,
    number,
    options_line,
    plain_table,
    plan_summary,
    plan_table,
    rate,
    said,
)
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.launch import Watcher
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared

Status = Mapping[str, Plain]
LINE_EVERY_S = 10.0
"""Seconds between two log lines at first; later a tenth of the time that has passed, so that a log stays short."""
LINE_AT_LEAST_EVERY_S = 600.0
SILENT_S = 10.0
"""A worker is heard every 5 s (its heartbeat); one that was not for two of them is worth a word."""
MOST_FIGURES = 4
"""Figures of the incumbent beside its loss that fit on a line."""
MOST_WAITS = 3
STYLES = {"incumbent": "bold", "failed": "red", "waits": "yellow", "look": "yellow", "fault": "red"}
FEWEST = 3
"""Brackets and workers that are shown on however small a screen."""


def status_view(status: Status, *, height: int | None = None) -> RenderableType:
    """Totals, the incumbent, brackets and rungs, workers and what each does.

    Parameters
    ----------
    status
        As the master tells it, or as read from the journal; with its ``forecast``, if there is one.
    height
        Lines of the screen that it should fit on; default: show all.
    """
    parts: list[RenderableType] = [_facts_table(facts(status))]
    best = status["incumbent"]
    if best is not None:
        values = [Text(f"{name}={said(value)}", overflow="ellipsis") for name, value in best["values"].items()]
        parts.append(Columns(values, padding=(0, 3), equal=True))
    brackets, agents = status["brackets"], status["agents"]
    most_brackets, most_workers = _room(height, len(brackets), 0 if best is None else len(best["values"]))
    if brackets:
        parts += ["", _rungs(status, brackets[-most_brackets:])]
        if len(brackets) > most_brackets:
            parts.append(Text(f"and {len(brackets) - most_brackets} brackets before these", style="dim"))
    if agents:
        parts += ["", *_workers(agents, status["unit"], most_workers)]
    return Group(*parts)


def facts(status: Status) -> dict[str, str]:
    """The status in a few named sentences."""
    told = {
        "search": f"{status['problem']} ({status['algorithm']}), run {status['run_id']}, seed {status['seed']}",
        "state": state_line(status),
        "done": progress_line(status),
    }
    if status["failures"]:
        told["failed"] = ", ".join(f"{count} {kind}" for kind, count in status["failures"].items())
    if status["agents"]:
        busy = sum(agent["evaluation"] is not None for agent in status["agents"])
        told["workers"] = f"{busy} of {len(status['agents'])} busy"
    elif status["state"] == "running":
        told["workers"] = "none yet"
    waits = _worth_saying(status)
    if waits:
        told["waits"] = "\n".join(waits)
    if status.get("hints"):
        told["look"] = "\n".join(status["hints"])
    fault = (status["reason"] or "").partition("\n")[2]
    if fault:
        told["fault"] = fault
    told["incumbent"] = incumbent_line(status)
    return told


def _worth_saying(status: Status) -> list[str]:
    """Why the search waits; that a rung waits for its last evaluations matters only to workers who idle meanwhile."""
    idle = any(agent["evaluation"] is None for agent in status["agents"])
    waits = status.get("waits", ())
    said_so = [wait["reason"] for wait in waits if wait["kind"] != "rung" or wait["ends_in_s"] is not None or idle]
    return said_so[:MOST_WAITS]


def state_line(status: Status) -> str:
    """Whether the search runs, for how long it has, and how long it will."""
    if status.get("journal_stalled_s") is not None:
        stalled = duration(status["journal_stalled_s"])
        return f"the journal cannot be written since {stalled}; nothing is handed out until it can: is the disk full?"
    if status["state"] != "running":
        text = f"{status['state']}: {first_line(status['reason'] or '')}"
        return text if status.get("paused") is None or status["state"] == "finished" else f"{text}; {_paused(status)}"
    if status.get("paused") is not None:
        return _paused(status)
    text = "running"
    text += f" for {duration(status['uptime_s'])}" if status.get("uptime_s") is not None else ""
    left = (status.get("forecast") or {}).get("time_left_s")
    return text if left is None else f"{text}, about {duration(left)} left"


def _paused(status: Status) -> str:
    """Since when, on the reader's own wall clock, and why."""
    at = status.get("paused_at")
    since = "" if at is None else f" since {datetime.fromtimestamp(at).astimezone():%Y-%m-%d %H:%M:%S}"
    return f"paused{since}" + (f": {status['paused']}" if status["paused"] else "")


def progress_line(status: Status) -> str:
    """How many evaluations are done, of how many, and how fast."""
    evaluations = status["evaluations"]
    outlook = status.get("forecast") or {}
    text = f"{evaluations['recorded']} evaluations"
    if outlook.get("evaluations") is not None and status["state"] != "finished":
        text = f"{evaluations['recorded']} of {outlook['evaluations']} evaluations"
        if outlook["share"] is not None:
            text += f" ({math.floor(100 * outlook['share'])} % of the budget)"
    if evaluations["running"]:
        text += f", {evaluations['running']} {'running' if status['state'] == 'running' else 'were running'}"
    if status.get("uptime_s") and evaluations.get("recorded_here"):
        text += f", {rate(evaluations['recorded_here'], status['uptime_s'])}"
    return text


def incumbent_line(status: Status) -> str:
    """The incumbent in one line, without its hyperparameters."""
    best = status["incumbent"]
    if best is None:
        return "none yet"
    config_id = "-".join(str(part) for part in best["config_id"])
    text = f"{config_id}, loss {number(best['loss'])} at {amount(best['budget'], status['unit'])}"
    plain = {name: value for name, value in best["info"].items() if isinstance(value, bool | int | float | str)}
    figures = [f"{name}={said(value)}" for name, value in list(plain.items())[:MOST_FIGURES]]
    return f"{text} ({', '.join(figures)})" if figures else text


def headline(status: Status) -> str:
    """The status in one line, for a log."""
    told = facts(status)
    words = [told["state"], told["done"]]
    words += [f"failed: {told['failed']}"] if "failed" in told else []
    words += [f"workers: {told['workers']}"] if "workers" in told else []
    words += [told[name].replace("\n", "; ") for name in ("waits", "look") if name in told]
    return " · ".join([*words, f"incumbent: {told['incumbent']}"])


def _facts_table(told: Mapping[str, str]) -> Table:
    table = plain_table()
    table.show_header = False
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in told.items():
        table.add_row(name, Text(text, style=STYLES.get(name, "")))
    return table


def _room(height: int | None, brackets: int, values: int) -> tuple[int, int]:
    """How many brackets and how many workers fit on a screen."""
    if height is None:
        return max(1, brackets), 10**9
    # The sentences take about 8 lines, the two headings, blank lines and what is left unsaid 7 more; the columns of the
    # incumbent's hyperparameters at least 3 in a line.
    free = height - 15 - math.ceil(values / 3)
    shown = max(FEWEST, min(brackets, free // 2))
    return shown, max(FEWEST, free - shown)


def _rungs(status: Status, brackets: Sequence[Status]) -> Table:
    table = plain_table()
    table.add_column("bracket", justify="right")
    budgets = sorted({rung["budget"] for bracket in brackets for rung in bracket["rungs"]})
    for budget in budgets:
        table.add_column(amount(budget, status["unit"]), justify="right", no_wrap=True)
    table.add_column("best loss", justify="right", no_wrap=True)
    for bracket in brackets:
        cells = {rung["budget"]: _rung_cell(rung) for rung in bracket["rungs"]}
        losses = [rung["best"] for rung in bracket["rungs"] if rung["best"] is not None]
        table.add_row(
            str(bracket["bracket"]),
            *(cells.get(budget, "") for budget in budgets),
            number(losses[-1] if losses else None),
        )
    return table


def _rung_cell(rung: Status) -> str:
    text = f"{rung['done']}/{rung['places']}"
    if rung["running"]:
        text += f" [cyan]+{rung['running']}[/]"
    if rung["failed"]:
        text += f" [red]({rung['failed']} failed)[/]"
    return text if rung["is_open"] else f"[dim]{text}[/]"


def _workers(agents: Sequence[Status], unit: str, most: int) -> Iterator[RenderableType]:
    """Those with something to say first, then by name; numbers in names count as numbers."""
    ordered = sorted(agents, key=lambda agent: (not _remark(agent), _by_number(_name(agent))))
    table = plain_table()
    for heading in ("worker", "evaluation", "budget", "for", "learning curve", ""):
        table.add_column(heading, no_wrap=heading != "")
    for agent in ordered[:most]:
        curve = "" if agent["step"] is None else f"{number(agent['loss'])} at {number(agent['step'])}"
        is_busy = agent["evaluation"] is not None
        table.add_row(
            escape(_name(agent)),
            agent["evaluation"] if is_busy else "[dim]idle[/]",
            amount(agent["budget"], unit) if is_busy else "",
            duration(agent["since_s"]) if is_busy else "",
            curve,
            Text(_remark(agent), style="yellow"),
        )
    yield table
    rest = ordered[most:]
    if rest:
        busy = sum(agent["evaluation"] is not None for agent in rest)
        yield Text(f"and {len(rest)} more, {busy} of them busy", style="dim")


def _name(agent: Status) -> str:
    name: str = agent["worker"] or agent["agent"]
    return name


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _remark(agent: Status) -> str:
    remarks = []
    if (agent["attempt"] or 1) > 1:
        remarks.append(f"attempt {agent['attempt']}")
    silent_s, ends_in_s = agent["silent_s"], agent["lease_ends_in_s"]
    if silent_s is None or silent_s > SILENT_S:
        remarks.append("not heard by this master yet" if silent_s is None else f"silent for {duration(silent_s)}")
        if ends_in_s is not None:
            remarks.append(f"its lease ends in {duration(max(0.0, ends_in_s))}")
    return ", ".join(remarks)


class LiveWatcher:
    """The picture, renewed in place; ``completed`` adds to a master's status what the master does not know."""

    def __init__(self, console: Console, live: Live, completed: Callable[[RunDirectory, Status], Status]) -> None:
        self._console = console
        self._live = live
        self._completed = completed
        self._directory: RunDirectory | None = None

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """The plan, before anything runs."""
        self._directory = directory
        introduce(self._console, prepared, directory)

    def status(self, status: Status) -> None:
        """Renew the picture."""
        if self._directory is not None:
            status = self._completed(self._directory, status)
        self._live.update(status_view(status, height=self._console.height), refresh=True)

    def note(self, text: str) -> None:
        """One line above the picture."""
        self._console.print(text, markup=False)


class LineWatcher:
    """A line now and then, for logs: often at first, ever more seldom later, and when the incumbent changes."""

    def __init__(
        self,
        console: Console,
        completed: Callable[[RunDirectory, Status], Status],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._completed = completed
        self._clock = clock
        self._began_at = clock()
        self._next_line_at = self._began_at
        self._last = ""
        self._directory: RunDirectory | None = None

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """The plan, before anything runs."""
        self._directory = directory
        introduce(self._console, prepared, directory)

    def status(self, status: Status) -> None:
        """The totals and the incumbent, if it is time for a line, or if the incumbent or the state is another."""
        now = self._clock()
        said_now = f"{status['state']} {status.get('paused')} {incumbent_line(status)}"
        if now < self._next_line_at and said_now == self._last:
            return
        if self._directory is not None:
            status = self._completed(self._directory, status)
        pause_s = (now - self._began_at) / 10
        self._next_line_at = now + min(max(LINE_EVERY_S, pause_s), LINE_AT_LEAST_EVERY_S)
        self._last = said_now
        self._say(headline(status))

    def note(self, text: str) -> None:
        """One line."""
        self._say(text)

    def _say(self, text: str) -> None:
        # The wall clock of the reader's own time zone, as in every log.
        self._console.print(f"{datetime.now().astimezone():%H:%M:%S} {text}", markup=False, soft_wrap=True)


def introduce(console: Console, prepared: Prepared, directory: RunDirectory) -> None:
    """Say what will run and where it is kept."""
    path = escape(str(directory.path))
    seed = f"seed {prepared.settings.seed}"
    if prepared.resumed:
        reader = JournalReader(directory.journal)
        recorded = sum(row["done"] + row["failed"] for row in reader.rungs())
        finished = reader.finished()
        console.print(f"going on with the search in [b]{path}[/], {seed}: {recorded} evaluations are recorded")
        is_asked_for_more = prepared.retry_failed_after is not None or reader.limits() != prepared.limits
        if finished is not None and not is_asked_for_more and not finished.kind.was_stopped:
            console.print(
                f"it is over: {finished.reason}. Give a higher limit (such as --brackets) to go on, or --new for "
                "another one",
                markup=False,
            )
    else:
        console.print(f"new search in [b]{path}[/], {seed}")
    introduce_plan(console, prepared)


def introduce_plan(console: Console, prepared: Prepared) -> None:
    """The plan as a table and a sentence, and what the user should know of it."""
    console.print()
    console.print(plan_table(prepared))
    console.print()
    console.print(plan_summary(prepared), markup=False)
    options = options_line(prepared.settings.problem.options)
    if options:
        console.print(options, markup=False, soft_wrap=True)
    for note in prepared.notes:
        console.print(f"note: {note}", markup=False)
    console.print()


@contextlib.contextmanager
def watcher_for(
    console: Console, completed: Callable[[RunDirectory, Status], Status], *, live: bool
) -> Iterator[Watcher]:
    """The live view on a terminal, lines elsewhere."""
    if not live:
        yield LineWatcher(console, completed)
        return
    with Live(console=console, auto_refresh=False, transient=False) as view:
        yield LiveWatcher(console, view, completed)
