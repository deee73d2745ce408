"""The transport over real sockets on loopback: which calls are served, and the content and time of the answers.

Most tests run each turn of the server's loop themselves, so that "one turn" is exact; if our client must block on a
call, the loop runs in a thread.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from typing import Any

import Pyro4
import Pyro4.errors
import pytest

from hpbandster_lite import wire
from hpbandster_lite.errors import (
    InvariantBroken,
    JournalError,
    MasterUnreachable,
    NotAuthorised,
    NotPlain,
    ProtocolMismatch,
    UsageError,
)
from hpbandster_lite.transport import PROTOCOL, Bounds, Busy, Call, Client, payloads
from hpbandster_lite.transport.server import Server
from tests.service.transport_peer import (
    DEADLINE_S,
    KEY,
    OBJECT,
    Peer,
    client,
    echo,
    n_connections,
    running,
    server,
    until,
    yes,
)

pytestmark = pytest.mark.timeout(60)

# --------------------------------------------------------------------------------------------------- calls and answers


def test_a_call_reaches_the_handler_and_its_answer_the_caller() -> None:
    seen: list[Call] = []

    def handle(call: Call) -> str:
        seen.append(call)
        return wire.encode({"loss": float("inf"), "list": [None, True, 2**70, "snowman \u2603"]})

    with server(handle) as serving, running(serving), client(serving, hello={"agent": "a1"}) as calling:
        answer = calling.call("report", {"x": [1, 2.5, {"__class__": "Pyro4.core.URI"}]})
    assert answer == {"loss": float("inf"), "list": [None, True, 2**70, "snowman \u2603"]}
    assert [(call.method, wire.decode(call.text), call.hello) for call in seen] == [
        ("report", {"x": [1, 2.5, {"__class__": "Pyro4.core.URI"}]}, {"agent": "a1"})
    ]
    assert seen[0].peer.startswith("127.0.0.1:")


def test_what_the_server_tells_everybody_is_there_after_the_first_call() -> None:
    with server(welcome={"epoch": 3}) as serving, running(serving), client(serving) as calling:
        assert calling.welcome is None
        calling.call("status", {})
        assert calling.welcome == {"epoch": 3}


def test_a_large_message_arrives_whole_in_both_directions() -> None:
    quotes = '"' * 8_000_000
    with server() as serving, running(serving), client(serving, timeout_s=20) as calling:
        assert calling.call("report", quotes) == quotes


def test_a_message_that_is_too_large_is_refused_before_it_is_sent() -> None:
    with server() as serving, client(serving) as calling, pytest.raises(NotPlain, match="limit"):
        calling.call("report", "x" * (wire.MAX_MESSAGE_BYTES + 1))


def test_a_hello_that_cannot_be_sent_is_refused_by_name() -> None:
    with (
        server() as serving,
        running(serving),
        client(serving, hello={"x": "y" * 5_000}) as calling,
        pytest.raises(UsageError, match="hello"),
    ):
        calling.call("report", {})


def test_an_unmodified_pyro4_proxy_can_carry_the_envelope() -> None:
    """The protocol is Pyro4's: with the greeting and the counter, its own client can call."""
    with server() as serving, running(serving):
        host, port = serving.endpoint
        welcome: dict[str, Any] = {}
        with Pyro4.Proxy(f"PYRO:{OBJECT}@{host}:{port}") as proxy:
            proxy._pyroHmacKey = KEY
            proxy._pyroSerializer = "json"
            proxy._pyroHandshake = payloads.write_greeting(PROTOCOL, "n", {})
            object.__setattr__(proxy, "_pyroValidateHandshake", welcome.update)
            proxy._pyroBind()
            assert proxy.call(welcome["nonce"], 1, "m", '"text"')["answer"] == '"text"'


# ------------------------------------------------------------------------------------------------------------ one turn


def test_requests_of_one_turn_share_one_commit_and_no_answer_leaves_before_it() -> None:
    story: list[str] = []

    def handle(call: Call) -> str:
        story.append(call.text)
        return "null"

    def commit() -> bool:
        story.append("commit")
        assert peers[0].answers() == peers[1].answers() == []
        return True

    with server(handle) as serving, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer(serving)).introduce() for _ in range(2)]
        peers[0].socket.sendall(peers[0].request("1") + peers[0].request("2"))
        peers[1].socket.sendall(peers[1].request("3"))
        assert serving.turn(1.0, commit=commit) == 3
        assert [answer["counter"] for peer in peers for answer in peer.answers()] == [1, 2, 1]
    assert sorted(story[:3]) == ["1", "2", "3"]
    assert story[3:] == ["commit"]


def test_a_turn_without_requests_commits_nothing() -> None:
    with server() as serving, Peer(serving) as peer:
        peer.introduce()
        assert serving.turn(0, commit=lambda: pytest.fail("nothing to commit")) == 0


def test_answers_wait_for_a_commit_and_calls_in_the_meantime_get_busy() -> None:
    handled: list[str] = []

    def handle(call: Call) -> str:
        handled.append(call.text)
        return "null"

    with (
        server(handle, bounds=Bounds(busy_s=0.7)) as serving,
        Peer(serving) as first,
        Peer(serving) as second,
    ):
        first.introduce()
        second.introduce()
        first.send(first.request("1"))
        serving.turn(1.0, commit=lambda: False)
        second.send(second.request("2"))
        first.send(first.request("3"))
        assert [answer["busy"] for answer in second.answers_when_there(lambda: False)] == [0.7]
        assert first.answers() == []
        serving.turn(0, commit=yes)
        answers = first.answers()
        assert [answer["counter"] for answer in answers] == [1, 2]
        assert answers[1]["busy"] == 0.7
        second.send(second.request("4"))
        assert second.answer()["answer"] == "null"
    assert handled == ["1", "4"]


def test_a_commit_that_failed_is_tried_in_every_turn_until_it_succeeds() -> None:
    outcomes = iter([False, False, True])
    with server() as serving, Peer(serving) as peer:
        peer.introduce()
        peer.send(peer.request())
        for _ in range(3):
            assert peer.answers() == []
            serving.turn(0.1, commit=lambda: next(outcomes))
        assert len(peer.answers()) == 1
        serving.turn(0, commit=lambda: pytest.fail("all is committed"))


def test_newcomers_are_greeted_while_nothing_can_be_committed() -> None:
    with server() as serving, Peer(serving) as waiting:
        waiting.introduce()
        waiting.send(waiting.request())
        serving.turn(1.0, commit=lambda: False)
        with Peer(serving) as newcomer:
            newcomer.send(newcomer.greeting())
            assert "nonce" in newcomer.answers_when_there(lambda: False)[0]


def test_busy_reaches_the_client_with_its_delay() -> None:
    is_broken = threading.Event()
    is_broken.set()
    with (
        server(bounds=Bounds(busy_s=0.25)) as serving,
        running(serving, commit=lambda: not is_broken.is_set()),
        client(serving, timeout_s=0.2) as first,
        client(serving) as second,
    ):
        with pytest.raises(MasterUnreachable, match="timed out"):
            first.call("report", 1)
        with pytest.raises(Busy, match="call again") as caught:
            second.call("report", 2)
        assert caught.value.after_s == 0.25
        is_broken.clear()
        assert first.call("report", 3, timeout_s=DEADLINE_S) == 3
        assert second.call("report", 4) == 4


def test_an_exception_of_the_commit_ends_the_turn_and_nothing_is_answered() -> None:
    def fenced() -> bool:
        raise JournalError("epoch 4 began")

    with server() as serving, Peer(serving) as peer:
        peer.introduce()
        peer.send(peer.request())
        with pytest.raises(JournalError, match="epoch 4"):
            serving.turn(1.0, commit=fenced)
        assert peer.answers() == []


def test_an_error_of_ours_is_the_callers() -> None:
    def handle(call: Call) -> str:
        raise UsageError(f"no such {call.method}")

    with server(handle) as serving, running(serving), client(serving) as calling:
        for _ in range(2):
            with pytest.raises(UsageError, match="no such lease"):
                calling.call("lease", {})


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError("a bug"), InvariantBroken("a bug"), UnicodeDecodeError("ascii", b"", 0, 1, "a bug")]
)
def test_a_bug_ends_the_turn_with_its_story_and_is_not_answered(bug: Exception) -> None:
    def handle(call: Call) -> str:
        raise bug

    with server(handle) as serving, Peer(serving) as peer:
        peer.introduce()
        peer.send(peer.request())
        with pytest.raises(type(bug), match="a bug"):
            serving.turn(1.0, commit=yes)
        assert peer.answers() == []


def test_a_readable_wakeup_ends_the_wait() -> None:
    reading, writing = os.pipe()
    with server(wakeup_fd=reading) as serving:
        os.write(writing, b"12")
        start = time.monotonic()
        serving.turn(30.0, commit=yes)
        assert time.monotonic() - start < 10
        os.close(writing)
        for _ in range(3):
            serving.turn(0.01, commit=yes)
        start = time.monotonic()
        serving.turn(0.05, commit=yes)
        assert time.monotonic() - start > 0.03, "a closed wakeup must not spin"
    os.close(reading)


def test_a_connection_that_ended_is_named_once() -> None:
    peers: list[str] = []

    def handle(call: Call) -> str:
        peers.append(call.peer)
        return "null"

    with server(handle) as serving:
        with Peer(serving) as peer, Peer(serving):
            peer.introduce()
            peer.send(peer.request())
            peer.answer()
            assert serving.closed_peers() == []
        until(lambda: n_connections(serving) == 0, serving)
        assert serving.closed_peers() == peers
        assert serving.closed_peers() == []


def test_a_report_counts_though_its_sender_dies_at_once() -> None:
    handled: list[str] = []

    def handle(call: Call) -> str:
        handled.append(call.text)
        return "null"

    with server(handle) as serving:
        with Peer(serving) as peer:
            peer.introduce()
            peer.send(peer.request("last words"))
        until(lambda: n_connections(serving) == 0, serving)
    assert handled == ["last words"]


# ------------------------------------------------------------------------------------------------- keys and versions


@pytest.mark.parametrize(("ours", "theirs"), [(KEY, b"another"), (KEY, None), (None, KEY)])
def test_another_key_is_refused_with_a_remedy(ours: bytes | None, theirs: bytes | None) -> None:
    with (
        server(lambda call: pytest.fail("it was called"), key=ours) as serving,
        running(serving),
        client(serving, theirs) as calling,
        pytest.raises(NotAuthorised, match="HPBANDSTER_LITE_KEY"),
    ):
        calling.call("report", {})


def test_no_key_at_either_side_is_served_on_loopback() -> None:
    with server(key=None) as serving, running(serving), client(serving, None) as calling:
        assert calling.call("report", 1) == 1


@pytest.mark.parametrize("theirs", [PROTOCOL + 1, 0])
def test_an_agent_of_another_version_gets_both_versions(theirs: int) -> None:
    with (
        server() as serving,
        running(serving),
        client(serving, protocol=theirs) as calling,
        pytest.raises(ProtocolMismatch, match=rf"has protocol {PROTOCOL} .* this side has {theirs}.*install"),
    ):
        calling.call("report", {})


def test_an_unknown_object_is_a_mismatch() -> None:
    with server() as serving, running(serving):
        host, port = serving.endpoint
        with (
            Client(host, port, "another object", KEY) as calling,
            pytest.raises(ProtocolMismatch, match="unknown object"),
        ):
            calling.call("report", {})


def test_an_unmodified_pyro4_client_gets_the_reason_of_its_refusal() -> None:
    with server() as serving, running(serving):
        host, port = serving.endpoint
        with Pyro4.Proxy(f"PYRO:{OBJECT}@{host}:{port}") as proxy:
            proxy._pyroHmacKey = KEY
            proxy._pyroSerializer = "json"
            with pytest.raises(Pyro4.errors.CommunicationError, match="hpbandster_lite server"):
                proxy._pyroBind()


# --------------------------------------------------------------------------------------------------------- addresses


def test_listening_to_the_network_without_a_key_is_refused() -> None:
    with pytest.raises(UsageError, match=r"requires a key or TLS.*key file"):
        Server("0.0.0.0", 0, None, object_id=OBJECT, handle=echo)  # noqa: S104 (that is the test)


def test_an_empty_key_is_no_key() -> None:
    with pytest.raises(UsageError, match="empty"):
        Server("127.0.0.1", 0, b"", object_id=OBJECT, handle=echo)


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with server() as serving, pytest.raises(UsageError, match=rf"{serving.endpoint[1]}.*choose another"):
        Server(*serving.endpoint, KEY, object_id=OBJECT, handle=echo)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 0), ("203.0.113.7", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_cannot_be_had_is_refused_by_name(host: str, port: int) -> None:
    with pytest.raises(UsageError, match=host.replace(".", r"\.")):
        Server(host, port, KEY, object_id=OBJECT, handle=echo)


def test_localhost_is_loopback_and_ipv4_first() -> None:
    with Server("localhost", 0, None, object_id=OBJECT, handle=echo) as serving:
        assert serving.endpoint[0] == "127.0.0.1"


# --------------------------------------------------------------------------------------- the user's Pyro4 configuration


@pytest.mark.parametrize(
    "setting",
    [
        {"COMPRESSION": True},
        {"SERIALIZER": "marshal", "SERIALIZERS_ACCEPTED": {"marshal"}},
        {"SERVERTYPE": "thread", "COMMTIMEOUT": 0.001},
        {"REQUIRE_EXPOSE": False, "METADATA": False},
        {"ITER_STREAMING": False, "ONEWAY_THREADED": False},
        {"SSL": True},
    ],
    ids="-".join,
)
def test_what_a_user_sets_for_their_own_daemons_changes_nothing_here(
    setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in setting.items():
        monkeypatch.setattr(Pyro4.config, name, value)
    before = Pyro4.config.asDict()
    with server() as serving, running(serving), client(serving) as calling:
        assert calling.call("report", "x" * 10_000) == "x" * 10_000
    assert Pyro4.config.asDict() == before


def test_the_callers_own_pyro4_context_is_left_alone() -> None:
    Pyro4.current_context.annotations = {"MINE": b"1"}
    try:
        with server() as serving, running(serving), client(serving) as calling:
            calling.call("report", 1)
        assert Pyro4.current_context.annotations == {"MINE": b"1"}
    finally:
        Pyro4.current_context.annotations = {}


def test_random_traffic_of_many_clients_is_answered_to_whom_it_belongs() -> None:
    rng = random.Random(7)
    with server() as serving, running(serving, commit=lambda: rng.random() < 0.9):
        wrong: list[Any] = []

        def chat(name: int) -> None:
            with client(serving) as calling:
                for number in range(30):
                    with contextlib.suppress(Busy):
                        answer = calling.call("report", [name, number])
                        if answer != [name, number]:
                            wrong.append((name, number, answer))

        threads = [threading.Thread(target=chat, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
