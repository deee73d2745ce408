"""The status: both builders give the same record, its JSON round-trips, and silence depends on the heartbeat."""

from __future__ import annotations

import dataclasses
import inspect
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpbandster_lite import wire
from hpbandster_lite.cli.commands.list import list_
from hpbandster_lite.cli.view.status import status_view
from hpbandster_lite.engine.decision_types import Granted, Turn
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.errors import ProtocolMismatch, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.protocol import status as status_room
from hpbandster_lite.protocol.status import VERSION, Status, status_from_plain, status_to_plain
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, FailureKind, FinishKind, Limits, Outcome, Report
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.space import SearchSpace
from tests.engine_room import engine_for, failed, settings_for, space_of
from tests.statuses import a_status

RECORDS = [cls for cls in vars(status_room).values() if dataclasses.is_dataclass(cls) and isinstance(cls, type)]
OURS = [cls for cls in RECORDS if cls.__module__ == status_room.__name__]


class Search:
    """An engine and its journal, in step."""

    def __init__(self, directory: Path, limits: Limits, *, space: SearchSpace | None = None, **about: Any) -> None:
        space = space or space_of()
        settings = settings_for(space, **about)
        self.path = directory / "journal.sqlite"
        self.engine: Engine = engine_for(settings, space)
        self.requests = 0
        self.journal = Journal.open(self.path, create=settings)
        self.keep(self.engine.start(self.journal.begin_epoch(), limits, now=0.0))

    def keep(self, turn: Turn[Any]) -> Any:
        self.journal.commit(turn.entries, at=1_000.0 + self.requests)
        return turn.answer

    def lease(self, agent: str = "a") -> Any:
        self.requests += 1
        answer = self.keep(self.engine.lease(agent, self.requests, now=0.0, worker=f"worker {agent}"))
        return answer.grant if isinstance(answer, Granted) else None

    def report(self, grant: Any, agent: str = "a", **outcome: Any) -> None:
        self.requests += 1
        outcome = outcome or {"loss": grant.values["x"], "duration_s": grant.budget, "info": {"epochs": 3}}
        report = Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=Outcome(**outcome))
        self.keep(self.engine.report(agent, report, now=0.0))

    def work(self, evaluations: int = 10**9) -> None:
        for _ in range(evaluations):
            grant = self.lease()
            if grant is None:
                return
            self.report(grant)


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[Callable[..., Search]]:
    """A function that begins a search, whose journal is closed at the end."""
    with ExitStack() as stack:

        def begin(limits: Limits, **about: Any) -> Search:
            search = Search(tmp_path, limits, **about)
            stack.callback(search.journal.close)
            return search

        yield begin


def finished(search: Search) -> None:
    search.work()
    assert search.engine.finished is not None


def stopped(search: Search) -> None:
    search.work(10)
    search.keep(search.engine.stop(reason="enough"))


def running(search: Search) -> None:
    search.work(10)


def paused(search: Search) -> None:
    search.work(4)
    search.keep(search.engine.pause(reason="maintenance"))


def not_begun(_search: Search) -> None:
    pass


def with_faults(search: Search) -> None:
    search.work(2)
    for kind in (FailureKind.CODE, FailureKind.INFEASIBLE, FailureKind.MEMORY, FailureKind.INFEASIBLE):
        grant = search.lease()
        search.keep(search.engine.report("a", failed(grant, kind), now=0.0))
    late = search.lease()
    search.report(late)
    search.report(late, "b", loss=1.0)
    lost = search.lease()
    search.keep(search.engine.release("a", lost.evaluation, lost.attempt, "its time is over", None, now=0.0))
    search.keep(search.engine.cancel(lost.evaluation, reason="too slow"))
    search.work(3)
    unleased = search.engine.state.brackets[0].rungs[1].promoted
    if unleased:
        search.keep(search.engine.cancel(EvaluationId(unleased[0], 1), reason=""))


def in_step(search: Search) -> tuple[Status, Status]:
    """The status from the engine and from the journal, without the parts that only a running master has."""
    living = search.engine.status(now=10**6)
    assert living.agents == ()
    read = status_from_journal(JournalReader(search.path))
    assert (living.answered_by, read.answered_by) == ("master", "journal")
    assert (living.state, read.state) in (("running", "stopped"), ("finished", "finished"))
    same: dict[str, Any] = {"answered_by": "journal", "waits": (), "paused_at": None}
    if read.state == "stopped":
        same |= {"state": "stopped", "reason": read.reason}
    assert read.evaluations.late is None
    same["evaluations"] = replace(living.evaluations, late=None)
    return replace(living, **same), replace(read, paused_at=None)


@pytest.mark.parametrize("begin", [not_begun, running, paused, stopped, finished, with_faults])
def test_the_engine_and_the_journal_give_the_same_status(
    begin: Callable[[Search], None], begun: Callable[..., Search]
) -> None:
    search = begun(Limits(brackets=2))
    begin(search)
    living, read = in_step(search)
    assert read == living


def test_a_rung_that_the_space_could_not_fill_has_its_places_in_both(begun: Callable[..., Search]) -> None:
    from ConfigSpace import Integer

    search = begun(Limits(brackets=2), space=space_of(Integer("x", (1, 4))))
    search.work()
    living, read = in_step(search)
    assert read == living
    assert read.finish_kind is FinishKind.EXHAUSTED
    assert read.brackets[0].rungs[0].places == 4


@pytest.mark.parametrize("evaluations", [5, 9, 10, 13, 20, 30, 60])
def test_places_in_the_rungs_of_other_brackets_are_the_same_in_both(
    begun: Callable[..., Search], evaluations: int
) -> None:
    search = begun(Limits(brackets=6), algorithm="mfbo", sampler={"full_results": 1})
    search.work(evaluations)
    living, read = in_step(search)
    assert read.brackets == living.brackets
    assert read == living


def test_the_list_shows_how_each_configuration_was_proposed(
    begun: Callable[..., Search], capsys: pytest.CaptureFixture[str]
) -> None:
    search = begun(Limits(evaluations=40), algorithm="mfbo", sampler={"full_results": 1})
    search.work()
    list_(search.path.parent, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 40
    for row in rows:
        proposal = search.engine.state.proposals[ConfigId(*row["config_id"])]
        listed = (row["origin"], row["model_budget"], row["fit"], row["log_improvement"])
        assert listed == (proposal.origin, proposal.model_budget, proposal.fit, proposal.log_improvement)
    assert {row["fit"] is None for row in rows} == {True, False}


@pytest.mark.parametrize("algorithm", ["mfbo", "hyperband"])
@pytest.mark.parametrize("levels", [6, 9, 12, 14])
@pytest.mark.parametrize("all_fail", [False, True])
def test_brackets_and_rungs_for_which_an_exhausted_space_has_nothing_are_the_same_in_both(
    begun: Callable[..., Search], algorithm: str, levels: int, *, all_fail: bool
) -> None:
    from ConfigSpace import Integer

    search = begun(Limits(brackets=6), space=space_of(Integer("x", (1, levels))), algorithm=algorithm)
    while (grant := search.lease()) is not None:
        if all_fail:
            search.keep(search.engine.report("a", failed(grant, FailureKind.MEMORY), now=0.0))
        else:
            search.report(grant)
    living, read = in_step(search)
    assert read == living
    assert read.finish_kind is FinishKind.EXHAUSTED


def test_hints_are_there_without_a_master(begun: Callable[..., Search]) -> None:
    search = begun(Limits(brackets=1))
    while (grant := search.lease()) is not None:
        search.report(grant, loss=0.5, duration_s=2.0)
    living, read = in_step(search)
    assert len(read.hints) == 2
    assert read.hints == living.hints


def test_hints_from_the_first_promotions_are_those_from_all(
    begun: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpbandster_lite.engine.hints.MOST_RATIOS", 3)
    search = begun(Limits(brackets=2))
    while (grant := search.lease()) is not None:
        search.report(grant, loss=1 / grant.budget, duration_s=2.0)
    for first in (1, 2, 5, 100):
        monkeypatch.setattr("hpbandster_lite.results.journal_status.FIRST_PROMOTIONS", first)
        living, read = in_step(search)
        assert len(read.hints) == 1
        assert read.hints == living.hints


def test_what_runs_when_the_master_ends_is_in_the_journals_status(begun: Callable[..., Search]) -> None:
    search = begun(Limits(brackets=1))
    search.lease("a")
    search.lease("b")
    read = status_from_journal(JournalReader(search.path))
    assert (read.evaluations.running, read.brackets[0].rungs[0].running) == (2, 2)
    assert read.evaluations == replace(search.engine.status(now=0.0).evaluations, late=None)


def test_a_search_that_maximizes_shows_values_in_the_sign_of_its_objective(begun: Callable[..., Search]) -> None:
    search = begun(Limits(brackets=2, target_loss=-0.75), maximize=True)
    for value in (0.25, 0.5, 0.125):
        search.report(search.lease(), loss=-value)
    held = search.lease()
    search.engine.renew("a", held.evaluation, held.attempt, now=0.0, curve=(CurvePoint(1.0, -0.375),))
    living, read = search.engine.status(now=0.0), status_from_journal(JournalReader(search.path))
    for status in (living, read):
        assert status.maximize
        assert (status.incumbent and status.incumbent.loss) == 0.5
        assert status.brackets[0].rungs[0].best == 0.5
        assert status.limits.target_loss == 0.75
        console = Console(file=io.StringIO(), width=200, record=True)
        console.print(status_view(status))
        text = console.export_text()
        assert "t (hyperband, maximize), run test" in text
        assert "value 0.5 at" in text
        assert "best value" in text
        assert "loss" not in text
    (agent,) = living.agents
    assert (agent.step, agent.loss) == (1.0, 0.375)
    # The model and the journal minimize.
    assert search.engine.state.best is not None
    assert search.engine.state.best.loss == -0.5


def test_the_end_of_a_search_that_maximizes_names_values(begun: Callable[..., Search]) -> None:
    search = begun(Limits(target_loss=-0.75), maximize=True, budgets=(1.0,))
    grant = search.lease()
    search.report(grant, loss=-0.8)
    assert search.lease() is None
    assert search.engine.finished is not None
    assert search.engine.finished.reason == "the target value of 0.75 is reached: 0.8"
    with pytest.raises(UsageError, match=r"has ended already, with the value 0\.8;"):
        search.engine.cancel(grant.evaluation)


# --------------------------------------------------------------------------------------------------------------- JSON


def test_a_status_comes_back_from_its_json(begun: Callable[..., Search]) -> None:
    search = begun(Limits(brackets=2, target_loss=0.0))
    search.work(10)
    search.lease("b")
    for status in (a_status(), search.engine.status(now=1.0), status_from_journal(JournalReader(search.path))):
        plain = status_to_plain(status)
        assert status_from_plain(json.loads(json.dumps(plain))) == status
        assert status_from_plain(wire.decode(wire.encode(plain))) == status


def test_the_json_begins_with_its_version_and_has_the_names_of_the_fields() -> None:
    plain = status_to_plain(a_status())
    assert next(iter(plain)) == "version"
    assert plain["version"] == VERSION
    assert list(plain) == [field.name for field in dataclasses.fields(Status)]


def test_a_newer_version_is_refused_by_name_and_a_field_that_came_later_has_its_default() -> None:
    plain = status_to_plain(a_status())
    newer = plain | {"version": VERSION + 1, "a_later_field": 1}
    with pytest.raises(ProtocolMismatch, match=rf"version {VERSION + 1}, and this program reads .* up to {VERSION};"):
        status_from_plain(newer)
    del plain["journal_stalled_s"]
    assert status_from_plain(plain).journal_stalled_s is None


@pytest.mark.parametrize("message", [None, [], "status", {}, {"version": "1"}, {"version": True}, {"version": 1}])
def test_what_is_no_status_is_refused(message: Any) -> None:
    with pytest.raises(ProtocolMismatch):
        status_from_plain(message)


@pytest.mark.parametrize("cls", OURS)
def test_every_field_is_documented(cls: type) -> None:
    text = inspect.getdoc(cls) or ""
    names = re.findall(r"^([a-z_]+(?:, [a-z_]+)*)$", text.partition("----------\n")[2], re.MULTILINE)
    documented = [name for line in names for name in line.split(", ")]
    assert documented == [field.name for field in dataclasses.fields(cls)]


# ------------------------------------------------------------------------------------------------------------ silence


@pytest.mark.parametrize("heartbeat_s", [0.5, 5.0, 60.0])
def test_a_worker_is_silent_after_two_heartbeats_in_every_view(heartbeat_s: float) -> None:
    space = space_of()
    settings = replace(settings_for(space), heartbeat_s=heartbeat_s, lease_s=20 * heartbeat_s)
    engine = engine_for(settings, space)
    engine.start(1, Limits(), now=0.0)
    engine.lease("a", 1, now=0.0, worker="node-1")

    def views(now: float) -> list[bool]:
        status = engine.status(now=now)
        console = Console(file=io.StringIO(), width=200, record=True)
        console.print(status_view(status))
        row = next(line for line in console.export_text().splitlines() if line.startswith("node-1 "))
        waits = any("silent" in waiting.reason for waiting in engine.waits(now))
        return [status.agents[0].is_silent, "silent" in row, waits]

    assert views(1.9 * heartbeat_s) == [False] * 3
    assert views(2.1 * heartbeat_s) == [True] * 3
    engine.renew("a", engine.state.held_by["a"], 1, now=3 * heartbeat_s)
    assert views(3 * heartbeat_s) == [False] * 3


def test_a_worker_that_lost_its_connection_is_silent_at_once() -> None:
    space = space_of()
    engine = engine_for(settings_for(space), space)
    engine.start(1, Limits(), now=0.0)
    engine.lease("a", 1, now=0.0, worker="node-1")
    engine.disconnected("a", now=1.0)
    (row,) = engine.status(now=2.0).agents
    assert (row.name, row.is_connected, row.is_silent, row.silent_s) == ("node-1", False, True, 2.0)
