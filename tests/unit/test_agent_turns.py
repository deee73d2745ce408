"""The agent's loop, run turn by turn: at the time of its next turn it always has something to do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.agent.assignment import HandBack
from hpbandster_lite.agent.departure import GOODBYE_S
from hpbandster_lite.agent.departure import LOOK_EVERY_S as LOOK_AT_JOURNAL_EVERY_S
from hpbandster_lite.agent.own_disk import LOOK_EVERY_S
from hpbandster_lite.agent.pace import Pace
from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.journal import Journal
from hpbandster_lite.master.serving import hold_run_directory
from hpbandster_lite.protocol.messages import ExchangeRequest
from hpbandster_lite.protocol.slots import slot_name
from hpbandster_lite.records import (
    ConfigId,
    Entry,
    EvaluationId,
    Failure,
    FailureKind,
    Finished,
    FinishKind,
    HandBackKind,
    Limits,
    Outcome,
    Report,
    Started,
)
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.trainer.messages import (
    TrainerDied,
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerRefused,
)
from tests.engine_room import settings_for, space_of
from tests.grants import grant
from tests.world import World
from tests.world_workers import Worker

REPORT = Report(evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, outcome=Outcome(loss=1.0))


def worker_of(run: Path, **changed: Any) -> Worker:
    """A worker with a ready trainer that looks for a master; none exists."""
    world = World(0)
    world.directory = RunDirectory(run)
    world.directory.create()
    worker = Worker(world, "w", 0, changed=changed)
    worker.turn()
    world.now += 10.0
    worker.turn()
    assert worker.agent.held.wanted == 1
    return worker


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return worker_of(tmp_path / "run")


def lease(worker: Worker) -> None:
    """Give the worker an evaluation, which starts."""
    worker.agent.held.take([(worker.agent.id, grant({"x": 0.5}))])
    assert worker.agent.held.current is not None


def test_an_agent_that_is_to_end_and_has_no_trainer_sleeps_until_something_is_due(worker: Worker) -> None:
    agent = worker.agent
    agent.outbox.reports[agent.id] = REPORT
    agent.keeper.kill()
    worker.end_request.given = "its time is over"
    began = worker.world.now
    worker.turn()
    assert agent.exit_code is None
    assert agent.next_due() > worker.clock()
    worker.world.now = began + GOODBYE_S
    worker.turn()
    assert agent.exit_code == 130


def test_an_agent_gives_its_master_up_when_it_is_turned_for_that(worker: Worker) -> None:
    agent, link = worker.agent, worker.agent.conversation.link
    assert link is not None
    timeout_s = worker.options.master_timeout_s
    # Because of rounding the sum of both is less than the timeout.
    link.answered_at = next(
        at for at in (1000.0 + 0.1 * step for step in range(1_000)) if (at + timeout_s) - at < timeout_s
    )
    link.next_try_at = math.inf
    # It has just checked whether the search is over, so nothing is due before it gives up.
    worker.world.now = link.answered_at + timeout_s - 0.5 * LOOK_AT_JOURNAL_EVERY_S
    worker.turn()
    worker.world.now = agent.next_due()
    assert worker.world.now == link.answered_at + timeout_s
    worker.turn()
    assert agent.exit_code == MasterUnreachable.exit_code


def test_an_evaluation_that_outlasts_the_time_of_its_agent_is_not_cut_off_by_that(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", time_ends_at=1_015.0)
    agent = worker.agent
    assert agent.next_due() <= 1_015.0
    lease(worker)
    worker.world.now += 10.0
    worker.turn()
    assert (agent.exit_code, agent.departure.reason) == (None, None)
    assert agent.next_due() > worker.clock()
    agent.held.receive(TrainerEnded(loss=1.0))
    worker.turn()
    # It reports to a master that does not answer until the time for its last messages is over.
    assert agent.departure.reason == "its time is over"
    live_on(worker, 60.0)
    assert agent.exit_code == 75


def test_an_agent_that_is_to_end_and_evaluates_nothing_waits_for_its_master_alone(worker: Worker) -> None:
    worker.agent.outbox.reports[worker.agent.id] = REPORT
    worker.end_request.given = "its time is over"
    worker.turn()
    # No objective runs that needs the grace period.
    assert live_on(worker, 60.0) == pytest.approx(GOODBYE_S, abs=0.1)
    assert worker.agent.exit_code == 130
    assert len(worker.world.directory.left_reports()) == 1


def test_an_agent_that_is_to_end_says_goodbye_from_when_its_trainer_has_let_go(worker: Worker) -> None:
    agent = worker.agent
    lease(worker)
    worker.trainers[0].obeys_after_s = 2.0
    worker.end_request.given = "its time is over"
    worker.turn()
    assert worker.options.grace_s > 2.0
    assert live_on(worker, 60.0) == pytest.approx(2.0 + GOODBYE_S, abs=0.1)
    assert agent.exit_code == 130


# --------------------------------------------------------------------------------------- reasons for a hand-back

ORDER_WITHIN_S = 5.0
INTERRUPTED = TrainerInterrupted()
KILLED = TrainerDied(failure=Failure(kind=FailureKind.INFRASTRUCTURE, reason="ended from outside by SIGKILL"))


def handed_back(worker: Worker) -> list[tuple[HandBackKind, str]]:
    return [(release.kind, release.reason) for release in worker.agent.outbox.releases]


def test_an_evaluation_that_interrupts_itself_is_handed_back_as_unordered_when_no_order_came(worker: Worker) -> None:
    lease(worker)
    worker.agent.held.receive(INTERRUPTED)
    assert worker.agent.held.wanted == 0
    live_on(worker, ORDER_WITHIN_S - 0.1)
    # Until then heartbeats keep its lease.
    assert worker.agent.held.current is not None
    assert handed_back(worker) == []
    live_on(worker, 1.0)
    assert handed_back(worker) == [
        (
            HandBackKind.UNORDERED,
            "its trainer received a signal, or its objective interrupted itself, and its worker received no order to "
            "stop",
        )
    ]


def test_an_evaluation_whose_objective_signals_its_worker_is_handed_back_as_unordered(worker: Worker) -> None:
    lease(worker)
    worker.trainers[0].obeys_after_s = 0.5
    worker.end_request.own.append("process 7 (sh) of its objective sent SIGTERM to its own worker")
    worker.turn()
    live_on(worker, 1.0)
    ((kind, reason),) = handed_back(worker)
    assert kind is HandBackKind.UNORDERED
    assert reason.startswith("process 7 (sh) of its objective sent SIGTERM to its own worker (to hand an evaluation")
    assert worker.agent.departure.reason is None


def test_a_signal_of_what_an_earlier_objective_left_has_no_effect(worker: Worker) -> None:
    worker.end_request.own.append("process 7 (sh) of its objective sent SIGTERM to its own worker")
    live_on(worker, 1.0)
    assert (handed_back(worker), worker.agent.departure.reason) == ([], None)


def test_a_signal_whose_sender_has_ended_ends_the_worker_and_is_named_in_the_hand_back(worker: Worker) -> None:
    lease(worker)
    worker.trainers[0].obeys_after_s = 0.5
    worker.end_request.given, worker.end_request.is_unexplained = "SIGTERM", True
    worker.turn()
    live_on(worker, 1.0)
    assert handed_back(worker) == [(HandBackKind.UNEXPLAINED, "SIGTERM")]


def test_an_evaluation_whose_trainer_was_killed_is_reported_as_lost_when_no_order_came(worker: Worker) -> None:
    lease(worker)
    worker.agent.held.receive(KILLED)
    live_on(worker, ORDER_WITHIN_S - 0.1)
    assert not worker.agent.outbox.owes
    live_on(worker, 1.0)
    (report,) = worker.agent.outbox.reports.values()
    assert report.outcome.failure == KILLED.failure


@pytest.mark.parametrize("how", [INTERRUPTED, KILLED], ids=["interrupted", "killed"])
@pytest.mark.parametrize("order", ["end", "stop"])
def test_an_order_within_five_seconds_explains_why_an_evaluation_was_cut_off(
    order: str, how: TrainerMessage, worker: Worker
) -> None:
    """A batch system signals all processes of a job, in any order."""
    lease(worker)
    worker.agent.held.receive(how)
    live_on(worker, ORDER_WITHIN_S - 0.1)
    if order == "end":
        worker.end_request.given = "its allocation ends"
        worker.turn()
    else:
        worker.agent.held.stop(HandBack(HandBackKind.ORDERED, "its allocation ends"))
    assert handed_back(worker) == [(HandBackKind.ORDERED, "its allocation ends")]
    assert worker.agent.outbox.reports == {}


def test_a_trainer_that_dies_while_its_worker_waits_for_an_order_is_replaced_and_reports_nothing_more(
    worker: Worker,
) -> None:
    lease(worker)
    worker.agent.held.receive(INTERRUPTED)
    worker.agent.held.receive(KILLED)
    assert worker.agent.keeper.refusal is None
    live_on(worker, ORDER_WITHIN_S + 0.1)
    assert [kind for kind, _ in handed_back(worker)] == [HandBackKind.UNORDERED]
    assert worker.agent.outbox.reports == {}


def test_an_evaluation_over_its_time_limit_waits_for_no_order(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", timeout_s=100.0)
    lease(worker)
    current = worker.agent.held.current
    assert current is not None
    current.has_timed_out = True
    worker.agent.held.receive(INTERRUPTED)
    (report,) = worker.agent.outbox.reports.values()
    assert report.outcome.failure is not None
    assert report.outcome.failure.kind is FailureKind.TIME_LIMIT


def test_an_evaluation_that_was_cut_off_has_no_time_limit_any_more(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", timeout_s=1.0)
    lease(worker)
    worker.agent.held.receive(INTERRUPTED)
    live_on(worker, ORDER_WITHIN_S + 0.1)
    assert [kind for kind, _ in handed_back(worker)] == [HandBackKind.UNORDERED]


@pytest.mark.parametrize(
    ("events", "was_cut_off"),
    [
        ([TrainerInterrupted()], False),
        ([TrainerInterrupted(was_cut_off=True)], True),
        ([KILLED], True),
        ([], True),
    ],
    ids=["in a report", "elsewhere", "killed from outside", "killed after its grace"],
)
def test_a_hand_back_says_whether_the_objective_was_cut_off(
    events: list[TrainerMessage], was_cut_off: bool, worker: Worker
) -> None:
    lease(worker)
    for event in events:
        worker.agent.held.receive(event)
    worker.trainers[0].obeys_after_s = None
    worker.agent.held.stop(HandBack(HandBackKind.ORDERED, "enough"))
    worker.world.now += worker.options.grace_s + 1.0
    worker.turn()
    assert [release.was_cut_off for release in worker.agent.outbox.releases] == [was_cut_off]


def test_an_evaluation_that_has_not_begun_was_not_cut_off(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", isolation="none")
    agent = worker.agent
    agent.held.take([(slot_name(agent.id, number), grant({"x": 0.5}, number)) for number in range(2)])
    live_on(worker, 1.0)
    assert [release.was_cut_off for release in agent.outbox.releases] == [False]


def test_a_worker_with_another_source_refuses_what_it_holds(worker: Worker) -> None:
    lease(worker)
    worker.trainers[0].obeys_after_s = 0.5
    worker.agent.conversation.source.refuse("net.py differs")
    live_on(worker, 1.0)
    ((kind, reason),) = handed_back(worker)
    assert kind is HandBackKind.REFUSED
    assert "net.py differs" in reason


def test_a_worker_that_cannot_import_the_problem_any_more_refuses_what_it_holds(worker: Worker) -> None:
    lease(worker)
    worker.agent.held.receive(INTERRUPTED)
    worker.agent.keeper.refuse("the problem cannot be run here")
    worker.turn()
    assert handed_back(worker) == [(HandBackKind.REFUSED, "its worker cannot run the problem")]


def test_what_waits_behind_an_evaluation_that_is_not_quick_is_refused(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", isolation="none")
    agent = worker.agent
    agent.held.take([(slot_name(agent.id, number), grant({"x": 0.5}, number)) for number in range(3)])
    live_on(worker, 1.0)
    assert [kind for kind, _ in handed_back(worker)] == [HandBackKind.REFUSED] * 2


# ----------------------------------------------------------------------------------------- a worker that cannot write

NO_ROOM = TrainerEnded(
    failure=Failure(kind=FailureKind.INFRASTRUCTURE, reason="no room on the disk of /run/x"), no_room_in="/run"
)
HIDDEN = TrainerEnded(failure=Failure(kind=FailureKind.CODE, reason="OSError: it cannot write"))
CRASHED = TrainerDied(failure=Failure(kind=FailureKind.CODE, reason="the objective crashed its process by SIGBUS"))


@pytest.fixture
def patient(tmp_path: Path) -> Worker:
    return worker_of(tmp_path / "run", master_timeout_s=1_000.0)


def asked(worker: Worker) -> tuple[int, str | None]:
    """The number of leases that the worker requests after the next check of its disk, and why it takes no work."""
    outbox: Any = worker.agent.outbox
    for _ in range(2):
        outbox.releases.clear()
        outbox._begun = None
        live_on(worker, LOOK_EVERY_S + 1.0)
    assert isinstance(outbox._begun, ExchangeRequest)
    return sum(slot.wants_lease for slot in outbox._begun.slots), outbox._begun.hindrance


@pytest.mark.parametrize("message", [NO_ROOM, HIDDEN, CRASHED], ids=["no room", "hidden", "crashed"])
def test_an_evaluation_that_found_no_room_is_refused_and_its_worker_takes_no_work_until_it_can_write(
    message: TrainerMessage, patient: Worker
) -> None:
    worker = patient
    lease(worker)
    worker.disk_is_full_until = math.inf
    worker.agent.held.receive(message)
    assert worker.agent.outbox.reports == {}
    ((kind, reason),) = handed_back(worker)
    assert kind is HandBackKind.REFUSED
    assert reason.startswith("no room on the disk of ")
    assert worker.agent.held.evaluated == 0
    hindrance = worker.agent.held.disk.hindrance
    assert hindrance is not None
    assert asked(worker) == (1, hindrance)
    worker.disk_is_full_until = worker.world.now
    assert asked(worker) == (1, None)


def test_an_idle_worker_whose_disk_is_full_takes_no_work(patient: Worker) -> None:
    patient.disk_is_full_until = math.inf
    assert asked(patient) == (1, f"no room on the disk of {patient.world.directory.path}")


def test_an_evaluation_that_fails_while_there_is_room_is_reported(worker: Worker) -> None:
    lease(worker)
    worker.agent.held.receive(HIDDEN)
    (report,) = worker.agent.outbox.reports.values()
    assert report.outcome.failure is not None
    assert report.outcome.failure.kind is FailureKind.CODE
    assert handed_back(worker) == []


def test_an_evaluation_over_its_time_limit_is_one_whatever_it_met_at_its_end(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", timeout_s=1.0)
    lease(worker)
    current = worker.agent.held.current
    assert current is not None
    current.has_timed_out = True
    worker.agent.held.receive(NO_ROOM)
    assert handed_back(worker) == []
    assert worker.agent.held.disk.hindrance is None


def test_a_loss_of_a_worker_whose_disk_is_full_counts(worker: Worker) -> None:
    lease(worker)
    worker.disk_is_full_until = math.inf
    worker.agent.held.disk._in_a_row = 3
    worker.agent.held.receive(TrainerEnded(loss=1.0))
    (report,) = worker.agent.outbox.reports.values()
    assert report.outcome.loss == 1.0
    # The disk had space: the next full disk counts as the first one again.
    assert worker.agent.held.disk._in_a_row == 0


@pytest.mark.parametrize("dies", [False, True], ids=["refused", "refused and dead"])
def test_a_trainer_that_finds_no_room_at_its_import_is_started_again_when_there_is(dies: bool, patient: Worker) -> None:
    agent = patient.agent
    agent.held.running.current = None
    patient.disk_is_full_until = math.inf
    trainer = patient.trainers[0]
    trainer.is_ready = False
    agent._receive(TrainerRefused(message="loading 'p' failed: no room", no_room_in="/run"))
    if dies:
        agent._receive(TrainerDied(failure=Failure(kind=FailureKind.CODE, reason="exit status 2")))
    assert asked(patient) == (1, "loading 'p' failed: no room")
    assert (agent.keeper.refusal, agent.exit_code) == (None, None)
    assert patient.trainers == [trainer]
    patient.disk_is_full_until = patient.world.now
    assert asked(patient) == (1, None)
    assert patient.trainers != [trainer]


def test_a_worker_whose_first_import_finds_no_room_reports_it_and_greets_the_master_later(patient: Worker) -> None:
    agent = patient.agent
    conversation: Any = agent.conversation
    ready, connect = conversation.link._hello, conversation._connect
    hellos: list[Any] = []
    agent.held.running.current, conversation.link = None, None

    def connected(hello: Any, epoch: int) -> Any:
        hellos.append(hello)
        return connect(hello, epoch)

    conversation._connect = connected
    patient.disk_is_full_until = math.inf
    patient.trainers[0].is_ready = False
    agent._receive(TrainerRefused(message="no room", no_room_in="/run"))
    assert asked(patient) == (1, "no room")
    assert {each.problem for each in hellos} == {""}
    patient.disk_is_full_until = patient.world.now
    assert asked(patient) == (1, None)
    assert conversation.link._hello == ready


def test_a_lease_whose_trainer_finds_no_room_at_its_import_is_refused(worker: Worker) -> None:
    worker.trainers[0].is_ready = False
    worker.agent.held.take([(worker.agent.id, grant({"x": 0.5}))])
    worker.disk_is_full_until = math.inf
    worker.agent._receive(TrainerRefused(message="no room", no_room_in="/run"))
    assert handed_back(worker) == [(HandBackKind.REFUSED, "no room")]


def test_what_waits_behind_an_evaluation_that_found_no_room_is_refused_too(tmp_path: Path) -> None:
    worker = worker_of(tmp_path / "run", isolation="none")
    held = worker.agent.held
    for _ in range(Pace.CERTAIN):
        held.pace.note(0.0)
    held.take([(slot_name(worker.agent.id, number), grant({"x": 0.5}, number)) for number in range(3)])
    worker.disk_is_full_until = math.inf
    held.receive(NO_ROOM)
    live_on(worker, 0.01)
    assert handed_back(worker) == [(HandBackKind.REFUSED, "no room on the disk of /run/x")] * 3
    assert held.current is None


def test_a_lease_that_comes_when_the_disk_is_full_is_refused(worker: Worker) -> None:
    worker.agent.held.disk.found_no_room("/run", "no room", worker.clock())
    worker.agent.held.take([(worker.agent.id, grant({"x": 0.5}))])
    assert handed_back(worker) == [(HandBackKind.REFUSED, "no room")]
    assert worker.agent.held.current is None


# ------------------------------------------------------------------------------------- a search that is already over


def leave_journal(worker: Worker, *entries: Entry) -> None:
    """Write the journal of a master that did this and ended."""
    with Journal.open(worker.world.directory.journal, create=settings_for(space_of())) as journal:
        journal.commit([Started(epoch=journal.begin_epoch(), limits=Limits()), *entries], at=0.0)


def live_on(worker: Worker, for_s: float) -> float:
    """Run the agent's turns at their times, until it ends or ``for_s`` is over; return the seconds that it lived."""
    began = worker.world.now
    while worker.agent.exit_code is None and worker.next_at < began + for_s:
        worker.world.now = worker.next_at
        worker.turn()
        assert worker.is_gone or worker.agent.next_due() > worker.world.now
    return worker.world.now - began


def test_an_agent_whose_search_is_over_does_not_wait_for_a_master(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="all 2 brackets are done"))
    assert worker.agent.conversation.link is not None
    worker.agent.conversation.link.epoch = 1
    # Long enough for the start of a master that extends the search.
    with caplog.at_level("INFO"):
        assert 10.0 < live_on(worker, 60.0) < 20.0
    assert worker.agent.exit_code == 0
    assert "no master answers, and the search is over: all 2 brackets are done" in caplog.text


def test_an_agent_that_comes_when_its_search_is_over_ends_at_once_with_words(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="all 2 brackets are done"))
    with caplog.at_level("INFO"):
        assert live_on(worker, 60.0) < 3.0
    assert worker.agent.exit_code == 0
    assert "the search is over: all 2 brackets are done" in caplog.text


def test_an_agent_that_comes_before_its_master_serves_waits_for_it(worker: Worker) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="all 2 brackets are done"))
    with hold_run_directory(worker.world.directory):
        live_on(worker, 20.0)
        assert worker.agent.exit_code is None
    live_on(worker, 10.0)
    assert worker.agent.exit_code == 0


def test_an_agent_whose_launcher_starts_the_master_waits_for_it_although_the_journal_has_an_end(tmp_path: Path) -> None:
    # A loaded machine may take longer to start a master that continues the search than any fixed time.
    worker = worker_of(tmp_path / "run", has_own_master=True)
    leave_journal(worker, Finished(kind=FinishKind.SAME_FAULT, reason="stopped, because"))
    live_on(worker, 20.0)
    assert worker.agent.exit_code is None
    # Later the journal is that of its own master.
    assert worker.agent.conversation.link is not None
    worker.agent.conversation.link.epoch = 1
    live_on(worker, 60.0)
    assert worker.agent.exit_code == 0


def test_a_report_that_comes_after_the_end_of_its_search_is_left_for_the_next_master(worker: Worker) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="over"))
    worker.agent.outbox.reports[worker.agent.id] = REPORT
    live_on(worker, 60.0)
    assert worker.agent.exit_code == 0
    assert [path.name for path in worker.world.directory.left_reports()] == ["0-0-0@0-1.json"]


def test_an_agent_waits_on_while_its_search_is_not_over(worker: Worker) -> None:
    leave_journal(worker)
    live_on(worker, 30.0)
    assert worker.agent.exit_code is None


@pytest.mark.parametrize("content", [None, b"", b"no journal" * 100])
def test_a_journal_that_cannot_be_read_ends_no_agent(content: bytes | None, worker: Worker) -> None:
    if content is not None:
        worker.world.directory.journal.write_bytes(content)
    live_on(worker, 30.0)
    assert worker.agent.exit_code is None


def test_a_search_that_goes_on_after_all_keeps_its_agents(worker: Worker) -> None:
    leave_journal(worker, Finished(kind=FinishKind.COMPLETE, reason="over"))
    assert worker.agent.conversation.link is not None
    worker.agent.conversation.link.epoch = 1
    live_on(worker, 5.0)
    leave_journal(worker)
    live_on(worker, 30.0)
    assert worker.agent.exit_code is None
