"""The client: every call ends in time, with its answer or one of our errors, and the next call works."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import Pyro4
import Pyro4.util
import pytest
from Pyro4 import message as pyro
from Pyro4.message import Message

from hpbandster_lite.errors import MasterUnreachable, NotAuthorised, ProtocolMismatch, UsageError
from hpbandster_lite.transport import Call, Client
from hpbandster_lite.transport.deadline_socket import DeadlineSocket
from hpbandster_lite.transport.server import Server
from tests.service.transport_peer import DEADLINE_S, KEY, OBJECT, client, echo, header, n_connections, running, server

pytestmark = pytest.mark.timeout(60)

# ------------------------------------------------------------------------------------------------------- the client


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_port_without_a_server_is_an_unreachable_master() -> None:
    with (
        Client("127.0.0.1", unused_port(), OBJECT, KEY) as calling,
        pytest.raises(MasterUnreachable, match=r"no answer from the master at 127.*is it running"),
    ):
        calling.call("report", {})


@pytest.mark.parametrize("host", ["no.such.host.invalid", "x" * 300, ""])
def test_a_host_that_means_nothing_is_a_master_that_cannot_be_reached(host: str) -> None:
    with Client(host, 9, OBJECT, KEY, timeout_s=1) as calling, pytest.raises(MasterUnreachable):
        calling.call("report", {})


def test_a_silent_server_costs_the_time_of_the_call() -> None:
    with server() as serving, client(serving, timeout_s=0.2) as calling:
        start = time.monotonic()
        with pytest.raises(MasterUnreachable, match="timed out"):
            calling.call("report", {})
        assert time.monotonic() - start < 1.0


@contextlib.contextmanager
def impostor(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection that sends arbitrary bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted, contextlib.suppress(OSError):
                speak(accepted)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def sending(data: bytes) -> Callable[[socket.socket], None]:
    """Read any greeting and answer with these bytes."""

    def speak(accepted: socket.socket) -> None:
        accepted.recv(65_536)
        accepted.sendall(data)

    return speak


def test_an_answer_that_trickles_in_costs_no_more_than_the_time_of_the_call() -> None:
    def trickle(accepted: socket.socket) -> None:
        for byte in header(pyro.MSG_CONNECTOK, 10_000) + bytes(10_000):
            accepted.send(bytes([byte]))
            time.sleep(0.02)

    with impostor(trickle) as port, Client("127.0.0.1", port, OBJECT, None, timeout_s=0.3) as calling:
        start = time.monotonic()
        with pytest.raises(MasterUnreachable, match="timed out"):
            calling.call("report", {})
        assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        header(pyro.MSG_CONNECTOK, 2**31 - 1),
        header(pyro.MSG_CONNECTOK, -1),
        header(pyro.MSG_INVOKE, 2) + b"{}",
        header(pyro.MSG_CONNECTOK, 2) + b"{}",
        header(pyro.MSG_CONNECTOK, 2) + b"{x",
        header(pyro.MSG_CONNECTOK, 100_000) + b"[" * 100_000,
        header(pyro.MSG_CONNECTOK, 2, 3) + b"abc{}",
        header(pyro.MSG_CONNECTFAIL, 6) + b'"full"',
    ],
    ids=["http", "huge", "negative", "type", "empty", "no-json", "deep", "annotations", "refusal"],
)
def test_a_server_of_another_kind_is_a_mismatch(data: bytes) -> None:
    with (
        impostor(sending(data)) as port,
        Client("127.0.0.1", port, OBJECT, None) as calling,
        pytest.raises(ProtocolMismatch, match=f"127.0.0.1:{port}|an answer of"),
    ):
        calling.call("report", {})


def test_a_pickle_is_not_even_looked_at() -> None:
    content = Pyro4.util.get_serializer("pickle").serializeData({"welcome": 1})[0]
    data = Message(pyro.MSG_CONNECTOK, content, Pyro4.util.get_serializer("pickle").serializer_id, 0, 0).to_bytes()
    with (
        impostor(sending(data)) as port,
        Client("127.0.0.1", port, OBJECT, None) as calling,
        pytest.raises(ProtocolMismatch, match="did not answer in JSON"),
    ):
        calling.call("report", {})


@contextlib.contextmanager
def meddler(serving: Server, meddle: Callable[[int, bytes], bytes]) -> Iterator[int]:
    """A proxy between client and server that may change each answer; the welcome has number 0."""

    def pass_on(accepted: socket.socket) -> None:
        with socket.create_connection(serving.endpoint) as onward:
            for number in range(100):
                request = accepted.recv(65_536)
                if not request:
                    return
                onward.sendall(request)
                accepted.sendall(meddle(number, onward.recv(65_536)))

    with impostor(pass_on) as port:
        yield port


def test_an_answer_that_was_changed_on_the_way_is_refused() -> None:
    def meddle(number: int, answer: bytes) -> bytes:
        return answer.replace(b"late", b"kept") if number else answer

    with (
        server(lambda call: '"late"') as serving,
        running(serving),
        meddler(serving, meddle) as port,
        Client("127.0.0.1", port, OBJECT, KEY) as calling,
        pytest.raises(NotAuthorised),
    ):
        calling.call("report", {})


def test_an_answer_that_was_given_before_is_refused() -> None:
    """A signed answer to an earlier call: 'recorded' for the next report, which the server has not received."""
    answers: list[bytes] = []

    def meddle(number: int, answer: bytes) -> bytes:
        answers.append(answer)
        return answers[1] if number == 2 else answer

    with (
        server(lambda call: '"recorded"') as serving,
        running(serving),
        meddler(serving, meddle) as port,
        Client("127.0.0.1", port, OBJECT, KEY) as calling,
    ):
        assert calling.call("report", 1) == "recorded"
        with pytest.raises(ProtocolMismatch, match="does not answer this call"):
            calling.call("report", 2)


def test_a_result_whose_flags_were_changed_on_the_way_is_an_error_and_no_result() -> None:
    def meddle(number: int, answer: bytes) -> bytes:
        if number == 0:
            return answer
        changed = bytearray(answer)
        changed[9] |= pyro.FLAGS_EXCEPTION
        changed[22:24] = struct.pack("!H", struct.unpack("!H", answer[22:24])[0] + pyro.FLAGS_EXCEPTION)
        return bytes(changed)

    with (
        server() as serving,
        running(serving),
        meddler(serving, meddle) as port,
        Client("127.0.0.1", port, OBJECT, KEY) as calling,
        pytest.raises(ProtocolMismatch, match="could not read the call"),
    ):
        calling.call("report", {})


def test_a_client_outlives_its_server() -> None:
    with server() as serving:
        host, port = serving.endpoint
        calling = client(serving)
        with running(serving):
            assert calling.call("report", 1) == 1
    with pytest.raises(MasterUnreachable):
        calling.call("report", 2)
    with Server(host, port, KEY, object_id=OBJECT, handle=echo) as serving, running(serving):
        assert calling.call("report", 3) == 3
    with Server(host, port, KEY, object_id=OBJECT, handle=echo) as serving, running(serving):
        # The connection was closed between two calls: the client detects this before it sends the next call.
        assert calling.call("report", 4) == 4
    calling.close()


def test_a_connection_with_unrequested_bytes_is_not_used_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line = DeadlineSocket(["127.0.0.1"], listening.getsockname()[1], time.monotonic() + DEADLINE_S, 1_000)
        peer, _ = listening.accept()
        with contextlib.closing(line), peer:
            assert not line.is_closed()
            peer.sendall(b"answer and more")
            assert line.recv(6) == b"answer"
            assert line.is_closed()


def test_an_answer_that_came_too_late_is_not_taken_for_the_next_one() -> None:
    first_may_go = threading.Event()

    def handle(call: Call) -> str:
        if call.text == "1":
            first_may_go.wait(DEADLINE_S)
        return call.text

    with server(handle) as serving, running(serving), client(serving) as calling:
        with pytest.raises(MasterUnreachable):
            calling.call("report", 1, timeout_s=0.1)
        first_may_go.set()
        assert calling.call("report", 2) == 2


def test_a_client_calls_one_at_a_time_on_one_connection() -> None:
    with server() as serving, running(serving), client(serving) as calling:
        for number in range(20):
            assert calling.call("report", number) == number
        assert n_connections(serving) == 1


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_client_without_time_is_refused(timeout_s: float) -> None:
    with pytest.raises(UsageError, match="timeout_s"):
        Client("127.0.0.1", 9, OBJECT, KEY, timeout_s=timeout_s)
