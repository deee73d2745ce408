"""Commands of users to a master: recorded before the answer, and in effect after a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.master.calls import Master
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.serving import resume_master
from hpbandster_lite.process.fingerprint import fingerprint
from hpbandster_lite.records import (
    Failure,
    FailureKind,
    Finished,
    FinishKind,
    Limits,
    Outcome,
    Paused,
    Plain,
    PutBack,
    Recorded,
    Resumed,
    Started,
)
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.transport import Call
from hpbandster_lite.wire import to_message
from tests.engine_room import settings_for
from tests.service.master_room import stored

ONE = Limits(brackets=1)


@contextlib.contextmanager
def master_of(
    directory: RunDirectory, space: SearchSpace, *, retry_failed_after: int | None = None
) -> Iterator[Master]:
    """A master without a socket, made like its process's; a second one on the same directory is a restarted master."""
    settings = settings_for(space)
    with Journal.open(directory.journal, create=settings) as journal:
        prepared = Prepared(settings=settings, limits=ONE, resumed=False, retry_failed_after=retry_failed_after)
        yield resume_master(MasterOptions(run_directory=str(directory.path), prepared=prepared), directory, journal)[0]


def answer_of(master: Master, method: str, **fields: Any) -> Plain:
    """The answer of one call, which the master gives when its turn is durable."""
    message = fields if method == "status" else {"type": f"{method}-request", **fields}
    answer = wire.decode(master.handle(Call(method, wire.encode(message), "peer", {})))
    assert master.commit()
    return answer


def exchanged(master: Master, request: int, agent: str, **slot: Any) -> Plain:
    slots = [{"slot": 0, "wants_lease": True, **slot}]
    return answer_of(master, "exchange", agent=agent, request=request, worker="node-0", slots=slots)["slots"][0]


def work_of(master: Master, request: int = 1, agent: str = "a") -> Plain:
    return exchanged(master, request, agent)["answer"]


def fail(master: Master, grant: Plain, request: int, kind: FailureKind = FailureKind.CODE) -> None:
    outcome = Outcome(failure=Failure(kind=kind, reason=f"fault {chr(97 + request)}"))
    report = {"evaluation": grant["evaluation"], "attempt": grant["attempt"], "outcome": to_message(outcome)}
    assert exchanged(master, request, "a", report=report, wants_lease=False)["report_is"]


def test_a_paused_search_hands_out_nothing_until_it_is_resumed_over_a_restart_too(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        assert work_of(master)["type"] == "grant"
        answer = answer_of(master, "pause", reason=" maintenance,\n tonight\n")
        assert (answer["is_change"], answer["sentence"]) == (True, "the search is paused; 1 evaluation still runs")
        status = answer_of(master, "status")
        assert status["paused"] == "maintenance, tonight"
        since = status["paused_at"]
        reason, at = JournalReader(directory.journal).paused() or ("", 0.0)
        assert (reason, abs(at - since) < 10) == ("maintenance, tonight", True)
        assert answer_of(master, "pause", reason="again")["is_change"] is False
    with master_of(directory, space) as master:
        assert work_of(master, agent="b")["type"] == "wait"
        assert answer_of(master, "status")["paused_at"] == pytest.approx(since, abs=10)
        resumption = {"type": "command-answer", "epoch": 2, "is_change": True, "sentence": "the search continues"}
        assert answer_of(master, "resume") == resumption
        assert answer_of(master, "status")["paused_at"] is None
        assert JournalReader(directory.journal).paused() is None
        assert work_of(master, 2, agent="b")["type"] == "grant"
        assert answer_of(master, "resume")["is_change"] is False
    with master_of(directory, space) as master:
        assert answer_of(master, "status")["paused_at"] is None
    assert stored(directory, Paused, Resumed) == [Paused(reason="maintenance, tonight"), Resumed()]


def test_a_stopped_search_tells_its_agents_to_hand_back_and_goes_on_with_the_next_start(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        grant = work_of(master)
        assert answer_of(master, "stop", reason="enough")["sentence"] == (
            "the search is stopped; 1 evaluation still runs, to be handed back"
        )
        lease = {"agent": "a", "evaluation": grant["evaluation"], "attempt": 1}
        renewed = answer_of(master, "renew", **lease)["answer"]
        assert renewed == {"type": "stop", "reason": "stopped by its user: enough"}
        answer_of(master, "release", **lease, reason="stopped")
        assert work_of(master, 2) == {"type": "done", "reason": "stopped by its user: enough"}
        assert answer_of(master, "stop")["sentence"] == "the search was over before: stopped by its user: enough"
    stopped = Finished(kind=FinishKind.STOPPED, reason="stopped by its user: enough")
    assert JournalReader(directory.journal).finished() == stopped
    with master_of(directory, space) as master:
        again = work_of(master, agent="b")
        assert (again["evaluation"], again["attempt"]) == (grant["evaluation"], 2)
    assert stored(directory, Finished) == [stopped]


def test_a_cancelled_evaluation_is_recorded_and_its_worker_stops(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        grant = work_of(master)
        answer = answer_of(master, "cancel", evaluation=grant["evaluation"], reason="too dear")
        assert answer["sentence"] == "evaluation 0-0-0@0 is cancelled; worker node-0 stops at its next heartbeat"
        answer = answer_of(master, "renew", agent="a", evaluation=grant["evaluation"], attempt=1)["answer"]
        assert answer == {"type": "stop", "reason": "too dear"}
    (recorded,) = stored(directory, Recorded)
    assert recorded.outcome.failure.kind is FailureKind.CANCELLED


@pytest.mark.parametrize(
    ("method", "message", "words"),
    [
        ("cancel", {"evaluation": [[9, 0, 0], 0]}, "no evaluation 9-0-0@0"),
        ("pause", {}, "the search is over and cannot be paused: stopped by its user"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    directory: RunDirectory, space: SearchSpace, method: str, message: Plain, words: str
) -> None:
    with master_of(directory, space) as master:
        answer_of(master, "stop")
        with pytest.raises(UsageError, match=words):
            answer_of(master, method, **message)
    assert stored(directory, Paused, Recorded) == []


@pytest.mark.parametrize("message", [{}, {"evaluation": "0-0-3@1"}, {"evaluation": [[0, 0], 1]}])
def test_a_command_that_cannot_be_read_is_refused_without_effect(
    directory: RunDirectory, space: SearchSpace, message: Plain
) -> None:
    with master_of(directory, space) as master, pytest.raises(ProtocolMismatch, match="cancel-request"):
        answer_of(master, "cancel", **message)
    assert stored(directory, Recorded) == []


def test_failures_are_put_back_once_however_often_the_master_is_started_again(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space) as master:
        fail(master, work_of(master, 1), 2)
        fail(master, work_of(master, 3), 4, FailureKind.MEMORY)
    with master_of(directory, space, retry_failed_after=1) as master:
        assert len(stored(directory, PutBack)) == 1
        again = work_of(master, 5)
        assert (again["evaluation"], again["attempt"]) == ([[0, 0, 0], 0], 2)
        fail(master, again, 6)
    # Killed, and started again by its launcher with the same options.
    with master_of(directory, space, retry_failed_after=1) as master:
        assert work_of(master, 7)["evaluation"] == [[0, 0, 2], 0]
    assert len(stored(directory, PutBack)) == 1


def test_a_master_that_died_before_it_began_put_nothing_back(directory: RunDirectory, space: SearchSpace) -> None:
    with master_of(directory, space) as master:
        fail(master, work_of(master, 1), 2)
    with Journal.open(directory.journal) as journal:
        assert journal.begin_epoch() == 2
    with master_of(directory, space, retry_failed_after=1):
        pass
    assert len(stored(directory, PutBack)) == 1


def test_a_start_records_what_the_last_bits_of_its_proposals_depend_on(
    directory: RunDirectory, space: SearchSpace
) -> None:
    with master_of(directory, space):
        pass
    (began,) = stored(directory, Started)
    assert began.fingerprint == fingerprint()
    assert verify_run(directory).holds
