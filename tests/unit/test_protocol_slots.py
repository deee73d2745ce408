"""Evaluations of milliseconds are leased and reported several at a time; a slow one delays no other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.loop import Agent
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.pace import Pace
from hpbandster_lite.errors import MasterUnreachable, ProtocolMismatch
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.calls import Master
from hpbandster_lite.protocol import messages
from hpbandster_lite.protocol.messages import (
    ExchangeAnswer,
    ExchangeRequest,
    ReleaseRequest,
    RenewRequest,
    Request,
    SlotAnswer,
    SlotRequest,
    read_answer,
)
from hpbandster_lite.protocol.slots import MOST_SLOTS, agent_of, slot_name, slot_names
from hpbandster_lite.records import ConfigId, EvaluationId, Failure, FailureKind, Leased, Outcome, Plain, Report
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.trainer.in_thread import InProcessHandle
from hpbandster_lite.trainer.messages import (
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerOrder,
    TrainerReady,
)
from hpbandster_lite.transport import Call
from tests.engine_room import settings_for, space_of
from tests.grants import grant
from tests.unit.test_master_resuming import begun
from tests.world_workers import EndRequest

QUICK_S, SLOW_S = 0.001, 1.0
EVALUATION = EvaluationId(ConfigId(2, 0, 5), 1)


def report_of(loss: float, evaluation: EvaluationId = EVALUATION) -> Report:
    return Report(evaluation=evaluation, attempt=1, outcome=Outcome(loss=loss))


# -------------------------------------------------------------------------------------------------------------- names


def test_the_first_slot_is_the_agent_itself_and_each_belongs_to_it() -> None:
    names = slot_names("host-1-ab")
    assert names[0] == "host-1-ab"
    assert len(set(names)) == MOST_SLOTS
    assert {agent_of(name) for name in names} == {"host-1-ab"}


@pytest.mark.parametrize(
    ("took_s", "slots"),
    [
        ([QUICK_S] * Pace.CERTAIN, MOST_SLOTS),
        ([QUICK_S] * (Pace.CERTAIN - 1), 1),
        ([QUICK_S] * 10 + [Pace.QUICK_S], 1),
        ([QUICK_S] * 10 + [None], 1),
        ([None, *[QUICK_S] * Pace.CERTAIN], MOST_SLOTS),
    ],
)
def test_several_are_taken_at_a_time_after_some_quick_ones_in_a_row(took_s: list[float | None], slots: int) -> None:
    pace = Pace(MOST_SLOTS)
    for each in took_s:
        pace.note(each)
    assert pace.slots == slots


# ------------------------------------------------------------------------------------------------------------- outbox


def test_the_reports_of_all_slots_and_the_next_questions_are_one_message() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.reports["a"], outbox.reports["a+3"] = report_of(0.1), report_of(0.3)
    request = outbox.next(asks=2)
    assert isinstance(request, ExchangeRequest)
    assert request.slots == (
        SlotRequest(slot=0, wants_lease=True, report=report_of(0.1)),
        SlotRequest(slot=1, wants_lease=True),
        SlotRequest(slot=3, wants_lease=False, report=report_of(0.3)),
    )
    outbox.acknowledge()
    assert not outbox


def test_a_message_for_one_slot_names_no_other() -> None:
    request = Outbox("a", "node1-0").next(asks=1)
    assert isinstance(request, ExchangeRequest)
    assert request.slots == (SlotRequest(slot=0, wants_lease=True),)


def test_a_report_that_came_after_its_message_was_begun_is_not_acknowledged_with_that() -> None:
    outbox = Outbox("a", "node1-0")
    outbox.reports["a"] = report_of(0.1)
    outbox.next(asks=0)
    outbox.reports["a+1"] = report_of(0.2)
    outbox.acknowledge()
    assert outbox.reports == {"a+1": report_of(0.2)}


# -------------------------------------------------------------------------------------------------------------- agent


class Scene(InProcessHandle):
    """An agent whose objective takes given times, and a master that grants every request."""

    def __init__(self, run_dir: Path, **options: Any) -> None:
        self.now = 100.0
        self.takes_s = QUICK_S
        self.failure: Failure | None = None
        self.requests: list[Request[Any]] = []
        self.is_reachable = True
        self.forgets_slots = False
        self.granted = 0
        self.end_request = EndRequest()
        self.began: list[TrainerOrder] = []
        settings = {"run_dir": str(run_dir), "isolation": "none", **options}
        self.agent = Agent(
            AgentOptions(problem="p", **settings),
            lambda hello, epoch: self,
            lambda: self,  # type: ignore[arg-type,return-value]  # a stand-in of it
            self.end_request,  # type: ignore[arg-type]  # a stand-in of it
            clock=lambda: self.now,
            name="a",
        )
        self._messages: list[tuple[float, TrainerMessage]] = [(self.now, TrainerReady(problem="p", source_hash="0"))]

    # the trainer
    descriptors: tuple[int, ...] = ()
    is_ready = True

    def receive(self) -> list[TrainerMessage]:
        received = [each for at, each in self._messages if at <= self.now]
        self._messages = [(at, each) for at, each in self._messages if at > self.now]
        return received

    def evaluate(self, order: TrainerOrder, log: str) -> None:
        del log
        self.began.append(order)
        loss = 0.5 if self.failure is None else None
        ended = TrainerEnded(loss=loss, failure=self.failure, duration_s=self.takes_s)
        self._messages.append((self.now + self.takes_s, ended))

    def ask_to_stop(self) -> None:
        self._messages = [(self.now, TrainerInterrupted())]

    def kill(self) -> None:
        self._messages = [(self.now, TrainerReady(problem="p", source_hash="0"))]

    def close(self) -> None:
        pass

    # the master
    def call(self, method: str, message: Plain) -> Plain:
        if not self.is_reachable:
            raise MasterUnreachable("gone")
        request = wire.from_message(message, messages.REQUESTS[method])
        self.requests.append(request)
        return wire.to_message(self._answer(request))

    def _answer(self, request: Request[Any]) -> object:
        match request:
            case ExchangeRequest(slots=slots):
                answered = slots[:1] if self.forgets_slots else slots
                return ExchangeAnswer(epoch=1, slots=tuple(map(self._answer_slot, answered)))
            case RenewRequest():
                return messages.RenewAnswer(epoch=1, answer=messages.Keep())
            case _:
                return messages.ReleaseAnswer(epoch=1)

    def _answer_slot(self, asked: SlotRequest) -> SlotAnswer:
        grants = None
        if asked.wants_lease:
            self.granted += 1
            grants = grant({"x": 0.5}, self.granted, heartbeat_s=5.0)
        return SlotAnswer(slot=asked.slot, report_is=None if asked.report is None else "recorded", answer=grants)

    # for tests
    def live(self, for_s: float) -> None:
        until = self.now + for_s
        while self.now < until and self.agent.exit_code is None:
            self.agent.turn(set())
            due = min([self.agent.next_due(), until, *(at for at, _ in self._messages)])
            assert due > self.now or self._messages or self.agent.outbox or due == until, "a turn has nothing to do"
            self.now = max(self.now + 1e-6, due)

    def asked_for(self) -> list[int]:
        """The number of leases that each exchange requested."""
        return [sum(slot.wants_lease for slot in each.slots) for each in self.exchanges]

    @property
    def exchanges(self) -> list[ExchangeRequest]:
        return [each for each in self.requests if isinstance(each, ExchangeRequest)]

    @property
    def releases(self) -> list[ReleaseRequest]:
        return [each for each in self.requests if isinstance(each, ReleaseRequest)]

    @property
    def renewals(self) -> list[RenewRequest]:
        return [each for each in self.requests if isinstance(each, RenewRequest)]

    def hurry(self) -> None:
        """Run until several evaluations were leased at once, and the first of them has begun."""
        while not self.agent.held.waiting:
            self.live(1e-6)

    def reported(self) -> set[str]:
        """The reported evaluations, each once."""
        reported = [
            str(slot.report.evaluation) for each in self.exchanges for slot in each.slots if slot.report is not None
        ]
        assert len(reported) == len(set(reported))
        return set(reported)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_agent_of_quick_evaluations_asks_for_several_and_reports_them_together(scene: Scene) -> None:
    scene.live(0.2)
    asked = scene.asked_for()
    assert asked[: Pace.CERTAIN] == [1] * Pace.CERTAIN
    assert set(asked[Pace.CERTAIN :]) == {MOST_SLOTS}
    assert [each.report is not None for each in scene.exchanges[-1].slots] == [True] * MOST_SLOTS
    # No evaluation twice, none missing.
    assert len(scene.reported()) == len(scene.began) - len(scene.agent.outbox.reports) - 1
    assert not scene.releases


def test_evaluations_begin_one_after_another_each_in_a_directory_of_its_own(scene: Scene) -> None:
    scene.hurry()
    assert len(scene.agent.held.waiting) == MOST_SLOTS - 1
    before = len(scene.began)
    scene.live(0.5 * QUICK_S)
    assert len(scene.began) == before
    scene.live(QUICK_S)
    assert len(scene.began) == before + 1
    scene.live(0.1)
    assert len({order.directory for order in scene.began}) == len(scene.began)


def test_what_waits_behind_an_evaluation_that_lasts_is_handed_back_and_what_was_done_is_reported(scene: Scene) -> None:
    scene.hurry()
    scene.takes_s = SLOW_S
    scene.live(QUICK_S + 2 * Pace.PATIENCE_S)
    handed_back = scene.releases
    assert [each.agent for each in handed_back] == [slot_name("a", slot) for slot in (2, 3)]
    assert all(each.directory is None for each in handed_back)
    # The second evaluation continues.
    assert scene.agent.held.current is not None
    assert scene.agent.held.current.agent == "a+1"
    assert str(scene.began[-2].evaluation) in scene.reported()
    assert str(scene.began[-1].evaluation) not in scene.reported()
    scene.live(2 * SLOW_S)
    assert str(scene.began[-2].evaluation) in scene.reported()
    assert scene.asked_for()[-1] == 1


def test_the_lease_of_a_slot_is_renewed_in_its_name(scene: Scene) -> None:
    scene.hurry()
    scene.takes_s = 20.0
    scene.live(12.0)
    assert [each.agent for each in scene.renewals] == ["a+1", "a+1"]


def test_an_agent_that_is_to_end_hands_back_what_waits_at_once(scene: Scene) -> None:
    scene.hurry()
    scene.takes_s = SLOW_S
    scene.live(2 * QUICK_S)
    scene.end_request.given = "its time is over"
    scene.live(1.0)
    assert [each.agent for each in scene.releases] == ["a+2", "a+3", "a+1"]
    assert scene.agent.exit_code == 130
    # The first of them was complete.
    assert str(scene.began[-2].evaluation) in scene.reported()


def test_what_was_granted_to_an_agent_that_is_to_end_meanwhile_is_handed_back(scene: Scene) -> None:
    scene.live(2 * Pace.CERTAIN * QUICK_S)
    call = scene.call

    def asked_to_end_meanwhile(method: str, message: Plain) -> Plain:
        if method == "exchange" and message["slots"][0]["wants_lease"]:
            scene.agent.departure.begin("its time is over", 130)
        return call(method, message)

    scene.call = asked_to_end_meanwhile  # type: ignore[method-assign]  # a stand-in of it
    scene.live(1.0)
    assert sorted(each.agent for each in scene.releases) == slot_names("a")
    assert scene.agent.exit_code == 130


def test_behind_an_evaluation_that_fails_none_is_begun(scene: Scene) -> None:
    scene.hurry()
    # The first one succeeds; evaluations that begin from now on fail.
    behind = [each.evaluation for each in scene.agent.held.waiting][1:]
    scene.failure = Failure(kind=FailureKind.CODE, reason="boom", traceback="boom")
    scene.live(10 * QUICK_S)
    assert not {order.evaluation for order in scene.began} & set(behind)
    assert [each.agent for each in scene.releases] == ["a+2", "a+3"]
    assert scene.asked_for()[-1] == 1


def test_no_more_are_taken_than_an_agent_may_make(tmp_path: Path) -> None:
    scene = Scene(tmp_path, max_evaluations=Pace.CERTAIN + 2)
    scene.live(1.0)
    assert scene.asked_for() == [*[1] * Pace.CERTAIN, 2, 0]
    assert len(scene.reported()) == Pace.CERTAIN + 2
    assert scene.agent.exit_code == 0


def test_a_trainer_in_a_process_of_its_own_gets_one_at_a_time(tmp_path: Path) -> None:
    scene = Scene(tmp_path, isolation="trainer")
    scene.live(0.1)
    assert set(scene.asked_for()) == {1}


def test_all_slots_reports_are_left_for_the_next_master(tmp_path: Path) -> None:
    scene = Scene(tmp_path, master_timeout_s=30.0)
    scene.hurry()
    scene.is_reachable = False
    scene.live(60.0)
    assert scene.agent.exit_code == MasterUnreachable.exit_code
    left = [wire.decode(path.read_text()) for path in RunDirectory(tmp_path).left_reports()]
    assert sorted(each["agent"] for each in left) == slot_names("a")


def test_a_master_that_does_not_answer_for_the_slots_has_not_taken_their_reports(scene: Scene) -> None:
    scene.hurry()
    scene.forgets_slots = True
    with pytest.raises(ProtocolMismatch, match="did not answer each slot"):
        scene.live(1.0)
    scene.agent.departure.leave_behind()
    assert scene.agent.outbox.reports.keys() == set(slot_names("a"))


# ------------------------------------------------------------------------------------------------------------- master


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    with Journal.open(directory.journal, create=settings_for(space_of())) as journal:
        yield journal


@pytest.fixture
def master(journal: Journal, tmp_path: Path) -> Master:
    return begun(RunDirectory(tmp_path / "run"), journal, clock=lambda: 0.0)


def exchanged(master: Master, request: ExchangeRequest) -> ExchangeAnswer:
    return read_answer(request, exchanged_message(master, wire.to_message(request)))


def exchanged_message(master: Master, message: Plain) -> Plain:
    answer = wire.decode(master.handle(Call("exchange", wire.encode(message), "a#1")))
    assert master.commit()
    return answer


def question(request: int, *others: int, reports: dict[int, Report] | None = None) -> ExchangeRequest:
    """An exchange of slot 0 and other slots, each of which requests a lease."""
    given = reports or {}
    slots = tuple(SlotRequest(slot=slot, wants_lease=True, report=given.get(slot)) for slot in (0, *others))
    return ExchangeRequest(agent="a", request=request, worker="node1-0", slots=slots)


def granted(answer: ExchangeAnswer) -> dict[int, EvaluationId]:
    """The grant of each slot."""
    return {each.slot: each.answer.evaluation for each in answer.slots if isinstance(each.answer, messages.Grant)}


def test_each_slot_gets_a_lease_of_its_own_in_the_journal(master: Master, journal: Journal) -> None:
    leases = granted(exchanged(master, question(1, 1, 2)))
    entries = [entry for _, _, entry in journal.entries() if isinstance(entry, Leased)]
    assert {entry.agent: entry.evaluation for entry in entries} == {
        slot_name("a", slot): evaluation for slot, evaluation in leases.items()
    }
    assert len(set(leases.values())) == 3


def test_a_message_that_is_repeated_leases_nothing_twice(master: Master) -> None:
    first = exchanged(master, question(1, 1, 2))
    assert exchanged(master, question(1, 1, 2)) == first
    assert len(master.engine.state.held_by) == 3


def test_all_reports_count_before_anything_is_leased(master: Master) -> None:
    leases: dict[int, EvaluationId] = {}
    for request in (1, 2, 3):
        asked = question(request, 1, 2, 3, reports={slot: report_of(0.1, each) for slot, each in leases.items()})
        if request == 3:
            # One of nine places is left, and only slot 1 requests it.
            asked = replace(asked, slots=tuple(replace(each, wants_lease=each.slot == 1) for each in asked.slots))
        leases = granted(exchanged(master, asked))
    assert leases == {1: EvaluationId(ConfigId(0, 0, 8), 0)}
    ended = exchanged(master, question(4, 1, reports={1: report_of(0.1, leases[1])}))
    assert [each.rung for each in granted(ended).values()] == [1, 1]


def message_of(slots: Plain) -> dict[str, Plain]:
    return wire.to_message(question(1)) | {"slots": slots}


@pytest.mark.parametrize(
    "others", [[0], [MOST_SLOTS], [-1], [True], ["1"], [None], [1.0], [1, 1], [2, 1], [[1]]], ids=str
)
def test_slots_with_other_numbers_are_refused(others: list[Plain], master: Master) -> None:
    slots = [{"slot": slot, "wants_lease": True, "report": None} for slot in (0, *others)]
    with pytest.raises(ProtocolMismatch):
        exchanged_message(master, message_of(slots))
    assert not master.engine.state.held_by


@pytest.mark.parametrize(
    "slots",
    [
        *(3, "slots", {"slot": 1}, [], [1], [[]], [{}]),
        [{"slot": 1, "wants_lease": True}],
        [{"slot": 0, "wants_lease": True, "report": 5}],
        [{"slot": 0, "wants_lease": 1}],
        [{"slot": 0, "want_lease": True}],
    ],
    ids=str,
)
def test_a_message_whose_slots_cannot_be_read_has_no_effect(slots: Plain, master: Master) -> None:
    with pytest.raises(ProtocolMismatch):
        exchanged_message(master, message_of(slots))
    assert not master.engine.state.held_by


def test_a_lost_connection_shortens_the_leases_of_all_slots(master: Master) -> None:
    exchanged(master, question(1, 1, 2))
    master.expire(["a#1"], 0.0)
    settings = master.engine.settings
    assert {lease.deadline for _, lease in master.engine._leases} == {2 * settings.heartbeat_s}


def test_people_are_shown_one_worker_whatever_its_slots_hold(master: Master) -> None:
    exchanged(master, question(1, 1, 2))
    status = master.status(0.0)
    (row,) = status.agents
    assert (row.agent, row.worker) == ("a", "node1-0")
    assert row.evaluation == "0-0-0@0"
    assert status.occupancy == 1.0
    assert status.evaluations.running == 3
