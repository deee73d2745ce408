"""The view of a running search, compared with golden text."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console

from hpbandster_lite.cli.view.status import facts, headline, incumbent_line, status_view
from hpbandster_lite.protocol.status import Forecast, SourceEdit, Status, Waiting
from hpbandster_lite.records import ConfigId, Limits
from tests.statuses import INCUMBENT, a_bracket, a_rung, a_status, a_worker, counts


def picture(status: Status, *, width: int = 100, height: int | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(status_view(status, height=height))
    return [line.rstrip() for line in console.export_text().splitlines()]


# ------------------------------------------------------------------------------------------------------ the picture


def test_the_picture_of_a_running_search() -> None:
    assert picture(a_status()) == [
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
    reason = "no master answers; to continue, run the command that began it again"
    shown = facts(a_status(state="stopped", reason=reason, agents=(), uptime_s=None))
    assert shown["state"] == f"stopped: {reason}"
    assert shown["done"] == "10 of 20 evaluations (16 % of the budget), 3 were running"
    assert "workers" not in shown


def test_the_picture_of_a_search_that_is_over() -> None:
    over = a_status(
        state="finished",
        reason="all 3 brackets are complete",
        agents=(),
        failures={},
        evaluations=counts(20),
    )
    assert picture(over)[:4] == [
        "search     digits (bohb), run digits-88b3, seed 7",
        "state      finished: all 3 brackets are complete",
        "done       20 evaluations",
        "incumbent  0-0-3, loss 0.0625 at 3 epochs (error_percent=6.25, weights=12345)",
    ]


def test_a_search_that_has_just_begun_has_a_picture() -> None:
    begun = a_status(
        brackets=(),
        agents=(),
        failures={},
        incumbent=None,
        uptime_s=0.0,
        waits=(Waiting(kind="worker", reason="no worker has joined yet"),),
        evaluations=counts(0, recorded_here=0),
        forecast=Forecast(evaluations=20, share=0.0, time_left_s=None),
    )
    assert picture(begun) == [
        "search     digits (bohb), run digits-88b3, seed 7",
        "state      running for 0.0 s",
        "done       0 of 20 evaluations (0 % of the budget)",
        "workers    none yet",
        "waits      no worker has joined yet",
        "incumbent  none yet",
    ]


def test_a_status_without_a_forecast_has_a_picture() -> None:
    shown = facts(a_status(forecast=None))
    assert shown["done"] == "10 evaluations, 3 running, 3 a minute"
    assert shown["state"] == "running for 3 min 20 s"


def test_a_journal_that_cannot_be_written_and_a_pause_are_the_state() -> None:
    assert facts(a_status(journal_stalled_s=12.0))["state"] == (
        "waiting for 12 s to write the journal, no work is given out: is the disk full?"
    )
    assert facts(a_status(journal_stalled_s=12.0, journal_stalled_by="the disk is full"))["state"] == (
        "waiting for 12 s to write the journal, no work is given out: the disk is full"
    )
    at = datetime(2026, 11, 25, 14, 0, 5).astimezone().timestamp()
    assert facts(a_status(paused="", paused_at=at))["state"] == "paused since 2026-11-25 14:00:05"
    paused = a_status(paused="maintenance", paused_at=at)
    assert facts(paused)["state"] == "paused since 2026-11-25 14:00:05: maintenance"
    stopped = replace(paused, state="stopped", reason="no master answers", agents=())
    assert facts(stopped)["state"] == "stopped: no master answers; paused since 2026-11-25 14:00:05: maintenance"


def test_the_fault_that_ended_a_search_is_shown_as_a_whole_and_a_log_line_stays_one_line() -> None:
    over = a_status(state="finished", reason="stopped, mend the code:\nTraceback\nValueError: boom", agents=())
    assert facts(over)["state"] == "finished: stopped, mend the code"
    assert facts(over)["fault"] == "Traceback\nValueError: boom"
    assert "\n" not in headline(over)
    assert "ValueError: boom" in "\n".join(picture(over))


def test_hints_and_waits_that_matter_are_shown() -> None:
    silent = Waiting(kind="rung", reason="worker node-1 silent for 45 s, its lease ends in 15 s", ends_in_s=15.0)
    usual = Waiting(kind="rung", reason="1 of 3 missing, 1 running")
    assert "waits" not in facts(a_status(waits=(usual,)))
    assert facts(a_status(waits=(usual, silent)))["waits"] == silent.reason
    idle = (a_worker("node-0"), a_worker("node-1", "0-0-7@1"))
    assert facts(a_status(waits=(usual, silent), agents=idle))["waits"] == f"{usual.reason}\n{silent.reason}"
    assert facts(a_status(hints=("all losses are equal",)))["hints"] == "all losses are equal"


def test_an_evaluation_that_may_hang_has_a_remark_and_no_seconds_are_claimed() -> None:
    hangs = a_worker("node-0", "0-0-5@1", since_s=36.0, times_median=12.0)
    forecast = Forecast(evaluations=20, share=12 / 72, time_left_s=None)
    now = a_status(agents=(hangs, a_worker("node-1", "0-0-7@1", times_median=1.0)), forecast=forecast)
    why = "0-0-5@1 is running for 12 times the median of its budget"
    assert facts(now)["state"] == f"running for 3 min 20 s, the end is unknown, because {why}"
    assert any(line.startswith("node-0") and "running for 12 times" in line for line in picture(now))
    limited = replace(now, limits=Limits(wall_time_s=900.0), forecast=replace(forecast, time_left_s=700.0))
    assert facts(limited)["state"] == f"running for 3 min 20 s, at most 11 min 40 s left, because {why}"


@pytest.mark.parametrize("wanted", [True, False])
def test_colours_are_left_out_where_they_are_not_wanted(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not wanted:
        monkeypatch.setenv("NO_COLOR", "1")
    printed = io.StringIO()
    terminal = Console(file=printed, width=100, force_terminal=True, color_system="standard")
    terminal.print(status_view(a_status()))
    assert bool(re.search(r"\x1b\[[\d;]*3[1-6]m", printed.getvalue())) == wanted


# ---------------------------------------------------------------------------------------------------------- workers


def test_idle_silent_lost_and_unknown_workers_differ() -> None:
    agents = (
        a_worker("node-0"),
        a_worker("node-1", "0-0-7@1", silent_s=45.0, is_silent=True, lease_ends_in_s=15.0),
        a_worker("", "0-0-8@1", agent="node-2-9c", silent_s=None, is_connected=False, is_silent=True, attempt=2),
        a_worker("node-3", "0-0-9@1", silent_s=2.0, is_connected=False, is_silent=True, lease_ends_in_s=8.0),
        a_worker("node-4", hindrance="its disk is full"),
    )
    lines = picture(a_status(agents=agents))
    at = lines.index("worker     evaluation  budget    for         learning curve")
    assert lines[at + 1 :] == [
        "node-1     0-0-7@1     3 epochs  1 min 23 s                  silent for 45 s, its lease ends in 15 s",
        "node-2-9c  0-0-8@1     3 epochs  1 min 23 s                  attempt 2, not connected to this master",
        "                                                             yet, its lease ends in 55 s",
        "node-3     0-0-9@1     3 epochs  1 min 23 s                  has lost its connection, its lease ends",
        "                                                             in 8.0 s",
        "node-4     idle                                              takes no work: its disk is full",
        "node-0     idle",
    ]


def test_the_view_calls_a_worker_silent_by_the_status_alone() -> None:
    quiet = a_worker("node-0", "0-0-7@1", silent_s=45.0)
    assert "silent" not in "".join(picture(a_status(agents=(quiet,))))
    late = a_worker("node-0", "0-0-7@1", silent_s=1.5, is_silent=True)
    assert "silent for 1.5 s" in "".join(picture(a_status(agents=(late,))))


def test_the_numbers_in_workers_names_count_as_numbers() -> None:
    agents = tuple(a_worker(f"node-{index}") for index in (10, 9, 1))
    assert [line.split()[0] for line in picture(a_status(agents=agents))[-3:]] == ["node-1", "node-9", "node-10"]


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    assert picture(a_status(agents=(a_worker("[red]w[/]"),)))[-1].startswith("[red]w[/]")


def crowd(workers: int, brackets: int, hyperparameters: int) -> Status:
    values = {f"hyperparameter_{each}": each / 7 for each in range(hyperparameters)}
    return a_status(
        agents=tuple(a_worker(f"node-{index}", f"0-0-{index}@0" if index % 4 else None) for index in range(workers)),
        brackets=tuple(a_bracket(each, a_rung(9.0, 3, 3, best=0.5)) for each in range(brackets)),
        incumbent=replace(INCUMBENT, values=values),
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


def test_of_thousands_of_workers_those_with_a_remark_and_some_others_are_listed_without_a_screen() -> None:
    many = crowd(2_000, 1, 3)
    silent = a_worker("node-1999", "0-0-7@1", silent_s=45.0, is_silent=True)
    lines = picture(replace(many, agents=(*many.agents[:-1], silent)))
    shown = [line for line in lines if line.startswith("node-")]
    assert len(shown) == 100
    assert shown[0].startswith("node-1999")
    assert lines[-1] == "and 1900 more, 1425 of them busy"


def test_of_many_edits_of_the_source_the_newest_are_listed() -> None:
    edits = tuple(SourceEdit(recorded=each, differences=("net.py",)) for each in range(30))
    lines = facts(a_status(source_edits=edits))["source"].splitlines()
    assert lines[0] == "27 earlier edits, which status --json lists"
    assert [line.partition(" outcomes")[0] for line in lines[1:]] == [f"edited after {each}" for each in (27, 28, 29)]


def test_what_does_not_fit_is_counted() -> None:
    lines = picture(crowd(60, 20, 30), height=40)
    (before,) = [line for line in lines if "before these" in line]
    rows = [line for line in lines if line.endswith("0.5")]
    assert before == f"and {20 - len(rows)} brackets before these"
    assert rows[-1].split()[0] == "19"


def test_without_a_screen_everything_is_shown() -> None:
    lines = picture(crowd(60, 20, 30), height=None)
    assert sum(line.startswith("node-") for line in lines) == 60
    assert sum(line.endswith("0.5") for line in lines) == 20


def long_search(*, opened: int, complete: int = 11_000) -> Status:
    """Many complete brackets, of which number 7 has the incumbent, and open ones after them."""
    done = [
        a_bracket(each, a_rung(1.0, 3, 3, failed=1, best=0.75), a_rung(3.0, 1, 1, best=0.5)) for each in range(complete)
    ]
    done[7] = a_bracket(7, a_rung(1.0, 3, 3, best=0.25), a_rung(3.0, 1, 1, best=0.125))
    rest = [a_bracket(complete + each, a_rung(1.0, 3, 1, 2, best=0.5), a_rung(3.0, 1, 0)) for each in range(opened)]
    incumbent = replace(INCUMBENT, config_id=ConfigId(7, 0, 0), loss=0.125, values={})
    return a_status(brackets=(*done, *rest), incumbent=incumbent, agents=())


def test_of_thousands_of_brackets_the_open_ones_the_best_and_a_sum_are_listed() -> None:
    lines = picture(long_search(opened=2))
    at = next(number for number, line in enumerate(lines) if line.startswith("bracket"))
    assert lines[at:] == [
        "bracket                        1 epoch     3 epochs  best loss",
        "      7                            3/3          1/1      0.125",
        "  11000                         1/3 +2          0/1        0.5",
        "  11001                         1/3 +2          0/1        0.5",
        "    all  33002/33006 +4 (10999 failed)  11000/11002      0.125",
        "and 10999 complete brackets, which status --json lists",
    ]


def test_of_thousands_of_brackets_that_with_the_place_of_the_incumbent_is_listed() -> None:
    status = long_search(opened=1)
    assert status.incumbent is not None
    lines = picture(replace(status, incumbent=replace(status.incumbent, config_id=ConfigId(3, 0, 0))))
    assert [line.split()[0] for line in lines[-4:]] == ["7", "11000", "all", "and"]


def test_of_thousands_of_open_brackets_the_newest_are_listed() -> None:
    lines = picture(long_search(opened=2_000))
    assert len(lines) < 40
    assert lines[-1] == "and 12979 other brackets, which status --json lists"
    assert lines[-3].split()[0] == "12999"


def test_a_long_search_without_an_incumbent_is_summed_up() -> None:
    lines = picture(replace(long_search(opened=1), incumbent=None))
    assert [line.split()[0] for line in lines[-4:]] == ["bracket", "11000", "all", "and"]


def test_a_worker_with_a_remark_is_among_those_shown() -> None:
    many = crowd(60, 2, 3)
    silent = replace(many.agents[59], silent_s=45.0, is_silent=True)
    lines = picture(replace(many, agents=(*many.agents[:59], silent)), height=40)
    (line,) = [line for line in lines if line.startswith("node-59")]
    assert "silent for 45 s" in line


def test_a_narrow_terminal_folds_the_sentences_and_cuts_no_number() -> None:
    text = " ".join(" ".join(picture(a_status(), width=60)).split())
    assert "about 12 min 34 s left" in text
    assert "0.0625" in text


# ------------------------------------------------------------------------------------------------------------- lines


def test_the_headline_has_everything_in_one_line() -> None:
    assert headline(a_status()) == (
        "running for 3 min 20 s, about 12 min 34 s left · 10 of 20 evaluations (16 % of the budget), 3 running, "
        "3 a minute · failed: 1 code · workers: 3 of 3 busy · "
        "incumbent: 0-0-3, loss 0.0625 at 3 epochs (error_percent=6.25, weights=12345)"
    )


def test_the_incumbent_names_few_figures_and_no_long_values() -> None:
    info = {"list": [1, 2, 3], "nested": {"a": 1}, **{f"m{index}": index for index in range(9)}}
    many = replace(INCUMBENT, info=info)
    assert incumbent_line(a_status(incumbent=many)) == "0-0-3, loss 0.0625 at 3 epochs (m0=0, m1=1, m2=2, m3=3)"
    assert incumbent_line(a_status(incumbent=replace(INCUMBENT, info={}))) == "0-0-3, loss 0.0625 at 3 epochs"
