"""Peers that are silent, slow, greedy, invalid, forged or too many, or that read nothing: they block no other peer."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import threading
import time
import zlib
from types import SimpleNamespace
from typing import Any

import Pyro4
import Pyro4.util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from Pyro4 import message as pyro
from Pyro4.message import Message

from hpbandster_lite import wire
from hpbandster_lite.transport import PROTOCOL, Bounds, Call, payloads, sockets
from tests.service.transport_peer import (
    OBJECT,
    PATIENT,
    QUICK,
    Peer,
    client,
    header,
    n_connections,
    running,
    server,
    until,
    yes,
)

pytestmark = pytest.mark.timeout(60)

# ------------------------------------------------------------------------------------------------------ hostile peers


@pytest.mark.parametrize(
    "flags",
    [
        pyro.FLAGS_ONEWAY,
        pyro.FLAGS_BATCH,
        pyro.FLAGS_COMPRESSED,
        pyro.FLAGS_KEEPSERIALIZED,
        pyro.FLAGS_ITEMSTREAMRESULT,
        1 << 9,
    ],
)
def test_a_message_with_flags_is_never_handled(flags: int) -> None:
    """The signature does not cover the header: any machine on the way may set these flags."""
    threads = threading.active_count()
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        peer.send(peer.request(flags=flags))
        until(peer.is_closed, serving)
        assert threading.active_count() == threads


def test_a_compressed_greeting_is_not_unpacked() -> None:
    with server() as serving, Peer(serving) as peer:
        bomb = zlib.compress(b" " * 2_000_000)
        assert len(bomb) < payloads.MAX_GREETING_BYTES
        peer.send(peer.message(pyro.MSG_CONNECT, bomb, flags=pyro.FLAGS_COMPRESSED))
        until(peer.is_closed, serving)
        assert peer.received == b""


@pytest.mark.parametrize("name", ["serpent", "marshal", "pickle"])
def test_no_serializer_but_json_is_accepted(name: str) -> None:
    serializer = Pyro4.util.get_serializer(name)
    with server(lambda call: pytest.fail("it was handled")) as serving:
        with Peer(serving) as stranger:
            data, _ = serializer.serializeData({"handshake": "hello", "object": OBJECT})
            stranger.send(stranger.message(pyro.MSG_CONNECT, data, serializer=serializer.serializer_id))
            until(stranger.is_closed, serving)
            assert b"serializer that is not accepted" in stranger.received
        with Peer(serving) as peer:
            peer.introduce()
            data, _ = serializer.serializeCall(OBJECT, "call", [peer.nonce, 1, "m", "t"], {})
            peer.send(peer.message(pyro.MSG_INVOKE, data, serializer=serializer.serializer_id))
            until(peer.is_closed, serving)


def test_a_call_that_is_sent_again_has_no_effect_and_ends_the_connection() -> None:
    handled: list[str] = []

    def handle(call: Call) -> str:
        handled.append(call.text)
        return "null"

    with server(handle) as serving, Peer(serving) as peer, Peer(serving) as thief:
        peer.introduce()
        recorded = peer.request("once")
        peer.send(recorded)
        peer.answer()
        thief.introduce()
        thief.send(recorded)
        until(thief.is_closed, serving)
        peer.send(recorded)
        until(peer.is_closed, serving)
    assert handled == ["once"]


@pytest.mark.parametrize("counter", [0, 2, 3, -1, 1.5, "1", None])
def test_a_call_out_of_its_order_has_no_effect(counter: Any) -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        data = {"object": OBJECT, "method": "call", "params": [peer.nonce, counter, "m", "t"], "kwargs": {}}
        peer.send(peer.message(pyro.MSG_INVOKE, json.dumps(data).encode()))
        until(peer.is_closed, serving)


def test_a_recorded_session_cannot_be_played_again() -> None:
    """Greeting and call of one connection, byte for byte, on a new connection: the server's nonce differs."""
    handled: list[str] = []

    def handle(call: Call) -> str:
        handled.append(call.text)
        return "null"

    with server(handle) as serving, Peer(serving) as peer, Peer(serving) as thief:
        peer.introduce()
        recorded = peer.greeting() + peer.request("once")
        peer.send(recorded[len(peer.greeting()) :])
        peer.answer()
        thief.send(recorded)
        until(thief.is_closed, serving)
    assert handled == ["once"]


@pytest.mark.parametrize("params", [[], ["n"], ["n", 1, "m"], ["n", 1, "m", "t", "u"]])
def test_a_call_of_another_shape_is_answered_with_an_exception_and_changes_nothing(params: list[Any]) -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        data = {"object": OBJECT, "method": "call", "params": params, "kwargs": {}}
        peer.send(peer.message(pyro.MSG_INVOKE, json.dumps(data).encode()))
        assert peer.answer()["__exception__"]


@pytest.mark.parametrize(("method", "text"), [(1, "t"), ("m", {"a": 1}), (None, None)])
def test_a_call_that_carries_more_than_strings_ends_the_connection(method: Any, text: Any) -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        data = {"object": OBJECT, "method": "call", "params": [peer.nonce, 1, method, text], "kwargs": {}}
        peer.send(peer.message(pyro.MSG_INVOKE, json.dumps(data).encode()))
        until(peer.is_closed, serving)


@pytest.mark.parametrize(
    "method", ["__class__", "_called", "handle", "__getattr__", "get_next_stream_item", "registered", "info"]
)
@pytest.mark.parametrize("object_id", [OBJECT, "Pyro.Daemon"])
def test_nothing_else_is_exposed(method: str, object_id: str) -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        data = {"object": object_id, "method": method, "params": ["_called"], "kwargs": {}}
        peer.send(peer.message(pyro.MSG_INVOKE, json.dumps(data).encode()))
        assert peer.answer()["__exception__"]


@pytest.mark.parametrize("name", ["\ud800", "call\udfff", "\x1b[2J", "x" * 4_000, "__init__\0"])
@pytest.mark.parametrize("part", ["object", "method", "greeting"])
def test_a_name_that_cannot_be_written_ends_nothing_but_its_connection(part: str, name: str) -> None:
    """Pyro4 repeats the text in its answer, and half a character is not UTF-8."""
    with server(lambda call: pytest.fail("it was handled")) as serving:
        with Peer(serving) as peer:
            if part == "greeting":
                handshake = payloads.write_greeting(PROTOCOL, "client nonce", {"role": "test"})
                content = {"handshake": handshake, "object": name}
                peer.send(peer.message(pyro.MSG_CONNECT, json.dumps(content).encode()))
            else:
                peer.introduce()
                data = {"object": OBJECT, "method": "call", "params": [], "kwargs": {}, part: name}
                peer.send(peer.message(pyro.MSG_INVOKE, json.dumps(data).encode()))
            for _ in range(5):
                serving.turn(0.01, commit=yes)
        with Peer(serving) as another:
            assert another.introduce().nonce


@pytest.mark.parametrize("data", [b"[" * 50_000, b'{"a":' * 30_000, b"1" * 60_000, b"\xff" * 100, b"NaN", b"null"])
def test_what_the_parser_chokes_on_ends_nothing_but_its_connection(data: bytes) -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        peer.send(peer.message(pyro.MSG_INVOKE, data))
        for _ in range(5):
            serving.turn(0.01, commit=yes)
        with Peer(serving) as another:
            assert another.introduce().nonce


def test_a_message_signed_with_another_key_ends_the_connection() -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.introduce()
        peer.key = b"another"
        peer.send(peer.request())
        until(peer.is_closed, serving)


@pytest.mark.parametrize(
    ("data_size", "annotations_size"),
    [(payloads.MAX_GREETING_BYTES + 1, 0), (4_000, 97), (-1, 0), (-5, 60), (2**31 - 1, 0)],
)
def test_a_stranger_may_announce_4_kib_and_no_more(data_size: int, annotations_size: int) -> None:
    with server() as serving, Peer(serving) as peer:
        peer.send(header(pyro.MSG_CONNECT, data_size, annotations_size))
        until(peer.is_closed, serving)


def test_a_header_of_our_making_is_one_of_pyro4() -> None:
    assert Message.from_header(header(pyro.MSG_CONNECT, 4_096)).data_size == 4_096


def test_a_stranger_that_announces_4_kib_is_waited_for() -> None:
    with server() as serving, Peer(serving) as peer:
        peer.send(header(pyro.MSG_CONNECT, payloads.MAX_GREETING_BYTES))
        until(lambda: n_connections(serving) == 1, serving)
        for _ in range(5):
            serving.turn(0.01, commit=yes)
        assert not peer.is_closed()


def test_a_message_over_the_limit_is_refused_by_its_header() -> None:
    with server(bounds=Bounds(message_bytes=10_000)) as serving, Peer(serving) as peer:
        peer.introduce()
        peer.send(peer.request("x" * 5_000))
        assert len(peer.answer()["answer"]) == 5_000
        peer.send(header(pyro.MSG_INVOKE, 10_001))
        until(peer.is_closed, serving)


@pytest.mark.parametrize("kind", [pyro.MSG_INVOKE, pyro.MSG_PING, pyro.MSG_RESULT, pyro.MSG_CONNECTOK])
def test_a_stranger_may_say_nothing_but_its_greeting(kind: int) -> None:
    with server(lambda call: pytest.fail("it was handled")) as serving, Peer(serving) as peer:
        peer.send(peer.message(kind, b"ping"))
        until(peer.is_closed, serving)


@settings(max_examples=40)
@given(garbage=st.binary(min_size=24, max_size=200), is_framed=st.booleans(), is_introduced=st.booleans())
def test_garbage_ends_its_own_connection_and_nothing_else(garbage: bytes, is_framed: bool, is_introduced: bool) -> None:
    with server(bounds=QUICK) as serving, Peer(serving) as vandal, Peer(serving) as peer:
        kind = pyro.MSG_INVOKE if is_introduced else pyro.MSG_CONNECT
        if is_introduced:
            vandal.introduce()
        # Framed garbage passes the check of the header: it has malformed annotations and a signature without a key.
        vandal.send(header(kind, len(garbage) - 20, 20) + garbage if is_framed else garbage)
        until(vandal.is_closed, serving)
        assert peer.introduce().nonce


def test_silent_peers_block_no_other_and_are_closed_at_their_deadline() -> None:
    with server(bounds=QUICK) as serving, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(Peer(serving)) for _ in range(100)]
        with running(serving), client(serving) as calling:
            start = time.monotonic()
            assert calling.call("report", 1) == 1
            assert time.monotonic() - start < 1.0
        until(lambda: all(peer.is_closed() for peer in silent), serving)


def test_a_client_that_has_nothing_to_say_may_stay() -> None:
    with server(bounds=QUICK) as serving, running(serving), client(serving) as calling:
        calling.call("report", 1)
        opened = n_connections(serving)
        deadline = time.monotonic() + 3 * QUICK.message_s
        while time.monotonic() < deadline:
            assert n_connections(serving) == opened == 1
            time.sleep(0.02)
        assert serving.closed_peers() == []


@pytest.mark.parametrize("is_introduced", [False, True])
def test_a_peer_that_sends_a_byte_now_and_then_is_closed_at_its_deadline(is_introduced: bool) -> None:
    with server(lambda call: pytest.fail("it was handled"), bounds=QUICK) as serving, Peer(serving) as slow:
        if is_introduced:
            slow.introduce()
        data = slow.request("x" * 100) if is_introduced else slow.greeting()
        start = time.monotonic()
        for byte in data:
            with contextlib.suppress(OSError):
                slow.socket.send(bytes([byte]))
            serving.turn(0, commit=yes)
            until_next = time.monotonic() + 0.02
            while time.monotonic() < until_next:
                serving.turn(0.005, commit=yes)
            if slow.is_closed():
                break
        assert slow.is_closed()
        assert time.monotonic() - start < 1.5


def test_a_whole_message_buys_the_next_one_its_time() -> None:
    """A peer that always has a message under way, and always completes it, does not count as slow."""
    with server(bounds=QUICK) as serving, Peer(serving) as peer:
        peer.introduce()
        requests = [peer.request(str(number)) for number in range(12)]
        stream = b"".join(requests)
        half = len(requests[0]) // 2
        peer.send(stream[:half])
        for number in range(11):
            start = half + sum(map(len, requests[:number]))
            peer.send(stream[start : start + len(requests[number])])
            assert peer.answer()["answer"] == str(number)
            pause_until = time.monotonic() + 0.05
            while time.monotonic() < pause_until:
                serving.turn(0.01, commit=yes)


def test_a_peer_that_never_reads_costs_no_more_than_its_bound() -> None:
    with (
        server(lambda call: wire.encode("x" * 100_000), bounds=Bounds(unread_bytes=1_000_000)) as serving,
        Peer(serving) as deaf,
    ):
        deaf.introduce()
        closed = False
        for _ in range(2_000):
            with contextlib.suppress(BlockingIOError):
                try:
                    deaf.socket.send(deaf.request("{}"))
                except (ConnectionResetError, BrokenPipeError):
                    closed = True
            serving.turn(0, commit=yes)
            if closed or n_connections(serving) == 0:
                break
        # It is enough if the server reads no more from this peer, because its answers wait: then nothing accumulates.
        assert sum(len(connection._outbox) for connection in serving._connections) <= 1_000_000


def test_unread_answers_have_a_deadline() -> None:
    with server(lambda call: wire.encode("x" * 12_000_000), bounds=QUICK) as serving, Peer(serving) as deaf:
        deaf.introduce()
        deaf.send(deaf.request())
        with running(serving), client(serving) as calling:
            calling.call("report", 1)
        until(lambda: n_connections(serving) == 0, serving)


def test_the_time_of_a_slow_commit_does_not_count_against_its_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead_s = 0.0

    def slow_commit() -> bool:
        nonlocal ahead_s
        ahead_s += 2 * PATIENT.message_s
        return True

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s)
    with server(lambda call: wire.encode("x" * 12_000_000), bounds=PATIENT) as serving, Peer(serving) as peer:
        peer.introduce()
        monkeypatch.setattr("hpbandster_lite.transport.server.time", clock)
        peer.send(peer.request())
        assert serving.turn(1.0, commit=slow_commit) == 1
        serving.turn(0, commit=yes)
        assert n_connections(serving) == 1
        # It gets its own time limit, and no more.
        ahead_s += 2 * PATIENT.message_s
        until(lambda: n_connections(serving) == 0, serving)


def test_a_peer_that_pipelines_without_end_is_closed() -> None:
    with (
        server(lambda call: wire.encode("x" * 100_000), bounds=Bounds(unread_bytes=1_000_000)) as serving,
        Peer(serving) as greedy,
    ):
        greedy.introduce()
        greedy.socket.send(b"".join(greedy.request("{}") for _ in range(100)))
        until(lambda: n_connections(serving) == 0, serving)


def test_one_peer_that_floods_does_not_starve_another() -> None:
    with server() as serving, Peer(serving) as flood, Peer(serving) as modest:
        flood.introduce()
        modest.introduce()
        requests = b"".join(flood.request("{}") for _ in range(20_000))
        with contextlib.suppress(BlockingIOError):
            flood.socket.send(requests)
        modest.send(modest.request("1"))
        handled = serving.turn(1.0, commit=yes)
        serving.turn(0, commit=yes)
        assert handled < 20_000
        assert [answer["answer"] for answer in modest.answers()] == ["1"]


def test_log_lines_about_strangers_are_few(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="hpbandster_lite")
    with server() as serving:
        for _ in range(100):
            with Peer(serving) as vandal:
                vandal.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                until(vandal.is_closed, serving)
    lines = [record for record in caplog.records if record.name.startswith("hpbandster_lite")]
    assert len(lines) == 1
    assert "not a Pyro4 message" in lines[0].getMessage()


# ------------------------------------------------------------------------------------------------ many connections


def test_a_thousand_connections_are_served() -> None:
    sockets.raise_file_limit(4_000)
    with server() as serving, contextlib.ExitStack() as stack:
        peers = []
        for _ in range(1_000):
            peers.append(stack.enter_context(Peer(serving)))
            peers[-1].socket.send(peers[-1].greeting())
            serving.turn(0, commit=yes)
        for peer in peers:
            peer.nonce = peer.answer()["nonce"]
        assert n_connections(serving) == 1_000
        for number, peer in enumerate(peers):
            peer.socket.send(peer.request(str(number)))
        assert [peer.answer()["answer"] for peer in peers] == [str(number) for number in range(1_000)]


def test_beyond_the_limit_they_wait_until_one_leaves() -> None:
    with server(bounds=Bounds(connections=2)) as serving, Peer(serving) as first, Peer(serving) as second:
        first.introduce()
        second.introduce()
        with Peer(serving) as third:
            third.send(third.greeting())
            for _ in range(5):
                serving.turn(0.01, commit=yes)
            assert n_connections(serving) == 2
            assert third.answers() == []
            second.socket.close()
            assert third.answer()["nonce"]


def test_running_out_of_files_refuses_no_peer_for_good(caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with server() as serving, Peer(serving) as known, Peer(serving) as late:
        known.introduce()
        late_greeting = late.greeting()
        until(lambda: n_connections(serving) == 2, serving)
        with Peer(serving) as kept_out:
            highest = max(fd for fd in range(4_096) if is_open(fd))
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
                fillers = fill_up()
                try:
                    kept_out.send(kept_out.greeting())
                    known.send(known.request("1"))
                    assert known.answer()["answer"] == "1"
                    cpu_before_s = time.process_time()
                    for _ in range(10):
                        serving.turn(0.02, commit=yes)
                    assert time.process_time() - cpu_before_s < 0.1, "the loop spins"
                finally:
                    for filler in fillers:
                        os.close(filler)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert kept_out.answer()["nonce"]
        late.send(late_greeting)
        assert late.answer()["nonce"]
    assert any("Too many open files" in message for message in caplog.messages)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def fill_up() -> list[int]:
    """Use up the remaining file descriptors."""
    taken = []
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    return taken


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert sockets.raise_file_limit(300) == 300 + sockets.SPARE_FILES
        assert sockets.raise_file_limit(10) == 300 + sockets.SPARE_FILES
        if hard != resource.RLIM_INFINITY:
            assert sockets.raise_file_limit(2**40) == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
