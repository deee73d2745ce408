"""The master: every turn is durable before it is answered, and nobody else serves the search meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
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

from hpbandster_lite import registration, wire
from hpbandster_lite.errors import Held, JournalError, ProtocolMismatch, ResumeError, RunDirectoryError, UsageError
from hpbandster_lite.journal import Fenced, Journal
from hpbandster_lite.master import Master, MasterOptions, connect, resumed, run_master
from hpbandster_lite.master.registration import Registration
from hpbandster_lite.records import (
    ConfigId,
    EvaluationId,
    Expired,
    Finished,
    LateReport,
    Leased,
    Limits,
    Outcome,
    Plain,
    Recorded,
    Released,
    Report,
    SearchSettings,
    Started,
)
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.space import SearchSpace, configspace_to_json
from hpbandster_lite.transport import Call, NameServerClient, Server, run_name, serve_nameserver
from tests.engine_room import engine_for, settings_for
from tests.service import transport_peer as peers
from tests.service.master_room import stored

pytestmark = pytest.mark.timeout(90)

DEADLINE_S = 30.0


@contextlib.contextmanager
def master_of(
    directory: RunDirectory, space: SearchSpace, limits: Limits | None = None, **settings: Any
) -> Iterator[Master]:
    """A master in this process, without a socket; made anew on the same directory it is a restarted one."""
    with Journal.open(directory.journal, create=replace(settings_for(space), **settings)) as journal:
        engine = engine_for(journal.settings, space)
        engine.replay(entry for _, _, entry in journal.entries())
        epoch = journal.begin_epoch()
        turn = engine.start(epoch, limits or Limits(brackets=1), now=time.monotonic())
        journal.commit(turn.entries, at=1.0)
        yield Master(journal, engine, directory, CheckpointKeeper(directory, keep_all=False, delay_s=60.0))


def said(master: Master, method: str, peer: str = "peer", **message: Any) -> Plain:
    """The answer of one call; its turn is not committed yet."""
    return wire.decode(master.handle(Call(method, wire.encode(message), peer, {})))


def grant_of(master: Master, agent: str = "a", request: int = 1, **message: Any) -> Plain:
    answer = said(master, "exchange", agent=agent, request=request, **message)["answer"]
    assert answer["kind"] == "grant", answer
    return answer["grant"]


def report_of(grant: Plain, loss: float = 0.5) -> Plain:
    config_id, rung = grant["evaluation"]
    evaluation = EvaluationId(ConfigId(*config_id), rung)
    return wire.to_message(Report(evaluation=evaluation, attempt=grant["attempt"], outcome=Outcome(loss=loss)))


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
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
            message = wire.encode({"agent": f"agent {number}", "request": 1})
            peer.socket.sendall(peer.request(message, method="exchange"))
        write = Journal.commit

        def commit(journal: Journal, entries: Any, *, at: float) -> int:
            assert not any(peer.answers() for peer in asking)
            commits.append(len([entry for entry in entries if isinstance(entry, Leased)]))
            return write(journal, entries, at=at)

        monkeypatch.setattr(Journal, "commit", commit)
        # What was sent to loopback is there already.
        assert serving.turn(1.0, commit=master.commit) == 3
        for peer in asking:
            assert peer.answer()
    assert commits == [3]
    assert len(stored(directory, Leased)) == 3


def test_an_answer_tells_the_epoch_and_all_that_an_agent_needs(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        answer = said(master, "exchange", agent="a", request=1, worker="host-0")
    assert answer["epoch"] == 1
    grant = answer["answer"]["grant"]
    assert (grant["evaluation"], grant["attempt"]) == ([[0, 0, 0], 0], 1)
    assert (grant["budget"], grant["max_budget"]) == (1.0, 9.0)
    assert (grant["unit"], grant["lease_s"], grant["heartbeat_s"]) == ("epochs", 60.0, 5.0)
    assert (grant["previous_directory"], grant["resume_directories"]) == (None, [])
    assert grant["values"] == {"x": 0.5, "n": 5}


def test_a_report_and_the_next_lease_travel_in_one_call(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        grant = grant_of(master)
        answer = said(master, "exchange", agent="a", request=2, report=report_of(grant))
        assert answer["report_is"] == "recorded"
        assert answer["answer"]["grant"]["evaluation"] != grant["evaluation"]
        only = said(master, "exchange", agent="a", request=3, want_lease=False)
        assert only["answer"] == {"kind": "none"}


def test_an_attempt_is_told_where_earlier_ones_may_have_left_a_checkpoint(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        first = grant_of(master)
        lease = {"evaluation": first["evaluation"], "attempt": 1}
        said(master, "release", agent="a", **lease, reason="time limit", directory="kept/here")
        second = grant_of(master, "b")
        assert (second["evaluation"], second["attempt"]) == (first["evaluation"], 2)
        assert second["resume_directories"] == ["kept/here"]
        third = grant_of(master, "b", request=2)
        assert third["resume_directories"] == ["evaluations/0-0-0/rung0/attempt2", "kept/here"]
        assert master.commit()
    assert [entry.directory for entry in stored(directory, Released)] == ["kept/here"]


def test_a_renewal_keeps_a_lease_and_is_told_to_stop_where_there_is_none(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        grant = grant_of(master)
        lease = {"evaluation": grant["evaluation"], "attempt": 1}
        assert said(master, "renew", agent="a", **lease, curve=[[1.0, 0.5, {}]])["answer"] == {"kind": "keep"}
        stop = said(master, "renew", agent="b", **lease)["answer"]
        assert (stop["kind"], "another worker" in stop["reason"]) == ("stop", True)


def test_the_status_tells_what_the_search_and_this_master_are(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        said(master, "exchange", agent="a", request=2, report=report_of(grant_of(master)))
        status = said(master, "status")
    assert (status["problem"], status["algorithm"], status["seed"], status["pid"]) == ("t", "hyperband", 7, os.getpid())
    assert (status["evaluations"]["recorded"], status["evaluations"]["recorded_here"]) == (1, 1)
    assert status["journal_stalled_s"] is None
    assert status["uptime_s"] >= 0


# -------------------------------------------------------------------------------------------------- again and again


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
        told = [said(master, "exchange", agent="a", request=2, report=report, want_lease=False) for _ in range(2)]
        assert [each["report_is"] for each in told] == ["recorded", "known"]
        assert master.commit()
    with master_of(directory, space) as master:
        again = said(master, "exchange", agent="a", request=2, report=report, want_lease=False)
        assert again["report_is"] == "known"
        assert master.commit()
    assert len(stored(directory, Recorded)) == 1


def test_a_lost_connection_costs_the_lease_after_two_heartbeats_and_another_one_keeps_it(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        lost, kept = grant_of(master, "a", peer="first"), grant_of(master, "b", peer="second")
        said(master, "renew", agent="b", peer="third", evaluation=kept["evaluation"], attempt=1)
        said(master, "exchange", agent="b", request=2, want_lease=False, peer="third")
        now = time.monotonic()
        master.expire(["first", "second"], now)
        master.expire([], now + 9.0)
        assert master.has_agents
        master.expire([], now + 10.5)
        assert master.commit()
    assert [entry.evaluation.config_id for entry in stored(directory, Expired)] == [ConfigId(*lost["evaluation"][0])]


def test_a_finished_search_is_left_when_every_connected_agent_knows(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space, Limits(evaluations=1)) as master:
        said(master, "exchange", "first", agent="a", request=0, want_lease=False)
        said(master, "exchange", "second", agent="b", request=0, want_lease=False)
        done = said(master, "exchange", "first", agent="a", request=2, report=report_of(grant_of(master, peer="first")))
        assert done["answer"]["kind"] == "done"
        waits = [master.waits_for_agents]
        assert said(master, "exchange", "second", agent="b", request=1)["answer"] == done["answer"]
        waits.append(master.waits_for_agents)
        assert waits == [True, False]
        master.expire(["first", "second"], time.monotonic())
        assert not master.has_agents


# ------------------------------------------------------------------------------------------------------------ garbage


GOOD = {"evaluation": [[0, 0, 0], 0], "attempt": 1}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lease", {"agent": "a"}),
        ("__init__", {}),
        ("exchange", []),
        ("exchange", None),
        ("exchange", {}),
        ("exchange", {"agent": "a"}),
        ("exchange", {"agent": "a", "request": None}),
        ("exchange", {"agent": "a", "request": "two"}),
        ("exchange", {"agent": "a", "request": float("inf")}),
        ("exchange", {"agent": "a", "request": 2, "report": {"outcome": 1}}),
        ("exchange", {"agent": "a", "request": 2, "report": "done"}),
        ("exchange", {"agent": "a", "request": 2, "report": {"$": "Report"}}),
        ("renew", {"agent": "a"}),
        ("renew", {"agent": "a", "evaluation": 3, "attempt": 1}),
        ("renew", {"agent": "a", "evaluation": [[0, 0], 0], "attempt": 1}),
        ("renew", {"agent": "a", "evaluation": [[0, 0, [0]], 0], "attempt": 1}),
        ("renew", {"agent": "a", **GOOD, "attempt": float("nan")}),
        ("renew", {"agent": "a", **GOOD, "curve": 3}),
        ("renew", {"agent": "a", **GOOD, "curve": [[1, 2, 3, 4]]}),
        ("release", {"agent": "a", **GOOD}),
        ("release", {"agent": "a", "reason": "x", "evaluation": {"config": 1}, "attempt": 1}),
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
        assert len(stored(directory, object)) == before + 3  # the bracket, the sample and the lease of the good one
        master.engine.validate()
        assert grant_of(master, request=1)["attempt"] == 1


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
    with master_of(directory, space) as master, peers.server(master.handle) as serving, peers.Peer(serving) as peer:
        peer.introduce()
        monkeypatch.setattr(Journal, "commit", commit)
        peer.send(peer.request(wire.encode({"agent": "a", "request": 1}), method="exchange"))
        for _ in range(3):
            serving.turn(0.05, commit=master.commit)
        assert peer.answers() == []
        assert stored(directory, Leased) == []
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
        with pytest.raises(Fenced, match="taken over by a newer master"):
            older.commit()
        grant_of(newer, "new")
        assert newer.commit()
    assert [entry.agent for entry in stored(directory, Leased)] == ["new"]


# ------------------------------------------------------------------------------------------------------- left reports


def left(directory: RunDirectory, report: Plain, agent: str = "a", name: str = "0-0-0@0-1.json") -> Path:
    directory.reports.mkdir(exist_ok=True)
    file = directory.reports / name
    file.write_text(wire.encode({"agent": agent, "report": report}))
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
        assert second["attempt"] == 2
        said(master, "exchange", agent="b", request=2, report=report_of(second, loss=0.5), want_lease=False)
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
        assert garbage.with_suffix(".refused").exists()
        master.take_left_reports()
    assert len(stored(directory, Recorded)) == 1


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


# ------------------------------------------------------------------------------------------------- the whole process


def whole_settings(space: SearchSpace, **changed: Any) -> SearchSettings:
    """Settings with the space as ConfigSpace has it, too, which is compared at each start."""
    settings = settings_for(space, **changed)
    told = configspace_to_json(ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Integer("n", (1, 9))]))
    return replace(settings, problem=replace(settings.problem, space_json=told))


def prepared_for(space: SearchSpace, limits: Limits | None = None) -> Prepared:
    return Prepared(settings=whole_settings(space), limits=limits or Limits(brackets=1), resumed=False)


@contextlib.contextmanager
def serving_process(directory: RunDirectory, space: SearchSpace, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A master as a process of its own, which serves already."""
    told = MasterOptions(
        run_directory=str(directory.path), prepared=prepared_for(space, options.pop("limits", None)), **options
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "hpbandster_lite.master", json.dumps(wire.to_message(told))],
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=() if told.lifeline is None else (told.lifeline,),
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


def test_a_master_says_where_it_serves_and_takes_that_back_when_it_is_told_to_end(
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
        grant = client.call("exchange", {"agent": "a", "request": 1})["answer"]["grant"]
        last = {"agent": "a", "request": 2, "report": report_of(grant)}
        assert client.call("exchange", last)["answer"]["kind"] == "done"
        code, words = ended(process)
    assert code == 0, words
    assert "the search is over" in words
    assert len(stored(directory, Finished)) == 1


def test_a_master_whose_launcher_is_gone_waits_for_what_its_agents_hand_back(
    directory: RunDirectory, space: SearchSpace
) -> None:
    reading, writing = os.pipe()
    try:
        with serving_process(directory, space, lifeline=reading) as process:
            with connect(directory) as client:
                grant = client.call("exchange", {"agent": "a", "request": 1})["answer"]["grant"]
                os.close(writing)
                lease = {"evaluation": grant["evaluation"], "attempt": 1, "reason": "its launcher is gone"}
                client.call("release", {"agent": "a", "directory": None, **lease})
            code, words = ended(process)
    finally:
        os.close(reading)
    assert code == 130, words
    assert len(stored(directory, Released)) == 1


def test_a_second_master_is_refused_and_told_who_serves_and_the_first_is_undisturbed(
    directory: RunDirectory, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpbandster_lite.master.serving.LOCK_WAIT_S", 0.2)
    with serving_process(directory, space) as process, connect(directory) as client:
        options = MasterOptions(run_directory=str(directory.path), prepared=prepared_for(space))
        with pytest.raises(Held, match=rf"served by another master \(pid {process.pid} at 127\.0\.0\.1:\d+\); stop it"):
            run_master(options)
        assert client.call("exchange", {"agent": "a", "request": 1})["answer"]["kind"] == "grant"
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
            client.call("exchange", {"agent": "a", "request": 1})
        code, words = ended(process)
    assert code == JournalError.exit_code
    assert "taken over by a newer master" in words
    assert stored(directory, Leased) == []
    left_there = directory.read_endpoint()
    assert left_there is not None
    assert left_there["epoch"] == epoch


def test_the_next_master_answers_what_the_killed_one_was_asked(directory: RunDirectory, space: SearchSpace) -> None:
    request = {"agent": "a", "request": 1}
    with serving_process(directory, space) as process:
        with connect(directory) as client:
            first = client.call("exchange", request)
        process.kill()
        process.wait()
    with serving_process(directory, space), connect(directory) as client:
        again = client.call("exchange", request)
    assert (first["epoch"], again["epoch"]) == (1, 2)
    assert first["answer"] == again["answer"]
    assert len(stored(directory, Leased)) == 1


def test_times_of_leases_are_those_of_the_newest_start(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space):
        pass
    settings = replace(settings_for(space), lease_s=7.0, heartbeat_s=1.0)
    told = MasterOptions(
        run_directory=str(directory.path), prepared=Prepared(settings=settings, limits=Limits(), resumed=True)
    )
    with Journal.open(directory.journal) as journal:
        master, epoch = resumed(told, directory, journal)
        grant = grant_of(master)
    assert epoch == 2
    assert (grant["lease_s"], grant["heartbeat_s"]) == (7.0, 1.0)


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
    with pytest.raises(ResumeError, match="holds another search: seed: 7 in the journal, 8 asked for"):
        refused(directory, whole_settings(space, seed=8))


def test_a_run_directory_that_others_may_enter_is_refused(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space):
        pass
    directory.path.chmod(0o755)
    with pytest.raises(RunDirectoryError, match="run: chmod 700"):
        refused(directory, whole_settings(space))


def test_a_lock_that_cannot_be_made_is_refused(directory: RunDirectory, space: SearchSpace) -> None:
    directory.lock_file.mkdir()
    with pytest.raises(RunDirectoryError, match="cannot lock"):
        refused(directory, whole_settings(space))


def test_there_is_no_client_where_no_master_was(directory: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match=r"no master serves .*; start one with: hpbandster-lite run PROBLEM"):
        connect(directory)


# ------------------------------------------------------------------------------------------------------- registration


@contextlib.contextmanager
def name_server(port: int = 0) -> Iterator[int]:
    """A name server in a thread; gives its port."""
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
