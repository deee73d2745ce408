"""A master and the processes of its agents: two under one id, dead ones, stopped ones, at work and at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.master_link import Link
from hpbandster_lite.errors import AgentIdTaken
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.turns import PROCESSES_EVERY_S, Turns
from hpbandster_lite.process.identity import Condition
from hpbandster_lite.protocol.messages import (
    Done,
    ExchangeAnswer,
    ExchangeRequest,
    Grant,
    Hello,
    LeftReport,
    ReleaseRequest,
    RenewRequest,
    Request,
    SlotRequest,
    SourceRequest,
    StopRequest,
    read_answer,
)
from hpbandster_lite.records import (
    AgentJoined,
    Expired,
    ExpiryKind,
    Outcome,
    Plain,
    ProcessIdentity,
    Recorded,
    Report,
)
from hpbandster_lite.rundir import RunDirectory
from tests.engine_room import settings_for, space_of
from tests.unit.test_master_resuming import begun, call_of
from tests.world_master import Box, FakeServer

HELLO = Hello(
    agent="a", worker="w", host="node1", pid=7, problem="t", source_hash="", boot_id="b", pid_namespace="n",
    started_ticks=99,
)  # fmt: skip


class Scene:
    """A master on a virtual clock, and agents on its machine whose conditions the test sets."""

    def __init__(self, directory: RunDirectory, journal: Journal) -> None:
        self.now = 0.0
        self.directory, self.journal = directory, journal
        self.conditions: dict[int, Condition] = {}
        self.requests = 0
        self.start()

    def start(self) -> None:
        """Begin a master; the one before it is gone."""
        self.server = FakeServer()
        self.server.master = self.master = begun(
            self.directory, self.journal, clock=lambda: self.now, condition_of=self.condition_of
        )
        self.turns = Turns(self.server, self.master, clock=lambda: self.now)

    def condition_of(self, process: ProcessIdentity) -> Condition:
        return self.conditions.get(process.pid, Condition.RUNS)

    def send(self, request: Request[Any], hello: Hello, peer: str) -> Any:
        box = Box(replace(call_of(request, peer), hello=wire.to_message(hello)))
        self.server.inbox.append(box)
        self.turn(0.01)
        if box.error is not None:
            raise box.error
        assert box.text is not None
        return read_answer(request, wire.decode(box.text))

    def ask(self, hello: Hello = HELLO, peer: str = "", report: Report | None = None) -> Any:
        """Ask for work; the answer to it."""
        self.requests += 1
        slots = (SlotRequest(slot=0, wants_lease=True, report=report),)
        request = ExchangeRequest(agent=hello.agent, request=self.requests, worker=hello.worker, slots=slots)
        answer = self.send(request, hello, peer or f"{hello.agent}#1")
        assert isinstance(answer, ExchangeAnswer)
        return answer.slots[0].answer

    def grant(self, hello: Hello = HELLO, peer: str = "") -> Grant:
        answer = self.ask(hello, peer)
        assert isinstance(answer, Grant), answer
        return answer

    def turn(self, after_s: float) -> bool:
        self.now += after_s
        return self.turns.take()

    def of(self, kind: type) -> list[Any]:
        return [entry for _, _, entry in self.journal.entries() if isinstance(entry, kind)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    # One bracket with one evaluation: nothing else is to do while it runs.
    with Journal.open(directory.journal, create=settings_for(space_of(), budgets=(1.0,))) as journal:
        yield Scene(directory, journal)


def other_hello(**changed: Any) -> Hello:
    return replace(HELLO, **changed)


# ---------------------------------------------------------------------------------------------------- two under one id


@pytest.mark.parametrize(
    "changed",
    [{"host": "node2"}, {"boot_id": "c"}, {"pid": 8}, {"started_ticks": 100}],
    ids=["host", "boot", "pid", "start time"],
)
def test_a_second_process_under_the_id_of_an_agent_is_refused(changed: dict[str, Any], scene: Scene) -> None:
    grant = scene.grant()
    second = other_hello(**changed)
    for request in (
        SourceRequest(),
        ExchangeRequest(agent="a", request=9, worker="w", slots=(SlotRequest(slot=0, wants_lease=True),)),
        RenewRequest(agent="a", evaluation=grant.evaluation, attempt=1),
        ReleaseRequest(agent="a", evaluation=grant.evaluation, attempt=1, reason="it ends"),
    ):
        with pytest.raises(AgentIdTaken, match="two processes have the agent id a: pid 7 on host node1 is this agent"):
            scene.send(request, second, "a#2")
    assert scene.master.engine.state.held_by == {"a": grant.evaluation}
    assert isinstance(scene.send(RenewRequest(agent="a", evaluation=grant.evaluation, attempt=1), HELLO, "a#1"), object)


def test_the_id_in_the_request_counts_whatever_the_greeting_says(scene: Scene) -> None:
    grant = scene.grant()
    request = RenewRequest(agent="a", evaluation=grant.evaluation, attempt=1)
    with pytest.raises(AgentIdTaken):
        scene.send(request, other_hello(agent="b", pid=8), "b#1")


def test_a_second_process_is_refused_by_the_next_master_too(scene: Scene) -> None:
    grant = scene.grant()
    scene.start()
    with pytest.raises(AgentIdTaken):
        scene.ask(other_hello(pid=8), "a#2")
    assert scene.send(RenewRequest(agent="a", evaluation=grant.evaluation, attempt=1), HELLO, "a#3")
    assert scene.of(AgentJoined) == [AgentJoined(agent="a", process=HELLO.process)]


def test_the_same_process_on_a_new_connection_takes_the_place_of_the_old_one_at_once(scene: Scene) -> None:
    grant = scene.grant()
    assert scene.send(RenewRequest(agent="a", evaluation=grant.evaluation, attempt=1), HELLO, "a#2")
    before = scene.master.engine._leases.get("a")
    assert before is not None
    deadline = before.deadline
    scene.server.closed.append("a#1")
    scene.turn(0.1)
    assert before.deadline == deadline, "the end of the old connection shortens no lease"
    scene.server.closed.append("a#2")
    scene.turn(0.1)
    assert before.deadline < deadline


class Refusing:
    """A master that refuses an agent because of its id."""

    def call(self, method: str, message: Plain) -> Plain:
        raise AgentIdTaken("two processes have the agent id a")

    def close(self) -> None:
        """It is no connection."""


def test_a_refused_agent_does_not_ask_again() -> None:
    link = Link(lambda *_: Refusing(), HELLO, 0.0)
    link._has_worked = True
    with pytest.raises(AgentIdTaken) as refused:
        link.call(SourceRequest(), clock=lambda: 0.0)
    assert refused.value.exit_code == 3


# ---------------------------------------------------------------------------------------------------------- dead ones


def test_the_lease_of_an_agent_that_died_ends_within_a_second(scene: Scene) -> None:
    grant = scene.grant()
    scene.conditions[7] = Condition.DEAD
    scene.server.closed.append("a#1")
    scene.turn(PROCESSES_EVERY_S)
    (expired,) = scene.of(Expired)
    assert (expired.kind, expired.evaluation) == (ExpiryKind.DEAD, grant.evaluation)
    assert "pid 7 on host node1" in expired.reason


def test_after_a_restart_of_everything_the_leases_of_dead_agents_end_at_once(scene: Scene) -> None:
    first = scene.grant()
    scene.conditions[7] = Condition.DEAD
    scene.start()
    scene.turn(0.01)
    assert [entry.kind for entry in scene.of(Expired)] == [ExpiryKind.DEAD]
    again = scene.grant(other_hello(agent="b", pid=9))
    assert (again.evaluation, again.attempt) == (first.evaluation, 2)


def test_after_a_restart_the_leases_of_agents_that_live_or_are_elsewhere_stay(scene: Scene) -> None:
    scene.grant()
    for condition in (Condition.RUNS, Condition.UNKNOWN):
        scene.conditions[7] = condition
        scene.start()
        for _ in range(3):
            scene.turn(PROCESSES_EVERY_S)
        assert scene.of(Expired) == []


def test_the_report_that_a_dead_agent_left_counts_before_its_lease_ends(scene: Scene) -> None:
    grant = scene.grant()
    scene.turn(PROCESSES_EVERY_S)
    scene.conditions[7] = Condition.DEAD
    report = Report(evaluation=grant.evaluation, attempt=1, outcome=Outcome(loss=0.5))
    scene.directory.reports.mkdir()
    left = LeftReport(agent="a", report=report)
    (scene.directory.reports / "a.json").write_text(wire.encode(wire.to_message(left)))
    scene.server.closed.append("a#1")
    scene.turn(PROCESSES_EVERY_S)
    assert scene.of(Expired) == []
    assert len(scene.of(Recorded)) == 1


# --------------------------------------------------------------------------------------------------------- stopped ones


def test_what_a_stopped_agent_holds_is_run_again_when_nothing_else_is_left_to_do(scene: Scene) -> None:
    first = scene.grant()
    scene.conditions[7] = Condition.STOPPED
    scene.turn(PROCESSES_EVERY_S)
    (expired,) = scene.of(Expired)
    assert expired.kind is ExpiryKind.STOPPED
    other = other_hello(agent="b", pid=9)
    again = scene.grant(other)
    assert again.evaluation == first.evaluation
    report = Report(evaluation=again.evaluation, attempt=again.attempt, outcome=Outcome(loss=0.5))
    assert isinstance(scene.ask(other, report=report), Done)
    # It was connected all the time, and gets no goodbye.
    assert scene.turn(PROCESSES_EVERY_S)


@pytest.mark.parametrize(
    ("condition", "waits"),
    [(Condition.RUNS, True), (Condition.UNKNOWN, True), (Condition.STOPPED, False), (Condition.DEAD, False)],
)
def test_the_end_waits_only_for_agents_that_may_ask_again(condition: Condition, waits: bool, scene: Scene) -> None:
    scene.grant()
    scene.conditions[7] = condition
    scene.send(StopRequest(), HELLO, "user#1")
    assert scene.turn(PROCESSES_EVERY_S) != waits


def test_the_end_waits_for_no_agent_that_was_silent_for_a_lease(scene: Scene) -> None:
    scene.grant()
    scene.conditions[7] = Condition.UNKNOWN
    lease_s = scene.journal.settings.lease_s
    for _ in range(int(lease_s) + 2):
        scene.turn(1.0)
    assert [entry.kind for entry in scene.of(Expired)] == [ExpiryKind.SILENT]
    scene.send(StopRequest(), HELLO, "user#1")
    assert scene.turn(PROCESSES_EVERY_S)
