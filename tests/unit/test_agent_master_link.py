"""The agent's connection to its master: it reconnects after a loss, and ignores an older master."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.master_link import Link, MasterFinder
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import (
    InvariantBroken,
    MasterUnreachable,
    NotAuthorised,
    ProtocolMismatch,
    RunDirectoryError,
    SearchError,
    UsageError,
)
from hpbandster_lite.protocol.messages import Hello, ReleaseAnswer, ReleaseRequest
from hpbandster_lite.records import ConfigId, EvaluationId, Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.transport import Busy, Client, Endpoint, OtherVersion, run_name

HELLO = Hello(agent="a", worker="node1-0", host="node1", pid=1, problem="p", source_hash="0")
REQUEST = ReleaseRequest(agent="a", evaluation=EvaluationId(ConfigId(0, 0, 0), 0), attempt=1, reason="so")


@dataclass
class Line:
    """A master that answers by a script: it returns values and raises errors."""

    script: list[Any]
    hellos: list[tuple[Hello, int]] = field(default_factory=list)
    closed: int = 0

    def __call__(self, hello: Hello, epoch: int) -> Line:
        self.hellos.append((hello, epoch))
        return self

    def call(self, method: str, message: Plain) -> Plain:
        scripted = self.script.pop(0)
        if isinstance(scripted, Exception):
            raise scripted
        return scripted

    def close(self) -> None:
        self.closed += 1


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def call(clock: Clock) -> Callable[[Link], Any]:
    def once(link: Link) -> Any:
        clock.now = max(clock.now, link.next_try_at)
        return link.call(REQUEST, clock=clock)

    return once


def sent(epoch: int) -> Plain:
    return wire.to_message(answer_of(epoch))


def answer_of(epoch: int) -> ReleaseAnswer:
    return ReleaseAnswer(epoch=epoch)


Call = Callable[[Link], Any]


def test_an_answer_is_given_and_the_line_kept(clock: Clock, call: Call) -> None:
    line = Line([sent(1), sent(1)])
    link = Link(line, HELLO, clock())
    assert call(link) == answer_of(1)
    clock.now = 107.0
    assert call(link) == answer_of(1)
    assert line.hellos == [(HELLO, 0)]
    assert (link.epoch, link.answered_at, link.next_try_at) == (1, 107.0, 107.0)


def test_a_lost_master_is_tried_again_later_and_later_on_a_new_line(clock: Clock, call: Call) -> None:
    line = Line([sent(1), *[MasterUnreachable("gone")] * 20, sent(1), MasterUnreachable("gone again")])
    link = Link(line, HELLO, clock())
    call(link)
    waits = []
    for _ in range(20):
        assert call(link) is None
        waits.append(link.next_try_at - clock.now)
    assert 0.05 <= waits[0] <= 0.1
    assert all(1.5 <= wait <= 3.0 for wait in waits[8:])
    assert link.answered_at == 100.0
    assert call(link) == answer_of(1)
    assert link.next_try_at == link.answered_at == clock.now
    assert line.closed == 20
    assert [epoch for _, epoch in line.hellos] == [0, *[1] * 20]
    assert call(link) is None
    assert link.next_try_at - clock.now <= 0.1


def test_a_master_that_was_never_seen_is_looked_for_eagerly_for_a_while(clock: Clock, call: Call) -> None:
    link = Link(Line([MasterUnreachable("not yet")] * 200), HELLO, clock())
    waits = []
    while clock.now < 130.0:
        began = clock.now
        assert call(link) is None
        waits.append((began, link.next_try_at - clock.now))
    assert waits[0][1] <= 0.05
    assert all(wait <= 0.3 for at, wait in waits if at < 109.0)
    assert all(wait >= 1.5 for at, wait in waits if at > 110.0)
    assert max(at for at, _ in waits) > 110.0


def test_a_master_that_cannot_be_found_is_tried_again(clock: Clock, call: Call) -> None:
    def connect(hello: Hello, epoch: int) -> Line:
        raise RunDirectoryError("no endpoint yet")

    link = Link(connect, HELLO, clock())
    assert call(link) is None
    assert link.next_try_at > clock.now


def test_a_busy_master_is_asked_again_on_the_same_line_when_it_says(clock: Clock, call: Call) -> None:
    line = Line([Busy("the disk is full", after_s=2.0), sent(1)])
    link = Link(line, HELLO, clock())
    assert call(link) is None
    assert 2.0 <= link.next_try_at - clock.now <= 2.1
    assert call(link) == answer_of(1)
    assert (line.closed, len(line.hellos)) == (0, 1)


def test_a_new_master_is_believed_and_an_older_one_is_not(clock: Clock, call: Call) -> None:
    line = Line([sent(1), sent(3), sent(2), sent(3)])
    link = Link(line, HELLO, clock())
    assert call(link) == answer_of(1)
    assert call(link) == answer_of(3)
    assert call(link) is None
    assert (link.epoch, line.closed) == (3, 1)
    assert call(link) == answer_of(3)
    assert [epoch for _, epoch in line.hellos] == [0, 3]


def test_a_refused_older_master_is_logged_at_once_with_the_remedy(
    clock: Clock, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    link = Link(Line([sent(3), MasterUnreachable("no answer"), *[sent(2)] * 5]), HELLO, clock())
    assert call(link) == answer_of(3)
    for _ in range(6):
        assert call(link) is None
    assert [record.getMessage() for record in caplog.records] == [
        "trying again: no answer",
        "trying again: this master (epoch 2) was replaced by one of epoch 3; if its journal was restored from a copy, "
        "end that master, and start it again with --restored: workers then take work from it by themselves",
    ]


@pytest.mark.parametrize("error", [NotAuthorised("wrong key"), ProtocolMismatch("version 2")])
def test_a_refusal_at_the_first_call_is_final(error: SearchError, clock: Clock, call: Call) -> None:
    line = Line([error])
    with pytest.raises(type(error)):
        call(Link(line, HELLO, clock()))
    assert line.closed == 1


@pytest.mark.parametrize("error", [NotAuthorised("wrong key"), ProtocolMismatch("version 2")])
def test_a_refusal_where_a_master_has_answered_before_comes_from_another_program(
    error: SearchError, clock: Clock, call: Call
) -> None:
    link = Link(Line([sent(1), error, sent(1)]), HELLO, clock())
    assert [call(link), call(link), call(link)] == [answer_of(1), None, answer_of(1)]


def test_a_master_of_another_version_is_refused_for_good_though_one_has_answered_before(
    clock: Clock, call: Call
) -> None:
    link = Link(Line([sent(1), OtherVersion("node1 speaks protocol 3, this side speaks 2")]), HELLO, clock())
    assert call(link) == answer_of(1)
    with pytest.raises(OtherVersion):
        call(link)


@pytest.mark.parametrize(
    "answer", [None, [], "ok", {"epoch": 1}, {"type": "release-answer"}, {"type": "release-answer", "epoch": "1"}],
    ids=str,
)
def test_an_answer_that_is_no_record_of_an_answer_is_refused(answer: Plain, clock: Clock, call: Call) -> None:
    with pytest.raises(ProtocolMismatch, match="release-answer"):
        call(Link(Line([answer]), HELLO, clock()))


@pytest.mark.parametrize("error", [UsageError("no such agent"), InvariantBroken("a bug")])
def test_what_the_master_s_method_raises_is_passed_on(error: SearchError, clock: Clock, call: Call) -> None:
    with pytest.raises(type(error)):
        call(Link(Line([error]), HELLO, clock()))


def test_a_master_that_stays_away_is_mentioned_once_a_minute(
    clock: Clock, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line([MasterUnreachable("gone")] * 200)
    link = Link(line, HELLO, clock())
    with caplog.at_level(logging.INFO):
        while clock.now < 100.0 + 150.0:
            call(link)
        mentioned = len(caplog.records)
        line.script = [sent(1)]
        call(link)
    assert mentioned == 3
    assert caplog.records[-1].getMessage() == "the master answers again"


# ------------------------------------------------------------------------------------------------------- rendezvous

ENDPOINT = {"protocol": 1, "run_id": "r1", "epoch": 4, "host": "node1", "port": 4711, "object": "master", "pid": 1}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    for name in ("HPBANDSTER_LITE_KEY", "HPBANDSTER_LITE_NAMESERVER_KEY"):
        monkeypatch.delenv(name, raising=False)
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.ensure_key()
    return directory


def finder(run: RunDirectory | None, **changed: Any) -> MasterFinder:
    return MasterFinder(AgentOptions(problem="digits", run_dir=None if run is None else str(run.path), **changed))


def test_the_endpoint_in_the_run_directory_leads_to_the_master(run: RunDirectory) -> None:
    find = finder(run)
    with pytest.raises(MasterUnreachable, match=r"no master serves .*; start one: hpbandster-lite master"):
        find(None, 0)
    run.write_endpoint(ENDPOINT)
    client = find(None, 4)
    assert isinstance(client, Client)
    assert client.address == "node1:4711"


def test_the_endpoint_of_an_older_master_is_not_followed(run: RunDirectory) -> None:
    run.write_endpoint(ENDPOINT)
    words = r"belongs to an older master \(epoch 4\) than the last one \(epoch 5\); .* start it again with --restored"
    with pytest.raises(MasterUnreachable, match=words):
        finder(run)(None, 5)


def test_a_name_server_is_asked_in_turn_with_the_run_directory(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Names:
        """A name server that knows one run."""

        def __init__(self, host: str, port: int, key: bytes | None, **_: Any) -> None:
            assert (host, port, key) == ("node2", 9090, None)

        def __enter__(self) -> Names:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def lookup(self, name: str) -> Endpoint:
            assert name == run_name("r1")
            return Endpoint("node3", 4712, "master")

    find = finder(run, nameserver=("node2", 9090), run_id="r1")
    monkeypatch.setattr("hpbandster_lite.agent.master_link.NameServerClient", Names)
    assert find(None, 0).address == "node3:4712"
    run.write_endpoint(ENDPOINT)
    assert [find(None, 0).address for _ in range(4)] == ["node1:4711", "node3:4712"] * 2


def test_a_run_directory_tells_which_run_to_look_up(run: RunDirectory) -> None:
    find = finder(run, nameserver=("node2", 9090))
    with pytest.raises(MasterUnreachable, match="give --run-id"):
        find.run_id()
    run.write_endpoint(ENDPOINT)
    assert find.run_id() == "r1"
    assert finder(run, nameserver=("node2", 9090), run_id="r2").run_id() == "r2"


def test_a_key_comes_from_its_file_the_run_directory_or_the_environment(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "copied.key"
    key.write_text("k" * 32 + "\n")
    key.chmod(0o600)
    assert finder(run, key=str(key)).key() == b"k" * 32
    assert finder(run).key() == run.read_key()
    alone = finder(None, nameserver=("node2", 9090), run_id="r1")
    assert alone.key() is None
    monkeypatch.setenv("HPBANDSTER_LITE_KEY", "e" * 32)
    monkeypatch.setenv("HPBANDSTER_LITE_NAMESERVER_KEY", "n" * 32)
    assert (alone.key(), alone.nameserver_key()) == (b"e" * 32, b"n" * 32)
    named = finder(None, nameserver=("node2", 9090), run_id="r1", nameserver_key=str(key))
    assert named.nameserver_key() == b"k" * 32


def test_a_key_file_that_cannot_be_read_is_named(run: RunDirectory, tmp_path: Path) -> None:
    run.write_endpoint(ENDPOINT)
    with pytest.raises(RunDirectoryError, match=r"cannot read the key .*lost\.key"):
        finder(run, key=str(tmp_path / "lost.key"))(None, 0)
