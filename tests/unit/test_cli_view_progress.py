"""The view of a running search: the live view on a terminal, log lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hpbandster_lite.cli.view.plan import introduce
from hpbandster_lite.cli.view.progress import LineWatcher, LiveWatcher, watcher_for
from hpbandster_lite.journal import Journal
from hpbandster_lite.protocol.status import Forecast, Status, Waiting
from hpbandster_lite.records import (
    BracketOpened,
    Finished,
    FinishKind,
    Limits,
    ProblemDescription,
    SearchSettings,
    Started,
)
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from tests.statuses import INCUMBENT, a_status


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def unchanged(_directory: RunDirectory, status: Status) -> Status:
    return status


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def printed(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_a_log_has_a_line_every_ten_seconds_at_first_and_ever_fewer_later(console: Console) -> None:
    clock = Clock()
    watcher = LineWatcher(console, unchanged, clock)
    lines_in_hour: list[int] = []
    for _ in range(10):
        for _ in range(7200):
            watcher.status(a_status())
            clock.now += 0.5
        lines_in_hour.append(len(printed(console)) - sum(lines_in_hour))
    assert 30 < lines_in_hour[0] < 60
    assert lines_in_hour == sorted(lines_in_hour, reverse=True)
    assert lines_in_hour[-1] in (6, 7)


def test_a_new_incumbent_a_pause_and_the_end_have_their_line_at_once(console: Console) -> None:
    clock = Clock()
    watcher = LineWatcher(console, unchanged, clock)
    better = a_status(incumbent=replace(INCUMBENT, loss=0.03125))
    for shown in (a_status(), a_status(), better, replace(better, paused=""), a_status(state="finished")):
        watcher.status(shown)
    lines = printed(console)
    assert len(lines) == 4
    assert "loss 0.03125" in lines[1]
    assert "paused" in lines[2]
    assert "finished" in lines[3]


def test_a_full_disk_has_its_line_at_once_and_so_has_its_end(console: Console) -> None:
    watcher = LineWatcher(console, unchanged, Clock())
    full = a_status(journal_stalled_s=0.2, journal_stalled_by="database or disk is full; free space")
    for shown in (a_status(), full, replace(full, journal_stalled_s=1.0), a_status()):
        watcher.status(shown)
    lines = printed(console)
    assert len(lines) == 3
    assert "waiting for 0.2 s to write the journal, no work is given out: database or disk is full" in lines[1]
    assert "running" in lines[2]


def test_a_log_line_is_one_line_with_its_time_and_nothing_else(console: Console) -> None:
    watcher = LineWatcher(console, unchanged, Clock())
    watcher.status(a_status(waits=(Waiting(kind="worker", reason="one"),) * 2))
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
    assert first == f"continuing the search in {directory.path}, seed 7: 0 evaluations are recorded"
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

    def complete(asked: RunDirectory, status: Status) -> Status:
        added.append(asked.path)
        return replace(status, forecast=Forecast(evaluations=20, share=0.5, time_left_s=61.0))

    with watcher_for(terminal, complete, live=True) as watcher:
        assert isinstance(watcher, LiveWatcher)
        watcher.begin(prepared, directory)
        watcher.status(a_status())
        watcher.note("worker-1 died of SIGKILL; started again")
    text = "\n".join(printed(terminal))
    assert "about 1 min 01 s left" in text
    assert "worker-1 died of SIGKILL" in text
    assert added == [directory.path]


def test_elsewhere_there_are_lines(console: Console) -> None:
    with watcher_for(console, unchanged, live=False) as watcher:
        assert isinstance(watcher, LineWatcher)
