"""The picture of a running search: whole pictures against golden text, and the log lines that replace it elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpbandster_lite.cli.view.live import (
    LineWatcher,
    LiveWatcher,
    facts,
    headline,
    incumbent_line,
    introduce,
    status_view,
    watcher_for,
)
from hpbandster_lite.journal import Journal
from hpbandster_lite.records import (
    BracketOpened,
    Finished,
    FinishKind,
    Limits,
    Plain,
    ProblemDescription,
    SearchSettings,
    Started,
)
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared


def rung(budget: float, places: int, done: int, running: int = 0, failed: int = 0, best: float | None = None) -> Plain:
    return {
        "budget": budget,
        "places": places,
        "is_open": done + running > 0,
        "done": done,
        "running": running,
        "failed": failed,
        "best": best,
    }


def agent(worker: str, evaluation: str | None = None, **changed: Any) -> dict[str, Plain]:
    busy = evaluation is not None
    told = {
        "agent": f"{worker}-4f",
        "worker": worker,
        "silent_s": 1.0,
        "evaluation": evaluation,
        "budget": 3.0 if busy else None,
        "attempt": 1 if busy else None,
        "since_s": 83.4 if busy else None,
        "lease_ends_in_s": 55.0 if busy else None,
        "step": None,
        "loss": None,
    }
    return told | changed


INCUMBENT = {
    "config_id": [0, 0, 3],
    "rung": 1,
    "budget": 3.0,
    "loss": 0.0625,
    "values": {"lr": 0.0123456789, "depth": 3, "optimizer": "adam"},
    "info": {"error_percent": 6.25, "curve": [1, 2], "weights": 12345},
    "directory": None,
}


def status(**changed: Any) -> dict[str, Plain]:
    told = {
        "state": "running",
        "reason": None,
        "paused": None,
        "waits": [],
        "hints": [],
        "problem": "digits",
        "algorithm": "bohb",
        "unit": "epochs",
        "seed": 7,
        "run_id": "digits-88b3",
        "uptime_s": 200.0,
        "brackets": [
            {"bracket": 0, "rungs": [rung(1.0, 9, 9, 0, 1, 0.25), rung(3.0, 3, 1, 2, 0, 0.0625), rung(9.0, 1, 0)]},
            {"bracket": 1, "rungs": [rung(3.0, 3, 0, 1), rung(9.0, 1, 0)]},
        ],
        "agents": [
            agent("node-0", "0-0-5@1", step=2.0, loss=0.125),
            agent("node-1", "0-0-7@1"),
            agent("node-2", "1-0-0@0"),
        ],
        "evaluations": {"started": 13, "recorded": 10, "recorded_here": 10, "running": 3},
        "failures": {"code": 1},
        "limits": asdict(Limits(brackets=3)),
        "incumbent": INCUMBENT,
        "forecast": {"evaluations": 20, "share": 12 / 72, "time_left_s": 754.0},
        "journal_stalled_s": None,
    }
    return told | changed


def picture(told: Plain, *, width: int = 100, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(status_view(told, height=height))
    return [line.rstrip() for line in console.export_text().splitlines()]


# ------------------------------------------------------------------------------------------------------ the picture


def test_the_picture_of_a_running_search() -> None:
    assert picture(status()) == [
        "search     digits (bohb), run digits-88b3, seed 7",
        "state      running for 3 min 20 s, about 12 min 34 s left",
        "done       10 of 20 evaluations (16 % of the budget), 3 running, 3 a minute",
        "failed     1 code",
        "workers    3 of 3 busy",
        "incumbent  0-0-3, loss 0.0625 at 3 epochs (error_percent=6.25, weights=12345)",
        "lr=0.0123457   depth=3   optimizer=adam",
        "",
        "bracket         1 epoch  3 epochs  9 epochs  best loss",
        "      0  9/9 (1 failed)    1/3 +2       0/1     0.0625",
        "      1                    0/3 +1       0/1          -",
        "",
        "worker  evaluation  budget    for         learning curve",
        "node-0  0-0-5@1     3 epochs  1 min 23 s  0.125 at 2",
        "node-1  0-0-7@1     3 epochs  1 min 23 s",
        "node-2  1-0-0@0     3 epochs  1 min 23 s",
    ]


def test_the_picture_of_a_search_that_no_master_serves_says_so_and_what_to_do() -> None:
    stopped = status(
        state="stopped", reason="no master answers; run the same command again to go on", agents=[], uptime_s=None
    )
    told = facts(stopped)
    assert told["state"] == "stopped: no master answers; run the same command again to go on"
    assert told["done"] == "10 of 20 evaluations (16 % of the budget), 3 were running"
    assert "workers" not in told


def test_the_picture_of_a_search_that_is_over() -> None:
    over = status(
        state="finished",
        reason="all 3 brackets are complete",
        agents=[],
        failures={},
        evaluations={"started": 20, "recorded": 20, "running": 0},
    )
    assert picture(over)[:4] == [
        "search     digits (bohb), run digits-88b3, seed 7",
        "state      finished: all 3 brackets are complete",
        "done       20 evaluations",
        "incumbent  0-0-3, loss 0.0625 at 3 epochs (error_percent=6.25, weights=12345)",
    ]


def test_a_search_that_has_just_begun_has_a_picture() -> None:
    begun = status(
        brackets=[],
        agents=[],
        failures={},
        incumbent=None,
        uptime_s=0.0,
        waits=[{"kind": "worker", "reason": "no worker has ever joined", "ends_in_s": None}],
        evaluations={"started": 0, "recorded": 0, "recorded_here": 0, "running": 0},
        forecast={"evaluations": 20, "share": 0.0, "time_left_s": None},
    )
    assert picture(begun) == [
        "search     digits (bohb), run digits-88b3, seed 7",
        "state      running for 0.0 s",
        "done       0 of 20 evaluations (0 % of the budget)",
        "workers    none yet",
        "waits      no worker has ever joined",
        "incumbent  none yet",
    ]


def test_a_status_without_a_forecast_has_a_picture() -> None:
    told = status()
    del told["forecast"]
    assert facts(told)["done"] == "10 evaluations, 3 running, 3 a minute"
    assert facts(told)["state"] == "running for 3 min 20 s"


def test_a_journal_that_cannot_be_written_and_a_pause_are_the_state() -> None:
    assert facts(status(journal_stalled_s=12.0))["state"] == (
        "the journal cannot be written since 12 s; nothing is handed out until it can: is the disk full?"
    )
    at = datetime(2026, 11, 25, 14, 0, 5).astimezone().timestamp()
    assert facts(status(paused="", paused_at=at))["state"] == "paused since 2026-11-25 14:00:05"
    told = status(paused="maintenance", paused_at=at)
    assert facts(told)["state"] == "paused since 2026-11-25 14:00:05: maintenance"
    stopped = told | {"state": "stopped", "reason": "no master answers", "agents": []}
    assert facts(stopped)["state"] == "stopped: no master answers; paused since 2026-11-25 14:00:05: maintenance"


def test_the_fault_that_ended_a_search_is_shown_as_a_whole_and_a_log_line_stays_one_line() -> None:
    over = status(state="finished", reason="stopped, mend the code:\nTraceback\nValueError: boom", agents=[])
    assert facts(over)["state"] == "finished: stopped, mend the code"
    assert facts(over)["fault"] == "Traceback\nValueError: boom"
    assert "\n" not in headline(over)
    assert "ValueError: boom" in "\n".join(picture(over))


def test_hints_and_waits_that_matter_are_said() -> None:
    silent = {"kind": "rung", "reason": "worker node-1 silent for 45 s, its lease ends in 15 s", "ends_in_s": 15.0}
    usual = {"kind": "rung", "reason": "1 of 3 missing, 1 running", "ends_in_s": None}
    assert "waits" not in facts(status(waits=[usual]))
    assert facts(status(waits=[usual, silent]))["waits"] == silent["reason"]
    idle = [agent("node-0"), agent("node-1", "0-0-7@1")]
    assert facts(status(waits=[usual, silent], agents=idle))["waits"] == f"{usual['reason']}\n{silent['reason']}"
    assert facts(status(hints=["all losses are equal"]))["look"] == "all losses are equal"


@pytest.mark.parametrize("wanted", [True, False])
def test_colours_are_left_out_where_they_are_not_wanted(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not wanted:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    terminal.print(status_view(status()))
    assert bool(re.search(r"\x1b\[[\d;]*3[1-6]m", "".join(printed(terminal)))) == wanted


# ---------------------------------------------------------------------------------------------------------- workers


def test_idle_silent_and_unknown_workers_are_told_apart() -> None:
    agents = [
        agent("node-0"),
        agent("node-1", "0-0-7@1", silent_s=45.0, lease_ends_in_s=15.0),
        agent("", "0-0-8@1", agent="node-2-9c", silent_s=None, attempt=2),
    ]
    lines = picture(status(agents=agents))
    at = lines.index("worker     evaluation  budget    for         learning curve")
    assert lines[at + 1 :] == [
        "node-1     0-0-7@1     3 epochs  1 min 23 s                  silent for 45 s, its lease ends in 15 s",
        "node-2-9c  0-0-8@1     3 epochs  1 min 23 s                  attempt 2, not heard by this master",
        "                                                             yet, its lease ends in 55 s",
        "node-0     idle",
    ]


def test_the_numbers_in_workers_names_count_as_numbers() -> None:
    agents = [agent(f"node-{index}") for index in (10, 9, 1)]
    assert [line.split()[0] for line in picture(status(agents=agents))[-3:]] == ["node-1", "node-9", "node-10"]


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    assert picture(status(agents=[agent("[red]w[/]")]))[-1].startswith("[red]w[/]")


def crowd(workers: int, brackets: int, hyperparameters: int) -> dict[str, Plain]:
    return status(
        agents=[agent(f"node-{index}", f"0-0-{index}@0" if index % 4 else None) for index in range(workers)],
        brackets=[{"bracket": each, "rungs": [rung(9.0, 3, 3, best=0.5)]} for each in range(brackets)],
        incumbent=INCUMBENT | {"values": {f"hyperparameter_{each}": each / 7 for each in range(hyperparameters)}},
    )


@pytest.mark.parametrize(("workers", "brackets", "hyperparameters"), [(60, 20, 30), (60, 2, 3), (2, 50, 3), (1, 1, 30)])
def test_a_large_search_fits_on_the_screen(workers: int, brackets: int, hyperparameters: int) -> None:
    lines = picture(crowd(workers, brackets, hyperparameters), height=40)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    shown = [line for line in lines if line.startswith("node-")]
    assert len(shown) >= min(workers, 3)
    if len(shown) < workers:
        assert lines[-1].startswith(f"and {workers - len(shown)} more, ")


def test_what_does_not_fit_is_counted() -> None:
    lines = picture(crowd(60, 20, 30), height=40)
    (before,) = [line for line in lines if "before these" in line]
    rows = [line for line in lines if line.endswith("0.5")]
    assert before == f"and {20 - len(rows)} brackets before these"
    assert rows[-1].split()[0] == "19"


def test_without_a_screen_everything_is_shown() -> None:
    lines = picture(crowd(60, 50, 30), height=None)
    assert sum(line.startswith("node-") for line in lines) == 60
    assert sum(line.endswith("0.5") for line in lines) == 50


def test_a_worker_with_something_to_say_is_among_those_shown() -> None:
    told = crowd(60, 2, 3)
    told["agents"][59] |= {"silent_s": 45.0}
    (line,) = [line for line in picture(told, height=40) if line.startswith("node-59")]
    assert "silent for 45 s" in line


def test_a_narrow_terminal_folds_the_sentences_and_cuts_no_number() -> None:
    text = " ".join(" ".join(picture(status(), width=60)).split())
    assert "about 12 min 34 s left" in text
    assert "0.0625" in text


# ------------------------------------------------------------------------------------------------------------- lines


def test_the_headline_has_everything_in_one_line() -> None:
    assert headline(status()) == (
        "running for 3 min 20 s, about 12 min 34 s left · 10 of 20 evaluations (16 % of the budget), 3 running, "
        "3 a minute · failed: 1 code · workers: 3 of 3 busy · "
        "incumbent: 0-0-3, loss 0.0625 at 3 epochs (error_percent=6.25, weights=12345)"
    )


def test_the_incumbent_names_few_figures_and_no_long_values() -> None:
    many = INCUMBENT | {"info": {"list": [1, 2, 3], "nested": {"a": 1}, **{f"m{index}": index for index in range(9)}}}
    assert incumbent_line(status(incumbent=many)) == "0-0-3, loss 0.0625 at 3 epochs (m0=0, m1=1, m2=2, m3=3)"
    assert incumbent_line(status(incumbent=INCUMBENT | {"info": {}})) == "0-0-3, loss 0.0625 at 3 epochs"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def as_told(directory: RunDirectory, told: Plain) -> Plain:
    return told


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_has_a_line_every_ten_seconds_at_first_and_ever_fewer_later(console: Console) -> None:
    clock = Clock()
    watcher = LineWatcher(console, as_told, clock)
    lines_in_hour: list[int] = []
    for _ in range(10):
        for _ in range(7200):
            watcher.status(status())
            clock.now += 0.5
        lines_in_hour.append(len(printed(console)) - sum(lines_in_hour))
    assert 30 < lines_in_hour[0] < 60
    assert lines_in_hour == sorted(lines_in_hour, reverse=True)
    assert lines_in_hour[-1] in (6, 7)


def test_a_new_incumbent_a_pause_and_the_end_have_their_line_at_once(console: Console) -> None:
    clock = Clock()
    watcher = LineWatcher(console, as_told, clock)
    better = {"incumbent": INCUMBENT | {"loss": 0.03125}}
    for told in (status(), status(), status(**better), status(**better, paused=""), status(state="finished")):
        watcher.status(told)
    lines = printed(console)
    assert len(lines) == 4
    assert "loss 0.03125" in lines[1]
    assert "paused" in lines[2]
    assert "finished" in lines[3]


def test_a_log_line_is_one_line_with_its_time_and_nothing_else(console: Console) -> None:
    watcher = LineWatcher(console, as_told, Clock())
    watcher.status(status(waits=[{"kind": "worker", "reason": "one", "ends_in_s": None}] * 2))
    watcher.note("worker-1 died of SIGKILL; started again [now]")
    lines = printed(console)
    assert len(lines) == 2
    assert lines[0][2] == lines[0][5] == ":"
    assert lines[0][9:].startswith("running for 3 min 20 s")
    assert lines[1][9:] == "worker-1 died of SIGKILL; started again [now]"
    assert "\x1b" not in "".join(lines)


# ------------------------------------------------------------------------------------------------------ introduction


@pytest.fixture
def prepared() -> Prepared:
    settings = SearchSettings(
        run_id="digits-1",
        problem=ProblemDescription(reference="digits", name="digits", space_json={}, space_tables={}),
        budgets=(1.0, 3.0, 9.0),
        eta=3.0,
        unit="epochs",
        algorithm="bohb",
        bracket_rule="floor",
        seed=7,
        seed_was_given=True,
    )
    return Prepared(settings=settings, limits=Limits(brackets=3), resumed=False, notes=("mind the [gap]",))


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    made = RunDirectory(tmp_path / "digits")
    made.create()
    return made


@pytest.fixture
def over(prepared: Prepared, directory: RunDirectory) -> Iterator[Prepared]:
    with Journal.open(directory.journal, create=prepared.settings) as journal:
        epoch = journal.begin_epoch()
        journal.commit([Started(epoch=epoch, limits=prepared.limits), BracketOpened(bracket=0)], at=1.0)
        journal.commit([Finished(kind=FinishKind.COMPLETE, reason="all 3 brackets are complete")], at=2.0)
        yield Prepared(settings=prepared.settings, limits=prepared.limits, resumed=True)


def test_a_new_search_begins_with_its_directory_its_seed_and_its_plan(
    prepared: Prepared, directory: RunDirectory, console: Console
) -> None:
    console.width = 1000
    introduce(console, prepared, directory)
    text = "\n".join(printed(console))
    assert text.startswith(f"new search in {directory.path}, seed 7\n")
    assert "9 epochs" in text
    assert "20 evaluations" in text
    assert "note: mind the [gap]" in text


def test_a_search_that_is_over_says_so_and_how_to_extend_it(
    over: Prepared, directory: RunDirectory, console: Console
) -> None:
    console.width = 1000
    introduce(console, over, directory)
    first, second, *_ = printed(console)
    assert first == f"going on with the search in {directory.path}, seed 7: 0 evaluations are recorded"
    assert second == (
        "it is over: all 3 brackets are complete. "
        "Give a higher limit (such as --brackets) to go on, or --new for another one"
    )


def test_a_search_that_is_extended_is_not_called_over(
    over: Prepared, directory: RunDirectory, console: Console
) -> None:
    introduce(console, Prepared(settings=over.settings, limits=Limits(brackets=6), resumed=True), directory)
    assert "it is over" not in "\n".join(printed(console))


# ---------------------------------------------------------------------------------------------------------- watchers


def test_the_live_view_is_for_terminals_and_shows_what_the_journal_adds(
    prepared: Prepared, directory: RunDirectory
) -> None:
    terminal = Console(file=io.StringIO(), width=100, height=40, force_terminal=True, highlight=False)
    added = []

    def complete(asked: RunDirectory, told: Plain) -> Plain:
        added.append(asked.path)
        return told | {"forecast": {"evaluations": 20, "share": 0.5, "time_left_s": 61.0}}

    with watcher_for(terminal, complete, live=True) as watcher:
        assert isinstance(watcher, LiveWatcher)
        watcher.begin(prepared, directory)
        watcher.status(status())
        watcher.note("worker-1 died of SIGKILL; started again")
    text = "\n".join(printed(terminal))
    assert "about 1 min 01 s left" in text
    assert "worker-1 died of SIGKILL" in text
    assert added == [directory.path]


def test_elsewhere_there_are_lines(console: Console) -> None:
    with watcher_for(console, as_told, live=False) as watcher:
        assert isinstance(watcher, LineWatcher)
