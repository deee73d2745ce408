"""The master: every turn is durable before it is answered, and no other master serves the search meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import ConfigurationSpace, Float, Integer

from hpbandster_lite import wire
from hpbandster_lite.errors import Held, JournalError, ProtocolMismatch, ResumeError, RunDirectoryError, UsageError
from hpbandster_lite.journal import Fenced, Journal
from hpbandster_lite.master import registration
from hpbandster_lite.master.calls import Master
from hpbandster_lite.master.connection import connect
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.registration import Registration
from hpbandster_lite.master.serving import resume_master, run_master
from hpbandster_lite.protocol.messages import (
    A,
    Done,
    ExchangeRequest,
    Grant,
    Keep,
    LeftReport,
    ReleaseRequest,
    RenewRequest,
    Request,
    SlotAnswer,
    SlotRequest,
    Stop,
    Wait,
    read_answer,
    send,
)
from hpbandster_lite.records import (
    ConfigId,
    CurvePoint,
    EvaluationId,
    Expired,
    Finished,
    HandBackKind,
    LateReport,
    Leased,
    Limits,
    Outcome,
    Recorded,
    Released,
    Report,
    SearchSettings,
    Started,
)
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.space import SearchSpace, configspace_to_json
from hpbandster_lite.transport import Call, NameServerClient, run_name
from hpbandster_lite.transport.name_server import serve_nameserver
from hpbandster_lite.transport.server import Server
from tests.engine_room import engine_for, settings_for
from tests.service import transport_peer as peers
from tests.service.master_room import stored

pytestmark = pytest.mark.timeout(90)

DEADLINE_S = 30.0
RECORDED_REPORTS = Path(__file__).parents[1] / "recorded" / "reports_protocol_1"


@contextlib.contextmanager
def master_of(
    directory: RunDirectory, space: SearchSpace, limits: Limits | None = None, **settings: Any
) -> Iterator[Master]:
    """A master in this process, without a socket; a second one on the same directory is a restarted master."""
    with Journal.open(directory.journal, create=replace(settings_for(space), **settings)) as journal:
        engine = engine_for(journal.settings, space)
        engine.replay(entry for _, _, entry in journal.entries())
        epoch = journal.begin_epoch()
        turn = engine.start(epoch, limits or Limits(brackets=1), now=time.monotonic())
        journal.commit(turn.entries, at=1.0)
        yield Master(journal, engine, directory, CheckpointKeeper(directory, keep_best=1, delay_s=60.0))


def call_of(request: Request[Any], peer: str = "peer") -> Call:
    return Call(request.method, wire.encode(wire.to_message(request)), peer)


def answered(master: Master, request: Request[A], peer: str = "peer") -> A:
    """The answer of one call; its turn is not committed yet."""
    return read_answer(request, wire.decode(master.handle(call_of(request, peer))))


def question(agent: str, request: int, report: Report | None = None, *, wants_lease: bool = True) -> ExchangeRequest:
    slot = SlotRequest(slot=0, wants_lease=wants_lease, report=report)
    return ExchangeRequest(agent=agent, request=request, worker=agent, slots=(slot,))


def exchanged(
    master: Master, agent: str, request: int, report: Report | None = None, peer: str = "peer", *, wants: bool = True
) -> SlotAnswer:
    (slot,) = answered(master, question(agent, request, report, wants_lease=wants), peer).slots
    return slot


def grant_in(answer: SlotAnswer) -> Grant:
    assert isinstance(answer.answer, Grant), answer
    return answer.answer


def grant_of(master: Master, agent: str = "a", request: int = 1, peer: str = "peer") -> Grant:
    return grant_in(exchanged(master, agent, request, peer=peer))


def report_of(grant: Grant, loss: float = 0.5) -> Report:
    return Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=Outcome(loss=loss))


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------------ a turn


def test_all_requests_of_a_turn_are_in_one_commit_and_none_is_answered_before(
    directory: RunDirectory, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    with master_of(directory, space) as master, contextlib.ExitStack() as stack:
        serving = stack.enter_context(peers.server(master.handle))
        asking = [stack.enter_context(peers.Peer(serving)).introduce() for _ in range(3)]
        for number, peer in enumerate(asking):
            message = wire.encode(wire.to_message(question(f"agent {number}", 1)))
            peer.socket.sendall(peer.request(message, method="exchange"))
        write = Journal.commit

        def commit(journal: Journal, entries: Any, *, at: float) -> int:
            assert not any(peer.answers() for peer in asking)
            commits.append(len([entry for entry in entries if isinstance(entry, Leased)]))
            return write(journal, entries, at=at)

        monkeypatch.setattr(Journal, "commit", commit)
        # Data sent over loopback has already arrived.
        assert serving.turn(1.0, commit=master.commit) == 3
        for peer in asking:
            assert peer.answer()
    assert commits == [3]
    assert len(stored(directory, Leased)) == 3


def test_an_answer_has_the_epoch_and_all_that_an_agent_needs(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        answer = answered(master, question("a", 1))
    assert answer.epoch == 1
    grant = grant_in(answer.slots[0])
    assert (grant.evaluation, grant.attempt) == (EvaluationId(ConfigId(0, 0, 0), 0), 1)
    assert (grant.budget, grant.max_budget, grant.budgets) == (1.0, 9.0, (1.0, 3.0, 9.0))
    assert (grant.unit, grant.heartbeat_s) == ("epochs", 5.0)
    assert (grant.previous_directory, grant.resume_directories) == (None, ())
    assert grant.values == {"x": 0.5, "n": 5}


def test_a_report_and_the_next_lease_travel_in_one_call(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        grant = grant_of(master)
        answer = exchanged(master, "a", 2, report_of(grant))
        assert answer.report_is == "recorded"
        assert grant_in(answer).evaluation != grant.evaluation
        assert exchanged(master, "a", 3, wants=False).answer is None


def test_a_worker_that_takes_no_work_is_in_the_status_and_asks_again_after_a_heartbeat(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        asks = replace(question("a", 1), hindrance="no room on the disk of /x:\nNo space left on device")
        (slot,) = answered(master, asks).slots
        words = "no room on the disk of /x: No space left on device"
        assert slot.answer == Wait(seconds=master.engine.settings.heartbeat_s, reason=words)
        status = wire.decode(master.handle(Call("status", "{}", "peer")))
        assert [agent["hindrance"] for agent in status["agents"]] == [words]
        assert status["waits"][0]["reason"] == f"worker a takes no work: {words}"
        assert grant_of(master, request=2).attempt == 1


def test_an_attempt_gets_the_directories_in_which_earlier_ones_may_have_left_a_checkpoint(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        first = grant_of(master)
        answered(master, ReleaseRequest(
            agent="a", evaluation=first.evaluation, attempt=1, reason="time limit", directory="kept/here",
            kind=HandBackKind.UNORDERED,
        ))
        second = grant_of(master, "b")
        assert (second.evaluation, second.attempt) == (first.evaluation, 2)
        assert second.resume_directories == ("kept/here",)
        third = grant_of(master, "b", request=2)
        assert third.resume_directories == ("evaluations/0-0-0/rung0/attempt2", "kept/here")
        assert master.commit()
    assert [(entry.directory, entry.kind) for entry in stored(directory, Released)] == [
        ("kept/here", HandBackKind.UNORDERED)
    ]


def test_a_renewal_keeps_a_lease_and_is_answered_with_a_stop_where_there_is_none(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        lease = {"evaluation": grant_of(master).evaluation, "attempt": 1}
        # Fields of a lease.
        kept = answered(master, RenewRequest(agent="a", **lease, curve=(CurvePoint(1.0, 0.5),)))  # type: ignore[arg-type]
        assert kept.answer == Keep()
        stop = answered(master, RenewRequest(agent="b", **lease)).answer  # type: ignore[arg-type]  # fields of a lease
        assert isinstance(stop, Stop)
        assert "another worker" in stop.reason


def test_the_status_tells_what_the_search_and_this_master_are(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        exchanged(master, "a", 2, report_of(grant_of(master)))
        status = wire.decode(master.handle(Call("status", "{}", "peer")))
    assert (status["problem"], status["algorithm"], status["seed"], status["pid"]) == ("t", "hyperband", 7, os.getpid())
    assert (status["evaluations"]["recorded"], status["evaluations"]["recorded_here"]) == (1, 1)
    assert status["journal_stalled_s"] is None
    assert status["uptime_s"] >= 0


# --------------------------------------------------------------------------------------------------------- restarts


def test_the_same_request_gets_the_same_answer_across_a_restart(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        first = grant_of(master)
        assert grant_of(master) == first
        assert master.commit()
    with master_of(directory, space) as master:
        assert grant_of(master) == first
        assert master.commit()
    assert len(stored(directory, Leased)) == 1
    assert [entry.epoch for entry in stored(directory, Started)] == [1, 2]


def test_a_lease_whose_turn_was_never_committed_was_never_given(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        first = grant_of(master)
    with master_of(directory, space) as master:
        assert grant_of(master, "another") == first
        assert master.commit()
    assert [entry.agent for entry in stored(directory, Leased)] == ["another"]


def test_a_report_counts_once_however_often_it_comes(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        report = report_of(grant_of(master))
        twice = [exchanged(master, "a", 2, report, wants=False) for _ in range(2)]
        assert [each.report_is for each in twice] == ["recorded", "known"]
        assert master.commit()
    with master_of(directory, space) as master:
        assert exchanged(master, "a", 2, report, wants=False).report_is == "known"
        assert master.commit()
    assert len(stored(directory, Recorded)) == 1


def test_a_lost_connection_costs_the_lease_after_two_heartbeats_and_another_one_keeps_it(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        lost, kept = grant_of(master, "a", peer="first"), grant_of(master, "b", peer="second")
        answered(master, RenewRequest(agent="b", evaluation=kept.evaluation, attempt=1), "third")
        exchanged(master, "b", 2, peer="third", wants=False)
        now = time.monotonic()
        master.expire(["first", "second"], now)
        master.expire([], now + 9.0)
        assert master.has_agents
        master.expire([], now + 10.5)
        assert master.commit()
    assert [entry.evaluation.config_id for entry in stored(directory, Expired)] == [lost.evaluation.config_id]


def test_a_finished_search_is_left_when_every_connected_agent_knows(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space, Limits(evaluations=1)) as master:
        exchanged(master, "a", 0, peer="first", wants=False)
        exchanged(master, "b", 0, peer="second", wants=False)
        done = exchanged(master, "a", 2, report_of(grant_of(master, peer="first")), "first")
        assert isinstance(done.answer, Done)
        waits = [master.waits_for_agents]
        assert exchanged(master, "b", 1, peer="second").answer == done.answer
        waits.append(master.waits_for_agents)
        assert waits == [True, False]
        master.expire(["first", "second"], time.monotonic())
        assert not master.has_agents


# --------------------------------------------------------------------------------------------------- invalid messages


LEASE = {"agent": "a", "evaluation": [[0, 0, 0], 0], "attempt": 1}
RENEWAL = {"type": "renew-request", **LEASE}
RELEASE = {"type": "release-request", **LEASE, "reason": "x"}
ASKS = {"slot": 0, "wants_lease": True}
EXCHANGE = {"type": "exchange-request", "agent": "a", "request": 2, "worker": "", "slots": [ASKS]}


@pytest.mark.parametrize("message", [EXCHANGE, RENEWAL, RELEASE])
def test_the_messages_of_the_tests_below_are_good_but_for_what_is_changed(
    message: dict[str, Any], directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        assert master.handle(Call(message["type"].removesuffix("-request"), wire.encode(message), "peer"))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lease", {"agent": "a"}),
        ("__init__", {}),
        ("exchange", []),
        ("exchange", None),
        ("exchange", {}),
        ("exchange", RENEWAL),
        ("exchange", {**EXCHANGE, "type": "ExchangeRequest"}),
        ("exchange", {**EXCHANGE, "request": None}),
        ("exchange", {**EXCHANGE, "request": "two"}),
        ("exchange", {**EXCHANGE, "request": float("inf")}),
        ("exchange", {**EXCHANGE, "unknown": 1}),
        ("exchange", {**EXCHANGE, "slots": [{**ASKS, "report": {"outcome": 1}}]}),
        ("exchange", {**EXCHANGE, "slots": [{**ASKS, "report": "done"}]}),
        ("exchange", {**EXCHANGE, "slots": [{**ASKS, "report": {"$": "Report"}}]}),
        ("exchange", {**EXCHANGE, "time_left_s": float("nan")}),
        ("renew", {"type": "renew-request", "agent": "a"}),
        ("renew", {**RENEWAL, "evaluation": 3}),
        ("renew", {**RENEWAL, "evaluation": [[0, 0], 0]}),
        ("renew", {**RENEWAL, "evaluation": [[0, 0, [0]], 0]}),
        ("renew", {**RENEWAL, "attempt": float("nan")}),
        ("renew", {**RENEWAL, "curve": 3}),
        ("renew", {**RENEWAL, "curve": [[1, 2, 3, 4]]}),
        ("release", {"type": "release-request", **LEASE}),
        ("release", {**RELEASE, "evaluation": {"config": 1}}),
        ("release", {**RELEASE, "directory": 3}),
        ("release", {**RELEASE, "directory": "../elsewhere"}),
    ],
)
def test_a_message_that_cannot_be_read_is_refused_without_effect(
    method: str, message: Any, directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        grant_of(master)
        before = len(stored(directory, object))
        with pytest.raises(ProtocolMismatch):
            master.handle(Call(method, wire.encode(message), "peer", {}))
        assert master.commit()
        assert len(stored(directory, object)) == before + 3  # bracket, sample and lease of the valid request
        master.engine.validate()
        assert grant_of(master, request=1).attempt == 1


# ---------------------------------------------------------------------------------------- a journal that fails


def test_a_journal_that_cannot_be_written_holds_answers_back_and_goes_on_when_it_can(
    directory: RunDirectory, space: SearchSpace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = Journal.commit
    is_full = True

    def commit(journal: Journal, entries: Any, *, at: float) -> int:
        if is_full:
            raise JournalError("cannot write the journal: database or disk is full")
        return write(journal, entries, at=at)

    monkeypatch.setattr(Journal, "commit", write)
    with (
        master_of(directory, space) as master,
        peers.server(master.handle, reads=("status",)) as serving,
        peers.Peer(serving) as peer,
        peers.Peer(serving) as asking,
    ):
        peer.introduce()
        asking.introduce()
        monkeypatch.setattr(Journal, "commit", commit)
        peer.send(peer.request(wire.encode(wire.to_message(question("a", 1))), method="exchange"))
        for _ in range(3):
            serving.turn(0.05, commit=master.commit)
        assert peer.answers() == []
        assert stored(directory, Leased) == []
        asking.send(asking.request(method="status"))
        asking.send(asking.request(wire.encode(wire.to_message(question("b", 1))), method="exchange"))
        status, busy = asking.answers_when_there(master.commit, 2)
        shown = wire.decode(status["answer"])
        assert shown["journal_stalled_by"] == "cannot write the journal: database or disk is full"
        assert shown["waits"] == []
        assert "busy" in busy
        stalled_s = master.status(time.monotonic()).journal_stalled_s
        assert stalled_s is not None
        assert stalled_s >= 0
        is_full = False
        peers.until(lambda: stored(directory, Leased), serving, master.commit)
        assert peer.answers_when_there(master.commit)
        assert master.status(time.monotonic()).journal_stalled_s is None
    assert caplog.text.count("the journal cannot be written") == 1
    assert "the journal can be written again" in caplog.text


def test_an_older_master_can_commit_nothing_and_the_newer_one_is_undisturbed(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as older, master_of(directory, space) as newer:
        grant_of(older, "old")
        with pytest.raises(Fenced, match="has taken over the journal"):
            older.commit()
        grant_of(newer, "new")
        assert newer.commit()
    assert [entry.agent for entry in stored(directory, Leased)] == ["new"]


# ------------------------------------------------------------------------------------------------------- left reports


def left(directory: RunDirectory, report: Report, agent: str = "a", name: str = "0-0-0@0-1.json") -> Path:
    directory.reports.mkdir(exist_ok=True)
    file = directory.reports / name
    file.write_text(wire.encode(wire.to_message(LeftReport(agent=agent, report=report))))
    return file


def test_a_report_that_an_agent_left_is_taken_in_by_the_next_master(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        report = report_of(grant_of(master), loss=0.125)
        assert master.commit()
    file = left(directory, report)
    with master_of(directory, space) as master:
        master.take_left_reports()
        assert not file.exists()
    assert [entry.outcome.loss for entry in stored(directory, Recorded)] == [0.125]


def test_what_agents_of_protocol_1_left_is_recorded_by_the_next_master(
    directory: RunDirectory, space: SearchSpace
) -> None:
    """A report and a release as written by agents of protocol 1."""
    agent = "node1-4711-0a1b2c3d"
    with master_of(directory, space) as master:
        for slot in (agent, f"{agent}+1"):
            grant_of(master, slot)
        assert master.commit()
    shutil.copytree(RECORDED_REPORTS, directory.reports)
    with master_of(directory, space) as master:
        master.take_left_reports()
    (recorded,), (released,) = stored(directory, Recorded), stored(directory, Released)
    assert (recorded.agent, recorded.evaluation, recorded.attempt) == (agent, EvaluationId(ConfigId(0, 0, 0), 0), 1)
    assert (recorded.outcome.loss, recorded.outcome.info) == (0.125, {"accuracy": 0.875})
    assert recorded.outcome.curve == (CurvePoint(1.0, 0.5, {"lr": 0.1}), CurvePoint(2.0, 0.25))
    assert (released.agent, released.evaluation) == (f"{agent}+1", EvaluationId(ConfigId(0, 0, 1), 0))
    assert (released.attempt, released.directory) == (1, "evaluations/0-0-1/rung0/attempt1")
    assert not list(directory.reports.iterdir())


def test_a_left_report_stays_until_the_journal_has_it(
    directory: RunDirectory, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with master_of(directory, space) as master:
        report = report_of(grant_of(master))
        assert master.commit()
        file = left(directory, report)

        def refuse(*_: Any, **__: Any) -> int:
            raise JournalError("disk full")

        with monkeypatch.context() as patched:
            patched.setattr(Journal, "commit", refuse)
            master.take_left_reports()
            assert file.exists()
        master.take_left_reports()
        assert not file.exists()
    assert len(stored(directory, Recorded)) == 1


def test_a_left_report_that_comes_after_another_outcome_is_kept_as_late(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        first = report_of(grant_of(master), loss=0.25)
        master.expire([], time.monotonic() + 61.0)
        second = grant_of(master, "b")
        assert second.attempt == 2
        exchanged(master, "b", 2, report_of(second, loss=0.5), wants=False)
        file = left(directory, first)
        master.take_left_reports()
        assert not file.exists()
    assert [entry.outcome.loss for entry in stored(directory, Recorded)] == [0.5]
    assert [entry.outcome.loss for entry in stored(directory, LateReport)] == [0.25]


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"agent": "a"}', '{"agent": "a", "report": {}}', "\udcff"])
def test_what_is_no_report_is_set_aside_and_ends_no_master(
    text: str, directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        report = report_of(grant_of(master))
        assert master.commit()
        directory.reports.mkdir()
        garbage = directory.reports / "0-garbage.json"
        garbage.write_bytes(text.encode("utf-8", errors="surrogateescape"))
        good = left(directory, report)
        master.take_left_reports()
        assert not good.exists()
        assert not garbage.exists()
        assert garbage.with_name(f"{garbage.name}.refused").exists()
        master.take_left_reports()
    assert len(stored(directory, Recorded)) == 1


def test_a_left_report_or_release_with_a_directory_outside_is_set_aside(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        grant = grant_of(master)
        report = report_of(grant)
        assert master.commit()
        outside = replace(report, outcome=replace(report.outcome, directory="../../elsewhere"))
        file = left(directory, outside, name="outside.json")
        release = ReleaseRequest(
            agent="a", evaluation=grant.evaluation, attempt=grant.attempt, reason="", directory="../x"
        )
        released = directory.reports / "outside.release"
        released.write_text(wire.encode(wire.to_message(release)))
        master.take_left_reports()
        for each in (file, released):
            assert each.with_name(f"{each.name}.refused").exists()
            assert not each.exists()
        assert master.commit()
    assert stored(directory, Recorded) == []


def test_a_left_report_that_cannot_be_read_or_deleted_at_present_is_looked_at_again(
    directory: RunDirectory, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: Any, **__: Any) -> str:
        raise OSError(116, "Stale file handle", str(path))

    with master_of(directory, space) as master:
        report = report_of(grant_of(master))
        assert master.commit()
        file = left(directory, report)
        for method in ("read_text", "unlink"):
            with monkeypatch.context() as patched:
                patched.setattr(Path, method, fail)
                master.take_left_reports()
                assert file.exists()
        master.take_left_reports()
        assert not file.exists()
    assert len(stored(directory, Recorded)) == 1


# ------------------------------------------------------------------------------------------------------- the process


def whole_settings(space: SearchSpace, **changed: Any) -> SearchSettings:
    """Settings that include ConfigSpace's form of the space, which each start compares."""
    settings = settings_for(space, **changed)
    tables = configspace_to_json(ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Integer("n", (1, 9))]))
    return replace(settings, problem=replace(settings.problem, space_json=tables))


def prepared_for(space: SearchSpace, limits: Limits | None = None) -> Prepared:
    return Prepared(settings=whole_settings(space), limits=limits or Limits(brackets=1), resumed=False)


@contextlib.contextmanager
def serving_process(directory: RunDirectory, space: SearchSpace, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A master in a separate process, which already serves."""
    briefing = MasterOptions(
        run_directory=str(directory.path), prepared=prepared_for(space, options.pop("limits", None)), **options
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "hpbandster_lite.master", json.dumps(wire.to_message(briefing))],
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=() if briefing.lifeline is None else (briefing.lifeline,),
    )

    def serves() -> bool:
        assert process.poll() is None, process.communicate()[1]
        endpoint = directory.read_endpoint()
        return endpoint is not None and endpoint["pid"] == process.pid

    try:
        until(serves, "the master serves")
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, words = process.communicate(timeout=DEADLINE_S)
    return process.returncode, words


def test_a_master_publishes_its_address_and_removes_it_when_it_is_signalled(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with serving_process(directory, space) as process:
        endpoint = directory.read_endpoint()
        assert endpoint is not None
        assert (endpoint["epoch"], endpoint["run_id"], endpoint["host"]) == (1, "test", "127.0.0.1")
        with connect(directory) as client:
            assert client.call("status", {})["pid"] == process.pid
            assert client.welcome == {"epoch": 1, "run_id": "test"}
        process.send_signal(signal.SIGTERM)
        code, _ = ended(process)
    assert code == 130
    assert directory.read_endpoint() is None
    assert not [path for path in directory.path.iterdir() if path.name.startswith(".endpoint")]


def test_a_master_ends_by_itself_when_the_search_is_over(directory: RunDirectory, space: SearchSpace) -> None:
    with serving_process(directory, space, limits=Limits(evaluations=1)) as process, connect(directory) as client:
        grant = grant_in(send(question("a", 1), client).slots[0])
        assert isinstance(send(question("a", 2, report_of(grant)), client).slots[0].answer, Done)
        code, words = ended(process)
    assert code == 0, words
    assert "the search is over" in words
    assert len(stored(directory, Finished)) == 1


def test_a_garbage_endpoint_does_not_change_the_exit_code_of_a_search_that_is_over(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with serving_process(directory, space, limits=Limits(evaluations=1)) as process, connect(directory) as client:
        grant = grant_in(send(question("a", 1), client).slots[0])
        directory.endpoint_file.write_bytes(b"\0 garbage")
        send(question("a", 2, report_of(grant)), client)
        code, words = ended(process)
    assert code == 0, words
    assert "the file with this master's address is not removed" in words
    assert directory.endpoint_file.read_bytes() == b"\0 garbage"


def test_a_master_whose_launcher_is_gone_waits_for_what_its_agents_hand_back(
    directory: RunDirectory, space: SearchSpace
) -> None:
    reading, writing = os.pipe()
    try:
        with serving_process(directory, space, lifeline=reading) as process:
            with connect(directory) as client:
                grant = grant_in(send(question("a", 1), client).slots[0])
                os.close(writing)
                reason = "its launcher is gone"
                send(ReleaseRequest(agent="a", evaluation=grant.evaluation, attempt=1, reason=reason), client)
            code, words = ended(process)
    finally:
        os.close(reading)
    assert code == 130, words
    assert len(stored(directory, Released)) == 1


def test_a_second_master_is_refused_with_the_name_of_the_first_which_is_undisturbed(
    directory: RunDirectory, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpbandster_lite.master.serving.LOCK_WAIT_S", 0.2)
    with serving_process(directory, space) as process, connect(directory) as client:
        options = MasterOptions(run_directory=str(directory.path), prepared=prepared_for(space))
        with pytest.raises(Held, match=rf"served by another master \(pid {process.pid} at 127\.0\.0\.1:\d+\); stop it"):
            run_master(options)
        grant_in(send(question("a", 1), client).slots[0])
        assert client.call("status", {})["pid"] == process.pid
    assert [entry.epoch for entry in stored(directory, Started)] == [1]


def test_a_master_that_was_replaced_ends_and_leaves_the_newer_one_s_endpoint(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with serving_process(directory, space) as process, connect(directory) as client:
        endpoint = directory.read_endpoint()
        assert endpoint is not None
        with Journal.open(directory.journal) as newer:
            epoch = newer.begin_epoch()
        directory.write_endpoint({**endpoint, "epoch": epoch})
        with pytest.raises(ConnectionError):
            send(question("a", 1), client)
        code, words = ended(process)
    assert code == JournalError.exit_code
    assert "has taken over the journal" in words
    assert stored(directory, Leased) == []
    left_there = directory.read_endpoint()
    assert left_there is not None
    assert left_there["epoch"] == epoch


def test_the_next_master_answers_what_the_killed_one_was_asked(directory: RunDirectory, space: SearchSpace) -> None:
    request = question("a", 1)
    with serving_process(directory, space) as process:
        with connect(directory) as client:
            first = send(request, client)
        process.kill()
        process.wait()
    with serving_process(directory, space), connect(directory) as client:
        again = send(request, client)
    assert (first.epoch, again.epoch) == (1, 2)
    assert first.slots == again.slots
    assert len(stored(directory, Leased)) == 1


def test_times_of_leases_are_those_of_the_newest_start(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space):
        pass
    settings = replace(settings_for(space), lease_s=7.0, heartbeat_s=1.0)
    about = MasterOptions(
        run_directory=str(directory.path), prepared=Prepared(settings=settings, limits=Limits(), resumed=True)
    )
    with Journal.open(directory.journal) as journal:
        master, epoch = resume_master(about, directory, journal)
        grant = grant_of(master)
    assert epoch == 2
    assert (master.engine.settings.lease_s, grant.heartbeat_s) == (7.0, 1.0)


# ---------------------------------------------------------------------------------------------------- refused starts


def refused(directory: RunDirectory, settings: SearchSettings, **options: Any) -> None:
    prepared = Prepared(settings=settings, limits=Limits(), resumed=False)
    run_master(MasterOptions(run_directory=str(directory.path), prepared=prepared, **options))


def test_a_port_in_use_is_refused_with_the_remedy_and_nothing_stays_held(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}: .*choose another one, or 0"):
            refused(directory, whole_settings(space), port=port)
    assert directory.read_endpoint() is None
    with serving_process(directory, space):
        pass


def test_a_run_directory_that_holds_another_search_is_refused(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space):
        pass
    with pytest.raises(ResumeError, match="holds another search: seed: 7 in the journal, 8 requested"):
        refused(directory, whole_settings(space, seed=8))


def test_a_run_directory_in_which_others_may_write_is_refused(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space):
        pass
    directory.path.chmod(0o775)
    with pytest.raises(RunDirectoryError, match="run: chmod go-w"):
        refused(directory, whole_settings(space))


def test_a_lock_that_cannot_be_made_is_refused(directory: RunDirectory, space: SearchSpace) -> None:
    directory.lock_file.mkdir()
    with pytest.raises(RunDirectoryError, match=r"cannot lock .*: it is not a file; move it away, and"):
        refused(directory, whole_settings(space))


def test_there_is_no_client_where_no_master_was(directory: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match=r"no master serves .*; to start one, run"):
        connect(directory)


# ------------------------------------------------------------------------------------------------------- registration


@contextlib.contextmanager
def name_server(port: int = 0) -> Iterator[int]:
    """A name server in a thread; yields its port."""
    is_over, has_started = threading.Event(), threading.Event()
    found: list[int] = []

    def started(serving: Server) -> None:
        found.append(serving.endpoint[1])
        has_started.set()

    thread = threading.Thread(
        target=serve_nameserver,
        args=("127.0.0.1", port, None),
        kwargs={"is_over": is_over.is_set, "started": started},
    )
    thread.start()
    assert has_started.wait(DEADLINE_S)
    try:
        yield found[0]
    finally:
        is_over.set()
        thread.join()


def registered(port: int) -> int | None:
    """Port of the master that the name server knows."""
    with NameServerClient("127.0.0.1", port, None) as names, contextlib.suppress(Exception):
        return names.lookup(run_name("test")).port
    return None


ENDPOINT = {"host": "127.0.0.1", "port": 4_711, "object": "master", "epoch": 1, "pid": 1}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "CHECK_EVERY_S", 0.05)
    monkeypatch.setattr(registration, "RETRY_EVERY_S", 0.05)


@pytest.mark.usefixtures("quick")
def test_a_run_is_entered_entered_again_when_the_name_server_returns_and_taken_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with name_server() as port:
        entry = Registration(NameServerClient("127.0.0.1", port, None), run_name("test"), ENDPOINT)
        until(lambda: entry.state == "registered", "the run is registered")
        assert registered(port) == 4_711
    try:
        until(lambda: entry.state != "registered", "the name server was missed")
        assert "name server not reached yet, next try within" in entry.state
        with name_server(port):
            until(lambda: registered(port) == 4_711, "the run is registered again")
            entry.withdraw()
            assert registered(port) is None
    finally:
        entry.withdraw()
    assert "the name server is gone, retrying" in caplog.text


@pytest.mark.usefixtures("quick")
def test_a_name_server_that_is_gone_does_not_hold_up_the_end() -> None:
    with name_server() as port:
        entry = Registration(NameServerClient("127.0.0.1", port, None), run_name("test"), ENDPOINT)
        until(lambda: entry.state == "registered", "the run is registered")
    entry.withdraw()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("is_registered", [True, False])
def test_a_name_server_that_does_not_answer_is_noted_and_holds_no_end_up_for_long(
    is_registered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "MISSED_AFTER_S", 0.0)
    monkeypatch.setattr(registration, "WITHDRAWN_WITHIN_S", 0.1)
    notes: list[str] = []
    with contextlib.ExitStack() as serving, socket.create_server(("127.0.0.1", 0)) as silent:
        # A stopped process: the kernel accepts the connection, and no answer comes.
        port = serving.enter_context(name_server()) if is_registered else silent.getsockname()[1]
        client = NameServerClient("127.0.0.1", port, None, timeout_s=0.3)
        entry = Registration(client, run_name("test"), ENDPOINT, notes.append)
        if is_registered:
            until(lambda: entry.state == "registered", "the run is registered")
            serving.close()
        until(lambda: notes, "the silent name server is noted")
        began = time.monotonic()
        entry.withdraw()
        assert time.monotonic() - began < 5.0
    until(lambda: not entry._thread.is_alive(), "the last call has ended")
    client.close()
    assert len(notes) == 1
    assert "until it answers, workers that look for this run there do not find it" in notes[0]


def test_a_master_is_found_at_its_name_server_and_gone_from_it_at_the_end(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with name_server() as port, serving_process(directory, space, nameserver=("127.0.0.1", port)) as process:
        endpoint = directory.read_endpoint()
        assert endpoint is not None
        until(lambda: registered(port) == endpoint["port"], "the master is registered")
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
        assert registered(port) is None
