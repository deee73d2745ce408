"""A command without an answer of the master reports that its effect is unknown, and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.cli import ask_master
from hpbandster_lite.cli.commands.cancel import cancel
from hpbandster_lite.cli.commands.pause import pause
from hpbandster_lite.cli.commands.resume import resume
from hpbandster_lite.cli.commands.stop import stop
from hpbandster_lite.cli.typed_ids import read_evaluation_id
from hpbandster_lite.errors import MasterUnreachable, UsageError
from hpbandster_lite.journal import Journal
from hpbandster_lite.protocol.messages import CancelRequest, CommandAnswer, PauseRequest, ResumeRequest, StopRequest
from hpbandster_lite.records import ConfigId, EvaluationId, Finished, FinishKind, Limits, Started
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.transport import Busy
from tests.engine_room import settings_for, space_of


class Master:
    """A master that gives a command this answer."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.requests: list[tuple[str, Any]] = []

    def __enter__(self) -> Master:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def call(self, method: str, message: Any) -> Any:
        self.requests.append((method, wire.from_message(message)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    with Journal.open(directory.journal, create=settings_for(space_of())):
        pass
    endpoint = {"protocol": 1, "run_id": "x", "epoch": 1, "host": "h", "port": 1, "object": "o", "pid": 1}
    directory.write_endpoint(endpoint)
    return directory.path


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Master:
    master = Master(answer)
    monkeypatch.setattr(ask_master, "connect", lambda directory, timeout_s: master)
    return master


def test_each_command_asks_the_master_and_prints_its_words(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master = answering(monkeypatch, wire.to_message(CommandAnswer(epoch=1, is_change=True, sentence="so be it")))
    pause(run, "why")
    resume(run)
    stop(run)
    cancel(run, "0-1-3@2", "dear")
    assert master.requests == [
        ("pause", PauseRequest(reason="why")),
        ("resume", ResumeRequest()),
        ("stop", StopRequest()),
        ("cancel", CancelRequest(evaluation=EvaluationId(ConfigId(0, 1, 3), 2), reason="dear")),
    ]
    assert capsys.readouterr().out == "so be it\n" * 4


def test_a_master_that_cannot_write_is_to_be_asked_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, Busy("h:1 cannot write its journal at present", 1.0))
    with pytest.raises(Busy, match=r"stop was not done: .*cannot write its journal.*free space .*, then repeat"):
        stop(run)


def test_a_master_without_an_answer_may_have_received_the_request(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, MasterUnreachable("no answer from h:1 (timed out); is it running?"))
    unknown = r"pause was not done: no answer .*nothing if the master received it .*if it was killed, to continue the"
    with pytest.raises(MasterUnreachable, match=unknown):
        pause(run)


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        ("stop", FinishKind.STOPPED, "is stopped already (stopped by its user): nothing was changed"),
        (
            "resume",
            FinishKind.STOPPED,
            "was stopped by its user: nothing was changed; to continue the search, run the command that began it "
            "again, but without --new",
        ),
        (
            "pause",
            FinishKind.SAME_FAULT,
            "was stopped by its user: nothing was changed; to continue the search, run the command that began it "
            "again, but without --new; to pause it, repeat this command while it runs",
        ),
        ("stop", FinishKind.LIMIT, "is over (stopped by its user): nothing was changed, and there is nothing to stop"),
    ],
)
def test_what_a_search_that_does_not_run_is_asked_gets_what_is_true_of_its_end(
    command: str, kind: FinishKind, words: str, run: Path
) -> None:
    directory = RunDirectory(run)
    with Journal.open(directory.journal) as journal:
        epoch = journal.begin_epoch()
        finished = Finished(kind=kind, reason="stopped by its user:\nTraceback")
        journal.commit((Started(epoch=epoch, limits=Limits()), finished), at=0.0)
    assert ask_master._not_served(directory, command) == f"the search in {run} {words}"


def test_what_the_master_refuses_is_passed_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, UsageError("this search has no evaluation 9-0-0@0"))
    with pytest.raises(UsageError, match="no evaluation 9-0-0@0"):
        cancel(run, "9-0-0@0")


def test_an_evaluation_is_read_as_it_is_printed() -> None:
    evaluation = EvaluationId(ConfigId(12, 0, 3), 2)
    assert read_evaluation_id(str(evaluation)) == evaluation
